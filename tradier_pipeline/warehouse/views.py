"""The views of the warehouse, declared once as the tables are."""

from __future__ import annotations

from tradier_pipeline.warehouse import equity
from tradier_pipeline.warehouse.schema import (
    ACCOUNT_BALANCES,
    BIGINT,
    BOOLEAN,
    CLOSES,
    DAILY_SUMMARIES,
    DATE,
    DECIMAL,
    DOUBLE,
    FINDINGS,
    INSTANT,
    INTEGER,
    LEAD,
    LIMIT,
    MAX_AGE,
    OPENS,
    OPTION_SPREADS,
    POSITIONS,
    TRADIER_SNAPSHOTS,
    VARCHAR,
    WORDS,
    Column,
    Table,
    View,
    comments,
)


def _borrowed(table: Table, *names: str) -> tuple[Column, ...]:
    return tuple(column for column in table.columns if column.name in names)


# by as_of, too: it lets DuckDB skip all but the newest rows of a long history
_NEWEST = """(
    SELECT max_by(snapshot_id, as_of) AS snapshot_id, max(as_of) AS as_of FROM tradier_snapshots GROUP BY account_id
)"""

NEWEST_SNAPSHOTS = View(
    "newest_snapshots",
    "The newest snapshot of each account.",
    TRADIER_SNAPSHOTS.columns,
    f"SELECT * FROM tradier_snapshots SEMI JOIN {_NEWEST} USING (snapshot_id, as_of)",  # noqa: S608
)

PORTFOLIO_POSITIONS = View(
    "portfolio_positions",
    "What each account holds now: the positions of its newest snapshot.",
    POSITIONS.columns,
    f"SELECT positions.* FROM positions SEMI JOIN {_NEWEST} USING (snapshot_id, as_of)",  # noqa: S608
)

PORTFOLIO_SPREADS = View(
    "portfolio_spreads",
    "The option spreads each account holds now: those of its newest snapshot.",
    OPTION_SPREADS.columns,
    f"SELECT option_spreads.* FROM option_spreads SEMI JOIN {_NEWEST} USING (snapshot_id, as_of)",  # noqa: S608
)

BALANCE_HISTORY = View(
    "balance_history",
    "One row per snapshot: balances in USD over time.",
    (*ACCOUNT_BALANCES.columns, *_borrowed(TRADIER_SNAPSHOTS, "environment", "trigger", "as_of_end")),
    """
    SELECT account_balances.*, as_of_end, environment, trigger
    FROM account_balances JOIN tradier_snapshots USING (snapshot_id)
    """,
)

DAILY_BALANCES = View(
    "daily_balances",
    "One row per account and trade date: equity in USD at the first, highest, lowest and last snapshot of the day.",
    (
        Column("account_id", VARCHAR, "Account number"),
        Column("trade_date", DATE, "America/New_York date"),
        Column("open", DECIMAL, "USD; equity at the first snapshot of the day"),
        Column("high", DECIMAL, "USD; highest equity of the day's snapshots"),
        Column("low", DECIMAL, "USD; lowest equity of the day's snapshots"),
        Column("close", DECIMAL, "USD; equity at the last snapshot of the day"),
        Column("cash_close", DECIMAL, "USD; cash at the last snapshot of the day"),
        Column("snapshots", BIGINT, "Snapshots of the day"),
        Column("first_as_of", INSTANT, "As-of of the first snapshot (UTC)"),
        Column("last_as_of", INSTANT, "As-of of the last snapshot (UTC)"),
    ),
    """
    SELECT account_id, trade_date,
           arg_min(equity, as_of) AS open, max(equity) AS high, min(equity) AS low, arg_max(equity, as_of) AS close,
           arg_max(cash, as_of) AS cash_close, count(*) AS snapshots,
           min(as_of) AS first_as_of, max(as_of) AS last_as_of
    FROM account_balances GROUP BY account_id, trade_date
    """,
)

HEARTBEATS = View(
    "heartbeats",
    "One row per account and cycle: its last snapshot that was published. What failed does not beat.",
    (
        Column("account_id", VARCHAR, "Account number"),
        Column("cycle", VARCHAR, "monitor_cycle, trade_cycle, account_sync or another trigger, such as manual"),
        Column("as_of", INSTANT, "As-of of that snapshot (UTC)"),
        Column("snapshot_id", VARCHAR, "That snapshot"),
    ),
    """
    SELECT account_id, cycle, max(as_of) AS as_of, arg_max(snapshot_id, as_of) AS snapshot_id
    FROM (SELECT account_id, as_of, snapshot_id, unnest(string_split(trigger, ',')) AS cycle FROM tradier_snapshots)
    GROUP BY account_id, cycle
    """,
)

# Each condition holds only if all it needs is known: what is null blocks.
_CONDITIONS = {
    # a snapshot of the future was read by another clock; its age is unknown
    "stale": "as_of BETWEEN now() - to_seconds(max_age_s) AND now() + INTERVAL 5 SECOND",
    "missed_snapshots": "coalesce(missed, 0) = 0",
    "check_failed": "coalesce(refused, 0) = 0",
    "balances_missing": "has_balances",
    "session_closed": "session_open <= now() AND now() < session_close",
    "max_open_positions": "coalesce(open_positions < max_open_positions, open_positions IS NOT NULL)",
    "torn": "coherence IS DISTINCT FROM 'torn'",  # null: read by a version that did not judge
    "findings": "coalesce(errors, 0) = 0",
}
_BLOCKERS = " || ".join(f"CASE WHEN {holds} THEN [] ELSE ['{blocker}'] END" for blocker, holds in _CONDITIONS.items())

