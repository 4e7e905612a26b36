"""The rows that every publish keeps of days and equity curves, beside what their queries give. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tradier_pipeline.core.outcome import Difference, RuleResult, Severity
from tradier_pipeline.reconcile.daily import DateCheck


@dataclass(frozen=True, slots=True)
class DerivedRows:
    """A derived table: how many rows it has, and those that only it or only its query has.

    Attributes:
        kept_only, defined_only: account, environment and trade date, as far as the table has them.
    """

    table: str
    rows: int
    kept_only: tuple[str, ...]
    defined_only: tuple[str, ...]


def _follow(derived: DerivedRows) -> RuleResult:
    kept = [Difference(f"{derived.table} {place}", "no such row", "a row") for place in derived.kept_only]
    made = [Difference(f"{derived.table} {place}", "a row", "no such row") for place in derived.defined_only]
    defined = derived.rows - len(kept) + len(made)
    return RuleResult(f"{defined} rows of {derived.table}", f"{derived.rows} rows", (*made, *kept))


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
