"""Whether the history is current, judged from its files alone: neither `up` nor Dagster need live."""

from __future__ import annotations

import os
import shlex
import subprocess
from datetime import datetime

import duckdb

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.domain.ticks import CYCLES, Cadence, is_late
from tradier_pipeline.monitoring.freshness import read_freshness
from tradier_pipeline.warehouse.reads import connect_readonly, heartbeats

COMMAND_TIMEOUT_S = 60.0
REASON = "TRADIER_WATCH_REASON"  # the variable that a command finds it in


def not_current(settings: Settings, now: datetime) -> str | None:
    """Why the history is not what the exchange calendar and the cadence ask for, in a line; None if it is.

    Of what cannot be read nobody can say that it is current.
    """
    if not settings.warehouse.exists():
        return f"nothing is published in {settings.home}"
    try:
        freshness = read_freshness(settings, now)
        late = _late_cycles(settings, now)
    except (PipelineError, duckdb.Error, OSError) as error:
        return f"the history cannot be read: {str(error).splitlines()[0][:300].rstrip('.')}"
    if not freshness.newest:
        return f"no account has a snapshot of the last days in {settings.home}"
    if freshness.stale:
        return f"the history is not current: {freshness}"
    return f"late: {'; '.join(late)}" if late else None


def _late_cycles(settings: Settings, now: datetime) -> list[str]:
    """The cycles that were due twice since their last snapshot. One that was never started is not late."""
    calendar, cadence = MarketCalendar.of(settings), Cadence.of(settings)
    minutes = dict(zip(CYCLES, (cadence.monitor, cadence.trade, cadence.sync), strict=True))
    with connect_readonly(settings.warehouse) as connection:
        beats = heartbeats(connection)
    return [
        f"{beat['cycle']} of {beat['account_id']}"
        for beat in beats
        if settings.accounts is None or beat["account_id"] in settings.accounts
        if minutes.get(beat["cycle"]) and is_late(beat["cycle"], beat["as_of"], now, calendar, cadence)
    ]


def call(command: str, reason: str) -> None:
    """Run a command of the owner's, without a shell, that finds the reason in TRADIER_WATCH_REASON.

    Raises:
        PipelineError: it is no command, took longer than a minute, or failed.
    """
    remedy = "Run it by hand."
    try:
        words = shlex.split(command)
        ended = subprocess.run(  # noqa: S603 - the owner's own command
            words, env=os.environ | {REASON: reason}, timeout=COMMAND_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )
    except (ValueError, IndexError, OSError, subprocess.TimeoutExpired) as error:
        raise PipelineError(f"the command of --call did not run: {type(error).__name__}", remedy) from None
    if ended.returncode:
        raise PipelineError(f"the command of --call ended with {ended.returncode}", remedy)
