"""The incidents that the old system's own documents report, replayed: what happened then, and what we say now.

The numbers are those of domain.md, section 8. The broker is the simulated one, on a socket; the ledger is a file.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tradier_pipeline import clock, verify
from tradier_pipeline.broker.errors import BrokerError
from tradier_pipeline.core.check import Check
from tradier_pipeline.core.outcome import Outcome, Severity
from tradier_pipeline.core.settings import DEMO_ACCOUNT, load_settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.extract.snapshot import extract_snapshot
from tradier_pipeline.ledger import writeback
from tradier_pipeline.ledger.records import EngineOrder, Trade
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.publish.ledger_state import reconcile_newest
from tradier_pipeline.publish.store import store_snapshot
from tradier_pipeline.reconcile.account_statement import STATEMENT_CHECKS
from tradier_pipeline.reconcile.cash import CASH_CHECKS
from tradier_pipeline.reconcile.derived_rows import DERIVED_CHECKS
from tradier_pipeline.reconcile.gainloss import GAINLOSS_CHECKS
from tradier_pipeline.reconcile.ledger_checks import RECONCILIATION_CHECKS
from tradier_pipeline.reconcile.reconciliation import Reconciliation
from tradier_pipeline.reconcile.summary_checks import SUMMARY_CHECKS
from tradier_pipeline.verify import CHECKS
from tradier_pipeline.verify.claims import CLAIMS, LEDGER_CLAIMS
from tradier_pipeline.warehouse import derived
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.reconcile.values import legs
from tradier_pipeline_tests.support import bodies
from tradier_pipeline_tests.verify.incidents import Bench, sound

LEDGER_CHECKS = {check.name: check for check in RECONCILIATION_CHECKS}
NOTHING: Mapping[str, int] = {}


def put(strike: int, underlying: str = "AAPL") -> str:
    return f"{underlying}301220P{strike * 1000:08d}"


def call(strike: int, underlying: str = "AAPL") -> str:
    return f"{underlying}301220C{strike * 1000:08d}"


def to_open(short: str, long: str) -> dict[str, str]:
    return {"sell_to_open": short, "buy_to_open": long}


def to_close(short: str, long: str) -> dict[str, str]:
    return {"buy_to_close": short, "sell_to_close": long}


SHORT, LONG = put(290), put(295)
ENTRY, EXIT = to_open(SHORT, LONG), to_close(SHORT, LONG)


def at_broker(number: int, sides: Mapping[str, str], status: str = "filled", **fields: Any) -> dict[str, Any]:
    """An order of two legs, as the broker lists it."""
    now = clock.iso(clock.now())
    done = 1 if status == "filled" else 0
    left = 1 if status == "open" else 0
    parts = [
        bodies.leg(
            number * 10 + place,
            symbol,
            side,
            **{"status": status, "quantity": 1, "exec_quantity": done, "remaining_quantity": left},
            avg_fill_price=1 if done else 0,
            transaction_date=now,
        )
        for place, (side, symbol) in enumerate(sides.items(), 1)
    ]
    reported = {"class": "multileg", "type": "credit", "duration": "day", "num_legs": 2, "leg": parts, "status": status}
    reported |= {"quantity": 1, "exec_quantity": done, "remaining_quantity": left}
    reported |= {"create_date": now, "transaction_date": now, "tag": f"engine-{number}"}
    return bodies.order(number, **(reported | fields))


def order(number: int, sides: Mapping[str, str] = ENTRY, status: Any = "PLACED", **fields: Any) -> EngineOrder:
    """The same order in the ledger."""
    given = {"client_order_id": f"engine-{number}", "account_id": DEMO_ACCOUNT, "broker_order_id": number}
    given |= {"role": "EXIT" if "buy_to_close" in sides else "ENTRY", "status": status, "class": "multileg"}
    given |= {"symbol": "AAPL", "legs": legs(1, **sides), "quantity": Decimal(1)}
    return EngineOrder.model_validate(given | fields)


def done(number: int, sides: Mapping[str, str], price: str, trade_id: str, **fields: Any) -> EngineOrder:
    """An order that was filled, and that the ledger knows all about."""
    reported = {"filled_quantity": Decimal(1), "avg_fill_price": Decimal(price), "trade_id": trade_id}
    kind = "credit" if price.startswith("-") else "debit"
    return order(number, sides, "FILLED", **({"order_type": kind} | reported | fields))


def trade(trade_id: str = "t-1", status: Any = "OPEN", short: str = SHORT, long: str = LONG, **fields: Any) -> Trade:
    given = {"trade_id": trade_id, "account_id": DEMO_ACCOUNT, "symbol": "AAPL", "status": status}
    given |= {"quantity": Decimal(1), "legs": legs(1, short=short, long=long), "opened_at": bodies.AS_OF}
    return Trade.model_validate(given | fields)


@dataclass(frozen=True)
class Replay:
    """The broker, the engine's ledger, and what we make of both."""

    home: Home
    simulated: Simulated

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.home.path / "ledger.sqlite")

    def snapshot(self, held: Mapping[str, int] = NOTHING, orders: Sequence[Any] = ()) -> dict[str, Outcome]:
        """The broker shows that; one share of MSFT, since an account that is flat is another story."""
        positions = [
            {"symbol": symbol, "quantity": quantity, "cost_basis": 100 * quantity}
            for symbol, quantity in ({"MSFT": 1} | held).items()
        ]
        world = {"account": DEMO_ACCOUNT, "cash": 50000, "positions": positions, "orders": list(orders)}
        self.simulated.admin("POST", "world", json.loads(bodies.dumps(world)))
        _, outcomes = take(self.home, self.simulated.broker)
        assert not [outcome for outcome in outcomes if outcome.blocks]
        return {outcome.check: outcome for outcome in outcomes}

    def believes(self, *rows: EngineOrder | Trade) -> None:
        for row in rows:
            if isinstance(row, Trade):
                self.ledger.record_trade(row)
            else:
                self.ledger.record_order(row)

    def found(self) -> Reconciliation:
        (found,) = reconcile_newest(load_settings())
        return found

    def apply(self) -> None:
        found = self.found()
        assert writeback.apply(self.ledger, found.facts.snapshot_id, found.changes).skipped == []

    def reported(self, name: str) -> list[str]:
        """What a check of the ledger says, one text for each difference."""
        outcome = LEDGER_CHECKS[name].run(self.found())
        return [f"{one.where}: {one.broker} | {one.stored}" for one in outcome.differences]

    def broken(self) -> set[str]:
        """The checks of the ledger that fail."""
        found = self.found()
        return {name for name, check in LEDGER_CHECKS.items() if not check.run(found).passed}

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with connect_readonly(self.home.warehouse.path) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def proven(home: Home, simulated: Simulated) -> Replay:
    """Each of its snapshots is proven as it is stored."""
    return Replay(home, simulated)


