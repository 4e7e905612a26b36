"""The state of an account as a stored snapshot shows it, and as the last good one before another does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Final, Self

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.broker.models import FINISHED, OF_SEVERAL
from tradier_pipeline.reconcile.account_state import (
    EXACT,
    ZERO,
    AccountState,
    Legless,
    OrderPart,
    PartKey,
    by_key,
    held,
    is_even,
    part_of,
    terms_of,
)
from tradier_pipeline.reconcile.conservation import Open
from tradier_pipeline.reconcile.outstanding import OUTSTANDING_DAYS, Change, Line, outstanding, with_yet_to_come
from tradier_pipeline.reconcile.verdict import Figures, Good, Observation, reach
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.sealed import reaching
from tradier_pipeline.warehouse.sql import bind, literal, rows_of
from tradier_pipeline.warehouse.typed import Row

SANDBOX = "sandbox"  # its quotes are 15 minutes late
CLOCKS_APART = timedelta(minutes=15)  # the broker's, which dates the orders, and ours, which dates the snapshots

LAST_GOOD = """
    SELECT snapshot_id, as_of, as_of_end, clock_skew_s, environment FROM tradier_snapshots
    WHERE account_id = ? AND as_of < ? AND verdict = 'good' ORDER BY as_of DESC LIMIT 1
"""

# what is read of one snapshot to set another beside it
_FIGURES: Final = (
    *("equity", "cash", "buying_power", "margin_requirement", "long_market_value", "short_market_value"),
    *("option_long_value", "option_short_value"),
)
_OF_PART: Final = (
    "option_symbol, symbol, raw_side, quantity, exec_quantity, avg_fill_price, transaction_date, raw_status, status"
)
_COLUMNS: Final = {
    "account_balances": ", ".join(_FIGURES),
    "trade_gate_readings": "session_open, session_close",
    "positions": (
        "symbol, quantity, cost_basis, multiplier, bid, ask, last, mark, market_value, asset_class, underlying, "
        "expiration"
    ),
    "quotes": "symbol, prevclose, contract_size, underlying",
    "orders": f"order_id, {_OF_PART}, raw_class, create_date, raw_type",
    "order_legs": f"order_id, leg_id, {_OF_PART}",
}
OF_ORDERS: Final = ("orders", "order_legs")
_NO_SESSION: Final[Row] = {"session_open": None, "session_close": None}

Rows = Mapping[str, Sequence[Row]]
"""Stored rows of one snapshot, by table."""

_EARLIER_CASH = f"""
    SELECT DISTINCT cash FROM account_balances {schema.GOOD}
    WHERE account_id = ? AND trade_date = ? AND as_of < ?
"""  # noqa: S608

# the window lets DuckDB skip what is older than the orders; most of what was not listed is of the day
_LAST_SHOWN = """
    SELECT order_id, arg_max(snapshot_id, as_of), max(as_of) FROM orders
    WHERE account_id = ? AND as_of BETWEEN ? AND ? AND order_id IN ({ids}) AND snapshot_id NOT IN ({untimely})
    GROUP BY order_id
"""

_DOUBTED_SINCE = """
    SELECT snapshot_id, clock_skew_s FROM tradier_snapshots
    WHERE account_id = ? AND verdict = 'doubtful' AND as_of > ? AND as_of < ?
"""

_SHOWN_SINCE = """
    SELECT order_id, arg_max(snapshot_id, as_of), max(as_of) FROM orders
    WHERE account_id = ? AND as_of > ? AND as_of < ? AND snapshot_id IN ({ids}) GROUP BY order_id
"""

# by how much more of an item is open than before, or less
OPENED = "CASE WHEN state IN ('in_flight', 'unexplained') THEN unexplained ELSE 0 END - carried"

# what the last good snapshot left in flight, and what all of the last days left open
_LEFT_OPEN = f"""
    SELECT snapshot_id, as_of, item, trade_date, change, carried, explained, unexplained, in_flight, state,
           fees_at_most, explanation, {OPENED} AS opened
    FROM conservation WHERE account_id = ? AND as_of <= ? AND (trade_date >= ? OR as_of = ?) AND (
        in_flight <> 0 OR carried <> 0
        OR regexp_matches(explanation, ' (expired|ended) | paid in cash|a merger for shares|by a spin-off of')
    ) ORDER BY as_of
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class _Position:
    symbol: str
    quantity: Decimal
    cost_basis: Decimal
    multiplier: int | None
    bid: Decimal | None
    ask: Decimal | None
    last: Decimal | None
    mark: Decimal | None

    @classmethod
    def of(cls, row: Row) -> Self:
        return cls(*(row[field.name] for field in fields(cls)))


def stored_rows(
    connection: duckdb.DuckDBPyConnection,
    snapshot_id: str,
    as_of: datetime,
    tables: Iterable[str] = _COLUMNS,
    only: str = "true",
) -> Rows:
    """What is read of a stored snapshot to set another beside it.

    Args:
        only: the condition of the rows that are asked for.
    """
    which = bind("snapshot_id = ? AND as_of = ?", snapshot_id, as_of)
    with reaching(connection, as_of):
        return {
            table: rows_of(connection, f"SELECT {_COLUMNS[table]} FROM {table} WHERE {which} AND {only}")  # noqa: S608
            for table in tables
        }


