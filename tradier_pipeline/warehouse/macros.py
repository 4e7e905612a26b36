"""The table macros of the warehouse, declared once as its tables and views are: what was, at any instant."""

from __future__ import annotations

from dataclasses import dataclass

from tradier_pipeline.warehouse.schema import (
    ACCOUNT_BALANCES,
    BIGINT,
    DECIMAL,
    INSTANT,
    ORDERS,
    POSITIONS,
    VARCHAR,
    Column,
    Table,
)
from tradier_pipeline.warehouse.sql import literal


@dataclass(frozen=True, slots=True)
class Macro:
    """A table macro: its name and parameters, what one row is, its columns, and its query.

    A name of the query that is a parameter's and not qualified stands for the argument.
    """

    name: str
    parameters: tuple[str, ...]
    comment: str
    columns: tuple[Column, ...]
    query: str


def _at(name: str, table: Table, rows: str) -> Macro:
    # by as_of, too: it lets DuckDB skip all but the rows around the instant
    newest = """(
        SELECT max_by(snapshot_id, as_of) AS snapshot_id, max(as_of) AS as_of
        FROM tradier_snapshots WHERE as_of <= ts::TIMESTAMPTZ GROUP BY account_id
    )"""
    return Macro(
        name,
        ("ts",),
        f"{rows} of each account's newest snapshot at an instant; none before its first. "
        "ts: an instant; a text without an offset is of the session's time zone.",
        table.columns,
        f"SELECT {table.name}.* FROM {table.name} SEMI JOIN {newest} USING (snapshot_id, as_of)",  # noqa: S608
    )


POSITIONS_AT = _at("positions_at", POSITIONS, "The positions")
BALANCES_AT = _at("balances_at", ACCOUNT_BALANCES, "The balances")
ORDERS_AT = _at("orders_at", ORDERS, "The orders")

POSITION_HISTORY = Macro(
    "position_history",
    ("symbol",),
    "One row per account and span of time in which its position in a symbol was the same; none where it had none. "
    "Torn snapshots do not count. symbol: as in positions.",
    (
        Column("account_id", VARCHAR, "Account number"),
        Column("symbol", VARCHAR, "As in positions"),
        Column("quantity", DECIMAL, "Shares or contracts; negative when short"),
        Column("cost_basis", DECIMAL, "USD, total, as sent; its sign is not reliable for short positions"),
        Column("from_as_of", INSTANT, "As-of of the first snapshot that shows it so (UTC)"),
        Column("last_as_of", INSTANT, "As-of of the last snapshot that shows it so (UTC)"),
        Column("until_as_of", INSTANT, "As-of of the first snapshot that does not any more (UTC); null: it is so"),
        Column("mark", DECIMAL, "USD per share at last_as_of; null without a quote"),
        Column("snapshots", BIGINT, "Snapshots that show it so"),
    ),
    # only the snapshots at both ends of a span are kept: all between them say the same
    """
    WITH held AS (
        SELECT account_id, as_of, positions.symbol AS held, sum(quantity) AS quantity, sum(cost_basis) AS cost_basis,
               max(mark) AS mark
        FROM positions WHERE positions.symbol = symbol GROUP BY account_id, as_of, held
    ), compared AS (
        SELECT account_id, as_of, held, quantity, cost_basis, mark, row_number() OVER of_account AS n,
               lead(as_of) OVER of_account AS next_as_of,
               quantity IS DISTINCT FROM lag(quantity) OVER of_account
                   OR cost_basis IS DISTINCT FROM lag(cost_basis) OVER of_account AS is_first,
               quantity IS DISTINCT FROM lead(quantity) OVER of_account
                   OR cost_basis IS DISTINCT FROM lead(cost_basis) OVER of_account AS is_last
        FROM tradier_snapshots LEFT JOIN held USING (account_id, as_of) WHERE coherence IS DISTINCT FROM 'torn'
        WINDOW of_account AS (PARTITION BY account_id ORDER BY as_of)
    ), ends AS (
        SELECT *, sum(is_first::INTEGER) OVER (PARTITION BY account_id ORDER BY n ROWS UNBOUNDED PRECEDING) AS span
        FROM compared WHERE quantity IS NOT NULL AND (is_first OR is_last)
    )
    SELECT account_id, held AS symbol, quantity::DECIMAL(24,8) AS quantity, cost_basis::DECIMAL(24,8) AS cost_basis,
           min(as_of) AS from_as_of, max(as_of) AS last_as_of, max(next_as_of) FILTER (is_last) AS until_as_of,
           max(mark) FILTER (is_last) AS mark, max(n) - min(n) + 1 AS snapshots
    FROM ends GROUP BY account_id, held, span, quantity, cost_basis ORDER BY account_id, from_as_of
    """,
)

MACROS = (POSITIONS_AT, BALANCES_AT, ORDERS_AT, POSITION_HISTORY)


def macro_ddl(macro: Macro) -> str:
    """CREATE MACRO, or put it in the place of an older one. DuckDB has no comments on the columns of a macro: its own
    tells them.
    """
    columns = "".join(f"\n{column.name}: {column.comment}" for column in macro.columns)
    return (
        f"CREATE OR REPLACE MACRO {macro.name}({', '.join(macro.parameters)}) AS TABLE {macro.query}; "
        f"COMMENT ON MACRO TABLE {macro.name} IS {literal(macro.comment + columns)}"
    )