@pytest.fixture
def replay(home: Home, simulated: Simulated, without_proof: None) -> Replay:
    return Replay(home, simulated)


@pytest.fixture
def bench(home: Home) -> Iterator[Bench]:
    with bodies.warehouse_in_memory() as staged:
        yield Bench(home.path, staged)


# --- positions --------------------------------------------------------------------------------------------------------


def test_a2_legs_that_were_closed_are_gone_from_the_next_snapshot(proven: Replay) -> None:
    """Then: 18 legs at the broker, 20 on the portfolio page. Now: the page is the snapshot, set equality both ways."""
    eighteen = {put(strike): 1 for strike in range(100, 118)}
    proven.snapshot(eighteen | {call(280): 1, call(285): -1})
    assert proven.query("SELECT count(*) FROM portfolio_positions WHERE symbol <> 'MSFT'") == [(20,)]
    outcomes = proven.snapshot(eighteen, [at_broker(7, to_close(call(285), call(280)))])
    assert outcomes["position_keys_equal"].passed
    assert outcomes["snapshot_is_good"].passed, outcomes["snapshot_is_good"]
    shown = proven.query("SELECT symbol FROM portfolio_positions WHERE symbol <> 'MSFT'")
    assert {symbol for (symbol,) in shown} == eighteen.keys()


