"""The landing zone: what the broker sent, byte for byte, filed once and never fetched again.

    raw/<account>/<trade date>/<snapshot id, file-safe>/
        account.json balances.json positions.json orders.json manifest.json     filed together
        orders.2.json ... order.json order.2.json ...                           more pages; orders read by their ids
        quotes.json quotes.manifest.json                                        filed right after, once
    raw/<account>/<trade date>/<snapshot id, file-safe>.failed-<instant>/       kept for diagnosis
    raw/<account>/<trade date>/<snapshot id, file-safe>.missed.json             never fetched, and why
    raw/<account>/<trade date>.zip                                              all of a closed day (`compaction`)
    raw/<account>/activity/                                                     what is told over night (`activity`)

A directory appears by one rename of a complete, fsynced directory, so whatever is there is whole.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar
from uuid import uuid4

from filelock import FileLock, Timeout
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from tradier_pipeline import clock
from tradier_pipeline.errors import PipelineError
from tradier_pipeline.snapshot import SnapshotId

if TYPE_CHECKING:
    from tradier_pipeline.broker.client import Attempt, Extract

REQUIRED_RESOURCES = ("account", "balances", "positions", "orders")
MANIFEST = "manifest.json"
QUOTES_MANIFEST = "quotes.manifest.json"
FAILED = ".failed-"
MISSED = ".missed.json"
LOCK_TIMEOUT_S = 60.0

_DATE = "????-??-??"


class LandingError(PipelineError):
    """The landing zone cannot be written, or holds something that is not what was landed."""


class BusyError(PipelineError):
    """Another process has held a lock for too long."""


class Record(BaseModel):
    """Base of what a manifest holds."""

    model_config = ConfigDict(frozen=True)


R = TypeVar("R", bound=Record)


class AttemptRecord(Record):
    """One request of a page, successful or not."""

    started_at: AwareDatetime
    ended_at: AwareDatetime
    outcome: str


class PageRecord(Record):
    """Where one body came from and where it lies. `path` and `query` hold no secret."""

    file: str
    number: int
    path: str
    query: dict[str, str]
    status: int
    headers: dict[str, str]
    attempts: tuple[AttemptRecord, ...]
    started_at: AwareDatetime
    ended_at: AwareDatetime
    bytes: int
    sha256: str


class LookupRecord(Record):
    """An order that was asked for by its id: it had been working and left the broker's list, or was listed legless.

    `not_found` twice ends the search; `failed` and `deferred` (over the budget of one snapshot) are asked again.
    `legs`: it is listed, without the legs that its class has. Whether it was found or not, this is asked once; the
    answer is kept, record and body, with every snapshot that lists the order so.
    """

    order_id: int
    state: Literal["found", "not_found", "failed", "deferred"]
    times_not_found: int = 0
    reason: str | None = None
    about: Literal["vanished", "legs"] = "vanished"


class ReadingRecord(Record):
    """One reading of the required resources, and whether they show one state of the account."""

    as_of: AwareDatetime
    as_of_end: AwareDatetime
    verdict: Literal["coherent", "torn", "unknown"]
    evidence: tuple[str, ...]


class UnlistedRecord(Record):
    """An order, or a leg, that had filled by an earlier snapshot and that this one does not show any more.

    Signed quantities and USD as in `reconcile.statement.Part`. What it had filled stays known should it come back.
    """

    order_id: int
    leg_id: int | None
    symbol: str
    filled: Decimal
    cash: Decimal | None
    changed_at: AwareDatetime | None
    rest: Decimal
    created_at: AwareDatetime | None


class Manifest(Record):
    """What was read for one snapshot, when and how.

    `as_of` is when the first resource was read, `as_of_end` when the last one had arrived; both are of the attempts
    that succeeded. `previous_as_of` is the newest as-of of the account that had been landed before. `readings` are all
    that were made; the last one is landed. Snapshots of earlier versions have none: they were not judged.
    """

    snapshot_id: str
    account_id: str
    environment: str
    trigger: str
    requested_at: AwareDatetime
    previous_as_of: AwareDatetime | None
    code_version: str
    as_of: AwareDatetime
    as_of_end: AwareDatetime
    resources: dict[str, tuple[PageRecord, ...]]
    lookups: tuple[LookupRecord, ...] = ()
    readings: tuple[ReadingRecord, ...] = ()
    clock_skew_s: float | None = None
    unlisted: tuple[UnlistedRecord, ...] = ()

    @property
    def is_torn(self) -> bool:
        """Whether what is landed was judged not to show one state of the account."""
        return bool(self.readings) and self.readings[-1].verdict == "torn"


class QuotesManifest(Record):
    """How the quotes of one snapshot were read, or why there are none. Nothing to price is `not_needed`."""

    state: Literal["ok", "not_needed", "failed", "missed"]
    reason: str | None
    pages: tuple[PageRecord, ...]
    attempts: tuple[AttemptRecord, ...]


class FailureRecord(Record):
    """Why nothing was landed, beside whatever bodies did arrive."""

    snapshot_id: str
    environment: str
    trigger: str
    failed_at: AwareDatetime
    errors: dict[str, str]
    resources: dict[str, tuple[PageRecord, ...]]


class MissedRecord(Record):
    """A scheduled instant that was not read in time and therefore never will be."""

    snapshot_id: str
    trigger: str
    recorded_at: AwareDatetime
    reason: str


class Archive(zipfile.ZipFile):
    """All of a closed day in one file. Its members are named as the files of the day's directory."""

    @cached_property
    def entries(self) -> frozenset[str]:
        """The names at the top: snapshots, failures, missed instants."""
        return frozenset(name.partition("/")[0] for name in self.namelist())


