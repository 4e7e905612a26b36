"""Publishing: all of a snapshot or nothing of it, one writer at a time, and never anything but what was proven."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tradier_pipeline.broker.errors import BrokerError
from tradier_pipeline.core.files import BusyError
from tradier_pipeline.core.settings import DEMO_ACCOUNT, Settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.landing.manifest import MissedRecord
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.publish import store
from tradier_pipeline.publish.missed import new_missed
from tradier_pipeline.publish.reverify import reverify
from tradier_pipeline.publish.store import NotPublishedError, rebuild, store_snapshot
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.simulator.world import ROUND_THE_CLOCK
from tradier_pipeline.verify import verify_snapshot
from tradier_pipeline.warehouse import schema, staging
from tradier_pipeline.warehouse.reads import connect_readonly, snapshot_ids
from tradier_pipeline.warehouse.staging import WarehouseError, insert
from tradier_pipeline_tests.conftest import Home, Simulated, miscount, take
from tradier_pipeline_tests.end_to_end.test_crashes import stored
from tradier_pipeline_tests.support.crash_child import Job, Nursery
from tradier_pipeline_tests.support.sampling import sampled

pytestmark = pytest.mark.usefixtures("without_days")


@pytest.fixture(scope="module")
def simulated() -> Iterator[Simulated]:
    with embedded_simulator(None, limits=None, calendar=ROUND_THE_CLOCK) as url:
        yield Simulated(url)


def _published(home: Home) -> list[str]:
    with connect_readonly(home.warehouse.path) as connection:
        return snapshot_ids(connection)


def test_storing_a_snapshot_again_yields_identical_rows(home: Home, good: LandedSnapshot) -> None:
    before = stored(home.warehouse.path)
    store_snapshot(home.warehouse, good)
    assert stored(home.warehouse.path) == before
    assert home.warehouse.path.stat().st_mode & 0o777 == 0o444


def test_a_quote_in_the_path_is_part_of_the_path(home: Home, simulated: Simulated) -> None:
    landed, _ = take(Home(home.path / "it's"), simulated.broker)
    assert _published(Home(home.path / "it's")) == [str(landed.snapshot_id)]


def test_a_file_keeps_the_blocks_it_was_made_with_until_it_is_rebuilt(
    home: Home, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier version made larger ones, and DuckDB opens a file with its own size only."""

    def block_size() -> int:
        with connect_readonly(home.warehouse.path) as connection:
            return connection.execute("SELECT block_size FROM pragma_database_size()").fetchall()[0][0]

    monkeypatch.setattr(staging, "BLOCK_SIZE", 262_144)
    take(home, simulated.broker)
    monkeypatch.setattr(staging, "BLOCK_SIZE", 131_072)
    take(home, simulated.broker)
    assert (len(_published(home)), block_size()) == (2, 262_144)
    rebuilt = rebuild(home.warehouse, home.zone, lambda _: None)
    assert (rebuilt.published, rebuilt.kept_findings, block_size()) == (2, True, 131_072)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, duckdb.Error])
def test_a_block_that_raises_publishes_nothing(home: Home, error: type[BaseException], good: LandedSnapshot) -> None:
    before = home.warehouse.path.read_bytes()
    reported = WarehouseError if error is duckdb.Error else error

    def break_off() -> None:
        with home.warehouse.staged() as staged:
            staged.connection.execute("DELETE FROM positions")
            raise error("broken")

    with pytest.raises(reported):
        break_off()
    assert home.warehouse.path.read_bytes() == before
    assert [path.name for path in home.path.iterdir() if "staged" in path.name] == []


def test_a_copy_that_is_thrown_away_when_its_writer_dies_keeps_no_log(home: Home, good: LandedSnapshot) -> None:
    with home.warehouse.staged() as staged:
        staged.connection.execute("DELETE FROM positions")
        assert [path.name for path in home.path.iterdir() if path.suffix == ".wal"] == []
    with connect_readonly(home.warehouse.path) as connection:
        assert connection.execute("SELECT count(*) FROM positions").fetchone() == (0,)


def test_a_snapshot_that_fails_a_blocking_check_is_never_visible(
    home: Home, simulated: Simulated, monkeypatch: pytest.MonkeyPatch, good: LandedSnapshot
) -> None:
    monkeypatch.setattr(
        store,
        "verify_snapshot",
        lambda *given: [replace(outcome, passed=False) for outcome in verify_snapshot(*given)],
    )
    with pytest.raises(NotPublishedError, match="last good snapshot stays current"):
        take(home, simulated.broker)
    assert _published(home) == [str(good.snapshot_id)]
    monkeypatch.undo()
    assert len(list(home.zone.snapshots())) == 2


