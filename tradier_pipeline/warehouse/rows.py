"""A landed snapshot -> typed values -> the rows of every table. Pure apart from reading the landed bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta

from tradier_pipeline import clock
from tradier_pipeline.broker.models import (
    Account,
    Balances,
    BrokerModel,
    BuyingPower,
    CashBlock,
    Greeks,
    Order,
    OrderLeg,
    Quote,
    known_word,
)
from tradier_pipeline.core.decimals import rounded
from tradier_pipeline.core.version import CODE_VERSION
from tradier_pipeline.domain.gate import DEFAULT_RULES, GateReading, GateRules, evaluate_gate
from tradier_pipeline.domain.positions import PortfolioPosition
from tradier_pipeline.domain.short_options import ShortOption
from tradier_pipeline.domain.spread_figures import SpreadFigures
from tradier_pipeline.domain.spreads import Spread, SpreadLeg
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.reconciled_rows import table_rows as reconciled_rows
from tradier_pipeline.warehouse.typed import Conserved, Row, TypedSnapshot


def _shared(table: schema.Table, model: type[BrokerModel]) -> tuple[str, ...]:
    """The columns that the broker's field of the same name fills."""
    return tuple(sorted(set(table.column_names) & set(model.model_fields) - set(schema.KEY_NAMES)))


_OF_ACCOUNT = _shared(schema.ACCOUNTS, Account)
_OF_BALANCES = _shared(schema.ACCOUNT_BALANCES, Balances)
_OF_MARGIN = _shared(schema.ACCOUNT_BALANCES, BuyingPower)
_OF_CASH = _shared(schema.ACCOUNT_BALANCES, CashBlock)
_OF_POSITION = tuple(field.name for field in fields(PortfolioPosition))
_OF_SPREAD = tuple(field.name for field in fields(Spread) if field.name not in ("figures", "legs"))
_OF_SPREAD_FIGURES = tuple(field.name for field in fields(SpreadFigures))
_OF_SPREAD_LEG = tuple(field.name for field in fields(SpreadLeg))
_OF_SHORT_OPTION = tuple(field.name for field in fields(ShortOption))
_OF_GATE = tuple(field.name for field in fields(GateReading))
_AMOUNTS_OF_FINDING = ("change", "carried", "explained", "unexplained", "in_flight", "fees_at_most")
_OF_LEG = _shared(schema.ORDER_LEGS, OrderLeg)
_OF_QUOTE = _shared(schema.QUOTES, Quote)
_OF_GREEKS = _shared(schema.QUOTES, Greeks)


def table_rows(typed: TypedSnapshot, rules: GateRules = DEFAULT_RULES) -> dict[str, list[Row]]:
    """The rows of every table by table name, ready to insert."""
    lead = _lead(typed)
    reading = evaluate_gate(
        lead["as_of"], lead["trade_date"], len(typed.spreads), rules, doubtful=typed.verdict == "doubtful"
    )
    rows: dict[str, list[Row]] = {
        "tradier_snapshots": [_header_row(typed)],
        "accounts": [_account_row(typed.account)],
        "account_balances": [_balances_row(typed.balances)],
        "positions": [_fields(position, _OF_POSITION) for position in typed.positions],
        "orders": [
            *(_order_row(order, listed=True) for order in typed.orders),
            *(_order_row(order, listed=False) for order in typed.looked_up),
        ],
        "order_legs": [row for order in (*typed.orders, *typed.looked_up) for row in _leg_rows(order)],
        "quotes": [_quote_row(quote) for quote in typed.quotes],
        "raw_payloads": list(_payload_rows(typed.landed)),
        "option_spreads": [
            _fields(spread, _OF_SPREAD) | _fields(spread.figures, _OF_SPREAD_FIGURES) for spread in typed.spreads
        ],
        "option_spread_legs": [
            {"spread_no": spread.spread_no, "leg_no": leg_no, **_fields(leg, _OF_SPREAD_LEG)}
            for spread in typed.spreads
            for leg_no, leg in enumerate(spread.legs, 1)
        ],
        "trade_gate_readings": [_fields(reading, _OF_GATE) | {"blockers": list(reading.blockers)}],
        "conservation": list(conservation_rows(typed.conserved)),
        **reconciled_rows(typed.reconciled),
        "short_options": [_fields(option, _OF_SHORT_OPTION) for option in typed.short_options],
    }
    return {table: [lead | row for row in listed] for table, listed in rows.items()}


