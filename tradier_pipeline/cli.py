"""The command line `tradier-pipeline`. Errors are one line on stderr; with --json, stdout holds one JSON document."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from datetime import date, datetime
from decimal import Decimal
from functools import wraps
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tradier_pipeline import clock
from tradier_pipeline.errors import PipelineError
from tradier_pipeline.ledger.records import REASONS, Reason
from tradier_pipeline.settings import Settings
from tradier_pipeline.settings import load_settings as read_settings
from tradier_pipeline.sparkline import sparkline
from tradier_pipeline.texts import printable
from tradier_pipeline.verify.evidence import shown
from tradier_pipeline.warehouse.schema import BIGINT, BOOLEAN, DATE, DECIMAL, DOUBLE, INSTANT, VARCHAR

if TYPE_CHECKING:
    import duckdb

    from tradier_pipeline.backfill import Backfilled
    from tradier_pipeline.broker.events import OrderEvent
    from tradier_pipeline.cycles.on_demand import SnapshotRun
    from tradier_pipeline.extract import Broker
    from tradier_pipeline.ledger.changes import Change
    from tradier_pipeline.ledger.records import StatedFlow
    from tradier_pipeline.reconcile.orders import OrderRow
    from tradier_pipeline.reconcile.reconciliation import Reconciliation
    from tradier_pipeline.returns import Figures, Rate
    from tradier_pipeline.snapshot import TradierSnapshot
    from tradier_pipeline.status import AccountStatus
    from tradier_pipeline.warehouse.exposure import Each, ExposureBy
    from tradier_pipeline.warehouse.reads import By
    from tradier_pipeline.warehouse.realized import PnlBy
    from tradier_pipeline.warehouse.statements import Period


def print(*values: object, flush: bool = False) -> None:  # noqa: A001 - so that no line of this module is left out
    """One line on stdout. What it quotes may be the broker's text: it stays in the line and does nothing to the
    terminal."""
    click.echo(printable(" ".join(map(str, values))))
    if flush:
        sys.stdout.flush()


def warn(text: str) -> None:
    """One line on stderr."""
    click.echo(printable(text), err=True)


JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document; decimals are strings.")
ACCOUNT = click.option("--account", metavar="NUMBER", help="Account number. Default: those of TRADIER_ACCOUNT_ID.")
ONLY_ACCOUNT = click.option("--account", metavar="NUMBER", help="Only this account number.")
FORMAT = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "csv", "json", "parquet"]),
    default="text",
    help="A table for people, or every row and column for programs; in json decimals are strings.",
)
BENCHMARK = click.option(
    "--benchmark",
    metavar="SYMBOL",
    callback=lambda _, __, symbol: "" if symbol and symbol.lower() == "off" else symbol,
    help="Compare with this symbol, such as SPY; off: with none. Default: that of TRADIER_BENCHMARK.",
)
OUTPUT = click.option("--output", "-o", type=click.Path(path_type=Path), help="File to write instead of stdout.")
USAGE_ERROR, INTERRUPTED = 2, 130
PRIVATE_UMASK = 0o077  # files and directories are their owner's alone
_DECIMAL = re.compile(r"DECIMAL\(\d+,\d+\)")
MAX_TEXT_ROWS = 9999  # DuckDB draws no more


def table(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that prints a table: `form` and `output`."""
    return FORMAT(OUTPUT(command))


class Commands(click.Group):
    """The commands; a wrong call is told in one line like every other failure."""

    def main(self, args: Sequence[str] | None = None, **options: Any) -> Any:  # type: ignore[override]
        arguments = sys.argv[1:] if args is None else list(args)
        before = os.umask(PRIVATE_UMASK)  # also what Dagster writes, and what the processes of `up` write
        try:
            sys.exit(super().main(arguments, **options | {"standalone_mode": False}))
        except click.UsageError as error:
            help_command = f"{error.ctx.command_path if error.ctx else 'tradier-pipeline'} --help"
            message = " ".join(error.format_message().split()).rstrip(".?")
            _print_error(PipelineError(message, f"See `{help_command}`."), as_json="--json" in arguments)
            sys.exit(USAGE_ERROR)
        except click.Abort:
            sys.exit(INTERRUPTED)
        finally:
            os.umask(before)


@click.group(cls=Commands, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tradier-pipeline")
def main() -> None:
    """A trustworthy history of a Tradier brokerage account, in DuckDB."""
    # an interrupted connection leaves a coroutine behind, which Python tells at exit: after our own line it is noise
    warnings.filterwarnings("ignore", message="coroutine .* was never awaited", category=RuntimeWarning)


def load_settings() -> Settings:
    """The settings; what the user ought to know of where they are from is told on stderr."""
    settings = read_settings()
    for notice in settings.notices:
        warn(f"tradier-pipeline: warning: {notice}.")
    return settings


def told(command: Callable[..., int | None]) -> Callable[..., None]:
    """Turn an expected failure into one line (or, with --json, one document) and exit code 1."""

    @wraps(command)
    def run(**arguments: Any) -> None:
        try:
            code = command(**arguments) or 0
        except PipelineError as error:
            _print_error(error, as_json=arguments.get("as_json", False))
            code = 1
        sys.stdout.flush()
        sys.exit(code)

    return run


@main.command()
@ACCOUNT
@click.option("--verbose", "-v", is_flag=True, help="Every rule that was checked, not only those that do not hold.")
@JSON
@told
def snapshot(account: str | None, verbose: bool, as_json: bool) -> int:
    """Take a snapshot of every configured account now, and prove it. Exit code 0 only if all were published.

    With --json and several accounts, the document is {"snapshots": [...]}.
    """
    from tradier_pipeline.cycles.on_demand import read_published, take_snapshots

    settings = load_settings()
    if not as_json:
        print(settings.identity, flush=True)
    runs = take_snapshots(settings, account, trigger="manual")
    if len(runs) == 1:
        runs[0].raise_unless_published()
    taken = {run.snapshot_id: read_published(settings, run) for run in runs if run.published}
    for run in runs:
        if run.caught_up:
            click.echo(run.caught_up, err=True)
        if run.history_error:
            click.echo(f"the run history lacks {run.snapshot_id}: {run.history_error}", err=True)
    if as_json:
        documents = [
            _snapshot_document(taken[run.snapshot_id], settings) if run.published else _failure_document(run)
            for run in runs
        ]
        _print_json(documents[0] if len(runs) == 1 else {"snapshots": documents})
    else:
        for run in runs:
            if run.published:
                _print_snapshot(taken[run.snapshot_id], verbose=verbose)
            else:
                print(f"snapshot   {run.snapshot_id}: not published")
                _print_error(run.error, as_json=False)
            print()
        _print_where(settings)
    return 0 if len(taken) == len(runs) else 1


@main.command()
@click.option("--reason", type=click.Choice(REASONS), required=True)
@ACCOUNT
@click.option("--order-id", metavar="ID", help="The order or trade that it is about.")
@click.option("--note", metavar="TEXT", help="More, in words.")
@JSON
@told
def request(reason: Reason, account: str | None, order_id: str | None, note: str | None, as_json: bool) -> None:
    """Ask for a snapshot and do not wait for it. While `up` runs it is taken within seconds."""
    from tradier_pipeline.snapshot import request_snapshot

    requests = request_snapshot(account, reason=reason, order_id=order_id, note=note)
    if as_json:
        written = {"request_id", "account_id", "reason", "order_id", "note", "requested_at"}
        _print_json({"requests": [request.model_dump(include=written) for request in requests]})
        return
    for one in requests:
        print(f"request {one.request_id} for {one.account_id}")


@main.command()
@click.argument("snapshots", nargs=-1, metavar="[SNAPSHOT]...")
@click.option("--all", "everything", is_flag=True, help="Every published snapshot.")
@ONLY_ACCOUNT
@table
@JSON
@told
def verify(
    snapshots: tuple[str, ...], everything: bool, account: str | None, form: str, output: Path | None, as_json: bool
) -> int:
    """Prove published snapshots again: stored rows against landed bytes. Default: the newest of each account.

    A snapshot that is landed but was never published is tried on a copy. Exit code 1 if a blocking check fails.
    """
    from tradier_pipeline.reverify import reverify

    results = reverify(load_settings(), snapshots, account_id=account, everything=everything)
    failed = 0
    as_rows = form != "text" or output is not None
    rows: list[dict[str, Any]] = []
    documents: list[dict[str, Any]] = []
    for result in results:
        blocked = any(outcome.blocks for outcome in result.outcomes)
        failed += blocked
        documents.append(
            {"snapshot_id": result.snapshot_id, "published": result.published, "passed": not blocked}
            | {"checks": _checks(result.outcomes)}
        )
        of_snapshot = {"snapshot_id": str(result.snapshot_id), "published": result.published}
        rows += [of_snapshot | one | {"severity": str(one["severity"])} for one in documents[-1]["checks"]]
        if not (as_json or as_rows):
            verdict = "FAILED" if blocked else "verified"
            print(f"{result.snapshot_id}: {verdict}{'' if result.published else ' (never published)'}")
            _print_checks([outcome for outcome in result.outcomes if not everything or not outcome.passed])
    if as_rows:
        columns = {"snapshot_id": VARCHAR, "published": BOOLEAN, "check": VARCHAR, "severity": VARCHAR}
        columns |= {"passed": BOOLEAN, "broker": VARCHAR, "stored": VARCHAR, "differing": BIGINT}
        _print_rows(columns, rows, form, output)
    elif as_json:
        _print_json({"snapshots": documents})
    return 1 if failed else 0


@main.command()
@click.option("--forget", is_flag=True, help="Go on although published snapshots are lost by it.")
@JSON
@told
def rebuild(forget: bool, as_json: bool) -> int:
    """Write the warehouse anew from the landing zone alone. Readers keep the old one until the new one is whole."""
    from dataclasses import asdict

    from tradier_pipeline.gate import GateRules
    from tradier_pipeline.landing import LandingZone
    from tradier_pipeline.ledger.store import Ledger
    from tradier_pipeline.stated_flows import stated_rows
    from tradier_pipeline.store import rebuild as rebuild_warehouse
    from tradier_pipeline.warehouse.publish import Warehouse

    settings = load_settings()

    def progress(done: int) -> None:
        warn(f"{done} snapshots read")

    rebuilt = rebuild_warehouse(
        Warehouse(settings.warehouse),
        LandingZone(settings.landing),
        progress,
        GateRules.of(settings),
        forget=forget,
        stated=stated_rows(Ledger(settings.ledger)),
    )
    if as_json:
        _print_json(asdict(rebuilt))
    else:
        activity = f", {rebuilt.activity} extracts of the activity" if rebuilt.activity else ""
        print(f"{settings.warehouse}: {rebuilt.published} snapshots{activity}")
        for reason in rebuilt.refused.values():
            print(f"  left out: {reason}")
        if rebuilt.kept_rows:
            print(f"  kept from the old file: {rebuilt.kept_rows} snapshots whose landed bytes are damaged")
        if not rebuilt.kept_findings:
            print("  lost: findings, daily summaries and what the ledger led to; the old file cannot be read")
    return 0


@main.command()
@ACCOUNT
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="First date. Default: when the account was opened.")
@BENCHMARK
@JSON
@told
def backfill(account: str | None, since: datetime | None, benchmark: str | None, as_json: bool) -> int:
    """Read all that the broker still reports of the past until yesterday. Exit code 0 only if it was published.

    History (not in the sandbox), gain and loss, daily values: in one extract for each account. Then the daily prices of
    the benchmark over the same dates; if these cannot be read, it is a warning. The same day again replays it.
    """
    from tradier_pipeline.backfill import backfill as read_past
    from tradier_pipeline.extract import accounts_to_read, connect

    settings = load_settings()
    accounts = (account,) if account else accounts_to_read(settings)
    documents: list[dict[str, Any]] = []
    prices: dict[str, Any] | None = None
    with connect(settings) as broker:
        for account_id in accounts:
            try:
                done = read_past(settings, broker, account_id, since.date() if since else None)
            except PipelineError as error:
                if len(accounts) == 1:
                    raise
                failed = {"cause": error.cause, "remedy": error.remedy}
                documents.append({"account": account_id, "published": False, "error": failed})
                _print_error(error, as_json=False)
            else:
                documents.append(_backfilled_document(done))
                if not as_json:
                    _print_backfilled(done)
        begins = [document["since"] for document in documents if document["published"]]
        symbol = settings.benchmark if benchmark is None else benchmark.strip().upper()
        if symbol and begins:
            prices = _backfilled_prices(settings, broker, symbol, min(begins))
    if as_json:
        _print_json({"accounts": documents, "benchmark": prices})
    elif prices:
        _print_backfilled_prices(prices)
    return 0 if all(document["published"] for document in documents) else 1


