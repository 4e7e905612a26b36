"""Whatever a broker's lists do for a while: nothing false is concluded, and nothing of it is left when it is calm."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache, partial
from random import Random

import pytest

from tradier_pipeline.reconcile.account_state import ZERO, Holding
from tradier_pipeline.reconcile.comparison import CASH
from tradier_pipeline.reconcile.conservation import ItemVerdict
from tradier_pipeline_tests.reconcile.lives import (
    CALM,
    MAX_LAG,
    MINUTE,
    STOCKS,
    Kept,
    Life,
    Store,
    instants,
    live,
    live_in_a_moving_market,
    live_through_events,
    observe,
    weather,
)
from tradier_pipeline_tests.support.sampling import sampled

SAMPLE, MANY, SLICE = 4, 10_000, 500
FEE = Decimal("0.37")  # USD a contract
LONGEST = timedelta(minutes=MAX_LAG + 5)


ENDS = ("expired", "assigned", "exercised", "split", "spin-off")  # words of causes that no order shows


@lru_cache(32)
def lived(seed: int, lives: Callable[[Random], Life] = live) -> tuple[Life, Store]:
    random = Random(seed)
    life, sky, store = lives(random), weather(random), Store()
    for moment in instants(random):
        store.store(observe(life, sky, moment))
    return life, store


def is_true(life: Life, kept: Kept) -> bool:
    """Whether positions and cash were so together, at an instant that its lists may show."""
    seen = kept.observation.statement
    states = [
        life.at(seen.as_of),
        *(state.statement for state in life.states if seen.as_of - LONGEST <= state.at <= seen.as_of),
        life.at(seen.as_of - LONGEST),
    ]
    traded = {part.symbol for state in states for part in state.parts.values()}
    return any(
        ZERO <= seen.cash - state.cash <= offset_fees(life, kept) and are_alike(state.holdings, seen.holdings, traded)
        for state in states
    )


def offset_fees(life: Life, kept: Kept) -> Decimal:
    """USD of fees of fills that offset each other: cash that stands still may be that of before, or their fees late."""
    cash = next((finding for finding in kept.judgement.findings if finding.item == CASH), None)
    return cash.fees_at_most if life.fee and cash and not cash.change and not cash.explained else ZERO


def are_alike(true: Mapping[str, Holding], seen: Mapping[str, Holding], traded: Collection[str]) -> bool:
    """Quantities, and costs but for those of what was traded: they follow from lots, which no list shows."""
    return true.keys() == seen.keys() and all(
        holding.quantity == seen[symbol].quantity
        and (symbol in traded or holding.cost_basis == seen[symbol].cost_basis)
        for symbol, holding in true.items()
    )


def is_fact(life: Life, finding: ItemVerdict) -> bool:
    """Whether all that a finding says to have happened to a symbol did."""
    lines = [line for line in finding.explanation if not line.startswith("may be")]
    said = {word for line in lines for word in ENDS if word in line}
    happened = {word for _, word in life.happened}
    return (
        said <= happened
        if finding.item == CASH or finding.item in STOCKS
        else all((finding.item, word) in life.happened for word in said)
    )


def prove(seed: int, lives: Callable[[Random], Life] = live) -> int:
    """Live through a seed and look at what was concluded; returns how many readings were judged."""
    life, store = lived(seed, lives)
    for kept in store.kept:
        if kept.verdict == "good":
            assert is_true(life, kept), (seed, kept.observation.snapshot_id, kept.judgement)
            life.uncaused |= {CASH} if offset_fees(life, kept) else set()  # what comes of them later is without a fill
        for finding in kept.found:
            assert is_fact(life, finding), (seed, kept.observation.snapshot_id, finding)
    last = store.kept[-1]
    # a transfer of what is traded on the same date leaves orders and positions apart until the next one
    assert last.verdict == "good" or life.uncaused - {CASH}, (seed, last.judgement)
    left = {subject for code, subject in store.open_findings if code != "doubtful" or last.verdict == "good"}
    assert left <= life.uncaused, (seed, store.open_findings)
    return len(store.kept)


@pytest.mark.parametrize("seed", range(SAMPLE))
def test_nothing_false_is_good_and_nothing_of_a_disturbance_is_left_when_it_is_over(seed: int) -> None:
    prove(seed)


@pytest.mark.parametrize("seed", range(SAMPLE))
def test_what_no_order_shows_is_a_fact_only_where_it_happened(seed: int) -> None:
    prove(seed, live_through_events)


# each showed once what was believed: fills that offset each other and show in part; fills of a doubtful snapshot that
# explained a good one and counted again after it; fills that came to what was open of a transfer
@sampled("seed", [4395, 4312, 4728, 4804, 5324, 6812], kept=(0, 1, 2))
def test_what_was_believed_once_is_not_again(seed: int) -> None:
    prove(seed)


@sampled("seed", [2359, 3580, 6896, 7161, 7363], kept=(0, 1))
def test_what_was_believed_once_of_events_is_not_again(seed: int) -> None:
    prove(seed, live_through_events)


def with_fees(lives: Callable[..., Life]) -> Callable[[Random], Life]:
    return partial(lives, fee=FEE)


# positions and orders lagged behind a trade of a cheap option, whose fees were a twentieth of what was paid for it
@sampled("seed", [3, 96, 1415], kept=[0, 2])
def test_fees_hide_no_trade_that_only_balances_show(seed: int) -> None:
    prove(seed, with_fees(live_through_events))


# a trade was taken back, and with it what had been paid for it
@sampled("seed", [7, 77], kept=[0])
def test_fees_that_come_back_lead_to_nothing_false(seed: int) -> None:
    prove(seed, with_fees(live_in_a_moving_market))


# the list lagged behind a delivery over night, which cash and the balances' positions showed
@pytest.mark.parametrize("seed", [785, 1013])
def test_what_was_believed_once_of_a_moving_market_is_not_again(seed: int) -> None:
    prove(seed, live_in_a_moving_market)


@pytest.mark.parametrize("seed", range(SAMPLE))
def test_deliveries_in_the_morning_and_delayed_quotes_lead_to_nothing_false(seed: int) -> None:
    prove(seed, live_in_a_moving_market)


@pytest.mark.parametrize("seed", range(SAMPLE))
def test_delayed_quotes_of_a_moving_market_alone_make_nothing_doubtful(seed: int) -> None:
    random = Random(seed)
    life, store = live_in_a_moving_market(random), Store()
    for moment in instants(random):
        kept = store.store(observe(life, CALM, moment))
        by_balances = [line for line in kept.judgement.evidence if "balances" in line]
        # cash that comes for fractions is what delayed quotes cannot tell from a fill
        assert not by_balances or CASH in life.uncaused, (seed, kept.judgement)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(0, MANY, SLICE))  # so that all cores share them
def test_ten_thousand_lives_leave_nothing_false_behind(first: int) -> None:
    for seed in range(first, first + SLICE):
        prove(seed)
        prove(seed, live_through_events)
        prove(seed, with_fees(live_through_events))


@pytest.mark.soak
@pytest.mark.parametrize("first", range(0, MANY // 2, SLICE))
def test_five_thousand_lives_in_a_moving_market_leave_nothing_false_behind(first: int) -> None:
    for seed in range(first, first + SLICE):
        prove(seed, live_in_a_moving_market)
        prove(seed, with_fees(live_in_a_moving_market))


def test_the_lives_have_what_is_to_be_told_apart() -> None:
    """Else the rule above would hold of nothing."""
    stores = [lived(seed) for seed in range(SAMPLE)]
    verdicts = {kept.verdict for _, store in stores for kept in store.kept}
    evidence = " ".join(line for _, store in stores for kept in store.kept for line in kept.judgement.evidence)
    assert verdicts == {"good", "doubtful"}
    for words in ("positions behind fills", "balances behind fills", "contradict each other", "confirmed by"):
        assert words in evidence
    assert any(CASH in life.uncaused for life, _ in stores)
    assert any(state.at + MINUTE for life, _ in stores for state in life.states)
