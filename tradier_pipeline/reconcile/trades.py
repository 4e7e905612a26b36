"""Where every trade of the ledger stands, concluded anew from everything that is known. Pure.

Nothing is remembered between two calls, so no transition can be lost, and what has been written is not proposed again.

- CLOSED and CANCELLED stay. The engine's own error states end when the trade does, and are never taken back.
- What is filled counts, whatever became of the rest of the order. An order that is not shown is still working.
- A position that the broker shows keeps its trade open. A position that it does not show ends a trade only if two
  snapshots in a row lack every leg, the fills are older than a quarter of an hour, a snapshot has shown its legs since
  if they are of this date, and the snapshot is not in doubt. What was held earlier on this date does not end without a
  cause that is shown: a fill, an expiry, or shares that came for it. What a company renamed has not ended.
- While the snapshot shows an order of nobody's that would have closed it, such a trade stays: that order is offered.
- Nothing expires before its own time: the opening of its day if that settles it, else the close of the session. What
  is over then has expired once a later session has opened and nothing was delivered for it.
- A price is what fills say. Without fills there is none, and a finding stays open.

Prices are USD per share in the direction of the trade: of a credit trade what was received to open and paid to close,
of a debit trade what was paid to open and received to close; negative the other way round. Profits are USD, multiplier
included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from itertools import chain
from typing import Any

from tradier_pipeline import clock
from tradier_pipeline.broker.models import Order
from tradier_pipeline.broker.symbols import OptionSymbol, classify
from tradier_pipeline.core.decimals import INTEGER_DIGITS, plain, rounded
from tradier_pipeline.ledger.changes import LedgerChange, change_to
from tradier_pipeline.ledger.records import HOLDING, STUCK, TERMINAL, EngineOrder, Trade, TradeStatus
from tradier_pipeline.reconcile.ends import Fate
from tradier_pipeline.reconcile.facts import Facts, Severity, TradeFinding
from tradier_pipeline.reconcile.fills import ZERO, Side, TradeExecutions, closes, executions_of, filled_legs, ratios
from tradier_pipeline.reconcile.holdings import Allocation, allocate, missing_legs
from tradier_pipeline.reconcile.order_matching import OrderRow, progress
from tradier_pipeline.reconcile.unrealized import is_credit

SETTLING = timedelta(minutes=15)  # a fill may show before its position does
UNSENT = timedelta(minutes=5)  # by then the broker has an order, or never gets it
FROM_FILLS = "fills"
_NOTHING_TELLS = "nothing of it is held since today, and no order, expiry or delivery tells why"
_ENDS_ARE_UNCERTAIN = "what came or went without a cause may be for its contracts, and nothing proves what ended them"
_END_IS_OPEN = "its contracts are over; whether they expired or were delivered shows when the next session opens"
CENT = Decimal("0.01")
TICKS = Decimal("0.10")  # two legs, each a tick of 0.05 away: what is worth nothing, or all, also trades beyond it
CLOSED_WITHOUT_ORDER = ("BROKER_ALREADY_FLAT", "EXPIRED", "ASSIGNED", "EXERCISED")

_BEGINNING = datetime.min.replace(tzinfo=UTC)
# strategy -> type of its contracts, and whether the short strike is the higher one
_VERTICALS = {
    "bull_put_credit": ("put", True),
    "bear_put_debit": ("put", False),
    "bear_call_credit": ("call", False),
    "bull_call_debit": ("call", True),
}


@dataclass(frozen=True, slots=True)
class TradeRow:
    """One trade: what the ledger says, what follows from the facts, and what is wrong.

    Attributes:
        status: where it should stand.
        legs: contract -> signed quantity of all that was opened.
        entered, exited: units that were opened and closed.
        claimed, allocated: contract -> signed quantity it ought to hold, and what it does hold of the position.
        realized_pnl: USD, multiplier included; None until it is closed at a known price.
        change: what the ledger's row should say; None if nothing differs.
    """

    trade_id: str
    symbol: str
    strategy: str | None
    legs: Mapping[str, Decimal]
    ledger_status: TradeStatus
    status: TradeStatus
    why: str
    entered: Decimal
    exited: Decimal
    claimed: Mapping[str, Decimal]
    allocated: Mapping[str, Decimal]
    entry_price: Decimal | None
    entry_price_source: str | None
    exit_price: Decimal | None
    exit_price_source: str | None
    exit_reason: str | None
    realized_pnl: Decimal | None
    opened_at: datetime | None
    closed_at: datetime | None
    findings: tuple[TradeFinding, ...]
    change: LedgerChange | None


@dataclass(frozen=True, slots=True)
class TradeReconciliation:
    """The trades that live, changed lately, or have something wrong; and what no trade accounts for.

    Attributes:
        left: contract or equity -> signed quantity of the position that belongs to no trade.
        findings: of the account, not of one trade.
    """

    rows: tuple[TradeRow, ...]
    left: Mapping[str, Decimal]
    findings: tuple[TradeFinding, ...]


def unlinkable(
    trade: Trade, order: Order, orders: Sequence[EngineOrder], order_rows: Sequence[OrderRow], facts: Facts
) -> str | None:
    """Why an order of the broker's cannot be recorded as the exit of a trade; None if it can."""
    view = _View(trade, executions_of([trade], orders, order_rows, facts)[trade.trade_id])
    if trade.status == "CANCELLED" or (trade.status == "CLOSED" and trade.exit_price is not None):
        return f"the trade is {trade.status} already"
    if order.lacks_legs:
        return "the broker does not tell the legs of the order"
    if not filled_legs(order):
        return f"the order has filled nothing, it is {order.status}"
    if progress(order).is_beyond:
        return "more of the order was filled than ordered"
    if not closes(order, trade):
        text = ", ".join(f"{amount.normalize():+f} {symbol}" for symbol, amount, _ in filled_legs(order))
        return f"what the order filled does not close the legs of the trade: {text}"
    if not view.fits(order):
        return "the order closed more than the trade has left, or before it was opened"
    return None


