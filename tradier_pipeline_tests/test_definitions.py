"""The code location: what is in it, and that it loads anywhere without asking anything."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import tradier_pipeline
from tradier_pipeline.assets.raw import POOL
from tradier_pipeline.core.check import Check
from tradier_pipeline.cycles.snapshot_job import snapshot_job
from tradier_pipeline.definitions import build_definitions
from tradier_pipeline.reconcile.account_statement import STATEMENT_CHECKS
from tradier_pipeline.reconcile.cash import CASH_CHECKS
from tradier_pipeline.reconcile.derived_rows import DERIVED_CHECKS
from tradier_pipeline.reconcile.gainloss import GAINLOSS_CHECKS
from tradier_pipeline.reconcile.ledger_checks import RECONCILIATION_CHECKS
from tradier_pipeline.reconcile.summary_checks import SUMMARY_CHECKS
from tradier_pipeline.verify import CHECKS
from tradier_pipeline.verify.claims import CLAIMS, LEDGER_CLAIMS
from tradier_pipeline_tests.support.dagster_runs import definitions

PROJECT = Path(tradier_pipeline.__file__).parents[1]

START = {"account": ("account", {"duckdb", "view"})}  # no partitions: how the accounts stand now
ASSETS = {
    "raw/account": ("raw", {"tradier", "json"}),
    "raw/balances": ("raw", {"tradier", "json"}),
    "raw/positions": ("raw", {"tradier", "json"}),
    "raw/orders": ("raw", {"tradier", "json"}),
    "raw/quotes": ("raw", {"tradier", "json"}),
    "tradier_snapshot": ("snapshot", {"duckdb", "table"}),
    "portfolio_positions": ("portfolio", {"duckdb", "view"}),
    "option_spreads": ("portfolio", {"duckdb", "table"}),
    "conservation": ("reconciliation", {"duckdb", "table"}),
    "trade_gate": ("portfolio", {"duckdb", "table"}),
    "order_reconciliation": ("reconciliation", {"duckdb", "table"}),
    "trade_reconciliation": ("reconciliation", {"duckdb", "table"}),
    "findings": ("reconciliation", {"duckdb", "table"}),
}
TRADE_CYCLE_ONLY = ("trade_gate", "order_reconciliation", "trade_reconciliation", "findings")
MAINTENANCE = {
    "pruned_runs": ("reporting", {"dagster"}),
    "compacted_days": ("reporting", {"zip"}),
    "sealed_months": ("reporting", {"parquet"}),
    "reverified_snapshots": ("reporting", {"duckdb"}),
    "storage_report": ("reporting", {"report"}),
}
DAILY_ASSETS = {
    "raw/calendar": ("raw", {"tradier", "json"}),
    "daily_summary": ("reporting", {"duckdb", "table"}),
    "raw/history": ("raw", {"tradier", "json"}),
    "raw/gainloss": ("raw", {"tradier", "json"}),
    "raw/historical_balances": ("raw", {"tradier", "json"}),
    "account_activity": ("reporting", {"duckdb", "table"}),
    "closed_lots": ("reporting", {"duckdb", "table"}),
    "broker_daily_balances": ("reporting", {"duckdb", "table"}),
    "daily_prices": ("reporting", {"duckdb", "table"}),
    "dividends": ("reporting", {"duckdb", "table"}),
}
REPORTS = {"daily_report": ("reporting", {"html"})}
CYCLES = {"monitor_cycle", "trade_cycle", "account_sync"}
SCHEDULED = {*CYCLES, "exchange_calendar", "daily_summary", "maintenance", "account_activity"}
JOBS = {"snapshot", "snapshot_accounts", "request_snapshot", *SCHEDULED}
SENSORS = {
    "request_sensor",
    "flat_sensor",
    "gap_sensor",
    "alert_run_failure",
    "alert_run_recovery",
    "alert_service_level",
    "alert_stale_snapshot",
}

LOADS_WITHOUT_ANYTHING = """
import datetime, os, socket, sys, warnings
import dagster as dg

warnings.simplefilter("error")  # deprecated, superseded, beta and preview: all but what is named in the code
warnings.filterwarnings("ignore", "The `__fields__` attribute")  # Dagster's own use of pydantic
def refuse(*_): raise AssertionError("network")
socket.socket.connect = refuse
socket.getaddrinfo = refuse

import tradier_pipeline.cycles.snapshot_job
print(*sys.modules)

