"""What the broker tells over night, from landed bodies into the warehouse.

The broker gives its rows no id, and equal rows occur: a row is known by its date, its content, and its number among
its equals of the date. What is stored of it follows from the set of reads alone, in whatever order they come: when it
was read first and last, and the first read of its date after that, which no longer had it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import duckdb

from tradier_pipeline.broker.decode import parse, rows_of
from tradier_pipeline.broker.models import BrokerModel, ClosedPosition, DailyBalance, HistoryEvent
from tradier_pipeline.broker.symbols import classify
from tradier_pipeline.landing.activity import WINDOW, LandedActivity, Resource
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.sql import bind, literal
from tradier_pipeline.warehouse.staging import insert
from tradier_pipeline.warehouse.typed import Row

SATURDAY = 5
NEIGHBOURS = 3  # weekdays on either side that must have a value before a value that is not there means something


@dataclass(frozen=True, slots=True)
class Upserted:
    """What an extract brought of one resource, in rows of its table.

    Attributes:
        rows: of the extract, those outside its dates left out.
        new: not read before.
        retracted: no longer there since this extract.
        covered_since: the first date that it covers.
        first, last: the dates of its rows; None without rows.
    """

    rows: int
    new: int
    retracted: int
    covered_since: date
    first: date | None
    last: date | None

    @property
    def known(self) -> int:
        """Rows that had been read before."""
        return self.rows - self.new


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the rows of a resource go: their model, table and date column, and the path of the list in a body.

    `name` is that of the view of what counts now.
    """

    table: schema.Table
    date_column: str
    path: str
    model: type[BrokerModel]
    columns: Callable[[Any], Row]

    @property
    def name(self) -> str:
        return self.table.name.removesuffix(schema.VERSIONS)


def _event(event: HistoryEvent) -> Row:
    return {
        "trade_date": event.date,
        "option_event": event.option_type,
        "trade_type": event.trade_type and event.trade_type.lower(),
        **event.model_dump(include={"type", "amount", "description", "symbol", "quantity", "price", "commission"}),
    }


def _lot(lot: ClosedPosition) -> Row:
    classified = classify(lot.symbol)
    underlying = classified.option.underlying if classified.option else None
    return {
        "underlying": lot.symbol if classified.asset_class == "equity" else underlying,
        "term_days": lot.term,
        **lot.model_dump(exclude={"term"}),
    }


def _daily(balance: DailyBalance) -> Row:
    return {"trade_date": balance.date, "value": balance.value}


DESTINATIONS: Mapping[Resource, Destination] = {
    "history": Destination(schema.ACCOUNT_ACTIVITY, "trade_date", "history.event", HistoryEvent, _event),
    "gainloss": Destination(schema.CLOSED_LOTS, "close_date", "gainloss.closed_position", ClosedPosition, _lot),
    "historical_balances": Destination(schema.BROKER_DAILY_BALANCES, "trade_date", "balances", DailyBalance, _daily),
}


def upsert_activity(connection: duckdb.DuckDBPyConnection, landed: LandedActivity) -> dict[Resource, Upserted]:
    """Add what one extract tells to what is stored; within the caller's transaction. Doing it again changes nothing.

    Raises:
        BodyError: a row lacks a required field or is malformed; names the extract, the resource and the path.
        LandingError: a landed file is missing or was changed.
    """
    return {resource: _keep(connection, landed, resource) for resource in landed.manifest.resources}


def typed_rows(landed: LandedActivity, resource: Resource) -> list[Row]:
    """The rows of one resource as its table has them, those outside the dates of the extract left out.

    Raises:
        BodyError, LandingError: see `upsert_activity`.
    """
    manifest, destination = landed.manifest, DESTINATIONS[resource]
    seen: Counter[tuple[date, str]] = Counter()
    rows: list[Row] = []
    for number, sent in enumerate(rows_of(resource, landed.bodies(resource))):
        place = f"{landed.path}: {destination.path}[{number}]"
        row = destination.columns(parse(destination.model, resource, place, sent))
        day = row[destination.date_column]
        if not manifest.since <= day <= manifest.until:  # Tradier: only older documents know the filter by date
            continue
        key = content_key(sent)
        seen[day, key] += 1
        rows.append({"account_id": manifest.account_id, **row, "content_key": key, "ordinal": seen[day, key]})
    return rows


def spoken_of(valued: Collection[date], since: date, until: date) -> list[date]:
    """The dates of a series of daily values that it says something of: those with a value, and those that it leaves out
    although the `NEIGHBOURS` weekdays before and after each have one. A series that was thinned out leaves out more.
    """
    weekdays = [day for day in _dates(since, until) if day.weekday() < SATURDAY]
    has_value = [day in valued for day in weekdays]
    left_out = {
        day
        for place, day in enumerate(weekdays)
        if place >= NEIGHBOURS
        and sum(has_value[place - NEIGHBOURS : place + NEIGHBOURS + 1]) == 2 * NEIGHBOURS
        and not has_value[place]
    }
    return sorted({day for day in valued if since <= day <= until} | left_out)