@main.command()
@click.argument("sql")
@table
@told
def query(sql: str, form: str, output: Path | None) -> None:
    """Run one SQL query, read-only, such as "FROM daily_balances"."""
    from tradier_pipeline.warehouse.reads import reading

    with reading(load_settings().warehouse) as connection:
        _print_query(connection, sql, form, output)


@main.command()
@ONLY_ACCOUNT
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="First trade date.")
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="Last trade date.")
@click.option(
    "--by",
    type=click.Choice(["snapshot", "hour", "day", "month", "quarter", "year"]),
    default="snapshot",
    show_default=True,
    help="One row per what. Of hours and days: open, high, low, close equity; of longer ones the statement.",
)
@click.option("--total", is_flag=True, help="All accounts of each environment as one: of months, quarters or years.")
@table
@told
def balances(
    account: str | None,
    since: datetime | None,
    until: datetime | None,
    by: By,
    total: bool,
    form: str,
    output: Path | None,
) -> None:
    """The history of the balances, oldest first, in USD.

    Dates and hours are New York's. As text it ends with a line of equity for each account; a space in it is a time
    without a snapshot where one was due. Of a month, quarter or year it is the statement: opening + deposits -
    withdrawals + trading + dividends + interest - fees - tax + adjustments = closing.
    """
    from tradier_pipeline.warehouse.reads import balances_query, equity_lines, reading, statement_in_text
    from tradier_pipeline.warehouse.statements import total_statement_query

    if total and (account or by not in ("month", "quarter", "year")):
        raise click.UsageError("--total is of all accounts, --by month, quarter or year")
    asked = (account, since.date() if since else None, until.date() if until else None)
    with reading(load_settings().warehouse) as connection:
        lines = equity_lines(connection, *asked, by)
        if not lines:
            _tell_what_balances_there_are(connection, *asked)
        if by == "hour":
            connection.execute(f"SET TimeZone = '{clock.NEW_YORK.key}'")
        sql = total_statement_query(by, None, *asked[1:]) if total else balances_query(*asked, by)  # type: ignore[arg-type]
        if form == "text" and by in ("month", "quarter", "year"):
            sql = statement_in_text(sql, by, "environment" if total else "account_id")
        if lines or form != "text":
            _print_query(connection, sql, form, output)
    if lines and form == "text" and not total:
        _print_equity_lines(lines)


@main.command()
@ONLY_ACCOUNT
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="First date of closing.")
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="Last date of closing.")
@click.option(
    "--by",
    type=click.Choice(
        ["symbol", "underlying", "strategy", "tag", "day", "month", "account", "premium", "fees", "income"]
    ),
    default="month",
    show_default=True,
    help="One row per account and what.",
)
@table
@told
def pnl(
    account: str | None, since: datetime | None, until: datetime | None, by: PnlBy, form: str, output: Path | None
) -> None:
    """What was realized, in USD, with win rate, average win and loss, profit factor and days held.

    From the broker's closed lots, which it reports over night; one close may be several lots.
    """
    from tradier_pipeline.warehouse.reads import reading, require_account
    from tradier_pipeline.warehouse.realized import in_text, pnl_query

    settings = load_settings()
    with reading(settings.warehouse) as connection:
        require_account(connection, account, settings.accounts or ())
        sql = pnl_query(by, account, since.date() if since else None, until.date() if until else None)
        if form == "text" and connection.sql(sql).fetchone() is None:
            warn("no closed lots; `tradier-pipeline backfill` reads those of the past")
            return
        _print_query(connection, in_text(sql, by) if form == "text" else sql, form, output)


@main.command()
@ONLY_ACCOUNT
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="First trade date. Default: now only.")
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="Last trade date. Default: now only.")
@click.option(
    "--by",
    type=click.Choice(["underlying", "account", "expiring"]),
    default="underlying",
    show_default=True,
    help="The greeks of each underlying; what the account comes to; the options that expire within 30 days.",
)
@click.option(
    "--each",
    type=click.Choice(["day", "snapshot"]),
    help="Of the last good snapshot of each trade date, or of every one. Default: of each day, if dates are named.",
)
@table
@told
def exposure(
    account: str | None,
    since: datetime | None,
    until: datetime | None,
    by: ExposureBy,
    each: Each | None,
    form: str,
    output: Path | None,
) -> None:
    """What the book is exposed to: greeks, notional of short options, use of the buying power, what expires.

    Of the newest good snapshot of each account, or over time. A figure is missing where it is of any of the positions;
    coverage is the share of option positions that the broker gave greeks of.
    """
    from tradier_pipeline.warehouse.exposure import exposure_query, in_text
    from tradier_pipeline.warehouse.reads import reading, require_account

    settings = load_settings()
    first, last = (moment.date() if moment else None for moment in (since, until))
    with reading(settings.warehouse) as connection:
        require_account(connection, account, settings.accounts or ())
        sql = exposure_query(by, account, first, last, each=each or ("day" if first or last else "newest"))
        if form == "text" and connection.sql(sql).fetchone() is None:
            warn("nothing that expires within 30 days" if by == "expiring" else "nothing is held")
            return
        _print_query(connection, in_text(sql, by) if form == "text" else sql, form, output)


