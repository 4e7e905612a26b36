"""The published warehouse beside what was landed: whatever of it is damaged or was changed is named with its place.

Three questions, from bytes to meaning. Can every byte that holds a row be read (DuckDB has a checksum for each block; a
block that nothing uses holds none)? Is every row what the landed bytes lead to (the blocking rules of `verify`)? Do the
tables that follow from others hold what their queries give, and the views what this version defines?

What followed from the ledger of a moment, findings, summaries and results of checks are in no landed byte: of these
the first question alone is asked.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb

from tradier_pipeline.core import progress
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.files import file_sha256
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.landing.activity import LandedActivity, landed_activity
from tradier_pipeline.landing.audit import Walked
from tradier_pipeline.landing.market import MarketExtract, landed_market
from tradier_pipeline.landing.zone import OF_THE_MARKET, Damaged, LandedSnapshot, LandingZone
from tradier_pipeline.verify import refuted
from tradier_pipeline.verify.activity import verify_activity
from tradier_pipeline.verify.evidence import NEARBY
from tradier_pipeline.verify.in_bulk import Decoded
from tradier_pipeline.warehouse import schema, sealed
from tradier_pipeline.warehouse.activity import upsert_activity
from tradier_pipeline.warehouse.chain_heads import noted_heads
from tradier_pipeline.warehouse.damaged import unreadable_tables
from tradier_pipeline.warehouse.derived import DERIVED
from tradier_pipeline.warehouse.equity import ALL_CURVES, CURVES
from tradier_pipeline.warehouse.market import upsert_market
from tradier_pipeline.warehouse.reads import snapshot_ids
from tradier_pipeline.warehouse.sql import literal, transaction
from tradier_pipeline.warehouse.staging import STORAGE_VERSION, attach, create_schema

POSTED = (*schema.ACTIVITY, *schema.MARKET)
WITH_PATHS = (schema.ACTIVITY_EXTRACTS, *schema.MARKET)
AT_ONCE = 60  # snapshots: what is stored of them is held in memory
SHOWN = 3  # differing rows of a table
WORDING = ("query_location", "materialized")
UNORDERED = ("exclude_list", "qualified_exclude_list", "replace_list")


def audit_bytes(connection: duckdb.DuckDBPyConnection, path: Path) -> Iterator[Damaged]:
    """Read every column of every table that lies in the file."""
    for table, error in unreadable_tables(connection):
        progress.working(f"read every byte of {table}")
        if error is not None:
            yield Damaged(f"{path}: {table}", f"{table} in {path} cannot be read: {_first_line(error)}")


def audit_heads(connection: duckdb.DuckDBPyConnection, chains: Sequence[Walked]) -> Iterator[Damaged]:
    """The chains beside where the warehouse has seen them."""
    walked = {chain.name: chain for chain in chains}
    for name, day, head in noted_heads(connection):
        if name not in walked or not walked[name].contains(head):
            what = f"the chain of {name} has no line {head.number} of the hash that it had on {day}"
            yield Damaged(
                f"{schema.CHAIN_HEADS.name}: {name} {day}",
                f"{what}, {head.hash[:16]}...: it was cut off or written anew",
            )


def audit_rows(
    connection: duckdb.DuckDBPyConnection, zone: LandingZone, known: Callable[[Path], bool]
) -> Iterator[Damaged]:
    """Every stored snapshot and extract beside what was landed of it.

    Args:
        known: whether what is landed in a directory is named already: then its rows prove nothing.
    """
    published = snapshot_ids(connection)
    yield from _ownerless(connection)
    if sealed.is_sealed(connection):
        sealed.hot_first(connection)
    decoded, done = Decoded(), 0
    for (account_id, day), of_day in groupby(map(SnapshotId.parse, published), _account_and_day):
        listed = list(of_day)
        near = sealed.set_beside_since(connection, account_id, day - NEARBY)
        with sealed.reaching(connection, near, day + NEARBY):
            for some in (listed[place : place + AT_ONCE] for place in range(0, len(listed), AT_ONCE)):
                progress.working(f"proving {some[0]}", done, len(published))
                yield from _stored_as_landed(some, zone, known, connection, decoded)
                done += len(some)
    yield from _extracts(connection, zone, known)


def _account_and_day(snapshot_id: SnapshotId) -> tuple[str, date]:
    return snapshot_id.account_id, snapshot_id.trade_date


def _stored_as_landed(
    stored: Sequence[SnapshotId],
    zone: LandingZone,
    known: Callable[[Path], bool],
    connection: duckdb.DuckDBPyConnection,
    decoded: Decoded,
) -> Iterator[Damaged]:
    """Some snapshots of one account and day."""
    to_prove: list[LandedSnapshot] = []
    for snapshot_id in stored:
        landed = zone.find(snapshot_id)
        if landed is None:
            yield Damaged(str(snapshot_id), f"{snapshot_id} is stored, and nothing is landed of it")
        elif not known(landed.directory):
            to_prove.append(landed)
    try:
        found = list(refuted(connection, to_prove, decoded))
    except (PipelineError, duckdb.Error):  # of one of them: each alone says of which
        found = []
        for landed in to_prove:
            try:
                found += refuted(connection, [landed], decoded)
            except (PipelineError, duckdb.Error) as error:
                yield Damaged(str(landed.snapshot_id), f"{landed.snapshot_id} cannot be proven: {_first_line(error)}")
    for landed, outcomes in found:
        for outcome in outcomes:
            where = outcome.differences[0].where if outcome.differences else outcome.check
            compared = f"the check {outcome.check}: landed {outcome.broker}, stored {outcome.stored}"
            yield Damaged(
                f"{landed.snapshot_id}: {where}", f"{landed.snapshot_id} is not stored as landed by {compared}"
            )


def _extracts(
    connection: duckdb.DuckDBPyConnection, zone: LandingZone, known: Callable[[Path], bool]
) -> Iterator[Damaged]:
    for extract in landed_activity(zone):
        if known(extract.directory) or not _is_stored(connection, "activity_extracts", extract.path):
            continue
        try:
            outcome = verify_activity(extract, connection)
        except (PipelineError, duckdb.Error) as error:
            yield Damaged(extract.path, f"{extract.path} cannot be proven: {_first_line(error)}")
            continue
        if outcome.blocks:
            first = outcome.differences[0]
            compared = f"landed {first.broker}, stored {first.stored}"
            yield Damaged(extract.path, f"{extract.path} is not stored as landed: {first.where}: {compared}")
    landed = {one.path for one in (*landed_activity(zone), *landed_market(zone))}
    for table in (table.name for table in WITH_PATHS):
        for (path,) in connection.execute(f"SELECT DISTINCT path FROM {table} ORDER BY path").fetchall():  # noqa: S608
            if path not in landed:
                yield Damaged(f"{table}: {path}", f"{table} has rows of {path}, of which nothing is landed")


def _is_stored(connection: duckdb.DuckDBPyConnection, table: str, path: str) -> bool:
    return connection.execute(f"SELECT count(*) FROM {table} WHERE path = ?", [path]).fetchone() != (0,)  # noqa: S608


def _ownerless(connection: duckdb.DuckDBPyConnection) -> Iterator[Damaged]:
    """Rows of a snapshot that is not stored."""
    for table in (table for table in schema.TABLES if table is not schema.TRADIER_SNAPSHOTS):
        query = (
            f"SELECT DISTINCT snapshot_id FROM {table.name} ANTI JOIN tradier_snapshots USING (snapshot_id) ORDER BY 1"  # noqa: S608
        )
        for (snapshot_id,) in connection.execute(query).fetchall():
            yield Damaged(
                f"{table.name}: {snapshot_id}", f"{table.name} has rows of {snapshot_id}, which is not stored"
            )


def audit_posted(
    connection: duckdb.DuckDBPyConnection, zone: LandingZone, known: Callable[[Path], bool]
) -> Iterator[Damaged]:
    """What was posted overnight, prices and dividends: the stored rows beside those of landed extracts, stored anew.

    An account or a symbol with an extract that is named already is not looked at. One that is landed and not stored yet
    is none of these: the next publish stores it.
    """
    progress.working("proving what was posted overnight")
    paths = " UNION ".join(f"SELECT path FROM {table.name}" for table in WITH_PATHS)  # noqa: S608
    stored = {path for (path,) in connection.execute(paths).fetchall()}
    landed: list[LandedActivity | MarketExtract] = [*landed_activity(zone), *landed_market(zone)]
    extracts = [extract for extract in landed if extract.path in stored]
    with duckdb.connect(":memory:") as anew:
        anew.execute("SET TimeZone = 'UTC'")
        for table in POSTED:
            anew.execute(schema.ddl(table))
        unproven = {_owner(one.path) for one in extracts if known(one.directory) or not _store(anew, one)}
        for table in POSTED:
            yield from _rows_that_differ(connection, anew, table, unproven)


def _owner(path: str) -> str:
    """Whose rows depend on each other: the account, or the symbol with its environment."""
    parts = path.split("/")
    return "/".join(parts[1:3]) if parts[0] in OF_THE_MARKET else parts[0]


def _store(anew: duckdb.DuckDBPyConnection, extract: LandedActivity | MarketExtract) -> bool:
    """Store an extract; False if it cannot be read."""
    try:
        with transaction(anew):
            if isinstance(extract, LandedActivity):
                upsert_activity(anew, extract)
            else:
                upsert_market(anew, extract)
    except (PipelineError, duckdb.Error):  # `audit_rows` says so of activity, and `_extracts`
        return False
    return True


def _rows_that_differ(
    connection: duckdb.DuckDBPyConnection,
    anew: duckdb.DuckDBPyConnection,
    table: schema.Table,
    unproven: Collection[str],
) -> Iterator[Damaged]:
    owner = "environment || '/' || replace(symbol, '/', '.')" if table in schema.MARKET else "account_id"
    query = f"SELECT {owner}, {', '.join(table.column_names)} FROM {table.name}"  # noqa: S608
    stored, given = (Counter(map(_hashable, one.execute(query).fetchall())) for one in (connection, anew))
    for what, rows in (
        ("has a row that no landed byte gives", stored - given),
        ("lacks a row that is landed", given - stored),
    ):
        wrong = sorted(str(row[1:5]) for row in rows if row[0] not in unproven)
        for row in wrong[:SHOWN]:
            yield Damaged(table.name, f"{table.name} {what}: {row}")


def _hashable(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(tuple(value) if isinstance(value, list) else value for value in row)


def audit_derived(connection: duckdb.DuckDBPyConnection) -> Iterator[Damaged]:
    """The tables that follow from others beside what their queries give."""
    queries = {derived.table: derived.query for derived in DERIVED}
    with suppress(duckdb.Error):  # then each table says so of its own query
        # made together, as by a publish, they take a third of the time
        connection.execute(f"CREATE OR REPLACE TEMP TABLE all_curves AS {ALL_CURVES}")
        queries |= {curve.table: f"FROM all_curves WHERE of_table = {literal(curve.table.name)}" for curve in CURVES}
    for table, query in queries.items():
        progress.working(f"proving {table.name}")
        try:
            differing = _differing(connection, table, query)
        except duckdb.Error as error:
            yield Damaged(table.name, f"{table.name} cannot be proven: {_first_line(error)}")
            continue
        for what, *row in differing:
            yield Damaged(table.name, f"{table.name} {what}: {', '.join(map(str, row[:4]))}")


def _differing(connection: duckdb.DuckDBPyConnection, table: schema.Table, query: str) -> list[tuple[Any, ...]]:
    """Some rows that only the table has, or only its query gives, after words that say which."""
    columns = ", ".join(f'"{column}"' for column in table.column_names)
    return connection.execute(
        f"""
        WITH stored AS (SELECT {columns} FROM {table.name}), given AS MATERIALIZED (SELECT {columns} FROM ({query}))
        (SELECT 'has a row that its query does not give', * FROM (FROM stored EXCEPT ALL FROM given) LIMIT {SHOWN})
        UNION ALL
        (SELECT 'lacks a row that its query gives', * FROM (FROM given EXCEPT ALL FROM stored) LIMIT {SHOWN})
        """  # noqa: S608
    ).fetchall()


def audit_definitions(connection: duckdb.DuckDBPyConnection) -> Iterator[Damaged]:
    """The views and macros beside those of this version. Those over sealed months have their files' names in them."""
    wanted = _of_this_version()
    stored = _definitions(connection)
    moved = {one.name for one in (*sealed.TABLES, *sealed.NOW)}
    for name in sorted(wanted.keys() | stored.keys()):
        if not _mean_the_same(wanted.get(name), stored.get(name)) and not (
            sealed.is_sealed(connection) and name in moved
        ):
            how = (
                "is not of this version"
                if name not in wanted
                else "is missing"
                if name not in stored
                else "was changed"
            )
            yield Damaged(name, f"the definition of {name} {how}")


