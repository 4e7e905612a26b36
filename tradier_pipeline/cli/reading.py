"""Commands that read the history: balances, returns, profit, exposure, reports, exports."""

from __future__ import annotations

import shutil
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tradier_pipeline import clock
from tradier_pipeline.cli import screen
from tradier_pipeline.cli.as_known import with_settings_as_known
from tradier_pipeline.cli.options import DAY, JSON, ONLY_ACCOUNT, OUTPUT, between, table
from tradier_pipeline.cli.output import (
    _write_text,
    echo,
    print_json,
    print_query,
    signed,
    warn,
    with_settings,
)
from tradier_pipeline.cli.progress import shown as progress_shown
from tradier_pipeline.cli.sparkline import sparkline
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.outcome import shown

if TYPE_CHECKING:
    import duckdb

    from tradier_pipeline.core.settings import Settings
    from tradier_pipeline.warehouse.exposure import Each, ExposureBy
    from tradier_pipeline.warehouse.reads import By
    from tradier_pipeline.warehouse.realized import PnlBy


@click.command()
@click.argument("sql")
@table
@with_settings_as_known
def query(settings: Settings, sql: str, form: str, output: Path | None) -> None:
    """Run one SQL query, read-only, such as "FROM daily_balances"."""
    from tradier_pipeline.lake.reads import connect_history

    with connect_history(settings) as connection:
        print_query(connection, sql, form, output)