def reconcile_trades(
    trades: Sequence[Trade], orders: Sequence[EngineOrder], order_rows: Sequence[OrderRow], facts: Facts
) -> TradeReconciliation:
    """Conclude where each trade of the account stands.

    Args:
        trades: of the ledger, of any account. One that is newer than the snapshot is left out.
        orders: of the ledger. They count as `order_rows` says they should be, whether that was written or not.
        order_rows: what `reconcile_orders` made of them.
    """
    known = [
        trade
        for trade in trades
        if trade.account_id == facts.account_id and (trade.created_at or _BEGINNING) <= facts.as_of
    ]
    done = executions_of(known, orders, order_rows, facts)
    views = sorted((_View(trade, done[trade.trade_id]) for trade in known), key=_View.age)
    allocation = allocate([(view.trade.trade_id, view.claims) for view in views if view.claims], facts.positions)
    absent = missing_legs([view.as_open() for view in views if not view.terminal], facts.holdings, facts.before)
    shown = _Shown(
        facts, allocation, {one.trade_id: frozenset(one.symbols) for one in absent if one.state == "confirmed"}
    )
    twins = _twins(views)
    rows = [_row(view, shown, twins) for view in views]
    return TradeReconciliation(
        rows=tuple(row for view, row in zip(views, rows, strict=True) if _matters(view, row, facts)),
        left=allocation.left,
        findings=tuple(_leftovers(allocation, views)),
    )


# --- what is known of one trade ---------------------------------------------------------------------------------------


