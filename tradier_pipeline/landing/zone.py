"""The landing zone: what the broker sent, byte for byte, filed once and never fetched again.

    raw/<account>/<trade date>/<snapshot id, file-safe>/
        account.json balances.json positions.json orders.json manifest.json     filed together
        orders.2.json ... order.json order.2.json ...                           more pages; orders read by their ids
        quotes.json quotes.manifest.json                                        filed right after, once
    raw/<account>/<trade date>/<snapshot id, file-safe>.failed-<instant>/       kept for diagnosis
    raw/<account>/<trade date>/<snapshot id, file-safe>.missed.json             never fetched, and why
    raw/<account>/<trade date>.zip                                              all of a closed day (`compaction`)
    raw/<account>/activity/                                                     what is told over night (`activity`)
    raw/_prices/                                                                daily prices of symbols (`prices`)

A directory appears by one rename of a complete, fsynced directory, so whatever we filed is whole. What was damaged
since, or is not ours, never stops what comes: readers of the past pass it over, and `LandingZone.damaged` names it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar
from uuid import uuid4

from filelock import FileLock, Timeout
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from tradier_pipeline import clock
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.snapshot_id import SnapshotId, SnapshotIdError

if TYPE_CHECKING:
    from tradier_pipeline.broker.client import Attempt, Extract

REQUIRED_RESOURCES = ("account", "balances", "positions", "orders")
MANIFEST = "manifest.json"
QUOTES_MANIFEST = "quotes.manifest.json"
FAILED = ".failed-"
MISSED = ".missed.json"
PRICES = "_prices"  # no account number
LOCK_TIMEOUT_S = 60.0
MAX_FILE_BYTES = 64 * 1024 * 1024  # of one file of the landing zone; a body has at most half of it
PRIVATE_DIRECTORY, PRIVATE_FILE = 0o700, 0o600
PASSED_OVER = 60  # snapshots in a row that cannot be used, before the past counts as unknown
PROVEN_DAYS = 5  # the newest days of an account whose bytes `damaged` proves; of older ones it looks at the names

_DATE = "????-??-??"
_ACCOUNT = re.compile(r"[A-Za-z0-9]{1,32}")
_ENTRY = re.compile(r"(?P<id>[A-Za-z0-9]+@\d{4}-\d\d-\d\dT[\d.-]+Z)(\.missed\.json|\.failed-.+)?", re.DOTALL)
_BESIDE_DAYS = frozenset({"activity", ".lock"})


class LandingError(PipelineError):
    """The landing zone cannot be written, or holds something that is not what was landed."""


class BusyError(PipelineError):
    """Another process has held a lock for too long."""


class Record(BaseModel):
    """Base of what a manifest holds."""

    model_config = ConfigDict(frozen=True)


R = TypeVar("R", bound=Record)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Damaged:
    """Something in the landing zone that is passed over: damaged since it was landed, or not filed by us."""

    path: str
    reason: str


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
    price: Decimal | None = None


class Manifest(Record):
    """What was read for one snapshot, when and how.

    `as_of` is when the first resource was read, `as_of_end` when the last one had arrived; both are of the attempts
    that succeeded. `previous_as_of` is the newest as-of of the account that had been landed before. `readings` are all
    that were made; the last one is landed. Snapshots of earlier versions have none: they were not judged.
    `clock_skew_s` is this machine's clock less the broker's, in seconds; None if no answer said what time it was.
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

    @property
    def clock_was_wrong(self) -> bool:
        """Whether its instants are not to be compared with those of others. Of earlier versions' the answers tell."""
        pages = [page for pages in self.resources.values() for page in pages]
        skew = clock_skew_s(pages) if self.clock_skew_s is None else self.clock_skew_s
        return skew is not None and clock.is_wrong(timedelta(seconds=skew))


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
        changed = [0.0]
        for path in (self.directory, self.archive_path):
            with suppress(OSError):
                changed.append(path.stat().st_mtime)
        return datetime.fromtimestamp(max(changed), UTC)

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
        except Exception as error:  # a damaged file makes the library raise many things
            raise LandingError(f"cannot read {path}: {error}", "Restore it from a backup.") from None

    def readable_archive(self) -> Archive | None:
        """The archive of the day; None, too, if it is damaged: then the day is what its directory holds."""
        with suppress(LandingError):
            return self.archive()
        return None

    def entries(self) -> set[str]:
        """The names of what was filed and can be listed: snapshots, failures, missed instants of this account and day.

        What else lies there is not ours, and is left out.
        """
        archive = self.readable_archive()
        return {name for name in (*self._plain(), *(archive.entries if archive else ())) if self._is_ours(name)}

    def foreign(self) -> Iterator[Path]:
        """What somebody else put into its directory."""
        return (self.directory / name for name in self._plain() if not self._is_ours(name) and not _is_partial(name))

    def _plain(self) -> list[str]:
        try:
            return [path.name for path in self.directory.iterdir()]
        except OSError:
            return []

    def _is_ours(self, name: str) -> bool:
        snapshot_id = _id_of(name)
        return snapshot_id is not None and self.directory.parts[-2:] == (
            snapshot_id.account_id,
            snapshot_id.trade_date.isoformat(),
        )

    def holds(self, name: str) -> bool:
        """Whether there is such an entry, or such a file of one, that can be reached."""
        if (self.directory / name).exists():
            return True
        archive = self.readable_archive()
        return archive is not None and (name in archive.entries or name in archive.NameToInfo)

    def read(self, name: str) -> bytes:
        """The bytes of a file, such as `<entry>/orders.json`.

        Raises:
            LandingError: it is missing or damaged.
        """
        path = self.directory / name
        archived = self._read_archived(name, self.readable_archive())
        if archived is not None:
            return archived
        try:
            return path.read_bytes()
        except OSError as error:
            if (archived := self._read_archived(name, self.archive())) is not None:  # compacted just now
                return archived
            raise LandingError(f"cannot read {path}: {error.strerror}", "Restore it from a backup.") from None

    def _read_archived(self, name: str, archive: Archive | None) -> bytes | None:
        if archive is None or name not in archive.NameToInfo:
            return None
        try:
            if (size := archive.NameToInfo[name].file_size) > MAX_FILE_BYTES:  # no more than it says is unpacked
                raise ValueError(f"{size} bytes, more than any file has that was landed")
            return archive.read(name)
        except Exception as error:  # a damaged file makes the library raise many things
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
        """What was read.

        Raises:
            LandingError: it is missing, damaged, or that of another snapshot.
        """
        manifest = _read_record(Manifest, self.day, f"{self.directory.name}/{MANIFEST}")
        if manifest.snapshot_id != str(self.snapshot_id):
            path = self.directory / MANIFEST
            raise LandingError(f"{path} is the manifest of {manifest.snapshot_id}", "Restore it from a backup.")
        return manifest

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

    def prove(self) -> None:
        """Read all that was landed of it.

        Raises:
            LandingError: a file is missing or is not what was landed.
        """
        if lacking := [resource for resource in REQUIRED_RESOURCES if not self.pages(resource)]:
            path = self.directory / MANIFEST
            raise LandingError(f"{path} has no page of {', '.join(lacking)}", "Restore it from a backup.")
        for resource in (*self.manifest.resources, "quotes"):
            self.bodies(resource)


