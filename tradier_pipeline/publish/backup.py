"""Backing a home up into a folder or an object store, while it is written, and restoring it.

Every file is there once, by its content; what a backup consists of is written last: path, bytes, SHA-256, time.
A backup that was killed has no list: the next one goes on with what it has copied. What the warehouse has seen is
landed, and what is landed is in its chain, so the warehouse is copied first, and each chain with the files it has by
then.
Not copied: Dagster's storage, which is made anew, and `.env`, which holds the token.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import time
from collections.abc import Collection, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import duckdb
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from tradier_pipeline import clock
from tradier_pipeline.core import progress
from tradier_pipeline.core.files import copy, create_private, make_directory, sync, writing
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.core.version import CODE_VERSION
from tradier_pipeline.landing.chain import CHAIN, Chain
from tradier_pipeline.landing.chained import OwnFiles, chains_of
from tradier_pipeline.publish.backup_places import SUFFIX, BackupError, Place, place_of
from tradier_pipeline.warehouse import sealed
from tradier_pipeline.warehouse.sealed_chain import sealed_chain
from tradier_pipeline.warehouse.staging import Warehouse, attach, refuse_no_file, sealed_directory

TRIES: Final = 5  # of an account whose days are compacted meanwhile
KEPT: Final = 3
_BESIDE: Final = ("calendar", "simulator")  # small files, each written whole


class FileRecord(BaseModel):
    """A file of a home. `path` is relative to the home, `mtime_ns` that of the original."""

    model_config = ConfigDict(frozen=True)

    path: str
    bytes: int = Field(ge=0)
    mtime_ns: int
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class BackupList(BaseModel):
    """What a backup consists of."""

    model_config = ConfigDict(frozen=True)

    at: AwareDatetime
    home: str
    code_version: str
    files: tuple[FileRecord, ...]


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What a backup came to: its name, its files and bytes; how many and how much of them had to be copied."""

    name: str
    files: int
    bytes: int
    copied_files: int
    copied_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored: the home, the instant of the backup, files, bytes."""

    home: Path
    at: AwareDatetime
    files: int
    bytes: int
    seconds: float


class _Store:
    """What a backup takes of a home: objects by their content."""

    def __init__(self, place: Place, known: Mapping[tuple[str, int, int], FileRecord]) -> None:
        self.place = place
        self._known = known
        self.files: list[FileRecord] = []
        self.copied_files = self.copied_bytes = 0

    def take(self, path: Path, name: str) -> None:
        """A file of the home, copied unless the backup before had it. Raises FileNotFoundError if it has gone."""
        status = path.stat()
        known = self._known.get((name, status.st_size, status.st_mtime_ns))
        if known is not None and self.place.has(known.sha256, known.bytes):
            self.files.append(known)
            return
        with self.place.partial() as partial:
            with path.open("rb") as source, partial.open("wb") as target:  # one open file is one state of it
                status = os.fstat(source.fileno())
                digest = hashlib.sha256()
                while block := source.read(1 << 20):
                    digest.update(block)
                    target.write(block)
            self._file(partial, name, digest.hexdigest(), status.st_mtime_ns)

    def take_bytes(self, body: bytes, name: str) -> None:
        with self.place.partial() as partial:
            partial.write_bytes(body)
            self._file(partial, name, hashlib.sha256(body).hexdigest(), 0)

    def _file(self, partial: Path, name: str, sha256: str, mtime_ns: int) -> None:
        size = partial.stat().st_size
        self.files.append(FileRecord(path=name, bytes=size, mtime_ns=mtime_ns, sha256=sha256))
        if not self.place.has(sha256, size):
            self.place.put(sha256, partial)
            self.copied_files, self.copied_bytes = self.copied_files + 1, self.copied_bytes + size


def backup(settings: Settings, where: str, keep: int = KEPT) -> BackedUp:
    """Back the home up; only what the backup before lacks is copied. Snapshots go on meanwhile.

    Args:
        where: a folder, or the URL of an object store.
        keep: how many backups stay, this one among them.

    Raises:
        BackupError: the folder is in the home, the store cannot be reached, or there is nothing to back up.
        BusyError: another backup is going on.
        FileError: the folder cannot be written; the backups before stay.
    """
    started = time.monotonic()
    home = settings.home.resolve()
    place = place_of(where)
    if not settings.landing.is_dir():
        raise BackupError(f"there is nothing to back up in {home}", "Set TRADIER_PIPELINE_HOME.")
    with place.held(home):
        store = _Store(place, _newest_files(place))
        _take_home(settings, store)
        at = clock.now()
        name = f"{clock.iso(at).replace(':', '-')}{SUFFIX}"
        made = BackupList(at=at, home=str(home), code_version=CODE_VERSION, files=tuple(store.files))
        place.write(name, made.model_dump_json(indent=0).encode())
        _prune(place, keep)
    size = sum(one.bytes for one in store.files)
    seconds = time.monotonic() - started
    return BackedUp(name, len(store.files), size, store.copied_files, store.copied_bytes, seconds)


def _take_home(settings: Settings, store: _Store) -> None:
    if settings.warehouse.exists():
        progress.working("copying the warehouse")
        _take_warehouse(settings, store)
    for chain in chains_of(settings.landing):
        _take_owner(settings, chain, store)
    if settings.ledger.exists():
        progress.working("copying the ledger")
        _take_ledger(settings, store)
    for name in _BESIDE:
        for path in sorted((settings.home / name).glob("*.json")):
            store.take(path, f"{name}/{path.name}")


def _take_warehouse(settings: Settings, store: _Store) -> None:
    """The published file as it is now, and the files of its sealed months."""
    refuse_no_file(settings.warehouse)
    with store.place.partial() as taken:
        copy(settings.warehouse, taken)
        store.take(taken, settings.warehouse.name)
        try:
            with duckdb.connect(":memory:") as connection:
                attach(connection, taken, "READ_ONLY")
                files = sealed.sealed_files(connection) if sealed.is_sealed(connection) else []
        except duckdb.Error as error:
            raise BackupError(
                f"{settings.warehouse} cannot be read: {str(error).splitlines()[0][:200]}",
                "Run `tradier-pipeline rebuild`, then back up.",
            ) from None
    root = sealed_directory(settings.warehouse)
    for file in files:
        progress.working(f"copying {file.path}")
        try:
            store.take(root / file.path, f"{sealed.FOLDER}/{file.path}")
        except FileNotFoundError:
            remedy = "Run `tradier-pipeline rebuild`, which makes it anew, then back up."
            raise BackupError(f"the sealed month {root / file.path} is lost", remedy) from None
    if files:
        with sealed_chain(root).settled():
            store.take_bytes((root / CHAIN).read_bytes(), f"{sealed.FOLDER}/{CHAIN}")


def _take_owner(settings: Settings, chain: Chain, store: _Store) -> None:
    """A chain, and what lies beside it at the same moment. What is compacted before it is copied is listed again."""
    directory = chain.path.parent
    taken = len(store.files)
    for tries in range(TRIES):
        with chain.settled():
            body, listed = chain.path.read_bytes(), OwnFiles(directory).plain()
        del store.files[taken:]
        try:
            for done, (name, path) in enumerate(listed.items()):
                progress.working(f"copying what is landed of {chain.name}", done, len(listed))
                store.take(path, f"{settings.landing.name}/{chain.name}/{name}")
        except FileNotFoundError:
            if tries == TRIES - 1:
                raise
            continue
        store.take_bytes(body, f"{settings.landing.name}/{chain.name}/{CHAIN}")
        return


def _take_ledger(settings: Settings, store: _Store) -> None:
    """The ledger by SQLite's own backup, which its writers do not disturb."""
    with store.place.partial() as taken:
        try:
            with (
                closing(sqlite3.connect(f"{settings.ledger.resolve().as_uri()}?mode=ro", uri=True)) as source,
                closing(sqlite3.connect(taken)) as target,
            ):
                source.backup(target)
        except sqlite3.Error as error:
            raise BackupError(f"the ledger {settings.ledger} cannot be read: {error}", "Restore it first.") from None
        store.take(taken, settings.ledger.name)


