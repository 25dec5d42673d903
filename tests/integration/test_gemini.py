"""The Gemini edge and its texts, against a server that answers as it is told: each trap of the SDK and of the wire.

Files and batch jobs are in test_gemini_batches.py; whole journeys through the emulator in test_gemini_contract.py.
"""

import re
import socket
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from scripted_server import KEY, Reply, Server, gemini_at, refusal
from waiting import HOURS_S

from codechunk.errors import Denied, Missing, ProviderError, RateLimited, Rejected, Unavailable
from codechunk.process.log import mask_secrets
from codechunk.providers.gemini.client import Gemini
from codechunk.providers.gemini.form import Form

JOB = "batches/abc123"


def embeddings(*vectors: list[float], **more: Any) -> Reply:
    return Reply(body={"embeddings": [{"values": vector} for vector in vectors], **more})


# ---------------------------------------------------------------------- texts


@pytest.mark.parametrize("model", ["gemini-embedding-001", "gemini-embedding-2"])
def test_every_text_is_a_request_of_its_own_with_every_model(server: Server, model: str) -> None:
    server.answers(embeddings([1, 0, 0], [0, 2, 0], [0, 0, 3], usageMetadata={"promptTokenCount": 17}))
    with gemini_at(server.url, model=model) as gemini:
        made = gemini.embed(["a", "b", "c"])
    assert made.tokens == 17
    assert made.vectors.dtype == np.float32
    assert made.vectors.tolist() == np.eye(3).tolist()
    form = Form(model, 3)
    sent = server.requests[0].json["requests"]
    assert sent == [{**form.request(text), "model": f"models/{model}"} for text in "abc"]
    assert server.requests[0].path.endswith(f"/models/{model}:batchEmbedContents")


def test_the_query_is_sent_in_the_form_of_queries(server: Server, gemini: Gemini) -> None:
    server.answers(embeddings([0, 0, 7]))
    assert gemini.embed_query("where?").tolist() == [0, 0, 1]
    assert server.requests[0].json["requests"][0]["taskType"] == "CODE_RETRIEVAL_QUERY"


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (embeddings([1, 0, 0]), "1 vectors instead of 2"),
        (embeddings(), "0 vectors instead of 2"),
        (Reply(), "0 vectors instead of 2"),
        (Reply(body=""), "0 vectors instead of 2"),
        (embeddings([1, 0, 0], [1, 0]), "vector 2 of 2 .* 2 values instead of 3"),
        (embeddings([1, 0, 0], [0, 0, 0]), "vector 2 of 2 .* zero"),
        (embeddings([float("nan"), 0, 0], [1, 0, 0]), "vector 1 of 2 .* finite"),
        (Reply(body={"embeddings": [{"values": [1, 0, 0]}, {}]}), "vector 2 of 2 .* 0 values"),
        (Reply(body="<html>Welcome to the hotel's WiFi</html>"), "JSONDecodeError"),
        (Reply(body="[]"), "cannot be used"),
        (Reply(body="null"), "cannot be used"),
        (Reply(body="7"), "cannot be used"),
        (Reply(body='{"embeddings": 7}'), "cannot be used"),
        (Reply(body='{"embeddings": [{"values": {"a": "b"}}]}'), "cannot be used"),
        (Reply(body=b"\xff\xfe\x00"), "cannot be used"),
    ],
)
def test_an_answer_that_is_not_what_was_asked_for_may_be_asked_again(
    server: Server, gemini: Gemini, reply: Reply, why: str
) -> None:
    server.answers(reply)
    with pytest.raises(Unavailable, match=why) as caught:
        gemini.embed(["a", "b"])
    assert caught.value.sent
    assert len(server.requests) == 1


def test_more_than_a_hundred_texts_are_a_bug_of_the_caller(gemini: Gemini) -> None:
    for count in (0, 101):
        with pytest.raises(ValueError, match="1 to 100"):
            gemini.embed(["a"] * count)


def test_tokens_are_counted_of_what_would_be_sent(server: Server) -> None:
    server.answers(Reply(body={"totalTokens": 9}), Reply())
    with gemini_at(server.url, model="gemini-embedding-2") as gemini:
        assert gemini.count_tokens("x") == 9
        with pytest.raises(Unavailable, match="no count"):
            gemini.count_tokens("x")
    assert server.requests[0].json["contents"][0]["parts"] == [{"text": "title: none | text: x"}]


def test_sixty_four_threads_share_one_client(server: Server, gemini: Gemini) -> None:
    server.answers(embeddings([1, 0, 0]))
    with ThreadPoolExecutor(64) as pool:
        made = list(pool.map(lambda number: gemini.embed([f"text {number}"]), range(640)))
    assert len(made) == len(server.requests) == 640


def test_a_closed_client_opens_again(server: Server, gemini: Gemini) -> None:
    server.answers(embeddings([1, 0, 0]))
    gemini.embed(["a"])
    gemini.close()
    gemini.close()
    gemini.embed(["a"])


# ---------------------------------------------------------------------- refusals