TRADE_GATE = View(
    "trade_gate",
    "One row per account: whether to trade on its newest snapshot now. No row, or null, means not ready.",
    (
        *LEAD,
        Column("ready", BOOLEAN, "Whether there is no blocker now"),
        Column("blockers", WORDS, f"Of {', '.join(_CONDITIONS)}; empty when ready"),
        Column("age_s", DOUBLE, "Seconds since as_of"),
        Column("max_age_s", INTEGER, MAX_AGE),
        Column("session_open", INSTANT, OPENS.comment),
        Column("session_close", INSTANT, CLOSES.comment),
        Column("open_positions", INTEGER, "Option spreads of the snapshot"),
        LIMIT,
        Column("missed", BIGINT, "Instants since the snapshot that were never read or not answered"),
        Column("missed_reason", VARCHAR, "Why, of the newest of these"),
        Column("refused", BIGINT, "Snapshots since that were not published"),
        Column("refused_reason", VARCHAR, "Why, of the newest of these"),
        Column(
            "coherence",
            VARCHAR,
            "coherent, torn or unknown: whether the snapshot shows one state; null: was not judged",
        ),
        Column("coherence_evidence", VARCHAR, "What that verdict rests on"),
        Column("errors", BIGINT, "Open findings of severity error"),
        Column("error_codes", VARCHAR, "What they are"),
    ),
    f"""
    WITH newest AS (
        SELECT snapshot_id, account_id, as_of, trade_date, coherence, coherence_evidence
        FROM tradier_snapshots SEMI JOIN {_NEWEST} USING (snapshot_id, as_of)
    ), reading AS (
        SELECT snapshot_id, open_positions, max_open_positions, max_age_s, session_open, session_close
        FROM trade_gate_readings SEMI JOIN {_NEWEST} USING (snapshot_id, as_of)
    ), balances AS (
        SELECT snapshot_id, true AS has_balances FROM account_balances SEMI JOIN {_NEWEST} USING (snapshot_id, as_of)
    ), since AS (
        SELECT account_id,
               count(*) FILTER (kind <> 'refused') AS missed, count(*) FILTER (kind = 'refused') AS refused,
               arg_max(reason, missed_at) FILTER (kind <> 'refused') AS missed_reason,
               arg_max(reason, missed_at) FILTER (kind = 'refused') AS refused_reason
        FROM missed_snapshots JOIN newest USING (account_id) WHERE missed_at > newest.as_of GROUP BY account_id
    ), open_errors AS (
        SELECT account_id, count(*) AS errors, string_agg(DISTINCT code, ', ' ORDER BY code) AS error_codes
        FROM findings WHERE resolved_at IS NULL AND severity = 'error' GROUP BY account_id
    ), gate AS (
        SELECT *, {_BLOCKERS} AS blockers
        FROM newest LEFT JOIN reading USING (snapshot_id) LEFT JOIN balances USING (snapshot_id)
        LEFT JOIN since USING (account_id) LEFT JOIN open_errors USING (account_id)
    )
    SELECT snapshot_id, account_id, as_of, trade_date, len(blockers) = 0 AS ready, blockers,
           epoch(now() - as_of) AS age_s, max_age_s, session_open, session_close, open_positions, max_open_positions,
           coalesce(missed, 0) AS missed, missed_reason, coalesce(refused, 0) AS refused, refused_reason,
           coherence, coherence_evidence, coalesce(errors, 0) AS errors, error_codes
    FROM gate
    """,  # noqa: S608
)

OPEN_FINDINGS = View(
    "open_findings",
    "The problems that the last good snapshot of each account did not resolve.",
    tuple(column for column in FINDINGS.columns if column.name != "resolved_at"),
    "SELECT * EXCLUDE resolved_at FROM findings WHERE resolved_at IS NULL",
)

NEWEST_DAILY_SUMMARIES = View(
    "newest_daily_summaries",
    "The newest revision of each summary.",
    DAILY_SUMMARIES.columns,
    "FROM daily_summaries QUALIFY row_number() OVER (PARTITION BY account_id, trade_date ORDER BY revision DESC) = 1",
)

VIEWS = (
    *(NEWEST_SNAPSHOTS, PORTFOLIO_POSITIONS, PORTFOLIO_SPREADS, BALANCE_HISTORY, DAILY_BALANCES),
    *(HEARTBEATS, TRADE_GATE, OPEN_FINDINGS),
    NEWEST_DAILY_SUMMARIES,
    *equity.VIEWS,
)


def view_ddl(view: View) -> str:
    """CREATE VIEW, or put it in the place of an older one, with the comments."""
    return (
        f"CREATE OR REPLACE VIEW {view.name} AS {view.query}; {comments('VIEW', view.name, view.comment, view.columns)}"
    )
