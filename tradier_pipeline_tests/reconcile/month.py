"""Sessions of an account that a scripted engine trades in, read by the real pipeline, and what went wrong on purpose.

The broker is the simulated one behind its HTTP app; the script knows the truth, because it places every order and puts
every discrepancy there itself. Time stands still while something is done, and goes by in steps in between.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from itertools import cycle
from random import Random

from tradier_pipeline import clock
from tradier_pipeline.core.settings import load_settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.extract.snapshot import extract_quotes, extract_snapshot
from tradier_pipeline.ledger.records import EngineOrder, Leg, Trade, settled
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.ledger.writeback import apply
from tradier_pipeline.publish.ledger_state import read_relevant_ledger, reconcile_newest
from tradier_pipeline.publish.store import store_snapshot
from tradier_pipeline.reconcile.reconciliation import Reconciliation
from tradier_pipeline.simulator.app import create_app
from tradier_pipeline.simulator.exchange import cancel, place
from tradier_pipeline.simulator.market import NEW_YORK, closes_at, option_symbol, parse_option
from tradier_pipeline.simulator.server import running
from tradier_pipeline.simulator.store import Store
from tradier_pipeline.simulator.strategy import AccountPlan, create_world
from tradier_pipeline.simulator.tickets import Ticket
from tradier_pipeline.simulator.world import Account, Event, Order, World
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home, Simulated
from tradier_pipeline_tests.cycles.conftest import Clock

ACCOUNT = "TST00000001"
PREFIX = "mo-"
FIRST = date(2026, 10, 5)  # a Monday
TIMES = (time(9, 45), time(10, 30), time(11, 15), time(12, 30), time(14), time(15, 15), time(16, 5), time(16, 20))
CLOSE = time(16)
ENDED = ("EXPIRED", "ASSIGNED", "EXERCISED")
STRIKES = {"SPY": 5, "AAPL": 5, "QQQ": 5, "IWM": 2, "MSFT": 5, "NVDA": 5}
SHARES = ("F", "KO", "XLF", "GE")
ZERO, CENT = Decimal(0), Decimal("0.01")
STEP = timedelta(seconds=15)
TORN_SHARE = 0.05
LAG_S = 20.0
WITHIN = 2  # snapshots, within which what was injected is to be found, and after which nothing else may be left

CHECKS = "the whole account"

# (code, subject): the subject is a trade, a client or broker order id, a symbol or `cash`
Sign = tuple[str, str]


@dataclass
class Injected:
    """A discrepancy put there on purpose: `signs`, one of which is the right name for it, and how it is put right.

    `echoes`: what else follows from it, for as long as it lasts and a little longer.
    """

    kind: str
    signs: frozenset[Sign]
    echoes: frozenset[str]
    repair: Callable[[], None]
    snapshots: int = 0


@dataclass
class Figures:
    """What a month came to."""

    snapshots: int = 0
    behind: int = 0
    torn: int = 0
    changes: int = 0
    crashes: int = 0
    brief: Counter[str] = field(default_factory=Counter)
    injected: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    after: Counter[int] = field(default_factory=Counter)
    false: list[tuple[str, Sign]] = field(default_factory=list)
    orders: Counter[str] = field(default_factory=Counter)
    trades: Counter[str] = field(default_factory=Counter)
    manual: int = 0
    events: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    profit: Decimal = ZERO

    def lines(self) -> Iterator[str]:
        yield f"{self.snapshots} snapshots, {self.behind} with a list that is behind, {self.torn} torn"
        yield f"{self.changes} rows of the ledger changed by them"
        yield f"orders {dict(self.orders)}, {self.manual} by hand, {self.crashes} crashes of the engine"
        yield f"trades {dict(self.trades)}, {dict(self.events)}, profit {self.profit:.2f} USD"
        yield f"injected {dict(self.injected)}"
        yield f"found {self.found.total()} of {self.injected.total()}, after snapshots {dict(self.after)}"
        yield f"false {len(self.false)}: {self.false}; of one snapshot only: {dict(self.brief)}"
        yield f"wrong in the ledger at the end: {self.wrong}"


@contextmanager
def month(home: Home, machine: Clock, seed: int = 7) -> Iterator[Month]:
    """A month about to begin, in a home whose settings are those of the environment."""
    machine.time = _at(FIRST, time(9, 30))
    store = Store(None)
    plan = AccountPlan(ACCOUNT, "margin", Decimal(2_000_000), trader=False)
    store.replace(create_world(machine.time, seed, (plan,)))
    with running(create_app(store, clock=machine.now, limits=None)) as url:
        yield Month(home, machine, store, Simulated(url), seed)


class Month:
    """The engine, its broker, and whoever reads and reconciles."""

    def __init__(self, home: Home, machine: Clock, store: Store, simulated: Simulated, seed: int) -> None:
        self.home, self.machine, self.store, self.simulated = home, machine, store, simulated
        self.dice = Random(seed)
        self.ledger = Ledger(load_settings().ledger)
        self.figures = Figures()
        self.number = 0
        self.sent: dict[str, int] = {}  # client order id -> the broker's id, whatever the ledger says
        self.exits: dict[str, list[str]] = {}  # trade -> client order ids
        self.settled_at: dict[str, Decimal] = {}  # trade -> price it ended at without an order
        self.lost: set[str] = set()  # tags of orders that the ledger never hears of
        self.vanished: set[str] = set()
        self.active: list[Injected] = []
        self.past: list[tuple[int, Injected]] = []
        self.last_signs: set[Sign] = set()
        self.compared: set[str] = set()  # the snapshots whose changes were counted
        self.planned: list[Callable[[], Injected | None]] = []

    # --- time ---------------------------------------------------------------------------------------------------------

    def sessions(self, count: int, times: Sequence[time] = TIMES) -> None:
        """Live through so many trading days, with a snapshot at each of the times."""
        kinds = cycle(
            [
                self.someone_trades_options,
                self.quantity_changed_by_hand,
                self.order_unknown_to_the_ledger,
                self.position_vanishes,
                self.cash_moves,
                self.wrong_price,
                self.closed_while_held,
            ]
        )
        days = [day for n in range(count * 2) if (day := FIRST + timedelta(days=n)).weekday() < 5][:count]
        for day in days:
            for slot, at in enumerate(times):
                self.go_to(_at(day, at) - timedelta(minutes=5))
                if slot < WITHIN:
                    self.settle_what_expired()
                if at < CLOSE:
                    self.trade()
                if slot in (1, 2, 4) and not self.active and at < CLOSE:
                    self.inject(next(kinds))
                self.go_to(_at(day, at))
                self.snapshot()

    def next_morning(self) -> None:
        """The first readings of the session after the last one: they confirm what it showed in its last hour."""
        day = self.machine.time.astimezone(NEW_YORK).date() + timedelta(days=1)
        while day.weekday() > 4:
            day += timedelta(days=1)
        for slot in range(WITHIN):
            self.go_to(_at(day, TIMES[slot]))
            self.settle_what_expired()
            self.snapshot()

    def go_to(self, at: datetime) -> None:
        """Let time go by, at the end in steps, so that the broker's own past is known finely."""
        self.machine.time = max(self.machine.time, at - 20 * STEP)
        while self.machine.time < at:
            with self.store.at(self.machine.time):
                pass
            self.machine.time = min(at, self.machine.time + STEP)
        with self.store.at(self.machine.time):
            pass

    @contextmanager
    def world(self) -> Iterator[tuple[World, Account]]:
        with self.store.at(self.machine.time) as world:
            yield world, world.accounts[ACCOUNT]
            world.version += 1

    # --- the engine ---------------------------------------------------------------------------------------------------

    def trade(self) -> None:
        """What the engine and its owner do in one slot of the day."""
        self.watch()
        for _ in range(self.dice.randint(0, 2)):
            self.enter()
        if self.dice.random() < 0.45:
            self.exit()
        if self.dice.random() < 0.4:
            self.by_hand()
        for _ in range(self.dice.randint(0, 8)):
            self.machine.time += STEP
            with self.world() as (world, account):
                for order in list(account.live):
                    # a part was filled: now and then the rest is called off
                    part = order.tag and order.executed and order.cls == "multileg"
                    if part and self.dice.random() < 0.25:
                        cancel(world, account, order)
                        self.figures.events["cancelled after a part"] += 1

    def watch(self) -> None:
        """After a crash: what was never sent is not sent any more; what rests for long is called off."""
        for order in self.ledger.orders():
            if order.status == "PENDING" and order.client_order_id not in self.sent:
                self.ledger.record_order(order.model_copy(update={"status": "ERROR"}))
        with self.world() as (world, account):
            for resting in list(account.live):
                if resting.tag and self.machine.time - resting.created > timedelta(minutes=50):
                    cancel(world, account, resting)

    def enter(self) -> None:
        """Open a vertical spread in contracts that nothing else is in."""
        with self.world() as (world, account):
            root = self.dice.choice(list(STRIKES))
            spot = world.market.price(root, world.now)
            assert spot is not None
            step, today = STRIKES[root], world.now.astimezone(NEW_YORK).date()
            friday = today + timedelta(days=(4 - today.weekday()) % 7)
            if today == friday:
                friday += timedelta(days=7)
            expiration = friday + timedelta(days=7 * self.dice.choice([0, 0, 1]))
            right = self.dice.choice(["call", "put"])
            outward = 1 if right == "call" else -1
            near = Decimal(int(spot / step) * step + outward * self.dice.randint(-1, 3) * step)
            far = near + outward * step * self.dice.randint(1, 2)
            symbols = [option_symbol(root, expiration, right, strike) for strike in (near, far)]
            busy = {leg.instrument for order in account.orders if order.is_live for leg in order.legs}
            taken = {leg.option_symbol for trade in self.ledger.trades() for leg in trade.legs}
            if any(symbol in busy | taken or symbol in account.positions for symbol in symbols):
                return
            is_credit = self.dice.random() < 0.6
        self.number += 1
        sides = ("sell_to_open", "buy_to_open") if is_credit else ("buy_to_open", "sell_to_open")
        quantity = Decimal(self.dice.choice([1, 1, 2, 3, 4, 6, 12]))
        trade_id = f"{PREFIX}{self.number:04d}"
        short, long_ = (near, far) if is_credit else (far, near)
        trade = Trade(
            trade_id=trade_id,
            account_id=ACCOUNT,
            symbol=root,
            status="ENTRY_PENDING",
            quantity=quantity,
            expiration=expiration,
            strategy=f"{'bull' if short > long_ else 'bear'}_{right}_{'credit' if is_credit else 'debit'}",
            short_strike=short,
            long_strike=long_,
            width=abs(near - far),
            legs=tuple(
                Leg(option_symbol=symbol, side="short" if side.startswith("sell") else "long", quantity=quantity)
                for symbol, side in zip(symbols, sides, strict=True)
            ),
            created_at=self.machine.time,
        )
        self.ledger.record_trade(trade)
        self.send(trade, f"{trade_id}-in", "ENTRY", tuple(zip(symbols, sides, strict=True)), quantity)

    def exit(self) -> None:
        """Close what is left of an open trade."""
        trades = [trade for trade in self.ledger.trades(["OPEN"]) if self._may_close(trade)]
        if not trades:
            return
        trade = self.dice.choice(trades)
        exits = self.exits.setdefault(trade.trade_id, [])
        with self.world() as (_, account):
            rest = min(abs(account.quantity(leg.option_symbol)) for leg in trade.legs)
        legs = tuple(
            (leg.option_symbol, "sell_to_close" if leg.side == "long" else "buy_to_close") for leg in trade.legs
        )
        name = f"{trade.trade_id}-out-{len(exits) + 1}"
        exits.append(name)
        self.send(trade, name, "EXIT", legs, rest)

    def _may_close(self, trade: Trade) -> bool:
        with self.world() as (_, account):
            live = any(self._of(order, trade) for order in account.live)
            held = all(account.quantity(leg.option_symbol) for leg in trade.legs)
        today = self.machine.time.astimezone(NEW_YORK).date()
        # some are left to expire
        fated = int(trade.trade_id.removeprefix(PREFIX)) % 3
        touched = any(trade.trade_id in dict(injected.signs).values() for injected in self.active)
        return held and not live and not touched and (not fated or trade.expiration != today)

    def _of(self, order: Order, trade: Trade) -> bool:
        return (order.tag or "").startswith(f"{trade.trade_id}-")

    def send(self, trade: Trade, name: str, role: str, legs: tuple[tuple[str, str], ...], quantity: Decimal) -> None:
        """Write the order, send it, write what came back; a crash may come at any point."""
        fate = self.dice.random()
        with self.world() as (world, account):
            ticket = _ticket(world, trade.symbol, legs, quantity, name, reaches=self.dice.random() < 0.8)
            order = EngineOrder.model_validate(
                {
                    "client_order_id": name,
                    "account_id": ACCOUNT,
                    "role": role,
                    "trade_id": trade.trade_id,
                    "class": "multileg",
                    "order_type": ticket.type,
                    "duration": "day",
                    "symbol": trade.symbol,
                    "legs": [{"option_symbol": s, "side": side, "quantity": quantity} for s, side in legs],
                    "quantity": quantity,
                    "limit_price": ticket.price,
                    "created_at": self.machine.time,
                }
            )
            self.ledger.record_order(order)
            if fate < 0.04:
                self.figures.crashes += 1
                return  # before it was sent
            placed = place(world, account, ticket)
            self.sent[name] = placed.id
            if fate < 0.12:
                self.figures.crashes += 1
                return  # the broker's id is lost
            self.ledger.record_order(order.model_copy(update={"status": "PLACED", "broker_order_id": placed.id}))
            if fate > 0.9:
                return  # the trade is not updated
            update = {"broker_order_id_open": placed.id}
            if role == "EXIT":
                update = {"status": "CLOSING_PENDING", "broker_order_id_close": placed.id}  # type: ignore[dict-item]
            self.ledger.record_trade(trade.model_copy(update=update))

    def settle_what_expired(self) -> None:
        """The next morning the owner enters at what price options expired, which no order tells."""
        for trade in self.ledger.trades(["CLOSED"]):
            if trade.exit_price is None and trade.trade_id not in self.settled_at:
                self._settle(trade, ZERO if trade.trade_id in self.vanished else self._value_at_expiry(trade))

    def _settle(self, trade: Trade, worth: Decimal) -> None:
        """`worth`: USD per share of one unit when it ended; together with what its exits paid for the rest."""
        with self.world() as (_, account):
            exits = [order for order in account.orders if order.tag in self.exits.get(trade.trade_id, ())]
        exited = sum((order.executed for order in exits), ZERO)
        received = worth * (trade.quantity - exited) - sum((order.notional for order in exits), ZERO)
        price = received / trade.quantity * (-1 if (trade.strategy or "").endswith("credit") else 1)
        self.settled_at[trade.trade_id] = price
        self._sql(
            "UPDATE trades SET exit_price = ?, exit_price_source = 'history' WHERE trade_id = ?",
            f"{price.quantize(Decimal(1).scaleb(-8)):f}",
            trade.trade_id,
        )

    def _value_at_expiry(self, trade: Trade) -> Decimal:
        assert trade.expiration is not None
        worth = ZERO
        with self.world() as (world, _):
            for leg in trade.legs:
                option = parse_option(leg.option_symbol)
                spot = world.market.price(trade.symbol, closes_at(trade.expiration))
                assert option is not None
                assert spot is not None
                worth += option.intrinsic(spot) * (1 if leg.side == "long" else -1)
        return worth

    def by_hand(self) -> None:
        """The owner buys, sells or bids for shares without any tag, and covers what an assignment brought."""
        self.figures.manual += 1
        with self.world() as (world, account):
            short = [name for name in STRIKES if account.quantity(name) < 0]
            ticker = self.dice.choice(SHARES)
            spot = world.market.price(ticker, world.now)
            assert spot is not None
            if short:
                shares = -account.quantity(short[0])
                place(world, account, Ticket("equity", "market", short[0], None, "buy_to_cover", shares))
            elif account.quantity(ticker) > 5:
                place(world, account, Ticket("equity", "market", ticker, None, "sell", Decimal(5)))
            elif self.dice.random() < 0.3:
                bid = (spot * Decimal("0.8")).quantize(CENT)
                place(world, account, Ticket("equity", "limit", ticker, None, "buy", Decimal(3), "gtc", bid))
            else:
                place(world, account, Ticket("equity", "market", ticker, None, "buy", Decimal(9)))

    # --- what goes wrong on purpose -----------------------------------------------------------------------------------

    def inject(self, kind: Callable[[], Injected | None]) -> None:
        injected = kind()
        if injected is not None:
            self.active.append(injected)
            self.figures.injected[injected.kind] += 1

    def _held_trade(self) -> Trade | None:
        """An open trade without a working order, wholly held."""
        trades = [trade for trade in self.ledger.trades(["OPEN"]) if self._may_close(trade)]
        orders = {order.client_order_id: order for order in self.ledger.orders()}
        whole = [
            trade
            for trade in trades
            if settled(orders[f"{trade.trade_id}-in"])
            and trade.entry_price
            and not self.exits.get(trade.trade_id)
            and trade.expiration != self.machine.time.astimezone(NEW_YORK).date()
        ]
        return self.dice.choice(whole) if whole else None

    def someone_trades_options(self) -> Injected | None:
        """A fill that nobody reported the engine of."""
        with self.world() as (world, account):
            symbol = option_symbol("SPY", FIRST + timedelta(days=60), "call", Decimal(600 + self.number % 50))
            place(world, account, Ticket("option", "market", "SPY", symbol, "buy_to_open", Decimal(1)))

        def sell() -> None:
            with self.world() as (world, account):
                place(world, account, Ticket("option", "market", "SPY", symbol, "sell_to_close", Decimal(1)))

        return Injected("unknown fill", frozenset({("position_without_trade", symbol)}), frozenset({symbol}), sell)

    def order_unknown_to_the_ledger(self) -> Injected | None:
        """An order with our tag that the ledger has never heard of."""
        self.number += 1
        tag = f"{PREFIX}lost-{self.number}"
        self.lost.add(tag)
        with self.world() as (world, account):
            bid = Ticket("equity", "limit", "KO", None, "buy", Decimal(1), "gtc", Decimal(20), tag=tag)
            order = place(world, account, bid)

        def call_off() -> None:
            with self.world() as (world, account):
                cancel(world, account, next(one for one in account.live if one.id == order.id))

        return Injected("unknown order", frozenset({("unmatched_ours", tag)}), frozenset({tag}), call_off)

    def position_vanishes(self) -> Injected | None:
        """A position that goes without a fill."""
        trade = self._held_trade()
        if trade is None:
            return None
        with self.world() as (_, account):
            for leg in trade.legs:
                del account.positions[leg.option_symbol]
        symbols = {leg.option_symbol for leg in trade.legs}

        self.vanished.add(trade.trade_id)
        return Injected(
            "vanished",
            frozenset({("legs_missing", trade.trade_id)}),
            frozenset({trade.trade_id, *symbols}),
            lambda: None,  # the owner enters its price the next morning, as of what expired
        )

    def cash_moves(self) -> Injected | None:
        """Cash that goes by an odd amount."""
        with self.world() as (world, account):
            world.record(account, Event(world.now, "ach", Decimal("-1234.56"), "WIRE"))
        return Injected("cash", frozenset({("unexplained", "cash")}), frozenset({"cash"}), lambda: None)

    def quantity_changed_by_hand(self) -> Injected | None:
        trade = self._held_trade()
        if trade is None:
            return None
        self._sql("UPDATE trades SET quantity = ? WHERE trade_id = ?", f"{trade.quantity + 2:f}", trade.trade_id)
        return self._in_ledger("quantity", "change:quantity", trade)

    def wrong_price(self) -> Injected | None:
        trade = self._held_trade()
        if trade is None:
            return None
        assert trade.entry_price is not None
        self._sql("UPDATE trades SET entry_price = ? WHERE trade_id = ?", f"{trade.entry_price + 1:f}", trade.trade_id)
        return self._in_ledger("price", "change:entry_price", trade)

    def closed_while_held(self) -> Injected | None:
        trade = self._held_trade()
        if trade is None:
            return None
        self._sql("UPDATE trades SET status = 'CLOSED' WHERE trade_id = ?", trade.trade_id)

        def reopen() -> None:
            self._sql(
                "UPDATE trades SET status = 'OPEN', exit_reason = NULL, closed_at = NULL WHERE trade_id = ?",
                trade.trade_id,
            )

        return Injected(
            "closed while held",
            frozenset({("closed_without_proof", trade.trade_id)}),
            frozenset({trade.trade_id, *(leg.option_symbol for leg in trade.legs)}),
            reopen,
        )

    def _in_ledger(self, kind: str, code: str, trade: Trade) -> Injected:
        symbols = (leg.option_symbol for leg in trade.legs)
        return Injected(kind, frozenset({(code, trade.trade_id)}), frozenset({trade.trade_id, *symbols}), lambda: None)

    # --- who reads and reconciles -------------------------------------------------------------------------------------

    def snapshot(self) -> None:
        """Read, store, reconcile, write back, and count what was said."""
        self.keep_time()
        lags = self.dice.random() < TORN_SHARE
        self.figures.behind += lags
        if lags:
            self._fill_just_now()
            behind = self.dice.choice(["/positions", "/orders"])
            self.simulated.fault(behind, "lag", seconds=LAG_S)
        landed = extract_snapshot(
            self.home.zone, self.simulated.broker, SnapshotId.now(ACCOUNT), "test", ledger=self.ledger
        )
        extract_quotes(self.home.zone, self.simulated.broker, landed)
        self.simulated.heal()
        read_ledger = partial(read_relevant_ledger, load_settings())
        typed, outcomes = store_snapshot(self.home.warehouse, landed, read_ledger=read_ledger)
        (found,) = reconcile_newest(load_settings())
        if typed.reconciled is not None:  # what matters of the ledger leads to what all of it leads to
            closes = typed.reconciled.facts.closes  # none is asked for of a trade that leads to nothing
            assert closes.items() <= found.facts.closes.items()
            assert typed.reconciled == replace(found, facts=replace(found.facts, closes=closes))
        self.figures.snapshots += 1
        self.figures.torn += typed.verdict == "doubtful"
        signs = self._signs(found) | {(f"check {one.check}", CHECKS) for one in outcomes if not one.passed}
        written = apply(self.ledger, found.facts.snapshot_id, found.changes)
        assert not written.skipped, written.skipped
        self.figures.changes += len(written.applied)
        self._judge(signs, is_torn=typed.verdict == "doubtful")

    def keep_time(self) -> None:
        """Rows say when they were written by the clock of the machine; let that have been the month's."""
        now = clock.iso(self.machine.time)
        with closing(sqlite3.connect(self.ledger.path, isolation_level=None)) as connection:
            for table in ("orders", "trades"):
                connection.execute(f"UPDATE {table} SET updated_at = ?1 WHERE updated_at > ?1", (now,))

    def _fill_just_now(self) -> None:
        """Something that one list shows and the one that is behind does not."""
        with self.world() as (world, account):
            place(world, account, Ticket("equity", "market", self.dice.choice(SHARES), None, "buy", Decimal(1)))
        self.figures.manual += 1
        self.machine.time += timedelta(seconds=8)

    def _signs(self, found: Reconciliation) -> set[Sign]:
        """Everything that a person would be reported with this snapshot, with what it is about."""
        signs: set[Sign] = set()
        for trade_id, finding in found.findings:
            if finding.severity != "info":
                subject = trade_id or next(word for word in finding.text.split()[::-1])
                signs.add((finding.code, subject))
        for row in found.unmatched:
            if row.match_state != "unmatched_external":
                signs.add((row.match_state, row.client_order_id or row.tag or str(row.broker_order_id)))
        for change in found.changes:
            signs |= {(f"change:{column}", change.key) for column in change.after}
        with connect_readonly(self.home.warehouse.path) as connection:
            rows = connection.execute("SELECT snapshot_id, state, item FROM conservation").fetchall()
        new = [row for row in rows if row[0] not in self.compared]  # also of doubtful ones that were confirmed now
        self.compared |= {snapshot_id for snapshot_id, *_ in rows}
        return signs | {(state, item) for _, state, item in new if state in ("in_flight", "unexplained")}

    def _judge(self, signs: set[Sign], *, is_torn: bool) -> None:
        problems = {
            (code, subject) for code, subject in signs if not code.startswith("change:") and code != "in_flight"
        }
        problems -= {sign for sign in problems if self._is_true(*sign)}
        for injected in list(self.active):
            injected.snapshots += not is_torn  # from a torn one nothing is concluded
            if injected.signs & signs:
                self.figures.found[injected.kind] += 1
                self.figures.after[max(1, injected.snapshots)] += 1
            if injected.signs & signs or injected.snapshots >= WITHIN:
                injected.repair()
                self.active.remove(injected)
                if not injected.signs & signs:
                    self.figures.false.append((f"{injected.kind} not found", min(injected.signs)))
                self.past.append((self.figures.snapshots, injected))
        excused = {one for injected in self.active for one in (*injected.echoes, CHECKS)}
        recent = [injected for at, injected in self.past if self.figures.snapshots - at <= WITHIN + 1]
        excused |= {one for injected in recent for one in (*injected.echoes, CHECKS)}
        left = {sign for sign in problems if sign[1] not in excused}
        self.figures.brief.update(code for code, _ in left - self.last_signs)
        if not is_torn:
            now = self.machine.time.isoformat()
            self.figures.false += [(now, sign) for sign in sorted(left & self.last_signs)]
            self.last_signs = left

    def _is_true(self, code: str, subject: str) -> bool:
        """What is so: parts that nobody closes, prices that only the night tells, orders that were never sent."""
        if code == "partly_closed":
            entered, exited = self._filled(subject)
            return ZERO < exited < entered
        if code == "end_open":  # until the morning
            return self.machine.time.astimezone(NEW_YORK).time() >= CLOSE
        if code == "exit_price_unknown":
            entered, exited = self._filled(subject)
            return exited < entered and subject not in self.settled_at
        if code == "check orders_tagged":
            return self.figures.manual > 0  # what is traded by hand has no tag
        if code == "check fill_prices_present":  # legs far out of the money trade at 0 here
            with self.world() as (_, account):
                parts = [part for order in account.orders for part in (order, *order.legs)]
                return any(part.executed and not part.notional for part in parts)
        if code == "check clock_agrees":
            return True  # the broker's server tells the time of today, not of the month
        if code == "legs_missing":
            return subject in self.vanished  # until the next date: an order of this one may still be listed
        if code == "unmatched_ours":
            return subject in self.lost  # it stays on the list of its day, also when it is called off
        if code == "missing_at_broker":
            return subject not in self.sent
        if code == "sent_without_id":
            return any(name not in self.sent for name in self.exits.get(subject, ()))
        return False

    def _filled(self, trade_id: str) -> tuple[Decimal, Decimal]:
        """What the broker filled of a trade's entry and of its exits."""
        exits = self.exits.get(trade_id, ())
        with self.world() as (_, account):
            entered = (order.executed for order in account.orders if order.tag == f"{trade_id}-in")
            exited = (order.executed for order in account.orders if order.tag in exits)
            return sum(entered, ZERO), sum(exited, ZERO)

    def _sql(self, sql: str, *parameters: str) -> None:
        with closing(sqlite3.connect(self.ledger.path)) as connection, connection:
            connection.execute(sql, parameters)

    # --- the truth ----------------------------------------------------------------------------------------------------

    def finish(self) -> Figures:
        """Compare the whole ledger with what happened."""
        figures = self.figures
        figures.wrong = [why for trade in self.ledger.trades() for why in self._wrong(trade)]
        figures.trades.update(trade.status for trade in self.ledger.trades())
        figures.events.update(trade.exit_reason for trade in self.ledger.trades() if trade.exit_reason)
        with self.world() as (_, account):
            by_id = {order.id: order for order in account.orders}
        for order in self.ledger.orders():
            figures.orders[order.status] += 1
            truth = by_id.get(self.sent.get(order.client_order_id, 0))
            if truth and settled(order):
                reported = (order.broker_order_id, order.filled_quantity or ZERO)
                if reported != (truth.id, truth.executed):
                    figures.wrong.append(f"order {order.client_order_id}: {reported}, really {truth.executed}")
        return figures

    def _wrong(self, trade: Trade) -> Iterator[str]:
        with self.world() as (_, account):
            orders = {order.tag: order for order in account.orders if order.tag}
        entry = orders.get(f"{trade.trade_id}-in")
        exits = [orders[name] for name in self.exits.get(trade.trade_id, ()) if name in orders]
        entered = entry.executed if entry else ZERO
        exited = sum((order.executed for order in exits), ZERO)
        if not entered:
            if trade.status != "CANCELLED":
                yield f"{trade.trade_id}: {trade.status}, and it was never filled"
            return
        assert entry is not None
        if trade.quantity != entered:
            yield f"{trade.trade_id}: quantity {trade.quantity}, really {entered}"
        paid = entry.notional + sum((order.notional for order in exits), ZERO)
        if trade.trade_id in self.settled_at:
            credit = (trade.strategy or "").endswith("credit")
            paid = entry.notional + self.settled_at[trade.trade_id] * entered * (1 if credit else -1)
        elif exited < entered:
            if trade.status not in ("OPEN", "CLOSING_PENDING") and trade.exit_price is not None:
                yield f"{trade.trade_id}: {trade.status}, and {entered - exited} are held"
            return
        self.figures.profit += -paid * 100
        if trade.trade_id in self.settled_at:
            reasons = ("BROKER_ALREADY_FLAT",) if trade.trade_id in self.vanished else ENDED
            if trade.exit_reason not in reasons:
                yield f"{trade.trade_id}: {trade.exit_reason}, really {' or '.join(reasons)}"
        if trade.status != "CLOSED":
            yield f"{trade.trade_id}: {trade.status}, and it is over"
        elif trade.realized_pnl is None or abs(trade.realized_pnl + paid * 100) >= CENT:
            yield f"{trade.trade_id}: profit {trade.realized_pnl}, really {-paid * 100}"


def _ticket(
    world: World, root: str, legs: tuple[tuple[str, str], ...], quantity: Decimal, tag: str, *, reaches: bool
) -> Ticket:
    """An order at the middle of the market, or one that the market will hardly reach."""
    net = ZERO
    for symbol, side in legs:
        quote = world.market.quote(symbol, world.now)
        assert quote is not None
        net += quote.mark * (1 if side.startswith("buy") else -1)
    kind = "credit" if net < 0 else "debit"
    edge = CENT * 2 if reaches else -abs(net) * Decimal("0.6")
    price = max(CENT, (abs(net) + (edge if kind == "debit" else -edge)).quantize(CENT))
    parts = tuple(Ticket("option", kind, root, symbol, side, quantity, price=price) for symbol, side in legs)
    return Ticket("multileg", kind, root, None, "buy", price=price, tag=tag, strategy="spread", legs=parts)


def _at(day: date, at: time) -> datetime:
    return datetime.combine(day, at, NEW_YORK).astimezone(UTC)
