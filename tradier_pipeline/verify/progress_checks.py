"""Plausibility of what the broker says of orders: words, arithmetic of fills, and progress over time. They warn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from itertools import chain
from math import gcd
from typing import Self

from tradier_pipeline import clock
from tradier_pipeline.core.check import claim_that
from tradier_pipeline.core.outcome import Difference, RuleResult, Severity, not_judged, shown
from tradier_pipeline.verify.evidence import Evidence, Row
from tradier_pipeline.verify.order_checks import WORDS
from tradier_pipeline.verify.registry import check

WORKING = ("open", "partially_filled", "pending", "held")
FINISHED = ("filled", "expired", "canceled", "rejected", "error")
PACKAGES = ("multileg", "combo")  # they fill as one, at one net price
CENT = Decimal("0.01")
SHARES = 100  # of a standard contract
ENDING = timedelta(minutes=15)  # until the broker has expired the day orders


@check(39, Severity.WARN)
def order_words_known(evidence: Evidence) -> RuleResult:
    """Status, class, type, side and duration of every order and leg are words of the closed sets."""
    unknown = tuple(
        Difference(f"{_called(part)} {name}", shown(part[f"raw_{name}"]), "unknown")
        for part in _parts(evidence)
        for name in WORDS
        if part[name] == "unknown"
    )
    words = sorted({difference.broker for difference in unknown})
    reported = ", ".join(words)[:50] or "known words"
    return RuleResult(reported, f"{len(unknown)} unknown", unknown, judged=_any_orders(evidence))


@check(40, Severity.WARN)
def order_progress_monotonic(evidence: Evidence) -> RuleResult:
    """Since the previous snapshot, nothing finished works again, and nothing that was filled was taken back."""
    differences: list[Difference] = []
    compared = 0
    for part in _parts(evidence):
        before = evidence.progress_before.get((part["order_id"], part.get("leg_id")))
        if before is None:
            continue
        compared += 1
        if before["status"] in FINISHED and part["status"] not in FINISHED:
            differences.append(Difference(f"{_called(part)} status", part["raw_status"], f"{before['status']} before"))
        filled, had = part["exec_quantity"] or 0, before["exec_quantity"] or 0
        if filled < had:
            differences.append(Difference(f"{_called(part)} exec_quantity", shown(filled), f"{shown(had)} before"))
    went_back = f"{len(differences)} went back"
    return RuleResult(f"{compared} seen before", went_back, tuple(differences), judged=bool(compared))


@check(41, Severity.WARN)
def fill_arithmetic_holds(evidence: Evidence) -> RuleResult:
    """Nothing fills beyond its quantity, what is filled is filled whole, and what works still has the rest to do.

    A package may be counted in packages, as the documents say, or in its legs' contracts, as live answers do.
    """
    differences = [difference for part in _parts(evidence) for difference in _wrong_arithmetic(evidence, part)]
    wrong = f"{len(differences)} do not add up"
    return RuleResult(_counted(evidence), wrong, tuple(differences), judged=_any_orders(evidence))


@check(42, Severity.WARN)
def fill_prices_present(evidence: Evidence) -> RuleResult:
    """Whatever was filled has an average price. It may be zero of a package, and of a leg where all legs net to the
    package's: a wing that is worth nothing is given away with the rest.
    """
    filled = [part for part in _parts(evidence) if part["exec_quantity"]]
    agree = {order["order_id"] for order, legs in _packages(evidence) if _nets(order, legs)}
    wrong = [
        part
        for part in filled
        if part["avg_fill_price"] is None
        or (part["avg_fill_price"] == 0 and part["class"] not in PACKAGES and part["order_id"] not in agree)
    ]
    return RuleResult(
        f"{len(filled)} with fills",
        f"{len(wrong)} without a price",
        tuple(
            Difference(
                f"{_called(part)} avg_fill_price",
                shown(part["avg_fill_price"]),
                f"{shown(part['exec_quantity'])} filled",
            )
            for part in wrong
        ),
        judged=bool(filled),
    )


def _packages(evidence: Evidence) -> list[tuple[Row, list[Row]]]:
    return [
        (order, legs)
        for order in evidence.stored("orders")
        if order["class"] in PACKAGES and (legs := evidence.legs.get(order["order_id"])) and order["quantity"]
    ]


def _nets(order: Row, legs: list[Row]) -> bool:
    """Whether the prices of all legs are known and come to the package's."""
    priced = all(part["avg_fill_price"] is not None for part in (order, *legs))
    return priced and not list(_leg_differences(order, legs))


@check(43, Severity.WARN)
def leg_fills_agree(evidence: Evidence) -> RuleResult:
    """The legs of a package fill in their ratio, and their prices net to the package's within a cent."""
    packages = _packages(evidence)
    differences = [difference for order, legs in packages for difference in _leg_differences(order, legs)]
    disagree = f"{len(differences)} disagree"
    return RuleResult(f"{len(packages)} packages", disagree, tuple(differences), judged=bool(packages))