class _View:
    """A trade and what its orders did to it."""

    def __init__(self, trade: Trade, done: TradeExecutions) -> None:
        self.trade = trade
        self.entry: Side = done.entry
        self.exit: Side = done.exit
        self.problems = done.findings
        self.ratios = ratios(trade)
        self.terminal = trade.status in TERMINAL
        self.entered = self._entered()
        self.exited = self._units(self.exit)
        self.rest = self._rest()
        self.claims: Mapping[str, Decimal] = {} if self.terminal else self.rest
        self.opened = trade.opened_at or self.entry.at
        self.offered = tuple(order for order in done.unclaimed if self.fits(order))

    def _entered(self) -> Decimal:
        trade = self.trade
        if self.entry.filled:
            return self._units(self.entry)
        proven_unfilled = bool(self.entry.orders) and not self.entry_works and not self.entry.uncertain
        if trade.status in ("ENTRY_PENDING", "CANCELLED") or proven_unfilled:
            return ZERO
        return trade.quantity  # as the ledger has it: nobody knows the order, or it is still said to be working

    def _units(self, side: Side) -> Decimal:
        """Whole units: as many as the leg that has the fewest."""
        if not self.ratios:
            return sum((order.units for order in side.orders), ZERO)
        return min(side.legs.get(symbol, ZERO) / abs(ratio) for symbol, ratio in self.ratios.items())

    def _rest(self) -> dict[str, Decimal]:
        """Contract -> signed quantity that was opened and not closed."""
        held: dict[str, Decimal] = {}
        for symbol, ratio in self.ratios.items():
            opened = self.entry.legs.get(symbol, ZERO) if self.entry.filled else self.entered * abs(ratio)
            rest = opened - self.exit.legs.get(symbol, ZERO)
            if rest > 0:
                held[symbol] = rest if ratio > 0 else -rest
        return held

    def fits(self, order: Order) -> bool:
        """Whether an order may have closed what is not closed yet of it."""
        if order.transaction_date and self.opened and order.transaction_date < self.opened:
            return False
        return all(abs(amount) <= abs(self.rest.get(symbol, ZERO)) for symbol, amount, _ in filled_legs(order))

    def age(self) -> tuple[datetime, str]:
        return (self.opened or self.trade.created_at or _BEGINNING, self.trade.trade_id)

    def as_open(self) -> Trade:
        """The trade as `missing_legs` looks at it, whatever the ledger says about its state."""
        return self.trade.model_copy(update={"status": "OPEN", "opened_at": self.opened})

    @property
    def entry_works(self) -> bool:
        """A row that never reached the broker says nothing beside one that was filled."""
        return any(not order.finished and not (order.waiting and self.entry.filled) for order in self.entry.orders)

    @property
    def over(self) -> bool:
        """Everything that was opened has been closed by fills."""
        if self.ratios:
            return self.entered > 0 and not self.rest
        return 0 < self.entered <= self.exited

    @cached_property
    def uneven(self) -> bool:
        """Some legs were filled more often than others."""
        sides = [self.exit] if not self.entry.filled else [self.entry, self.exit]
        return any(
            len({side.legs.get(symbol, ZERO) / abs(ratio) for symbol, ratio in self.ratios.items()}) > 1
            for side in sides
        )

    @property
    def is_credit(self) -> bool | None:
        """Whether money was received to open it; None if nobody knows."""
        return is_credit(self.trade.strategy, self.ratios, self.entry.paid)

    def waiting_exits(self, as_of: datetime) -> tuple[bool, tuple[str, ...]]:
        """Whether an exit may still be on its way to the broker, and the names of those that cannot be any more."""
        waiting = [order for order in self.exit.orders if order.waiting]
        late = [order for order in waiting if order.sent_at is not None and as_of - order.sent_at > UNSENT]
        return len(waiting) > len(late), tuple(order.name for order in late)


@dataclass(frozen=True, slots=True)
class _Shown:
    """What the snapshot shows, and trade -> the legs that two snapshots in a row lack."""

    facts: Facts
    allocation: Allocation
    absent: Mapping[str, frozenset[str]]

    def held(self, view: _View) -> Mapping[str, Decimal]:
        return self.allocation.shares.get(view.trade.trade_id, {})

    def short_of(self, view: _View) -> tuple[str, ...]:
        """The legs of which it holds less than it ought to."""
        held = self.held(view)
        return tuple(symbol for symbol, claim in view.claims.items() if held[symbol] != claim)

    def unclaimed(self, view: _View, units: Decimal) -> bool:
        """Exactly so many units of the trade are held and no trade accounts for them."""
        left = self.allocation.left
        return (
            bool(view.ratios)
            and units > 0
            and all(left.get(symbol) == ratio * units for symbol, ratio in view.ratios.items())
        )

    def flat(self, view: _View) -> bool:
        """Nothing of it is held, for certain."""
        return (
            bool(view.claims)
            and not any(self.held(view).values())
            and self.lacks(view, view.claims)
            and not self.settling(view)
        )

    def lacks(self, view: _View, symbols: Iterable[str]) -> bool:
        """Two whole snapshots in a row show none of the contracts on the trade's side."""
        return not self.facts.doubtful and self.absent.get(view.trade.trade_id, frozenset()).issuperset(symbols)

    def settling(self, view: _View) -> bool:
        """Whether its positions may still be to come: they have been seen a quarter of an hour behind the fills."""
        opened, _ = view.age()
        if self.facts.as_of < opened + SETTLING:
            return True
        is_of_today = clock.trade_date(opened) == clock.trade_date(self.facts.as_of)
        return view.trade.trade_id in self.facts.never_held and is_of_today


# --- the state machine ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _NextState:
    """Where a trade stands and why; `closed_at` and `reason` if it ends."""

    status: TradeStatus
    why: str
    reason: str | None = None
    closed_at: datetime | None = None