from tradier_pipeline.definitions import defs
from tradier_pipeline.domain.calendar import session_of
dg.Definitions.validate_loadable(defs())
assert session_of(datetime.date(2025, 6, 7)) is None  # a Saturday
print({"exchange_calendars", "pandas"} & set(sys.modules))
print(sorted(os.environ), sorted(os.listdir()))
"""


def specs() -> list[dg.AssetSpec]:
    return list(definitions().resolve_all_asset_specs())


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a new process says: modules of the job, those for calendars with the location, environment and files."""
    ended = subprocess.run(
        [sys.executable, "-c", LOADS_WITHOUT_ANYTHING],
        env={},
        cwd=tmp_path_factory.mktemp("nothing"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


def test_the_location_loads_without_environment_network_files_warnings_or_calendar(loaded: list[str]) -> None:
    _, calendars, left = loaded
    assert calendars == "set()", "the library of calendars takes half a second, and a weekend needs none"
    assert left.endswith("[]")


def test_the_assets_are_these_in_these_groups() -> None:
    found = {spec.key.to_user_string(): (spec.group_name, spec.kinds) for spec in specs()}
    assert found == START | ASSETS | DAILY_ASSETS | REPORTS | MAINTENANCE


def test_the_jobs_are_these() -> None:
    assert {job.name for job in definitions().resolve_all_job_defs() if not job.name.startswith("__")} == JOBS


def test_a_process_that_takes_one_snapshot_runs_the_very_job_of_the_location_without_the_rest(
    loaded: list[str],
) -> None:
    ours = definitions().resolve_job_def("snapshot")
    assert snapshot_job().get_job_snapshot_id() == ours.get_job_snapshot_id()
    rest = ("definitions", "assets.activity", "checks", "report", "cycles.schedules", "cycles.sensors")
    assert {f"tradier_pipeline.{name}" for name in rest} & set(loaded[0].split()) == set()


def test_every_scheduled_job_has_a_schedule_of_its_name_that_runs_by_default_on_new_york_time() -> None:
    schedules = {schedule.name: schedule for schedule in definitions().get_repository_def().schedule_defs}
    assert set(schedules) == SCHEDULED
    for name, schedule in schedules.items():
        assert schedule.job_name == name
        assert schedule.execution_timezone == "America/New_York"
        assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
        assert schedule.description


def test_the_sensors_run_by_default_and_the_one_that_asks_the_broker_only_if_it_is_configured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sensors = {sensor.name: sensor for sensor in definitions().get_repository_def().sensor_defs}
    assert set(sensors) == SENSORS
    for sensor in sensors.values():
        assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
        assert sensor.description
    monkeypatch.setenv("TRADIER_BROKER_SENSOR_SECONDS", "15")
    assert build_definitions().get_repository_def().get_sensor_def("broker_sensor").minimum_interval_seconds == 15


def test_every_cycle_takes_the_whole_snapshot_and_only_the_trade_cycle_shows_gate_and_ledger() -> None:
    nodes = {name: definitions().resolve_job_def(name).asset_layer.executable_asset_keys for name in JOBS}
    whole = {dg.AssetKey(key.split("/")) for key in ASSETS}
    assert nodes["trade_cycle"] == whole
    for name in ("snapshot", "monitor_cycle", "account_sync"):
        assert nodes[name] == whole - {dg.AssetKey(key) for key in TRADE_CYCLE_ONLY}


def test_maintenance_is_its_own_assets_every_night_with_more_time_than_a_snapshot() -> None:
    job = definitions().resolve_job_def("maintenance")
    assert {key.to_user_string() for key in job.asset_layer.executable_asset_keys} == set(MAINTENANCE)
    assert job.tags["dagster/max_runtime"] == "7200"
    assert definitions().resolve_schedule_def("maintenance").cron_schedule == "30 3 * * *"
    for spec in specs():
        if spec.key.to_user_string() in MAINTENANCE:
            assert spec.description
            assert spec.owners == ["team:trading"]
            (reference,) = spec.metadata["dagster/code_references"].code_references
            assert Path(reference.file_path).is_relative_to(PROJECT / "tradier_pipeline" / "assets")


@pytest.mark.parametrize("key", [*ASSETS, *DAILY_ASSETS])
def test_an_asset_says_what_it_is_whose_it_is_what_its_columns_are_and_where_its_code_is(key: str) -> None:
    (spec,) = [spec for spec in specs() if spec.key.to_user_string() == key]
    assert spec.description
    assert spec.owners == ["team:trading"]
    if key in ASSETS:
        assert isinstance(spec.partitions_def, dg.DynamicPartitionsDefinition)
        assert spec.partitions_def.name == "tradier_snapshots"
    columns = spec.metadata["dagster/column_schema"].columns
    assert len({column.name for column in columns}) == len(columns) > 0
    (reference,) = spec.metadata["dagster/code_references"].code_references
    assert Path(reference.file_path).is_relative_to(PROJECT / "tradier_pipeline" / "assets")


def test_the_columns_of_the_snapshot_are_those_of_the_tables_with_their_units() -> None:
    (spec,) = [spec for spec in specs() if spec.key == dg.AssetKey("tradier_snapshot")]
    columns = {column.name: column for column in spec.metadata["dagster/column_schema"].columns}
    assert columns["account_balances.equity"].type == "DECIMAL(24,8)"
    assert columns["account_balances.equity"].description.startswith("USD")
    assert not columns["account_balances.equity"].constraints.nullable
    assert [name for name, column in columns.items() if not column.description] == []


def test_every_claim_is_a_partitioned_check_of_its_asset_that_names_its_rules() -> None:
    graph = definitions().resolve_asset_graph()
    found = {key.name: graph.get_check_spec(key) for key in graph.asset_check_keys}
    of_dates: tuple[Check[Any], ...] = (
        *SUMMARY_CHECKS,
        *GAINLOSS_CHECKS,
        *CASH_CHECKS,
        *STATEMENT_CHECKS,
        *DERIVED_CHECKS,
    )
    unblocking = {check.name for check in of_dates}
    others = {"published_equals_landed", "sessions_equal_brokers", "snapshot_is_fresh", "activity_equals_landed"}
    assert set(found) == {claim.name for claim in (*CLAIMS, *LEDGER_CLAIMS)} | unblocking | others
    assert all(found[name].partitions_def is not None and not found[name].blocking for name in unblocking)
    fatal = {check.name for check in CHECKS if check.severity == "fatal"}
    for claim in (*CLAIMS, *LEDGER_CLAIMS):
        spec = found[claim.name]
        assert spec.asset_key.to_user_string() == claim.asset
        assert spec.blocking is bool(fatal.intersection(claim.rules))
        assert spec.partitions_def is not None
        assert spec.description == f"{claim.text} Rules: {', '.join(claim.rules)}."


def test_every_rule_belongs_to_exactly_one_claim() -> None:
    for claims, checks in ((CLAIMS, CHECKS), (LEDGER_CLAIMS, RECONCILIATION_CHECKS)):
        assert sorted(rule for claim in claims for rule in claim.rules) == sorted(check.name for check in checks)
    assert {check.name: check.rule.asset for check in RECONCILIATION_CHECKS} == {  # type: ignore[attr-defined]
        rule: claim.asset for claim in LEDGER_CLAIMS for rule in claim.rules
    }
    assert len(CLAIMS) <= 14


def test_no_check_is_planned_by_the_run_of_a_job() -> None:
    for name in JOBS - {"request_snapshot", "snapshot_accounts"}:  # no assets are planned by these
        assert definitions().resolve_job_def(name).asset_layer.executable_asset_keys
        assert set(definitions().resolve_job_def(name).asset_layer.asset_graph.asset_check_keys) == set(), name


def test_every_step_that_asks_the_broker_is_in_the_pool_and_no_other() -> None:
    graph = definitions().resolve_asset_graph()
    pools = {key.to_user_string(): graph.get(key).pools for key in graph.materializable_asset_keys}
    asking = {name for name in pools if name.startswith("raw/")} | {"daily_prices", "dividends"}
    assert pools == {name: {POOL} if name in asking else set() for name in pools}


def test_every_job_runs_in_one_process() -> None:
    for name in JOBS:
        assert definitions().resolve_job_def(name).executor_def is dg.in_process_executor


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project folder somewhere else."""
    folder = tmp_path_factory.mktemp("copied") / "project"
    shutil.copytree(PROJECT / "tradier_pipeline", folder / "tradier_pipeline")
    for name in ("pyproject.toml", "workspace.yaml"):
        shutil.copy(PROJECT / name, folder)
    return folder


@pytest.mark.parametrize(
    ("command", "said"),
    [
        pytest.param(["dg", "check", "defs"], "All definitions loaded successfully", marks=pytest.mark.soak),
        pytest.param(["dg", "list", "defs", "--json"], '"request_snapshot"', marks=pytest.mark.soak),
        (["dagster", "definitions", "validate", "-w", "workspace.yaml"], "Validation successful for code location"),
    ],
    ids=["dg check", "dg list", "dagster validate"],
)
def test_dagsters_own_tools_accept_the_project_folder(
    command: list[str], said: str, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = Path(sys.executable).parent
    monkeypatch.setenv("PATH", str(scripts), prepend=":")
    monkeypatch.setenv("DAGSTER_DG_CLI_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("HOME", str(copy.parent))
    monkeypatch.delenv("DAGSTER_HOME")
    ended = subprocess.run([scripts / command[0], *command[1:]], cwd=copy, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert said in ended.stdout + ended.stderr


def test_the_definitions_merge_with_somebodys_own_assets_and_resources() -> None:
    @dg.asset(deps=["portfolio_positions"])
    def mine() -> None: ...

    own = dg.ResourceDefinition.hardcoded_resource(1)
    merged = dg.Definitions.merge(build_definitions(resources={"own": own}), dg.Definitions(assets=[mine]))
    dg.Definitions.validate_loadable(merged)
    assert dg.AssetKey("mine") in {spec.key for spec in merged.resolve_all_asset_specs()}
    assert merged.resources is not None
    assert set(merged.resources) >= {"tradier", "own"}