def _mean_the_same(one: str | None, other: str | None) -> bool:
    """Whether two definitions are the same query once they are parsed."""
    if one is None or other is None or one == other:
        return one == other
    return _parsed(one) == _parsed(other)


def _parsed(sql: str) -> object:
    """The syntax tree by DuckDB's own parser, after the words of CREATE VIEW; the text of what is no query.

    What DuckDB adds, leaves out or puts in another order when it stores a view again means nothing and is left out.
    """
    head, _, query = sql.partition(" AS ") if sql.startswith("CREATE VIEW") else ("", "", sql)
    with duckdb.connect(":memory:") as parser:
        (tree,) = parser.execute("SELECT json_serialize_sql(?)", [query.rstrip().removesuffix(";")]).fetchone() or ("",)
    document = json.loads(tree)
    return (head, query) if document["error"] else (head, _without_wording(document))


def _without_wording(tree: Any) -> Any:
    """Without places in the text and hints how to compute; sets, which the columns after EXCLUDE are, in one order."""
    if isinstance(tree, dict):
        kept = {key: _without_wording(value) for key, value in tree.items() if key not in WORDING}
        return {key: sorted(value, key=json.dumps) if key in UNORDERED else value for key, value in kept.items()}
    return [_without_wording(one) for one in tree] if isinstance(tree, list) else tree


