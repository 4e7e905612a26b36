"""The statement of a month beside the closes before it and the days in it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from tradier_pipeline.core.outcome import Difference, RuleResult, Severity, shown
from tradier_pipeline.reconcile.daily import DateCheck


@dataclass(frozen=True, slots=True)
class StatementMonth:
    """A row of `account_statements` with a closing, in USD; `lines` by name, `fees` and `tax` positive when paid.

    Attributes:
        closed_before: the closing of the statement before; None for the first one.
        pnl_of_days: the profit and loss of its days in `equity_curve`; None if that of one is not known.
    """

    account_id: str
    month: date
    opening: Decimal
    lines: dict[str, Decimal]
    closing: Decimal
    pnl: Decimal
    closed_before: Decimal | None
    pnl_of_days: Decimal | None


_SUBTRACTED = ("withdrawals", "fees", "tax")


def _adds_up(month: StatementMonth) -> RuleResult:
    total = month.opening + sum(-value if name in _SUBTRACTED else value for name, value in month.lines.items())
    claims = {
        "opening and lines": (total, month.closing),
        "opening": (month.closed_before, month.opening),
        "profit or loss of the days": (month.pnl_of_days, month.pnl),
    }
    differences = tuple(
        Difference(f"{month.account_id} {month.month:%Y-%m} {what}", f"{shown(ought)} USD", f"{shown(found)} USD")
        for what, (ought, found) in claims.items()
        if ought is not None and ought != found
    )
    return RuleResult(f"{shown(total)} USD", f"{shown(month.closing)} USD", differences)


STATEMENT_CHECKS: tuple[DateCheck[StatementMonth], ...] = (
    DateCheck(
        None,
        "statement_adds_up",
        Severity.WARN,
        "In the statement of the date's month opening and lines make the closing, the opening is the closing of the "
        "statement before, and the profit or loss is that of its days, all exactly.",
        _adds_up,
    ),
)
