"""The broker's bodies change over time: new fields are reported once with an example, missing ones by how many rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tradier_pipeline.core.outcome import Severity
from tradier_pipeline.verify import CHECKS
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.support.bodies import (
    Answers,
    Body,
    account,
    answers,
    balances,
    leg,
    option_quote,
    order,
    position,
    quote,
    rich,
    spread,
)
from tradier_pipeline_tests.support.sampling import thinned
from tradier_pipeline_tests.verify.incidents import PUT, Bench


def reported(bench: Bench, check: str, answer: Answers) -> dict[str, str]:
    """Where -> what the broker said, of one check; nothing may block for it."""
    bench.take(answer)
    assert not bench.outcomes.blocking
    return {difference.where: difference.broker for difference in bench.outcomes[check].differences}


def profile(**fields: Any) -> Mapping[str, Any]:
    return {"profile": {"id": "id-1", "name": "A B", "account": account(), **fields}}


def without(row: Body, *names: str) -> Body:
    return {name: value for name, value in row.items() if name not in names}


def test_both_checks_only_warn() -> None:
    found = {check.name: (check.number, check.severity) for check in CHECKS}
    assert found["fields_known"] == found["fields_complete"] == (None, Severity.WARN)


@pytest.mark.parametrize("block", ["margin", "pdt", "cash"])
def test_documented_bodies_have_no_drift(bench: Bench, block: str) -> None:
    bench.take(rich(block))
    assert bench.outcomes["fields_known"].differences == ()


def test_the_simulated_broker_has_no_drift(home: Home, simulated: Simulated) -> None:
    _, outcomes = take(home, simulated.broker)
    drifts = [outcome for outcome in outcomes if outcome.check.startswith("fields_")]
    assert [outcome.differences for outcome in drifts] == [(), ()]


# --- fields_known -----------------------------------------------------------------------------------------------------

NEW_FIELDS: list[tuple[str, str, Answers]] = [
    ("positions.position.venue", "ARCX", answers(positions=[position(venue="ARCX")])),
    ("positions.position.lots", "2", answers(positions=[position(lots=2)])),
    ("positions.position.price", "1.5", answers(positions=[position(price=Decimal("1.50"))])),
    ("positions.position.hedged", "true", answers(positions=[position(hedged=True)])),
    ("positions.position.note", "null", answers(positions=[position(note=None)])),
    ("positions.cursor", "abc", replace(answers(), positions={"positions": {"position": position(), "cursor": "abc"}})),
    ("orders.order.exch", "ARCX", answers(orders=[order(exch="ARCX")])),
    (
        "orders.order.leg.exec_exch",
        "C2",
        answers(orders=[spread(leg=leg(8, PUT, "sell_to_open", exec_exch="C2"))]),
    ),
    ("orders.next", "2", replace(answers(), orders={"orders": {"order": order(), "next": 2}})),
    ("balances.crypto_value", "12.25", answers(balances={"balances": balances(crypto_value=Decimal("12.25"))})),
    (
        "balances.margin.day_trades",
        "3",
        answers(balances={"balances": balances(margin={**balances()["margin"], "day_trades": 3})}),
    ),
    ("quotes.quote.halted", "false", answers(quotes=[quote(halted=False)])),
    ("quotes.quote.greeks.charm", "0.25", answers(quotes=[option_quote(PUT, greeks={"charm": Decimal("0.25")})])),
    ("profile.account.tier", "a text", answers(account=profile(account=account(tier="gold")))),
    ("profile.email", "a text", answers(account=profile(email="a@example.com"))),
    ("server_time", "17", replace(answers(), positions={"positions": "null", "server_time": 17})),
    ("positions.position.tags", "a list", answers(positions=[position(tags=["hidden"])])),
    ("positions.position.owner", "an object", answers(positions=[position(owner={"name": "hidden"})])),
]


@pytest.mark.parametrize(
    ("path", "example", "answer"), thinned([pytest.param(*case, id=case[0]) for case in NEW_FIELDS], 3)
)
def test_an_unknown_field_is_told_by_its_path_with_an_example(
    bench: Bench, path: str, example: str, answer: Answers
) -> None:
    assert reported(bench, "fields_known", answer) == {path: example}


def test_a_field_of_many_rows_is_told_once(bench: Bench) -> None:
    many = answers(orders=[order(number, exch=f"X{number}") for number in range(1, 60)])
    assert reported(bench, "fields_known", many) == {"orders.order.exch": "X1"}
    assert bench.outcomes["fields_known"].broker == "1 unknown fields"


@pytest.mark.parametrize("name", ["access_token", "sessionid", "api_key", "Authorization", "client_secret", "taxId"])
def test_of_what_may_be_a_secret_only_the_kind_is_told(bench: Bench, name: str) -> None:
    assert reported(bench, "fields_known", answers(positions=[position(**{name: "hidden"})])) == {
        f"positions.position.{name}": "a text"
    }


def test_an_example_is_short_and_printable(bench: Bench) -> None:
    spoken = answers(positions=[position(note="\x1b[31m" + "x" * 100) | {"n" * 200: 1}])
    found = reported(bench, "fields_known", spoken)
    assert found["positions.position.note"] == "\\u001b[31m" + "x" * 30
    assert max(map(len, found)) == 80


# --- fields_complete --------------------------------------------------------------------------------------------------

EQUITY = order(7)
OPTION = order(7, symbol="SPY", option_symbol=PUT, side="buy_to_open") | {"class": "option"}
OCO = {
    "id": 7,
    "status": "open",
    "class": "oco",
    "create_date": "2025-11-20T14:00:05.370Z",
    "transaction_date": "2025-11-20T14:00:05.370Z",
    "leg": [order(8), order(9, type="stop", stop_price=Decimal("21.00"), price=None)],
}
MISSING: list[tuple[str, Answers]] = [
    *(
        (f"orders.order.{name}", answers(orders=[without(EQUITY, name)]))
        for name in (
            *("type", "symbol", "side", "quantity", "duration", "avg_fill_price", "exec_quantity", "price"),
            *("last_fill_price", "last_fill_quantity", "remaining_quantity", "transaction_date"),
        )
    ),
    ("orders.order.avg_fill_price", answers(orders=[EQUITY | {"avg_fill_price": None}])),
    ("orders.order.option_symbol", answers(orders=[without(OPTION, "option_symbol")])),
    ("orders.order.stop_price", answers(orders=[order(7, type="stop")])),
    ("orders.order.stop_price", answers(orders=[order(7, type="stop_limit")])),
    ("orders.order.price", answers(orders=[without(spread(), "price")])),
    ("orders.order.num_legs", answers(orders=[without(spread(), "num_legs")])),
    ("orders.order.strategy", answers(orders=[without(spread(), "strategy")])),
    ("orders.order.leg", answers(orders=[without(spread(), "leg")])),
    ("orders.order.leg", answers(orders=[without(OCO, "leg")])),
    ("orders.order.leg.side", answers(orders=[spread(leg=[without(leg(8, PUT, "sell_to_open"), "side")])])),
    (
        "orders.order.leg.create_date",
        answers(orders=[spread(leg=[without(leg(8, PUT, "sell_to_open"), "create_date")])]),
    ),
    ("balances.equity", answers(balances={"balances": without(balances(), "equity")})),
    ("balances.margin.sweep", answers(balances={"balances": balances(margin=without(balances()["margin"], "sweep"))})),
    *(
        (f"profile.account.{name}", answers(account=profile(account=without(account(), name))))
        for name in ("classification", "option_level", "day_trader", "date_created", "last_update_date")
    ),
]


@pytest.mark.parametrize(
    ("path", "answer"), thinned([pytest.param(*case, id=f"{n}-{case[0]}") for n, case in enumerate(MISSING)], 3)
)
def test_a_documented_field_that_is_missing_is_told(bench: Bench, path: str, answer: Answers) -> None:
    assert reported(bench, "fields_complete", answer) == {path: "missing in 1 of 1"}


def test_a_field_that_some_rows_lack_is_told_with_how_many(bench: Bench) -> None:
    rows = [order(1), without(order(2), "avg_fill_price"), without(order(3), "avg_fill_price")]
    assert reported(bench, "fields_complete", answers(orders=rows)) == {
        "orders.order.avg_fill_price": "missing in 2 of 3"
    }


@pytest.mark.parametrize(
    "row",
    [
        EQUITY,
        OPTION,
        OCO,
        without(order(7, type="market"), "price"),
        without(order(7, type="stop", stop_price=3), "price"),
        spread(),
        spread(type="even") | {"price": None},
        {"id": 7, "class": "bracket", "status": "open", "create_date": "2025-11-20T14:00:05Z"},
    ],
    ids=["equity", "option", "oco", "market", "stop", "multileg", "even", "unknown class"],
)
def test_what_a_class_and_type_do_not_have_is_not_missed(bench: Bench, row: Body) -> None:
    assert reported(bench, "fields_complete", answers(orders=[row])) == {}


@pytest.mark.parametrize("block", ["pdt", "cash"])
def test_other_accounts_need_no_margin_fields(bench: Bench, block: str) -> None:
    assert reported(bench, "fields_complete", answers(balances={"balances": balances(block)})) == {}


def test_another_account_of_the_profile_is_not_judged(bench: Bench) -> None:
    others = [without(account("6YA05708"), "classification"), account()]
    assert reported(bench, "fields_complete", answers(account=profile(account=others))) == {}
