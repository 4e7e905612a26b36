"""Commands that take snapshots, prove them, and read the past."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tradier_pipeline.cli import screen
from tradier_pipeline.cli.options import ACCOUNT, BENCHMARK, DAY, JSON, ONLY_ACCOUNT, table
from tradier_pipeline.cli.output import (
    checks_document,
    echo,
    print_checks,
    print_error,
    print_json,
    print_rows,
    report_errors,
    warn,
    with_settings,
    without_dagsters_lines,
)
from tradier_pipeline.cli.progress import shown
from tradier_pipeline.core import collector, progress
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.ledger.records import REASONS, Reason
from tradier_pipeline.warehouse.schema import BIGINT, BOOLEAN, VARCHAR

if TYPE_CHECKING:
    from tradier_pipeline.cycles.on_demand import SnapshotRun
    from tradier_pipeline.extract.connection import Brokers
    from tradier_pipeline.publish.backfill import Backfilled
    from tradier_pipeline.publish.published_snapshot import TradierSnapshot


@click.command()
@ACCOUNT
@click.option("--verbose", "-v", is_flag=True, help="Every rule that was checked, not only those that do not hold.")
@JSON
@with_settings
def snapshot(settings: Settings, account: str | None, verbose: bool, as_json: bool) -> int:
    """Take a snapshot of every configured account now, and prove it. Exit code 0 only if all were published.

    With --json and several accounts, the document is {"snapshots": [...]}.
    """
    if not as_json:
        echo(settings.identity, flush=True)
    begins = settings.is_embedded and not settings.warehouse.exists()
    with shown(steps=not as_json):
        progress.working("starting")
        with collector.paused():
            from tradier_pipeline.cycles.on_demand import read_published, take_snapshots
            from tradier_pipeline.cycles.snapshot_job import snapshot_job
        with without_dagsters_lines():
            runs = take_snapshots(snapshot_job, settings, account, trigger="manual")
        if begins:
            _read_demo_past(settings, [run.snapshot_id.account_id for run in runs if run.published])
    if len(runs) == 1:
        runs[0].raise_unless_published()
    taken = {run.snapshot_id: read_published(settings, run) for run in runs if run.published}
    for run in runs:
        if run.caught_up:
            warn(run.caught_up)
        if run.history_error:
            warn(f"the run history lacks {run.snapshot_id}: {run.history_error}")
    if as_json:
        documents = [
            _snapshot_document(taken[run.snapshot_id], settings.of_account(run.snapshot_id.account_id))
            if run.published
            else _failure_document(run)
            for run in runs
        ]
        print_json(documents[0] if len(runs) == 1 else {"snapshots": documents})
    else:
        for run in runs:
            echo()
            if len(runs) > 1:
                echo(run.snapshot_id.account_id)
            if run.published:
                _print_snapshot(settings, taken[run.snapshot_id], verbose=verbose)
            else:
                echo(f"snapshot   {run.snapshot_id}: not published")
                print_error(run.error, as_json=False)
        echo()
        _print_next()
    return 0 if len(taken) == len(runs) else 1


def _read_demo_past(settings: Settings, accounts: Sequence[str]) -> None:
    """The past weeks of the embedded simulated broker, once, in a new home: returns and reports are there at once.

    That of a real account is years; `backfill` reads it when its owner wants it. What fails costs no snapshot.
    """
    from tradier_pipeline.extract.connection import connect_each
    from tradier_pipeline.publish.backfill import backfill as read_past
    from tradier_pipeline.publish.backfill import backfill_prices
    from tradier_pipeline.publish.dividends import publish_dividends

    if not accounts:
        return
    started = time.monotonic()
    try:
        with connect_each(settings) as brokers:
            done = [read_past(settings, brokers.of_account(account), account) for account in accounts]
            since = min(one.since for one in done)
            if settings.benchmark:
                brokers.of_any_token(lambda broker: backfill_prices(settings, broker, settings.benchmark, since))
            publish_dividends(settings, brokers)
    except PipelineError as error:
        warn(f"tradier-pipeline: warning: the past was not read: {error}")
        return
    rows = sum(kept.rows for one in done for kept in one.kept.values())
    progress.step("past", f"since {since}: {rows:,} events, closed lots, values", started)


@click.command()
@click.option("--reason", type=click.Choice(REASONS), required=True)
@ACCOUNT
@click.option("--order-id", metavar="ID", help="The order or trade that it is about.")
@click.option("--note", metavar="TEXT", help="More, in words.")
@JSON
@report_errors
def request(reason: Reason, account: str | None, order_id: str | None, note: str | None, as_json: bool) -> None:
    """Ask for a snapshot and do not wait for it. While `up` runs it is taken within seconds."""
    from tradier_pipeline.api import request_snapshot

    requests = request_snapshot(account, reason=reason, order_id=order_id, note=note)
    if as_json:
        written = {"request_id", "account_id", "reason", "order_id", "note", "requested_at"}
        print_json({"requests": [request.model_dump(include=written) for request in requests]})
        return
    for one in requests:
        echo(f"request {one.request_id} for {one.account_id}")


@click.command()
@click.argument("snapshots", nargs=-1, metavar="[SNAPSHOT]...")
@click.option("--all", "everything", is_flag=True, help="Every published snapshot.")
@ONLY_ACCOUNT
@table
@JSON
@with_settings
def verify(
    settings: Settings,
    snapshots: tuple[str, ...],
    everything: bool,
    account: str | None,
    form: str,
    output: Path | None,
    as_json: bool,
) -> int:
    """Prove published snapshots again: stored rows against landed bytes. Default: the newest of each account.

    A snapshot that is landed but was never published is tried on a copy. Exit code 1 if a blocking check fails.
    """
    from tradier_pipeline.publish.reverify import reverify

    results = reverify(settings, snapshots, account_id=account, everything=everything)
    failed = 0
    as_rows = form != "text" or output is not None
    rows: list[dict[str, Any]] = []
    documents: list[dict[str, Any]] = []
    with shown() as clear:
        for result in results:
            blocked = any(outcome.blocks for outcome in result.outcomes)
            failed += blocked
            documents.append(
                {"snapshot_id": result.snapshot_id, "published": result.published, "passed": not blocked}
                | {"checks": checks_document(result.outcomes)}
            )
            of_snapshot = {"snapshot_id": str(result.snapshot_id), "published": result.published}
            rows += [of_snapshot | one | {"severity": str(one["severity"])} for one in documents[-1]["checks"]]
            if not (as_json or as_rows):
                clear()
                verdict = "FAILED" if blocked else "verified"
                echo(f"{result.snapshot_id}: {verdict}{'' if result.published else ' (never published)'}")
                print_checks([outcome for outcome in result.outcomes if not everything or not outcome.passed])
    if as_rows:
        columns = {"snapshot_id": VARCHAR, "published": BOOLEAN, "check": VARCHAR, "severity": VARCHAR}
        columns |= {"passed": BOOLEAN, "broker": VARCHAR, "stored": VARCHAR, "differing": BIGINT}
        print_rows(columns, rows, form, output)
    elif as_json:
        print_json({"snapshots": documents})
    return 1 if failed else 0


@click.command()
@click.option("--forget", is_flag=True, help="Go on although published snapshots are lost by it.")
@JSON
@with_settings
def rebuild(settings: Settings, forget: bool, as_json: bool) -> int:
    """Write the warehouse anew from the landing zone alone. Readers keep the old one until the new one is whole."""
    from dataclasses import asdict

    from tradier_pipeline.domain.gate import GateRules
    from tradier_pipeline.landing.zone import LandingZone
    from tradier_pipeline.ledger.store import Ledger
    from tradier_pipeline.publish.stated_flows import stated_rows
    from tradier_pipeline.publish.store import rebuild as rebuild_warehouse
    from tradier_pipeline.warehouse.staging import Warehouse

    with shown():
        rebuilt = rebuild_warehouse(
            Warehouse(settings.warehouse),
            LandingZone(settings.landing),
            lambda _: None,
            GateRules.of(settings),
            forget=forget,
            stated=stated_rows(Ledger(settings.ledger)),
        )
    if as_json:
        print_json(asdict(rebuilt))
    else:
        extracts = screen.plural(rebuilt.activity, "extract of the activity", "extracts of the activity")
        activity = f", {extracts}" if rebuilt.activity else ""
        echo(f"{settings.warehouse}: {screen.plural(rebuilt.published, 'snapshot')}{activity}")
        for reason in rebuilt.refused.values():
            echo(f"  left out: {reason}")
        if rebuilt.kept_rows:
            kept = screen.plural(rebuilt.kept_rows, "snapshot")
            echo(f"  kept from the old file: {kept} whose landed bytes are damaged")
        if not rebuilt.kept_findings:
            echo(
                "  lost: findings, daily summaries or what the ledger led to, as far as the old file cannot be read; "
                f"it is kept as {rebuilt.kept_as}"
            )
    return 0


@click.command()
@ACCOUNT
@click.option("--since", type=DAY, help="First date. Default: when the account was opened.")
@BENCHMARK
@JSON
@with_settings
def backfill(
    settings: Settings, account: str | None, since: datetime | None, benchmark: str | None, as_json: bool
) -> int:
    """Read all that the broker still reports of the past until yesterday. Exit code 0 only if it was published.

    History (not in the sandbox), gain and loss, daily values: in one extract for each account. Then the daily prices of
    the benchmark over the same dates; if these cannot be read, it is a warning. The same day again replays it.
    """
    from tradier_pipeline.extract.connection import accounts_to_read, connect_each
    from tradier_pipeline.publish.backfill import backfill as read_past

    accounts = (account,) if account else accounts_to_read(settings)
    documents: list[dict[str, Any]] = []
    prices: dict[str, Any] | None = None
    with connect_each(settings) as brokers:
        for account_id in accounts:
            try:
                broker = brokers.of_account(account_id)
                with shown():
                    done = read_past(settings, broker, account_id, since.date() if since else None)
            except PipelineError as error:
                if len(accounts) == 1:
                    raise
                failed = {"cause": error.cause, "remedy": error.remedy}
                documents.append({"account": account_id, "published": False, "error": failed})
                print_error(error, as_json=False)
            else:
                documents.append(_backfilled_document(done))
                if not as_json:
                    _print_backfilled(done)
        begins = [document["since"] for document in documents if document["published"]]
        symbol = settings.benchmark if benchmark is None else benchmark.strip().upper()
        if symbol and begins:
            prices = _backfilled_prices(settings, brokers, symbol, min(begins))
    if as_json:
        print_json({"accounts": documents, "benchmark": prices})
    elif prices:
        _print_backfilled_prices(prices)
    return 0 if all(document["published"] for document in documents) else 1


def _backfilled_prices(settings: Settings, brokers: Brokers, symbol: str, since: date) -> dict[str, Any]:
    """What was read of the benchmark. That it could not be read keeps nothing of an account from being published."""
    from dataclasses import asdict

    from tradier_pipeline.publish.backfill import backfill_prices

    try:
        with shown():
            done = brokers.of_any_token(lambda broker: backfill_prices(settings, broker, symbol, since))
    except PipelineError as error:
        return {"symbol": symbol, "published": False, "error": {"cause": error.cause, "remedy": error.remedy}}
    return asdict(done) | {"published": True, "warnings": [done.warning] if done.warning else []}


def _print_backfilled_prices(prices: dict[str, Any]) -> None:
    if not prices["published"]:
        echo(f"{prices['symbol']}  warning: not read: {prices['error']['cause']}")
        return
    echo(f"{prices['symbol']}  {prices['days']:,} daily prices, {prices['since']} to {prices['until']}")
    for warning in prices["warnings"]:
        echo(f"  warning: {warning}")


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
    echo(f"{done.account_id}  {done.since} to {done.until}")
    for resource, kept in done.kept.items():
        dates = f", {kept.first} to {kept.last}" if kept.first else ""
        echo(f"  {resource:<20}{kept.rows:>8,} rows, {kept.new:,} new{dates}")
    if "history" in done.kept:
        echo(f"  {'deposits':<20}{done.deposits:>18,.2f} USD")
        echo(f"  {'withdrawals':<20}{done.withdrawals:>18,.2f} USD")
    for warning in done.warnings:
        echo(f"  warning: {warning}")


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
        "checks": checks_document(taken.checks),
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
        "checks": checks_document(run.outcomes),
    }


def _four_balances(taken: TradierSnapshot) -> dict[str, Decimal]:
    return {
        "equity": taken.balances.total_equity,
        "cash": taken.balances.total_cash,
        "buying_power": taken.balances.buying_power,
        "margin_requirement": taken.balances.current_requirement,
    }


def _print_snapshot(settings: Settings, taken: TradierSnapshot, *, verbose: bool) -> None:
    from tradier_pipeline.cli.glance import print_glance
    from tradier_pipeline.warehouse.at_a_glance import at_a_glance
    from tradier_pipeline.warehouse.reads import connect_readonly

    with connect_readonly(settings.warehouse) as connection:
        glance = at_a_glance(connection, taken.snapshot_id, taken.as_of)
    print_glance(taken, glance, verbose=verbose)


def _print_next() -> None:
    """What to type next, as it must be typed here."""
    command = screen.command()
    for typed, what in (
        (f"{command} today", "the day; also: portfolio, spreads"),
        (f"{command} report --open", "all of it, in the browser"),
        ("make up", "one every minute, http://127.0.0.1:3000"),
    ):
        echo(f"{typed:<41} {what}")
