"""What may be torn is read again, a little later and not often; the verdict is landed and stored with the snapshot."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tradier_pipeline import clock
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.extract import snapshot
from tradier_pipeline.extract.snapshot import extract_snapshot
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home, Simulated, take

WHOLE = 4  # requests of one reading
FLAT = '{"positions":"null"}'


def holding(simulated: Simulated, shares: int, *orders: dict[str, Any], cash: str = "1000.00") -> None:
    positions = [{"symbol": "F", "quantity": shares, "cost_basis": 10 * shares + 1}]
    world = {"account": DEMO_ACCOUNT, "cash": cash, "positions": positions, "orders": list(orders)}
    simulated.admin("POST", "world", world)


def read(home: Home, simulated: Simulated) -> LandedSnapshot:
    simulated.admin("DELETE", "requests")
    return extract_snapshot(home.zone, simulated.broker, SnapshotId.now(DEMO_ACCOUNT), "test")


def verdicts(landed: LandedSnapshot) -> list[str]:
    return [record.verdict for record in landed.manifest.readings]


@pytest.fixture
def quiet(home: Home, simulated: Simulated) -> LandedSnapshot:
    holding(simulated, 5)
    return read(home, simulated)


def test_a_quiet_account_is_read_once(home: Home, simulated: Simulated, quiet: LandedSnapshot) -> None:
    landed = read(home, simulated)
    assert len(simulated.requests()) == WHOLE
    assert (verdicts(quiet), verdicts(landed)) == (["unknown"], ["coherent"])
    assert landed.manifest.readings[0].as_of >= landed.manifest.as_of


def test_what_stays_torn_is_read_three_times_and_kept_with_its_label(
    home: Home, simulated: Simulated, quiet: LandedSnapshot
) -> None:
    holding(simulated, 7)
    landed = read(home, simulated)
    assert len(simulated.requests()) == 3 * WHOLE
    assert verdicts(landed) == ["torn", "torn", "torn"]
    assert landed.manifest.is_torn
    assert landed.manifest.readings[-1].evidence == ("F changed by +2, and +0 filled",)
    holding(simulated, 5)
    assert verdicts(read(home, simulated)) == ["coherent"]  # by the last good one


def test_what_was_torn_for_a_moment_is_landed_as_it_settled(
    home: Home, simulated: Simulated, quiet: LandedSnapshot
) -> None:
    simulated.fault("/positions", "body", body=FLAT, times=1)
    landed = read(home, simulated)
    assert verdicts(landed) == ["torn", "coherent"]
    assert b'"F"' in landed.bodies("positions")[0]
    first, second = landed.manifest.readings
    assert first.as_of_end <= second.as_of
    assert landed.manifest.as_of >= first.as_of_end


def test_a_second_reading_that_fails_costs_nothing(home: Home, simulated: Simulated, quiet: LandedSnapshot) -> None:
    holding(simulated, 7)
    simulated.fault("/profile", "body", body=quiet.bodies("account")[0].decode(), times=1)
    simulated.fault("/profile", "status", status=400)
    landed = read(home, simulated)
    assert verdicts(landed) == ["torn"]
    assert landed.manifest.readings[0].evidence[-1].startswith("not read again: ")


def test_nothing_is_read_again_when_the_time_of_the_snapshot_is_over(
    home: Home, simulated: Simulated, quiet: LandedSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "SETTLE_S", 5.0)
    holding(simulated, 7)
    late = SnapshotId(DEMO_ACCOUNT, clock.now().replace(microsecond=0) - timedelta(seconds=57))
    landed = extract_snapshot(home.zone, simulated.broker, late, "test")
    assert verdicts(landed) == ["torn"]


def test_the_verdict_is_stored_with_the_snapshot_and_proven(home: Home, simulated: Simulated) -> None:
    holding(simulated, 5)
    take(home, simulated.broker)
    holding(simulated, 7)
    _, outcomes = take(home, simulated.broker)
    with connect_readonly(home.warehouse.path) as connection:
        query = "SELECT coherence, coherence_evidence FROM tradier_snapshots ORDER BY as_of"
        assert connection.execute(query).fetchall() == [
            ("unknown", "no reading before to compare with"),
            ("torn", "F changed by +2, and +0 filled"),
        ]
    assert next(outcome for outcome in outcomes if outcome.check == "header_equals_manifest").passed
