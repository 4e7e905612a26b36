"""History in bulk: what the cycles would have stored of a made-up account, session after session, straight in SQL.

A snapshot every minute of each session, one 90 minutes before it and one 15 minutes after. The account holds shares of
AAPL with a call sold against them, shares of SPY, and put spreads: one is opened on each day and closed three sessions
later. Ten orders a day are placed, filled in parts, cancelled, rejected; one of every fifth day rests for days. Some
instants are missed, some snapshots torn or without quotes; of session number 3 there is no snapshot at all. Every value
follows from its place, so the same call gives the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from itertools import count, islice
from pathlib import Path

import duckdb

from tradier_pipeline.domain.calendar import MarketCalendar, Session
from tradier_pipeline.warehouse.sessions import upsert_sessions
from tradier_pipeline.warehouse.sql import literal

CALENDAR = MarketCalendar("XNYS")
FIRST_DAY = date(2025, 1, 2)
SESSIONS_OF_A_YEAR = 252
EMPTY_SESSION = 3


def sessions(number: int, since: date = FIRST_DAY) -> list[Session]:
    """The first sessions of the exchange from a day on."""
    return list(islice(_sessions_from(since), number))


def _sessions_from(since: date) -> Iterator[Session]:
    for days in count():
        if session := CALENDAR.session_of(since + timedelta(days=days)):
            yield session


def fill(
    connection: duckdb.DuckDBPyConnection,
    days: Sequence[Session],
    account_id: str = "VA12345678",
    *,
    ledger: bool = True,
) -> None:
    """Add the history of an account over some sessions to a warehouse that has nothing of it.

    Rows lie in the order in which the pipeline would have appended them: by snapshot.

    Args:
        ledger: whether a trading engine's ledger was reconciled with every snapshot.
    """
    upsert_sessions(connection, CALENDAR, days[0].date, days[-1].date)
    values = ", ".join(
        f"({number}, {literal(day.date)}, {literal(day.open)}, {literal(day.close)})" for number, day in enumerate(days)
    )
    columns = "d, trade_date, session_open, session_close"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE days AS FROM (VALUES {values}) AS _({columns})")
    connection.execute(f"SET VARIABLE account = {literal(account_id)}; SET VARIABLE ledger = {ledger}")
    connection.execute(Path(__file__).with_suffix(".sql").read_text())
