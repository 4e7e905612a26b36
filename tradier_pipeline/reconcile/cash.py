"""Cash from evening to evening beside the account history that the broker makes over night. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from tradier_pipeline.core.check import Check
from tradier_pipeline.core.outcome import Difference, RuleResult, Severity, shown
from tradier_pipeline.reconcile.comparison import CENT


@dataclass(frozen=True, slots=True)
class CashDay:
    """A row of `cash_by_day` whose history has been read; USD.

    Attributes:
        open_before: what the session before had left unexplained; None if it is not known.
    """

    account_id: str
    trade_date: date
    since: date
    change: Decimal
    trades: Decimal
    flows: Decimal
    unexplained: Decimal
    open_before: Decimal | None


def _cash_result(day: CashDay) -> RuleResult:
    reported, differences = day.trades + day.flows, list[Difference]()
    was_in_flight = day.open_before is not None and abs(day.unexplained + day.open_before) < CENT
    if abs(day.unexplained) >= CENT and not was_in_flight:
        where = f"{day.account_id} cash since {day.since}"
        differences.append(Difference(where, f"{shown(reported)} USD reported", f"{shown(day.change)} USD changed"))
    parts = f"{shown(day.trades)} by trades, {shown(day.flows)} otherwise"
    return RuleResult(f"{shown(reported)} USD: {parts}", f"{shown(day.change)} USD", tuple(differences))


CASH_CHECKS: tuple[Check[CashDay], ...] = (
    Check(
        None,
        "cash_equals_history",
        Severity.WARN,
        "From evening to evening cash changed by what the account's history tells of trades, fees, deposits, dividends "
        "and interest, to the cent; or by that and what the evening before had not shown yet.",
        _cash_result,
    ),
)
