"""Performance without deposits and withdrawals: the views `cash_flows`, `equity_curve` and `total_equity_curve`.

    return = (equity + withdrawals) / (equity before + deposits) - 1          growth = the product of 1 + return

That is the time-weighted return of the GIPS standards (CFA Institute, Guidance Statement on Calculation Methodology):
valued at every external cash flow, the returns between them linked geometrically. Valued daily, as here, no estimate is
needed but the time of day of a flow, which the broker does not tell. Deposits count at the start of the day and
withdrawals at its end. So whatever was in the account that day has had the day to earn: the first deposit into an empty
account has a return, and so has the day on which the last dollar leaves.

Without money there is no return: it is null where equity before + deposits is not above zero, and growth goes on as if
the day had not been. What is left of money cannot be less than nothing: a return below -100 % (a margin account in
debt) counts as -100 % in growth, which stays zero from then on.
"""

from __future__ import annotations

from tradier_pipeline.warehouse.schema import (
    BOOLEAN,
    DATE,
    DECIMAL,
    DOUBLE,
    DOUBTFUL,
    INSTANT,
    INTEGER,
    VARCHAR,
    Column,
    View,
)

EXTERNAL = ("ach", "wire", "check", "journal", "transfer")
PERFORMANCE = ("dividend", "interest", "fee", "tax")
LEFT_AFTER = 5  # sessions without equity, while other accounts have some, until an account counts as gone


def history_read(day: str, after: str) -> str:
    """The condition that an extract, `told_of`, read the history of a day when it was over, and of all since one."""
    return (
        f"told_of.resource = 'history' AND told_of.since <= {after} + 1 AND {day} <= told_of.until "
        f"AND {day} < (told_of.read_at AT TIME ZONE 'America/New_York')::DATE"
    )


def _words(words: tuple[str, ...]) -> str:
    return ", ".join(f"'{word}'" for word in words)


CASH_FLOWS = View(
    "cash_flows",
    "One row per cash movement of an account that is no trade, as the broker's history counts it now. Commissions and "
    "fees of trades are in the amounts of the trades.",
    (
        Column("account_id", VARCHAR, "Account number"),
        Column("trade_date", DATE, "The date that the broker gives; it tells no time of day"),
        Column(
            "kind",
            VARCHAR,
            f"deposit or withdrawal (by sign, of {', '.join(EXTERNAL)}), {', '.join(PERFORMANCE)} or adjustment "
            "(whatever else)",
        ),
        Column("external", BOOLEAN, "Whether it is a deposit or withdrawal; all else is performance"),
        Column("amount", DECIMAL, "USD that cash changed by"),
        Column("description", VARCHAR, "The broker's words"),
    ),
    f"""
    SELECT account_id, trade_date,
           CASE WHEN type IN ({_words(EXTERNAL)}) THEN CASE WHEN amount < 0 THEN 'withdrawal' ELSE 'deposit' END
                WHEN type IN ({_words(PERFORMANCE)}) THEN type ELSE 'adjustment' END AS kind,
           type IN ({_words(EXTERNAL)}) AS external, amount, description
    FROM account_activity WHERE retracted_at IS NULL AND type NOT IN ('trade', 'option')
    """,  # noqa: S608
)

_DATE = Column("trade_date", DATE, "America/New_York date of a session of the exchange")
_ENVIRONMENT = Column("environment", VARCHAR, "simulator, sandbox or live; money of one is never added to another's")
_FIGURES = (
    Column("equity", DECIMAL, "USD at the close; null in a gap"),
    Column(
        "source",
        VARCHAR,
        "Where equity is from. snapshot: the last good one of the day; broker: the broker's own daily "
        "value, where no snapshot was read after the close; null in a gap",
    ),
    Column("as_of", INSTANT, "When that snapshot was read (UTC); null if equity is not from one"),
    Column("deposits", DECIMAL, "USD, not negative; paid in since the last known equity. Null on the first day"),
    Column("withdrawals", DECIMAL, "USD, not negative; taken out since the last known equity. Null on the first day"),
    Column("dividends", DECIMAL, "USD; since the last known equity, part of pnl"),
    Column("interest", DECIMAL, "USD; since the last known equity, part of pnl; negative when paid"),
    Column("fees", DECIMAL, "USD; since the last known equity, part of pnl; negative when paid. Not those of trades"),
    Column("pnl", DECIMAL, "USD; profit or loss: what equity changed by, less deposits, plus withdrawals"),
    Column(
        "return",
        DOUBLE,
        "0.01 = 1 %: (equity + withdrawals) / (equity before + deposits) - 1: deposits at the start of the day, "
        "withdrawals at its end. Null without money to earn it",
    ),
    Column(
        "growth",
        DOUBLE,
        "Product of 1 + return since the first day: the time-weighted return, valued daily (GIPS). A day without a "
        "return is left out; what was lost whole stays 0",
    ),
    Column("peak", DOUBLE, "Highest growth so far"),
    Column("drawdown", DOUBLE, "growth / peak - 1; 0 or negative, -0.05 = 5 % below the peak"),
    Column("gap", BOOLEAN, "A session without equity: nothing of it is known, and the next day with equity spans it"),
    Column("days_spanned", INTEGER, "Sessions since the last known equity: more than 1 after a gap"),
    Column(
        "provisional",
        BOOLEAN,
        "The broker's history of these days has not been read since they ended: deposits and all that follows from "
        "them may change",
    ),
)

