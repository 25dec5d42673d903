"""CI as users have it: the steps of the action are run, the files of deploy/ held against schemas and our commands."""

import copy
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import typer
import yaml
from action_helpers import BIN, ROOT, Expression, Runner
from cli_helpers import Cli
from gemini_emulator import Faults, GeminiEmulator
from git_helpers import GitRepo, git_env
from paid_helpers import FUNCTION, Paid, small_repository

from codechunk.cli import app

ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = ACTION["runs"]["steps"]
WORKFLOWS = ["index-on-merge.yml", "codechunk-worker.yml"]
SCHEMAS = {
    "action.yml": "vendor.github-actions",
    ".github/workflows/index-on-merge.yml": "vendor.github-workflows",
    ".github/workflows/codechunk-worker.yml": "vendor.github-workflows",
    "deploy/gitlab-ci.yml": "vendor.gitlab-ci",
}
SERVICE, TIMER = "codechunk-worker.service", "codechunk-worker.timer"


def workflow(name: str) -> Any:
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())


# ---------------------------------------------------------------- the action, run


@pytest.fixture
def emulator() -> Iterator[GeminiEmulator]:
    with GeminiEmulator(faults=Faults(job_seconds=0.2)) as emulator:
        yield emulator


def test_an_empty_runner_with_the_restored_caches_sends_only_what_changed(tmp_path: Path) -> None:
    repo = small_repository(tmp_path / "repo")
    runner = Runner(tmp_path, {})
    first = runner.job(repo.path, test_embeddings=True)
    assert first.ok, first.log
    assert first.outputs["status"] == "succeeded"
    assert first.outputs["texts-sent"] == "6"
    assert json.loads(Path(first.outputs["document"]).read_text())["ref"] == "main"
    assert re.findall(r"^### codechunk: ` (\S+) `", first.summary, re.MULTILINE) == ["repo@main"] * 2
    assert "| to embed | 6 texts" in first.summary
    saved = list(runner.caches)
    assert len(saved) == 2

    nothing_new = runner.job(repo.path, test_embeddings=True)
    assert nothing_new.ok, nothing_new.log
    assert nothing_new.outputs["texts-sent"] == "0"
    assert "| to embed | 0 texts" in nothing_new.summary
    assert list(runner.caches) == saved, "a run that changed nothing needs no space for a cache"

    # The large cache is gone; the vectors alone must do.
    runner.caches = {key: folder for key, folder in runner.caches.items() if "-vectors-" in key}
    repo.commit({"f0.py": FUNCTION.format(100)})
    third = runner.job(repo.path, test_embeddings=True)
    assert third.ok, third.log
    assert third.outputs["texts-sent"] == "1"
    assert len(runner.caches) == 3


def test_batch_jobs_of_a_merge_are_taken_in_by_the_schedule_and_paid_once(
    tmp_path: Path, emulator: GeminiEmulator
) -> None:
    repo = small_repository(tmp_path / "repo")
    settings = Paid(tmp_path / "settings", emulator).settings
    runner = Runner(tmp_path, settings)
    merged = runner.job(repo.path, mode="batch")
    assert merged.ok, merged.log
    assert merged.outputs["status"] == "embedding"
    assert float(merged.outputs["estimated-cost"]) > 0
    assert "6 = 0 ready + 6 pending + 0 failed" in merged.summary

    scheduled = runner.job(repo.path, mode="batch", worker=True)
    for _ in range(5):
        if scheduled.outputs["status"] == "succeeded":
            break
        scheduled = runner.job(repo.path, mode="batch", worker=True)
    assert scheduled.ok, scheduled.log
    assert (scheduled.outputs["status"], scheduled.outputs["texts-sent"]) == ("succeeded", "0")
    assert scheduled.steps["Take in what came back"].outcome == "success"
    assert scheduled.steps["Plan, with the cost in the job summary"].outcome == "skipped"
    assert set(emulator.paid.values()) == {1}
    assert len(emulator.paid) == 6
    assert len([key for key in runner.caches if "-state-" in key]) > 1
    for secret in (merged, scheduled):
        assert emulator.key not in secret.log + secret.summary


def test_a_run_that_costs_too_much_fails_and_what_was_there_is_saved_all_the_same(
    tmp_path: Path, emulator: GeminiEmulator
) -> None:
    repo = small_repository(tmp_path / "repo")
    runner = Runner(tmp_path, Paid(tmp_path / "settings", emulator).settings)
    done = runner.job(repo.path, max_cost="0")
    assert done.steps["Index"].outcome == "failure"
    assert "exit code 1" in done.summary
    assert "max-cost" in done.log
    assert done.outputs["status"] == "failed"
    assert emulator.paid == {}
    assert [step.outcome for name, step in done.steps.items() if name.startswith("Save")] == ["success"] * 2
    assert len(runner.caches) == 2


