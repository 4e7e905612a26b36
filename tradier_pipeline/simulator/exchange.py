"""How orders live: accepted or rejected, resting, filled in parts, canceled, expired; and time itself.

`advance` moves a world from one thing that happens to the next. Orders trade inside the sessions of the world's
calendar only, and prices move only there; what is placed outside waits, pending, for the next opening. Options expire
and day orders end at 16:00 in New York, also on a day that closes early.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from math import gcd
from random import Random

from tradier_pipeline.simulator.margin import MARGIN_RATE, estimate, natural_price, option_requirement, value
from tradier_pipeline.simulator.market import INDEXES, ZERO, closes_at, parse_option
from tradier_pipeline.simulator.tickets import Ticket
from tradier_pipeline.simulator.world import BRACKETS, Account, Order, World, new_york_date, next_close, to_milliseconds

# Acts for an account when its time has come and says when to act next, None for never.
Turn = Callable[[World, Account], datetime | None]

_ACCEPTANCE = timedelta(milliseconds=800)
_FIRST_LOOK = timedelta(seconds=2)
_LOOK = timedelta(seconds=15)
# After a long sleep the market is looked at more rarely: catching up costs the same however long it was.
_LOOKS_PER_CATCH_UP = 200
_LARGE = 10  # an order of this size never trades at once
_UNHURRIED = timedelta(days=2)
_MORNING = timedelta(hours=3)

_NO_BUYING_POWER = "You do not have enough buying power for this trade."
_NOT_CLOSING = "{} order cannot be placed unless you are closing a {} position, please check open orders."
_NOT_TRADABLE = "This symbol is not tradable."


class FinalizedOrderError(Exception):
    """A change of an order that has ended (Tradier: plain-text 400)."""


@dataclass(frozen=True, slots=True)
class _Pace:
    """How closely one catch-up looks: the time between looks at a resting order, the stretch of the trader's pauses."""

    look: timedelta
    stretch: float

    @classmethod
    def over(cls, gap: timedelta) -> _Pace:
        # A multiple of the finest grid: an instant that was looked at before in small steps is never contradicted.
        steps = max(1, int(gap / (_LOOKS_PER_CATCH_UP * _LOOK)))
        return cls(_LOOK * steps, max(1.0, gap / _UNHURRIED))


def advance(world: World, to: datetime, turn: Turn | None = None) -> None:
    """Let everything happen that happens until `to`. An earlier instant leaves the world as it is: it never rewinds."""
    to = to_milliseconds(to)
    if to <= world.now:
        return
    pace = _Pace.over(to - world.now)
    while (happening := _next(world, to)) is not None:
        at, account, order = happening
        world.now = max(world.now, at)
        if account is None:
            _close_day(world)
        elif order is not None:
            _look(world, account, order, pace)
        else:
            _wake(world, account, turn, pace)
    world.now = to


def place(world: World, account: Account, ticket: Ticket) -> Order:
    """Take an order in; the market looks at it a moment later."""
    order = draft(world, ticket)
    world.next_order_id += 1 + len(order.legs)  # Tradier: orders and legs share one sequence
    order.due = world.now + _ACCEPTANCE
    account.live.append(order)
    world.version += 1
    return order


def draft(world: World, ticket: Ticket) -> Order:
    """The order a ticket would become, with the next free ids, not placed."""
    first = world.next_order_id
    order = _order(world, first, ticket)
    order.legs = [_order(world, first + n, leg) for n, leg in enumerate(ticket.legs, 1)]
    if order.legs and order.cls not in BRACKETS:
        order.quantity = Decimal(gcd(*(int(leg.quantity) for leg in order.legs)))
    return order


def cancel(world: World, account: Account, order: Order) -> None:
    """End a live order and its legs. Raises FinalizedOrderError."""
    if not order.is_live:
        raise FinalizedOrderError(order.status)
    _finish(world, order, "canceled")
    _sweep(account)


