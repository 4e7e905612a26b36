"""Plausibility of what the broker says is held: contracts against their quotes, changes against fills. They warn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from tradier_pipeline.broker.symbols import classify, letters
from tradier_pipeline.core.check import claim_that
from tradier_pipeline.core.outcome import Difference, RuleResult, Severity, not_judged, shown
from tradier_pipeline.verify.evidence import Evidence, Row, quantities
from tradier_pipeline.verify.registry import check

MAX_QUOTE_AGE = timedelta(seconds=120)
FRIDAY = 4
SHARES = 100  # of a standard contract
FEW_POSITIONS = 2
OPTIONS = ("option", "adjusted_option")


@check(8, Severity.WARN)
def holdings_do_not_drop(evidence: Evidence) -> RuleResult:
    """Since the previous snapshot of the day, at most two positions, or a quarter, went without a cause."""
    (header,), previous = evidence.stored("tradier_snapshots"), evidence.previous
    if previous is None or previous["trade_date"] != header["trade_date"] or header["verdict"] == "doubtful":
        return not_judged("doubtful, or the first snapshot of the day")
    now, before = quantities(evidence.stored("positions")), quantities(evidence.held_before)
    settled = {row["symbol"] for row in evidence.held_before if _expired(row, evidence)}
    delivered = {gone for _, _, gone in _deliveries(evidence)}
    gone = sorted((before.keys() & evidence.unexplained.keys()) - now.keys() - settled - delivered)
    most = max(FEW_POSITIONS, len(before) // 4)
    return RuleResult(
        f"{len(gone)} of {len(before)} gone",
        f"at most {most}",
        tuple(Difference(symbol, "gone", f"{shown(before[symbol])} held") for symbol in gone if len(gone) > most),
    )


@check(31, Severity.WARN)
def contract_metadata_agrees(evidence: Evidence) -> RuleResult:
    """The quote of every held option tells the contract that its symbol names, and how many shares it stands for."""
    quotes = {row.get("symbol"): row for row in evidence.listed("quotes")}
    options = [row for row in evidence.stored("positions") if row["asset_class"] in OPTIONS]
    quoted = [(row, quotes[row["symbol"]]) for row in options if row["symbol"] in quotes]
    differences = [
        Difference(f"{row['symbol']} {what}", shown(reported), shown(named))
        for row, quote in quoted
        for what, reported, named in _contract_terms(row, quote)
        if reported != named
    ]
    return RuleResult(
        f"{len(quoted)} quotes of options", f"{len(options)} options held", tuple(differences), judged=bool(quoted)
    )


@check(32, Severity.WARN)
def no_expired_position_held(evidence: Evidence) -> RuleResult:
    """No option is held on a business day after its expiration."""
    (header,) = evidence.stored("tradier_snapshots")
    today = _business_day(header["trade_date"])
    options = [row for row in evidence.stored("positions") if row["expiration"] is not None and row["quantity"]]
    expired = [row for row in options if row["expiration"] < today]
    return RuleResult(
        f"{len(options)} options held",
        f"{len(expired)} expired before {today}",
        tuple(
            Difference(row["symbol"], f"{shown(row['quantity'])} held", f"expired {row['expiration']}")
            for row in expired
        ),
        judged=bool(options),
    )


@check(33, Severity.WARN)
def quotes_sane(evidence: Evidence) -> RuleResult:
    """No bid is above its ask, none is negative, and live quotes of the session are at most 120 seconds old.

    An index is not judged: nobody bids for it.
    """
    quotes = [quote for quote in evidence.stored("quotes") if quote["type"] != "index"]
    read_at = _when_freshness_matters(evidence)
    differences: list[Difference] = []
    for quote in quotes:
        symbol, bid, ask = quote["symbol"], quote["bid"], quote["ask"]
        for name in ("bid", "ask"):
            differences += claim_that(quote[name] is None or quote[name] >= 0, f"{symbol} {name}", quote[name], ">= 0")
        differences += claim_that(
            bid is None or ask is None or bid <= ask, symbol, f"bid {shown(bid)}", f"ask {shown(ask)}"
        )
        dates = [quote[name] for name in ("bid_date", "ask_date") if quote[name] is not None]
        if read_at is not None and dates:
            age = read_at - max(dates)
            seconds = f"{age.total_seconds():.0f} s old"
            differences += claim_that(age <= MAX_QUOTE_AGE, symbol, seconds, f"at most {MAX_QUOTE_AGE.seconds} s")
    ages = "ages judged" if read_at else "ages not judged"
    return RuleResult(f"{len(quotes)} quotes", ages, tuple(differences), judged=bool(quotes))


@check(35, Severity.WARN)
def positions_follow_fills(evidence: Evidence) -> RuleResult:
    """Since the previous snapshot of the day, every position changed by what filled, by expiry or by an assignment."""
    (header,), previous = evidence.stored("tradier_snapshots"), evidence.previous
    if previous is None:
        return not_judged("the first snapshot")
    if previous["trade_date"] != header["trade_date"]:
        return not_judged("the list covers one day")
    if header["verdict"] == "doubtful":
        return not_judged("doubtful")
    now, before = quantities(evidence.stored("positions")), quantities(evidence.held_before)
    filled: dict[str, Decimal] = defaultdict(Decimal)
    for fill in evidence.fills:
        filled[fill.symbol] += fill.quantity
    settled = {row["symbol"] for row in evidence.held_before if _expired(row, evidence)} - now.keys()
    delivered = {symbol for symbol, _, _ in _deliveries(evidence)}
    differences = tuple(
        Difference(
            symbol,
            f"{shown(before.get(symbol, Decimal(0)))} -> {shown(now.get(symbol, Decimal(0)))}",
            f"{shown(filled[symbol])} filled",
        )
        for symbol in sorted(evidence.unexplained.keys() - settled - delivered)
    )
    changed = sum(now.get(symbol) != before.get(symbol) for symbol in now.keys() | before.keys())
    return RuleResult(f"{changed} positions changed", f"{len(filled)} symbols filled", differences)


@check(36, Severity.WARN)
def short_options_covered(evidence: Evidence) -> RuleResult:
    """Every short option is covered by a long one of its root and type that lives as long, or by stock."""
    positions = [row for row in evidence.stored("positions") if row["quantity"]]
    stock: dict[str, Decimal] = defaultdict(Decimal)
    options: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in positions:
        if row["asset_class"] == "equity":
            stock[letters(row["symbol"])] += row["quantity"]
        elif row["asset_class"] in OPTIONS:
            options[letters(row["underlying"]), row["option_type"], row["root"]].append(row)
    differences: list[Difference] = []
    for (underlying, option_type, _), rows in sorted(options.items()):
        way = 1 if option_type == "call" else -1  # shares cover calls, and sold shares cover puts
        for row, naked in _uncovered(rows):
            size: int = row["multiplier"] or SHARES
            by_stock = min(naked, max(Decimal(0), way * stock[underlying] // size))
            stock[underlying] -= way * by_stock * size
            if naked > by_stock:
                text = f"{shown(naked - by_stock)} uncovered"
                differences.append(Difference(row["symbol"], f"{shown(row['quantity'])} held", text))
    shorts = sum(row["quantity"] < 0 for rows in options.values() for row in rows)
    uncovered = f"{len(differences)} uncovered"
    return RuleResult(f"{shorts} short options", uncovered, tuple(differences), judged=bool(shorts))


@check(37, Severity.WARN)
def stock_not_from_assignment(evidence: Evidence) -> RuleResult:
    """No stock came or went by the hundred, without a fill, while an option on it went: no assignment or exercise."""
    deliveries = _deliveries(evidence)
    return RuleResult(
        f"{len(deliveries)} deliveries of stock",
        "-",
        tuple(
            Difference(symbol, f"{shown(shares)} without a fill", f"{gone} gone") for symbol, shares, gone in deliveries
        ),
        judged=evidence.previous is not None,
    )


def _contract_terms(row: Row, quote: Row) -> Iterator[tuple[str, Any, Any]]:
    """What the quote tells of a contract beside what its symbol names. What the quote leaves out is not judged."""
    option = classify(row["symbol"]).option
    if option is None:
        return
    size = quote.get("contract_size")
    if option.multiplier is None:  # an adjusted contract: only the quote can tell
        yield "contract size", "reported" if size else "not reported", "reported"
    named: dict[str, tuple[str, Any]] = {
        "contract_size": ("contract size", option.multiplier or size),
        "expiration_date": ("expiration", option.expiration.isoformat()),
        "option_type": ("type", option.option_type),
        "strike": ("strike", option.strike),
    }
    for field, (what, value) in named.items():
        if quote.get(field) is not None:
            yield what, quote[field], value
    if quote.get("root_symbol") not in (None, option.root, option.root.rstrip("0123456789")):
        yield "root", quote["root_symbol"], option.root
    if quote.get("underlying") is not None:
        yield "underlying", letters(str(quote["underlying"])), letters(option.underlying)


def _business_day(day: date) -> date:
    """The day itself, or the Friday before a weekend: expired contracts leave the list over night."""
    return day - timedelta(days=max(0, day.weekday() - FRIDAY))


def _when_freshness_matters(evidence: Evidence) -> datetime | None:
    """When the quotes were read, if they are live and the market was open: others are delayed, simulated or at rest."""
    manifest, quotes = evidence.landed.manifest, evidence.landed.quotes
    (gate,) = evidence.stored("trade_gate_readings")
    opens, closes = gate["session_open"], gate["session_close"]  # no holiday, and half days end early
    if manifest.environment != "live" or quotes is None or not quotes.pages or opens is None:
        return None
    read_at = max(page.ended_at for page in quotes.pages)
    return read_at if opens <= read_at < closes else None


def _deliveries(evidence: Evidence) -> list[tuple[str, Decimal, str]]:
    """Stock that changed by the hundred, and an option on it that went, both without a fill: symbol, shares, option."""
    (header,) = evidence.stored("tradier_snapshots")
    if evidence.previous is None or header["verdict"] == "doubtful":  # which concludes nothing
        return []
    rests = evidence.unexplained
    gone = {
        letters(row["underlying"]): row["symbol"]
        for row in evidence.held_before
        if row["asset_class"] in OPTIONS and row["quantity"] * rests.get(row["symbol"], Decimal(0)) < 0
    }
    return [
        (symbol, rest, gone[letters(symbol)])
        for symbol, rest in sorted(rests.items())
        if letters(symbol) in gone and classify(symbol).option is None and not rest % SHARES
    ]


def _uncovered(rows: list[Row]) -> Iterator[tuple[Row, Decimal]]:
    """The short rows of one root and type, and how much of each no long one that expires then or later covers."""
    longs: list[tuple[date, Decimal]] = sorted(
        (row["expiration"], row["quantity"]) for row in rows if row["quantity"] > 0
    )
    spare = Decimal(0)
    # the latest first: what may cover it may cover all earlier ones
    for row in sorted((row for row in rows if row["quantity"] < 0), key=lambda row: row["expiration"], reverse=True):
        while longs and longs[-1][0] >= row["expiration"]:
            spare += longs.pop()[1]
        naked = max(Decimal(0), -row["quantity"] - spare)
        spare = max(Decimal(0), spare + row["quantity"])
        if naked:
            yield row, naked


def _expired(row: Row, evidence: Evidence) -> bool:
    """Whether an option had reached its expiration time when the snapshot was read."""
    option = classify(row["symbol"]).option
    if option is None:
        return False
    (header,) = evidence.stored("tradier_snapshots")
    if option.expiration != header["trade_date"]:
        return bool(option.expiration < header["trade_date"])
    closes = [reading["session_close"] for reading in evidence.stored("trade_gate_readings")]
    return bool(option.expires_at(closes[0] if closes else None) <= header["as_of_end"])