def test_a16_a_position_creates_no_trade(replay: Replay) -> None:
    """Then: the sync made trades of positions, opened "now". Now: a finding, and the ledger stays as it is."""
    replay.believes(trade("t-0", short=put(200), long=put(205)))
    replay.snapshot({SHORT: -1, LONG: 1, put(200): -1, put(205): 1})
    assert replay.reported("positions_belong_to_trades") == [
        f"account: - | no trade accounts for -1 {SHORT}",
        f"account: - | no trade accounts for 1 {LONG}",
    ]
    replay.apply()
    assert [one.trade_id for one in replay.ledger.trades()] == ["t-0"]


# --- orders -----------------------------------------------------------------------------------------------------------


def test_b1_an_order_filled_at_the_broker_and_placed_in_the_ledger_is_told_until_it_is_written(replay: Replay) -> None:
    """Then: 22223806 filled, PLACED locally for days. Now: a failed check, a proposal, and the ledger follows."""
    replay.believes(order(22223806))
    replay.snapshot({SHORT: -1, LONG: 1}, [at_broker(22223806, ENTRY, avg_fill_price=Decimal("-2.05"))])
    assert replay.reported("ledger_orders_follow_broker") == ["order 22223806: filled | PLACED"]
    replay.apply()
    assert replay.reported("ledger_orders_follow_broker") == []
    (now,) = replay.ledger.orders()
    assert (now.status, now.avg_fill_price) == ("FILLED", Decimal("-2.05"))


def test_b11_f1_210_orders_and_trades_without_ids_cost_five_requests(proven: Replay) -> None:
    """Then: 150 calls a run for the details of orders, and a window cut to two days. Now: five, and every order."""
    proven.believes(*(trade(f"t-{number}") for number in range(3)))
    proven.simulated.admin("DELETE", "requests")
    outcomes = proven.snapshot({SHORT: -3, LONG: 3}, [at_broker(n, ENTRY, "open") for n in range(1, 211)])
    proven.found()
    asked = [request["path"] for request in proven.simulated.requests() if request["path"].startswith("/v1")]
    assert len(asked) == 5
    assert not [path for path in asked if re.search(r"/orders/\d+", path)]
    assert outcomes["request_budget"].passed
    assert proven.query("SELECT count(*) FROM orders") == [(210,)]


def test_b12_an_order_of_somebody_else_is_shown_and_nothing_can_cancel_it(replay: Replay) -> None:
    """Then: any unmatched open order was cancelled. Now: it is listed, and every request there is only reads."""
    replay.believes(order(1))
    replay.simulated.admin("DELETE", "requests")
    replay.snapshot({}, [at_broker(1, ENTRY, "open"), at_broker(2, ENTRY, "open", tag=None)])
    assert [row.broker_order_id for row in replay.found().unmatched] == [2]
    replay.apply()
    asked = [request for request in replay.simulated.requests() if request["path"].startswith("/v1")]
    assert {request["method"] for request in asked} == {"GET"}
    assert replay.query("SELECT order_id, status FROM orders ORDER BY 1") == [(1, "open"), (2, "open")]


STRATEGIES = {  # short leg, long leg, what opening it is
    "bull_put_credit": (put(295), put(290), "credit"),
    "bear_put_debit": (put(290), put(295), "debit"),
    "bear_call_credit": (call(290), call(295), "credit"),
    "bull_call_debit": (call(295), call(290), "debit"),
}
FLIPPED = {"credit": "debit", "debit": "credit"}


def test_b19_the_type_of_an_order_follows_from_its_legs(proven: Replay) -> None:
    """Then: exits were sent with the type of their entries. Now: money that goes the other way is reported of each."""
    orders: dict[bool, list[Any]] = {True: [], False: []}
    for number, (short, long, kind) in enumerate(STRATEGIES.values(), 1):
        for is_exit, sides in ((0, to_open(short, long)), (1, to_close(short, long))):
            proper = FLIPPED[kind] if is_exit else kind
            net = Decimal(-1) if proper == "credit" else Decimal(1)
            for fits, type_ in ((True, proper), (False, FLIPPED[proper])):
                reported = at_broker(number * 10 + is_exit, sides, type=type_, avg_fill_price=net)
                orders[fits].append(reported)
    assert proven.snapshot({}, orders[True])["leg_effects_fit"].broker == "8 orders, 16 legs"
    wrong = {one.where for one in proven.snapshot({}, orders[False])["leg_effects_fit"].differences}
    assert {f"order {number}{is_exit} avg_fill_price" for number in range(1, 5) for is_exit in (0, 1)} <= wrong


