"""The numbered checks of the ledger against the broker: claims over what a reconciliation found. Pure.

They judge nothing anew: a claim is broken where the reconciliation has one of its findings, or where its rows
contradict it. What is not known yet is no difference. FATAL: one side is wrong, and the ledger must not be acted upon
before that is settled. WARN: people ought to look. Neither keeps a snapshot from being published: those facts are the
broker's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Literal

from tradier_pipeline.core.check import Check
from tradier_pipeline.core.outcome import Difference, RuleResult, Severity, shown
from tradier_pipeline.ledger.records import SETTLED, TERMINAL, Leg, TradeStatus
from tradier_pipeline.reconcile.order_matching import OrderRow
from tradier_pipeline.reconcile.reconciliation import Reconciliation
from tradier_pipeline.reconcile.trades import UNSENT, TradeRow

Asset = Literal["order_reconciliation", "trade_reconciliation"]
Rows = Callable[[Reconciliation], Iterable[Difference]]

MAX_LEG_LAG = timedelta(minutes=15)  # legs may take as long to show after a fill

# what follows from facts; the engine may also give up, but only the end of a trade ends that
MOVES: Mapping[TradeStatus, tuple[TradeStatus, ...]] = {
    "ENTRY_PENDING": ("OPEN", "CLOSING_PENDING", "CLOSED", "CANCELLED"),
    "OPEN": ("CLOSING_PENDING", "CLOSED", "CANCELLED"),
    "CLOSING_PENDING": ("OPEN", "CLOSED", "CANCELLED"),
    "EXIT_ERROR": TERMINAL,
    "CLOSE_FAILED": TERMINAL,
    "INVALID_STRUCTURE": TERMINAL,
    "CLOSED": (),
    "CANCELLED": (),
}
# what an order or a trade is; a fact may add what the ledger lacks, and never replace what it has. Type, limit and
# duration of an order are no such thing: they may be changed at the broker
TERMS = (
    *("account_id", "symbol", "strategy", "expiration", "short_strike", "long_strike", "width", "multiplier"),
    *("role", "class_", "trade_id", "broker_order_id", "broker_order_id_open", "legs"),
)


def _nothing(_: Reconciliation) -> Iterable[Difference]:
    return ()


@dataclass(frozen=True, slots=True)
class LedgerRule:
    """What breaks a claim about the ledger beside one snapshot.

    Attributes:
        asset: whose rows it is about.
        codes: of the findings that break it; those that are only information do not.
        rows: what else in the rows breaks it.
    """

    asset: Asset
    codes: tuple[str, ...] = ()
    rows: Rows = _nothing

    def __call__(self, found: Reconciliation) -> RuleResult:
        return RuleResult(*_figures(found, self.asset), (*_differences_of(found, self.codes), *self.rows(found)))


def _differences_of(found: Reconciliation, codes: tuple[str, ...]) -> Iterator[Difference]:
    for trade_id, finding in found.findings:
        if finding.code in codes and finding.severity != "info":
            where = "account" if trade_id is None else f"trade {trade_id}"
            yield Difference(where, "; ".join(filter(None, finding.evidence)) or "-", finding.text)


def _figures(found: Reconciliation, asset: Asset) -> tuple[str, str]:
    if asset == "order_reconciliation":
        theirs = sum(row.raw_status is not None for row in found.orders)
        ours = sum(row.client_order_id is not None for row in found.orders)
        return f"{theirs} orders", f"{ours} in the ledger"
    return f"{len(found.facts.positions)} positions", f"{len(found.trades.rows)} trades in the ledger"


# --- orders -----------------------------------------------------------------------------------------------------------


def _in_state(*states: str) -> Rows:
    return lambda found: (_of_order(row) for row in found.orders if row.match_state in states)


def _of_order(row: OrderRow) -> Difference:
    broker = row.raw_status or "not shown"
    ours = "; ".join((row.ledger_status or "not in the ledger", *row.differences))
    return Difference(_called(row), broker, ours)


def _called(row: OrderRow) -> str:
    return f"order {row.broker_order_id or row.client_order_id}"


def _other_status(found: Reconciliation) -> Iterator[Difference]:
    for row in found.orders:
        if row.match_state == "matched" and row.ledger_status != row.broker_status:
            yield Difference(_called(row), shown(row.raw_status), shown(row.ledger_status))


def _missing(*, asked: bool) -> Rows:
    """The orders that the ledger has at the broker and the broker does not show, although it was asked, or unasked."""

    def missing(found: Reconciliation) -> Iterator[Difference]:
        answered = {lookup.order_id for lookup in found.facts.lookups if lookup.state in ("found", "not_found")}
        for row in found.orders:
            if row.match_state == "missing_at_broker" and row.broker_order_id is not None:
                known = row.broker_order_id in answered or row.ledger_status in SETTLED
                if known == asked:
                    yield _of_order(row)

    return missing


def _never_arrived(found: Reconciliation) -> Iterator[Difference]:
    for row in found.orders:
        unknown = row.match_state == "missing_at_broker" and row.broker_order_id is None
        if unknown and row.sent_at and found.facts.as_of - row.sent_at > UNSENT:
            yield Difference(_called(row), "not shown", f"{row.ledger_status} since {shown(row.sent_at)}")


def _other_tags(found: Reconciliation) -> Iterator[Difference]:
    matched = [row for row in found.orders if row.match_state == "matched"]
    if matched and not any(row.tag for row in matched):
        yield Difference("tags", f"0 of {len(matched)} orders have one", "sent with each")
    for row in matched:
        if row.tag and row.tag != row.client_order_id:
            yield Difference(_called(row), row.tag, shown(row.client_order_id))


# --- trades -----------------------------------------------------------------------------------------------------------


def _each(wrong: Callable[[TradeRow], tuple[object, object] | None]) -> Rows:
    """A rule of single trades: what the broker's facts and what the ledger says, or None if nothing is wrong."""

    def each(found: Reconciliation) -> Iterator[Difference]:
        for row in found.trades.rows:
            if (reported := wrong(row)) is not None:
                yield Difference(f"trade {row.trade_id}", shown(reported[0]), shown(reported[1]))

    return each


