"""One landed day of an account: a directory of snapshots, or the archive that a closed day was packed into."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property, lru_cache
from pathlib import Path

from tradier_pipeline.core.files import read_file
from tradier_pipeline.core.snapshot_id import SnapshotId, SnapshotIdError
from tradier_pipeline.landing.errors import LandingError

MAX_FILE_BYTES = 64 * 1024 * 1024  # of one file of the landing zone; a body has at most half of it
_ENTRY = re.compile(r"(?P<id>[A-Za-z0-9]+@\d{4}-\d\d-\d\dT[\d.-]+Z)(\.missed\.json|\.failed-.+)?", re.DOTALL)


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
        return (self.directory / name for name in self._plain() if not self._is_ours(name) and not is_partial(name))

    def _plain(self) -> list[str]:
        try:
            return [path.name for path in self.directory.iterdir()]
        except OSError:
            return []

    def _is_ours(self, name: str) -> bool:
        snapshot_id = id_of(name)
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
            return read_file(path)
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


@lru_cache(maxsize=65_536)  # half a year of minutes
def id_of(name: str) -> SnapshotId | None:
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


def is_partial(name: str) -> bool:
    """What a process that died left behind, which the next one removes."""
    return name.startswith(".") and name.endswith(".tmp")
