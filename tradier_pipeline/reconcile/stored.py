"""What a snapshot about to be stored says beside what the warehouse has: conservation, and findings over time."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

import duckdb

from tradier_pipeline.broker.models import FINISHED, OF_SEVERAL
from tradier_pipeline.reconcile.conservation import Finding, Open, changes, settle
from tradier_pipeline.reconcile.findings import Sight, Tracked, fold, problems
from tradier_pipeline.reconcile.statement import (
    Legless,
    Part,
    PartKey,
    Statement,
    by_key,
    held,
    is_even,
    legless_of,
    part_of,
    parts_of,
)
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.publish import insert
from tradier_pipeline.warehouse.rows import Conserved, TypedSnapshot
from tradier_pipeline.warehouse.sql import bind

CLOCKS_APART = timedelta(minutes=15)  # the broker's, which dates the orders, and ours, which dates the snapshots

_LAST_GOOD = """
    SELECT snapshot_id, as_of, as_of_end FROM tradier_snapshots
    WHERE account_id = ? AND as_of < ? AND coherence IS DISTINCT FROM 'torn' ORDER BY as_of DESC LIMIT 1
"""
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
    WHERE account_id = ? AND as_of BETWEEN ? AND ? AND order_id IN ({ids}) GROUP BY order_id
"""
_IN_FLIGHT = """
    SELECT item, in_flight, fees_at_most, explanation FROM conservation WHERE snapshot_id = ? AND as_of = ?
"""

_OPEN_FINDINGS = f"SELECT {', '.join(schema.FINDINGS.column_names)} FROM findings " + (  # noqa: S608
    "WHERE account_id = ? AND resolved_at IS NULL ORDER BY first_seen, finding_id"
)


@dataclass(frozen=True, slots=True)
class _Held:
    symbol: str
    quantity: Decimal
    cost_basis: Decimal


def conserve(connection: duckdb.DuckDBPyConnection, typed: TypedSnapshot) -> TypedSnapshot:
    """The snapshot with the verdict on all that changed since the last good one. None if it is torn, or the first."""
    manifest = typed.landed.manifest
    last = connection.execute(bind(_LAST_GOOD, manifest.account_id, manifest.as_of)).fetchone()
    if manifest.is_torn or last is None:
        return typed
    now = Statement(
        manifest.as_of,
        manifest.as_of_end,
        parts_of((*typed.orders, *typed.looked_up)),
        held(typed.positions),
        typed.balances.total_cash,
        legless_of((*typed.orders, *typed.looked_up)),
    )
    before = statement_before(connection, manifest.account_id, stored_statement(connection, *last), now)
    return replace(typed, conserved=Conserved(last[0], findings(connection, last[0], before, now)))


def keep_findings(connection: duckdb.DuckDBPyConnection, typed: TypedSnapshot, *, ledger_read: bool) -> None:
    """Bring the findings of an account up to its newest snapshot, in one transaction.

    Args:
        ledger_read: `typed.reconciled` is what the ledger leads to; without, its findings stay as they are.
    """
    manifest = typed.landed.manifest
    sight = Sight(
        snapshot_id=manifest.snapshot_id,
        account_id=manifest.account_id,
        as_of=manifest.as_of,
        torn=manifest.is_torn,
        conserved=typed.conserved is not None,
        ledger_read=ledger_read,
    )
    said = problems(
        sight,
        coherence=manifest.readings[-1].evidence if manifest.readings else (),
        changes=typed.conserved.findings if typed.conserved else (),
        orders=(*typed.orders, *typed.looked_up),
        reconciled=typed.reconciled,
    )
    found = connection.execute(bind(_OPEN_FINDINGS, manifest.account_id)).fetchall()
    tracked = [Tracked(*row) for row in found]
    if not tracked and not said:
        return
    connection.execute("BEGIN")
    connection.execute(bind("DELETE FROM findings WHERE account_id = ? AND resolved_at IS NULL", manifest.account_id))
    insert(connection, schema.FINDINGS, [asdict(row) for row in fold(tracked, said, sight)])
    connection.execute("COMMIT")


def findings(
    connection: duckdb.DuckDBPyConnection, previous_id: str, before: Statement, now: Statement
) -> tuple[Finding, ...]:
    """The verdict on all that changed since a stored snapshot, with what that one had left in flight."""
    rows = connection.execute(bind(_IN_FLIGHT, previous_id, before.as_of)).fetchall()
    carried = {item: Open.of(amount, fees, text.split("; ")) for item, amount, fees, text in rows if amount}
    return settle(changes(before, now), carried)


def stored_statement(
    connection: duckdb.DuckDBPyConnection, snapshot_id: str, as_of: datetime, as_of_end: datetime
) -> Statement:
    """What a stored snapshot says."""
    at = (snapshot_id, as_of)
    parts, legless = _read_parts(connection, bind(_OF_SNAPSHOT, *at))
    positions = bind("SELECT symbol, quantity, cost_basis FROM positions WHERE snapshot_id = ? AND as_of = ?", *at)
    cash = bind("SELECT cash FROM account_balances WHERE snapshot_id = ? AND as_of = ?", *at)
    ((amount,),) = connection.execute(cash).fetchall()
    holdings = held(_Held(*row) for row in connection.execute(positions).fetchall())
    return Statement(as_of, as_of_end, parts, holdings, amount, legless)


def statement_before(
    connection: duckdb.DuckDBPyConnection, account_id: str, before: Statement, now: Statement
) -> Statement:
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
    query = bind(_LAST_SHOWN.replace("{ids}", ids), account_id, min(since) - CLOCKS_APART, before.as_of)
    parts, legless = dict(before.parts), dict(before.legless)
    for order_id, snapshot_id, as_of in connection.execute(query).fetchall():
        then, legless_then = _read_parts(
            connection, bind(f"order_id = {order_id} AND {_OF_SNAPSHOT}", snapshot_id, as_of)
        )
        parts |= then
        legless |= legless_then
    return replace(before, parts=by_key(parts.values()), legless=legless)


def _read_parts(connection: duckdb.DuckDBPyConnection, which: str) -> tuple[dict[PartKey, Part], dict[int, Legless]]:
    parts: list[Part] = []
    legless: dict[int, Legless] = {}
    for row in connection.execute(_PARTS.replace("{which}", which)).fetchall():
        *values, class_, created_at, kind, net = row
        order_id, _, symbol, _, _, filled, _, _, status = values
        if class_ in OF_SEVERAL:
            legless[order_id] = Legless(order_id, symbol, filled or Decimal(0), status not in FINISHED)
        elif part := part_of(*values, created_at=created_at, is_even=is_even(kind, net)):
            parts.append(part)
    return by_key(parts), legless