@main.command()
@ONLY_ACCOUNT
@click.option("--format", "form", type=click.Choice(["beancount", "hledger", "form8949"]), required=True)
@click.option("--since", "--from", type=click.DateTime(["%Y-%m-%d"]), help="First date; of lots, of closing.")
@click.option("--until", "--to", type=click.DateTime(["%Y-%m-%d"]), help="Last date; of lots, of closing.")
@OUTPUT
@told
def export(account: str | None, form: str, since: datetime | None, until: datetime | None, output: Path | None) -> None:
    """Write the history for other programs: the books for beancount or hledger, or closed lots for Form 8949.

    The books balance to the cent and assert the broker's own cash and value of each close; what nothing explains is
    marked !. Form 8949 is a CSV; the broker reports no wash sales.
    """
    from tradier_pipeline.export.form8949 import form8949, wanted
    from tradier_pipeline.export.journal import journal
    from tradier_pipeline.export.plaintext import beancount, hledger
    from tradier_pipeline.warehouse.reads import closed_lots, known_closes, movements, reading, require_account

    if since and until and since > until:
        raise click.UsageError("--since is after --until")
    settings = load_settings()
    first, last = (moment.date() if moment else None for moment in (since, until))
    with reading(settings.warehouse) as connection:
        require_account(connection, account, settings.accounts or ())
        lots = closed_lots(connection, account)
        if form == "form8949":
            text, notes = form8949(wanted(lots, first, last))
        else:
            books = journal(movements(connection, account), lots, known_closes(connection, account), first, last)
            text, notes = (beancount if form == "beancount" else hledger)(books), books.notes
    _write_text(text, output)
    for note in notes:
        warn(note)


def _write_text(text: str, output: Path | None) -> None:
    if output is None:
        if sys.stdout.isatty():
            for line in text.splitlines():
                print(line)
            return
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PipelineError(f"cannot write {output}: {error.strerror}", "Choose another --output.") from None