@check(44, Severity.WARN)
def working_orders_found(evidence: Evidence) -> RuleResult:
    """Every order that had been working and left the list was found by its id."""
    lookups = [lookup for lookup in evidence.landed.manifest.lookups if lookup.about == "vanished"]
    lost = [lookup for lookup in lookups if lookup.state != "found"]
    return RuleResult(
        f"{len(lookups)} orders left the list",
        f"{len(lookups) - len(lost)} found by id",
        tuple(
            Difference(
                f"order {lookup.order_id}", lookup.state, lookup.reason or f"{lookup.times_not_found} times unknown"
            )
            for lookup in lost
        ),
        judged=bool(lookups),
    )


@check(46, Severity.WARN)
def orders_tagged(evidence: Evidence) -> RuleResult:
    """Every order carries a tag: none was placed by hand or by another program."""
    orders = evidence.stored("orders")
    untagged = [order for order in orders if not order["tag"]]
    return RuleResult(
        f"{len(orders)} orders",
        f"{len(untagged)} without a tag",
        tuple(
            Difference(
                _called(order), f"{order['raw_side'] or order['raw_class']} {order['symbol'] or ''}".strip(), "no tag"
            )
            for order in untagged
        ),
        judged=bool(orders),
    )


@check(51, Severity.WARN)
def rejections_explained(evidence: Evidence) -> RuleResult:
    """Every order that was rejected or ended in an error says why."""
    refused = [order for order in evidence.stored("orders") if order["status"] in ("rejected", "error")]
    silent = [order for order in refused if not (order["reason"] or "").strip()]
    return RuleResult(
        f"{len(refused)} refused",
        f"{len(silent)} without a reason",
        tuple(Difference(_called(order), order["status"], "no reason") for order in silent),
        judged=bool(refused),
    )


@check(52, Severity.WARN)
def day_orders_end_with_session(evidence: Evidence) -> RuleResult:
    """A quarter of an hour after the close, no day order works any more that was there before it."""
    (header,), (gate,) = evidence.stored("tradier_snapshots"), evidence.stored("trade_gate_readings")
    close = gate["session_close"]
    if close is None or header["as_of"] <= close + ENDING:
        return not_judged("the session is not over")
    orders = [order for order in evidence.stored("orders") if order["duration"] == "day"]
    # one that was created after the close waits for the next session
    late = [order for order in orders if order["status"] in WORKING and order["create_date"] < close]
    return RuleResult(
        f"{len(orders)} day orders",
        f"{len(late)} still work",
        tuple(Difference(_called(order), order["raw_status"], f"closed at {clock.iso(close)}") for order in late),
        judged=bool(orders),
    )


@check(53, Severity.WARN)
def leg_effects_fit(evidence: Evidence) -> RuleResult:
    """Option orders open or close, nothing closes more than was held, and a credit is received, a debit paid."""
    differences = [*_plain_sides(evidence), *_closed_beyond_held(evidence), *_wrong_way_money(evidence)]
    wrong = f"{len(differences)} do not fit"
    return RuleResult(_counted(evidence), wrong, tuple(differences), judged=_any_orders(evidence))


