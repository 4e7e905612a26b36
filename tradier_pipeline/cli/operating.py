"""Commands that run the pipeline and say how it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tradier_pipeline import clock
from tradier_pipeline.cli import screen
from tradier_pipeline.cli.as_known import with_settings_as_known
from tradier_pipeline.cli.grouped import grouped, joined
from tradier_pipeline.cli.options import ACCOUNT, JSON, ONLY_ACCOUNT, table
from tradier_pipeline.cli.output import (
    echo,
    print_json,
    print_query,
    print_rows,
    read_settings,
    report_errors,
    warn,
    with_settings,
)
from tradier_pipeline.cli.progress import shown
from tradier_pipeline.cli.snapshots import _identity
from tradier_pipeline.core.texts import lasting
from tradier_pipeline.warehouse.schema import BIGINT, BOOLEAN, DOUBLE, INSTANT, VARCHAR

if TYPE_CHECKING:
    from tradier_pipeline.broker.events import OrderEvent
    from tradier_pipeline.core.settings import Settings
    from tradier_pipeline.monitoring.status import AccountStatus


@click.command()
@ONLY_ACCOUNT
@table
@JSON
@with_settings
def status(settings: Settings, account: str | None, form: str, output: Path | None, as_json: bool) -> None:
    """Age of the last snapshot, failures, missed instants, disk use, request budget, waiting requests."""
    from tradier_pipeline.monitoring.status import read_status

    state = read_status(settings, account)
    if form == "text" and not output and not as_json:
        echo(settings.identity)
    if form != "text" or output:
        counts = {"snapshots": BIGINT, "failures_24h": BIGINT, "missed_24h": BIGINT}
        columns = {"account_id": VARCHAR, "environment": VARCHAR, "snapshot_id": VARCHAR, "as_of": INSTANT}
        columns |= {"age_s": DOUBLE, **counts, "not_published": VARCHAR, "last_failure": VARCHAR}
        rows = [{name: getattr(one, name) for name in columns} for one in state.accounts]
        print_rows(columns, rows, form, output)
        return
    if as_json:
        print_json(state.as_json() | _identity(settings))
        return
    for one in state.accounts:
        _print_account_status(one, state.warehouse_error)
    sizes = {
        "warehouse": state.warehouse_bytes,
        "sealed months": state.sealed_bytes,
        "landing zone": state.landing_bytes,
        "dagster": state.dagster_bytes,
    }
    echo(f"{state.home}: " + ", ".join(f"{name} {size / 1e6:,.1f} MB" for name, size in sizes.items()))
    if state.oldest_request_age_s is not None:
        age = lasting(state.oldest_request_age_s)
        echo(f"requests waiting for a snapshot: {state.waiting_requests}, the oldest for {age}")
    if state.requests_warning:
        echo(f"request limit: {state.requests_warning}")
    if state.warehouse_error:
        echo(f"published history: {state.warehouse_error}")
    if state.ledger_error:
        echo(f"ledger cannot be read: {state.ledger_error}")
    if state.switched_off:
        echo(f"switched off in the UI: {', '.join(state.switched_off)}; on again under Automation")
    if state.switches_error:
        echo(f"switched off: not known: {state.switches_error}")
    for damage in state.damaged:
        echo(f"passed over: {damage.reason}")


@click.command()
@ACCOUNT
@table
@JSON
@with_settings
def gate(settings: Settings, account: str | None, form: str, output: Path | None, as_json: bool) -> int:
    """Whether to trade now, and if not why. Exit code 0 only if every account asked for is ready."""
    from tradier_pipeline.domain.gate import reasons
    from tradier_pipeline.warehouse.reads import connect_readonly, require_account, trade_gates

    with connect_readonly(settings.warehouse) as connection:
        if form == "text" and not as_json:  # a program learns that it is not ready, and why
            require_account(connection, account, settings.accounts or ())
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
        print_rows(columns, [one | {"blockers": ", ".join(one["blockers"])} for one in documents], form, output)
    elif as_json:
        print_json({"ready": ready, "accounts": documents})
    for document in () if as_json or form != "text" or output else documents:
        why = "; ".join(f"{name} ({reason})" for name, reason in document["blockers"].items())
        echo(f"{document['account_id']}: {'ready' if document['ready'] else f'not ready: {why}'}")
    return 0 if ready else 1


@click.command()
@ONLY_ACCOUNT
@click.option("--all", "everything", is_flag=True, help="Resolved ones, too.")
@table
@JSON
@with_settings_as_known
def findings(
    settings: Settings, account: str | None, everything: bool, form: str, output: Path | None, as_json: bool
) -> None:
    """The open problems of the account and the ledger, the worst and oldest first, and what to do about each."""
    from tradier_pipeline.warehouse.reads import connect_readonly, findings_query, require_account
    from tradier_pipeline.warehouse.reads import findings as read_findings

    with connect_readonly(settings.warehouse) as connection:
        require_account(connection, account, settings.accounts or ())
        if form != "text" or output:
            print_query(connection, findings_query(account, resolved=everything), form, output)
            return
        found = read_findings(connection, account, resolved=everything)
    if as_json:
        print_json({"findings": found})
        return
    for rows in grouped(found, _kind):
        _print_findings(rows)
    if not found:
        echo("no findings" if everything else "no open findings")


@click.command()
@click.option(
    "--until", type=click.DateTime(["%Y-%m"]), metavar="YYYY-MM", help="The last month. Default: all that is old."
)
@click.option(
    "--repoint", is_flag=True, help="Find the files of a home that was moved. The next snapshot does it, too."
)
@click.option("--undo", is_flag=True, help="Bring the sealed months back into the warehouse.")
@JSON
@with_settings
def seal(settings: Settings, until: datetime | None, repoint: bool, undo: bool, as_json: bool) -> None:
    """Seal what is old: its rows become Parquet files, and the warehouse stays small. Nightly maintenance does.

    Nothing changes for readers. A week is sealed a week after its end, a file for each month; headers and balances are
    sealed by the month, two months after its end, a file for each year.
    """
    from dataclasses import asdict

    from tradier_pipeline.publish import seal as sealing
    from tradier_pipeline.warehouse.staging import Warehouse

    if sum((until is not None, repoint, undo)) > 1:
        raise click.UsageError("give one of --until, --repoint and --undo")
    warehouse = Warehouse(settings.warehouse)
    if repoint or undo:
        count = sealing.undo(warehouse) if undo else None
        moved = False if undo else warehouse.repoint()
        if as_json:
            print_json({"unsealed_months": count} if undo else {"moved": moved})
        elif undo:
            echo(f"{settings.warehouse}: {screen.plural(count or 0, 'month')} brought back")
        else:
            echo(f"{settings.warehouse}: {'the sealed months are found again' if moved else 'was not moved'}")
        return
    with shown():
        sealed = sealing.seal(warehouse, until.date() if until else None)
    if as_json:
        print_json(
            asdict(sealed)
            | {"months": [f"{month:%Y-%m}" for month in sealed.months], "years": [year.year for year in sealed.years]}
        )
    elif not sealed.files:
        echo("nothing that is old is left to seal")
    else:
        parts = []
        if sealed.months:
            parts.append(f"{screen.plural(len(sealed.months), 'month')} to {sealed.months[-1]:%Y-%m}")
        if sealed.years:
            parts.append(f"{screen.plural(len(sealed.years), 'year')} to {sealed.years[-1]:%Y}")
        if sealed.days_to:
            parts.append(f"days to {sealed.days_to}")
        echo(f"sealed {', '.join(parts)}: {sealed.rows:,} rows, {sealed.bytes / 1e6:,.1f} MB in {sealed.files} files")
        echo(f"the warehouse: {sealed.warehouse_before / 1e6:,.1f} MB before, {sealed.warehouse_after / 1e6:,.1f} now")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8470, show_default=True, help="0: any free port.")
@click.option(
    "--replay", type=click.Path(path_type=Path), metavar="DIR", help="Serve the recorded bodies of DIR instead."
)
@report_errors
def simulate(host: str, port: int, replay: Path | None) -> None:
    """Run the simulated broker as a server, for TRADIER_BASE_URL.

    It answers the paths of Tradier under /v1 to the token `simulator`, as JSON, or as XML where none is asked for:

    \b
      user/profile
      accounts/ID/balances positions orders gainloss history historical-balances
      accounts/ID/orders      POST places or previews, PUT changes, DELETE cancels
      accounts/events         WebSocket, by a session of accounts/events/session
      markets/quotes history timesales search lookup etb clock calendar
      markets/options/expirations strikes chains lookup
      markets/events          HTTP or WebSocket, by a session of its own
      watchlists              GET, POST, PUT, DELETE, and their symbols

    Under /beta: markets/fundamentals/company calendars dividends, which know a name and what some pay.

    Orders trade, and prices move, while the exchange is open; with TRADIER_CALENDAR=24/7 round the clock. Faults, the
    clock and whole worlds are set under /_simulator. Not simulated: other fundamentals, the paths under
    user/ other than profile.

    DIR holds bodies named as in the landing zone: account.json, balances.json, positions.json, orders.json
    (orders.2.json, ... for more pages), quotes.json.
    """
    from tradier_pipeline.domain.calendar import MarketCalendar
    from tradier_pipeline.simulator.replay import create_replay_app
    from tradier_pipeline.simulator.server import serve, simulated_broker

    def ready(url: str) -> None:
        warn(f"simulated broker at {url} (TRADIER_BASE_URL={url}); stop with Ctrl-C")

    if replay:
        serve(create_replay_app(replay), host, port, on_ready=ready)
        return
    settings = read_settings()
    calendar = MarketCalendar(settings.calendar, directory=settings.calendar_files)
    serve(simulated_broker(settings.simulator, calendar=calendar), host, port, on_ready=ready)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True)
@with_settings
def up(settings: Settings, host: str, port: int) -> None:
    """Run the Dagster UI and daemon. Run history stays in TRADIER_PIPELINE_HOME/dagster.

    The UI answers only its own pages and your programs. With another --host than this machine it asks for a token:
    TRADIER_UI_TOKEN, or one that is made and shown at the start.
    """
    from tradier_pipeline.cli.up import ui_address
    from tradier_pipeline.cli.up import up as run_up

    warn(settings.identity)
    address = ui_address(settings, host, port)
    if address.notice:
        warn(f"{address.notice}.")
    run_up(settings, address)


@click.command()
@with_settings
def listen(settings: Settings) -> None:
    """Take a snapshot now and within seconds of every change of an order, until interrupted.

    Follows the account stream of the broker, and polls the orders while it is down. Tells each event on stderr.
    """
    from tradier_pipeline.cycles.listen import in_one_line
    from tradier_pipeline.cycles.listen import listen as listen_to_orders
    from tradier_pipeline.cycles.on_demand import run_snapshots
    from tradier_pipeline.cycles.snapshot_job import snapshot_job
    from tradier_pipeline.instance import open_instance
    from tradier_pipeline.ledger.store import Ledger

    def tell(text: str) -> None:
        warn(f"{clock.iso(clock.now())} {text}")

    snapshot_job()  # now, rather than while the first order waits
    with open_instance(settings.dagster_home) as instance:

        def take_snapshot(account_id: str, events: Sequence[OrderEvent]) -> None:
            if events:  # it waits in the inbox, should this process die or its snapshot not begin
                Ledger(settings.ledger).request(account_id, "order_placed", note=in_one_line(events))
            trigger = "order_placed" if events else "listen"
            (run,) = run_snapshots(instance, snapshot_job, settings, [account_id], trigger)
            run.raise_unless_published()
            tell(f"{run.snapshot_id} published: {in_one_line(events) or 'listening began'}")

        listen_to_orders(settings, take_snapshot, tell)


def _kind(row: dict[str, Any]) -> tuple[Any, ...]:
    """What findings have in common that are reported as one."""
    names = ("account_id", "severity", "code", "suggested_action", "resolved_at")
    return tuple(row[name] for name in names)


def _print_findings(rows: list[dict[str, Any]]) -> None:
    """Findings of one kind: what they are about, what is wrong, since when, and what to do."""
    first = rows[0]
    about = ", ".join(row["subject"] for row in rows if row["subject"])
    evidence = "; ".join(dict.fromkeys(row["evidence"] for row in rows if row["evidence"]))
    until = f", resolved {screen.when(first['resolved_at'], seconds=False)}" if first["resolved_at"] else ""
    seen = screen.plural(max(row["times_seen"] for row in rows), "time")
    reported = joined([row["text"] for row in rows])
    head = f"{first['severity']:<5} {first['code']}{f' {about}' if about else ''}"
    echo(f"{head}: {reported}{f' ({evidence})' if evidence else ''}")
    since = screen.when(min(row["first_seen"] for row in rows), seconds=False)
    echo(f"      {first['account_id']}, since {since} New York, seen {seen}{until}")
    echo(f"      {first['suggested_action']}")


def _print_account_status(account: AccountStatus, warehouse_error: str | None) -> None:
    budget = account.request_budget
    left = f"{budget.available} of {budget.allowed} a minute left" if budget else "not sent by the broker"
    unknown = "what is published cannot be read" if warehouse_error else "nothing published yet"
    echo(f"{account.account_id} ({account.environment or unknown})")
    if account.age_s is not None:
        echo(f"  last snapshot   {account.snapshot_id}, {lasting(account.age_s)} old, of {account.snapshots:,}")
    if account.verdict == "doubtful":
        echo(f"  doubtful        {account.verdict_evidence}")
    if waiting := account.landed_not_published:
        text = f"{len(waiting):,}, from {waiting[0]} on; the next snapshot publishes them"
        echo(f"  landed only     {text}")
    elif account.not_published:
        echo(f"  not published   {account.not_published}, see `tradier-pipeline verify {account.not_published}`")
    echo(f"  failed in 24 h  {account.failures_24h}{f', last: {account.last_failure}' if account.last_failure else ''}")
    echo(f"  missed in 24 h  {account.missed_24h}")
    for beat in account.heartbeats:
        last = f"last published {screen.when(beat.last)} New York" if beat.last else "none published yet"
        echo(f"  {beat.cycle:<14}  {last}{', late' if beat.late else ''}")
    for level in account.burning:
        echo(f"  budget burns    {level}")
    echo(f"  request budget  {left}")
