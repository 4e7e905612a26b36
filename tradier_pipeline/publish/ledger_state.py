"""The facts of published snapshots: from the landing zone, and from the warehouse what was seen before them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from tradier_pipeline import clock
from tradier_pipeline.broker.models import FINISHED, Order
from tradier_pipeline.core.decimals import plain
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.landing.errors import LandingError
from tradier_pipeline.landing.zone import LandingZone
from tradier_pipeline.ledger.link_by_hand import LinkRefusedError
from tradier_pipeline.ledger.records import TERMINAL, EngineOrder, Trade, settled
from tradier_pipeline.ledger.relevant import Relevance
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.reconcile.ends import End, Moved, ends_of
from tradier_pipeline.reconcile.facts import Facts, LastHeld, LedgerState
from tradier_pipeline.reconcile.holdings import Holdings
from tradier_pipeline.reconcile.order_matching import ALIKE_WITHIN, ledger_order_of
from tradier_pipeline.reconcile.outstanding import OUTSTANDING_DAYS, Line
from tradier_pipeline.reconcile.reconciliation import Reconciliation, reconcile
from tradier_pipeline.reconcile.trades import unlinkable
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.account_states import LAST_GOOD, OPENED
from tradier_pipeline.warehouse.reads import (
    connect_readonly,
    newest_snapshot_ids,
    require_account,
    require_current,
    verdict_of,
)
from tradier_pipeline.warehouse.sealed import reaching
from tradier_pipeline.warehouse.sql import bind, listed, literal
from tradier_pipeline.warehouse.typed import TypedSnapshot, read_typed
from tradier_pipeline.warehouse.unpublished import EPOCH

if TYPE_CHECKING:
    import duckdb

LATE = timedelta(days=1)  # a transaction shows its rows when it ends, and they say when they were written

# when the ledger was set beside a snapshot for the last time on a trade date, and what was reported then
_LAST_BESIDE = """
    SELECT max(as_of) FROM (
        SELECT as_of FROM order_reconciliation WHERE account_id = ? AND trade_date = ? AND as_of < ?
        UNION ALL SELECT as_of FROM trade_reconciliation WHERE account_id = ? AND trade_date = ? AND as_of < ?
    )
"""
_TOLD_THEN = """
    SELECT trade_id, order_id FROM order_reconciliation WHERE account_id = ? AND trade_date = ? AND as_of = ?
    UNION ALL SELECT trade_id, NULL FROM trade_reconciliation WHERE account_id = ? AND trade_date = ? AND as_of = ?
"""
_HELD = "SELECT symbol, side FROM positions WHERE snapshot_id = ? AND as_of = ?"
_LAST_OF_ORDER = """
    SELECT snapshot_id FROM orders JOIN tradier_snapshots AS taken USING (snapshot_id)
    WHERE orders.account_id = ? AND order_id = ? AND taken.verdict = 'good'
    ORDER BY taken.as_of DESC LIMIT 1
"""
# the last that good snapshots before showed of orders that are not shown now
_ENDED_BEFORE = f"""
    SELECT order_id, arg_max(snapshot_id, as_of) FROM orders {schema.GOOD}
    WHERE account_id = ? AND as_of BETWEEN ? AND ? AND (order_id IN ({{numbers}}) OR tag IN ({{names}}))
    GROUP BY order_id HAVING arg_max(raw_status, as_of) IN ({{ends}})
"""  # noqa: S608

_MOVED = f"""
    SELECT item, as_of, in_flight, {OPENED}, explanation FROM conservation
    WHERE account_id = ? AND (as_of >= ? AND as_of < ? OR snapshot_id = ?) AND (
        in_flight <> 0 OR carried <> 0
        OR (item <> 'cash' AND regexp_matches(explanation, '(assigned|exercised|expired|ended|became)'))
    ) ORDER BY as_of
