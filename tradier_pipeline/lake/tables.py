"""What the lake has: every table as versions that are only ever added, and on top the names that a home has.

What is shipped is a unit: a snapshot with its rows in all tables, or one row of a table whose rows change. A unit that
has changed is added anew, and the version before it is listed in `superseded`, which stays short. The tables that a
home keeps so that no reader computes them follow from the others; here they are views.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import duckdb

from tradier_pipeline.lake.connection import INLINED_ROWS, LakeError
from tradier_pipeline.warehouse import derived, macros, schema, views
from tradier_pipeline.warehouse.schema import (
    BIGINT,
    BOOLEAN,
    DATE,
    DECIMAL,
    INSTANT,
    INTEGER,
    VARCHAR,
    Column,
    Table,
    View,
)
from tradier_pipeline.warehouse.sql import bind, literal

VERSIONS: Final = "versions"  # the schema of what is added; `main` has what holds
SNAPSHOT: Final = "snapshot"


def _required(name: str, type_: str, comment: str) -> Column:
    return Column(name, type_, comment, required=True)


_SHIPMENT: Final = _required("shipment", BIGINT, "The state of the lake that brought it: DuckLake's snapshot id")
_KIND: Final = _required("kind", VARCHAR, "What it is a unit of: snapshot, or a table")
_UNIT: Final = _required("unit", VARCHAR, "Which one: the id of the snapshot, or the key of the row")

LAKES: Final = Table(
    f"{VERSIONS}.lakes",
    "One row per version of the tables that the lake has had, the newest is that of now.",
    (
        _required("lake_id", VARCHAR, "What tells this lake from another one in its place"),
        _required("schema_version", INTEGER, "Of the tables, as in a home"),
        _required("since", INSTANT, "UTC"),
    ),
)
SHIPMENTS: Final = Table(
    f"{VERSIONS}.shipments",
    "One row per commit to the lake.",
    (
        _SHIPMENT,
        _required("home", VARCHAR, "The home that it is from"),
        _required("machine", VARCHAR, "The machine that it is from"),
        _required("shipped_at", INSTANT, "UTC"),
        _required("snapshots", INTEGER, "Snapshots that are new, or have changed"),
        _required("row_count", BIGINT, "Rows that it brought, in all tables"),
        Column("newest_as_of", INSTANT, "As-of of the newest snapshot of the home (UTC)"),
    ),
)
UNITS: Final = Table(
    f"{VERSIONS}.units",
    "One row per unit and home each time the home had something to say of it.",
    (
        _SHIPMENT,
        _required("home", VARCHAR, "The home"),
        _KIND,
        _UNIT,
        _required("account_id", VARCHAR, "Account number; empty: it is of no account"),
        _required("trade_date", DATE, "The date that it is of"),
        _required("marker", VARCHAR, "What tells that a snapshot may have changed"),
        _required("fingerprint", VARCHAR, "Counts and hashes of its rows"),
        _required(
            "action",
            VARCHAR,
            "stored; same: the lake had these rows; dropped: gone from the home; left: gone, but another home has it",
        ),
    ),
)
SUPERSEDED: Final = Table(
    f"{VERSIONS}.superseded",
    "One row per version of a unit that holds no more.",
    (_KIND, _UNIT, _SHIPMENT, _required("by_shipment", BIGINT, "The shipment that ended it")),
)
MAINTAINED: Final = Table(
    f"{VERSIONS}.maintained",
    "One row per time that the lake was maintained.",
    (
        _required("maintained_at", INSTANT, "UTC"),
        _required("machine", VARCHAR, "The machine that did"),
        _required("flushed_rows", BIGINT, "Rows that left the catalog for files"),
        _required("merged_files", BIGINT, "Small files that became larger ones"),
        _required("is_whole", BOOLEAN, "Whether files were merged and cleaned, too, as every night"),
    ),
)
COMMENTS: Final = Table(
    f"{VERSIONS}.comments",
    "One row per table, view, macro and column of them: DuckLake itself has none on columns of views, nor on macros.",
    (
        _required("schema_version", INTEGER, "Of the tables, as in a home"),
        _required("name", VARCHAR, "The table, view or macro"),
        _required("column_name", VARCHAR, "The column; empty: the comment is on the whole"),
        _required("comment", VARCHAR, "What it is, with the unit"),
    ),
)
BOOKS: Final = (MAINTAINED, COMMENTS, LAKES, SHIPMENTS, UNITS, SUPERSEDED)


@dataclass(frozen=True, slots=True)
class Kind:
    """A table whose rows change, each a unit.

    Attributes:
        unit, account, day: SQL expressions of its columns: the key, the account number and the date.
    """

    table: Table
    unit: str
    account: str = "account_id"
    day: str = "trade_date"

    @property
    def name(self) -> str:
        return self.table.name


def _key(*names: str) -> str:
    return f"concat_ws('|', {', '.join(names)})"


KINDS: Final = (
    Kind(schema.MISSED_SNAPSHOTS, "snapshot_id"),
    Kind(schema.CHECK_RESULTS, "snapshot_id"),
    Kind(schema.FINDINGS, _key("finding_id", "epoch_us(first_seen)"), day="first_seen::DATE"),
    Kind(schema.CHAIN_HEADS, _key("chain", "trade_date"), account="''"),
    Kind(schema.SESSIONS, "trade_date::VARCHAR", account="''"),
    Kind(schema.ACTIVITY_EXTRACTS, _key("account_id", "resource", "since", "until", "epoch_us(read_at)"), day="until"),
    Kind(schema.ACCOUNT_ACTIVITY, _key("account_id", "trade_date", "content_key", "ordinal")),
    Kind(schema.CLOSED_LOTS, _key("account_id", "close_date", "content_key", "ordinal"), day="close_date"),
    Kind(schema.BROKER_DAILY_BALANCES, _key("account_id", "trade_date", "content_key", "ordinal")),
    Kind(schema.STATED_FLOWS, _key("account_id", "flow_id")),
    Kind(schema.DAILY_PRICES, _key("environment", "symbol", "trade_date"), account="''"),
    Kind(schema.DIVIDENDS, _key("environment", "symbol", "ex_date", "ordinal"), account="''", day="ex_date"),
    Kind(schema.DAILY_SUMMARIES, _key("account_id", "trade_date", "revision")),
)

STORED: Final = (*((table, SNAPSHOT) for table in schema.TABLES), *((kind.table, kind.name) for kind in KINDS))
"""Every table of a home whose rows are in the lake, and the kind of its units."""


def is_nested(column: Column) -> bool:
    """Whether a column is a list, a struct or a map. The catalog gives those back wrongly, so they travel as JSON."""
    return column.type.endswith("]") or column.type.startswith(("STRUCT", "MAP"))


def encoded(column: Column) -> str:
    """A column of a home as the lake stores it: decimals and instants within JSON are text, so they stay exact."""
    if not is_nested(column):
        return f'"{column.name}"'
    textual = column.type
    for type_ in (DECIMAL, "TIMESTAMP WITH TIME ZONE", INSTANT):
        textual = textual.replace(type_, VARCHAR)
    return f'CASE WHEN "{column.name}" IS NOT NULL THEN to_json("{column.name}"::{textual})::VARCHAR END'


def decoded(column: Column, qualifier: str = "") -> str:
    """A column of the lake as a home has it."""
    name = f'{qualifier}"{column.name}"'
    return f"CAST({name}::JSON AS {column.type})" if is_nested(column) else name


def hashed(table: Table, *, of_lake: bool) -> str:
    """The hash of a row. When a snapshot was written is no part of it: a rebuild writes it again."""
    columns = (column for column in table.columns if column.name != "committed_at")
    return (
        f"hash({', '.join(decoded(column) if of_lake else f'{chr(34)}{column.name}{chr(34)}' for column in columns)})"
    )


def stored_table(table: Table) -> Table:
    """The versions of a table."""
    columns = tuple(
        Column(column.name, VARCHAR if is_nested(column) else column.type, column.comment, column.required)
        for column in table.columns
    )
    return Table(f"{VERSIONS}.{table.name}", table.comment, (*columns, _UNIT, _SHIPMENT))


def holding(table: Table, kind: str) -> str:
    """The query of the rows that hold now. Its columns are qualified: a macro's parameter may have the name of one."""
    columns = ", ".join(f'{decoded(column, "stored.")} AS "{column.name}"' for column in table.columns)
    ended = f"(SELECT unit, shipment FROM {SUPERSEDED.name} WHERE kind = {literal(kind)})"  # noqa: S608
    return f"SELECT {columns} FROM {VERSIONS}.{table.name} AS stored ANTI JOIN {ended} USING (unit, shipment)"  # noqa: S608