_FLOWS = {
    "deposits": "deposit",
    "withdrawals": "withdrawal",
    "dividends": "dividend",
    "interest": "interest",
    "fees": "fee",
}


def _of_flows(template: str) -> str:
    return ", ".join(template.format(name=name, kind=kind) for name, kind in _FLOWS.items())


# The days of each account from its first equity on. DuckDB 1.2 computes a part again for each place that reads it, so
# none but the sessions is read twice; the snapshots of a year, a hundred thousand rows, are joined with hardly a row.
_SIGNED = "CASE kind WHEN 'withdrawal' THEN -amount ELSE amount END"
_ACCOUNT_DAYS = f"""
    numbered AS (
        SELECT trade_date, session_close, row_number() OVER by_date AS number,
               coalesce(lag(trade_date) OVER by_date, trade_date - 1) AS after
        FROM sessions WINDOW by_date AS (ORDER BY trade_date)
    ), closes AS ( -- nothing is concluded from a doubtful snapshot
        SELECT account_id, trade_date, arg_max(equity, as_of) AS read_value, max(as_of) AS read_at
        FROM account_balances
        ANTI JOIN {DOUBTFUL} USING (account_id, as_of)
        GROUP BY account_id, trade_date
    ), told AS (
        SELECT account_id, trade_date, arg_max(value, last_read_at) AS told_value
        FROM broker_daily_balances WHERE retracted_at IS NULL GROUP BY account_id, trade_date
    ), known AS (
        SELECT account_id, number, told_value IS NULL OR coalesce(read_at >= session_close, false) AS is_read,
               CASE WHEN is_read THEN read_value ELSE told_value END AS value,
               CASE WHEN is_read THEN 'snapshot' ELSE 'broker' END AS origin,
               CASE WHEN is_read THEN read_at END AS read_at,
               lag(number) OVER by_number IS NULL AS is_first, lead(number) OVER by_number AS next
        FROM closes FULL JOIN told USING (account_id, trade_date) JOIN numbered USING (trade_date)
        WINDOW by_number AS (PARTITION BY account_id ORDER BY number)
    ), flows AS ( -- of a day without a session: they belong to the next one
        SELECT account_id, numbered.trade_date, {_of_flows(f"sum({_SIGNED}) FILTER (kind = '{{kind}}') AS {{name}}")}
        FROM cash_flows ASOF JOIN numbered ON cash_flows.trade_date <= numbered.trade_date
        GROUP BY account_id, numbered.trade_date
    ), history AS ( -- the sessions that were read when they were over, with the days before them that had none
        SELECT DISTINCT account_id, trade_date, true AS was_read
        FROM numbered JOIN activity_extracts AS told_of
        ON {history_read("numbered.trade_date", "numbered.after")}
    ), account_days AS ( -- each known day and the gaps after it; what came on the first day is in its equity
        SELECT account_id, trade_date, numbered.number, numbered.number = known.number AS is_known,
               is_known AND is_first AS begins, CASE WHEN is_known THEN value END AS equity,
               CASE WHEN is_known THEN origin END AS source, CASE WHEN is_known THEN read_at END AS as_of,
               coalesce(was_read, false) AS complete,
               {_of_flows("CASE WHEN begins THEN 0 ELSE coalesce({name}, 0) END AS {name}")}
        FROM known JOIN numbered ON numbered.number >= known.number AND numbered.number < coalesce(next, 2147483647)
        LEFT JOIN flows USING (account_id, trade_date)
        LEFT JOIN history USING (account_id, trade_date)
    )
"""  # noqa: S608

