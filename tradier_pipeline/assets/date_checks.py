"""The checks of trade dates: what is known of a date by now, and what the checks say of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Generic, TypeVar

import dagster as dg
import duckdb

from tradier_pipeline.assets.results import check_result
from tradier_pipeline.core.check import Check
from tradier_pipeline.publish.summaries import summary_evidence
from tradier_pipeline.reconcile.account_statement import STATEMENT_CHECKS, StatementMonth
from tradier_pipeline.reconcile.cash import CASH_CHECKS, CashDay
from tradier_pipeline.reconcile.derived_rows import DERIVED_CHECKS, DerivedRows
from tradier_pipeline.reconcile.gainloss import GAINLOSS_CHECKS, ClosedDay
from tradier_pipeline.reconcile.summary_checks import SUMMARY_CHECKS, SummaryEvidence
from tradier_pipeline.warehouse.activity import DESTINATIONS
from tradier_pipeline.warehouse.closings import (
    cash_days,
    closed_day,
    covered_accounts,
    derived_rows,
    statement_months,
)
from tradier_pipeline.warehouse.reads import daily_summaries

E = TypeVar("E")
ACCOUNT_ACTIVITY = dg.AssetKey(DESTINATIONS["history"].name)
CLOSED_LOTS = dg.AssetKey(DESTINATIONS["gainloss"].name)
DAILY_SUMMARY = dg.AssetKey("daily_summary")


@dataclass(frozen=True, slots=True)
class ChecksOfDate(Generic[E]):
    """Checks of one asset over the same evidence.

    Attributes:
        name: of all of them together.
        find: what is known of a date, or why it is not judged: then no check has a result.
    """

    name: str
    asset: dg.AssetKey
    checks: Sequence[Check[E]]
    find: Callable[[duckdb.DuckDBPyConnection, date], Sequence[E] | str]
    description: str

    def results(
        self, context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, connection: duckdb.DuckDBPyConnection
    ) -> list[dg.AssetCheckResult]:
        """What every check says of the date of the run; nothing, and a line in its log, if it is not judged."""
        found = self.find(connection, date.fromisoformat(context.partition_key))
        if isinstance(found, str):
            context.log.info(found)
            return []
        return [check_result(check.run(*found), self.asset) for check in self.checks]


def _summaries(connection: duckdb.DuckDBPyConnection, day: date) -> Sequence[SummaryEvidence] | str:
    rows = daily_summaries(connection, day)
    return [summary_evidence(connection, row) for row in rows] or f"{day} is not judged: it has no summary"


def _closed(connection: duckdb.DuckDBPyConnection, day: date) -> Sequence[ClosedDay] | str:
    covered = covered_accounts(connection, day)
    days = [found for account_id in covered if (found := closed_day(connection, account_id, day))]
    why = "no trade of the ledger is known of it" if covered else "the broker's gain and loss of it was not read"
    return days or f"{day} is not judged: {why}"


def _cash(connection: duckdb.DuckDBPyConnection, day: date) -> Sequence[CashDay] | str:
    why = f"{day} is not judged: its history was not read, or there is no snapshot after its close"
    return cash_days(connection, day) or why


def _statements(connection: duckdb.DuckDBPyConnection, day: date) -> Sequence[StatementMonth] | str:
    return statement_months(connection, day) or f"there is no statement of {day:%Y-%m}: no close of it is known"


def _derived(connection: duckdb.DuckDBPyConnection, _: date) -> Sequence[DerivedRows]:
    return derived_rows(connection)


OF_SUMMARY = ChecksOfDate(
    "summary_checks",
    DAILY_SUMMARY,
    SUMMARY_CHECKS,
    _summaries,
    "Prove the newest summary of a trade date by the snapshots that it rests on; nothing of a date without one.",
)
OF_CLOSED_LOTS = ChecksOfDate(
    "trades_beside_closed_lots",
    CLOSED_LOTS,
    GAINLOSS_CHECKS,
    _closed,
    "Compare what is known by now of a trade date; nothing if the broker was not asked, or without a ledger.",
)
OF_CASH = ChecksOfDate(
    "cash_beside_history",
    ACCOUNT_ACTIVITY,
    CASH_CHECKS,
    _cash,
    "Compare what is known by now of a trade date; nothing without its history and a snapshot after each close.",
)
OF_STATEMENT = ChecksOfDate(
    "statement_beside_days",
    ACCOUNT_ACTIVITY,
    STATEMENT_CHECKS,
    _statements,
    "Prove the statement of the month of a trade date by what is known by now.",
)
OF_DERIVED = ChecksOfDate(
    "derived_beside_queries",
    ACCOUNT_ACTIVITY,
    DERIVED_CHECKS,
    _derived,
    "Compute the rows that are kept of all days and equity curves once more, and compare them.",
)
OF_ACTIVITY: tuple[ChecksOfDate[Any], ...] = (OF_CLOSED_LOTS, OF_CASH, OF_STATEMENT, OF_DERIVED)
