"""Transactions, and values in SQL text without DuckDB's parameters.

The first bound parameter makes DuckDB's Python client import pandas: 0.9 s and 90 MB of a run that takes 3 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime
from typing import Any

import duckdb


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All that is written inside, or nothing: whatever is raised takes it back."""
    connection.execute("BEGIN")
    try:
        yield
    except BaseException:
        with suppress(duckdb.Error):  # the reason is the first error
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def bind(sql: str, *values: str | int | date | datetime | None) -> str:
    """The statement with every `?` replaced by a literal, in order. The statement's own text must have no other `?`."""
    parts = sql.split("?")
    if len(parts) != len(values) + 1:
        raise ValueError(f"{len(parts) - 1} places for {len(values)} values")
    return parts[0] + "".join(literal(value) + part for value, part in zip(values, parts[1:], strict=True))


def literal(value: str | int | date | datetime | None) -> str:
    """A value as a SQL literal. Text has no escapes but the doubled quote."""
    match value:
        case None:
            return "NULL"
        case str():
            return "'" + value.replace("'", "''") + "'"
        case int():
            return str(int(value))
        case datetime():
            return f"TIMESTAMPTZ '{value.isoformat()}'"
        case date():
            return f"DATE '{value.isoformat()}'"
    raise ValueError(f"{value!r} is neither text nor a number or a date")


def listed(values: Iterable[str | int | date]) -> str:
    """What follows IN, in parentheses; of no values it holds nothing."""
    return ", ".join(map(literal, values)) or "NULL"


def rows_of(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    """Rows of a query of ours, by column name."""
    cursor = connection.execute(sql)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def where(
    owner: str | None,
    since: date | None = None,
    until: date | None = None,
    on: str = "trade_date",
    of: str = "account_id",
) -> str:
    """The WHERE of an account's rows from one date to another, both included; None sets no limit.

    Args:
        on, of: the columns of the date and of the account, or of whatever else owns a row.
    """
    limits = {f"{of} =": owner, f"{on} >=": since, f"{on} <=": until}
    conditions = [f"{left} {literal(right)}" for left, right in limits.items() if right is not None]
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""
