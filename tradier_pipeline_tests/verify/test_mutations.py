"""No stored value can be wrong unnoticed: every column, every row, and every number of the landed bytes is proven."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tradier_pipeline.core.outcome import Difference
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.staging import StagedWarehouse
from tradier_pipeline_tests.support.bodies import (
    Answers,
    blocking,
    dumps,
    land,
    reland,
    rich,
    store,
    warehouse_in_memory,
    zone_in,
)
from tradier_pipeline_tests.support.sampling import sampled, thinned

# facts of the commit, of the settings and of the calendar, not of what was observed: no landed byte tells them
FREE = {
    *(("tradier_snapshots", "verdict"), ("tradier_snapshots", "verdict_evidence")),  # later snapshots may change them
    *(("tradier_snapshots", "committed_at"), ("tradier_snapshots", "code_version")),
    *(("trade_gate_readings", name) for name in ("max_age_s", "max_open_positions", "session_open", "session_close")),
}
# needs a snapshot before: proven in reconcile/test_stored.py. Needs the ledger as it was then, which is nowhere kept:
# what is stored of it is compared as it is stored, in reconcile/test_reconciled.py
PROVEN = [table for table in schema.TABLES if table not in (schema.CONSERVATION, *schema.RECONCILED)]

COLUMNS = [
    pytest.param(table, column, id=f"{table.name}.{column.name}")
    for table in PROVEN
    for column in table.columns
    if (table.name, column.name) not in FREE
]
TABLES = [pytest.param(table, id=table.name) for table in PROVEN]

ANOTHER = {
    schema.VARCHAR: "concat({0}, 'x')",
    schema.INTEGER: "{0} + 1",
    schema.BIGINT: "{0} + 1",
    schema.BOOLEAN: "NOT {0}",
    schema.DATE: "{0} + 1",
    schema.DECIMAL: "{0} + 0.00000001",
    schema.DOUBLE: "nextafter({0}, 1e9::DOUBLE)",
    schema.INSTANT: "{0} + INTERVAL 1 MICROSECOND",
    schema.WORDS: "{0} || ['x']",
}
SOME = dict.fromkeys((schema.DECIMAL, schema.INTEGER, schema.BIGINT, schema.DOUBLE), "0")
SOME |= {schema.VARCHAR: "''", schema.BOOLEAN: "false"}
SOME |= {schema.DATE: "DATE '2026-01-02'", schema.INSTANT: "TIMESTAMPTZ '2026-01-02 00:00:00Z'"}


class Proven:
    """A stored snapshot that passes every check, to be spoiled."""

    def __init__(self, staged: StagedWarehouse, landed: LandedSnapshot) -> None:
        self.landed = landed
        self.connection = staged.connection
        assert [outcome for outcome in store(staged, landed) if outcome.blocks] == []

    @contextmanager
    def spoiled(self, sql: str) -> Iterator[None]:
        self.connection.execute("BEGIN")
        try:
            self.connection.execute(sql)
            yield
        finally:
            self.connection.execute("ROLLBACK")

    def found(self, landed: LandedSnapshot | None = None) -> dict[str, tuple[Difference, ...]]:
        """What each failed blocking check names."""
        fresh = landed or LandedSnapshot(self.landed.snapshot_id, self.landed.directory)
        return {outcome.check: outcome.differences for outcome in blocking(fresh, self.connection)}

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proven]:
    with warehouse_in_memory() as staged:
        yield Proven(staged, land(zone_in(tmp_path_factory.mktemp("margin")), rich("margin"), clock_skew_s=0.25))


@pytest.fixture(scope="module")
def proven_cash(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proven]:
    """A cash account: some balances exist for these only."""
    with warehouse_in_memory() as staged:
        yield Proven(staged, land(zone_in(tmp_path_factory.mktemp("cash")), rich("cash"), clock_skew_s=0.25))


def names(found: dict[str, tuple[Difference, ...]], *places: object) -> bool:
    text = " ".join(difference.where for differences in found.values() for difference in differences)
    return any(str(place) in text for place in places)


def test_every_column_has_a_value_to_change(proven: Proven, proven_cash: Proven) -> None:
    lacking = set.intersection(*(_without_values(account) for account in (proven, proven_cash)))
    assert lacking == set(), "support/bodies.rich is to have one"


def _without_values(account: Proven) -> set[str]:
    return {
        f"{table.name}.{column.name}"
        for table, column in (case.values for case in COLUMNS)
        if account.rows(f'SELECT count("{column.name}") FROM {table.name}') == [(0,)]
    }


@pytest.mark.parametrize(("table", "column"), thinned(COLUMNS, 9))
def test_one_changed_value_in_any_column_is_found_and_named(
    proven: Proven, proven_cash: Proven, table: schema.Table, column: schema.Column
) -> None:
    accounts = (proven, proven_cash) if table is schema.ACCOUNT_BALANCES else (proven,)
    tried = [_changed(account, table, column) for account in accounts]
    assert any(tried), "neither fixture has a value to change"


def _changed(account: Proven, table: schema.Table, column: schema.Column) -> bool:
    kept = account.rows(f'SELECT rowid, "{column.name}" FROM {table.name} WHERE "{column.name}" IS NOT NULL')
    if kept:
        (rowid, value), *_ = kept
        another = ANOTHER[column.type].format(f'"{column.name}"')
        with account.spoiled(f'UPDATE {table.name} SET "{column.name}" = {another} WHERE rowid = {rowid}'):
            assert names(account.found(), column.name, value, table.name)
    return bool(kept)


@pytest.mark.parametrize(
    ("table", "column"), thinned([column for column in COLUMNS if not column.values[1].required], 5)
)
def test_a_value_that_was_lost_or_invented_is_found_and_named(
    proven: Proven, table: schema.Table, column: schema.Column
) -> None:
    # of the rows that have a value the first, and of those that have none
    rows = f'SELECT min(rowid), "{column.name}" IS NOT NULL FROM {table.name} GROUP BY ALL'
    for rowid, known in proven.rows(rows):
        other = "NULL" if known else SOME[column.type]
        with proven.spoiled(f'UPDATE {table.name} SET "{column.name}" = {other} WHERE rowid = {rowid}'):
            assert names(proven.found(), column.name)


@sampled("step", [1, 4], kept=[1])  # every row, one in four
@pytest.mark.parametrize("table", TABLES)
def test_any_one_removed_row_is_found_and_named(proven: Proven, table: schema.Table, step: int) -> None:
    for (rowid,) in proven.rows(f"SELECT rowid FROM {table.name}")[::step]:
        with proven.spoiled(f"DELETE FROM {table.name} WHERE rowid = {rowid}"):
            assert names(proven.found(), table.name)


@sampled("step", [1, 4], kept=[1])
@pytest.mark.parametrize("table", TABLES)
def test_any_one_row_stored_twice_is_found_and_named(proven: Proven, table: schema.Table, step: int) -> None:
    for (rowid,) in proven.rows(f"SELECT rowid FROM {table.name}")[::step]:
        with proven.spoiled(f"INSERT INTO {table.name} SELECT * FROM {table.name} WHERE rowid = {rowid}"):
            assert names(proven.found(), table.name)


@pytest.mark.parametrize("table", TABLES)
def test_a_row_of_another_account_under_the_snapshots_id_is_found(proven: Proven, table: schema.Table) -> None:
    foreign = f"SELECT * REPLACE ('6YA05708' AS account_id) FROM {table.name} LIMIT 1"
    with proven.spoiled(f"INSERT INTO {table.name} {foreign}"):
        assert names(proven.found(), table.name)


@pytest.mark.parametrize(
    ("table", "changed"),
    [
        ("positions", "99 AS row_no, 'MSFT' AS symbol"),
        ("orders", "99 AS order_id"),
        ("order_legs", "99 AS leg_no"),
        ("quotes", "'MSFT' AS symbol"),
        ("raw_payloads", "99 AS page"),
    ],
)
def test_a_row_the_broker_did_not_list_is_found_and_named(proven: Proven, table: str, changed: str) -> None:
    with proven.spoiled(f"INSERT INTO {table} SELECT * REPLACE ({changed}) FROM {table} LIMIT 1"):
        assert names(proven.found(), "99", "MSFT")


@pytest.mark.parametrize("moment", ["as_of_end - INTERVAL 1 MICROSECOND", "now() + INTERVAL 1 DAY"])
def test_a_commit_before_the_read_or_in_the_future_is_found(proven: Proven, moment: str) -> None:
    with proven.spoiled(f"UPDATE tradier_snapshots SET committed_at = {moment}"):
        assert names(proven.found(), "committed_at")


def test_rows_without_a_code_version_are_found(proven: Proven) -> None:
    with proven.spoiled("UPDATE tradier_snapshots SET code_version = ''"):
        assert names(proven.found(), "code_version")


def test_a_commit_says_when_and_by_which_version_and_that_is_free(proven: Proven) -> None:
    with proven.spoiled("UPDATE tradier_snapshots SET code_version = '9.9', committed_at = as_of_end"):
        assert proven.found() == {}


# --- the other direction: the landed bytes change, the rows stay ------------------------------------------------------

NOT_STORED = {"change", "bidsize", "asksize", "phi", "bid_iv", "equity"}


def numbers(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all numbers of a document."""
    members = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in members:
        if isinstance(value, dict | list):
            yield from numbers(value, (*path, key))
        elif isinstance(value, int | Decimal) and not isinstance(value, bool):
            yield (*path, key)