@dataclass(frozen=True, slots=True)
class _Package:
    """An order of several legs that fill as one, counted in packages and in contracts.

    Attributes:
        quantity: packages that were ordered.
        filled: whole packages, as many as the leg has that has the fewest.
        contracts, contracts_filled: of all legs together.
    """

    quantity: Decimal
    filled: Decimal
    contracts: Decimal
    contracts_filled: Decimal

    @classmethod
    def of(cls, order: Row, legs: Sequence[Row]) -> Self | None:
        """None where the numbers of the legs are not known, or are in no ratio to the order's."""
        ordered, filled = [leg["quantity"] for leg in legs], [leg["exec_quantity"] for leg in legs]
        if not order["quantity"] or not all(ordered) or None in filled:
            return None
        quantity = order["quantity"]
        if any(one % quantity for one in ordered):
            if quantity != sum(ordered) or any(one % 1 for one in ordered):
                return None
            quantity = Decimal(gcd(*map(int, ordered)))
        whole = min(done * quantity / one for done, one in zip(filled, ordered, strict=True))
        return cls(quantity, whole // 1, sum(ordered), sum(filled))


def _package(evidence: Evidence, part: Row) -> _Package | None:
    is_parent = "leg_id" not in part and part["class"] in PACKAGES
    legs = evidence.legs.get(part["order_id"]) if is_parent else None
    return _Package.of(part, legs) if legs else None


def _counts(evidence: Evidence, part: Row) -> list[tuple[Decimal, Decimal]]:
    """How much was ordered, and how much of it is filled, in each way that the broker may count it."""
    quantity, filled = part["quantity"], part["exec_quantity"]
    if package := _package(evidence, part):
        return [(package.quantity, package.filled), (package.contracts, package.contracts_filled)]
    if part["order_id"] in evidence.legless and part["class"] in PACKAGES:
        return [(quantity, filled), (quantity * (part["num_legs"] or 1), filled)]
    return [(quantity, filled)]


def _wrong_arithmetic(evidence: Evidence, part: Row) -> Iterator[Difference]:
    quantity, filled, rest = part["quantity"], part["exec_quantity"], part["remaining_quantity"]
    if quantity is None or filled is None:
        return
    counts = _counts(evidence, part)
    wholes = [whole for whole, done in counts if done == filled and 0 <= done <= whole]
    works = part["status"] in WORKING and rest is not None
    wrong = (
        not wholes
        or (part["status"] == "filled" and filled not in wholes)
        or (works and rest not in [whole - done for whole, done in counts])
    )
    if wrong:
        text = f"{shown(filled)} filled, {shown(rest)} remaining"
        yield Difference(f"{_called(part)} {part['status']}", text, f"quantity {shown(quantity)}")


def _parts(evidence: Evidence) -> Iterator[Row]:
    """Every stored order, then every leg."""
    return chain(evidence.stored("orders"), evidence.stored("order_legs"))


def _called(part: Row) -> str:
    return f"order {part['order_id']} leg {part['leg_id']}" if "leg_id" in part else f"order {part['order_id']}"


def _any_orders(evidence: Evidence) -> bool:
    return next(_parts(evidence), None) is not None


def _counted(evidence: Evidence) -> str:
    return f"{len(evidence.stored('orders'))} orders, {len(evidence.stored('order_legs'))} legs"


def _sign(part: Row) -> int:
    return 1 if str(part["side"]).startswith("buy") else -1


def _leg_differences(order: Row, legs: list[Row]) -> Iterator[Difference]:
    if any(leg["quantity"] is None or leg["exec_quantity"] is None for leg in legs) or order["exec_quantity"] is None:
        return
    package = _Package.of(order, legs)
    if package is None:
        ordered = "+".join(shown(leg["quantity"]) for leg in legs)
        yield Difference(f"{_called(order)} quantity", shown(order["quantity"]), f"legs {ordered}")
        return
    in_contracts = order["exec_quantity"] == package.contracts_filled
    filled = package.filled if in_contracts else order["exec_quantity"]
    for leg in legs:
        in_ratio = leg["exec_quantity"] * package.quantity == filled * leg["quantity"]
        text = f"{shown(leg['exec_quantity'])} of {shown(leg['quantity'])}"
        whole = f"package {shown(filled)} of {shown(package.quantity)}"
        yield from claim_that(in_ratio, f"{_called(leg)} exec_quantity", text, whole)
    prices = [leg["avg_fill_price"] for leg in legs]
    if not order["exec_quantity"] or order["avg_fill_price"] is None or None in prices:
        return
    # per share of the package: a leg of stock has as many shares as contracts stand for
    net = sum(
        (
            _sign(leg)
            * leg["avg_fill_price"]
            * leg["quantity"]
            / package.quantity
            / (1 if leg["option_symbol"] else SHARES)
            for leg in legs
        ),
        Decimal(0),
    )
    agree = abs(net - order["avg_fill_price"]) <= CENT
    yield from claim_that(agree, f"{_called(order)} avg_fill_price", order["avg_fill_price"], f"legs net {shown(net)}")


def _plain_sides(evidence: Evidence) -> Iterator[Difference]:
    """Option orders and legs whose side neither opens nor closes. A package itself says `buy`, whatever its legs do."""
    for part in _parts(evidence):
        if part["class"] == "option" and part["side"] in ("buy", "sell", "sell_short", "buy_to_cover"):
            yield Difference(f"{_called(part)} side", part["side"], "to open or to close")


def _closed_beyond_held(evidence: Evidence) -> Iterator[Difference]:
    """Symbols of which more was closed since the previous snapshot of the day than was held then or opened since."""
    (header,), previous = evidence.stored("tradier_snapshots"), evidence.previous
    if previous is None or previous["trade_date"] != header["trade_date"]:
        return
    held: dict[str, Decimal] = defaultdict(Decimal)
    for row in evidence.held_before:
        held[row["symbol"]] += row["quantity"]
    opened: dict[tuple[str, int], Decimal] = defaultdict(Decimal)
    closed: dict[tuple[str, int], Decimal] = defaultdict(Decimal)
    for fill in evidence.fills:
        way = 1 if fill.side.startswith("buy") else -1
        if fill.side.endswith("_to_open"):
            opened[fill.symbol, way] += abs(fill.quantity + fill.late)
        elif fill.side.endswith("_to_close"):
            closed[fill.symbol, -way] += abs(fill.quantity)
    for (symbol, way), quantity in closed.items():
        had = max(Decimal(0), way * held[symbol]) + opened[symbol, way]
        if quantity > had:
            yield Difference(symbol, f"{shown(quantity)} closed", f"{shown(had)} held")


def _wrong_way_money(evidence: Evidence) -> Iterator[Difference]:
    for order in evidence.stored("orders"):
        price = order["avg_fill_price"]
        if order["exec_quantity"] and price and order["class"] in PACKAGES and order["type"] in ("credit", "debit"):
            received = price < 0  # Tradier: negative for a net credit
            if received != (order["type"] == "credit"):
                yield Difference(f"{_called(order)} avg_fill_price", shown(price), order["type"])
