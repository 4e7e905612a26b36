"""Dagster's storage breaks while `up` runs on it: the minutes become snapshots all the same, and one line says why."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from tradier_pipeline import clock
from tradier_pipeline.cli import up
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.core.terminal import Condensed
from tradier_pipeline.instance import open_instance
from tradier_pipeline.instance.databases import broken
from tradier_pipeline.warehouse.reads import connect_readonly, snapshot_ids
from tradier_pipeline_tests.cli.test_up import running, until
from tradier_pipeline_tests.conftest import Home, Simulated
from tradier_pipeline_tests.end_to_end.test_random_kills_of_up import MINUTELY
from tradier_pipeline_tests.instance.test_storage_damage import EVENTS, RUNS, SCHEDULES, cut, garbage

TMPFS = "12m"


def gone(path: Path) -> None:
    path.unlink()


def published(home: Home) -> list[str]:
    if not home.warehouse.path.exists():
        return []
    with connect_readonly(home.warehouse.path) as connection:
        return snapshot_ids(connection)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield


@contextmanager
def full(path: Path) -> Iterator[None]:
    ballast = path.parent.parent / "ballast"
    disk = os.statvfs(path)
    try:
        with pytest.raises(OSError, match="No space left"):  # what is free is known to nobody while `up` writes, too
            ballast.write_bytes(bytes(disk.f_blocks * disk.f_frsize))
        yield
    finally:
        ballast.unlink()


@contextmanager
def small_disk(path: Path, size: str = TMPFS) -> Iterator[None]:
    """A directory that is a disk of its own."""
    path.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk takes root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def lines(folder: Path) -> list[str]:
    return (folder / "up.log").read_text().splitlines()


def reported(folder: Path, text: str) -> str | None:
    return next((line for line in lines(folder) if text in line), None)


@pytest.fixture
def dagster_home(home: Home, empty_dagster_home: Path) -> Path:
    return Path(shutil.copytree(empty_dagster_home, home.path / "dagster"))


@pytest.mark.parametrize("name", [RUNS, EVENTS, SCHEDULES])
@pytest.mark.parametrize("damage", [garbage, cut, gone])
def test_a_database_that_is_damaged_is_told_from_one_that_is_sound(
    name: str, damage: Callable[[Path], None], dagster_home: Path
) -> None:
    assert broken(dagster_home, in_use=True) is None
    path = dagster_home / name
    damage(path)
    found = broken(dagster_home, in_use=True)
    assert found is not None
    assert (found.database, found.damaged) == (path, True)


@pytest.mark.parametrize("name", [RUNS, EVENTS, SCHEDULES])
def test_a_database_that_another_program_holds_is_not_damaged(
    name: str, dagster_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tradier_pipeline.instance.databases.BUSY_TIMEOUT_S", 0.0)
    with locked(dagster_home / name):
        found = broken(dagster_home, in_use=True)
        assert found is not None
        assert (found.reason, found.damaged) == ("database is locked", False)
    assert broken(dagster_home, in_use=True) is None


def test_a_full_disk_is_not_damage(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with small_disk(path):
        open_instance(path / "dagster").dispose()
        with full(path / "dagster" / "history"):
            found = broken(path / "dagster", in_use=True)
            assert found is not None
            assert ("full" in found.reason or "disk I/O" in found.reason, found.damaged) == (True, False)
        assert broken(path / "dagster", in_use=True) is None


def test_a_damaged_database_is_moved_aside_and_the_others_stay(
    dagster_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    garbage(dagster_home / EVENTS)
    before = (dagster_home / RUNS).stat().st_ino
    up._make_usable(dagster_home, {}, up._Stopping())
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r"event_log.db: file is not a database. It is moved to event_log.db.damaged-\d{8}T\d{6} and", line)
    assert (dagster_home / RUNS).stat().st_ino == before
    with open_instance(dagster_home) as instance:
        assert instance.get_runs_count() == 0


def test_pages_that_are_damaged_within_are_found_once_dagster_has_met_them(dagster_home: Path) -> None:
    path = dagster_home / RUNS
    body = bytearray(path.read_bytes())
    body[4096 : 4096 * 8] = b"\xff" * 4096 * 7
    path.write_bytes(body)
    watch = up._StorageWatch(dagster_home)
    watch._next = 0.0
    assert (watch.is_broken(), watch.damaged) == (False, [])
    watch.read("sqlalchemy.exc.DatabaseError: (sqlite3.DatabaseError) database disk image is malformed")
    watch._next = 0.0
    assert watch.is_broken()
    assert [found.database for found in watch.damaged] == [path]


def test_while_a_database_is_locked_the_due_minute_becomes_a_snapshot_without_dagster(
    home: Home,
    simulated: Simulated,
    dagster_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in MINUTELY.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tradier_pipeline.instance.databases.BUSY_TIMEOUT_S", 0.0)
    begun, stopping = clock.now().replace(second=0, microsecond=0), up._Stopping()
    with locked(dagster_home / EVENTS):
        thread = threading.Thread(target=up._make_usable, args=(dagster_home, dict(os.environ), stopping))
        thread.start()
        snapshot_id = until("a snapshot without Dagster", lambda: next(iter(published(home)), None), seconds=300)
    thread.join()
    assert SnapshotId.parse(snapshot_id).instant >= begun
    assert SnapshotId.parse(snapshot_id).instant.second == 0
    first, *_, last = capfd.readouterr().err.splitlines()
    assert first.startswith(f"Dagster's storage in {dagster_home} cannot be used: database is locked. End the program")
    assert last == "Dagster's storage can be used again"


def test_a_traceback_in_the_terminal_is_its_last_line() -> None:
    condensed = Condensed()
    printed = [
        "before",
        *("Traceback (most recent call last):", '  File "x.py", line 1, in f', "sqlite3.OperationalError: locked", ""),
        "The above exception was the direct cause of the following exception:",
        *("", "Traceback (most recent call last):", "  File y", "sqlalchemy.exc.OperationalError: locked", "[SQL: x]"),
        "(Background on this error at: https://sqlalche.me/e/21/e3q8)",
        *("sqlite3.DatabaseError: malformed", "", "Stack Trace:", "  File x", "after"),
    ]
    shown = [one for line in printed for one in condensed.feed(line)]
    assert shown + list(condensed.flush()) == ["before", "sqlite3.DatabaseError: malformed", "after"]


# --- under a running `up`


def minutes_after(home: Home, instant: datetime) -> list[str] | None:
    found = [one for one in published(home) if (at := SnapshotId.parse(one).instant) > instant and at.second == 0]
    return found or None


@pytest.mark.soak
@pytest.mark.parametrize("held", [locked, full])
def test_the_minutes_of_up_go_on_while_the_storage_is_locked_or_full(
    held: Callable[[Path], Iterator[None]], home: Home, tmp_path: Path
) -> None:
    with small_disk(home.path / "dagster"), running(tmp_path, MINUTELY):
        until("a snapshot", lambda: published(home) or None, seconds=150)
        with held(home.path / "dagster" / EVENTS):  # type: ignore[attr-defined]
            until("a line that says so", lambda: reported(tmp_path, "the cycles take their snapshots without it"))
            begun = clock.now()
            until("two minutes", lambda: len(minutes_after(home, begun) or ()) >= 2 or None, seconds=240)
        until("the storage", lambda: reported(tmp_path, "Dagster's storage can be used again"))
        begun = clock.now()
        until("a minute with Dagster", lambda: minutes_after(home, begun), seconds=180)
    assert [line for line in lines(tmp_path) if "race" in line or line.startswith("  File")] == []
    assert len([line for line in lines(tmp_path) if "cannot be used" in line]) == 1
