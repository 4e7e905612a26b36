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
    type=click.Choice(["latency", "hours", "lags", "restated", "doubt", "levels"]),
    default="latency",
    help="With --format or --output: which of them.",
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
    """How the broker serves - latency, failures, lags, restated values, doubt - and the service levels of history."""
    from tradier_pipeline.warehouse import service
    from tradier_pipeline.warehouse.reads import connect_readonly, require_account, require_current
    from tradier_pipeline.warehouse.sql import rows_of

    first = since.date() if since else clock.trade_date(clock.now()) - timedelta(days=DAYS)
    last = until.date() if until else None
    queries = {
        "latency": service.latency_query(account, first, last),
        "hours": service.latency_query(account, first, last, "hour"),
        "lags": service.lags_query(account, first, last),
        "restated": service.restated_query(account, first, last),
        "doubt": service.spans_query(account, first, last),
        "levels": service.levels_query(account),
    }
    with connect_readonly(settings.warehouse) as connection:
        require_current(connection)
        require_account(connection, account, settings.accounts or ())
        if form != "text" or output:
            print_query(connection, queries[which], form, output)
            return
        latency, hours, lags, restated, spans, levels = (rows_of(connection, query) for query in queries.values())
    _print_latency(latency, "resource")
    _print_latency(hours, "hour")
    _print_room(settings, account)
    _print_lags(lags)
    _print_restated(restated)
    _print_spans(spans)
    _print_levels(levels)


def _print_latency(found: list[dict[str, Any]], by: str) -> None:
    from tradier_pipeline.cli.tables import print_rows_of

    if not found:
        if by == "resource":
            echo("nothing was read of the broker over these dates")
        return
    milliseconds = ("median_ms", "p95_ms", "worst_ms")
    whole = [
        row
        | {name: "-" if row[name] is None else f"{row[name]:,.0f}" for name in milliseconds}
        | {by: "-" if row[by] is None else f"{row[by]:02}:00" if by == "hour" else row[by]}
        for row in found
    ]
    columns = {by: by, "reads": "reads", "retries": "retries", "failures": "failures", "median_ms": "median ms"}
    columns |= {"p95_ms": "p95 ms", "worst_ms": "worst ms", "account_id": "account"}
    print_rows_of(whole, columns)


def _print_room(settings: Settings, account: str | None) -> None:
    """How many requests the broker still allowed when it answered the newest snapshot of each account."""
    from tradier_pipeline.landing.zone import LandingZone
    from tradier_pipeline.monitoring.status import request_budget

    zone = LandingZone(settings.landing)
    for one in [account] if account else zone.accounts():
        budget = request_budget(next(zone.latest(one), None))
        if budget:
            echo(f"rate limit: {budget.available:,} of {budget.allowed:,} requests a minute were left to {one}")


def _print_lags(found: list[dict[str, Any]]) -> None:
    if not found:
        echo("behind fills: never")
    for row in found:
        lasted = ", ".join(
            f"{name} {_seconds(row[key])}"
            for name, key in (("median", "median_s"), ("p95", "p95_s"), ("worst", "worst_s"))
        )
        still = f", {row['going_on']} of them still" if row["going_on"] else ""
        times = screen.plural(row["times"], "time")
        echo(f"behind fills: {row['resource']} of {row['account_id']} {times}, {lasted}{still}")


def _print_restated(found: list[dict[str, Any]]) -> None:
    if not found:
        echo("restated: nothing")
    for row in found:
        what = f"{row['source']} {row['reason']} {screen.plural(row['changes'], 'time')}"
        late = screen.plural(row["days_late"], "day")
        echo(f"restated: {what}, up to {screen.money(row['largest'])} USD, up to {late} later ({row['account_id']})")


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} s"


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