@dataclass(frozen=True, slots=True)
class Day:
    """What one account has of one trade date: a directory, once compacted an archive, and at times both.

    The archive wins for what it holds. A compaction removes a file only after it has filed the archive, so what is
    looked for in the directory first and then in the archive is always found.
    """

    directory: Path

    @property
    def trade_date(self) -> date:
        return date.fromisoformat(self.directory.name)

    @property
    def archive_path(self) -> Path:
        return self.directory.with_name(f"{self.directory.name}.zip")

    @property
    def changed_at(self) -> datetime:
        """When something was last filed in its directory, or its archive was written."""
        paths = [path for path in (self.directory, self.archive_path) if path.exists()]
        return datetime.fromtimestamp(max((path.stat().st_mtime for path in paths), default=0.0), UTC)

    def archive(self) -> Archive | None:
        """The archive of the day, kept open; None before the day is compacted.

        Raises:
            LandingError: it is damaged.
        """
        path = self.archive_path
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return _opened_archive(path, status.st_ino, status.st_mtime_ns)
        except (OSError, zipfile.BadZipFile) as error:
            raise LandingError(f"cannot read {path}: {error}", "Restore it from a backup.") from None

    def entries(self) -> set[str]:
        """The names of what was filed: snapshots, failures, missed instants."""
        plain: list[str] = []
        with suppress(FileNotFoundError, NotADirectoryError):
            plain = [path.name for path in self.directory.iterdir() if not path.name.startswith(".")]
        archive = self.archive()
        return {*plain, *(archive.entries if archive else ())}

    def holds(self, name: str) -> bool:
        """Whether there is such an entry, or such a file of one."""
        if (self.directory / name).exists():
            return True
        archive = self.archive()
        return archive is not None and (name in archive.entries or name in archive.NameToInfo)

    def read(self, name: str) -> bytes:
        """The bytes of a file, such as `<entry>/orders.json`.

        Raises:
            LandingError: it is missing or damaged.
        """
        path = self.directory / name
        archived = self._read_archived(name)
        if archived is not None:
            return archived
        try:
            return path.read_bytes()
        except OSError as error:
            if (archived := self._read_archived(name)) is not None:  # compacted just now
                return archived
            raise LandingError(f"cannot read {path}: {error.strerror}", "Restore it from a backup.") from None

    def _read_archived(self, name: str) -> bytes | None:
        archive = self.archive()
        if archive is None or name not in archive.NameToInfo:
            return None
        try:
            return archive.read(name)
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise LandingError(
                f"cannot read {name} in {self.archive_path}: {error}", "Restore it from a backup."
            ) from None


@lru_cache(maxsize=4)
def _opened_archive(path: Path, _inode: int, _written: int) -> Archive:
    """Opening an archive reads its whole table of contents; one that was replaced is another file."""
    return Archive(path)


