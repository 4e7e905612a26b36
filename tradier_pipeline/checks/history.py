"""Cash of a session, and the statement of its month, beside what the broker reports the morning after."""

from collections.abc import Sequence
from datetime import date

import duckdb

from tradier_pipeline.assets.activity import ACCOUNT_ACTIVITY
from tradier_pipeline.checks.trade_dates import checks_of_date
from tradier_pipeline.reconcile.account_statement import STATEMENT_CHECKS, StatementMonth
from tradier_pipeline.reconcile.cash import CASH_CHECKS, CashDay
from tradier_pipeline.warehouse.closings import cash_days, statement_months


def _cash(connection: duckdb.DuckDBPyConnection, day: date) -> Sequence[CashDay] | str:
    why = f"{day} is not judged: its history was not read, or there is no snapshot after its close"
    return cash_days(connection, day) or why


def _statements(connection: duckdb.DuckDBPyConnection, day: date) -> Sequence[StatementMonth] | str:
    return statement_months(connection, day) or f"there is no statement of {day:%Y-%m}: no close of it is known"


cash_beside_history = checks_of_date(
    "cash_beside_history",
    ACCOUNT_ACTIVITY,
    CASH_CHECKS,
    _cash,
    "Compare what is known by now of a trade date; nothing without its history and a snapshot after each close.",
)
statement_beside_days = checks_of_date(
    "statement_beside_days",
    ACCOUNT_ACTIVITY,
    STATEMENT_CHECKS,
    _statements,
    "Prove the statement of the month of a trade date by what is known by now.",
)
