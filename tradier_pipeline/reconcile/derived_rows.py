"""The rows that every publish keeps of days and equity curves, beside what their queries give. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from tradier_pipeline.reconcile.daily import DateCheck
from tradier_pipeline.verify.outcome import Difference, Finding, Severity


@dataclass(frozen=True, slots=True)
class DerivedRows:
    """A derived table: how many rows it has, and those that only it or only its query has.

    Attributes:
        kept_only, defined_only: account or environment, and trade date.
    """

    table: str
    rows: int
    kept_only: tuple[tuple[str | None, date], ...]
    defined_only: tuple[tuple[str | None, date], ...]


def _follow(derived: DerivedRows) -> Finding:
    kept = [Difference(f"{derived.table} {whose} {day}", "no such row", "a row") for whose, day in derived.kept_only]
    made = [Difference(f"{derived.table} {whose} {day}", "a row", "no such row") for whose, day in derived.defined_only]
    defined = derived.rows - len(kept) + len(made)
    return Finding(f"{defined} rows of {derived.table}", f"{derived.rows} rows", (*made, *kept))


DERIVED_CHECKS: tuple[DateCheck[DerivedRows], ...] = (
    DateCheck(
        None,
        "derived_rows_follow",
        Severity.FATAL,
        "The kept rows of days and equity curves are what their queries give of all that is stored, row by row, both "
        "ways; if not, `tradier-pipeline rebuild` makes them anew.",
        _follow,
    ),
)
