"""docs/tables.md, written from a new warehouse: every table, view and macro with its columns. `make docs` writes it."""

from __future__ import annotations

from pathlib import Path

import duckdb

from tradier_pipeline_tests.support.bodies import warehouse_in_memory

PAGE = Path(__file__).parents[2] / "docs" / "tables.md"

_HEAD = """# Tables, views and macros

Made from the schema by `make docs`; a test fails if it is not current. [The data](data.md) says what is for what.
"""
_RELATIONS = """
    SELECT name, kind, comment FROM (
        SELECT table_name AS name, 'table' AS kind, comment FROM duckdb_tables() WHERE NOT internal
        UNION ALL SELECT view_name, 'view', comment FROM duckdb_views() WHERE NOT internal
    ) ORDER BY kind, name
"""
_COLUMNS = """
    SELECT column_name, data_type, comment FROM duckdb_columns() WHERE NOT internal AND table_name = ?
    ORDER BY column_index
"""
_MACROS = """
    SELECT function_name, parameters, comment FROM duckdb_functions()
    WHERE NOT internal AND function_type = 'table_macro' ORDER BY function_name
"""


def reference(connection: duckdb.DuckDBPyConnection) -> str:
    """The page, in Markdown."""
    parts = [_HEAD]
    for name, kind, comment in connection.execute(_RELATIONS).fetchall():
        parts.append(f"\n## {name}\n\nA {kind}. {_sentence(comment)}\n\n| column | type | |\n|---|---|---|\n")
        parts += [
            f"| `{column}` | {_type(type_)} | {_cell(what)} |\n"
            for column, type_, what in connection.execute(_COLUMNS, [name]).fetchall()
        ]
    for name, parameters, comment in connection.execute(_MACROS).fetchall():
        what, *columns = comment.splitlines()
        parts.append(f"\n## {name}({', '.join(parameters)})\n\nA macro. {_sentence(what)}\n\n| column | |\n|---|---|\n")
        parts += [f"| `{column}` | {_cell(text)} |\n" for column, _, text in (line.partition(": ") for line in columns)]
    return "".join(parts)


def _sentence(comment: str | None) -> str:
    return f"{_cell(comment).rstrip('.')}." if comment else ""


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _type(name: str) -> str:
    return "a list of rows" if name.startswith("STRUCT") else _cell(name)


def write() -> None:
    with warehouse_in_memory() as warehouse:
        PAGE.write_text(reference(warehouse.connection), encoding="utf-8")


if __name__ == "__main__":
    write()
