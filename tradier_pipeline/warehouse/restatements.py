"""What was reported otherwise later: posted late, taken back, restated, or stated by the owner."""

from __future__ import annotations

from tradier_pipeline.warehouse.schema import DATE, DECIMAL, INSTANT, VARCHAR, Column, View

_WORDS = "concat_ws(' ', type, symbol, description)"


def _of_list(table: str, resource: str, day: str, amount: str, words: str) -> str:
    """Rows of a list that an earlier read of their date did not have, and those that a later one had no more."""
    return f"""
        SELECT account_id, {day} AS trade_date, first_read_at AS changed_at, '{resource}' AS source,
               'posted late' AS reason, {words} AS subject, NULL AS before, {amount} AS after
        FROM {table} AS listed WHERE EXISTS (
            FROM activity_extracts AS earlier
            WHERE earlier.account_id = listed.account_id AND earlier.resource = '{resource}'
            AND earlier.read_at < listed.first_read_at AND listed.{day} BETWEEN earlier.since AND earlier.until
        )
        UNION ALL
        SELECT account_id, {day}, retracted_at, '{resource}', 'taken back', {words}, {amount}, NULL
        FROM {table} WHERE retracted_at IS NOT NULL
    """  # noqa: S608


RESTATEMENTS = View(
    "restatements",
    "One row per figure that was reported otherwise later, oldest change first: when, by how much and why.",
    (
        Column("account_id", VARCHAR, "Account number"),
        Column("trade_date", DATE, "The New York date that it is a figure of"),
        Column("changed_at", INSTANT, "When the change was read, made or stated first (UTC)"),
        Column(
            "source",
            VARCHAR,
            "history, gainloss or historical_balances of the broker; daily_summaries; stated_flows of the owner",
        ),
        Column(
            "reason",
            VARCHAR,
            "posted late (an earlier read of its date did not have it), taken back, restated, found otherwise (a "
            "further revision of the day), stated by the owner",
        ),
        Column("subject", VARCHAR, "What it is: kind and description, symbol, or the figure's name"),
        Column("before", DECIMAL, "USD; what had been reported; null: nothing"),
        Column("after", DECIMAL, "USD; what is reported since; null: nothing"),
        Column("difference", DECIMAL, "USD; after - before, of which nothing counts 0"),
    ),
    f"""
    WITH changed AS (
        {_of_list("account_activity_versions", "history", "trade_date", "amount", _WORDS)}
        UNION ALL
        {_of_list("closed_lots_versions", "gainloss", "close_date", "gain_loss", "symbol")}
        UNION ALL
        SELECT account_id, trade_date, first_read_at, 'historical_balances', 'restated', 'value at the close',
               lag(value) OVER days AS before, value
        FROM broker_daily_balances_versions
        WINDOW days AS (PARTITION BY account_id, trade_date ORDER BY first_read_at, ordinal)
        QUALIFY before IS NOT NULL
        UNION ALL
        SELECT account_id, trade_date, generated_at, 'daily_summaries', 'found otherwise', 'change of equity',
               lag(equity_change) OVER revisions, equity_change
        FROM daily_summaries
        WINDOW revisions AS (PARTITION BY account_id, trade_date ORDER BY revision)
        QUALIFY revision > 1
        UNION ALL
        SELECT account_id, trade_date, stated_at, 'stated_flows', 'stated by the owner',
               concat_ws(' ', kind, symbol, note), NULL, amount
        FROM stated_flows
    )
    SELECT account_id, trade_date, changed_at, source, reason, subject, before::{DECIMAL} AS before,
           after::{DECIMAL} AS after, (coalesce(after, 0) - coalesce(before, 0))::{DECIMAL} AS difference
    FROM changed ORDER BY changed_at, trade_date, source, subject
    """,  # noqa: S608
)