@main.command()
@click.argument("day", type=click.DateTime(["%Y-%m-%d"]), required=False, metavar="[DATE]")
@ONLY_ACCOUNT
@click.option("--list", "as_list", is_flag=True, help="One line for each summary.")
@click.option("--generate", is_flag=True, help="Make it first; figures that are stored already add nothing.")
@table
@JSON
@told
def summary(
    day: datetime | None,
    account: str | None,
    as_list: bool,
    generate: bool,
    form: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """What a trade date came to: the stored summary. Default: the newest; with --list every date."""
    from tradier_pipeline.warehouse.publish import Warehouse
    from tradier_pipeline.warehouse.reads import daily_summaries, newest_trade_date, reading, summaries_query
    from tradier_pipeline.warehouse.summaries import make_summaries

    settings = load_settings()
    asked = day.date() if day else None
    if generate:
        with reading(settings.warehouse) as connection:
            asked = asked or newest_trade_date(connection, account)
        make_summaries(Warehouse(settings.warehouse), asked, account)
    with reading(settings.warehouse) as connection:
        rows = daily_summaries(connection, asked, account)
    if not rows:
        what = " ".join(filter(None, (f"of {asked}" if asked else "", f"of account {account}" if account else "")))
        command = " ".join(filter(None, ("tradier-pipeline summary", str(asked or ""), "--generate")))
        raise PipelineError(
            f"there is no summary {what or 'yet'}",
            f"Make it: `{command}`, or materialize the date's partition of daily_summary.",
        )
    if not as_list and asked is None:
        asked = rows[-1]["trade_date"]
        rows = [row for row in rows if row["trade_date"] == asked]
    if form != "text" or output:
        with reading(settings.warehouse) as connection:
            _print_query(connection, summaries_query(asked, account), form, output)
        return
    if as_json:
        _print_json({"summaries": rows})
        return
    for row in rows:
        if as_list:
            _print_summary_line(row)
        else:
            _print_summary(row)


@main.command()
@ONLY_ACCOUNT
@click.option(
    "--since", type=click.DateTime(["%Y-%m-%d"]), help="First session of one period instead of the usual ones."
)
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="Last session of it.")
@click.option(
    "--by", type=click.Choice(["month", "quarter", "year"]), help="One row per what, instead of the usual periods."
)
@click.option("--table", "as_table", is_flag=True, help="One row per year, with its months beside each other.")
@click.option("--total", is_flag=True, help="With --by or --table: all accounts of each environment as one.")
@BENCHMARK
@table
@JSON
@told
def returns(
    account: str | None,
    since: datetime | None,
    until: datetime | None,
    by: Period | None,
    as_table: bool,
    total: bool,
    benchmark: str | None,
    form: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Profit, returns and drawdown without deposits and withdrawals, in USD, by account and in total.

    For the month and the year to date, 1, 3 and 12 months, as far as the history reaches, and since it began; or by
    month, quarter or year. Volatility and Sharpe ratio are those of the daily returns, by 252 sessions a year, with a
    risk-free rate of 0. The benchmark is measured by its prices over the same days.
    """
    from tradier_pipeline.warehouse.reads import reading, require_prices

    settings = load_settings()
    symbol = settings.benchmark if benchmark is None else benchmark.strip().upper()
    asked = (account, since.date() if since else None, until.date() if until else None)
    if total and (account or not (by or as_table)):
        raise click.UsageError("--total is of all accounts, with --by or --table")
    if (form != "text" or output) and not (by or as_table):
        raise click.UsageError("--format and --output are those of --by and --table; see --json")
    with reading(settings.warehouse) as connection:
        if benchmark and symbol:
            require_prices(connection, symbol)
        if by or as_table:
            _print_returns_by(connection, by, asked, symbol, total=total, as_table=as_table, form=form, output=output)
        else:
            _print_periods(connection, asked, symbol, as_json=as_json)


def _print_returns_by(
    connection: duckdb.DuckDBPyConnection,
    by: Period | None,
    asked: tuple[str | None, date | None, date | None],
    symbol: str,
    *,
    total: bool,
    as_table: bool,
    form: str,
    output: Path | None,
) -> None:
    """Rows of months, quarters or years, or the table of years by months; under a text the reasons of its marks."""
    from tradier_pipeline.warehouse.period_returns import (
        in_text,
        notes_query,
        returns_query,
        table_in_text,
        table_query,
    )
    from tradier_pipeline.warehouse.reads import require_account, require_current

    require_current(connection)
    require_account(connection, asked[0], load_settings().accounts or ())
    key = "environment" if total else "account_id"
    months = returns_query("month" if as_table else by or "month", *asked, benchmark=symbol, total=total)
    if form != "text" or output:
        query = table_query(*asked, benchmark=symbol, total=total) if as_table else months
        _print_query(connection, query, form, output)
        return
    notes = connection.execute(notes_query(months, by or "month", key)).fetchall()
    _print_query(connection, table_in_text(months, key) if as_table else in_text(months), form, output)
    for note in notes:
        print("* {}, {}: {}".format(*note))


def _print_periods(
    connection: duckdb.DuckDBPyConnection,
    asked: tuple[str | None, date | None, date | None],
    symbol: str,
    *,
    as_json: bool,
) -> None:
    """The usual periods, or the one that is asked for."""
    from tradier_pipeline.returns import figures, standard_periods
    from tradier_pipeline.warehouse.reads import equity_curves

    account, since, until = asked
    curves = equity_curves(connection, account, symbol)
    documents: dict[str, Any] = {}
    for name, rows in curves.items():
        one = figures(rows, since, until)
        periods = ({"asked": one} if one else {}) if since or until else standard_periods(rows)
        documents[name] = periods
        if not as_json:
            _print_returns(name, periods)
            if waiting := _waiting(rows):
                print(f"  the newest days wait for {', '.join(f'{one} since {day}' for one, day in waiting.items())}")
    if as_json:
        waits = {name: _waiting(rows) for name, rows in curves.items()}
        _print_json(
            {"returns": [one | {"waits_for": waits[one["account_id"]]} for one in _returns_document(documents)]}
        )
    elif not curves:
        print("no account has an equity at the close of a session yet")


@main.command()
@ONLY_ACCOUNT
@table
@JSON
@told
def status(account: str | None, form: str, output: Path | None, as_json: bool) -> None:
    """Age of the last snapshot, failures, missed instants, disk use, request budget, waiting requests."""
    from tradier_pipeline.status import read_status

    settings = load_settings()
    if form == "text" and not output and not as_json:
        print(settings.identity)
    state = read_status(settings, account)
    if form != "text" or output:
        counts = {"snapshots": BIGINT, "failures_24h": BIGINT, "missed_24h": BIGINT}
        columns = {"account_id": VARCHAR, "environment": VARCHAR, "snapshot_id": VARCHAR, "as_of": INSTANT}
        columns |= {"age_s": DOUBLE, **counts, "not_published": VARCHAR, "last_failure": VARCHAR}
        rows = [{name: getattr(one, name) for name in columns} for one in state.accounts]
        _print_rows(columns, rows, form, output)
        return
    if as_json:
        _print_json(state.as_json() | _identity(settings))
        return
    for one in state.accounts:
        _print_account_status(one)
    sizes = {"warehouse": state.warehouse_bytes, "landing zone": state.landing_bytes, "dagster": state.dagster_bytes}
    print(f"{state.home}: " + ", ".join(f"{name} {size / 1e6:,.1f} MB" for name, size in sizes.items()))
    if state.oldest_request_age_s is not None:
        age = f"{state.oldest_request_age_s:,.0f} s"
        print(f"requests waiting for a snapshot: {state.waiting_requests}, the oldest for {age}")
    if state.ledger_error:
        print(f"ledger cannot be read: {state.ledger_error}")
    if state.switched_off:
        print(f"switched off in the UI: {', '.join(state.switched_off)}; on again under Automation")
    if state.switches_error:
        print(f"switched off: not known: {state.switches_error}")
    for damage in state.damaged:
        print(f"passed over: {damage.reason}")


@main.command()
@ACCOUNT
@table
@JSON
@told
def gate(account: str | None, form: str, output: Path | None, as_json: bool) -> int:
    """Whether to trade now, and if not why. Exit code 0 only if every account asked for is ready."""
    from tradier_pipeline.gate import reasons
    from tradier_pipeline.warehouse.reads import reading, trade_gates

    settings = load_settings()
    with reading(settings.warehouse) as connection:
        gates = {gate["account_id"]: gate for gate in trade_gates(connection)}
    asked = (account,) if account else settings.accounts or tuple(gates)
    documents: list[dict[str, Any]] = []
    for account_id in asked:
        gate = gates.get(account_id)
        blockers = reasons(gate) if gate else {"no_snapshot": "nothing of this account is published"}
        ready = gate is not None and gate["ready"] is True
        documents.append({"account_id": account_id, **(gate or {}), "ready": ready, "blockers": blockers})
    ready = bool(documents) and all(document["ready"] for document in documents)
    if form != "text" or output:
        columns = {"account_id": VARCHAR, "ready": BOOLEAN, "blockers": VARCHAR, "as_of": INSTANT, "age_s": DOUBLE}
        _print_rows(columns, [one | {"blockers": ", ".join(one["blockers"])} for one in documents], form, output)
    elif as_json:
        _print_json({"ready": ready, "accounts": documents})
    for document in () if as_json or form != "text" or output else documents:
        why = "; ".join(f"{name} ({reason})" for name, reason in document["blockers"].items())
        print(f"{document['account_id']}: {'ready' if document['ready'] else f'not ready: {why}'}")
    return 0 if ready else 1


@main.command()
@ONLY_ACCOUNT
@click.option("--all", "everything", is_flag=True, help="Resolved ones, too.")
@table
@JSON
@told
def findings(account: str | None, everything: bool, form: str, output: Path | None, as_json: bool) -> None:
    """The open problems of the account and the ledger, the worst and oldest first, and what to do about each."""
    from tradier_pipeline.warehouse.reads import findings as read_findings
    from tradier_pipeline.warehouse.reads import findings_query, reading, require_account

    settings = load_settings()
    with reading(settings.warehouse) as connection:
        require_account(connection, account, settings.accounts or ())
        if form != "text" or output:
            _print_query(connection, findings_query(account, resolved=everything), form, output)
            return
        found = read_findings(connection, account, resolved=everything)
    if as_json:
        _print_json({"findings": found})
        return
    for row in found:
        _print_finding(row)
    if not found:
        print("no findings" if everything else "no open findings")


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8470, show_default=True, help="0: any free port.")
@click.option(
    "--replay", type=click.Path(path_type=Path), metavar="DIR", help="Serve the recorded bodies of DIR instead."
)
@told
def simulate(host: str, port: int, replay: Path | None) -> None:
    """Run the simulated broker as a server, for TRADIER_BASE_URL.

    DIR holds bodies named as in the landing zone: account.json, balances.json, positions.json, orders.json
    (orders.2.json, ... for more pages), quotes.json.
    """
    from tradier_pipeline.broker.simulator.app import create_app
    from tradier_pipeline.broker.simulator.replay import create_replay_app
    from tradier_pipeline.broker.simulator.server import serve
    from tradier_pipeline.broker.simulator.store import Store

    app = create_replay_app(replay) if replay else create_app(Store(load_settings().simulator))

    def ready(url: str) -> None:
        warn(f"simulated broker at {url} (TRADIER_BASE_URL={url}); stop with Ctrl-C")

    serve(app, host, port, on_ready=ready)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True)
@told
def up(host: str, port: int) -> None:
    """Run the Dagster UI and daemon. Run history stays in TRADIER_PIPELINE_HOME/dagster.

    The UI answers only its own pages and your programs. With another --host than this machine it asks for a token:
    TRADIER_UI_TOKEN, or one that is made and shown at the start.
    """
    from tradier_pipeline.up import ui_address
    from tradier_pipeline.up import up as run_up

    settings = load_settings()
    warn(settings.identity)
    address = ui_address(settings, host, port)
    if address.notice:
        warn(f"{address.notice}.")
    warn(f"UI at {address.url}, home {settings.home}; stop with Ctrl-C")
    run_up(settings, address)


@main.command()
@ONLY_ACCOUNT
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="Of one trade date instead of the whole account.")
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="First trade date of the curves.")
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="Last trade date of the curves.")
@click.option("--output", type=click.Path(path_type=Path), help="File to write instead of one in reports/.")
@click.option("--all", "every", is_flag=True, help="Also of every trade date that has a snapshot and no report yet.")
@click.option("--open", "show", is_flag=True, help="Open it in the browser; of several the page that links them all.")
@JSON
@told
def report(
    account: str | None,
    day: datetime | None,
    since: datetime | None,
    until: datetime | None,
    output: Path | None,
    every: bool,
    show: bool,
    as_json: bool,
) -> None:
    """Write a report to read in a browser: one HTML file for each account, or for one of its trade dates.

    reports/index.html links them all.
    """
    from tradier_pipeline.report import index_path, write_every_report, write_reports

    if day and (since or until):
        raise click.UsageError("--day goes without --since and --until")
    if every and (day or since or until or output):
        raise click.UsageError("--all goes without --day, --since, --until and --output")
    settings = load_settings()
    first, last, only = (moment.date() if moment else None for moment in (since, until, day))
    reports = (
        write_every_report(settings, account)
        if every
        else write_reports(settings, account, day=only, since=first, until=last, output=output)
    )
    if not as_json:
        for one in reports:
            print(one.path)
    if show:
        click.launch(str(reports[0].path if len(reports) == 1 else index_path(settings)))
    if as_json:
        _print_json({"reports": [{"account": one.account_id, "path": one.path} for one in reports]})


@main.command()
@told
def listen() -> None:
    """Take a snapshot now and within seconds of every change of an order, until interrupted.

    Follows the account stream of the broker, and polls the orders while it is down. Tells each event on stderr.
    """
    from tradier_pipeline.cycles.on_demand import run_snapshots
    from tradier_pipeline.definitions import defs
    from tradier_pipeline.instance import open_instance
    from tradier_pipeline.ledger.store import Ledger
    from tradier_pipeline.listen import in_one_line
    from tradier_pipeline.listen import listen as listen_to_orders

    def tell(text: str) -> None:
        warn(f"{clock.iso(clock.now())} {text}")

    settings = load_settings()
    defs()  # now, rather than while the first order waits
    with open_instance(settings.dagster_home) as instance:

        def take_snapshot(account_id: str, events: Sequence[OrderEvent]) -> None:
            if events:  # it waits in the inbox, should this process die or its snapshot not begin
                Ledger(settings.ledger).request(account_id, "order_placed", note=in_one_line(events))
            (run,) = run_snapshots(instance, [account_id], "order_placed" if events else "listen")
            run.raise_unless_published()
            tell(f"{run.snapshot_id} published: {in_one_line(events) or 'listening began'}")

        listen_to_orders(settings, take_snapshot, tell)


@main.group()
def flows() -> None:
    """Deposits and withdrawals that the owner states, where the broker's history does not tell them."""


@flows.command(name="add")
@click.option("--account", metavar="NUMBER", required=True, help="Account number.")
@click.option("--date", "day", type=click.DateTime(["%Y-%m-%d"]), required=True, help="When it came or left.")
@click.option("--amount", metavar="USD", help="Of cash; below zero: a withdrawal. 0: nothing came or left that day.")
@click.option("--symbol", help="Of securities: equity ticker or option symbol.")
@click.option("--quantity", metavar="NUMBER", help="Of securities: shares or contracts.")
@click.option("--value", metavar="USD", help="Of securities: what they were worth that day.")
@click.option("--kind", type=click.Choice(["deposit", "withdrawal"]), help="Default: by the sign.")
@click.option("--note", metavar="TEXT", help="More, in words.")
@JSON
@told
def add_flow(
    account: str,
    day: datetime,
    amount: str | None,
    symbol: str | None,
    quantity: str | None,
    value: str | None,
    kind: Any,
    note: str | None,
    as_json: bool,
) -> None:
    """State what came into an account or left it. It enters every figure, marked as stated, and survives a rebuild."""
    from tradier_pipeline.stated_flows import add_flow as state

    if (amount is None) == (value is None) or (value is None) != (symbol is None):
        raise click.UsageError("state --amount, or --symbol, --quantity and --value")
    flow = state(
        load_settings(),
        account,
        day.date(),
        _decimal(amount if amount is not None else str(value), "--amount" if value is None else "--value"),
        kind=kind,
        symbol=symbol,
        quantity=None if quantity is None else _decimal(quantity, "--quantity"),
        note=note,
    )
    if as_json:
        _print_json({"flow": flow.model_dump()})
    else:
        print(_stated(flow))


@flows.command(name="list")
@ONLY_ACCOUNT
@click.option("--all", "everything", is_flag=True, help="Those taken back, too.")
@table
@JSON
@told
def list_flows(account: str | None, everything: bool, form: str, output: Path | None, as_json: bool) -> None:
    """The flows that the owner has stated, by date."""
    from tradier_pipeline.ledger.store import Ledger

    store = Ledger(load_settings().ledger)
    found = [
        flow
        for flow in (store.stated_flows() if store.exists else [])
        if account in (None, flow.account_id) and (everything or not flow.removed_at)
    ]
    if form != "text" or output:
        amounts = {"kind": VARCHAR, "amount": DECIMAL, "symbol": VARCHAR, "quantity": DECIMAL, "note": VARCHAR}
        stated = {"stated_by": VARCHAR, "stated_at": INSTANT, "removed_by": VARCHAR, "removed_at": INSTANT}
        columns = {"flow_id": BIGINT, "account_id": VARCHAR, "trade_date": DATE} | amounts | stated
        _print_rows(columns, [flow.model_dump() for flow in found], form, output)
        return
    if as_json:
        _print_json({"flows": [flow.model_dump() for flow in found]})
        return
    for flow in found:
        print(_stated(flow))
    if not found:
        print("no stated flows")


@flows.command(name="remove")
@click.argument("flow_id", type=int, metavar="ID")
@JSON
@told
def remove_flow(flow_id: int, as_json: bool) -> None:
    """Take a stated flow back; the ledger keeps who stated it, and who took it back."""
    from tradier_pipeline.stated_flows import remove_flow as take_back

    flow = take_back(load_settings(), flow_id)
    if as_json:
        _print_json({"flow": flow.model_dump()})
    else:
        print(_stated(flow))


def _decimal(text: str, option: str) -> Decimal:
    try:
        number = Decimal(text)
    except ArithmeticError:
        raise click.UsageError(f"{option} is no number: {text}") from None
    if not number.is_finite() or abs(number) >= Decimal(10) ** 15 or round(number, 8) != number:
        raise click.UsageError(f"{option} is no amount: {text}")
    return number


def _stated(flow: StatedFlow) -> str:
    what = f" for {shown(flow.quantity)} {flow.symbol}" if flow.symbol else ""
    note = f": {flow.note}" if flow.note else ""
    gone = f"; taken back by {flow.removed_by} {clock.iso(flow.removed_at)}" if flow.removed_at else ""
    stated = f"stated by {flow.stated_by} {clock.iso(flow.stated_at)}{gone}"
    return f"{flow.flow_id}  {flow.trade_date}  {flow.account_id}  {_signed(flow.amount)} USD{what}  ({stated}){note}"


@main.group()
def ledger() -> None:
    """What the trading engine believes, beside what the broker said."""


@ledger.command()
@ONLY_ACCOUNT
@table
@JSON
@told
def diff(account: str | None, form: str, output: Path | None, as_json: bool) -> None:
    """What the newest published snapshot of each account would change in the ledger. Changes nothing.

    As a table it has a row for each column that changes, each order without its like, and each finding.
    """
    from tradier_pipeline.reconcile.published import reconcile_newest

    found = reconcile_newest(load_settings(), account)
    if form != "text" or output:
        columns = ("snapshot_id", "account_id", "about", "key", "field", "before", "after", "text")
        rows = [row for one in found for row in _reconciliation_rows(one)]
        _print_rows(dict.fromkeys(columns, VARCHAR), rows, form, output)
        return
    if as_json:
        _print_json({"snapshots": [_reconciliation_document(one) for one in found]})
        return
    for one in found:
        _print_reconciliation(one)


@ledger.command()
@ONLY_ACCOUNT
@JSON
@told
def apply(account: str | None, as_json: bool) -> int:
    """Write to the ledger what `diff` shows. A row that the engine changes meanwhile is left alone."""
    from tradier_pipeline.ledger.store import Ledger
    from tradier_pipeline.ledger.writeback import apply as write
    from tradier_pipeline.reconcile.published import reconcile_newest

    settings = load_settings()
    if settings.ledger_write == "off":
        raise PipelineError("TRADIER_LEDGER_WRITE is off", "Set it to propose or apply to let the ledger be changed.")
    documents: list[dict[str, Any]] = []
    skipped = 0
    for one in reconcile_newest(settings, account):
        snapshot_id = one.facts.snapshot_id
        written = write(Ledger(settings.ledger), snapshot_id, one.changes)
        skipped += len(written.skipped)
        left_alone = [_change_document(change) | {"reason": reason} for change, reason in written.skipped]
        documents.append(
            {"snapshot_id": snapshot_id, "applied": [_change_document(change) for change in written.applied]}
            | {"skipped": left_alone}
        )
        if not as_json:
            print(f"{snapshot_id}: {len(written.applied)} rows changed")
            for change in written.applied:
                _print_change(change)
            for change, reason in written.skipped:
                print(f"  left alone {change.table} {change.key}: {reason}")
    if as_json:
        _print_json({"snapshots": documents})
    return 1 if skipped else 0


@ledger.command()
@click.argument("trade_id")
@click.argument("order_id", type=int)
@JSON
@told
def link(trade_id: str, order_id: int, as_json: bool) -> None:
    """Record an order that was placed elsewhere, such as in the broker's app, as the exit of a trade.

    The next snapshot, or `ledger apply`, then closes the trade with the price of its fill.
    """
    from tradier_pipeline.ledger.linking import link as write
    from tradier_pipeline.ledger.store import Ledger
    from tradier_pipeline.reconcile.published import exit_to_link

    settings = load_settings()
    if settings.ledger_write == "off":
        raise PipelineError("TRADIER_LEDGER_WRITE is off", "Set it to propose or apply to let the ledger be changed.")
    order, snapshot_id = exit_to_link(settings, trade_id, order_id)
    write(Ledger(settings.ledger), order, snapshot_id)
    if as_json:
        _print_json({"trade_id": trade_id, "order_id": order_id, "snapshot_id": snapshot_id})
    else:
        print(f"order {order_id} is the exit of {trade_id} now, as of {snapshot_id}")


@ledger.command(name="import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--account", metavar="NUMBER", required=True, help="Whose orders and trades they are.")
@JSON
@told
def import_(file: Path, account: str, as_json: bool) -> int:
    """Bring the orders and trades of the old D1 database over: a dump of `wrangler d1 export`, or the SQLite file.

    Rows that the ledger has stay as they are. Exit code 1 if rows of orders or trades were left out.
    """
    from tradier_pipeline.ledger.d1 import import_d1
    from tradier_pipeline.ledger.store import Ledger

    done = import_d1(Ledger(load_settings().ledger), file, account)
    if as_json:
        notes = [
            {"table": note.table, "key": note.key, "why": note.why, "left_out": note.left_out} for note in done.notes
        ]
        _print_json({"written": done.written, "already": done.already, "notes": notes})
    else:
        counts = ", ".join(f"{count} {table}" for table, count in done.written.items())
        print(f"{counts} written, {done.already} were there already")
        for note in done.notes:
            print(f"  {'left out' if note.left_out else 'note    '} {note.table} {note.key}: {note.why}")
    return int(any(note.left_out and note.table in done.written for note in done.notes))


def _reconciliation_document(found: Reconciliation) -> dict[str, Any]:
    from dataclasses import asdict

    findings = [asdict(finding) | {"trade_id": trade_id} for trade_id, finding in found.findings]
    return {
        "snapshot_id": found.facts.snapshot_id,
        "account": found.facts.account_id,
        "changes": [_change_document(change) for change in found.changes],
        "orders": found.match_counts,
        "unmatched": [_unmatched_document(row) for row in found.unmatched],
        "findings": findings,
    }


def _reconciliation_rows(found: Reconciliation) -> Iterator[dict[str, str | None]]:
    """A row for each column of the ledger that changes, each order without its like, and each finding."""
    of_snapshot: dict[str, str | None] = {
        "snapshot_id": str(found.facts.snapshot_id),
        "account_id": found.facts.account_id,
    }
    for change in found.changes:
        document = _change_document(change)
        for column, value in document["after"].items():
            values = {"before": _plain(document["before"][column]), "after": _plain(value)}
            yield of_snapshot | {"about": change.table, "key": change.key, "field": column, "text": change.why} | values
    for row in found.unmatched:
        key = row.client_order_id if row.broker_order_id is None else str(row.broker_order_id)
        sides = {"before": row.ledger_status, "after": row.raw_status}
        text = "; ".join((*row.differences, *(f"looks like {one}" for one in row.suggested)))
        yield of_snapshot | {"about": "order", "key": key, "field": row.match_state, "text": text or None} | sides
    for trade_id, finding in found.findings:
        text = "; ".join((finding.text, *finding.evidence))
        yield of_snapshot | {"about": finding.severity, "key": trade_id, "field": finding.code, "text": text}


def _plain(value: Any) -> str | None:
    return None if value is None else _cell(value)


def _unmatched_document(row: OrderRow) -> dict[str, Any]:
    names = ("match_state", "client_order_id", "broker_order_id", "tag", "ledger_status", "raw_status")
    return {name: getattr(row, name) for name in (*names, "suggested", "differences")}


def _change_document(change: Change) -> dict[str, Any]:
    from tradier_pipeline.ledger.writeback import as_columns

    values = {"before": as_columns(change.before), "after": as_columns(change.after)}
    return {"table": change.table, "key": change.key, "why": change.why} | values


def _print_reconciliation(found: Reconciliation) -> None:
    counts = ", ".join(f"{count} {state}" for state, count in found.match_counts.items()) or "none"
    print(f"{found.facts.snapshot_id}: {len(found.changes)} rows to change; orders: {counts}")
    if found.facts.doubtful:
        print(f"  doubtful: {found.facts.verdict_evidence}; nothing is proposed until it is confirmed")
    for change in found.changes:
        _print_change(change)
    for row in found.unmatched:
        ids = ", ".join(str(one) for one in (row.client_order_id, row.broker_order_id) if one is not None)
        told = "; ".join((*row.differences, *(f"looks like {one}" for one in row.suggested)))
        print(f"  {row.match_state:<32} order {ids} {row.raw_status or row.ledger_status}{f': {told}' if told else ''}")
    for trade_id, finding in found.findings:
        about = f"{trade_id}: " if trade_id else ""
        told = f" ({'; '.join(finding.evidence)})" if any(finding.evidence) else ""
        print(f"  {finding.severity:<5} {finding.code:<26} {about}{finding.text}{told}")


def _print_finding(row: dict[str, Any]) -> None:
    about = f" {row['subject']}" if row["subject"] else ""
    until = f", resolved {clock.iso(row['resolved_at'])}" if row["resolved_at"] else ""
    evidence = f" ({row['evidence']})" if row["evidence"] else ""
    print(f"{row['severity']:<5} {row['code']}{about}: {row['text']}{evidence}")
    print(f"      {row['account_id']}, since {clock.iso(row['first_seen'])}, seen {row['times_seen']} times{until}")
    print(f"      {row['suggested_action']}")


def _print_summary_line(row: dict[str, Any]) -> None:
    trades = "no ledger" if row["trades_open"] is None else f"{row['trades_closed']} closed, {row['trades_open']} open"
    early = ", before the close" if row["after_close"] is False else ""
    equity = f"{row['equity']:>16,.2f} {_signed(row['equity_change']):>14}"
    flows = f" ({moved})" if (moved := _moved(row)) else ""
    print(
        f"{row['trade_date']}  {row['account_id']:<12} equity {equity}{flows}  realized {_realized(row)}; {trades}; "
        f"revision {row['revision']}{early}"
    )


def _print_summary(row: dict[str, Any]) -> None:
    eastern = row["as_of"].astimezone(clock.NEW_YORK)
    early = ", BEFORE THE CLOSE" if row["after_close"] is False else ""
    print(f"{row['trade_date']}  {row['account_id']}, revision {row['revision']}, as of {eastern:%H:%M:%S}{early}")
    for name in ("equity", "equity_open", "equity_high", "equity_low", "cash", "buying_power", "close_pl"):
        print(f"  {name:<14}{row[name]:>18,.2f} USD")
    moved = f", of that {outside}" if (outside := _moved(row)) else ""
    print(f"  {'equity_change':<14}{_signed(row['equity_change']):>18} USD{moved}")
    print("  " + ", ".join(f"{name} {row[name]}" for name in ("snapshots", "missed", "failed", "refused")))
    print(f"  positions {row['positions']}, option spreads {row['open_spreads']}")
    orders = ("placed", "filled", "canceled", "rejected", "expired")
    print("  orders: " + ", ".join(f"{name} {row[f'orders_{name}']}" for name in orders))
    if row["trades_open"] is None:
        print("  trades: the ledger was not set beside any snapshot of the day")
        return
    states = ("opened", "closed", "open")
    print("  trades: " + ", ".join(f"{name} {row[f'trades_{name}']}" for name in states))
    print(f"  realized {_realized(row)}")
    for column in ("exit_reasons", "trades_by_strategy"):
        counts = ", ".join(f"{word} {count}" for word, count in row[column].items()) or "none"
        print(f"  {column.replace('_', ' ')}: {counts}")
    for state in states:
        for trade in row[f"{state}_trades"]:
            print(f"  {state:<7} {_told_trade(trade)}")


def _moved(row: dict[str, Any]) -> str:
    """What of the change of equity came from outside or went there; empty if nothing did, as far as history tells."""
    if row["deposits"] is None:
        return ""
    moved = [
        f"{name} {_signed(amount)}"
        for name, amount in (("deposits", row["deposits"]), ("withdrawals", -row["withdrawals"]))
        if amount
    ]
    unsure = [row["reason"]] if row["uncertain"] or (moved and row["provisional"]) else []
    return ", ".join([*moved, *unsure])


def _realized(row: dict[str, Any]) -> str:
    """The sum in dollars, and beside it how many trades it does not hold."""
    unknown = f", {row['realized_unknown']} unknown" if row["realized_unknown"] else ""
    return f"{_signed(row['realized_pnl'])} USD{unknown}"


def _signed(amount: Decimal | None) -> str:
    return "-" if amount is None else f"{amount:+,.2f}"


def _told_trade(trade: dict[str, Any]) -> str:
    prices = " -> ".join(shown(trade[name]) for name in ("entry_price", "exit_price") if trade[name] is not None)
    what = f"{trade['id']} {shown(trade['quantity'])} {trade['symbol']} {trade['strategy'] or '-'} {prices}"
    if trade["status"] != "CLOSED":
        return f"{what} {trade['status']}"
    return f"{what} {trade['exit_reason'] or 'unknown'} {_signed(trade['realized_pnl'])} USD"


def _print_change(change: Change) -> None:
    document = _change_document(change)
    print(f"  {change.table} {change.key}: {change.why}")
    for column, value in document["after"].items():
        print(f"    {column:<22} {_cell(document['before'][column])} -> {_cell(value)}")


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"{leg['side']} {leg['quantity']} {leg['option_symbol']}" for leg in value) or "-"
    return "-" if value is None else str(value)


