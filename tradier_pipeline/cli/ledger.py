"""Commands of the ledger: what is believed and what the broker shows, and the flows that the owner states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tradier_pipeline import clock
from tradier_pipeline.cli import screen
from tradier_pipeline.cli.grouped import grouped, joined
from tradier_pipeline.cli.helps import Group, ListGroup
from tradier_pipeline.cli.options import DAY, JSON, ONLY_ACCOUNT, table
from tradier_pipeline.cli.output import echo, print_json, print_rows, signed, with_settings
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.outcome import shown
from tradier_pipeline.warehouse.schema import BIGINT, DATE, DECIMAL, INSTANT, VARCHAR

if TYPE_CHECKING:
    from tradier_pipeline.core.settings import Settings
    from tradier_pipeline.ledger.changes import LedgerChange
    from tradier_pipeline.ledger.records import StatedFlow
    from tradier_pipeline.ledger.store import Ledger
    from tradier_pipeline.reconcile.facts import TradeFinding
    from tradier_pipeline.reconcile.order_matching import OrderRow
    from tradier_pipeline.reconcile.reconciliation import Reconciliation


@click.group(cls=ListGroup)
def flows() -> None:
    """Deposits and withdrawals that the owner states, where the broker's history does not tell them. Alone: the list.

    The list is a table like any other: --format, --output, --json.
    """


@flows.command(name="add")
@click.option("--account", metavar="NUMBER", required=True, help="Account number.")
@click.option("--date", "day", type=DAY, required=True, help="When it came or left.")
@click.option("--amount", metavar="USD", help="Of cash; below zero: a withdrawal. 0: nothing came or left that day.")
@click.option("--symbol", help="Of securities: equity ticker or option symbol.")
@click.option("--quantity", metavar="NUMBER", help="Of securities: shares or contracts.")
@click.option("--value", metavar="USD", help="Of securities: what they were worth that day.")
@click.option("--kind", type=click.Choice(["deposit", "withdrawal"]), help="Default: by the sign.")
@click.option("--note", metavar="TEXT", help="More, in words.")
@JSON
@with_settings
def add_flow(
    settings: Settings,
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
    from tradier_pipeline.publish.stated_flows import add_flow as state

    if (amount is None) == (value is None) or (value is None) != (symbol is None):
        raise click.UsageError("state --amount, or --symbol, --quantity and --value")
    flow = state(
        settings,
        account,
        day.date(),
        _decimal(amount if amount is not None else str(value), "--amount" if value is None else "--value"),
        kind=kind,
        symbol=symbol,
        quantity=None if quantity is None else _decimal(quantity, "--quantity"),
        note=note,
    )
    if as_json:
        print_json({"flow": flow.model_dump()})
    else:
        echo(_stated(flow))


@flows.command(name="confirm")
@click.option("--account", metavar="NUMBER", required=True, help="Account number.")
@click.option("--date", "day", type=DAY, required=True, help="The session that is uncertain.")
@click.option("--note", metavar="TEXT", help="Why, in words.")
@JSON
@with_settings
def confirm_day(settings: Settings, account: str, day: datetime, note: str | None, as_json: bool) -> None:
    """State that the change of an uncertain day is real: nothing came or left but what the broker reports.

    The day has its return again, and counts. `flows remove` takes it back.
    """
    from tradier_pipeline.publish.stated_flows import confirm_day as confirm

    flow = confirm(settings, account, day.date(), note)
    if as_json:
        print_json({"flow": flow.model_dump()})
    else:
        echo(_stated(flow))


@flows.command(name="list")
@ONLY_ACCOUNT
@click.option("--all", "everything", is_flag=True, help="Those taken back, too.")
@table
@JSON
@with_settings
def list_flows(
    settings: Settings, account: str | None, everything: bool, form: str, output: Path | None, as_json: bool
) -> None:
    """The flows that the owner has stated, by date."""
    from tradier_pipeline.ledger.store import Ledger

    store = Ledger(settings.ledger)
    _require_account(settings, store, account)
    found = [
        flow
        for flow in (store.stated_flows() if store.exists else [])
        if account in (None, flow.account_id) and (everything or not flow.removed_at)
    ]
    if form != "text" or output:
        amounts = {"kind": VARCHAR, "amount": DECIMAL, "symbol": VARCHAR, "quantity": DECIMAL, "note": VARCHAR}
        stated = {"stated_by": VARCHAR, "stated_at": INSTANT, "removed_by": VARCHAR, "removed_at": INSTANT}
        columns = {"flow_id": BIGINT, "account_id": VARCHAR, "trade_date": DATE} | amounts | stated
        print_rows(columns, [flow.model_dump() for flow in found], form, output)
        return
    if as_json:
        print_json({"flows": [flow.model_dump() for flow in found]})
        return
    posted = _posted(settings) if found else {}
    for flow in found:
        since = posted.get(flow.flow_id)
        echo(_stated(flow) + (f"; the broker's history has it of {since}, and it counts once" if since else ""))
    if not found:
        echo("no stated flows")


def _posted(settings: Settings) -> Mapping[int, date]:
    from tradier_pipeline.warehouse.reads import connect_readonly, posted_flows

    with suppress(PipelineError), connect_readonly(settings.warehouse) as connection:
        return posted_flows(connection)
    return {}  # nothing is published yet: the ledger alone has them


def _require_account(settings: Settings, store: Ledger, account: str | None) -> None:
    """An account must be configured, or known to the ledger or the warehouse."""
    from tradier_pipeline.warehouse.reads import connect_readonly, require_account

    stated = [flow.account_id for flow in store.stated_flows()] if store.exists else []
    configured = (*(settings.accounts or ()), *stated)
    if account is not None and account not in configured:
        with connect_readonly(settings.warehouse) as connection:
            require_account(connection, account, configured)


@flows.command(name="remove")
@click.argument("flow_id", type=int, metavar="ID")
@JSON
@with_settings
def remove_flow(settings: Settings, flow_id: int, as_json: bool) -> None:
    """Take a stated flow back; the ledger keeps who stated it, and who took it back."""
    from tradier_pipeline.publish.stated_flows import remove_flow as take_back

    flow = take_back(settings, flow_id)
    if as_json:
        print_json({"flow": flow.model_dump()})
    else:
        echo(_stated(flow))


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
    amount = f"{signed(flow.amount)} USD{what}" if flow.amount or flow.symbol else "the change of this day is real"
    return f"{flow.flow_id}  {flow.trade_date}  {flow.account_id}  {amount}  ({stated}){note}"


@click.group(cls=Group)
def ledger() -> None:
    """What the trading engine believes, beside what the broker said."""


@ledger.command()
@ONLY_ACCOUNT
@table
@JSON
@with_settings
def diff(settings: Settings, account: str | None, form: str, output: Path | None, as_json: bool) -> None:
    """What the newest published snapshot of each account would change in the ledger. Changes nothing.

    As a table it has a row for each column that changes, each order without its like, and each finding.
    """
    from tradier_pipeline.publish.ledger_state import reconcile_newest

    found = reconcile_newest(settings, account)
    if form != "text" or output:
        columns = ("snapshot_id", "account_id", "about", "key", "field", "before", "after", "text")
        rows = [row for one in found for row in _reconciliation_rows(one)]
        print_rows(dict.fromkeys(columns, VARCHAR), rows, form, output)
        return
    if as_json:
        print_json({"snapshots": [_reconciliation_document(one) for one in found]})
        return
    for one in found:
        _print_reconciliation(one)


@ledger.command()
@ONLY_ACCOUNT
@JSON
@with_settings
def apply(settings: Settings, account: str | None, as_json: bool) -> int:
    """Write to the ledger what `diff` shows. A row that the engine changes meanwhile is left alone."""
    from tradier_pipeline.ledger.store import Ledger
    from tradier_pipeline.ledger.writeback import apply as write
    from tradier_pipeline.publish.ledger_state import reconcile_newest

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
            echo(f"{snapshot_id}: {screen.plural(len(written.applied), 'row')} changed")
            for change in written.applied:
                _print_change(change)
            for change, reason in written.skipped:
                echo(f"  left alone {change.table} {change.key}: {reason}")
    if as_json:
        print_json({"snapshots": documents})
    return 1 if skipped else 0


@ledger.command()
@click.argument("trade_id")
@click.argument("order_id", type=int)
@JSON
@with_settings
def link(settings: Settings, trade_id: str, order_id: int, as_json: bool) -> None:
    """Record an order that was placed elsewhere, such as in the broker's app, as the exit of a trade.

    The next snapshot, or `ledger apply`, then closes the trade with the price of its fill.
    """
    from tradier_pipeline.ledger.link_by_hand import link as write
    from tradier_pipeline.ledger.store import Ledger
    from tradier_pipeline.publish.ledger_state import exit_to_link

    if settings.ledger_write == "off":
        raise PipelineError("TRADIER_LEDGER_WRITE is off", "Set it to propose or apply to let the ledger be changed.")
    order, snapshot_id = exit_to_link(settings, trade_id, order_id)
    write(Ledger(settings.ledger), order, snapshot_id)
    if as_json:
        print_json({"trade_id": trade_id, "order_id": order_id, "snapshot_id": snapshot_id})
    else:
        echo(f"order {order_id} is the exit of {trade_id} now, as of {snapshot_id}")


@ledger.command(name="import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--account", metavar="NUMBER", required=True, help="Whose orders and trades they are.")
@JSON
@with_settings
def import_(settings: Settings, file: Path, account: str, as_json: bool) -> int:
    """Bring the orders and trades of the old D1 database over: a dump of `wrangler d1 export`, or the SQLite file.

    Rows that the ledger has stay as they are. Exit code 1 if rows of orders or trades were left out.
    """
    from tradier_pipeline.ledger.import_d1 import import_d1
    from tradier_pipeline.ledger.store import Ledger

    done = import_d1(Ledger(settings.ledger), file, account)
    if as_json:
        notes = [
            {"table": note.table, "key": note.key, "why": note.why, "left_out": note.left_out} for note in done.notes
        ]
        print_json({"written": done.written, "already": done.already, "notes": notes})
    else:
        counts = ", ".join(f"{count} {table}" for table, count in done.written.items())
        echo(f"{counts} written, {done.already} were there already")
        for note in done.notes:
            echo(f"  {'left out' if note.left_out else 'note    '} {note.table} {note.key}: {note.why}")
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


def _change_document(change: LedgerChange) -> dict[str, Any]:
    from tradier_pipeline.ledger.writeback import as_columns

    values = {"before": as_columns(change.before), "after": as_columns(change.after)}
    return {"table": change.table, "key": change.key, "why": change.why} | values


def _print_reconciliation(found: Reconciliation) -> None:
    counts = ", ".join(f"{count} {state}" for state, count in found.match_counts.items()) or "none"
    changes = screen.plural(len(found.changes), "row")
    echo(f"{found.facts.snapshot_id}: {changes} to change; orders: {counts}")
    if found.facts.doubtful:
        echo(f"  doubtful: {found.facts.verdict_evidence}; nothing is proposed until it is confirmed")
    for change in found.changes:
        _print_change(change)
    for row in found.unmatched:
        ids = ", ".join(str(one) for one in (row.client_order_id, row.broker_order_id) if one is not None)
        text = "; ".join((*row.differences, *(f"looks like {one}" for one in row.suggested)))
        echo(f"  {row.match_state:<32} order {ids} {row.raw_status or row.ledger_status}{f': {text}' if text else ''}")
    for group in grouped(found.findings, lambda one: (one[1].severity, one[1].code)):
        _print_findings(group)


def _print_findings(group: Sequence[tuple[str | None, TradeFinding]]) -> None:
    """Findings of one kind; of those that are about no trade the texts as one."""
    first = group[0][1]
    head = f"  {first.severity:<5} {first.code:<26} "
    of_none = [finding for trade_id, finding in group if not trade_id and not any(finding.evidence)]
    if of_none:
        echo(head + joined([finding.text for finding in of_none]))
    for trade_id, finding in group:
        if finding not in of_none:
            about = f"{trade_id}: " if trade_id else ""
            text = f" ({'; '.join(finding.evidence)})" if any(finding.evidence) else ""
            echo(f"{head}{about}{finding.text}{text}")


def _print_change(change: LedgerChange) -> None:
    document = _change_document(change)
    echo(f"  {change.table} {change.key}: {change.why}")
    for column, value in document["after"].items():
        sides = [_amount(column, one) for one in (document["before"][column], value)]
        if sides[0] == sides[1]:  # what differs is less than is shown
            sides = [_cell(document["before"][column]), _cell(value)]
        echo(f"    {column:<22} {sides[0]} -> {sides[1]}")


def _amount(column: str, value: Any) -> str:
    """A price or a profit in dollars and cents; anything else as it is."""
    if isinstance(value, Decimal | str) and column.endswith(("_price", "_pnl")):
        try:
            return screen.money(Decimal(value))
        except ArithmeticError:
            return _cell(value)
    return _cell(value)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"{leg['side']} {leg['quantity']} {leg['option_symbol']}" for leg in value) or "-"
    return "-" if value is None else str(value)
