"""The table macros of the warehouse, declared once as its tables and views are: what was, at any instant."""

from __future__ import annotations

from dataclasses import dataclass

from tradier_pipeline.warehouse.schema import (
    ACCOUNT_BALANCES,
    BIGINT,
    BOOLEAN,
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
    # the day first, which a small table knows, and then by as_of, too: DuckDB skips all but the rows around the instant
    newest = """(
        SELECT max_by(snapshot_id, as_of) AS snapshot_id, max(as_of) AS as_of
        FROM tradier_snapshots SEMI JOIN (
            SELECT account_id, max(trade_date) AS trade_date
            FROM snapshot_days WHERE first_as_of <= ts::TIMESTAMPTZ GROUP BY account_id
        ) USING (account_id, trade_date)
        WHERE as_of <= ts::TIMESTAMPTZ AND verdict = 'good' GROUP BY account_id
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
    ("of_symbol",),  # no name of a column: DuckDB refuses the macro where sealed months make a table a view
    "One row per account and span of time in which its position in a symbol was the same; none where it had none. A "
    "session of which nothing was read ends a span. Doubtful snapshots do not count. of_symbol: as in positions.",
    (
        Column("account_id", VARCHAR, "Account number"),
        Column("symbol", VARCHAR, "As in positions"),
        Column("quantity", DECIMAL, "Shares or contracts; negative when short"),
        Column("cost_basis", DECIMAL, "USD, total, as sent; its sign is not reliable for short positions"),
        Column("from_as_of", INSTANT, "As-of of the first snapshot that shows it so (UTC)"),
        Column("last_as_of", INSTANT, "As-of of the last snapshot that shows it so (UTC)"),
        Column("until_as_of", INSTANT, "As-of of the next snapshot, which ends the span (UTC); null: it is so"),
        Column(
            "gap",
            BOOLEAN,
            "Whether nothing was read of a whole session between last_as_of and until_as_of: what the position was in "
            "between is not known",
        ),
        Column("mark", DECIMAL, "USD per share at last_as_of; null without a quote"),
        Column("snapshots", BIGINT, "Snapshots that show it so"),
    ),
    # a span reaches from a change to the snapshot before the next one, or to the newest; its mark is looked up last
    """
    WITH good AS (
        SELECT account_id, trade_date, as_of FROM tradier_snapshots WHERE verdict = 'good'
    ), days AS (
        SELECT account_id, trade_date, min(as_of) AS as_of,
               lag(trade_date) OVER (PARTITION BY account_id ORDER BY trade_date) AS before
        FROM good GROUP BY account_id, trade_date
    ), gaps AS ( -- the first snapshots after a session of which nothing was read
        SELECT account_id, as_of, true AS after_gap
        FROM days SEMI JOIN sessions ON before < sessions.trade_date AND sessions.trade_date < days.trade_date
    ), held AS (
        SELECT account_id, as_of, sum(quantity) AS quantity, sum(cost_basis) AS cost_basis
        FROM positions WHERE positions.symbol = of_symbol GROUP BY account_id, as_of
    ), compared AS (
        SELECT account_id, as_of, quantity, cost_basis, after_gap, row_number() OVER of_account AS n,
               lag(as_of) OVER of_account AS before_as_of, lag(quantity) OVER of_account AS before_quantity,
               lag(cost_basis) OVER of_account AS before_cost
        FROM good LEFT JOIN held USING (account_id, as_of) LEFT JOIN gaps USING (account_id, as_of)
        WINDOW of_account AS (PARTITION BY account_id ORDER BY as_of)
    ), changes AS (
        SELECT account_id, as_of, quantity, cost_basis, after_gap, n, before_as_of
        FROM compared
        WHERE quantity IS DISTINCT FROM before_quantity OR cost_basis IS DISTINCT FROM before_cost OR after_gap
        UNION ALL
        SELECT account_id, NULL, NULL, NULL, NULL, count(*) + 1, max(as_of) FROM good GROUP BY account_id
    ), spans AS (
        SELECT account_id, quantity, cost_basis, as_of AS from_as_of, lead(before_as_of) OVER of_account AS last_as_of,
               lead(as_of) OVER of_account AS until_as_of, lead(n) OVER of_account - n AS snapshots,
               coalesce(lead(after_gap) OVER of_account, false) AS gap
        FROM changes WINDOW of_account AS (PARTITION BY account_id ORDER BY n)
    )
    SELECT spans.account_id, positions.symbol, spans.quantity::DECIMAL(24,8) AS quantity,
           spans.cost_basis::DECIMAL(24,8) AS cost_basis, from_as_of, last_as_of, until_as_of, gap,
           max(mark) AS mark, snapshots
    FROM spans JOIN positions ON positions.account_id = spans.account_id AND positions.as_of = last_as_of
                              AND positions.symbol = of_symbol
    WHERE spans.quantity IS NOT NULL
    GROUP BY spans.account_id, positions.symbol, spans.quantity, spans.cost_basis, from_as_of, last_as_of, until_as_of,
             gap, snapshots
    ORDER BY spans.account_id, from_as_of
    """,
)

MACROS = (POSITIONS_AT, BALANCES_AT, ORDERS_AT, POSITION_HISTORY)


def macro_query(macro: Macro) -> str:
    """CREATE MACRO, or put it in the place of an older one."""
    return f"CREATE OR REPLACE MACRO {macro.name}({', '.join(macro.parameters)}) AS TABLE {macro.query}"


def macro_ddl(macro: Macro) -> str:
    """CREATE MACRO with its comment. DuckDB has no comments on the columns of a macro: its own tells them."""
    columns = "".join(f"\n{column.name}: {column.comment}" for column in macro.columns)
    return f"{macro_query(macro)}; COMMENT ON MACRO TABLE {macro.name} IS {literal(macro.comment + columns)}"
