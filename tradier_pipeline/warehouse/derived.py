"""Tables that follow from others, kept by every publish so that no reader computes a year to see a day.

`snapshot_days` says what the snapshots of a date come to, and the tables of day_ends.py what the last one shows; the
others hold the rows of the views of their names.
The rows of each are what its query gives, and nothing else: all of them can be made anew from the other tables at any
time. What is made anew is found by fingerprints of the rows that a query reads, not by who wrote them, so that nothing
that changes a past session has to be announced here: a late snapshot, a verdict, a posting that the broker adds or
takes back, a stated flow, a rebuild. A fingerprint has the query in it, too.
"""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from datetime import date
from typing import Final

import duckdb

from tradier_pipeline.warehouse.day_ends import DAY_ENDS
from tradier_pipeline.warehouse.equity import ALL_CURVES, CURVES, VIEWS
from tradier_pipeline.warehouse.schema import (
    BIGINT,
    DATE,
    DECIMAL,
    DOUBLE,
    INSTANT,
    VARCHAR,
    Column,
    Derived,
    Table,
)
from tradier_pipeline.warehouse.sealed import note_seen, reaching, seen_spans
from tradier_pipeline.warehouse.sql import bind, literal, transaction

_ACCOUNT = Column("account_id", VARCHAR, "Account number", required=True)


def _version(*queries: str) -> str:
    return hashlib.sha256("".join(queries).encode()).hexdigest()[:16]


_FIGURES: Final = """
    arg_min(equity, as_of) AS open, max(equity) AS high, min(equity) AS low, arg_max(equity, as_of) AS last,
    arg_max(cash, as_of) AS last_cash, arg_max(close_pl, as_of) AS last_close_pl, count(*) AS snapshots,
    min(as_of) AS first_as_of, max(as_of) AS last_as_of
"""
# microseconds of the snapshots that were read while the session was on
_INSIDE: Final = "list_sort(list(epoch_us(as_of)) FILTER (session_open <= as_of AND as_of < session_close))"
# of the headers of a day: a snapshot that is stored again is committed at another instant
_OF_HEADERS: Final = "bit_xor(hash(as_of, environment, verdict, verdict_evidence, committed_at)) AS of_headers"


def _days_made(dates: str, fingerprint: str) -> str:
    return f"""
    WITH headers AS (
        SELECT account_id, trade_date, session_open, session_close, arg_max(environment, as_of) AS environment,
               min(as_of) AS first_read_at, max(as_of) AS read_at, count(*) AS taken, {_INSIDE} AS inside, {_OF_HEADERS}
        FROM (FROM tradier_snapshots {dates}) LEFT JOIN sessions USING (trade_date) GROUP BY ALL
    ), doubtful AS (
        SELECT account_id, as_of FROM (FROM tradier_snapshots {dates}) WHERE verdict = 'doubtful'
    ), good AS (
        SELECT account_id, trade_date, {_FIGURES}
        FROM (FROM account_balances {dates}) ANTI JOIN doubtful USING (account_id, as_of)
        GROUP BY account_id, trade_date
    )
    SELECT account_id, trade_date, environment, read_at, open, high, low, last, last_cash, last_close_pl,
           coalesce(snapshots, 0) AS snapshots, first_as_of, last_as_of, {fingerprint} AS fingerprint,
           first_read_at, taken, coalesce(len(inside), 0) AS in_session,
           make_timestamptz(inside[1]) AS first_in_session, make_timestamptz(inside[-1]) AS last_in_session,
           list_max([ends[2] - ends[1] FOR ends IN list_zip(inside[:-2], inside[2:])]) / 1e6 AS longest_between_s
    FROM headers LEFT JOIN good USING (account_id, trade_date)
    """  # noqa: S608


_DAYS_VERSION: Final = _version(_days_made("", ""), *(day_end.derived.query for day_end in DAY_ENDS))
# the version is outside of the xor, which it would leave twice, as if it were not there
_DAY_FINGERPRINT: Final = f"hash(of_headers, session_open, session_close, {literal(_DAYS_VERSION)})"


