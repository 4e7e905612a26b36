"""The check of what the broker tells over night: what counts in the warehouse is what the newest read of a date has."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import duckdb

from tradier_pipeline.core.check import Check, differing
from tradier_pipeline.core.outcome import Outcome, RuleResult, Severity
from tradier_pipeline.landing.activity import LandedActivity, Resource
from tradier_pipeline.verify.evidence import Row, storable
from tradier_pipeline.warehouse.sql import bind

ACTIVITY_CHECK = "activity_equals_landed"
ACTIVITY_CLAIM = (
    "On every date whose newest read this is, the rows that count are those of the landed bodies: as many, and their "
    "amounts have the same sum."
)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the rows of a resource lie in a body and in the warehouse; `day` and `amount` are both sides' columns."""

    keys: tuple[str, ...]
    day: tuple[str, str]
    amount: tuple[str, str]
    table: str


_PLACES: Mapping[Resource, _Place] = {
    "history": _Place(("history", "event"), ("date", "trade_date"), ("amount", "amount"), "account_activity"),
    "gainloss": _Place(
        ("gainloss", "closed_position"), ("close_date", "close_date"), ("gain_loss", "gain_loss"), "closed_lots"
    ),
    "historical_balances": _Place(
        ("balances",), ("date", "trade_date"), ("value", "value"), "broker_daily_balances"
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ActivityRows:
    """Of each date whose newest read an extract is, by resource: how many rows there are, and what they add up to."""

    reported: Mapping[tuple[Any, ...], Row]
    stored: Mapping[tuple[Any, ...], Row]


def _activity_equals_landed(rows: ActivityRows) -> RuleResult:
    return RuleResult(_in_words(rows.reported), _in_words(rows.stored), differing("", rows.reported, rows.stored))


_CHECK = Check(None, ACTIVITY_CHECK, Severity.FATAL, ACTIVITY_CLAIM, _activity_equals_landed)


def verify_activity(landed: LandedActivity, connection: duckdb.DuckDBPyConnection) -> Outcome:
    """Compare the landed bodies, decoded anew without the models, with what is stored of their dates.

    Raises:
        LandingError: a landed file is missing or was changed.
    """
    return _CHECK.run(_activity_rows(landed, connection))


def _activity_rows(landed: LandedActivity, connection: duckdb.DuckDBPyConnection) -> ActivityRows:
    reported: dict[tuple[Any, ...], Row] = {}
    stored: dict[tuple[Any, ...], Row] = {}
    for resource in landed.manifest.resources:
        days = _newest_read_here(landed, resource, connection)
        reported |= {(resource, day): row for day, row in _reported_rows(landed, resource).items() if day in days}
        stored |= {(resource, day): row for day, row in _stored(landed, resource, connection).items() if day in days}
        reported[resource, "extracts"] = {"reads": 1}
        stored[resource, "extracts"] = {"reads": _reads(landed, resource, connection)}
    return ActivityRows(reported, stored)


def _reads(landed: LandedActivity, resource: Resource, connection: duckdb.DuckDBPyConnection) -> int:
    """How often the extract is stored as read: once."""
    query = "SELECT count(*) FROM activity_extracts WHERE path = ? AND resource = ?"
    found = connection.execute(bind(query, landed.path, resource)).fetchone()
    return int(found[0]) if found else 0


def _newest_read_here(landed: LandedActivity, resource: Resource, connection: duckdb.DuckDBPyConnection) -> set[date]:
    """The dates that the extract speaks of and no later one does."""
    query = """
        WITH reads AS (
            SELECT unnest(coalesce(dates, generate_series(since, until, INTERVAL 1 DAY)::DATE[])) AS day, read_at, path
            FROM activity_extracts WHERE account_id = ? AND resource = ?
        )
        SELECT day FROM reads GROUP BY day HAVING max_by(path, read_at) = ?
    """
    found = connection.execute(bind(query, landed.manifest.account_id, resource, landed.path))
    return {day for (day,) in found.fetchall()}


def _reported_rows(landed: LandedActivity, resource: Resource) -> dict[date, Row]:
    place = _PLACES[resource]
    days: dict[date, Row] = {}
    for body in landed.bodies(resource):
        for row in _rows(json.loads(body, parse_float=Decimal), place.keys):
            day = datetime.fromisoformat(row[place.day[0]]).date()
            total = days.setdefault(day, {"rows": 0, "sum": Decimal(0)})
            total["rows"] += 1
            total["sum"] += storable(row[place.amount[0]])
    return days


def _rows(document: Any, keys: tuple[str, ...]) -> Iterator[Row]:
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    if isinstance(document, dict) and document:
        yield document
    elif isinstance(document, list):
        yield from document


def _stored(landed: LandedActivity, resource: Resource, connection: duckdb.DuckDBPyConnection) -> dict[date, Row]:
    place = _PLACES[resource]
    query = f"""
        SELECT {place.day[1]}, count(*), sum({place.amount[1]}) FROM {place.table}
        WHERE account_id = ? AND {place.day[1]} BETWEEN ? AND ? AND retracted_at IS NULL GROUP BY ALL
    """  # noqa: S608
    manifest = landed.manifest
    found = connection.execute(bind(query, manifest.account_id, manifest.since, manifest.until))
    return {day: {"rows": rows, "sum": total} for day, rows, total in found.fetchall()}


def _in_words(side: Mapping[tuple[Any, ...], Row]) -> str:
    rows = [row["rows"] for row in side.values() if "rows" in row]
    return f"{sum(rows)} rows on {len(rows)} dates"