@dataclass(frozen=True)
class LandedSnapshot:
    """One landed snapshot: its manifest and, on demand, its bytes.

    `directory` is where it was landed; once its day is compacted, it is in the archive of the day.
    """

    snapshot_id: SnapshotId
    directory: Path

    @cached_property
    def manifest(self) -> Manifest:
        return _read_record(Manifest, self.day, f"{self.directory.name}/{MANIFEST}")

    @cached_property
    def quotes(self) -> QuotesManifest | None:
        """The quotes' manifest; None until their one request has been made or given up."""
        name = f"{self.directory.name}/{QUOTES_MANIFEST}"
        return _read_record(QuotesManifest, self.day, name) if self.day.holds(name) else None

    @property
    def day(self) -> Day:
        return Day(self.directory.parent)

    def read(self, file: str) -> bytes:
        """The bytes of one of its files.

        Raises:
            LandingError: it is missing or damaged.
        """
        return self.day.read(f"{self.directory.name}/{file}")

    def pages(self, resource: str) -> tuple[PageRecord, ...]:
        """The page records of a resource; none for quotes that were not read."""
        if resource == "quotes":
            return self.quotes.pages if self.quotes else ()
        return self.manifest.resources.get(resource, ())

    @property
    def zone(self) -> LandingZone:
        """The landing zone it lies in."""
        return LandingZone(self.directory.parents[2])

    def relative_path(self, page: PageRecord) -> str:
        """The file of a page, relative to the landing zone."""
        return self.zone.relative(self.directory / page.file)

    def bodies(self, resource: str) -> tuple[bytes, ...]:
        """The landed bodies of a resource, page by page, proven to be what was landed.

        Raises:
            LandingError: a file is missing or is not what was landed.
        """
        return tuple(proven(self.read(page.file), page, self.directory) for page in self.pages(resource))