def _days(dates: str = "") -> str:
    """The query of `snapshot_days`.

    Args:
        dates: the condition on the dates that are asked for.
    """
    return _days_made(dates, _DAY_FINGERPRINT)


SNAPSHOT_DAYS = Derived(
    Table(
        "snapshot_days",
        "One row per account and trade date with a snapshot: when its snapshots were read, and what the good ones come "
        "to. Kept by every publish.",
        (
            _ACCOUNT,
            Column("trade_date", DATE, "America/New_York date", required=True),
            Column("environment", VARCHAR, "simulator, sandbox or live; of the newest snapshot, good or not"),
            Column("read_at", INSTANT, "As-of of the newest snapshot, good or not (UTC)", required=True),
            Column("open", DECIMAL, "USD; equity at the first good snapshot; null as all figures: there is none"),
            Column("high", DECIMAL, "USD; highest equity of the good snapshots"),
            Column("low", DECIMAL, "USD; lowest equity of the good snapshots"),
            Column("last", DECIMAL, "USD; equity at the last good snapshot"),
            Column("last_cash", DECIMAL, "USD; cash at the last good snapshot"),
            Column("last_close_pl", DECIMAL, "USD; realized profit or loss of the session at the last good snapshot"),
            Column("snapshots", BIGINT, "Good snapshots", required=True),
            Column("first_as_of", INSTANT, "As-of of the first good snapshot (UTC)"),
            Column("last_as_of", INSTANT, "As-of of the last good snapshot (UTC)"),
            Column("fingerprint", "UBIGINT", "Of the headers and the session that it was made from", required=True),
            Column("first_read_at", INSTANT, "As-of of the first snapshot, good or not (UTC)"),
            Column("taken", BIGINT, "Snapshots, good or not"),
            Column("in_session", BIGINT, "Those of them that were read while the session was on"),
            Column("first_in_session", INSTANT, "As-of of the first of these (UTC)"),
            Column("last_in_session", INSTANT, "As-of of the last of these (UTC)"),
            Column("longest_between_s", DOUBLE, "Most seconds from one of these to the next; null: fewer than two"),
        ),
    ),
    _days(),
)

ENVIRONMENTS = Derived(
    Table(
        "account_environment_rows",
        "The rows of account_environments, kept by every publish.",
        (_ACCOUNT, Column("environment", VARCHAR, "simulator, sandbox or live; the one that it was read from last")),
    ),
    """
    SELECT account_id, arg_max(environment, read_at) AS environment
    FROM (SELECT account_id, environment, read_at FROM snapshot_days
          UNION ALL SELECT account_id, environment, max(read_at) FROM activity_extracts GROUP BY ALL)
    GROUP BY account_id
    """,
)

CURVE_INPUTS: Final = Table(
    "curve_inputs",
    "One row: what the rows of the environments and of the equity curves were made from.",
    (Column("fingerprint", VARCHAR, "Of all rows that they follow from, and of their queries", required=True),),
)

DERIVED: Final = (SNAPSHOT_DAYS, *(day_end.derived for day_end in DAY_ENDS), ENVIRONMENTS, *CURVES)
TABLES: Final = (*(derived.table for derived in DERIVED), CURVE_INPUTS)

