"""Mistakes to plant, at least one in each stage of the data's walk: the simulation has to find every one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from tradier_pipeline.assets import missed_minutes, snapshot
from tradier_pipeline.broker import envelope
from tradier_pipeline.broker.errors import BrokerError
from tradier_pipeline.extract import coherent_read
from tradier_pipeline.landing.zone import LandingZone
from tradier_pipeline.ledger.changes import LedgerChange
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.ledger.writeback import Written
from tradier_pipeline.publish import catch_up, derive, store
from tradier_pipeline.warehouse.staging import Warehouse

Rows = dict[str, list[dict[str, Any]]]


def _unproven() -> None:
    """What is stored is published without having been set beside the landed bytes."""
    store.verify_snapshot = lambda *_: []  # type: ignore[attr-defined]


def _stored_otherwise(change: Callable[[Rows], None]) -> Callable[[], None]:
    def plant() -> None:
        _unproven()
        honest = store.table_rows  # type: ignore[attr-defined]

        def dishonest(*arguments: Any) -> Rows:
            rows = {name: [dict(row) for row in listed] for name, listed in honest(*arguments).items()}
            change(rows)
            return rows

        store.table_rows = dishonest  # type: ignore[attr-defined, assignment]

    return plant


def _miscount(rows: Rows) -> None:
    rows["account_balances"][0]["equity"] += 1


def _turn_round(rows: Rows) -> None:
    for row in rows["positions"][:1]:
        row["quantity"] = -row["quantity"]


def _lose(table: str) -> Callable[[Rows], None]:
    return lambda rows: rows[table].__delitem__(slice(-1, None))


def _fill_in() -> None:
    """An answer that is no list of positions is none held."""
    honest = envelope._rows

    def lenient(resource: Any, document: Any) -> list[dict[str, Any]]:
        try:
            return honest(resource, document)
        except BrokerError:
            return []

    envelope._rows = lenient  # type: ignore[assignment]
    _unproven()


def _believe() -> None:
    """Nothing is ever in doubt."""
    judge = derive.judge_snapshot  # type: ignore[attr-defined]
    derive.judge_snapshot = lambda *known: replace(judge(*known), verdict="good")  # type: ignore[attr-defined]
    reading = coherent_read.judged
    coherent_read.judged = lambda *known: (reading(*known)[0], True)  # type: ignore[assignment]


def _leave_behind() -> None:
    """What is landed and not published stays so."""
    catch_up._is_behind = lambda *_: False  # type: ignore[assignment]
    catch_up._pending = lambda *_: iter(())  # type: ignore[assignment]


def _overlook() -> None:
    """A minute of which there is nothing is recorded nowhere."""
    missed_minutes._recorded = lambda *known: {account: ([], until) for account, (_, until) in known[-1].items()}


def _land_nothing() -> None:
    """The landing zone forgets a snapshot as soon as it was read."""
    LandingZone.find = lambda zone, snapshot_id: None  # type: ignore[method-assign, assignment]


def _publish_elsewhere() -> None:
    """What was committed is published under another name."""
    honest = Warehouse.staged

    def staged(self: Warehouse, **options: Any) -> Any:
        return honest(Warehouse(self.path.with_name("other.duckdb")), **options)

    Warehouse.staged = staged  # type: ignore[method-assign, assignment]


def _misprice() -> None:
    """What is written to the ledger names another price than the fills had."""
    honest = snapshot.apply  # type: ignore[attr-defined]

    def dishonest(ledger: Ledger, snapshot_id: str, changes: Iterable[LedgerChange]) -> Written:
        return honest(ledger, snapshot_id, [replace(one, after=_dearer(one.after)) for one in changes])

    snapshot.apply = dishonest  # type: ignore[attr-defined, assignment]


def _dearer(after: Mapping[str, Any]) -> dict[str, Any]:
    prices = ("avg_fill_price", "exit_price")
    return {name: value + 1 if name in prices and value is not None else value for name, value in after.items()}


PLANTED: Mapping[str, Callable[[], None]] = {
    "extract: a failure is an empty list": _fill_in,
    "landing: nothing is found again": _land_nothing,
    "decode: long is short": _stored_otherwise(_turn_round),
    "store: a figure is off by one": _stored_otherwise(_miscount),
    "store: an order is lost": _stored_otherwise(_lose("orders")),
    "store: a position is lost": _stored_otherwise(_lose("positions")),
    "store: the balances are lost": _stored_otherwise(_lose("account_balances")),
    "store: the account is lost": _stored_otherwise(_lose("accounts")),
    "publish: under another name": _publish_elsewhere,
    "publish: what is landed is left behind": _leave_behind,
    "reconcile: nothing is ever in doubt": _believe,
    "ledger: a price is off by one": _misprice,
    "cycles: a minute is overlooked": _overlook,
}
