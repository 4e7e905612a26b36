"""The landing zone: what the broker sent, byte for byte, filed once and never fetched again.

    raw/<account>/<trade date>/<snapshot id, file-safe>/
        account.json balances.json positions.json orders.json manifest.json     filed together
        orders.2.json ... order.json order.2.json ...                           more pages; orders read by their ids
        quotes.json quotes.manifest.json                                        filed right after, once
    raw/<account>/<trade date>/<snapshot id, file-safe>.failed-<instant>/       kept for diagnosis
    raw/<account>/<trade date>/<snapshot id, file-safe>.missed.json             never fetched, and why
    raw/<account>/<trade date>.zip                                              all of a closed day (`compaction`)
    raw/<account>/activity/                                                     what is posted overnight (`activity`)
    raw/<account>/chain                                                         proves that this is as filed (`chain`)
    raw/_prices/                                                                daily prices of symbols (`prices`)
    raw/_dividends/                                                             dividends of symbols (`dividends`)

A directory appears by one rename of a complete, fsynced directory, so whatever we filed is whole. What was damaged
since, or is not ours, never stops what comes: readers of the past pass it over, and `LandingZone.damaged` names it.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import ClassVar, TypeVar

from tradier_pipeline import clock
from tradier_pipeline.core.files import (
    add_files,
    exclusive,
    file_directory,
    make_directory,
    read_file,
    write_whole,
    writing,
)
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.landing.chain import CHAIN, LOCK
from tradier_pipeline.landing.chained import chain_of
from tradier_pipeline.landing.day import Day, id_of, is_partial
from tradier_pipeline.landing.errors import LandingError
from tradier_pipeline.landing.manifest import (
    FailureRecord,
    Manifest,
    MissedRecord,
    PageRecord,
    QuotesManifest,
    R,
    proven,
    to_bytes,
    to_record,
)

REQUIRED_RESOURCES = ("account", "balances", "positions", "orders")
MANIFEST = "manifest.json"
QUOTES_MANIFEST = "quotes.manifest.json"
FAILED = ".failed-"
MISSED = ".missed.json"
PRICES, DIVIDENDS = "_prices", "_dividends"  # no account numbers
OF_THE_MARKET = (DIVIDENDS, PRICES)
LOCK_TIMEOUT_S = 60.0
PASSED_OVER = 60  # snapshots in a row that cannot be used, before the past counts as unknown
PROVEN_DAYS = 5  # the newest days of an account whose bytes `damaged` proves; of older ones it looks at the names

_DATE = "????-??-??"
_ACCOUNT = re.compile(r"[A-Za-z0-9]{1,32}")
_BESIDE_DAYS = frozenset({"activity", ".lock", CHAIN, LOCK})


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Damaged:
    """Something in the landing zone that is passed over: damaged since it was landed, or not filed by us."""

    path: str
    reason: str


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


@contextmanager
def one_reader(folder: Path, what: str) -> Iterator[None]:
    """While something is read that is landed in a folder: nobody else reads it. Raises FileError: it cannot be written.

    Args:
        what: what is or are being read, for who waits in vain: "the prices of SPY are".
    """
    with writing(folder):
        make_directory(folder)
    with exclusive(folder / ".lock", LOCK_TIMEOUT_S, f"{what} being read"):
        yield


@dataclass(frozen=True)
class LandedExtract:
    """A directory of bodies that were landed together with their manifest, apart from the snapshots.

    `DEPTH`: how many directories it lies below the landing zone.
    """

    DEPTH: ClassVar[int]

    directory: Path

    @property
    def zone(self) -> LandingZone:
        """The landing zone it lies in."""
        return LandingZone(self.directory.parents[self.DEPTH - 1])

    @property
    def path(self) -> str:
        """Its directory relative to the landing zone."""
        return self.zone.relative(self.directory)

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
            return read_file(path)
        except OSError as error:
            raise LandingError(f"cannot read {path}: {error.strerror}", "Restore it from a backup.") from None


class LandingZone:
    """The directory tree of everything that was ever read."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def locked(self, account_id: str) -> Iterator[None]:
        """Hold the account: at most one process reads one account at a time.

        Raises:
            BusyError: another process has been reading it for a minute.
            FileError: the landing zone cannot be written.
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
            if path.name not in OF_THE_MARKET and not (path.is_dir() and _ACCOUNT.fullmatch(path.name)):
                yield _foreign(path)
        for account in self.accounts() if account_id is None else [account_id]:
            days = self.days(account)
            named = {path for day in days for path in (day.directory, day.archive_path)}
            for path in sorted((self.root / account).glob("*")):
                if path not in named and path.name not in _BESIDE_DAYS and not is_partial(path.name):
                    yield _foreign(path)
            for place, day in enumerate(reversed(days)):
                yield from _damaged_day(day, prove=place < PROVEN_DAYS)

    @contextmanager
    def filing(self, path: Path, record: bytes) -> Iterator[None]:
        """Announce a record in the chain of its account; file it within.

        Raises:
            BusyError, FileError: it cannot be announced; nothing is to be filed.
        """
        owner = self.root / path.relative_to(self.root).parts[0]
        name = path.relative_to(owner).as_posix()
        with chain_of(owner).filing(name, hashlib.sha256(record).hexdigest()):
            yield

    def file(self, directory: Path, bodies: Mapping[str, bytes], manifest: bytes) -> None:
        """File bodies and the manifest that has their sha256, by one rename. Call it while nobody else files beside it.

        Raises:
            BusyError, FileError: it cannot be written; nothing was filed.
        """
        with self.filing(directory / MANIFEST, manifest):
            file_directory(directory, {**bodies, MANIFEST: manifest})

    def land(self, manifest: Manifest, bodies: Mapping[str, bytes]) -> LandedSnapshot:
        """File a complete snapshot by one rename. Call it while `reading` the account.

        Args:
            manifest: what was read.
            bodies: file name -> body, for every page of the manifest.

        Raises:
            FileError: it cannot be written; nothing was landed.
        """
        snapshot_id = SnapshotId.parse(manifest.snapshot_id)
        directory = self._directory(snapshot_id)
        self.file(directory, bodies, to_bytes(manifest))
        return LandedSnapshot(snapshot_id, directory)

    def land_quotes(self, landed: LandedSnapshot, manifest: QuotesManifest, bodies: Mapping[str, bytes]) -> None:
        """File the quotes beside their snapshot; the manifest last, since it says that they are complete."""
        record = to_bytes(manifest)
        with self.filing(landed.directory / QUOTES_MANIFEST, record):
            add_files(landed.directory, {**bodies, QUOTES_MANIFEST: record})  # its day may have been compacted
        landed.__dict__.pop("quotes", None)

    def land_failed(self, failure: FailureRecord, bodies: Mapping[str, bytes]) -> Path:
        """Keep what a failed attempt did receive. It never counts as landed."""
        base = self._directory(SnapshotId.parse(failure.snapshot_id))
        stamp = clock.iso(failure.failed_at).replace(":", "-")
        directory = base.with_name(f"{base.name}{FAILED}{stamp}")
        self.file(directory, bodies, to_bytes(failure))
        return directory

    def record_missed(self, missed: MissedRecord) -> None:
        """Note that an instant was missed; the first note stays.

        Raises:
            FileError: it cannot be written, or the archive of the day, which may have it, cannot be read.
        """
        base = self._directory(SnapshotId.parse(missed.snapshot_id))
        path = base.with_name(f"{base.name}{MISSED}")
        day = Day(path.parent)
        day.archive()
        if day.holds(path.name):
            return
        record = to_bytes(missed)
        with self.filing(path, record):
            write_whole(path, record)

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
        reported: dict[str, list[Path]] = {}
        for day in self.days(account_id):
            if day.trade_date >= since or day.changed_at >= changed_since:
                for name in day.entries():
                    reported.setdefault(str(id_of(name)), []).append(day.directory / name)
        return {snapshot_id: max(paths, key=_weight) for snapshot_id, paths in reported.items()}

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


def _landed(day: Day) -> list[LandedSnapshot]:
    """What was landed on a day, by instant; not what failed or was missed."""
    found = [(id_of(name), day.directory / name) for name in day.entries() if _is_landed(name)]
    return [LandedSnapshot(snapshot_id, path) for snapshot_id, path in sorted(found) if snapshot_id is not None]


def _is_landed(name: str) -> bool:
    return FAILED not in name and not name.endswith(MISSED)


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


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


def _weight(path: Path) -> tuple[bool, bool, str]:
    """What was landed outweighs what failed, and that what was missed; of the failed the newest."""
    return _is_landed(path.name), FAILED in path.name, path.name.removesuffix("Z")


def _read_record(model: type[R], day: Day, name: str) -> R:
    return to_record(model, day.read(name), day.directory / name)