# Of `days`: those of an account, or of all together, with what has come into the sum that day (`joined`) or left it
# before (`gone`) without having earned anything. A span is a day with equity and the gaps before it.
_SPANNED = f"""
    spans AS (
        SELECT *, count(equity) OVER so_far AS span, last_value(equity IGNORE NULLS) OVER so_far AS before
        FROM days
        WINDOW so_far AS (
            PARTITION BY account_id ORDER BY trade_date ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        )
    ), summed AS (
        SELECT * REPLACE ({_of_flows("sum({name}) OVER in_span AS {name}")}),
               count(*) OVER in_span AS sessions, bool_and(complete) OVER in_span AS all_complete
        FROM spans WINDOW in_span AS (PARTITION BY account_id, span)
    ), measured AS (
        SELECT *, equity - before - deposits + withdrawals AS pnl,
               before + deposits - joined - CASE sessions WHEN 1 THEN gone ELSE 0 END AS invested,
               CASE WHEN invested > 0 THEN pnl::DOUBLE / invested::DOUBLE END AS "return"
        FROM summed
    ), linked AS (
        SELECT *, CASE WHEN equity IS NOT NULL THEN
                   coalesce(product(greatest(1 + "return", 0)) FILTER ("return" IS NOT NULL) OVER so_far, 1)
               END AS growth
        FROM measured WINDOW so_far AS (PARTITION BY account_id ORDER BY trade_date ROWS UNBOUNDED PRECEDING)
    ), curve AS (
        SELECT *, CASE WHEN equity IS NOT NULL THEN
                   max(growth) OVER (PARTITION BY account_id ORDER BY trade_date ROWS UNBOUNDED PRECEDING)
               END AS peak
        FROM linked
    )
"""  # noqa: S608
_COLUMNS = f"""
    trade_date, equity::{DECIMAL} AS equity, source, as_of,
    {_of_flows(f"CASE WHEN pnl IS NOT NULL THEN {{name}}::{DECIMAL} END AS {{name}}")},
    pnl::{DECIMAL} AS pnl, "return", growth, peak, growth / peak - 1 AS drawdown, equity IS NULL AS gap,
    CASE WHEN pnl IS NOT NULL THEN sessions::INTEGER END AS days_spanned,
    NOT CASE WHEN equity IS NULL THEN complete ELSE all_complete END AS provisional
"""

EQUITY_CURVE = View(
    "equity_curve",
    "One row per account and session since its first known equity: performance without deposits and withdrawals. In a "
    "gap all figures are null.",
    (Column("account_id", VARCHAR, "Account number"), _DATE, *_FIGURES, _ENVIRONMENT),
    f"""
    WITH {_ACCOUNT_DAYS}, days AS (SELECT *, 0 AS joined, 0 AS gone FROM account_days), {_SPANNED}
    SELECT account_id, {_COLUMNS}, environment FROM curve LEFT JOIN account_environments USING (account_id)
    """,  # noqa: S608
)

TOTAL_EQUITY_CURVE = View(
    "total_equity_curve",
    "One row per environment and session: all its accounts together as if they were one. An account that begins is a "
    f"deposit of its first equity at the end of that day. One without equity for more than {LEFT_AFTER} sessions to "
    "the end, while others have some, has left: a withdrawal at the start of the session after its last. Else a day "
    "without the equity of an account is a gap.",
    (_DATE, *_FIGURES, Column("accounts", INTEGER, "Accounts in it"), _ENVIRONMENT),
    f"""
    WITH {_ACCOUNT_DAYS}, ends AS (
        SELECT *, max(number) FILTER (is_known) OVER of_account AS last,
               arg_max(equity, number) OVER of_account AS final,
               number <= last OR max(number) FILTER (is_known) OVER of_environment <= last + {LEFT_AFTER} AS is_in
        FROM account_days LEFT JOIN account_environments USING (account_id)
        WINDOW of_account AS (PARTITION BY account_id), of_environment AS (PARTITION BY environment)
    ), added AS (
        SELECT environment, trade_date, count(*) FILTER (is_in) AS accounts, count(equity) = accounts AS is_whole,
               CASE WHEN is_whole THEN coalesce(sum(equity), 0) END AS equity,
               CASE WHEN is_whole THEN min(source) END AS source, -- broker if it is that of any
               CASE WHEN is_whole AND min(source) = 'snapshot' THEN min(as_of) END AS as_of,
               coalesce(bool_and(complete) FILTER (is_in), true) AS complete,
               {_of_flows("coalesce(sum({name}) FILTER (is_in), 0) AS {name}")},
               coalesce(sum(equity) FILTER (begins), 0) AS joined,
               coalesce(sum(final) FILTER (NOT is_in AND number = last + 1), 0) AS gone
        FROM ends GROUP BY environment, trade_date
    ), days AS (
        SELECT environment AS account_id, * REPLACE (deposits + joined AS deposits, withdrawals + gone AS withdrawals)
        FROM added
    ), {_SPANNED}
    SELECT {_COLUMNS}, accounts::INTEGER AS accounts, environment FROM curve
    """,  # noqa: S608
)

VIEWS = (CASH_FLOWS, EQUITY_CURVE, TOTAL_EQUITY_CURVE)
