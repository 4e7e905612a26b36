"""The snapshot: its id, its value, and the functions that take and request one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Self

from tradier_pipeline import clock
from tradier_pipeline.core.errors import PipelineError

MAX_LATENESS = timedelta(seconds=60)
CLOCK_SKEW = timedelta(seconds=5)

_ID = re.compile(r"(?P<account>[A-Za-z0-9]{1,32})@(?P<instant>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?)Z")


class SnapshotIdError(PipelineError):
    """A text is not a snapshot id."""


@dataclass(frozen=True, slots=True, order=True)
class SnapshotId:
    """`<account number>@<instant>`: the id of a snapshot and its Dagster partition key.

    `instant` is the scheduled or requested instant in UTC, whole seconds or milliseconds.
    """

    account_id: str
    instant: datetime

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an id such as `VA12345678@2026-11-20T14:31:00Z`.

        Raises:
            SnapshotIdError: the text is not exactly of that form.
        """
        match = _ID.fullmatch(text)
        try:
            if match is None:
                raise ValueError(text)
            instant = datetime.fromisoformat(match["instant"]).replace(tzinfo=UTC)
            snapshot_id = cls(match["account"], instant)
            if str(snapshot_id) != text:  # 14:31:00.000Z would name the same instant twice
                raise ValueError(text)
        except ValueError:
            raise SnapshotIdError(
                f"{text[:80]!r} is not a snapshot id",
                "Write <account number>@<UTC instant>, such as VA12345678@2026-11-20T14:31:00Z.",
            ) from None
        return snapshot_id

    @classmethod
    def now(cls, account_id: str) -> Self:
        """The id of an on-demand snapshot: the current instant, to the millisecond."""
        instant = clock.now()
        return cls(account_id, instant.replace(microsecond=instant.microsecond // 1000 * 1000))

    def __str__(self) -> str:
        return f"{self.account_id}@{clock.iso(self.instant)}"

    @property
    def trade_date(self) -> date:
        """The America/New_York date of the instant; the landing zone files the snapshot under it."""
        return clock.trade_date(self.instant)

    @property
    def file_name(self) -> str:
        """The id as a file name: colons are not allowed on every file system."""
        return str(self).replace(":", "-")