def last_good(connection: duckdb.DuckDBPyConnection, account_id: str, now: AccountState) -> Good | None:
    """The last good snapshot before a statement, with what was known of the orders that are shown now."""
    found = rows_of(connection, bind(LAST_GOOD, account_id, now.as_of))
    if not found:
        return None
    (header,) = found
    as_of = header["as_of"]
    with reaching(connection, as_of):
        good = good_before(connection, account_id, header, stored_rows(connection, header["snapshot_id"], as_of), now)
        cash = good.observation.statement.cash
        return replace(good, earlier_cash=_earlier_cash(connection, account_id, now.as_of, as_of) - {cash})


def good_before(
    connection: duckdb.DuckDBPyConnection, account_id: str, header: Row, rows: Rows, now: AccountState
) -> Good:
    """A good snapshot before a statement as `last_good` returns it, but for the cash of earlier ones, which only a
    verdict looks at.

    Args:
        header, rows: what is stored of it.
    """
    as_of = header["as_of"]
    day = clock.trade_date(now.as_of)
    with reaching(connection, as_of):
        observation = observation_of(header, rows)
        left = _left_open(connection, account_id, as_of, day)
        before = statement_before(connection, account_id, observation.statement, now)
        changes = _changes(left, day)
        lines = _lines(left, day)
        return Good(
            replace(observation, statement=with_yet_to_come(before, lines)),
            _in_flight(left, header["snapshot_id"]),
            outstanding(changes, day),
            shown_since=_shown_since(connection, account_id, as_of, now),
        )


def clock_error(skew_s: Decimal | float | None) -> timedelta | None:
    """By how much the clock was wrong; None if it was right, or may have been."""
    return None if skew_s is None or not clock.is_wrong(skew := timedelta(seconds=float(skew_s))) else skew


def stored_observation(connection: duckdb.DuckDBPyConnection, header: Row) -> Observation:
    """All of a stored snapshot that its verdict rests on."""
    return observation_of(header, stored_rows(connection, header["snapshot_id"], header["as_of"]))


def observation_of(header: Row, rows: Rows) -> Observation:
    """All of a snapshot that its verdict rests on, from what is stored of it."""
    (balances,), positions = rows["account_balances"], rows["positions"]
    statement, delayed = statement_of(header, rows), header["environment"] == SANDBOX
    values = [row["market_value"] for row in positions]
    known = [value for value in values if value is not None]
    with localcontext(EXACT):
        priced, worth = sum(map(abs, known), ZERO), sum(known, ZERO)
    return Observation(
        header["snapshot_id"],
        statement,
        Figures(*(balances[name] for name in _FIGURES)),
        in_session=statement.in_session,
        priced=priced,
        clock_skew=clock_error(header["clock_skew_s"]),
        worth=worth if len(known) == len(values) else None,
        reach=reach(
            map(_Position.of, positions), {row["symbol"]: row["prevclose"] for row in rows["quotes"]}, delayed=delayed
        ),
        delayed=delayed,
    )


def statement_of(header: Row, rows: Rows) -> AccountState:
    """What a snapshot says, from what is stored of it."""
    parts, legless = _parts(rows)
    (balances,) = rows["account_balances"]
    session = next(iter(rows["trade_gate_readings"]), _NO_SESSION)
    return AccountState(
        header["as_of"],
        header["as_of_end"],
        parts,
        held(map(_Position.of, rows["positions"])),
        balances["cash"],
        legless,
        session["session_close"],
        session["session_open"],
        terms_of((row["symbol"], row["contract_size"], row["underlying"]) for row in rows["quotes"]),
    )


def _parts(rows: Rows) -> tuple[dict[PartKey, OrderPart], dict[int, Legless]]:
    """What fills, each order without legs and each leg of the others, and the orders whose legs are not known."""
    legs: dict[int, list[Row]] = defaultdict(list)
    for leg in rows["order_legs"]:
        legs[leg["order_id"]].append(leg)
    parts: list[OrderPart | None] = []
    legless: dict[int, Legless] = {}
    for order in rows["orders"]:
        order_id = order["order_id"]
        if order_id not in legs and order["raw_class"] in OF_SEVERAL:
            works = order["raw_status"] not in FINISHED
            legless[order_id] = Legless(order_id, _symbol(order), order["exec_quantity"] or ZERO, works)
        else:
            parts += [_part(row, order) for row in legs.get(order_id, [order])]
    return by_key(part for part in parts if part), legless


def _part(row: Row, order: Row) -> OrderPart | None:
    """An order, or a leg of it."""
    return part_of(
        row["order_id"],
        row.get("leg_id"),
        _symbol(row),
        row["raw_side"],
        row["quantity"],
        row["exec_quantity"],
        row["avg_fill_price"],
        row["transaction_date"] or order["transaction_date"],
        row["raw_status"],
        created_at=order["create_date"],
        is_even=is_even(order["raw_type"], order["avg_fill_price"]),
    )