def _dates(since: date, until: date) -> Iterator[date]:
    return (since + timedelta(days=number) for number in range((until - since).days + 1))


def content_key(row: Mapping[str, Any]) -> str:
    """What tells a row of the broker from others: the SHA-256 of its JSON, however its numbers and keys are written."""
    return hashlib.sha256(_canonical(row).encode()).hexdigest()


def _canonical(value: Any) -> str:
    match value:
        case bool() | str() | None:
            return json.dumps(value)
        case int() | Decimal():
            return format(Decimal(value or 0).normalize(), "f")
        case Mapping():
            return "{" + ",".join(f"{json.dumps(name)}:{_canonical(value[name])}" for name in sorted(value)) + "}"
        case _:
            return "[" + ",".join(map(_canonical, value)) + "]"


def _keep(connection: duckdb.DuckDBPyConnection, landed: LandedActivity, resource: Resource) -> Upserted:
    manifest, destination = landed.manifest, DESTINATIONS[resource]
    pages = manifest.resources[resource]
    read_at = min(page.started_at for page in pages)
    rows = [row | {"first_read_at": read_at, "last_read_at": read_at} for row in typed_rows(landed, resource)]
    # What the broker no longer lists of long ago was not taken back: nobody says how long it keeps its rows.
    days = sorted(row[destination.date_column] for row in rows)
    covered_since = max(manifest.since, min([*days[:1], manifest.until - WINDOW]))
    extract = {
        "account_id": manifest.account_id,
        "resource": resource,
        "since": covered_since,
        "until": manifest.until,
        "read_at": read_at,
        "environment": manifest.environment,
        "row_count": len(rows),
        "page_count": len(pages),
        "path": landed.path,
        "dates": spoken_of(set(days), covered_since, manifest.until) if resource == "historical_balances" else None,
    }
    again = "DELETE FROM activity_extracts WHERE path = ? AND resource = ?"
    connection.execute(bind(again, landed.path, resource))
    insert(connection, schema.ACTIVITY_EXTRACTS, [extract])
    new = _merge(connection, destination, rows)
    retracted = _retract(connection, destination, resource, extract)
    first, last = (days[0], days[-1]) if days else (None, None)
    return Upserted(len(rows), new, retracted, covered_since, first, last)


def _merge(connection: duckdb.DuckDBPyConnection, destination: Destination, rows: Sequence[Row]) -> int:
    """Insert the rows that are not known, move the reads of those that are; returns how many are new."""
    table, key = destination.table, f"account_id, {destination.date_column}, content_key, ordinal"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE incoming AS FROM {table.name} LIMIT 0")
    insert(connection, replace(table, name="incoming"), rows)
    found = connection.execute(f"SELECT count(*) FROM incoming ANTI JOIN {table.name} USING ({key})").fetchone()  # noqa: S608
    connection.execute(
        f"""
        MERGE INTO {table.name} AS known USING incoming USING ({key})
        WHEN MATCHED THEN UPDATE SET first_read_at = least(known.first_read_at, incoming.first_read_at),
            last_read_at = greatest(known.last_read_at, incoming.last_read_at)
        WHEN NOT MATCHED THEN INSERT BY NAME
        """
    )
    connection.execute("DROP TABLE incoming")
    return int(found[0]) if found else 0


def _retract(connection: duckdb.DuckDBPyConnection, destination: Destination, resource: Resource, extract: Row) -> int:
    """Say of every row of the dates of an extract when it was missed first; returns how many miss since this one."""
    table, day = destination.table.name, destination.date_column
    of_dates = bind(
        f"account_id = ? AND {day} BETWEEN ? AND ?", *(extract[n] for n in ("account_id", "since", "until"))
    )
    connection.execute(
        f"""
        UPDATE {table} SET retracted_at = (
            SELECT min(reading.read_at) FROM activity_extracts AS reading
            WHERE reading.account_id = {table}.account_id AND reading.resource = {literal(resource)}
            AND {table}.{day} BETWEEN reading.since AND reading.until AND reading.read_at > {table}.last_read_at
            AND (reading.dates IS NULL OR list_contains(reading.dates, {table}.{day}))
        ) WHERE {of_dates}
        """  # noqa: S608
    )
    missing = bind(f"SELECT count(*) FROM {table} WHERE {of_dates} AND retracted_at = ?", extract["read_at"])  # noqa: S608
    found = connection.execute(missing).fetchone()
    return int(found[0]) if found else 0