def _set_version(path: Path, version: int) -> None:
    path.chmod(0o644)
    with duckdb.connect(path) as connection:
        connection.execute(f"CREATE OR REPLACE MACRO schema_version() AS {version}")


@pytest.mark.parametrize(
    ("version", "reported"), [(10_000, r"has schema version 10000.*Upgrade"), (0, r"older schema version 0.*rebuild")]
)
def test_a_warehouse_of_another_version_is_told_and_left_alone(
    home: Home, simulated: Simulated, version: int, reported: str, good: LandedSnapshot
) -> None:
    _set_version(home.warehouse.path, version)
    before = home.warehouse.path.read_bytes()
    with pytest.raises(WarehouseError, match=reported):
        take(home, simulated.broker)
    assert home.warehouse.path.read_bytes() == before
    if not version:
        assert rebuild(home.warehouse, home.zone, lambda _: None).published == 2


def _make_version_1(path: Path) -> None:
    """What the first version left: no gate, no missed instants."""
    _set_version(path, 1)
    with duckdb.connect(path) as connection:
        connection.execute("DROP VIEW trade_gate; DROP VIEW heartbeats")
        connection.execute("DROP TABLE trade_gate_readings; DROP TABLE missed_snapshots")


@pytest.mark.soak  # of the version before: below
def test_a_warehouse_of_the_first_version_is_completed_by_the_next_snapshot(
    home: Home, simulated: Simulated, good: LandedSnapshot
) -> None:
    refused = f"{DEMO_ACCOUNT}@2026-01-05T14:31:00Z"
    home.zone.record_missed(
        MissedRecord(snapshot_id=refused, trigger="monitor_cycle", recorded_at=good.manifest.as_of, reason="overlap")
    )
    _make_version_1(home.warehouse.path)
    with pytest.raises(WarehouseError, match="Take a snapshot, which completes an older one"):
        list(reverify(Settings(pipeline_home=home.path), [], everything=True))

    take(home, simulated.broker)
    completed = stored(home.warehouse.path)
    assert len(completed["trade_gate_readings"]) == 2
    results = list(reverify(Settings(pipeline_home=home.path), [], everything=True))
    assert [outcome.check for result in results for outcome in result.outcomes if outcome.blocks] == []
    with connect_readonly(home.warehouse.path) as connection:
        assert connection.execute("SELECT snapshot_id FROM missed_snapshots").fetchall() == [(refused,)]
        assert connection.execute("SELECT account_id FROM trade_gate").fetchall() == [(DEMO_ACCOUNT,)]
    rebuild(home.warehouse, home.zone, lambda _: None)
    assert stored(home.warehouse.path) == completed


def _make_version_7(path: Path) -> None:
    """Its names of what holds now were those of the tables with all that was ever read."""
    _set_version(path, 7)
    with duckdb.connect(path) as connection:
        for view in schema.CURRENT_ACTIVITY:
            connection.execute(f"DROP VIEW {view.name}; ALTER TABLE {view.name}_versions RENAME TO {view.name}")
        for name in ("account_statements", "pnl_by_symbol", "account_environments"):
            connection.execute(f"DROP VIEW {name}")
        connection.execute("ALTER TABLE activity_extracts DROP COLUMN dates")
        connection.execute(
            "CREATE OR REPLACE VIEW cash_flows AS SELECT * FROM account_activity WHERE retracted_at IS NULL"
        )


def _lots(home: Home) -> list[tuple[Any, ...]]:
    with connect_readonly(home.warehouse.path) as connection:
        return connection.execute("FROM closed_lots_versions ORDER BY ALL").fetchall()


def test_a_warehouse_of_the_version_before_is_brought_over_with_what_was_taken_back(
    home: Home, simulated: Simulated, good: LandedSnapshot
) -> None:
    day, night = date(2025, 11, 18), datetime(2025, 11, 19, 13, tzinfo=UTC)
    lot = {"account_id": DEMO_ACCOUNT, "close_date": day, "open_date": day, "symbol": "F", "quantity": 1, "cost": 1}
    lot |= {"proceeds": 3, "gain_loss": 2, "ordinal": 1, "first_read_at": night, "last_read_at": night}
    with home.warehouse.staged() as staged:
        rows = [lot | {"content_key": "a", "retracted_at": night}, lot | {"content_key": "b", "gain_loss": 1}]
        insert(staged.connection, schema.CLOSED_LOTS, rows)
    before = _lots(home)
    _make_version_7(home.warehouse.path)
    with home.warehouse.staged():
        pass  # what is published first need not be a snapshot
    take(home, simulated.broker)
    assert _lots(home) == before
    with connect_readonly(home.warehouse.path) as connection:
        assert connection.execute("SELECT sum(gain_loss) FROM closed_lots").fetchall() == [(1,)]
        assert connection.execute("FROM cash_flows").fetchall() == []
        assert connection.execute("SELECT gain_loss FROM pnl_by_symbol").fetchall() == [(1,)]
        assert connection.execute("SELECT schema_version()").fetchone() == (schema.SCHEMA_VERSION,)


