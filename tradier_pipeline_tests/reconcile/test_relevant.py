"""What matters of the ledger to one snapshot: few rows of many, and the same conclusions as from all of them."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradier_pipeline.broker.models import Order
from tradier_pipeline.ledger.records import EngineOrder, Trade
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.publish.ledger_state import relevance_of
from tradier_pipeline.reconcile.facts import Facts
from tradier_pipeline.reconcile.reconciliation import Reconciliation, reconcile
from tradier_pipeline_tests.conftest import dear_examples
from tradier_pipeline_tests.reconcile.values import (
    ACCOUNT,
    AS_OF,
    EARLIER,
    broker_order,
    call,
    engine_order,
    legs,
    put,
    trade,
)

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
LONG_AGO = AS_OF - timedelta(days=30)
CONTRACTS = (put(290), put(285), call(300), call(305))
MOMENTS = (LONG_AGO, LONG_AGO + timedelta(seconds=20), AS_OF - timedelta(days=3), EARLIER)

moments = st.sampled_from(MOMENTS)
held_by_contract = st.dictionaries(st.sampled_from(CONTRACTS), st.sampled_from((-1, 1, 2)))
numbers = st.integers(1, 6)
prices = st.sampled_from((None, Decimal("0.40"), Decimal("1.25")))


@st.composite
def trades_of(draw: st.DrawFn, trade_id: str) -> Trade:
    short, long_ = draw(st.permutations(CONTRACTS))[:2]
    quantity = draw(st.integers(1, 2))
    return trade(
        trade_id,
        draw(st.sampled_from(("CLOSED", "CLOSED", "CANCELLED", "CANCELLED", "OPEN", "ENTRY_PENDING", "EXIT_ERROR"))),
        quantity,
        legs=draw(st.sampled_from((legs(quantity, short=short, long=long_), legs(quantity, short=short), ()))),
        opened_at=draw(st.none() | moments),
        closed_at=draw(st.none() | moments),
        broker_order_id_open=draw(st.none() | numbers),
        broker_order_id_close=draw(st.none() | numbers),
        entry_price=draw(prices),
        exit_price=draw(prices),
        exit_price_source=draw(st.sampled_from((None, "fills"))),
        exit_reason=draw(st.sampled_from((None, "EXPIRED"))),
        created_at=draw(moments),
        updated_at=LONG_AGO,
    )


@st.composite
def orders_of(draw: st.DrawFn, client_order_id: str) -> EngineOrder:
    role = draw(st.sampled_from(("ENTRY", "EXIT")))
    sides = ("sell_to_open", "buy_to_open") if role == "ENTRY" else ("buy_to_close", "sell_to_close")
    symbols = draw(st.permutations(CONTRACTS))[:2]
    listed = dict(zip(sides, symbols, strict=True))
    return engine_order(
        client_order_id,
        role,
        draw(st.sampled_from(("FILLED", "FILLED", "CANCELLED", "REJECTED", "PLACED", "PENDING"))),
        account_id=draw(st.sampled_from((ACCOUNT, ACCOUNT, ACCOUNT, "VB99999999"))),
        trade_id=draw(st.none() | st.sampled_from([f"t-{number}" for number in range(5)])),
        broker_order_id=draw(st.none() | numbers),
        legs=draw(st.sampled_from((legs(1, **listed), legs(1, **{sides[0]: symbols[0]}), ()))),
        quantity=Decimal(1),
        filled_quantity=draw(st.sampled_from((None, Decimal(1)))),
        avg_fill_price=draw(prices),
        created_at=draw(moments),
        updated_at=LONG_AGO,
    )


@st.composite
def broker_orders(draw: st.DrawFn) -> list[Order]:
    return [
        broker_order(
            number,
            draw(st.sampled_from(("filled", "open", "canceled"))),
            dict(zip(("sell_to_open", "buy_to_open"), draw(st.permutations(CONTRACTS))[:2], strict=True)),
            tag=draw(st.none() | st.sampled_from([f"e-{place}" for place in range(8)])),
            exec_quantity=draw(st.integers(0, 1)),
            avg_fill_price=draw(st.sampled_from((Decimal(0), Decimal("0.4")))),
            create_date=draw(moments).isoformat().replace("+00:00", "Z"),
        )
        for number in draw(st.lists(numbers, unique=True, max_size=3))
    ]


def fill(ledger: Ledger, trades: Sequence[Trade], orders: Sequence[EngineOrder]) -> None:
    """Write rows as they are; of two orders with the same id of the broker, the second stays out."""
    taken: set[tuple[str, int]] = set()
    for one in trades:
        ledger.record_trade(one)
    for order in orders:
        key = (order.account_id, order.broker_order_id or 0)
        if order.broker_order_id is None or key not in taken:
            ledger.record_order(order)
            taken.add(key)


def write(ledger: Ledger, *statements: str, **values: Any) -> None:
    """What an engine does: plain SQL."""
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement, values)


AGES = [
    f"UPDATE {table} SET updated_at = '2025-11-02T15:00:00Z' WHERE updated_at > '2025-11-03'"
    for table in ("orders", "trades")
]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger without rows: preparing one takes longer than copying it."""
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.sqlite")
    assert ledger.orders() == []
    with closing(sqlite3.connect(ledger.path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return ledger.path


@pytest.fixture
def ledger(empty: Path, tmp_path: Path) -> Ledger:
    return Ledger(Path(shutil.copy(empty, tmp_path / "ledger.sqlite")))


def reported(found: Reconciliation) -> list[tuple[str | None, int | None]]:
    of_orders = [(row.trade_id, row.broker_order_id) for row in found.orders]
    return [*of_orders, *((row.trade_id, None) for row in found.trades.rows)]


def over(trade_id: str = "t-over", number: int = 11) -> tuple[Trade, tuple[EngineOrder, EngineOrder]]:
    """A trade that was opened and closed a month ago, with everything that proves it."""
    shared: dict[str, Any] = {"trade_id": trade_id, "quantity": Decimal(1), "filled_quantity": Decimal(1)}
    shared |= {"order_type": "limit", "created_at": LONG_AGO, "updated_at": LONG_AGO}
    opening = legs(1, sell_to_open=put(290))
    closing_ = legs(1, buy_to_close=put(290))
    done = trade(
        trade_id,
        "CLOSED",
        legs=legs(1, short=put(290)),
        strategy=None,
        width=None,
        entry_price=Decimal("1.25"),
        entry_price_source="fills",
        exit_price=Decimal("0.4"),
        exit_price_source="fills",
        realized_pnl=Decimal(85),
        opened_at=LONG_AGO,
        closed_at=LONG_AGO + timedelta(hours=1),
        created_at=LONG_AGO,
        updated_at=LONG_AGO,
    )
    orders = (
        engine_order(
            f"{trade_id}-in",
            "ENTRY",
            "FILLED",
            legs=opening,
            avg_fill_price=Decimal("1.25"),
            broker_order_id=number,
            **shared,
        ),
        engine_order(
            f"{trade_id}-out",
            "EXIT",
            "FILLED",
            legs=closing_,
            avg_fill_price=Decimal("0.40"),
            broker_order_id=number + 1,
            **shared,
        ),
    )
    return done, orders


def facts_of(number: int = 1, orders: Sequence[Order] = (), **held: int) -> Facts:
    positions = {symbol: Decimal(amount) for symbol, amount in held.items()}
    return Facts(f"{ACCOUNT}@{number}", ACCOUNT, AS_OF + number * MINUTE, positions, tuple(orders))


def told_of(ledger: Ledger, facts: Facts) -> list[tuple[str | None, int | None]]:
    return reported(reconcile(ledger.orders(), ledger.trades(), facts, tag_prefix="e-"))


def matters(
    ledger: Ledger, facts: Facts, told_then: Sequence[tuple[str | None, int | None]] = ()
) -> tuple[set[str], Reconciliation]:
    """The keys of the rows that matter, and what follows from them; the same as from all rows."""
    orders, trades = ledger.relevant(relevance_of(facts, AS_OF, told_then))
    part = reconcile(orders, trades, facts, tag_prefix="e-")
    assert part == reconcile(ledger.orders(), ledger.trades(), facts, tag_prefix="e-")
    return {order.client_order_id for order in orders} | {one.trade_id for one in trades}, part


OVER = {"t-over", "t-over-in", "t-over-out"}


def test_what_is_over_and_proven_matters_no_more(ledger: Ledger) -> None:
    done, orders = over()
    fill(ledger, [done, trade("t-live", opened_at=EARLIER, updated_at=LONG_AGO)], orders)
    keys, found = matters(ledger, facts_of())
    assert keys == {"t-live"}
    assert [row.trade_id for row in found.trades.rows] == ["t-live"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE trades SET exit_price = NULL WHERE trade_id = 't-over'",
        "UPDATE orders SET status = 'CANCELLED', filled_quantity = NULL WHERE client_order_id = 't-over-out'",
        "UPDATE orders SET status = 'PLACED' WHERE client_order_id = 't-over-out'",
        f"""INSERT INTO orders (client_order_id, account_id, role, trade_id, status)
            VALUES ('late', '{ACCOUNT}', 'EXIT', 't-over', 'CANCELLED')""",
        f"""INSERT INTO trades (trade_id, account_id, symbol, status, quantity, broker_order_id_open)
            VALUES ('late', '{ACCOUNT}', 'AAPL', 'CLOSED', '1', 12)""",
        f"""INSERT INTO trades (trade_id, account_id, symbol, status, quantity, broker_order_id_close)
            VALUES ('late', '{ACCOUNT}', 'AAPL', 'CLOSED', '1', 12)""",
    ],
)
def test_what_is_written_of_a_trade_that_is_over_matters_with_all_that_belongs_to_it(
    ledger: Ledger, statement: str
) -> None:
    done, orders = over()
    fill(ledger, [done], orders)
    assert told_of(ledger, facts_of(0)) == []
    write(ledger, statement)
    assert matters(ledger, facts_of())[0] >= OVER


@pytest.mark.parametrize("column", ["broker_order_id_open", "broker_order_id_close"])
def test_an_order_brings_the_trades_that_name_it(ledger: Ledger, column: str) -> None:
    done, (order, _) = over()
    fill(ledger, [done.model_copy(update={column: 11})], [order.model_copy(update={"trade_id": None})])
    write(ledger, "UPDATE orders SET status = 'CANCELLED'")
    assert matters(ledger, facts_of())[0] == {"t-over", "t-over-in"}


def test_what_lives_matters_however_old_it_is_said_to_be(ledger: Ledger) -> None:
    """Rows that somebody copied have the times of where they come from."""
    done, (order, _) = over()
    alone = order.model_copy(update={"trade_id": None, "status": "PLACED"})
    fill(ledger, [done.model_copy(update={"status": "OPEN"})], [alone])
    assert matters(ledger, facts_of())[0] == {"t-over", "t-over-in"}


@pytest.mark.parametrize("tag", [None, "t-over-out"])
def test_an_order_that_the_broker_shows_again_matters_by_its_id_and_by_its_tag(ledger: Ledger, tag: str | None) -> None:
    done, orders = over()
    fill(ledger, [done], orders)
    shown = broker_order(12 if tag is None else 99, "open", {"buy_to_close": put(290)}, tag=tag)
    keys, found = matters(ledger, facts_of(1, [shown]))
    assert keys == OVER
    assert found.trades.rows or found.orders[0].differences


def test_a_tag_of_another_account_is_ours(ledger: Ledger) -> None:
    _, (order, _) = over()
    fill(ledger, [], [order.model_copy(update={"account_id": "VB99999999"})])
    keys, found = matters(ledger, facts_of(1, [broker_order(99, "open", tag="t-over-in")]))
    assert keys == {"t-over-in"}
    assert found.orders[0].match_state == "unmatched_ours"


@pytest.mark.parametrize("column", ["broker_order_id_open", "broker_order_id_close"])
def test_a_trade_that_names_an_order_which_the_broker_shows_matters(ledger: Ledger, column: str) -> None:
    done, _ = over()
    fill(ledger, [done.model_copy(update={column: 12})], [])
    shown = facts_of(0, [broker_order(12, "filled", {"sell_to_open": put(290)})])
    for facts, before in ((shown, []), (facts_of(), [(None, 12)])):
        assert [one.trade_id for one in ledger.relevant(relevance_of(facts, AS_OF, before))[1]] == ["t-over"]
    assert ledger.relevant(relevance_of(facts_of(), AS_OF, [])) == ([], [])


def test_a_cancelled_trade_matters_while_its_legs_are_held(ledger: Ledger) -> None:
    fill(ledger, [over()[0].model_copy(update={"status": "CANCELLED"})], [])
    assert matters(ledger, facts_of())[0] == set()
    keys, found = matters(ledger, facts_of(1, **{put(290): -1}))
    assert keys == {"t-over"}
    assert [finding.code for _, finding in found.findings] == ["cancelled_but_held", "position_without_trade"]


def test_a_trade_that_was_opened_in_the_minute_of_a_living_one_matters_to_that(ledger: Ledger) -> None:
    done, orders = over()
    twin = done.model_copy(update={"trade_id": "t-twin", "status": "OPEN", "opened_at": LONG_AGO + 20 * SECOND})
    fill(ledger, [done, twin], orders)
    keys, found = matters(ledger, facts_of(1, **{put(290): -1}))
    assert keys >= OVER | {"t-twin"}
    assert "duplicate_entry" in [finding.code for _, finding in found.findings]


def test_what_was_told_before_matters_until_it_is_settled(ledger: Ledger) -> None:
    """Of a trade with an open question, and of one whose orders the broker showed until now."""
    done, orders = over()
    unknown = over("t-unknown", 21)[0].model_copy(update={"exit_price": None, "exit_price_source": None})
    fill(ledger, [done, unknown.model_copy(update={"realized_pnl": None})], orders)
    before = told_of(ledger, facts_of(0))
    assert matters(ledger, facts_of(), before)[0] == {"t-unknown"}
    shown = facts_of(0, [broker_order(12, "filled", {"buy_to_close": put(290)})])
    assert matters(ledger, facts_of(), told_of(ledger, shown))[0] == OVER | {"t-unknown"}


def test_an_order_of_the_day_is_missed_and_one_of_long_ago_is_not(ledger: Ledger) -> None:
    _, (order, other) = over()
    fill(ledger, [], [order.model_copy(update={"trade_id": None, "created_at": EARLIER}), other])
    keys, found = matters(ledger, facts_of())
    assert keys == {"t-over-in"}
    assert [row.match_state for row in found.orders] == ["missing_at_broker"]


@pytest.mark.parametrize("created_at", [EARLIER, LONG_AGO])
def test_an_order_is_suggested_for_a_strangers_of_its_time(ledger: Ledger, created_at: datetime) -> None:
    _, (order, _) = over()
    fill(ledger, [], [order.model_copy(update={"trade_id": None, "broker_order_id": None, "created_at": created_at})])
    when = (created_at + 10 * MINUTE).isoformat().replace("+00:00", "Z")
    keys, found = matters(ledger, facts_of(1, [broker_order(99, "open", {"sell_to_open": put(290)}, create_date=when)]))
    assert keys == {"t-over-in"}
    assert found.orders[0].suggested == ("t-over-in",)


@settings(max_examples=dear_examples(2))
@given(data=st.data())
def test_the_rows_that_matter_lead_to_what_all_rows_lead_to(empty: Path, data: st.DataObject) -> None:
    """Over the snapshots of a day, whatever the engine writes between them and whatever the broker shows."""
    with tempfile.TemporaryDirectory() as directory:
        ledger = Ledger(Path(shutil.copy(empty, Path(directory) / "ledger.sqlite")))
        done, of_done = over("t-6", 1)
        fill(
            ledger,
            [done, *(data.draw(trades_of(f"t-{number}")) for number in range(data.draw(st.integers(0, 5))))],
            [*of_done, *(data.draw(orders_of(f"e-{number}")) for number in range(data.draw(st.integers(0, 7))))],
        )
        last, found = facts_of(0), []
        for number in range(3):
            facts = replace(
                facts_of(number, data.draw(broker_orders()), **data.draw(held_by_contract)), before=last.holdings
            )
            whole = reconcile(ledger.orders(), ledger.trades(), facts, tag_prefix="e-")
            if number:
                orders, trades = ledger.relevant(relevance_of(facts, last.as_of, found))
                assert reconcile(orders, trades, facts, tag_prefix="e-") == whole or not (orders or trades)
            last, found = facts, reported(whole)
            write(ledger, *AGES)  # what was written before this snapshot is old news by the next one
            for change in data.draw(st.lists(st.sampled_from(CHANGES), max_size=2)):
                write(ledger, change, place=data.draw(st.integers(0, 6)))


CHANGES = (
    "UPDATE trades SET status = 'CLOSED', closed_at = '2025-12-02T14:59:00Z' WHERE trade_id = 't-' || :place",
    "UPDATE trades SET exit_price = NULL WHERE trade_id = 't-' || :place",
    "UPDATE trades SET exit_price = '0.40', exit_price_source = 'reported' WHERE trade_id = 't-' || :place",
    "UPDATE orders SET status = 'CANCELLED' WHERE client_order_id = 'e-' || :place",
    "UPDATE orders SET status = 'FILLED', filled_quantity = '1' WHERE client_order_id = 'e-' || :place",
    "INSERT OR IGNORE INTO trades (trade_id, account_id, symbol, status, quantity, legs, broker_order_id_close, "
    f"created_at) SELECT 'new-' || :place, '{ACCOUNT}', 'AAPL', 'OPEN', '1', legs, nullif(:place, 0), "
    "'2025-12-02T14:00:00Z' FROM trades LIMIT 1",
    "INSERT OR IGNORE INTO orders (client_order_id, account_id, role, trade_id, status, created_at) "
    f"VALUES ('new-' || :place, '{ACCOUNT}', 'EXIT', 't-' || :place, 'FILLED', '2025-12-02T14:00:00Z')",
)
