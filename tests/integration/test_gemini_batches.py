"""Files and batch jobs of the Gemini edge, against a server that answers as it is told."""

from pathlib import Path
from typing import Any

import pytest
from scripted_server import Reply, Server, refusal

from codechunk.errors import CodechunkError, Missing, ProviderError, RateLimited, Rejected, Unavailable
from codechunk.providers.gemini.client import Gemini
from codechunk.providers.gemini.replies import remote_job

JOB = "batches/abc123"


# ---------------------------------------------------------------------- files


def upload_url(server: Server) -> Reply:
    return Reply(headers={"x-goog-upload-url": f"{server.url}/take?upload_id=1", "x-goog-upload-status": "active"})


FINAL = {"x-goog-upload-status": "final"}
FILE = {
    "name": "files/t5snrshrqff1",
    "displayName": "codechunk-in",
    "mimeType": "application/jsonl",
    "sizeBytes": "202",
    "createTime": "2025-09-10T13:37:39.328452Z",
    "expirationTime": "2025-09-12T13:37:39.328452Z",
    # base64 of the hex digits, as in Google's cookbook
    "sha256Hash": "NTk3Yjk2" + "MDAw" * 19 + "MA==",
    "uri": "https://example.invalid/v1beta/files/t5snrshrqff1",
    "state": "ACTIVE",
    "source": "UPLOADED",
}


def test_an_upload_says_what_it_is_and_comes_back_as_a_file(server: Server, gemini: Gemini, tmp_path: Path) -> None:
    path = tmp_path / "private name.jsonl"
    path.write_bytes(b'{"key":"a"}\n')
    server.answers(upload_url(server), Reply(body={"file": FILE}, headers=FINAL))
    made = gemini.upload(path, display_name="codechunk-in")
    assert (made.name, made.display_name, made.size_bytes, made.active) == (FILE["name"], "codechunk-in", 202, True)
    assert made.sha256 == "597b96" + "0" * 58
    assert made.expires_at == pytest.approx(1757684259.328452)
    begin, data = server.requests
    assert begin.headers["x-goog-upload-header-content-type"] == "application/jsonl"
    assert begin.json["file"] == {"display_name": "codechunk-in", "mime_type": "application/jsonl", "size_bytes": 12}
    assert data.body == path.read_bytes()
    assert "private" not in str(server.requests)


def test_a_gateway_gets_the_data_too_although_google_names_its_own_host(
    server: Server, gemini: Gemini, tmp_path: Path
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"{}\n")
    google = Reply(headers={"x-goog-upload-url": "https://google.invalid/take?upload_id=1"})
    server.answers(google, Reply(body={"file": FILE}, headers=FINAL))
    gemini.upload(path, display_name="x")
    assert server.requests[1].path == "/take?upload_id=1"


@pytest.mark.parametrize(
    "replies",
    [
        [Reply()],
        [Reply(body="garbage"), Reply(body="garbage", headers=FINAL)],
        ["url", Reply(headers=FINAL)],
        ["url", Reply(body={"file": {}}, headers=FINAL)],
        ["url", Reply(body="garbage", headers=FINAL)],
        ["url", Reply(headers={"x-goog-upload-status": "active"})],
        ["url", Reply(headers={"x-goog-upload-status": "cancelled"})],
        ["url", Reply(hang_up=True)],
        ["url", Reply(503, headers=FINAL)],
    ],
)
def test_an_upload_that_does_not_end_well_is_unavailable(
    server: Server, gemini: Gemini, tmp_path: Path, replies: list[Reply | str]
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"{}\n")
    server.answers(*(upload_url(server) if isinstance(reply, str) else reply for reply in replies))
    with pytest.raises(Unavailable, match="uploading codechunk-in"):
        gemini.upload(path, display_name="codechunk-in")


