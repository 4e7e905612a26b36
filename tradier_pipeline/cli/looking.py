"""Commands that show what is held, ordered and traded now, and what the tables mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tradier_pipeline.cli import screen
from tradier_pipeline.cli.as_known import with_settings_as_known
from tradier_pipeline.cli.options import ONLY_ACCOUNT, between, table
from tradier_pipeline.cli.output import print_query, print_rows, styled, warn, with_settings
from tradier_pipeline.warehouse.schema import DATE, DECIMAL, INSTANT, INTEGER, VARCHAR

if TYPE_CHECKING:
    import duckdb

    from tradier_pipeline.core.settings import Settings

MOST_IDS = 3  # of orders that were refused for one reason

Asked = Callable[["duckdb.DuckDBPyConnection"], str]
Shown = Callable[["list[dict[str, Any]]"], None]


@click.command()
@ONLY_ACCOUNT
@table
@with_settings_as_known
def portfolio(settings: Settings, account: str | None, form: str, output: Path | None) -> None:
    """What is held now: every position with its mark, value and profit, in USD."""
    from tradier_pipeline.warehouse.now import positions_query

    asked = partial(positions_query, account_id=account)
    _show(settings, account, asked, form, output, _print_positions, "nothing is held")


@click.command()
@ONLY_ACCOUNT
@table
@with_settings_as_known
def spreads(settings: Settings, account: str | None, form: str, output: Path | None) -> None:
    """The option spreads that are held now, with profit, days to expiration and the distance to the short strike."""
    from tradier_pipeline.warehouse.now import spreads_query

    asked = partial(spreads_query, account_id=account)
    _show(settings, account, asked, form, output, _print_spreads, "no option spreads are held")


@click.command()
@ONLY_ACCOUNT
@between("First trade date. Default: the newest only.", "Last trade date.")
@table
@with_settings_as_known
def orders(
    settings: Settings,
    account: str | None,
    since: datetime | None,
    until: datetime | None,
    form: str,
    output: Path | None,
) -> None:
    """The orders as they were seen last, the newest first."""
    from tradier_pipeline.warehouse.now import orders_query

    first, last = (moment.date() if moment else None for moment in (since, until))
    asked = partial(orders_query, account_id=account, since=first, until=last)
    _show(settings, account, asked, form, output, _print_orders, "no orders")


@click.command()
@ONLY_ACCOUNT
@click.option("--all", "everything", is_flag=True, help="Those that have ended, too, with what they realized.")
@table
@with_settings
def trades(settings: Settings, account: str | None, everything: bool, form: str, output: Path | None) -> None:
    """The trades of the ledger, each with its unrealized profit in USD."""
    from tradier_pipeline.ledger.store import Ledger
    from tradier_pipeline.publish.trades import trades_now
    from tradier_pipeline.warehouse.reads import connect_readonly, require_account

    with connect_readonly(settings.warehouse) as connection:
        require_account(connection, account, settings.accounts or ())
        rows = trades_now(Ledger(settings.ledger), connection, account, everything=everything)
    if form != "text" or output:
        texts = {"trade_id": VARCHAR, "account_id": VARCHAR, "symbol": VARCHAR, "strategy": VARCHAR, "status": VARCHAR}
        figures = {"quantity": DECIMAL, "expiration": DATE, "entry_price": DECIMAL, "unrealized_pnl": DECIMAL}
        ended = {"exit_price": DECIMAL, "exit_reason": VARCHAR, "realized_pnl": DECIMAL}
        times = {"opened_at": INSTANT, "closed_at": INSTANT, "contracts": VARCHAR}
        print_rows(texts | figures | {"days_left": INTEGER} | ended | times, rows, form, output)
        return
    if not rows:
        warn("no trades in the ledger" if everything else "no open trades in the ledger; --all shows those that ended")
        return
    _print_trades(rows, everything=everything)


@click.command()
@table
@with_settings
def tables(settings: Settings, form: str, output: Path | None) -> None:
    """The tables and views of the history, and what a row of each is."""
    from tradier_pipeline.lake.reads import connect_history
    from tradier_pipeline.warehouse.listing import TABLES_IN_TEXT, TABLES_QUERY

    with connect_history(settings) as connection:
        print_query(connection, TABLES_IN_TEXT if form == "text" else TABLES_QUERY, form, output)


@click.command()
@click.argument("name", metavar="TABLE")
@table
@with_settings
def describe(settings: Settings, name: str, form: str, output: Path | None) -> None:
    """The columns of a table or view: their types, units and meaning."""
    from tradier_pipeline.lake.reads import connect_history
    from tradier_pipeline.warehouse.listing import columns_query, comment_of

    with connect_history(settings) as connection:
        comment = comment_of(connection, name)
        if form == "text":
            styled(screen.bold(name))
            styled("\n".join(screen.wrapped(comment)))
        print_query(connection, columns_query(name, of_lake=settings.read == "lake"), form, output)


def _show(
    settings: Settings, account: str | None, asked: Asked, form: str, output: Path | None, show: Shown, nothing: str
) -> None:
    """Print the rows of a query of the warehouse: for people by `show`, else every row and column."""
    from tradier_pipeline.lake.reads import connect_history
    from tradier_pipeline.warehouse.reads import require_account
    from tradier_pipeline.warehouse.sql import rows_of

    with connect_history(settings) as connection:
        require_account(connection, account, settings.accounts or ())
        if form != "text" or output:
            print_query(connection, asked(connection), form, output)
            return
        rows = rows_of(connection, asked(connection))
        as_of = _newest(connection, account)
    if not rows:
        warn(nothing)
        return
    show(rows)
    styled(screen.dim(f"as of {as_of}"))


def _newest(connection: duckdb.DuckDBPyConnection, account: str | None) -> str:
    """When the newest snapshots were read, for a line under what they show."""
    from tradier_pipeline.warehouse.reads import newest_as_of

    moments = [moment for name, moment in newest_as_of(connection).items() if account in (None, name)]
    return f"{screen.when(min(moments))} New York" if moments else "never"


def _accounts(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The column of the account, where there are several."""
    return {"account_id": "account"} if len({row["account_id"] for row in rows}) > 1 else {}


