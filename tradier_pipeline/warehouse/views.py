"""The views of the warehouse, declared once as the tables are."""

from __future__ import annotations

from tradier_pipeline.warehouse import (
    cash,
    day_profit,
    equity,
    exposure,
    period_returns,
    realized,
    service,
    spread_book,
    statements,
    trade_results,
)
from tradier_pipeline.warehouse.restatements import RESTATEMENTS
from tradier_pipeline.warehouse.schema import (
    ACCOUNT_BALANCES,
    BIGINT,
    BOOLEAN,
    CLOSES,
    CURRENT_ACTIVITY,
    DAILY_SUMMARIES,
    DATE,
    DECIMAL,
    DOUBLE,
    FINDINGS,
    INSTANT,
    INTEGER,
    KEY_COLUMNS,
    KEYS,
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
_NEWEST_GOOD = _NEWEST.replace(" GROUP BY", " WHERE verdict = 'good' GROUP BY")

NEWEST_SNAPSHOTS = View(
    "newest_snapshots",
    "The newest snapshot of each account, whatever its verdict.",
    TRADIER_SNAPSHOTS.columns,
    f"SELECT * FROM tradier_snapshots SEMI JOIN {_NEWEST} USING (snapshot_id, as_of)",  # noqa: S608
)

PORTFOLIO_POSITIONS = View(
    "portfolio_positions",
    "What each account holds now: the positions of its newest good snapshot.",
    POSITIONS.columns,
    f"SELECT positions.* FROM positions SEMI JOIN {_NEWEST_GOOD} USING (snapshot_id, as_of)",  # noqa: S608
)

PORTFOLIO_SPREADS = View(
    "portfolio_spreads",
    "The option spreads each account holds now: those of its newest good snapshot.",
    OPTION_SPREADS.columns,
    f"SELECT option_spreads.* FROM option_spreads SEMI JOIN {_NEWEST_GOOD} USING (snapshot_id, as_of)",  # noqa: S608
)

BALANCE_HISTORY = View(
    "balance_history",
    "One row per snapshot: balances in USD over time.",
    (
        *ACCOUNT_BALANCES.columns,
        *_borrowed(TRADIER_SNAPSHOTS, "environment", "trigger", "as_of_end", "verdict", "verdict_evidence"),
    ),
    # by the whole lead: a condition on the account or the date then holds for both tables
    f"""
    SELECT account_balances.*, as_of_end, environment, trigger, verdict, verdict_evidence
    FROM account_balances JOIN tradier_snapshots USING ({KEYS})
    """,  # noqa: S608
)

DAILY_BALANCES = View(
    "daily_balances",
    "One row per account and trade date with a good snapshot or a daily value of the broker: equity in USD at the "
    "first, highest, lowest and last good snapshot, and at the close.",
    (
        Column("account_id", VARCHAR, "Account number"),
        Column("trade_date", DATE, "America/New_York date"),
        Column("open", DECIMAL, "USD; equity at the first snapshot of the day"),
        Column("high", DECIMAL, "USD; highest equity of the day's snapshots"),
        Column("low", DECIMAL, "USD; lowest equity of the day's snapshots"),
        Column(
            "close",
            DECIMAL,
            "USD; equity at the close of the session: of the last snapshot if it was read after the close, else the "
            "broker's own daily value; null if there is neither. On a date without a session that of the last snapshot",
        ),
        Column("cash_close", DECIMAL, "USD; cash of that snapshot; null where close is not from one"),
        Column("snapshots", BIGINT, "Good snapshots of the day"),
        Column("first_as_of", INSTANT, "As-of of the first snapshot (UTC)"),
        Column("last_as_of", INSTANT, "As-of of the last snapshot (UTC); null: there is none"),
        Column("last", DECIMAL, "USD; equity of the last snapshot, whenever it was read"),
        Column("source", VARCHAR, "Where close is from: snapshot, or broker; null without a close"),
    ),
    """
    WITH read_days AS (
        FROM snapshot_days WHERE snapshots > 0
    ), reported AS (
        SELECT account_id, trade_date, arg_max(value, last_read_at) AS value
        FROM broker_daily_balances GROUP BY account_id, trade_date
    ), days AS (
        SELECT *, CASE WHEN last_as_of >= coalesce(session_close, last_as_of) THEN 'snapshot'
                       WHEN value IS NOT NULL THEN 'broker' END AS source
        FROM read_days FULL JOIN reported USING (account_id, trade_date) LEFT JOIN sessions USING (trade_date)
    )
    SELECT account_id, trade_date, open, high, low,
           CASE source WHEN 'snapshot' THEN last WHEN 'broker' THEN value END AS close,
           CASE source WHEN 'snapshot' THEN last_cash END AS cash_close, coalesce(snapshots, 0) AS snapshots,
           first_as_of, last_as_of, last, source
    FROM days
    """,
)

ACCOUNT_ENVIRONMENTS = View(
    "account_environments",
    "One row per account: the environment that it was read from last. Money of one is never added to that of another.",
    (
        Column("account_id", VARCHAR, "Account number"),
        Column("environment", VARCHAR, "simulator, sandbox or live"),
    ),
    "FROM account_environment_rows",
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
    "doubtful": "verdict = 'good'",
    "findings": "coalesce(errors, 0) = 0",
}
_BLOCKERS = " || ".join(f"CASE WHEN {holds} THEN [] ELSE ['{blocker}'] END" for blocker, holds in _CONDITIONS.items())

TRADE_GATE = View(
    "trade_gate",
    "One row per account: whether to trade on its newest snapshot now. No row, or null, means not ready.",
    (
        *KEY_COLUMNS,
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
        Column("coherence_evidence", VARCHAR, "What that rests on"),
        *_borrowed(TRADIER_SNAPSHOTS, "verdict", "verdict_evidence"),
        Column("errors", BIGINT, "Open findings of severity error"),
        Column("error_codes", VARCHAR, "What they are"),
    ),
    f"""
    WITH newest AS (
        SELECT snapshot_id, account_id, as_of, trade_date, coherence, coherence_evidence, verdict, verdict_evidence
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
        FROM missed_snapshots JOIN newest USING (account_id)
        WHERE missed_at > newest.as_of AND missed_at <= now() GROUP BY account_id
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
           coherence, coherence_evidence, verdict, verdict_evidence, coalesce(errors, 0) AS errors, error_codes
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

ORDER_EVENTS = View(
    "order_events",
    "One row per change of an order between two snapshots of its account in a row; doubtful ones do not count. "
    "What the broker does not show any more may still be working.",
    (
        *KEY_COLUMNS,
        Column("order_id", BIGINT, "The broker's order id"),
        Column(
            "event",
            VARCHAR,
            "appeared: the snapshot before did not show it; fill: exec_quantity changed; status: only the status did; "
            "left: neither listed nor read by its id any more, whatever became of it",
        ),
        Column("previous_status", VARCHAR, "In the snapshot before; null if it did not show it"),
        Column("status", VARCHAR, "As in orders; null when it left"),
        Column("previous_exec_quantity", DECIMAL, "Filled by the snapshot before; null if it did not show it"),
        Column("exec_quantity", DECIMAL, "Filled so far: shares, contracts or spreads; null when it left"),
        Column("avg_fill_price", DECIMAL, "USD per share; negative for a net credit; null when it left"),
        Column("remaining_quantity", DECIMAL, "Still working; 0 on every finished order; null when it left"),
    ),
    # a date is read once, and alone: what the last snapshot of the date before shows stands before its first one
    """
    WITH steps AS (
        SELECT snapshot_id, account_id, as_of, trade_date, lag(as_of) OVER of_date AS previous_as_of,
               lead(as_of) OVER of_date AS next_as_of, lead(snapshot_id) OVER of_date AS next_snapshot_id
        FROM (SELECT snapshot_id, account_id, as_of, trade_date FROM tradier_snapshots WHERE verdict = 'good'
              UNION ALL
              SELECT NULL, account_id, '-infinity'::TIMESTAMPTZ, trade_date FROM snapshot_days WHERE snapshots > 0)
        WINDOW of_date AS (PARTITION BY account_id, trade_date ORDER BY as_of)
    ), days AS (
        SELECT account_id, trade_date, lag(trade_date) OVER (PARTITION BY account_id ORDER BY trade_date) AS date_before
        FROM snapshot_days WHERE snapshots > 0
    ), shown AS (
        SELECT account_id, as_of, trade_date, order_id, status, exec_quantity, avg_fill_price, remaining_quantity
        FROM orders
        UNION ALL
        SELECT account_id, '-infinity'::TIMESTAMPTZ, days.trade_date, order_id, status, exec_quantity, NULL, NULL
        FROM day_end_orders AS shown_before JOIN days USING (account_id) WHERE shown_before.trade_date = date_before
    ), listed AS (
        SELECT steps.*, shown.* EXCLUDE (account_id, as_of, trade_date),
               coalesce(lag(as_of) OVER of_order = previous_as_of, false) AS was_shown,
               lag(status) OVER of_order AS previous_status, lag(exec_quantity) OVER of_order AS previous_exec_quantity,
               coalesce(lead(as_of) OVER of_order <> next_as_of, next_as_of IS NOT NULL) AS is_gone
        FROM steps JOIN shown USING (account_id, as_of, trade_date)
        WINDOW of_order AS (PARTITION BY account_id, trade_date, order_id ORDER BY as_of)
    ), changed AS (
        SELECT *, CASE WHEN snapshot_id IS NULL THEN NULL WHEN NOT was_shown THEN 'appeared'
                       WHEN coalesce(exec_quantity, 0) <> coalesce(previous_exec_quantity, 0) THEN 'fill'
                       WHEN status <> previous_status THEN 'status' END AS event
        FROM listed
    )
    SELECT CASE WHEN is_later THEN next_snapshot_id ELSE snapshot_id END AS snapshot_id, account_id,
           CASE WHEN is_later THEN next_as_of ELSE as_of END AS as_of, trade_date, order_id,
           CASE WHEN is_later THEN 'left' ELSE event END AS event,
           CASE WHEN is_later THEN status WHEN was_shown THEN previous_status END AS previous_status,
           CASE WHEN NOT is_later THEN status END AS status,
           CASE WHEN is_later THEN exec_quantity WHEN was_shown THEN previous_exec_quantity END
               AS previous_exec_quantity,
           CASE WHEN NOT is_later THEN exec_quantity END AS exec_quantity,
           CASE WHEN NOT is_later THEN avg_fill_price END AS avg_fill_price,
           CASE WHEN NOT is_later THEN remaining_quantity END AS remaining_quantity
    FROM changed CROSS JOIN (VALUES (false), (true)) AS events(is_later)
    WHERE CASE WHEN is_later THEN is_gone ELSE event IS NOT NULL END
    """,
)

COVERAGE = View(
    "coverage",
    "One row per account and session day from the account's first snapshot on: how much of it there is. "
    "Days that the table sessions does not have yet are not here either.",
    (
        Column("account_id", VARCHAR, "Account number"),
        Column("trade_date", DATE, "America/New_York date of the session"),
        Column("session_minutes", INTEGER, "Length of the session in minutes"),
        Column("snapshots", BIGINT, "Snapshots of the date"),
        Column("in_session", BIGINT, "Those of them that were read while the session was on"),
        Column("missed", BIGINT, "Instants of the date that were never read"),
        Column("failed", BIGINT, "Instants of the date at which the broker did not answer"),
        Column("refused", BIGINT, "Snapshots of the date that were not published"),
        Column("first_as_of", INSTANT, "As-of of the first snapshot of the date (UTC); null: there is none"),
        Column("last_as_of", INSTANT, "As-of of the last snapshot of the date (UTC); null: there is none"),
        Column(
            "longest_gap_s",
            DOUBLE,
            "Most seconds of the session without a snapshot, from its open and to its close, or to now while it is on; "
            "null before it opens",
        ),
    ),
    # a gap reaches from the open or a snapshot to the next snapshot, the close or now
    """
    WITH days AS (
        SELECT *, least(session_close, now()) AS so_far
        FROM (SELECT account_id, min(trade_date) AS since FROM snapshot_days GROUP BY account_id)
        JOIN sessions ON trade_date >= since LEFT JOIN snapshot_days USING (account_id, trade_date)
    ), absent AS (
        SELECT account_id, trade_date, count(*) FILTER (kind = 'missed') AS missed,
               count(*) FILTER (kind = 'failed') AS failed, count(*) FILTER (kind = 'refused') AS refused
        FROM missed_snapshots GROUP BY account_id, trade_date
    )
    SELECT account_id, trade_date, date_diff('minute', session_open, session_close)::INTEGER AS session_minutes,
           coalesce(taken, 0) AS snapshots, coalesce(in_session, 0) AS in_session, coalesce(missed, 0) AS missed,
           coalesce(failed, 0) AS failed, coalesce(refused, 0) AS refused, first_read_at AS first_as_of,
           read_at AS last_as_of,
           CASE WHEN session_open <= now() THEN greatest( -- of those that are not null
               (epoch_us(coalesce(first_in_session, so_far)) - epoch_us(session_open)) / 1e6, longest_between_s,
               (epoch_us(so_far) - epoch_us(last_in_session)) / 1e6) END AS longest_gap_s
    FROM days LEFT JOIN absent USING (account_id, trade_date)
    """,
)

ACCOUNT_PERFORMANCE = View(
    "account_performance",
    "One row per snapshot: what was open, and what had been won or lost.",
    (
        *KEY_COLUMNS,
        *_borrowed(ACCOUNT_BALANCES, "cash", "buying_power", "equity"),
        Column("open_spreads", INTEGER, "Option spreads; a single leg is one"),
        Column("open_positions", BIGINT, "Option spreads, and holdings of shares that are not all in one"),
        Column("unrealized_pl", DECIMAL, "USD; = open_pl"),
        Column("realized_today", DECIMAL, "USD; = close_pl"),
        Column(
            "realized_7d",
            DECIMAL,
            "USD; close_pl at the close of each session day among the 7 calendar dates that end with trade_date, and "
            "of trade_date so far, summed",
        ),
        Column(
            "realized_7d_days", BIGINT, "Days in that sum: an earlier one without a snapshot after its close is not"
        ),
        Column("trades_open", BIGINT, "Trades of the ledger that hold something; null: it had no trade to tell of"),
        Column("trades_closed_today", BIGINT, "Trades of the ledger closed on trade_date; null as trades_open"),
        Column(
            "trades_realized_today",
            DECIMAL,
            "USD; what those made; null as trades_open, or if one of them does not say",
        ),
    ),
    f"""
    WITH days AS (
        SELECT account_id, trade_date, last_close_pl AS realized, last_as_of FROM snapshot_days WHERE snapshots > 0
    ), weeks AS (
        SELECT account_id, trade_date, session_open IS NOT NULL AS has_session,
               sum(realized) FILTER (last_as_of >= session_close) OVER earlier AS realized_before,
               count(*) FILTER (last_as_of >= session_close) OVER earlier AS days_before
        FROM days LEFT JOIN sessions USING (trade_date)
        WINDOW earlier AS (PARTITION BY account_id ORDER BY trade_date
                           RANGE BETWEEN INTERVAL 6 DAYS PRECEDING AND INTERVAL 1 DAY PRECEDING)
    ), shares AS (
        SELECT {KEYS}, count(*) AS holdings
        FROM (SELECT {KEYS}, symbol
              FROM (SELECT {KEYS}, symbol, quantity FROM positions WHERE asset_class = 'equity'
                    UNION ALL
                    SELECT {KEYS}, symbol, -quantity FROM option_spread_legs WHERE asset_class = 'equity')
              GROUP BY {KEYS}, symbol HAVING sum(quantity) <> 0)
        GROUP BY {KEYS}
    ), trades AS (
        SELECT {KEYS}, count(*) FILTER (status NOT IN ('ENTRY_PENDING', 'CLOSED', 'CANCELLED')) AS trades_open,
               count(*) FILTER (today) AS trades_closed_today,
               CASE WHEN bool_and(realized_pnl IS NOT NULL) FILTER (today) IS NOT FALSE
                    THEN coalesce(sum(realized_pnl) FILTER (today), 0) END AS trades_realized_today
        FROM (SELECT *, CASE WHEN status = 'CLOSED'
                             THEN (closed_at AT TIME ZONE 'America/New_York')::DATE = trade_date END AS today
              FROM trade_reconciliation)
        GROUP BY {KEYS}
    )
    SELECT {KEYS}, cash, buying_power, equity,
           open_positions AS open_spreads, open_positions + coalesce(holdings, 0) AS open_positions,
           open_pl AS unrealized_pl, close_pl AS realized_today,
           (CASE WHEN has_session THEN coalesce(realized_before, 0) + close_pl ELSE realized_before END)::{DECIMAL}
               AS realized_7d,
           days_before + has_session::INTEGER AS realized_7d_days,
           trades_open, trades_closed_today, trades_realized_today::{DECIMAL} AS trades_realized_today
    FROM account_balances
    LEFT JOIN weeks USING (account_id, trade_date) LEFT JOIN trade_gate_readings USING ({KEYS})
    LEFT JOIN shares USING ({KEYS}) LEFT JOIN trades USING ({KEYS})
    """,  # noqa: S608
)

VIEWS = (
    *CURRENT_ACTIVITY,
    *(NEWEST_SNAPSHOTS, PORTFOLIO_POSITIONS, PORTFOLIO_SPREADS, BALANCE_HISTORY, DAILY_BALANCES, ACCOUNT_ENVIRONMENTS),
    *(HEARTBEATS, TRADE_GATE, OPEN_FINDINGS),
    NEWEST_DAILY_SUMMARIES,
    *(ORDER_EVENTS, COVERAGE, ACCOUNT_PERFORMANCE),
    *equity.VIEWS,
    cash.CASH_BY_DAY,
    *statements.VIEWS,
    *realized.VIEWS,
    *exposure.VIEWS,
    *period_returns.VIEWS,
    *day_profit.VIEWS,
    *spread_book.VIEWS,
    *trade_results.VIEWS,
    RESTATEMENTS,
    *service.VIEWS,
)


def view_ddl(view: View) -> str:
    """CREATE VIEW, or put it in the place of an older one, with the comments.

    Its query is kept as text: DuckDB then parses that of a view which is asked for. Kept as a query, those of all views
    are read whenever the file is opened, which took a third of the time of opening it.
    """
    tag = "$view$"
    while tag in view.query:  # a path may have it
        tag = f"{tag[:-1]}_$"
    query = f"FROM query({tag} {view.query} {tag})"
    return f"CREATE OR REPLACE VIEW {view.name} AS {query}; {comments('VIEW', view.name, view.comment, view.columns)}"