NO_FILE = "You do not have permission to access the File x or it may not exist."
KEY_INVALID = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
RETRY_INFO = [
    {"@type": "type.googleapis.com/google.rpc.Help", "links": []},
    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37.5s"},
]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (refusal(400, "INVALID_ARGUMENT", "bad text"), Rejected),
        (refusal(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", KEY_INVALID), Denied),
        (refusal(400, "INVALID_ARGUMENT", "API key expired. Please renew the API key."), Denied),
        (refusal(400, "FAILED_PRECONDITION", "User location is not supported for the API use."), Denied),
        (refusal(400, "FAILED_PRECONDITION", "The File x is not in an ACTIVE state."), Unavailable),
        (refusal(401, "UNAUTHENTICATED"), Denied),
        (refusal(403, "PERMISSION_DENIED"), Denied),
        (
            refusal(403, "PERMISSION_DENIED", "You do not have permission to access the File x or it may not exist."),
            Missing,
        ),
        (refusal(404, "NOT_FOUND"), Missing),
        (refusal(407, "PROXY"), Denied),
        (refusal(408, "TIMEOUT"), Unavailable),
        (refusal(413, "TOO_LARGE"), Rejected),
        (refusal(429, "RESOURCE_EXHAUSTED"), RateLimited),
        (refusal(499, "CANCELLED"), Unavailable),
        (Reply(500, ""), Unavailable),
        (Reply(502, "<html>Bad gateway</html>"), Unavailable),
        (refusal(503, "UNAVAILABLE"), Unavailable),
        (refusal(504, "DEADLINE_EXCEEDED"), Unavailable),
        (Reply(201, {"embeddings": []}), Unavailable),
        (Reply(400, '["what"]'), Rejected),
        (Reply(400, '{"error": "a text", "details": 7}'), Rejected),
        (Reply(400, '{"error": {"details": {"not": "a list"}, "message": 7}}'), Rejected),
    ],
)
def test_a_refusal_becomes_one_of_our_errors_after_one_request(
    server: Server, gemini: Gemini, reply: Reply, expected: type[ProviderError]
) -> None:
    server.answers(reply)
    for call in (lambda: gemini.embed(["a"]), lambda: gemini.batch(JOB), lambda: gemini.count_tokens("a")):
        server.requests.clear()
        with pytest.raises(ProviderError) as caught:
            call()
        assert type(caught.value) is expected
        assert len(server.requests) == 1, "a hidden retry"


@pytest.mark.parametrize(
    ("reply", "wait_s"),
    [
        (refusal(429, "RESOURCE_EXHAUSTED", details=RETRY_INFO), 37.5),
        (refusal(429, "RESOURCE_EXHAUSTED", details=RETRY_INFO, retry_after="3"), 37.5),
        (refusal(429, "RESOURCE_EXHAUSTED", details=RETRY_INFO[:1]), None),
        (refusal(429, "RESOURCE_EXHAUSTED", details=RETRY_INFO[:1], retry_after="12"), 12),
        (
            refusal(
                429,
                "RESOURCE_EXHAUSTED",
                date="Fri, 20 Nov 2026 10:00:00 GMT",
                retry_after="Fri, 20 Nov 2026 10:01:30 GMT",
            ),
            90,
        ),
        (refusal(429, "RESOURCE_EXHAUSTED", retry_after="soon"), None),
        (refusal(429, "RESOURCE_EXHAUSTED", details=["x", {"retryDelay": 7}, {"retryDelay": "-5s"}]), None),
        (Reply(429, "slow down"), None),
    ],
)
def test_the_wait_that_a_429_asks_for_is_understood(
    server: Server, gemini: Gemini, reply: Reply, wait_s: float | None
) -> None:
    server.answers(reply)
    with pytest.raises(RateLimited) as caught:
        gemini.embed(["a"])
    assert caught.value.retry_after_s == wait_s


def test_a_message_is_one_short_sentence_that_says_what_failed(server: Server, gemini: Gemini) -> None:
    server.answers(refusal(400, "INVALID_ARGUMENT", "first line\nsecond\tline " + "x" * 5_000))
    with pytest.raises(Rejected, match=r"embedding 2 texts.*400 INVALID_ARGUMENT: first line second line x") as caught:
        gemini.embed(["a", "b"])
    assert len(str(caught.value)) < 400
    server.answers(refusal(403, "PERMISSION_DENIED", "no"))
    with pytest.raises(Denied, match=r"refused the key .*403 PERMISSION_DENIED: no.*CODECHUNK_GEMINI_API_KEY"):
        gemini.embed(["a"])


# ---------------------------------------------------------------------- the network


def test_a_lost_reply_is_not_asked_for_again_by_itself(server: Server, gemini: Gemini) -> None:
    server.answers(Reply(hang_up=True))
    for call in (
        lambda: gemini.embed(["a"]),
        lambda: gemini.create_batch("files/in", display_name="x"),
    ):
        server.requests.clear()
        with pytest.raises(Unavailable, match="connection to Gemini broke") as caught:
            call()
        assert caught.value.sent, "it may have taken effect"
        assert len(server.requests) == 1


def test_a_refused_connection_was_surely_not_sent() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with gemini_at(url) as gemini, pytest.raises(Unavailable, match=r"cannot be reached at 127\.0\.0\.1") as caught:
            gemini.embed(["a"])
    assert not caught.value.sent


