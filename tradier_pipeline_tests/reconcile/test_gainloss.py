"""What the ledger closed on a date beside the broker's closed lots: contract by contract, dollar by dollar."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tradier_pipeline import clock
from tradier_pipeline.core.outcome import Outcome, Severity
from tradier_pipeline.reconcile.gainloss import GAINLOSS_CHECKS, ClosedDay, LedgerTrade, Lot
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.closings import closed_day, covered_accounts
from tradier_pipeline.warehouse.staging import insert
from tradier_pipeline_tests.support.bodies import warehouse_in_memory
from tradier_pipeline_tests.warehouse.test_summaries import at, filled

DAY = date(2025, 12, 1)
SHORT, LONG, OTHER = "AAPL251219P00290000", "AAPL251219P00285000", "AAPL251219P00280000"


def trade(trade_id: str = "t-1", profit: str | None = "55", **fields: Any) -> LedgerTrade:
    given = {
        "trade_id": trade_id,
        "units": Decimal(1),
        "legs": {SHORT: Decimal(-1), LONG: Decimal(1)},
        "closed": True,
        "in_parts": False,
        "delivered": False,
        "realized_pnl": None if profit is None else Decimal(profit),
    }
    return LedgerTrade(**given | fields)


def lot(symbol: str, quantity: int, gain: str = "0") -> Lot:
    return Lot(symbol, Decimal(quantity), Decimal(gain))


def day(trades: list[LedgerTrade], *lots: Lot) -> ClosedDay:
    return ClosedDay("VA1", DAY, tuple(trades), lots)


C3 = (lot(SHORT, -1, "330"), lot(LONG, 1, "-275"))


def judged(found: ClosedDay) -> dict[str, Outcome]:
    return {check.name: check.run([found]) for check in GAINLOSS_CHECKS}


def failed(found: ClosedDay) -> set[str]:
    return {name for name, outcome in judged(found).items() if not outcome.passed}


SOUND = {
    "a spread": day([trade()], *C3),
    "several lots of one close": day(
        [trade(units=Decimal(3), legs={SHORT: Decimal(-3), LONG: Decimal(3)}, profit="55")],
        *(lot(SHORT, -1, "200"), lot(SHORT, -2, "130"), lot(LONG, 3, "-275")),
    ),
    "two spreads that share a contract": day(
        [trade(profit="100"), trade("t-2", profit="-45", legs={LONG: Decimal(-1), OTHER: Decimal(1)})],
        *(lot(SHORT, -1, "30"), lot(OTHER, 1, "25")),
    ),
    "manual trades": day([trade()], *C3, lot("SPY251219C00600000", 5, "1000"), lot("MSFT", 10, "1")),
    "still open": day([trade(closed=False)]),
    "closed in parts": day([trade(in_parts=True)], lot(SHORT, -1, "9999")),
    "assigned": day([trade(delivered=True, profit="-445")], *C3),
    "of unknown legs": day([trade(legs={})]),
    "within a cent": day([trade(profit="55.01")], *C3),
}
# what is wrong -> the check that tells it, and how bad it is
WRONG = {
    "zero beside 55 dollars": (day([trade(profit="0")], *C3), "pnl_vs_gainloss", Severity.FATAL),
    "a commission": (day([trade(profit="54")], *C3), "pnl_vs_gainloss", Severity.WARN),
    "5 USD a spread of ten": (
        day([trade(units=Decimal(10), profit="100")], *C3),
        *("pnl_vs_gainloss", Severity.WARN),
    ),
    "a profit that nobody knows": (day([trade(profit=None)], *C3), "pnl_vs_gainloss", Severity.WARN),
    "five closed and one of ours": (
        day([trade()], lot(SHORT, -5, "330"), lot(LONG, 5, "-275")),
        *("closed_count_vs_gainloss", Severity.WARN),
    ),
    "closed by the broker only": (day([trade(closed=False)], *C3), "closed_count_vs_gainloss", Severity.WARN),
}


@pytest.mark.parametrize("found", SOUND.values(), ids=SOUND)
def test_what_is_sound_is_not_told(found: ClosedDay) -> None:
    assert failed(found) == set()


@pytest.mark.parametrize(("found", "check", "severity"), WRONG.values(), ids=WRONG)
def test_the_example_is_told_by_its_check(found: ClosedDay, check: str, severity: Severity) -> None:
    assert failed(found) == {check}
    assert judged(found)[check].severity is severity


def test_what_the_broker_does_not_show_at_all_is_told_by_both_and_is_no_error_yet() -> None:
    outcomes = judged(day([trade()]))
    assert {name for name, outcome in outcomes.items() if not outcome.passed} == outcomes.keys()
    assert {outcome.severity for outcome in outcomes.values()} == {Severity.WARN}
    assert outcomes["pnl_vs_gainloss"].differences[0].broker == "no lot"


def test_what_was_left_out_is_told() -> None:
    outcome = judged(day([trade(in_parts=True)], *C3))["closed_count_vs_gainloss"]
    assert outcome.stored == "1 trades closed, 2 left out: closed in parts"


# --- from what is stored ----------------------------------------------------------------------------------------------

NEXT = DAY + timedelta(days=1)


def stored(rows: list[tuple[datetime, dict[str, Any]]], lots: list[dict[str, Any]], read_at: datetime) -> Any:
    """What is read back for the date, from rows of `trade_reconciliation` by the as-of of their snapshot."""
    with warehouse_in_memory() as staged:
        connection = staged.connection
        for as_of, row in rows:
            on = clock.trade_date(as_of)
            lead = {"snapshot_id": f"VA1@{as_of}", "account_id": "VA1", "as_of": as_of, "trade_date": on}
            insert(connection, schema.TRADIER_SNAPSHOTS, [filled(schema.TRADIER_SNAPSHOTS, on, **lead)])
            reported = {
                "trade_id": "t-1",
                "status": "OPEN",
                "entered": 2,
                "legs": f'{{"{SHORT}": "-2", "{LONG}": "2"}}',
            }
            reported |= {"opened_at": at(DAY, "10:00")}
            insert(
                connection,
                schema.TRADE_RECONCILIATION,
                [filled(schema.TRADE_RECONCILIATION, on, **lead, **reported | row)],
            )
        insert(
            connection, schema.CLOSED_LOTS, [filled(schema.CLOSED_LOTS, DAY, account_id="VA1", **one) for one in lots]
        )
        extract = {"account_id": "VA1", "resource": "gainloss", "since": DAY, "until": DAY, "read_at": read_at}
        insert(connection, schema.ACTIVITY_EXTRACTS, [filled(schema.ACTIVITY_EXTRACTS, DAY, **extract)])
        return closed_day(connection, "VA1", DAY) if covered_accounts(connection, DAY) else "not read"


CLOSED = {"status": "CLOSED", "closed_at": at(DAY, "15:00"), "realized_pnl": 55, "exited": 2}
MORNING = at(NEXT, "06:00")


def test_a_close_is_of_its_new_york_date_and_known_whenever_it_is_told() -> None:
    late = CLOSED | {"closed_at": datetime(2025, 12, 2, 0, 30, tzinfo=UTC)}
    lots = [
        {"symbol": SHORT, "quantity": -2, "gain_loss": 60, "close_date": DAY},
        {"symbol": SHORT, "quantity": -9, "gain_loss": 9, "close_date": NEXT},
        {"symbol": SHORT, "quantity": -9, "gain_loss": 9, "close_date": DAY, "retracted_at": MORNING},
    ]
    found = stored([(at(DAY, "16:15"), {}), (at(NEXT, "08:00"), late)], lots, MORNING)
    assert found.lots == (lot(SHORT, -2, "60"),)
    legs = {SHORT: Decimal(-2), LONG: Decimal(2)}
    assert found.trades == (trade(units=Decimal(2), legs=legs),)


@pytest.mark.parametrize(
    ("rows", "closed", "in_parts"),
    [
        ([(at(DAY, "16:15"), {})], False, False),
        ([(at(DAY, "12:00"), {"exited": 1}), (at(DAY, "16:15"), CLOSED)], True, False),
        (
            [(at(DAY, "16:15"), {"exited": 1}), (at(NEXT, "16:15"), CLOSED | {"closed_at": at(NEXT, "15:00")})],
            False,
            True,
        ),
        ([(at(DAY - timedelta(days=3), "16:15"), {"exited": 1}), (at(DAY, "16:15"), CLOSED)], True, True),
    ],
    ids=["open", "in parts of one day", "in parts until the next day", "in parts since days"],
)
def test_a_trade_that_was_closed_in_parts_on_several_days_is_of_no_date(
    rows: list[tuple[datetime, dict[str, Any]]], closed: bool, in_parts: bool
) -> None:
    (found,) = stored(rows, [], MORNING).trades
    assert (found.closed, found.in_parts) == (closed, in_parts)


def test_a_trade_of_another_time_is_not_of_the_date() -> None:
    before = CLOSED | {"closed_at": at(DAY - timedelta(days=3), "15:00")}
    assert stored([(at(DAY, "16:15"), before)], [], MORNING) is None
    assert stored([(at(NEXT, "16:15"), {"opened_at": at(NEXT, "10:00")})], [], MORNING) is None


def test_what_was_read_before_the_date_was_over_does_not_cover_it() -> None:
    assert stored([(at(DAY, "16:15"), CLOSED)], [], at(DAY, "23:59")) == "not read"
    assert stored([(at(DAY, "16:15"), CLOSED)], [], at(NEXT, "00:00")) != "not read"
