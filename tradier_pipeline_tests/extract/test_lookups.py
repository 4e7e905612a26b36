"""Working orders that leave the broker's list are followed by their ids to their end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tradier_pipeline import clock
from tradier_pipeline.core.outcome import Outcome
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.extract import lookups
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.simulator.world import ROUND_THE_CLOCK
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.support.sampling import sampled

pytestmark = pytest.mark.usefixtures("without_days")

UNPROVEN = pytest.mark.usefixtures("without_proof")
GTC = {"duration": "gtc", "create_date": "2026-11-10T15:00:00.000Z", "transaction_date": "2026-11-10T15:00:00.100Z"}


@pytest.fixture(scope="module")
def served() -> Iterator[Simulated]:
    with embedded_simulator(None, limits=None, calendar=ROUND_THE_CLOCK) as url:
        yield Simulated(url)


@pytest.fixture
def simulated(served: Simulated) -> Iterator[Simulated]:
    """One for all tests: each says what it shows."""
    yield served
    served.heal()


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


def listing(simulated: Simulated, *orders: dict[str, Any], cash: str = "1000", **held: int) -> None:
    positions = [{"symbol": symbol, "quantity": amount, "cost_basis": 100} for symbol, amount in held.items()]
    world = {"account": DEMO_ACCOUNT, "cash": cash, "orders": list(orders), "positions": positions}
    simulated.admin("POST", "world", world)


def answer(simulated: Simulated, found: dict[str, Any]) -> None:
    import json

    simulated.fault(
        f"/orders/{found['id']}", "body", body=json.dumps({"order": found}), content_type="application/json"
    )


def stored(home: Home, landed: LandedSnapshot) -> dict[int, tuple[bool, str]]:
    with connect_readonly(home.warehouse.path) as connection:
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


@UNPROVEN
def test_an_order_read_by_its_id_is_followed_until_it_has_ended(home: Home, simulated: Simulated) -> None:
    listing(simulated, order(7, "open"))
    take(home, simulated.broker)
    listing(simulated)
    answer(simulated, order(7, "filled", exec_quantity=5.0, remaining_quantity=0.0, avg_fill_price=9.4))
    second, _ = take(home, simulated.broker)
    third, _ = take(home, simulated.broker)
    assert stored(home, second) == {7: (False, "filled")}
    assert stored(home, third) == {}


@UNPROVEN
def test_an_unknown_order_is_asked_for_twice_and_never_taken_for_cancelled(home: Home, simulated: Simulated) -> None:
    listing(simulated, order(7, "open"))
    take(home, simulated.broker)
    listing(simulated)
    following = [take(home, simulated.broker)[0] for _ in range(3)]
    assert [states(landed) for landed in following] == [{7: "not_found"}, {7: "not_found"}, {}]
    assert [stored(home, landed) for landed in following] == [{}, {}, {}]


@UNPROVEN
def test_a_failed_question_costs_nothing_and_is_asked_again(home: Home, simulated: Simulated) -> None:
    listing(simulated, order(7, "open"))
    take(home, simulated.broker)
    listing(simulated)
    simulated.fault("/orders/7", "status", status=503, times=4)
    second, _ = take(home, simulated.broker)
    answer(simulated, order(7, "open"))
    third, _ = take(home, simulated.broker)
    assert (states(second), states(third)) == ({7: "failed"}, {7: "found"})


@UNPROVEN
def test_an_order_that_returns_to_the_list_is_not_asked_for(home: Home, simulated: Simulated) -> None:
    listing(simulated, order(7, "open"))
    take(home, simulated.broker)
    second, _ = take(home, simulated.broker)
    assert states(second) == {}
    assert stored(home, second) == {7: (True, "open")}


@UNPROVEN
def test_the_questions_of_one_snapshot_are_bounded(
    home: Home, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "BUDGET", 2)
    listing(simulated, *(order(number, "open") for number in range(1, 5)))
    take(home, simulated.broker)
    listing(simulated)
    second, _ = take(home, simulated.broker)
    assert states(second) == {1: "not_found", 2: "not_found", 3: "deferred", 4: "deferred"}


# --- what had filled stays known --------------------------------------------------------------------------------------


def changes(home: Home, landed: LandedSnapshot) -> dict[str, tuple[Decimal, Decimal, str]]:
    """By item: its change, what of it is unexplained, and why."""
    with connect_readonly(home.warehouse.path) as connection:
        reported = "item, change, unexplained, explanation"
        sql = f"SELECT {reported} FROM conservation WHERE snapshot_id = '{landed.snapshot_id}'"
        return {item: tuple(reported) for item, *reported in connection.execute(sql).fetchall()}


def failed(outcomes: Sequence[Outcome]) -> set[str]:
    return {outcome.check for outcome in outcomes if not outcome.passed}


def filled(order_id: int, amount: int, status: str, **fields: Any) -> dict[str, Any]:
    now = clock.iso(clock.now() - timedelta(minutes=1))
    done = {"exec_quantity": float(amount), "remaining_quantity": 10.0 - amount, "avg_fill_price": 9.5}
    return order(order_id, status, **{"quantity": 10.0, "transaction_date": now} | done | fields)


def test_an_order_that_cannot_be_read_for_a_while_has_not_lost_what_it_had_filled(
    home: Home, simulated: Simulated
) -> None:
    listing(simulated, filled(7, 3, "partially_filled"), F=3)
    take(home, simulated.broker)
    listing(simulated, F=3)  # and 401 to the question
    assert [states(take(home, simulated.broker)[0]) for _ in range(3)] == [{7: "not_found"}, {7: "not_found"}, {}]
    listing(simulated, filled(7, 10, "filled"), cash="933.5", F=10)
    landed, outcomes = take(home, simulated.broker)
    assert landed.manifest.readings[-1].verdict == "coherent"
    assert changes(home, landed) == {
        "F": (7, 0, "+7 filled, order 7"),
        "cash": (Decimal("-66.5"), 0, "-66.50 for +7 F, order 7"),
    }
    assert not failed(outcomes) & {"positions_follow_fills", "conservation_follows_snapshots", "changes_explained"}


@sampled("minutes", [1, 3])
def test_orders_that_are_listed_again_after_minutes_of_null_are_no_second_fills(
    home: Home, simulated: Simulated, minutes: int
) -> None:
    today = {"create_date": clock.iso(clock.now() - timedelta(minutes=2)), "duration": "day"}
    listed = (filled(7, 10, "filled", **today), filled(8, 3, "partially_filled", **today))
    listing(simulated, *listed, F=13)
    take(home, simulated.broker)
    listing(simulated, F=13)
    for _ in range(minutes):
        landed, _ = take(home, simulated.broker)
        assert changes(home, landed) == {"cash": (0, 0, "no change")}
    listing(simulated, *listed, F=13)
    landed, outcomes = take(home, simulated.broker)
    assert landed.manifest.readings[-1].verdict == "coherent"
    assert changes(home, landed) == {"cash": (0, 0, "no change")}
    assert not failed(outcomes) & {
        "positions_follow_fills",
        "conservation_follows_snapshots",
        "order_progress_monotonic",
    }


def test_of_an_order_of_earlier_days_that_nobody_saw_before_counts_what_its_position_shows(
    home: Home, simulated: Simulated
) -> None:
    listing(simulated, F=3)
    take(home, simulated.broker)
    listing(simulated, filled(7, 10, "filled"), cash="933.5", F=10)
    landed, outcomes = take(home, simulated.broker)
    reported = changes(home, landed)
    assert reported["F"] == (7, 0, "+7 filled, order 7, of up to +10 that may have filled before")
    assert reported["cash"][:2] == (Decimal("-66.5"), 0)
    assert not failed(outcomes) & {"positions_follow_fills", "conservation_follows_snapshots"}


# --- listed without legs ----------------------------------------------------------------------------------------------

SHORT, LONG = "F301218P00009000", "F301218P00008500"
FILLED_AT = clock.iso(clock.now() - timedelta(minutes=1))


def spread(order_id: int = 7, status: str = "filled", *, with_legs: bool) -> dict[str, Any]:
    times = {"create_date": FILLED_AT, "transaction_date": FILLED_AT, "duration": "day"}
    done = {"status": status, "quantity": 1.0, "exec_quantity": 1.0 if status == "filled" else 0.0}
    reported = done | times | {"remaining_quantity": 0.0}
    legs = [
        order(
            order_id + place,
            **reported | {"class": "option", "option_symbol": symbol, "side": side, "avg_fill_price": price},
        )
        for place, (symbol, side, price) in enumerate(((SHORT, "sell_to_open", 0.9), (LONG, "buy_to_open", 0.4)), 1)
    ]
    parent = {"class": "multileg", "type": "credit", "num_legs": 2, "avg_fill_price": -0.5}
    return order(order_id, **reported | parent | ({"leg": legs} if with_legs else {}))


def questions(simulated: Simulated) -> int:
    asked = sum("/orders/7" in str(request) for request in simulated.requests())
    simulated.admin("DELETE", "requests")
    return asked


HELD = {SHORT: -1, LONG: 1}


def test_an_order_that_is_listed_without_legs_is_asked_for_once_and_is_as_it_was_read(
    home: Home, simulated: Simulated
) -> None:
    listing(simulated)
    take(home, simulated.broker)
    listing(simulated, spread(with_legs=False), cash="1050", **HELD)
    answer(simulated, spread(with_legs=True))
    simulated.admin("DELETE", "requests")
    first, outcomes = take(home, simulated.broker)
    assert questions(simulated) == 1
    assert {item: why for item, (_, _, why) in changes(home, first).items()} == {
        SHORT: "-1 filled, order 7",
        LONG: "+1 filled, order 7",
        "cash": f"+90 for -1 {SHORT}, order 7; -40 for +1 {LONG}, order 7",
    }
    assert stored(home, first) == {7: (True, "filled")}
    assert not failed(outcomes) & {"order_counts_equal", "order_legs_equal", "fill_arithmetic_holds", "leg_fills_agree"}
    for _ in range(2):
        later, outcomes = take(home, simulated.broker)
        assert questions(simulated) == 0
        assert stored(home, later) == {7: (True, "filled")}
        assert changes(home, later) == {"cash": (0, 0, "no change")}
        assert not [outcome for outcome in outcomes if outcome.blocks]


@sampled("reported", [True, False])
def test_an_order_whose_legs_nobody_tells_is_no_fill_of_its_underlying(
    home: Home, simulated: Simulated, reported: bool
) -> None:
    listing(simulated, F=100)
    take(home, simulated.broker)
    listing(simulated, spread(with_legs=False), cash="1050", F=100, **HELD)
    if reported:
        answer(simulated, spread(with_legs=False))
    simulated.admin("DELETE", "requests")
    first, outcomes = take(home, simulated.broker)
    asked = questions(simulated)
    assert asked >= 1
    found = changes(home, first) if first.manifest.readings[-1].verdict != "torn" else {}
    assert "F" not in found
    assert all("may be the unknown legs of order 7" in why for _, _, why in found.values())
    assert not failed(outcomes) & {"order_counts_equal", "fill_arithmetic_holds", "working_orders_found"}
    take(home, simulated.broker)
    assert questions(simulated) == 0


@UNPROVEN
def test_an_order_without_legs_is_read_again_when_it_has_changed(home: Home, simulated: Simulated) -> None:
    listing(simulated, spread(status="open", with_legs=False))
    answer(simulated, spread(status="open", with_legs=True))
    take(home, simulated.broker)
    simulated.admin("DELETE", "faults")
    listing(simulated, spread(with_legs=False), cash="1050", **HELD)
    answer(simulated, spread(with_legs=True))
    landed, _ = take(home, simulated.broker)
    assert stored(home, landed) == {7: (True, "filled")}
    assert changes(home, landed)[SHORT][1:] == (0, "-1 filled, order 7")