def _unbalanced(found: Reconciliation) -> Iterator[Difference]:
    """The contracts of which the trades together ought to hold something else than the position."""
    claimed: dict[str, Decimal] = defaultdict(Decimal)
    settling: set[str] = set()
    for row in found.trades.rows:
        for symbol, amount in row.claimed.items():
            claimed[symbol] += amount
        if any(finding.code in ("settling", "end_open") for finding in row.findings):
            settling.update(row.claimed)
    for symbol, amount in claimed.items():
        held = found.facts.positions.get(symbol, Decimal(0))
        if held != amount and symbol not in settling:
            yield Difference(symbol, f"{shown(held)} held", f"{shown(amount)} by all trades")


def _corrected(column: str) -> Rows:
    """The trades whose figure the facts contradict. One that the ledger lacks is merely filled in."""

    def corrected(row: TradeRow) -> tuple[object, object] | None:
        if row.change is None or column not in row.change.after or row.change.before[column] is None:
            return None
        return row.change.after[column], row.change.before[column]

    return _each(corrected)


def _without_profit(row: TradeRow) -> tuple[object, object] | None:
    if row.status == "CLOSED" and row.exit_price is not None and row.realized_pnl is None:
        return "-", "closed at a known price, its profit is not known"
    return None


def _not_closing(row: TradeRow) -> tuple[object, object] | None:
    return (row.why, "CLOSING_PENDING") if (row.ledger_status, row.status) == ("CLOSING_PENDING", "OPEN") else None


def _moved_wrongly(row: TradeRow) -> tuple[object, object] | None:
    moved = row.status != row.ledger_status
    if moved and row.status not in MOVES[row.ledger_status]:
        return row.status, row.ledger_status
    if moved and row.status == "CANCELLED" and row.entered:
        return f"{shown(row.entered)} filled", row.status
    if row.status not in TERMINAL and row.closed_at is not None:
        return row.status, f"closed at {shown(row.closed_at)}"
    return None


def _hasty(row: TradeRow) -> tuple[object, object] | None:
    if not (row.exit_reason or "").startswith("EMERGENCY") or row.opened_at is None or row.closed_at is None:
        return None
    after = row.closed_at - row.opened_at
    return (f"{after.total_seconds() / 60:.0f} min after the fill", row.exit_reason) if after < MAX_LEG_LAG else None


def _rewritten(found: Reconciliation) -> Iterator[Difference]:
    for change in found.changes:
        for name in TERMS:
            had = change.before.get(name)
            if had and _term(had) != _term(change.after[name]):
                yield Difference(f"{change.table} {change.key} {name}", shown(change.after[name]), shown(had))


def _term(value: object) -> object:
    """Of legs only what they are: how much of them was filled is what the fills say."""
    if isinstance(value, tuple):
        return {(leg.option_symbol, leg.side) for leg in value if isinstance(leg, Leg)}
    return value


# --- the checks -------------------------------------------------------------------------------------------------------