def test_b19_a_rejected_exit_leaves_its_trade_open_and_says_why(replay: Replay) -> None:
    """Then: a rejected exit ended as a cancelled trade. Now: it is open, and the broker's reason is in the ledger."""
    replay.believes(trade("t-1", "CLOSING_PENDING", broker_order_id_close=9), order(9, EXIT, trade_id="t-1"))
    why = "credit order with debit legs"
    replay.snapshot({SHORT: -1, LONG: 1}, [at_broker(9, EXIT, "rejected", reason_description=why)])
    replay.apply()
    (exit_,), (now,) = replay.ledger.orders(), replay.ledger.trades()
    assert (exit_.status, exit_.reject_reason) == ("REJECTED", why)
    assert (now.status, now.broker_order_id_close) == ("OPEN", None)


def test_b22_entries_of_one_spread_in_one_minute_are_told(replay: Replay) -> None:
    """Then: 111 entries of AAPL 290/295 on one day, limit 3. Now: each is one of 111 that nobody meant."""
    replay.believes(trade("t-0"))
    columns = "account_id, symbol, status, quantity, legs, opened_at"
    with closing(sqlite3.connect(replay.ledger.path)) as connection, connection:
        more = [(f"t-{number}",) for number in range(1, 111)]
        connection.executemany(
            f"INSERT INTO trades (trade_id, {columns}) SELECT ?, {columns} FROM trades LIMIT 1", more
        )
    replay.snapshot({SHORT: -111, LONG: 111})
    outcome = LEDGER_CHECKS["entries_unique"].run(replay.found())
    assert outcome.blocks
    assert outcome.differing == 111
    assert outcome.differences[0].stored == "one of 111 trades with the same legs in the same minute"


# --- trades -----------------------------------------------------------------------------------------------------------


def test_c1_a_close_that_expired_or_was_cancelled_closes_nothing(replay: Replay) -> None:
    """Then: CLOSED by 22107708, which had expired, and 22106142, cancelled. Now: both rows fail."""
    ends = {22107708: ("EXPIRED", "expired"), 22106142: ("CANCELLED", "canceled")}
    for number, (status, _) in ends.items():
        replay.believes(trade(f"t-{number}", "CLOSED", broker_order_id_close=number, closed_at=clock.now()))
        replay.believes(order(number, EXIT, status, trade_id=f"t-{number}"))
    replay.snapshot({}, [at_broker(number, EXIT, word) for number, (_, word) in ends.items()])
    assert sorted(replay.reported("closed_trades_proven")) == [
        "trade t-22106142: order 22106142 CANCELLED | closed, and its exits were not filled",
        "trade t-22107708: order 22107708 EXPIRED | closed, and its exits were not filled",
    ]


def test_c2_closes_without_a_price_stay_open_findings_until_fills_tell_it(replay: Replay) -> None:
    """Then: 5 closes on 1 December, none with a price. Now: one has its fill of 2.51, +20 dollars; four are named."""
    debit = {"short": call(295), "long": call(290), "strategy": "bull_call_debit"}
    flat = {"exit_reason": "BROKER_ALREADY_FLAT", "closed_at": clock.now()}
    replay.believes(*(trade(f"t-{number}", "CLOSED", **debit, **flat) for number in range(5)))
    replay.believes(done(7, to_open(call(295), call(290)), "2.31", "t-0"))
    replay.believes(done(9, to_close(call(295), call(290)), "-2.51", "t-0"))
    replay.snapshot()
    assert [text.split(":")[0] for text in replay.reported("closed_trades_priced")] == [
        f"trade t-{n}" for n in range(1, 5)
    ]
    replay.apply()
    prices = {one.trade_id: (one.exit_price, one.realized_pnl) for one in replay.ledger.trades()}
    assert prices["t-0"] == (Decimal("2.51"), 20)
    assert {prices[f"t-{number}"] for number in range(1, 5)} == {(None, None)}


