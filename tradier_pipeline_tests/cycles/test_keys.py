"""Keys that somebody typed, and runs that read nothing: one line each, and nothing left behind."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import pytest

from tradier_pipeline import clock
from tradier_pipeline.assets.missed_minutes import record_gaps
from tradier_pipeline.assets.raw import raw_key
from tradier_pipeline.core.settings import DEMO_ACCOUNT, load_settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.cycles.accounts import running_partitions
from tradier_pipeline.monitoring.status import read_status
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home, Simulated, miscount, take
from tradier_pipeline_tests.cycles.conftest import CLOSE, MINUTE, OPEN, Clock
from tradier_pipeline_tests.support.dagster_runs import SNAPSHOT, failure, new_key, run_job
from tradier_pipeline_tests.support.sampling import sampled

KEYS = "tradier_snapshots"
OLD = f"{DEMO_ACCOUNT}@2020-06-01T14:31:00Z"


def accounts(home: Home) -> list[str]:
    return [account.account_id for account in read_status(load_settings()).accounts]


MISTYPED: list[tuple[str | None, str]] = [
    (None, "NOPE123 is not among the accounts of this access token"),
    ("NOPE123@2020-06-01T14:31:00Z", "was missed: nothing was landed within 60 s of the instant"),
    (OLD, "was missed: nothing was landed within 60 s of the instant"),
    (f"{DEMO_ACCOUNT}@2099-06-01T14:31:00Z", "lies in the future"),
    (f"{DEMO_ACCOUNT}@today", "is not a snapshot id"),
    ("../../x@2026-01-05T14:31:00Z", "is not a snapshot id"),
]


WRONG = [(job, key, reported) for job in ("snapshot", "trade_cycle") for key, reported in MISTYPED]


@sampled("cases", [[*WRONG[:6], WRONG[8]], [*WRONG[6:8], *WRONG[9:]]])
def test_a_mistyped_key_is_told_in_one_line_and_leaves_nothing_behind(
    cases: list[tuple[str, str | None, str]], home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    take(home, simulated.broker)
    for job, mistyped, reported in cases:
        key = mistyped or str(SnapshotId.now("NOPE123"))
        result = run_job(instance, key, job=job)
        assert not result.success, key
        assert reported in failure(result)
        assert "\n" not in failure(result)
        assert instance.get_dynamic_partitions(KEYS) == [], key
        assert accounts(home) == [DEMO_ACCOUNT], key
        assert list(home.zone.missed(DEMO_ACCOUNT)) == [], key
        assert list(home.zone.failures(DEMO_ACCOUNT)) == [], key
        with connect_readonly(home.warehouse.path) as connection:
            assert connection.execute("SELECT count(*) FROM missed_snapshots").fetchone() == (0,), key


@sampled("assets", [["trade_gate"], ["tradier_snapshot", "portfolio_positions"], ["findings"]], kept=(1,))
def test_what_needs_a_snapshot_that_is_not_landed_leaves_no_key(
    assets: list[str], home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    from tradier_pipeline_tests.support.dagster_runs import definitions

    take(home, simulated.broker)
    instance.add_dynamic_partitions(KEYS, [OLD])
    job = definitions().resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance,
        partition_key=OLD,
        asset_selection=[dg.AssetKey(name) for name in assets] if assets[0] != "tradier_snapshot" else _whole(job),
        raise_on_error=False,
    )
    assert not result.success
    assert "is not" in failure(result)
    assert instance.get_dynamic_partitions(KEYS) == []


def _whole(job: dg.JobDefinition) -> list[dg.AssetKey]:
    keys = ("tradier_snapshot", "portfolio_positions", "option_spreads", "conservation")
    return [dg.AssetKey(name) for name in keys]


def test_the_job_without_a_partition_is_told_in_one_line(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    result = run_job(instance, None)
    assert failure(result) == (
        "the job snapshot takes the snapshot of one partition, and none was named. "
        "Launch it on a partition, or launch the job request_snapshot, which takes a snapshot of now."
    )


def test_a_partition_exists_from_when_it_is_landed_whether_it_is_published_or_not(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulated.fault("/balances", "status", status=400)
    assert not run_job(instance, new_key()).success
    simulated.heal()
    assert instance.get_dynamic_partitions(KEYS) == []
    miscount(monkeypatch)
    key = new_key()
    assert not run_job(instance, key).success
    assert instance.get_dynamic_partitions(KEYS) == [key]


@pytest.mark.parametrize("status", ["NOT_STARTED", "STARTED"])
def test_only_a_run_that_will_read_the_broker_holds_the_account(
    status: str, home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    from dagster._core.test_utils import create_run_for_test

    landed, _ = take(home, simulated.broker)
    old = (landed.snapshot_id, SnapshotId.parse(OLD), SnapshotId.parse("NOPE123@2020-06-01T14:31:00Z"))
    for snapshot_id in old:
        tags = {"dagster/partition": str(snapshot_id), "dagster/backfill": "abc"}
        create_run_for_test(instance, job_name="snapshot", status=dg.DagsterRunStatus[status], tags=tags)
    now = new_key()
    for selection in ({dg.AssetKey("trade_gate")}, set(), {SNAPSHOT}):
        create_run_for_test(
            instance,
            job_name="__ASSET_JOB",
            status=dg.DagsterRunStatus[status],
            tags={"dagster/partition": now},
            asset_selection=frozenset(selection),
        )
    assert running_partitions(instance, home.zone) == {}
    create_run_for_test(
        instance,
        job_name="__ASSET_JOB",
        status=dg.DagsterRunStatus[status],
        tags={"dagster/partition": now},
        asset_selection=frozenset({raw_key("orders"), SNAPSHOT}),
    )
    assert running_partitions(instance, home.zone) == {DEMO_ACCOUNT: now}


@pytest.mark.usefixtures("without_reports")
def test_the_summary_of_a_day_knows_the_minutes_that_nobody_was_there_for(
    home: Home, simulated: Simulated, machine: Clock, instance: dg.DagsterInstance
) -> None:
    """It died at 15:11 New York time and came back at 17:09."""
    died = CLOSE - 49 * MINUTE
    machine.time = died - 2 * MINUTE + timedelta(seconds=1)
    record_gaps(load_settings(), instance)
    simulated.admin("POST", "clock", {"now": machine.time.isoformat()})
    key = f"{DEMO_ACCOUNT}@{clock.iso(died - 2 * MINUTE)}"
    assert run_job(instance, key, job="monitor_cycle", tags={"tradier/trigger": "monitor_cycle"}).success
    machine.time = CLOSE + timedelta(hours=1, minutes=10)
    result = run_job_of_day(instance, str(OPEN.date()))
    assert result.success
    with connect_readonly(home.warehouse.path) as connection:
        found = connection.execute("SELECT trade_date, missed FROM daily_summaries").fetchall()
        causes = connection.execute("SELECT DISTINCT reason FROM missed_snapshots").fetchall()
    # every minute from 15:10 to 15:59, the syncs at the close, a quarter of an hour after it, 16:30 and 17:00
    assert found == [(OPEN.date(), 50 + 4)]
    assert causes == [("the scheduler was not running",)]


def run_job_of_day(instance: dg.DagsterInstance, day: str) -> dg.ExecuteInProcessResult:
    from tradier_pipeline_tests.support.dagster_runs import definitions

    job = definitions().resolve_job_def("daily_summary")
    return job.execute_in_process(instance=instance, partition_key=day, raise_on_error=False)


def test_a_missed_instant_of_the_future_closes_no_gate(home: Home, simulated: Simulated) -> None:
    """Earlier versions recorded those of a tick that was previewed."""
    take(home, simulated.broker)
    ahead = SnapshotId(DEMO_ACCOUNT, (clock.now() + timedelta(minutes=45)).replace(microsecond=0))
    row = {
        "snapshot_id": str(ahead),
        "account_id": DEMO_ACCOUNT,
        "trade_date": ahead.trade_date,
        "requested_at": ahead.instant,
        "kind": "missed",
        "trigger": "monitor_cycle",
        "reason": "previewed",
        "missed_at": ahead.instant,
        "recorded_at": clock.now(),
        "path": f"{DEMO_ACCOUNT}/x.missed.json",
    }
    with home.warehouse.staged() as staged:
        staged.miss([row])
    with connect_readonly(home.warehouse.path) as connection:
        (missed,) = connection.execute("SELECT missed FROM trade_gate").fetchone() or (None,)
    assert missed == 0
