"""A reading is called coherent only if orders, positions and cash show one state of the account."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradier_pipeline.reconcile.coherence import LONG_AGO, QUIET, judge_coherence
from tradier_pipeline.reconcile.statement import AccountState, Holding, by_key
from tradier_pipeline_tests.reconcile.statements import MINUTE, OPEN, part, statement

LATER = OPEN + MINUTE
LONG_BEFORE = OPEN - timedelta(hours=1)


def test_a_quiet_reading_that_follows_from_the_one_before_is_coherent() -> None:
    old = part(7, "F", "buy", 5, "10", changed_at=LONG_BEFORE)
    filled = part(8, "F", "buy", 2, "10", changed_at=OPEN + MINUTE / 3)
    verdict = judge_coherence(statement(old, filled, F=7, cash=980, as_of=LATER), statement(old, F=5))
    assert (verdict.verdict, verdict.is_settling) == ("coherent", False)
    assert verdict.evidence == ("no order changed within 5 s of the end", "1 changes of positions explained")


def test_a_position_that_no_fill_explains_is_torn_and_read_again() -> None:
    verdict = judge_coherence(statement(F=7, as_of=LATER), statement(F=5))
    assert (verdict.verdict, verdict.is_settling) == ("torn", True)
    assert verdict.evidence == ("F changed by +2, and +0 filled",)


def test_a_fill_that_the_positions_do_not_show_is_torn() -> None:
    filled = part(8, "F", "buy", 2, "10", changed_at=OPEN + MINUTE / 3)
    verdict = judge_coherence(statement(filled, cash=980, as_of=LATER), statement())
    assert verdict.evidence == ("F changed by +0, and +2 filled",)
    assert verdict.verdict == "torn"


@pytest.mark.parametrize("seconds", [0.0, 0.2, -4.0])
def test_a_fill_during_the_reading_is_coherent_only_if_positions_and_cash_show_it(seconds: float) -> None:
    at = LATER + timedelta(seconds=seconds)
    filled = part(8, "F", "buy", 2, "10", changed_at=at)
    assert judge_coherence(statement(filled, F=2, cash=980, as_of=LATER), statement()).verdict == "coherent"
    assert judge_coherence(statement(filled, F=2, cash=1000, as_of=LATER), statement()).verdict == "torn"
    assert judge_coherence(statement(filled, cash=980, as_of=LATER), statement()).verdict == "torn"


@pytest.mark.parametrize(("ago", "verdict"), [(20, "torn"), (40, "unknown")])
def test_a_fill_that_cash_does_not_show_is_torn_as_long_as_a_list_may_be_behind(ago: int, verdict: str) -> None:
    filled = part(8, "F", "buy", 2, "10", changed_at=LATER - timedelta(seconds=ago))
    assert judge_coherence(statement(filled, F=2, as_of=LATER), statement()).verdict == verdict


def test_an_order_that_changed_without_filling_just_now_leaves_it_unknown_at_once() -> None:
    placed = part(8, "F", "buy", 0, None, quantity=2, status="open", changed_at=LATER - QUIET + timedelta(seconds=1))
    verdict = judge_coherence(statement(placed, as_of=LATER), statement())
    assert (verdict.verdict, verdict.is_settling) == ("unknown", False)
    assert verdict.evidence == ("order 8 (F) changed 4.4 s before the end of the reading",)
    earlier = replace(placed, changed_at=LATER - QUIET)
    assert judge_coherence(statement(earlier, as_of=LATER), statement()).verdict == "coherent"


def test_the_first_reading_is_unknown_and_not_read_again_since_that_would_prove_nothing() -> None:
    old = part(7, "F", "buy", 5, "10", changed_at=LONG_BEFORE)
    first = judge_coherence(statement(old, F=5), None)
    assert (first.verdict, first.is_settling) == ("unknown", False)
    assert first.evidence == ("no reading before to compare with",)
    filled = judge_coherence(statement(replace(old, changed_at=OPEN), F=5), None)
    assert (filled.verdict, filled.is_settling, len(filled.evidence)) == ("unknown", False, 2)


def test_a_change_over_night_is_not_torn() -> None:
    verdict = judge_coherence(statement(F=7, as_of=OPEN + timedelta(days=1)), statement(F=5))
    assert (verdict.verdict, verdict.is_settling) == ("unknown", False)


def test_cash_without_a_fill_leaves_it_unknown() -> None:
    verdict = judge_coherence(statement(cash=6000, as_of=LATER), statement())
    assert (verdict.verdict, verdict.evidence) == ("unknown", ("cash: +5000 USD do not follow from the fills",))


def test_a_change_that_stays_the_same_for_long_is_not_torn_any_more_and_not_coherent_either() -> None:
    before, torn = statement(AAPL=5), statement(AAPL=7, as_of=LATER)
    soon = statement(AAPL=7, as_of=LATER + timedelta(seconds=3))
    later = statement(AAPL=7, as_of=torn.as_of_end + LONG_AGO)
    assert judge_coherence(soon, before, torn).verdict == "torn"
    assert judge_coherence(later, before, torn).verdict == "unknown"
    assert judge_coherence(statement(AAPL=8, as_of=later.as_of), before, torn).verdict == "torn"


def test_the_reading_after_a_torn_one_is_judged_by_the_last_good_one() -> None:
    filled = part(8, "F", "buy", 2, "10", changed_at=LATER)
    behind = statement(filled, cash=980, as_of=LATER)
    caught_up = statement(filled, F=2, cash=980, as_of=LATER + MINUTE)
    assert judge_coherence(behind, statement()).verdict == "torn"
    assert judge_coherence(caught_up, statement(), behind).verdict == "coherent"


def test_evidence_stays_short() -> None:
    verdict = judge_coherence(statement(as_of=LATER), statement(**{f"S{number}": 1 for number in range(30)}))
    assert len(verdict.evidence) == 9
    assert verdict.evidence[-1] == "and 22 more"


# --- a broker whose lists run behind each other -----------------------------------------------------------------------


@dataclass(frozen=True)
class Traded:
    """An order for shares that filled at once."""

    seconds: float  # after the start of the reading
    symbol: str
    quantity: int
    cents: int

    @property
    def price(self) -> Decimal:
        return Decimal(self.cents).scaleb(-2)


TRADES = st.lists(
    st.builds(
        Traded,
        st.floats(-60, 1).map(lambda at: round(at, 3)),
        st.sampled_from(["F", "SPY"]),
        st.integers(-5, 5).filter(bool),
        st.integers(2, 120).map(lambda fives: 500 * fives),  # further apart than fees may be
    ),
    max_size=4,
    unique_by=(lambda trade: trade.seconds, lambda trade: trade.cents),
)
# each list is read at its own moment, and shows what happened until some seconds before
SEEN = st.tuples(st.floats(0, 1), st.just(0) | st.floats(0, 10)).map(lambda seen: round(seen[0] - seen[1], 3))


def reading(trades: list[Traded], orders: float, positions: float, cash: float) -> AccountState:
    parts = [
        part(
            number,
            trade.symbol,
            "buy" if trade.quantity > 0 else "sell",
            abs(trade.quantity),
            trade.price,
            changed_at=LATER + timedelta(seconds=trade.seconds),
        )
        for number, trade in enumerate(trades, 1)
        if trade.seconds <= orders
    ]
    held = {"F": Decimal(100), "SPY": Decimal(100)}
    for trade in trades:
        held[trade.symbol] += trade.quantity if trade.seconds <= positions else 0
    spent = sum((trade.quantity * trade.price for trade in trades if trade.seconds <= cash), Decimal(0))
    holdings = {symbol: Holding(quantity, 7 * quantity) for symbol, quantity in held.items()}
    return AccountState(LATER, LATER + timedelta(seconds=1), by_key(parts), holdings, Decimal(10_000) - spent)


BEFORE = reading([], 0, 0, 0)
START = AccountState(OPEN, OPEN + timedelta(seconds=1), {}, BEFORE.holdings, BEFORE.cash)


def prove_no_torn_reading_is_coherent(trades: list[Traded], orders: float, positions: float, cash: float) -> None:
    now = reading(trades, orders, positions, cash)
    assert judge_coherence(now, START).verdict != "coherent" or now == reading(trades, orders, orders, orders)


@given(TRADES, SEEN, SEEN, SEEN)
def test_no_lag_of_any_list_passes_for_coherent(
    trades: list[Traded], orders: float, positions: float, cash: float
) -> None:
    prove_no_torn_reading_is_coherent(trades, orders, positions, cash)


@pytest.mark.soak
@settings(max_examples=200_000, deadline=None)
@given(TRADES, SEEN, SEEN, SEEN)
def test_no_lag_of_any_list_passes_for_coherent_in_many_minutes(
    trades: list[Traded], orders: float, positions: float, cash: float
) -> None:
    prove_no_torn_reading_is_coherent(trades, orders, positions, cash)


@given(TRADES)
def test_a_minute_of_any_trades_that_ended_in_time_is_coherent(trades: list[Traded]) -> None:
    ended = [trade for trade in trades if trade.seconds < -QUIET.total_seconds()]
    assert judge_coherence(reading(ended, 1, 1, 1), START).verdict == "coherent"
