"""Reading the published warehouse. Every open sees one whole state and holds nobody up."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import duckdb

from tradier_pipeline.broker.symbols import classify
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.reconcile.verdict import Verdict
from tradier_pipeline.warehouse import bookkeeping, schema, sealed, views
from tradier_pipeline.warehouse.equity import POSTED
from tradier_pipeline.warehouse.period_returns import benchmark_query
from tradier_pipeline.warehouse.sql import bind, listed, literal, rows_of, where
from tradier_pipeline.warehouse.staging import DAMAGE, DAMAGED_REMEDY, WarehouseError, attach, log_of
from tradier_pipeline.warehouse.statements import LINES, statement_query


class UnknownAccountError(PipelineError):
    """Nothing is known of an account that was named."""


@contextmanager
def connect_readonly(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection to the newest published file, in UTC.

    Raises:
        WarehouseError: nothing has been published yet, or the file cannot be opened, or another program writes to it.
    """
    if not path.exists():
        raise WarehouseError(f"there is no warehouse at {path} yet", "Take a snapshot: `tradier-pipeline snapshot`.")
    log = log_of(path)
    if log.exists():  # ours never has one; DuckDB would read a stranger's rows as if they were published
        raise WarehouseError(
            f"another program has written to {path}: its log {log.name} lies beside it",
            "End that program and take a snapshot, which removes the log; open the warehouse read-only.",
        )
    connection = duckdb.connect(":memory:", config={"threads": _threads()})
    try:
        try:
            # attached, because connect() would return an older state that this process may still hold open elsewhere
            attach(connection, path, "READ_ONLY")
        except duckdb.Error as error:
            raise WarehouseError(f"cannot open {path}: {str(error).splitlines()[0][:300]}", _remedy_of(error)) from None
        yield connection
    except duckdb.Error as error:
        if (lost := of_sealed(error)) is None:
            raise
        raise lost from None
    finally:
        connection.close()


