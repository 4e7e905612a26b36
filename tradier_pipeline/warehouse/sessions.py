"""The sessions of the exchange in the warehouse: without them no view could tell a gap from a holiday."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

import duckdb

from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.staging import insert


def upsert_sessions(connection: duckdb.DuckDBPyConnection, calendar: MarketCalendar, since: date, until: date) -> None:
    """Add the sessions of the exchange from one New York date to another, and all between these and the known ones.

    They are the exchange's whatever the cycles tick by: a rehearsal round the clock makes no session. What is known
    stays, for a session that is over does not change; but what an earlier version kept of a rehearsal goes.

    Args:
        calendar: the one in use.
    """
    exchange = calendar.of_exchange()
    _replace_rehearsed(connection, exchange)
    first, last = connection.execute("SELECT min(trade_date), max(trade_date) FROM sessions").fetchone() or (None, None)
    if first and first <= since and until <= last:
        return
    begin, end = (min(since, first), max(until, last)) if first else (since, until)
    days = (begin + timedelta(days=number) for number in range((end - begin).days + 1))
    _insert(connection, exchange, (day for day in days if not (first and first <= day <= last)))


def _replace_rehearsed(connection: duckdb.DuckDBPyConnection, exchange: MarketCalendar) -> None:
    """A session as long as its day is none of the exchange."""
    rehearsed = "session_close - session_open >= INTERVAL 20 HOURS"
    days = connection.execute(f"SELECT trade_date FROM sessions WHERE {rehearsed}").fetchall()  # noqa: S608
    if days:
        connection.execute(f"DELETE FROM sessions WHERE {rehearsed}")  # noqa: S608
        _insert(connection, exchange, (day for (day,) in days))


def _insert(connection: duckdb.DuckDBPyConnection, exchange: MarketCalendar, days: Iterable[date]) -> None:
    sessions = map(exchange.session_of, days)
    insert(
        connection,
        schema.SESSIONS,
        [
            {"trade_date": session.date, "session_open": session.open, "session_close": session.close}
            for session in sessions
            if session
        ],
    )