def _print_error(error: PipelineError, *, as_json: bool) -> None:
    outcomes = getattr(error, "outcomes", ())
    if as_json:
        _print_json({"error": {"cause": error.cause, "remedy": error.remedy}, "checks": _checks(outcomes)})
    else:
        _print_checks([outcome for outcome in outcomes if not outcome.passed])
    warn(f"tradier-pipeline: error: {error}")


def _returns_document(curves: dict[str, dict[str, Figures]]) -> list[dict[str, Any]]:
    from dataclasses import asdict

    return [
        {"account_id": name, "periods": {period: asdict(one) for period, one in periods.items()}}
        for name, periods in curves.items()
    ]


def _waiting(rows: Sequence[dict[str, Any]]) -> dict[str, date]:
    """The accounts that the newest days of the total wait for, each since its first day without an equity."""
    waiting: dict[str, date] = {}
    for row in reversed(rows):
        if row["equity"] is not None:
            break
        waiting |= dict.fromkeys(row.get("waits_for") or (), row["trade_date"])
    return dict(sorted(waiting.items()))


def _print_returns(account_id: str, periods: dict[str, Figures]) -> None:
    if not periods:
        print(f"{account_id}: no two closes are known that a return could be measured between")
        return
    money = ("start", "deposits", "withdrawals", "p/l", "end")
    lines: list[tuple[str, ...]] = [("", "from", "to", *money, "time-weighted", "money-weighted", "drawdown")]
    for period, one in periods.items():
        mark = " *" if one.gaps or one.provisional or one.uncertain or one.notes else ""
        name = f"{period} (since it began)" if one.since_it_began else period
        amounts = [f"{amount:,.2f}" for amount in (one.start, one.deposits, one.withdrawals, one.pnl, one.end)]
        rates = (_percent(one.time_weighted), _percent(one.money_weighted))
        lines.append((f"{name}{mark}", str(one.since), str(one.until), *amounts, *rates, _ratio(one.max_drawdown)))
    print(account_id)
    _print_aligned(lines, "  ")
    if doubts := _doubts(tuple(periods.values())):
        print(f"  {'; '.join(doubts)}")
    for line in dict.fromkeys(line for one in periods.values() for line in _marks(one)):
        print(f"  * {line}")
    _print_risk(periods)