def _next_state(view: _View, shown: _Shown) -> _NextState:
    trade = view.trade
    if view.terminal:
        return _NextState(trade.status, f"{trade.status} stays", closed_at=view.exit.at if view.over else None)
    if not view.entered:
        return _not_entered(view, shown)
    if view.over and not view.entry_works and not shown.unclaimed(view, view.entered):
        return _NextState("CLOSED", f"closed by {_names(view.exit)}", "NORMAL_EXIT", view.exit.at or shown.facts.as_of)
    if shown.flat(view) and not view.entry_works:
        if view.offered:
            status = trade.status if trade.status in (*HOLDING, *STUCK) else "OPEN"
            return _NextState(status, f"nothing of it is held, and {_offered(view)} may have closed it")
        reason, closed_at = _ended(view, shown.facts)
        if reason is not None:
            return _NextState("CLOSED", "two snapshots in a row lack every leg", reason, closed_at)
        status = trade.status if trade.status in (*HOLDING, *STUCK) else "OPEN"
        return _NextState(status, _why_not_ended(view, shown.facts))
    return _holding(view, shown)


def _not_entered(view: _View, shown: _Shown) -> _NextState:
    trade = view.trade
    if view.entry.filled:
        return _NextState(
            trade.status if trade.status in (*HOLDING, *STUCK) else "OPEN", "some of its legs were filled"
        )
    if not view.entry.orders or view.entry_works or view.entry.uncertain:
        return _NextState(trade.status, "its entry may still be filled")
    if shown.unclaimed(view, trade.quantity) or (
        trade.status != "ENTRY_PENDING" and not shown.lacks(view, view.ratios)
    ):
        return _NextState(trade.status, "its entry was not filled, but its legs may be held")
    last = view.entry.orders[-1].status
    return _NextState("CANCELLED", f"never filled: {_names(view.entry)}", f"ENTRY_{last}")


def _holding(view: _View, shown: _Shown) -> _NextState:
    trade = view.trade
    if trade.status in STUCK:
        return _NextState(trade.status, "the engine has given up, and it is not over")
    if any(not order.finished and not order.waiting for order in view.exit.orders):
        return _NextState("CLOSING_PENDING", f"{_names(view.exit)} is working")
    on_its_way, _ = view.waiting_exits(shown.facts.as_of)
    if on_its_way or view.exit.uncertain or (view.over and not view.entry_works):
        return _NextState(trade.status if trade.status in HOLDING else "OPEN", "its exit is not known to have ended")
    if view.entry.filled:
        return _NextState("OPEN", f"opened by {_names(view.entry)}")
    return _NextState("OPEN", "the ledger has it open, and nothing closes it")


def _ended(view: _View, facts: Facts) -> tuple[str | None, datetime]:
    """Why a trade is flat without a fill, and when it was at the latest.

    None if nobody knows: its contracts are over, and what was delivered for them may not show yet; or its legs were
    held earlier on this date, whose orders are all listed, and none of them closed it. On a later date the order may be
    one that is not listed any more.
    """
    over, known = _expired_at(view, facts), _known_ends(view, facts)
    if "renamed" in known or "uncertain" in known:
        return None, over or facts.as_of
    delivered = next((fate.upper() for fate in known if fate != "expired"), None)
    if over is not None and facts.as_of >= over:
        end = None if _end_is_open(view, facts) else "EXPIRED"
        return delivered or _delivery(view, facts, in_part=True) or end, over
    if delivered := delivered or _delivery(view, facts):
        return delivered, facts.as_of
    held_until = facts.held_until.get(view.trade.trade_id)
    since_today = held_until is not None and clock.trade_date(held_until) == clock.trade_date(facts.as_of)
    return None if since_today else "BROKER_ALREADY_FLAT", facts.as_of


def _known_ends(view: _View, facts: Facts) -> list[Fate]:
    """What became of its contracts since they were last seen, as far as the account shows: shorts first."""
    since = facts.held_until.get(view.trade.trade_id, _BEGINNING)
    symbols = sorted(view.claims, key=lambda symbol: view.claims[symbol])
    ends = [facts.ends[symbol] for symbol in symbols if symbol in facts.ends]
    return [end.fate for end in ends if end.as_of > since]


def _why_not_ended(view: _View, facts: Facts) -> str:
    """Why a trade of which nothing is held is not taken for closed."""
    known = _known_ends(view, facts)
    if "renamed" in known:
        return f"{_renamed(view, facts)}: it is held under another name"
    if _end_is_open(view, facts):
        return _END_IS_OPEN
    return _ENDS_ARE_UNCERTAIN if "uncertain" in known else _NOTHING_TELLS


