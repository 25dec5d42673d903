"""What a person sees when the provider, the key, the money or the disk says no; and that the key is seen nowhere."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from chaos_helpers import Trial, WarmStart, assert_sound, functions, settings
from cli_helpers import Done
from gemini_emulator import Exchange, Faults, GeminiEmulator
from git_helpers import GitRepo
from scripted_server import Reply, Server
from waiting import HOURS_S, PATIENCE_S, wait_until

from codechunk.state import State
from codechunk.views.doctor import check_invariants

CANARY = "AIzaSyCANARY" + "0123456789_-abcdefghijklmno"
CHUNKS = 6
BATCH = ("index", "--mode", "batch", "--jobs", "1")
DIRECT = ("index", "--mode", "sequential", "--jobs", "1")
# Three jobs of two texts each.
QUICK = {"max_batch_size": "2", "embedding__direct_concurrency": "1"}


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> GitRepo:
    made = GitRepo(tmp_path_factory.mktemp("repository") / "demo")
    made.commit(functions(3, 2), "first")
    return made


@contextmanager
def trial_of(
    folder: Path, warm: WarmStart, repo: GitRepo, emulator: GeminiEmulator, env: Mapping[str, str] | None = None
) -> Iterator[Trial]:
    with Trial(folder / "trial", warm, emulator, settings(**QUICK) if env is None else env, repo=repo) as trial:
        yield trial


@pytest.fixture
def emulator() -> Iterator[GeminiEmulator]:
    with GeminiEmulator() as running:
        yield running


@pytest.fixture
def trial(tmp_path: Path, warm: WarmStart, repo: GitRepo, emulator: GeminiEmulator) -> Iterator[Trial]:
    with trial_of(tmp_path, warm, repo, emulator) as made:
        yield made


def goes_on(trial: Trial, *command: str) -> None:
    """The same command, the cause being gone, ends well with nothing lost and nothing bought twice."""
    done = trial.do(*command, trial.repo.path, "--json")
    assert done.code == 0, done.err
    assert done.json["status"] == "succeeded"
    assert set(trial.emulator.paid.values()) == {1}
    assert done.json["chunks"]["ready"] == CHUNKS
    assert trial.emulator.live_jobs() == []
    with State(trial.data / "state.db") as state:
        assert [finding for finding in check_invariants(state) if finding.status == "error"] == []


def one_sentence(done: Done, *words: str, code: int = 1) -> None:
    """It ended with this code, and its last line says so; nothing looks like a crash."""
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    last = done.err.strip().splitlines()[-1]
    for word in words:
        assert word in last, last


# ---------------------------------------------------------------- keys, networks, quotas, money, disks


@pytest.mark.parametrize("command", [BATCH, DIRECT])
def test_without_a_key_the_sentence_says_what_to_set(trial: Trial, command: tuple[str, ...]) -> None:
    key = trial.env.pop("CODECHUNK_GEMINI_API_KEY")
    one_sentence(trial.do(*command, trial.repo.path), "CODECHUNK_GEMINI_API_KEY", code=2)
    assert not trial.emulator.log
    trial.env["CODECHUNK_GEMINI_API_KEY"] = key
    goes_on(trial, *command)


@pytest.mark.parametrize("command", [BATCH, DIRECT])
def test_a_wrong_key_stops_at_the_first_refusal_and_nothing_is_lost(trial: Trial, command: tuple[str, ...]) -> None:
    key = trial.env["CODECHUNK_GEMINI_API_KEY"]
    trial.env["CODECHUNK_GEMINI_API_KEY"] = "AIzaSyWRONG0123456789_-abcdefghijklmnop"
    done = trial.do(*command, trial.repo.path)
    one_sentence(done, "refused the key", "CODECHUNK_GEMINI_API_KEY")
    assert len(trial.emulator.log) == 1, "no hot loop"
    assert trial.sql("SELECT count(*) FROM embeddings WHERE state = 'failed'") == [(0,)]
    trial.env["CODECHUNK_GEMINI_API_KEY"] = key
    goes_on(trial, *command)


def test_a_key_that_is_withdrawn_while_jobs_are_out_stops_and_they_are_taken_in_later(trial: Trial) -> None:
    trial.emulator.fail_next("get_batch", "denied")
    one_sentence(trial.do(*BATCH, trial.repo.path), "CODECHUNK_GEMINI_API_KEY")
    assert ("processing",) in trial.sql("SELECT state FROM batches")
    assert trial.sql("SELECT count(*) FROM batches WHERE failures + submissions > 0") == [(0,)]
    goes_on(trial, *BATCH)
    assert trial.emulator.requests["create"] == 3


def test_without_a_network_a_sentence_says_so_and_nothing_is_lost(trial: Trial) -> None:
    address = trial.env["CODECHUNK_EMBEDDING__BASE_URL"]
    trial.env["CODECHUNK_EMBEDDING__BASE_URL"] = "http://127.0.0.1:9"
    done = trial.do(*BATCH, trial.repo.path)
    one_sentence(done, "127.0.0.1:9", "check the network", "nothing is lost")
    trial.env["CODECHUNK_EMBEDDING__BASE_URL"] = address
    goes_on(trial, *BATCH)


def test_an_exhausted_quota_ends_direct_calls_with_a_sentence(trial: Trial) -> None:
    trial.emulator.faults.retry_delay = "4000s"
    trial.emulator.fail_next("embed", "rate_limited", skip=2)
    done = trial.do(*DIRECT, trial.repo.path)
    one_sentence(done, "2 texts are embedded", "the same command goes on")
    goes_on(trial, *DIRECT)


def test_an_exhausted_quota_makes_batch_jobs_wait_and_says_so(trial: Trial) -> None:
    trial.emulator.faults.quota_exhausted = True
    waits = {"SUBMISSION_INITIAL_BACKOFF": "60s", "SUBMISSION_MAX_BACKOFF": "60s"}
    short = {f"CODECHUNK_BATCH_PROCESSING__{name}": trial.env[f"CODECHUNK_BATCH_PROCESSING__{name}"] for name in waits}
    trial.env |= {f"CODECHUNK_BATCH_PROCESSING__{name}": value for name, value in waits.items()}
    done = trial.do(*BATCH, "--no-wait", trial.repo.path, "--json")
    assert done.code == 0, done.err
    assert done.json["status"] == "embedding"
    status = trial.do("queue", "status")
    assert "no submission for" in status.out
    assert "quota" in status.out
    assert trial.emulator.requests["create"] == 1, "one refusal holds for all jobs"
    trial.emulator.faults.quota_exhausted = False
    trial.env |= short
    trial.sql("DELETE FROM facts WHERE name = 'throttle'")  # as if the minute were over
    goes_on(trial, *BATCH)


def test_more_than_max_cost_is_not_spent_and_a_higher_limit_goes_on(trial: Trial) -> None:
    done = trial.do(*BATCH, trial.repo.path, "--max-cost", "0.0000001")
    one_sentence(done, "6 texts would cost about $", "nothing of it was sent")
    assert not trial.emulator.log
    assert trial.sql("SELECT count(*) FROM embeddings") == [(0,)], "nothing waits that a worker could buy"
    goes_on(trial, *BATCH, "--max-cost", "1")


def test_the_direct_price_after_a_fall_back_is_held_against_max_cost_too(
    tmp_path: Path, warm: WarmStart, repo: GitRepo
) -> None:
    # One job: of several the first to fall back would be within the limit, whenever the others end later.
    env = settings(**{**QUICK, "max_batch_size": "100"}, max_retries="0", fallback_to_sequential="true")
    with GeminiEmulator() as emulator, trial_of(tmp_path, warm, repo, emulator, env) as trial:
        emulator.fail_next("job", "expired")
        price = trial.do("estimate", repo.path, "--json").json["price"]
        batch = price["batch"]
        done = trial.do(*BATCH, repo.path, "--max-cost", f"{batch * 1.2:.9f}")
        one_sentence(done, "more than --max-cost")
        assert emulator.requests["embed"] == 0
        done = trial.do(*BATCH, repo.path, "--json")
        assert done.code == 0, done.err
        assert done.json["embedding"]["fallbacks"] == 1
        assert done.json["cost"]["spent"] == pytest.approx(2 * done.json["cost"]["estimated"], rel=0.8)
        assert "sent directly" in done.err
        assert set(emulator.paid.values()) == {1}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_full_while_a_result_is_saved_is_a_sentence_and_the_result_is_fetched_later(
    trial: Trial, tmp_path: Path
) -> None:
    done = trial.do(*BATCH, "--no-wait", trial.repo.path)
    assert done.code == 0, done.err
    folder = trial.data / "batches"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small disk to be had here: {mounted.stderr.strip()}")
    try:
        done = trial.do(*BATCH, trial.repo.path)
        one_sentence(done, "cannot be saved", "No space left", "stays at the provider")
        assert ("processing",) in trial.sql("SELECT state FROM batches")
        assert trial.sql("SELECT count(*) FROM batches WHERE failures > 0") == [(0,)]
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
    goes_on(trial, *BATCH)
    assert trial.emulator.requests["create"] == 3


# ---------------------------------------------------------------- what is said once, and what is refused


def test_other_dimensions_make_a_new_collection_and_say_what_it_costs(trial: Trial) -> None:
    goes_on(trial, *DIRECT)
    trial.env["CODECHUNK_EMBEDDING__DIMENSIONS"] = "256"
    done = trial.do(*DIRECT, trial.repo.path, "--json")
    assert done.code == 0, done.err
    assert "was indexed with gemini-embedding-001 at 128 dimensions" in done.err
    assert "with gemini-embedding-001 at 256: a new collection is made, 6 texts are embedded, about $" in done.err
    assert trial.do("search", "compute work", "--json").json
    trial.env["CODECHUNK_EMBEDDING__DIMENSIONS"] = "128"
    again = trial.do(*DIRECT, trial.repo.path, "--json")
    assert again.json["embedding"]["texts_sent"] == 0, "the old collection is still there"


def test_that_code_is_sent_to_google_is_said_at_the_first_run_and_never_again(trial: Trial) -> None:
    first = trial.do(*DIRECT, trial.repo.path)
    assert first.err.count("is sent to Google") == 1
    second = trial.do(*DIRECT, trial.repo.path, "--full")
    assert "is sent to Google" not in second.err


def test_vertex_ai_is_refused_with_what_is_supported(trial: Trial) -> None:
    trial.env["CODECHUNK_EMBEDDING__PROVIDER"] = "vertex_ai"
    done = trial.do(*DIRECT, trial.repo.path)
    one_sentence(done, "Vertex AI is not supported", "Gemini Developer API", code=2)
    assert not trial.emulator.log


@pytest.mark.parametrize("finisher", [("queue", "sync"), ("worker", "start", "--once")])
def test_a_run_that_did_not_wait_is_published_by_another_command(trial: Trial, finisher: tuple[str, ...]) -> None:
    done = trial.do(*BATCH, "--no-wait", trial.repo.path, "--json")
    assert (done.code, done.json["status"]) == (0, "embedding")

    def published() -> bool:
        finished = trial.do(*finisher)
        assert finished.code == 0, finished.err
        return trial.statuses() == ["succeeded"]

    wait_until(published, "the run is published")
    hit = trial.do("search", "compute work_1_1", "--json").json[0]
    assert hit["symbol"].startswith("work_")
    assert set(trial.emulator.paid.values()) == {1}
    assert_sound(trial, CHUNKS)


def test_search_works_from_the_old_index_while_the_new_one_is_out(
    tmp_path: Path, warm: WarmStart, emulator: GeminiEmulator
) -> None:
    repo = GitRepo(tmp_path / "demo")
    repo.commit(functions(1, 2))
    with trial_of(tmp_path, warm, repo, emulator) as trial:
        assert trial.do(*DIRECT, repo.path).code == 0
        repo.commit(functions(3, 2))
        emulator.faults.stuck = True
        done = trial.do(*BATCH, "--no-wait", repo.path, "--json")
        assert done.json["status"] == "embedding", "what is queued is not completed"
        assert done.json["chunks"]["pending"] + done.json["chunks"]["processing"] == 4
        paths = {hit["path"] for hit in trial.do("search", "compute", "--json").json}
        assert paths == {"m000.py"}


def test_a_branch_that_is_rewritten_while_its_texts_are_out_is_published_as_it_was_and_then_as_it_is(
    tmp_path: Path, warm: WarmStart, emulator: GeminiEmulator
) -> None:
    repo = GitRepo(tmp_path / "demo")
    first = repo.commit(functions(2, 2))
    with trial_of(tmp_path, warm, repo, emulator) as trial:
        done = trial.do(*BATCH, "--no-wait", repo.path, "--json")
        assert done.json["commit"] == first
        repo.git("commit", "--amend", "-m", "rewritten")
        second = repo.commit(functions(3, 2))
        assert trial.do("queue", "sync").code == 0
        assert trial.sql("SELECT commit_sha FROM indexes") == [(first,)]
        done = trial.do(*BATCH, repo.path, "--json")
        assert (done.json["commit"], done.json["status"]) == (second, "succeeded")
        assert set(emulator.paid.values()) == {1}


# ---------------------------------------------------------------- signals


@pytest.mark.parametrize(
    ("kind", "sig"),
    [
        ("upload_start", signal.SIGINT),
        ("create", signal.SIGTERM),
        ("get_batch", signal.SIGINT),
        ("download", signal.SIGTERM),
        ("embed", signal.SIGINT),
    ],
)
def test_a_signal_during_any_request_ends_index_in_seconds_and_the_next_run_goes_on(
    tmp_path: Path, warm: WarmStart, repo: GitRepo, kind: str, sig: signal.Signals
) -> None:
    launched, sent = threading.Event(), []

    def stop(exchange: Exchange) -> None:
        if exchange.kind == kind and not sent:
            sent.append(kind)
            launched.wait()
            running.send(sig)

    with GeminiEmulator(on_request=stop) as emulator, trial_of(tmp_path, warm, repo, emulator) as trial:
        command = DIRECT if kind == "embed" else BATCH
        running = trial.launch(*command, repo.path)
        launched.set()
        done = running.wait()
        assert done is not None
        assert sent == [kind]
        assert done.code == 130, done.err
        assert "Traceback" not in done.err
        held = "SELECT count(*) FROM {} WHERE owner IS NOT NULL"
        assert trial.sql(held.format("batches")) == trial.sql(held.format("embeddings")) == [(0,)]
        goes_on(trial, *command)


def test_a_provider_that_hangs_holds_nobody_back_and_a_second_signal_is_immediate(
    tmp_path: Path, warm: WarmStart, repo: GitRepo
) -> None:
    env = settings(**QUICK, embedding__timeout="60s", lease="90s")
    came = threading.Event()
    with (
        GeminiEmulator(
            faults=Faults(stall_s=HOURS_S),
            on_request=lambda exchange: came.set() if exchange.kind == "create" else None,
        ) as emulator,
        trial_of(tmp_path, warm, repo, emulator, env) as trial,
    ):
        emulator.fail_next("create", "quota_full")
        assert trial.do(*BATCH, "--no-wait", repo.path).code == 0, "planned, and turned away"
        trial.sql("DELETE FROM facts WHERE name = 'throttle'")  # as if its wait were over
        came.clear()
        emulator.fail_next("create", "stall")
        running = trial.launch("worker", "start", "--interval", "1")
        assert came.wait(PATIENCE_S), "it never asked for a job"
        running.send(signal.SIGTERM)
        assert running.wait(0.3) is None, "the first signal lets the step end"
        running.send(signal.SIGTERM)
        done = running.wait(45.0)
        assert done is not None, "it waited for the request, which is given up after a minute"
        assert done.code == 0, done.err
        assert trial.sql("SELECT count(*) FROM batches WHERE owner IS NOT NULL") == [(0,)]
        emulator.faults.stall_s = 0.0
        goes_on(trial, *BATCH)


# ---------------------------------------------------------------- the key is nowhere


def test_the_key_is_in_no_output_no_log_and_no_file(tmp_path: Path, warm: WarmStart, repo: GitRepo) -> None:
    with GeminiEmulator(key=CANARY) as emulator, trial_of(tmp_path, warm, repo, emulator) as trial:
        texts: list[Done] = []

        def run(*command: str | Path) -> None:
            texts.append(trial.do("-v", *command))

        run(*BATCH, "--no-wait", repo.path)
        for fault in ("denied", "unavailable", "garbage", "rate_limited", "lost_after"):
            emulator.fail_next("get_batch", fault)
            run("queue", "sync")
        emulator.fail_next("job", "row_errors")
        run(*BATCH, repo.path)
        run(*DIRECT, "--full", repo.path)
        run("queue", "status", "--json")
        run("queue", "remote")
        run("jobs", "list")
        run("doctor")
        run("config", "show")
        run("search", "compute work")
        with echoing(CANARY) as url:
            trial.env["CODECHUNK_EMBEDDING__BASE_URL"] = url
            run("search", "something else")
            run("queue", "remote")
            trial.env["CODECHUNK_EMBEDDING__DIMENSIONS"] = "256"
            run(*DIRECT, repo.path)
            run(*BATCH, repo.path)
            run("worker", "start", "--once")
        assert {done.code for done in texts} >= {0, 1}
        assert sum("***" in done.err or "refused the key" in done.err for done in texts) >= 3
        nowhere(CANARY, tmp_path, texts)
        assert trial.count("facts") > 0
        assert any(path.name == "codechunk.log" for path in tmp_path.rglob("*"))


@contextmanager
def echoing(secret: str) -> Iterator[str]:
    """A provider that answers everything with 401 and repeats the key, plain and in an address, in its words."""
    server = Server()
    message = f"API key not valid: {secret}. See https://host.invalid/?key={secret}"
    body = {"error": {"code": 401, "status": "UNAUTHENTICATED", "message": message, "details": [{"reason": secret}]}}
    server.answers(Reply(401, body))
    yield server.url
    server.close()


def nowhere(secret: str, folder: Path, outputs: list[Done]) -> None:
    for done in outputs:
        assert secret not in done.out + done.err
    searched = [path for path in folder.rglob("*") if path.is_file()]
    assert len(searched) > 10
    for path in searched:
        assert secret.encode() not in path.read_bytes(), path