def test_a_pull_request_needs_no_key_saves_nothing_and_its_names_run_nothing(tmp_path: Path) -> None:
    repo = small_repository(tmp_path / "repo")
    branch = "x$(touch${IFS}pwned)`touch${IFS}pwned`;touch${IFS}pwned;|<b>\"'"
    repo.git("checkout", "-q", "-b", branch)
    runner = Runner(tmp_path, {})
    # A damaged file of vectors is told and does not stop the run, which --max-cost guards.
    runner.caches["codechunk-vectors-1"] = damaged = tmp_path / "damaged"
    damaged.write_bytes(b"no cache of ours")
    done = runner.job(repo.path, dry_run=True, ref=branch)
    assert done.ok, done.log
    assert "::warning::The cache of vectors was refused" in done.log
    assert done.outputs["status"] == "planned"
    assert float(done.outputs["estimated-cost"]) > 0
    assert branch in done.summary
    assert list(runner.caches) == ["codechunk-vectors-1"]
    assert list(tmp_path.rglob("pwned*")) == []


def test_a_half_restored_data_directory_is_never_saved() -> None:
    """It would be the newest cache, and hide the whole one and the batch jobs in it."""
    conditions = {step["name"]: step["if"] for step in STEPS if step["name"].startswith(("Save", "Export"))}
    assert set(conditions) == {"Save the data directory", "Export the vectors", "Save the vectors"}
    for name, expected in (("cancelled", False), ("skipped", False), ("success", True)):
        steps = {"state": {"outcome": name}, "worker": {"outcome": "skipped"}, "index": {"outcome": "cancelled"}}
        expression = Expression({"steps": steps, "inputs": {}}, ok=False)
        assert expression.decide(conditions["Save the data directory"]) is expected
        assert expression.decide(conditions["Export the vectors"]) is expected


# ---------------------------------------------------------------- the action and the workflows, read


def test_no_expression_is_expanded_inside_a_script_and_no_input_is_a_secret() -> None:
    scripts = [step["run"] for step in STEPS if "run" in step]
    for name in WORKFLOWS:
        scripts += [step["run"] for job in workflow(name)["jobs"].values() for step in job["steps"] if "run" in step]
    assert scripts
    for script in scripts:
        assert "${{" not in script
        assert script.startswith("set -euo pipefail\n")
    assert not [name for name in ACTION["inputs"] if re.search("key$|token|secret|password", name)]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_give_the_action_inputs_that_it_has_and_tags_that_move_little(name: str) -> None:
    used = [step for job in workflow(name)["jobs"].values() for step in job["steps"]]
    for step in used + [step for step in STEPS if "uses" in step]:
        assert re.fullmatch(r"(actions/[\w/-]+|OWNER/codechunk)@v\d+", step["uses"])
    ours = [step for step in used if step["uses"].startswith("OWNER/codechunk")]
    assert ours
    for step in ours:
        assert set(step.get("with", {})) <= set(ACTION["inputs"])


def test_whoever_changes_the_state_waits_for_the_others_and_is_never_cancelled() -> None:
    jobs = {name: job for file in WORKFLOWS for name, job in workflow(file)["jobs"].items()}
    assert set(jobs) == {"plan", "index", "worker"}
    alone = {"group": "codechunk-state", "cancel-in-progress": False, "queue": "max"}
    assert jobs["index"]["concurrency"] == jobs["worker"]["concurrency"] == alone
    assert jobs["plan"]["concurrency"]["group"] != alone["group"]
    assert jobs["plan"]["steps"][-1]["with"] == {"dry-run": True}
    assert "env" not in jobs["plan"]["steps"][-1], "a plan needs no key"
    for file in WORKFLOWS:
        assert workflow(file)["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("step", [step for step in STEPS if "run" in step], ids=lambda step: step["name"])
def test_scripts_pass_shellcheck(step: dict[str, Any]) -> None:
    done = subprocess.run(
        [BIN / "shellcheck", "--shell=bash", "--norc", "-"], input=step["run"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


# ---------------------------------------------------------------- schemas


def check_schema(file: Path, schema: str) -> subprocess.CompletedProcess[str]:
    # GitLab's own tags (!reference) are no YAML that a schema could judge.
    transform = ["--data-transform", "gitlab-ci"] if schema == "vendor.gitlab-ci" else []
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "check_jsonschema", "--builtin-schema", schema, *transform, file],
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(("file", "schema"), SCHEMAS.items())
def test_files_of_ci_follow_their_schema(file: str, schema: str) -> None:
    done = check_schema(ROOT / file, schema)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_schema_refuses_a_slip_of_the_pen(tmp_path: Path) -> None:
    wrong = tmp_path / "workflow.yml"
    text = (ROOT / ".github" / "workflows" / WORKFLOWS[0]).read_text()
    wrong.write_text(text.replace("cancel-in-progress", "cancel-in-progres"))
    assert "cancel-in-progres" in check_schema(wrong, "vendor.github-workflows").stdout


def kubernetes_errors(document: dict[str, Any]) -> list[str]:
    schema = json.loads((Path(__file__).parent / "schemas" / "kubernetes-1.34.json").read_text())
    validator = jsonschema.Draft202012Validator({**schema, "$ref": f"#/$defs/{document['kind']}"})
    return [error.message for error in validator.iter_errors(document)]


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "worker-cronjob.yaml").read_text()))