def test_c3_one_spread_is_one_close_whatever_the_number_of_its_legs(replay: Replay) -> None:
    """Then: 5 closed trades, at the broker one spread of two legs, -275 and +330. Now: one proven, +55 dollars."""
    now = clock.now()
    entry, exit_ = done(7, ENTRY, "-1.50", "t-0"), done(9, EXIT, "0.95", "t-0")
    replay.believes(*(trade(f"t-{number}", "CLOSED", closed_at=now) for number in range(5)), entry, exit_)
    replay.snapshot({}, [at_broker(9, EXIT, type="debit", avg_fill_price=Decimal("0.95"), tag="engine-9")])
    assert [text.split(":")[0] for text in replay.reported("closed_trades_proven")] == [
        f"trade t-{n}" for n in range(1, 5)
    ]
    profits = {row.trade_id: row.realized_pnl for row in replay.found().trades.rows}
    assert profits == {"t-0": 55, **dict.fromkeys(["t-1", "t-2", "t-3", "t-4"])}


def test_c4_legs_that_show_three_minutes_after_the_fill_alarm_nobody(replay: Replay) -> None:
    """Then: emergency exits 2, 3 and 12 minutes after the fill. Now: settling, and then a trade like any other."""
    replay.believes(trade("t-1", "ENTRY_PENDING", opened_at=None), order(7, trade_id="t-1"))
    at = clock.iso(clock.now() - timedelta(minutes=3))
    filled = at_broker(7, ENTRY, avg_fill_price=Decimal("-2.00"), transaction_date=at)
    replay.snapshot({}, [filled])
    assert [finding.code for trade_id, finding in replay.found().findings if trade_id] == ["settling"]
    replay.apply()
    assert replay.broken() == set()
    assert [one.status for one in replay.ledger.trades()] == ["OPEN"]
    replay.snapshot({SHORT: -1, LONG: 1}, [filled])
    assert not [finding for trade_id, finding in replay.found().findings if trade_id]
    assert replay.found().changes == ()


def test_c5_a_price_that_no_fill_told_makes_no_profit(replay: Replay) -> None:
    """Then: found flat, stored as closed at 0, the whole credit as profit. Now: no profit, and a finding."""
    flat = {"exit_reason": "BROKER_ALREADY_FLAT", "exit_price": Decimal(0), "closed_at": clock.now()}
    replay.believes(trade("t-1", "CLOSED", **flat), done(7, ENTRY, "-2.00", "t-1"))
    replay.snapshot()
    assert replay.reported("closed_trades_priced")[0] == "trade t-1: 0 | nobody knows where its exit price comes from"
    replay.apply()
    assert [one.realized_pnl for one in replay.ledger.trades()] == [None]


def test_c12_four_trades_of_one_on_a_leg_of_67_do_not_grow(replay: Replay) -> None:
    """Then: a leg of 67, and "fixed" trades of 67 each. Now: 63 belong to nobody, and the trades hold one each."""
    replay.believes(
        *(trade(f"t-{number}", opened_at=bodies.AS_OF + number * timedelta(hours=1)) for number in range(4))
    )
    replay.snapshot({SHORT: -67, LONG: 67})
    assert replay.reported("legs_allocated") == [
        f"{SHORT}: -67 held | -4 by all trades",
        f"{LONG}: 67 held | 4 by all trades",
    ]
    assert dict(replay.found().trades.left) == {"MSFT": 1, SHORT: -63, LONG: 63}
    replay.apply()
    assert {one.quantity for one in replay.ledger.trades()} == {1}


def test_c15_a_strategy_is_what_its_legs_are(replay: Replay) -> None:
    """Then: every trade was stored as a bull put credit. Now: the three that are none are reported."""
    for name, (short, long, _) in STRATEGIES.items():
        replay.believes(trade(name, short=short, long=long, strategy="bull_put_credit"))
    replay.snapshot()
    assert [text.split(":")[0] for text in replay.reported("strategies_fit_legs")] == [
        "trade bear_call_credit",
        "trade bear_put_debit",
        "trade bull_call_debit",
    ]


