"""The emulator behaves as the wire page says, seen through the real SDK, and its ledger tells what was really sold."""

import base64
import hashlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from emulator.driving import DIMENSIONS, ONE, TWO, client_of, line, raw, refusal, submit, upload, vectors_in
from gemini_emulator import GeminiEmulator, is_normalised, tokens_of, vector_of
from google import genai
from google.genai import errors, types
from waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore::google.genai._common.ExperimentalWarning")


@pytest.fixture
def emulator() -> Iterator[GeminiEmulator]:
    with GeminiEmulator() as running:
        yield running


@pytest.fixture
def client(emulator: GeminiEmulator) -> Iterator[genai.Client]:
    with client_of(emulator) as made:
        yield made


# ---- vectors ----


@pytest.mark.parametrize("model", [ONE, TWO])
@pytest.mark.parametrize("dimensions", [1, 128, 131, 768, 3072])
def test_a_vector_has_its_dimensions_and_length_one_only_where_the_model_normalises(
    model: str, dimensions: int
) -> None:
    norms = []
    for number in range(20):
        vector = vector_of(f"text {number}", dimensions, model)
        assert len(vector) == dimensions
        norms.append(math.sqrt(sum(value * value for value in vector)))
    if is_normalised(dimensions, model):
        assert norms == pytest.approx([1.0] * 20, abs=1e-6)
    else:
        assert all(0.69 < norm < 1.31 and abs(norm - 1) > 0.05 for norm in norms)
        assert max(norms) - min(norms) > 0.2


def test_vectors_of_different_texts_are_far_apart_and_of_equal_texts_equal() -> None:
    a, b = vector_of("a", 768, TWO), vector_of("b", 768, TWO)
    assert a == vector_of("a", 768, TWO) == vector_of("a", 768, f"models/{TWO}")
    assert abs(sum(x * y for x, y in zip(a, b, strict=True))) < 0.2


# ---- direct ----


def test_three_texts_give_three_vectors_in_order_and_are_booked(emulator: GeminiEmulator, client: genai.Client) -> None:
    texts = ["one", "two", "one"]
    reply = client.models.embed_content(model=ONE, contents=list(texts), config={"output_dimensionality": DIMENSIONS})
    assert reply.embeddings
    assert [item.values for item in reply.embeddings] == [vector_of(text, DIMENSIONS) for text in texts]
    assert emulator.paid == {"one": 2, "two": 1}
    assert emulator.paid_by["one"] == ["direct", "direct"]
    assert emulator.requests == {"embed": 1}


def test_model_2_makes_one_vector_of_a_list_of_strings_and_three_of_three_contents(client: genai.Client) -> None:
    collapsed = client.models.embed_content(model=TWO, contents=["a", "b", "c"])
    contents: list[types.ContentUnion] = [types.Content(parts=[types.Part(text=text)]) for text in "abc"]
    whole = client.models.embed_content(model=TWO, contents=contents)
    assert len(collapsed.embeddings or []) == 1
    assert len(whole.embeddings or []) == 3


def test_usage_counts_the_tokens(emulator: GeminiEmulator) -> None:
    body = {"requests": [{"model": f"models/{ONE}", "content": {"parts": [{"text": "x" * 36}]}}]}
    reply = raw(emulator, f"v1beta/models/{ONE}:batchEmbedContents", body)
    assert reply["usageMetadata"]["promptTokenCount"] == tokens_of("x" * 36) == 10
    one = raw(emulator, f"v1/models/{ONE}:embedContent", {"content": {"parts": [{"text": "y"}]}})
    assert one["embedding"]["values"] == vector_of("y", 3072)


def test_101_texts_in_one_call_are_refused(emulator: GeminiEmulator, client: genai.Client) -> None:
    with pytest.raises(errors.ClientError, match="at most 100 requests can be in one batch") as caught:
        client.models.embed_content(model=ONE, contents=["x"] * 101)
    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")
    assert not emulator.paid


