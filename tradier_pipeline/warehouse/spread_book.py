"""The book as an options trader reads it: `spread_book`, each spread with its odds, and `assignment_risk`."""

from __future__ import annotations

from typing import Final

from tradier_pipeline.warehouse.exposure import OUT_OF_THE_MONEY, to_scale
from tradier_pipeline.warehouse.schema import (
    BIGINT,
    BOOLEAN,
    DATE,
    DECIMAL,
    DOUBLE,
    GOOD_OF_DAY,
    INTEGER,
    KEY_COLUMNS,
    KEYS,
    SPREAD_GREEKS,
    SPREAD_PRICES,
    SPREAD_STRIKES,
    UNDERLYING_OF_POSITION,
    UNDERLYING_PRICE,
    VARCHAR,
    Column,
    View,
)


def book_query(snapshots: str) -> str:
    """The rows of `spread_book`.

    Args:
        snapshots: the join that leaves the wanted ones.
    """
    return f"""
    SELECT {KEYS}, environment, spread_no, underlying, strategy, side, quantity, expiration,
           (expiration - trade_date)::INTEGER AS days_left, underlying_price, cost,
           CASE WHEN cost < 0 THEN -cost END::{DECIMAL} AS credit, entry_price, close_price,
           market_value, unrealized_pl, has_payoff, max_profit, max_loss,
           CASE WHEN max_profit > 0 THEN unrealized_pl::DOUBLE / max_profit::DOUBLE END AS captured,
           break_even_low, break_even_high, short_strike, short_type, distance,
           CASE WHEN underlying_price > 0 THEN distance::DOUBLE / underlying_price::DOUBLE END AS distance_ratio,
           delta, theta, vega
    FROM (SELECT option_spreads.* FROM option_spreads {snapshots}) LEFT JOIN account_environments USING (account_id)
    """  # noqa: S608


SPREAD_BOOK = View(
    "spread_book",
    "One row per good snapshot and option spread: what was received or paid, how far it has come, and how far the "
    "underlying is from the strikes.",
    (
        *KEY_COLUMNS,
        Column("environment", VARCHAR, "simulator, sandbox or live"),
        Column("spread_no", INTEGER, "As in option_spreads"),
        Column("underlying", VARCHAR, "As in option_spreads"),
        Column("strategy", VARCHAR, "As in option_spreads"),
        Column("side", VARCHAR, "As in option_spreads"),
        Column("quantity", DECIMAL, "How many spreads"),
        Column("expiration", DATE, "The nearest of the legs' expirations"),
        Column("days_left", INTEGER, "Calendar days from trade_date to expiration"),
        UNDERLYING_PRICE,
        Column("cost", DECIMAL, "USD; positive when paid, negative when received; shares of a covered call are in it"),
        Column("credit", DECIMAL, "USD received, of all of it; null when it was paid for"),
        *SPREAD_PRICES,
        Column("market_value", DECIMAL, "USD; null if a leg has no quote"),
        Column("unrealized_pl", DECIMAL, "USD; null if a leg has no quote"),
        Column("has_payoff", BOOLEAN, "Whether the value at expiration is known: one root, one expiration"),
        Column("max_profit", DECIMAL, "USD at expiration; null with a payoff means unlimited"),
        Column("max_loss", DECIMAL, "USD at expiration, positive for a loss; null with a payoff means unlimited"),
        Column("captured", DOUBLE, "unrealized_pl / max_profit, 0.5 = half of the maximum profit; null without one"),
        *SPREAD_STRIKES,
        Column("distance_ratio", DOUBLE, "distance / underlying_price, 0.05 = 5 %"),
        *SPREAD_GREEKS,
    ),
    book_query(GOOD_OF_DAY),
)

