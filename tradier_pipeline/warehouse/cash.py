"""Cash from evening to evening, beside what the broker reports of it over night: the view `cash_by_day`."""

from __future__ import annotations

from tradier_pipeline.warehouse.equity import history_read
from tradier_pipeline.warehouse.kinds import EXTERNAL, TRADES, kind_of, listed
from tradier_pipeline.warehouse.schema import DATE, DECIMAL, VARCHAR, Column, View

# The parts of what history reports, by what they are a sum of.
_PARTS = {
    "trades": f"kind IN {listed(TRADES)}",
    "external": f"kind IN {listed(EXTERNAL)}",
    "dividends": "kind = 'dividend'",
    "interest": "kind = 'interest'",
    "tax": "kind = 'tax'",
    "account_fees": "kind = 'fee'",
    "adjustments": f"kind NOT IN {listed((*TRADES, *EXTERNAL, 'dividend', 'interest', 'tax', 'fee'))}",
}
_FLOWS = tuple(name for name in _PARTS if name != "trades")

# Shares, and the contracts whose symbol says that they deliver a hundred: of adjusted ones nobody knows.
_MULTIPLIER = r"""
    CASE WHEN regexp_full_match(symbol, '[A-Z]{1,6}\d{6}[CP]\d{8}') THEN 100
         WHEN regexp_full_match(symbol, '[A-Z][A-Z./]*') THEN 1 END
"""
# What history reports of a trade less quantity x price x multiplier: negative; null if that is not known.
FEE_OF_TRADE = f"""
    CASE WHEN amount = 0 THEN 0
         WHEN price = 0 AND amount = -commission THEN amount -- a leg that went for nothing
         WHEN quantity <> 0 AND price > 0 THEN amount + quantity * price * {_MULTIPLIER} END
"""

CASH_BY_DAY = View(
    "cash_by_day",
    "One row per account and session with a good snapshot after its close, but for the first: why cash changed since "
    "the one before. change = trades + flows + unexplained, and flows = external + dividends + interest + tax + "
    "account_fees + adjustments. What history reports is null until it is read of all days.",
    (
        Column("account_id", VARCHAR, "Account number"),
        Column("trade_date", DATE, "America/New_York date of a session of the exchange"),
        Column("since", DATE, "The session that it is compared with"),
        Column("cash_before", DECIMAL, "USD; total cash in the last good snapshot of that one, read after its close"),
        Column("cash", DECIMAL, "USD; total cash in the last good snapshot of this one, read after its close"),
        Column("change", DECIMAL, "USD; cash less cash_before"),
        Column("filled", DECIMAL, "USD; by fills and deliveries, as the snapshots show them: without fees"),
        Column("trades", DECIMAL, "USD; by trades and option events, as history reports them: with fees"),
        Column(
            "fees",
            DECIMAL,
            "USD, negative; commissions and fees in trades: what history reports of each less quantity x price x "
            "multiplier. Null if it is not known of one: no price, or an adjusted contract",
        ),
        Column("flows", DECIMAL, "USD; by deposits, withdrawals, dividends, interest, fees, ...: the rest of history"),
        Column("unexplained", DECIMAL, "USD; what history does not report, or reports and cash does not show"),
        Column("external", DECIMAL, "USD; deposits less withdrawals, part of flows"),
        Column("dividends", DECIMAL, "USD; part of flows"),
        Column("interest", DECIMAL, "USD, negative when paid; part of flows"),
        Column("tax", DECIMAL, "USD, negative when paid; part of flows"),
        Column("account_fees", DECIMAL, "USD, negative when paid; fees that are of no trade, part of flows"),
        Column("adjustments", DECIMAL, "USD; whatever else history reports, part of flows"),
    ),
    f"""
    WITH evenings AS (
        SELECT account_id, trade_date, last_cash AS cash
        FROM snapshot_days JOIN sessions USING (trade_date) WHERE last_as_of >= session_close
    ), days AS (
        SELECT account_id, trade_date, cash,
               lag(trade_date) OVER so_far AS since, lag(cash) OVER so_far AS cash_before
        FROM evenings WINDOW so_far AS (PARTITION BY account_id ORDER BY trade_date)
    ), filled AS (
        SELECT days.account_id, days.trade_date, sum(explained) AS filled
        FROM day_explained_cash AS causes
        ASOF JOIN days ON causes.account_id = days.account_id AND counts_from <= days.trade_date GROUP BY ALL
    ), events AS (
        SELECT account_id, trade_date, coalesce({kind_of("type")}, 'unknown') AS kind, amount,
               {FEE_OF_TRADE} AS fee
        FROM account_activity
    ), reported AS ( -- what is of a day without such a snapshot belongs to the next one
        SELECT days.account_id, days.trade_date,
               {", ".join(f"coalesce(sum(amount) FILTER ({which}), 0) AS {name}" for name, which in _PARTS.items())},
               CASE WHEN bool_and(fee IS NOT NULL) FILTER ({_PARTS["trades"]}) IS NOT FALSE
                    THEN coalesce(sum(fee) FILTER ({_PARTS["trades"]}), 0) END AS fees
        FROM events ASOF JOIN days ON events.account_id = days.account_id AND events.trade_date <= days.trade_date
        GROUP BY ALL
    ), history AS ( -- the days that were read when they were over, and all before them that they are compared with
        SELECT DISTINCT days.account_id, days.trade_date, true AS was_read
        FROM days JOIN activity_extracts AS told_of
        ON told_of.account_id = days.account_id AND {history_read("days.trade_date", "days.since")}
    ), known AS (
        SELECT account_id, trade_date, since, cash_before, cash, cash - cash_before AS change,
               coalesce(filled, 0) AS filled,
               CASE WHEN was_read THEN CASE WHEN trades IS NULL THEN 0 ELSE fees END END AS fees,
               {", ".join(f"CASE WHEN was_read THEN coalesce({name}, 0) END AS {name}" for name in _PARTS)},
               CASE WHEN was_read THEN {" + ".join(f"coalesce({name}, 0)" for name in _FLOWS)} END AS flows
        FROM days LEFT JOIN filled USING (account_id, trade_date) LEFT JOIN reported USING (account_id, trade_date)
        LEFT JOIN history USING (account_id, trade_date) WHERE since IS NOT NULL
    )
    SELECT account_id, trade_date, since, cash_before, cash, change::{DECIMAL} AS change, filled::{DECIMAL} AS filled,
           trades::{DECIMAL} AS trades, fees::{DECIMAL} AS fees, flows::{DECIMAL} AS flows,
           (change - trades - flows)::{DECIMAL} AS unexplained,
           {", ".join(f"{name}::{DECIMAL} AS {name}" for name in _FLOWS)}
    FROM known
    """,  # noqa: S608
)