def test_files_are_found_by_their_display_name_on_every_page(server: Server, gemini: Gemini) -> None:
    other, odd = {**FILE, "displayName": "other"}, {**FILE, "state": "STATE_OF_2027", "name": "files/odd"}
    server.answers(Reply(body={"files": [other, FILE], "nextPageToken": "p2="}), Reply(body={"files": [odd]}))
    found = gemini.files_named("codechunk-in")
    assert [(file.name, file.active) for file in found] == [(FILE["name"], True), ("files/odd", False)]
    assert "pageToken=p2%3D" in server.requests[1].path


def test_deleting_a_file_is_fine_when_it_is_gone_or_is_a_result(server: Server, gemini: Gemini) -> None:
    gone = refusal(403, "PERMISSION_DENIED", "You do not have permission to access the File x or it may not exist.")
    too_long = refusal(400, "INVALID_ARGUMENT", "File ID cannot be more than 40 characters.")
    server.answers(Reply(), gone, refusal(404, "NOT_FOUND"), too_long, too_long)
    for _ in range(3):
        gemini.delete_file("files/abc")
    gemini.delete_file("files/batch-" + "a" * 36)
    with pytest.raises(Rejected):
        gemini.delete_file("files/abc")
    assert {request.method for request in server.requests} == {"DELETE"}