def _symbol(row: Row) -> str | None:
    symbol: str | None = row["option_symbol"] or row["symbol"]
    return symbol


def _left_open(connection: duckdb.DuckDBPyConnection, account_id: str, until: datetime, day: date) -> list[Row]:
    # what was open at the start of the last days may have been settled in them
    return rows_of(connection, bind(_LEFT_OPEN, account_id, until, day - 2 * OUTSTANDING_DAYS, until))


def _in_flight(left: Sequence[Row], snapshot_id: str) -> dict[str, Open]:
    """What a stored snapshot left in flight, by item."""
    return {
        row["item"]: Open.of(row["in_flight"], row["fees_at_most"], row["explanation"].split("; "))
        for row in left
        if row["snapshot_id"] == snapshot_id and row["in_flight"]
    }


def _changes(left: Sequence[Row], day: date) -> list[Change]:
    """What stored snapshots of the last days left open, or carried on, that a change of a day may settle."""
    return [
        Change(*(row[name] for name in Change._fields))
        for row in left
        if row["trade_date"] >= day - 2 * OUTSTANDING_DAYS and (row["in_flight"] or row["carried"])
    ]


def _lines(left: Sequence[Row], day: date) -> list[Line]:
    """What stored verdicts of the last days before a day say."""
    recent = [row for row in left if row["trade_date"] >= day - OUTSTANDING_DAYS]
    return [
        Line(row["item"], row["opened"], row["explanation"].split("; "))
        for row in sorted(recent, key=lambda row: row["item"])
    ]


def _earlier_cash(
    connection: duckdb.DuckDBPyConnection, account_id: str, as_of: datetime, until: datetime
) -> set[Decimal]:
    """The cash that good snapshots of the date showed before an instant."""
    rows = connection.execute(bind(_EARLIER_CASH, account_id, clock.trade_date(as_of), until)).fetchall()
    return {amount for (amount,) in rows}


def statement_before(
    connection: duckdb.DuckDBPyConnection, account_id: str, before: AccountState, now: AccountState
) -> AccountState:
    """A stored statement, with what was last known of the orders that only the later one shows.

    An order that leaves the list, and is not found by its id, has not lost what it had filled. Nor has one that was
    listed before a minute in which the list was empty.
    """
    shown = {order_id for order_id, _ in before.parts} | before.legless.keys()
    new = [part for (order_id, _), part in now.parts.items() if order_id not in shown and part.filled]
    since = [part.created_at for part in new if part.created_at and part.created_at < before.as_of]
    if not since:
        return before
    ids = ", ".join(str(order_id) for order_id in sorted({part.order_id for part in new}))
    span = (account_id, min(since) - CLOCKS_APART, before.as_of)
    # a doubtful one counts, too: what filled has filled, and it may have explained the good ones after it
    doubted = connection.execute(bind(_DOUBTED_SINCE, *span)).fetchall()
    untimely = [literal(snapshot_id) for snapshot_id, skew in doubted if clock_error(skew) is not None]
    query = bind(_LAST_SHOWN, *span).format(ids=ids, untimely=", ".join(untimely) or "''")
    with reaching(connection, min(since) - CLOCKS_APART):
        parts, legless = _orders_of(connection, connection.execute(query).fetchall())
    return replace(before, parts=by_key({**before.parts, **parts}.values()), legless={**before.legless, **legless})


def _shown_since(
    connection: duckdb.DuckDBPyConnection, account_id: str, since: datetime, now: AccountState
) -> dict[PartKey, OrderPart]:
    """The orders that only doubtful snapshots since the last good one showed, as they did last.

    Over a doubt that outlasts the day, nothing else shows what filled in it.
    """
    span = (account_id, since, now.as_of)
    doubted = connection.execute(bind(_DOUBTED_SINCE, *span)).fetchall()
    ids = [literal(snapshot_id) for snapshot_id, skew in doubted if clock_error(skew) is None]  # others: of what time?
    if not ids:
        return {}
    listed = {order_id for order_id, _ in now.parts}
    query = bind(_SHOWN_SINCE, *span).replace("{ids}", ", ".join(ids))
    rows = [row for row in connection.execute(query).fetchall() if row[0] not in listed]
    return _orders_of(connection, rows)[0]


def _orders_of(
    connection: duckdb.DuckDBPyConnection, rows: Iterable[tuple[int, str, datetime]]
) -> tuple[dict[PartKey, OrderPart], dict[int, Legless]]:
    """Orders, each by its id, as one snapshot shows it."""
    parts: dict[PartKey, OrderPart] = {}
    legless: dict[int, Legless] = {}
    for order_id, snapshot_id, as_of in rows:
        then, legless_then = _parts(stored_rows(connection, snapshot_id, as_of, OF_ORDERS, f"order_id = {order_id}"))
        parts |= then
        legless |= legless_then
    return parts, legless