def test_c17_a_trade_whose_strikes_were_rewritten_does_not_fit_its_entry_and_is_not_rewritten_back(
    replay: Replay,
) -> None:
    """Then: "protected" fields were protected in a document. Now: the filled entry contradicts what was rewritten."""
    replay.believes(trade("t-1", broker_order_id_open=7), done(7, ENTRY, "-2.00", "t-1"))
    replay.snapshot({SHORT: -1, LONG: 1}, [at_broker(7, ENTRY, avg_fill_price=Decimal("-2.00"))])
    assert "orders_fit_their_trades" not in replay.broken()
    rewritten = replay.ledger.trades()[0].model_copy(update={"legs": legs(1, short=put(290), long=put(285))})
    replay.believes(rewritten)
    (text,) = replay.reported("orders_fit_their_trades")
    assert text.endswith("order 7 does not open this trade's legs")
    assert replay.reported("terms_unchanged") == []
    replay.apply()
    assert replay.ledger.trades()[0].legs == rewritten.legs


def test_c18_whatever_ends_an_entry_says_why(replay: Replay) -> None:
    """Then: 20 proposals invalidated without a reason. Now: order, trade and audit each say it."""
    for number in range(1, 21):
        replay.believes(trade(f"t-{number}", "ENTRY_PENDING", opened_at=None), order(number, trade_id=f"t-{number}"))
    why = "Insufficient buying power"
    replay.snapshot({}, [at_broker(number, ENTRY, "rejected", reason_description=why) for number in range(1, 21)])
    replay.apply()
    assert [one.reject_reason for one in replay.ledger.orders()] == [why] * 20
    assert [(one.status, one.exit_reason) for one in replay.ledger.trades()] == [("CANCELLED", "ENTRY_REJECTED")] * 20
    with closing(sqlite3.connect(replay.ledger.path)) as connection:
        reasons = [text for (text,) in connection.execute("SELECT why FROM ledger_changes ORDER BY row_key")]
    assert (len(reasons), all(reasons)) == (40, True)


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read_at", "day"),
    [
        (datetime(2025, 12, 2, 0, 30, tzinfo=UTC), date(2025, 12, 1)),
        (datetime(2025, 12, 2, 4, 59, tzinfo=UTC), date(2025, 12, 1)),
        (datetime(2025, 12, 2, 5, 1, tzinfo=UTC), date(2025, 12, 2)),
    ],
)
def test_e1_what_is_read_after_midnight_utc_is_of_the_new_york_day(bench: Bench, read_at: datetime, day: date) -> None:
    """Then: closes of 1 December shown on the 2nd. Now: the New York date is stored, and another one blocks."""
    landed = bench.take(sound(), read_at)
    tables = ("tradier_snapshots", "account_balances", "positions", "orders")
    stored = {
        bench.staged.connection.execute(f"SELECT DISTINCT trade_date FROM {name}").fetchall()[0] for name in tables
    }
    assert stored == {(day,)}
    assert not {"header_equals_manifest", "snapshot_atomic"} & bench.failed()
    bench.spoil(landed, "UPDATE tradier_snapshots SET trade_date = trade_date + 1")
    assert bench.outcomes["header_equals_manifest"].blocks
    bench.spoil(landed, "UPDATE positions SET trade_date = trade_date + 1")
    assert bench.outcomes["snapshot_atomic"].blocks


def test_e6_the_figures_of_a_day_are_those_of_the_new_york_day(bench: Bench) -> None:
    """Then: a summary of zeros, since its day was UTC's. Now: what is read at 20:30 in New York is of that day."""
    bench.take(sound(), datetime(2025, 12, 1, 20, tzinfo=UTC))
    bench.take(sound(), datetime(2025, 12, 2, 1, 30, tzinfo=UTC))
    derived.refresh(bench.staged.connection)  # as every publish does
    days = bench.staged.connection.execute("SELECT trade_date, open, close FROM daily_balances").fetchall()
    assert days == [(date(2025, 12, 1), Decimal("17798.36"), Decimal("17798.36"))]


# --- platform and process ---------------------------------------------------------------------------------------------