def _print_risk(periods: dict[str, Figures]) -> None:
    """The returns beside those of the benchmark, volatility and Sharpe ratio, as far as there are any."""
    symbol = next((one.benchmark.symbol for one in periods.values() if one.benchmark), None)
    lines: list[tuple[str, ...]] = [("", "return", *([symbol] if symbol else []), "volatility", "sharpe", "sessions")]
    for name, one in periods.items():
        beside = [_ratio(one.benchmark.period)] if one.benchmark else []
        sharpe = "-" if one.sharpe is None else f"{one.sharpe:.2f}"
        rates = (_ratio(one.time_weighted.period), *beside, _ratio(one.volatility), sharpe)
        lines.append((name, *rates, f"{one.usable_days}, {one.left_out} left out"))
    if any(one.volatility is not None or (one.benchmark and not one.benchmark.reason) for one in periods.values()):
        print("  of the daily returns, by 252 sessions a year, risk-free rate 0")
        _print_aligned(lines, "    ")
    lacking = [f"no sharpe ratio: {one.risk_reason}" for one in periods.values() if one.risk_reason]
    compared = [one.benchmark for one in periods.values() if one.benchmark]
    lacking += [f"no return of {one.symbol}: {one.reason}" for one in compared if one.reason]
    for line in dict.fromkeys(lacking):
        print(f"  {line}")


