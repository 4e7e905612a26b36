"""What the broker tells over night: due once on the morning after a session day, for all accounts, tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from tradier_pipeline import clock
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.cycles.daily import account_activity_schedule
from tradier_pipeline.cycles.on_demand import QUIET
from tradier_pipeline.simulator import store as simulator_store
from tradier_pipeline.simulator import strategy
from tradier_pipeline.verify.activity import ACTIVITY_CHECK
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home, Simulated, Worlds, take
from tradier_pipeline_tests.cycles.conftest import Clock
from tradier_pipeline_tests.support.dagster_runs import definitions, failure, materialized

CASH_ACCOUNT = "SIM00000002"
TABLES = ("account_activity", "closed_lots", "broker_daily_balances")
RAW = ("raw/history", "raw/gainloss", "raw/historical_balances")
MIDNIGHT = datetime(2026, 11, 18, 4, 59, 59, tzinfo=UTC)  # the last second of Tuesday in New York
MORNING = datetime(2026, 11, 18, 12, 10, tzinfo=UTC)
TUESDAY = "2026-11-17"


@pytest.fixture(autouse=True)
def _young_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the broker tells of them is reported in one morning."""
    monkeypatch.setattr(strategy, "_PAST", timedelta(days=6))
    monkeypatch.setattr(simulator_store, "create_world", YOUNG.create)


YOUNG = Worlds()


def evaluate(instance: dg.DagsterInstance, at: str) -> tuple[str, str | None]:
    """The partition that is asked for at a New York time, or why none is, and the run's key."""
    instant = datetime.fromisoformat(at).replace(tzinfo=clock.NEW_YORK)
    with dg.build_schedule_context(instance=instance, scheduled_execution_time=instant) as context:
        context._instance = instance  # type: ignore[assignment]
        answer = account_activity_schedule(context)
    if isinstance(answer, dg.SkipReason):
        return str(answer.skip_message), None
    return str(answer.partition_key), answer.run_key  # type: ignore[union-attr]


def ended(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, times: int = 1) -> None:
    for _ in range(times):
        create_run_for_test(
            instance, job_name="account_activity", status=status, tags={"dagster/partition": "2026-11-25"}
        )


@pytest.mark.parametrize(
    ("at", "day"),
    [
        ("2026-11-24 07:10", "2026-11-23"),
        ("2026-11-24 11:50", "2026-11-23"),  # `up` was not running before
        ("2026-11-27 07:10", "2026-11-25"),  # after Thanksgiving
        ("2026-11-28 07:10", "2026-11-27"),  # on Saturday
        ("2026-11-30 07:10", "2026-11-27"),  # `up` was off on the weekend
    ],
)
def test_the_last_session_day_is_due_in_the_morning(instance: dg.DagsterInstance, at: str, day: str) -> None:
    assert evaluate(instance, at) == (day, f"{day}/1")


