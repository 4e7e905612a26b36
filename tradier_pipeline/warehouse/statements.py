"""The statement of an account over a period: how its opening became its closing, to the cent.

    opening + deposits - withdrawals + trading + dividends + interest - fees - tax + adjustments = closing

Opening and closing are values at the close of a session; deposits and the other lines are what the broker's history
reports between the two. Trading is what they leave: the profit or loss, realized or not, of what was held and traded,
with the commissions in it. So a line that is missing or wrong shows in `note`, never in a sum that does not add up.
"""

from __future__ import annotations

from datetime import date
from typing import Final, Literal

from tradier_pipeline.warehouse.schema import (
    BIGINT,
    BOOLEAN,
    DATE,
    DECIMAL,
    DOUBLE,
    VARCHAR,
    Column,
    View,
)
from tradier_pipeline.warehouse.sql import literal, where

Period = Literal["month", "quarter", "year"]
_OF_SNAPSHOTS: Final = "open, high, low, close, cash_close, snapshots"
LINES: Final = ("deposits", "withdrawals", "trading", "dividends", "interest", "fees", "tax", "adjustments")

# The known closes of each account with the one before: what is reported between two belongs to the later one.
_KNOWN = """
    SELECT account_id, trade_date, equity, deposits, withdrawals, dividends, interest, -fees AS fees, pnl, "return",
           growth, provisional, uncertain, lag(equity) OVER so_far AS before, lag(growth) OVER so_far AS growth_before,
           lag(trade_date) OVER so_far AS before_date
    FROM ({curve}) WHERE equity IS NOT NULL WINDOW so_far AS (PARTITION BY account_id ORDER BY trade_date)
"""
_OTHER = """
    SELECT known.account_id, known.trade_date, coalesce(-sum(amount) FILTER (kind = 'tax'), 0) AS tax,
           coalesce(sum(amount) FILTER (kind <> 'tax'), 0) AS adjustments
    FROM (FROM cash_flows WHERE NOT external AND kind NOT IN ('dividend', 'interest', 'fee')) AS other
    ASOF JOIN {known} AS known ON other.account_id = known.account_id AND other.trade_date <= known.trade_date
    WHERE known.before IS NOT NULL GROUP BY ALL
"""
_OF_ACCOUNT = f"""
    known AS MATERIALIZED ({_KNOWN.format(curve="FROM equity_curve")}), other AS ({_OTHER.format(known="known")})
"""
_OF_TOTAL = f"""
    known AS MATERIALIZED ({_KNOWN.format(curve="SELECT environment AS account_id, * FROM total_equity_curve")}),
    each AS MATERIALIZED ({_KNOWN.format(curve="FROM equity_curve")}),
    other AS (
        SELECT known.account_id, known.trade_date, sum(tax) AS tax, sum(adjustments) AS adjustments
        FROM (SELECT environment, trade_date, tax, adjustments
              FROM ({_OTHER.format(known="each")}) JOIN account_environments USING (account_id)) AS of_accounts
        ASOF JOIN known ON of_accounts.environment = known.account_id AND of_accounts.trade_date <= known.trade_date
        GROUP BY ALL
    )
"""  # noqa: S608


def cut_off(by: Period, since: date | None, until: date | None) -> str:
    """SQL: which sessions of `period` were asked for, if they are not all of it; empty if they are."""
    of_period = f"(FROM sessions WHERE date_trunc('{by}', trade_date)::DATE = period AND trade_date"
    cuts = [f"CASE WHEN EXISTS {of_period} < {literal(since)}) THEN 'only since {since}' END"] if since else []
    cuts += [f"CASE WHEN EXISTS {of_period} > {literal(until)}) THEN 'only until {until}' END"] if until else []
    return f"concat_ws(', ', {', '.join(cuts)})" if cuts else "''"


def statement_query(
    by: Period, account_id: str | None = None, since: date | None = None, until: date | None = None
) -> str:
    """The rows of `account_statements`, or those of quarters or years, of the closes between two dates."""
    rows = _statements(by, _OF_ACCOUNT, where(account_id, since, until), since=since, until=until)
    return f"SELECT * FROM ({rows}) ORDER BY {by}, account_id"  # noqa: S608