class LandingZone:
    """The directory tree of everything that was ever read."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def reading(self, account_id: str) -> Iterator[None]:
        """Hold the account: at most one process reads one account at a time.

        Raises:
            BusyError: another process has been reading it for a minute.
            LandingError: the landing zone cannot be written.
        """
        directory = self.root / account_id
        with writing(directory):
            make_directory(directory)
        with exclusive(directory / ".lock", LOCK_TIMEOUT_S, f"account {account_id} is being read"):
            yield

    def find(self, snapshot_id: SnapshotId) -> LandedSnapshot | None:
        """The landed snapshot of that id, if there is one."""
        directory = self._directory(snapshot_id)
        return LandedSnapshot(snapshot_id, directory) if Day(directory.parent).holds(directory.name) else None

    def days(self, account_id: str | None = None) -> list[Day]:
        """The days of which anything is filed, by account and date."""
        found = [*self.root.glob(f"{account_id or '*'}/{_DATE}/"), *self.root.glob(f"{account_id or '*'}/{_DATE}.zip")]
        return [Day(path) for path in sorted({path.with_suffix("") for path in found})]

    def snapshots(self, account_id: str | None = None) -> Iterator[LandedSnapshot]:
        """Every landed snapshot, by account and in the order of the instants."""
        for day in self.days(account_id):
            for name in sorted(_landed_names(day), key=_instant):
                yield _landed(day.directory / name)

    def newest(self, account_id: str) -> LandedSnapshot | None:
        """The landed snapshot of the account with the latest instant."""
        return next(self.latest(account_id), None)

    def latest(self, account_id: str) -> Iterator[LandedSnapshot]:
        """The landed snapshots of the account, the latest instant first."""
        for day in reversed(self.days(account_id)):
            for name in sorted(_landed_names(day), key=_instant, reverse=True):
                yield _landed(day.directory / name)

    def land(self, manifest: Manifest, bodies: Mapping[str, bytes]) -> LandedSnapshot:
        """File a complete snapshot by one rename. Call it while `reading` the account.

        Args:
            manifest: what was read.
            bodies: file name -> body, for every page of the manifest.

        Raises:
            LandingError: it cannot be written; nothing was landed.
        """
        snapshot_id = SnapshotId.parse(manifest.snapshot_id)
        directory = self._directory(snapshot_id)
        file_directory(directory, {**bodies, MANIFEST: to_bytes(manifest)})
        return LandedSnapshot(snapshot_id, directory)

    def land_quotes(self, landed: LandedSnapshot, manifest: QuotesManifest, bodies: Mapping[str, bytes]) -> None:
        """File the quotes beside their snapshot; the manifest last, since it says that they are complete."""
        with writing(landed.directory):
            make_directory(landed.directory)  # its day may have been compacted
            for leftover in landed.directory.glob(".*.tmp"):
                leftover.unlink()
            for name, body in {**bodies, QUOTES_MANIFEST: to_bytes(manifest)}.items():
                partial = landed.directory / f".{name}.tmp"
                _write_synced(partial, body)
                partial.replace(landed.directory / name)
            sync(landed.directory)
        landed.__dict__.pop("quotes", None)

    def keep_failed(self, failure: FailureRecord, bodies: Mapping[str, bytes]) -> Path:
        """Keep what a failed attempt did receive. It never counts as landed."""
        base = self._directory(SnapshotId.parse(failure.snapshot_id))
        stamp = clock.iso(failure.failed_at).replace(":", "-")
        directory = base.with_name(f"{base.name}{FAILED}{stamp}")
        file_directory(directory, {**bodies, MANIFEST: to_bytes(failure)})
        return directory

    def record_missed(self, missed: MissedRecord) -> None:
        """Note that an instant was missed; the first note stays."""
        base = self._directory(SnapshotId.parse(missed.snapshot_id))
        path = base.with_name(f"{base.name}{MISSED}")
        if Day(path.parent).holds(path.name):
            return
        write_whole(path, to_bytes(missed))

    def failures(
        self, account_id: str, *, since: datetime | None = None, day: date | None = None
    ) -> Iterator[FailureRecord]:
        """The failed attempts of an account, oldest first: all, those after an instant, or those of a trade date."""
        records = (
            _read_record(FailureRecord, filed, f"{name}/{MANIFEST}")
            for filed, name in self._recorded(account_id, since, day)
            if FAILED in name
        )
        yield from sorted(
            (record for record in records if since is None or record.failed_at > since),
            key=lambda record: record.failed_at,
        )

    def missed(
        self, account_id: str, *, since: datetime | None = None, day: date | None = None
    ) -> Iterator[MissedRecord]:
        """The missed instants of an account, oldest first: all, those after an instant, or those of a trade date."""
        records = (
            _read_record(MissedRecord, filed, name)
            for filed, name in self._recorded(account_id, since, day)
            if name.endswith(MISSED)
        )
        yield from sorted(
            (record for record in records if since is None or record.recorded_at > since),
            key=lambda record: record.recorded_at,
        )

    def _recorded(self, account_id: str, since: datetime | None, on: date | None) -> Iterator[tuple[Day, str]]:
        """Every entry of an account that may have been made since. An archive is newer than all it holds."""
        for day in self.days(account_id):
            if on is not None and day.directory.name != on.isoformat():
                continue
            if since is None or day.directory.is_dir() or day.archive_path.stat().st_mtime >= since.timestamp():
                yield from ((day, name) for name in day.entries())

    def relative(self, path: Path) -> str:
        """A path in the landing zone as the warehouse names it."""
        return path.relative_to(self.root).as_posix()

    def attempts(self, account_id: str, since: date, changed_since: datetime) -> dict[str, Path]:
        """What tells of each instant of an account, on the days since a trade date, and those that changed lately.

        Returns:
            Snapshot id -> what was landed; else its newest failed attempt; else the record that it was missed.
        """
        told: dict[str, list[Path]] = {}
        for day in self.days(account_id):
            if day.trade_date >= since or day.changed_at >= changed_since:
                for name in day.entries():
                    if "@" in name:
                        told.setdefault(_id_of(name), []).append(day.directory / name)
        return {snapshot_id: max(paths, key=_weight) for snapshot_id, paths in told.items()}

    def read_attempt(self, path: Path) -> Manifest | FailureRecord | MissedRecord:
        """The record of an attempt.

        Raises:
            LandingError: it cannot be read.
        """
        day = Day(path.parent)
        if path.name.endswith(MISSED):
            return _read_record(MissedRecord, day, path.name)
        if FAILED in path.name:
            return _read_record(FailureRecord, day, f"{path.name}/{MANIFEST}")
        return _read_record(Manifest, day, f"{path.name}/{MANIFEST}")

    def _directory(self, snapshot_id: SnapshotId) -> Path:
        day = snapshot_id.trade_date.isoformat()
        return self.root / snapshot_id.account_id / day / snapshot_id.file_name


def page_records(resource: str, extract: Extract) -> tuple[tuple[PageRecord, ...], dict[str, bytes]]:
    """The page records of what the client received, and the bodies by the file names they get."""
    bodies = {
        f"{resource}.json" if page.number == 1 else f"{resource}.{page.number}.json": page.body
        for page in extract.pages
    }
    records = tuple(
        PageRecord(
            file=file,
            number=page.number,
            path=page.path,
            query=dict(page.query),
            status=page.status,
            headers=dict(page.headers),
            attempts=attempt_records(page.attempts),
            started_at=page.started_at,
            ended_at=page.ended_at,
            bytes=len(page.body),
            sha256=hashlib.sha256(page.body).hexdigest(),
        )
        for file, page in zip(bodies, extract.pages, strict=True)
    )
    return records, bodies


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into one line with a remedy."""
    try:
        yield
    except OSError as error:
        remedy = (
            "Free some space; nothing was half-written."
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else "Make TRADIER_PIPELINE_HOME a directory you may write to."
        )
        raise LandingError(f"cannot write {path}: {error.strerror or error}", remedy) from None


