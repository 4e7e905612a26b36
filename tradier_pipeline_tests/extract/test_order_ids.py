"""Ids of orders as the broker may send them: what can be stored is, and what cannot is named by the command line, costs
one snapshot and never the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest

from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.simulator.world import ROUND_THE_CLOCK
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.cli.test_cli import error_line, run
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.support.bodies import dumps, leg, order, position, spread
from tradier_pipeline_tests.support.sampling import sampled
from tradier_pipeline_tests.verify.incidents import LOWER_PUT, PUT

pytestmark = pytest.mark.usefixtures("without_days")
UNPROVEN = pytest.mark.usefixtures("without_proof")

SNAPSHOT = ("snapshot", "--account", DEMO_ACCOUNT, "--json")
PATH = f"/accounts/{DEMO_ACCOUNT}/orders"


@pytest.fixture(scope="module")
def served() -> Iterator[Simulated]:
    with embedded_simulator(None, limits=None, calendar=ROUND_THE_CLOCK) as url:
        yield Simulated(url)


@pytest.fixture
def simulated(served: Simulated, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulated]:
    """One for all tests: each says what it shows."""
    monkeypatch.setenv("TRADIER_BASE_URL", served.url)
    yield served
    served.heal()


def answers(simulated: Simulated, path: str, body: Any) -> None:
    simulated.fault(path, "body", body=dumps(body), content_type="application/json")


def lists(simulated: Simulated, *orders: Any) -> None:
    simulated.heal()
    answers(simulated, PATH, {"orders": {"order": list(orders)} if orders else "null"})


def stored(home: Home, sql: str) -> Sequence[tuple[Any, ...]]:
    with connect_readonly(home.warehouse.path) as connection:
        return connection.execute(sql).fetchall()


def working(number: Any, **fields: Any) -> dict[str, Any]:
    return order(number, status="open", duration="gtc", exec_quantity=0, **fields)


def test_ids_sent_as_text_are_stored_as_their_numbers_and_proven(home: Home, simulated: Simulated) -> None:
    legs = [leg("38400003", PUT, "sell_to_open"), leg("38400004", LOWER_PUT, "buy_to_open")]
    lists(simulated, order("38400001"), spread(id="38400002", leg=legs))
    take(home, simulated.broker)
    assert stored(home, "SELECT order_id FROM orders ORDER BY ALL") == [(38400001,), (38400002,)]
    assert stored(home, "SELECT order_id, leg_id FROM order_legs ORDER BY ALL") == [
        (38400002, 38400003),
        (38400002, 38400004),
    ]


@UNPROVEN
def test_an_id_is_one_order_however_it_is_written(home: Home, simulated: Simulated) -> None:
    lists(simulated, working("7"))
    take(home, simulated.broker)
    lists(simulated, working(7))  # and not asked for by its id
    take(home, simulated.broker)
    assert stored(home, "SELECT order_id, listed, count(*) FROM orders GROUP BY ALL") == [(7, True, 2)]
    lists(simulated, working(Decimal("7.0")))
    take(home, simulated.broker)
    assert stored(home, "SELECT order_id, listed, count(*) FROM orders GROUP BY ALL") == [(7, True, 3)]
    lists(simulated, working("7"), working(Decimal("7.0")))
    assert "has the id 7 twice" in error_line(run(*SNAPSHOT))


def test_whole_numbers_with_a_fraction_of_zeros_are_stored_as_what_they_are(home: Home, simulated: Simulated) -> None:
    legs = [leg(Decimal("38400003.0"), PUT, "sell_to_open"), leg(Decimal("3.8400004E+7"), LOWER_PUT, "buy_to_open")]
    lists(simulated, spread(Decimal("38400002.0"), leg=legs, num_legs=Decimal("2.0")))
    answers(simulated, "/positions", {"positions": {"position": position("KO", 100, 6500, id=Decimal("9003.0"))}})
    take(home, simulated.broker)
    assert stored(home, "SELECT order_id, leg_id FROM order_legs ORDER BY ALL") == [
        (38400002, 38400003),
        (38400002, 38400004),
    ]
    assert stored(home, "SELECT num_legs FROM orders") == [(2,)]
    assert stored(home, "SELECT position_id FROM positions") == [(9003,)]


def test_a_fraction_is_no_id_and_is_named_with_its_place(home: Home, simulated: Simulated) -> None:
    answers(simulated, "/positions", {"positions": {"position": position("KO", 100, 6500, id=Decimal("9003.5"))}})
    refused = error_line(run(*SNAPSHOT))
    assert "positions: positions.position[0].id is not a whole number: 9003.5" in refused
    assert stored_nothing(home)


@UNPROVEN
def test_an_order_with_a_text_id_that_leaves_the_list_is_followed(home: Home, simulated: Simulated) -> None:
    lists(simulated, working("7"))
    take(home, simulated.broker)
    simulated.heal()
    answers(simulated, f"{PATH}/7", {"order": working("7")})
    for _ in range(2):
        take(home, simulated.broker)
    assert stored(home, "SELECT order_id, listed FROM orders WHERE order_id = 7 ORDER BY as_of") == [
        (7, True),
        (7, False),
        (7, False),
    ]


@UNPROVEN
@sampled("spoiled", ["../../x", "", "7.5", 7.5, True, None, 2**63, "9" * 30, [7], {}], kept=(0, 5))
def test_an_id_that_is_no_number_costs_its_snapshot_and_not_the_next(
    home: Home, simulated: Simulated, spoiled: Any
) -> None:
    lists(simulated, working(7), working(spoiled))
    refused = run(*SNAPSHOT)
    assert "orders: orders.order[1].id is" in error_line(refused)
    assert stored_nothing(home)
    lists(simulated, working(7))
    take(home, simulated.broker)
    assert stored(home, "SELECT order_id FROM orders") == [(7,)]


def stored_nothing(home: Home) -> bool:
    return not home.warehouse.path.exists() or stored(home, "SELECT count(*) FROM tradier_snapshots") == [(0,)]


@UNPROVEN
def test_a_listed_order_without_status_costs_its_snapshot_and_not_the_next(home: Home, simulated: Simulated) -> None:
    whole = working(7)
    lists(simulated, {name: value for name, value in whole.items() if name != "status"})
    assert "orders.order[0].status is missing" in error_line(run(*SNAPSHOT))
    lists(simulated, whole)
    take(home, simulated.broker)
    assert stored(home, "SELECT order_id, status FROM orders") == [(7, "open")]


@UNPROVEN
@sampled("spoiled", [{"status": None}, {"id": 8}, {"id": "../../x"}, {"create_date": "soon"}], kept=[1])
def test_an_answer_by_id_that_cannot_be_stored_costs_no_snapshot_and_is_asked_for_again(
    home: Home, simulated: Simulated, spoiled: dict[str, Any]
) -> None:
    lists(simulated, working(7))
    take(home, simulated.broker)
    simulated.heal()
    answers(simulated, f"{PATH}/7", {"order": working(7) | spoiled})
    take(home, simulated.broker)
    newest = max(home.zone.snapshots(), key=lambda landed: landed.manifest.as_of)
    (lookup,) = newest.manifest.lookups
    assert (lookup.order_id, lookup.state, lookup.times_not_found) == (7, "failed", 0)
    simulated.heal()
    answers(simulated, f"{PATH}/7", {"order": working(7)})
    take(home, simulated.broker)
    assert stored(home, "SELECT listed FROM orders WHERE order_id = 7 ORDER BY as_of") == [(True,), (False,)]