def total_statement_query(
    by: Period, environment: str | None = None, since: date | None = None, until: date | None = None
) -> str:
    """The statements of all accounts of an environment as if they were one."""
    asked = where(environment, since, until)
    total = _statements(by, _OF_TOTAL, asked, "FROM daily_balances WHERE false", since=since, until=until)
    columns = f"account_id AS environment, * EXCLUDE (account_id, environment, {_OF_SNAPSHOTS})"
    return f"SELECT {columns} FROM ({total}) ORDER BY {by}, environment"  # noqa: S608


def _statements(
    by: Period,
    source: str,
    asked: str,
    highs: str = "FROM daily_balances",
    *,
    since: date | None = None,
    until: date | None = None,
) -> str:
    """The query.

    Args:
        source: gives `known`, the closes, and `other`, the tax and adjustments that belong to them.
        asked: the condition on account and dates.
        highs: the highest and lowest equity by day.
        since, until: the dates that are asked for.
    """
    begins = f"greatest(period, {literal(since)})" if since else "period"
    ends = f" AND trade_date <= {literal(until)}" if until else ""
    return f"""
    WITH {source}, days AS (
        SELECT known.*, coalesce(tax, 0) AS tax, coalesce(adjustments, 0) AS adjustments,
               date_trunc('{by}', trade_date)::DATE AS period
        FROM (FROM known {asked}) AS known LEFT JOIN other USING (account_id, trade_date)
    ), falls AS (
        SELECT *, max(greatest(growth, coalesce(growth_before, growth))) OVER (
                   PARTITION BY account_id, period ORDER BY trade_date ROWS UNBOUNDED PRECEDING
               ) AS peak
        FROM days
    ), highs AS (
        SELECT account_id, date_trunc('{by}', trade_date)::DATE AS period,
               arg_min(coalesce(open, close), trade_date) AS open, max(greatest(high, close)) AS high,
               min(least(low, close)) AS low, arg_max(cash_close, trade_date) AS cash_close,
               sum(snapshots)::BIGINT AS snapshots
        FROM ({highs}) {asked} GROUP BY ALL
    ), summed AS (
        SELECT account_id, period, arg_min(coalesce(before, equity), trade_date) AS opening,
               min(coalesce(before_date, trade_date)) AS opening_date,
               bool_or(before_date IS NULL) AS begins, arg_max(equity, trade_date) AS closing,
               max(trade_date) AS closing_date, min(trade_date) AS first_date,
               {", ".join(_sum(name) for name in LINES if name != "trading")},
               CASE WHEN count("return") > 0 AND count(*) FILTER (pnl <> 0 AND "return" IS NULL) = 0
                    THEN product(greatest(1 + "return", 0)) FILTER ("return" IS NOT NULL) - 1 END AS "return",
               min(CASE WHEN peak > 0 THEN growth / peak - 1 END) AS fallen,
               count(*) FILTER (provisional AND before IS NOT NULL) AS provisional,
               count(*) FILTER (uncertain AND before IS NOT NULL) AS uncertain
        FROM falls GROUP BY account_id, period
    ), marked AS (
        SELECT *, (SELECT max(trade_date) FROM sessions
                   WHERE date_trunc('{by}', trade_date)::DATE = period{ends}) AS last_session,
               (SELECT count(*) FROM sessions
                WHERE trade_date > opening_date AND trade_date < least({begins}, first_date)) AS skipped,
               (SELECT count(*) FROM sessions
                WHERE trade_date > opening_date AND trade_date <= closing_date) AS sessions,
               {cut_off(by, since, until)} AS cut
        FROM summed
    )
    SELECT account_id, environment, period AS {by}, open, high, low, closing::{DECIMAL} AS close, cash_close,
           coalesce(snapshots, 0) AS snapshots, opening_date, opening::{DECIMAL} AS opening,
           {", ".join(f"{_LINE.get(name, name)}::{DECIMAL} AS {name}" for name in LINES)},
           closing::{DECIMAL} AS closing, closing_date,
           (closing - opening - deposits + withdrawals)::{DECIMAL} AS pnl, "return",
           CASE WHEN "return" IS NOT NULL THEN fallen END AS max_drawdown,
           coalesce(closing_date >= last_session AND skipped = 0 AND provisional = 0 AND cut = '', false) AS complete,
           concat_ws('; ', nullif(cut, ''),
               CASE WHEN closing IS NULL THEN 'no close of a session was read' END,
               CASE WHEN closing_date < last_session
                    THEN 'the last session, ' || last_session || ', was not read after its close' END,
               CASE WHEN skipped > 0
                    THEN 'sessions before it that were not read, so that the opening is older: ' || skipped END,
               CASE WHEN begins THEN 'the history began on ' || opening_date END,
               CASE WHEN uncertain > 0 THEN 'uncertain closes, whose flows are not known: ' || uncertain END,
               CASE WHEN provisional > uncertain
                    THEN 'closes whose flows may not all be reported yet: ' || provisional - uncertain END
           ) AS note
    FROM marked FULL JOIN highs USING (account_id, period) LEFT JOIN account_environments USING (account_id)
    """  # noqa: S608


