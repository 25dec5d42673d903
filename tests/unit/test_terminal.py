"""What people see while a workflow runs: bars and a table on a terminal, lines elsewhere, a callback in a library."""

import io

import pytest
from rich.console import Console

from codechunk.cli.terminal import TABLE_ROWS, Bars, Lines, Quiet, duration, usd
from codechunk.progress import BatchView, Callback, Event, Reporter, Silence


def view(
    id: str = "0123456789ab",
    state: str = "processing",
    remote_state: str | None = "running",
    *,
    done: int = 0,
    cost_usd: float | None = 0.0123,
    note: str = "",
) -> BatchView:
    return BatchView(
        id=id, state=state, remote_state=remote_state, texts=500, done=done, age_s=125.0, cost_usd=cost_usd, note=note
    )


def terminal() -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, force_terminal=True, width=120, highlight=False), written


def test_a_terminal_shows_the_batch_jobs_in_a_table_under_the_bars() -> None:
    console, written = terminal()
    with Bars(console) as bars:
        bars.stage("Waiting", 500, "texts")
        bars.batches([view(done=20, note="slow today")])
    shown = written.getvalue()
    for word in ("Waiting", "0123456789ab", "processing", "running", "20/500", "2m05s", "$0.0123", "slow today"):
        assert word in shown, word


def test_the_table_shows_the_jobs_as_they_were_told_last() -> None:
    console, written = terminal()
    with Bars(console) as bars:
        bars.batches([view(state="submitting")])
        bars.batches([view(state="completed")])
    last = written.getvalue().rpartition("batch job")[2]
    assert "completed" in last
    assert "submitting" not in last


def test_more_jobs_than_fit_are_counted_in_a_last_line() -> None:
    console, written = terminal()
    with Bars(console) as bars:
        bars.batches([view(f"job-{number:03}", done=1) for number in range(TABLE_ROWS + 3)])
    last = written.getvalue().rpartition("batch job")[2]
    assert f"job-{TABLE_ROWS - 1:03}" in last
    assert f"job-{TABLE_ROWS:03}" not in last
    assert "+3 more" in last
    assert "3/1,500" in last


def test_a_control_character_or_a_key_in_a_note_does_not_reach_the_terminal() -> None:
    console, written = terminal()
    with Bars(console) as bars:
        bars.batches([view(note="\x1b]0;gone\x07 AIza" + "x" * 35)])
    assert "\x1b]0" not in written.getvalue()
    assert "xxxxx" not in written.getvalue()


def test_plain_lines_tell_a_job_once_for_each_state(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines() as lines:
        lines.batches([view(remote_state=None)])
        lines.batches([view(done=100, remote_state=None)])
        lines.batches([view(done=100), view("other", "pending_submission", None, cost_usd=None, note="again in 5 s")])
        lines.batches([view("other", "pending_submission", None, cost_usd=None, note="again in 4 s")])
    assert capsys.readouterr().err.splitlines() == [
        "batch job 0123456789ab: processing, 0 of 500 rows, 2m05s, $0.0123",
        "batch job 0123456789ab: processing (running), 100 of 500 rows, 2m05s, $0.0123",
        "batch job other: pending_submission, 0 of 500 rows, 2m05s: again in 5 s",
    ]


def test_quiet_and_silence_say_nothing_of_batch_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (Quiet(), Silence()):
        quiet.batches([view()])
    assert capsys.readouterr() == ("", "")


def test_a_callback_hears_every_event_with_where_the_stage_stands() -> None:
    heard: list[Event] = []
    reporter: Reporter = Callback(heard.append)
    reporter.stage("Waiting", None, "texts")
    reporter.advance(3)
    reporter.advance()
    reporter.reach(9, total=10)
    reporter.say("Look.")
    reporter.batches([view()])
    reporter.stage("Storing", 5, "chunks")
    assert [(event.kind, event.stage, event.done, event.total, event.unit) for event in heard] == [
        ("stage", "Waiting", 0, None, "texts"),
        ("progress", "Waiting", 3, None, "texts"),
        ("progress", "Waiting", 4, None, "texts"),
        ("progress", "Waiting", 9, 10, "texts"),
        ("sentence", "Waiting", 9, 10, "texts"),
        ("batches", "Waiting", 9, 10, "texts"),
        ("stage", "Storing", 0, 5, "chunks"),
    ]
    assert heard[4].sentence == "Look."
    assert heard[5].batches == (view(),)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-3, "0s"), (0.9, "0s"), (59, "59s"), (60, "1m00s"), (3_599, "59m59s"), (7_620, "2h07m"), (273_600, "3d04h")],
)
def test_a_time_span_is_shown_in_its_two_largest_units(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_an_unknown_price_is_a_dash_and_not_nothing() -> None:
    assert (usd(None), usd(0.0), usd(1234.5)) == ("-", "$0.0000", "$1,234.5000")