def _shown() -> Iterator[tuple[Table | View, str]]:
    """What each view shows, and its query."""
    for table, kind in STORED:
        yield table, holding(table, kind)
    for one in derived.DERIVED:
        yield one.table, one.query
    for view in views.VIEWS:
        yield view, view.query


def _comments() -> Iterator[tuple[str, str, str]]:
    """Name, column and comment of all that a reader sees; of the whole the column is empty."""
    for shown in (*(shown for shown, _ in _shown()), *macros.MACROS):
        yield shown.name, "", shown.comment
        for column in shown.columns:
            yield shown.name, column.name, column.comment


def create(connection: duckdb.DuckDBPyConnection, lake: str, lake_id: str) -> None:
    """Bring the lake to this version of the tables, in the caller's transaction: it is the connection's database.

    Args:
        lake_id: of one that is new.

    Raises:
        LakeError: it is of a later version.
    """
    version = version_of(connection, lake)
    if version is not None and version > schema.SCHEMA_VERSION:
        raise LakeError(
            f"the lake has schema version {version}, and this tradier-pipeline knows {schema.SCHEMA_VERSION}",
            "Upgrade tradier-pipeline on this machine; until then what it publishes stays here.",
        )
    if version == schema.SCHEMA_VERSION:
        return
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {VERSIONS}")
    found = dict(
        connection.execute(
            "SELECT table_name, list(column_name) FROM duckdb_columns() "  # noqa: S608
            f"WHERE database_name = {literal(lake)} AND schema_name = '{VERSIONS}' GROUP BY ALL"
        ).fetchall()
    )
    for table in (*BOOKS, *(stored_table(table) for table, _ in STORED)):
        older = found.get(table.name.partition(".")[2], table.column_names)
        for column in table.columns:
            if column.name not in older:
                connection.execute(f'ALTER TABLE {table.name} ADD COLUMN "{column.name}" {column.type}')
        connection.execute(schema.ddl(table))
    _show(connection)
    connection.execute(f"CREATE OR REPLACE MACRO main.schema_version() AS {schema.SCHEMA_VERSION}")
    known = f"coalesce((SELECT max(lake_id) FROM {LAKES.name}), {literal(lake_id)})"  # noqa: S608
    connection.execute(f"INSERT INTO {LAKES.name} SELECT {known}, {schema.SCHEMA_VERSION}, now()")


