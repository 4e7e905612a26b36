"""Each check of the ledger by the incident it exists for, and by what looks like it and is sound."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tradier_pipeline.broker.models import Order
from tradier_pipeline.core.outcome import MAX_DIFFERENCES, Outcome, Severity
from tradier_pipeline.landing.manifest import LookupRecord
from tradier_pipeline.ledger.changes import LedgerChange
from tradier_pipeline.ledger.records import EngineOrder, Trade
from tradier_pipeline.reconcile import ledger_checks as checks
from tradier_pipeline.reconcile.ledger_checks import RECONCILIATION_CHECKS
from tradier_pipeline.reconcile.reconciliation import Reconciliation, reconcile
from tradier_pipeline.verify import CHECKS
from tradier_pipeline_tests.reconcile.test_trades import (
    CLOSING,
    HELD,
    OPENING,
    exit_order,
    filled_entry,
    filled_exit,
    shown,
)
from tradier_pipeline_tests.reconcile.values import AS_OF, broker_order, call, engine_order, legs, put, trade

DAY = timedelta(days=1)
BY_NAME = {check.name: check for check in RECONCILIATION_CHECKS}

# domain.md, section 10
SEVERITIES = {
    **dict.fromkeys((44, 45, 47, 48, 50, 53, 54, 55, 57, 58, 59, 61, 66, 67, 68, 69, 71), Severity.FATAL),
    **dict.fromkeys((49, 56, 60, 62, 73), Severity.WARN),
    38: Severity.WARN,  # F there: until a snapshot's facts are written back, every fill is such a difference
}


def found(
    orders: Sequence[EngineOrder] = (),
    trades: Sequence[Trade] = (),
    *theirs: Order,
    held: Any = HELD,
    lookups: Sequence[LookupRecord] = (),
    tag_prefix: str | None = None,
    **how: Any,
) -> Reconciliation:
    facts = replace(shown(held, theirs, **how), lookups=tuple(lookups))
    return reconcile(orders, trades, facts, tag_prefix=tag_prefix)


def filled(number: int = 7, sides: Mapping[str, str] = OPENING, **fields: Any) -> Order:
    reported = {"exec_quantity": 1, "remaining_quantity": 0, "avg_fill_price": Decimal("-2.00"), "tag": f"e-{number}"}
    return broker_order(number, "filled", sides, **(reported | fields))


def placed(number: int = 7, days: int = 0, **fields: Any) -> EngineOrder:
    given = {"broker_order_id": number, "created_at": AS_OF - days * DAY - timedelta(hours=1)}
    return engine_order(f"e-{number}", **(given | fields))


def closed(**fields: Any) -> Trade:
    given = {"opened_at": AS_OF - timedelta(hours=1), "closed_at": AS_OF, "exit_reason": "PROFIT_TARGET"}
    return trade(status="CLOSED", **(given | fields))


def many(count: int, **fields: Any) -> list[Trade]:
    return [trade(f"t-{place}", **fields) for place in range(count)]


def rewritten(**after: Any) -> Reconciliation:
    """As if the reconciliation proposed that for a trade."""
    whole = found([filled_entry()], [trade(entry_price=Decimal(2), entry_price_source="fills")])
    (row,) = whole.trades.rows
    rows = (replace(row, change=LedgerChange(trade(), after, "as it was written")),)
    return replace(whole, trades=replace(whole.trades, rows=rows))


def standing(**fields: Any) -> Reconciliation:
    """As if the reconciliation had come to that about a trade that was filled."""
    whole = found([filled_entry()], [trade()])
    (row,) = whole.trades.rows
    return replace(whole, trades=replace(whole.trades, rows=(replace(row, **fields),)))


def asked(number: int, state: Any, times: int = 0) -> LookupRecord:
    return LookupRecord(order_id=number, state=state, times_not_found=times)


Example = tuple[str, str, Callable[[], Reconciliation], tuple[str, str, str]]

# the check, the example of domain.md section 10, and one of the differences: place, the broker's figure, the ledger's
EXAMPLES: list[Example] = [
    (
        "ledger_orders_follow_broker",
        "22223806 filled vs PLACED",
        lambda: found([placed(22223806)], [], filled(22223806)),
        ("order 22223806", "filled", "PLACED"),
    ),
    (
        "ledger_orders_found",
        "10-day GTC",
        lambda: found([placed(7, days=10, duration="gtc")], lookups=[asked(7, "not_found", 2)]),
        ("order 7", "not shown", "PLACED; the broker does not list it and did not know its id 2 times"),
    ),
    (
        "ledger_orders_found",
        "filled today and not listed",
        lambda: found([placed(7, status="FILLED")]),
        ("order 7", "not shown", "FILLED"),
    ),
    (
        "orders_of_ours_recorded",
        "crash after POST",
        lambda: found([], [], filled(7, tag="engine-7"), tag_prefix="engine-"),
        ("order 7", "filled", "not in the ledger; our tag"),
    ),
    (
        "sent_orders_arrived",
        "second exit row",
        lambda: found([filled_entry(), exit_order(9), exit_order(None, "PENDING")], [trade(status="CLOSING_PENDING")]),
        ("order x-None", "not shown", "PENDING since 2025-12-02T14:00:00"),
    ),
    (
        "sent_orders_arrived",
        "an entry that is said to work",
        lambda: found([engine_order("e-1")]),
        ("order e-1", "not shown", "PLACED since 2025-12-02T14:00:00"),
    ),
    (
        "orders_pair_one_to_one",
        "two rows, same id",
        lambda: found([placed(7), exit_order(7)], [], filled(7)),
        ("order 7", "not shown", "PLACED; 2 orders of the ledger have the broker's id 7"),
    ),
    (
        "tags_echoed",
        "includeTags forgotten (0 of 210)",
        lambda: found([placed(n) for n in range(1, 211)], [], *(filled(n, tag=None) for n in range(1, 211))),
        ("tags", "0 of 210 orders have one", "sent with each"),
    ),
    (
        "tags_echoed",
        "a tag that names the kind and not the order",
        lambda: found([placed(7), placed(8)], [], *(filled(n, tag="GEKKOWORKS-ENTRY") for n in (7, 8))),
        ("order 7", "GEKKOWORKS-ENTRY", "e-7"),
    ),
    (
        "live_orders_listed_or_read",
        "day 3 with 2-day window",
        lambda: found([placed(7, days=3, duration="gtc")]),
        ("order 7", "not shown", "PLACED; the broker does not list it"),
    ),
    (
        "live_orders_listed_or_read",
        "asked for, and the answer failed",
        lambda: found([placed(7, days=3)], lookups=[asked(7, "failed")]),
        ("order 7", "not shown", "PLACED; the broker does not list it; asking for it by its id failed"),
    ),
    (
        "orders_fit_their_trades",
        "entry order stored as a trade's closing id",
        lambda: found(
            [filled_entry(), filled_entry(8, "t-2")],
            [trade(broker_order_id_close=8), trade("t-2")],
            held={put(290): -2, put(285): 2},
        ),
        ("trade t-1", "entry of t-2", "order 8 is said to be of several trades or roles"),
    ),
    (
        "orders_fit_their_trades",
        "exit sent with unflipped legs",
        lambda: found([filled_entry(), exit_order(legs=legs(1, **OPENING))], [trade()]),
        ("trade t-1", f"sell_to_open {put(290)}", "order 9 does not close this trade's legs"),
    ),
    (
        "open_trades_have_legs",
        "long leg missing",
        lambda: found([filled_entry()], [trade()], held={put(290): -1}),
        ("trade t-1", f"{put(285)}: 0 of 1", "less is held"),
    ),
    (
        "legs_allocated",
        "4 trades x 1 vs 67",
        lambda: found([], many(4), held={put(290): -67, put(285): 67}),
        (put(285), "67 held", "4 by all trades"),
    ),
    (
        "positions_belong_to_trades",
        "manual spread",
        lambda: found(),
        ("account", "-", f"no trade accounts for -1 {put(290)}"),
    ),
    (
        "strategies_fit_legs",
        "put credit with calls",
        lambda: found([], [trade(legs=legs(1, short=call(290), long=call(285)))], held={}),
        ("trade t-1", f"short {call(290)}", "its legs are no bull_put_credit"),
    ),
    (
        "open_trades_entered_by_fills",
        "entry order canceled",
        lambda: found([placed(7, status="CANCELLED", trade_id="t-1", legs=legs(1, **OPENING))], [trade()]),
        ("trade t-1", "order 7 CANCELLED", "open, and its entry is not known to be filled"),
    ),
    (
        "open_trades_entered_by_fills",
        "the limit price taken for the fill",
        lambda: found([filled_entry(price="-2.05")], [trade(entry_price=Decimal(2))]),
        ("trade t-1", "2.05", "2"),
    ),
    *(
        (
            "closed_trades_proven",
            f"{number} {status.lower()}",
            lambda number=number, status=status: found([exit_order(number, status)], [closed()], held={}),
            ("trade t-1", f"order {number} {status}", "closed, and its exits were not filled"),
        )
        for number, status in ((22107708, "EXPIRED"), (22106142, "CANCELLED"))
    ),
    (
        "closed_trades_priced",
        "5 closes Dec 1",
        lambda: found([], [closed(trade_id=f"t-{n}", exit_reason="BROKER_ALREADY_FLAT") for n in range(5)], held={}),
        ("trade t-4", "BROKER_ALREADY_FLAT", "the price it was closed at is not known"),
    ),
    (
        "closed_trades_priced",
        "no profit",
        lambda: found([filled_exit()], [closed()], held={}),
        ("trade t-1", "-", "closed at a known price, its profit is not known"),
    ),
    (
        "profits_follow_prices",
        "100x",
        lambda: found([filled_entry(), filled_exit()], [closed(realized_pnl=Decimal("1.45"))], held={}),
        ("trade t-1", "145", "1.45"),
    ),
    (
        "exit_prices_within_width",
        "5.30 on width 5",
        lambda: found([filled_entry(), filled_exit(price="5.30")], [closed()], held={}),
        ("trade t-1", "5.3; width 5", "its exit price is beyond its width"),
    ),
    (
        "pending_trades_have_orders",
        "none",
        lambda: found([filled_entry()], [trade(status="CLOSING_PENDING")]),
        ("trade t-1", "opened by order 7 FILLED", "CLOSING_PENDING"),
    ),
    (
        "pending_trades_have_orders",
        "an id that nobody knows",
        lambda: found([], [trade(status="ENTRY_PENDING", broker_order_id_open=7)], held={}),
        ("trade t-1", "7", "its opening order is in neither ledger nor snapshot"),
    ),
    (
        "ended_trades_hold_nothing",
        "filled during cancel",
        lambda: found([filled_entry()], [trade(status="CANCELLED")]),
        ("trade t-1", "order 7 FILLED", "cancelled, and its entry was filled"),
    ),
    (
        "ended_trades_hold_nothing",
        "EXIT_ERROR with its legs at the broker",
        lambda: found([filled_entry()], [trade(status="EXIT_ERROR")]),
        ("trade t-1", "-", "EXIT_ERROR: nothing manages it"),
    ),
    (
        "transitions_allowed",
        "CLOSED -> OPEN",
        lambda: found([filled_entry()], [trade(closed_at=AS_OF - timedelta(minutes=30))]),
        ("trade t-1", "OPEN", "closed at 2025-12-02T14:30:00"),
    ),
    (
        "transitions_allowed",
        "CLOSED -> OPEN, proposed",
        lambda: standing(ledger_status="CLOSED", status="OPEN"),
        ("trade t-1", "OPEN", "CLOSED"),
    ),
    (
        "transitions_allowed",
        "CLOSING_PENDING -> CANCELLED with what it holds",
        lambda: standing(ledger_status="CLOSING_PENDING", status="CANCELLED"),
        ("trade t-1", "1 filled", "CANCELLED"),
    ),
    (
        "terms_unchanged",
        "strategy rewritten",
        lambda: rewritten(strategy="bear_call_credit"),
        ("trades t-1 strategy", "bear_call_credit", "bull_put_credit"),
    ),
    (
        "terms_unchanged",
        "other contracts",
        lambda: rewritten(legs=legs(1, short=put(290), long=put(280))),
        ("trades t-1 legs", put(280), put(285)),
    ),
    (
        "entries_unique",
        "111 entries of 290/295",
        lambda: found([], many(111), held={put(290): -111, put(285): 111}),
        ("trade t-110", "-", "one of 111 trades with the same legs in the same minute"),
    ),
    *(
        (
            "emergencies_not_hasty",
            f"{minutes} min",
            lambda minutes=minutes: found(
                [filled_entry(), filled_exit()],
                [closed(opened_at=AS_OF - timedelta(minutes=minutes), exit_reason="EMERGENCY")],
                held={},
            ),
            ("trade t-1", f"{minutes} min after the fill", "EMERGENCY"),
        )
        for minutes in (2, 3, 12)
    ),
]


def outcome_of(name: str, what: Reconciliation) -> Outcome:
    return BY_NAME[name].run(what)


@pytest.mark.parametrize(("name", "example", "happens", "reported"), EXAMPLES, ids=[f"{e[0]}-{e[1]}" for e in EXAMPLES])
def test_the_example_is_told_by_its_check(
    name: str, example: str, happens: Callable[[], Reconciliation], reported: tuple[str, str, str]
) -> None:
    outcome = outcome_of(name, happens())
    assert not outcome.passed, example
    where, broker, stored = reported
    assert any(
        difference.where == where and broker in difference.broker and stored in difference.stored
        for difference in outcome.differences
    ), outcome.differences


# --- what is sound must not be reported -------------------------------------------------------------------------------


def open_trade() -> Reconciliation:
    """A trade that is held, its entry filled, at both sides."""
    sound = trade(entry_price=Decimal(2), entry_price_source="fills", broker_order_id_open=7)
    return found([filled_entry()], [sound], filled(tag="e-7"))


def closed_trade() -> Reconciliation:
    """A trade that was closed by a fill three quarters of an hour after it was opened."""
    prices = {"entry_price": Decimal(2), "exit_price": Decimal("0.55"), "realized_pnl": Decimal(145)}
    sound = closed(opened_at=AS_OF - timedelta(minutes=45), **prices, exit_price_source="fills")
    theirs = filled(9, CLOSING, tag="x-9", type="debit", avg_fill_price=Decimal("0.55"))
    return found([filled_entry(), filled_exit()], [sound], filled(), theirs, held={})


SOUND: list[tuple[str, str, Callable[[], Reconciliation]]] = [
    *((check.name, "a trade that is held", open_trade) for check in RECONCILIATION_CHECKS),
    *((check.name, "a trade that was closed", closed_trade) for check in RECONCILIATION_CHECKS),
    *((check.name, "nothing at all", lambda: found(held={})) for check in RECONCILIATION_CHECKS),
    (
        "ledger_orders_found",
        "an old order that was read by its id",
        lambda: found([placed(7, days=10)], [], filled(7), lookups=[asked(7, "found")]),
    ),
    (
        "ledger_orders_found",
        "an old order that was not asked for",  # which is another check's
        lambda: found([placed(7, days=10)]),
    ),
    (
        "live_orders_listed_or_read",
        "an old order that the broker does not know",
        lambda: found([placed(7, days=10)], lookups=[asked(7, "not_found", 1)]),
    ),
    ("ledger_orders_follow_broker", "a manual order", lambda: found([], [], filled(7, tag=None))),
    *(
        (name, "an order without an id", lambda: found([engine_order("e-1")]))  # which is another check's
        for name in ("ledger_orders_found", "live_orders_listed_or_read")
    ),
    ("sent_orders_arrived", "an order with an id", lambda: found([placed(7, status="PENDING")])),
    ("closed_trades_priced", "an exit price before the exit", lambda: found([], [trade(exit_price=Decimal(1))])),
    (
        "emergencies_not_hasty",
        "a target reached at once",
        lambda: found([], [closed(opened_at=AS_OF - timedelta(minutes=2))], held={}),
    ),
    ("orders_of_ours_recorded", "a manual order", lambda: found([], [], filled(7, tag=None), tag_prefix="engine-")),
    (
        "sent_orders_arrived",
        "an exit that was sent a minute ago",
        lambda: found([exit_order(None, "PENDING", created_at=AS_OF - timedelta(minutes=1))]),
    ),
    (
        "tags_echoed",
        "some orders without a tag",
        lambda: found([placed(7), placed(8)], [], filled(7), filled(8, tag=None)),
    ),
    (
        "open_trades_have_legs",
        "legs that do not show a moment after the fill",
        lambda: found([filled_entry()], [trade(opened_at=AS_OF - timedelta(minutes=3))], held={}),
    ),
    (
        "legs_allocated",
        "legs that do not show a moment after the fill",
        lambda: found([filled_entry()], [trade(opened_at=AS_OF - timedelta(minutes=3))], held={}),
    ),
    (
        "legs_allocated",
        "the long leg of one is the short leg of another",
        lambda: found(
            [],
            [trade(), trade("t-2", legs=legs(1, short=put(285), long=put(280)))],
            held={put(290): -1, put(280): 1},
        ),
    ),
    ("positions_belong_to_trades", "shares", lambda: found(held={"AAPL": 100})),
    (
        "open_trades_entered_by_fills",
        "a price that the ledger lacks",
        lambda: found([filled_entry()], [trade(entry_price=None)]),
    ),
    (
        "closed_trades_proven",
        "found flat",
        lambda: found([], [closed(exit_reason="BROKER_ALREADY_FLAT")], held={}),
    ),
    (
        "pending_trades_have_orders",
        "an exit that works",
        lambda: found([filled_entry(), exit_order()], [trade(status="CLOSING_PENDING")]),
    ),
    ("transitions_allowed", "a fill that closes", lambda: found([filled_entry(), filled_exit()], [trade()], held={})),
    ("terms_unchanged", "fewer filled", lambda: rewritten(legs=legs(2, short=put(290), long=put(285)))),
    (
        "terms_unchanged",
        "an id that was lacking",
        lambda: rewritten(broker_order_id_open=7),
    ),
    (
        "entries_unique",
        "the same spread an hour later",
        lambda: found([], [trade(), trade("t-2", opened_at=AS_OF)], held={put(290): -2, put(285): 2}),
    ),
    (
        "emergencies_not_hasty",
        "an emergency after a quarter of an hour",
        lambda: found([], [closed(opened_at=AS_OF - timedelta(minutes=15), exit_reason="EMERGENCY")], held={}),
    ),
]


@pytest.mark.parametrize(("name", "what", "happens"), SOUND, ids=[f"{name}-{what}" for name, what, _ in SOUND])
def test_what_is_sound_is_not_told(name: str, what: str, happens: Callable[[], Reconciliation]) -> None:
    assert outcome_of(name, happens()).differences == (), what


def test_the_checks_have_their_numbers_and_severities() -> None:
    assert {check.number: check.severity for check in RECONCILIATION_CHECKS} == SEVERITIES
    assert {name for name, *_ in EXAMPLES} == BY_NAME.keys()
    assert len(BY_NAME) == len(RECONCILIATION_CHECKS)
    assert not BY_NAME.keys() & {check.name for check in CHECKS}


def test_every_finding_that_is_no_mere_information_breaks_a_claim() -> None:
    sources = (Path(checks.__file__).with_name(name).read_text() for name in ("trades.py", "fills.py"))
    codes = {code for source in sources for code in re.findall(r'Finding\(\s*"(\w+)"', source)}
    mapped = {code for check in RECONCILIATION_CHECKS for code in check.rule.codes}  # type: ignore[attr-defined]
    elsewhere = {
        "settling": "what is not known yet is no difference",
        "end_open": "what is not known yet is no difference",
        "order_ambiguous": "reported of the order by orders_pair_one_to_one",
        "sent_without_id": "reported of the order by sent_orders_arrived",
        "entry_price_unknown": "the broker tells it a moment after the fill",
        "expired_still_held": "reported of the position by no_expired_position_held",
        "partly_closed": "the engine may have meant to",
        "exit_offered": "reported of the position by open_trades_have_legs",
    }
    assert codes == mapped | elsewhere.keys()


def test_an_outcome_holds_the_first_differences_and_counts_all() -> None:
    outcome = outcome_of("entries_unique", found([], many(111), held={}))
    assert (len(outcome.differences), outcome.differing) == (MAX_DIFFERENCES, 111)
    assert (outcome.check, outcome.number, outcome.broker) == ("entries_unique", 71, "0 positions")
    assert outcome.stored == "111 trades in the ledger"


def test_a_close_without_a_price_is_told_once() -> None:
    assert outcome_of("closed_trades_priced", found([], [closed()], held={})).differing == 1