def read_list(place: Place, name: str) -> BackupList:
    """What a backup consists of. Raises BackupError if its list is damaged or leaves the home."""
    path = f"{place.name}/{name}"
    try:
        found = BackupList.model_validate_json(place.read(name))
    except (OSError, ValidationError) as error:
        what = (error.strerror or "it is not there") if isinstance(error, OSError) else "it is damaged"
        raise BackupError(
            f"cannot read {path}: {what}", "Name an older backup, or back up into a new folder."
        ) from None
    for file in found.files:
        parts = PurePosixPath(file.path).parts
        if not parts or parts[0] == "/" or ".." in parts:
            raise BackupError(f"{path} names {file.path!r}, which is not in a home", "It was not written by backup.")
    return found


def _newest_files(place: Place) -> dict[tuple[str, int, int], FileRecord]:
    """What the newest backup has; nothing if its list is damaged: then all is read again."""
    newest = place.lists()[-1:]
    with suppress(BackupError):
        return {(one.path, one.bytes, one.mtime_ns): one for name in newest for one in read_list(place, name).files}
    return {}


def _prune(place: Place, keep: int) -> None:
    """Remove the oldest lists, and the objects that no list has any more; none while a list cannot be read."""
    lists = place.lists()
    place.remove(lists[:-keep], [])
    try:
        kept = {file.sha256 for name in lists[-keep:] for file in read_list(place, name).files}
    except BackupError:
        return
    place.remove([], [sha256 for sha256 in place.objects() if sha256 not in kept])


