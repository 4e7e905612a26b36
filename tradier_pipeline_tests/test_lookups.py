"""Working orders that leave the broker's list are followed by their ids to their end."""

from __future__ import annotations

from typing import Any

import pytest

from tradier_pipeline import lookups
from tradier_pipeline.landing import LandedSnapshot
from tradier_pipeline.settings import DEMO_ACCOUNT
from tradier_pipeline.warehouse.reads import reading
from tradier_pipeline_tests.conftest import Home, Simulated, take

GTC = {"duration": "gtc", "create_date": "2026-11-10T15:00:00.000Z", "transaction_date": "2026-11-10T15:00:00.100Z"}


def order(order_id: int, status: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": order_id,
        "class": "equity",
        "type": "limit",
        "symbol": "F",
        "side": "buy",
        "quantity": 5.0,
        "price": 9.5,
        "status": status,
        "exec_quantity": 0.0,
        "remaining_quantity": 5.0,
        **GTC,
        **fields,
    }


def listing(simulated: Simulated, *orders: dict[str, Any]) -> None:
    simulated.admin("POST", "world", {"account": DEMO_ACCOUNT, "cash": "1000", "orders": list(orders)})


def answer(simulated: Simulated, found: dict[str, Any]) -> None:
    import json

    simulated.fault(
        f"/orders/{found['id']}", "body", body=json.dumps({"order": found}), content_type="application/json"
    )


def stored(home: Home, landed: LandedSnapshot) -> dict[int, tuple[bool, str]]:
    with reading(home.warehouse.path) as connection:
        sql = f"SELECT order_id, listed, status FROM orders WHERE snapshot_id = '{landed.snapshot_id}'"
        return {order_id: (listed, status) for order_id, listed, status in connection.execute(sql).fetchall()}


def states(landed: LandedSnapshot) -> dict[int, str]:
    return {lookup.order_id: lookup.state for lookup in landed.manifest.lookups}


def test_a_resting_order_that_leaves_the_list_is_read_by_its_id_and_kept(home: Home, simulated: Simulated) -> None:
    listing(
        simulated, order(7, "open"), order(8, "filled", exec_quantity=5.0, remaining_quantity=0.0, avg_fill_price=9.4)
    )
    take(home, simulated.broker)
    listing(simulated)
    answer(simulated, order(7, "open"))
    second, outcomes = take(home, simulated.broker)
    third, _ = take(home, simulated.broker)
    assert stored(home, second) == {7: (False, "open")}
    assert stored(home, third) == {7: (False, "open")}
    assert not [outcome for outcome in outcomes if outcome.blocks]


def test_an_order_read_by_its_id_is_followed_until_it_has_ended(home: Home, simulated: Simulated) -> None:
    listing(simulated, order(7, "open"))
    take(home, simulated.broker)
    listing(simulated)
    answer(simulated, order(7, "filled", exec_quantity=5.0, remaining_quantity=0.0, avg_fill_price=9.4))
    second, _ = take(home, simulated.broker)
    third, _ = take(home, simulated.broker)
    assert stored(home, second) == {7: (False, "filled")}
    assert stored(home, third) == {}


def test_an_unknown_order_is_asked_for_twice_and_never_taken_for_cancelled(home: Home, simulated: Simulated) -> None:
    listing(simulated, order(7, "open"))
    take(home, simulated.broker)
    listing(simulated)
    following = [take(home, simulated.broker)[0] for _ in range(3)]
    assert [states(landed) for landed in following] == [{7: "not_found"}, {7: "not_found"}, {}]
    assert [stored(home, landed) for landed in following] == [{}, {}, {}]


def test_a_failed_question_costs_nothing_and_is_asked_again(home: Home, simulated: Simulated) -> None:
    listing(simulated, order(7, "open"))
    take(home, simulated.broker)
    listing(simulated)
    simulated.fault("/orders/7", "status", status=503, times=4)
    second, _ = take(home, simulated.broker)
    answer(simulated, order(7, "open"))
    third, _ = take(home, simulated.broker)
    assert (states(second), states(third)) == ({7: "failed"}, {7: "found"})


def test_an_order_that_returns_to_the_list_is_not_asked_for(home: Home, simulated: Simulated) -> None:
    listing(simulated, order(7, "open"))
    take(home, simulated.broker)
    second, _ = take(home, simulated.broker)
    assert states(second) == {}
    assert stored(home, second) == {7: (True, "open")}


def test_the_questions_of_one_snapshot_are_bounded(
    home: Home, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "BUDGET", 2)
    listing(simulated, *(order(number, "open") for number in range(1, 5)))
    take(home, simulated.broker)
    listing(simulated)
    second, _ = take(home, simulated.broker)
    assert states(second) == {1: "not_found", 2: "not_found", 3: "deferred", 4: "deferred"}