def _renamed(view: _View, facts: Facts) -> str:
    """Which of its legs go by another name since they were last seen, and by which; empty if none does."""
    since = facts.held_until.get(view.trade.trade_id, _BEGINNING)
    ends = ((symbol, facts.ends[symbol]) for symbol in view.claims if symbol in facts.ends)
    return " and ".join(f"{symbol} became {end.became}" for symbol, end in ends if end.became and end.as_of > since)


def _options(view: _View) -> list[OptionSymbol]:
    """The contracts that it ought to hold."""
    return [option for symbol in view.claims if (option := classify(symbol).option) is not None]


def _expired_at(view: _View, facts: Facts) -> datetime | None:
    """When the last of the contracts that it ought to hold is over; None if one of them does not expire."""
    ends = [option.expires_at(facts.closes.get(option.expiration)) for option in _options(view)]
    return max(ends) if ends and len(ends) == len(view.claims) else None


def _end_is_open(view: _View, facts: Facts) -> bool:
    """Whether its contracts are over, and it does not show yet whether they expired or were delivered."""
    over = _expired_at(view, facts)
    if over is None or facts.as_of < over:
        return False
    return not all(option.end_is_known(facts.as_of, facts.session_open) for option in _options(view))


def _delivery(view: _View, facts: Facts, *, in_part: bool = False) -> str | None:
    """ASSIGNED or EXERCISED if the shares of a leg came or went since its legs were last seen, and no order did it.

    Args:
        in_part: or those of one contract of it: the rest expired.
    """
    before = facts.shares_before.get(view.trade.trade_id)
    if before is None:
        return None
    came = facts.positions.get(view.trade.symbol, ZERO) - before - _traded(view, facts)
    for symbol, claim in sorted(view.claims.items(), key=lambda item: item[1]):  # shorts first
        option = classify(symbol).option
        if option is None or symbol in facts.positions:
            continue
        due = claim * view.trade.multiplier * (1 if option.option_type == "call" else -1)
        least = view.trade.multiplier if in_part else abs(due)
        if due * came > 0 and abs(came) >= least:
            return "ASSIGNED" if claim < 0 else "EXERCISED"
    return None


def _traded(view: _View, facts: Facts) -> Decimal:
    """Shares of its underlying that orders brought since its legs were last seen, as far as they are shown."""
    since = facts.held_until.get(view.trade.trade_id, _BEGINNING)
    return sum(
        (
            amount
            for order in facts.orders
            if (order.transaction_date or order.create_date) > since
            for symbol, amount, _ in filled_legs(order)
            if symbol == view.trade.symbol
        ),
        ZERO,
    )


# --- prices -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Prices:
    """USD per share in the direction of the trade, the profit in USD, and whence: None where it is not known."""

    entry: Decimal | None
    entry_source: str | None
    exit: Decimal | None
    exit_source: str | None
    profit: Decimal | None


def _prices(view: _View, closed: bool) -> _Prices:
    trade, credit = view.trade, view.is_credit
    entry, entry_source = trade.entry_price, trade.entry_price_source
    exit_, exit_source, profit = trade.exit_price, trade.exit_price_source, trade.realized_pnl
    if view.uneven or credit is None or not view.entered:
        return _Prices(entry, entry_source, exit_, exit_source, profit)
    sign = -1 if credit else 1
    opened = closing = None
    if view.entry.paid is not None:
        opened = view.entry.paid
        entry, entry_source = _each(sign * opened / view.entered), FROM_FILLS
    elif entry is not None:
        opened = sign * entry * view.entered
    if closed and view.over and view.exit.paid is not None:
        closing = view.exit.paid * view.entered / view.exited  # an order may have closed more than this trade
        exit_, exit_source = _each(-sign * closing / view.entered), FROM_FILLS
    elif closed and exit_ is not None and exit_source is not None:
        closing = -sign * exit_ * view.entered
    if opened is not None and closing is not None:
        computed = _each(-(opened + closing) * trade.multiplier)
        # a price that was once computed from fills is a rounded one
        if profit is None or computed is None or abs(computed - profit) >= CENT or exit_source == entry_source:
            profit = computed
    return _Prices(entry, entry_source, exit_, exit_source, profit)


def _each(amount: Decimal) -> Decimal | None:
    if amount.adjusted() >= INTEGER_DIGITS:  # no price of this world; nothing to be computed from it
        return None
    near = rounded(amount)
    return None if near is None else plain(near)


# --- the row ----------------------------------------------------------------------------------------------------------


