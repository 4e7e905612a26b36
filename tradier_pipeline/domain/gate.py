"""The trade gate: whether a snapshot may be traded on, and by name what speaks against it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Self

from tradier_pipeline import clock
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.domain.calendar import MarketCalendar


@dataclass(frozen=True, slots=True)
class GateRules:
    """What the gate asks of a snapshot. `max_open_positions`: None means no limit."""

    calendar: MarketCalendar = field(default_factory=lambda: MarketCalendar("XNYS"))
    max_age_s: int = 120
    max_open_positions: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The configured ones."""
        return cls(MarketCalendar.of(settings), settings.max_age_seconds, settings.max_open_positions)


DEFAULT_RULES = GateRules()


@dataclass(frozen=True, slots=True)
class GateReading:
    """What the gate said of one snapshot at its as-of. The fields are the columns of `trade_gate_readings`."""

    ready: bool
    blockers: tuple[str, ...]
    open_positions: int
    max_open_positions: int | None
    max_age_s: int
    session_open: datetime | None
    session_close: datetime | None


def evaluate_gate(
    as_of: datetime, trade_date: date, open_positions: int, rules: GateRules, *, doubtful: bool = False
) -> GateReading:
    """Read the gate at the as-of of a snapshot. What comes to pass later - age, missed instants - its view adds."""
    session = rules.calendar.session_of(trade_date)
    limit = rules.max_open_positions
    blocked = {
        "session_closed": session is None or as_of not in session,
        "max_open_positions": limit is not None and open_positions >= limit,
        "doubtful": doubtful,
    }
    blockers = tuple(name for name, blocks in blocked.items() if blocks)
    return GateReading(
        ready=not blockers,
        blockers=blockers,
        open_positions=open_positions,
        max_open_positions=limit,
        max_age_s=rules.max_age_s,
        session_open=session.open if session else None,
        session_close=session.close if session else None,
    )


def reasons(gate: Mapping[str, Any]) -> dict[str, str]:
    """Each blocker of a row of the view `trade_gate`, and why, as a person reads it."""
    return {name: REASONS[name](gate) for name in gate["blockers"]}


def _session(gate: Mapping[str, Any]) -> str:
    if gate["session_open"] is None:
        return f"no session on {gate['trade_date']}"
    opens, closes = (gate[name].astimezone(clock.NEW_YORK) for name in ("session_open", "session_close"))
    return f"the session of {gate['trade_date']} is {opens:%H:%M} to {closes:%H:%M} New York time"


REASONS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "stale": lambda gate: f"read {gate['age_s']:,.0f} s ago, {gate['max_age_s']} s allowed",
    "missed_snapshots": lambda gate: f"{gate['missed']} since the last good one: {gate['missed_reason']}",
    "check_failed": lambda gate: f"{gate['refused']} not published since: {gate['refused_reason']}",
    "balances_missing": lambda gate: f"{gate['snapshot_id']} has none",
    "session_closed": _session,
    "max_open_positions": lambda gate: f"{gate['open_positions']} open, {gate['max_open_positions']} allowed",
    "doubtful": lambda gate: f"{gate['snapshot_id']} is not believed yet: {gate['verdict_evidence']}",
    "findings": lambda gate: f"{gate['errors']} open errors, see `tradier-pipeline findings`: {gate['error_codes']}",
}