def _lead(typed: TypedSnapshot) -> Row:
    manifest = typed.landed.manifest
    return {
        "snapshot_id": manifest.snapshot_id,
        "account_id": manifest.account_id,
        "as_of": manifest.as_of,
        "trade_date": clock.trade_date(manifest.as_of),
    }


def _header_row(typed: TypedSnapshot) -> Row:
    manifest = typed.landed.manifest
    judged = manifest.readings[-1] if manifest.readings else None
    return {
        "as_of_end": manifest.as_of_end,
        "requested_at": manifest.requested_at,
        "environment": manifest.environment,
        "trigger": manifest.trigger,
        "positions_count": len(typed.positions),
        "orders_count": len(typed.orders),
        "code_version": CODE_VERSION,
        "committed_at": clock.now(),
        "coherence": judged.verdict if judged else None,
        "coherence_evidence": "; ".join(judged.evidence) if judged else None,
        "verdict": typed.verdict,
        "verdict_evidence": typed.verdict_evidence,
        "clock_skew_s": None if manifest.clock_skew_s is None else str(manifest.clock_skew_s),
    }


def _account_row(account: Account) -> Row:
    return _fields(account, _OF_ACCOUNT)


def _balances_row(balances: Balances) -> Row:
    block = balances.block
    return {
        **_fields(block, _OF_CASH if isinstance(block, CashBlock) else _OF_MARGIN),
        **_fields(balances, _OF_BALANCES),
        "cash": balances.total_cash,
        "buying_power": balances.buying_power,
        "equity": balances.total_equity,
        "margin_requirement": balances.current_requirement,
    }


def _order_row(order: Order, *, listed: bool) -> Row:
    return {
        "order_id": order.id,
        "listed": listed,
        **_order_columns(order),
        "num_legs": order.num_legs,
        "strategy": order.strategy,
        "tag": order.tag,
    }


def _leg_rows(order: Order) -> Iterator[Row]:
    for number, leg in enumerate(order.leg, 1):
        yield {"order_id": order.id, "leg_no": number, "leg_id": leg.id, **_order_columns(leg)}


def _order_columns(order: OrderLeg) -> Row:
    words = {
        "status": order.status,
        "class": order.class_,
        "type": order.type,
        "side": order.side,
        "duration": order.duration,
    }
    return {
        **_fields(order, _OF_LEG),
        **{name: known_word(name, word) for name, word in words.items()},
        **{f"raw_{name}": word for name, word in words.items()},
        "reason": order.reason_description,
    }


def _quote_row(quote: Quote) -> Row:
    return {
        **_fields(quote, _OF_QUOTE),
        **(_fields(quote.greeks, _OF_GREEKS) if quote.greeks else {}),
        "bid_date": _from_milliseconds(quote.bid_date),
        "ask_date": _from_milliseconds(quote.ask_date),
        "last_date": _from_milliseconds(quote.trade_date),
    }


def _payload_rows(landed: LandedSnapshot) -> Iterator[Row]:
    for resource in (*landed.manifest.resources, "quotes"):
        for page in landed.pages(resource):
            yield {
                "resource": resource,
                "page": page.number,
                "status": page.status,
                "attempts": len(page.attempts),
                "started_at": page.started_at,
                "ended_at": page.ended_at,
                "bytes": page.bytes,
                "sha256": page.sha256,
                "path": landed.relative_path(page),
            }


def conservation_rows(conserved: Conserved | None) -> Iterator[Row]:
    """The rows of `conservation`, without their lead."""
    if conserved is None:
        return
    for finding in conserved.findings:
        yield {
            "previous_snapshot_id": conserved.previous_snapshot_id,
            "item": finding.item,
            **{name: rounded(getattr(finding, name)) for name in _AMOUNTS_OF_FINDING},
            "state": finding.state,
            "explanation": "; ".join(finding.explanation),
        }


def _fields(value: object, names: tuple[str, ...]) -> Row:
    return {name: getattr(value, name) for name in names}


def _from_milliseconds(epoch: int | None) -> datetime | None:
    """Tradier sends 0 where nothing has happened yet."""
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=epoch) if epoch else None
