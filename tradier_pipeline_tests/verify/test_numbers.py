"""Numbers with more fraction digits than are stored: published everywhere, rounded, and one warning names them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tradier_pipeline.core.outcome import Severity
from tradier_pipeline_tests.support.bodies import answers, balances, leg, order, position, quote, rich, spread
from tradier_pipeline_tests.verify.incidents import LOWER_PUT, PUT, Bench

PRODUCT = Decimal("129.997834844614")  # 0.62421234 shares, times a price
THIRDS = Decimal("48.0833333333333")
NOISE = Decimal("174.2399999999999")
AS_PRINTED = Decimal("17798.360000000000000000000000")


@pytest.mark.parametrize("block", ["margin", "pdt", "cash"])
def test_numbers_of_at_most_8_fraction_digits_are_exact(bench: Bench, block: str) -> None:
    bench.take(rich(block))
    assert bench.outcomes["numbers_stored_exactly"].passed


def test_zeros_after_the_8th_fraction_digit_are_no_digits(bench: Bench) -> None:
    bench.take(answers(balances={"balances": balances(total_equity=AS_PRINTED)}))
    assert bench.outcomes["numbers_stored_exactly"].passed


def test_more_fraction_digits_are_stored_rounded_in_every_table_and_one_warning_names_the_fields(bench: Bench) -> None:
    orders = [
        order(1, symbol="KO", exec_quantity=3, quantity=3, avg_fill_price=THIRDS),
        order(2, symbol="KO", exec_quantity=3, quantity=3, avg_fill_price=THIRDS + 1),
        spread(3, leg=[leg(4, PUT, "sell_to_open", avg_fill_price=THIRDS), leg(5, LOWER_PUT, "buy_to_open")]),
    ]
    bench.take(
        answers(
            balances={"balances": balances(total_equity=PRODUCT)},
            positions=[position(symbol="KO", quantity=Decimal("3.6242123456789"), cost_basis=NOISE)],
            orders=orders,
            quotes=[quote("KO", bid=THIRDS, ask=THIRDS)],
        )
    )
    assert [outcome.check for outcome in bench.outcomes.values() if outcome.blocks] == []
    outcome = bench.outcomes["numbers_stored_exactly"]
    assert (outcome.number, outcome.severity, outcome.passed) == (None, Severity.WARN, False)
    assert outcome.broker.startswith("8 of ")
    assert {difference.where: (difference.broker, difference.stored) for difference in outcome.differences} == {
        "balances.total_equity": ("129.997834844614", "129.99783484"),
        "orders.order.avg_fill_price": ("48.0833333333333", "48.08333333"),
        "orders.order.leg.avg_fill_price": ("48.0833333333333", "48.08333333"),
        "positions.position.cost_basis": ("174.2399999999999", "174.24"),
        "positions.position.quantity": ("3.6242123456789", "3.62421235"),
        "quotes.quote.ask": ("48.0833333333333", "48.08333333"),
        "quotes.quote.bid": ("48.0833333333333", "48.08333333"),
    }
