"""The dividends of symbols, from landed bodies into the warehouse.

Of several reads of a symbol counts the newest that has any, with all of its rows. It does not matter in what order they
are stored. An empty answer is no word on what an earlier one said: the broker may have no data for a while.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import duckdb

from tradier_pipeline.broker.decode import parse_rows, rows_of
from tradier_pipeline.broker.errors import BodyError
from tradier_pipeline.broker.models import CashDividend, DividendAnswer
from tradier_pipeline.landing.dividends import LandedDividends
from tradier_pipeline.landing.errors import LandingError
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.sql import bind
from tradier_pipeline.warehouse.staging import insert
from tradier_pipeline.warehouse.typed import Row

KEPT = timedelta(days=400)  # before the read: a year of them shows what a symbol pays
_COLUMNS = {
    "ex_date": "ex_date",
    "cash_amount": "cash_amount",
    "currency": "currency_i_d",
    "dividend_type": "dividend_type",
    "declaration_date": "declaration_date",
    "record_date": "record_date",
    "pay_date": "pay_date",
    "frequency": "frequency",
}


def upsert_dividends(connection: duckdb.DuckDBPyConnection, landed: LandedDividends) -> int:
    """Add one extract to what is stored; within the caller's transaction. Returns how many rows it has.

    Raises:
        BodyError: a row is malformed, or there are dividends of several securities under one symbol.
        LandingError: a landed file is missing or was changed, or what is stored is not what was landed.
    """
    rows = dividend_rows(landed)
    manifest = landed.manifest
    of_symbol = bind("environment = ? AND symbol = ?", manifest.environment, manifest.symbol)
    newer = bind("(read_at, path) > (?, ?)", manifest.read_at, landed.path)
    known = f"SELECT count(*) FROM dividends WHERE {of_symbol} AND {newer}"  # noqa: S608
    if rows and connection.execute(known).fetchone() == (0,):
        connection.execute(f"DELETE FROM dividends WHERE {of_symbol}")  # noqa: S608
        insert(connection, schema.DIVIDENDS, rows)
        _verify(connection, landed)
    return len(rows)


def dividend_rows(landed: LandedDividends) -> list[Row]:
    """The rows of the table, by ex-dividend date. Those without a date, and older ones, stay in the landed bytes."""
    manifest, day = landed.manifest, landed.manifest.read_at.date()
    known = [one for one in _of_symbol(landed) if one.ex_date is not None and one.ex_date >= day - KEPT]
    counted: Counter[date | None] = Counter()
    rows: list[Row] = []
    for one in sorted(known, key=lambda one: (one.ex_date, one.model_dump_json())):
        counted[one.ex_date] += 1
        rows.append(
            {"environment": manifest.environment, "symbol": manifest.symbol, "ordinal": counted[one.ex_date]}
            | {name: getattr(one, field) for name, field in _COLUMNS.items()}
            | {"read_at": manifest.read_at, "path": landed.path}
        )
    return rows


def _of_symbol(landed: LandedDividends) -> list[CashDividend]:
    symbol = landed.manifest.symbol
    answers = parse_rows(DividendAnswer, "dividends", landed.path, rows_of("dividends", landed.bodies()))
    results = [result for answer in answers if answer.request == symbol for result in answer.results]
    telling = [result.tables.cash_dividends for result in results if result.tables and result.tables.cash_dividends]
    if len(telling) > 1:
        what = f"{len(telling)} results of {symbol} have dividends, and which are its own is not known"
        raise BodyError("dividends", what, path=landed.path)
    return list(telling[0]) if telling else []


def _verify(connection: duckdb.DuckDBPyConnection, landed: LandedDividends) -> None:
    """The stored dates and amounts of an extract are those of its bodies, decoded anew without the models."""
    manifest = landed.manifest
    earliest = str(manifest.read_at.date() - KEPT)
    expected: list[Any] = [
        (row["ex_date"][:10], _to_places(row.get("cash_amount")))
        for body in landed.bodies()
        for answer in json.loads(body, parse_float=Decimal)
        if answer["request"] == manifest.symbol
        for result in _list(answer.get("results"))
        for row in _list((result.get("tables") or {}).get("cash_dividends"))
        if row.get("ex_date") and row["ex_date"][:10] >= earliest
    ]
    query = bind("SELECT ex_date::VARCHAR, cash_amount FROM dividends WHERE path = ?", landed.path)
    stored = connection.execute(query).fetchall()
    if Counter(expected) != Counter(stored):
        raise LandingError(
            f"{landed.path} was not published: the broker has {len(expected)} dividends, and others would be stored",
            "Its bytes are landed. Report it: no answer of the broker explains this.",
        )


def _to_places(amount: Any) -> Decimal | None:
    return None if amount is None or isinstance(amount, str) else Decimal(amount).quantize(Decimal("1e-8"))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if isinstance(value, dict) else []
