"""Reading the published warehouse. Every open sees one whole state and holds nobody up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal

import duckdb

from tradier_pipeline.warehouse import schema, views
from tradier_pipeline.warehouse.publish import WarehouseError, attach
from tradier_pipeline.warehouse.sql import bind, where


@contextmanager
def reading(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection to the newest published file, in UTC.

    Raises:
        WarehouseError: nothing has been published yet, or the file cannot be opened, or another program writes to it.
    """
    if not path.exists():
        raise WarehouseError(f"there is no warehouse at {path} yet", "Take a snapshot: `tradier-pipeline snapshot`.")
    log = path.with_name(f"{path.name}.wal")
    if log.exists():  # ours never has one; DuckDB would read a stranger's rows as if they were published
        raise WarehouseError(
            f"another program has written to {path}: its log {log.name} lies beside it",
            "End that program and take a snapshot, which removes the log; open the warehouse read-only.",
        )
    connection = duckdb.connect(":memory:")
    try:
        try:
            # attached, because connect() would return an older state that this process may still hold open elsewhere
            attach(connection, path, "READ_ONLY")
        except duckdb.Error as error:
            raise WarehouseError(
                f"cannot open {path}: {str(error).splitlines()[0][:300]}", "Run `tradier-pipeline rebuild`."
            ) from None
        yield connection
    finally:
        connection.close()


def require_current(connection: duckdb.DuckDBPyConnection) -> None:
    """Make sure that every table and view of this version is there.

    Raises:
        WarehouseError: the file is of another version.
    """
    found = connection.execute("SELECT schema_version()").fetchone()
    if found != (schema.SCHEMA_VERSION,):
        raise WarehouseError(
            f"the warehouse has another schema version than {schema.SCHEMA_VERSION}, which this tradier-pipeline knows",
            "Take a snapshot, which completes an older one: `tradier-pipeline snapshot`.",
        )