def change(
    world: World,
    order: Order,
    *,
    kind: str | None = None,
    duration: str | None = None,
    price: Decimal | None = None,
    stop: Decimal | None = None,
) -> None:
    """Change a live order in place, never its quantity (Tradier). Raises FinalizedOrderError."""
    if not order.is_live:
        raise FinalizedOrderError(order.status)
    for part in [order, *(order.legs if order.cls not in BRACKETS else [])]:
        part.type = kind or part.type
        part.duration = duration or part.duration
        part.price = price if price is not None else part.price
        part.stop_price = stop if stop is not None else part.stop_price
        if part.type in {"market", "stop"}:
            part.price = None
        if part.type not in {"stop", "stop_limit"}:
            part.stop_price = None
    _touch(world, order)
    if order.due is not None:
        order.due = world.now + _ACCEPTANCE


def _order(world: World, order_id: int, ticket: Ticket) -> Order:
    return Order(
        id=order_id,
        cls=ticket.cls,
        created=world.now,
        updated=world.now,
        type=ticket.type,
        symbol=ticket.symbol,
        option_symbol=ticket.option_symbol,
        side=ticket.side,
        quantity=ticket.quantity,
        duration=ticket.duration,
        price=ticket.price,
        stop_price=ticket.stop,
        tag=ticket.tag,
        strategy=ticket.strategy,
    )


def _next(world: World, to: datetime) -> tuple[datetime, Account | None, Order | None] | None:
    """The earliest thing due until `to`: the day's close, a look at an order, a trader's turn."""
    best: tuple[datetime, Account | None, Order | None] | None = None
    if world.next_close <= to:
        best = (world.next_close, None, None)
    for account in world.accounts.values():
        for order in _due_orders(account):
            assert order.due is not None
            if order.due <= to and (best is None or order.due < best[0]):
                best = (order.due, account, order)
        if account.wakes_at is not None and account.wakes_at <= to and (best is None or account.wakes_at < best[0]):
            best = (account.wakes_at, account, None)
    return best


def _due_orders(account: Account) -> Iterator[Order]:
    for order in account.live:
        if order.due is not None:
            yield order
        for leg in order.legs:
            if leg.due is not None:
                yield leg


def _wake(world: World, account: Account, turn: Turn | None, pace: _Pace) -> None:
    if world.is_open:
        again = turn(world, account) if turn else None
        account.wakes_at = _next_turn(world, (again - world.now) * pace.stretch) if again else None
    else:
        account.wakes_at = world.opening(world.now)
    world.version += 1


def _next_turn(world: World, pause: timedelta) -> datetime:
    """When a trader acts again: after the pause, or some time into the next session, not at its first moment."""
    due = world.now + pause
    opens = world.opening(due)
    return to_milliseconds(due if opens == due else world.opening(opens + pause % _MORNING))


def _close_day(world: World) -> None:
    """16:00 in New York: day orders end, options expire, the day's equity is noted, old rows are forgotten."""
    day = new_york_date(world.next_close)
    in_session = world.calendar.session_of(day) is not None
    for account in world.accounts.values():
        for order in account.live:
            if _ends(order, world.next_close, in_session=in_session):
                _finish(world, order, "expired")
        _sweep(account)
        for symbol in sorted(account.positions):
            option = parse_option(symbol)
            if option is not None and option.expiration <= day:
                world.expire(account, symbol)
        if world.calendar.of_exchange().session_of(day) is not None:
            account.closing_equity[day] = value(world, account).total_equity
        world.prune(account)
    world.next_close = next_close(world.next_close)
    world.version += 1


def _ends(order: Order, close: datetime, *, in_session: bool) -> bool:
    """Whether an order ends at this close: a day order if there was a session, or one on an option that expires."""
    parts = [order, *order.legs]
    if in_session and any(part.duration != "gtc" for part in parts) and order.created < close:
        return True
    options = (parse_option(part.option_symbol) for part in parts if part.option_symbol)
    return any(option is not None and closes_at(option.expiration) <= close for option in options)