# The values of days that the curves read: at a close, or where the history of an account begins. Their as-ofs are not
# in it, which the curves only hand on; nor is the equity of the session that is on where a history begins in it, while
# no sum of accounts has it: all of them begin then, or the sum waits for another one. See `_hand_on`.
_CLOSES: Final = """(
    SELECT account_id, trade_date, is_close, CASE WHEN is_close OR NOT is_alone THEN last END AS last,
           CASE WHEN is_close THEN last_cash END AS cash
    FROM (SELECT account_id, trade_date, last, last_cash, is_close, is_first,
                 bool_and(is_new) OVER () OR (is_new AND is_first AND waits) AS is_alone
          FROM (SELECT account_id, trade_date, last, last_cash, last_as_of >= session_close AS is_close,
                       min(trade_date) OVER (PARTITION BY account_id) = trade_date AS is_first,
                       coalesce(last > 0, false) AND trade_date = (SELECT max(trade_date) FROM sessions) AS is_new,
                       waiting.trade_date IS NOT NULL AS waits
                FROM (SELECT account_id, trade_date, last, last_cash, last_as_of FROM snapshot_days WHERE snapshots > 0
                      UNION ALL SELECT account_id, trade_date, NULL, NULL, NULL FROM broker_daily_balances)
                JOIN sessions USING (trade_date)
                LEFT JOIN (SELECT account_id, trade_date FROM total_equity_curve_rows AS total
                           JOIN account_environment_rows AS its
                           ON total.environment IS NOT DISTINCT FROM its.environment
                           WHERE waits_for IS NOT NULL) AS waiting USING (account_id, trade_date)))
    WHERE last IS NOT NULL AND (is_close OR is_first)
)"""
_HOLDING_DAYS: Final = "(SELECT DISTINCT account_id, trade_date FROM day_end_positions WHERE quantity <> 0)"
_INPUTS: Final = {
    "sessions": "trade_date, session_close",
    _CLOSES: "account_id, trade_date, is_close, last, cash",
    "broker_daily_balances": "account_id, trade_date, value, last_read_at",
    "account_activity": "account_id, trade_date, type, amount, description, symbol, quantity, first_read_at",
    "closed_lots": "account_id, open_date, close_date",
    _HOLDING_DAYS: "account_id, trade_date",
    "(SELECT account_id, trade_date FROM snapshot_days WHERE snapshots > 0)": "account_id, trade_date",
    "stated_flows": "flow_id, account_id, trade_date, kind, amount, symbol, note, stated_at",
    "activity_extracts": "account_id, resource, since, until, read_at",
    f"({ENVIRONMENTS.query})": "account_id, environment",
}
_CURVES_VERSION: Final = _version(*(curve.query for curve in CURVES), *(view.query for view in VIEWS))


_SUMS: Final = " UNION ALL ".join(
    f"SELECT {number}, sum(hash({columns})) FROM {relation}"  # noqa: S608
    for number, (relation, columns) in enumerate(_INPUTS.items())
)


def refresh(connection: duckdb.DuckDBPyConnection) -> None:
    """Make anew the rows whose inputs are not what they were, in one transaction. Doing it again changes nothing."""
    with transaction(connection):
        on_curves = _refresh_days(connection)
        if not _refresh_curves(connection) and on_curves:
            _hand_on(connection)


def _refresh_days(connection: duckdb.DuckDBPyConnection) -> bool:
    """Make anew the days whose snapshots have changed. Returns whether the curves have the equity of one of them.

    The headers of sealed years cannot have: they are looked at once, when their days were made by another version.
    """
    seen = seen_spans(connection, _DAYS_VERSION)
    spans = " AND ".join(bind("trade_date NOT BETWEEN ? AND ?", *span) for span in seen or ()) or "true"
    with nullcontext() if seen is not None else reaching(connection, date.min):
        changed = connection.execute(
            f"""
            SELECT account_id, trade_date, coalesce(source = 'snapshot', false)
            FROM (SELECT account_id, trade_date, {_DAY_FINGERPRINT} AS fingerprint
                  FROM (SELECT account_id, trade_date, {_OF_HEADERS}
                        FROM tradier_snapshots WHERE {spans} GROUP BY account_id, trade_date)
                  LEFT JOIN sessions USING (trade_date)) AS now
            FULL JOIN (FROM snapshot_days WHERE {spans}) AS snapshot_days USING (account_id, trade_date)
            LEFT JOIN equity_curve_rows USING (account_id, trade_date)
            WHERE now.fingerprint IS DISTINCT FROM snapshot_days.fingerprint
            """  # noqa: S608
        ).fetchall()
    if seen is None:
        note_seen(connection, _DAYS_VERSION)
    if not changed:
        return False
    listed = ", ".join(bind("(?, ?)", account_id, day) for account_id, day, _ in changed)
    accounts = ", ".join(sorted({literal(account_id) for account_id, *_ in changed}))
    first, last = min(day for _, day, _ in changed), max(day for _, day, _ in changed)
    # of the tables with a row a snapshot
    dates = f"WHERE trade_date BETWEEN {literal(first)} AND {literal(last)} AND account_id IN ({accounts})"
    wanted = f"SEMI JOIN (VALUES {listed}) AS changed(account_id, trade_date) USING (account_id, trade_date)"
    gone = f"WHERE (account_id, trade_date) IN (VALUES {listed})"
    if first == last:  # they are all that is asked for
        wanted, gone = "", dates
    with reaching(connection, first, last):
        for table, query in ((SNAPSHOT_DAYS.table, _days), *((day_end.table, day_end.query) for day_end in DAY_ENDS)):
            connection.execute(f"DELETE FROM {table.name} {gone}")  # noqa: S608
            connection.execute(f"INSERT INTO {table.name} FROM ({query(dates)}) {wanted}")
    return any(is_on_curve for *_, is_on_curve in changed)