_LINE: Final = {
    "trading": "(closing - opening - deposits + withdrawals - dividends - interest + fees + tax - adjustments)"
}


def _sum(name: str) -> str:
    return f"coalesce(sum({name}) FILTER (before IS NOT NULL), 0) AS {name}"


_FIGURES = (
    Column("open", DECIMAL, "USD; equity at the first snapshot of the period, or the first close that is known"),
    Column("high", DECIMAL, "USD; highest equity of the period's snapshots and closes"),
    Column("low", DECIMAL, "USD; lowest equity of the period's snapshots and closes"),
    Column("close", DECIMAL, "USD; = closing"),
    Column("cash_close", DECIMAL, "USD; cash at the last close that a snapshot was read after"),
    Column("snapshots", BIGINT, "Good snapshots of the period"),
    Column("opening_date", DATE, "The session at whose close the opening is: the last known one before the period"),
    Column("opening", DECIMAL, "USD; value at the close before the period; where the history begins the first known"),
    Column("deposits", DECIMAL, "USD, not negative; paid in"),
    Column("withdrawals", DECIMAL, "USD, not negative; taken out"),
    Column(
        "trading",
        DECIMAL,
        "USD; profit or loss, realized or not, of what was held and traded, commissions included: what the other lines "
        "leave",
    ),
    Column("dividends", DECIMAL, "USD"),
    Column("interest", DECIMAL, "USD; negative when paid"),
    Column("fees", DECIMAL, "USD; paid, other than those of trades; negative when refunded"),
    Column("tax", DECIMAL, "USD; withheld; negative when refunded"),
    Column("adjustments", DECIMAL, "USD; whatever else the broker's history reports, signed"),
    Column(
        "closing",
        DECIMAL,
        "USD; value at the last known close of the period = opening + deposits - withdrawals + trading + dividends + "
        "interest - fees - tax + adjustments",
    ),
    Column("closing_date", DATE, "The session at whose close that is"),
    Column("pnl", DECIMAL, "USD; profit or loss = closing - opening - deposits + withdrawals"),
    Column("return", DOUBLE, "Time-weighted, 0.01 = 1 %; null if it is not known of a day with a profit or loss"),
    Column("max_drawdown", DOUBLE, "Deepest fall from a peak within the period: 0 or negative, -0.05 = 5 %"),
    Column(
        "complete",
        BOOLEAN,
        "Whether both ends were read and all flows are reported; if not, note tells what is missing",
    ),
    Column("note", VARCHAR, "What is not as it should be; empty if nothing"),
)

ACCOUNT_STATEMENTS = View(
    "account_statements",
    "One row per account and month with a snapshot or a known close: the statement, opening + deposits - withdrawals "
    "+ trading + dividends + interest - fees - tax + adjustments = closing.",
    (
        Column("account_id", VARCHAR, "Account number"),
        Column("environment", VARCHAR, "simulator, sandbox or live"),
        Column("month", DATE, "Its first day"),
        *_FIGURES,
    ),
    _statements("month", _OF_ACCOUNT, ""),
)

VIEWS = (ACCOUNT_STATEMENTS,)
