"""What a snapshot about to be stored says beside what the warehouse has: conservation, and findings over time."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime
from decimal import Decimal

import duckdb

from tradier_pipeline.reconcile.conservation import Finding, Open, changes, settle
from tradier_pipeline.reconcile.findings import Sight, Tracked, fold, problems, unknown_words
from tradier_pipeline.reconcile.statement import Statement, by_key, held, part_of, parts_of
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.publish import insert
from tradier_pipeline.warehouse.rows import Conserved, TypedSnapshot
from tradier_pipeline.warehouse.sql import bind

_LAST_GOOD = """
    SELECT snapshot_id, as_of, as_of_end FROM tradier_snapshots
    WHERE account_id = ? AND as_of < ? AND verdict = 'good' ORDER BY as_of DESC LIMIT 1
"""
_PARTS = """
    WITH parents AS (SELECT * FROM orders WHERE snapshot_id = ? AND as_of = ?),
         legs AS (SELECT * FROM order_legs WHERE snapshot_id = ? AND as_of = ?)
    SELECT order_id, NULL AS leg_id, coalesce(nullif(option_symbol, ''), symbol), raw_side, quantity, exec_quantity,
           avg_fill_price, transaction_date, raw_status
    FROM parents ANTI JOIN legs USING (order_id)
    UNION ALL
    SELECT order_id, leg_id, coalesce(nullif(legs.option_symbol, ''), legs.symbol), legs.raw_side, legs.quantity,
           legs.exec_quantity, legs.avg_fill_price, coalesce(legs.transaction_date, parents.transaction_date),
           legs.raw_status
    FROM legs JOIN parents USING (order_id)
"""
_IN_FLIGHT = """
    SELECT item, in_flight, fees_at_most, explanation FROM conservation WHERE snapshot_id = ? AND as_of = ?
"""

_OPEN_FINDINGS = f"SELECT {', '.join(schema.FINDINGS.column_names)} FROM findings " + (  # noqa: S608
    "WHERE account_id = ? AND resolved_at IS NULL ORDER BY first_seen, finding_id"
)
_UNKNOWN_WORDS = """
    SELECT word, count(*), sum(amount) FROM cash_flows ANTI JOIN stated_flows USING (account_id, trade_date)
    WHERE kind = 'unknown' AND amount <> 0 AND account_id = ? GROUP BY word ORDER BY word
"""


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
    )
    before = stored_statement(connection, *last)
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
        reconciled=typed.reconciled,
    )
    if not sight.torn:
        said += unknown_words(_unknown_words(connection, manifest.account_id))
    tracked = _tracked(connection, manifest.account_id)
    if not tracked and not said:
        return
    connection.execute("BEGIN")
    connection.execute(bind("DELETE FROM findings WHERE account_id = ? AND resolved_at IS NULL", manifest.account_id))
    insert(connection, schema.FINDINGS, [asdict(row) for row in fold(tracked, said, sight)])
    connection.execute("COMMIT")


def keep_word_findings(connection: duckdb.DuckDBPyConnection, account_id: str, path: str, read_at: datetime) -> None:
    """Add a finding for each unknown word of the history of an account that has none yet, as an extract shows it.

    Within the caller's transaction. The next snapshot carries them on, or resolves them.
    """
    sight = Sight(snapshot_id=path, account_id=account_id, as_of=read_at)
    open_ids = {row.finding_id for row in _tracked(connection, account_id)}
    said = unknown_words(_unknown_words(connection, account_id))
    rows = [row for row in fold((), said, sight) if row.finding_id not in open_ids]
    insert(connection, schema.FINDINGS, [asdict(row) for row in rows])


def _unknown_words(connection: duckdb.DuckDBPyConnection, account_id: str) -> dict[str, tuple[int, Decimal]]:
    """Those that the owner has not stated a flow of the same date for."""
    rows = connection.execute(bind(_UNKNOWN_WORDS, account_id)).fetchall()
    return {word: (count, amount) for word, count, amount in rows}


def _tracked(connection: duckdb.DuckDBPyConnection, account_id: str) -> list[Tracked]:
    return [Tracked(*row) for row in connection.execute(bind(_OPEN_FINDINGS, account_id)).fetchall()]


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
    parts = (part_of(*row) for row in connection.execute(bind(_PARTS, *at, *at)).fetchall())
    positions = bind("SELECT symbol, quantity, cost_basis FROM positions WHERE snapshot_id = ? AND as_of = ?", *at)
    cash = bind("SELECT cash FROM account_balances WHERE snapshot_id = ? AND as_of = ?", *at)
    ((amount,),) = connection.execute(cash).fetchall()
    holdings = held(_Held(*row) for row in connection.execute(positions).fetchall())
    return Statement(as_of, as_of_end, by_key(part for part in parts if part), holdings, amount)
