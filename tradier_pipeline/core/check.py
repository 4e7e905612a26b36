"""A check: a claim, and the rule over evidence that proves or refutes it. Snapshots, the ledger and trade dates share
this one frame; what differs is the evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import localcontext
from typing import Any, Generic, TypeVar

from tradier_pipeline.core.decimals import UNROUNDED
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.outcome import MAX_DIFFERENCES, Difference, Outcome, RuleResult, Severity, shown
from tradier_pipeline.core.texts import printable

E = TypeVar("E")

_UNREADABLE = (
    *(OSError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError),
    RecursionError,  # JSON nested too deeply
)


def _never(_: object) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Check(Generic[E]):
    """A claim about evidence of one kind.

    Attributes:
        number: among the 80 checks; None for one that is not.
        rule: what it finds in one piece of evidence: a snapshot, a reconciliation, the trade date of an account.
        is_fatal: whether the evidence makes a warning an error.
    """

    number: int | None
    name: str
    severity: Severity
    claim: str
    rule: Callable[[E], RuleResult]
    is_fatal: Callable[[E], bool] = _never

    def run(self, *evidence: E) -> Outcome:
        """Apply the rule to every piece of evidence. A rule that cannot even read one has not been met."""
        results = [self._apply(one) for one in evidence]
        differences = [difference for result in results for difference in result.differences]
        return Outcome(
            check=self.name,
            number=self.number,
            severity=Severity.FATAL if any(map(self.is_fatal, evidence)) else self.severity,
            claim=self.claim,
            passed=not differences,
            broker=printable("; ".join(result.broker for result in results)),
            stored=printable("; ".join(result.stored for result in results)),
            differing=len(differences),
            differences=tuple(map(_for_people, differences[:MAX_DIFFERENCES])),
            judged=bool(differences) or any(result.judged for result in results),
        )

    def _apply(self, evidence: E) -> RuleResult:
        try:
            with localcontext(UNROUNDED):
                return self.rule(evidence)
        except PipelineError as error:
            return RuleResult("unreadable", "-", (Difference("landed bytes", str(error), "-"),))
        except _UNREADABLE as error:
            return RuleResult("unreadable", "-", (Difference("evidence", f"{type(error).__name__}: {error}", "-"),))


def _for_people(difference: Difference) -> Difference:
    """Names and values may be the broker's texts."""
    return Difference(printable(difference.where), printable(difference.broker), printable(difference.stored))


def differing(
    what: str, broker: Mapping[Any, Mapping[str, Any]], stored: Mapping[Any, Mapping[str, Any]]
) -> tuple[Difference, ...]:
    """Compare rows by key over the union of both sides, in all columns the broker side names."""
    differences: list[Difference] = []
    for key in broker.keys() | stored.keys():
        ours, theirs = stored.get(key), broker.get(key)
        if ours is not None and theirs is not None and theirs.items() <= ours.items():
            continue
        where = f"{what} {' '.join(map(str, key))}".strip()
        if ours is None:
            differences.append(Difference(where, "listed", "missing"))
        elif theirs is None:
            differences.append(Difference(where, "not listed", "stored"))
        else:
            differences += [
                Difference(f"{where} {column}", shown(theirs[column]), shown(ours[column]))
                for column in theirs
                if theirs[column] != ours[column]
            ]
    return tuple(sorted(differences, key=lambda difference: difference.where))


def claim_that(holds: bool, where: str, broker: object, stored: object) -> tuple[Difference, ...]:
    """No difference if it holds, else one."""
    return () if holds else (Difference(where, shown(broker), shown(stored)),)
