"""The trades of the ledger that were closed on a date, beside what the broker says of it the morning after."""

from tradier_pipeline.assets.date_checks import OF_CLOSED_LOTS
from tradier_pipeline.checks.trade_dates import checks_of_date

trades_beside_closed_lots = checks_of_date(OF_CLOSED_LOTS)
