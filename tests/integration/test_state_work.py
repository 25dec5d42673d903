"""How the work of the state database grows: in line with files, and in as many statements for 50 rows as for one."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from engine_helpers import open_state
from sql_helpers import Steps, plans, statements

from codechunk.config.settings import Config
from codechunk.documents import JobChunks
from codechunk.state import CutFile, IndexRow, PlannedFile, Space, State
from codechunk.state.checks import Checks
from codechunk.state.removal import Survey
from codechunk.text.chunks import Chunk, Kind, chunk_ids
from codechunk.views.doctor import _runs
from codechunk.views.jobs import job_documents
from codechunk.workspace.estimates import Estimates
from codechunk.workspace.run_plan import RunPlan

SPACE = Space(provider="synthetic", model="m", dimensions=4, task="t", header_version=1)
CUT = "f"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State(tmp_path / "state.db") as opened:
        yield opened


def open_index(state: State, ref: str = "main") -> IndexRow:
    return state.catalog.open_index(url="https://host.invalid/o/n", names=["o/n"], ref=ref, space=SPACE)


def planned(state: State, index: IndexRow, count: int) -> None:
    """The next generation of an index with `count` files that are still to be read."""
    rows = (
        PlannedFile(path=f"d{number % 10}/f{number}.txt", blob=f"{number:040x}", size_bytes=1, reason=None)
        for number in range(count)
    )
    state.contents.write_plan(index.next, rows)


def cut(state: State, index: IndexRow) -> None:
    """Every planned file gets a chunk."""
    unread = state.contents.unread(index.next, repository_id=index.repository_id, fingerprint=CUT, page=100)
    parts = []
    for file in unread:
        text = f"text of {file.path}"
        chunk = Chunk(
            path=file.path, language="text", kind=Kind.TEXT, symbol=None, start_line=1, end_line=1, start_byte=0,
            end_byte=len(text), text=text, tokens=None,
        )  # fmt: skip
        parts.append(
            CutFile(
                file_id=file.id, path=file.path, blob=file.blob, status="chunked", language="text", chunks=[chunk],
                chunk_ids=chunk_ids(index.url, [chunk]), words=[text],
            )
        )  # fmt: skip
    for start in range(0, len(parts), 100):
        state.contents.save(index.repository_id, CUT, parts[start : start + 100])


def publish(state: State, index: IndexRow) -> IndexRow:
    state.catalog.publish(index.next, commit="c", fingerprint=CUT, whole=True)
    return state.catalog.refreshed(index)


# ---------------------------------------------------------------- work grows in line with files


def read_the_plan(state: State, index: IndexRow, count: int) -> None:
    planned(state, index, count)
    found = state.contents.unread(index.next, repository_id=index.repository_id, fingerprint=CUT, page=50)
    assert sum(1 for _ in found) == count


def look_for_copies(state: State, index: IndexRow, count: int) -> None:
    planned(state, index, count)
    pages = state.copies.cut_elsewhere(index.next, repository_id=index.repository_id, fingerprint=CUT, page=50)
    assert sum(1 for _ in pages) == count // 50 + 1


def a_whole_first_run(state: State, index: IndexRow, count: int) -> None:
    planned(state, index, count)
    where = {"repository_id": index.repository_id, "fingerprint": CUT}
    state.contents.adopt(index.next, **where)
    cut(state, index)
    sources = state.contents.new_sources(index.next, all_files=False)
    for start in range(0, len(sources), 50):
        state.embeddings.request(index.space_id, [source.id for source in sources[start : start + 50]])
    state.embeddings.ledger(index.next)
    state.contents.file_counts(index.next)
    state.contents.token_sums(index.next)
    assert [len(page) for page in state.contents.uncounted(index.next, page=50)] == [50] * (count // 50)
    publish(state, index)
    state.catalog.sweep(index.next)
    state.catalog.drop_unused_sources(index.repository_id)


def a_run_that_replaces_every_second_file(state: State, index: IndexRow, count: int) -> None:
    planned(state, index, count)
    cut(state, index)
    index = publish(state, index)
    known = state.contents.known_files(index.published)
    gone = [file.id for file in list(known.values())[::2]]
    state.contents.abandon(index.next)
    state.contents.retire(index.next, gone)
    index = publish(state, index)
    assert state.contents.gone_chunks(index.published, store_id=state.stores.open("here", claims=False)) == []
    state.comparisons.between(index.at(1), index.published)
    state.catalog.sweep(index.published)
    assert len(state.contents.known_files(index.published)) == count // 2


def removing_an_index_of_which_another_keeps_half(state: State, index: IndexRow, count: int) -> None:
    planned(state, index, count)
    cut(state, index)
    publish(state, index)
    other = open_index(state, "other")
    planned(state, other, count // 2)
    state.contents.adopt(other.next, repository_id=other.repository_id, fingerprint=CUT)
    publish(state, other)
    state.removal.garbage(Survey(whole=[index.id]))
    state.removal.drop_indexes([index.id])
    after = dropped = 0
    while (swept := state.removal.drop_contents(index.repository_id, after=after)) is not None:
        after, dropped = swept.last, dropped + swept.contents
    assert dropped == count // 2


@pytest.mark.parametrize(
    "work",
    [
        read_the_plan,
        look_for_copies,
        a_whole_first_run,
        a_run_that_replaces_every_second_file,
        removing_an_index_of_which_another_keeps_half,
    ],
    ids=lambda work: work.__name__,
)
def test_twice_as_many_files_are_at_most_little_more_than_twice_the_work(
    tmp_path: Path, work: Callable[[State, IndexRow, int], None]
) -> None:
    steps = []
    for count in (1_000, 2_000):
        with State(tmp_path / f"{count}.db") as state:
            index = open_index(state)
            counted = Steps(state)
            work(state, index, count)
        steps.append(counted.count)
    assert steps[0] > 1_000, "something was counted"
    assert steps[1] <= 2.3 * steps[0], steps


# ---------------------------------------------------------------- pages come straight from an index


def pages_of_the_plan(state: State, index: IndexRow) -> None:
    list(state.contents.unread(index.next, repository_id=index.repository_id, fingerprint=CUT))


def pages_of_copies(state: State, index: IndexRow) -> None:
    list(state.copies.cut_elsewhere(index.next, repository_id=index.repository_id, fingerprint=CUT))


def pages_of_contents_to_drop(state: State, index: IndexRow) -> None:
    state.removal.drop_contents(index.repository_id, after=0)


def pages_of_vectors_to_drop(state: State, index: IndexRow) -> None:
    state.removal.drop_unused_vectors(after=0)


def pages_of_held_vectors(state: State, index: IndexRow) -> None:
    list(state.stores.held_vectors(index.id, state.stores.open("here", claims=False)))


def pages_of_stored_vectors(state: State, index: IndexRow) -> None:
    Checks(state.database).findings(now=0.0, max_job_age_s=1.0)


def claims_of_texts(state: State, index: IndexRow) -> None:
    state.queue.claim(index.space_id, "me|1|2|3", most=10, lease_s=1.0)


def claims_of_texts_of_a_run(state: State, index: IndexRow) -> None:
    state.queue.claim(index.space_id, "me|1|2|3", most=10, lease_s=1.0, job_id="a")


def claims_of_a_batch_job(state: State, index: IndexRow) -> None:
    state.batches.plan(index.space_id, prefix="p", priority=0, most_texts=10, most_tokens=None)


@pytest.mark.parametrize(
    "ask",
    [
        pages_of_the_plan,
        pages_of_copies,
        pages_of_contents_to_drop,
        pages_of_vectors_to_drop,
        pages_of_held_vectors,
        pages_of_stored_vectors,
        claims_of_texts,
        claims_of_texts_of_a_run,
        claims_of_a_batch_job,
    ],
    ids=lambda ask: ask.__name__,
)
def test_a_page_is_read_in_the_order_of_an_index_and_nothing_is_sorted_for_it(
    state: State, ask: Callable[[State, IndexRow], None]
) -> None:
    index = open_index(state)
    with statements(state) as asked:
        ask(state, index)
    paged = {
        statement: steps
        for statement, steps in plans(state, asked).items()
        if "LIMIT" in statement or "vectors.vector" in statement
    }
    assert paged
    for statement, steps in paged.items():
        assert not [step for step in steps if "TEMP B-TREE" in step], f"{statement}\n{steps}"


# ---------------------------------------------------------------- as many statements for 50 rows as for one


def finished_runs(state: State, count: int) -> None:
    """Runs of one index, each of another commit, all of them ended."""
    index = open_index(state)
    for number in range(count):
        job = state.catalog.start_job(index.id, f"{number:040x}", redo=False)
        state.catalog.finish_job(job.id, status="succeeded")
    state.catalog.publish(index.next, commit=f"{count - 1:040x}", fingerprint=CUT, whole=True)


def runs_of_many_indexes(state: State, count: int) -> None:
    """As many indexes, each with a run that ended and wrote down nothing, and whose texts wait."""
    for number in range(count):
        index = open_index(state, f"ref{number}")
        job = state.catalog.start_job(index.id, "c", redo=False)
        state.catalog.finish_job(job.id, status="succeeded")
        state.catalog.publish(index.next, commit="c", fingerprint=CUT, whole=True)


def waiting_runs(state: State, count: int) -> None:
    """As many indexes, each with a run that waits for vectors."""
    for number in range(count):
        job = state.catalog.start_job(open_index(state, f"ref{number}").id, "c", redo=False)
        state.catalog.plan_job(job.id, "{}")
        state.catalog.wait_job(job.id)


def waiting_runs_of_many_indexes(state: State, count: int) -> None:
    """As many indexes, each with a run that waits for no vector any more."""
    plan = RunPlan(
        generation=1, commit="c", identity="i", token_mode="all", discovered=0, unchanged=0, deleted_files=0,
        mode="batch", mode_reason="many", estimated_usd=None, started_at=1.0,
    ).dump()  # fmt: skip
    for number in range(count):
        index = open_index(state, f"ref{number}")
        job = state.catalog.start_job(index.id, "c", redo=False)
        state.catalog.plan_job(job.id, plan)
        state.catalog.wait_job(job.id)


def bought_vectors(state: State, count: int) -> None:
    """Vectors that no chunk has any more, each from another batch job."""
    space_id = state.catalog.space_id(SPACE)
    with state.database.begin() as connection:
        for number in range(count):
            connection.exec_driver_sql(
                "INSERT INTO batches (id, space_id, state, display_name, texts, tokens, priority, cancelled_by_user,"
                " submissions, failures, rows_ok, rows_failed, rows_ignored, billed_tokens, fence, created_at, next_at)"
                f" VALUES ('b{number}', {space_id}, 'completed', 'n{number}', 2, 2, 0, FALSE, 0, 0, 2, 0, 0, 2, 0, 0,"
                " 0)"
            )
            for text in range(2):
                connection.exec_driver_sql(
                    "INSERT INTO embeddings (space_id, text_sha, state, attempts, batch_id, paid)"
                    f" VALUES ({space_id}, 's{number}-{text}', 'ready', 1, 'b{number}', 'batch')"
                )


def list_runs(state: State, count: int) -> None:
    found = job_documents(state)
    assert len(found) == count
    assert [document.chunks is not None for document in found] == [True] + [False] * (count - 1)


def list_runs_of_many_indexes(state: State, count: int) -> None:
    found = job_documents(state)
    assert [document.chunks for document in found] == [
        JobChunks(total=0, ready=0, pending=0, processing=0, failed=0)
    ] * count


def list_what_doctor_says(state: State, count: int) -> None:
    [finding] = [found for found in _runs(state, lambda _: nullcontext()) if found.check == "runs_to_finish"]
    assert finding.count == count


def list_waiting_runs(state: State, count: int) -> None:
    assert [index.ref for _, index in state.catalog.embedding_jobs()] == [f"ref{number}" for number in range(count)]


def drop_vectors(state: State, count: int) -> None:
    swept = state.removal.drop_unused_vectors(after=0)
    assert swept is not None
    assert swept.vectors == 2 * count
    assert {row.rows_ok for row in state.batches.rows()} == {0}


@pytest.mark.both_databases
@pytest.mark.parametrize(
    ("make", "ask"),
    [
        (finished_runs, list_runs),
        (runs_of_many_indexes, list_runs_of_many_indexes),
        (waiting_runs, list_waiting_runs),
        (waiting_runs_of_many_indexes, list_what_doctor_says),
        (bought_vectors, drop_vectors),
    ],
    ids=["jobs list", "jobs list of many indexes", "unfinished runs", "doctor", "vectors to drop"],
)
def test_fifty_rows_take_as_many_statements_as_one(
    tmp_path: Path, make: Callable[[State, int], None], ask: Callable[[State, int], None]
) -> None:
    counts = []
    for count in (1, 50):
        folder = tmp_path / str(count)
        folder.mkdir()
        with open_state(folder) as state:
            make(state, count)
            with statements(state) as asked:
                ask(state, count)
        counts.append(len(asked))
    assert counts[1] == counts[0] > 0


def test_the_beginning_of_an_id_is_found_by_the_primary_key(state: State) -> None:
    bought_vectors(state, 12)
    with statements(state) as asked:
        assert state.batches.get("b11") is not None
        assert state.batches.get("B11") is not None
        assert state.batches.get("b1") is None, "more than one"
        assert state.batches.get("b%") is None
        assert state.batches.get("c") is None
        assert state.catalog.job("a") is None
    searches = [(statement, parameters) for statement, parameters in asked if "LIMIT" in statement]
    for statement, steps in plans(state, searches).items():
        assert steps[0].startswith("SEARCH"), f"{statement}\n{steps}"


def test_what_was_learned_of_token_counts_is_read_once_for_all_prices_of_an_estimate(state: State) -> None:
    space = Space(
        provider="gemini", model="gemini-embedding-001", dimensions=8, task="RETRIEVAL_DOCUMENT", header_version=1
    )
    index = state.catalog.open_index(url="u", names=["n"], ref="main", space=space)
    estimates = Estimates(Config(), state)
    with statements(state) as asked:
        for tokens in (100, 200):
            assert estimates.estimate_usd(index, tokens, "batch")
            assert estimates.prices(space, tokens).direct
        estimates.spent_usd(index, state.queue.bought("none"))
    assert len([statement for statement, _ in asked if "FROM facts" in statement]) == 1
    assert len([statement for statement, _ in asked if "FROM spaces" in statement]) == 1