def contract(row: dict[str, Any]) -> str:
    """A position as a trader calls it: `SPX Dec 04 6725 put`, or the symbol."""
    if row["expiration"] is None or row["strike"] is None:
        return str(row["symbol"])
    strike = screen.quantity(row["strike"])
    root = row["root"] if row["root"] != row["underlying"] else ""
    return " ".join(filter(None, (row["underlying"], screen.day(row["expiration"]), strike, row["option_type"], root)))


def _total(rows: Sequence[dict[str, Any]], key: str) -> Decimal | None:
    amounts = [row[key] for row in rows]
    return None if None in amounts else sum(amounts, Decimal(0))


def _print_positions(rows: list[dict[str, Any]]) -> None:
    from tradier_pipeline.cli.tables import print_rows_of

    shown = [
        row
        | {
            "what": contract(row),
            "days": _days(row["expiration"], row["trade_date"]),
            "weight": _percent(row["weight"]),
        }
        for row in rows
    ]
    environments = sorted({row["environment"] or "" for row in rows})
    for environment in environments:  # money of one is never added to another's
        of_one = [row for row in rows if (row["environment"] or "") == environment]
        shown.append(
            dict.fromkeys(shown[0])
            | {"what": "total" if len(environments) == 1 else f"total {environment}"}
            | {"account_id": "", "quantity": "", "days": ""}
            | {key: _total(of_one, key) for key in ("market_value", "unrealized_pl")}
            | {"weight": _percent(_weight(of_one))}
        )
    figures = {"quantity": "quantity", "mark": "mark", "market_value": "value", "unrealized_pl": "profit"}
    beside = {"days": "days", "weight": "weight"} | _accounts(rows)
    print_rows_of(shown, {"what": "position"} | figures | beside, profits=["unrealized_pl"])


