"""Seven weeks of one account that sells put spreads and iron condors: every figure follows from its fills and marks.

Prices are a drift and a seeded noise, options are priced by Black and Scholes at one volatility. What was read is
landed and rebuilt, so that the warehouse is what the pipeline makes of such an account.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest

from tradier_pipeline import clock
from tradier_pipeline.broker.symbols import classify
from tradier_pipeline.core.outcome import Outcome
from tradier_pipeline.landing.zone import LandedSnapshot, LandingZone
from tradier_pipeline.publish import store
from tradier_pipeline.publish.store import rebuild
from tradier_pipeline.publish.summaries import make_summaries
from tradier_pipeline.verify import verify_snapshot
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.staging import Warehouse, insert
from tradier_pipeline_tests.support import bodies
from tradier_pipeline_tests.support.activities import body_of, day_value, event, filed, lot
from tradier_pipeline_tests.support.bodies import Answers, Body, answers, land
from tradier_pipeline_tests.support.scripted_account import filled
from tradier_pipeline_tests.support.year import sessions

ACCOUNT = bodies.ACCOUNT
SESSIONS = [session.date for session in sessions(36, date(2025, 10, 1))]
LAST = SESSIONS[-1]
UNREAD = SESSIONS[18]  # no snapshot of this session
READ_AT = (time(10, 30), time(15, 17, 57), time(16, 15))
FILLED_AT = time(10, 5)
NEW_YORK = ZoneInfo("America/New_York")
BASES = {"SPY": 662.0, "QQQ": 597.0, "AAPL": 254.0}
VOLATILITY = {"SPY": 0.17, "QQQ": 0.21, "AAPL": 0.26}
FEE = Decimal("0.35")
CENT = Decimal("0.01")


def instant(day: date, clock_time: time) -> datetime:
    return datetime.combine(day, clock_time, NEW_YORK).astimezone(UTC)


def spot(symbol: str, at: datetime) -> float:
    """USD per share of an underlying."""
    local = at.astimezone(NEW_YORK)
    number = sum(1 for day in SESSIONS if day < local.date())
    drift = sum(_noise(symbol, str(day)) for day in SESSIONS[:number]) * 0.011 + 0.0006 * number
    hours = min(max((local.hour - 9.5 + local.minute / 60) / 6.5, 0), 1)
    today = _noise(symbol, str(local.date())) * 0.011 * hours + _noise(symbol, str(local)) * 0.0008
    return BASES[symbol] * math.exp(drift + today)


def _noise(*parts: str) -> float:
    """-1 to 1, always the same for the same."""
    return int.from_bytes(sha256("|".join(parts).encode()).digest()[:6]) / 2**47 - 1


def mark(symbol: str, at: datetime) -> Decimal:
    """USD per share, to the cent."""
    return Decimal(f"{_priced(symbol, at)[0]:.2f}")


def _priced(symbol: str, at: datetime) -> tuple[float, float, float, float, float]:
    """Price, delta, gamma, theta, vega."""
    option = classify(symbol).option
    if option is None:
        return spot(symbol, at), 1.0, 0.0, 0.0, 0.0
    price, strike = spot(option.root, at), float(option.strike)
    closes = instant(option.expiration, time(16))
    years = max((closes - at).total_seconds() / 86_400 / 365, 1e-6)
    deviation = VOLATILITY[option.root] * math.sqrt(years)
    d1 = math.log(price / strike) / deviation + deviation / 2
    sign = 1 if option.option_type == "call" else -1
    value = sign * (price * _normal(sign * d1) - strike * _normal(sign * (d1 - deviation)))
    density = math.exp(-d1 * d1 / 2) / math.sqrt(2 * math.pi)
    theta = -price * density * VOLATILITY[option.root] / 2 / math.sqrt(years) / 365
    return (
        max(value, 0.01),
        sign * _normal(sign * d1),
        density / price / deviation,
        theta,
        price * density * years**0.5 / 100,
    )


def _normal(x: float) -> float:
    return (1 + math.erf(x / math.sqrt(2))) / 2


def contract(root: str, expiration: date, kind: str, strike: int) -> str:
    return f"{root}{expiration:%y%m%d}{kind}{strike * 1000:08d}"


@dataclass
class Trader:
    """The account: what it has, and what the broker will tell of each day."""

    cash: Decimal = Decimal("100000.00")
    held: dict[str, tuple[Decimal, Decimal]] = field(default_factory=dict)  # quantity and what one cost
    orders: list[Body] = field(default_factory=list)
    events: list[Body] = field(default_factory=list)
    lots: list[Body] = field(default_factory=list)
    opened: dict[str, date] = field(default_factory=dict)
    realized: Decimal = Decimal(0)
    number: int = 91_000

    def trade(self, day: date, tag: str, *legs: tuple[str, int]) -> None:
        """One order, filled at the marks of the minute; bought legs are positive."""
        at = instant(day, FILLED_AT) + timedelta(seconds=len(self.orders))
        parts = []
        for symbol, quantity in legs:
            price = mark(symbol, at)
            word = ("buy" if quantity > 0 else "sell") + self._opens(symbol, quantity)
            self.number += 1
            parts.append(filled(self.number, symbol, word, Decimal(abs(quantity)), price, at, type="market"))
            parts[-1].pop("tag")
            self._fill(day, symbol, quantity, price)
        self.number += 1
        if len(parts) == 1:
            self.orders.append(parts[0] | {"tag": tag, "type": "limit"})
            return
        units = math.gcd(*(abs(quantity) for _, quantity in legs))
        net = sum((mark(symbol, at) * quantity for symbol, quantity in legs), Decimal(0)) / units
        order = filled(self.number, parts[0]["symbol"], "buy", Decimal(units), net, at, leg=parts, tag=tag)
        kind = {"class": "multileg", "type": "credit" if net < 0 else "debit", "price": abs(net), "strategy": "spread"}
        self.orders.append(order | kind | {"num_legs": len(parts)})

    def _opens(self, symbol: str, quantity: int) -> str:
        if len(symbol) < 15:
            return ""
        return "_to_close" if self.held.get(symbol, (Decimal(0), 0))[0] * quantity < 0 else "_to_open"

    def _fill(self, day: date, symbol: str, quantity: int, price: Decimal) -> None:
        size = 100 if len(symbol) > 15 else 1
        fee = FEE * abs(quantity) if size == 100 else Decimal(0)
        self.cash -= quantity * price * size + fee
        before, cost = self.held.pop(symbol, (Decimal(0), price))
        if before * quantity < 0:
            paid, got = (cost, price) if before > 0 else (price, cost)
            each = abs(quantity) * size
            self.realized += (got - paid) * each
            dates = {"open_date": f"{self.opened[symbol]}T00:00:00.000Z", "quantity": Decimal(-quantity)}
            amounts = {"cost": paid * each, "proceeds": got * each}
            self.lots.append(lot(day, (got - paid) * each, symbol, **dates, **amounts))
        else:
            self.opened[symbol] = day
        if before + quantity:
            self.held[symbol] = (before + quantity, cost)
        details = {"symbol": symbol, "quantity": Decimal(quantity), "price": price, "commission": fee}
        words = {"description": "TRADE", "trade_type": "Option" if size == 100 else "Equity"}
        self.events.append(event(day, -quantity * price * size - fee, "trade", **details, **words))

    def reported(self, at: datetime) -> Answers:
        """What the broker answers at an instant."""
        worth = {symbol: quantity * mark(symbol, at) * _size(symbol) for symbol, (quantity, _) in self.held.items()}
        cost = {symbol: quantity * price * _size(symbol) for symbol, (quantity, price) in self.held.items()}
        long, short = (sum(one for one in worth.values() if (one > 0) is is_long) for is_long in (True, False))
        options_long = sum(one for symbol, one in worth.items() if one > 0 and len(symbol) > 15)
        requirement = sum((Decimal(500) * abs(held) for symbol, (held, _) in self.held.items() if held < 0), Decimal(0))
        shown = bodies.balances(
            total_cash=self.cash,
            total_equity=self.cash + long + short,
            market_value=long + short,
            long_market_value=long,
            short_market_value=short,
            option_long_value=options_long,
            option_short_value=short,
            stock_long_value=long - options_long,
            close_pl=self.realized,
            open_pl=sum(worth.values()) - sum(cost.values()),
            current_requirement=requirement,
            option_requirement=requirement,
            equity=0,
        )
        shown["margin"] |= {"option_buying_power": self.cash - requirement, "stock_buying_power": self.cash}
        positions = [
            bodies.position(symbol, quantity, cost[symbol], id=number, date_acquired=f"{self.opened[symbol]}T15:05:00Z")
            for number, (symbol, (quantity, _)) in enumerate(self.held.items())
        ]
        symbols = [*self.held, *sorted({_root(symbol) for symbol in self.held} - self.held.keys())]
        return answers(
            account={"profile": {"id": "id-1", "name": "A B", "account": bodies.account()}},
            balances={"balances": shown},
            positions=positions,
            orders=[order for order in self.orders if order["create_date"] <= clock.iso(at)],
            quotes=[_quote(symbol, at) for symbol in symbols],
        )


def _size(symbol: str) -> int:
    return 100 if len(symbol) > 15 else 1


def _root(symbol: str) -> str:
    option = classify(symbol).option
    return option.root if option else symbol


def _quote(symbol: str, at: datetime) -> Body:
    price, delta, gamma, theta, vega = _priced(symbol, at)
    last = Decimal(f"{price:.2f}")
    spread = {"last": last, "bid": last - CENT, "ask": last + CENT}
    moment = {"trade_date": 0, "bid_date": int(at.timestamp() * 1000) - 900}
    if len(symbol) < 15:
        return bodies.quote(symbol, **spread, **moment)
    reported = {"delta": delta, "gamma": gamma, "theta": theta, "vega": vega}
    greeks = {name: Decimal(f"{one:.6f}") for name, one in reported.items()}
    terms = {"underlying": _root(symbol), "root_symbol": _root(symbol)}
    return bodies.option_quote(symbol, **spread, **moment, **terms, greeks=greeks)


def friday(day: date, weeks: int) -> date:
    return day + timedelta(days=(4 - day.weekday()) % 7 + 7 * weeks)


def trade_and_land(zone: LandingZone) -> None:
    """Land all snapshots of the seven weeks, and what is reported of each day the night after; not of the last one."""
    trader = Trader()
    plans: dict[int, list[tuple[str, list[tuple[str, int]]]]] = {}
    reported: dict[date, tuple[list[Body], list[Body], list[Body]]] = {}
    for number, day in enumerate(SESSIONS):
        trader.orders, trader.realized, trader.lots, trader.events = [], Decimal(0), [], []
        _act(trader, number, day, plans)
        read_at = READ_AT if day == LAST else READ_AT[-1:] if day != UNREAD else ()
        for clock_time in read_at:
            at = instant(day, clock_time)
            land(zone, trader.reported(at), at, environment="simulator")
        if day != LAST:
            value = (
                sum(
                    quantity * mark(symbol, instant(day, READ_AT[-1])) * _size(symbol)
                    for symbol, (quantity, _) in trader.held.items()
                )
                + trader.cash
            )
            reported[day] = (trader.events, trader.lots, [day_value(day, value)] if day != UNREAD else [])
            window = SESSIONS[max(0, number - 3) : number + 1]
            names = ("history", "gainloss", "historical_balances")
            rows = {name: [row for one in window for row in reported[one][place]] for place, name in enumerate(names)}
            filed(
                zone,
                (window[0], day),
                instant(day + timedelta(days=1), time(7, 30)),
                environment="simulator",
                **{name: [body_of(name, rows[name])] for name in names},
            )


def _act(trader: Trader, number: int, day: date, plans: dict[int, Any]) -> None:
    """What is done on a day: what is due is closed, and something is opened."""
    for tag, legs in plans.pop(number, []):
        trader.trade(day, f"{tag}-exit", *((symbol, -quantity) for symbol, quantity in legs))
    at = instant(day, FILLED_AT)
    if number == 0:
        trader.trade(day, "core-1", ("AAPL", 200))
        trader.trade(day, "core-2", ("SPY", 40))
        trader.trade(day, "wheel-1", (contract("AAPL", friday(day, 11), "C", 285), -2))
    if number == 11:
        trader.cash += 5000
        trader.events.append(event(day, 5000))
    if number == 20:
        trader.cash += Decimal("52.00")
        trader.events.append(event(day, Decimal("52.00"), "dividend", description="DIVIDEND AAPL"))
    if number % 3 == 1 or number == len(SESSIONS) - 1:
        root = ("SPY", "QQQ", "AAPL")[number // 3 % 3]
        strike = 5 * round(spot(root, at) * (0.975 if number % 2 else 0.965) / 5)
        expiration, quantity = friday(day, 4 if number < 30 else 0 if number > 34 else 3), 2 + number % 3
        if day == expiration:
            expiration = friday(day, 1)
        legs = [
            (contract(root, expiration, "P", strike), -quantity),
            (contract(root, expiration, "P", strike - 5), quantity),
        ]
        trader.trade(day, f"put-{number}", *legs)
        plans.setdefault(number + 5 + number % 4, []).append((f"put-{number}", legs))
    if number % 8 == 6:
        low, high = (10 * round(spot("SPY", at) * part / 10) for part in (0.96, 1.035))
        expiration = friday(day, 4)
        legs = [
            (contract("SPY", expiration, "P", low), -1),
            (contract("SPY", expiration, "P", low - 10), 1),
            (contract("SPY", expiration, "C", high), -1),
            (contract("SPY", expiration, "C", high + 10), 1),
        ]
        trader.trade(day, f"condor-{number}", *legs)
        plans.setdefault(number + 7, []).append((f"condor-{number}", legs))
    if number == len(SESSIONS) - 1:
        moment = clock.iso(instant(day, time(11)))
        times = {"create_date": moment, "transaction_date": moment, "duration": "day"}
        trader.orders.append(
            bodies.order(
                90_001,
                symbol="QQQ",
                status="rejected",
                tag="put-reject-1",
                **times,
                reason_description="Account does not have sufficient buying power",
            )
        )
        trader.orders.append(bodies.order(90_002, symbol="AAPL", status="open", tag="core-buy-the-dip", **times))


def _proven_on_the_last_day(landed: LandedSnapshot, connection: duckdb.DuckDBPyConnection) -> list[Outcome]:
    """How those before were proven nobody looks at, and it takes more than half of the time."""
    return verify_snapshot(landed, connection) if landed.snapshot_id.trade_date == LAST else []


def build(home: Path) -> None:
    """The home of that account: what was landed, its warehouse, the prices of a benchmark, the summaries."""
    zone, warehouse = LandingZone(home / "raw"), Warehouse(home / "tradier.duckdb")
    trade_and_land(zone)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(store, "verify_snapshot", _proven_on_the_last_day)
        rebuild(warehouse, zone, lambda _: None)
    with warehouse.staged() as staged:
        prices, before = [], None
        for day in SESSIONS:
            close = mark("SPY", instant(day, time(16)))
            prices.append(
                {
                    "environment": "simulator",
                    "symbol": "SPY",
                    "trade_date": day,
                    "close": close,
                    "previous_date": before and before[0],
                    "previous_close": before and before[1],
                    "read_at": instant(day, time(20)),
                    "path": "by hand",
                }
            )
            before = (day, close)
        insert(staged.connection, schema.DAILY_PRICES, prices)
    make_summaries(warehouse, LAST)