def _row(view: _View, shown: _Shown, twins: Mapping[str, int]) -> TradeRow:
    trade, stand = view.trade, _next_state(view, shown)
    prices = _prices(view, stand.status == "CLOSED")
    wanted = _wanted(view, shown, stand, prices)
    will_be = trade.model_copy(update=wanted)
    return TradeRow(
        trade_id=trade.trade_id,
        symbol=trade.symbol,
        strategy=trade.strategy,
        legs={symbol: ratio * view.entered for symbol, ratio in view.ratios.items() if view.entered},
        ledger_status=trade.status,
        status=stand.status,
        why=stand.why,
        entered=view.entered,
        exited=view.exited,
        claimed=view.claims,
        allocated=shown.held(view),
        entry_price=will_be.entry_price,
        entry_price_source=will_be.entry_price_source,
        exit_price=will_be.exit_price,
        exit_price_source=will_be.exit_price_source,
        exit_reason=will_be.exit_reason,
        realized_pnl=will_be.realized_pnl,
        opened_at=will_be.opened_at,
        closed_at=will_be.closed_at,
        findings=(*view.problems, *_findings(view, shown, will_be, twins.get(trade.trade_id, 1))),
        change=change_to(trade, wanted, stand.why),
    )


def _wanted(view: _View, shown: _Shown, stand: _NextState, prices: _Prices) -> dict[str, Any]:
    trade = view.trade
    if trade.status == "CANCELLED":
        return {}
    wanted: dict[str, Any] = {
        "status": stand.status,
        "entry_price": prices.entry,
        "entry_price_source": prices.entry_source,
        "exit_price": prices.exit,
        "exit_price_source": prices.exit_source,
        "realized_pnl": prices.profit,
        "opened_at": view.opened,
        "closed_at": trade.closed_at or stand.closed_at,
    }
    if stand.reason and (trade.exit_reason is None or stand.reason in CLOSED_WITHOUT_ORDER):
        wanted["exit_reason"] = stand.reason
    if view.terminal:
        return wanted
    if _filled_in_part(view) and not shown.unclaimed(view, trade.quantity - view.entered):
        wanted |= {"quantity": plain(view.entered), "legs": _scaled(view)}
    return wanted | _order_ids(view, stand)


def _filled_in_part(view: _View) -> bool:
    """What was filled is another quantity than the ledger has, and every order says how much it was."""
    if view.entry.uncertain or any(order.assumed for order in (*view.entry.orders, *view.exit.orders)):
        return False
    return bool(view.entry.filled) and not view.uneven and 0 < view.entered != view.trade.quantity


def _scaled(view: _View) -> tuple[Any, ...]:
    return tuple(
        leg.model_copy(update={"quantity": plain(abs(view.ratios[leg.option_symbol]) * view.entered)})
        for leg in view.trade.legs
        if leg.option_symbol in view.ratios
    )


def _order_ids(view: _View, stand: _NextState) -> dict[str, int | None]:
    """The ids that the trade lacks; the id of a closing order that ended without a fill is cleared."""
    trade = view.trade
    ids: dict[str, int | None] = {}
    opening = {order.broker_order_id for order in view.entry.orders if order.broker_order_id is not None}
    if trade.broker_order_id_open is None and len(opening) == 1:
        ids["broker_order_id_open"] = opening.pop()
    at_broker = [order for order in view.exit.orders if order.broker_order_id is not None]
    alive = [order for order in at_broker if not order.finished or order.units]
    named = [order for order in at_broker if order.broker_order_id == trade.broker_order_id_close]
    if not view.exit.uncertain and (trade.broker_order_id_close is None or (named and named[0] not in alive)):
        if alive:
            ids["broker_order_id_close"] = max(order.broker_order_id or 0 for order in alive)
        elif stand.status == "OPEN":
            ids["broker_order_id_close"] = None
    return ids


def _offered(view: _View) -> str:
    return " and ".join(f"order {order.id}" for order in view.offered)


def _names(side: Side) -> str:
    return ", ".join(side.names) or "no order"


def _matters(view: _View, row: TradeRow, facts: Facts) -> bool:
    """Not what ended on an earlier day, was known to have when the account was last seen, and raises no question."""
    if row.status not in TERMINAL or row.change or row.findings:
        return True
    if row.closed_at is None:
        return False
    written, before = view.trade.updated_at, facts.before
    if written is not None and before is not None and before.as_of < written <= facts.as_of:
        return True  # such as an expiry, which is known over night
    return clock.trade_date(row.closed_at) == clock.trade_date(facts.as_of)


# --- findings ---------------------------------------------------------------------------------------------------------


