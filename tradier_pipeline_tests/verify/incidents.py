"""Snapshots that go wrong in one way, and the check that must tell of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from tradier_pipeline.core.outcome import Outcome, Severity
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.verify import verify_snapshot
from tradier_pipeline.warehouse.staging import StagedWarehouse
from tradier_pipeline_tests.support.bodies import (
    AS_OF,
    Answers,
    answers,
    land,
    option_quote,
    order,
    position,
    quote,
    spread,
    store,
    zone_in,
)

PUT = "SPY251219P00602500"
LOWER_PUT = "SPY251219P00597500"
EARLIER = AS_OF - timedelta(minutes=1)
YESTERDAY = AS_OF - timedelta(days=1)


def sound(**documents: Any) -> Answers:
    """Stock and a spread, quoted, an order and one with legs: nothing to find."""
    held = [
        position("AAPL", 10, id=1),
        position(PUT, -67, Decimal("-147.0"), id=2),
        position(LOWER_PUT, 67, Decimal("67.0"), id=3),
    ]
    reported = answers(
        positions=held,
        orders=[order(tag="entry-1"), spread(tag="entry-2")],
        quotes=[quote("AAPL"), option_quote(PUT), option_quote(LOWER_PUT)],
    )
    return replace(reported, **documents)


@dataclass
class Bench:
    """A warehouse to store snapshots in and to spoil."""

    home: Path
    staged: StagedWarehouse
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def take(self, reported: Answers | None = None, as_of: datetime = AS_OF, **how: Any) -> LandedSnapshot:
        landed = land(zone_in(self.home), reported or sound(), as_of, **how)
        self._keep(store(self.staged, landed))
        return landed

    def spoil(self, landed: LandedSnapshot, sql: str) -> None:
        self.staged.connection.execute("BEGIN")
        try:
            self.staged.connection.execute(sql)
            self.again(landed)
        finally:
            self.staged.connection.execute("ROLLBACK")

    def again(self, landed: LandedSnapshot) -> None:
        fresh = LandedSnapshot(landed.snapshot_id, landed.directory)
        self._keep(verify_snapshot(fresh, self.staged.connection))

    def _keep(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes = {outcome.check: outcome for outcome in outcomes}

    def failed(self) -> set[str]:
        return {name for name, outcome in self.outcomes.items() if not outcome.passed}


@dataclass(frozen=True)
class Incident:
    """What goes wrong, the check that must tell of it, and what it says: the place, the broker's and our figure."""

    check: str
    happens: Callable[[Bench], object]
    where: str
    broker: str
    stored: str


def taken(answers: Answers, **how: Any) -> Callable[[Bench], object]:
    """The broker said so."""
    return lambda bench: bench.take(answers, **how)


def prove(bench: Bench, incident: Incident, severity: Severity) -> None:
    """The check tells of the incident, as severely as it should."""
    incident.happens(bench)
    outcome = bench.outcomes[incident.check]
    assert not outcome.passed
    assert outcome.blocks == (severity is Severity.FATAL)
    assert any(
        incident.where in difference.where
        and incident.broker in difference.broker
        and difference.stored.startswith(incident.stored)
        for difference in outcome.differences
    ), outcome.differences
