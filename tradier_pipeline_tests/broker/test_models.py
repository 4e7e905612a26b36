"""Bodies into types: what is required, what a number is, what an instant is, and how a refusal is reported."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradier_pipeline.broker import envelope
from tradier_pipeline.broker.decode import parse, parse_rows
from tradier_pipeline.broker.errors import BodyError
from tradier_pipeline.broker.models import (
    Account,
    Balances,
    BrokerModel,
    ClosedPosition,
    DailyBalance,
    HistoryEvent,
    Order,
    Position,
    Quote,
)
from tradier_pipeline_tests.support import bodies
from tradier_pipeline_tests.support.activities import day_value, event, lot
from tradier_pipeline_tests.support.bodies import (
    account,
    balances,
    dumps,
    leg,
    option_quote,
    order,
    position,
    quote,
    spread,
)

SPX = "SPXW251219P06000000"
FRIDAY = date(2026, 11, 20)


def refused(model: type[BrokerModel], body: Any) -> BodyError:
    with pytest.raises(BodyError) as reported:
        parse(model, "resource", "path", body)
    return reported.value


def without(body: bodies.Body, *path: str) -> bodies.Body:
    first, *rest = path
    if rest:
        return {**body, first: without(body[first], *rest)}
    return {key: value for key, value in body.items() if key != first}


MISSING = [
    *[(Account, account(), (name,)) for name in ("account_number", "status", "type")],
    *[
        (Balances, balances(), (name,))
        for name in balances()
        if name not in ("equity", "margin")  # deprecated; the block has a test of its own
    ],
    *[(Balances, balances("margin"), ("margin", name)) for name in balances("margin")["margin"] if name != "sweep"],
    *[(Balances, balances("pdt"), ("pdt", name)) for name in balances("pdt")["pdt"]],
    *[(Balances, balances("cash"), ("cash", name)) for name in balances("cash")["cash"]],
    *[(Position, position(), (name,)) for name in position()],
    *[(Order, order(), (name,)) for name in ("id", "class", "status", "create_date")],
    (Quote, quote(), ("symbol",)),
    *[(HistoryEvent, event(FRIDAY, 5), (name,)) for name in ("date", "type", "amount")],
    *[
        (ClosedPosition, lot(FRIDAY, 5), (name,))
        for name in ("close_date", "open_date", "symbol", "quantity", "cost", "proceeds", "gain_loss")
    ],
    *[(DailyBalance, day_value(FRIDAY, 5), (name,)) for name in ("date", "value")],
]


@pytest.mark.parametrize(
    ("model", "body", "path"), MISSING, ids=lambda value: ".".join(value) if isinstance(value, tuple) else None
)
@pytest.mark.parametrize("absent", ["missing", "null"])
def test_a_required_field_that_is_missing_or_null_is_refused_by_its_path(
    model: type[BrokerModel], body: bodies.Body, path: tuple[str, ...], absent: str
) -> None:
    parse(model, "resource", "path", body)
    spoiled = without(body, *path)
    if absent == "null":
        holder = spoiled
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = None
    error = refused(model, spoiled)
    assert error.resource == "resource"
    assert error.path == ".".join(("path", *path))
    assert error.path in str(error)
    assert absent == "null" or "is missing" in str(error)


@pytest.mark.parametrize("name", ["id", "class", "status"])
def test_a_required_field_of_a_leg_is_refused_by_its_path(name: str) -> None:
    body = spread(leg=[leg(1, SPX, "buy_to_open"), without(leg(2, SPX, "sell_to_open"), name)])
    assert refused(Order, body).path == f"path.leg.1.{name}"


def test_rows_are_refused_by_their_place_in_the_list() -> None:
    with pytest.raises(BodyError, match=r"positions\.position\[1\]\.quantity is missing"):
        parse_rows(Position, "positions", "positions.position", [position(), without(position(), "quantity")])


def test_a_refusal_does_not_quote_the_value() -> None:
    assert "secret" not in str(refused(Position, position(quantity="secret")))


# --- balances ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", ["margin", "pdt", "cash"])
def test_the_block_that_is_sent_decides_not_the_account_type(block: str) -> None:
    reported = parse(Balances, "balances", "balances", balances(block) | {"account_type": "margin"})
    assert reported.buying_power == (Decimal("4343.38") if block == "cash" else Decimal("6363.86"))


@pytest.mark.parametrize("blocks", [(), ("margin", "pdt"), ("margin", "cash"), ("margin", "pdt", "cash")])
def test_balances_without_exactly_one_block_are_refused(blocks: tuple[str, ...]) -> None:
    body = without(balances("margin"), "margin") | {name: balances(name)[name] for name in blocks}
    assert "exactly one of the blocks margin, pdt, cash" in str(refused(Balances, body))


@pytest.mark.parametrize("empty", [{}, "null", [], 0])
def test_a_block_that_is_not_an_object_of_its_fields_is_refused(empty: Any) -> None:
    assert refused(Balances, balances("pdt", pdt=empty)).path.startswith("path.pdt")


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["12.5", "", "NaN", True, False, [], {}, 12.5, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["quantity", "cost_basis"])
def test_what_is_not_a_number_is_refused_where_one_belongs(name: str, value: Any) -> None:
    error = refused(Position, position(**{name: value}))
    assert error.path == f"path.{name}"
    assert "is not a number" in str(error)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_number_words_that_are_not_json_are_refused_when_decoding(literal: str) -> None:
    body = dumps({"positions": {"position": position(quantity=7)}}).replace('"quantity": 7', f'"quantity": {literal}')
    with pytest.raises(BodyError, match="positions"):
        envelope.parse_json(body.encode(), "positions")


@pytest.mark.parametrize(
    "literal",
    ["1E+16", "10000000000000000", "-10000000000000000.0", "9999999999999999.999999995", "1E+400", "9" * 60],
)
def test_a_number_with_more_digits_before_the_point_than_decimal_24_8_has_is_refused(literal: str) -> None:
    for value in {Decimal(literal), int(literal) if literal.isdigit() else Decimal(literal)}:
        error = refused(Position, position(cost_basis=value))
        assert error.path == "path.cost_basis"
        assert "has more than the 16 digits before the point" in str(error)


@pytest.mark.parametrize(
    ("literal", "stored"),
    [
        ("129.997834844614", "129.99783484"),
        ("48.0833333333333", "48.08333333"),
        ("174.2399999999999", "174.24"),
        ("17798.123456785000000000000000", "17798.12345678"),  # half to even, twice
        ("17798.123456775000000000000000", "17798.12345678"),
        ("-1.123456789", "-1.12345679"),
        ("9999999999999999.999999994999", "9999999999999999.99999999"),
        ("-1E-9", "0"),
        ("1E-99", "0"),
    ],
)
def test_more_fraction_digits_than_decimal_24_8_has_are_rounded_half_to_even(literal: str, stored: str) -> None:
    basis = parse(Position, "positions", "path", position(cost_basis=Decimal(literal))).cost_basis
    assert (basis, basis.is_signed()) == (Decimal(stored), stored.startswith("-"))


@pytest.mark.parametrize(
    "literal",
    ["0", "-0.0", "0E-8", "0E+90", "0E-90", "17798.360000000000000000000000", "9999999999999999.99999999", "-1E-8"],
)
def test_a_number_that_decimal_24_8_holds_is_exact(literal: str) -> None:
    assert parse(Position, "positions", "path", position(cost_basis=Decimal(literal))).cost_basis == Decimal(literal)


@pytest.mark.parametrize("literal", ["-0", "-0.0", "-0E-8"])
def test_a_negative_zero_is_zero_as_in_the_database(literal: str) -> None:
    quantity = parse(Position, "positions", "path", position(quantity=Decimal(literal))).quantity
    assert (quantity, quantity.is_signed()) == (0, False)


@given(st.integers(-(10**24) + 1, 10**24 - 1))
def test_every_decimal_24_8_is_accepted_unchanged(units: int) -> None:
    value = Decimal(units).scaleb(-8)
    assert parse(Position, "positions", "path", position(quantity=value)).quantity == value


@pytest.mark.parametrize(
    ("model", "body", "name"),
    [
        (Position, position(id=2**63), "id"),
        (Position, position(id=Decimal("1.5")), "id"),
        (Position, position(id="1.0"), "id"),
        (Position, position(id=True), "id"),
        (Order, order(-(2**63) - 1), "id"),
        (Order, order(num_legs=2**31), "num_legs"),
        (Account, account(option_level=2**31), "option_level"),
        (Account, account(day_trader=1), "day_trader"),
        (Balances, balances(pending_orders_count=2**31), "pending_orders_count"),
        (Balances, balances(pending_orders_count=-1), "pending_orders_count"),
        (Balances, balances(pending_orders_count=Decimal("1.5")), "pending_orders_count"),
        (Quote, quote(contract_size=0), "contract_size"),
        (Quote, quote(contract_size=2**31), "contract_size"),
        (Quote, quote(bid_date=10**15), "bid_date"),
        (Quote, quote(bid_date=-1), "bid_date"),
        (Quote, option_quote(SPX, greeks={"delta": 10**400}), "greeks.delta"),
        (Quote, option_quote(SPX, greeks={"delta": "0.1"}), "greeks.delta"),
    ],
)
def test_a_whole_number_that_its_column_cannot_hold_is_refused(
    model: type[BrokerModel], body: bodies.Body, name: str
) -> None:
    assert refused(model, body).path == f"path.{name}"


@pytest.mark.parametrize("number", [-(2**63), 0, 38_400_000, 2**31, 2**63 - 1])
def test_broker_ids_are_64_bit(number: int) -> None:
    assert parse(Order, "orders", "path", order(number)).id == number


# --- instants ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2018-08-08T14:41:11.405Z", datetime(2018, 8, 8, 14, 41, 11, 405_000, UTC)),
        ("2018-08-08T14:41:11Z", datetime(2018, 8, 8, 14, 41, 11, 0, UTC)),
        ("2025-12-10T18:02:51.028929606Z", datetime(2025, 12, 10, 18, 2, 51, 28_929, UTC)),  # microseconds are kept
        ("2018-08-08T10:41:11.405-04:00", datetime(2018, 8, 8, 14, 41, 11, 405_000, UTC)),
        ("2018-08-08T10:41:11-0400", datetime(2018, 8, 8, 14, 41, 11, 0, UTC)),
    ],
)
def test_instants_are_utc_to_the_microsecond(text: str, instant: datetime) -> None:
    read = parse(Position, "positions", "path", position(date_acquired=text)).date_acquired
    assert (read, read.tzinfo) == (instant, UTC)


@pytest.mark.parametrize(
    ("value", "reported"),
    [
        ("2018-08-08T14:41:11.405", "has no time zone"),
        ("2018-08-08", "is not an ISO 8601 instant"),
        ("2018-08-08 14:41:11Z", "is not an ISO 8601 instant"),
        ("1533739271", "is not an ISO 8601 instant"),
        ("", "is not an ISO 8601 instant"),
        ("null", "is not an ISO 8601 instant"),
        (1533739271, "is not an ISO 8601 instant"),
        (True, "is not an ISO 8601 instant"),
        ("2018-13-08T14:41:11Z", "should be a valid datetime"),
        ("0001-01-01T00:00:00+14:00", "is out of range"),
    ],
)
def test_what_is_not_an_instant_with_a_zone_is_refused(value: Any, reported: str) -> None:
    error = refused(Position, position(date_acquired=value))
    assert error.path == "path.date_acquired"
    assert reported in str(error)


# --- orders and legs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leg_", [None, "null", []])
def test_an_order_may_have_no_legs_in_any_form(leg_: Any) -> None:
    assert parse(Order, "orders", "path", order(leg=leg_)).leg == ()
    assert parse(Order, "orders", "path", order()).leg == ()


def test_one_leg_may_be_a_bare_object() -> None:
    assert [one.id for one in parse(Order, "orders", "path", spread(leg=leg(5, SPX, "buy_to_open"))).leg] == [5]


@pytest.mark.parametrize("leg_", ["leg", 5, [5], {}])
def test_a_leg_that_is_not_an_object_is_refused(leg_: Any) -> None:
    assert refused(Order, spread(leg=leg_)).path.startswith("path.leg.0")


def test_a_stripped_oco_parent_is_whole() -> None:
    parent = {"id": 1, "class": "oco", "status": "open", "create_date": "2025-02-26T15:00:00.000Z"}
    read = parse(Order, "orders", "path", parent | {"leg": [order(2), order(3)]})
    assert (read.symbol, read.side, read.quantity, len(read.leg)) == (None, None, None, 2)


def test_texts_are_kept_to_the_character() -> None:
    for text in ("null", "", " padded ", "O'Hara; DROP TABLE", "\x1b[31m", "é\u0301😀"):
        assert parse(Order, "orders", "path", order(tag=text)).tag == text


@pytest.mark.parametrize("block", ["fee", "adjustment", "something_else"])
def test_the_details_of_an_event_are_in_its_block_whatever_it_is_called(block: str) -> None:
    row = {"date": "2026-11-20T00:00:00Z", "type": "fee", "amount": -1, block: {"description": "ADR", "quantity": 2}}
    found = parse(HistoryEvent, "history", "history.event", row)
    assert (found.date, found.type, found.description, found.quantity) == (FRIDAY, "fee", "ADR", 2)


def test_the_block_of_its_type_comes_first_and_never_changes_amount_date_or_type() -> None:
    row = event(FRIDAY, 5, "journal")
    block = {"amount": 9, "type": "x", "date": "x", "description": "MOVED"}
    found = parse(HistoryEvent, "history", "history.event", {"z": {"description": "other"}, **row, "journal": block})
    assert (found.date, found.type, found.amount, found.description) == (FRIDAY, "journal", 5, "MOVED")


def test_a_flat_event_and_an_unknown_type_are_read_as_they_are() -> None:
    row = {"date": "2015-04-01T15:25:47.000Z", "type": "new word", "amount": 1240, "symbol": "AAPL", "price": 124}
    found = parse(HistoryEvent, "history", "history.event", row)
    assert (found.date, found.type, found.symbol, found.price) == (date(2015, 4, 1), "new word", "AAPL", 124)


@pytest.mark.parametrize("reported", ["2026-11-31", "20.11.2026", "2026-11-20 00:00", "", 20261120, None])
def test_what_is_no_date_is_refused(reported: Any) -> None:
    assert refused(DailyBalance, {"date": reported, "value": 1}).path == "path.date"


@pytest.mark.parametrize("text", ["2026-11-20", "2026-11-20T00:00:00Z", "2026-11-20T00:00:00.000Z"])
def test_midnight_stands_for_the_date_that_is_written(text: str) -> None:
    assert parse(DailyBalance, "historical_balances", "balances", {"date": text, "value": 1}).date == FRIDAY


def test_what_is_told_over_night_is_rounded_too() -> None:
    digits = Decimal("33.333333333333333")
    found = parse(ClosedPosition, "gainloss", "gainloss", lot(FRIDAY, 5, gain_loss_percent=digits))
    assert found.gain_loss_percent == Decimal("33.33333333")
    assert parse(ClosedPosition, "gainloss", "gainloss", lot(FRIDAY, digits)).gain_loss == Decimal("33.33333333")
    assert parse(HistoryEvent, "history", "history", event(FRIDAY, digits)).amount == Decimal("33.33333333")
    assert parse(DailyBalance, "historical_balances", "balances", day_value(FRIDAY, digits)).value == Decimal(
        "33.33333333"
    )
