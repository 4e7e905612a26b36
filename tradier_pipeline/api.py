"""Asking for a snapshot, or for what was known, from outside: for the command line and Python callers."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from tradier_pipeline.core import collector
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import Settings, load_settings
from tradier_pipeline.ledger.records import REASONS, Reason, SnapshotRequest
from tradier_pipeline.ledger.store import Ledger, LedgerError
from tradier_pipeline.publish.published_snapshot import TradierSnapshot


def write_requests(
    account_id: str | None, reason: Reason, order_id: str | None, note: str | None
) -> tuple[SnapshotRequest, ...]:
    """Write a request for the account, or for each configured one. See `tradier_pipeline.request_snapshot`."""
    settings = load_settings()
    if reason not in REASONS:
        raise LedgerError(f"{reason!r} is no reason for a snapshot", f"Use one of {', '.join(REASONS)}.")
    ledger = Ledger(settings.ledger)
    return tuple(
        ledger.request(account, reason, order_id=order_id, note=note) for account in _accounts(settings, account_id)
    )


def _accounts(settings: Settings, account_id: str | None) -> tuple[str, ...]:
    """Nobody would ever answer a request for an account that is not configured."""
    if account_id is None:
        if settings.accounts is None:
            from tradier_pipeline.extract.connection import accounts_to_read  # only `all` needs the broker to know

            return accounts_to_read(settings)
        return settings.accounts
    if settings.accounts is not None and account_id not in settings.accounts:
        raise PipelineError(
            f"{account_id[:80]} is not an account of this home ({', '.join(settings.accounts)})",
            f"Add it to TRADIER_{'ACCOUNT_ID' if settings.tokens is None else 'TOKENS'}.",
        )
    return (account_id,)


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
        from tradier_pipeline.cycles.snapshot_job import snapshot_job

    return take_snapshot(snapshot_job, account_id, trigger=trigger)


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
    from tradier_pipeline.api import write_requests  # settings take a moment to import

    return write_requests(account_id, reason, order_id, note)


def known_at(instant: datetime, *, home: str | Path | None = None) -> Path:
    """The home of what was known at an instant, for the argument `home` of everything in `tradier_pipeline.history`.

    It is replayed from what had been landed by then, once for each instant, and knows nothing of what was posted late,
    corrected, confirmed or stated since.

    Args:
        instant: with its zone.
        home: what TRADIER_PIPELINE_HOME would be; None: as it is set.

    Raises:
        ValueError: the instant has no zone.
        PipelineError: nothing had been read by then, or it is yet to come.
    """
    if not isinstance(instant, datetime) or instant.tzinfo is None:
        raise ValueError(f"{instant} has no zone; make it datetime(..., tzinfo=...)")
    from tradier_pipeline.publish.past import home_as_known

    settings = load_settings()
    if home is not None:
        settings = settings.model_copy(update={"pipeline_home": Path(home).expanduser().absolute()})
    return home_as_known(settings, instant)
