"""The state of an account as a stored snapshot shows it, and as the last good one before another does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.broker.models import FINISHED, OF_SEVERAL
from tradier_pipeline.broker.symbols import classify
from tradier_pipeline.reconcile.account_state import (
    AccountState,
    Legless,
    OrderPart,
    PartKey,
    Terms,
    by_key,
    held,
    is_even,
    part_of,
)
from tradier_pipeline.reconcile.conservation import Open
from tradier_pipeline.reconcile.outstanding import OUTSTANDING_DAYS, Change, outstanding
from tradier_pipeline.reconcile.verdict import Figures, Good, Observation, reach
from tradier_pipeline.reconcile.yet_to_come import Line, with_yet_to_come
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.sealed import reaching
from tradier_pipeline.warehouse.sql import bind, literal

SANDBOX = "sandbox"  # its quotes are 15 minutes late
CLOCKS_APART = timedelta(minutes=15)  # the broker's, which dates the orders, and ours, which dates the snapshots

LAST_GOOD = """
    SELECT snapshot_id, as_of, as_of_end FROM tradier_snapshots
    WHERE account_id = ? AND as_of < ? AND verdict = 'good' ORDER BY as_of DESC LIMIT 1
"""

# joined to one row each: subqueries that name the row they are for take DuckDB twice the time
_OBSERVATION = """
    WITH prices AS (
        SELECT coalesce(sum(abs(market_value)), 0) AS priced,
               CASE WHEN count(*) = count(market_value) THEN coalesce(sum(market_value), 0) END AS worth
        FROM positions WHERE snapshot_id = ? AND as_of = ?
    )
    SELECT coalesce(balances.as_of >= session_open AND balances.as_of < session_close, false),
           equity, cash, buying_power, margin_requirement, long_market_value, short_market_value, option_long_value,
           option_short_value, priced, worth, clock_skew_s, environment
    FROM account_balances AS balances CROSS JOIN prices
    LEFT JOIN trade_gate_readings USING (snapshot_id) LEFT JOIN tradier_snapshots USING (snapshot_id)
    WHERE balances.snapshot_id = ? AND balances.as_of = ?
"""

_QUOTED = "SELECT symbol, quantity, multiplier, bid, ask, last, mark FROM positions WHERE snapshot_id = ? AND as_of = ?"
_CLOSED_AT = "SELECT symbol, prevclose FROM quotes WHERE snapshot_id = ? AND as_of = ?"

_EARLIER_CASH = f"""
    SELECT DISTINCT cash FROM account_balances {schema.GOOD}
    WHERE account_id = ? AND trade_date = ? AND as_of < ?
    AND cash <> (SELECT max_by(cash, as_of) FROM account_balances WHERE account_id = ? AND as_of = ?)
"""  # noqa: S608

# orders of one snapshot, or the last known of some orders: each without legs, and each leg of the others
_PARTS = """
    WITH parents AS (SELECT * FROM orders WHERE {which}), legs AS (SELECT * FROM order_legs WHERE {which})
    SELECT order_id, NULL AS leg_id, coalesce(nullif(option_symbol, ''), symbol), raw_side, quantity, exec_quantity,
           avg_fill_price, transaction_date, raw_status, raw_class, create_date, raw_type, avg_fill_price AS net
    FROM parents ANTI JOIN legs USING (snapshot_id, order_id)
    UNION ALL
    SELECT order_id, leg_id, coalesce(nullif(legs.option_symbol, ''), legs.symbol), legs.raw_side, legs.quantity,
           legs.exec_quantity, legs.avg_fill_price, coalesce(legs.transaction_date, parents.transaction_date),
           legs.raw_status, NULL, parents.create_date, parents.raw_type, parents.avg_fill_price
    FROM legs JOIN parents USING (snapshot_id, order_id)
