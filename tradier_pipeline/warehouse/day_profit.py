"""Where the profit of a day came from, to the cent: `day_profit` and its lines.

    change = trading + fees + dividends + interest + tax + adjustments + deposits - withdrawals + marks + unexplained

A day is compared with the last good snapshot of an earlier date: equity, cash, positions with their marks, and what the
orders had filled by then. Trading of a symbol is what it is worth now, less what it was worth then, plus what its fills
brought. What an assignment or exercise paid at the strike belongs to the shares that moved; where several did, nobody
tells which, and it is a line of its own. The broker values what is held a moment before the quotes are read: `marks` is
that difference. `unexplained` is what is left, never hidden: fees and deposits of today are reported over night only.
"""

from __future__ import annotations

from typing import Final

from tradier_pipeline.warehouse.cash import FEE_OF_TRADE
from tradier_pipeline.warehouse.equity import history_read
from tradier_pipeline.warehouse.kinds import TRADES, kind_of, listed
from tradier_pipeline.warehouse.schema import (
    BOOLEAN,
    DATE,
    DECIMAL,
    INSTANT,
    INTEGER,
    VARCHAR,
    WORDS,
    Column,
    View,
)

_KEY: Final = "account_id, trade_date"
# Of what the broker's history reports: the column, the kinds of `cash_flows`, in the order of the lines.
_FLOWS: Final = {
    "dividends": "kind = 'dividend'",
    "interest": "kind = 'interest'",
    "tax": "kind = 'tax'",
    "account_fees": "kind = 'fee'",
    "adjustments": "kind NOT IN ('dividend', 'interest', 'tax', 'fee')",
}
_PARTS: Final = ("trading", "fees", "dividends", "interest", "tax", "adjustments", "deposits", "withdrawals", "marks")
_KNOWN_FLOWS: Final = ", ".join(
    f"CASE WHEN reported THEN coalesce({name}, 0) END AS {name}" for name in _FLOWS if name != "account_fees"
)
_LINES: Final = ", ".join(
    f"{{'kind': '{name}', 'place': {place}, 'amount': {'-' if name == 'withdrawals' else ''}{name}::{DECIMAL}}}"
    for place, name in enumerate((*_PARTS[1:], "unexplained"), 1)
)
NOT_REPORTED: Final = "fees, deposits, dividends and interest of the day are not reported yet"


def _is_option(symbol: str) -> str:
    return rf"regexp_full_match({symbol}, '[A-Z]{{1,6}}\d{{6}}[CP]\d{{8}}')"


def _days(which: str) -> str:
    return f"""
    days AS MATERIALIZED (
        SELECT *, lag(trade_date) OVER so_far AS since_date, lag(as_of) OVER so_far AS since,
               lag(equity) OVER so_far AS equity_before, lag(cash) OVER so_far AS cash_before
        FROM (SELECT {_KEY}, last_as_of AS as_of, last AS equity, last_cash AS cash FROM snapshot_days
              WHERE snapshots > 0)
        WINDOW so_far AS (PARTITION BY account_id ORDER BY trade_date)
        QUALIFY since IS NOT NULL AND {which}
    )
    """  # noqa: S608


