"""A whole session at accelerated time: the real schedules, the real runs, a real broker on a socket."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import dagster as dg
import pytest

from tradier_pipeline import clock
from tradier_pipeline.assets.missed_minutes import record_gaps
from tradier_pipeline.core.settings import DEMO_ACCOUNT, load_settings
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home, Simulated
from tradier_pipeline_tests.cycles.conftest import OPEN, Clock
from tradier_pipeline_tests.support.dagster_runs import CYCLES, evaluate, run_job
from tradier_pipeline_tests.support.sampling import sampled

pytestmark = pytest.mark.usefixtures("without_days")

MINUTE = timedelta(minutes=1)


class Session:
    """Time goes by minute by minute; what the schedules ask for is run to its end before the next one."""

    def __init__(self, home: Home, simulated: Simulated, machine: Clock, instance: dg.DagsterInstance) -> None:
        self.home = home
        self.simulated = simulated
        self.machine = machine
        self.instance = instance
        self.outcomes: dict[str, list[bool]] = {}

    def tick(self, minute: int) -> None:
        """One minute of the session, counted from its open."""
        instant = OPEN + minute * MINUTE
        self.machine.time = instant + timedelta(seconds=1)
        self.simulated.admin("POST", "clock", {"now": self.machine.time.isoformat()})
        for cycle in CYCLES:
            requests, _ = evaluate(self.instance, cycle, instant)
            for request in requests:
                key = str(request.run_key)
                tags = {**request.tags, "dagster/schedule_name": cycle}  # as the daemon does
                done = run_job(self.instance, key, job=cycle, tags=tags)
                self.outcomes.setdefault(key, []).append(done.success)

    def keys(self, minutes: range) -> set[str]:
        return {f"{DEMO_ACCOUNT}@{clock.iso(OPEN + minute * MINUTE)}" for minute in minutes}

    def published(self) -> dict[str, str]:
        """Snapshot id -> trigger, in the warehouse."""
        with connect_readonly(self.home.warehouse.path) as connection:
            return dict(connection.execute("SELECT snapshot_id, trigger FROM tradier_snapshots").fetchall())

    def rows_of(self, snapshot_ids: set[str]) -> int:
        """Rows in any table, of snapshots that must have none."""
        with connect_readonly(self.home.warehouse.path) as connection:
            query = "SELECT table_name FROM duckdb_columns() WHERE NOT internal AND column_name = 'snapshot_id'"
            tables = [name for (name,) in connection.execute(query).fetchall()]
            found = 0
            for table in tables:
                ids = [name for (name,) in connection.execute(f"SELECT snapshot_id FROM {table}").fetchall()]
                found += sum(name in snapshot_ids for name in ids) if table != "missed_snapshots" else 0
            return found


@pytest.fixture
def session(home: Home, simulated: Simulated, machine: Clock, instance: dg.DagsterInstance) -> Session:
    return Session(home, simulated, machine, instance)


@pytest.mark.parametrize("minutes", [2, pytest.param(390, marks=pytest.mark.soak)])
def test_every_minute_of_the_session_has_one_snapshot_and_costs_five_requests(session: Session, minutes: int) -> None:
    for minute in range(minutes):
        session.tick(minute)
    published = session.published()
    assert set(published) == session.keys(range(minutes))
    assert session.outcomes == {key: [True] for key in published}
    assert Counter(published.values()) == Counter(
        "monitor_cycle,trade_cycle" if minute % 15 == 0 else "monitor_cycle" for minute in range(minutes)
    )
    read_again = sum(len(landed.manifest.readings) - 1 for landed in session.home.zone.snapshots())
    assert len(session.simulated.requests()) == 5 * minutes + 4 * read_again
    assert list(session.home.zone.missed(DEMO_ACCOUNT)) == []


@sampled("minutes", [2, 5])
def test_minutes_without_the_broker_are_as_many_failures_and_nothing_half_written(
    session: Session, minutes: int
) -> None:
    session.tick(0)
    session.simulated.fault("/v1/", "status", status=503, body="down")
    away, back = range(1, 1 + minutes), 1 + minutes
    for minute in away:
        session.tick(minute)
    session.simulated.heal()
    session.tick(back)
    assert set(session.published()) == session.keys(range(1)) | session.keys(range(back, back + 1))
    failures = list(session.home.zone.failures(DEMO_ACCOUNT))
    assert {failure.snapshot_id for failure in failures} == session.keys(away)
    assert all("HTTP 503" in next(iter(failure.errors.values())) for failure in failures)
    assert session.rows_of(session.keys(away)) == 0


def test_ten_minutes_without_the_daemon_are_ten_missed_minutes_and_nothing_is_dated_back(session: Session) -> None:
    session.machine.time = OPEN - MINUTE
    record_gaps(load_settings(), session.instance)
    session.tick(0)
    session.tick(11)  # its run publishes them with its snapshot
    with connect_readonly(session.home.warehouse.path) as connection:
        assert connection.execute("SELECT count(*) FROM missed_snapshots").fetchone() == (10,)
    assert set(session.published()) == session.keys(range(1)) | session.keys(range(11, 12))
    missed = {record.snapshot_id: record.reason for record in session.home.zone.missed(DEMO_ACCOUNT)}
    assert missed == dict.fromkeys(session.keys(range(1, 11)), "the scheduler was not running")
    with connect_readonly(session.home.warehouse.path) as connection:
        late = connection.execute("SELECT max(as_of - requested_at) FROM tradier_snapshots").fetchone()
    assert late == (timedelta(seconds=1),)
