"""Several accounts at one instant: one run, one publish, each snapshot a partition of its own with its own checks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from tradier_pipeline import clock
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.domain.budget import Budget
from tradier_pipeline.instance.prune import prune
from tradier_pipeline.verify.claims import CLAIMS, LEDGER_CLAIMS
from tradier_pipeline.warehouse.reads import connect_readonly, snapshot_ids
from tradier_pipeline.warehouse.staging import Warehouse
from tradier_pipeline_tests.conftest import Home, Simulated, miscount, take
from tradier_pipeline_tests.cycles.test_alerts import seen
from tradier_pipeline_tests.support.dagster_runs import (
    definitions,
    evaluations,
    failure,
    materialized,
    shown_checks,
    statuses_of,
)
from tradier_pipeline_tests.support.inboxes import Webhook, webhook

pytestmark = pytest.mark.usefixtures("without_days")

SECOND, THIRD = "SIM00000002", "SIM00000003"
ALL = (DEMO_ACCOUNT, SECOND, THIRD)
RAW = [dg.AssetKey(["raw", name]) for name in ("account", "balances", "positions", "orders", "quotes")]
STORED = [dg.AssetKey(name) for name in ("tradier_snapshot", "portfolio_positions", "option_spreads", "conservation")]
DECIDING = [dg.AssetKey(name) for name in ("trade_gate", "order_reconciliation", "trade_reconciliation", "findings")]


@pytest.fixture(autouse=True)
def _accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", ",".join(ALL))


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each file that took the place of the published one."""
    publishes: list[int] = []
    publish = Warehouse._publish

    def counted(self: Warehouse, staged: object) -> None:
        publish(self, staged)  # type: ignore[arg-type]
        publishes.append(1)

    monkeypatch.setattr(Warehouse, "_publish", counted)
    return publishes


def run_together(
    instance: dg.DagsterInstance, trigger: str = "monitor_cycle", accounts: tuple[str, ...] = ALL
) -> tuple[dg.ExecuteInProcessResult, list[str]]:
    """The run that a cycle asks for at this minute, and the keys of its snapshots."""
    instant = clock.iso(SnapshotId.now(accounts[0]).instant)
    tags = {
        ".dagster/tradier_snapshots": f"{','.join(accounts)}@{instant}",
        ".dagster/tradier_account": "several",
        "tradier/trigger": trigger,
    }
    job = definitions().resolve_job_def("snapshot_accounts")
    result = job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)
    return result, [f"{account}@{instant}" for account in accounts]


def missed(home: Home) -> dict[str, tuple[str, str]]:
    with connect_readonly(home.warehouse.path) as connection:
        rows = connection.execute("SELECT account_id, kind, reason FROM missed_snapshots").fetchall()
    return {account_id: (kind, reason) for account_id, kind, reason in rows}


