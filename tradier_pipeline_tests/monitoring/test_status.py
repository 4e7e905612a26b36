"""The state of a home, from the first failure on."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from tradier_pipeline import clock
from tradier_pipeline.broker.errors import BrokerError
from tradier_pipeline.cli import main
from tradier_pipeline.core.errors import ExtractError
from tradier_pipeline.core.settings import DEMO_ACCOUNT, load_settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.extract.snapshot import extract_snapshot
from tradier_pipeline.landing.manifest import FailureRecord
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.monitoring.status import AccountStatus, Heartbeat, RequestBudget, read_status
from tradier_pipeline.publish.store import NotPublishedError, store_snapshot
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.simulator.world import ROUND_THE_CLOCK
from tradier_pipeline.warehouse.staging import WarehouseError
from tradier_pipeline_tests.conftest import Home, Simulated, take


def account() -> AccountStatus:
    (only,) = read_status(load_settings()).accounts
    return only


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Of a broker of its own: that of the tests is another one for each."""
    home = Home(tmp_path_factory.mktemp("template") / "home")
    with embedded_simulator(None, calendar=ROUND_THE_CLOCK) as url:
        take(home, Simulated(url).broker)
    return home


def test_an_empty_home_has_no_state(home: Home) -> None:
    with pytest.raises(WarehouseError, match="there is no warehouse"):
        read_status(load_settings())


def test_a_failure_before_the_first_snapshot_is_told(home: Home, simulated: Simulated) -> None:
    simulated.fault("/balances", "status", status=400, body="no")
    with pytest.raises(BrokerError):
        take(home, simulated.broker)
    found = account()
    assert (found.account_id, found.snapshots) == (DEMO_ACCOUNT, 0)
    assert (found.environment, found.snapshot_id, found.as_of, found.age_s) == (None, None, None, None)
    assert found.failures_24h == 1
    assert found.last_failure is not None
    assert "balances: HTTP 400" in found.last_failure


def test_failures_and_missed_instants_of_the_last_day_are_counted(home: Home, simulated: Simulated) -> None:
    landed, _ = take(home, simulated.broker)
    for moment in ("2026-01-05T14:31:00Z", "2026-01-05T14:32:00Z"):
        with pytest.raises(ExtractError, match="was missed"):
            extract_snapshot(home.zone, simulated.broker, SnapshotId.parse(f"{DEMO_ACCOUNT}@{moment}"), "test")
    for hours, words in ((25, "long ago"), (2, "first"), (1, "last")):
        _fail(home, clock.now() - timedelta(hours=hours), words)
    found = account()
    assert (found.snapshot_id, found.snapshots, found.not_published) == (str(landed.snapshot_id), 1, None)
    assert (found.failures_24h, found.missed_24h) == (2, 2)
    assert found.last_failure is not None
    assert found.last_failure.endswith(": last")
    pages = sum(len(pages) for pages in landed.manifest.resources.values())  # the demo fills two with orders at times
    assert found.request_budget == RequestBudget(allowed=120, available=120 - pages)


def _fail(home: Home, at: datetime, words: str) -> None:
    record = FailureRecord(
        snapshot_id=str(SnapshotId.now(DEMO_ACCOUNT)),
        environment="simulator",
        trigger="test",
        failed_at=at,
        errors={"balances": words},
        resources={},
    )
    home.zone.land_failed(record, {})


def test_a_landed_snapshot_that_a_check_refused_is_named(home: Home, simulated: Simulated) -> None:
    good, _ = take(home, simulated.broker)
    landed = extract_snapshot(home.zone, simulated.broker, SnapshotId.now(DEMO_ACCOUNT), "test")
    later = landed.manifest.model_copy(update={"as_of_end": clock.now() + timedelta(hours=1)})
    (landed.directory / "manifest.json").write_text(later.model_dump_json())
    with pytest.raises(NotPublishedError):
        store_snapshot(home.warehouse, LandedSnapshot(landed.snapshot_id, landed.directory))
    found = account()
    assert found.snapshot_id == str(good.snapshot_id)
    assert found.not_published == str(home.zone.newest(DEMO_ACCOUNT).snapshot_id)  # type: ignore[union-attr]
    assert found.not_published != found.snapshot_id