def test_a_download_is_there_whole(server: Server, gemini: Gemini, tmp_path: Path) -> None:
    server.answers(Reply(body=b"line\n" * 500_000))
    gemini.download("files/batch-xyz", tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == b"line\n" * 500_000
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    assert server.requests[0].path.endswith("/files/batch-xyz:download?alt=media")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(body=b"line\n" * 500_000, cut=1), Unavailable),
        (Reply(body=b"line\n" * 500_000, cut=2_000_000), Unavailable),
        (Reply(hang_up=True), Unavailable),
        (refusal(503, "UNAVAILABLE"), Unavailable),
        (refusal(404, "NOT_FOUND"), Missing),
        (refusal(429, "RESOURCE_EXHAUSTED"), RateLimited),
    ],
)
def test_a_download_that_fails_leaves_nothing(
    server: Server, gemini: Gemini, tmp_path: Path, reply: Reply, expected: type[ProviderError]
) -> None:
    server.answers(reply)
    (tmp_path / "out.jsonl.999-1.part").write_text("left by a killed process")
    with pytest.raises(expected, match="downloading files/batch-xyz"):
        gemini.download("files/batch-xyz", tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_download_keeps_what_was_there(server: Server, gemini: Gemini, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("whole")
    server.answers(Reply(body=b"line\n" * 100, cut=7))
    with pytest.raises(Unavailable):
        gemini.download("files/batch-xyz", target)
    assert target.read_text() == "whole"


def test_a_result_that_cannot_be_written_is_told_as_what_it_is(server: Server, gemini: Gemini, tmp_path: Path) -> None:
    server.answers(Reply(body=b"line\n"))
    with pytest.raises(CodechunkError, match=r"cannot be saved at .*No such file.*next run") as caught:
        gemini.download("files/batch-xyz", tmp_path / "nowhere" / "out.jsonl")
    assert not isinstance(caught.value, ProviderError)


# ---------------------------------------------------------------------- batch jobs

OPERATION: dict[str, Any] = {
    "name": JOB,
    "metadata": {
        "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.EmbedContentBatch",
        "model": "models/gemini-embedding-001",
        "displayName": "codechunk/1",
        "createTime": "2025-08-30T00:46:33.378015678Z",
        "batchStats": {"requestCount": "3", "successfulRequestCount": "2", "failedRequestCount": "1"},
        "output": {"responsesFile": "files/batch-abc123"},
        "state": "BATCH_STATE_SUCCEEDED",
        "name": JOB,
    },
    "done": True,
    "response": {"responsesFile": "files/batch-abc123"},
}


def operation(**metadata: Any) -> dict[str, Any]:
    """A job that is under way, with these fields of its metadata."""
    kept = {name: value for name, value in OPERATION["metadata"].items() if name not in {"output", "state"}}
    return {"name": JOB, "metadata": {**kept, **metadata}}


def test_a_job_is_read_with_all_that_the_sdk_drops(server: Server, gemini: Gemini) -> None:
    server.answers(Reply(body=OPERATION, headers={"Date": "Sat, 30 Aug 2025 00:47:33 GMT"}))
    job = gemini.batch(JOB)
    assert (job.name, job.display_name, job.model) == (JOB, "codechunk/1", "gemini-embedding-001")
    assert (job.state, job.state_name, job.ended) == ("succeeded", "BATCH_STATE_SUCCEEDED", True)
    assert (job.rows, job.rows_succeeded, job.rows_failed) == (3, 2, 1)
    assert (job.result_file, job.error) == ("files/batch-abc123", None)
    assert job.created_at == pytest.approx(1756514793.378015)
    assert job.age_s == pytest.approx(59.622, abs=0.001)


@pytest.mark.parametrize(
    ("body", "state", "error"),
    [
        (operation(state="BATCH_STATE_PENDING"), "pending", None),
        (operation(state="BATCH_STATE_RUNNING"), "running", None),
        (operation(state="JOB_STATE_PARTIALLY_SUCCEEDED"), "partially_succeeded", None),
        (operation(state="BATCH_STATE_EXPIRED"), "expired", None),
        (operation(state="BATCH_STATE_DREAMING"), "unknown", None),
        ({**operation(state="BATCH_STATE_DREAMING"), "done": True}, "unknown", None),
        (operation(), "unknown", None),
        (operation(state="BATCH_STATE_UNSPECIFIED"), "unknown", None),
        ({**operation(), "done": True}, "succeeded", None),
        ({**operation(), "done": True, "error": {"code": 1, "message": "gone"}}, "cancelled", "gone (code 1)"),
        (
            {
                **operation(state="BATCH_STATE_FAILED"),
                "done": True,
                "error": {"code": 13, "message": "broke", "details": [{"@type": "x", "deep": [1]}]},
            },
            "failed",
            "broke (code 13)",
        ),
        ({**operation(state="BATCH_STATE_RUNNING"), "error": {"code": 13}}, "failed", "no reason given (code 13)"),
        ({"name": JOB}, "unknown", None),
    ],
)
def test_every_state_and_error_of_a_job_is_told(
    server: Server, gemini: Gemini, body: dict[str, Any], state: str, error: str | None
) -> None:
    server.answers(Reply(body=body))
    job = gemini.batch(JOB)
    assert (job.state, job.error) == (state, error)
    assert job.age_s is None, "no Date, no age"


def test_counts_that_are_zero_are_left_out_on_the_wire(server: Server, gemini: Gemini) -> None:
    server.answers(Reply(body=operation(batchStats={"requestCount": "3", "pendingRequestCount": "3"})))
    job = gemini.batch(JOB)
    assert (job.rows, job.rows_succeeded, job.rows_failed) == (3, 0, 0)
    server.answers(Reply(body={"name": JOB}))
    assert gemini.batch(JOB).rows is None


@pytest.mark.parametrize(
    "body",
    [
        "",
        "garbage",
        "[]",
        "null",
        "{}",
        {"name": 7},
        {"name": JOB, "metadata": []},
        {"name": JOB, "metadata": {"state": 3}},
        {"name": JOB, "metadata": {"batchStats": {"requestCount": "many"}}},
        "[" * 100_000,
    ],
)
def test_a_job_that_cannot_be_read_is_unavailable(server: Server, gemini: Gemini, body: str | dict[str, Any]) -> None:
    server.answers(Reply(body=body))
    with pytest.raises(Unavailable, match="cannot be used"):
        gemini.batch(JOB)
    with pytest.raises(Unavailable, match="cannot be used") as caught:
        gemini.create_batch("files/in", display_name="x")
    assert caught.value.sent, "the job may have been made"


def test_a_job_is_created_from_a_file_with_name_and_priority(
    server: Server, gemini: Gemini, recwarn: pytest.WarningsRecorder
) -> None:
    server.answers(Reply(body=operation(state="BATCH_STATE_PENDING")))
    assert gemini.create_batch("files/in", display_name="codechunk/1").state == "pending"
    gemini.create_batch("files/in", display_name="codechunk/1", priority=-5)
    plain, urgent = server.requests
    expected = {"displayName": "codechunk/1", "inputConfig": {"fileName": "files/in"}}
    assert plain.json == {"batch": expected}
    assert urgent.json == {"batch": {**expected, "priority": "-5"}}
    assert plain.path.endswith("/models/gemini-embedding-001:asyncBatchEmbedContent")
    assert not recwarn.list


def test_jobs_are_listed_over_all_pages(server: Server, gemini: Gemini) -> None:
    pages = [[operation() | {"name": f"batches/{page}{n}"} for n in range(3)] for page in "abc"]
    server.answers(
        Reply(body={"operations": pages[0], "nextPageToken": "NA=="}),
        Reply(body={"operations": pages[1], "nextPageToken": "x"}),
        Reply(body={"operations": pages[2]}),
    )
    names = [job.name for job in gemini.batches()]
    assert names == [f"batches/{page}{n}" for page in "abc" for n in range(3)]
    server.answers(Reply(body={}))
    assert list(gemini.batches()) == []


@pytest.mark.parametrize(
    "replies",
    [
        [Reply(body="")],
        [Reply(body={"operations": {"a": 1}})],
        [Reply(body={"operations": ["a"]})],
        [Reply(body={"nextPageToken": "x"})],
        [Reply(body={"nextPageToken": 7})],
        [Reply(body={"nextPageToken": "x"}), refusal(503, "UNAVAILABLE")],
    ],
)
def test_a_list_that_is_not_whole_never_passes_for_a_short_one(
    server: Server, gemini: Gemini, replies: list[Reply]
) -> None:
    server.answers(*replies)
    with pytest.raises(Unavailable, match="listing batch jobs"):
        list(gemini.batches())


def test_cancelling_what_has_ended_is_fine(server: Server, gemini: Gemini) -> None:
    server.answers(Reply(), refusal(400, "FAILED_PRECONDITION", "ended"), refusal(400, "INVALID_ARGUMENT", "no"))
    gemini.cancel_batch(JOB)
    gemini.cancel_batch(JOB)
    with pytest.raises(Rejected):
        gemini.cancel_batch(JOB)
    assert (server.requests[0].path.rpartition("/")[2], server.requests[0].body) == ("abc123:cancel", b"")
    server.answers(refusal(404, "NOT_FOUND"))
    with pytest.raises(Missing):
        gemini.cancel_batch(JOB)
    gemini.delete_batch(JOB)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "abc",
        "files/abc",
        "batches/",
        "batches/..",
        "batches/a/b",
        "batches/a?x=1",
        "batches/../models",
        "batches/a\n",
    ],
)
def test_what_is_no_name_of_a_job_is_never_sent(server: Server, gemini: Gemini, name: str) -> None:
    for call in (gemini.batch, gemini.cancel_batch, gemini.delete_batch):
        with pytest.raises(Rejected, match="not a name"):
            call(name)
    assert server.requests == []


def test_words_of_the_provider_about_a_job_can_be_stored() -> None:
    operation = {"name": "batches/1", "done": True, "metadata": {"displayName": "a\udc00b"}}
    job = remote_job({**operation, "error": {"code": 13, "message": "half of a pair: \ud800, a zero: \0"}}, {})
    assert "half of a pair: ?, a zero: " in str(job.error)
    assert job.display_name == "a?b"
    assert str(job.error).isprintable()
