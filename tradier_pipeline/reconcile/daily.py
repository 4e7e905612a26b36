"""The numbered checks of trade dates: claims over the summaries of a date. Pure.

They say whether a stored summary is what it claims to be; none keeps one from being stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, TypeVar

from tradier_pipeline import clock
from tradier_pipeline.core.outcome import MAX_DIFFERENCES, Difference, Outcome, RuleResult, Severity, shown

Row = Mapping[str, Any]
E = TypeVar("E")

_ONE_SNAPSHOT = ("as_of", "equity", "cash", "buying_power", "close_pl")


def _never(_: object) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class DateCheck(Generic[E]):
    """A claim about one trade date, and the rule over the evidence of each account that proves or refutes it.

    Attributes:
        number: among the 80 checks; None for one that is not.
        is_fatal: whether the evidence of an account makes a warning an error.
    """

    number: int | None
    name: str
    severity: Severity
    claim: str
    rule: Callable[[E], RuleResult]
    is_fatal: Callable[[E], bool] = _never

    def run(self, accounts: Sequence[E]) -> Outcome:
        """Apply the rule to every account."""
        findings = [self.rule(account) for account in accounts]
        differences = [difference for finding in findings for difference in finding.differences]
        return Outcome(
            check=self.name,
            number=self.number,
            severity=Severity.FATAL if any(map(self.is_fatal, accounts)) else self.severity,
            claim=self.claim,
            passed=not differences,
            broker="; ".join(finding.broker for finding in findings),
            stored="; ".join(finding.stored for finding in findings),
            differing=len(differences),
            differences=tuple(differences[:MAX_DIFFERENCES]),
        )


@dataclass(frozen=True, slots=True)
class SummaryEvidence:
    """The newest summary of a trade date of an account, and what it rests on.

    Attributes:
        before: the newest summary with trades of an earlier date; None if there is none.
        snapshot: header and balances of the snapshot that it names; None if that is not stored.
    """

    summary: Row
    before: Row | None
    snapshot: Row | None

    def differ(self, what: str, expected: object, stored: object) -> Iterator[Difference]:
        """One difference if the two are not equal."""
        if expected != stored:
            yield Difference(f"{self.summary['account_id']} {what}", shown(expected), shown(stored))


def _after_close(evidence: SummaryEvidence) -> RuleResult:
    summary = evidence.summary
    close = summary["session_close"]
    early = [] if close is None else [name for name in ("generated_at", "as_of") if summary[name] < close]
    return RuleResult(
        "no session" if close is None else f"close {shown(close)}",
        f"made {shown(summary['generated_at'])} of {shown(summary['as_of'])}",
        tuple(
            Difference(f"{summary['account_id']} {name}", f"not before {shown(close)}", shown(summary[name]))
            for name in early
        ),
    )


def _reconciles(evidence: SummaryEvidence) -> RuleResult:
    summary, before = evidence.summary, evidence.before
    if summary["trades_open"] is None:
        return RuleResult("no ledger", "no trades")
    opened, closed, is_open = (summary[f"trades_{name}"] for name in ("opened", "closed", "open"))
    counted = f"{opened} opened, {closed} closed, {is_open} open, {summary['realized_unknown']} of unknown profit"
    differences = [*_sums(evidence)]
    if before is None:
        return RuleResult("the first summary", counted, tuple(differences))
    differences += evidence.differ("trades since", before["trades_as_of"], summary["trades_since"])
    differences += evidence.differ("trades open", before["trades_open"] + opened - closed, is_open)
    return RuleResult(f"{before['trades_open']} open on {before['trade_date']}", counted, tuple(differences))


def _sums(evidence: SummaryEvidence) -> Iterator[Difference]:
    """The figures are those of the rows beside them."""
    summary = evidence.summary
    for name in ("opened", "closed", "open"):
        yield from evidence.differ(f"{name} trades", len(summary[f"{name}_trades"]), summary[f"trades_{name}"])
    profits = [trade["realized_pnl"] for trade in summary["closed_trades"]]
    known = [profit for profit in profits if profit is not None]
    total = sum(known, Decimal(0)) if known or not profits else None
    yield from evidence.differ("realized profit", total, summary["realized_pnl"])
    yield from evidence.differ("unknown profits", len(profits) - len(known), summary["realized_unknown"])


def _of_its_date(evidence: SummaryEvidence) -> RuleResult:
    summary, snapshot = evidence.summary, evidence.snapshot
    if snapshot is None:
        missing = Difference(f"{summary['account_id']} snapshot", "not stored", summary["snapshot_id"])
        return RuleResult("no snapshot", summary["snapshot_id"], (missing,))
    day = summary["trade_date"]
    differences = [*evidence.differ("trade date", snapshot["trade_date"], day)]
    for name in _ONE_SNAPSHOT:
        differences += evidence.differ(name, snapshot[name], summary[name])
    if summary["trades_as_of"] is not None:
        differences += evidence.differ("trades as of", clock.trade_date(summary["trades_as_of"]), day)
    return RuleResult(f"snapshot of {snapshot['trade_date']}", f"summary of {day}", tuple(differences))


SUMMARY_CHECKS: tuple[DateCheck[SummaryEvidence], ...] = (
    DateCheck(
        77,
        "summary_after_close",
        Severity.FATAL,
        "A summary was made after the close of its session, from a snapshot that was read after it.",
        _after_close,
    ),
    DateCheck(
        78,
        "summary_reconciles",
        Severity.WARN,
        "Trades open are those of the summary before, and those opened, without those closed; sums are those of the "
        "rows, and what is not known is counted.",
        _reconciles,
    ),
    DateCheck(
        79,
        "summary_history",
        Severity.FATAL,
        "A summary, whenever it was made, is of a snapshot of its own date, and has that one's balances.",
        _of_its_date,
    ),
)
