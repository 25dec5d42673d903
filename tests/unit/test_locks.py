"""Lock files: one holder alone or many readers, and free when the holder dies."""

import subprocess
import sys
from pathlib import Path

import pytest

from codechunk.errors import IndexBusy
from codechunk.process.locks import ANOTHER_PROCESS, THIS_PROCESS, FileLock, only_one, only_one_here

HOLD = (
    "import sys; from pathlib import Path; from codechunk.process.locks import FileLock;"
    "assert FileLock(Path(sys.argv[1])).take(); print('held', flush=True); sys.stdin.read()"
)


def test_what_one_object_holds_is_refused_to_the_others_until_it_is_given_back(tmp_path: Path) -> None:
    one, two = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert one.take()
    assert not two.take()
    one.release()
    one.release()
    assert two.take()
    assert not one.take()


def test_readers_share_and_shut_out_who_wants_it_alone(tmp_path: Path) -> None:
    readers = [FileLock(tmp_path / "lock", shared=True) for _ in range(2)]
    writer = FileLock(tmp_path / "lock")
    assert all(reader.take() for reader in readers)
    assert not writer.take()
    for reader in readers:
        reader.release()
    assert writer.take()
    assert not readers[0].take()


def test_a_lock_is_free_when_its_process_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        lock = FileLock(tmp_path / "lock")
        assert not lock.take(wait_s=0.05)
        process.kill()
        assert lock.take(wait_s=30)


def test_the_holder_writes_who_it_is_and_the_file_is_private(tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock") as lock:
        with pytest.raises(ValueError, match="not held"):
            lock.write("me")
        assert lock.take()
        lock.write("somebody with a long name")
        lock.write("me")
        assert (tmp_path / "lock").read_text() == "me"
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    assert FileLock(tmp_path / "lock").take()


def test_only_one_says_its_sentence_and_lets_go_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "name.lock"
    with pytest.raises(RuntimeError), only_one_here(path, "busy") as lock:
        assert lock.held()
        with pytest.raises(IndexBusy, match="busy"), only_one(FileLock(path), "busy"):
            pass
        raise RuntimeError
    assert not lock.held()
    with only_one_here(path, "busy"):
        pass


def test_who_holds_a_lock_is_this_process_or_another_one(tmp_path: Path) -> None:
    path, busy = tmp_path / "a {brace} \\ lock", f"demo {{}} is used by {ANOTHER_PROCESS}."
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(IndexBusy) as refused, only_one(FileLock(path), busy):
            pass
        assert str(refused.value) == busy
        other.kill()
    with (
        only_one(FileLock(path), busy),
        pytest.raises(IndexBusy) as refused,
        only_one(FileLock(path), busy),
    ):
        pass
    assert str(refused.value) == f"demo {{}} is used by {THIS_PROCESS}."
    assert FileLock(path).holder() == ANOTHER_PROCESS, "nobody of this process, any more"
