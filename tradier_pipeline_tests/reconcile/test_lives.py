"""Whatever a broker's lists do for a while: nothing false is concluded, and nothing of it is left when it is calm."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from random import Random

import pytest

from tradier_pipeline.reconcile.conservation import CASH
from tradier_pipeline.reconcile.statement import AccountState
from tradier_pipeline_tests.reconcile.lives import MAX_LAG, MINUTE, Kept, Life, Store, instants, live, observe, weather

SAMPLE, MANY, SLICE = 40, 10_000, 500
LONGEST = timedelta(minutes=MAX_LAG + 5)


def lived(seed: int) -> tuple[Life, Store]:
    random = Random(seed)
    life, sky, store = live(random), weather(random), Store()
    for moment in instants(random):
        store.store(observe(life, sky, moment))
    return life, store


def is_true(life: Life, kept: Kept) -> bool:
    """Whether positions and cash were so together, at an instant that its lists may show.

    Not their cost: it follows from lots, which no list shows. Of what was sold and bought back it is the broker's word.
    """
    seen = kept.observation.statement
    states = [
        life.at(seen.as_of),
        *(state.statement for state in life.states if seen.as_of - LONGEST <= state.at <= seen.as_of),
        life.at(seen.as_of - LONGEST),
    ]
    return any(state.cash == seen.cash and quantities(state) == quantities(seen) for state in states)


def quantities(statement: AccountState) -> dict[str, Decimal]:
    return {symbol: holding.quantity for symbol, holding in statement.holdings.items()}


def prove(seed: int) -> None:
    life, store = lived(seed)
    for kept in store.kept:
        if kept.verdict == "good":
            assert is_true(life, kept), (seed, kept.observation.snapshot_id, kept.judgement)
    last = store.kept[-1]
    # a transfer of what is traded on the same date leaves orders and positions apart until the next one
    assert last.verdict == "good" or life.uncaused - {CASH}, (seed, last.judgement)
    left = {subject for code, subject in store.open_findings if code != "doubtful" or last.verdict == "good"}
    assert left <= life.uncaused, (seed, store.open_findings)


@pytest.mark.parametrize("seed", range(SAMPLE))
def test_nothing_false_is_good_and_nothing_of_a_disturbance_is_left_when_it_is_over(seed: int) -> None:
    prove(seed)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(0, MANY, SLICE))  # so that all cores share them
def test_ten_thousand_lives_leave_nothing_false_behind(first: int) -> None:
    for seed in range(first, first + SLICE):
        prove(seed)


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