def test_the_calendar_without_sessions_reads_every_day(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_CALENDAR", "24/7")
    assert evaluate(instance, "2026-11-27 07:10") == ("2026-11-26", "2026-11-26/1")


def test_a_day_is_read_once_and_a_run_that_is_on_is_waited_for(instance: dg.DagsterInstance) -> None:
    ended(instance, dg.DagsterRunStatus.FAILURE)
    ended(instance, dg.DagsterRunStatus.STARTED)
    assert evaluate(instance, "2026-11-26 07:20") == ("2026-11-25 is being read", None)
    ended(instance, dg.DagsterRunStatus.SUCCESS)
    assert evaluate(instance, "2026-11-26 07:30") == ("2026-11-25 has been read", None)


def test_what_failed_is_tried_again_a_few_times(instance: dg.DagsterInstance) -> None:
    ended(instance, dg.DagsterRunStatus.FAILURE, 5)
    assert evaluate(instance, "2026-11-26 08:00") == ("2026-11-25", "2026-11-25/6")
    ended(instance, dg.DagsterRunStatus.FAILURE)
    assert evaluate(instance, "2026-11-26 08:10") == (
        "2026-11-25 has failed 6 times; the next day reads it, too",
        None,
    )


# ---------------------------------------------------------------- the job


@pytest.fixture
def tuesday(home: Home, simulated: Simulated, machine: Clock) -> Clock:
    """A world at the last second of a Tuesday, by the broker's clock and ours."""
    machine.time = MIDNIGHT
    simulated.admin("POST", "clock", {"now": MIDNIGHT.isoformat()})
    simulated.admin("POST", "reset")
    return machine


def next_morning(simulated: Simulated, machine: Clock) -> None:
    machine.time = MORNING
    simulated.admin("POST", "clock", {"now": MORNING.isoformat()})


def run_activity(instance: dg.DagsterInstance, day: str = TUESDAY) -> dg.ExecuteInProcessResult:
    job = definitions().resolve_job_def("account_activity")
    return job.execute_in_process(instance=instance, partition_key=day, run_config=QUIET, raise_on_error=False)


def query(home: Home, sql: str) -> list[tuple[Any, ...]]:
    with connect_readonly(home.warehouse.path) as connection:
        return connection.execute(sql).fetchall()


def metadata(result: dg.ExecuteInProcessResult, node: str, key: str) -> dict[str, Any]:
    found = {event.asset_key.to_user_string(): event for event in result.asset_materializations_for_node(node)}
    return {name: value.value for name, value in found[key].metadata.items()}


def version_of(instance: dg.DagsterInstance, asset: str) -> str | None:
    """The data version of the newest materialization of an asset."""
    event = instance.get_latest_materialization_event(dg.AssetKey(asset.split("/")))
    assert event is not None
    assert event.asset_materialization is not None
    return (event.asset_materialization.tags or {}).get("dagster/data_version")


def test_the_cash_of_the_evening_is_the_sum_of_what_the_broker_told_next_morning_beside_its_value_and_prices(
    home: Home, instance: dg.DagsterInstance, simulated: Simulated, tuesday: Clock
) -> None:
    take(home, simulated.broker)
    next_morning(simulated, tuesday)
    result = run_activity(instance)
    assert result.success
    reported = query(home, "SELECT sum(amount), count(*) FROM account_activity WHERE retracted_at IS NULL")[0]
    cash = query(home, "SELECT cash FROM account_balances")[0][0]
    assert reported[0] == cash
    assert {key for name in (*RAW, *TABLES) for key in materialized(instance, dg.AssetKey(name.split("/")))} == {
        TUESDAY
    }
    facts = metadata(result, "store_activity", "account_activity")
    assert (facts["rows"], facts["new"], facts["known"], facts["retracted"]) == (reported[1], reported[1], 0, 0)
    assert facts["dagster/partition_row_count"] == reported[1]
    totals = {row.data["type"]: Decimal(str(row.data["amount"])) for row in facts["totals"].records}
    assert sum(totals.values()) == cash
    assert totals["ach"] > 0
    landed = metadata(result, "raw_activity", "raw/history")
    assert landed["pages"] == 1
    versions = {name: version_of(instance, name) for name in (*RAW, "daily_prices")}
    assert versions["raw/history"] == landed["sha256"]
    assert all(len(str(version)) == 64 for version in versions.values())
    records = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("account_activity"), ACTIVITY_CHECK), limit=5
    )
    assert [(record.partition, record.status.value) for record in records] == [(TUESDAY, "SUCCEEDED")]

    marks = simulated.admin("GET", "world")["accounts"][DEMO_ACCOUNT]["closing_equity"]
    stored = query(home, "SELECT trade_date, value FROM broker_daily_balances")
    assert {str(day): value for day, value in stored} == {
        day: Decimal(value) for day, value in marks.items() if day <= TUESDAY
    }
    facts = metadata(result, "daily_prices", "daily_prices")
    days = query(home, "SELECT min(trade_date)::VARCHAR, max(trade_date)::VARCHAR, count(close) FROM daily_prices")
    assert (facts["symbol"], facts["days"], days) == ("SPY", 11, [("2026-11-03", TUESDAY, 11)])


@pytest.mark.soak  # publish/test_backfill
def test_materializing_a_day_again_replays_what_was_landed(
    home: Home, instance: dg.DagsterInstance, simulated: Simulated, tuesday: Clock
) -> None:
    next_morning(simulated, tuesday)
    assert run_activity(instance).success
    before = {table: query(home, f"FROM {table} ORDER BY ALL") for table in TABLES}
    simulated.admin("DELETE", "requests")
    assert run_activity(instance).success
    assert simulated.requests() == []
    assert {table: query(home, f"FROM {table} ORDER BY ALL") for table in TABLES} == before


def test_a_day_that_is_not_over_fails_in_one_line(
    home: Home, instance: dg.DagsterInstance, simulated: Simulated, tuesday: Clock
) -> None:
    result = run_activity(instance)
    assert not result.success
    assert "in New York it is 2026-11-17. Ask for days until 2026-11-16." in failure(result)
    assert not home.warehouse.path.exists()