@click.command()
@ONLY_ACCOUNT
@between("First trade date.", "Last trade date.")
@click.option(
    "--by",
    type=click.Choice(["snapshot", "hour", "day", "month", "quarter", "year"]),
    default="snapshot",
    show_default=True,
    help="One row per what. Of hours and days: open, high, low, close equity; of longer ones the statement.",
)
@click.option("--total", is_flag=True, help="All accounts of each environment as one: of months, quarters or years.")
@table
@with_settings_as_known
def balances(
    settings: Settings,
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
    from tradier_pipeline.cli.tables import FINER, in_new_york, require_few
    from tradier_pipeline.lake.reads import connect_history
    from tradier_pipeline.warehouse.reads import (
        balances_query,
        equity_lines,
        require_account,
        statement_in_text,
    )
    from tradier_pipeline.warehouse.statements import total_statement_query

    if total and (account or by not in ("month", "quarter", "year")):
        raise click.UsageError("--total is of all accounts, --by month, quarter or year")
    asked = (account, since.date() if since else None, until.date() if until else None)
    with connect_history(settings) as connection:
        if form == "text":  # a program gets a table without rows, and a line that names those there are
            require_account(connection, account, settings.accounts or ())
            if by in FINER:  # before the equity of each of them is read
                require_few(connection, balances_query(*asked, by))
        lines = equity_lines(connection, *asked, by)
        if not lines:
            _tell_what_balances_there_are(connection, *asked)
        if by == "hour":
            in_new_york(connection)
        sql = total_statement_query(by, None, *asked[1:]) if total else balances_query(*asked, by)  # type: ignore[arg-type]
        if form == "text" and by in ("month", "quarter", "year"):
            sql = statement_in_text(sql, by, "environment" if total else "account_id")
        if lines or form != "text":
            print_query(connection, sql, form, output)
    if lines and form == "text" and not total:
        _print_equity_lines(lines)


@click.command()
@ONLY_ACCOUNT
@between("First date of closing.", "Last date of closing.")
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
@with_settings_as_known
def pnl(
    settings: Settings,
    account: str | None,
    since: datetime | None,
    until: datetime | None,
    by: PnlBy,
    form: str,
    output: Path | None,
) -> None:
    """What was realized, in USD, with win rate, average win and loss, profit factor and days held.

    From the broker's closed lots, which it reports over night. A close may be several lots, a spread has one for each
    leg; how whole trades did is in the view `trade_statistics` and in the report.
    """
    from tradier_pipeline.lake.reads import connect_history
    from tradier_pipeline.warehouse.reads import require_account
    from tradier_pipeline.warehouse.realized import in_text, pnl_query

    with connect_history(settings) as connection:
        require_account(connection, account, settings.accounts or ())
        sql = pnl_query(by, account, since.date() if since else None, until.date() if until else None)
        if form == "text" and connection.sql(sql).fetchone() is None:
            what = {"fees": "trades or fees", "income": "dividends or interest"}.get(by, "closed lots")
            warn(f"no {what}{' of these dates' if since or until else ''}; `tradier-pipeline backfill` reads the past")
            return
        print_query(connection, in_text(sql, by) if form == "text" else sql, form, output)


@click.command()
@ONLY_ACCOUNT
@between("First trade date. Default: now only.", "Last trade date. Default: now only.")
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
@with_settings_as_known
def exposure(
    settings: Settings,
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
    from tradier_pipeline.lake.reads import connect_history
    from tradier_pipeline.warehouse.exposure import exposure_query, in_text
    from tradier_pipeline.warehouse.reads import require_account
    from tradier_pipeline.warehouse.sealed import of_now
    from tradier_pipeline.warehouse.sql import where

    first, last = (moment.date() if moment else None for moment in (since, until))
    with connect_history(settings) as connection:
        require_account(connection, account, settings.accounts or ())
        if first or last or each:
            sql = exposure_query(by, where(account, first, last), each=each or "day")
        else:
            sql = of_now(connection, exposure_query(by, where(account), each="newest"))
        if form == "text" and connection.sql(sql).fetchone() is None:
            nothing = "nothing that expires within 30 days" if by == "expiring" else "nothing"
            warn(f"{nothing} is known to have been held on these dates" if first or last else f"{nothing} is held")
            return
        print_query(connection, in_text(sql, by) if form == "text" else sql, form, output)


@click.command()
@ONLY_ACCOUNT
@click.option("--format", "form", type=click.Choice(["beancount", "hledger", "form8949"]), required=True)
@between("First date; of lots, of closing.", "Last date; of lots, of closing.", also=("--from", "--to"))
@OUTPUT
@with_settings_as_known
def export(
    settings: Settings,
    account: str | None,
    form: str,
    since: datetime | None,
    until: datetime | None,
    output: Path | None,
) -> None:
    """Write the history for other programs: the books for beancount or hledger, or closed lots for Form 8949.

    The books balance to the cent and assert the broker's own cash and value of each close; what nothing explains is
    marked !. Form 8949 is a CSV; the broker reports no wash sales.
    """
    from tradier_pipeline.export.form8949 import form8949, wanted
    from tradier_pipeline.export.journal import journal
    from tradier_pipeline.export.plaintext import beancount, hledger
    from tradier_pipeline.lake.reads import connect_history
    from tradier_pipeline.warehouse.reads import closed_lots, known_closes, movements, require_account

    first, last = (moment.date() if moment else None for moment in (since, until))
    with connect_history(settings) as connection:
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


@click.command()
@click.argument("day", type=DAY, required=False, metavar="[DATE]")
@ONLY_ACCOUNT
@click.option("--list", "as_list", is_flag=True, help="One line for each summary.")
@click.option("--generate", is_flag=True, help="Make it first; figures that are stored already add nothing.")
@table
@JSON
@with_settings
def summary(
    settings: Settings,
    day: datetime | None,
    account: str | None,
    as_list: bool,
    generate: bool,
    form: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """What a trade date came to: the stored summary. Default: the newest; with --list every date."""
    from tradier_pipeline.publish.summaries import make_summaries
    from tradier_pipeline.warehouse.reads import (
        connect_readonly,
        daily_summaries,
        newest_trade_date,
        require_account,
        summaries_query,
    )
    from tradier_pipeline.warehouse.staging import Warehouse

    asked = day.date() if day else None
    with connect_readonly(settings.warehouse) as connection:
        require_account(connection, account, settings.accounts or ())
    if generate:
        with connect_readonly(settings.warehouse) as connection:
            asked = asked or newest_trade_date(connection, account)
        make_summaries(Warehouse(settings.warehouse), asked, account)
    with connect_readonly(settings.warehouse) as connection:
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
        with connect_readonly(settings.warehouse) as connection:
            print_query(connection, summaries_query(asked, account), form, output)
        return
    if as_json:
        print_json({"summaries": rows})
        return
    for row in rows:
        if as_list:
            _print_summary_line(row)
        else:
            _print_summary(row)


@click.command()
@ONLY_ACCOUNT
@click.option("--day", type=DAY, help="Of one trade date instead of the whole account.")
@between("First trade date of the curves.", "Last trade date of the curves.")
@click.option("--output", type=click.Path(path_type=Path), help="File to write instead of one in reports/.")
@click.option("--all", "every", is_flag=True, help="Also of every trade date that has a snapshot and no report yet.")
@click.option("--open", "show", is_flag=True, help="Open it in the browser; of several the page that links them all.")
@JSON
@with_settings_as_known
def report(
    settings: Settings,
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
    from tradier_pipeline.lake.reads import connect_history
    from tradier_pipeline.report import index_path, write_every_report, write_reports
    from tradier_pipeline.warehouse.reads import require_account

    if day and (since or until):
        raise click.UsageError("--day goes without --since and --until")
    if every and (day or since or until or output):
        raise click.UsageError("--all goes without --day, --since, --until and --output")
    first, last, only = (moment.date() if moment else None for moment in (since, until, day))
    with connect_history(settings) as connection:
        require_account(connection, account, settings.accounts or ())
    with progress_shown():
        reports = (
            write_every_report(settings, account)
            if every
            else write_reports(settings, account, day=only, since=first, until=last, output=output)
        )
    if not as_json:
        for one in reports:
            echo(one.path)
    if show:
        click.launch(str(reports[0].path if len(reports) == 1 else index_path(settings)))
    if as_json:
        print_json({"reports": [{"account": one.account_id, "path": one.path} for one in reports]})


def _print_summary_line(row: dict[str, Any]) -> None:
    trades = "no ledger" if row["trades_open"] is None else f"{row['trades_closed']} closed, {row['trades_open']} open"
    early = ", before the close" if row["after_close"] is False else ""
    equity = f"{row['equity']:>16,.2f} {signed(row['equity_change']):>14}"
    flows = f" ({moved})" if (moved := _moved(row)) else ""
    echo(
        f"{row['trade_date']}  {row['account_id']:<12} equity {equity}{flows}  realized {_realized(row)}; {trades}; "
        f"revision {row['revision']}{early}"
    )


def _print_summary(row: dict[str, Any]) -> None:
    eastern = row["as_of"].astimezone(clock.NEW_YORK)
    early = ", BEFORE THE CLOSE" if row["after_close"] is False else ""
    echo(f"{row['trade_date']}  {row['account_id']}, revision {row['revision']}, as of {eastern:%H:%M:%S}{early}")
    for name in ("equity", "equity_open", "equity_high", "equity_low", "cash", "buying_power", "close_pl"):
        echo(f"  {name:<14}{row[name]:>18,.2f} USD")
    moved = f", of that {outside}" if (outside := _moved(row)) else ""
    echo(f"  {'equity_change':<14}{signed(row['equity_change']):>18} USD{moved}")
    echo("  " + ", ".join(f"{name} {row[name]}" for name in ("snapshots", "missed", "failed", "refused")))
    echo(f"  positions {row['positions']}, option spreads {row['open_spreads']}")
    orders = ("placed", "filled", "canceled", "rejected", "expired")
    echo("  orders: " + ", ".join(f"{name} {row[f'orders_{name}']}" for name in orders))
    if row["trades_open"] is None:
        echo("  trades: the ledger was not set beside any snapshot of the day")
        return
    states = ("opened", "closed", "open")
    echo("  trades: " + ", ".join(f"{name} {row[f'trades_{name}']}" for name in states))
    echo(f"  realized {_realized(row)}")
    for column in ("exit_reasons", "trades_by_strategy"):
        counts = ", ".join(f"{word} {count}" for word, count in row[column].items()) or "none"
        echo(f"  {column.replace('_', ' ')}: {counts}")
    for state in states:
        for trade in row[f"{state}_trades"]:
            echo(f"  {state:<7} {_told_trade(trade)}")


def _moved(row: dict[str, Any]) -> str:
    """What of the change of equity came from outside or went there; empty if nothing did, as far as history tells."""
    if row["deposits"] is None:
        return ""
    moved = [
        f"{name} {signed(amount)}"
        for name, amount in (("deposits", row["deposits"]), ("withdrawals", -row["withdrawals"]))
        if amount
    ]
    unsure = [row["reason"]] if row["uncertain"] or (moved and row["provisional"]) else []
    return ", ".join([*moved, *unsure])


def _realized(row: dict[str, Any]) -> str:
    """The sum in dollars, and beside it how many trades it does not hold."""
    unknown = f", {row['realized_unknown']} unknown" if row["realized_unknown"] else ""
    return f"{signed(row['realized_pnl'])} USD{unknown}"


def _told_trade(trade: dict[str, Any]) -> str:
    prices = " -> ".join(screen.money(trade[name]) for name in ("entry_price", "exit_price") if trade[name] is not None)
    what = f"{trade['id']} {shown(trade['quantity'])} {trade['symbol']} {trade['strategy'] or '-'} {prices}"
    if trade["status"] != "CLOSED":
        return f"{what} {trade['status']}"
    return f"{what} {trade['exit_reason'] or 'unknown'} {signed(trade['realized_pnl'])} USD"


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
        said = "".join(f"  {text:>{width}}" for text, width in zip(texts, widths, strict=True))
        echo(f"{name:<{first}}  {blocks:<{middle}}{said}")
