"""Snapshots that go wrong in one way, and the check that must tell of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from tradier_pipeline.core.outcome import Outcome, Severity
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.verify import CHECKS
from tradier_pipeline.verify.evidence import Evidence
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
    store_unproven,
    zone_in,
)

PUT = "SPY251219P00602500"
LOWER_PUT = "SPY251219P00597500"
EARLIER = AS_OF - timedelta(minutes=1)
YESTERDAY = AS_OF - timedelta(days=1)
RULES = {check.name: check for check in CHECKS}


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


class Proof(Mapping[str, Outcome]):
    """What each check says of a snapshot as it is stored now; it is asked when somebody wants to know."""

    def __init__(self, landed: LandedSnapshot, connection: duckdb.DuckDBPyConnection) -> None:
        self._evidence = Evidence(landed, connection)
        self._said: dict[str, Outcome] = {}

    def __getitem__(self, name: str) -> Outcome:
        if name not in self._said:
            self._said[name] = RULES[name].run(self._evidence)
        return self._said[name]

    def __iter__(self) -> Iterator[str]:
        return iter(RULES)

    @property
    def blocking(self) -> list[str]:
        """The checks that block; those that only warn are not asked."""
        return [name for name, rule in RULES.items() if rule.severity is Severity.FATAL and self[name].blocks]

    def __len__(self) -> int:
        return len(RULES)


class Sound:
    """The sound snapshot, landed and stored once for all tests of a module that only spoil it."""

    def __init__(self, home: Path, staged: StagedWarehouse) -> None:
        self.staged = staged
        self.landed = land(zone_in(home), sound())
        store_unproven(staged, self.landed)


@dataclass
class Bench:
    """A warehouse to store snapshots in and to spoil. What is spoiled is whole again before anything else is stored."""

    home: Path
    staged: StagedWarehouse
    stored: Sound | None = None
    outcomes: Proof = field(init=False)
    is_spoiled: bool = False

    def sound(self) -> LandedSnapshot:
        """The sound snapshot alone, as `take` would give it, with bytes of its own; no other can be stored after it."""
        assert self.stored is not None
        self.staged = self.stored.staged
        directory = self.home / self.stored.landed.directory.relative_to(self.stored.landed.directory.parents[3])
        shutil.copytree(self.stored.landed.directory, directory)
        landed = LandedSnapshot(self.stored.landed.snapshot_id, directory)
        self.again(landed)
        return landed

    def take(self, reported: Answers | None = None, as_of: datetime = AS_OF, **how: Any) -> LandedSnapshot:
        assert self.stored is None or self.staged is not self.stored.staged
        self.restore()
        landed = land(zone_in(self.home), reported or sound(), as_of, **how)
        store_unproven(self.staged, landed)
        self.again(landed)
        return landed

    def spoil(self, landed: LandedSnapshot, sql: str) -> None:
        self.restore()
        self.staged.connection.execute("BEGIN")
        self.is_spoiled = True
        self.staged.connection.execute(sql)
        self.again(landed)

    def restore(self) -> None:
        if self.is_spoiled:
            self.staged.connection.execute("ROLLBACK")
            self.is_spoiled = False

    def again(self, landed: LandedSnapshot) -> None:
        self.outcomes = Proof(LandedSnapshot(landed.snapshot_id, landed.directory), self.staged.connection)

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