def restore(where: str, home: Path, at: str | None = None) -> Restored:
    """Restore a home from a backup; every file is proven by its SHA-256, and the home appears by one rename.

    Args:
        where: the folder, or the URL of an object store.
        home: where to; nothing may be there, or an empty directory.
        at: the beginning of the name of the backup; None: the newest.

    Raises:
        BackupError: there is no such backup, something is there already, or a file is damaged; nothing was restored.
        FileError: the home cannot be written.
    """
    started = time.monotonic()
    place = place_of(where)
    there = place.lists()
    lists = [name for name in there if at is None or name.startswith(at.replace(":", "-"))]
    if not lists:
        named = ", ".join(name.removesuffix(SUFFIX) for name in there) or "none"
        raise BackupError(f"there is no such backup in {place.name}", f"Those there are: {named}.")
    home = home.resolve()
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise BackupError(f"{home} is not empty", "Restore into a new directory: --to, or TRADIER_PIPELINE_HOME.")
    found = read_list(place, lists[-1])
    partial = home.with_name(f".{home.name}.restoring.tmp")
    with writing(home):
        make_directory(home.parent)
        shutil.rmtree(partial, ignore_errors=True)
        make_directory(partial)
        try:
            for done, file in enumerate(found.files):
                progress.working("restoring", done, len(found.files))
                _restore_file(place, partial, file)
            _sync_directories(partial)
            if home.exists():
                home.rmdir()
            partial.rename(home)
            sync(home.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    warehouse = Warehouse(home / "tradier.duckdb")
    if warehouse.path.exists():
        warehouse.repoint()
    size = sum(file.bytes for file in found.files)
    return Restored(home, found.at, len(found.files), size, time.monotonic() - started)


def _restore_file(place: Place, home: Path, file: FileRecord) -> None:
    source, target = place.where(file.sha256), home / file.path
    make_directory(target.parent)
    digest = hashlib.sha256()
    create_private(target)
    try:
        with place.open(file.sha256) as body, target.open("wb") as restored:
            while block := body.read(1 << 20):
                digest.update(block)
                restored.write(block)
    except FileNotFoundError:
        raise BackupError(f"{source}, of {file.path}, is missing", "Name an older backup: --at.") from None
    if digest.hexdigest() != file.sha256:
        raise BackupError(f"{source}, of {file.path}, is damaged", "Name an older backup: --at.")
    sync(target)
    if file.mtime_ns:
        os.utime(target, ns=(file.mtime_ns, file.mtime_ns))
    if file.path.endswith((".duckdb", ".parquet")):
        target.chmod(0o444)


def _sync_directories(root: Path) -> None:
    directories: Collection[Path] = [path for path in root.rglob("*") if path.is_dir()]
    for path in (*directories, root):
        sync(path)
