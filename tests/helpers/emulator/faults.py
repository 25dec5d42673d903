"""What may go wrong: the names of all faults, the switches, and who is hit next."""

import random
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

# Faults of one request. "Effect" is what the request was for: a job made, a file stored, a vector sold.
# fmt: off
REQUEST_FAULTS = {
    "lost_before": "the connection closes without a reply, nothing was done",
    "lost_after": "the connection closes without a reply, all was done",
    "hang_up": "the connection is reset within the headers of the reply, nothing was done",
    "rate_limited": "429 with RetryInfo",
    "quota_full": "429 with nothing but a Help detail",
    "unavailable": "503, nothing was done",
    "unavailable_after": "503, all was done",
    "internal_empty": "500 with an empty body",
    "bad_gateway": "502 with a page of HTML",
    "request_timeout": "408",
    "not_found": "404",
    "denied": "403",
    "garbage": "200, all was done, the body is not JSON",
    "empty_reply": "200, all was done, the body is empty",
    "stall": "all was done, the reply comes after stall_s seconds",
    "trickle": "all was done, the body comes in small pieces during trickle_s seconds",
    "cut": "the body ends early although Content-Length promised more",
    "no_file": "upload_chunk only: final, but the reply has no file",
    "bad_vectors": "embed only: NaN in a vector",
    "zero_vector": "embed only: a vector of zeros",
    "wrong_dimension": "embed only: one number too few",
    "wrong_count": "embed only: one vector too few",
}
# Faults of a job when it ends.
JOB_FAULTS = {
    "rows_shuffled": "rows in another order; all sold",
    "rows_dropped": "some rows are not there",
    "rows_duplicated": "some rows twice; sold once",
    "unknown_keys": "rows with keys nobody asked for are added",
    "keys_missing": "some rows have no key",
    "keys_swapped": "some rows answer under each other's key",
    "row_errors": "some rows have `error` (code 13 or 3) at the top",
    "row_errors_nested": "some rows have `error` under `response`",
    "all_rows_failed": "SUCCEEDED, every row an error",
    "truncated_line": "the last line ends in the middle",
    "blank_lines": "empty lines between the rows",
    "garbage_lines": "lines that are not JSON between the rows",
    "nan": "NaN in some vectors",
    "infinite": "Infinity in some vectors",
    "zero": "some vectors are zero",
    "wrong_dimension": "some vectors are one number short",
    "empty_vector": "some vectors have no numbers",
    "failed": "BATCH_STATE_FAILED with an error, no result",
    "expired": "BATCH_STATE_EXPIRED, no result",
    "cancelled": "BATCH_STATE_CANCELLED by the provider, no result",
    "partially_succeeded": "BATCH_STATE_PARTIALLY_SUCCEEDED with some of the rows",
    "vanished": "404 from now on",
    "no_result_file": "SUCCEEDED, but the result file is gone",
}
# fmt: on
# Checked before anything is done; the others let the request take effect first.
BEFORE = {
    "lost_before",
    "hang_up",
    "rate_limited",
    "quota_full",
    "unavailable",
    "internal_empty",
    "bad_gateway",
    "request_timeout",
    "not_found",
    "denied",
}  # fmt: skip
# After these the client does not know of an effect that took place.
LOST = {"lost_after", "unavailable_after", "garbage", "empty_reply"}
ENDINGS = {
    "failed": "BATCH_STATE_FAILED",
    "expired": "BATCH_STATE_EXPIRED",
    "cancelled": "BATCH_STATE_CANCELLED",
    "partially_succeeded": "BATCH_STATE_PARTIALLY_SUCCEEDED",
}
# Only for some requests.
_EMBED_ONLY = {"bad_vectors", "zero_vector", "wrong_dimension", "wrong_count"}
# Chance draws these only when `Faults.kinds` names them: a client cannot tell them from the truth, or must stop.
_ONLY_BY_NAME = {"not_found", "denied", "empty_reply", "quota_full", "keys_swapped"}
# A reply to an upload chunk without a status makes the SDK wait 1, 2 and 4 seconds; random faults are spared that.
_CHUNK_RANDOM = {"lost_before", "lost_after", "hang_up", "no_file", "stall"}
_DOWNLOAD_RANDOM_ONLY = {"cut", "trickle"}
JOB = "job"