@pytest.mark.parametrize("headers", [{}, {"x-ratelimit-allowed": "many", "x-ratelimit-available": "-"}])
def test_a_budget_the_broker_does_not_send_is_unknown(headers: dict[str, str], good: LandedSnapshot) -> None:
    manifest = good.directory / "manifest.json"
    pages = {
        name: tuple(page.model_copy(update={"headers": headers}) for page in found)
        for name, found in good.manifest.resources.items()
    }
    manifest.write_text(good.manifest.model_copy(update={"resources": pages}).model_dump_json())
    assert account().request_budget is None


def test_a_file_that_vanishes_while_sizes_are_added_up_counts_nothing(
    home: Home, good: LandedSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home.path / "dagster").mkdir()
    (home.path / "dagster" / "kept").write_bytes(bytes(100))
    monkeypatch.setattr(Path, "rglob", lambda path, _: [path / "kept", path / "gone"] if path.name == "dagster" else [])
    assert read_status(load_settings()).dagster_bytes == 100


@pytest.mark.parametrize("kind", ["text", "directory", "pipe"])
def test_a_warehouse_that_cannot_be_opened_hides_nothing_of_what_is_landed(
    kind: str, home: Home, good: LandedSnapshot
) -> None:
    path = home.warehouse.path
    path.unlink()
    {"text": lambda: path.write_text("no database"), "directory": path.mkdir, "pipe": lambda: os.mkfifo(path)}[kind]()
    state = read_status(load_settings())
    assert state.warehouse_error is not None
    assert "The next snapshot sets it aside" in state.warehouse_error
    assert state.accounts[0].landed_not_published == (str(good.snapshot_id),)


def test_each_cycle_that_is_on_tells_its_last_published_snapshot(
    home: Home, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_CALENDAR", "24/7")
    monkeypatch.setenv("TRADIER_SYNC_MINUTES", "0")
    quarter = datetime(2025, 11, 3, 15, 1, tzinfo=UTC)  # the next trade cycles are due 14 and 29 minutes later
    monkeypatch.setattr(clock, "now", lambda: quarter)
    landed = extract_snapshot(home.zone, simulated.broker, SnapshotId.now(DEMO_ACCOUNT), "monitor_cycle,trade_cycle")
    store_snapshot(home.warehouse, landed)
    as_of = landed.manifest.as_of
    assert account().heartbeats == (Heartbeat("monitor_cycle", as_of, False), Heartbeat("trade_cycle", as_of, False))

    monkeypatch.setattr(clock, "now", lambda: as_of + timedelta(minutes=20))
    simulated.fault("/balances", "status", status=400, body="no")
    with pytest.raises(BrokerError):
        extract_snapshot(home.zone, simulated.broker, SnapshotId.now(DEMO_ACCOUNT), "monitor_cycle,trade_cycle")
    assert account().heartbeats == (Heartbeat("monitor_cycle", as_of, True), Heartbeat("trade_cycle", as_of, False))


def test_a_cycle_that_has_never_published_is_not_late(good: LandedSnapshot) -> None:
    assert {(beat.last, beat.late) for beat in account().heartbeats} == {(None, False)}


@pytest.mark.parametrize(
    "damage", [b"garbage" * 200, b"SQLite format 3\x00", None], ids=["garbage", "cut", "directory"]
)
def test_a_ledger_that_cannot_be_read_is_told_and_hides_nothing_else(
    damage: bytes | None, home: Home, good: LandedSnapshot
) -> None:
    ledger = home.path / "ledger.sqlite"
    ledger.write_bytes(damage) if damage is not None else ledger.mkdir()
    found = read_status(load_settings())
    assert found.waiting_requests is None
    assert str(ledger) in str(found.ledger_error)
    assert found.accounts[0].snapshots == 1
    result = CliRunner().invoke(main, ["status"])
    assert (result.exit_code, "ledger cannot be read: " in result.stdout) == (0, True)