"""

_OF_SNAPSHOT = "snapshot_id = ? AND as_of = ?"

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

_TERMS = "SELECT symbol, contract_size, underlying FROM quotes WHERE snapshot_id = ? AND as_of = ?"
_SESSION = "SELECT session_close, session_open FROM trade_gate_readings WHERE snapshot_id = ? AND as_of = ?"

_IN_FLIGHT = """
    SELECT item, in_flight, fees_at_most, explanation FROM conservation WHERE snapshot_id = ? AND as_of = ?
"""

_LEFT_OPEN = """
    SELECT item, trade_date, change, carried, explained, unexplained, in_flight, state FROM conservation
    WHERE account_id = ? AND as_of <= ? AND trade_date >= ? AND (in_flight <> 0 OR carried <> 0) ORDER BY as_of
"""

# by how much more of an item is open than before, or less
OPENED = "CASE WHEN state IN ('in_flight', 'unexplained') THEN unexplained ELSE 0 END - carried"

_YET_TO_COME = f"""
    SELECT item, {OPENED}, explanation
    FROM conservation WHERE account_id = ? AND as_of <= ? AND trade_date >= ? AND (
        in_flight <> 0 OR carried <> 0
        OR regexp_matches(explanation, ' (expired|ended) | paid in cash|a merger for shares|by a spin-off of')
    ) ORDER BY item, as_of
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class _Held:
    symbol: str
    quantity: Decimal
    cost_basis: Decimal


@dataclass(frozen=True, slots=True)
class _Quoted:
    symbol: str
    quantity: Decimal
    multiplier: int | None
    bid: Decimal | None
    ask: Decimal | None
    last: Decimal | None
    mark: Decimal | None


def last_good(connection: duckdb.DuckDBPyConnection, account_id: str, now: AccountState) -> Good | None:
    """The last good snapshot before a statement, with what was known of the orders that are shown now."""
    found = connection.execute(bind(LAST_GOOD, account_id, now.as_of)).fetchone()
    if found is None:
        return None
    snapshot_id, as_of, _ = found
    with reaching(connection, as_of):
        observation = stored_observation(connection, *found)
        before = statement_before(connection, account_id, observation.statement, now)
        before = with_yet_to_come(before, _yet_to_come(connection, account_id, as_of, now.as_of))
        return Good(
            replace(observation, statement=before),
            _in_flight(connection, snapshot_id, as_of),
            _outstanding(connection, account_id, as_of, now.as_of),
            _earlier_cash(connection, account_id, now.as_of, as_of),
            _shown_since(connection, account_id, as_of, now),
        )


def has_terms(symbol: str) -> bool:
    return classify(symbol).option is not None


def clock_error(skew_s: Decimal | float | None) -> timedelta | None:
    """By how much the clock was wrong; None if it was right, or may have been."""
    return None if skew_s is None or not clock.is_wrong(skew := timedelta(seconds=float(skew_s))) else skew


def stored_observation(
    connection: duckdb.DuckDBPyConnection, snapshot_id: str, as_of: datetime, as_of_end: datetime
) -> Observation:
    with reaching(connection, as_of):
        found = connection.execute(bind(_OBSERVATION, *(snapshot_id, as_of) * 2)).fetchall()
        closed_at = dict(connection.execute(bind(_CLOSED_AT, snapshot_id, as_of)).fetchall())
        quoted = [_Quoted(*row) for row in connection.execute(bind(_QUOTED, snapshot_id, as_of)).fetchall()]
    ((in_session, *figures, priced, worth, skew, environment),) = found
    return Observation(
        snapshot_id,
        stored_statement(connection, snapshot_id, as_of, as_of_end),
        Figures(*figures),
        in_session,
        priced,
        clock_error(skew),
        worth,
        reach(quoted, closed_at, delayed=environment == SANDBOX),
        environment == SANDBOX,
    )