def _print_aligned(lines: Sequence[tuple[str, ...]], indent: str) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *cells in lines:
        told = "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        print(f"{indent}{first:<{widths[0]}}{told}")


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _percent(rate: Rate) -> str:
    if rate.period is None:
        return "-"
    return f"{rate.period:.2%}" + (f" ({rate.annual:.2%} a year)" if rate.annual is not None else "")


def _doubts(periods: Sequence[Figures]) -> list[str]:
    """What makes the figures of some of the periods uncertain, and why some are not there."""
    counts = {
        "without equity": max(one.gaps for one in periods),
        "whose deposits and withdrawals may not all be known": max(one.provisional for one in periods),
    }
    uncertain = [f"{count} session{'s' * (count > 1)} {what}" for what, count in counts.items() if count]
    missing = [
        f"no {name} return: {reason}"
        for one in periods
        for name, reason in (("time-weighted", one.time_weighted.reason), ("money-weighted", one.money_weighted.reason))
        if reason
    ]
    return [*([f"* {', '.join(uncertain)}"] if uncertain else []), *dict.fromkeys(missing)]


def _marks(one: Figures) -> Iterator[str]:
    """The days that the figures leave out, and what else to know of them."""
    for day, reason in one.uncertain:
        yield f"{day} is uncertain and left out of the returns: {reason}"
    yield from one.notes
    if one.stated:
        yield f"{_signed(one.stated)} USD of deposits less withdrawals are stated by the owner"


def _print_account_status(account: AccountStatus) -> None:
    budget = account.request_budget
    left = f"{budget.available} of {budget.allowed} a minute left" if budget else "not sent by the broker"
    print(f"{account.account_id} ({account.environment or 'nothing published yet'})")
    if account.age_s is not None:
        print(f"  last snapshot   {account.snapshot_id}, {account.age_s:,.0f} s old, of {account.snapshots:,}")
    if account.verdict == "doubtful":
        print(f"  doubtful        {account.verdict_evidence}")
    if waiting := account.landed_not_published:
        told = f"{len(waiting):,}, from {waiting[0]} on; the next snapshot publishes them"
        print(f"  landed only     {told}")
    elif account.not_published:
        print(f"  not published   {account.not_published}, see `tradier-pipeline verify {account.not_published}`")
    print(
        f"  failed in 24 h  {account.failures_24h}{f', last: {account.last_failure}' if account.last_failure else ''}"
    )
    print(f"  missed in 24 h  {account.missed_24h}")
    for beat in account.heartbeats:
        told_last = f"last published {clock.iso(beat.last)}" if beat.last else "none published yet"
        print(f"  {beat.cycle:<14}  {told_last}{', late' if beat.late else ''}")
    print(f"  request budget  {left}")


def _backfilled_prices(settings: Settings, broker: Broker, symbol: str, since: date) -> dict[str, Any]:
    """What was read of the benchmark. That it could not be read keeps nothing of an account from being published."""
    from dataclasses import asdict

    from tradier_pipeline.backfill import backfill_prices

    try:
        done = backfill_prices(settings, broker, symbol, since)
    except PipelineError as error:
        return {"symbol": symbol, "published": False, "error": {"cause": error.cause, "remedy": error.remedy}}
    return asdict(done) | {"published": True, "warnings": [done.warning] if done.warning else []}


def _print_backfilled_prices(prices: dict[str, Any]) -> None:
    if not prices["published"]:
        print(f"{prices['symbol']}  warning: not read: {prices['error']['cause']}")
        return
    print(f"{prices['symbol']}  {prices['days']:,} daily prices, {prices['since']} to {prices['until']}")
    for warning in prices["warnings"]:
        print(f"  warning: {warning}")


def _backfilled_document(done: Backfilled) -> dict[str, Any]:
    resources = {
        resource: {"rows": kept.rows, "new": kept.new, "retracted": kept.retracted}
        | {"first": kept.first, "last": kept.last}
        for resource, kept in done.kept.items()
    }
    return {
        "account": done.account_id,
        "published": True,
        "since": done.since,
        "until": done.until,
        "resources": resources,
        "deposits": done.deposits,
        "withdrawals": done.withdrawals,
        "unknown_words": [
            {"word": word, "rows": rows, "amount": amount} for word, (rows, amount) in done.unknown.items()
        ],
        "warnings": done.warnings,
        "path": done.path,
    }


def _print_backfilled(done: Backfilled) -> None:
    print(f"{done.account_id}  {done.since} to {done.until}")
    for resource, kept in done.kept.items():
        dates = f", {kept.first} to {kept.last}" if kept.first else ""
        print(f"  {resource:<20}{kept.rows:>8,} rows, {kept.new:,} new{dates}")
    if "history" in done.kept:
        print(f"  {'deposits':<20}{done.deposits:>18,.2f} USD")
        print(f"  {'withdrawals':<20}{done.withdrawals:>18,.2f} USD")
    for warning in done.warnings:
        print(f"  warning: {warning}")


def _snapshot_document(taken: TradierSnapshot, settings: Settings) -> dict[str, Any]:
    return {
        "snapshot_id": taken.snapshot_id,
        "as_of": taken.as_of,
        "account": taken.account.account_number,
        "environment": settings.environment,
        "published": True,
        "verdict": taken.verdict,
        "verdict_evidence": taken.verdict_evidence,
        "balances": _four_balances(taken),
        "counts": {"positions": len(taken.positions), "orders": len(taken.orders)},
        "checks": _checks(taken.checks),
        "warehouse": settings.warehouse,
    } | _identity(settings)


def _identity(settings: Settings) -> dict[str, Any]:
    return {
        "environment": settings.environment,
        "host": settings.broker_host,
        "home": settings.home,
        "dotenv": settings.dotenv,
    }


def _failure_document(run: SnapshotRun) -> dict[str, Any]:
    error = {"cause": run.error.cause, "remedy": run.error.remedy}
    return {
        "snapshot_id": str(run.snapshot_id),
        "account": run.snapshot_id.account_id,
        "published": False,
        "error": error,
        "checks": _checks(run.outcomes),
    }


