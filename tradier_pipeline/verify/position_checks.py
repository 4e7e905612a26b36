"""Checks of positions and quotes: nothing missing, nothing extra, quantities, costs and symbols exact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from tradier_pipeline.broker.symbols import classify
from tradier_pipeline.core.outcome import Difference, RuleResult, Severity, shown
from tradier_pipeline.verify.check import check, claim_that, differing
from tradier_pipeline.verify.evidence import Evidence, Row, by_key, instant, number, rounded, storable, whole
from tradier_pipeline.verify.order_checks import legs

LAG = timedelta(minutes=1)  # the broker's clock may be behind ours, and its positions behind its orders
QUOTE_NUMBERS = ("bid", "ask", "last", "close", "prevclose", "volume", "open_interest")
QUOTE_WORDS = ("type", "underlying", "root_symbol", "expiration_type")
QUOTE_INSTANTS = {"bid_date": "bid_date", "ask_date": "ask_date", "last_date": "trade_date"}
QUOTE_GREEKS = ("delta", "gamma", "theta", "vega", "rho", "mid_iv")


@check(5)
def position_counts_equal(evidence: Evidence) -> RuleResult:
    """As many rows are stored as the broker listed, and their classes add up to it."""
    listed, stored = evidence.listed("positions"), evidence.stored("positions")
    classes = Counter(row["asset_class"] for row in stored)
    known = sum(classes[name] for name in ("equity", "option", "adjusted_option", "unparsed"))
    text = ", ".join(f"{count} {name}" for name, count in sorted(classes.items()))
    return RuleResult(
        f"{len(listed)} listed",
        f"{len(stored)} stored ({text})",
        claim_that(len(listed) == len(stored) == known, "positions", len(listed), f"{len(stored)} ({text})"),
    )


@check(7, Severity.WARN)
def flat_is_explained(evidence: Evidence) -> RuleResult:
    """An account that held positions and now holds none was closed by fills or expiry; on a later day, its balances
    must show no market value either."""
    previous = evidence.previous
    held = evidence.held_before
    now_held = len(evidence.listed("positions"))
    if previous is None or not held or now_held:
        return RuleResult(f"{now_held} positions", f"{len(held)} before")
    (header,) = evidence.stored("tradier_snapshots")
    if header["trade_date"] != previous["trade_date"]:  # the broker's list of orders covers the current day only
        value = number(evidence.balances["market_value"])
        unexplained = claim_that(value == 0, "market_value", f"{shown(value)} USD", "0 positions")
    else:
        closed = set(_filled_symbols(evidence, previous["as_of"] - LAG))
        unknown = {row.get("symbol") for row in evidence.listed("orders") if _lacks_legs(row)}
        unexplained = tuple(
            Difference(row["symbol"], "neither filled nor expired", f"{shown(row['quantity'])} held before")
            for row in held
            if row["symbol"] not in closed and row["underlying"] not in unknown
            if not _expired(row, header["trade_date"])
        )
    return RuleResult("0 positions", f"{len(held)} before", unexplained)


@check(24)
def position_keys_equal(evidence: Evidence) -> RuleResult:
    """The stored symbols are the listed symbols: none missing, none extra."""
    listed = Counter(row["symbol"] for row in evidence.listed("positions"))
    stored = Counter(row["symbol"] for row in evidence.stored("positions"))
    differences = tuple(
        Difference(symbol, f"{listed[symbol]} rows", f"{stored[symbol]} rows")
        for symbol in sorted(listed.keys() | stored.keys())
        if listed[symbol] != stored[symbol]
    )
    return RuleResult(f"{len(listed)} symbols", f"{len(stored)} symbols", differences)


@check(25)
def position_quantities_equal(evidence: Evidence) -> RuleResult:
    """Every signed quantity equals the listed one."""
    expected = {key: {"quantity": storable(row["quantity"])} for key, row in _listed(evidence).items()}
    stored = _stored(evidence)
    total = sum((row["quantity"] or Decimal(0) for row in expected.values()), Decimal(0))
    ours = sum((row["quantity"] for row in stored.values()), Decimal(0))
    return RuleResult(f"sum {shown(total)}", f"sum {shown(ours)}", differing("position", expected, stored))


@check(26)
def cost_basis_equal(evidence: Evidence) -> RuleResult:
    """Every total cost equals the listed one, and the cost per contract is that total divided by the quantity."""
    expected = {key: _costs(row) for key, row in _listed(evidence).items()}
    stored = _stored(evidence)
    total = sum((row["cost_basis"] for row in expected.values()), Decimal(0))
    ours = sum((row["cost_basis"] for row in stored.values()), Decimal(0))
    return RuleResult(f"sum {shown(total)} USD", f"sum {shown(ours)} USD", differing("position", expected, stored))


@check(27)
def side_matches_sign(evidence: Evidence) -> RuleResult:
    """Long is a positive quantity, short a negative one, and a quantity of zero has no side."""
    differences: list[Difference] = []
    for row in evidence.stored("positions"):
        side = "long" if row["quantity"] > 0 else "short" if row["quantity"] < 0 else None
        differences += claim_that(row["side"] == side, f"{row['symbol']} side", side, row["side"])
    return RuleResult("signs", f"{len(evidence.stored('positions'))} sides", tuple(differences))


@check(28, Severity.WARN)
def one_row_per_symbol(evidence: Evidence) -> RuleResult:
    """The broker lists every symbol once."""
    counts = Counter(row["symbol"] for row in evidence.listed("positions"))
    repeated = tuple(Difference(symbol, f"{count} rows", "1") for symbol, count in counts.items() if count > 1)
    return RuleResult(f"{sum(counts.values())} rows", f"{len(counts)} symbols", repeated)


@check(29)
def symbols_round_trip(evidence: Evidence) -> RuleResult:
    """Root, expiration, type and strike of every stored option rebuild its symbol."""
    options = [row for row in evidence.stored("positions") if row["asset_class"] in ("option", "adjusted_option")]
    differences: list[Difference] = []
    for row in options:
        compact = "".join(row["symbol"].split())
        differences += claim_that(_rebuilt(row) == compact, f"position {row['row_no']}", compact, _rebuilt(row))
    return RuleResult(f"{len(options)} options", "rebuilt", tuple(differences))


@check(30, Severity.WARN)
def positions_all_parsed(evidence: Evidence) -> RuleResult:
    """No position with a quantity has a symbol that could not be understood."""
    unparsed = [row for row in evidence.stored("positions") if row["asset_class"] == "unparsed" and row["quantity"]]
    return RuleResult(
        f"{len(evidence.stored('positions'))} positions",
        f"{len(unparsed)} unparsed",
        tuple(Difference(row["symbol"], f"quantity {shown(row['quantity'])}", "unparsed") for row in unparsed),
    )


@check(None)
def position_values_equal(evidence: Evidence) -> RuleResult:
    """Ids, dates, classes and prices of every position follow from the broker's row, its symbol and its quote."""
    quotes = _quotes(evidence)
    expected = {key: _expected_position(row, quotes.get(row["symbol"], {})) for key, row in _listed(evidence).items()}
    stored = _stored(evidence)
    return RuleResult(f"{len(expected)} positions", f"{len(stored)} stored", differing("position", expected, stored))