def test_an_account_that_fails_is_told_and_does_not_touch_the_others(
    home: Home,
    instance: dg.DagsterInstance,
    simulated: Simulated,
    tuesday: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", f"{DEMO_ACCOUNT},{CASH_ACCOUNT}")
    next_morning(simulated, tuesday)
    simulated.fault(f"/{CASH_ACCOUNT}/gainloss", "status", status=400, body="no")
    result = run_activity(instance)
    assert not result.success
    assert f"the activity of {CASH_ACCOUNT}" in failure(result)
    assert "gainloss: HTTP 400" in failure(result)
    accounts = "SELECT DISTINCT account_id FROM activity_extracts ORDER BY 1"
    assert query(home, accounts) == [(DEMO_ACCOUNT,)]
    simulated.heal()
    simulated.admin("DELETE", "requests")
    result = run_activity(instance)
    assert result.success
    assert {request["path"].split("/")[3] for request in simulated.requests()} == {CASH_ACCOUNT}
    assert query(home, accounts) == [(DEMO_ACCOUNT,), (CASH_ACCOUNT,)]


def test_the_sandbox_shows_that_it_has_no_history(
    home: Home,
    instance: dg.DagsterInstance,
    simulated: Simulated,
    tuesday: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"ENV": "sandbox", "ACCESS_TOKEN": "simulator", "ACCOUNT_ID": DEMO_ACCOUNT}.items():
        monkeypatch.setenv(f"TRADIER_{name}", value)
    next_morning(simulated, tuesday)
    result = run_activity(instance)
    assert result.success
    assert metadata(result, "raw_activity", "raw/history") == {
        "state": "not read: there is none in the environment sandbox"
    }
    assert metadata(result, "store_activity", "account_activity") == {"state": "not read in this environment"}
    assert metadata(result, "store_activity", "closed_lots")["rows"] > 0


def test_the_next_day_reads_the_days_before_again_and_knows_their_rows(
    home: Home, instance: dg.DagsterInstance, simulated: Simulated, tuesday: Clock
) -> None:
    next_morning(simulated, tuesday)
    assert run_activity(instance).success
    first = query(home, "SELECT count(*) FROM account_activity")[0][0]
    tuesday.time = MORNING + timedelta(days=1)
    simulated.admin("POST", "clock", {"now": tuesday.time.isoformat()})
    result = run_activity(instance, "2026-11-18")
    assert result.success
    facts = metadata(result, "store_activity", "account_activity")
    assert (facts["known"], facts["retracted"]) == (first, 0)
    assert facts["new"] > 0
    assert query(home, "SELECT DISTINCT retracted_at FROM account_activity") == [(None,)]


def test_cash_from_evening_to_evening_is_what_the_demos_history_tells(
    home: Home, simulated: Simulated, machine: Clock, instance: dg.DagsterInstance
) -> None:
    """Over a day on which the demo trades, the fees of its fills included."""
    for machine.time in (MIDNIGHT - timedelta(days=1), MIDNIGHT):
        simulated.admin("POST", "clock", {"now": machine.time.isoformat()})
        if machine.time < MIDNIGHT:
            simulated.admin("POST", "reset")
        take(home, simulated.broker)
    next_morning(simulated, machine)
    result = run_activity(instance)
    assert result.success
    ((change, filled, fees, unexplained),) = query(home, "SELECT change, filled, fees, unexplained FROM cash_by_day")
    assert unexplained == 0
    assert 0 > fees > -20
    assert filled
    assert change
    (outcome,) = [one for one in result.get_asset_check_evaluations() if one.check_name == "cash_equals_history"]
    assert (outcome.passed, outcome.partition) == (True, TUESDAY)


def test_without_the_benchmark_s_prices_the_rest_comes(
    home: Home, instance: dg.DagsterInstance, simulated: Simulated, tuesday: Clock
) -> None:
    next_morning(simulated, tuesday)
    simulated.fault("/markets/history", "status", status=400, body="no")
    result = run_activity(instance)
    assert result.success
    assert metadata(result, "daily_prices", "daily_prices")["state"].startswith("not read: prices: HTTP 400")
    assert query(home, "SELECT count(*) FROM daily_prices") == [(0,)]
    assert query(home, "SELECT count(*) > 0 FROM account_activity") == [(True,)]
