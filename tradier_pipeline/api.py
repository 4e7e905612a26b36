"""Asking for a snapshot from outside: for the command line and Python callers."""

from __future__ import annotations

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import Settings, load_settings
from tradier_pipeline.ledger.records import REASONS, Reason, SnapshotRequest
from tradier_pipeline.ledger.store import Ledger, LedgerError


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
            from tradier_pipeline.extract.snapshot import accounts_to_read  # only `all` needs the broker to know

            return accounts_to_read(settings)
        return settings.accounts
    if settings.accounts is not None and account_id not in settings.accounts:
        raise PipelineError(
            f"{account_id[:80]} is not an account of this home ({', '.join(settings.accounts)})",
            "Add it to TRADIER_ACCOUNT_ID.",
        )
    return (account_id,)
