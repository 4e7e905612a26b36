"""The snapshot: its id, its value, and the functions that take and request one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Self

from tradier_pipeline import clock, collector
from tradier_pipeline.errors import PipelineError

if TYPE_CHECKING:
    from tradier_pipeline.broker.models import Account, Balances, Order
    from tradier_pipeline.ledger.records import Reason, SnapshotRequest
    from tradier_pipeline.portfolio import PortfolioPosition
    from tradier_pipeline.reconcile.verdict import Verdict
    from tradier_pipeline.verify.outcome import Outcome

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


@dataclass(frozen=True, slots=True)
class TradierSnapshot:
    """One published snapshot: everything the broker said about one account at one instant.

    `as_of` is when the first of its resources was read. Money is USD as `Decimal`. `checks` are the outcomes of
    every check that ran before it was published. `verdict`: good, or doubtful for the reasons of `verdict_evidence`;
    nothing is concluded from a doubtful one until later snapshots confirm it.
    """

    snapshot_id: str
    as_of: datetime
    account: Account
    balances: Balances
    positions: tuple[PortfolioPosition, ...]
    orders: tuple[Order, ...]
    checks: tuple[Outcome, ...]
    verdict: Verdict = "good"
    verdict_evidence: str | None = None


def sync_tradier_snapshot(account_id: str | None = None, *, trigger: str = "manual") -> TradierSnapshot:
    """Take one snapshot now: fetch, land, store, verify, publish. It shows in the Dagster run history like any other.

    Args:
        account_id: the account number; default TRADIER_ACCOUNT_ID.
        trigger: why it is taken, stored with the snapshot.

    Raises:
        PipelineError: it was not published; the message says why and what to do. The last good snapshot stays current.
    """
    with collector.paused():
        from tradier_pipeline.cycles.on_demand import take_snapshot  # Dagster takes a second to import

    return take_snapshot(account_id, trigger=trigger)


def request_snapshot(
    account_id: str | None = None,
    *,
    reason: Reason = "manual",
    order_id: str | None = None,
    note: str | None = None,
) -> tuple[SnapshotRequest, ...]:
    """Ask for a snapshot and return at once. While `tradier-pipeline up` runs it is taken within seconds; otherwise
    the next snapshot of the account, whoever takes it, answers the request.

    Args:
        account_id: the account number; default every account of TRADIER_ACCOUNT_ID, a request for each.
        reason: order_placed (after an entry), position_flat (after an exit), manual or debug.
        order_id: the order or trade that it is about.
        note: more, in words.

    Raises:
        PipelineError: the account is not configured, or the ledger cannot be written.
    """
    from tradier_pipeline.ledger.request import write_requests  # settings take a moment to import

    return write_requests(account_id, reason, order_id, note)
