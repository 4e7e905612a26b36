"""Which tables and views there are and what their columns mean: the comments of the schema."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import duckdb

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.warehouse.sql import bind

TABLES_QUERY = """
    SELECT name, kind, comment AS one_row_is FROM (
        SELECT table_name AS name, 'table' AS kind, comment FROM duckdb_tables()
        WHERE database_name = 'tradier' AND schema_name = 'main'
        UNION ALL
        SELECT view_name, 'view', comment FROM duckdb_views() WHERE database_name = 'tradier' AND NOT internal
    ) ORDER BY kind DESC, name
"""

TABLES_IN_TEXT = f"""
    SELECT name, regexp_replace(split_part(split_part(one_row_is, '. ', 1), ': ', 1), '^One row per ', 'a row per ')
           AS what
    FROM ({TABLES_QUERY}) ORDER BY name
"""  # noqa: S608


def columns_query(table: str, *, of_lake: bool) -> str:
    """The columns of a table or view, in their order, with types and comments.

    Args:
        of_lake: there all are views, and a table has the comments on their columns.
    """
    comment = "shown.comment"
    if of_lake:
        comment = """(
            SELECT max_by(comment, schema_version) FROM versions.comments
            WHERE name = shown.table_name AND column_name = shown.column_name
        )"""
    return bind(
        f"""
        SELECT column_name AS column, data_type AS type, {comment} AS meaning FROM duckdb_columns() AS shown
        WHERE database_name = 'tradier' AND schema_name = 'main' AND table_name = ? ORDER BY column_index
        """,  # noqa: S608
        table,
    )


def comment_of(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    """What one row of a table or view is.

    Raises:
        PipelineError: there is none of that name; the remedy names one that is like it.
    """
    rows: list[tuple[Any, ...]] = connection.execute(TABLES_QUERY).fetchall()
    found = {name: comment for name, _, comment in rows}
    if table in found:
        return found[table] or ""
    like = get_close_matches(table.lower(), found, 1)
    known = "List them: `tradier-pipeline tables`."
    raise PipelineError(f"there is no table {table[:80]}", f"Did you mean {like[0]}? {known}" if like else known)