"""  # noqa: S608


def reconcile_newest(settings: Settings, account_id: str | None = None, *, whole: bool = True) -> list[Reconciliation]:
    """What the newest published snapshot of each account, or of one, says about the ledger as it is now.

    Args:
        whole: read all of the ledger. If not, only what can have changed: the same follows, in less time.

    Raises:
        WarehouseError: nothing has been published yet.
        LandingError: a published snapshot is not landed any more, or was changed.
        LedgerError: the ledger cannot be read.
    """
    ledger_state, zone = read_ledger(settings) if whole else None, LandingZone(settings.landing)
    calendar = MarketCalendar.of(settings)
    with connect_readonly(settings.warehouse) as connection:
        require_account(connection, account_id, settings.accounts or ())
        newest = [SnapshotId.parse(text) for text in newest_snapshot_ids(connection)]
        of_account = (_typed(connection, zone, found) for found in newest if account_id in (None, found.account_id))
        return [
            reconcile_typed(
                connection, typed, ledger_state or read_relevant_ledger(settings, connection, typed), calendar
            )
            for typed in of_account
        ]


def read_ledger(settings: Settings) -> LedgerState:
    """The ledger as it is now; nothing if there is none.

    Raises:
        LedgerError: it cannot be read.
    """
    ledger = Ledger(settings.ledger)
    if not ledger.exists:  # to look is not to create: a home without an engine has no ledger
        return LedgerState(tag_prefix=settings.order_tag_prefix)
    return LedgerState(tuple(ledger.orders()), tuple(ledger.trades()), settings.order_tag_prefix)


def read_relevant_ledger(
    settings: Settings, connection: duckdb.DuckDBPyConnection, typed: TypedSnapshot
) -> LedgerState:
    """What a snapshot needs of the ledger as it is now: `reconcile_typed` concludes the same from it as from all.

    The first snapshot of a trade date is set beside the whole ledger, and so is one that finds nothing that matters.

    Raises:
        LedgerError: it cannot be read.
    """
    ledger = Ledger(settings.ledger)
    relevance = _relevance(connection, typed) if ledger.exists else None
    orders, trades = ledger.relevant(relevance) if relevance else ((), ())
    if not orders and not trades:
        return read_ledger(settings)
    return LedgerState(tuple(orders), tuple(trades), settings.order_tag_prefix)


def _relevance(connection: duckdb.DuckDBPyConnection, typed: TypedSnapshot) -> Relevance | None:
    """None if the ledger has not been set beside a snapshot of this trade date yet."""
    manifest = typed.landed.manifest
    on_date = (manifest.account_id, typed.landed.snapshot_id.trade_date)
    before = (*on_date, manifest.as_of)
    (last,) = connection.execute(bind(_LAST_BESIDE, *before, *before)).fetchone() or (None,)
    if last is None:
        return None
    reported = connection.execute(bind(_TOLD_THEN, *on_date, last, *on_date, last)).fetchall()
    return relevance_of(_facts(typed, before=None), last, reported)


def relevance_of(facts: Facts, last: datetime, reported: Sequence[tuple[str | None, int | None]]) -> Relevance:
    """What of the ledger matters to a snapshot, after another one of its trade date.

    Args:
        last: when that one was read.
        reported: trade id and the broker's order id of each row of what was reconciled then.
    """
    today = datetime.combine(clock.trade_date(facts.as_of), time(), clock.NEW_YORK)
    older = {order.create_date for order in facts.orders if order.create_date < today}
    return Relevance(
        account_id=facts.account_id,
        written_since=last - LATE,
        created=[(at - ALIKE_WITHIN, at + ALIKE_WITHIN) for at in older] + [(today - ALIKE_WITHIN, facts.as_of)],
        order_ids={order.id for order in facts.orders} | {number for _, number in reported if number is not None},
        tags={order.tag for order in facts.orders if order.tag},
        held=facts.positions.keys(),
        trades={trade_id for trade_id, _ in reported if trade_id is not None},
    )


def reconcile_typed(
    connection: duckdb.DuckDBPyConnection, typed: TypedSnapshot, ledger_state: LedgerState, calendar: MarketCalendar
) -> Reconciliation:
    """What a snapshot says about the ledger. The warehouse behind the connection says what was seen before it."""
    manifest = typed.landed.manifest
    session = calendar.session_of(clock.trade_date(manifest.as_of))
    last_held = _last_held(connection, typed, ledger_state.trades)
    ended = _ended_before(connection, typed, ledger_state.orders)
    before = holdings_before(connection, manifest.account_id, manifest.as_of)
    ends = _ends(connection, typed, last_held.values()) if last_held else None
    facts = _facts(
        replace(typed, looked_up=(*typed.looked_up, *ended)),
        before=before,
        last_held=last_held,
        ends=ends,
        closes=_closes(connection, ledger_state.trades),
        session_open=session.open if session else None,
    )
    return reconcile(ledger_state.orders, ledger_state.trades, facts, tag_prefix=ledger_state.tag_prefix)


def _facts(
    typed: TypedSnapshot,
    *,
    before: Holdings | None,
    last_held: Mapping[str, LastHeld | None] | None = None,
    ends: Mapping[str, End] | None = None,
    closes: Mapping[date, datetime] | None = None,
    session_open: datetime | None = None,
) -> Facts:
    """The facts of a snapshot; see `Facts` for what the snapshot alone does not say.

    Args:
        last_held: of each trade that lacks legs now; None if no snapshot has ever shown all of them.
    """
    manifest = typed.landed.manifest
    seen = {trade_id: last for trade_id, last in (last_held or {}).items() if last is not None}
    positions: dict[str, Decimal] = defaultdict(Decimal)
    for position in typed.positions:
        positions[position.symbol] += plain(position.quantity)
    return Facts(
        snapshot_id=manifest.snapshot_id,
        account_id=manifest.account_id,
        as_of=manifest.as_of,
        positions=dict(positions),
        orders=(*typed.orders, *typed.looked_up),
        lookups=manifest.lookups,
        before=before,
        shares_before={trade_id: last.shares for trade_id, last in seen.items()},
        held_until={trade_id: last.as_of for trade_id, last in seen.items()},
        never_held=frozenset((last_held or {}).keys() - seen.keys()),
        ends=ends or {},
        closes=closes or {},
        session_open=session_open,
        doubtful=typed.verdict == "doubtful",
        verdict_evidence=typed.verdict_evidence,
    )


def _ends(
    connection: duckdb.DuckDBPyConnection, typed: TypedSnapshot, last_held: Iterable[LastHeld | None]
) -> dict[str, End]:
    """What became of options in the last days, or since they were last held: no end gets more certain by waiting."""
    manifest = typed.landed.manifest
    since = min([manifest.as_of - OUTSTANDING_DAYS, *(held.as_of for held in last_held if held)])
    with reaching(connection, since):
        rows = connection.execute(
            bind(_MOVED, manifest.account_id, since, manifest.as_of, manifest.snapshot_id)
        ).fetchall()
    now = typed.conserved.findings if typed.conserved else ()  # else it is stored
    moved = [
        Moved(one.item, manifest.as_of, one.in_flight, Line.of(one).opened, "; ".join(one.explanation)) for one in now
    ]
    stored = [Moved(*row) for row in rows if not now or row[1] < manifest.as_of]
    return ends_of([*stored, *moved])


def _ended_before(
    connection: duckdb.DuckDBPyConnection, typed: TypedSnapshot, orders: Sequence[EngineOrder]
) -> list[Order]:
    """The ends of orders that the ledger still waits for, where an earlier snapshot showed them and this one does not.

    So it is after a doubtful snapshot at the end of a day: confirmed the next morning, when the list is another one.
    """
    manifest = typed.landed.manifest
    shown = (*typed.orders, *typed.looked_up)
    ids, tags = {order.id for order in shown}, {order.tag for order in shown}
    missing = [
        order
        for order in orders
        if order.account_id == manifest.account_id and not settled(order)
        if order.broker_order_id not in ids and order.client_order_id not in tags
    ]
    if not missing:
        return []
    since = min(order.created_at for order in missing if order.created_at) - LATE
    numbers = [order.broker_order_id for order in missing if order.broker_order_id is not None]
    names, ends = [order.client_order_id for order in missing], sorted(FINISHED)
    query = bind(_ENDED_BEFORE, manifest.account_id, since, manifest.as_of)
    query = query.format(numbers=listed(numbers), names=listed(names), ends=listed(ends))
    with reaching(connection, since):
        rows = connection.execute(query).fetchall()
    found: list[Order] = []
    for number, snapshot_id in rows:
        landed = typed.landed.zone.find(SnapshotId.parse(snapshot_id))
        if landed and number not in ids:
            before = read_typed(landed)
            found += [order for order in (*before.orders, *before.looked_up) if order.id == number]
    return found


def exit_to_link(settings: Settings, trade_id: str, order_id: int) -> tuple[EngineOrder, str]:
    """An order of the broker's as the exit of a trade, and the newest good snapshot that shows it.

    Raises:
        LinkRefusedError: there is no such trade or order, or the order does not close the trade.
        WarehouseError: nothing has been published yet.
        LandingError: the snapshot is not landed any more.
        LedgerError: the ledger cannot be read.
    """
    ledger_state = read_ledger(settings)
    trade = next((trade for trade in ledger_state.trades if trade.trade_id == trade_id), None)
    if trade is None:
        raise LinkRefusedError(f"the ledger has no trade {trade_id}", "See `tradier-pipeline ledger diff`.")
    with connect_readonly(settings.warehouse) as connection:
        require_current(connection)
        row = connection.execute(bind(_LAST_OF_ORDER, trade.account_id, order_id)).fetchone()
        if row is None:
            raise LinkRefusedError(
                f"no snapshot of {trade.account_id} that is good shows order {order_id}",
                "Take a snapshot; if `tradier-pipeline status` calls the newest one doubtful, wait for the next.",
            )
        typed = _typed(connection, LandingZone(settings.landing), SnapshotId.parse(row[0]))
        found = reconcile_typed(connection, typed, ledger_state, MarketCalendar.of(settings))
    order = next(order for order in found.facts.orders if order.id == order_id)
    why = unlinkable(trade, order, ledger_state.orders, found.orders, found.facts)
    if order.tag in {ours.client_order_id for ours in ledger_state.orders}:
        why = f"its tag is that of the ledger's order {order.tag}"
    if why is not None:
        raise LinkRefusedError(
            f"order {order_id} is not linked to {trade_id}: {why}", "See `tradier-pipeline findings`."
        )
    said = ledger_order_of(order, trade.account_id, "EXIT")
    return said.model_copy(update={"trade_id": trade_id, "class_": order.class_, "symbol": order.symbol}), row[0]


def holdings_before(connection: duckdb.DuckDBPyConnection, account_id: str, as_of: datetime) -> Holdings | None:
    """What the last good published snapshot before an instant shows; None if there is none."""
    last = connection.execute(bind(LAST_GOOD, account_id, as_of)).fetchone()
    if last is None:
        return None
    snapshot_id, read_at, *_ = last
    with reaching(connection, read_at):
        rows = connection.execute(bind(_HELD, snapshot_id, read_at)).fetchall()
    return Holdings(snapshot_id, read_at, frozenset(rows))


def _typed(connection: duckdb.DuckDBPyConnection, zone: LandingZone, snapshot_id: SnapshotId) -> TypedSnapshot:
    landed = zone.find(snapshot_id)
    if landed is None:
        raise LandingError(f"{snapshot_id} is not landed any more", "Restore it from a backup, or take a new snapshot.")
    verdict, evidence = verdict_of(connection, str(snapshot_id))
    return replace(read_typed(landed), verdict=verdict, verdict_evidence=evidence)


def _closes(connection: duckdb.DuckDBPyConnection, trades: Sequence[Trade]) -> dict[date, datetime]:
    """When the sessions of the days closed on which living trades expire, as far as they are known."""
    days = {trade.expiration for trade in trades if trade.expiration and trade.status not in TERMINAL}
    if not days:
        return {}
    sql = f"SELECT trade_date, session_close FROM sessions WHERE trade_date IN ({listed(sorted(days))})"  # noqa: S608
    return {day: close.astimezone(UTC) for day, close in connection.execute(sql).fetchall()}


def _last_held(
    connection: duckdb.DuckDBPyConnection, typed: TypedSnapshot, trades: Sequence[Trade]
) -> dict[str, LastHeld | None]:
    """Of each living trade that lacks legs now, the last snapshot that showed all of them; None if none ever did."""
    manifest = typed.landed.manifest
    held = {position.symbol for position in typed.positions}
    return {
        trade.trade_id: _when_held(connection, typed, trade, symbols)
        for trade in trades
        if trade.account_id == manifest.account_id and trade.status not in TERMINAL
        if (symbols := {leg.option_symbol for leg in trade.legs}) - held
    }


def _when_held(
    connection: duckdb.DuckDBPyConnection, typed: TypedSnapshot, trade: Trade, symbols: set[str]
) -> LastHeld | None:
    account_id, as_of, underlying = trade.account_id, typed.landed.manifest.as_of, trade.symbol
    query = f"""
        WITH last AS (
            SELECT snapshot_id, as_of FROM positions
            WHERE account_id = {literal(account_id)} AND as_of < {literal(as_of)}
              AND symbol IN ({listed(sorted(symbols))})
            GROUP BY snapshot_id, as_of HAVING count(DISTINCT symbol) = {len(symbols)} ORDER BY as_of DESC LIMIT 1
        )
        SELECT max(last.as_of), coalesce(sum(quantity), 0) FROM last LEFT JOIN positions
          ON positions.snapshot_id = last.snapshot_id AND symbol = {literal(underlying)}
        HAVING count(last.snapshot_id) > 0
    """  # noqa: S608
    row = connection.execute(query).fetchone()
    if row is None:  # not lately
        begun = [at for at in (trade.opened_at, trade.created_at) if at]
        with reaching(connection, min(begun) - LATE if begun else EPOCH):
            row = connection.execute(query).fetchone()
    return None if row is None else LastHeld(row[0].astimezone(UTC), Decimal(row[1]))