def test_the_manifests_follow_the_schema_of_kubernetes() -> None:
    assert [document["kind"] for document in manifests()] == ["PersistentVolumeClaim", "CronJob"]
    assert [kubernetes_errors(document) for document in manifests()] == [[], []]
    wrong = copy.deepcopy(manifests()[1])
    wrong["spec"]["concurencyPolicy"] = "Forbid"
    assert "concurencyPolicy" in " ".join(kubernetes_errors(wrong))


def test_the_pods_run_alone_without_root_and_with_the_key_from_a_secret() -> None:
    spec = manifests()[1]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"USER {pod['securityContext']['runAsUser']}:" in (ROOT / "Dockerfile").read_text()
    for container in pod["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert [entry["valueFrom"]["secretKeyRef"]["name"] for entry in container["env"]] == ["codechunk"]


# ---------------------------------------------------------------- systemd, cron


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for name in (SERVICE, TIMER):
        text = (ROOT / "deploy" / "systemd" / name).read_text()
        # codechunk is not in /opt here; that the program exists is the only thing not checked.
        (tmp_path / name).write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))

    def verify() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", tmp_path / SERVICE, tmp_path / TIMER],
            capture_output=True,
            text=True,
        )

    done = verify()
    assert (done.returncode, done.stderr) == (0, "")
    text = (tmp_path / SERVICE).read_text()
    (tmp_path / SERVICE).write_text(text.replace("StateDirectory=", "StateDirectry="))
    assert "StateDirectry" in verify().stderr, "it would tell of a slip of the pen"


def test_the_unit_is_not_root_and_does_not_hold_the_key() -> None:
    lines = (ROOT / "deploy" / "systemd" / SERVICE).read_text().splitlines()
    for line in ("Type=oneshot", "User=codechunk", "NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateTmp=yes"):
        assert line in lines
    assert "EnvironmentFile=/etc/codechunk/secrets.env" in lines
    assert not [line for line in lines if line.startswith("Environment=")]


CRON_FIELD = re.compile(r"(\*|\d+(-\d+)?)(/\d+)?(,\d+)*")


def cron_lines() -> tuple[dict[str, str], list[tuple[list[str], str]]]:
    """Variables, and (five fields of time, command) of each line."""
    variables, jobs = {}, []
    for line in (ROOT / "deploy" / "crontab").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if found := re.fullmatch(r"([A-Z_]+)=(.*)", line):
            variables[found[1]] = found[2]
        else:
            *fields, command = line.split(maxsplit=5)
            jobs.append((fields, command))
    return variables, jobs


def test_the_crontab_is_one_and_holds_no_key() -> None:
    variables, jobs = cron_lines()
    assert len(jobs) == 2
    for fields, command in jobs:
        assert len(fields) == 5
        assert all(CRON_FIELD.fullmatch(field) for field in fields)
        assert "%" not in command, "cron would make a new line of it"
        assert subprocess.run(["sh", "-n", "-c", command]).returncode == 0
    assert not [name for name in variables if "KEY" in name]
    assert (ROOT / "deploy" / "crontab").read_bytes().endswith(b"\n"), "cron drops a last line without an end"


# ---------------------------------------------------------------- the commands in all of them


def parse(words: list[str]) -> None:
    """Let our own command line read a command, without running it."""
    command: click.Command = typer.main.get_command(app)
    context = command.make_context("codechunk", words)
    while isinstance(command, click.Group):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        context = command.make_context(name, rest, parent=context)


# Words after our name where it is not the command: a user, a secret.
NOT_OURS = re.compile(r"/dev/null|sh |--from-literal|--create-home|\.")


def commands() -> list[tuple[str, str]]:
    """(file, what follows `codechunk`) wherever we tell somebody, or some machine, to type it."""
    found = []
    for file in ("deploy/crontab", "deploy/gitlab-ci.yml", "deploy/README.md", f"deploy/systemd/{SERVICE}"):
        text = (ROOT / file).read_text().replace("\\\n", " ")
        if file.endswith(".md"):
            text = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
        lines = [line.split(" #")[0] for line in text.splitlines() if not re.match(r" *(#|expose_as)", line)]
        for line in lines:
            said = re.findall(r"(?:^|[ /=])codechunk(?::[0-9.]+)? +([^|;#&']+)", line)
            found += [(file, words.strip()) for words in said if not NOT_OURS.match(words)]
    return found


