"""The registry of checks, and how one is run. Every check is a pure rule over the evidence.

A check that compares our rows with the landed bytes is fatal: what it refutes is our mistake, and must not be shown.
A check that judges what the broker said, against itself or over time, warns: to hide a true answer of the broker,
however odd, would lose history. Whether anything may be concluded from it is its verdict: see reconcile.verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import localcontext
from typing import Any

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.outcome import MAX_DIFFERENCES, Difference, Outcome, RuleResult, Severity, shown
from tradier_pipeline.core.texts import printable
from tradier_pipeline.verify.evidence import UNROUNDED, Evidence, Row

Rule = Callable[[Evidence], RuleResult]


@dataclass(frozen=True, slots=True)
class Check:
    """A claim about a snapshot and the rule that proves or refutes it. `number`: its number among the 80 checks."""

    name: str
    number: int | None
    severity: Severity
    claim: str
    rule: Rule

    def run(self, evidence: Evidence) -> Outcome:
        """Apply the rule. A rule that cannot even read its evidence has not been met."""
        try:
            with localcontext(UNROUNDED):
                finding = self.rule(evidence)
        except PipelineError as error:
            finding = RuleResult("unreadable", "-", (Difference("landed bytes", str(error), "-"),))
        except _UNREADABLE as error:
            finding = RuleResult("unreadable", "-", (Difference("evidence", f"{type(error).__name__}: {error}", "-"),))
        return Outcome(
            check=self.name,
            number=self.number,
            severity=self.severity,
            claim=self.claim,
            passed=finding.passed,
            broker=printable(finding.broker),
            stored=printable(finding.stored),
            differing=len(finding.differences),
            differences=tuple(map(_for_people, finding.differences[:MAX_DIFFERENCES])),
        )


def _for_people(difference: Difference) -> Difference:
    """Names and values may be the broker's texts."""
    return Difference(printable(difference.where), printable(difference.broker), printable(difference.stored))


_UNREADABLE = (
    *(OSError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError),
    RecursionError,  # JSON nested too deeply
)

CHECKS: list[Check] = []


def check(number: int | None, severity: Severity = Severity.FATAL) -> Callable[[Rule], Rule]:
    """Register a rule: its name is the check's name, its docstring the claim."""

    def register(rule: Rule) -> Rule:
        claim = " ".join((rule.__doc__ or "").split())
        CHECKS.append(Check(rule.__name__, number, severity, claim, rule))
        return rule

    return register


def differing(what: str, broker: Mapping[Any, Row], stored: Mapping[Any, Row]) -> tuple[Difference, ...]:
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
