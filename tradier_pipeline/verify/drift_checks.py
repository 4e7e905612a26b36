"""Whether the broker's bodies still have the fields this version knows. A drift costs nothing stored, so it warns."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import Any

from tradier_pipeline.broker.models import (
    Account,
    Balances,
    BrokerModel,
    BuyingPower,
    CashBlock,
    Greeks,
    Order,
    OrderLeg,
    Position,
    Quote,
)
from tradier_pipeline.core.outcome import Difference, RuleResult, Severity, shown
from tradier_pipeline.verify.check import check
from tradier_pipeline.verify.evidence import Evidence, Row
from tradier_pipeline.verify.order_checks import legs

MAX_EXAMPLE = 40
MAX_PATH = 80
_PERSONAL = "profile"  # who the customer is; only the kinds of its unknown values are reported
_TELLING = re.compile(r"token|secret|passw|key|session|auth|credential|ssn|tax", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Shape:
    """The fields of an object that are known, and the shapes of those that hold objects or lists of them."""

    known: frozenset[str]
    nested: Mapping[str, Shape] = field(default_factory=dict)


def _shape(model: type[BrokerModel], *unused: str, **nested: Shape) -> Shape:
    """What a model reads, and fields that are documented but not used."""
    read = {info.alias or name for name, info in model.model_fields.items()}
    return Shape(frozenset(read.union(unused, nested)), nested)


def _holder(name: str, rows: Shape, *beside: str) -> Shape:
    return Shape(frozenset({name, *beside}), {name: rows})


# Tradier: quotes reference page; `high` and the like are not stored
_QUOTE_UNUSED = (
    *("description", "exch", "change", "change_percentage", "open", "high", "low", "average_volume", "last_volume"),
    *("week_52_high", "week_52_low", "bidsize", "bidexch", "asksize", "askexch", "strike", "expiration_date"),
    *("option_type", "root_symbols"),
)
_GREEKS_UNUSED = ("phi", "bid_iv", "ask_iv", "smv_vol", "updated_at")
_ORDER = _shape(Order, leg=_shape(OrderLeg))
_QUOTE = _shape(Quote, *_QUOTE_UNUSED, greeks=_shape(Greeks, *_GREEKS_UNUSED))
_BALANCES = _shape(Balances, margin=_shape(BuyingPower), pdt=_shape(BuyingPower), cash=_shape(CashBlock))
SHAPES: Mapping[str, Shape] = {
    "account": _holder("profile", _holder("account", _shape(Account), "id", "name")),
    "balances": _holder("balances", _BALANCES),
    "positions": _holder("positions", _holder("position", _shape(Position))),
    "orders": _holder("orders", _holder("order", _ORDER, "page", "total_pages", "total_orders")),
    "order": _holder("order", _ORDER),
    "quotes": _holder("quotes", _holder("quote", _QUOTE, "unmatched_symbols")),
}

# Tradier: what every documented or captured body has, beyond what the models insist on
_ACCOUNT_ALWAYS = ("classification", "option_level", "day_trader", "date_created", "last_update_date")
_BALANCES_ALWAYS = ("equity",)
_MARGIN_ALWAYS = ("sweep",)
_ORDER_ALWAYS = (
    *("type", "symbol", "side", "quantity", "duration", "create_date", "transaction_date"),
    *("avg_fill_price", "exec_quantity", "last_fill_price", "last_fill_quantity", "remaining_quantity"),
)
_ALWAYS_BY_CLASS: Mapping[str, tuple[str, ...]] = {
    "equity": _ORDER_ALWAYS,
    "option": (*_ORDER_ALWAYS, "option_symbol"),
    "multileg": (*_ORDER_ALWAYS, "num_legs", "strategy", "leg"),
    "combo": (*_ORDER_ALWAYS, "num_legs", "strategy", "leg"),
    # captured oco parents have nothing else
    **dict.fromkeys(("oco", "oto", "otoco"), ("create_date", "transaction_date", "leg")),
}
_ALWAYS_BY_TYPE: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("limit", "debit", "credit"), ("price",)),
    "stop": ("stop_price",),
    "stop_limit": ("price", "stop_price"),
}


@check(None, Severity.WARN)
def fields_known(evidence: Evidence) -> RuleResult:
    """Every field of the broker's bodies is one this version knows."""
    found: dict[str, str] = {}
    for resource, documents in evidence.documents.items():
        for path, value in _unknown("", documents, SHAPES[resource]):
            found.setdefault(path[:MAX_PATH], _example(path, value))
    return RuleResult(
        f"{len(found)} unknown fields",
        "kept in the landed bodies only",
        tuple(Difference(path, example, "not stored") for path, example in sorted(found.items())),
    )


@check(None, Severity.WARN)
def fields_complete(evidence: Evidence) -> RuleResult:
    """Every field that the broker is documented to send always was sent."""
    rows: Counter[tuple[str, tuple[str, ...]]] = Counter()
    missing: Counter[str] = Counter()
    for path, row, names in _documented(evidence):
        rows[path, names] += 1
        for name in names:
            if row.get(name) is None:
                missing[f"{path}.{name}"] += 1
    sent: Counter[str] = Counter()
    for (path, names), count in rows.items():
        sent.update({f"{path}.{name}": count for name in names})
    return RuleResult(
        f"{len(missing)} fields missing",
        f"{len(sent)} documented",
        tuple(
            Difference(place, f"missing in {count} of {sent[place]}", "null")
            for place, count in sorted(missing.items())
        ),
    )


def _unknown(path: str, value: Any, shape: Shape) -> Iterator[tuple[str, Any]]:
    for row in value if isinstance(value, list) else [value]:
        if not isinstance(row, dict):
            continue
        for name in row.keys() - shape.known:
            yield f"{path}.{_printable(name)}".removeprefix("."), row[name]
        for name, child in shape.nested.items():
            if name in row:
                yield from _unknown(f"{path}.{name}".removeprefix("."), row[name], child)


def _example(path: str, value: Any) -> str:
    """What a value looks like; only its kind where it may be an object's, a person's or a secret."""
    if isinstance(value, dict | list) or path.startswith(_PERSONAL) or _TELLING.search(path):
        return _kind(value)
    if isinstance(value, str):
        return _printable(value)[:MAX_EXAMPLE]
    return (shown(value) if isinstance(value, Decimal) else json.dumps(value))[:MAX_EXAMPLE]


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")


def _printable(text: str) -> str:
    """Without control characters, which a terminal would obey."""
    return json.dumps(text)[1:-1]


def _documented(evidence: Evidence) -> Iterator[tuple[str, Row, tuple[str, ...]]]:
    """Every object with documented fields: its path, itself, and the fields it must have."""
    yield "profile.account", evidence.account, _ACCOUNT_ALWAYS
    yield "balances", evidence.balances, _BALANCES_ALWAYS
    if isinstance(margin := evidence.balances.get("margin"), dict):
        yield "balances.margin", margin, _MARGIN_ALWAYS
    for order in evidence.orders:
        yield "orders.order", order, _always(order.get("class"), order.get("type"))
        for leg in legs(order):
            yield "orders.order.leg", leg, _always(leg.get("class"), leg.get("type"))


@cache
def _always(class_: str | None, type_: str | None) -> tuple[str, ...]:
    return _ALWAYS_BY_CLASS.get(class_ or "", ()) + _ALWAYS_BY_TYPE.get(type_ or "", ())