RECONCILIATION_CHECKS: tuple[Check[Reconciliation], ...] = (
    Check(
        38,
        "ledger_orders_follow_broker",
        Severity.WARN,
        "Every order that both have stands in the ledger as the broker says.",
        LedgerRule("order_reconciliation", rows=_other_status),
    ),
    Check(
        44,
        "ledger_orders_found",
        Severity.FATAL,
        "Every order that the ledger has at the broker is there: in its list, or by its id.",
        LedgerRule("order_reconciliation", rows=_missing(asked=True)),
    ),
    Check(
        45,
        "orders_of_ours_recorded",
        Severity.FATAL,
        "Every order at the broker with a tag of ours is in the ledger.",
        LedgerRule("order_reconciliation", rows=_in_state("unmatched_ours")),
    ),
    Check(
        47,
        "sent_orders_arrived",
        Severity.FATAL,
        "Every order that the ledger has had for five minutes has an id of the broker's, or is found by its tag.",
        LedgerRule("order_reconciliation", rows=_never_arrived),
    ),
    Check(
        48,
        "orders_pair_one_to_one",
        Severity.FATAL,
        "By id, tag and legs, an order of the ledger is one order of the broker, and that is no other one's.",
        LedgerRule("order_reconciliation", rows=_in_state("ambiguous")),
    ),
    Check(
        49,
        "tags_echoed",
        Severity.WARN,
        "The broker tells the tags of the ledger's orders, and each is the client order id that was sent.",
        LedgerRule("order_reconciliation", rows=_other_tags),
    ),
    Check(
        50,
        "live_orders_listed_or_read",
        Severity.FATAL,
        "Every order that works, as far as the ledger knows, is in the broker's list or was read by its id.",
        LedgerRule("order_reconciliation", rows=_missing(asked=False)),
    ),
    Check(
        53,
        "orders_fit_their_trades",
        Severity.FATAL,
        "An entry opens its trade's legs, an exit closes them, and an order is of one trade in one role.",
        LedgerRule("trade_reconciliation", codes=("wrong_effect", "order_claimed_twice")),
    ),
    Check(
        54,
        "open_trades_have_legs",
        Severity.FATAL,
        "A quarter of an hour after its fill, an open trade has all of its legs at the broker.",
        LedgerRule("trade_reconciliation", codes=("legs_missing", "leg_delivered", "legs_unknown")),
    ),
    Check(
        55,
        "legs_allocated",
        Severity.FATAL,
        "In every contract that trades hold, what they hold adds up to the position, and their orders add up.",
        LedgerRule(
            "trade_reconciliation",
            codes=("legs_uneven", "closed_more_than_held", "more_held_than_filled", "overfilled"),
            rows=_unbalanced,
        ),
    ),
    Check(
        56,
        "positions_belong_to_trades",
        Severity.WARN,
        "Every option that is held belongs to a trade.",
        LedgerRule("trade_reconciliation", codes=("position_without_trade",)),
    ),
    Check(
        57,
        "strategies_fit_legs",
        Severity.FATAL,
        "A vertical's legs are of its strategy's type, in its order of strikes, and its width apart.",
        LedgerRule("trade_reconciliation", codes=("strategy_contradicts_legs", "width_contradicts_legs")),
    ),
    Check(
        58,
        "open_trades_entered_by_fills",
        Severity.FATAL,
        "The entry of an open trade was filled, and entry prices are those of the fills.",
        LedgerRule("trade_reconciliation", codes=("open_without_fill",), rows=_corrected("entry_price")),
    ),
    Check(
        59,
        "closed_trades_proven",
        Severity.FATAL,
        "A closed trade has filled exits, or was found flat, expired, assigned or exercised.",
        LedgerRule("trade_reconciliation", codes=("closed_without_fill", "closed_without_proof")),
    ),
    Check(
        60,
        "closed_trades_priced",
        Severity.WARN,
        "A closed trade has an exit price that somebody knows the source of, and a profit.",
        LedgerRule(
            "trade_reconciliation", codes=("exit_price_unknown", "exit_price_unproven"), rows=_each(_without_profit)
        ),
    ),
    Check(
        61,
        "profits_follow_prices",
        Severity.FATAL,
        "A profit is the difference of entry and exit, times quantity and multiplier, within a cent.",
        LedgerRule("trade_reconciliation", rows=_corrected("realized_pnl")),
    ),
    Check(
        62,
        "exit_prices_within_width",
        Severity.WARN,
        "An exit price is between zero and the width of its spread.",
        LedgerRule("trade_reconciliation", codes=("exit_price_out_of_range",)),
    ),
    Check(
        66,
        "pending_trades_have_orders",
        Severity.FATAL,
        "A trade that is being opened or closed has an order that may still do so.",
        LedgerRule("trade_reconciliation", codes=("order_unknown",), rows=_each(_not_closing)),
    ),
    Check(
        67,
        "ended_trades_hold_nothing",
        Severity.FATAL,
        "No trade that was cancelled, closed by fills or given up has legs at the broker.",
        LedgerRule(
            "trade_reconciliation",
            codes=("cancelled_but_filled", "cancelled_but_held", "closed_but_held", "needs_attention"),
        ),
    ),
    Check(
        68,
        "transitions_allowed",
        Severity.FATAL,
        "No trade that ended lives again, and none that was filled is cancelled.",
        LedgerRule("trade_reconciliation", rows=_each(_moved_wrongly)),
    ),
    Check(
        69,
        "terms_unchanged",
        Severity.FATAL,
        "What is proposed for the ledger replaces nothing that makes an order or a trade what it is.",
        LedgerRule("trade_reconciliation", rows=_rewritten),
    ),
    Check(
        71,
        "entries_unique",
        Severity.FATAL,
        "No two living trades have the same legs and were opened in the same minute.",
        LedgerRule("trade_reconciliation", codes=("duplicate_entry",)),
    ),
    Check(
        73,
        "emergencies_not_hasty",
        Severity.WARN,
        "No trade was closed as an emergency within a quarter of an hour of its fill.",
        LedgerRule("trade_reconciliation", rows=_each(_hasty)),
    ),
)
