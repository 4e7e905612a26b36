"""What the broker says is stored whatever it says; what contradicts itself or the past is doubtful until confirmed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tradier_pipeline.landing.zone import LandingZone
from tradier_pipeline.publish.store import rebuild, store_snapshot
from tradier_pipeline.warehouse import derived
from tradier_pipeline.warehouse.staging import Warehouse
from tradier_pipeline_tests.support.bodies import Body, answers, balances, land, order, position, zone_in
from tradier_pipeline_tests.support.unpublished import Unpublished, unpublished

EVENING = datetime(2025, 11, 19, 21, 15, tzinfo=UTC)
NIGHT = datetime(2025, 11, 20, 5, 30, tzinfo=UTC)  # 00:30 New York
MORNING = datetime(2025, 11, 20, 14, 31, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PUT, LOWER_PUT = "SPY251120P00602500", "SPY251120P00597500"  # they expire that day
SPREAD = (position(PUT, -1, -155, id=1), position(LOWER_PUT, 1, 63, id=2))
KO = position("KO", 100, 6500, id=3)


class Account:
    """An account whose snapshots are landed and stored as it is reported."""

    def __init__(self, zone: LandingZone, warehouse: Unpublished) -> None:
        self.zone, self.warehouse = zone, warehouse

    def shows(self, at: datetime, *held: Body, cash: Any, long: Any = 0, short: Any = 0, orders: Any = ()) -> str:
        """Returns the verdict."""
        worth = Decimal(cash) + Decimal(long) + Decimal(short)
        reported = balances(
            total_cash=Decimal(cash),
            total_equity=worth,
            long_market_value=Decimal(long),
            short_market_value=Decimal(short),
            market_value=Decimal(long) + Decimal(short),
            option_long_value=0,
            option_short_value=0,
            current_requirement=0,
        )
        reported["margin"] = reported["margin"] | {"option_buying_power": max(Decimal(0), Decimal(cash))}
        shown = answers(positions=held, orders=orders, balances={"balances": reported})
        landed = land(self.zone, shown, at)
        store_snapshot(self.warehouse, landed)
        return str(
            self.warehouse.rows(f"SELECT verdict FROM tradier_snapshots WHERE snapshot_id = '{landed.snapshot_id}'")[0][
                0
            ]
        )

    @property
    def held(self) -> list[str]:
        return [symbol for (symbol,) in self.warehouse.rows("SELECT symbol FROM portfolio_positions ORDER BY symbol")]

    @property
    def labels(self) -> list[tuple[Any, ...]]:
        return self.warehouse.rows(
            "SELECT snapshot_id, verdict, verdict_evidence FROM tradier_snapshots ORDER BY as_of"
        )


@pytest.fixture
def account(tmp_path: Path, without_proof: None) -> Iterator[Account]:
    with unpublished(tmp_path / "tradier.duckdb") as warehouse:
        yield Account(zone_in(tmp_path), warehouse)


def test_an_outage_at_night_is_stored_and_nothing_is_concluded_from_it(account: Account) -> None:
    assert account.shows(EVENING, KO, cash=20000, long=6900) == "good"
    assert [account.shows(NIGHT + n * MINUTE, cash=0) for n in range(2)] == ["doubtful", "doubtful"]
    assert account.held == ["KO"]
    assert account.warehouse.rows("SELECT count(*) FROM tradier_snapshots") == [(3,)]
    assert account.warehouse.rows("SELECT code FROM open_findings") == [("doubtful",)]
    assert account.shows(MORNING, KO, cash=20000, long=6900) == "good"
    assert account.warehouse.rows("SELECT code FROM open_findings") == []
    derived.refresh(account.warehouse.connection)
    assert account.warehouse.rows("SELECT min(low) FROM daily_balances") == [(26900,)]


@pytest.mark.usefixtures("without_days")
def test_positions_that_are_gone_while_balances_count_them_are_not_expired(account: Account) -> None:
    noon = MORNING + timedelta(hours=3)
    account.shows(MORNING, *SPREAD, cash=20000, long=60, short=-160)
    assert account.shows(noon, cash=20000, long=60, short=-160) == "doubtful"
    assert account.held == [LOWER_PUT, PUT]
    assert "expired" not in str(account.warehouse.rows("SELECT explanation FROM conservation"))
    (evidence,) = account.warehouse.rows("SELECT verdict_evidence FROM tradier_snapshots WHERE verdict = 'doubtful'")
    assert "positions and balances contradict each other" in evidence[0]


@pytest.mark.usefixtures("without_days")
def test_positions_behind_a_fill_are_in_doubt_until_they_show_it_and_leave_no_finding(account: Account) -> None:
    done = {"status": "filled", "quantity": 100, "exec_quantity": 100, "remaining_quantity": 0, "avg_fill_price": 65}
    at = (MORNING + MINUTE / 2).isoformat()
    filled = order(7, symbol="KO", side="buy", create_date=at, transaction_date=at, **done)
    account.shows(MORNING, cash=20000)
    late = [account.shows(MORNING + n * MINUTE, cash=13500, orders=[filled]) for n in (1, 5, 9)]
    assert late == ["doubtful"] * 3
    assert account.shows(MORNING + 10 * MINUTE, KO, cash=13500, long=6500, orders=[filled]) == "good"
    assert account.warehouse.rows("SELECT state FROM conservation WHERE item = 'KO'") == [("explained",)]
    assert account.warehouse.rows("SELECT * FROM open_findings") == []


@pytest.mark.usefixtures("without_days")
def test_shares_that_leave_the_account_are_believed_once_readings_of_the_session_agree(account: Account) -> None:
    account.shows(MORNING, KO, cash=1000, long=6500)
    gone = [account.shows(MORNING + n * MINUTE, cash=1000) for n in (5, 6, 15, 24)]
    assert gone == ["doubtful"] * 4  # time alone proves nothing, and 20 minutes are not over
    assert account.held == ["KO"]
    assert account.shows(MORNING + 26 * MINUTE, cash=1000) == "good"
    assert account.held == []
    assert {verdict for _, verdict, _ in account.labels} == {"good"}
    first = account.warehouse.rows("SELECT as_of FROM conservation WHERE item = 'KO' ORDER BY as_of")[0][0]
    assert first == MORNING + 5 * MINUTE  # where it showed first


@pytest.mark.usefixtures("without_days", "without_proof")
def test_a_rebuild_comes_to_the_same_verdicts(tmp_path: Path) -> None:
    with unpublished(tmp_path / "tradier.duckdb") as warehouse:
        account = Account(zone_in(tmp_path), warehouse)
        account.shows(EVENING, KO, cash=20000, long=6900)
        account.shows(NIGHT, cash=0)
        account.shows(MORNING, KO, cash=20000, long=6900)
        for minute in (5, 6, 15, 26, 27):
            account.shows(MORNING + minute * MINUTE, cash=20000)
        before = account.labels
    assert [verdict for _, verdict, _ in before] == ["good", "doubtful", *["good"] * 6]
    rebuild(Warehouse(warehouse.path), account.zone, lambda _: None)
    with unpublished(warehouse.path) as rebuilt:
        assert Account(account.zone, rebuilt).labels == before