def _sweep(account: Account) -> None:
    """Put orders that have ended aside, so that a step costs what is live, not what there ever was."""
    if all(order.is_live for order in account.live):
        return
    account.finished += [order for order in account.live if not order.is_live]
    account.live = [order for order in account.live if order.is_live]


def _touch(world: World, order: Order) -> None:
    order.updated = world.now
    world.version += 1


def _finish(world: World, order: Order, status: str, reason: str | None = None) -> None:
    for part in [order, *order.legs]:
        if part.is_live:
            part.status, part.due = status, None
            _touch(world, part)
    order.reason = reason or order.reason


def _look(world: World, account: Account, order: Order, pace: _Pace) -> None:
    """The market looks at one order, or at one leg of a bracket."""
    parent = next((one for one in account.live if one.cls in BRACKETS and any(leg is order for leg in one.legs)), None)
    if order.status == "pending":
        _accept(world, account, order)
    elif not _trades_now(world, order):
        order.due = world.opening(world.now)
    else:
        price = _fill_price(world, order)
        if price is None:
            order.due = _after_look(world.now, pace.look)
        else:
            _fill(world, account, order, price)
    if parent is not None:
        _settle_bracket(world, parent)
    _sweep(account)


def _trades_now(world: World, order: Order) -> bool:
    """Whether the market is open for an order: `pre` and `post` ones trade outside the regular session."""
    return order.duration in {"pre", "post"} or world.is_open


