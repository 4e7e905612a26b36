"""What a check says: passed or not, what was compared, both figures, and the rows that differ."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

MAX_DIFFERENCES = 20


class Severity(StrEnum):
    """FATAL keeps a snapshot from being published; WARN is shown and lets it through."""

    FATAL = "fatal"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where the broker's bytes and the stored rows disagree."""

    where: str
    broker: str
    stored: str


@dataclass(frozen=True, slots=True)
class RuleResult:
    """What one rule found. `broker` and `stored` are the two figures compared, as a person reads them."""

    broker: str
    stored: str
    differences: tuple[Difference, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.differences


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one check of one snapshot.

    `differences` holds at most 20 of the `differing` places.
    """

    check: str
    number: int | None
    severity: Severity
    claim: str
    passed: bool
    broker: str
    stored: str
    differing: int
    differences: tuple[Difference, ...]

    @property
    def blocks(self) -> bool:
        """Whether this result keeps the snapshot from being published."""
        return not self.passed and self.severity is Severity.FATAL


def shown(value: Any) -> str:
    """A value as a person reads it in a difference."""
    if value is None:
        return "null"
    if isinstance(value, Decimal):
        text = format(value.normalize(), "f")
        return "0" if text == "-0" else text
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value)
