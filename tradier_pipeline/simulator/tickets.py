"""Orders as they are asked for: form parameters to a validated ticket, with the broker's plain-text refusals."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation

from tradier_pipeline.simulator.market import NEW_YORK, ZERO, parse_option

_EQUITY_SIDES = frozenset({"buy", "buy_to_cover", "sell", "sell_short"})
_OPTION_SIDES = frozenset({"buy_to_open", "buy_to_close", "sell_to_open", "sell_to_close"})
_TYPES = {
    "equity": frozenset({"market", "limit", "stop", "stop_limit"}),
    "option": frozenset({"market", "limit", "stop", "stop_limit"}),
    "multileg": frozenset({"market", "debit", "credit", "even"}),
    "combo": frozenset({"market", "debit", "credit", "even"}),
}
_DURATIONS = frozenset({"day", "gtc", "pre", "post"})
_SESSIONS = {"pre": ((7, 0), (9, 24), "pre market"), "post": ((16, 0), (19, 55), "post market")}
_TAG = re.compile(r"[A-Za-z0-9-]+")
_BRACKET_ORDERS = {"oco": 2, "oto": 2, "otoco": 3}


class InvalidParameterError(Exception):
    """A request the broker refuses with a plain-text 400 (Tradier: `Invalid parameter, X: ...`)."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"Invalid parameter, {name}: {why}.")


@dataclass(frozen=True, slots=True)
class Ticket:
    """A valid order before it has an id. Prices USD per share, `price` of a multi-leg order the net per share."""

    cls: str
    type: str | None = None
    symbol: str | None = None
    option_symbol: str | None = None
    side: str | None = None
    quantity: Decimal = ZERO
    duration: str = "day"
    price: Decimal | None = None
    stop: Decimal | None = None
    tag: str | None = None
    strategy: str | None = None
    legs: tuple[Ticket, ...] = ()


def read_ticket(form: Mapping[str, str], now: datetime) -> Ticket:
    """The order a form asks for. Raises InvalidParameterError."""
    cls = form.get("class", "")
    if cls in {"equity", "option"}:
        ticket = _single(form, cls, "", form.get("duration"), form.get("type"))
    elif cls in {"multileg", "combo"}:
        ticket = _spread(form, cls)
    elif cls in _BRACKET_ORDERS:
        ticket = _bracket(form, cls)
    else:
        raise InvalidParameterError("class", f"{cls} is not valid" if cls else "is required")
    for part in (ticket, *ticket.legs):
        _check_session(part.duration, now)
    return replace(ticket, tag=_tag(form.get("tag")))


def read_price(form: Mapping[str, str], name: str) -> Decimal | None:
    """A positive price parameter, None when absent. Raises InvalidParameterError."""
    text = form.get(name)
    if text is None:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise InvalidParameterError(name, "is not a number") from None
    if not number.is_finite() or number <= 0:
        raise InvalidParameterError(name, "must be greater than zero")
    return number


def choice(form: Mapping[str, str], name: str, allowed: frozenset[str], default: str | None = None) -> str:
    """A parameter with a fixed vocabulary. Raises InvalidParameterError."""
    text = form.get(name, default)
    if text is None:
        raise InvalidParameterError(name, "is required")
    if text not in allowed:
        raise InvalidParameterError(name, f"{text} is not valid")
    return text


def read_change(form: Mapping[str, str], cls: str) -> tuple[str | None, str | None, Decimal | None, Decimal | None]:
    """(type, duration, price, stop) of a change request. Raises InvalidParameterError."""
    kinds = _TYPES.get(cls, frozenset())
    kind = choice(form, "type", kinds) if "type" in form else None
    duration = choice(form, "duration", _DURATIONS) if "duration" in form else None
    return kind, duration, read_price(form, "price"), read_price(form, "stop")


def _tag(text: str | None) -> str | None:
    if text is None or text == "":
        return None
    if len(text) > 255:
        raise InvalidParameterError("tag", "contains more than 255 characters")
    if _TAG.fullmatch(text) is None:
        raise InvalidParameterError("tag", "contains invalid characters")
    return text


def _check_session(duration: str, now: datetime) -> None:
    """Pre and post market orders are taken in their session only (Tradier: `pre market no longer available`)."""
    if duration not in _SESSIONS:
        return
    start, end, name = _SESSIONS[duration]
    local = now.astimezone(NEW_YORK)
    if not (local.weekday() < 5 and start <= (local.hour, local.minute) < end):
        raise InvalidParameterError("duration", f"{name} no longer available")


def _quantity(form: Mapping[str, str], name: str) -> Decimal:
    number = read_price(form, name)
    if number is None:
        raise InvalidParameterError(name, "is required")
    if number != number.to_integral_value():
        raise InvalidParameterError(name, "must be a whole number")
    return number


def _instrument(form: Mapping[str, str], cls: str, suffix: str) -> tuple[str, str | None]:
    """(symbol, option_symbol); the symbol of an option is its underlying."""
    text = form.get(f"option_symbol{suffix}") if cls == "option" else None
    if cls == "option":
        option = parse_option((text or "").upper())
        if option is None:
            raise InvalidParameterError(f"option_symbol{suffix}", "is required" if not text else f"{text} is not valid")
        return form.get("symbol", option.underlying).upper(), option.symbol
    symbol = form.get(f"symbol{suffix}") or form.get("symbol")
    if not symbol:
        raise InvalidParameterError(f"symbol{suffix}", "is required")
    return symbol.upper(), None