def test_silence_ends_after_the_timeout(server: Server) -> None:
    server.answers(Reply(stall_s=HOURS_S))
    with (
        gemini_at(server.url, timeout_s=0.3) as gemini,
        pytest.raises(Unavailable, match=r"did not answer in 0.3 s when embedding 1 text") as caught,
    ):
        gemini.embed(["a"])
    assert caught.value.sent
    assert server.requests[0].headers["x-server-timeout"] == "1"


def test_an_answer_that_trickles_ends_after_the_timeout_too(server: Server) -> None:
    server.answers(Reply(body="x" * 1000, trickle_s=0.2))
    with gemini_at(server.url, timeout_s=0.5) as gemini, pytest.raises(Unavailable, match=r"only \d bytes came"):
        gemini.embed(["a"])


def test_a_cut_answer_is_unavailable(server: Server, gemini: Gemini) -> None:
    server.answers(Reply(body=b'{"embeddings": []}' + b" " * 50, cut=40))
    with pytest.raises(Unavailable, match="broke"):
        gemini.embed(["a"])


def test_the_key_does_not_follow_a_redirect_to_another_address(server: Server, gemini: Gemini) -> None:
    other = Server()
    other.answers(Reply(body=b"rows\n"))
    server.answers(Reply(302, b"", {"Location": f"{other.url}/elsewhere"}))
    with pytest.raises(Unavailable):
        gemini.batch(JOB)
    other.close()
    assert server.requests[0].headers["x-goog-api-key"] == KEY
    assert "x-goog-api-key" not in other.requests[0].headers


# ---------------------------------------------------------------------- the key


def told_by(call: Callable[[], object]) -> str:
    """All that a person or a log could get to see of a call."""
    try:
        return repr(call())
    except ProviderError as exc:
        return f"{exc} {exc!r} " + mask_secrets("".join(traceback.format_exception(exc)))


def test_the_key_is_in_no_message_and_no_repr(server: Server, gemini: Gemini) -> None:
    assert KEY not in repr(gemini)
    echo = f"API key {KEY} is not known; x-goog-api-key: {KEY}"
    for reply in (
        refusal(400, "INVALID_ARGUMENT", echo),
        refusal(403, "PERMISSION_DENIED", echo),
        refusal(429, "RESOURCE_EXHAUSTED", echo),
        refusal(500, "INTERNAL", echo),
        Reply(502, echo),
        Reply(200, echo),
        Reply(200, {"name": JOB, "error": {"code": 13, "message": echo}}),
    ):
        server.answers(reply)
        for call in (lambda: gemini.embed(["a"]), lambda: gemini.batch(JOB), lambda: gemini.cancel_batch(JOB)):
            shown = told_by(call)
            assert KEY not in shown


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "schlüssel", "auth_tokens/x", "a\x00b"])
def test_what_cannot_be_a_key_is_refused_at_once_without_being_shown(key: str) -> None:
    with pytest.raises(Denied) as caught:
        Gemini(api_key=key, form=Form("gemini-embedding-001", 768))
    assert not key or key not in str(caught.value)


def test_the_environment_cannot_send_the_key_elsewhere(
    server: Server, gemini: Gemini, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "GOOGLE_GENAI_USE_VERTEXAI": "true",
        "GOOGLE_GENAI_USE_ENTERPRISE": "true",
        "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:9",
        "GOOGLE_API_KEY": "another-key",
        "GOOGLE_GENAI_HTTP_CLIENT": "httpx",
    }.items():
        monkeypatch.setenv(name, value)
    server.answers(embeddings([1, 0, 0]), Reply(hang_up=True))
    gemini.embed(["a"])
    assert server.requests[0].headers["x-goog-api-key"] == KEY
    with pytest.raises(Unavailable):
        gemini.embed(["a"])
    with Gemini(api_key=KEY, form=Form("gemini-embedding-001", 3)) as real:
        options = real._client()._api_client._http_options
        assert options.base_url == "https://generativelanguage.googleapis.com"


# ---------------------------------------------------------------------- the SDK itself


def test_the_private_request_of_the_sdk_is_as_we_use_it(server: Server, gemini: Gemini) -> None:
    """`_api_client.request(method, path, body, None)`: its answer has the raw body and the headers."""
    server.answers(Reply(body=b'{"kept": [1]}', headers={"X-Odd": "yes"}))
    reply = gemini._client()._api_client.request("get", "batches/abc", {}, None)
    assert reply.body == '{"kept": [1]}'
    assert {name.lower(): value for name, value in (reply.headers or {}).items()}["x-odd"] == "yes"
    assert re.fullmatch(r"/v\d\w*/batches/abc", server.requests[0].path)


def test_the_api_version_and_a_path_in_the_address_are_kept(server: Server) -> None:
    server.answers(Reply(body={"name": JOB}))
    with gemini_at(f"{server.url}/gateway/x", api_version="v1beta") as gemini:
        gemini.batch(JOB)
    assert server.requests[0].path == "/gateway/x/v1beta/batches/abc123"