def trade_gates(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """The rows of `trade_gate`: whether to trade now, by account.

    Raises:
        WarehouseError: the file is of another version, or damaged.
    """
    try:
        require_current(connection)
        return _rows(connection, "FROM trade_gate ORDER BY account_id")
    except duckdb.Error as error:
        told = str(error).splitlines()[0][:300]
        raise WarehouseError(f"cannot read the trade gate: {told}", "Run `tradier-pipeline rebuild`.") from None


def gate_reading(connection: duckdb.DuckDBPyConnection, snapshot_id: str) -> dict[str, Any] | None:
    """What the gate said of a snapshot when it was read; None if it is not published."""
    rows = _rows(connection, bind("FROM trade_gate_readings WHERE snapshot_id = ?", snapshot_id))
    return rows[0] if rows else None


def findings(connection: duckdb.DuckDBPyConnection, account_id: str | None, *, resolved: bool) -> list[dict[str, Any]]:
    """The rows of `findings_query`.

    Raises:
        WarehouseError: the file is of another version.
    """
    require_current(connection)
    return _rows(connection, findings_query(account_id, resolved=resolved))


def findings_query(account_id: str | None, *, resolved: bool) -> str:
    """The rows of `findings`, the open ones first, by severity, then age.

    Args:
        account_id: None means every account.
        resolved: those that are not open any more, too.
    """
    rows = "findings" if resolved else "(FROM findings WHERE resolved_at IS NULL)"
    severity = "list_position(['error', 'warn', 'info'], severity)"
    return f"FROM {rows} {where(account_id)} ORDER BY resolved_at IS NOT NULL, {severity}, first_seen, finding_id"


def reconciliation(connection: duckdb.DuckDBPyConnection, snapshot_id: str) -> dict[str, list[dict[str, Any]]]:
    """What is stored of the reconciliation of a snapshot with the ledger: table -> rows; all empty without a ledger."""
    return {
        table.name: _rows(connection, bind(f"FROM {table.name} WHERE snapshot_id = ?", snapshot_id))
        for table in schema.RECONCILED
    }


def heartbeats(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """The rows of `heartbeats`, also of a file that does not have that view yet."""
    return _rows(connection, views.HEARTBEATS.query)


def newest_snapshot_ids(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The newest published snapshot of each account."""
    rows = connection.execute("SELECT snapshot_id FROM newest_snapshots ORDER BY account_id").fetchall()
    return [snapshot_id for (snapshot_id,) in rows]


def snapshot_ids(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Every published snapshot, in the order of what was read."""
    rows = connection.execute("SELECT snapshot_id FROM tradier_snapshots ORDER BY as_of, snapshot_id").fetchall()
    return [snapshot_id for (snapshot_id,) in rows]


def activity_paths(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Every published extract of the activity, as its directory in the landing zone."""
    return [path for (path,) in connection.execute("SELECT DISTINCT path FROM activity_extracts ORDER BY 1").fetchall()]


_ACTIVITY_TOTALS = {
    "history": "SELECT account_id, type, count(*) AS events, sum(amount) AS amount FROM account_activity "
    "WHERE retracted_at IS NULL AND trade_date BETWEEN ? AND ? GROUP BY ALL ORDER BY ALL",
    "gainloss": "SELECT account_id, close_date, count(*) AS lots, sum(gain_loss) AS gain_loss FROM closed_lots "
    "WHERE retracted_at IS NULL AND close_date BETWEEN ? AND ? GROUP BY ALL ORDER BY close_date DESC, account_id",
    "historical_balances": "SELECT account_id, trade_date, value FROM broker_daily_balances "
    "WHERE retracted_at IS NULL AND trade_date BETWEEN ? AND ? ORDER BY trade_date DESC, account_id",
}


def activity_totals(
    connection: duckdb.DuckDBPyConnection, resource: str, since: date, until: date
) -> list[dict[str, Any]]:
    """What counts of the activity between two dates, USD: history by type, gain and loss by day, values by day."""
    return _rows(connection, bind(_ACTIVITY_TOTALS[resource], since, until))


def external_flows(
    connection: duckdb.DuckDBPyConnection, account_id: str, since: date, until: date
) -> tuple[Decimal, Decimal]:
    """What came from outside and what went there between two dates, as `cash_flows` has it: USD, neither negative."""
    found = connection.execute(
        bind(
            "SELECT coalesce(sum(amount) FILTER (amount > 0), 0), coalesce(-sum(amount) FILTER (amount < 0), 0) "
            "FROM cash_flows WHERE external AND account_id = ? AND trade_date BETWEEN ? AND ?",
            account_id,
            since,
            until,
        )
    ).fetchone()
    assert found is not None
    return found[0], found[1]


def unknown_words(
    connection: duckdb.DuckDBPyConnection, account_id: str, since: date, until: date
) -> dict[str, tuple[int, Decimal]]:
    """The broker's words of a history that `activity_kinds` lacks: word -> how many rows with money, USD of them."""
    rows = connection.execute(
        bind(
            "SELECT word, count(*), sum(amount) FROM cash_flows WHERE kind = 'unknown' AND amount <> 0 "
            "AND account_id = ? AND trade_date BETWEEN ? AND ? GROUP BY word ORDER BY word",
            account_id,
            since,
            until,
        )
    ).fetchall()
    return {word: (count, amount) for word, count, amount in rows}


def snapshots_read_after(connection: duckdb.DuckDBPyConnection, instant: datetime) -> dict[str, datetime]:
    """The published snapshots read after an instant: id -> as-of, in the order of what was read."""
    query = bind(
        "SELECT snapshot_id, as_of FROM tradier_snapshots WHERE as_of > ? ORDER BY as_of, snapshot_id", instant
    )
    return dict(connection.execute(query).fetchall())


def newest_as_of(connection: duckdb.DuckDBPyConnection) -> dict[str, datetime]:
    """The as-of of the newest published snapshot of each account."""
    return dict(connection.execute("SELECT account_id, as_of FROM newest_snapshots").fetchall())


def newest_trade_date(connection: duckdb.DuckDBPyConnection, account_id: str | None = None) -> date:
    """The last trade date with a snapshot, of an account or of any.

    Raises:
        WarehouseError: there is none.
    """
    query = f"SELECT max(trade_date) FROM tradier_snapshots {where(account_id)}"  # noqa: S608
    (day,) = connection.execute(query).fetchone() or (None,)
    if day is None:
        of_account = f" of account {account_id}" if account_id else ""
        raise WarehouseError(f"no snapshot{of_account} is published", "Take one: `tradier-pipeline snapshot`.")
    return day  # type: ignore[no-any-return]


def newest_headers(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """The header of each account's newest snapshot, and how many `snapshots` the account has."""
    return _rows(
        connection,
        """
        SELECT newest.*, snapshots FROM newest_snapshots AS newest
        JOIN (SELECT account_id, count(*) AS snapshots FROM tradier_snapshots GROUP BY account_id) USING (account_id)
        ORDER BY account_id
        """,
    )


def daily_summaries(
    connection: duckdb.DuckDBPyConnection, day: date | None = None, account_id: str | None = None
) -> list[dict[str, Any]]:
    """The newest revisions of the summaries, of one trade date or of all, oldest first.

    Each with the deposits and withdrawals of its evening as `equity_curve` has them now, and whether they are
    provisional or uncertain, and why; null without an equity at the close.

    Raises:
        WarehouseError: the file is of another version.
    """
    require_current(connection)
    asked = where(account_id, day, day)
    return _rows(
        connection,
        f"""
        SELECT summary.*, deposits, withdrawals, provisional, uncertain, reason
        FROM (FROM newest_daily_summaries {asked}) AS summary LEFT JOIN equity_curve USING (account_id, trade_date)
        ORDER BY trade_date, account_id
        """,  # noqa: S608
    )


By = Literal["snapshot", "hour", "day", "month"]

# the column of a period, and when it began; New York is whole hours from UTC, so that their hours begin together
_PERIODS: Final[dict[By, tuple[str, str]]] = {
    "snapshot": ("as_of", "as_of"),
    "hour": ("hour", "date_trunc('hour', as_of)"),
    "day": ("trade_date", "trade_date"),
    "month": ("month", "date_trunc('month', trade_date)::DATE"),
}


def balances_query(account_id: str | None, since: date | None, until: date | None, by: By) -> str:
    """The balances from one trade date to another, oldest first: a row per snapshot, or per period with any."""
    column, began = _PERIODS[by]
    selected = (
        "as_of, account_id, equity, cash, buying_power, margin_requirement, open_pl, close_pl, verdict, snapshot_id"
        if by == "snapshot"
        else f"account_id, {began} AS {column}, {views.OPEN_TO_CLOSE}"
    )
    grouped = "" if by == "snapshot" else f"GROUP BY account_id, {began}"
    good = "" if by == "snapshot" else f"ANTI JOIN {schema.DOUBTFUL} USING (account_id, as_of)"
    source = "balance_history" if by == "snapshot" else "account_balances"
    rows = f"FROM {source} {good} {where(account_id, since, until)} {grouped}"
    return f"SELECT {selected} {rows} ORDER BY {column}, account_id"


def balance_dates(connection: duckdb.DuckDBPyConnection) -> dict[str, tuple[date, date]]:
    """The first and last trade date with a snapshot of each account."""
    rows = connection.execute(
        "SELECT account_id, min(trade_date), max(trade_date) FROM account_balances GROUP BY account_id ORDER BY ALL"
    ).fetchall()
    return {account_id: (first, last) for account_id, first, last in rows}


def equity_lines(
    connection: duckdb.DuckDBPyConnection, account_id: str | None, since: date | None, until: date | None, by: By
) -> list[dict[str, Any]]:
    """The equity of each account over time.

    One row per account: account_id; closes (the last equity of each period, null where a snapshot was due and there is
    none: at a missed instant, on a session day since the account's first); low, high and last of all its snapshots.

    Raises:
        WarehouseError: the file is of another version.
    """
    require_current(connection)
    return _rows(
        connection,
        f"""
        WITH due AS (
            SELECT account_id, trade_date, as_of, equity FROM account_balances
            ANTI JOIN {schema.DOUBTFUL} USING (account_id, as_of)
            UNION ALL
            SELECT account_id, trade_date, requested_at, NULL FROM missed_snapshots
            UNION ALL
            SELECT account_id, sessions.trade_date, session_open, NULL
            FROM (SELECT account_id, min(trade_date) AS began FROM account_balances GROUP BY account_id)
            JOIN sessions ON sessions.trade_date > began
            ANTI JOIN account_balances USING (account_id, trade_date)
        ), periods AS (
            SELECT account_id, {_PERIODS[by][1]} AS period, min(equity) AS low, max(equity) AS high,
                   arg_max(equity, as_of) FILTER (equity IS NOT NULL) AS close
            FROM due {where(account_id, since, until)} GROUP BY account_id, period
        )
        SELECT account_id, list(close ORDER BY period) AS closes, min(low) AS low, max(high) AS high,
               arg_max(close, period) FILTER (close IS NOT NULL) AS last
        FROM periods GROUP BY account_id HAVING last IS NOT NULL ORDER BY account_id
        """,  # noqa: S608
    )


def equity_curves(connection: duckdb.DuckDBPyConnection, account_id: str | None) -> dict[str, list[dict[str, Any]]]:
    """The rows of `equity_curve` by account, oldest first; with several accounts those of `total_equity_curve`, too.

    Each with its `flows`: the date and USD, negative for a withdrawal, of each flow that counts on its evening.

    Args:
        account_id: None means every account.

    Raises:
        WarehouseError: the file is of another version, or nothing is published of the account.
    """
    require_current(connection)
    curves: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(connection, f"FROM equity_curve {where(account_id)} ORDER BY account_id, trade_date"):
        curves.setdefault(row["account_id"], []).append(row)
    if account_id and not curves:
        require_account(connection, account_id)
    flows: dict[tuple[str, date], list[tuple[date, Decimal]]] = {}
    if curves:
        for account, counted_on, day, amount in connection.execute(
            "SELECT account_id, counted_on, trade_date, amount FROM external_flows WHERE counted_on IS NOT NULL"
        ).fetchall():
            flows.setdefault((account, counted_on), []).append((day, amount))
    for account, rows in curves.items():
        for row in rows:
            row["flows"] = flows.get((account, row["trade_date"]), [])
    if len(curves) > 1:
        curves["total"] = _rows(connection, "FROM total_equity_curve ORDER BY trade_date")
        for row in curves["total"]:
            row["flows"] = [flow for account in curves for flow in flows.get((account, row["trade_date"]), [])]
    return curves


def require_account(connection: duckdb.DuckDBPyConnection, account_id: str) -> None:
    """Make sure that something of an account is published.

    Raises:
        WarehouseError: nothing is; the message names those there are.
    """
    found = connection.execute(
        "SELECT DISTINCT account_id FROM tradier_snapshots UNION SELECT account_id FROM activity_extracts "
        "UNION SELECT account_id FROM missed_snapshots ORDER BY account_id"
    ).fetchall()
    accounts = [account for (account,) in found]
    if account_id not in accounts:
        raise WarehouseError(
            f"nothing of account {account_id} is published", f"There are {', '.join(accounts) or 'no accounts yet'}."
        )


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    """Rows of a query, by column name."""
    cursor = connection.execute(sql)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