def test_a_poison_text_refuses_the_whole_call_without_naming_it(emulator: GeminiEmulator, client: genai.Client) -> None:
    emulator.faults.poison = {"arsenic"}
    with pytest.raises(errors.ClientError) as caught:
        client.models.embed_content(model=ONE, contents=["good", "old arsenic"])
    assert caught.value.code == 400
    assert "arsenic" not in str(caught.value)
    assert not emulator.paid


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"output_dimensionalty": 4}, "Unknown name"),
        ({"outputDimensionality": 4096}, "between 1 and 3072"),
        ({"taskType": "CODE"}, "task_type"),
        ({"title": "a.py"}, "title"),
        ({"content": {"parts": []}}, "contents is not specified"),
        ({"content": {"parts": [{"text": ""}]}}, "empty"),
        ({"content": {"parts": [{"text": "\ud800"}]}}, "surrogate"),
        ({"model": f"models/{TWO}"}, "model"),
        ({"embed_content_config": {}}, "Unknown name"),
    ],
)
def test_a_request_that_the_service_would_not_understand_is_refused(
    emulator: GeminiEmulator, fields: dict[str, Any], words: str
) -> None:
    request = {"content": {"parts": [{"text": "x"}]}, **fields}
    with pytest.raises(urllib.error.HTTPError) as caught:
        raw(emulator, f"v1/models/{ONE}:batchEmbedContents", {"requests": [request]})
    assert words in refusal(caught)["message"]
    assert not emulator.paid


def test_model_2_takes_no_task_and_an_unknown_model_is_404(client: genai.Client) -> None:
    with pytest.raises(errors.ClientError, match="task_type"):
        client.models.embed_content(model=TWO, contents="x", config={"task_type": "RETRIEVAL_DOCUMENT"})
    with pytest.raises(errors.ClientError) as caught:
        client.models.embed_content(model="gemini-embedding-3", contents="x")
    assert caught.value.code == 404


def test_tokens_are_counted_over_all_parts(client: genai.Client) -> None:
    assert client.models.count_tokens(model=ONE, contents=["x" * 36, "y" * 36]).total_tokens == 20


def test_16_threads_on_one_client_get_their_own_vectors(emulator: GeminiEmulator, client: genai.Client) -> None:
    def embed(number: int) -> bool:
        reply = client.models.embed_content(model=ONE, contents=f"text {number}")
        return [item.values for item in reply.embeddings or []] == [vector_of(f"text {number}", 3072)]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(embed, range(256)))
    assert emulator.requests["embed"] == 256
    assert set(emulator.paid.values()) == {1}


# ---- keys and quotas ----


def test_a_wrong_key_is_a_400_with_its_reason_and_no_key_a_403(emulator: GeminiEmulator) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        raw(emulator, "v1/batches", key="wrong")
    found = refusal(caught)
    assert (found["code"], found["status"]) == (400, "INVALID_ARGUMENT")
    assert found["message"] == "API key not valid. Please pass a valid API key."
    assert found["details"][0]["reason"] == "API_KEY_INVALID"
    with pytest.raises(urllib.error.HTTPError) as caught:
        raw(emulator, "v1/batches", key="")
    assert refusal(caught)["status"] == "PERMISSION_DENIED"


def test_deny_refuses_everything_and_an_exhausted_quota_what_costs(
    emulator: GeminiEmulator, client: genai.Client
) -> None:
    emulator.faults.quota_exhausted = True
    assert list(client.files.list()) == []
    with pytest.raises(errors.ClientError) as caught:
        client.models.embed_content(model=ONE, contents="x")
    assert caught.value.code == 429
    assert "RetryInfo" not in json.dumps(caught.value.details)
    emulator.faults.deny = True
    with pytest.raises(errors.ClientError) as caught:
        list(client.files.list())
    assert caught.value.code == 403


def test_a_quota_per_minute_counts_texts_and_says_when_to_come_again(
    emulator: GeminiEmulator, client: genai.Client
) -> None:
    emulator.faults.items_per_minute = 3
    client.models.embed_content(model=ONE, contents=["a", "b"])
    with pytest.raises(errors.ClientError) as caught:
        client.models.embed_content(model=ONE, contents=["c", "d"])
    delay = float(caught.value.details["error"]["details"][-1]["retryDelay"].removesuffix("s"))
    assert 0 < delay <= 60
    emulator.faults.minute_s = 0.001
    client.models.embed_content(model=ONE, contents=["c", "d"])


# ---- files ----


def test_an_upload_is_described_as_the_service_does(
    emulator: GeminiEmulator, client: genai.Client, tmp_path: Path
) -> None:
    file = upload(client, tmp_path / "in.jsonl", [line("k", "text")], name="codechunk/x")
    found = raw(emulator, f"v1beta/{file.name}")
    data = (tmp_path / "in.jsonl").read_bytes()
    assert base64.b64decode(found["sha256Hash"]).decode() == hashlib.sha256(data).hexdigest()
    assert found["sizeBytes"] == str(len(data))
    assert (found["state"], found["source"], found["displayName"]) == ("ACTIVE", "UPLOADED", "codechunk/x")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", found["createTime"])
    assert file.create_time
    assert file.expiration_time
    assert (file.expiration_time - file.create_time).total_seconds() == pytest.approx(48 * 3600, abs=1)
    assert [listed.name for listed in client.files.list()] == [file.name]
    with pytest.raises(errors.ClientError, match="cannot be downloaded"):
        client.files.download(file=str(file.name))


