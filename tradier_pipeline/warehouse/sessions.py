"""The sessions of the exchange in the warehouse: without them no view could tell a gap from a holiday."""

from __future__ import annotations

from datetime import date, timedelta

import duckdb

from tradier_pipeline.market_calendar import MarketCalendar
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.publish import insert


def keep_sessions(connection: duckdb.DuckDBPyConnection, calendar: MarketCalendar, since: date, until: date) -> None:
    """Add the sessions from one New York date to another, and all between them and those that are known.

    What is known stays: a session that is over does not change.
    """
    first, last = connection.execute("SELECT min(trade_date), max(trade_date) FROM sessions").fetchone() or (None, None)
    if first and first <= since and until <= last:
        return
    begin, end = (min(since, first), max(until, last)) if first else (since, until)
    days = (begin + timedelta(days=number) for number in range((end - begin).days + 1))
    sessions = [calendar.session_of(day) for day in days if not (first and first <= day <= last)]
    insert(
        connection,
        schema.SESSIONS,
        [
            {"trade_date": session.date, "session_open": session.open, "session_close": session.close}
            for session in sessions
            if session
        ],
    )
