"""What the broker says against itself and over time: each check warns of its incident and never hides a snapshot."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tradier_pipeline.core.outcome import Outcome, Severity
from tradier_pipeline.landing.manifest import LookupRecord
from tradier_pipeline.publish.store import store_snapshot
from tradier_pipeline.verify import CHECKS, verify_snapshot
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline.warehouse.staging import Warehouse
from tradier_pipeline_tests.support.bodies import (
    AS_OF,
    Answers,
    Body,
    account,
    answers,
    balances,
    land,
    leg,
    option_quote,
    order,
    position,
    quote,
    spread,
    zone_in,
)
from tradier_pipeline_tests.support.sampling import thinned
from tradier_pipeline_tests.verify.incidents import EARLIER, LOWER_PUT, PUT, YESTERDAY, Bench, Incident, prove, taken

NUMBERS = {
    "holdings_do_not_drop": 8,
    "equity_covers_requirement": 21,
    "equity_does_not_jump": 22,
    "contract_metadata_agrees": 31,
    "no_expired_position_held": 32,
    "quotes_sane": 33,
    "positions_follow_fills": 35,
    "short_options_covered": 36,
    "stock_not_from_assignment": 37,
    "order_words_known": 39,
    "order_progress_monotonic": 40,
    "fill_arithmetic_holds": 41,
    "fill_prices_present": 42,
    "leg_fills_agree": 43,
    "working_orders_found": 44,
    "orders_tagged": 46,
    "rejections_explained": 51,
    "day_orders_end_with_session": 52,
    "leg_effects_fit": 53,
}

CALL = "SPY251219C00700000"
MINI = "AAPL7251219C00150000"
ADJUSTED = "AAPL1251219C00150000"
TODAYS_PUT = "SPY251120P00700000"
BETWEEN = AS_OF - timedelta(seconds=30)


def contract(symbol: str, **fields: Any) -> Body:
    """The quote of an option as the broker sends it, contract terms included."""
    terms = {"strike": Decimal("602.5"), "expiration_date": "2025-12-19", "option_type": "put"}
    return option_quote(symbol, **(terms | fields))


def filled(number: int, side: str, quantity: Any, at: datetime = BETWEEN, **fields: Any) -> Body:
    """An order of AAPL that was filled whole."""
    reported = {"quantity": quantity, "exec_quantity": quantity, "remaining_quantity": 0, "status": "filled"}
    reported |= {"avg_fill_price": Decimal("208.2"), "transaction_date": at.isoformat(), "tag": "t"}
    return order(number, side=side, **(reported | fields))


def option(number: int, symbol: str, side: str, quantity: Any, at: datetime = BETWEEN, **fields: Any) -> Body:
    """An order of one option that was filled whole."""
    return filled(number, side, quantity, at, symbol="SPY", option_symbol=symbol, **fields) | {"class": "option"}


def package(
    *legs: tuple[str, str, Any, Any], number: int = 700, quantity: Any = 2, net: Any = Decimal("-0.80"), **fields: Any
) -> Body:
    """A filled multileg order of legs (symbol, side, filled, price)."""
    reported = {
        "status": "filled",
        "quantity": quantity,
        "exec_quantity": quantity,
        "remaining_quantity": 0,
        "tag": "t",
    }
    reported |= {"avg_fill_price": net, "transaction_date": BETWEEN.isoformat()}
    rows = [
        leg(
            number + place,
            symbol,
            side,
            status="filled",
            quantity=quantity,
            exec_quantity=done,
            remaining_quantity=0,
            avg_fill_price=price,
            transaction_date=BETWEEN.isoformat(),
        )
        for place, (symbol, side, done, price) in enumerate(legs, 1)
    ]
    return spread(number, **(reported | fields | {"leg": rows}))


def partial(**fields: Any) -> Body:
    """Four of ten credit spreads are filled."""
    reported = package(
        (PUT, "sell_to_open", 4, Decimal("2.10")), (LOWER_PUT, "buy_to_open", 4, Decimal("1.30")), quantity=10
    )
    legs = [leg | {"status": "partially_filled", "remaining_quantity": 6} for leg in reported["leg"]]
    return reported | {"status": "partially_filled", "leg": legs} | fields


def ratio(**fields: Any) -> Body:
    """One ratio spread, 1 x 2."""
    reported = package(SOLD, BOUGHT, quantity=1, net=Decimal("0.50"))
    sold, bought = (leg | {"exec_quantity": count, "quantity": count} for count, leg in enumerate(reported["leg"], 1))
    return reported | {"leg": [sold, bought]} | fields


SOLD, BOUGHT = (PUT, "sell_to_open", 2, Decimal("2.10")), (LOWER_PUT, "buy_to_open", 2, Decimal("1.30"))


def then(
    before: Answers, now: Answers, earlier: datetime = EARLIER, later: datetime = AS_OF
) -> Callable[[Bench], object]:
    """Two snapshots in a row."""

    def take(bench: Bench) -> None:
        bench.take(before, earlier)
        bench.take(now, later)

    return take


def holding(*held: tuple[str, Any], **documents: Any) -> Answers:
    rows = [position(symbol, quantity, id=number) for number, (symbol, quantity) in enumerate(held, 1)]
    return answers(positions=rows, **documents)


def quoted(*quotes: Body) -> Answers:
    return answers(positions=[position(row["symbol"], 1, id=n) for n, row in enumerate(quotes, 1)], quotes=quotes)


def owing(equity: int, requirement: int) -> Answers:
    reported = {"total_equity": Decimal(equity), "current_requirement": Decimal(requirement)}
    return answers(balances={"balances": balances(**reported)})


AT_FIVE = datetime(2025, 11, 20, 22, tzinfo=UTC)  # 17:00 in New York
LOST = [
    LookupRecord(order_id=7, state="found"),
    LookupRecord(order_id=8, state="not_found", times_not_found=1, reason="HTTP 401"),
    LookupRecord(order_id=9, state="failed", reason="HTTP 503"),
    LookupRecord(order_id=10, state="deferred"),
]
HALF_DAY_CLOSE = datetime(2025, 11, 28, 18, tzinfo=UTC)
STALE = {"bid_date": 1763648937000, "ask_date": 1763648938000}  # 14:28:57 and 14:28:58
FRESH = {"bid_date": 1763648900000, "ask_date": 1763649060000}  # 14:28:20 and 14:31:00

FOUR = tuple((symbol, 1) for symbol in ("AAPL", "F", "KO", "SPY"))

INCIDENTS = [
    # 8
    Incident("holdings_do_not_drop", then(holding(*FOUR), holding(FOUR[0])), "F", "gone", "1 held"),
    # 21
    Incident(
        "equity_covers_requirement",
        taken(owing(48_000, 52_000)),
        "requirement",
        "equity 48000",
        "52000 required",
    ),
    # 22
    Incident(
        "equity_does_not_jump",
        then(answers(), answers(balances={"balances": balances(total_equity=Decimal("21358.04"))})),
        "equity",
        "equity 21358.04",
        "17798.36 before",
    ),
    # 31
    Incident("contract_metadata_agrees", taken(quoted(contract(PUT, contract_size=10))), "contract size", "10", "100"),
    Incident("contract_metadata_agrees", taken(quoted(contract(PUT, strike=602))), f"{PUT} strike", "602", "602.5"),
    Incident(
        "contract_metadata_agrees",
        taken(quoted(contract(PUT, expiration_date="2025-12-18"))),
        "expiration",
        "2025-12-18",
        "2025-12-19",
    ),
    Incident("contract_metadata_agrees", taken(quoted(contract(PUT, option_type="call"))), "type", "call", "put"),
    Incident("contract_metadata_agrees", taken(quoted(contract(PUT, root_symbol="SPX"))), "root", "SPX", "SPY"),
    Incident("contract_metadata_agrees", taken(quoted(contract(PUT, underlying="SPX"))), "underlying", "SPX", "SPY"),
    Incident(
        "contract_metadata_agrees",
        taken(quoted(option_quote(MINI, contract_size=100, root_symbol="AAPL7", underlying="AAPL"))),
        f"{MINI} contract size",
        "100",
        "10",
    ),
    Incident(
        "contract_metadata_agrees",
        taken(quoted(option_quote(ADJUSTED, contract_size=None, root_symbol="AAPL1", underlying="AAPL"))),
        f"{ADJUSTED} contract size",
        "not reported",
        "reported",
    ),
    # 32
    Incident(
        "no_expired_position_held",
        taken(holding(("SPY251114P00600000", 1)), as_of=datetime(2025, 11, 17, 15, tzinfo=UTC)),
        "SPY251114P00600000",
        "1 held",
        "expired 2025-11-14",
    ),
    # 33
    Incident(
        "quotes_sane",
        taken(quoted(quote("AAPL", bid=Decimal("5.4"), ask=Decimal("5.3")))),
        "AAPL",
        "bid 5.4",
        "ask 5.3",
    ),
    Incident("quotes_sane", taken(quoted(quote("AAPL", bid=Decimal("-0.01")))), "AAPL bid", "-0.01", ">= 0"),
    Incident(
        "quotes_sane",
        taken(quoted(quote("AAPL", **STALE)), environment="live"),
        "AAPL",
        "123 s old",
        "at most 120 s",
    ),
    Incident(  # a half day, before its close
        "quotes_sane",
        taken(quoted(quote("AAPL", **STALE)), environment="live", as_of=HALF_DAY_CLOSE - timedelta(minutes=1)),
        "AAPL",
        "s old",
        "at most 120 s",
    ),
    # 35
    Incident(
        "positions_follow_fills", then(holding(("AAPL", 10)), holding(("AAPL", 7))), "AAPL", "10 -> 7", "0 filled"
    ),
    Incident(
        "positions_follow_fills",
        then(holding(("AAPL", 10)), holding(("AAPL", 10), orders=[filled(1, "buy", 5)])),
        "AAPL",
        "10 -> 10",
        "5 filled",
    ),
    Incident("positions_follow_fills", then(holding((TODAYS_PUT, 1)), answers()), TODAYS_PUT, "1 -> 0", "0 filled"),
    Incident(
        "positions_follow_fills",
        then(holding((PUT, -2), (LOWER_PUT, 2)), holding((LOWER_PUT, 2))),
        PUT,
        "-2 -> 0",
        "0 filled",
    ),
    # 36
    Incident("short_options_covered", taken(holding((PUT, -3), (LOWER_PUT, 2))), PUT, "-3 held", "1 uncovered"),
    Incident(
        "short_options_covered",
        taken(holding((PUT, -1), ("SPY251212P00602500", 1))),
        PUT,
        "-1 held",
        "1 uncovered",
    ),
    Incident("short_options_covered", taken(holding((CALL, -2), ("SPY", 199))), CALL, "-2 held", "1 uncovered"),
    Incident("short_options_covered", taken(holding((CALL, -1), (PUT, 1))), CALL, "-1 held", "1 uncovered"),
    Incident(
        "short_options_covered",
        taken(holding(("SPXW251219P06000000", -1), ("SPX251219P05900000", 1))),
        "SPXW251219P06000000",
        "-1 held",
        "1 uncovered",
    ),
    Incident(
        "short_options_covered",  # the stock covers one of them
        taken(holding((CALL, -1), ("SPY251219C00710000", -1), ("SPY", 100))),
        "SPY251219C007",
        "-1 held",
        "1 uncovered",
    ),
    Incident(
        "short_options_covered",  # the long covers one of them
        taken(holding((PUT, -1), ("SPY251219P00610000", -1), (LOWER_PUT, 1))),
        "SPY251219P006",
        "-1 held",
        "1 uncovered",
    ),
    Incident(
        "short_options_covered",  # what covers the earlier one is gone before the later one ends
        taken(holding((PUT, -1), ("SPY260116P00602500", -1), (LOWER_PUT, 2))),
        "SPY260116P00602500",
        "-1 held",
        "1 uncovered",
    ),
    # 37
    Incident(
        "stock_not_from_assignment",
        then(
            holding(("SPY251114P00700000", -1)),
            holding(("SPY", 100)),
            earlier=AS_OF - timedelta(days=6),
        ),
        "SPY",
        "100 without a fill",
        "SPY251114P00700000 gone",
    ),
    Incident(
        "stock_not_from_assignment",
        then(holding((TODAYS_PUT, 2), ("SPY", 250)), holding(("SPY", 50))),
        "SPY",
        "-200 without a fill",
        f"{TODAYS_PUT} gone",
    ),
    # 39
    Incident("order_words_known", taken(answers(orders=[order(7, status="suspended")])), "order 7 status", "p", "u"),
    Incident("order_words_known", taken(answers(orders=[order(7) | {"class": "bracket"}])), "7 class", "bracket", "u"),
    Incident("order_words_known", taken(answers(orders=[order(7, side="hold")])), "order 7 side", "hold", "unknown"),
    Incident("order_words_known", taken(answers(orders=[order(7, type="loc")])), "order 7 type", "loc", "unknown"),
    Incident("order_words_known", taken(answers(orders=[order(7, duration="opg")])), "7 duration", "opg", "unknown"),
    Incident(
        "order_words_known",
        taken(answers(orders=[spread(7, leg=[leg(8, PUT, "sell_to_open", status="suspended")])])),
        "order 7 leg 8 status",
        "suspended",
        "unknown",
    ),
    # 40
    Incident(
        "order_progress_monotonic",
        then(
            answers(orders=[order(7, status="expired", remaining_quantity=0)]),
            answers(orders=[order(7, status="pending")]),
        ),
        "order 7 status",
        "pending",
        "expired before",
    ),
    Incident(
        "order_progress_monotonic",
        then(
            answers(orders=[order(7, exec_quantity=5, remaining_quantity=45)]),
            answers(orders=[order(7, exec_quantity=4, remaining_quantity=46)]),
        ),
        "order 7 exec_quantity",
        "4",
        "5 before",
    ),
    Incident(
        "order_progress_monotonic",
        then(answers(orders=[package(SOLD, BOUGHT)]), answers(orders=[package(SOLD, (*BOUGHT[:2], 1, 1))])),
        "order 700 leg 702 exec_quantity",
        "1",
        "2 before",
    ),
    # 41
    Incident(
        "fill_arithmetic_holds",
        taken(answers(orders=[order(7, status="filled")])),
        "order 7 filled",
        "0 filled",
        "quantity 50",
    ),
    Incident(
        "fill_arithmetic_holds",
        taken(answers(orders=[order(7, exec_quantity=10)])),
        "order 7 open",
        "10 filled, 50 remaining",
        "quantity 50",
    ),
    Incident(
        "fill_arithmetic_holds",
        taken(answers(orders=[order(7, status="canceled", exec_quantity=51, remaining_quantity=0)])),
        "order 7 canceled",
        "51 filled",
        "quantity 50",
    ),
    Incident(
        "fill_arithmetic_holds",
        taken(answers(orders=[package(SOLD, (*BOUGHT[:2], 1, 1))])),
        "order 700 leg 702 filled",
        "1 filled",
        "quantity 2",
    ),
    Incident(
        "fill_arithmetic_holds",
        taken(answers(orders=[package(SOLD, BOUGHT, exec_quantity=3)])),
        "order 700 filled",
        "3 filled",
        "quantity 2",
    ),
    Incident(
        "fill_arithmetic_holds",
        taken(answers(orders=[partial(exec_quantity=2, remaining_quantity=9)])),
        "order 700 partially_filled",
        "2 filled, 9 remaining",
        "quantity 10",
    ),
    # 42
    Incident(
        "fill_prices_present",
        taken(answers(orders=[filled(7, "buy", 5, avg_fill_price=0)])),
        "order 7 avg_fill_price",
        "0",
        "5 filled",
    ),
    Incident(
        "fill_prices_present",
        taken(answers(orders=[filled(7, "buy", 5, avg_fill_price=None)])),
        "order 7 avg_fill_price",
        "null",
        "5 filled",
    ),
    Incident(
        "fill_prices_present",
        taken(answers(orders=[package(SOLD, (*BOUGHT[:3], 0))])),
        "order 700 leg 702",
        "0",
        "2 filled",
    ),
    Incident("fill_prices_present", taken(answers(orders=[package(SOLD, BOUGHT, net=None)])), "order 700", "null", "2"),
    # 43
    Incident(
        "leg_fills_agree",
        taken(answers(orders=[package(SOLD, (*BOUGHT[:2], 1, Decimal("1.30")))])),
        "order 700 leg 702",
        "1 of 2",
        "package 2 of 2",
    ),
    Incident(
        "leg_fills_agree",
        taken(answers(orders=[package(SOLD, BOUGHT, net=Decimal("-0.82"))])),
        "order 700 avg_fill_price",
        "-0.82",
        "legs net -0.8",
    ),
    Incident(
        "leg_fills_agree",
        taken(answers(orders=[package(SOLD, BOUGHT, exec_quantity=3)])),
        "order 700 leg 701",
        "2 of 2",
        "package 3 of 2",
    ),
    Incident(
        "leg_fills_agree",
        taken(
            answers(orders=[package(SOLD, BOUGHT, exec_quantity=3, quantity=3) | {"leg": package(SOLD, BOUGHT)["leg"]}])
        ),
        "order 700 quantity",
        "3",
        "legs 2+2",
    ),
    # 44
    Incident("working_orders_found", taken(answers(), lookups=LOST), "order 8", "not_found", "HTTP 401"),
    Incident("working_orders_found", taken(answers(), lookups=LOST), "order 9", "failed", "HTTP 503"),
    Incident("working_orders_found", taken(answers(), lookups=LOST), "order 10", "deferred", "0 times unknown"),
    # 46
    Incident("orders_tagged", taken(answers(orders=[order(7), order(8, tag="mine")])), "order 7", "buy AAPL", "no tag"),
    # 51
    Incident(
        "rejections_explained",
        taken(answers(orders=[order(7, status="rejected", reason_description=" ")])),
        "order 7",
        "rejected",
        "no reason",
    ),
    Incident(
        "rejections_explained", taken(answers(orders=[order(7, status="error")])), "order 7", "error", "no reason"
    ),
    # 52
    Incident(
        "day_orders_end_with_session",
        taken(answers(orders=[order(7, duration="day"), order(8)]), as_of=AT_FIVE),
        "order 7",
        "open",
        "closed at 2025-11-20T21:00:00Z",
    ),
    # 53
    Incident(
        "leg_effects_fit",
        taken(answers(orders=[option(7, PUT, "sell", 1)])),
        "order 7 side",
        "sell",
        "to open or to close",
    ),
    Incident(
        "leg_effects_fit",
        taken(answers(orders=[package((PUT, "sell", 2, 1), BOUGHT)])),
        "order 700 leg 701 side",
        "sell",
        "to open or to close",
    ),
    Incident(
        "leg_effects_fit",
        then(holding((PUT, 1)), holding((PUT, -1), orders=[option(7, PUT, "sell_to_close", 2)])),
        PUT,
        "2 closed",
        "1 held",
    ),
    Incident(
        "leg_effects_fit",
        then(holding((PUT, 2)), holding((PUT, 4), orders=[option(7, PUT, "buy_to_close", 2)])),
        PUT,
        "2 closed",
        "0 held",
    ),
    Incident(
        "leg_effects_fit",
        taken(answers(orders=[package(SOLD, BOUGHT, type="debit")])),
        "order 700 avg_fill_price",
        "-0.8",
        "debit",
    ),
    Incident(
        "leg_effects_fit",
        taken(answers(orders=[package(SOLD, BOUGHT, net=Decimal("0.80"))])),
        "order 700 avg_fill_price",
        "0.8",
        "credit",
    ),
]


def outcome_of(bench: Bench, check: str, happens: Callable[[Bench], object]) -> Outcome:
    happens(bench)
    return bench.outcomes[check]


def test_the_checks_have_their_numbers_and_only_warn() -> None:
    found = {check.name: (check.number, check.severity) for check in CHECKS}
    assert {name: (number, Severity.WARN) for name, number in NUMBERS.items()}.items() <= found.items()
    assert {incident.check for incident in INCIDENTS} == NUMBERS.keys()


CHECKED = [incident.check for incident in INCIDENTS]
KEPT = (0, 1, 2, 4, 6)  # of the incidents of each check; the others take the same path with other values


@pytest.mark.parametrize(
    ("incident", "place"),
    [
        pytest.param(
            incident,
            place,
            id=f"{incident.check}-{incident.where}",
            marks=() if place in KEPT else pytest.mark.soak,
        )
        for number, incident in enumerate(INCIDENTS)
        for place in [CHECKED[:number].count(incident.check)]
    ],
)
def test_the_incident_is_told_by_its_check(bench: Bench, incident: Incident, place: int) -> None:
    prove(bench, incident, Severity.WARN)
    if place == 0:  # every check is asked
        assert not [outcome.check for outcome in bench.outcomes.values() if outcome.blocks]
        assert not [o for o in bench.outcomes.values() if max(len(o.broker), len(o.stored)) >= 60]


# --- what is sound must not be reported -------------------------------------------------------------------------------

SOUND: list[tuple[str, Callable[[Bench], object]]] = [
    ("equity_covers_requirement", taken(owing(48_000, 48_000))),
    ("day_orders_end_with_session", taken(answers(orders=[order(7, duration="day")]))),
    (
        "day_orders_end_with_session",
        taken(answers(orders=[order(7, duration="day")]), as_of=datetime(2025, 11, 20, 21, 15, tzinfo=UTC)),
    ),
    ("day_orders_end_with_session", taken(answers(orders=[order(7, duration="day", status="expired")]), as_of=AT_FIVE)),
    ("day_orders_end_with_session", taken(answers(orders=[order(7)]), as_of=AT_FIVE)),
    (  # it waits for the next session
        "day_orders_end_with_session",
        taken(answers(orders=[order(7, duration="day", create_date="2025-11-20T21:40:00Z")]), as_of=AT_FIVE),
    ),
    (  # Thanksgiving
        "day_orders_end_with_session",
        taken(answers(orders=[order(7, duration="day")]), as_of=AT_FIVE + timedelta(days=7)),
    ),
    ("contract_metadata_agrees", taken(quoted(contract(PUT)))),
    (
        "contract_metadata_agrees",
        taken(quoted(option_quote(MINI, contract_size=10, root_symbol="AAPL7", underlying="AAPL"))),
    ),
    (
        "contract_metadata_agrees",
        taken(quoted(option_quote(ADJUSTED, contract_size=150, root_symbol="AAPL", underlying="AAPL"))),
    ),
    (
        "contract_metadata_agrees",
        taken(quoted(option_quote("BRKB251219C00500000", root_symbol="BRKB", underlying="BRK/B"))),
    ),
    (
        "contract_metadata_agrees",
        taken(quoted(option_quote("SPXW251219P06000000", root_symbol="SPXW", underlying="SPX"))),
    ),
    (
        "contract_metadata_agrees",
        taken(quoted(option_quote(PUT, contract_size=None, root_symbol=None, underlying=None))),
    ),
    ("no_expired_position_held", taken(holding((TODAYS_PUT, -1)))),
    ("holdings_do_not_drop", then(holding(*FOUR), holding(*FOUR[2:]))),
    ("holdings_do_not_drop", then(holding(*FOUR), holding(FOUR[1], orders=[filled(1, "sell", 1)]))),
    ("holdings_do_not_drop", then(holding(*FOUR), holding(FOUR[0]), earlier=YESTERDAY)),
    (
        "equity_does_not_jump",
        then(answers(), answers(balances={"balances": balances(total_equity=Decimal("14300.00"))})),
    ),
    ("no_expired_position_held", taken(holding(("SPY251114P00600000", Decimal("0E-8"))))),
    (  # the broker clears what expired on Friday until Monday
        "no_expired_position_held",
        taken(holding(("SPY251114P00600000", -1)), as_of=datetime(2025, 11, 16, 15, tzinfo=UTC)),
    ),
    ("quotes_sane", taken(quoted(quote("AAPL", bid=0, ask=Decimal("0.05"))))),
    ("quotes_sane", taken(quoted(quote("AAPL", bid=Decimal("5.3"), ask=Decimal("5.3"))))),
    ("quotes_sane", taken(quoted(quote("AAPL", bid=None), quote("F", ask=None)))),
    ("quotes_sane", taken(quoted(quote("AAPL", **FRESH)), environment="live")),
    ("quotes_sane", taken(quoted(quote("AAPL", bid_date=0, ask_date=0)), environment="live")),
    ("quotes_sane", taken(quoted(quote("AAPL", **STALE)), environment="sandbox")),
    ("quotes_sane", taken(quoted(quote("AAPL", **STALE)), environment="simulator")),
    # after the close, and on Saturday
    ("quotes_sane", taken(quoted(quote("AAPL", **STALE)), environment="live", as_of=AS_OF + timedelta(hours=7))),
    ("quotes_sane", taken(quoted(quote("AAPL", **STALE)), environment="live", as_of=AS_OF + timedelta(days=2))),
    # after the close of a half day, and on a holiday
    ("quotes_sane", taken(quoted(quote("AAPL", **STALE)), environment="live", as_of=HALF_DAY_CLOSE)),
    ("quotes_sane", taken(quoted(quote("AAPL", **STALE)), environment="live", as_of=AS_OF + timedelta(days=7))),
    ("positions_follow_fills", taken(holding(("AAPL", 10)))),
    ("positions_follow_fills", then(holding(("AAPL", 10)), holding(("AAPL", 15), orders=[filled(1, "buy", 5)]))),
    ("positions_follow_fills", then(holding(("AAPL", 10)), answers(orders=[filled(1, "sell", 10)]))),
    (
        "positions_follow_fills",
        then(holding(("AAPL", 10)), holding(("AAPL", -10), orders=[filled(1, "sell_short", 20)])),
    ),
    (
        "positions_follow_fills",
        then(holding((PUT, -2)), holding(orders=[option(1, PUT, "buy_to_close", 2)])),
    ),
    (
        "positions_follow_fills",
        then(answers(), holding((PUT, -2), (LOWER_PUT, 2), orders=[package(SOLD, BOUGHT)])),
    ),
    (
        "positions_follow_fills",  # what had filled before is not counted again
        then(
            holding(("AAPL", 10), orders=[order(1, exec_quantity=10, transaction_date="2025-11-20T14:00:00Z")]),
            holding(("AAPL", 12), orders=[order(1, exec_quantity=12, transaction_date=BETWEEN.isoformat())]),
        ),
    ),
    ("positions_follow_fills", then(holding((TODAYS_PUT, 1)), answers(), later=AT_FIVE)),
    ("positions_follow_fills", then(holding((TODAYS_PUT, -1)), holding(("SPY", 100)), later=AT_FIVE)),
    ("positions_follow_fills", then(holding((PUT, 1), (PUT, 2)), holding((PUT, 3)))),
    ("positions_follow_fills", then(holding(("AAPL", 10)), holding(("AAPL", 4)), earlier=YESTERDAY)),
    ("short_options_covered", taken(holding((PUT, -3), (LOWER_PUT, 1), ("SPY260116P00500000", 2)))),
    ("short_options_covered", taken(holding((CALL, -2), ("SPY", 200)))),
    ("short_options_covered", taken(holding((PUT, -2), ("SPY", -200)))),
    ("short_options_covered", taken(holding((CALL, -2), ("SPY251219C00710000", 1), ("SPY", 100)))),
    (  # the later short takes the only long that lives as long, the earlier one the other
        "short_options_covered",
        taken(
            holding(
                ("SPY251212P00600000", -1),
                ("SPY260116P00600000", -1),
                ("SPY251219P00590000", 1),
                ("SPY260220P00590000", 1),
            )
        ),
    ),
    ("stock_not_from_assignment", then(holding((TODAYS_PUT, -1)), answers())),
    ("stock_not_from_assignment", then(holding((PUT, 1)), holding((PUT, 1), ("SPY", 100)))),
    ("stock_not_from_assignment", then(holding((TODAYS_PUT, -1)), holding(("SPY", 50)))),
    ("stock_not_from_assignment", then(holding((TODAYS_PUT, -1)), holding(("AAPL", 100)))),
    (
        "stock_not_from_assignment",
        then(
            holding((TODAYS_PUT, -1)),
            holding(("SPY", 100), orders=[filled(1, "buy", 100, symbol="SPY")]),
        ),
    ),
    ("order_progress_monotonic", then(answers(orders=[order(7)]), answers(orders=[filled(7, "buy", 50)]))),
    ("order_progress_monotonic", then(answers(orders=[order(7)]), answers(orders=[order(8)]))),
    (  # a leg is compared with itself, not with its package
        "order_progress_monotonic",
        then(
            answers(orders=[package(SOLD, (*BOUGHT[:2], 1, 1))]),
            answers(orders=[package(SOLD, (*BOUGHT[:2], 1, 1))]),
        ),
    ),
    (
        "order_progress_monotonic",
        then(answers(orders=[order(7, status="suspended")]), answers(orders=[order(7)])),
    ),
    ("fill_arithmetic_holds", taken(answers(orders=[order(7, exec_quantity=20, remaining_quantity=30)]))),
    (
        "fill_arithmetic_holds",
        taken(answers(orders=[order(7, status="canceled", exec_quantity=20, remaining_quantity=0)])),
    ),
    ("fill_arithmetic_holds", taken(answers(orders=[order(7, quantity=None), order(8, exec_quantity=None)]))),
    *(
        (check, taken(answers(orders=[reported])))
        for check in ("fill_arithmetic_holds", "leg_fills_agree")
        for reported in (
            package(SOLD, BOUGHT, exec_quantity=4),  # contracts, as live answers count
            partial(exec_quantity=4, remaining_quantity=6),
            partial(exec_quantity=8, remaining_quantity=12),
            ratio(exec_quantity=1),
            ratio(exec_quantity=3),
            package(SOLD, BOUGHT) | {"leg": "null", "exec_quantity": 4, "num_legs": 2},
        )
    ),
    ("fill_prices_present", taken(answers(orders=[package(SOLD, (*BOUGHT[:3], Decimal("2.10")), net=0)]))),
    ("fill_prices_present", taken(answers(orders=[package((*SOLD[:3], 0), (*BOUGHT[:3], 0), net=0, type="even")]))),
    ("fill_prices_present", taken(answers(orders=[package((*SOLD[:3], 0), BOUGHT, net=Decimal("1.30"))]))),
    ("leg_fills_agree", taken(answers(orders=[package(SOLD, BOUGHT)]))),
    ("leg_fills_agree", taken(answers(orders=[package(SOLD, BOUGHT, net=Decimal("-0.79"))]))),
    ("leg_fills_agree", taken(answers(orders=[package(SOLD, (*BOUGHT[:3], None))]))),
    ("working_orders_found", taken(answers(), lookups=LOST[:1])),
    ("rejections_explained", taken(answers(orders=[order(7, status="rejected", reason_description="no")]))),
    ("leg_effects_fit", then(holding((PUT, 2)), answers(orders=[option(7, PUT, "sell_to_close", 2)]))),
    ("leg_effects_fit", then(holding((PUT, -2)), answers(orders=[option(7, PUT, "buy_to_close", 2)]))),
    (  # opened and closed within the minute
        "leg_effects_fit",
        then(
            answers(),
            answers(orders=[option(7, PUT, "buy_to_open", 2), option(8, PUT, "sell_to_close", 2)]),
        ),
    ),
    (  # the list covers one day
        "leg_effects_fit",
        then(answers(), answers(orders=[option(7, PUT, "sell_to_close", 2)]), earlier=YESTERDAY),
    ),
    ("leg_effects_fit", taken(answers(orders=[package(SOLD, BOUGHT, type="debit", net=Decimal("0.80"))]))),
    ("leg_effects_fit", taken(answers(orders=[package(SOLD, BOUGHT, net=0)]))),
]


@pytest.mark.parametrize(
    ("check", "happens"), thinned([pytest.param(*case, id=f"{n}-{case[0]}") for n, case in enumerate(SOUND)], 3)
)
def test_what_is_sound_is_not_told(bench: Bench, check: str, happens: Callable[[Bench], object]) -> None:
    outcome = outcome_of(bench, check, happens)
    assert outcome.differences == ()


def test_a_covered_call_fills_per_share_of_its_package(bench: Bench) -> None:
    stock = filled(702, "buy", 100, symbol="SPY", avg_fill_price=Decimal("660.00")) | {"class": "equity"}
    call = leg(
        703, CALL, "sell_to_open", quantity=1, exec_quantity=1, remaining_quantity=0, status="filled", avg_fill_price=3
    )
    reported = spread(
        701, quantity=1, exec_quantity=1, remaining_quantity=0, status="filled", type="debit", leg=[stock, call]
    )
    bench.take(answers(orders=[reported | {"class": "combo", "avg_fill_price": Decimal("657.00")}]))
    assert bench.outcomes["leg_fills_agree"].passed
    later = AS_OF + timedelta(minutes=1)
    bench.take(answers(orders=[reported | {"class": "combo", "avg_fill_price": Decimal("65997.00")}]), later)
    assert not bench.outcomes["leg_fills_agree"].passed


# --- 35: what may be in flight ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ago", "passes"), [(4, True), (6, False)])
def test_a_fill_just_before_the_snapshot_may_not_show_yet(bench: Bench, ago: int, passes: bool) -> None:
    reported = holding(("AAPL", 10), orders=[filled(1, "buy", 5, AS_OF - timedelta(seconds=ago))])
    outcome = outcome_of(bench, "positions_follow_fills", then(holding(("AAPL", 10)), reported))
    assert outcome.passed == passes


@pytest.mark.parametrize(("ago", "passes"), [(4, True), (6, False)])
def test_a_fill_just_before_the_previous_snapshot_may_show_only_now(bench: Bench, ago: int, passes: bool) -> None:
    orders = [filled(1, "buy", 5, EARLIER - timedelta(seconds=ago))]
    happens = then(holding(("AAPL", 10), orders=orders), holding(("AAPL", 15), orders=orders))
    assert outcome_of(bench, "positions_follow_fills", happens).passed == passes


@pytest.mark.parametrize(("later", "passes"), [(5, True), (6, False)])
def test_a_fill_around_the_previous_snapshot_may_have_shown_there(bench: Bench, later: int, passes: bool) -> None:
    orders = [filled(1, "buy", 5, EARLIER + timedelta(seconds=later))]
    happens = then(holding(("AAPL", 15)), holding(("AAPL", 15), orders=orders))
    assert outcome_of(bench, "positions_follow_fills", happens).passed == passes


@pytest.mark.parametrize("quantity", [9, 16])
def test_what_is_in_flight_explains_no_more_than_it_is(bench: Bench, quantity: int) -> None:
    reported = holding(("AAPL", quantity), orders=[filled(1, "buy", 5, AS_OF)])
    assert not outcome_of(bench, "positions_follow_fills", then(holding(("AAPL", 10)), reported)).passed


def test_what_is_not_judged_says_why(bench: Bench) -> None:
    first = outcome_of(bench, "positions_follow_fills", taken(holding(("AAPL", 10)), as_of=YESTERDAY))
    next_day = outcome_of(bench, "positions_follow_fills", taken(holding(("AAPL", 4))))
    assert (first.broker, next_day.broker) == (
        "not judged: the first snapshot",
        "not judged: the list covers one day",
    )


def test_another_accounts_snapshots_are_not_the_previous_ones(bench: Bench) -> None:
    other = {
        "account": {"profile": {"account": account("VA2")}},
        "balances": {"balances": balances(number="VA2")},
    }
    bench.take(holding(("AAPL", 10), **other), EARLIER, account_id="VA2")
    bench.take(holding(("AAPL", 4)))
    assert bench.outcomes["positions_follow_fills"].broker == "not judged: the first snapshot"


# --- published as staged ----------------------------------------------------------------------------------------------


def test_a_published_snapshot_is_judged_as_it_was_when_staged(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "tradier.duckdb")
    reported = [holding(("AAPL", 10), orders=[order(7)]), holding(("AAPL", 4), orders=[order(7)])]
    landed = [land(zone_in(tmp_path), one, at) for one, at in zip(reported, (EARLIER, AS_OF), strict=True)]
    staged = [store_snapshot(warehouse, one)[1] for one in landed]
    with connect_readonly(warehouse.path) as connection:
        published = [verify_snapshot(one, connection) for one in landed]
    assert [[o for o in one if o.number] for one in published] == [[o for o in one if o.number] for one in staged]
    assert {o.check for o in published[1] if not o.passed} >= {"snapshot_is_good", "orders_tagged"}
