"""Checks of orders and their legs: every one stored, every field as the broker sent it."""

from __future__ import annotations

from tradier_pipeline.core.outcome import RuleResult
from tradier_pipeline.verify.check import check, claim_that, differing
from tradier_pipeline.verify.evidence import Evidence, Row, by_key, instant, storable, whole

WORDS = {
    "status": {"open", "partially_filled", "filled", "expired", "canceled", "pending", "rejected", "error", "held"},
    "class": {"equity", "option", "multileg", "combo", "oto", "oco", "otoco"},
    "type": {"market", "limit", "stop", "stop_limit", "debit", "credit", "even"},
    "side": {f"{action}{effect}" for action in ("buy", "sell") for effect in ("", "_to_open", "_to_close")}
    | {"sell_short", "buy_to_cover"},
    "duration": {"day", "gtc", "pre", "post"},
}
# words that are stored as another one of the set, beside the word itself
STORED_AS = {
    "status": {
        **dict.fromkeys(("pending_cancel", "open_pending", "submitted"), "pending"),
        **dict.fromkeys(("calculated", "accepted_for_bidding"), "held"),
    }
}
AS_SENT = ("symbol", "option_symbol")
NUMBERS = (
    "quantity",
    "price",
    "stop_price",
    "avg_fill_price",
    "exec_quantity",
    "last_fill_price",
    "last_fill_quantity",
    "remaining_quantity",
)
INSTANTS = ("create_date", "transaction_date")


@check(6)
def order_counts_equal(evidence: Evidence) -> RuleResult:
    """As many orders and legs are stored as the broker listed on all pages and reported by id."""
    listed, stored = evidence.orders, evidence.stored("orders")
    listed_legs = sum(len(legs(order)) for order in listed)
    stored_legs = evidence.stored("order_legs")
    differences = [
        *claim_that(len(listed) == len(stored), "orders", len(listed), len(stored)),
        *claim_that(listed_legs == len(stored_legs), "order_legs", listed_legs, len(stored_legs)),
    ]
    return RuleResult(
        f"{len(listed)} orders, {listed_legs} legs",
        f"{len(stored)} orders, {len(stored_legs)} legs",
        tuple(differences),
    )


@check(38)
def order_statuses_equal(evidence: Evidence) -> RuleResult:
    """Every stored status is the broker's word, or unknown beside that word."""
    expected = {(whole(order["id"]),): _word("status", order) for order in evidence.orders}
    stored = by_key(evidence.stored("orders"), "order_id")
    return RuleResult(f"{len(expected)} orders", f"{len(stored)} stored", differing("order", expected, stored))


@check(None)
def order_values_equal(evidence: Evidence) -> RuleResult:
    """Every stored order field equals the broker's."""
    listed = {whole(order["id"]) for order in evidence.listed("orders")}
    expected = {
        (whole(order["id"]),): {
            "listed": whole(order["id"]) in listed,
            **_values(order),
            **{name: order.get(name) for name in ("num_legs", "strategy", "tag")},
        }
        for order in evidence.orders
    }
    stored = by_key(evidence.stored("orders"), "order_id")
    return RuleResult(f"{len(expected)} orders", f"{len(stored)} stored", differing("order", expected, stored))


@check(None)
def order_legs_equal(evidence: Evidence) -> RuleResult:
    """Every stored leg equals the broker's, in its place under its order."""
    expected = {
        (whole(order["id"]), leg_no): {"leg_id": whole(leg["id"]), **_values(leg)}
        for order in evidence.orders
        for leg_no, leg in enumerate(legs(order), 1)
    }
    stored = by_key(evidence.stored("order_legs"), "order_id", "leg_no")
    return RuleResult(f"{len(expected)} legs", f"{len(stored)} stored", differing("leg", expected, stored))


def legs(order: Row) -> list[Row]:
    """The legs of an order: none, a bare object, or an array."""
    found = order.get("leg")
    if found is None or found == "null":
        return []
    return found if isinstance(found, list) else [found]


def _word(name: str, order: Row) -> Row:
    word = order.get(name)
    stored = STORED_AS.get(name, {}).get(str(word), word)
    return {name: stored if stored is None or stored in WORDS[name] else "unknown", f"raw_{name}": word}


def _values(order: Row) -> Row:
    return {
        **{column: word for name in WORDS for column, word in _word(name, order).items()},
        **{name: order.get(name) for name in AS_SENT},
        **{name: storable(order.get(name)) for name in NUMBERS},
        **{name: instant(order.get(name)) for name in INSTANTS},
        "reason": order.get("reason_description"),
    }