# What each symbol brought: `fills` between the ends of two days, `moves` with what is held at them.
_MOVES = rf"""
    fills AS (
        SELECT now.account_id, now.trade_date, now.symbol, now.bought - coalesce(before.bought, 0) AS bought,
               now.bought * now.price - coalesce(before.bought * before.price, 0) AS paid
        FROM day_end_executions AS now JOIN days USING (account_id, trade_date)
        LEFT JOIN day_end_executions AS before ON before.account_id = now.account_id AND before.trade_date = since_date
             AND before.order_id = now.order_id AND before.leg_no = now.leg_no
        WHERE before.order_id IS NOT NULL OR now.transaction_date > since
    ), filled AS (
        SELECT {_KEY}, symbol, CASE WHEN bool_and(bought IS NOT NULL) THEN sum(bought) END AS bought,
               CASE WHEN bool_and(paid IS NOT NULL) THEN sum(paid) END AS paid, true AS has_fills
        FROM fills GROUP BY {_KEY}, symbol HAVING bool_or(bought IS DISTINCT FROM 0)
    ), touched AS (
        SELECT {_KEY}, symbol FROM day_end_positions SEMI JOIN days USING ({_KEY})
        UNION SELECT days.account_id, days.trade_date, symbol
              FROM day_end_positions AS held JOIN days
              ON held.account_id = days.account_id AND held.trade_date = since_date
        UNION SELECT {_KEY}, symbol FROM filled
    ), compared AS (
        SELECT touched.account_id, touched.trade_date, touched.symbol,
               coalesce(now.asset_class, before.asset_class) AS asset_class,
               coalesce(now.underlying, before.underlying) AS underlying,
               coalesce(now.expiration, before.expiration) AS expiration, before.symbol IS NOT NULL AS was_held,
               coalesce(now.multiplier, before.multiplier, CASE WHEN {_is_option("touched.symbol")}
                        THEN 100 ELSE 1 END) AS size,
               CASE WHEN now.symbol IS NULL THEN 0 ELSE now.worth END
                   - CASE WHEN before.symbol IS NULL THEN 0 ELSE before.worth END AS revalued,
               coalesce(now.quantity, 0) - coalesce(before.quantity, 0) AS moved,
               CASE WHEN has_fills THEN bought ELSE 0 END AS bought,
               CASE WHEN has_fills THEN paid * size ELSE 0 END AS paid
        FROM touched JOIN days USING ({_KEY}) LEFT JOIN filled USING ({_KEY}, symbol)
        LEFT JOIN day_end_positions AS now
            ON now.account_id = touched.account_id AND now.trade_date = touched.trade_date
            AND now.symbol = touched.symbol
        LEFT JOIN day_end_positions AS before
            ON before.account_id = touched.account_id AND before.trade_date = since_date
            AND before.symbol = touched.symbol
    ), explained AS ( -- what of cash the snapshots of the day explain: by fills, and by what was delivered
        SELECT days.account_id, days.trade_date, sum(explained) AS explained
        FROM day_explained_cash AS of_date
        ASOF JOIN days ON of_date.account_id = days.account_id AND counts_from <= days.trade_date
        WHERE counts_from > since_date GROUP BY ALL
    ), delivered AS ( -- to the shares that moved without a fill, if only one symbol did
        SELECT {_KEY}, count(*) FILTER (NOT is_option) AS stocks, min(symbol) FILTER (NOT is_option) AS stock,
               list(DISTINCT underlying ORDER BY underlying) AS names, any_value(explained) + any_value(paid) AS amount
        FROM (SELECT {_KEY}, symbol, coalesce(underlying, symbol) AS underlying, {_is_option("symbol")} AS is_option
              FROM compared WHERE moved IS DISTINCT FROM bought) AS unfilled
        JOIN (SELECT {_KEY}, sum(paid) AS paid FROM compared GROUP BY {_KEY}
              HAVING bool_and(paid IS NOT NULL)) AS of_day USING ({_KEY})
        JOIN explained USING ({_KEY}) GROUP BY {_KEY}
        HAVING any_value(explained) + any_value(paid) <> 0
    ), moves AS MATERIALIZED (
        SELECT compared.*, revalued - paid + CASE WHEN stocks = 1 AND stock = symbol THEN amount ELSE 0 END AS amount
        FROM compared LEFT JOIN delivered USING ({_KEY})
    )
"""  # noqa: S608
# The lines of trading: options by their spread, where each contract of an expiration is in one spread alone.
_TRADING = f"""
    options AS (
        SELECT moves.*, coalesce(now.strategy, before.strategy) AS strategy,
               coalesce(now.legs_of, before.legs_of) AS legs_of,
               bool_or(coalesce(now.spreads, before.spreads) > 1) OVER (
                   PARTITION BY moves.account_id, moves.trade_date, underlying, expiration) IS TRUE AS is_shared
        FROM moves JOIN days USING ({_KEY})
        LEFT JOIN day_end_spread_legs AS now
            ON now.account_id = moves.account_id AND now.trade_date = moves.trade_date AND now.symbol = moves.symbol
        LEFT JOIN day_end_spread_legs AS before
            ON before.account_id = moves.account_id AND before.trade_date = since_date
            AND before.symbol = moves.symbol
        WHERE {_is_option("moves.symbol")} OR asset_class LIKE '%option'
    ), trading AS (
        SELECT {_KEY}, 'spread' AS kind, underlying, CASE WHEN NOT is_shared THEN strategy END AS strategy, expiration,
               list(symbol ORDER BY symbol) AS symbols,
               CASE WHEN bool_and(amount IS NOT NULL) THEN sum(amount) END AS amount
        FROM (SELECT * REPLACE (coalesce(underlying, regexp_extract(symbol, '^[A-Z]+')) AS underlying,
                                coalesce(expiration, try_strptime(substr(symbol, -15, 6), '%y%m%d')::DATE)
                                    AS expiration)
              FROM options)
        GROUP BY {_KEY}, underlying, CASE WHEN NOT is_shared THEN strategy END, expiration,
                 CASE WHEN NOT is_shared THEN legs_of END
        UNION ALL
        SELECT {_KEY}, 'stock', symbol, NULL, NULL, [symbol], amount FROM moves ANTI JOIN options USING ({_KEY}, symbol)
        UNION ALL
        SELECT {_KEY}, 'delivery', NULL, NULL, NULL, names, amount FROM delivered WHERE stocks <> 1
    )
"""  # noqa: S608
# What the broker's history reports of each day, and what equity and cash leave.
_REPORTED = f"""
    history AS (
        SELECT DISTINCT days.account_id, days.trade_date, true AS reported
        FROM days JOIN activity_extracts AS told_of
        ON told_of.account_id = days.account_id AND {history_read("days.trade_date", "days.since_date")}
    ), flows AS (
        SELECT days.account_id, days.trade_date,
               {", ".join(f"coalesce(sum(amount) FILTER ({which}), 0) AS {name}" for name, which in _FLOWS.items())}
        FROM (SELECT account_id, trade_date, kind, amount FROM cash_flows WHERE NOT external) AS other
        ASOF JOIN days ON other.account_id = days.account_id AND other.trade_date <= days.trade_date
        WHERE other.trade_date > since_date GROUP BY ALL
    ), external AS (
        SELECT days.account_id, days.trade_date, coalesce(sum(amount) FILTER (amount > 0), 0) AS deposits,
               coalesce(-sum(amount) FILTER (amount < 0), 0) AS withdrawals
        FROM external_flows AS paid ASOF JOIN days
        ON paid.account_id = days.account_id AND paid.counted_on <= days.trade_date
        WHERE paid.counted_on > since_date GROUP BY ALL
    ), trade_fees AS (
        SELECT days.account_id, days.trade_date, CASE WHEN bool_and(fee IS NOT NULL) THEN sum(fee) END AS trade_fees,
               true AS has_trades
        FROM (SELECT account_id, trade_date, {FEE_OF_TRADE} AS fee FROM account_activity
              WHERE {kind_of("type")} IN {listed(TRADES)}) AS events
        ASOF JOIN days ON events.account_id = days.account_id AND events.trade_date <= days.trade_date
        WHERE events.trade_date > since_date GROUP BY ALL
    ), valued AS (
        SELECT {_KEY}, sum(worth) AS worth, bool_and(worth IS NOT NULL) AS is_priced
        FROM day_end_positions GROUP BY {_KEY}
    ), traded AS (
        SELECT {_KEY}, coalesce(sum(amount), 0) AS trading, bool_and(amount IS NOT NULL) AS is_known
        FROM trading GROUP BY {_KEY}
    ), parts AS (
        SELECT days.*, coalesce(reported, false) AS reported, equity - equity_before AS change,
               coalesce(trading, 0) AS trading, coalesce(is_known, true) AS trading_known,
               CASE WHEN reported AND (has_trades IS NULL OR trade_fees IS NOT NULL)
                    THEN coalesce(trade_fees, 0) + coalesce(account_fees, 0) END AS fees,
               {_KNOWN_FLOWS},
               CASE WHEN reported OR deposits > 0 THEN coalesce(deposits, 0) END AS deposits,
               CASE WHEN reported OR withdrawals > 0 THEN coalesce(withdrawals, 0) END AS withdrawals,
               CASE WHEN now.is_priced IS NOT FALSE AND before.is_priced IS NOT FALSE
                    THEN equity - cash - coalesce(now.worth, 0)
                         - (equity_before - cash_before - coalesce(before.worth, 0)) END AS marks
        FROM days LEFT JOIN history USING ({_KEY}) LEFT JOIN flows USING ({_KEY}) LEFT JOIN external USING ({_KEY})
        LEFT JOIN trade_fees USING ({_KEY}) LEFT JOIN traded USING ({_KEY})
        LEFT JOIN valued AS now ON now.account_id = days.account_id AND now.trade_date = days.trade_date
        LEFT JOIN valued AS before ON before.account_id = days.account_id AND before.trade_date = since_date
    ), numbered AS (
        SELECT trade_date, session_close, row_number() OVER (ORDER BY trade_date) AS number FROM sessions
    ), totals AS (
        SELECT parts.*, change - trading - coalesce(fees, 0) - coalesce(dividends, 0) - coalesce(interest, 0)
                  - coalesce(tax, 0) - coalesce(adjustments, 0) - coalesce(deposits, 0) + coalesce(withdrawals, 0)
                  - coalesce(marks, 0) AS unexplained,
               change - coalesce(deposits, 0) + coalesce(withdrawals, 0) AS profit,
               coalesce(before_now.number, 0) - coalesce(until_since.number, 0) AS skipped,
               until_since.trade_date = since_date AND since < until_since.session_close AS since_early
        FROM parts ASOF LEFT JOIN numbered AS before_now ON parts.trade_date > before_now.trade_date
        ASOF LEFT JOIN numbered AS until_since ON since_date >= until_since.trade_date
    )
"""  # noqa: S608


