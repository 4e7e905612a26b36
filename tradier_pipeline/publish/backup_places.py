"""Where backups lie: a folder, or an object store that fsspec reaches by a URL. Both hold whole objects and lists.

objects/<2 letters>/<sha256>     every file once, by its content
<instant>.backup.json            what a backup consists of
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Final, Protocol
from urllib.parse import urlsplit
from uuid import uuid4

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.files import create_private, exclusive, make_directory, sync, write_whole, writing

SUFFIX: Final = ".backup.json"
LOCK_TIMEOUT_S: Final = 5.0


class BackupError(PipelineError):
    """A backup cannot be made, read or restored."""


class Place(Protocol):
    """A place of backups. What it cannot do is a BackupError or FileError of one line."""

    name: str

    def held(self, home: Path) -> Any:
        """A context in which no other process of this home writes there; leftovers of one that died are gone."""

    def partial(self) -> Any:
        """A context with the path of a new private file on this machine, to be put there."""

    def lists(self) -> list[str]:
        """The names of the lists, the oldest first."""

    def read(self, name: str) -> bytes:
        """A list. Raises OSError if there is none."""

    def write(self, name: str, body: bytes) -> None:
        """File a list."""

    def has(self, sha256: str, size: int) -> bool:
        """Whether an object is there, of this length."""

    def put(self, sha256: str, partial: Path) -> None:
        """File an object."""

    def open(self, sha256: str) -> BinaryIO:
        """The bytes of an object. Raises FileNotFoundError if it is not there."""

    def where(self, sha256: str) -> str:
        """How an object is called in an error."""

    def objects(self) -> list[str]:
        """Every object."""

    def remove(self, lists: list[str], objects: list[str]) -> None:
        """Remove some of both, the lists first."""


def place_of(where: str) -> Place:
    """A folder, or the object store of a URL such as s3://bucket/tradier.

    Raises:
        BackupError: nothing that is installed can reach it.
    """
    scheme, separator, rest = where.partition("://")
    if not separator:
        return Folder(Path(where))
    return Folder(Path(rest)) if scheme == "file" else ObjectStore(where)


class Folder:
    """A folder: objects are written aside, fsynced, renamed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = str(root)

    @contextmanager
    def held(self, home: Path) -> Iterator[None]:
        if self.root.resolve().is_relative_to(home):
            raise BackupError(f"{self.root} is in the home {home}", "Name a folder elsewhere, on another disk.")
        with writing(self.root):
            make_directory(self.root)
        busy = f"{self.root} is being written"
        with exclusive(self.root / ".lock", LOCK_TIMEOUT_S, busy), writing(self.root):
            for leftover in self.root.glob(".*.tmp"):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            yield

    @contextmanager
    def partial(self) -> Iterator[Path]:
        partial = self.root / f".{uuid4().hex}.tmp"
        create_private(partial)
        try:
            yield partial
        finally:
            partial.unlink(missing_ok=True)

    def lists(self) -> list[str]:
        return sorted(path.name for path in self.root.glob(f"*{SUFFIX}") if not path.name.startswith("."))

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def write(self, name: str, body: bytes) -> None:
        write_whole(self.root / name, body)

    def has(self, sha256: str, size: int) -> bool:
        return (path := self.path(sha256)).exists() and path.stat().st_size == size

    def put(self, sha256: str, partial: Path) -> None:
        path = self.path(sha256)
        sync(partial)
        make_directory(path.parent)
        partial.replace(path)
        sync(path.parent)

    def open(self, sha256: str) -> BinaryIO:
        return self.path(sha256).open("rb")

    def where(self, sha256: str) -> str:
        return str(self.path(sha256))

    def path(self, sha256: str) -> Path:
        return self.root / "objects" / sha256[:2] / sha256

    def objects(self) -> list[str]:
        return [path.name for path in (self.root / "objects").glob("??/*")]

    def remove(self, lists: list[str], objects: list[str]) -> None:
        for path in (*(self.root / name for name in lists), *map(self.path, objects)):
            path.unlink()


class ObjectStore:
    """An object store by fsspec: an object is there whole or not at all. What it holds is asked for once."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.name = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"  # without a password
        # not before it is asked for: it takes as long to import as a snapshot
        import fsspec

        with self._reaching():
            self._system, self._root = fsspec.core.url_to_fs(url)

    @contextmanager
    def _reaching(self, *, may_lack: bool = False) -> Iterator[None]:
        """Turn what a library raises into one line; `may_lack`: FileNotFoundError is for the caller."""
        try:
            yield
        except PipelineError:
            raise
        except FileNotFoundError as error:
            if may_lack:
                raise
            raise BackupError(f"{self.name} is not there: {error}", "Make it first.") from None
        except ImportError as error:
            library = str(error).splitlines()[0][:200]
            remedy = "Install what fsspec wants for it, such as `pip install 'tradier-pipeline[s3]'` for s3."
            raise BackupError(f"{self.name} cannot be reached: {library}", remedy) from None
        except Exception as error:  # each store's library has its own
            what = (str(error).splitlines() or [""])[0][:200]
            remedy = "See its address and what allows to write there."
            raise BackupError(f"{self.name} cannot be reached: {type(error).__name__}: {what}", remedy) from None

    @contextmanager
    def held(self, home: Path) -> Iterator[None]:
        with exclusive(home / ".backup.lock", LOCK_TIMEOUT_S, f"{home} is being backed up"):
            yield

    @contextmanager
    def partial(self) -> Iterator[Path]:
        with TemporaryDirectory(prefix="tradier-backup-") as directory:
            path = Path(directory) / "partial"
            create_private(path)
            yield path

    @cached_property
    def _sizes(self) -> dict[str, int]:
        with self._reaching():
            self._system.invalidate_cache()
            try:
                found = self._system.find(f"{self._root}/objects", detail=True)
            except FileNotFoundError:
                return {}
        return {path.rpartition("/")[2]: one["size"] for path, one in found.items()}

    def lists(self) -> list[str]:
        with self._reaching():
            self._system.invalidate_cache()
            try:
                found = self._system.ls(self._root, detail=False)
            except FileNotFoundError:
                return []
        names = (path.rpartition("/")[2] for path in found)
        return sorted(name for name in names if name.endswith(SUFFIX) and not name.startswith("."))

    def read(self, name: str) -> bytes:
        with self._reaching(may_lack=True):
            body: bytes = self._system.cat_file(f"{self._root}/{name}")
        return body

    def write(self, name: str, body: bytes) -> None:
        with self._reaching():
            self._system.pipe_file(f"{self._root}/{name}", body)

    def has(self, sha256: str, size: int) -> bool:
        return self._sizes.get(sha256) == size

    def put(self, sha256: str, partial: Path) -> None:
        with self._reaching():
            self._system.put_file(str(partial), self._path(sha256))
        self._sizes[sha256] = partial.stat().st_size

    def open(self, sha256: str) -> BinaryIO:
        with self._reaching(may_lack=True):
            opened: BinaryIO = self._system.open(self._path(sha256), "rb")
        return opened

    def where(self, sha256: str) -> str:
        return f"{self.name}/objects/{sha256[:2]}/{sha256}"

    def _path(self, sha256: str) -> str:
        return f"{self._root}/objects/{sha256[:2]}/{sha256}"

    def objects(self) -> list[str]:
        return list(self._sizes)

    def remove(self, lists: list[str], objects: list[str]) -> None:
        with self._reaching():
            for path in (*(f"{self._root}/{name}" for name in lists), *map(self._path, objects)):
                self._system.rm_file(path)
        for sha256 in objects:
            del self._sizes[sha256]