def test_f3_two_runs_at_once_read_one_after_the_other(home: Home, simulated: Simulated) -> None:
    """Then: runs of 46 to 139 seconds, one each minute. Now: no two readings of an account overlap."""
    simulated.fault("/positions", "delay", seconds=0.2)
    now = clock.now().replace(microsecond=0)
    due = [SnapshotId(DEMO_ACCOUNT, now - seconds * timedelta(seconds=1)) for seconds in (1, 0)]
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(extract_snapshot, home.zone, simulated.broker, one, "test") for one in due]
        first, second = sorted((one.result() for one in running), key=lambda landed: landed.manifest.as_of)
    assert first.manifest.as_of_end <= second.manifest.as_of
    for landed in (first, second):
        _, outcomes = store_snapshot(home.warehouse, landed)
        assert {outcome.check: outcome.passed for outcome in outcomes}["no_overlap"]


@dataclass(frozen=True)
class TableRow:
    """A row of the table of checks."""

    number: int | None
    name: str | None
    severity: str
    tests: tuple[str, ...]


def table() -> list[TableRow]:
    text = Path(verify.__file__).with_name("README.md").read_text()
    cells = [
        [cell.strip() for cell in line.split(" | ")] for line in text.splitlines() if re.match(r"\| (\d+|-) \|", line)
    ]
    return [
        TableRow(
            int(number.strip("| ")) if number != "| -" else None,
            name.strip("`") if name != "-" else None,
            severity,
            tuple(re.findall(r"`([\w/]+\.py::\w+)`", f"{passes} {fails}")),
        )
        for number, name, _, severity, passes, fails, *_ in cells
    ]


def test_g5_the_table_of_checks_says_what_there_is() -> None:
    """Then: documents declared "fixed" what the code did not do. Now: a row that is not true fails here."""
    words = {Severity.FATAL: "F", Severity.WARN: "W"}
    of_dates: tuple[Check[Any], ...] = (
        *SUMMARY_CHECKS,
        *GAINLOSS_CHECKS,
        *CASH_CHECKS,
        *STATEMENT_CHECKS,
        *DERIVED_CHECKS,
    )
    checks: list[Check[Any]] = [*CHECKS, *RECONCILIATION_CHECKS, *of_dates]
    rows = table()
    assert {row.number for row in rows if row.number} == set(range(1, 81))
    listed = {(row.number, row.name, row.severity) for row in rows if row.name}
    assert {(check.number, check.name, words[check.severity]) for check in checks} <= listed
    elsewhere = {(11, "snapshot_is_fresh", "F"), (65, "header_equals_manifest", "F")}
    elsewhere |= {(None, "activity_equals_landed", "F")}
    assert listed == {(check.number, check.name, words[check.severity]) for check in checks} | elsewhere
    assert {row.number for row in rows if not row.tests} == {23, 70, 72}
    assert {len(row.tests) for row in rows} == {0, 2}
    for file, test in {tuple(test.split("::")) for row in rows for test in row.tests}:
        assert f"def {test}(" in (Path(__file__).parents[1] / file).read_text()


def test_g5_the_table_of_claims_says_what_there_is() -> None:
    text = Path(verify.__file__).with_name("README.md").read_text()
    found = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.*) \|$", text, re.MULTILINE)
    assert [(name, asset, tuple(re.findall(r"`(\w+)`", rules))) for name, asset, rules in found] == [
        (claim.name, claim.asset, claim.rules) for claim in (*CLAIMS, *LEDGER_CLAIMS)
    ]


def test_g6_information_is_no_error(replay: Replay) -> None:
    """Then: 142 "errors" of a day, most of them news. Now: news is reported and fails nothing."""
    replay.believes(trade())
    replay.snapshot({SHORT: -1, LONG: 1})
    reported = {(finding.code, finding.severity) for _, finding in replay.found().findings}
    assert reported == {("position_without_trade", "info"), ("entry_price_unknown", "warn")}
    assert replay.broken() == set()


def test_g10_a_failed_reading_is_a_failure_and_leaves_the_last_good_one(replay: Replay) -> None:
    """Then: a failed sync returned success. Now: an error that names the resource, and nothing else is published."""
    replay.snapshot({SHORT: -1, LONG: 1})
    before = replay.query("SELECT snapshot_id FROM tradier_snapshots")
    replay.simulated.fault("/positions", "status", status=500)
    with pytest.raises(BrokerError, match="positions"):
        take(replay.home, replay.simulated.broker)
    assert replay.query("SELECT snapshot_id FROM tradier_snapshots") == before
    assert len(replay.query("SELECT * FROM portfolio_positions")) == 3
