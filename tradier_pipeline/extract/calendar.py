"""The broker's own calendar of the exchange: read once a day, kept as received, compared with the library's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial

from tradier_pipeline.broker.client import BrokerClient
from tradier_pipeline.broker.decode import parse_hours
from tradier_pipeline.clock import NEW_YORK
from tradier_pipeline.core.files import write_whole
from tradier_pipeline.domain.calendar import MarketCalendar, Session
from tradier_pipeline.extract.connection import Broker
from tradier_pipeline.extract.records import page_records
from tradier_pipeline.landing.manifest import PageRecord


@dataclass(frozen=True, slots=True)
class DifferentDay:
    """A day on which the calendars differ; hours are New York's, such as `09:30-16:00`, or `closed`."""

    day: date
    library: str
    broker: str


def this_month_and_the_next(day: date) -> tuple[date, date]:
    """Their first days."""
    first = day.replace(day=1)
    return first, (first + timedelta(days=31)).replace(day=1)


def read_calendar(broker: Broker, calendar: MarketCalendar, today: date) -> tuple[PageRecord, ...]:
    """Read this month and the next, and keep them as received. From then on their hours are the sessions.

    Raises:
        BrokerError: a month was not read, or is malformed; what was kept before stays.
        FileError: it cannot be written.
    """
    received = []
    for month in this_month_and_the_next(today):
        extract = broker.read(partial(BrokerClient.fetch_calendar, year=month.year, month=month.month))
        (record,), bodies = page_records("calendar", extract)
        parse_hours(bodies[record.file], month)
        received.append((month, record, bodies[record.file]))
    records = []
    for month, record, body in received:
        path = calendar.broker_file(month)
        assert path is not None
        records.append(record.model_copy(update={"file": path.name}))
        write_whole(path.with_suffix(".manifest.json"), records[-1].model_dump_json(indent=1).encode())
        write_whole(path, body)
    return tuple(records)


def differing_days(calendar: MarketCalendar, today: date) -> Iterator[DifferentDay]:
    """The days of this month and the next for which the broker tells other hours than the library knows."""
    for month in this_month_and_the_next(today):
        reported = calendar.reported_by_broker(month)
        for day in (month + timedelta(days=days) for days in range(31)):
            if day.month != month.month:
                break
            known, by_broker = (
                session_text(calendar.known_session(day)),
                session_text(reported[day]) if day in reported else "not reported",
            )
            if known != by_broker:
                yield DifferentDay(day, known, by_broker)


def session_text(session: Session | None) -> str:
    """The hours of a session in New York time."""
    if session is None:
        return "closed"
    return "-".join(f"{instant.astimezone(NEW_YORK):%H:%M}" for instant in (session.open, session.close))
