"""What the books of an account are kept from: cash movements, closed lots, and the values at the close of sessions."""

from __future__ import annotations

from tradier_pipeline.warehouse.equity import POSTED, history_read
from tradier_pipeline.warehouse.kinds import TRADES, kind_of, listed
from tradier_pipeline.warehouse.sql import where

# Rows that are alike differ in nothing: which of them is which does not matter, so their places join them.
_ALIKE = "account_id, trade_date, kind, amount, source, description"


def movements_query(account_id: str | None) -> str:
    """Every movement of cash, and the securities that the owner states, in the order of their dates.

    Columns: `account_id`, `environment`, `trade_date`; `counted_on`: the session whose equity shows a deposit or
    withdrawal first, null if it is in the first known equity or not known yet; `kind` as in `cash_flows`, `trade` or
    `option`; `amount` (USD); `description`, `source`, `word`, `between_accounts`; of trades, and of securities that
    the owner states, `symbol` and `quantity`; of trades `price`, `commission` (USD).
    """
    kind = kind_of("type")
    return f"""
    WITH reported AS (
        SELECT account_id, trade_date, kind, amount, description, source, word, between_accounts,
               NULL AS symbol, NULL AS quantity
        FROM cash_flows WHERE source = 'broker' AND amount <> 0
        UNION ALL
        SELECT account_id, trade_date, kind, amount, note, 'owner', NULL, false, symbol, quantity
        FROM stated_flows ANTI JOIN ({POSTED}) USING (flow_id) WHERE amount <> 0
    ), flows AS (
        SELECT *, row_number() OVER (PARTITION BY {_ALIKE}) AS nth FROM reported
    ), counted AS (
        SELECT {_ALIKE}, counted_on, row_number() OVER (PARTITION BY {_ALIKE}) AS nth FROM external_flows
    ), moved AS (
        SELECT flows.*, counted_on, NULL AS price, NULL AS commission
        FROM flows LEFT JOIN counted
        ON flows.description IS NOT DISTINCT FROM counted.description
        AND (flows.account_id, flows.trade_date, flows.kind, flows.amount, flows.source, flows.nth)
            = (counted.account_id, counted.trade_date, counted.kind, counted.amount, counted.source, counted.nth)
        UNION ALL BY NAME
        SELECT account_id, trade_date, {kind} AS kind, amount, description, 'broker' AS source, type AS word,
               false AS between_accounts, symbol, quantity, price, commission, ordinal AS nth
        FROM account_activity WHERE {kind} IN {listed(TRADES)} AND amount <> 0
    )
    SELECT * EXCLUDE nth, environment FROM moved LEFT JOIN account_environments USING (account_id)
    {where(account_id)} ORDER BY account_id, trade_date, kind, symbol, amount, description, nth
    """  # noqa: S608


def lots_query(account_id: str | None) -> str:
    """The closed lots as they stand now, by the date of closing."""
    return f"""
    SELECT account_id, environment, close_date, open_date, symbol, quantity, cost, proceeds, gain_loss
    FROM closed_lots LEFT JOIN account_environments USING (account_id) {where(account_id)}
    ORDER BY account_id, close_date, open_date, symbol, content_key, ordinal
    """  # noqa: S608


def closes_query(account_id: str | None) -> str:
    """The known equity at the close of each session: `equity`, `cash` where a snapshot has it (USD); `covered`:
    the broker's history was read of the session and the days before it; `uncertain` and `reason`, as in `equity_curve`.
    """
    return f"""
    WITH numbered AS (
        SELECT trade_date, coalesce(lag(trade_date) OVER (ORDER BY trade_date), trade_date - 1) AS after FROM sessions
    ), covered AS (
        SELECT DISTINCT account_id, trade_date, true AS covered
        FROM numbered JOIN activity_extracts AS told_of
        ON {history_read("numbered.trade_date", "numbered.after")}
    )
    SELECT account_id, environment, trade_date, equity,
           CASE WHEN equity_curve.source = 'snapshot' THEN cash_close END AS cash,
           coalesce(covered, false) AS covered, coalesce(uncertain, false) AS uncertain,
           CASE WHEN uncertain THEN reason END AS reason
    FROM equity_curve LEFT JOIN daily_balances USING (account_id, trade_date)
    LEFT JOIN covered USING (account_id, trade_date) {where(account_id)}
    ORDER BY account_id, trade_date
    """  # noqa: S608