def _parts_of(which: str) -> str:
    return f"{_days(which)}, {_MOVES}, {_TRADING}, {_REPORTED}"


def profit_query(which: str = "true") -> str:
    """The rows of `day_profit`.

    Args:
        which: the condition on account and date; a condition on the view leaves out days only once they are made.
    """
    return f"""
    WITH {_parts_of(which)}
    SELECT account_id, environment, trade_date, since, as_of, equity_before, equity, change::{DECIMAL} AS change,
           profit::{DECIMAL} AS profit, {", ".join(f"{name}::{DECIMAL} AS {name}" for name in _PARTS)},
           unexplained::{DECIMAL} AS unexplained, reported,
           concat_ws('; ', CASE WHEN NOT reported THEN '{NOT_REPORTED}' END,
                     CASE WHEN reported AND fees IS NULL THEN 'the fees of a trade are not known' END,
                     CASE WHEN skipped > 0 THEN 'sessions between that were not read: ' || skipped END,
                     CASE WHEN since_early THEN 'it is compared with a snapshot from before the close of '
                          || since_date END,
                     CASE WHEN NOT trading_known THEN 'a position has no quote, or a fill no price' END) AS note
    FROM totals LEFT JOIN account_environments USING (account_id)
    """  # noqa: S608


def lines_query(which: str = "true") -> str:
    """The rows of `day_profit_lines`; see `profit_query`."""
    return f"""
    WITH {_parts_of(which)}, lines AS (
        SELECT *, 0 AS place FROM trading WHERE amount IS DISTINCT FROM 0
        UNION ALL BY NAME
        SELECT {_KEY}, kind, amount, place FROM (
            SELECT {_KEY}, unnest([{_LINES}], recursive := true) FROM totals WHERE change IS NOT NULL
        ) WHERE amount <> 0 OR kind = 'unexplained'
    )
    SELECT account_id, environment, trade_date,
           row_number() OVER (PARTITION BY {_KEY} ORDER BY place, amount DESC NULLS LAST, underlying, symbols)::INTEGER
               AS line, kind, underlying, strategy, expiration, symbols, amount::{DECIMAL} AS amount
    FROM lines LEFT JOIN account_environments USING (account_id)
    """  # noqa: S608