def _single(form: Mapping[str, str], cls: str, suffix: str, duration: str | None, kind: str | None) -> Ticket:
    """One equity or option order; `suffix` is "[n]" inside a bracket."""
    symbol, option_symbol = _instrument(form, cls, suffix)
    read = {"type": kind} if kind is not None else {}
    chosen = choice(read, "type", _TYPES[cls])
    price, stop = read_price(form, f"price{suffix}"), read_price(form, f"stop{suffix}")
    if chosen in {"limit", "stop_limit"} and price is None:
        raise InvalidParameterError(f"price{suffix}", "is required")
    if chosen in {"stop", "stop_limit"} and stop is None:
        raise InvalidParameterError(f"stop{suffix}", "is required")
    return Ticket(
        cls=cls,
        type=chosen,
        symbol=symbol,
        option_symbol=option_symbol,
        side=choice(form, f"side{suffix}", _EQUITY_SIDES if cls == "equity" else _OPTION_SIDES),
        quantity=_quantity(form, f"quantity{suffix}"),
        duration=choice({"duration": duration} if duration else {}, "duration", _DURATIONS),
        price=price if chosen in {"limit", "stop_limit"} else None,
        stop=stop if chosen in {"stop", "stop_limit"} else None,
    )


def _count(form: Mapping[str, str], name: str) -> int:
    return sum(1 for key in form if re.fullmatch(rf"{name}\[\d+\]", key))


def _spread(form: Mapping[str, str], cls: str) -> Ticket:
    """A multileg (2-4 options) or combo (shares and 1-2 options) order; the legs repeat its type and net price."""
    kind = choice(form, "type", _TYPES[cls])
    duration = choice(form, "duration", _DURATIONS)
    price = read_price(form, "price") if kind in {"debit", "credit"} else None
    if kind in {"debit", "credit"} and price is None:
        raise InvalidParameterError("price", "is required")
    symbol, _ = _instrument(form, "equity", "")
    count = _count(form, "side")
    low, high = (2, 4) if cls == "multileg" else (2, 3)
    if not low <= count <= high:
        raise InvalidParameterError("side", f"{low} to {high} legs are required")
    legs = []
    for n in range(count):
        leg = "equity" if cls == "combo" and n == 0 else "option"
        option_symbol = _instrument(form, "option", f"[{n}]")[1] if leg == "option" else None
        legs.append(
            Ticket(
                cls=leg,
                type=kind,
                symbol=symbol,
                option_symbol=option_symbol,
                side=choice(form, f"side[{n}]", _EQUITY_SIDES if leg == "equity" else _OPTION_SIDES),
                quantity=_quantity(form, f"quantity[{n}]"),
                duration=duration,
                price=price,
            )
        )
    return Ticket(
        cls=cls,
        type=kind,
        symbol=symbol,
        side="buy",  # Tradier: multi-leg parents say buy regardless
        duration=duration,
        price=price,
        strategy=strategy_name(tuple(legs)),
        legs=tuple(legs),
    )


def strategy_name(legs: tuple[Ticket, ...]) -> str:
    """The broker's word for a combination (Tradier: one of them with a space)."""
    options = [option for leg in legs if (option := parse_option(leg.option_symbol or ""))]
    rights = {option.right for option in options}
    if len(options) < len(legs):
        return "collar" if len(options) == 2 else "covered call" if rights == {"call"} else "protective_put"
    if len(legs) == 2 and len(rights) == 2:
        return "straddle" if options[0].strike == options[1].strike else "strangle"
    return {2: "spread", 3: "butterfly", 4: "condor"}.get(len(legs), "unknown")


def _bracket(form: Mapping[str, str], cls: str) -> Ticket:
    """An oco (2), oto (2) or otoco (3) order; its own row carries no symbol, side, type or quantity."""
    count = _BRACKET_ORDERS[cls]
    if _count(form, "side") != count:
        raise InvalidParameterError("side", f"{count} orders are required")
    legs = []
    for n in range(count):
        suffix = f"[{n}]"
        leg = "option" if form.get(f"option_symbol{suffix}") else "equity"
        duration = form.get(f"duration{suffix}") or form.get("duration")
        legs.append(_single(form, leg, suffix, duration, form.get(f"type{suffix}")))
    if cls != "oco" and legs[0].type == "market":
        raise InvalidParameterError("type[0]", "first market order is not allowed")
    rivals = legs if cls == "oco" else legs[1:] if cls == "otoco" else []
    if rivals:
        one, other = rivals
        if one.type == other.type:
            raise InvalidParameterError("type", "must be different for both legs")
        if (one.symbol, one.option_symbol) != (other.symbol, other.option_symbol):
            raise InvalidParameterError("symbol", "must be the same for both legs")
        if one.duration != other.duration:
            raise InvalidParameterError("duration", "must be the same for both legs")
    return Ticket(cls=cls, duration=legs[0].duration, legs=tuple(legs))
