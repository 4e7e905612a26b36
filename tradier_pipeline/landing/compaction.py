"""Closed days of the landing zone become one archive each. Readers see no difference (`landing.Day`).

A crash at any point loses nothing: an archive is whole and proven before it gets its name, the files it replaces are
removed after that, and what is in both is read from the archive. The next compaction finishes the job.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.files import create_private, file_sha256, sync, writing
from tradier_pipeline.landing.chained import chain_of
from tradier_pipeline.landing.day import Archive, Day
from tradier_pipeline.landing.errors import LandingError
from tradier_pipeline.landing.zone import LandingZone


@dataclass(frozen=True, slots=True)
class CompactedDay:
    """A day that is now an archive: how many files went into it, what they took, and what it takes. Bytes."""

    account_id: str
    trade_date: date
    files: int
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True, slots=True)
class Compaction:
    """What was compacted, and which days were not and why."""

    days: tuple[CompactedDay, ...]
    refused: Mapping[str, str]


def compact(zone: LandingZone, before: date) -> Compaction:
    """Compact every day before a trade date, one after the other, while nobody reads its account from the broker.

    A day that cannot be compacted stays as it is and keeps no other day from it.
    """
    compacted: list[CompactedDay] = []
    refused: dict[str, str] = {}
    for day in zone.days():
        if day.trade_date >= before or not day.directory.is_dir():
            continue
        account_id = day.directory.parent.name
        try:
            with zone.locked(account_id), writing(day.archive_path):
                files, size = _compact_day(day)
        except (PipelineError, ValueError, OSError) as error:  # a name that no archive can hold, too
            refused[f"{account_id}/{day.trade_date}"] = str(error)
            continue
        if files:
            compacted.append(
                CompactedDay(account_id, day.trade_date, files, size, bytes_after=day.archive_path.stat().st_size)
            )
    return Compaction(tuple(compacted), refused)


def _compact_day(day: Day) -> tuple[int, int]:
    """File what is in the directory of the day in its archive, then remove it; returns how many files and bytes."""
    with chain_of(day.directory.parent).settled():
        pass  # what a process left that died amid filing is no part of the day
    for leftover in day.directory.rglob(".*.tmp"):  # of processes that died
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    paths = sorted(day.directory.rglob("*"))
    files = {path.relative_to(day.directory).as_posix(): path for path in paths if path.is_file()}
    size = sum(path.stat().st_size for path in files.values())
    archive = day.archive()
    archived = frozenset(archive.namelist()) if archive else frozenset()
    for name in archived & files.keys():
        if day.read(name) != files[name].read_bytes():
            raise LandingError(
                f"{files[name]} is not what {day.archive_path} holds under its name",
                "Remove the one whose manifest does not have its sha256.",
            )
    if files.keys() - archived:
        _write_archive(day, sorted(archived | files.keys()))
    _remove(files.values(), [day.directory, *(path for path in paths if path.is_dir())])
    return len(files), size


def _write_archive(day: Day, names: Collection[str]) -> None:
    """Write the archive beside its name, prove it, and file it by one rename."""
    partial = day.archive_path.with_name(f".{day.archive_path.name}.tmp")
    try:
        create_private(partial)
        with Archive(partial, "w") as archive:
            for name in names:
                archive.writestr(zipfile.ZipInfo(name), day.read(name), zipfile.ZIP_DEFLATED)
        sync(partial)
        with Archive(partial) as archive:
            for name in names:
                if archive.read(name) != day.read(name):
                    raise LandingError(f"{partial} does not hold {name} as it was landed", "Check the disk.")
        with chain_of(day.archive_path.parent).filing(day.archive_path.name, file_sha256(partial), "archived"):
            partial.replace(day.archive_path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(partial.parent)


def _remove(files: Collection[Path], directories: Collection[Path]) -> None:
    for path in files:
        path.unlink()
    for directory in sorted(directories, reverse=True):
        with suppress(OSError):  # something was filed there just now; the next compaction takes it
            directory.rmdir()
