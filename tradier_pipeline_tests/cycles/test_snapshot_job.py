"""The job `snapshot` on a real instance against the simulated broker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from tradier_pipeline.assets.raw import POOL
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.instance import open_instance
from tradier_pipeline.verify.claims import CLAIMS
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.reads import connect_readonly, newest_snapshot_ids, trade_gates
from tradier_pipeline_tests.conftest import Home, Simulated, miscount
from tradier_pipeline_tests.extract.test_coherent_read import holding
from tradier_pipeline_tests.support.dagster_runs import SNAPSHOT, evaluations, failure, materialized, new_key, run_job

pytestmark = pytest.mark.usefixtures("without_days")

RAW = [dg.AssetKey(["raw", name]) for name in ("account", "balances", "positions", "orders", "quotes")]


@pytest.fixture
def instance(home: Home) -> Iterator[dg.DagsterInstance]:
    with open_instance(home.path / "dagster") as opened:
        yield opened


def rows(home: Home) -> dict[str, list[tuple[Any, ...]]]:
    """Everything stored, but when it was last written."""
    with connect_readonly(home.warehouse.path) as connection:
        return {
            table.name: connection.execute(
                f"SELECT COLUMNS(lambda c: c <> 'committed_at') FROM {table.name} ORDER BY ALL"
            ).fetchall()
            for table in schema.TABLES
        }


def current(home: Home) -> list[str]:
    with connect_readonly(home.warehouse.path) as connection:
        return newest_snapshot_ids(connection)


def test_one_run_materializes_one_partition_of_every_asset_with_its_checks(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    key = new_key()
    result = run_job(instance, key, tags={"dagster/schedule_name": "monitor_cycle"})  # which is its trigger
    assert result.success
    assert [asset for asset in (*RAW, SNAPSHOT) if materialized(instance, asset) != {key}] == []
    assert [claim.name for claim in CLAIMS if evaluations(instance, claim.name) != [(key, True)]] == []
    assert current(home) == [key]
    (header,) = rows(home)["tradier_snapshots"]
    assert "monitor_cycle" in header
    metadata = instance.get_latest_materialization_event(SNAPSHOT).asset_materialization.metadata  # type: ignore[union-attr]
    assert metadata["dagster/partition_row_count"].value == 1
    for name in ("equity", "cash", "buying_power", "fetch_ms", "publish_ms"):
        value = metadata[name]
        assert isinstance(value, dg.FloatMetadataValue), name
        assert value.value is not None, name
        assert value.value > 0, name
    with connect_readonly(home.warehouse.path) as connection:
        stored = connection.execute(
            "SELECT equity::DOUBLE, positions_count, orders_count "
            "FROM account_balances JOIN tradier_snapshots USING (snapshot_id)"
        ).fetchone()
    assert (metadata["equity"].value, metadata["positions"].value, metadata["orders"].value) == stored


def test_a_limit_that_somebody_sets_on_the_pool_leaves_no_slot_taken_after_a_run(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    storage = instance.event_log_storage
    storage.set_concurrency_slots(POOL, 1)
    simulated.fault("/balances", "status", status=400, body="no", times=1)
    assert not run_job(instance, new_key()).success
    assert run_job(instance, new_key()).success
    assert storage.get_concurrency_info(POOL).active_slot_count == 0


def test_what_nothing_explains_is_shown_with_what_may_be_behind_it(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    asset, keys = dg.AssetKey("conservation"), []
    for cash in ("1000.00", "6000.00"):
        holding(simulated, 5, cash=cash)
        keys.append(new_key())
        assert run_job(instance, keys[-1]).success
    event = instance.get_latest_materialization_event(asset)
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    reported = {name: metadata[name].value for name in ("compared_with", "in_flight", "unexplained", "explanations")}
    assert reported == {
        "compared_with": keys[0],
        "in_flight": 1,
        "unexplained": 0,
        "explanations": r"- **cash** in\_flight\: \+5000 unexplained\, new\; may be a deposit\, a dividend or interest",
    }


def test_an_equal_key_is_replayed_without_a_request_and_leaves_identical_rows(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    key = new_key()
    assert run_job(instance, key).success
    before, asked = rows(home), len(simulated.requests())
    assert asked == 5
    assert run_job(instance, key).success
    assert len(simulated.requests()) == asked
    assert rows(home) == before


@pytest.mark.parametrize(
    "key", ["nonsense", "SIM00000001@2026-13-01T00:00:00Z", "SIM00000001@2026-11-20T14:31:00.000Z"]
)
def test_a_malformed_key_fails_in_one_line_and_asks_nothing(
    key: str, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    result = run_job(instance, key)
    assert not result.success
    assert failure(result) == (
        f"'{key}' is not a snapshot id. Write <account number>@<UTC instant>, such as VA12345678@2026-11-20T14:31:00Z."
    )
    assert simulated.requests() == []


def test_a_key_of_the_past_is_missed_and_never_back_dated(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    key = f"{DEMO_ACCOUNT}@2026-01-05T14:31:00Z"
    result = run_job(instance, key, tags={"tradier/trigger": "monitor_cycle"})
    assert not result.success
    assert failure(result).startswith(f"{key} was missed: nothing was landed within 60 s of the instant")
    assert "\n" not in failure(result)
    assert [missed.snapshot_id for missed in home.zone.missed(DEMO_ACCOUNT)] == [key]
    assert simulated.requests() == []
    assert not home.warehouse.path.exists()
    assert materialized(instance) == set()


def test_a_failed_required_resource_fails_the_run_and_stores_nothing(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    simulated.fault("/balances", "status", status=400, body="no", times=1)
    key = new_key()
    result = run_job(instance, key)
    assert not result.success
    assert failure(result).startswith("balances: HTTP 400")
    assert [materialized(instance, asset) for asset in (*RAW, SNAPSHOT)] == [set()] * 6
    assert not home.warehouse.path.exists()
    assert [record.snapshot_id for record in home.zone.failures(DEMO_ACCOUNT)] == [key]


def test_failed_quotes_do_not_cost_the_snapshot(home: Home, simulated: Simulated, instance: dg.DagsterInstance) -> None:
    simulated.fault("/quotes", "status", status=400, body="no", times=1)
    key = new_key()
    assert run_job(instance, key).success
    assert current(home) == [key]
    assert evaluations(instance, "positions_priced") == [(key, False)]
    event = instance.get_latest_materialization_event(dg.AssetKey(["raw", "quotes"]))
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["state"].value == "failed"


def test_a_snapshot_that_fails_a_blocking_check_is_recorded_and_never_visible(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    good = new_key()
    assert run_job(instance, good).success
    published = rows(home)
    bad = new_key()
    with pytest.MonkeyPatch.context() as mistake:
        miscount(mistake)
        result = run_job(instance, bad)
    assert not result.success
    reported = failure(result)
    assert reported.startswith(f"{bad} was not published: the check balances_equal")
    assert "\n" not in reported
    assert evaluations(instance, "account_equals_broker") == [(bad, False), (good, True)]
    assert evaluations(instance, "orders_equal_broker") == [(bad, True), (good, True)]
    assert materialized(instance) == {good}
    assert materialized(instance, RAW[0]) == {good, bad}
    assert rows(home) == published
    assert current(home) == [good]
    with connect_readonly(home.warehouse.path) as connection:
        assert connection.execute("SELECT snapshot_id, kind FROM missed_snapshots").fetchall() == [(bad, "refused")]
        (gate,) = trade_gates(connection)
    assert "check_failed" in gate["blockers"]
    # the next good one is published over it
    after = new_key()
    assert run_job(instance, after).success
    assert current(home) == [after]


def test_a_failed_run_is_seen_at_once_by_who_reads_the_gate_in_duckdb(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_CALENDAR", "24/7")
    assert run_job(instance, new_key()).success
    before = rows(home)
    simulated.fault("/balances", "status", status=400, body="no", times=1)
    key = new_key()
    assert failure(run_job(instance, key)).startswith("balances: HTTP 400")
    with connect_readonly(home.warehouse.path) as connection:
        missed = connection.execute("SELECT snapshot_id, kind, reason FROM missed_snapshots").fetchall()
        (gate,) = trade_gates(connection)
    assert [(found, kind) for found, kind, _ in missed] == [(key, "failed")]
    assert missed[0][2].startswith("balances: HTTP 400")
    assert (gate["ready"], gate["blockers"]) == (False, ["missed_snapshots"])
    assert rows(home) == before


def test_an_instant_of_an_earlier_day_that_was_never_read_is_seen_as_missed(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    assert run_job(instance, new_key()).success
    key = f"{DEMO_ACCOUNT}@2026-01-05T14:31:00Z"
    assert not run_job(instance, key, tags={"tradier/trigger": "monitor_cycle"}).success
    with connect_readonly(home.warehouse.path) as connection:
        assert connection.execute("SELECT snapshot_id, kind FROM missed_snapshots").fetchall() == [(key, "missed")]
    published = home.warehouse.path.stat().st_ino
    assert not run_job(
        instance, key, tags={"tradier/trigger": "monitor_cycle"}
    ).success  # nothing new: nothing is published
    assert home.warehouse.path.stat().st_ino == published


def test_the_trade_cycle_materializes_the_gate_by_the_settings_of_the_run(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_CALENDAR", "24/7")
    monkeypatch.setenv("TRADIER_MAX_OPEN_POSITIONS", "1")
    key = new_key()
    assert run_job(instance, key, job="trade_cycle").success
    event = instance.get_latest_materialization_event(dg.AssetKey("trade_gate"))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = {name: value.value for name, value in event.asset_materialization.metadata.items()}
    assert (metadata["ready"], metadata["blockers"], metadata["max_open_positions"]) == (False, "max_open_positions", 1)
    with connect_readonly(home.warehouse.path) as connection:
        assert [gate["blockers"] for gate in trade_gates(connection)] == [["max_open_positions"]]