@check(None)
def quotes_equal(evidence: Evidence) -> RuleResult:
    """Every stored quote equals the broker's, and none is missing but malformed ones."""
    expected = {(symbol,): row for symbol, row in _quotes(evidence).items()}
    rows = evidence.stored("quotes")
    differences = differing("quote", expected, by_key(rows, "symbol"))
    differences += claim_that(len(rows) == len(expected), "quotes", len(expected), len(rows))
    return RuleResult(f"{len(expected)} quotes", f"{len(rows)} stored", differences)


@check(34, Severity.WARN)
def quotes_cover_positions(evidence: Evidence) -> RuleResult:
    """Every held symbol has a quote."""
    held = {row["symbol"] for row in evidence.listed("positions")}
    missing = sorted(held - {row["symbol"] for row in evidence.stored("quotes")})
    malformed = {row.get("symbol") for row in evidence.listed("quotes")}
    reason = evidence.landed.quotes.reason if evidence.landed.quotes else "the quotes were not read"
    return RuleResult(
        f"{len(held)} symbols",
        f"{len(held) - len(missing)} quoted",
        tuple(
            Difference(symbol, "malformed" if symbol in malformed else reason or "not quoted by the broker", "null")
            for symbol in missing
        ),
    )


def _listed(evidence: Evidence) -> dict[tuple[Any, ...], Row]:
    return {(row_no, row["symbol"]): row for row_no, row in enumerate(evidence.listed("positions"), 1)}


def _stored(evidence: Evidence) -> dict[tuple[Any, ...], Row]:
    return dict(by_key(evidence.stored("positions"), "row_no", "symbol"))