def _findings(view: _View, shown: _Shown, will_be: Trade, twins: int) -> Iterator[TradeFinding]:
    """What is wrong with a trade as it will be."""
    return chain(
        _of_orders(view, shown),
        _of_closed(view, will_be) if will_be.status == "CLOSED" else (),
        _of_cancelled(view, shown) if view.trade.status == "CANCELLED" else (),
        _of_living(view, shown, will_be) if will_be.status not in TERMINAL else (),
        _of_terms(will_be, twins) if not view.terminal else (),
    )


def _of_orders(view: _View, shown: _Shown) -> Iterator[TradeFinding]:
    trade = view.trade
    if view.uneven:
        yield TradeFinding("legs_uneven", "error", "its legs were filled in different quantities", _quantities(view))
    opened = view.entry.legs if view.entry.filled else {s: abs(r) * view.entered for s, r in view.ratios.items()}
    if view.entered and any(amount > opened.get(symbol, ZERO) for symbol, amount in view.exit.legs.items()):
        yield TradeFinding("closed_more_than_held", "error", "its exits closed more than was opened", view.exit.names)
    if view.terminal:
        return
    _, late = view.waiting_exits(shown.facts.as_of)
    if late:
        yield TradeFinding(
            "sent_without_id", "warn", "an exit is not known at the broker and is too old to be sent", late
        )
    for number, status, what in (
        (view.entry.unknown, "ENTRY_PENDING", "opening"),
        (view.exit.unknown, "CLOSING_PENDING", "closing"),
    ):
        if number is not None and trade.status == status:
            yield TradeFinding(
                "order_unknown", "warn", f"its {what} order is in neither ledger nor snapshot", (str(number),)
            )
    if _filled_in_part(view) and shown.unclaimed(view, trade.quantity - view.entered):
        yield TradeFinding("more_held_than_filled", "error", "more is held than its orders opened", view.entry.names)


def _of_closed(view: _View, will_be: Trade) -> Iterator[TradeFinding]:
    proven = view.over and bool(view.exit.filled)
    if not proven and will_be.exit_reason not in CLOSED_WITHOUT_ORDER:
        if view.exit.orders:
            yield TradeFinding("closed_without_fill", "error", "closed, and its exits were not filled", view.exit.names)
        else:
            yield TradeFinding("closed_without_proof", "warn", "closed, and no filled exit is known")
    if will_be.exit_price is None:
        yield TradeFinding(
            "exit_price_unknown", "warn", "the price it was closed at is not known", (will_be.exit_reason or "",)
        )
    elif will_be.exit_price_source is None:
        reported = (f"{will_be.exit_price:f}",)
        yield TradeFinding("exit_price_unproven", "warn", "nobody knows where its exit price comes from", reported)
    if will_be.exit_price is not None and will_be.width and not -TICKS <= will_be.exit_price <= will_be.width + TICKS:
        beyond = (f"{will_be.exit_price:f}", f"width {will_be.width:f}")
        yield TradeFinding("exit_price_out_of_range", "warn", "its exit price is beyond its width", beyond)


def _of_cancelled(view: _View, shown: _Shown) -> Iterator[TradeFinding]:
    if view.entry.filled:
        yield TradeFinding("cancelled_but_filled", "error", "cancelled, and its entry was filled", view.entry.names)
    elif shown.unclaimed(view, view.trade.quantity):
        yield TradeFinding("cancelled_but_held", "error", "cancelled, and its legs are held", tuple(view.ratios))


def _of_living(view: _View, shown: _Shown, will_be: Trade) -> Iterator[TradeFinding]:
    trade, facts = view.trade, shown.facts
    if view.offered:
        yield _offer(view)
    if trade.status in STUCK:
        yield TradeFinding("needs_attention", "error", f"{trade.status}: nothing manages it", view.exit.names)
    if trade.status in HOLDING and view.entry.orders and not view.entry.filled:
        yield TradeFinding(
            "open_without_fill", "error", "open, and its entry is not known to be filled", view.entry.names
        )
    if view.entered and not view.ratios:
        yield TradeFinding("legs_unknown", "warn", "the ledger has no legs of it, so no position can be set beside it")
    if view.over and not view.entry_works:
        yield TradeFinding(
            "closed_but_held", "error", "its exits were filled, and its legs are still held", view.exit.names
        )
    if view.claims and view.exit.filled and will_be.status != "CLOSING_PENDING":
        yield TradeFinding(
            "partly_closed", "warn", "a part of it was closed, and nothing closes the rest", _quantities(view)
        )
    if view.entered and will_be.entry_price is None:
        yield TradeFinding("entry_price_unknown", "warn", "the price it was opened at is not known", view.entry.names)
    if missing := shown.short_of(view):
        yield from _of_missing_legs(view, shown, missing)
    elif view.claims and trade.expiration is not None and clock.trade_date(facts.as_of) > trade.expiration:
        yield TradeFinding("expired_still_held", "warn", f"expired on {trade.expiration}, and its legs are held")


