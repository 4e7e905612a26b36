"""The command that shows how the broker and this pipeline serve."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tradier_pipeline import clock
from tradier_pipeline.cli import screen
from tradier_pipeline.cli.options import ONLY_ACCOUNT, between, table
from tradier_pipeline.cli.output import echo, print_query, with_settings

if TYPE_CHECKING:
    from tradier_pipeline.core.settings import Settings

DAYS = 30
MOST_SPANS = 5


@click.command()
@ONLY_ACCOUNT
@click.option(
    "--table",
    "which",
    type=click.Choice(["latency", "doubt", "levels"]),
    default="latency",
    help="With --format or --output: which of the three.",
)
@between(f"First trade date. Default: {DAYS} days ago.", "Last trade date.")
@table
@with_settings
def broker(
    settings: Settings,
    account: str | None,
    which: str,
    since: datetime | None,
    until: datetime | None,
    form: str,
    output: Path | None,
) -> None:
    """How the broker serves - latency, retries, doubt - and the service levels that history reaches."""
    from tradier_pipeline.warehouse import service
    from tradier_pipeline.warehouse.reads import connect_readonly, require_account, require_current, rows_of

    first = since.date() if since else clock.trade_date(clock.now()) - timedelta(days=DAYS)
    last = until.date() if until else None
    queries = {
        "latency": service.latency_query(account, first, last),
        "doubt": service.spans_query(account, first, last),
        "levels": service.levels_query(account),
    }
    with connect_readonly(settings.warehouse) as connection:
        require_current(connection)
        require_account(connection, account, settings.accounts or ())
        if form != "text" or output:
            print_query(connection, queries[which], form, output)
            return
        latency, spans, levels = (rows_of(connection, query) for query in queries.values())
    _print_latency(latency)
    _print_spans(spans)
    _print_levels(levels)


def _print_latency(found: list[dict[str, Any]]) -> None:
    from tradier_pipeline.cli.tables import print_rows_of

    if not found:
        echo("nothing was read of the broker over these dates")
        return
    milliseconds = ("median_ms", "p95_ms", "worst_ms")
    whole = [row | {name: f"{row[name]:,.0f}" for name in milliseconds} for row in found]
    columns = {"resource": "resource", "reads": "reads", "retries": "retries", "median_ms": "median ms"}
    columns |= {"p95_ms": "p95 ms", "worst_ms": "worst ms", "account_id": "account"}
    print_rows_of(whole, columns)


def _print_spans(found: list[dict[str, Any]]) -> None:
    count = screen.plural(len(found), "time")
    echo(f"in doubt: {count}" if found else "in doubt: never")
    worst = sorted(found, key=lambda row: -(row["seconds"] or float("inf")))[:MOST_SPANS]
    for row in worst:
        began = row["since"].astimezone(clock.NEW_YORK)
        took = "still" if row["seconds"] is None else f"{row['seconds'] / 60:,.1f} min"
        snapshots = screen.plural(row["snapshots"], "snapshot")
        echo(f"  {began:%Y-%m-%d %H:%M} New York, {took}, {snapshots}: {row['evidence']}")


def _print_levels(found: list[dict[str, Any]]) -> None:
    from tradier_pipeline.cli.tables import print_rows_of

    shown = [
        {
            "service": row["service"],
            "window": row["window"],
            "objective": f"{row['objective']:.1%}",
            "reached": "-" if row["reached"] is None else f"{row['reached']:.2%}",
            "budget_left": "-" if row["budget_left"] is None else f"{row['budget_left']:.0%}",
            "burn_rate": "-" if row["burn_rate"] is None else f"{row['burn_rate']:.1f}",
            "account_id": row["account_id"],
        }
        for row in found
    ]
    columns = {"service": "service", "window": "window", "objective": "objective", "reached": "reached"}
    columns |= {"budget_left": "budget left", "burn_rate": "burn rate", "account_id": "account"}
    if shown:
        print_rows_of(shown, columns)
