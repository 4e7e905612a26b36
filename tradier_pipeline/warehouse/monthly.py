"""What months came to beside gains and losses: premium of short options, fees, and dividends and interest by payer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

from tradier_pipeline.warehouse.cash import FEE_OF_TRADE
from tradier_pipeline.warehouse.kinds import TRADES, kind_of, listed
from tradier_pipeline.warehouse.schema import BIGINT, DATE, DECIMAL, DOUBLE, VARCHAR, Column, View
from tradier_pipeline.warehouse.sql import where

MonthlyBy = Literal["premium", "fees", "income"]

_KEYS = (
    Column("account_id", VARCHAR, "Account number"),
    Column("environment", VARCHAR, "simulator, sandbox or live"),
    Column("month", DATE, "Its first day"),
)
_IS_OPTION = r"regexp_full_match(symbol, '[A-Z0-9]{1,6}\d{6}[CP]\d{8}')"


def _premium(asked: str) -> str:
    return f"""
    WITH premium AS (
        SELECT account_id, date_trunc('month', close_date)::DATE AS month, count(*) AS lots,
               sum(proceeds) AS sold, sum(cost) AS bought_back, sum(gain_loss) AS kept
        FROM (FROM closed_lots {asked}) WHERE quantity < 0 AND {_IS_OPTION} GROUP BY ALL
    )
    SELECT account_id, environment, month, lots, sold::{DECIMAL} AS sold, bought_back::{DECIMAL} AS bought_back,
           kept::{DECIMAL} AS kept, CASE WHEN sold > 0 THEN kept::DOUBLE / sold::DOUBLE END AS kept_rate
    FROM premium LEFT JOIN account_environments USING (account_id)
    """  # noqa: S608


def _fees(asked: str) -> str:
    trade = f"kind IN {listed(TRADES)}"
    return f"""
    WITH events AS (
        SELECT account_id, date_trunc('month', trade_date)::DATE AS month, {kind_of("type")} AS kind,
               amount, commission, -({FEE_OF_TRADE}) AS fee
        FROM account_activity {asked}
    ), paid AS (
        SELECT account_id, month, count(*) FILTER ({trade}) AS trades,
               count(*) FILTER ({trade} AND fee IS NULL) AS trades_unknown,
               CASE WHEN trades_unknown = 0 THEN coalesce(sum(fee) FILTER ({trade}), 0) END AS trade_fees,
               CASE WHEN bool_and(commission IS NOT NULL) FILTER (kind = 'trade') IS NOT FALSE
                    THEN coalesce(sum(commission) FILTER ({trade}), 0) END AS commissions,
               coalesce(-sum(amount) FILTER (kind = 'fee'), 0) AS account_fees
        FROM events WHERE {trade} OR kind = 'fee' GROUP BY ALL
    )
    SELECT account_id, environment, month, trades, trades_unknown, commissions::{DECIMAL} AS commissions,
           trade_fees::{DECIMAL} AS trade_fees, account_fees::{DECIMAL} AS account_fees,
           (trade_fees + account_fees)::{DECIMAL} AS fees
    FROM paid LEFT JOIN account_environments USING (account_id)
    """  # noqa: S608


def _income(asked: str) -> str:
    return f"""
    WITH paid AS (
        SELECT account_id, date_trunc('month', trade_date)::DATE AS month, kind,
               nullif(trim(regexp_replace(description, '\\s+', ' ', 'g')), '') AS payer,
               count(*) AS payments, sum(amount) AS amount
        FROM cash_flows {asked} GROUP BY ALL HAVING kind IN ('dividend', 'interest')
    )
    SELECT account_id, environment, month, kind, payer, payments, amount::{DECIMAL} AS amount
    FROM paid LEFT JOIN account_environments USING (account_id)
    """  # noqa: S608


@dataclass(frozen=True, slots=True)
class _Monthly:
    """A view, the query that it is of, the column that has its dates, and what its rows are ordered by."""

    view: View
    query: Callable[[str], str]
    on: str
    order: str


def _monthly(
    name: str, comment: str, columns: tuple[Column, ...], query: Callable[[str], str], on: str, order: str = ""
) -> _Monthly:
    return _Monthly(View(name, comment, (*_KEYS, *columns), query("")), query, on, f"month, account_id{order}")


_MONTHLY: Final[Mapping[MonthlyBy, _Monthly]] = {
    "premium": _monthly(
        "premium_by_month",
        "What was sold of options and how much of it was kept, by account and month of closing: closed lots that were "
        "short.",
        (
            Column("lots", BIGINT, "Closed lots of options that were short"),
            Column("sold", DECIMAL, "USD; premium received for them"),
            Column("bought_back", DECIMAL, "USD; paid to close them"),
            Column("kept", DECIMAL, "USD; the broker's gain or loss"),
            Column("kept_rate", DOUBLE, "kept / sold, 0.5 = 50 %; null if nothing was received"),
        ),
        _premium,
        "close_date",
    ),
    "fees": _monthly(
        "fees_by_month",
        "What trading cost, by account and month, as the broker's history reports it.",
        (
            Column("trades", BIGINT, "Trades and option events"),
            Column("trades_unknown", BIGINT, "Those whose fees are not known: no price, or an adjusted contract"),
            Column("commissions", DECIMAL, "USD, paid; the broker's own figure; null if it is missing of a trade"),
            Column(
                "trade_fees",
                DECIMAL,
                "USD, paid; commissions and all other fees in the amounts of trades: what an amount is less than "
                "quantity x price x multiplier; null if it is not known of one",
            ),
            Column("account_fees", DECIMAL, "USD, paid; fees that are of no trade; negative when refunded"),
            Column("fees", DECIMAL, "USD; trade_fees + account_fees"),
        ),
        _fees,
        "trade_date",
    ),
    "income": _monthly(
        "income_by_month",
        "Dividends and interest by account, month and payer, as the broker's history reports them.",
        (
            Column("kind", VARCHAR, "dividend or interest"),
            Column("payer", VARCHAR, "The broker's words for it; null if it has none"),
            Column("payments", BIGINT, "How many"),
            Column("amount", DECIMAL, "USD; negative when paid"),
        ),
        _income,
        "trade_date",
        ", kind, payer NULLS LAST",
    ),
}
VIEWS = tuple(one.view for one in _MONTHLY.values())


def columns_of(by: MonthlyBy) -> tuple[Column, ...]:
    """The columns of `monthly_query`."""
    return _MONTHLY[by].view.columns


def monthly_query(
    by: MonthlyBy, account_id: str | None = None, since: date | None = None, until: date | None = None
) -> str:
    """The rows of `premium_by_month`, `fees_by_month` or `income_by_month`, of what is between two dates."""
    one = _MONTHLY[by]
    return f"FROM ({one.query(where(account_id, since, until, on=one.on))}) ORDER BY {one.order}"
