"""Files that are whole or not there, and of which nothing stays but themselves."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from tradier_pipeline.core import files
from tradier_pipeline.core.files import create_private, put_in_place, write_whole

WRITES = """
import os, signal, sys
from pathlib import Path
from tradier_pipeline.core import files

def stop(_):
    print("amid", flush=True)
    sys.stdin.readline()

files.os.fsync = stop
files.write_whole(Path(sys.argv[1]), b"of the child")
"""


def writing(path: Path) -> subprocess.Popen[str]:
    """A process that stands still amid writing a file."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "amid\n"
    return process


def test_what_a_killed_process_left_of_a_file_goes_with_the_next_one_and_what_a_living_one_writes_stays(
    tmp_path: Path,
) -> None:
    path = tmp_path / "sessions [1].json"
    with writing(path) as killed, writing(path) as living:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert len(list(tmp_path.iterdir())) == 2
        write_whole(path, b"of the next one")
        assert path.read_bytes() == b"of the next one"
        (left,) = (found for found in tmp_path.iterdir() if found != path)
        assert f"%20{living.pid}%20" in left.name
        living.kill()
        living.wait()
    write_whole(path, b"of the last one")
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("refused", [errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOSYS, None])
def test_a_copy_is_whole_whether_the_system_can_share_blocks_or_not(
    refused: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(refused, "not here")

    if refused is not None:
        monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    source, target = tmp_path / "published", tmp_path / "staged"
    source.write_bytes(os.urandom(300_000))
    create_private(target)
    files.copy(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_replaced_stays_its_readers_and_nothing_else_holds_it(tmp_path: Path) -> None:
    path, new = tmp_path / "published", tmp_path / "new"
    for body in (b"first", b"second"):  # the first takes no other's place
        new.write_bytes(body)
        put_in_place(new, path)
    new.write_bytes(b"third")
    with path.open("rb") as reader:
        replaced = os.fstat(reader.fileno()).st_ino
        put_in_place(new, path)
        assert (path.read_bytes(), reader.read(), new.exists()) == (b"third", b"second", False)
    for thread in threading.enumerate():
        if thread.name == "giving back published":
            thread.join()
    assert replaced not in open_inodes()


def open_inodes() -> Iterator[int]:
    for descriptor in Path("/dev/fd").iterdir():
        with suppress(OSError):
            yield os.fstat(int(descriptor.name)).st_ino


def test_what_keeps_a_copy_from_being_whole_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    (tmp_path / "published").write_bytes(b"1")
    with pytest.raises(OSError, match="full"):
        files.copy(tmp_path / "published", tmp_path / "staged")


@pytest.mark.parametrize("can", [True, False])
def test_where_the_system_clones_files_a_copy_is_a_clone(
    can: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clone_file(source: bytes, clone: bytes, _: int) -> int:
        assert not Path(os.fsdecode(clone)).exists()
        if can:
            shutil.copy(source, clone)
        return 0 if can else -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace(clonefile=clone_file))
    source, target = tmp_path / "published", tmp_path / "staged"
    source.write_bytes(b"rows")
    source.chmod(0o444)
    create_private(target)
    files.copy(source, target)
    assert target.read_bytes() == b"rows"
    assert target.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["published", "staged"]