ASSIGNMENT_RISK = View(
    "assignment_risk",
    "One row per good snapshot and short option: whether it is in the money, what its assignment would take, and of a "
    "call, whether the next dividend makes early exercise pay.",
    (
        *KEY_COLUMNS,
        Column("environment", VARCHAR, "simulator, sandbox or live"),
        Column("symbol", VARCHAR, "As in positions"),
        Column("underlying", VARCHAR, "What it is written on"),
        Column("option_type", VARCHAR, "call or put"),
        Column("strike", DECIMAL, "USD per share"),
        Column("expiration", DATE, "When it expires"),
        Column("days_left", INTEGER, "Calendar days from trade_date to expiration"),
        Column("quantity", DECIMAL, "Contracts, negative"),
        UNDERLYING_PRICE,
        Column("distance", DECIMAL, "USD per share that the underlying is out of the money; negative: in the money"),
        Column("in_the_money", BOOLEAN, "Whether distance is below zero; null without a price"),
        Column("mark", DECIMAL, "USD per share; null without a quote"),
        Column(
            "time_value", DECIMAL, "USD per share: mark less what it is in the money; little of it invites exercise"
        ),
        Column("cash_needed", DECIMAL, "USD: what assignment of a put would cost; null of a call"),
        Column("cash", DECIMAL, "USD: of the account, for all of its puts together"),
        Column("shares_needed", DECIMAL, "Shares that assignment of a call would take; null of a put"),
        Column("shares_held", DECIMAL, "Shares of the underlying that are held, for all of its calls together"),
        Column(
            "ex_dividend_date",
            DATE,
            "Of a call: the next one after trade_date and until expiration, as told by `dividends`; null: none is "
            "announced or known, as in the sandbox",
        ),
        Column("dividend", DECIMAL, "USD per share that goes with it; null: not told, or in another currency"),
        Column(
            "exercise_pays",
            BOOLEAN,
            "Whether it is in the money with less time value than this dividend: its holder then gains by exercise, "
            "the evening before the ex-dividend date at the latest; null without a dividend or a quote",
        ),
    ),
    f"""
    WITH paid AS ( -- each counts from the one before: a join by that alone is a third of an ASOF JOIN, which sorts
        SELECT environment, symbol AS underlying, 'call' AS option_type, ex_date,
               coalesce(lag(ex_date) OVER (PARTITION BY environment, symbol ORDER BY ex_date), '-infinity') AS since,
               CASE WHEN bool_and(cash_amount IS NOT NULL AND coalesce(currency, 'USD') = 'USD')
                    THEN sum(cash_amount) END AS amount
        FROM dividends GROUP BY environment, symbol, ex_date
    ), measured AS (
        SELECT short_options.*, {OUT_OF_THE_MONEY} AS distance FROM short_options {GOOD_OF_DAY}
    )
    SELECT {KEYS}, held.environment, symbol, held.underlying, held.option_type, strike, expiration,
           (expiration - trade_date)::INTEGER AS days_left, quantity, underlying_price,
           distance::{DECIMAL} AS distance, distance < 0 AS in_the_money, mark,
           (mark - greatest(-distance, 0))::{DECIMAL} AS time_value,
           {to_scale("CASE held.option_type WHEN 'put' THEN -quantity * multiplier * strike END")} AS cash_needed, cash,
           CASE held.option_type WHEN 'call' THEN -quantity * multiplier END::{DECIMAL} AS shares_needed,
           shares_held,
           CASE WHEN ex_date <= expiration THEN ex_date END AS ex_dividend_date,
           CASE WHEN ex_date <= expiration THEN amount END::{DECIMAL} AS dividend,
           CASE WHEN ex_date <= expiration
                THEN distance < 0 AND mark - greatest(-distance, 0) < amount END AS exercise_pays
    FROM (FROM measured LEFT JOIN account_environments USING (account_id)) AS held
    LEFT JOIN paid ON held.environment = paid.environment AND held.underlying = paid.underlying
                  AND held.option_type = paid.option_type AND held.trade_date >= since AND held.trade_date < ex_date
    """,  # noqa: S608
)