def _offer(view: _View) -> TradeFinding:
    """The orders of nobody's that may have closed it, and how they are made its own."""
    reported = tuple(
        f"order {order.id}: {amount.normalize():+f} {symbol} at {order.avg_fill_price or ZERO:f}"
        for order in view.offered
        for symbol, amount, _ in filled_legs(order)
    )
    commands = "; ".join(f"`tradier-pipeline ledger link {view.trade.trade_id} {order.id}`" for order in view.offered)
    text = f"{_offered(view)} at the broker may be its exit, and the ledger does not have it"
    return TradeFinding("exit_offered", "warn", text, reported, action=f"If it closed the trade: {commands}.")


def _of_missing_legs(view: _View, shown: _Shown, missing: Sequence[str]) -> Iterator[TradeFinding]:
    held = shown.held(view)
    reported = tuple(f"{symbol}: {held[symbol]:f} of {view.claims[symbol]:f}" for symbol in missing)
    if shown.settling(view):
        yield TradeFinding("settling", "info", "filled a moment ago, and its legs do not show yet", reported)
        return
    if delivery := _delivery(view, shown.facts):
        what = f"a leg is gone and its shares came or went: {delivery.lower()}"
        if "uncertain" in _known_ends(view, shown.facts):
            what = "a leg is gone, and shares that may be for it came or went"
        yield TradeFinding("leg_delivered", "error", what, reported)
    elif _end_is_open(view, shown.facts):
        yield TradeFinding("end_open", "info", _END_IS_OPEN, reported)
        return
    elif renamed := _renamed(view, shown.facts):
        action = f"Enter in the ledger what the trade holds now: {renamed}."
        yield TradeFinding("legs_missing", "error", f"its legs go by other names: {renamed}", reported, action=action)
        return
    yield TradeFinding("legs_missing", "error", "less is held than it ought to hold", reported)


def _of_terms(trade: Trade, twins: int) -> Iterator[TradeFinding]:
    if twins > 1:
        yield TradeFinding("duplicate_entry", "error", f"one of {twins} trades with the same legs in the same minute")
    if trade.strategy not in _VERTICALS or len(trade.legs) != 2:
        return
    contracts = {leg.side: classify(leg.option_symbol).option for leg in trade.legs}
    short, long_ = contracts.get("short"), contracts.get("long")
    reported = tuple(f"{leg.side} {leg.option_symbol}" for leg in trade.legs)
    kind, short_is_higher = _VERTICALS[trade.strategy]
    if (
        short is None
        or long_ is None
        or {short.option_type, long_.option_type} != {kind}
        or ((short.strike > long_.strike) != short_is_higher)
    ):
        yield TradeFinding("strategy_contradicts_legs", "error", f"its legs are no {trade.strategy}", reported)
    elif trade.width is not None and trade.width != abs(short.strike - long_.strike):
        yield TradeFinding("width_contradicts_legs", "error", f"its strikes are not {trade.width:f} apart", reported)


def _quantities(view: _View) -> tuple[str, ...]:
    return tuple(
        f"{symbol}: {view.entry.legs.get(symbol, ZERO):f} opened, {view.exit.legs.get(symbol, ZERO):f} closed"
        for symbol in view.ratios
    )


def _twins(views: Sequence[_View]) -> dict[str, int]:
    """Trade -> how many trades have its legs and were opened in its minute."""
    keys = {
        view.trade.trade_id: (
            frozenset((leg.option_symbol, leg.side) for leg in view.trade.legs),
            view.age()[0].replace(second=0, microsecond=0),
        )
        for view in views
        if view.trade.status != "CANCELLED" and view.trade.legs
    }
    sizes = Counter(keys.values())
    return {trade_id: sizes[key] for trade_id, key in keys.items()}


def _leftovers(allocation: Allocation, views: Sequence[_View]) -> Iterator[TradeFinding]:
    for symbol, amount in allocation.left.items():
        claimants = tuple(view.trade.trade_id for view in views if symbol in view.claims)
        kind = classify(symbol).asset_class
        severity: Severity = "info" if kind == "equity" else "warn"
        yield TradeFinding(
            "position_without_trade", severity, f"no trade accounts for {amount:f} {symbol}", claimants, symbol
        )
