"""The command `returns`: periods, months and years beside a benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tradier_pipeline.cli.as_known import with_settings_as_known
from tradier_pipeline.cli.options import BENCHMARK, JSON, ONLY_ACCOUNT, between, table
from tradier_pipeline.cli.output import (
    echo,
    print_json,
    print_query,
    signed,
)
from tradier_pipeline.cli.tables import print_lines

if TYPE_CHECKING:
    import duckdb

    from tradier_pipeline.core.settings import Settings
    from tradier_pipeline.domain.returns import Figures, Rate
    from tradier_pipeline.warehouse.statements import Period


@click.command()
@ONLY_ACCOUNT
@between("First session of one period instead of the usual ones.", "Last session of it.")
@click.option(
    "--by", type=click.Choice(["month", "quarter", "year"]), help="One row per what, instead of the usual periods."
)
@click.option("--table", "as_table", is_flag=True, help="One row per year, with its months beside each other.")
@click.option("--total", is_flag=True, help="With --by or --table: all accounts of each environment as one.")
@BENCHMARK
@table
@JSON
@with_settings_as_known
def returns(
    settings: Settings,
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
    from tradier_pipeline.lake.reads import connect_history
    from tradier_pipeline.warehouse.reads import require_prices

    symbol = settings.benchmark if benchmark is None else benchmark.strip().upper()
    asked = (account, since.date() if since else None, until.date() if until else None)
    if total and (account or not (by or as_table)):
        raise click.UsageError("--total is of all accounts, with --by or --table")
    if (form != "text" or output) and not (by or as_table):
        raise click.UsageError("--format and --output are those of --by and --table; see --json")
    form = "json" if as_json and form == "text" else form
    with connect_history(settings) as connection:
        if benchmark and symbol:
            require_prices(connection, symbol)
        if by or as_table:
            accounts = settings.accounts or ()
            _print_returns_by(
                connection, by, asked, symbol, accounts, total=total, as_table=as_table, form=form, output=output
            )
        else:
            _print_periods(connection, asked, symbol, as_json=as_json)


def _print_returns_by(
    connection: duckdb.DuckDBPyConnection,
    by: Period | None,
    asked: tuple[str | None, date | None, date | None],
    symbol: str,
    accounts: Sequence[str],
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
    require_account(connection, asked[0], accounts)
    key = "environment" if total else "account_id"
    months = returns_query("month" if as_table else by or "month", *asked, benchmark=symbol, total=total)
    if form != "text" or output:
        query = table_query(*asked, benchmark=symbol, total=total) if as_table else months
        print_query(connection, query, form, output)
        return
    notes = connection.execute(notes_query(months, by or "month", key)).fetchall()
    print_query(connection, table_in_text(months, key) if as_table else in_text(months), form, output)
    for note in notes:
        echo("* {}, {}: {}".format(*note))


def _print_periods(
    connection: duckdb.DuckDBPyConnection,
    asked: tuple[str | None, date | None, date | None],
    symbol: str,
    *,
    as_json: bool,
) -> None:
    """The usual periods, or the one that is asked for."""
    from tradier_pipeline.domain.returns import figures, standard_periods
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
                echo(f"  the newest days wait for {', '.join(f'{one} since {day}' for one, day in waiting.items())}")
    if as_json:
        waits = {name: _waiting(rows) for name, rows in curves.items()}
        print_json({"returns": [one | {"waits_for": waits[one["account_id"]]} for one in _returns_document(documents)]})
    elif not curves:
        echo("no account has an equity at the close of a session yet")


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
        echo(f"{account_id}: no two closes are known that a return could be measured between")
        return
    money = ("start", "deposits", "withdrawals", "p/l", "end")
    lines: list[tuple[str, ...]] = [("", "from", "to", *money, "time-weighted", "money-weighted", "drawdown")]
    for period, one in periods.items():
        mark = " *" if one.gaps or one.provisional or one.uncertain or one.notes else ""
        name = f"{period} (since it began)" if one.since_it_began else period
        amounts = [f"{amount:,.2f}" for amount in (one.start, one.deposits, one.withdrawals, one.pnl, one.end)]
        rates = (_percent(one.time_weighted), _percent(one.money_weighted))
        lines.append((f"{name}{mark}", str(one.since), str(one.until), *amounts, *rates, _ratio(one.max_drawdown)))
    echo(account_id)
    print_lines(lines, "  ", last=("end", "start", "to", "from", "deposits", "withdrawals", "money-weighted"))
    if doubts := _doubts(tuple(periods.values())):
        echo(f"  {'; '.join(doubts)}")
    for line in dict.fromkeys(line for one in periods.values() for line in _marks(one)):
        echo(f"  * {line}")
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
        echo("  of the daily returns, by 252 sessions a year, risk-free rate 0")
        print_lines(lines, "    ")
    lacking = [f"no sharpe ratio: {one.risk_reason}" for one in periods.values() if one.risk_reason]
    compared = [one.benchmark for one in periods.values() if one.benchmark]
    lacking += [f"no return of {one.symbol}: {one.reason}" for one in compared if one.reason]
    for line in dict.fromkeys(lacking):
        echo(f"  {line}")


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
    for day in one.confirmed:
        yield f"{day} counts as the broker reports it: the owner states that nothing else came or left"
    if one.stated:
        yield f"{signed(one.stated)} USD of deposits less withdrawals are stated by the owner"