@cache
def _of_this_version() -> Mapping[str, str]:
    """By an empty warehouse that was written and opened again: DuckDB words what it has stored in its own way."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "empty.duckdb"
        with duckdb.connect(":memory:") as connection:
            attach(connection, path, f"STORAGE_VERSION '{STORAGE_VERSION}'")
            create_schema(connection)
        with duckdb.connect(":memory:") as connection:
            attach(connection, path, "READ_ONLY")
            return _definitions(connection)


def _definitions(connection: duckdb.DuckDBPyConnection) -> Mapping[str, str]:
    rows = connection.execute(
        """
        SELECT view_name, sql FROM duckdb_views()
        WHERE database_name = 'tradier' AND schema_name = 'main' AND NOT internal
        UNION ALL
        SELECT function_name, string_agg(macro_definition, ' ' ORDER BY macro_definition) FROM duckdb_functions()
        WHERE database_name = 'tradier' AND schema_name = 'main' AND NOT internal GROUP BY ALL
        """
    ).fetchall()
    return dict(rows)


def audit_sealed(connection: duckdb.DuckDBPyConnection, chain: Walked, root: Path) -> Iterator[Damaged]:
    """The files of the sealed months: as they were announced, and with the rows that were moved into them."""
    files = sealed.sealed_files(connection) if sealed.is_sealed(connection) else []
    for done, file in enumerate(files):
        path = root / file.path
        progress.working(f"auditing {file.path}", done, len(files))
        try:
            sha256 = file_sha256(path)
        except OSError as error:
            yield Damaged(str(path), f"{path} is a sealed month and cannot be read: {error.strerror}")
            continue
        if chain.links and chain.current.get(file.path) != sha256:
            yield Damaged(str(path), f"{path} is not what was sealed (sha256 differs)")
    referred = {file.path for file in files}
    for path in sorted(root.glob("*/*.parquet")):
        name = path.relative_to(root).as_posix()
        with suppress(OSError):
            if chain.links and name not in referred and chain.current.get(name) != file_sha256(path):
                yield Damaged(str(path), f"{path} was not sealed by this program")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300]
