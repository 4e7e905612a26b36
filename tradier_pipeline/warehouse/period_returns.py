"""Returns by month, quarter and year, their volatility and Sharpe ratio, and those of a benchmark beside them.

    return     = product of 1 + the returns of its days, less 1: time-weighted, deposits and withdrawals aside
    volatility = sample deviation of the daily returns * sqrt(252)
    sharpe     = mean of the daily returns / their sample deviation * sqrt(252), with a risk-free rate of 0
    benchmark  = what its price made over the same days, from close to close; dividends of the benchmark are not in it

A day is known by its close. Days of which it is not known what came or left have no return, are left out of all of
these, of the benchmark's too, and are named in `note`: a period that has a note is not known for good.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Final

from tradier_pipeline.domain.returns import CONSTANT, FEWEST_DAYS, NO_DEVIATION, SESSIONS_OF_A_YEAR, TOO_FEW, UNREAD
from tradier_pipeline.warehouse.schema import BIGINT, BOOLEAN, DATE, DOUBLE, INTEGER, VARCHAR, Column, View
from tradier_pipeline.warehouse.sql import literal, where
from tradier_pipeline.warehouse.statements import Period, cut_off

MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_OF_ACCOUNT: Final = "FROM equity_curve"
_OF_TOTAL: Final = "SELECT environment AS account_id, * EXCLUDE (accounts, waits_for) FROM total_equity_curve"
_NEWEST_BENCHMARK: Final = "SELECT environment, arg_max(symbol, read_at) AS symbol FROM daily_prices GROUP BY ALL"


def _benchmark(symbol: str | None) -> str:
    """The symbol of each environment: the one whose prices were read last, or the one that is asked for; '': none."""
    if symbol is None:
        return _NEWEST_BENCHMARK
    return f"SELECT DISTINCT environment, symbol FROM daily_prices WHERE symbol = {literal(symbol)}"  # noqa: S608


def _days(curve: str, symbol: str | None) -> str:
    """The CTE `days`: the sessions of the curve, the closes with the one before and what the benchmark made since."""
    return f"""
    prices AS ( -- a level for each day with a price; a series that other reads interrupt begins anew
        SELECT *, count(*) FILTER (breaks) OVER so_far AS series,
               product(CASE WHEN breaks THEN 1 ELSE coalesce(close / previous_close, 1) END) OVER so_far AS level
        FROM (SELECT environment, symbol, trade_date, close::DOUBLE AS close, previous_close::DOUBLE AS previous_close,
                     previous_date IS DISTINCT FROM lag(trade_date) OVER by_date AS breaks
              FROM daily_prices SEMI JOIN ({_benchmark(symbol)}) USING (environment, symbol) WHERE close IS NOT NULL
              WINDOW by_date AS (PARTITION BY environment, symbol ORDER BY trade_date))
        WINDOW so_far AS (PARTITION BY environment, symbol ORDER BY trade_date)
    ), curve AS (
        SELECT *, lag(trade_date) OVER so_far AS session_before,
               CASE WHEN equity IS NOT NULL
                    THEN lag(CASE WHEN equity IS NOT NULL THEN trade_date END IGNORE NULLS) OVER so_far END AS since,
               bool_or(coalesce(equity <> 0 AND NOT uncertain AND reason IS DISTINCT FROM '{UNREAD}', false))
                   OVER (PARTITION BY account_id) AS is_read,
               max(CASE WHEN equity IS NOT NULL THEN trade_date END) OVER (PARTITION BY account_id) AS newest
        FROM ({curve}) WINDOW so_far AS (PARTITION BY account_id ORDER BY trade_date)
    ), days AS (
        SELECT curve.*, chosen.symbol AS benchmark,
               CASE WHEN here.series = before.series THEN here.level / before.level - 1 END AS benchmark_return,
               CASE WHEN chosen.symbol IS NULL OR since IS NULL THEN NULL WHEN here.series IS NULL THEN curve.trade_date
                    WHEN before.series IS DISTINCT FROM here.series THEN since END AS unpriced,
               coalesce("return" IS NOT NULL AND days_spanned = 1
                        AND NOT (is_read AND reason IS NOT DISTINCT FROM '{UNREAD}'), false)
                   AS is_usable
        FROM curve LEFT JOIN ({_benchmark(symbol)}) AS chosen USING (environment)
        LEFT JOIN prices AS here ON here.environment = curve.environment AND here.trade_date = curve.trade_date
        LEFT JOIN prices AS before ON before.environment = curve.environment AND before.trade_date = curve.since
    )
    """  # noqa: S608


def _returns(
    by: Period,
    curve: str,
    asked: str = "",
    symbol: str | None = None,
    *,
    since: date | None = None,
    until: date | None = None,
) -> str:
    """The query: one row for each period up to that of the last known close.

    Args:
        asked: the condition on account and dates.
        since, until: the dates in it.
    """
    return f"""
    WITH {_days(curve, symbol)}, asked AS (
        SELECT *, date_trunc('{by}', trade_date)::DATE AS period
        FROM (FROM days {asked})
    ), reasons AS (
        SELECT account_id, period, reason, min(trade_date) AS first,
               min(trade_date)::VARCHAR || CASE count(*) WHEN 1 THEN ''
                   ELSE ' to ' || max(trade_date)::VARCHAR || ' (' || count(*) || ' sessions)' END AS dates
        FROM (SELECT account_id, period, trade_date,
                     CASE WHEN equity IS NULL THEN 'no close was read' WHEN since IS NULL THEN NULL
                          WHEN "return" IS NULL AND pnl <> 0 AND NOT uncertain
                          THEN concat_ws('; ', 'a profit or loss without money to make it counts as 0 %', reason)
                          ELSE reason END AS reason
              FROM asked)
        WHERE reason IS NOT NULL GROUP BY account_id, period, reason
    ), marks AS (
        SELECT account_id, period, string_agg(dates || ': ' || reason, '; ' ORDER BY first, reason) AS marks
        FROM reasons GROUP BY account_id, period
    ), summed AS (
        SELECT account_id, period, min(environment) AS environment, min(since) AS since,
               max(trade_date) FILTER (equity IS NOT NULL) AS until, arg_min(session_before, trade_date) AS last_before,
               min(trade_date) FILTER (equity IS NOT NULL AND since IS NULL) AS began,
               CASE WHEN count("return") > 0 -- greatest(NULL, 0) is 0
                    THEN product(greatest(1 + "return", 0)) FILTER ("return" IS NOT NULL) - 1 END AS "return",
               bool_and(uncertain) FILTER (since IS NOT NULL) AS all_uncertain,
               count(*) FILTER (is_usable) AS usable_days,
               count(*) FILTER (NOT is_usable AND (equity IS NULL OR since IS NOT NULL)) AS left_out,
               avg("return") FILTER (is_usable) AS mean, stddev_samp("return") FILTER (is_usable) AS deviation,
               min(benchmark) AS benchmark,
               count(*) FILTER ("return" IS NOT NULL AND benchmark_return IS NULL) AS lacking,
               product(1 + benchmark_return) FILTER ("return" IS NOT NULL) - 1 AS benchmark_return,
               min(unpriced) FILTER ("return" IS NOT NULL) AS unpriced
        FROM asked WHERE period <= newest GROUP BY account_id, period
    ), risk AS (
        SELECT *, CASE WHEN usable_days < {FEWEST_DAYS} THEN '{TOO_FEW}: ' || usable_days
                       WHEN deviation < {NO_DEVIATION} THEN '{CONSTANT}' END AS risk_reason
        FROM summed
    )
    SELECT account_id, environment, period AS {by}, since, until, "return",
           CASE WHEN usable_days >= {FEWEST_DAYS} THEN deviation * sqrt({SESSIONS_OF_A_YEAR}) END AS volatility,
           CASE WHEN risk_reason IS NULL THEN mean / deviation * sqrt({SESSIONS_OF_A_YEAR}) END AS sharpe,
           risk_reason, usable_days, left_out, benchmark,
           CASE WHEN lacking = 0 AND "return" IS NOT NULL THEN benchmark_return END AS benchmark_return,
           CASE WHEN lacking > 0 THEN benchmark || ' has no comparable price on ' || unpriced || CASE lacking
                WHEN 1 THEN '' ELSE ', and on other days: ' || (lacking - 1) END END AS benchmark_note,
           note = '' AS complete, note
    FROM (SELECT *, concat_ws('; ', nullif({cut_off(by, since, until)}, ''),
               CASE WHEN began IS NOT NULL THEN 'the history began on ' || began END,
               CASE WHEN since < last_before THEN 'measured from the close of ' || since
                    || ', the last that was read before it' END,
               CASE WHEN "return" IS NULL AND began IS NULL AND until IS NOT NULL AND NOT coalesce(all_uncertain, false)
                    THEN 'there was no money' END,
               marks) AS note
          FROM risk LEFT JOIN marks USING (account_id, period))
    """  # noqa: S608


def _table(months: str, key: str) -> str:
    """The rows of months as one for each year, the months beside each other."""
    columns = ", ".join(f'max("return") FILTER (month(month) = {number}) AS "{name}"' for number, name in _numbered())
    return f"""
    SELECT {key}, year(month)::INTEGER AS year, {columns},
           product(1 + "return") - CASE WHEN count("return") > 0 THEN 1 END AS "return", min(benchmark) AS benchmark,
           CASE WHEN count(*) FILTER ("return" IS NOT NULL AND benchmark_return IS NULL) = 0 AND count("return") > 0
                THEN product(1 + benchmark_return) - 1 END AS benchmark_return,
           string_agg(benchmark_note, '; ' ORDER BY month) AS benchmark_note, bool_and(complete) AS complete,
           coalesce(string_agg(strftime(month, '%b') || ': ' || note, '; ' ORDER BY month)
                    FILTER (NOT complete), '') AS note
    FROM ({months}) GROUP BY {key}, year(month)
    """  # noqa: S608


def _numbered() -> Iterable[tuple[int, str]]:
    return enumerate(MONTHS, 1)


def returns_query(
    by: Period,
    account_id: str | None = None,
    since: date | None = None,
    until: date | None = None,
    *,
    benchmark: str | None = None,
    total: bool = False,
) -> str:
    """The rows of `monthly_returns`, or those of quarters or years, of the closes between two dates.

    Args:
        benchmark: the symbol to compare with; None: the one whose prices were read last; empty: none.
        total: all accounts of an environment as if they were one, without `account_id`.
    """
    asked = where(account_id, since, until)
    rows = _returns(by, _OF_TOTAL if total else _OF_ACCOUNT, asked, benchmark, since=since, until=until)
    columns = "* EXCLUDE (account_id)" if total else "*"
    return f"SELECT {columns} FROM ({rows}) ORDER BY {'environment' if total else 'account_id'}, {by}"  # noqa: S608


def table_query(
    account_id: str | None = None,
    since: date | None = None,
    until: date | None = None,
    *,
    benchmark: str | None = None,
    total: bool = False,
) -> str:
    """The rows of `yearly_returns`: one for each account and year, its months beside each other."""
    months = returns_query("month", account_id, since, until, benchmark=benchmark, total=total)
    key = "environment" if total else "account_id, environment"
    return f"FROM ({_table(months, key)}) ORDER BY {key.partition(',')[0]}, year"


def table_in_text(query: str, key: str) -> str:
    """The rows of `returns_query` of months as people read them: a year a row, in percent; marked ones with a star."""

    def cell(value: str, is_marked: str) -> str:
        return f"coalesce(printf('%.2f', 100 * {value}), '-') || CASE WHEN {is_marked} THEN ' *' ELSE '' END"

    month = cell('"return"', "NOT complete")
    columns = ", ".join(
        f"coalesce(max({month}) FILTER (month(month) = {number}), '') AS \"{name.capitalize()}\""
        for number, name in _numbered()
    )
    product = 'product(1 + "return") - CASE WHEN count("return") > 0 THEN 1 END'
    lacks = 'count(*) FILTER ("return" IS NOT NULL AND benchmark_return IS NULL) > 0'
    beside = f'CASE WHEN NOT {lacks} THEN product(1 + benchmark_return) FILTER ("return" IS NOT NULL) - 1 END'
    return f"""
    SELECT {key}, year(month) AS year, {columns}, {cell(f"({product})", "NOT bool_and(complete)")} AS "year, %",
           min(benchmark) AS benchmark, CASE WHEN min(benchmark) IS NOT NULL THEN {cell(f"({beside})", lacks)} END
           AS "benchmark, %"
    FROM ({query}) GROUP BY {key}, year(month) ORDER BY {key}, year
    """  # noqa: S608


def notes_query(query: str, by: Period, key: str) -> str:
    """What to know of the rows of `returns_query`: whose, of which period, and the notes."""
    period = {"month": "strftime(month, '%Y-%m')", "quarter": "year(quarter) || '-Q' || quarter(quarter)"}.get(
        by, "year(year)::VARCHAR"
    )
    return f"""
    SELECT {key}, {period}, concat_ws('; ', nullif(note, ''), benchmark_note) FROM ({query})
    WHERE NOT complete OR benchmark_note IS NOT NULL ORDER BY {key}, {by}
    """  # noqa: S608


def in_text(query: str) -> str:
    """The rows of `returns_query` as people read them: in percent, to two places."""
    percent = ("return", "volatility", "benchmark_return")
    replaced = ", ".join(f'round(100 * "{name}", 2) AS "{name}"' for name in percent)
    renamed = ", ".join(f'"{name}" AS "{name}, %"' for name in percent)
    rounded = f"SELECT * REPLACE ({replaced}, round(sharpe, 2) AS sharpe) FROM ({query})"  # noqa: S608
    return f"SELECT * RENAME ({renamed}) FROM ({rounded})"  # noqa: S608


def benchmark_query(symbol: str, account_id: str | None = None, *, total: bool = False) -> str:
    """What a symbol made from close to close of each account, or of each environment: account, date, return."""
    days = _days(_OF_TOTAL if total else _OF_ACCOUNT, symbol)
    of_account = where(account_id) or "WHERE true"
    return (
        f"WITH {days} SELECT account_id, trade_date, benchmark_return FROM days {of_account} "  # noqa: S608
        "AND benchmark_return IS NOT NULL"
    )


_ACCOUNT = Column("account_id", VARCHAR, "Account number")
_ENVIRONMENT = Column("environment", VARCHAR, "simulator, sandbox or live")
_BENCHMARK = (
    Column("benchmark", VARCHAR, "The symbol compared with: the one whose prices were read last; null: none was read"),
    Column(
        "benchmark_return",
        DOUBLE,
        "What its price made over the same days, from close to close; null if one of these closes has no price",
    ),
)
_NOTE = (
    Column("benchmark_note", VARCHAR, "Which day has no comparable price; null: all have"),
    Column("complete", BOOLEAN, "Whether every day of it was read for good; if not, note tells what is missing"),
    Column("note", VARCHAR, "Days that are uncertain, were not read or may change, and why; empty if there are none"),
)
_FIGURES = (
    Column("since", DATE, "The close that it is measured from; null: the history begins in it"),
    Column("until", DATE, "The last known close in it"),
    Column("return", DOUBLE, "Time-weighted, 0.01 = 1 %; null without a day that has a return"),
    Column(
        "volatility",
        DOUBLE,
        f"Sample deviation of the daily returns * sqrt({SESSIONS_OF_A_YEAR}); null of fewer than {FEWEST_DAYS} days",
    ),
    Column(
        "sharpe",
        DOUBLE,
        f"Mean of the daily returns / their sample deviation * sqrt({SESSIONS_OF_A_YEAR}); risk-free rate 0; null: "
        "risk_reason tells why",
    ),
    Column("risk_reason", VARCHAR, "Why there is no Sharpe ratio; null: there is one"),
    Column("usable_days", BIGINT, "Sessions with a return of their own, which volatility and sharpe are of"),
    Column("left_out", BIGINT, "Sessions without one: uncertain, not read, or of several sessions at once"),
    *_BENCHMARK,
    *_NOTE,
)
_MONTH = Column("month", DATE, "Its first day")
_MONTHS = tuple(Column(name, DOUBLE, f"Return of {name.capitalize()}; null: not known") for name in MONTHS)
_YEAR = (
    Column("year", INTEGER, "Calendar year"),
    *_MONTHS,
    Column("return", DOUBLE, "Of the whole year, as far as it is known: the product of its months"),
    *_BENCHMARK,
    *_NOTE,
)

MONTHLY_RETURNS = View(
    "monthly_returns",
    "One row per account and month up to its last known close: time-weighted return, volatility, Sharpe ratio, and the "
    "return of the benchmark over the same days. A month with an uncertain or unread day has a note.",
    (_ACCOUNT, _ENVIRONMENT, _MONTH, *_FIGURES),
    _returns("month", _OF_ACCOUNT),
)
TOTAL_MONTHLY_RETURNS = View(
    "total_monthly_returns",
    "The same of all accounts of an environment as if they were one: a row per environment and month.",
    (_ENVIRONMENT, _MONTH, *_FIGURES),
    f"SELECT * EXCLUDE (account_id) FROM ({_returns('month', _OF_TOTAL)})",  # noqa: S608
)
YEARLY_RETURNS = View(
    "yearly_returns",
    "One row per account and year: the returns of its months beside each other, and of the year; note names the months "
    "with an uncertain or unread day.",
    (_ACCOUNT, _ENVIRONMENT, *_YEAR),
    _table("FROM monthly_returns", "account_id, environment"),
)
TOTAL_YEARLY_RETURNS = View(
    "total_yearly_returns",
    "The same of all accounts of an environment as if they were one: a row per environment and year.",
    (_ENVIRONMENT, *_YEAR),
    _table("FROM total_monthly_returns", "environment"),
)
BENCHMARK_RETURNS = View(
    "benchmark_returns",
    "One row per account and known close: its return beside that of the benchmark since the close before.",
    (
        _ACCOUNT,
        _ENVIRONMENT,
        Column("trade_date", DATE, "The session"),
        Column("since", DATE, "The session of the close before; null: the history begins"),
        Column("return", DOUBLE, "Of the account, as in equity_curve"),
        *_BENCHMARK,
        Column("unpriced", DATE, "The day without a price; null: both have one"),
    ),
    f"""
    WITH {_days(_OF_ACCOUNT, None)}
    SELECT account_id, environment, trade_date, since, "return", benchmark, benchmark_return, unpriced
    FROM days WHERE equity IS NOT NULL
    """,  # noqa: S608
)

VIEWS = (MONTHLY_RETURNS, TOTAL_MONTHLY_RETURNS, YEARLY_RETURNS, TOTAL_YEARLY_RETURNS, BENCHMARK_RETURNS)
