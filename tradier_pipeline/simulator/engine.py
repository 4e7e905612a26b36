"""The trading engine of the demo: what it believes of the spreads that the simulated broker trades.

It writes its orders and trades as an engine would, derived anew from the world at every visit, so that any number of
processes may do it. How an order ended it learns some minutes later, and how a spread expired on the next day: until
then there is something to reconcile. What is traded without it (shares, bids, brackets) it does not know.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal

from tradier_pipeline.core.decimals import plain, rounded
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.ledger.changes import broker_status
from tradier_pipeline.ledger.records import EngineOrder, Leg, OrderStatus, Trade, settled
from tradier_pipeline.ledger.store import Ledger, _upsert
from tradier_pipeline.simulator.market import CONTRACT_SIZE, ZERO, Market, Option, closes_at, parse_option
from tradier_pipeline.simulator.world import Account, Order, World, new_york_date

LOGGER = logging.getLogger(__name__)

LEARNS_AFTER = timedelta(minutes=5)
NEWS = timedelta(minutes=2)  # an older order asks for no snapshot when it is written for the first time

_SPREAD = re.compile(r"demo-[^-]+-(entry|exit)-\d+")
_FINAL = ("CLOSED", "CANCELLED")


class DemoEngine:
    """Keeps a ledger for the world of an embedded simulated broker.

    Args:
        accounts: whose spreads it trades; None for those of every account.
    """

    def __init__(self, ledger: Ledger, accounts: tuple[str, ...] | None) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._kept: dict[str, tuple[object, ...]] = {}  # account -> what was to be known of its spreads
        self._ledger_error = ""  # why the ledger could not be written the last time

    def keep(self, world: World) -> None:
        """Bring the ledger up to what the engine knows by now; one that cannot be used waits for a later visit."""
        for account in world.accounts.values():
            if self._accounts is not None and account.id not in self._accounts:
                continue
            spreads = [order for order in account.orders if _SPREAD.fullmatch(order.tag or "")]
            known = (new_york_date(world.now), *((order.id, order.status, _is_old(order, world)) for order in spreads))
            if (spreads or self._ledger.exists) and known != self._kept.get(account.id):
                try:
                    self._keep(world, account, spreads)
                except PipelineError as error:
                    if str(error) != self._ledger_error:  # once; a full disk is met at every visit
                        LOGGER.warning("the engine of the demo cannot write its ledger: %s", error)
                    self._ledger_error = str(error)
                else:
                    self._ledger_error = ""
                    self._kept[account.id] = known

    def _keep(self, world: World, account: Account, spreads: Iterable[Order]) -> None:
        orders = {row.client_order_id: row for row in self._ledger.orders() if row.account_id == account.id}
        trades = {row.trade_id: row for row in self._ledger.trades() if row.account_id == account.id}
        book = _Book(world, account, spreads, orders, trades)
        new_orders, new_trades = list(book.orders()), list(book.trades())
        if new_orders or new_trades:
            self._write(world.now, orders, new_orders, new_trades)

    def _write(
        self, now: datetime, known: Iterable[str], orders: Iterable[EngineOrder], trades: Iterable[Trade]
    ) -> None:
        with self._ledger._writing() as connection:
            (newest,) = connection.execute("SELECT coalesce(max(request_id), 0) FROM snapshot_requests").fetchone()
            for trade in trades:
                _upsert(connection, "trades", "trade_id", trade)
            for order in sorted(orders, key=lambda order: _is_news(order, now, known)):
                _upsert(connection, "orders", "client_order_id", order)
                if not _is_news(order, now, known):
                    # as a request that was never written
                    connection.execute(
                        "DELETE FROM snapshot_requests WHERE request_id > ? AND order_id = ?",
                        (newest, order.client_order_id),
                    )


def _is_news(order: EngineOrder, now: datetime, known: Iterable[str]) -> bool:
    return order.client_order_id in known or (order.created_at is not None and now - order.created_at <= NEWS)


def _is_old(order: Order, world: World) -> bool:
    return world.now - order.updated >= LEARNS_AFTER


class _Book:
    """The spreads of one account, and what the ledger has of them."""

    def __init__(
        self,
        world: World,
        account: Account,
        spreads: Iterable[Order],
        orders: dict[str, EngineOrder],
        trades: dict[str, Trade],
    ) -> None:
        self.world, self.account = world, account
        self.old_orders, self.old_trades = orders, trades
        self.entries: dict[str, Order] = {}
        self.exits: dict[str, list[Order]] = {}
        open_by_legs: dict[frozenset[str], str] = {_contracts(row.legs): key for key, row in trades.items()}
        for order in spreads:  # by id: an exit belongs to the last entry before it with the same contracts
            contracts = frozenset(leg.instrument for leg in order.legs)
            if "-entry-" in (order.tag or ""):
                trade_id = _trade_id(order)
                self.entries[trade_id] = order
                open_by_legs[contracts] = trade_id
            elif (its := self._stored_trade(order) or open_by_legs.get(contracts)) is not None:
                self.exits.setdefault(its, []).append(order)

    def _stored_trade(self, order: Order) -> str | None:
        row = self.old_orders.get(order.tag or "")
        return row.trade_id if row else None

    def orders(self) -> Iterator[EngineOrder]:
        """The rows that are new or say something else than before."""
        for trade_id, entry in self.entries.items():
            yield from self._order(entry, trade_id, "ENTRY")
        for trade_id, exits in self.exits.items():
            for order in exits:
                yield from self._order(order, trade_id, "EXIT")

    def _order(self, order: Order, trade_id: str, role: str) -> Iterator[EngineOrder]:
        old = self.old_orders.get(order.tag or "")
        if old is not None and settled(old):
            return
        known = self._knows(order)
        status: OrderStatus = broker_status(order.status) if known else "PLACED"
        if order.status == "pending":
            status = "PENDING"
        if old is not None and (old.status == status or (old.status != "PENDING" and not known)):
            return
        yield EngineOrder.model_validate(
            {
                "client_order_id": order.tag,
                "account_id": self.account.id,
                "role": role,
                "status": status,
                "broker_order_id": None if status == "PENDING" else order.id,
                "trade_id": trade_id,
                "class": order.cls,
                "order_type": order.type,
                "duration": order.duration,
                "symbol": order.symbol,
                "legs": tuple(
                    Leg(option_symbol=leg.instrument, side=leg.side or "", quantity=leg.quantity) for leg in order.legs
                ),
                "quantity": order.quantity,
                "limit_price": order.price,
                "avg_fill_price": plain(order.average_price) if known and order.executed else None,
                "filled_quantity": order.executed if known else None,
                "remaining_quantity": order.remaining if known else None,
                "raw_status": order.status if known else None,
                "reject_reason": order.reason if known else None,
                "created_at": order.created,
            }
        )

    def _knows(self, order: Order) -> bool:
        """Whether the engine has learnt how an order ended."""
        old = self.old_orders.get(order.tag or "")
        known = old is not None and settled(old)  # by a snapshot
        return not order.is_live and (known or _is_old(order, self.world))

    def trades(self) -> Iterator[Trade]:
        """The rows that are new or have come further."""
        living = [key for key, row in self.old_trades.items() if key.startswith("demo-") and row.status not in _FINAL]
        for trade_id in dict.fromkeys([*self.entries, *living]):
            old = self.old_trades.get(trade_id)
            if old is None or old.status not in _FINAL:
                new = self._trade(trade_id, old)
                if new is not None and (old is None or _further(old, new)):
                    yield new

    def _opened(self, trade_id: str, old: Trade | None) -> Trade | None:
        entry = self.entries.get(trade_id)
        if entry is None:  # the broker has forgotten the order
            return old
        trade = _as_ordered(self.account, trade_id, entry)
        if not self._knows(entry):
            return trade
        if not entry.executed:
            reason = f"ENTRY_{broker_status(entry.status)}"
            return trade.model_copy(update={"status": "CANCELLED", "exit_reason": reason})
        return _as_opened(trade, entry)

    def _trade(self, trade_id: str, old: Trade | None) -> Trade | None:
        trade = self._opened(trade_id, old)
        if trade is None or trade.status in ("ENTRY_PENDING", "CANCELLED"):
            return trade
        trade = trade.model_copy(update={"status": "OPEN"})
        exits = self.exits.get(trade_id, [])
        closing = [order for order in exits if not self._knows(order)]
        filled = [order for order in exits if order.executed and order not in closing]
        exited = sum((order.executed for order in filled), ZERO)
        received = -sum((order.notional for order in filled), ZERO)
        if exited == trade.quantity:
            return _as_closed(trade, received / exited, "NORMAL_EXIT", filled[-1].updated, filled[-1].id)
        if closing:
            return trade.model_copy(update={"status": "CLOSING_PENDING", "broker_order_id_close": closing[-1].id})
        if trade.expiration and new_york_date(self.world.now) > trade.expiration:
            worth = sum((_worth(self.world.market, leg) for leg in trade.legs), ZERO) / trade.quantity
            received += worth * (trade.quantity - exited)
            at = closes_at(trade.expiration)
            return _as_closed(trade, received / trade.quantity, self._how_it_ended(trade), at, None)
        return trade

    def _how_it_ended(self, trade: Trade) -> str:
        symbols = {leg.option_symbol for leg in trade.legs}
        types = {event.option_type for event in self.account.history if event.symbol in symbols}
        return "ASSIGNED" if "OPTASN" in types else "EXERCISED" if "OPTEXC" in types else "EXPIRED"


def _trade_id(entry: Order) -> str:
    return (entry.tag or "").replace("-entry-", "-")


def _contracts(legs: Iterable[Leg]) -> frozenset[str]:
    return frozenset(leg.option_symbol for leg in legs)


def _further(old: Trade, new: Trade) -> bool:
    """Whether the engine knows more than the ledger, which a snapshot may have reported in the meantime."""
    return new.status != "ENTRY_PENDING" and (new.status, new.broker_order_id_close) != (
        old.status,
        old.broker_order_id_close,
    )


def _as_ordered(account: Account, trade_id: str, entry: Order) -> Trade:
    short, long_ = sorted(entry.legs, key=lambda leg: leg.sign)
    sold, bought = _option(short), _option(long_)
    kind = "credit" if entry.type == "credit" else "debit"
    direction = "bull" if sold.strike > bought.strike else "bear"
    return Trade(
        trade_id=trade_id,
        account_id=account.id,
        symbol=entry.symbol or "",
        status="ENTRY_PENDING",
        quantity=entry.quantity,
        expiration=sold.expiration,
        strategy=f"{direction}_{sold.right}_{kind}",
        short_strike=sold.strike,
        long_strike=bought.strike,
        width=abs(sold.strike - bought.strike),
        legs=tuple(
            Leg(option_symbol=leg.instrument, side="short" if leg is short else "long", quantity=leg.quantity)
            for leg in entry.legs
        ),
        broker_order_id_open=entry.id,
        origin="ENGINE",
        created_at=entry.created,
    )


def _as_opened(trade: Trade, entry: Order) -> Trade:
    price = abs(entry.average_price)
    per_contract = entry.executed / entry.quantity
    legs = tuple(leg.model_copy(update={"quantity": leg.quantity * per_contract}) for leg in trade.legs)
    return trade.model_copy(
        update={
            "status": "OPEN",
            "quantity": entry.executed,
            "legs": legs,
            "entry_price": plain(price),
            "entry_price_source": "fills",
            "opened_at": entry.updated,
        }
    )


def _as_closed(trade: Trade, received: Decimal, reason: str, at: datetime, order_id: int | None) -> Trade:
    """`received` for one unit, USD per share; negative if it was paid."""
    assert trade.entry_price is not None
    is_credit = (trade.strategy or "").endswith("credit")
    exit_price = plain(rounded(-received if is_credit else received) or ZERO)
    gain = trade.entry_price - exit_price if is_credit else exit_price - trade.entry_price
    return trade.model_copy(
        update={
            "status": "CLOSED",
            "exit_price": exit_price,
            "exit_price_source": "fills" if order_id else "settlement",
            "exit_reason": reason,
            "broker_order_id_close": order_id,
            "closed_at": at,
            "realized_pnl": plain(rounded(gain * trade.quantity * CONTRACT_SIZE) or ZERO),
        }
    )


def _option(leg: Order) -> Option:
    option = parse_option(leg.instrument)
    assert option is not None
    return option


def _worth(market: Market, leg: Leg) -> Decimal:
    """What a leg was worth when it expired, USD per share times contracts; negative for a short one."""
    option = parse_option(leg.option_symbol)
    assert option is not None
    spot = market.price(option.underlying, closes_at(option.expiration))
    assert spot is not None
    return option.intrinsic(spot) * leg.quantity * (1 if leg.side == "long" else -1)
