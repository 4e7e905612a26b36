"""Whether Dagster's databases can be written, looked at from outside of Dagster and in a moment."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tradier_pipeline.core.settings import read_dagster_storage
from tradier_pipeline.instance import REMEDIES, StorageError, explained, unusable
from tradier_pipeline.instance.postgres import reason_of

DATABASES = ("history/runs.db", "history/event_log.db", "schedules/schedules.db")
SWITCHES = "schedules.db"
BUSY_TIMEOUT_S = 5.0
HEADER = 100  # bytes, of a SQLite file


@dataclass(frozen=True, slots=True)
class Broken:
    """A database that cannot be used, and what SQLite says of it."""

    database: Path
    reason: str

    @property
    def damaged(self) -> bool:
        """Whether waiting does not help: it is garbage, cut off, or gone."""
        return not self.database.is_file() or not any(words in self.reason for words in REMEDIES)

    def error(self, dagster_home: Path) -> StorageError:
        """It in one line, with a remedy."""
        return explained(self.reason, dagster_home)


@dataclass(frozen=True, slots=True)
class Away:
    """A server that cannot be used now, and what PostgreSQL says of it. Waiting may help; nothing is set aside."""

    url: str
    reason: str

    def error(self, _dagster_home: Path) -> StorageError:
        """It in one line, with a remedy."""
        return unusable(self.url, self.reason)


def broken(dagster_home: Path, *, in_use: bool) -> Broken | Away | None:
    """The first database that cannot be written now.

    Args:
        dagster_home: Dagster's directory.
        in_use: Dagster has them open: one that is absent was taken away from under it.
    """
    if url := read_dagster_storage():
        return Away(url, reason) if (reason := reason_of(url)) else None
    for name in DATABASES:
        path = dagster_home / name
        if (in_use or path.exists()) and (reason := _problem(path)):
            return Broken(path, reason)
    return None


def inconsistent(dagster_home: Path) -> Iterator[Broken]:
    """The databases that SQLite's own look at every page rejects. This takes a second a gigabyte."""
    for name in DATABASES:
        path = dagster_home / name
        if not path.exists():
            continue
        try:
            with closing(_connected(path)) as connection:
                (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            found = str(error)
        if found != "ok":
            yield Broken(path, str(found).splitlines()[0])


def set_aside(database: Path, now: datetime) -> Path:
    """Rename a database and its log, so that Dagster begins it anew. Returns the new path."""
    aside = database.with_name(f"{database.name}.damaged-{now:%Y%m%dT%H%M%S}")
    for suffix in ("", "-wal", "-shm"):
        path = database.with_name(database.name + suffix)
        if path.exists():
            path.rename(aside.with_name(aside.name + suffix))
    return aside


def _problem(path: Path) -> str | None:
    try:
        if _is_cut(path):
            return "database disk image is malformed: the end of the file is missing"
        with closing(_connected(path)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute(f"PRAGMA user_version = {version}")  # written although equal: a lock, a full disk show
    except (OSError, sqlite3.Error) as error:
        return str(error)
    return None


def _connected(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)


def _is_cut(path: Path) -> bool:
    """Whether the file is shorter than its own header says: SQLite finds out when it needs what is gone."""
    if not path.is_file():
        return False  # SQLite says what it thinks of that
    with path.open("rb") as file:
        header = file.read(HEADER)
        size = os.fstat(file.fileno()).st_size
    if len(header) < HEADER or not header.startswith(b"SQLite format 3\0"):
        return False
    page_size, pages = int.from_bytes(header[16:18]), int.from_bytes(header[28:32])
    return pages * (65536 if page_size == 1 else page_size) > size
