"""The registry of the checks of a snapshot: pure rules over its landed bytes and its stored rows.

A check that compares our rows with the landed bytes is fatal: what it refutes is our mistake, and must not be shown.
A check that judges what the broker said, against itself or over time, warns: to hide a true answer of the broker,
however odd, would lose history. Whether anything may be concluded from it is its verdict: see reconcile.verdict.
"""

from __future__ import annotations

from collections.abc import Callable

from tradier_pipeline.core.check import Check
from tradier_pipeline.core.outcome import RuleResult, Severity
from tradier_pipeline.verify.evidence import Evidence

Rule = Callable[[Evidence], RuleResult]

CHECKS: list[Check[Evidence]] = []


def check(number: int | None, severity: Severity = Severity.FATAL) -> Callable[[Rule], Rule]:
    """Register a rule: its name is the check's name, its docstring the claim."""

    def register(rule: Rule) -> Rule:
        claim = " ".join((rule.__doc__ or "").split())
        CHECKS.append(Check(number, rule.__name__, severity, claim, rule))
        return rule

    return register