def test_one_run_publishes_all_by_one_rename_and_each_partition_shows_what_a_run_of_its_own_shows(
    home: Home,
    simulated: Simulated,
    instance: dg.DagsterInstance,
    published: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRADIER_CALENDAR", "24/7")  # a trade cycle outside of the session would be none
    result, keys = run_together(instance, "monitor_cycle,trade_cycle")
    assert result.success, failure(result)
    assert len(instance.get_runs()) == 1
    assert len(published) == 1
    with connect_readonly(home.warehouse.path) as connection:
        assert set(snapshot_ids(connection)) == set(keys)
    assert set(instance.get_dynamic_partitions("tradier_snapshots")) == set(keys)
    for asset in (*RAW, *STORED, *DECIDING):
        assert materialized(instance, asset) == set(keys), asset
    record = instance.fetch_materializations(
        dg.AssetRecordsFilter(STORED[0], asset_partitions=[keys[1]]), limit=1
    ).records[0]
    reported = record.asset_materialization
    assert reported is not None
    assert {"equity", "cash", "positions", "verdict", "publish_ms"} <= reported.metadata.keys()
    assert reported.metadata["published_together"].value == 3
    checks = shown_checks(instance, {claim.asset for claim in CLAIMS})
    shown = statuses_of(checks)
    for claim in (one for one in CLAIMS if one not in LEDGER_CLAIMS):
        assert shown[claim.name] == {("succeeded", key) for key in keys}, claim.name
        assert checks[claim.name]["executionForLatestMaterialization"]["status"] == "SUCCEEDED"


def test_a_run_of_several_reports_of_a_partition_what_a_run_of_one_does(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    own = clock.iso(SnapshotId.now(DEMO_ACCOUNT).instant)
    alone = definitions().resolve_job_def("snapshot")
    tags = {"dagster/partition": f"{DEMO_ACCOUNT}@{own}", "tradier/trigger": "manual"}
    assert alone.execute_in_process(instance=instance, tags=tags).success
    _, (key, _) = run_together(instance, "manual", (SECOND, THIRD))
    for asset in (*RAW, *STORED):
        of_one, of_several = (
            instance.fetch_materializations(dg.AssetRecordsFilter(asset, asset_partitions=[partition]), limit=1)
            .records[0]
            .asset_materialization
            for partition in (tags["dagster/partition"], key)
        )
        assert of_one is not None
        assert of_several is not None
        assert of_several.metadata.keys() - {"published_together"} == of_one.metadata.keys()
        for tag in ("dagster/data_version", "dagster/code_version"):
            has = asset in RAW
            assert not has or (tag in (of_several.tags or {})) == (tag in (of_one.tags or {}))


def test_accounts_that_are_not_read_or_refused_cost_no_other_and_are_named_with_their_causes(
    home: Home,
    simulated: Simulated,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    published: list[int],
) -> None:
    miscount(monkeypatch, lambda balances: balances.account_number == THIRD)
    simulated.fault(f"/accounts/{SECOND}/orders", "status", status=400, body="no")
    result, keys = run_together(instance)
    assert result.success
    assert len(published) == 1
    with connect_readonly(home.warehouse.path) as connection:
        assert snapshot_ids(connection) == [keys[0]]
        stored = connection.execute("SELECT count(*) FROM account_balances WHERE account_id = ?", [THIRD]).fetchone()
    assert stored == (0,)
    kind, reason = missed(home)[SECOND]
    assert kind == "failed"
    assert "HTTP 400" in reason
    (run,) = instance.get_runs()
    failed = json.loads(run.tags[".dagster/tradier_failed"])
    assert set(failed) == {SECOND, THIRD}
    assert failed[SECOND].startswith("orders: HTTP 400")
    assert missed(home)[THIRD][0] == "refused"
    assert materialized(instance) == {keys[0]}
    assert materialized(instance, RAW[0]) == {keys[0], keys[2]}  # it is landed
    refused = {key for claim in CLAIMS for key, passed in evaluations(instance, claim.name) if not passed}
    assert refused == {keys[2]}


def test_a_snapshot_that_was_published_stays_when_a_later_look_at_it_is_refused(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, keys = run_together(instance)
    miscount(monkeypatch, lambda balances: balances.account_number == SECOND)
    tags = dict(instance.get_runs()[0].tags)
    job = definitions().resolve_job_def("snapshot_accounts")
    again = {name: tags[name] for name in (".dagster/tradier_snapshots", ".dagster/tradier_account", "tradier/trigger")}
    assert job.execute_in_process(instance=instance, tags=again, raise_on_error=False).success
    with connect_readonly(home.warehouse.path) as connection:
        assert set(snapshot_ids(connection)) == set(keys)
    assert SECOND in json.loads(instance.get_runs()[0].tags[".dagster/tradier_failed"])


def test_a_run_of_which_no_account_was_published_fails_with_the_first_cause(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    simulated.fault("/orders", "status", status=400, body="no")
    result, _ = run_together(instance)
    assert not result.success
    assert failure(result).startswith("orders: HTTP 400")
    assert "(2 more accounts failed)" in failure(result)
    assert instance.get_dynamic_partitions("tradier_snapshots") == []


def test_more_accounts_than_the_requests_of_a_minute_have_their_turns_and_the_others_say_why(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tradier_pipeline.domain.budget.ALLOWED", {"simulator": 8})  # two accounts
    turns: list[set[str]] = []
    for _ in range(2):
        _, keys = run_together(instance)
        with connect_readonly(home.warehouse.path) as connection:
            turns.append({key.partition("@")[0] for key in snapshot_ids(connection) if key in keys})
    assert [len(turn) for turn in turns] == [2, 2]
    assert turns[0] | turns[1] == set(ALL)
    kinds = missed(home).values()
    assert {kind for kind, _ in kinds} == {"missed"}
    reason = (
        "3 accounts need 10 requests, and the access token allows 8 a minute: 2 accounts; it has its turn within "
        "2 minutes"
    )
    assert {text for _, text in kinds} == {reason}


def test_the_warning_names_what_each_account_gets() -> None:
    assert Budget.of("live", 39).warning(1) is None
    assert Budget.of("sandbox", 20).warning(1) == (
        "20 accounts need 61 requests, and the access token allows 60 a minute: 19 accounts. The cadence that fits: "
        "each account has its turn every 2 minutes, and its other minutes are recorded as missed. Name at most 19 in "
        "TRADIER_ACCOUNT_ID to have all of them."
    )


def test_what_a_killed_run_had_landed_is_published_by_the_next_one_of_all(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    take(home, simulated.broker, SECOND)
    home.warehouse.path.unlink()
    result, keys = run_together(instance)
    assert result.success
    with connect_readonly(home.warehouse.path) as connection:
        assert len(snapshot_ids(connection)) == len(keys) + 1


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    with webhook() as inbox:
        monkeypatch.setenv("TRADIER_ALERT_URLS", inbox.url)
        yield inbox


def ended(instance: dg.DagsterInstance, failed: dict[str, str]) -> None:
    tags = {
        ".dagster/tradier_snapshots": f"{','.join(ALL)}@2026-11-20T15:00:00Z",
        ".dagster/tradier_account": "several",
        **({".dagster/tradier_failed": json.dumps(failed)} if failed else {}),
    }
    status = dg.DagsterRunStatus.FAILURE if len(failed) == len(ALL) else dg.DagsterRunStatus.SUCCESS
    seen(instance, create_run_for_test(instance, job_name="snapshot_accounts", status=status, tags=tags))


def test_an_account_that_fails_in_a_run_that_succeeds_is_told_once_and_so_is_its_end(
    instance: dg.DagsterInstance, hook: Webhook
) -> None:
    ended(instance, {})
    for _ in range(3):
        ended(instance, {SECOND: "orders: HTTP 400. Correct it."})
    assert hook.titles == [f"Tradier: snapshot_accounts 2026-11-20T15:00:00Z: {SECOND} failed"]
    assert hook.messages[0]["message"].startswith(f"{SECOND}: orders: HTTP 400. Correct it. Run ")
    ended(instance, {SECOND: "orders: HTTP 400.", THIRD: "no network."})
    assert hook.titles[1:] == [f"Tradier: snapshot_accounts 2026-11-20T15:00:00Z: {THIRD} failed"]
    ended(instance, dict.fromkeys(ALL, "no network."))
    assert hook.titles[2:] == [f"Tradier: snapshot_accounts 2026-11-20T15:00:00Z: {DEMO_ACCOUNT} failed"]
    for _ in range(2):
        ended(instance, {THIRD: "no network."})
    assert hook.titles[3:] == [f"Tradier: snapshot_accounts 2026-11-20T15:00:00Z: {DEMO_ACCOUNT}, {SECOND} recovered"]


def test_the_keys_of_a_run_of_several_stay_as_long_as_the_run(instance: dg.DagsterInstance) -> None:
    keys = [str(SnapshotId(account, clock.now().replace(microsecond=0))) for account in ALL]
    instance.add_dynamic_partitions("tradier_snapshots", keys)
    create_run_for_test(
        instance,
        job_name="snapshot_accounts",
        status=dg.DagsterRunStatus.STARTED,
        tags={".dagster/tradier_snapshots": f"{SECOND}@{keys[0].partition('@')[2]}"},
    )
    assert prune(instance, clock.now()).partition_keys == 2
    assert instance.get_dynamic_partitions("tradier_snapshots") == [keys[1]]
    assert datetime.fromisoformat(keys[1].partition("@")[2])