@cache
def _threads() -> int:
    """Half of the cores: the others are for who publishes. A question about a day, which is asked most, takes a sixth
    less on one of two: its steps are so short that threads only wait for each other.
    """
    with duckdb.connect(":memory:") as connection:  # it knows what a container may have
        (cores,) = connection.execute("SELECT current_setting('threads')").fetchone() or (1,)
    return max(1, int(cores) // 2)


def _remedy_of(error: duckdb.Error) -> str:
    return DAMAGED_REMEDY if any(words in str(error) for words in DAMAGE) else "Run `tradier-pipeline rebuild`."


def of_sealed(error: duckdb.Error) -> WarehouseError | None:
    """What to do about an error of reading a sealed month; None if it is of something else."""
    text = str(error).splitlines()[0][:300]
    is_of_file = isinstance(error, duckdb.IOException | duckdb.InvalidInputException)  # not there, or not whole
    if not is_of_file or f"/{sealed.FOLDER}/" not in text:
        return None
    return WarehouseError(
        f"a file of a sealed month cannot be read: {text}",
        "Of a home that was moved: `tradier-pipeline seal --repoint`. `tradier-pipeline rebuild` makes them anew.",
    )


def require_current(connection: duckdb.DuckDBPyConnection) -> None:
    """Make sure that every table and view of this version is there.

    Raises:
        WarehouseError: the file is of another version.
    """
    if not _is_current(connection):
        raise WarehouseError(
            f"the warehouse has another schema version than {schema.SCHEMA_VERSION}, which this tradier-pipeline knows",
            "Take a snapshot, which completes an older one: `tradier-pipeline snapshot`.",
        )


def _is_current(connection: duckdb.DuckDBPyConnection) -> bool:
    return connection.execute("SELECT schema_version()").fetchone() == (schema.SCHEMA_VERSION,)


def known_accounts(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The accounts of which anything is published."""
    query = """
        SELECT account_id FROM newest_snapshots UNION SELECT account_id FROM activity_extracts
        UNION SELECT account_id FROM missed_snapshots UNION SELECT account_id FROM findings ORDER BY 1
    """
    return [account_id for (account_id,) in connection.execute(query).fetchall()]


def require_account(
    connection: duckdb.DuckDBPyConnection, account_id: str | None, configured: Collection[str] = ()
) -> None:
    """Make sure that an account is one of those there are: of another one nothing is known, which is not that all is
    well.

    Args:
        account_id: None means every account.
        configured: accounts of which nothing need be published yet.

    Raises:
        UnknownAccountError: it is none of them.
    """
    require_current(connection)
    if account_id is not None and account_id not in configured:
        check_account(account_id, known_accounts(connection))


def check_account(account_id: str, known: Collection[str]) -> None:
    """Raises UnknownAccountError if an account is none of those there are."""
    if account_id not in known:
        there_are = ", ".join(sorted(known)) or "none yet"
        raise UnknownAccountError(
            f"nothing is known of account {account_id}", f"Name one of those there are: {there_are}."
        )


def trade_gates(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """The rows of `trade_gate`: whether to trade now, by account.

    Raises:
        WarehouseError: the file is of another version, or damaged.
    """
    try:
        require_current(connection)
        return rows_of(connection, "FROM trade_gate ORDER BY account_id")
    except duckdb.Error as error:
        reported = str(error).splitlines()[0][:300]
        raise WarehouseError(f"cannot read the trade gate: {reported}", "Run `tradier-pipeline rebuild`.") from None


def gate_evaluation(connection: duckdb.DuckDBPyConnection, snapshot_id: str) -> dict[str, Any] | None:
    """What the gate said of a snapshot when it was read; None if it is not published."""
    rows = rows_of(connection, bind("FROM trade_gate_readings WHERE snapshot_id = ?", snapshot_id))
    return rows[0] if rows else None


_ACCOUNTS_NOW = """
    SELECT snapshot_id, account_id, as_of, equity, cash, buying_power, verdict, ready, blockers
    FROM newest_snapshots JOIN account_balances USING (snapshot_id, account_id, as_of, trade_date)
    LEFT JOIN (SELECT snapshot_id, ready, blockers FROM trade_gate_readings) USING (snapshot_id)
    ORDER BY account_id
"""


def accounts_now(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """How each account stands by its newest snapshot: balances in USD, verdict, and what the gate said of it."""
    return rows_of(connection, sealed.of_now(connection, _ACCOUNTS_NOW))


_PUBLISHED_SINCE = """
    SELECT snapshot_id, as_of, committed_at, equity, verdict, verdict_evidence
    FROM (FROM tradier_snapshots {dates}) JOIN (FROM account_balances {dates})
    USING (snapshot_id, account_id, as_of, trade_date)
    WHERE committed_at > ? ORDER BY as_of, account_id
"""
_MISSED_SINCE = """
    SELECT snapshot_id, account_id, reason FROM missed_snapshots
    WHERE kind = 'missed' AND recorded_at > ? ORDER BY requested_at, account_id
"""


def published_since(connection: duckdb.DuckDBPyConnection, instant: datetime) -> list[dict[str, Any]]:
    """The snapshots published after an instant, oldest first, with their equity in USD and their verdict."""
    dates = bind("SELECT min(trade_date), max(trade_date) FROM tradier_snapshots WHERE committed_at > ?", instant)
    first, last = connection.execute(dates).fetchone() or (None, None)
    if first is None:
        return []
    return rows_of(connection, bind(_PUBLISHED_SINCE.format(dates=where(None, first, last)), instant))


def missed_since(connection: duckdb.DuckDBPyConnection, instant: datetime) -> list[dict[str, Any]]:
    """The due minutes recorded after an instant as missed, with the reason; not those whose reading failed."""
    return rows_of(connection, bind(_MISSED_SINCE, instant))


def findings(connection: duckdb.DuckDBPyConnection, account_id: str | None, *, resolved: bool) -> list[dict[str, Any]]:
    """The rows of `findings_query`.

    Raises:
        WarehouseError: the file is of another version.
    """
    require_current(connection)
    return rows_of(connection, findings_query(account_id, resolved=resolved))


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
    dates = bind("SELECT trade_date FROM tradier_snapshots WHERE snapshot_id = ?", snapshot_id)
    (day,) = connection.execute(dates).fetchone() or (None,)
    which = bind("trade_date = ? AND snapshot_id = ?", day, snapshot_id)
    return {table.name: rows_of(connection, f"FROM {table.name} WHERE {which}") for table in schema.RECONCILED}


def heartbeats(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """The rows of `heartbeats`, also of a file that does not have that view yet."""
    return rows_of(connection, views.HEARTBEATS.query)


def newest_snapshot_ids(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The newest published snapshot of each account."""
    rows = connection.execute("SELECT snapshot_id FROM newest_snapshots ORDER BY account_id").fetchall()
    return [snapshot_id for (snapshot_id,) in rows]


def snapshot_ids(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Every published snapshot, in the order of what was read."""
    rows = connection.execute("SELECT snapshot_id FROM tradier_snapshots ORDER BY as_of, snapshot_id").fetchall()
    return [snapshot_id for (snapshot_id,) in rows]


def published_among(connection: duckdb.DuckDBPyConnection, wanted: Collection[str]) -> set[str]:
    """Those of some snapshots that are published."""
    query = f"SELECT snapshot_id FROM tradier_snapshots WHERE snapshot_id IN ({listed(sorted(wanted))})"  # noqa: S608
    return {snapshot_id for (snapshot_id,) in connection.execute(query).fetchall()}


def activity_paths(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Every published extract of the activity, as its directory in the landing zone."""
    return [path for (path,) in connection.execute("SELECT DISTINCT path FROM activity_extracts ORDER BY 1").fetchall()]


_ACTIVITY_TOTALS = {
    "history": "SELECT account_id, type, count(*) AS events, sum(amount) AS amount FROM account_activity "
    "WHERE trade_date BETWEEN ? AND ? GROUP BY ALL ORDER BY ALL",
    "gainloss": "SELECT account_id, close_date, count(*) AS lots, sum(gain_loss) AS gain_loss FROM closed_lots "
    "WHERE close_date BETWEEN ? AND ? GROUP BY ALL ORDER BY close_date DESC, account_id",
    "historical_balances": "SELECT account_id, trade_date, value FROM broker_daily_balances "
    "WHERE trade_date BETWEEN ? AND ? ORDER BY trade_date DESC, account_id",
}


def activity_totals(
    connection: duckdb.DuckDBPyConnection, resource: str, since: date, until: date
) -> list[dict[str, Any]]:
    """What counts of the activity between two dates, USD: history by type, gain and loss by day, values by day."""
    return rows_of(connection, bind(_ACTIVITY_TOTALS[resource], since, until))


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


def verdict_of(connection: duckdb.DuckDBPyConnection, snapshot_id: str) -> tuple[Verdict, str | None]:
    """The verdict of a published snapshot and its evidence."""
    query = bind("SELECT verdict, verdict_evidence FROM tradier_snapshots WHERE snapshot_id = ?", snapshot_id)
    found = connection.execute(query).fetchone()
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


def movements(connection: duckdb.DuckDBPyConnection, account_id: str | None) -> list[dict[str, Any]]:
    """What moved cash, and the securities that the owner states; see `bookkeeping.movements_query`."""
    return rows_of(connection, bookkeeping.movements_query(account_id))


def closed_lots(connection: duckdb.DuckDBPyConnection, account_id: str | None) -> list[dict[str, Any]]:
    """The closed lots as they stand now; see `bookkeeping.lots_query`."""
    return rows_of(connection, bookkeeping.lots_query(account_id))


def known_closes(connection: duckdb.DuckDBPyConnection, account_id: str | None) -> list[dict[str, Any]]:
    """What an account was worth at the closes of sessions; see `bookkeeping.closes_query`."""
    return rows_of(connection, bookkeeping.closes_query(account_id))


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
    query = f"SELECT max(trade_date) FROM newest_snapshots {where(account_id)}"  # noqa: S608
    (day,) = connection.execute(query).fetchone() or (None,)
    if day is None:
        of_account = f" of account {account_id}" if account_id else ""
        raise WarehouseError(f"no snapshot{of_account} is published", "Take one: `tradier-pipeline snapshot`.")
    return day  # type: ignore[no-any-return]


def newest_headers(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """The header of each account's newest snapshot, and how many `snapshots` the account has; also of an older file."""
    kept = "sum(taken)::BIGINT AS snapshots FROM snapshot_days"
    counted = kept if _is_current(connection) else "count(*) AS snapshots FROM tradier_snapshots"
    return rows_of(
        connection,
        f"""
        SELECT newest.*, snapshots FROM newest_snapshots AS newest
        JOIN (SELECT account_id, {counted} GROUP BY account_id) USING (account_id) ORDER BY account_id
        """,  # noqa: S608
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
    return rows_of(
        connection,
        f"""
        SELECT summary.*, deposits, withdrawals, provisional, uncertain, reason
        FROM ({summaries_query(day, account_id)}) AS summary LEFT JOIN equity_curve USING (account_id, trade_date)
        ORDER BY trade_date, account_id
        """,  # noqa: S608
    )


def summaries_query(day: date | None = None, account_id: str | None = None) -> str:
    """The rows of `newest_daily_summaries`, of one trade date or of all, oldest first."""
    return f"FROM newest_daily_summaries {where(account_id, day, day)} ORDER BY trade_date, account_id"


By = Literal["snapshot", "hour", "day", "month", "quarter", "year"]

# the column of a period, and when it began; New York is whole hours from UTC, so that their hours begin together
_PERIODS: Final[dict[By, tuple[str, str]]] = {
    "snapshot": ("as_of", "as_of"),
    "hour": ("hour", "to_timestamp(epoch_us(as_of) // 3600000000 * 3600)"),
    "day": ("trade_date", "trade_date"),
    "month": ("month", "date_trunc('month', trade_date)::DATE"),
    "quarter": ("quarter", "date_trunc('quarter', trade_date)::DATE"),
    "year": ("year", "date_trunc('year', trade_date)::DATE"),
}


def balances_query(account_id: str | None, since: date | None, until: date | None, by: By) -> str:
    """The balances from one trade date to another, oldest first: a row per snapshot or daily value, or per period with
    any; of months, quarters and years the statements.
    """
    asked = where(account_id, since, until)
    match by:
        case "snapshot":
            return f"SELECT {_BALANCES} FROM ({_ALL_BALANCES}) {asked} ORDER BY as_of, account_id"  # noqa: S608
        case "hour":
            return f"""
                SELECT account_id, {_PERIODS[by][1]} AS hour, arg_min(equity, as_of) AS open, max(equity) AS high,
                       min(equity) AS low, arg_max(equity, as_of) AS close, arg_max(cash, as_of) AS cash_close,
                       count(*) AS snapshots
                FROM (FROM account_balances {asked}) {schema.GOOD_OF_DAY}
                GROUP BY account_id, hour ORDER BY hour, account_id
            """  # noqa: S608
        case "day":
            columns = "account_id, trade_date, open, high, low, close, cash_close, snapshots, last, source"
            return f"SELECT {columns} FROM daily_balances {asked} ORDER BY trade_date, account_id"  # noqa: S608
        case "month" | "quarter" | "year":
            return statement_query(by, account_id, since, until)


def statement_in_text(query: str, by: str, whose: str) -> str:
    """What people read of statements: the lines to the cent, and what is to be known about them."""
    cents = ", ".join(f"{name}::DECIMAL(24,2) AS {name}" for name in ("opening", *LINES, "closing"))
    percent = ", ".join(f"""round("{name}" * 100, 2) AS "{name}, %\"""" for name in ("return", "max_drawdown"))
    return f"SELECT {whose}, {by}, {cents}, {percent}, note FROM ({query})"  # noqa: S608


_BALANCES = (
    "as_of, account_id, equity, cash, buying_power, margin_requirement, open_pl, close_pl, verdict, snapshot_id, source"
)
# the broker's daily value is of the close of its session, where nothing was read after it
_ALL_BALANCES = """
    SELECT *, 'snapshot' AS source FROM balance_history
    UNION ALL BY NAME
    SELECT account_id, trade_date, session_close AS as_of, close AS equity, source
    FROM daily_balances JOIN sessions USING (trade_date) WHERE source = 'broker'
"""


def balance_dates(connection: duckdb.DuckDBPyConnection) -> dict[str, tuple[date, date]]:
    """The first and last trade date of which the balance of each account is known."""
    rows = connection.execute(
        "SELECT account_id, min(trade_date), max(trade_date) FROM daily_balances GROUP BY account_id ORDER BY ALL"
    ).fetchall()
    return {account_id: (first, last) for account_id, first, last in rows}


def equity_lines(
    connection: duckdb.DuckDBPyConnection, account_id: str | None, since: date | None, until: date | None, by: By
) -> list[dict[str, Any]]:
    """The equity of each account over time.

    One row per account: account_id; closes (the last equity of each period, null where a snapshot was due and there is
    none: at a missed instant, on a session day since the account's first); low, high and last of all that is known.

    Raises:
        WarehouseError: the file is of another version.
    """
    require_current(connection)
    return rows_of(
        connection,
        f"""
        WITH due AS (
            SELECT account_id, trade_date, as_of, equity FROM account_balances
            {schema.GOOD_OF_DAY}
            UNION ALL
            SELECT account_id, trade_date, session_close, close FROM daily_balances JOIN sessions USING (trade_date)
            WHERE source = 'broker'
            UNION ALL
            SELECT account_id, trade_date, requested_at, NULL FROM missed_snapshots
            UNION ALL
            SELECT account_id, sessions.trade_date, session_open, NULL
            FROM (SELECT account_id, min(trade_date) AS began FROM daily_balances GROUP BY account_id)
            JOIN sessions ON sessions.trade_date > began
            ANTI JOIN daily_balances USING (account_id, trade_date)
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


def posted_flows(connection: duckdb.DuckDBPyConnection) -> dict[int, date]:
    """The stated flows that the broker's history has had since, by id: the date that it gives. These count as its own.

    Raises:
        WarehouseError: the file is of another version.
    """
    require_current(connection)
    return dict(connection.execute(POSTED).fetchall())


def equity_curves(
    connection: duckdb.DuckDBPyConnection, account_id: str | None, benchmark: str | None = None
) -> dict[str, list[dict[str, Any]]]:
    """The rows of `equity_curve` by account, oldest first; where an environment has several accounts, also those of
    `total_equity_curve`: as `total`, or as `total (sandbox)` beside that of an environment that comes before it.

    Each with its `flows`: the date and USD, negative for a withdrawal, of each flow that counts on its evening; and
    whether it is `confirmed`: the owner states that nothing came or left but what the broker reports.

    Args:
        account_id: None means every account.
        benchmark: a symbol. Each row then has it and its `benchmark_return` since the close before; None: not known.

    Raises:
        WarehouseError: the file is of another version, or nothing is published of the account.
    """
    require_current(connection)
    curves: dict[str, list[dict[str, Any]]] = {}
    for row in rows_of(connection, f"FROM equity_curve {where(account_id)} ORDER BY account_id, trade_date"):
        curves.setdefault(row["account_id"], []).append(row)
    if account_id and not curves:
        require_account(connection, account_id)
    flows: dict[tuple[str, date], list[tuple[date, Decimal]]] = {}
    if curves:
        for account, counted_on, day, amount in connection.execute(
            "SELECT account_id, counted_on, trade_date, amount FROM external_flows WHERE counted_on IS NOT NULL"
        ).fetchall():
            flows.setdefault((account, counted_on), []).append((day, amount))
        confirmed = set(
            connection.execute(
                "SELECT account_id, trade_date FROM stated_flows WHERE amount = 0 AND symbol IS NULL"
            ).fetchall()
        )
    for account, rows in curves.items():
        for row in rows:
            row["flows"] = flows.get((account, row["trade_date"]), [])
            row["confirmed"] = (account, row["trade_date"]) in confirmed
    accounts: dict[str | None, list[str]] = {}
    for account, rows in curves.items():
        accounts.setdefault(rows[0]["environment"], []).append(account)
    for environment in sorted(accounts, key=_real_money_first):
        together = accounts[environment]
        if len(together) > 1:
            name = f"total ({environment})" if "total" in curves else "total"
            of_environment = (
                f"environment IS NOT DISTINCT FROM {'NULL' if environment is None else literal(environment)}"
            )
            curves[name] = rows_of(connection, f"FROM total_equity_curve WHERE {of_environment} ORDER BY trade_date")
            for row in curves[name]:
                row["flows"] = [flow for account in together for flow in flows.get((account, row["trade_date"]), [])]
                row["confirmed"] = any((account, row["trade_date"]) in confirmed for account in together)
    if benchmark:
        _add_benchmark(connection, curves, benchmark)
    return curves


def _add_benchmark(connection: duckdb.DuckDBPyConnection, curves: dict[str, list[dict[str, Any]]], symbol: str) -> None:
    """The benchmark's return of each row, by the account, or by the environment of a total."""
    known: dict[tuple[bool, str, date], float] = {}
    for is_total in (False, True) if has_prices(connection, symbol) else ():
        for key, day, value in connection.execute(benchmark_query(symbol, total=is_total)).fetchall():
            known[is_total, key, day] = value
    for account, rows in curves.items():
        for row in rows:
            is_total = "accounts" in row
            key = (is_total, row["environment"] if is_total else account, row["trade_date"])
            row |= {"benchmark": symbol, "benchmark_return": known.get(key)}


def has_prices(connection: duckdb.DuckDBPyConnection, symbol: str) -> bool:
    """Whether a price of a symbol is stored."""
    return (
        connection.execute(bind("SELECT 1 FROM daily_prices WHERE symbol = ? LIMIT 1", symbol)).fetchone() is not None
    )


def require_prices(connection: duckdb.DuckDBPyConnection, symbol: str) -> None:
    """Raises WarehouseError if no price of a symbol is stored."""
    require_current(connection)
    if not has_prices(connection, symbol):
        raise WarehouseError(
            f"no prices of {symbol} were read yet", f"Run `tradier-pipeline backfill --benchmark {symbol}`."
        )


def market_paths(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """The extracts that the stored prices and dividends are from, as their directories in the landing zone."""
    for table in schema.MARKET:
        for (path,) in connection.execute(f"SELECT DISTINCT path FROM {table.name} ORDER BY 1").fetchall():  # noqa: S608
            yield path


def short_call_underlyings(connection: duckdb.DuckDBPyConnection, environment: str) -> list[str]:
    """On what the short calls of the newest snapshots of an environment are written, which may deliver shares."""
    query = """
        SELECT DISTINCT symbol, coalesce(underlying, root) FROM portfolio_positions
        JOIN account_environments USING (account_id)
        WHERE environment = ? AND quantity < 0 AND option_type = 'call'
    """
    found = connection.execute(bind(query, environment)).fetchall()
    options = ((classify(symbol).option, underlying) for symbol, underlying in found)
    return sorted({underlying for option, underlying in options if option and not option.settles_in_cash})


def _real_money_first(environment: str | None) -> tuple[int, str]:
    order = ("live", "sandbox", "simulator")
    return order.index(environment) if environment in order else len(order), environment or ""