def _outstanding(
    connection: duckdb.DuckDBPyConnection, account_id: str, until: datetime, now: datetime
) -> dict[str, list[Decimal]]:
    """By item, what stored snapshots left open that a change of now may settle."""
    day = clock.trade_date(now)
    # what was open at the start of the last days may have been settled in them
    query = bind(_LEFT_OPEN, account_id, until, day - 2 * OUTSTANDING_DAYS)
    return outstanding(map(Change._make, connection.execute(query).fetchall()), day)


def _yet_to_come(connection: duckdb.DuckDBPyConnection, account_id: str, until: datetime, now: datetime) -> list[Line]:
    """What stored verdicts of the last days say."""
    query = bind(_YET_TO_COME, account_id, until, clock.trade_date(now) - OUTSTANDING_DAYS)
    rows = connection.execute(query).fetchall()
    return [Line(item, opened, explanation.split("; ")) for item, opened, explanation in rows]


def _earlier_cash(
    connection: duckdb.DuckDBPyConnection, account_id: str, as_of: datetime, until: datetime
) -> set[Decimal]:
    """The cash that good snapshots of the date showed before an instant, but for what the last one shows."""
    rows = connection.execute(
        bind(_EARLIER_CASH, account_id, clock.trade_date(as_of), until, account_id, until)
    ).fetchall()
    return {amount for (amount,) in rows}


def _in_flight(connection: duckdb.DuckDBPyConnection, snapshot_id: str, as_of: datetime) -> dict[str, Open]:
    """What a stored snapshot left in flight, by item."""
    rows = connection.execute(bind(_IN_FLIGHT, snapshot_id, as_of)).fetchall()
    return {item: Open.of(amount, fees, text.split("; ")) for item, amount, fees, text in rows if amount}


def stored_statement(
    connection: duckdb.DuckDBPyConnection, snapshot_id: str, as_of: datetime, as_of_end: datetime
) -> AccountState:
    """What a stored snapshot says."""
    with reaching(connection, as_of):
        return _stored_statement(connection, snapshot_id, as_of, as_of_end)


def _stored_statement(
    connection: duckdb.DuckDBPyConnection, snapshot_id: str, as_of: datetime, as_of_end: datetime
) -> AccountState:
    at = (snapshot_id, as_of)
    parts, legless = _read_parts(connection, bind(_OF_SNAPSHOT, *at))
    positions = bind("SELECT symbol, quantity, cost_basis FROM positions WHERE snapshot_id = ? AND as_of = ?", *at)
    cash = bind("SELECT cash FROM account_balances WHERE snapshot_id = ? AND as_of = ?", *at)
    ((amount,),) = connection.execute(cash).fetchall()
    holdings = held(_Held(*row) for row in connection.execute(positions).fetchall())
    terms = {
        symbol: Terms(size, underlying)
        for symbol, size, underlying in connection.execute(bind(_TERMS, *at)).fetchall()
        if has_terms(symbol)
    }
    close, opened = connection.execute(bind(_SESSION, *at)).fetchone() or (None, None)
    return AccountState(as_of, as_of_end, parts, holdings, amount, legless, close, opened, terms)


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
        then, legless_then = _read_parts(
            connection, bind(f"order_id = {order_id} AND {_OF_SNAPSHOT}", snapshot_id, as_of)
        )
        parts |= then
        legless |= legless_then
    return parts, legless


def _read_parts(
    connection: duckdb.DuckDBPyConnection, which: str
) -> tuple[dict[PartKey, OrderPart], dict[int, Legless]]:
    parts: list[OrderPart] = []
    legless: dict[int, Legless] = {}
    for row in connection.execute(_PARTS.replace("{which}", which)).fetchall():
        *values, class_, created_at, kind, net = row
        order_id, _, symbol, _, _, filled, _, _, status = values
        if class_ in OF_SEVERAL:
            legless[order_id] = Legless(order_id, symbol, filled or Decimal(0), status not in FINISHED)
        elif part := part_of(*values, created_at=created_at, is_even=is_even(kind, net)):
            parts.append(part)
    return by_key(parts), legless
