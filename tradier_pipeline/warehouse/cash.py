"""Cash from evening to evening, beside what the broker tells of it over night: the view `cash_by_day`."""

from __future__ import annotations

from tradier_pipeline.warehouse.equity import history_read
from tradier_pipeline.warehouse.schema import DATE, DECIMAL, DOUBTFUL, VARCHAR, Column, View

CASH_BY_DAY = View(
    "cash_by_day",
    "One row per account and session with a good snapshot after its close, but for the first: why cash changed since "
    "the one before. change = trades + flows + unexplained. What history tells is null until it is read of all days.",
    (
        Column("account_id", VARCHAR, "Account number"),
        Column("trade_date", DATE, "America/New_York date of a session of the exchange"),
        Column("since", DATE, "The session that it is compared with"),
        Column("cash_before", DECIMAL, "USD; total cash in the last good snapshot of that one, read after its close"),
        Column("cash", DECIMAL, "USD; total cash in the last good snapshot of this one, read after its close"),
        Column("change", DECIMAL, "USD; cash less cash_before"),
        Column("filled", DECIMAL, "USD; by fills and deliveries, as the snapshots show them: without fees"),
        Column("trades", DECIMAL, "USD; by trades and option events, as history tells: with fees"),
        Column("fees", DECIMAL, "USD; trades less filled: the exact fees, negative, where nothing is unexplained"),
        Column("flows", DECIMAL, "USD; by deposits, withdrawals, dividends, interest, fees, ...: the rest of history"),
        Column("unexplained", DECIMAL, "USD; what history does not tell of, or tells of and cash does not show"),
    ),
    f"""
    WITH evenings AS (
        SELECT account_id, trade_date, max(as_of) AS as_of, arg_max(cash, as_of) AS cash
        FROM account_balances JOIN sessions USING (trade_date)
        ANTI JOIN {DOUBTFUL} USING (account_id, as_of)
        WHERE as_of >= session_close GROUP BY account_id, trade_date
    ), days AS (
        SELECT account_id, trade_date, as_of, cash,
               lag(trade_date) OVER so_far AS since, lag(cash) OVER so_far AS cash_before
        FROM evenings WINDOW so_far AS (PARTITION BY account_id ORDER BY trade_date)
    ), filled AS (
        SELECT days.account_id, days.trade_date, sum(explained) AS filled
        FROM (SELECT account_id, as_of, explained FROM conservation WHERE item = 'cash') AS causes
        ASOF JOIN days ON causes.account_id = days.account_id AND causes.as_of <= days.as_of GROUP BY ALL
    ), told AS ( -- what is of a day without such a snapshot belongs to the next one
        SELECT days.account_id, days.trade_date, sum(amount) FILTER (type IN ('trade', 'option')) AS trades,
               sum(amount) FILTER (type NOT IN ('trade', 'option')) AS flows
        FROM (SELECT account_id, trade_date, type, amount FROM account_activity WHERE retracted_at IS NULL) AS events
        ASOF JOIN days ON events.account_id = days.account_id AND events.trade_date <= days.trade_date GROUP BY ALL
    ), history AS ( -- the days that were read when they were over, and all before them that they are compared with
        SELECT DISTINCT days.account_id, days.trade_date, true AS was_read
        FROM days JOIN activity_extracts AS told_of
        ON told_of.account_id = days.account_id AND {history_read("days.trade_date", "days.since")}
    ), known AS (
        SELECT account_id, trade_date, since, cash_before, cash, cash - cash_before AS change,
               coalesce(filled, 0) AS filled, CASE WHEN was_read THEN coalesce(trades, 0) END AS trades,
               CASE WHEN was_read THEN coalesce(flows, 0) END AS flows
        FROM days LEFT JOIN filled USING (account_id, trade_date) LEFT JOIN told USING (account_id, trade_date)
        LEFT JOIN history USING (account_id, trade_date) WHERE since IS NOT NULL
    )
    SELECT account_id, trade_date, since, cash_before, cash, change::{DECIMAL} AS change, filled::{DECIMAL} AS filled,
           trades::{DECIMAL} AS trades, (trades - filled)::{DECIMAL} AS fees, flows::{DECIMAL} AS flows,
           (change - trades - flows)::{DECIMAL} AS unexplained
    FROM known
    """,  # noqa: S608
)