@contextmanager
def exclusive(path: Path, timeout: float, doing: str) -> Iterator[None]:
    """Hold a lock file, which names its holder. The system lets go of it when the holder dies.

    Args:
        timeout: seconds to wait for another holder.
        doing: what the holder does, as the beginning of a sentence: "account 6YA05708 is being read".

    Raises:
        BusyError: another process holds it for longer; names that process.
        LandingError: the lock file cannot be written.
    """
    lock = FileLock(path)
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


def attempt_records(attempts: Iterable[Attempt]) -> tuple[AttemptRecord, ...]:
    """The client's attempts as manifest records."""
    return tuple(
        AttemptRecord(started_at=attempt.started_at, ended_at=attempt.ended_at, outcome=attempt.outcome)
        for attempt in attempts
    )


def _landed_names(day: Day) -> Iterator[str]:
    """What was landed on a day; not what failed or was missed."""
    return (name for name in day.entries() if "@" in name and name.endswith("Z") and FAILED not in name)


def _instant(name: str) -> str:
    """Sorts whole seconds before their milliseconds."""
    return name.removesuffix("Z")


def _landed(directory: Path) -> LandedSnapshot:
    return LandedSnapshot(SnapshotId.parse(_id_of(directory.name)), directory)


def _id_of(name: str) -> str:
    """The snapshot id that a name in the landing zone begins with."""
    account, _, rest = name.partition("@")
    day, _, time = rest.partition("Z")[0].partition("T")
    return f"{account}@{day}T{time.replace('-', ':')}Z"


def _weight(path: Path) -> tuple[bool, bool, str]:
    """What was landed outweighs what failed, and that what was missed; of the failed the newest."""
    return FAILED not in path.name and not path.name.endswith(MISSED), FAILED in path.name, _instant(path.name)


def to_bytes(record: Record) -> bytes:
    """A manifest as it is filed."""
    return record.model_dump_json(indent=1).encode()


def _read_record(model: type[R], day: Day, name: str) -> R:
    return to_record(model, day.read(name), day.directory / name)


def to_record(model: type[R], body: bytes, path: Path) -> R:
    """What a manifest says.

    Raises:
        LandingError: it is damaged.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise LandingError(
            f"{path} is not a manifest ({error.error_count()} errors)", "Restore it from a backup."
        ) from None


def proven(body: bytes, page: PageRecord, directory: Path) -> bytes:
    """The body of a page, if it is what was landed.

    Raises:
        LandingError: it is not.
    """
    if hashlib.sha256(body).hexdigest() != page.sha256:
        path = directory / page.file
        raise LandingError(f"{path} is not what was landed (sha256 differs)", "Restore it from a backup.")
    return body


def file_directory(directory: Path, files: Mapping[str, bytes]) -> None:
    """File a complete, fsynced directory by one rename. Call it while nobody else files beside it.

    Raises:
        LandingError: it cannot be written, or is there already; nothing was filed.
    """
    with writing(directory):
        make_directory(directory.parent)
        for leftover in directory.parent.glob(".*.tmp/"):
            shutil.rmtree(leftover)  # of a process that died; the lock of the account says none is alive
        partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", suffix=".tmp", dir=directory.parent))
        try:
            for name, body in files.items():
                _write_synced(partial / name, body)
            sync(partial)
            partial.chmod(0o755)
            partial.rename(directory)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        sync(directory.parent)


def write_whole(path: Path, body: bytes) -> None:
    """Write a small file that is there whole or not at all, whatever happens meanwhile and whoever else writes it.

    Raises:
        LandingError: it cannot be written; the file is as it was.
    """
    with writing(path):
        make_directory(path.parent)
        partial = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
        try:
            _write_synced(partial, body)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        sync(path.parent)


def _write_synced(path: Path, body: bytes) -> None:
    with path.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


def make_directory(path: Path) -> None:
    """Create a directory and its parents so that they outlive a power failure."""
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)


def sync(path: Path) -> None:
    """Make a file, or the names in a directory, outlive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