_ACCOUNT = (
    Column("account_id", VARCHAR, "Account number"),
    Column("environment", VARCHAR, "simulator, sandbox or live"),
    Column("trade_date", DATE, "America/New_York date of the good snapshots that it is of"),
)

DAY_PROFIT = View(
    "day_profit",
    "One row per account and date with a good snapshot, but for the first: the change of equity since the last good "
    "snapshot of an earlier date, and what it came from. change = trading + fees + dividends + interest + tax + "
    "adjustments + deposits - withdrawals + marks + unexplained; what is null is not reported yet and in unexplained.",
    (
        *_ACCOUNT,
        Column("since", INSTANT, "As-of of the snapshot that it is compared with (UTC)"),
        Column("as_of", INSTANT, "As-of of the last good snapshot of the date (UTC)"),
        Column("equity_before", DECIMAL, "USD at since"),
        Column("equity", DECIMAL, "USD at as_of"),
        Column("change", DECIMAL, "USD; equity less equity_before"),
        Column("profit", DECIMAL, "USD; change less deposits, plus withdrawals, as far as these are reported"),
        Column("trading", DECIMAL, "USD, fees not in it; the sum of the lines of kind spread, stock and delivery"),
        Column("fees", DECIMAL, "USD, negative; of trades and of the account; null until all are reported"),
        Column("dividends", DECIMAL, "USD; null until reported"),
        Column("interest", DECIMAL, "USD, negative when paid; null until reported"),
        Column("tax", DECIMAL, "USD, negative when paid; null until reported"),
        Column("adjustments", DECIMAL, "USD; whatever else history reports; null until reported"),
        Column("deposits", DECIMAL, "USD, not negative, on the evening that shows them; null until reported"),
        Column("withdrawals", DECIMAL, "USD, not negative, on the evening that shows them; null until reported"),
        Column(
            "marks",
            DECIMAL,
            "USD; how the broker values what is held, in equity less cash, less the marks of the quotes read right "
            "after: now less then. Null if a position has no quote",
        ),
        Column("unexplained", DECIMAL, "USD; what all this leaves of change"),
        Column("reported", BOOLEAN, "Whether the broker's history of these days was read when they were over"),
        Column("note", VARCHAR, "Why something may be unexplained; empty: nothing is known that could be"),
    ),
    profit_query(),
)

DAY_PROFIT_LINES = View(
    "day_profit_lines",
    "One row per line of a row of day_profit: its amounts add up to change. Trading by spread and stock, the rest by "
    "kind; lines of nothing are left out, all but unexplained.",
    (
        *_ACCOUNT,
        Column("line", INTEGER, "1-based place: trading from the largest gain to the largest loss, then the rest"),
        Column(
            "kind",
            VARCHAR,
            "spread, stock, delivery (paid at the strike for shares of several symbols), fees, dividends, interest, "
            "tax, adjustments, deposits, withdrawals, marks or unexplained",
        ),
        Column("underlying", VARCHAR, "Of a spread or stock"),
        Column(
            "strategy",
            VARCHAR,
            "As in option_spreads; null: opened and closed between the snapshots, or a contract is in several spreads",
        ),
        Column("expiration", DATE, "Of a spread"),
        Column("symbols", WORDS, "What it is of, as in positions; null: not of trading"),
        Column(
            "amount", DECIMAL, "USD, signed as it changes equity; null: a position has no quote, or a fill no price"
        ),
    ),
    lines_query(),
)

VIEWS = (DAY_PROFIT, DAY_PROFIT_LINES)
