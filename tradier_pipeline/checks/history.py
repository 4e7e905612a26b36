"""Cash of a session, and the statement of its month, beside what the broker reports the morning after; and the rows
that are kept of days and equity curves beside their queries.
"""

from collections.abc import Sequence
from datetime import date

import duckdb

from tradier_pipeline.assets.activity import ACCOUNT_ACTIVITY
from tradier_pipeline.checks.trade_dates import checks_of_date
from tradier_pipeline.reconcile.account_statement import STATEMENT_CHECKS, StatementMonth
from tradier_pipeline.reconcile.cash import CASH_CHECKS, CashDay
from tradier_pipeline.reconcile.derived_rows import DERIVED_CHECKS, DerivedRows
from tradier_pipeline.warehouse.closings import cash_days, derived_rows, statement_months


def _cash(connection: duckdb.DuckDBPyConnection, day: date) -> Sequence[CashDay] | str:
    why = f"{day} is not judged: its history was not read, or there is no snapshot after its close"
    return cash_days(connection, day) or why


def _statements(connection: duckdb.DuckDBPyConnection, day: date) -> Sequence[StatementMonth] | str:
    return statement_months(connection, day) or f"there is no statement of {day:%Y-%m}: no close of it is known"


def _derived(connection: duckdb.DuckDBPyConnection, _: date) -> Sequence[DerivedRows]:
    return derived_rows(connection)


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
derived_beside_queries = checks_of_date(
    "derived_beside_queries",
    ACCOUNT_ACTIVITY,
    DERIVED_CHECKS,
    _derived,
    "Compute the rows that are kept of all days and equity curves once more, and compare them.",
)
