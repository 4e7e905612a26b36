"""The trades of the ledger that were closed on a date, beside what the broker says of it the morning after."""

from collections.abc import Sequence
from datetime import date

import dagster as dg
import duckdb

from tradier_pipeline.checks.trade_dates import checks_of_date
from tradier_pipeline.reconcile.gainloss import GAINLOSS_CHECKS, ClosedDay
from tradier_pipeline.warehouse.closings import closed_day, covered_accounts

CLOSED_LOTS = dg.AssetKey("closed_lots")


def _closed(connection: duckdb.DuckDBPyConnection, day: date) -> Sequence[ClosedDay] | str:
    covered = covered_accounts(connection, day)
    days = [found for account_id in covered if (found := closed_day(connection, account_id, day))]
    why = "no trade of the ledger is known of it" if covered else "the broker's gain and loss of it was not read"
    return days or f"{day} is not judged: {why}"


trades_beside_closed_lots = checks_of_date(
    "trades_beside_closed_lots",
    CLOSED_LOTS,
    GAINLOSS_CHECKS,
    _closed,
    "Compare what is known by now of a trade date; nothing if the broker was not asked, or without a ledger.",
)