def _weight(rows: Sequence[dict[str, Any]]) -> float | None:
    """Of all positions in the equity; of several accounts there is none."""
    weights = [row["weight"] for row in rows]
    return None if None in weights or _accounts(rows) else sum(weights)


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{round(ratio, 3) + 0:.1%}"  # + 0: no -0.0 %


def _days(expiration: date | None, today: date) -> int | None:
    return None if expiration is None else (expiration - today).days


def _print_spreads(rows: list[dict[str, Any]]) -> None:
    from tradier_pipeline.cli.glance import spread_name
    from tradier_pipeline.cli.tables import print_rows_of

    shown = [row | {"what": spread_name(row)} for row in rows]
    figures = {"quantity": "qty", "unrealized_pl": "profit", "captured": "of max", "days_left": "days"}
    beside = {"distance_ratio": "distance", "entry_price": "entry", "close_price": "now", "max_loss": "risk"}
    more = {"underlying_price": "underlying", "break_even_low": "break-even", "break_even_high": "break-even above"}
    columns = {"what": "spread"} | figures | beside | more | _accounts(rows)
    print_rows_of(shown, columns, profits=["unrealized_pl"])


def _print_orders(rows: list[dict[str, Any]]) -> None:
    from tradier_pipeline.cli.grouped import grouped
    from tradier_pipeline.cli.tables import print_note, print_rows_of

    shown = [
        row
        | {"at": screen.when(row["create_date"], seconds=False)[5:], "what": _order(row)}
        | {"filled_quantity": row["exec_quantity"], "order_id": str(row["order_id"])}
        | {"avg_fill_price": row["avg_fill_price"] if row["exec_quantity"] else None}
        for row in rows
    ]
    figures = {"quantity": "qty", "filled_quantity": "filled", "price": "limit", "avg_fill_price": "fill"}
    columns = {"at": "placed", "what": "order", "status": "status"} | figures | {"duration": "until", "tag": "tag"}
    print_rows_of(shown, columns | {"order_id": "id"} | _accounts(rows))
    refused = [row for row in rows if row["reason"]]
    for group in grouped(refused, lambda row: (row["status"], row["reason"])):
        ids = ", ".join(str(row["order_id"]) for row in group[:MOST_IDS])
        more = f" and {len(group) - MOST_IDS} more" if len(group) > MOST_IDS else ""
        print_note(f"{group[0]['status']} {ids}{more}: {group[0]['reason']}")


def _order(row: dict[str, Any]) -> str:
    """Such as `sell to open SPY`, or `credit spread SPX`."""
    side = row["side"] or row["type"] or row["class"]
    kind = row["class"] if row["side"] is None and row["class"] not in ("equity", "option") else ""
    return " ".join(filter(None, (str(side).replace("_", " "), kind, row["option_symbol"] or row["symbol"])))


def _print_trades(rows: list[dict[str, Any]], *, everything: bool) -> None:
    from tradier_pipeline.cli.tables import print_rows_of

    shown = [
        row
        | {
            "what": " ".join(filter(None, (row["symbol"], (row["strategy"] or "").replace("_", " ")))),
            "opened": screen.when(row["opened_at"], seconds=False)[5:],
            "until": screen.day(row["expiration"]) if row["expiration"] else None,
        }
        for row in rows
    ]
    realized = {"realized_pnl": "realized"} if everything else {}
    columns = {"what": "trade", "quantity": "qty", "unrealized_pnl": "unrealized"} | realized
    columns |= {"status": "status", "days_left": "days", "entry_price": "entry"}
    columns |= {"exit_price": "exit", "exit_reason": "exit by"} if everything else {}
    columns |= {"until": "expires", "opened": "opened"} | _accounts(rows) | {"trade_id": "id"}
    print_rows_of(shown, columns, profits=["unrealized_pnl", "realized_pnl"])
    lacking = sum(row["unrealized_pnl"] is None and row["status"] in ("OPEN", "CLOSING_PENDING") for row in rows)
    if lacking:
        trades_are = screen.plural(lacking, "trade is", "trades are")
        styled(f"{trades_are} open and of unknown profit: see `tradier-pipeline ledger diff`")