def _after_look(now: datetime, look: timedelta) -> datetime:
    """The next instant of a grid that is the same for everybody who catches up."""
    seconds = int(look.total_seconds())
    return datetime.fromtimestamp((int(now.timestamp()) // seconds + 1) * seconds, now.tzinfo)


def _accept(world: World, account: Account, order: Order) -> None:
    reason = _objection(world, account, order)
    if reason is not None:
        _finish(world, order, "rejected", reason)
        return
    if not _trades_now(world, order):
        order.due = world.opening(world.now)  # Tradier: pending while the market is closed
        return
    order.status = "open"
    _touch(world, order)
    if order.cls in BRACKETS:
        order.due = None
        for leg in order.legs[:1] if order.cls != "oco" else order.legs:
            leg.due = world.now + _ACCEPTANCE
        return
    order.due = world.now + _FIRST_LOOK
    for leg in order.legs:
        leg.status = "open"
        _touch(world, leg)


def _objection(world: World, account: Account, order: Order) -> str | None:
    """Why the broker rejects an order, or None (Tradier: `reason_description` of a rejected order)."""
    if order.cls in BRACKETS:
        return None  # each leg is judged when its turn comes
    parts = order.legs or [order]
    for part in parts:
        if world.market.quote(part.instrument, world.now) is None or part.instrument in INDEXES:
            return _NOT_TRADABLE
        if part.side in {"sell", "sell_to_close"} and _closable(account, part, order) < part.quantity:
            return _NOT_CLOSING.format("Sell", "long")
        if part.side in {"buy_to_cover", "buy_to_close"} and -_closable(account, part, order) < part.quantity:
            return _NOT_CLOSING.format("Buy", "short")
    if _need(world, account, order) > value(world, account).free_cash:
        return _NO_BUYING_POWER
    return None


def _closable(account: Account, part: Order, order: Order) -> Decimal:
    """The holding that `part` may still close: what other working orders are closing is spoken for."""
    held = account.quantity(part.instrument)
    for other in account.live:
        if other is order or other.cls in BRACKETS or other.status == "pending":
            continue
        for leg in other.legs or [other]:
            if leg.instrument == part.instrument and leg.sign == part.sign:
                held += leg.sign * leg.remaining
    return held


def _need(world: World, account: Account, order: Order) -> Decimal:
    """Cash and requirement that an order would take up, USD."""
    held = {symbol: position.quantity for symbol, position in account.positions.items()}
    need = -option_requirement(world, held)
    for part in order.legs or [order]:
        held[part.instrument] = held.get(part.instrument, ZERO) + part.sign * part.quantity
        cost, _ = estimate(world, part, limit=part is order)
        if part.option_symbol:
            need += cost
        elif part.side in {"buy", "sell_short"}:
            need += abs(cost) * MARGIN_RATE[account.type]
    return need + option_requirement(world, held)


def _fill_price(world: World, order: Order) -> Decimal | None:
    """The price at which an order trades now, None while it must wait.

    A limit that reaches the other side trades there; one that reaches the middle is met in the middle.
    """
    natural = natural_price(world.market, order, world)
    if natural is None:
        return None
    if order.stop_price is not None and not order.triggered:
        quote = world.market.quote(order.instrument, world.now)
        if quote is None or (quote.last - order.stop_price) * order.sign < 0:
            return None
        order.triggered = True
        _touch(world, order)
    if order.type in {"market", "stop"}:
        return natural
    limit = {"even": ZERO, "credit": -(order.price or ZERO)}.get(order.type or "", order.price or ZERO)
    for price in (natural, natural_price(world.market, order, world, mid=True)):
        if price is not None and (limit - price) * order.sign >= 0:
            return price
    return None


def _fill(world: World, account: Account, order: Order, price: Decimal) -> None:
    units = _slice(world, order)
    mid = price != natural_price(world.market, order, world)
    for leg in order.legs:
        leg_price = natural_price(world.market, leg, world, mid=mid)
        assert leg_price is not None
        _book(world, account, leg, leg.quantity / order.quantity * units, leg_price)
    if order.legs:
        _count(world, order, units, price)
    else:
        _book(world, account, order, units, price)
    order.due = None
    if order.is_live:
        order.due = world.now + timedelta(seconds=_dice(world, order).uniform(5, 45))


def _book(world: World, account: Account, order: Order, quantity: Decimal, price: Decimal) -> None:
    world.trade(account, order.instrument, order.sign * quantity, price)
    _count(world, order, quantity, price)


def _count(world: World, order: Order, quantity: Decimal, price: Decimal) -> None:
    order.executed += quantity
    order.notional += quantity * price
    order.last_price, order.last_quantity = price, quantity
    order.status = "filled" if order.executed == order.quantity else "partially_filled"
    _touch(world, order)


def _dice(world: World, order: Order) -> Random:
    """Chance that every process throws alike."""
    return Random(f"{world.seed}:{order.id}:{order.executed}")  # noqa: S311 - a simulation, not a secret


def _slice(world: World, order: Order) -> Decimal:
    """How much of an order trades at once: all of it, or a part."""
    dice, rest = _dice(world, order), int(order.remaining)
    large = rest >= _LARGE and not order.executed
    whole = rest < 2 or (not large and dice.random() < 0.4)
    return Decimal(rest if whole else dice.randint(1, rest - 1))


def _settle_bracket(world: World, parent: Order) -> None:
    """After one leg of an oco, oto or otoco order moved: its fill opens or cancels the others."""
    legs = parent.legs
    if parent.cls != "oco" and legs[0].status == "filled":
        for leg in legs[1:]:
            if leg.status == "pending" and leg.due is None:
                leg.due = world.now + _ACCEPTANCE
    elif parent.cls != "oco" and not legs[0].is_live:
        for leg in legs[1:]:
            _cancel_leg(world, leg)
    rivals = legs if parent.cls == "oco" else legs[1:] if parent.cls == "otoco" else []
    if any(leg.executed for leg in rivals):
        for leg in rivals:
            if not leg.executed:
                _cancel_leg(world, leg)
    reached = [leg.status for leg in legs]
    ended = next((word for word in ("filled", "rejected", "expired") if word in reached), "canceled")
    status = "open" if any(leg.is_live for leg in legs) else ended
    if status != parent.status or any(leg.updated == world.now for leg in legs):
        parent.status = status
        parent.reason = next((leg.reason for leg in legs if leg.reason), None)
        _touch(world, parent)


def _cancel_leg(world: World, leg: Order) -> None:
    if leg.is_live:
        _finish(world, leg, "canceled")
