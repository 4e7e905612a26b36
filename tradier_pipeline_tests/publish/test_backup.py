"""A backup is whole or not named, copies only what is new, and is restored into a home that goes on."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import duckdb
import pytest

from tradier_pipeline.core.files import file_sha256
from tradier_pipeline.core.settings import load_settings
from tradier_pipeline.landing.compaction import compact
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.publish.audit import audit
from tradier_pipeline.publish.backup import BackupList
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline_tests.conftest import ROUND_THE_CLOCK, Home, Simulated, take
from tradier_pipeline_tests.support.command_line import run
from tradier_pipeline_tests.support.sampling import sampled


@pytest.fixture(scope="module")
def simulated() -> Iterator[Simulated]:
    with embedded_simulator(None, limits=None, calendar=ROUND_THE_CLOCK) as url:
        yield Simulated(url)


@pytest.fixture(scope="module")
def template(simulated: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a compacted and a plain snapshot, and a ledger."""
    home = Home(tmp_path_factory.mktemp("template") / "home")
    take(home, simulated.broker)
    compact(home.zone, date.max)
    take(home, simulated.broker)
    Ledger(home.path / "ledger.sqlite").request("SIM00000001", "manual")
    return home


@pytest.fixture
def held(home: Home, template: Home) -> Home:
    shutil.copytree(template.path, home.path)
    return home


def back_up(folder: Path | str) -> dict[str, int]:
    result = run("backup", str(folder), "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def lists_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("[!.]*.backup.json"))


def read_list(path: Path) -> BackupList:
    return BackupList.model_validate_json(path.read_bytes())


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with duckdb.connect(path, read_only=True) as connection:
        tables = connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall()
        return {name: connection.execute(f"FROM {name} ORDER BY ALL").fetchall() for (name,) in tables}


def landed(home: Path) -> dict[str, str]:
    files = (path for path in (home / "raw").rglob("*") if path.is_file() and not path.name.endswith(".lock"))
    return {path.relative_to(home).as_posix(): file_sha256(path) for path in files}


def test_a_restored_home_is_the_same_and_continues_the_chain(
    held: Home, simulated: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(tmp_path / "disk")
    result = run("restore", str(tmp_path / "disk"), "--to", str(tmp_path / "new"))
    assert result.exit_code == 0, result.output
    assert "all as filed" in result.stdout
    new = Home(tmp_path / "new")
    assert landed(new.path) == landed(held.path)
    assert rows(new.warehouse.path) == rows(held.warehouse.path)
    with sqlite3.connect(new.path / "ledger.sqlite") as ledger:
        assert ledger.execute("SELECT count(*) FROM snapshot_requests").fetchone() == (1,)
    monkeypatch.setenv("TRADIER_PIPELINE_HOME", str(new.path))
    take(new, simulated.broker)
    done = audit(load_settings())
    assert not done.wrong
    assert done.snapshots == 3


def test_a_second_backup_copies_what_is_new_and_old_ones_stay_restorable(
    held: Home, simulated: Simulated, tmp_path: Path
) -> None:
    first = back_up(tmp_path / "disk")
    unchanged = back_up(tmp_path / "disk")
    assert first["copied_files"] > 10
    assert unchanged["copied_files"] == 0
    take(held, simulated.broker)
    compact(held.zone, date.max)
    more = back_up(tmp_path / "disk")
    assert 0 < more["copied_files"] < first["copied_files"]
    oldest = lists_of(tmp_path / "disk")[0].name[:23]
    assert run("restore", str(tmp_path / "disk"), "--to", str(tmp_path / "old"), "--at", oldest).exit_code == 0
    assert len(list(Home(tmp_path / "old").zone.snapshots())) == 2
    assert run("backup", str(tmp_path / "disk"), "--keep", "1").exit_code == 0
    (left,) = lists_of(tmp_path / "disk")
    objects = {path.name for path in (tmp_path / "disk" / "objects").glob("*/*")}
    assert objects == {file.sha256 for file in read_list(left).files}


def test_a_backup_while_snapshots_are_taken_is_as_filed(held: Home, simulated: Simulated, tmp_path: Path) -> None:
    writer = threading.Thread(target=lambda: [take(held, simulated.broker) for _ in range(3)])
    writer.start()
    try:
        number = 0
        while writer.is_alive() and number < 5:
            number += 1
            back_up(tmp_path / "disk")
            restored = run("restore", str(tmp_path / "disk"), "--to", str(tmp_path / f"new{number}"))
            assert restored.exit_code == 0, restored.output
    finally:
        writer.join()
    assert number > 0


KILLED = """
import os, signal, sys
from tradier_pipeline.cli import main
from tradier_pipeline.publish import backup, backup_places
owner, name, nth, folder = sys.argv[1:]
owner = backup if owner == "module" else backup_places.Folder
before, calls = getattr(owner, name), []
def killed(*args, **kwargs):
    calls.append(1)
    if len(calls) == int(nth):
        os.kill(os.getpid(), signal.SIGKILL)
    return before(*args, **kwargs)
setattr(owner, name, killed)
main(["backup", folder])
"""


@sampled(
    "step",
    [("folder", "put", "1"), ("folder", "put", "6"), ("module", "_take_ledger", "1"), ("folder", "write", "1")],
    kept=(1, 3),
)
def test_a_backup_that_is_killed_is_not_named_and_the_next_one_mends_it(
    held: Home, tmp_path: Path, step: tuple[str, str, str]
) -> None:
    folder = tmp_path / "disk"
    ended = subprocess.run([sys.executable, "-c", KILLED, *step, str(folder)], check=False, env=os.environ)
    assert ended.returncode == -9
    assert lists_of(folder) == []
    back_up(folder)
    assert not list(folder.glob(".*.tmp"))
    assert run("restore", str(folder), "--to", str(tmp_path / "new")).exit_code == 0
    assert landed(tmp_path / "new") == landed(held.path)


def test_what_cannot_be_restored_is_one_line_and_leaves_nothing(held: Home, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    back_up(folder)
    occupied = run("restore", str(folder))
    assert occupied.exit_code == 1
    assert "is not empty" in occupied.stderr
    assert "no such backup" in run("restore", str(tmp_path / "none"), "--to", str(tmp_path / "new")).stderr
    assert "is in the home" in run("backup", str(held.path / "backup")).stderr
    record = read_list(lists_of(folder)[0]).files[-1]
    path = folder / "objects" / record.sha256[:2] / record.sha256
    path.write_bytes(b"x" + path.read_bytes()[1:])
    damaged = run("restore", str(folder), "--to", str(tmp_path / "new"))
    assert damaged.exit_code == 1
    assert "is damaged" in damaged.stderr
    assert not (tmp_path / "new").exists()


def test_a_list_that_leaves_the_home_restores_nothing(held: Home, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    back_up(folder)
    (path,) = lists_of(folder)
    path.write_text(path.read_text().replace('"raw/SIM', '"../raw/SIM'))
    result = run("restore", str(folder), "--to", str(tmp_path / "new"))
    assert result.exit_code == 1
    assert "not in a home" in result.stderr


def test_a_damaged_place_of_the_home_is_still_so_when_it_is_restored_and_named(held: Home, tmp_path: Path) -> None:
    body = next(held.zone.root.glob("*/*/*/orders.json"))
    body.write_bytes(body.read_bytes() + b" ")
    back_up(tmp_path / "disk")
    result = run("restore", str(tmp_path / "disk"), "--to", str(tmp_path / "new"))
    assert result.exit_code == 1
    assert "orders.json" in result.stdout
