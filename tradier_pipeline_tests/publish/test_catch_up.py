"""What was landed and not published is published by the next snapshot, in order, and said in one line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tradier_pipeline import clock
from tradier_pipeline.cli import main
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.domain.gate import DEFAULT_RULES
from tradier_pipeline.extract.snapshot import extract_snapshot
from tradier_pipeline.landing.manifest import MissedRecord
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.publish.catch_up import catch_up
from tradier_pipeline.publish.store import store_snapshot
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.simulator.world import ROUND_THE_CLOCK
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.damaged import unreadable_tables, waiting_aside
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline.warehouse.staging import Warehouse, WarehouseError, insert
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.end_to_end.test_crashes import kill_command, prove_published, stored
from tradier_pipeline_tests.support.bodies import SMALL_BLOCKS
from tradier_pipeline_tests.support.crash_child import Nursery
from tradier_pipeline_tests.support.sampling import sampled

pytestmark = pytest.mark.usefixtures("without_days")


@pytest.fixture(scope="module")
def simulated() -> Iterator[Simulated]:
    with embedded_simulator(None, limits=None, calendar=ROUND_THE_CLOCK) as url:
        os.environ["TRADIER_BASE_URL"] = url
        yield Simulated(url)
        del os.environ["TRADIER_BASE_URL"]


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments, prog_name="tradier-pipeline")
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def published(home: Home) -> list[str]:
    """In the order of reading."""
    with connect_readonly(home.warehouse.path) as connection:
        found = connection.execute("SELECT snapshot_id FROM tradier_snapshots ORDER BY committed_at, as_of").fetchall()
    return [snapshot_id for (snapshot_id,) in found]


def landed_only(home: Home, simulated: Simulated) -> LandedSnapshot:
    """As a run leaves it that dies between landing and publishing."""
    return extract_snapshot(home.zone, simulated.broker, SnapshotId.now(DEMO_ACCOUNT), "test")


def ids(home: Home) -> list[str]:
    return [str(landed.snapshot_id) for landed in home.zone.snapshots()]


@pytest.mark.soak
def test_what_a_killed_command_landed_is_published_by_the_next_one(
    home: Home, simulated: Simulated, good: LandedSnapshot, children: Nursery
) -> None:
    for point, variant in (("K4", "after landing"), ("K8", "between chmod and rename")):
        kill_command(home, simulated, children, point, variant)
    assert published(home) == [str(good.snapshot_id)]
    (account,) = json.loads(run("status", "--json").stdout)["accounts"]
    assert account["landed_not_published"] == ids(home)[1:]
    assert "landed only     2, from" in run("status").stdout

    result = run("snapshot")
    assert result.stderr.splitlines() == ["caught up from the landing zone: 2 landed snapshots published"]
    assert published(home) == ids(home)
    (account,) = json.loads(run("status", "--json").stdout)["accounts"]
    assert account["landed_not_published"] == []
    prove_published(home)
    control = Warehouse(home.path.with_name("control") / "tradier.duckdb")
    for landed in home.zone.snapshots():
        store_snapshot(control, landed)
    expected, ledgers = stored(control.path), {table.name for table in schema.RECONCILED}
    assert {name: rows for name, rows in stored(home.warehouse.path).items() if name not in ledgers} == {
        name: rows for name, rows in expected.items() if name not in ledgers
    }
    assert run("snapshot").stderr == ""


@sampled("lost", ["an older copy", "deleted"])
def test_a_warehouse_that_is_gone_or_older_catches_up_by_itself(
    lost: str, home: Home, simulated: Simulated, good: LandedSnapshot, tmp_path: Path
) -> None:
    copy = Path(shutil.copyfile(home.warehouse.path, tmp_path / "copy.duckdb"))
    missed_at = replace(good.snapshot_id, instant=good.snapshot_id.instant + timedelta(milliseconds=1))
    taken = [take(home, simulated.broker)[0] for _ in range(2)]
    home.zone.record_missed(
        MissedRecord(snapshot_id=str(missed_at), trigger="test", recorded_at=clock.now(), reason="of the test")
    )
    home.warehouse.path.unlink()
    if lost != "deleted":
        shutil.copyfile(copy, home.warehouse.path)
    result = run("snapshot")
    text = "the warehouse was absent and is rebuilt" if lost == "deleted" else "caught up"
    (line,) = result.stderr.splitlines()
    assert line.startswith(text)
    assert f"{len(taken) + (lost == 'deleted')} landed snapshots published" in line
    assert published(home) == ids(home)
    with connect_readonly(home.warehouse.path) as connection:
        missed = connection.execute("SELECT snapshot_id, reason FROM missed_snapshots").fetchall()
    assert missed == [(str(missed_at), "of the test")]
    prove_published(home)


DAMAGE: Mapping[str, Callable[[Path, bytes], object]] = {
    "text": lambda path, _: path.write_bytes(b"not a database"),
    "empty": lambda path, _: path.touch(),
    "cut": lambda path, body: path.write_bytes(body[: len(body) // 2]),
    "header": lambda path, body: path.write_bytes(b"\0" * 4096 + body[4096:]),
    "directory": lambda path, _: (path / "inside").mkdir(parents=True),
    "pipe": lambda path, _: os.mkfifo(path),
}


@sampled("kind", list(DAMAGE), kept=[2])
def test_a_damaged_warehouse_is_set_aside_and_made_anew_by_the_next_snapshot(
    kind: str, home: Home, simulated: Simulated, good: LandedSnapshot
) -> None:
    path = home.warehouse.path
    body = path.read_bytes()
    path.unlink()
    DAMAGE[kind](path, body)
    own = landed_only(home, simulated).snapshot_id
    caught = catch_up(home.warehouse, home.zone, DEFAULT_RULES, [own])
    assert str(caught).startswith("the warehouse was damaged (")
    assert f"1 landed snapshots published, the damaged file is kept as {caught.kept_as}" in str(caught)
    assert [aside.name for aside in path.parent.glob(f"{path.name}.*")] == [caught.kept_as]
    assert published(home) == [str(good.snapshot_id)]
    assert not catch_up(home.warehouse, home.zone, DEFAULT_RULES, [own])


def test_a_damaged_warehouse_waits_aside_until_several_runs_have_caught_up(
    home: Home, simulated: Simulated, good: LandedSnapshot
) -> None:
    path = home.warehouse.path
    for _ in range(2):
        landed_only(home, simulated)
    path.unlink()
    path.write_bytes(b"not a database")
    own = landed_only(home, simulated).snapshot_id
    first = catch_up(home.warehouse, home.zone, DEFAULT_RULES, [own], seconds=0.0)
    assert (first.damage != "", first.remaining > 0, first.kept_as) == (True, True, "")
    assert waiting_aside(path).read_bytes() == b"not a database"
    last = catch_up(home.warehouse, home.zone, DEFAULT_RULES, [own])
    assert (last.remaining, last.lost) == (0, True)
    assert (path.parent / last.kept_as).read_bytes() == b"not a database"
    assert not waiting_aside(path).exists()
    assert published(home) == ids(home)[:-1]


def test_a_log_that_another_program_left_beside_the_warehouse_stops_no_snapshot(
    home: Home, simulated: Simulated, good: LandedSnapshot
) -> None:
    log = home.warehouse.path.with_name(f"{home.warehouse.path.name}.wal")
    log.write_bytes(b"what a program that was killed has not written yet")
    own = landed_only(home, simulated)
    assert not catch_up(home.warehouse, home.zone, DEFAULT_RULES, [own.snapshot_id])
    store_snapshot(home.warehouse, own)
    assert published(home) == ids(home)
    assert not log.exists()


def cut_out_of_sight(path: Path) -> None:
    """Damage a block that opening the file does not read."""
    body = path.read_bytes()
    path.chmod(0o600)
    for start in range(12288, len(body), SMALL_BLOCKS):
        path.write_bytes(body[: start + 100] + b"damaged" + body[start + 107 :])
        with suppress(WarehouseError), connect_readonly(path) as connection:
            unreadable = [table for table, error in unreadable_tables(connection) if error]
            if unreadable and not any("findings" in table for table in unreadable):
                return
    raise AssertionError("all of it is read when it is opened")


def test_damage_that_is_found_amid_a_snapshot_costs_neither_it_nor_what_no_landed_byte_tells(
    home: Home, simulated: Simulated, good: LandedSnapshot
) -> None:
    texts = ("finding_id", "account_id", "code", "severity", "text", "suggested_action")
    seen = {f"{when}_seen": good.manifest.as_of for when in ("first", "last")}
    ids_seen = {f"{when}_snapshot_id": str(good.snapshot_id) for when in ("first", "last")}
    with home.warehouse.staged() as staged:
        insert(staged.connection, schema.FINDINGS, [dict.fromkeys(texts, "kept") | seen | ids_seen | {"times_seen": 1}])
    cut_out_of_sight(home.warehouse.path)
    line = run("snapshot").stderr
    assert "the warehouse was damaged and is rebuilt from the landing zone: 1 landed snapshots published" in line
    assert published(home) == ids(home)
    assert len(ids(home)) == 2
    with connect_readonly(home.warehouse.path) as connection:
        assert connection.execute("SELECT count(*) FROM findings WHERE code = 'kept'").fetchone() == (1,)


def test_one_that_cannot_be_published_is_left_out_and_named_once(
    home: Home, simulated: Simulated, good: LandedSnapshot
) -> None:
    landed_only(home, simulated)
    damaged = landed_only(home, simulated)
    landed_only(home, simulated)
    (damaged.directory / "orders.json").write_bytes(b"{")
    (line,) = run("snapshot").stderr.splitlines()
    assert "2 landed snapshots published, 1 left out, such as" in line
    assert str(damaged.snapshot_id) in line
    assert published(home) == [one for one in ids(home) if one != str(damaged.snapshot_id)]
    assert run("snapshot").stderr == ""


def test_a_run_that_may_not_take_long_goes_on_where_the_last_one_stopped(
    home: Home, simulated: Simulated, good: LandedSnapshot
) -> None:
    for _ in range(2):
        landed_only(home, simulated)
    home.warehouse.path.unlink()
    own = landed_only(home, simulated).snapshot_id
    remaining = []
    while caught := catch_up(home.warehouse, home.zone, DEFAULT_RULES, [own], seconds=0.0 + len(remaining)):
        remaining.append(caught.remaining)
        assert len(remaining) < 5
    assert remaining[-1] == 0
    assert published(home) == ids(home)[:-1]


def test_nothing_is_written_when_nothing_is_behind(home: Home, good: LandedSnapshot) -> None:
    before = home.warehouse.path.stat()
    assert not catch_up(home.warehouse, home.zone, DEFAULT_RULES)
    assert home.warehouse.path.stat().st_ino == before.st_ino