def changed_numbers(answers: Answers) -> list[Any]:
    """Every number of every body, fields that repeat from row to row once."""
    found: dict[str, Any] = {}
    for resource in ("account", "balances", "positions", "orders", "quotes"):
        for number, page in enumerate(_pages(getattr(answers, resource)), 1):
            for path in numbers(page):
                if resource == "account" and path[2] == 0:
                    continue  # the first account listed is another one
                field = ".".join(step for step in (resource, *path) if isinstance(step, str))
                found.setdefault(field, pytest.param(resource, number, page, path, id=field))
    return list(found.values())


def _pages(document: Any) -> list[Any]:
    return document if isinstance(document, list) else [document]


@pytest.mark.parametrize(("resource", "number", "page", "path"), thinned(changed_numbers(rich()), 4))
def test_one_changed_number_in_the_landed_bytes_is_found(
    resource: str, number: int, page: Any, path: tuple[Any, ...], tmp_path: Path, proven: Proven
) -> None:
    spoiled = copy.deepcopy(page)
    holder = spoiled
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] += Decimal("0.00000001") if isinstance(holder[path[-1]], Decimal) else 1
    found = proven.found(reland(proven.landed, tmp_path, resource, number, dumps(spoiled).encode()))
    assert found.pop("provenance_equals_manifest")
    assert (found == {}) == (path[-1] in NOT_STORED)