def _filled_symbols(evidence: Evidence, since: datetime) -> Iterator[str]:
    """Symbols that filled since an instant. An order with legs names the underlying, so its legs count instead."""
    for order in evidence.listed("orders"):
        for part in [] if _lacks_legs(order) else legs(order) or [order]:
            changed = instant(part.get("transaction_date") or order.get("transaction_date"))
            if part.get("exec_quantity") and (changed is None or changed >= since):
                yield part.get("option_symbol") or part.get("symbol") or ""


def _lacks_legs(order: Row) -> bool:
    """Whether what an order of several filled is not known: it names its underlying, and no legs."""
    return (
        order.get("class") in ("multileg", "combo", "oto", "oco", "otoco")
        and not legs(order)
        and bool(order.get("exec_quantity"))
    )


def _expired(row: Row, today: date) -> bool:
    return row["expiration"] is not None and row["expiration"] <= today


def _rebuilt(row: Row) -> str:
    thousandths = row["strike"] * 1000
    return f"{row['root']}{row['expiration']:%y%m%d}{row['option_type'][0].upper()}{int(thousandths):08d}"


def _quotes(evidence: Evidence) -> dict[str, Row]:
    """What must be stored of every quote that is well-formed, by symbol."""
    quotes: dict[str, Row] = {}
    for raw in evidence.listed("quotes"):
        with suppress(LookupError, ValueError, ArithmeticError):
            quotes[_text(raw["symbol"])] = _expected_quote(raw)
    return quotes


def _costs(raw: Row) -> Row:
    quantity, cost = _held(raw)
    return {"cost_basis": cost, "cost_basis_per_contract": rounded(abs(cost) / abs(quantity)) if quantity else None}


def _held(raw: Row) -> tuple[Decimal, Decimal]:
    """Quantity and total cost, as they must be stored."""
    quantity, cost = storable(raw["quantity"]), storable(raw["cost_basis"])
    if quantity is None or cost is None:
        raise ValueError(f"{raw['symbol']} has no quantity or no cost")
    return quantity, cost


def _expected_position(raw: Row, quote: Row) -> Row:
    classified = classify(raw["symbol"])
    option = classified.option
    size = quote.get("contract_size")
    multiplier = 1 if classified.asset_class == "equity" else size or (option.multiplier if option else None)
    quantity, cost = _held(raw)
    mark = _mark(quote)
    value = None if mark is None or multiplier is None else rounded(quantity * mark * multiplier)
    return {
        "position_id": whole(raw["id"]),
        "date_acquired": instant(raw["date_acquired"]),
        "asset_class": classified.asset_class,
        "root": option.root if option else None,
        "underlying": (quote.get("underlying") or option.underlying) if option else None,
        "expiration": option.expiration if option else None,
        "option_type": option.option_type if option else None,
        "strike": option.strike if option else None,
        "multiplier": multiplier,
        **{name: quote.get(name) for name in ("bid", "ask", "last")},
        "mark": mark,
        "market_value": value,
        "unrealized_pl": None if value is None else rounded(value + abs(cost) if quantity < 0 else value - abs(cost)),
    }


def _mark(quote: Row) -> Decimal | None:
    bid, ask, last = (quote.get(name) for name in ("bid", "ask", "last"))
    return last if bid is None or ask is None else rounded((bid + ask) / 2)


def _expected_quote(raw: Row) -> Row:
    greeks, size = raw.get("greeks"), raw.get("contract_size")
    if greeks is not None and not isinstance(greeks, dict):
        raise ValueError(f"{greeks!r} are no greeks")
    if size is not None and (type(size) is not int or not 0 < size < 2**31):
        raise ValueError(f"{size!r} is not a contract size")
    return {
        **{name: storable(raw.get(name)) for name in QUOTE_NUMBERS},
        **{name: None if raw.get(name) is None else _text(raw[name]) for name in QUOTE_WORDS},
        "contract_size": size,
        **{column: _from_milliseconds(raw.get(field)) for column, field in QUOTE_INSTANTS.items()},
        **{name: _model_value((greeks or {}).get(name)) for name in QUOTE_GREEKS},
    }


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    return value


def _model_value(value: Any) -> float | None:
    exact = number(value)
    return None if exact is None else float(exact)


def _from_milliseconds(epoch: Any) -> datetime | None:
    if epoch is None:
        return None
    if type(epoch) is not int or epoch < 0:
        raise ValueError(f"{epoch!r} is not an epoch in milliseconds")
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=epoch) if epoch else None