@dataclass(frozen=True)
class LandedExtract:
    """A directory of bodies that were landed together with their manifest, apart from the snapshots.

    `DEPTH`: how many directories it lies below the landing zone.
    """

    DEPTH: ClassVar[int]

    directory: Path

    @property
    def path(self) -> str:
        """Its directory relative to the landing zone."""
        return LandingZone(self.directory.parents[self.DEPTH - 1]).relative(self.directory)

    def proven_bodies(self, pages: Iterable[PageRecord]) -> tuple[bytes, ...]:
        """The bodies of pages, proven to be what was landed.

        Raises:
            LandingError: a file is missing or is not what was landed.
        """
        return tuple(proven(self.read(page.file), page, self.directory) for page in pages)

    def read(self, name: str) -> bytes:
        """The bytes of one of its files. Raises LandingError if it cannot be read."""
        path = self.directory / name
        try:
            return path.read_bytes()
        except OSError as error:
            raise LandingError(f"cannot read {path}: {error.strerror}", "Restore it from a backup.") from None


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

    def accounts(self) -> list[str]:
        """The accounts of which anything is filed."""
        return sorted(path.name for path in self.root.glob("*/") if _ACCOUNT.fullmatch(path.name))

    def is_out_of_reach(self, snapshot_id: SnapshotId) -> bool:
        """Whether the archive of its day is damaged, so that nobody can tell whether it was landed."""
        try:
            Day(self._directory(snapshot_id).parent).archive()
        except LandingError:
            return True
        return False

    def days(self, account_id: str | None = None) -> list[Day]:
        """The days of which anything is filed, by account and date."""
        accounts = self.accounts() if account_id is None else [account_id]
        found = [
            path
            for account in accounts
            for kind in ("/", ".zip")
            for path in self.root.glob(f"{account}/{_DATE}{kind}")
        ]
        return [Day(path) for path in sorted({path.with_suffix("") for path in found}) if _is_date(path.name)]

    def snapshots(self, account_id: str | None = None) -> Iterator[LandedSnapshot]:
        """Every landed snapshot, damaged or not, by account and in the order of the instants."""
        for day in self.days(account_id):
            yield from _landed(day)

    def landed_since(self, account_id: str, since: date) -> Iterator[LandedSnapshot]:
        """The landed snapshots of an account on the days since a trade date, damaged or not, by instant."""
        for day in self.days(account_id):
            if day.trade_date >= since:
                yield from _landed(day)

    def newest(self, account_id: str) -> LandedSnapshot | None:
        """The landed snapshot of the account with the latest instant; one that can be read, and a right clock timed."""
        return next((landed for landed in self.latest(account_id) if not landed.manifest.clock_was_wrong), None)

    def latest(self, account_id: str) -> Iterator[LandedSnapshot]:
        """The landed snapshots of the account whose manifests can be read, the latest instant first."""
        for day in reversed(self.days(account_id)):
            for landed in reversed(_landed(day)):
                with suppress(LandingError):
                    landed.manifest  # noqa: B018 - read, and kept
                    yield landed

    def recall(self, account_id: str, read: Callable[[LandedSnapshot], T]) -> T | None:
        """What the latest snapshot of the account says that can be read so; None if none can."""
        for landed in islice(self.latest(account_id), PASSED_OVER):
            with suppress(Exception):  # landed bytes may be anything by now
                return read(landed)
        return None

    def clock_was_wrong(self, snapshot_id: str) -> bool:
        """Whether a landed snapshot is known to have been timed by a wrong clock."""
        landed = self.find(SnapshotId.parse(snapshot_id))
        with suppress(LandingError):
            return landed is not None and landed.manifest.clock_was_wrong
        return False

    def can_be_read(self, path: str) -> bool:
        """Whether the record of an attempt, named as the warehouse does, is there and whole."""
        try:
            self.read_attempt(self.root / path)
        except LandingError:
            return False
        return True

    def damaged(self, account_id: str | None = None) -> Iterator[Damaged]:
        """What is passed over, by path: of all days what is not ours and archives, of the newest also every byte."""
        for path in sorted(self.root.glob("*")) if account_id is None else ():
            if path.name != PRICES and not (path.is_dir() and _ACCOUNT.fullmatch(path.name)):
                yield _foreign(path)
        for account in self.accounts() if account_id is None else [account_id]:
            days = self.days(account)
            named = {path for day in days for path in (day.directory, day.archive_path)}
            for path in sorted((self.root / account).glob("*")):
                if path not in named and path.name not in _BESIDE_DAYS and not _is_partial(path.name):
                    yield _foreign(path)
            for place, day in enumerate(reversed(days)):
                yield from _damaged_day(day, prove=place < PROVEN_DAYS)

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
        """Note that an instant was missed; the first note stays.

        Raises:
            LandingError: it cannot be written, or the archive of the day, which may have it, cannot be read.
        """
        base = self._directory(SnapshotId.parse(missed.snapshot_id))
        path = base.with_name(f"{base.name}{MISSED}")
        day = Day(path.parent)
        day.archive()
        if day.holds(path.name):
            return
        write_whole(path, to_bytes(missed))

    def failures(
        self, account_id: str, *, since: datetime | None = None, day: date | None = None
    ) -> Iterator[FailureRecord]:
        """The failed attempts of an account, oldest first: all, those after an instant, or those of a trade date."""
        records = _readable(
            FailureRecord,
            ((filed, f"{name}/{MANIFEST}") for filed, name in self._recorded(account_id, since, day) if FAILED in name),
        )
        yield from sorted(
            (record for record in records if since is None or record.failed_at > since),
            key=lambda record: record.failed_at,
        )

    def missed(
        self, account_id: str, *, since: datetime | None = None, day: date | None = None
    ) -> Iterator[MissedRecord]:
        """The missed instants of an account, oldest first: all, those after an instant, or those of a trade date."""
        records = _readable(
            MissedRecord,
            ((filed, name) for filed, name in self._recorded(account_id, since, day) if name.endswith(MISSED)),
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
            if since is None or day.directory.is_dir() or day.changed_at >= since:
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
                    told.setdefault(str(_id_of(name)), []).append(day.directory / name)
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


def attempt_records(attempts: Iterable[Attempt]) -> tuple[AttemptRecord, ...]:
    """The client's attempts as manifest records."""
    return tuple(
        AttemptRecord(started_at=attempt.started_at, ended_at=attempt.ended_at, outcome=attempt.outcome)
        for attempt in attempts
    )


def _landed(day: Day) -> list[LandedSnapshot]:
    """What was landed on a day, by instant; not what failed or was missed."""
    found = [(_id_of(name), day.directory / name) for name in day.entries() if _is_landed(name)]
    return [LandedSnapshot(snapshot_id, path) for snapshot_id, path in sorted(found) if snapshot_id is not None]


def _is_landed(name: str) -> bool:
    return FAILED not in name and not name.endswith(MISSED)


@lru_cache(maxsize=65_536)  # half a year of minutes
def _id_of(name: str) -> SnapshotId | None:
    """The snapshot id that a name in the landing zone begins with; None if we did not file it under that name."""
    match = _ENTRY.fullmatch(name)
    if match is None:
        return None
    account, _, instant = match["id"].partition("@")
    day, _, time = instant.partition("T")
    try:
        return SnapshotId.parse(f"{account}@{day}T{time.replace('-', ':')}")
    except SnapshotIdError:
        return None


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _is_partial(name: str) -> bool:
    """What a process that died left behind, which the next one removes."""
    return name.startswith(".") and name.endswith(".tmp")


def _foreign(path: Path) -> Damaged:
    return _damaged(path, f"{path} was not filed by this program; move it elsewhere")


def _damaged(path: Path, reason: object) -> Damaged:
    """Names of any bytes, as text that can be printed."""
    name, why = (str(text).encode(errors="replace").decode() for text in (path, reason))
    return Damaged(name, why)


def _damaged_day(day: Day, *, prove: bool) -> Iterator[Damaged]:
    try:
        if day.archive_path.exists() and not zipfile.is_zipfile(day.archive_path):
            raise LandingError(f"cannot read {day.archive_path}: it is no archive", "Restore it from a backup.")
        if prove:
            day.archive()
        if day.directory.exists():
            next(day.directory.iterdir(), None)
    except LandingError as error:
        yield _damaged(day.archive_path, error)
    except OSError as error:
        yield _damaged(day.directory, f"cannot read {day.directory}: {error.strerror}")
    for path in sorted(day.foreign()):
        yield _foreign(path)
    if prove:
        yield from _damaged_entries(day)


def _damaged_entries(day: Day) -> Iterator[Damaged]:
    for landed in _landed(day):
        try:
            landed.prove()
        except LandingError as error:
            yield _damaged(landed.directory, error)
    for name in sorted(name for name in day.entries() if not _is_landed(name)):
        try:
            LandingZone(day.directory.parents[1]).read_attempt(day.directory / name)
        except LandingError as error:
            yield _damaged(day.directory / name, error)


def _readable(model: type[R], places: Iterable[tuple[Day, str]]) -> Iterator[R]:
    """The records that can be read."""
    for day, name in places:
        with suppress(LandingError):
            yield _read_record(model, day, name)


def clock_skew_s(pages: Iterable[PageRecord]) -> float | None:
    """This machine's clock when an answer had come less the broker's `Date`, in seconds; None if no answer has one.

    The answer that differs least counts: it took the least time on its way. A `Date` has whole seconds.
    """
    skews: list[float] = []
    for page in pages:
        with suppress(ValueError, TypeError, OverflowError):
            sent = parsedate_to_datetime(page.headers["date"]) if "date" in page.headers else None
            if sent is not None and sent.tzinfo is not None:
                skews.append((page.ended_at - sent).total_seconds())
    return min(skews, key=abs, default=None)


def _weight(path: Path) -> tuple[bool, bool, str]:
    """What was landed outweighs what failed, and that what was missed; of the failed the newest."""
    return _is_landed(path.name), FAILED in path.name, path.name.removesuffix("Z")


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
        for leftover in directory.parent.glob(".*.tmp/"):  # of a process that died; the lock says that none is alive
            shutil.rmtree(leftover, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", suffix=".tmp", dir=directory.parent))
        try:
            for name, body in files.items():
                _write_synced(partial / name, body)
            sync(partial)
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


def sync(path: Path) -> None:
    """Make a file, or the names in a directory, outlive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