def test_18_mib_come_in_three_chunks_without_a_key(
    emulator: GeminiEmulator, client: genai.Client, tmp_path: Path
) -> None:
    path = tmp_path / "big"
    path.write_bytes(os.urandom(18 * 1024**2))
    file = client.files.upload(file=path, config={"mime_type": "application/jsonl"})
    chunks = [seen for seen in emulator.seen if seen.kind == "upload_chunk"]
    assert [chunk.headers["x-goog-upload-command"] for chunk in chunks] == ["upload", "upload", "upload, finalize"]
    assert not any("x-goog-api-key" in chunk.headers for chunk in chunks)
    assert base64.b64decode(file.sha256_hash or "").decode() == hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_empty_file_can_be_uploaded(client: genai.Client, tmp_path: Path) -> None:
    assert upload(client, tmp_path / "empty", []).state == types.FileState.ACTIVE


@pytest.mark.parametrize("fault", ["unavailable", "unavailable_after"])
def test_a_chunk_sent_again_after_503_is_stored_once(
    emulator: GeminiEmulator, client: genai.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr("google.genai._api_client.time.sleep", lambda seconds: None)
    emulator.fail_next("upload_chunk", fault, times=2)
    path = tmp_path / "big"
    path.write_bytes(os.urandom(9 * 1024**2))
    file = client.files.upload(file=path, config={"mime_type": "application/jsonl"})
    assert emulator.requests["upload_chunk"] == 4
    assert file.size_bytes == 9 * 1024**2
    assert base64.b64decode(file.sha256_hash or "").decode() == hashlib.sha256(path.read_bytes()).hexdigest()


def test_final_without_a_file_is_a_key_error_in_the_sdk_although_the_file_exists(
    emulator: GeminiEmulator, client: genai.Client, tmp_path: Path
) -> None:
    emulator.fail_next("upload_chunk", "no_file")
    with pytest.raises(KeyError, match="file"):
        upload(client, tmp_path / "in", [line("k", "x")], name="there")
    assert [file.display_name for file in client.files.list()] == ["there"]


def test_a_path_prefix_is_kept_for_calls_and_uploads(emulator: GeminiEmulator, tmp_path: Path) -> None:
    options = types.HttpOptions(base_url=f"{emulator.url}/proxy/x", api_version="v1beta")
    with genai.Client(api_key=emulator.key, http_options=options) as client:
        assert upload(client, tmp_path / "in", [line("k", "x")]).name
    assert emulator.seen[0].path == "/proxy/x/upload/v1beta/files"


def test_missing_and_expired_files_are_403_and_deleted_ones_gone(
    emulator: GeminiEmulator, client: genai.Client, tmp_path: Path
) -> None:
    first = upload(client, tmp_path / "in", [line("k", "x")])
    second = upload(client, tmp_path / "in", [line("k", "x")])
    client.files.delete(name=str(first.name))
    with pytest.raises(errors.ClientError, match="or it may not exist") as caught:
        client.files.get(name=str(first.name))
    assert caught.value.code == 403
    emulator.expire_files()
    with pytest.raises(errors.ClientError) as caught:
        client.batches.create_embeddings(model=ONE, src={"file_name": second.name})
    assert caught.value.code == 403
    assert emulator.files == {}


def test_files_expire_by_the_clock_of_the_service(
    emulator: GeminiEmulator, client: genai.Client, tmp_path: Path
) -> None:
    upload(client, tmp_path / "in", [line("k", "x")])
    emulator.faults.clock_offset_s = 48 * 3600 + 1
    assert list(client.files.list()) == []


# ---- jobs ----


def test_a_job_is_pending_then_running_then_delivers_every_row_by_key(
    emulator: GeminiEmulator, client: genai.Client, tmp_path: Path
) -> None:
    emulator.faults.job_seconds = 3600
    emulator.faults.poison = {"arsenic"}
    texts = ["a", "b", "arsenic", "d", "e"]
    name = submit(client, tmp_path, texts)
    states: list[str] = []
    for _ in range(3):
        job = client.batches.get(name=name)
        assert job.state
        states.append(job.state.value)
        emulator.jobs[name].started -= 2000
    assert states == ["JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_SUCCEEDED"]
    assert job.dest
    assert job.dest.file_name
    result = client.files.download(file=job.dest.file_name)
    assert vectors_in(result, texts) == {"a": 1, "b": 1, "d": 1, "e": 1} == emulator.paid
    rows = [json.loads(data) for data in result.splitlines()]
    assert [row["error"]["code"] for row in rows if "error" in row] == [3]
    good = next(row for row in rows if row["key"] == "k0")
    assert good["response"]["tokenCount"] == "1"
    assert emulator.paid_by["a"] == [name]


def test_a_live_and_an_ended_job_look_as_on_the_wire(
    emulator: GeminiEmulator, client: genai.Client, tmp_path: Path
) -> None:
    emulator.faults.stuck = True
    emulator.faults.poison = {"arsenic"}
    name = submit(client, tmp_path, ["a", "b", "arsenic"], name="codechunk/run")
    live = raw(emulator, f"v1beta/{name}")
    assert "done" not in live
    assert "response" not in live
    metadata = live["metadata"]
    assert metadata["batchStats"] == {"requestCount": "3", "pendingRequestCount": "3"}
    assert metadata["state"] == "BATCH_STATE_PENDING"
    assert metadata["displayName"] == "codechunk/run"
    assert "output" not in metadata
    assert "endTime" not in metadata
    emulator.finish(name)
    ended = raw(emulator, f"v1beta/{name}")
    output = ended["metadata"]["output"]["responsesFile"]
    assert ended["done"] is True
    assert output == ended["response"]["responsesFile"] == name.replace("batches/", "files/batch-")
    assert len(output.removeprefix("files/")) == 42
    stats = {"requestCount": "3", "successfulRequestCount": "2", "failedRequestCount": "1"}
    assert ended["metadata"]["batchStats"] == stats


def test_a_result_can_be_downloaded_both_ways_and_not_deleted(
    emulator: GeminiEmulator, client: genai.Client, tmp_path: Path
) -> None:
    name = submit(client, tmp_path, ["a"])
    emulator.finish()
    output = name.replace("batches/", "files/batch-")
    target = tmp_path / "out"
    client.files.download(file=output, destination=target)
    request = urllib.request.Request(
        f"{emulator.url}/download/v1beta/{output}:download?alt=media", headers={"x-goog-api-key": "test-key"}
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        assert reply.read() == target.read_bytes()
    with pytest.raises(errors.ClientError, match="cannot be more than 40 characters") as caught:
        client.files.delete(name=output)
    assert caught.value.code == 400
    assert client.files.get(name=output).source == types.FileSource.GENERATED
    emulator.expire_files(results=True)
    with pytest.raises(errors.ClientError) as caught:
        client.files.download(file=output)
    assert caught.value.code == 403


def test_inlined_requests_come_back_in_the_job_but_not_in_the_list(
    emulator: GeminiEmulator, client: genai.Client
) -> None:
    emulator.faults.poison = {"arsenic"}
    contents: list[types.ContentUnion] = [
        types.Content(parts=[types.Part(text=text)]) for text in ("a", "arsenic", "c")
    ]
    requests = types.EmbedContentBatch(
        contents=contents, config=types.EmbedContentConfig(output_dimensionality=DIMENSIONS)
    )
    made = client.batches.create_embeddings(model=ONE, src=types.EmbeddingsBatchJobSource(inlined_requests=requests))
    job = client.batches.get(name=str(made.name))
    assert job.dest
    assert job.dest.inlined_embed_content_responses
    items = job.dest.inlined_embed_content_responses
    assert [bool(item.error) for item in items] == [False, True, False]
    assert items[0].response
    assert items[0].response.embedding
    assert items[0].response.embedding.values == vector_of("a", DIMENSIONS)
    [listed] = client.batches.list()
    assert listed.dest is None or not listed.dest.inlined_embed_content_responses


def test_a_bad_line_refuses_the_whole_file_and_names_the_line(
    emulator: GeminiEmulator, client: genai.Client, tmp_path: Path
) -> None:
    for bad in ("{\n", line("k", "x", embed_content_config={}), '{"key": 7, "request": {}}\n', '{"id": "x"}\n'):
        file = upload(client, tmp_path / "in", [line("k0", "good"), bad])
        with pytest.raises(errors.ClientError, match="Error on line 2: ") as caught:
            client.batches.create_embeddings(model=ONE, src={"file_name": file.name})
        assert caught.value.code == 400
    assert emulator.jobs == {}


def test_both_spellings_of_fields_and_different_dimensions_in_one_file_are_taken(
    emulator: GeminiEmulator, client: genai.Client, tmp_path: Path
) -> None:
    snake = {"key": "s", "request": {"content": {"parts": [{"text": "s"}]}, "output_dimensionality": 3}}
    file = upload(client, tmp_path / "in", [json.dumps(snake) + "\n", line("k0", "c", taskType="RETRIEVAL_DOCUMENT")])
    body = {"batch": {"input_config": {"fileName": file.name}, "display_name": "x", "priority": "5"}}
    made = raw(emulator, f"v1/models/{ONE}:asyncBatchEmbedContent", body)
    emulator.finish()
    result = client.files.download(file=made["name"].replace("batches/", "files/batch-"))
    rows = {row["key"]: row["response"]["embedding"]["values"] for row in map(json.loads, result.splitlines())}
    assert rows == {"s": vector_of("s", 3), "k0": vector_of("c", DIMENSIONS)}
    assert emulator.jobs[made["name"]].priority == 5


@pytest.mark.parametrize(
    ("state", "code"),
    [("BATCH_STATE_FAILED", 13), ("BATCH_STATE_CANCELLED", 1), ("BATCH_STATE_EXPIRED", 4)],
)
def test_a_job_that_ends_badly_has_an_error_that_the_sdk_drops_and_sells_nothing(
    emulator: GeminiEmulator, client: genai.Client, tmp_path: Path, state: str, code: int
) -> None:
    name = submit(client, tmp_path, ["a", "b"])
    emulator.set_state(name, state)
    found = raw(emulator, f"v1/{name}")
    assert found["done"] is True
    assert found["error"]["code"] == code
    assert "response" not in found
    job = client.batches.get(name=name)
    assert job.done
    assert job.error is None
    assert job.dest is None
    assert not emulator.paid
    emulator.finish(name)
    assert not emulator.paid


def test_eleven_jobs_are_listed_newest_first_in_three_pages_of_four(
    emulator: GeminiEmulator, client: genai.Client, tmp_path: Path
) -> None:
    names = [submit(client, tmp_path, ["a"], name=f"job {number}") for number in range(11)]
    pager = client.batches.list(config={"page_size": 4})
    assert [job.name for job in pager] == names[::-1]
    assert emulator.requests["list_batches"] == 3
    emulator.faults.page_size_max = 2
    assert [job.name for job in client.batches.list(config={"page_size": 100})] == names[::-1]
    assert emulator.requests["list_batches"] == 3 + 6
    assert not emulator.paid  # to be listed does not end a job


def test_a_job_made_while_pages_are_read_shifts_nothing(
    emulator: GeminiEmulator, client: genai.Client, tmp_path: Path
) -> None:
    names = [submit(client, tmp_path, ["a"]) for _ in range(4)]
    first = raw(emulator, "v1/batches?pageSize=2")
    submit(client, tmp_path, ["late"])
    second = raw(emulator, f"v1/batches?pageSize=2&pageToken={urllib.parse.quote(first['nextPageToken'])}")
    listed = [job["name"] for job in first["operations"] + second["operations"]]
    assert listed == names[::-1]
    assert "nextPageToken" not in second


def test_cancel_once_then_not_again_and_a_deleted_job_is_404(
    emulator: GeminiEmulator, client: genai.Client, tmp_path: Path
) -> None:
    name = submit(client, tmp_path, ["a"])
    client.batches.cancel(name=name)
    with pytest.raises(errors.ClientError) as caught:
        client.batches.cancel(name=name)
    assert (caught.value.code, caught.value.status) == (400, "FAILED_PRECONDITION")
    assert client.batches.get(name=name).state == types.JobState.JOB_STATE_CANCELLED
    client.batches.delete(name=name)
    with pytest.raises(errors.ClientError) as caught:
        client.batches.get(name=name)
    assert caught.value.code == 404
    assert not emulator.paid


def test_a_cancel_may_be_ignored_and_a_deleted_live_job_goes_on_and_is_paid(
    emulator: GeminiEmulator, client: genai.Client, tmp_path: Path
) -> None:
    emulator.faults.cancel_ignored = True
    emulator.faults.job_seconds = 3600
    name = submit(client, tmp_path, ["a"])
    client.batches.cancel(name=name)
    assert [job.name for job in emulator.live_jobs()] == [name]
    client.batches.delete(name=name)
    assert list(client.batches.list()) == []
    assert [job.name for job in emulator.live_jobs()] == [name]
    emulator.faults.job_seconds = 0.001
    wait_until(lambda: emulator.live_jobs() == [], "the job that was cancelled in vain ended")
    assert emulator.paid == {"a": 1}


def test_a_stuck_job_never_ends_and_an_unknown_state_is_told(
    emulator: GeminiEmulator, client: genai.Client, tmp_path: Path
) -> None:
    emulator.faults.stuck = True
    name = submit(client, tmp_path, ["a"])
    assert not client.batches.get(name=name).done
    emulator.faults.stuck = False
    emulator.faults.unknown_state = "BATCH_STATE_DREAMING"
    assert raw(emulator, f"v1/{name}")["metadata"]["state"] == "BATCH_STATE_DREAMING"
    emulator.faults.unknown_state = None
    emulator.set_state(name, "BATCH_STATE_RUNNING")
    assert client.batches.get(name=name).state == types.JobState.JOB_STATE_RUNNING
    emulator.finish(name)
    assert client.batches.get(name=name).state == types.JobState.JOB_STATE_SUCCEEDED


def test_a_new_job_is_listed_late_but_known_by_name_at_once(
    emulator: GeminiEmulator, client: genai.Client, tmp_path: Path
) -> None:
    emulator.faults.list_lag_s = 1800
    emulator.faults.stuck = True
    name = submit(client, tmp_path, ["a"])
    assert list(client.batches.list()) == []
    assert client.batches.get(name=name).name == name
    created = raw(emulator, f"v1/{name}")["metadata"]["createTime"]
    emulator.make_older(name, 3600)
    assert [job.name for job in client.batches.list()] == [name]
    assert raw(emulator, f"v1/{name}")["metadata"]["createTime"] < created


def test_a_full_queue_is_429_without_a_time_until_a_job_ended(
    emulator: GeminiEmulator, client: genai.Client, tmp_path: Path
) -> None:
    emulator.faults.enqueued_token_cap = 30
    first = submit(client, tmp_path, ["x" * 72])
    with pytest.raises(errors.ClientError) as caught:
        submit(client, tmp_path, ["y" * 72])
    assert caught.value.code == 429
    types_of_details = [detail["@type"].rpartition(".")[2] for detail in caught.value.details["error"]["details"]]
    assert types_of_details == ["Help"]
    client.batches.get(name=first)
    submit(client, tmp_path, ["y" * 72])
    emulator.faults.active_job_cap = 1
    with pytest.raises(errors.ClientError) as caught:
        submit(client, tmp_path, ["z"])
    assert caught.value.code == 429


# ---- by hand and from other processes ----


def test_it_runs_by_hand_and_tells_its_ledger_to_other_processes() -> None:
    command = [sys.executable, str(Path(__file__).parent.parent / "helpers" / "gemini_emulator.py"), "--key", "k2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        printed = [process.stdout.readline() for _ in range(4)]
        url = printed[1].partition("CODECHUNK_EMBEDDING__BASE_URL=")[2].strip()
        assert printed[2] == "export CODECHUNK_GEMINI_API_KEY=k2\n"
        watchdog = threading.Timer(20, process.kill)
        watchdog.start()
        with genai.Client(api_key="k2", http_options=types.HttpOptions(base_url=url)) as client:
            client.models.embed_content(model=ONE, contents=["a", "a"])
            ask(url, "faults", {"poison": ["arsenic"], "next": [["embed", "unavailable"]]})
            with pytest.raises(errors.ServerError):
                client.models.embed_content(model=ONE, contents="b")
            with pytest.raises(errors.ClientError):
                client.models.embed_content(model=ONE, contents="arsenic")
        ledger = ask(url, "ledger")
        with pytest.raises(urllib.error.HTTPError) as caught:
            ask(url, "faults", {"no such": 1})
        assert "no such switches" in refusal(caught)["message"]
        process.send_signal(signal.SIGINT)
        rest, log = process.communicate(timeout=20)
        watchdog.cancel()
    assert ledger["paid"] == {"a": 2} == ledger["more_than_once"]
    assert ledger["requests"] == {"embed": 3}
    assert process.returncode == 0
    assert "texts sold 1, sold more than once 1" in rest
    assert log.count("embed ") == 3


def ask(url: str, name: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(f"{url}/__emulator__/{name}", data, timeout=10) as reply:
        return json.loads(reply.read())