@pytest.mark.soak  # a snapshot completes it: above
def test_only_a_snapshot_completes_an_older_warehouse_whatever_is_published_before_it(
    home: Home, simulated: Simulated, good: LandedSnapshot
) -> None:
    _make_version_1(home.warehouse.path)
    missed = SnapshotId.parse(f"{DEMO_ACCOUNT}@2026-01-05T14:31:00Z")
    home.zone.record_missed(
        MissedRecord(snapshot_id=str(missed), trigger="manual", recorded_at=good.manifest.as_of, reason="overlap")
    )
    with home.warehouse.staged() as staged:
        staged.miss(new_missed(staged.connection, home.zone, missed))
    take(home, simulated.broker)
    with connect_readonly(home.warehouse.path) as connection:
        assert connection.execute("SELECT count(*) FROM trade_gate_readings").fetchone() == (2,)
        assert connection.execute("SELECT schema_version()").fetchone() == (schema.SCHEMA_VERSION,)


def _missed(home: Home) -> list[tuple[str, ...]]:
    with connect_readonly(home.warehouse.path) as connection:
        return connection.execute("FROM missed_snapshots ORDER BY ALL").fetchall()


def test_a_rebuild_finds_the_missed_the_failed_and_the_refused_again(
    home: Home, simulated: Simulated, good: LandedSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = MissedRecord(
        snapshot_id=f"{DEMO_ACCOUNT}@2026-01-05T14:31:00Z",
        trigger="monitor_cycle",
        recorded_at=good.manifest.as_of,
        reason="overlap",
    )
    home.zone.record_missed(late)
    simulated.fault("/balances", "status", status=400, body="no", times=1)
    with pytest.raises(BrokerError):
        take(home, simulated.broker)
    with monkeypatch.context() as patched:
        miscount(patched)
        with pytest.raises(NotPublishedError):
            take(home, simulated.broker)
    reported = _missed(home)
    assert sorted(row[4] for row in reported) == ["failed", "missed", "refused"]
    take(home, simulated.broker)
    assert _missed(home) == reported
    rebuild(home.warehouse, home.zone, lambda _: None)
    assert _missed(home) == [row for row in reported if row[4] != "refused"]  # our mistake has been mended meanwhile


def test_a_failure_that_cannot_be_published_is_still_told_as_what_it_is(
    home: Home, simulated: Simulated, good: LandedSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    miscount(monkeypatch)
    monkeypatch.setattr(staging.StagedWarehouse, "miss", _disk_full_on_what_is_missed)
    with pytest.raises(NotPublishedError, match="balances_equal"):
        take(home, simulated.broker)
    monkeypatch.undo()
    assert _missed(home) == []
    take(home, simulated.broker)  # the next one brings it along
    assert [row[4] for row in _missed(home)] == ["refused"]


def _disk_full_on_what_is_missed(_: staging.StagedWarehouse, missed: list[object]) -> None:
    if missed:
        raise WarehouseError("cannot write", "Free some space.")


@sampled("damage", ["text", "empty", "cut", "torn page", "header"], kept=(0, 3))
def test_a_corrupt_warehouse_names_the_rebuild_and_the_rebuild_repairs_it(
    home: Home, damage: str, good: LandedSnapshot
) -> None:
    path, before = home.warehouse.path, stored(home.warehouse.path)
    body = path.read_bytes()
    path.chmod(0o644)
    noise = os.urandom(4096)
    damaged = {
        "text": b"not a database\n" * 1000,
        "empty": b"",
        "cut": body[: len(body) // 2],
        "torn page": b"".join(
            body[at : at + 4096] if at < 12288 or at % 65536 else noise for at in range(0, len(body), 4096)
        ),
        "header": noise + body[4096:],
    }[damage]
    path.write_bytes(damaged)
    with pytest.raises(WarehouseError, match="tradier-pipeline rebuild"):
        store_snapshot(home.warehouse, good)
    assert path.read_bytes() == damaged
    assert rebuild(home.warehouse, home.zone, lambda _: None).published == 1
    assert stored(path) == before


def test_a_rebuild_keeps_the_rows_of_what_is_damaged_by_now(
    home: Home, simulated: Simulated, good: LandedSnapshot
) -> None:
    snapshots = [good, *(take(home, simulated.broker)[0] for _ in range(2))]
    (snapshots[1].directory / "manifest.json").write_text("{")
    (snapshots[2].directory / "orders.json").write_text('{"orders":"null"}')
    rebuilt = rebuild(home.warehouse, home.zone, lambda _: None)
    assert _published(home) == [str(landed.snapshot_id) for landed in snapshots]
    assert (rebuilt.published, rebuilt.kept_rows) == (1, 2)
    assert rebuilt.refused.keys() == {str(snapshots[number].snapshot_id) for number in (1, 2)}


@pytest.mark.parametrize("damaged", [False, True], ids=["goes on", "is rebuilt without landed bytes"])
def test_a_home_of_an_earlier_version_gets_the_figures_of_its_spreads_and_its_short_options(
    home: Home, good: LandedSnapshot, *, damaged: bool
) -> None:
    queries = ("FROM option_spreads ORDER BY spread_no", "FROM short_options ORDER BY row_no")
    with connect_readonly(home.warehouse.path) as connection:
        before = [connection.execute(query).fetchall() for query in queries]
    home.warehouse.path.chmod(0o644)
    with duckdb.connect(str(home.warehouse.path)) as connection:
        for column in schema.SPREAD_FIGURES:
            connection.execute(f"ALTER TABLE option_spreads DROP COLUMN {column.name}")
        connection.execute("DROP TABLE short_options; CREATE OR REPLACE MACRO schema_version() AS 16")
    if damaged:
        (good.directory / "manifest.json").write_text("{")
        assert rebuild(home.warehouse, home.zone, lambda _: None).kept_rows == 1
    with home.warehouse.staged():
        pass
    with connect_readonly(home.warehouse.path) as connection:
        assert [connection.execute(query).fetchall() for query in queries] == before
    assert all(rows and all(row[-1] is not None for row in rows) for rows in before)


def test_a_second_writer_is_told_who_holds_the_warehouse(
    home: Home, simulated: Simulated, children: Nursery, monkeypatch: pytest.MonkeyPatch, good: LandedSnapshot
) -> None:
    stopped = Job(
        home=str(home.path),
        url=simulated.url,
        snapshot_id=str(SnapshotId.now(DEMO_ACCOUNT)),
        point="K5",
        signal=signal.SIGSTOP,
    )
    holder = children.start(stopped)
    assert children.wait(holder).stopped
    assert _published(home) == [str(good.snapshot_id)]  # a reader does not wait for it

    monkeypatch.setattr(staging, "LOCK_TIMEOUT_S", 0.0)
    with pytest.raises(BusyError, match=rf"is being written by process {holder}, for more than"):
        store_snapshot(home.warehouse, good)
    os.kill(holder, signal.SIGKILL)
    assert children.wait(holder).signal == signal.SIGKILL
    store_snapshot(home.warehouse, good)  # what the dead held is free


@pytest.mark.soak  # of one snapshot: below
def test_writers_of_different_snapshots_wait_for_each_other(
    home: Home, simulated: Simulated, children: Nursery, good: LandedSnapshot
) -> None:
    jobs = [
        Job(home=str(home.path), url=simulated.url, snapshot_id=str(SnapshotId.now(account)))
        for account in (DEMO_ACCOUNT, "SIM00000002")
    ]
    slow = children.start(replace(jobs[0], point="K5", signal=signal.SIGSTOP))
    assert children.wait(slow).stopped
    waiting = children.start(jobs[1])
    os.kill(slow, signal.SIGCONT)
    assert [children.wait(pid).code for pid in (slow, waiting)] == [0, 0]
    assert sorted(_published(home)) == sorted([str(good.snapshot_id), *(job.snapshot_id for job in jobs)])


@sampled("where", ["K2", "K5"], kept=[1])
def test_processes_asked_for_one_snapshot_fetch_it_once(
    home: Home, simulated: Simulated, children: Nursery, where: str
) -> None:
    simulated.admin("DELETE", "requests")
    job = Job(home=str(home.path), url=simulated.url, snapshot_id=str(SnapshotId.now(DEMO_ACCOUNT)))
    slow = children.start(replace(job, point=where, signal=signal.SIGSTOP))
    assert children.wait(slow).stopped
    others = [children.start(job) for _ in range(2)]
    os.kill(slow, signal.SIGCONT)
    assert [children.wait(pid).code for pid in (slow, *others)] == [0, 0, 0]
    assert len(simulated.requests()) == 5
    once = stored(home.warehouse.path)
    assert len(once["tradier_snapshots"]) == 1
    (landed,) = home.zone.snapshots()
    store_snapshot(home.warehouse, landed)
    assert stored(home.warehouse.path) == once