@pytest.mark.parametrize(("file", "words"), commands())
def test_every_command_that_we_tell_people_to_type_is_one(file: str, words: str) -> None:
    parse(shlex.split(words))


def test_the_containers_run_commands_of_ours() -> None:
    pod = manifests()[1]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    for container in pod["containers"]:
        parse(container["args"])


# ---------------------------------------------------------------- GitLab's job, run


def test_gitlab_s_job_saves_what_an_empty_runner_needs(tmp_path: Path) -> None:
    file = yaml.safe_load((ROOT / "deploy" / "gitlab-ci.yml").read_text())
    origin = small_repository(tmp_path / "origin")
    first = gitlab_job(file, clone(origin, tmp_path / "first"))
    assert first["changes"]["texts"]["sent"] == 6
    assert (first["ref"], first["status"]) == ("main", "succeeded")
    second = clone(origin, tmp_path / "second")
    (second / ".codechunk").mkdir()
    shutil.copy2(tmp_path / "first" / ".codechunk" / "vectors.ccv", second / ".codechunk")
    assert gitlab_job(file, second)["changes"]["texts"]["sent"] == 0
    assert re.search(r"^\| texts \| 0 sent", (second / "codechunk-index.md").read_text(), re.MULTILINE)


def clone(origin: GitRepo, folder: Path) -> Path:
    """A checkout as GitLab makes it: of a commit, with the branch below refs/remotes only."""
    subprocess.run(["git", "clone", "-q", origin.path, folder], check=True, env=git_env(folder.parent))
    subprocess.run(["git", "checkout", "-q", "--detach"], cwd=folder, check=True, env=git_env(folder.parent))
    subprocess.run(["git", "branch", "-q", "-D", "main"], cwd=folder, check=True, env=git_env(folder.parent))
    return folder


def gitlab_job(file: Any, checkout: Path) -> dict[str, Any]:
    """Run the scripts of `codechunk:index` in a shell of their own, as its runner does. Returns the last run."""
    job = file["codechunk:index"]
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(checkout.parent),
        "CI_PIPELINE_SOURCE": "push",
        "CI_COMMIT_BRANCH": "main",
        "CODECHUNK_DATA_DIR": file[".codechunk"]["variables"]["CODECHUNK_DATA_DIR"].replace(
            "$CI_PROJECT_DIR", str(checkout)
        ),
        "CODECHUNK_BATCH_PROCESSING__USE_TEST_EMBEDDINGS": "true",
    }
    for lines in (file[".codechunk"]["before_script"] + job["script"], job["after_script"]):
        script = "set -eo pipefail\n" + "\n".join(lines)
        done = subprocess.run(["bash", "-c", script], cwd=checkout, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    cli = Cli(checkout.parent / f"{checkout.name}-look")
    cli.data = Path(environment["CODECHUNK_DATA_DIR"])
    report: dict[str, Any] = json.loads(cli.sql("SELECT report FROM jobs ORDER BY started_at DESC LIMIT 1")[0][0])
    return report


# ---------------------------------------------------------------- the image


def test_the_image_ends_without_root_and_copies_files_that_exist() -> None:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    stages = [words for words in lines if words[0] == "FROM"]
    assert all("slim" in words[1] for words in stages)
    last = lines[lines.index(stages[-1]) :]
    assert [words[1] for words in last if words[0] == "USER"] == ["10001:10001"]
    assert ["VOLUME", "/data"] in last
    assert ["ENTRYPOINT", '["codechunk"]'] in last
    copied = [name for words in lines if words[0] == "COPY" and "--from=build" not in words for name in words[1:-1]]
    assert "codechunk" in copied
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(copied) == sorted(allowed)
    assert all((ROOT / name).exists() for name in copied)


def test_nothing_but_what_is_copied_reaches_the_builder() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert not [line for line in lines if line.startswith(("!.git", "!tests", "!.venv", "!*"))]


def test_the_python_of_the_image_is_one_that_the_pins_are_for() -> None:
    image = re.findall(r"FROM python:3\.(\d+)-slim", (ROOT / "Dockerfile").read_text())
    default = ACTION["inputs"]["python-version"]["default"]
    lowest, highest = re.findall(r"3\.(\d+)", (ROOT / "requirements.lock").read_text().splitlines()[0])
    for minor in (*image, default.split(".")[1]):
        assert int(lowest) <= int(minor) <= int(highest)