def random_faults_of(kind: str) -> set[str]:
    """The faults that chance may choose for a request of this kind, or for a job that ends (kind "job")."""
    if kind == JOB:
        return set(JOB_FAULTS) - _ONLY_BY_NAME
    if kind == "upload_chunk":
        return set(_CHUNK_RANDOM)
    found = set(REQUEST_FAULTS) - _ONLY_BY_NAME - {"no_file"}
    if kind != "embed":
        found -= _EMBED_ONLY
    if kind == "download":
        return found - {"garbage"}
    return found - _DOWNLOAD_RANDOM_ONLY


@dataclass
class Shot:
    """One fault waiting for a request of its kind ("any": whichever comes); `skip` of them pass unharmed before."""

    kind: str
    fault: str
    skip: int = 0


@dataclass
class Faults:
    """The switches. All off by default; each may be changed while the emulator runs."""

    # Chance. `kinds`: the names to choose from (None: all that suit); `spare`: kinds of requests never hit.
    probability: float = 0.0
    kinds: set[str] | None = None
    spare: set[str] = field(default_factory=set)
    # The same for the ends of jobs; None: as `probability`.
    job_probability: float | None = None
    # Aimed: see GeminiEmulator.fail_next.
    next: list[Shot] = field(default_factory=list)
    retry_delay: str = "0.1s"
    stall_s: float = 0.2
    trickle_s: float = 0.2
    # Which part of a job's rows a fault of rows hits; at least one.
    row_share: float = 0.2
    # Whole texts are looked for these; what has one is rejected.
    poison: set[str] = field(default_factory=set)
    # What happens to a text longer than the model reads; the real service's answer is not known.
    reject_overlong: bool = False
    # Time. A job is PENDING, then RUNNING, for this long; 0: it ends when it is first asked for by name.
    job_seconds: float = 0.0
    stuck: bool = False
    list_lag_s: float = 0.0
    clock_offset_s: float = 0.0
    # Limits.
    enqueued_token_cap: int | None = None
    active_job_cap: int | None = None
    items_per_minute: int | None = None
    minute_s: float = 60.0
    page_size_max: int | None = None
    quota_exhausted: bool = False
    deny: bool = False
    # Moods.
    unknown_state: str | None = None
    cancel_ignored: bool = False
    late_rows_key_swap: bool = False
    # What creating a job from a missing file answers: 400, 403 or 404; the real one is not known.
    missing_input_status: int = 403


class Chance:
    """Draws faults, from one seeded generator; may be asked by many threads."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._lock = threading.Lock()

    def draw(self, faults: Faults, kind: str) -> str | None:
        """The fault for this request or ending job: an aimed one first, else one by chance, else None."""
        with self._lock:
            for shot in list(faults.next):
                if shot.kind not in (kind, "any") or (shot.kind == "any" and kind == JOB):
                    continue
                if shot.skip > 0:
                    shot.skip -= 1
                    continue
                faults.next.remove(shot)
                return shot.fault
            probability = faults.probability
            if kind == JOB and faults.job_probability is not None:
                probability = faults.job_probability
            if probability <= 0 or kind in faults.spare or self.random.random() >= probability:
                return None
            suitable = random_faults_of(kind)
            if faults.kinds is not None:
                suitable = faults.kinds & (suitable | {name for name in _ONLY_BY_NAME if known(kind, name)})
            return self.random.choice(sorted(suitable)) if suitable else None

    def some(self, places: Iterable[int], share: float) -> set[int]:
        """A random part of the places, at least one when there is any."""
        among = list(places)
        with self._lock:
            return set(self.random.sample(among, min(len(among), max(1, round(len(among) * share)))))

    def shuffled(self, places: Iterable[int]) -> list[int]:
        """The places in another order."""
        among = list(places)
        with self._lock:
            self.random.shuffle(among)
        return among


def known(kind: str, fault: str) -> bool:
    """Whether there is such a fault for this kind of request (or "job")."""
    return fault in (JOB_FAULTS if kind == JOB else REQUEST_FAULTS)