_VALUES: Final = ("market_value", "unrealized_pl")
_KNOWN_SUMS: Final = ", ".join(
    f"CASE WHEN bool_and({name} IS NOT NULL) THEN sum({name}) END::{DECIMAL} AS {name}" for name in _VALUES
)
_OF_BOOK: Final = (
    Column("positions", BIGINT, "Positions in shares and options"),
    Column("market_value", DECIMAL, "USD; negative when short; null if a position has no quote"),
    Column("unrealized_pl", DECIMAL, "USD; null if a position has no quote"),
)

BOOK_BY_UNDERLYING = View(
    "book_by_underlying",
    "One row per good snapshot and underlying that is held, in shares or options: what it is worth and has made.",
    (*KEY_COLUMNS, Column("underlying", VARCHAR, "What the options are written on, or the equity"), *_OF_BOOK),
    f"""
    SELECT {KEYS}, {UNDERLYING_OF_POSITION} AS underlying, count(*) AS positions, {_KNOWN_SUMS}
    FROM positions {GOOD_OF_DAY} AND quantity <> 0 GROUP BY {KEYS}, {UNDERLYING_OF_POSITION}
    """,  # noqa: S608
)

BOOK_TOTAL = View(
    "book_total",
    "One row per good snapshot with a position: what all of it is worth and has made, by the marks of the quotes.",
    (*KEY_COLUMNS, *_OF_BOOK),
    f"""
    SELECT {KEYS}, count(*) AS positions, {_KNOWN_SUMS}
    FROM positions {GOOD_OF_DAY} AND quantity <> 0 GROUP BY {KEYS}
    """,  # noqa: S608
)

STOCK_BOOK = View(
    "stock_book",
    "One row per good snapshot and equity of which shares are in no option spread: these shares.",
    (
        *KEY_COLUMNS,
        Column("symbol", VARCHAR, "As in positions"),
        Column("quantity", DECIMAL, "Shares in no spread; negative when short"),
        Column("mark", DECIMAL, "USD per share; null without a quote"),
        Column("cost", DECIMAL, "USD; positive when paid"),
        Column("market_value", DECIMAL, "USD; null without a quote"),
        Column("unrealized_pl", DECIMAL, "USD; null without a quote"),
    ),
    f"""
    WITH held AS (
        SELECT {KEYS}, symbol, sum(quantity) AS quantity, max(mark) AS mark,
               sum(abs(cost_basis) * sign(quantity)) AS cost, sum(market_value) AS market_value
        FROM positions {GOOD_OF_DAY} AND asset_class = 'equity' AND quantity <> 0 GROUP BY {KEYS}, symbol
    ), covered AS (
        SELECT {KEYS}, symbol, sum(quantity) AS quantity, sum(cost) AS cost, sum(market_value) AS market_value
        FROM option_spread_legs {GOOD_OF_DAY} AND asset_class = 'equity' GROUP BY {KEYS}, symbol
    ), left_over AS (
        SELECT {KEYS}, symbol, (held.quantity - coalesce(covered.quantity, 0))::{DECIMAL} AS quantity, mark,
               (held.cost - coalesce(covered.cost, 0))::{DECIMAL} AS cost,
               CASE WHEN covered.symbol IS NULL OR covered.market_value IS NOT NULL
                    THEN held.market_value - coalesce(covered.market_value, 0) END::{DECIMAL} AS market_value
        FROM held LEFT JOIN covered USING ({KEYS}, symbol)
    )
    SELECT *, (market_value - cost)::{DECIMAL} AS unrealized_pl FROM left_over WHERE quantity <> 0
    """,  # noqa: S608
)

VIEWS = (SPREAD_BOOK, ASSIGNMENT_RISK, BOOK_BY_UNDERLYING, BOOK_TOTAL, STOCK_BOOK)
