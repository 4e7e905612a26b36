"""Account histories written by hand, straight into the tables of a warehouse: sessions, equity, cash flows, reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import duckdb

from tradier_pipeline.warehouse import derived, schema
from tradier_pipeline.warehouse.staging import insert
from tradier_pipeline.warehouse.typed import Row

ONE = "VA1"
CLOSE = time(21, 0)  # of a session, UTC
_BLANKS: dict[str, Any] = {
    schema.VARCHAR: "",
    schema.INTEGER: 0,
    schema.BIGINT: 0,
    schema.DECIMAL: Decimal(0),
    schema.DATE: date(2025, 1, 1),
    schema.INSTANT: datetime(2025, 1, 1, tzinfo=UTC),
}


def at(day: date, clock_time: time) -> datetime:
    return datetime.combine(day, clock_time, UTC)


@dataclass
class Histories:
    """Rows that wait to be inserted, by table. What a row is not given is blank."""

    rows: dict[schema.Table, list[Row]] = field(default_factory=dict)
    explained: list[Row] = field(default_factory=list)

    def _add(self, table: schema.Table, **values: Any) -> None:
        blanks = {column.name: _BLANKS[column.type] for column in table.columns if column.required}
        self.rows.setdefault(table, []).append(blanks | values)

    def sessions(self, days: Iterable[date]) -> None:
        for day in days:
            times = {"session_open": at(day, time(14, 30)), "session_close": at(day, CLOSE)}
            self._add(schema.SESSIONS, trade_date=day, **times)

    def snapshot(
        self,
        day: date,
        equity: Decimal | int | str,
        account_id: str = ONE,
        clock_time: time = time(21, 15),
        coherence: str | None = "coherent",
        environment: str = "",
        cash: Decimal | int | str | None = None,
    ) -> None:
        """A snapshot read at a UTC time of the day; 21:15 is a quarter of an hour after the close.

        Its cash is what history explains of it, the rest of equity is in securities, unless it is given.
        """
        as_of = at(day, clock_time)
        lead = {
            "snapshot_id": f"{account_id}@{as_of:%Y-%m-%dT%H:%M:%SZ}",
            "account_id": account_id,
            "as_of": as_of,
            "trade_date": day,
        }
        verdict = "doubtful" if coherence == "torn" else "good"
        self._add(schema.TRADIER_SNAPSHOTS, **lead, coherence=coherence, verdict=verdict, environment=environment)
        given = {} if cash is None else {"cash": Decimal(cash)}
        self._add(schema.ACCOUNT_BALANCES, **lead, equity=Decimal(equity), **given)
        if cash is None:
            self.explained.append(self.rows[schema.ACCOUNT_BALANCES][-1])

    def reported(
        self, day: date, value: Decimal | int | str, account_id: str = ONE, retracted_at: datetime | None = None
    ) -> None:
        """The broker's own value of a day."""
        self._add(
            schema.BROKER_DAILY_BALANCES,
            account_id=account_id,
            trade_date=day,
            value=Decimal(value),
            retracted_at=retracted_at,
            last_read_at=at(day + timedelta(days=1), time(12)),
        )

    def flow(
        self,
        day: date,
        amount: Decimal | int | str,
        type_: str = "ach",
        account_id: str = ONE,
        retracted_at: datetime | None = None,
        first_read_at: datetime = _BLANKS[schema.INSTANT],
    ) -> None:
        """A row of the broker's history."""
        self._add(
            schema.ACCOUNT_ACTIVITY,
            account_id=account_id,
            trade_date=day,
            type=type_,
            amount=Decimal(amount),
            description=type_.upper(),
            retracted_at=retracted_at,
            first_read_at=first_read_at,
        )

    def stated(self, day: date, amount: Decimal | int | str, account_id: str = ONE) -> None:
        """A flow that the owner states."""
        kind = "withdrawal" if Decimal(amount) < 0 else "deposit"
        values: dict[str, Any] = {"trade_date": day, "kind": kind, "amount": Decimal(amount)}
        number = len(self.rows.get(schema.STATED_FLOWS, []))
        self._add(schema.STATED_FLOWS, flow_id=number, account_id=account_id, **values)

    def read(
        self, since: date, until: date, account_id: str = ONE, read_at: datetime | None = None, what: str = "history"
    ) -> None:
        """A read of the history from one date to another, on the morning after unless it is reported otherwise."""
        self._add(
            schema.ACTIVITY_EXTRACTS,
            account_id=account_id,
            resource=what,
            since=since,
            until=until,
            read_at=read_at or at(until + timedelta(days=1), time(12)),
        )

    def write(self, connection: duckdb.DuckDBPyConnection) -> None:
        booked = [row for row in self.rows.get(schema.ACCOUNT_ACTIVITY, []) if row["retracted_at"] is None]
        for snapshot in self.explained:
            so_far = (
                event["amount"]
                for event in booked
                if event["account_id"] == snapshot["account_id"] and event["trade_date"] <= snapshot["trade_date"]
            )
            snapshot["cash"] = sum(so_far, Decimal(0))
        self.explained.clear()
        for table, rows in self.rows.items():
            insert(connection, table, rows)
        self.rows.clear()
        derived.refresh(connection)