def _four_balances(taken: TradierSnapshot) -> dict[str, Decimal]:
    return {
        "equity": taken.balances.total_equity,
        "cash": taken.balances.total_cash,
        "buying_power": taken.balances.buying_power,
        "margin_requirement": taken.balances.current_requirement,
    }


def _print_snapshot(taken: TradierSnapshot, *, verbose: bool) -> None:
    eastern = taken.as_of.astimezone(clock.NEW_YORK)
    print(f"snapshot   {taken.snapshot_id}")
    print(f"as of      {clock.iso(taken.as_of)}  ({eastern:%Y-%m-%d %H:%M:%S} New York)")
    if taken.verdict == "doubtful":
        print(f"DOUBTFUL   {taken.verdict_evidence}")
        print("           it is in the history, marked; nothing is concluded from it until later snapshots confirm it")
    for name, amount in _four_balances(taken).items():
        print(f"{name:<20}{amount:>18,.2f} USD")
    legs = sum(len(order.leg) for order in taken.orders)
    print(f"positions  {len(taken.positions)}")
    print(f"orders     {len(taken.orders)} ({legs} legs)")
    failed = [outcome for outcome in taken.checks if not outcome.passed]
    hint = "" if verbose else "; -v shows them all"
    print(f"checks     {len(taken.checks) - len(failed)} of {len(taken.checks)} rules hold{hint}")
    _print_checks(taken.checks if verbose else failed)


def _print_where(settings: Settings) -> None:
    here = Path.cwd()
    home = settings.home.relative_to(here) if settings.home.is_relative_to(here) else settings.home
    command = "tradier-pipeline" if shutil.which("tradier-pipeline") else os.path.relpath(sys.argv[0])
    print(f"data       {home}/tradier.duckdb (history), {home}/raw (what the broker sent)")
    print(f"look       {command} balances")
    print(f'           {command} query "FROM portfolio_positions"')
    print(f"           duckdb -readonly {home}/tradier.duckdb")
    print("           make up, then http://127.0.0.1:3000")


def _print_checks(outcomes: Any) -> None:
    for outcome in outcomes:
        mark = "ok  " if outcome.passed else "FAIL" if outcome.blocks else "warn"
        print(f"  {mark} {outcome.check:<28} broker: {outcome.broker}; stored: {outcome.stored}")
        for difference in outcome.differences:
            print(f"         {difference.where}: broker {difference.broker}, stored {difference.stored}")
        if outcome.differing > len(outcome.differences):
            print(f"         and {outcome.differing - len(outcome.differences)} more")


def _checks(outcomes: Any) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from tradier_pipeline.verify.claims import CLAIM_OF

    return [asdict(outcome) | {"claim_name": CLAIM_OF[outcome.check].name} for outcome in outcomes]


def _tell_what_balances_there_are(
    connection: duckdb.DuckDBPyConnection, account: str | None, since: date | None, until: date | None
) -> None:
    from tradier_pipeline.warehouse.reads import balance_dates

    asked = {"of": account, "since": since, "until": until}
    nothing = " ".join(["no balances", *(f"{word} {value}" for word, value in asked.items() if value)])
    spans = [f"{one} from {first} to {last}" for one, (first, last) in balance_dates(connection).items()]
    warn(f"{nothing}; there are those of {', '.join(spans) or 'no account yet'}")


def _print_equity_lines(lines: list[dict[str, Any]]) -> None:
    """What equity_lines() gives, each account in one line of the terminal's width."""
    title, figures = "equity, USD", ("low", "high", "last")
    cells = [[f"{line[figure]:,.2f}" for figure in figures] for line in lines]
    widths = [max(map(len, column)) for column in zip(figures, *cells, strict=True)]
    first = max(len(title), *(len(line["account_id"]) for line in lines))
    room = max(1, shutil.get_terminal_size().columns - first - 2 - sum(width + 2 for width in widths))
    drawn = [sparkline(line["closes"], room) for line in lines]
    middle = max(map(len, drawn))
    rows = [(title, "", figures), *zip([line["account_id"] for line in lines], drawn, cells, strict=True)]
    for name, blocks, texts in rows:
        told = "".join(f"  {text:>{width}}" for text, width in zip(texts, widths, strict=True))
        print(f"{name:<{first}}  {blocks:<{middle}}{told}")


def _print_query(connection: duckdb.DuckDBPyConnection, sql: str, form: str, output: Path | None) -> None:
    import duckdb

    with tempfile.TemporaryDirectory() as directory:
        result = Path(directory) / "result"
        try:
            _confine(connection, directory)
            query = _only_query(connection, sql)
            if form == "text":
                _show(connection.sql(query))
                return
            options = {"csv": "FORMAT csv, HEADER", "json": "FORMAT json, ARRAY", "parquet": "FORMAT parquet"}[form]
            selected = _exact_in_json(connection, query) if form == "json" else f"FROM (\n{query}\n)"
            connection.execute(f"COPY ({selected}) TO '{result}' ({options})")
        except duckdb.Error as error:
            raise PipelineError(str(error).splitlines()[0], "See docs/data.md for the tables and views.") from None
        if output is None:
            sys.stdout.flush()
            if sys.stdout.isatty():
                for line in result.read_text(encoding="utf-8", errors="replace").splitlines():
                    print(line)
                return
            sys.stdout.buffer.write(result.read_bytes())
            return
        try:
            shutil.copyfile(result, output)
        except OSError as error:
            raise PipelineError(f"cannot write {output}: {error.strerror}", "Choose another --output.") from None


def _print_rows(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]], form: str, output: Path | None) -> None:
    """Rows as `_print_query` prints those of a query.

    Args:
        columns: name -> DuckDB type; what else a row has is left out.
    """
    import duckdb

    from tradier_pipeline.warehouse.publish import insert
    from tradier_pipeline.warehouse.schema import Column, Table, ddl

    printed = Table("printed", "", tuple(Column(name, type_, "") for name, type_ in columns.items()))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(ddl(printed))
        insert(connection, printed, [{name: row.get(name) for name in columns} for row in rows])
        _print_query(connection, "FROM printed", form, output)


def _exact_in_json(connection: duckdb.DuckDBPyConnection, query: str) -> str:
    """The query with decimals, also those in lists and structures, as text: readers of JSON make them floats."""
    columns = []
    relation = connection.sql(query)
    for place, (name, type_) in enumerate(zip(relation.columns, relation.types, strict=True), 1):
        as_text = _DECIMAL.sub("VARCHAR", str(type_))
        cast = f"::{as_text}" if as_text != str(type_) else ""
        columns.append(f'#{place}{cast} AS "{name.replace(chr(34), chr(34) * 2)}"')
    return f"SELECT {', '.join(columns)} FROM (\n{query}\n)"  # noqa: S608


def _confine(connection: duckdb.DuckDBPyConnection, directory: str) -> None:
    """From here on SQL reaches the warehouse and this directory, no other file and no network."""
    connection.execute(f"SET allowed_directories = ['{directory}']")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _only_query(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The one statement of the text that returns rows; what precedes it (temporary tables) is run."""
    import duckdb

    statements = connection.extract_statements(sql)
    rows_only = [duckdb.ExpectedResultType.QUERY_RESULT]
    queries = [statement for statement in statements if statement.expected_result_type == rows_only]
    if len(queries) != 1 or queries != statements[-1:]:
        raise PipelineError("the SQL is not one query", "Write one SELECT or FROM.")
    for statement in statements[:-1]:
        connection.execute(statement)
    return queries[0].query.rstrip("; \n")


def _show(relation: duckdb.DuckDBPyRelation) -> None:
    """A terminal gets what fits and is told what does not; a file or another program gets every row and column."""
    if sys.stdout.isatty():
        _print_drawn(relation, max_rows=1000, max_width=shutil.get_terminal_size().columns)
        return
    if len(relation) > MAX_TEXT_ROWS:
        raise PipelineError(f"{len(relation):,} rows are too many for text", "Choose --format csv, json or parquet.")
    _print_drawn(relation, max_rows=MAX_TEXT_ROWS, max_width=sys.maxsize, max_col_width=sys.maxsize)


def _print_drawn(relation: duckdb.DuckDBPyRelation, **limits: Any) -> None:
    """What DuckDB draws; of the characters that a terminal obeys it escapes only some."""
    with redirect_stdout(StringIO()) as drawn:
        relation.show(**limits)
    for line in drawn.getvalue().removesuffix("\n").split("\n"):
        print(line)


def _print_json(document: dict[str, Any]) -> None:
    click.echo(json.dumps(document, indent=1, default=_to_json))  # its own escaping leaves nothing but ASCII


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return clock.iso(value)
    if isinstance(value, Decimal):
        return shown(value)
    if isinstance(value, date | Path):
        return str(value)
    raise TypeError(type(value).__name__)


if __name__ == "__main__":
    main()