def _refresh_curves(connection: duckdb.DuckDBPyConnection) -> bool:
    """Make the curves anew, of all accounts, if anything that they follow from has changed. Returns whether it has."""
    sums = sorted(connection.execute(_SUMS).fetchall())
    fingerprint = " ".join([_CURVES_VERSION, *(str(of_rows) for _, of_rows in sums)])
    if connection.execute("FROM curve_inputs").fetchone() == (fingerprint,):
        return False
    _make_curves(connection, fingerprint)
    connection.execute("DELETE FROM curve_inputs")
    connection.execute(f"INSERT INTO curve_inputs VALUES ({literal(fingerprint)})")  # noqa: S608
    return True


def _make_curves(connection: duckdb.DuckDBPyConnection, _fingerprint: str) -> None:
    connection.execute(f"DELETE FROM {ENVIRONMENTS.table.name}")  # noqa: S608
    connection.execute(f"INSERT INTO {ENVIRONMENTS.table.name} {ENVIRONMENTS.query}")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE all_curves AS {ALL_CURVES}")
    for curve in CURVES:
        columns = ", ".join(f'"{name}"' for name in curve.table.column_names)
        connection.execute(f"DELETE FROM {curve.table.name}")  # noqa: S608
        connection.execute(
            f"INSERT INTO {curve.table.name} SELECT {columns} FROM all_curves "  # noqa: S608
            f"WHERE of_table = {literal(curve.table.name)}"
        )
    connection.execute("DROP TABLE all_curves")


def _hand_on(connection: duckdb.DuckDBPyConnection) -> None:
    """Bring equity and as-of of the last snapshot of a day to the curves.

    Nothing else of them follows from the as-of; nor, in the first session of an account's history, from the equity:
    there is none before it to compare it with.
    """
    connection.execute(
        """
        UPDATE equity_curve_rows SET equity = last, as_of = last_as_of FROM snapshot_days AS days
        WHERE equity_curve_rows.account_id = days.account_id AND equity_curve_rows.trade_date = days.trade_date
        AND source = 'snapshot' AND (equity, as_of) IS DISTINCT FROM (last, last_as_of)
        """
    )
    connection.execute(
        """
        UPDATE total_equity_curve_rows SET equity = added.equity, as_of = added.as_of
        FROM (SELECT environment, trade_date, sum(equity) AS equity, min(as_of) AS as_of
              FROM equity_curve_rows WHERE equity IS NOT NULL GROUP BY ALL) AS added
        WHERE total_equity_curve_rows.environment IS NOT DISTINCT FROM added.environment
        AND total_equity_curve_rows.trade_date = added.trade_date AND source = 'snapshot'
        AND (total_equity_curve_rows.equity, total_equity_curve_rows.as_of) IS DISTINCT FROM (added.equity, added.as_of)
        """
    )
