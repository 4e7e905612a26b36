"""When doubt begins and ends is found among the few snapshots that are kept of each date, whatever the others are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradier_pipeline import clock
from tradier_pipeline.warehouse import derived, schema
from tradier_pipeline.warehouse.staging import create_schema, insert

BEGIN = datetime(2025, 11, 20, 15, tzinfo=UTC)
EVIDENCE = (
    None,
    "positions behind fills",
    "balances behind fills",
    "positions behind balances; balances behind fills",
    "torn",
)
# a minute later, or on another date
SNAPSHOTS = st.lists(st.tuples(st.sampled_from(EVIDENCE), st.booleans(), st.booleans()), max_size=14)


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:") as opened:
        opened.execute("ATTACH ':memory:' AS tradier; USE tradier; SET TimeZone = 'UTC'")
        create_schema(opened)
        yield opened


def headers(account_id: str, snapshots: Sequence[tuple[str | None, bool, bool]]) -> Iterator[dict[str, object]]:
    as_of = BEGIN
    for evidence, is_confirmed, next_date in snapshots:
        as_of += timedelta(days=1) if next_date else timedelta(minutes=1)
        yield {
            "snapshot_id": f"{account_id}@{clock.iso(as_of)}",
            "account_id": account_id,
            **dict.fromkeys(("as_of", "as_of_end", "requested_at", "committed_at"), as_of),
            "trade_date": clock.trade_date(as_of),
            **dict.fromkeys(("environment", "trigger", "code_version"), ""),
            **dict.fromkeys(("positions_count", "orders_count"), 0),
            "verdict": "doubtful" if evidence and not is_confirmed else "good",
            "verdict_evidence": evidence,
        }


def spans(rows: Sequence[dict[str, object]], mark: str) -> list[tuple[object, object, int]]:
    """First, end and number of the rows in a row whose evidence has the mark."""
    found: list[tuple[object, object, int]] = []
    since, count = None, 0
    for row in [*rows, None]:
        if row is not None and mark in str(row["verdict_evidence"] or "") and row["verdict_evidence"] is not None:
            since, count = since or row["as_of"], count + 1
        elif since:
            found.append((since, row and row["as_of"], count))
            since, count = None, 0
    return found


@given(one=SNAPSHOTS, other=SNAPSHOTS)
def test_a_span_lasts_from_its_first_snapshot_to_the_next_one_without_it(
    connection: duckdb.DuckDBPyConnection,
    one: list[tuple[str | None, bool, bool]],
    other: list[tuple[str | None, bool, bool]],
) -> None:
    accounts = {name: list(headers(name, snapshots)) for name, snapshots in (("VA1", one), ("VA2", other))}
    connection.execute("DELETE FROM tradier_snapshots")
    insert(connection, schema.TRADIER_SNAPSHOTS, [row for rows in accounts.values() for row in rows])
    derived.refresh(connection)
    for account_id, rows in accounts.items():
        doubts, positions, balances = (
            connection.execute(
                f"SELECT since, until, snapshots FROM {view} WHERE account_id = '{account_id}' {which} ORDER BY since"
            ).fetchall()
            for view, which in (
                ("doubtful_spans", ""),
                ("lags_behind_fills", "AND resource = 'positions'"),
                ("lags_behind_fills", "AND resource = 'balances'"),
            )
        )
        assert doubts == spans(rows, "")
        assert positions == spans(rows, "positions behind ")
        assert balances == spans(rows, "balances behind ")
