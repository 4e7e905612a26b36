"""Files that are whole or not there: written aside, fsynced, renamed; private to their owner; guarded by locks."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from io import BufferedReader
from pathlib import Path
from threading import Thread
from urllib.parse import quote, unquote
from uuid import uuid4

from filelock import FileLock, Timeout

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.processes import is_gone, name_of

PRIVATE_DIRECTORY, PRIVATE_FILE = 0o700, 0o600


class FileError(PipelineError):
    """A file of the home cannot be written: the disk is full, or it is not ours to write."""


class BusyError(PipelineError):
    """Another process has held a lock for too long."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into one line with a remedy."""
    try:
        yield
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}", _remedy_of(error)) from None


def _remedy_of(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space; nothing was half-written."
    if error.errno in (errno.EISDIR, errno.EEXIST, errno.ENOTDIR, errno.ENOTEMPTY):
        return "Something else is in the way: move that elsewhere, or set TRADIER_PIPELINE_HOME to another directory."
    return "Make TRADIER_PIPELINE_HOME a directory you may write to."


@contextmanager
def exclusive(path: Path, timeout: float, doing: str) -> Iterator[None]:
    """Hold a lock file, which names its holder. The system lets go of it when the holder dies.

    Args:
        timeout: seconds to wait for another holder.
        doing: what the holder does, as the beginning of a sentence: "account 6YA05708 is being read".

    Raises:
        BusyError: another process holds it for longer; names that process.
        FileError: the lock file cannot be written.
    """
    lock = FileLock(path, mode=PRIVATE_FILE)
    with writing(path):
        try:
            lock.acquire(timeout=timeout)
        except Timeout:  # an OSError, too
            holder = path.read_text(encoding="utf-8").strip() or "an unknown process"
            raise BusyError(f"{doing} by {holder}, for more than {timeout:.0f} s", "Wait for it, or end it.") from None
    try:
        with writing(path):
            path.write_text(f"process {os.getpid()}\n", encoding="utf-8")
        yield
    finally:
        lock.release()


def file_directory(directory: Path, files: Mapping[str, bytes]) -> None:
    """File a complete, fsynced directory by one rename. Call it while nobody else files beside it.

    Raises:
        FileError: it cannot be written, or is there already; nothing was filed.
    """
    with writing(directory), _partial(directory) as partial:
        for name, body in files.items():
            write_synced(partial / name, body)
        sync(partial)
        partial.rename(directory)
        sync(directory.parent)


def add_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Add fsynced files to a directory, each whole or not there, in their order. Call it while nobody else files beside
    it.

    Raises:
        FileError: one cannot be written; those before it are there.
    """
    with writing(directory), _partial(directory) as partial:
        make_directory(directory)
        for name, body in files.items():
            write_synced(partial / name, body)
            (partial / name).replace(directory / name)
        sync(directory)


@contextmanager
def _partial(directory: Path) -> Iterator[Path]:
    """A new directory beside one, to write aside; gone at the end. What a process that died left goes at the beginning:
    the lock says that none is alive.
    """
    make_directory(directory.parent)
    for leftover in directory.parent.glob(".*.tmp/"):
        shutil.rmtree(leftover, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", suffix=".tmp", dir=directory.parent))
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_whole(path: Path, body: bytes) -> None:
    """Write a small file that is there whole or not at all, whatever happens meanwhile and whoever else writes it.

    Raises:
        FileError: it cannot be written; the file is as it was.
    """
    with writing(path):
        make_directory(path.parent)
        _remove_leftovers(path)
        partial = path.with_name(f".{path.name}.{quote(name_of(os.getpid()), safe='')}.{uuid4().hex[:8]}.tmp")
        try:
            write_synced(partial, body)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        sync(path.parent)


def _remove_leftovers(path: Path) -> None:
    """What processes that died amid writing a file left beside it: their names are in those of what they left."""
    for leftover in path.parent.glob(f".{escape(path.name)}.*.tmp"):
        owner, _, _ = leftover.name.removeprefix(f".{path.name}.").removesuffix(".tmp").rpartition(".")
        if is_gone(unquote(owner)):
            leftover.unlink(missing_ok=True)


def write_synced(path: Path, body: bytes) -> None:
    create_private(path)
    with path.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


def make_directory(path: Path) -> None:
    """Create a directory and its parents, their owner's alone, so that they outlive a power failure."""
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(PRIVATE_DIRECTORY, exist_ok=True)
        sync(path.parent)


def create_private(path: Path) -> None:
    """Create an empty file that is its owner's alone; one that is there stays as it is."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, PRIVATE_FILE))


def copy(source: Path, target: Path) -> None:
    """Copy a file; one that is there keeps its mode. A file system that can share blocks copies none of them."""
    if _cloned(source, target):
        return
    if not hasattr(os, "copy_file_range"):
        shutil.copyfile(source, target)
        return
    with source.open("rb") as whole, target.open("wb") as new:
        left = os.fstat(whole.fileno()).st_size
        try:  # Linux lets both files share their blocks where it can: btrfs, xfs
            while left and (done := os.copy_file_range(whole.fileno(), new.fileno(), left)):
                left -= done
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP):
                raise
    if left:
        shutil.copyfile(source, target)


def put_in_place(new: Path, path: Path) -> None:
    """Give a file the name of another one. What that occupied is given back aside: of 265 MB it takes 50 ms."""
    replaced = None
    with suppress(OSError):  # there is none, or it is not ours to read
        replaced = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        new.replace(path)
    finally:
        if replaced is not None:
            Thread(target=os.close, args=(replaced,), name=f"giving back {path.name}").start()


def _cloned(source: Path, target: Path) -> bool:
    """Whether a file now is another one's clone, which shares its blocks: of macOS's APFS. Else nothing was done."""
    try:
        clone_file = ctypes.CDLL(None, use_errno=True).clonefile
    except (AttributeError, OSError):  # another system
        return False
    clone = target.with_name(f"{target.name}.clone")  # it makes a file, and takes none that is there
    clone.unlink(missing_ok=True)
    if clone_file(os.fsencode(source), os.fsencode(clone), 0) != 0:
        return False
    clone.chmod(stat.S_IMODE(target.stat().st_mode) if target.exists() else PRIVATE_FILE)
    clone.replace(target)
    return True


def sync(path: Path) -> None:
    """Make a file, or the names in a directory, outlive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_file(path: Path) -> BufferedReader:
    """A file, to be read. Raises OSError if it cannot be, or is none: a pipe in its place would keep us waiting."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_file(path: Path) -> bytes:
    """The bytes of a file. Raises OSError as `open_file` does."""
    with open_file(path) as file:
        return file.read()


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex. Raises OSError if it cannot be read."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a directory; 0 if there is none."""
    return sum(_file_size(file) for file in (path, *path.rglob("*")))


def _file_size(path: Path) -> int:
    try:
        status = path.lstat()
    except FileNotFoundError:  # a log that another process has just removed
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0