def version_of(connection: duckdb.DuckDBPyConnection, lake: str) -> int | None:
    """The version of the tables of the lake; None: it has none yet."""
    query = f"SELECT count(*) FROM duckdb_tables() WHERE database_name = {literal(lake)} AND table_name = 'lakes'"  # noqa: S608
    if connection.execute(query).fetchone() == (0,):
        return None
    (version,) = connection.execute(f"SELECT max(schema_version) FROM {lake}.{LAKES.name}").fetchone() or (None,)  # noqa: S608
    return int(version) if version is not None else None


def _show(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the views and macros anew. Some read others that are listed later, so what lacks one waits for it."""
    pending = list(_shown())
    while pending:
        waiting = []
        for shown, query in pending:
            try:
                connection.execute(f"CREATE OR REPLACE VIEW {shown.name} AS {query}")
            except duckdb.CatalogException:
                waiting.append((shown, query))
                continue
            connection.execute(f"COMMENT ON VIEW {shown.name} IS {literal(shown.comment)}")
        if len(waiting) == len(pending):
            connection.execute(f"CREATE OR REPLACE VIEW {waiting[0][0].name} AS {waiting[0][1]}")
        pending = waiting
    for macro in macros.MACROS:
        connection.execute(macros.macro_query(macro))
    rows = [bind("(?, ?, ?, ?)", schema.SCHEMA_VERSION, *row) for row in _comments()]
    for start in range(0, len(rows), INLINED_ROWS - 1):  # a new lake has no file
        values = ", ".join(rows[start : start + INLINED_ROWS - 1])
        connection.execute(f"INSERT INTO {COMMENTS.name} VALUES {values}")  # noqa: S608
