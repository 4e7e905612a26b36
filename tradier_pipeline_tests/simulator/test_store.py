"""A world lives on: across processes, restarts and long absences, in a small file that is never half written."""

from __future__ import annotations

import multiprocessing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.simulator.exchange import place
from tradier_pipeline.simulator.store import STATE_FILE, Store
from tradier_pipeline.simulator.strategy import AccountPlan
from tradier_pipeline.simulator.tickets import Ticket
from tradier_pipeline_tests.simulator.worlds import ACCOUNT, MONDAY_NOON, assert_history_explains

QUIET = (AccountPlan(ACCOUNT, "margin", Decimal(100000), trader=False),)
TICKET = Ticket("equity", "market", "F", None, "buy", Decimal(1))


def place_many(directory: str, count: int) -> None:
    store = Store(Path(directory), plans=QUIET)
    for n in range(count):
        with store.at(MONDAY_NOON + timedelta(seconds=n)) as world:
            place(world, world.accounts[ACCOUNT], TICKET)


def test_a_world_is_the_same_after_a_restart(tmp_path):
    with Store(tmp_path).at(MONDAY_NOON) as first:
        pass
    with Store(tmp_path).at(MONDAY_NOON) as second:
        pass
    assert second == first
    assert second is not first


def test_two_stores_on_one_directory_share_one_world(tmp_path):
    one, other = Store(tmp_path, plans=QUIET), Store(tmp_path, plans=QUIET)
    for store in (one, other, one, other):
        with store.at(MONDAY_NOON) as world:
            place(world, world.accounts[ACCOUNT], TICKET)
    with one.at(MONDAY_NOON + timedelta(minutes=10)) as world:
        assert world.accounts[ACCOUNT].quantity("F") == 4
    with other.at(MONDAY_NOON + timedelta(minutes=10)) as world:
        assert world.accounts[ACCOUNT].quantity("F") == 4


def test_processes_that_place_orders_at_once_lose_none(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=place_many, args=(str(tmp_path), 15)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    with Store(tmp_path).at(MONDAY_NOON + timedelta(hours=1)) as world:
        orders = world.accounts[ACCOUNT].orders
        assert len({order.id for order in orders}) == len(orders) == 30
        assert world.accounts[ACCOUNT].quantity("F") == 30


def test_an_unchanged_world_is_not_written_again(tmp_path):
    store = Store(tmp_path, plans=QUIET)
    with store.at(MONDAY_NOON):
        pass
    before = (tmp_path / STATE_FILE).stat()
    with store.at(MONDAY_NOON + timedelta(seconds=30)):
        pass
    assert (tmp_path / STATE_FILE).stat() == before


def test_a_change_made_in_a_failed_request_is_not_lost_track_of(tmp_path):
    store = Store(tmp_path, plans=QUIET)

    def fail() -> None:
        with store.at(MONDAY_NOON) as world:
            place(world, world.accounts[ACCOUNT], TICKET)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with store.at(MONDAY_NOON) as world:
        expected = world.next_order_id
    with Store(tmp_path).at(MONDAY_NOON) as world:
        assert world.next_order_id == expected


@pytest.mark.parametrize("content", ["", "{", "null", '{"format":1}', '{"format":9,"world":{}}'])
def test_a_state_that_cannot_be_read_is_told_and_left_alone(tmp_path, content):
    (tmp_path / STATE_FILE).write_text(content)
    with pytest.raises(PipelineError, match=r"simulator\.json.*Delete") as reported, Store(tmp_path).at(MONDAY_NOON):
        pass
    assert str(tmp_path) in reported.value.cause
    assert (tmp_path / STATE_FILE).read_text() == content


def test_deleting_the_state_starts_a_new_world_under_a_running_store(tmp_path):
    store = Store(tmp_path, plans=QUIET)
    with store.at(MONDAY_NOON) as world:
        place(world, world.accounts[ACCOUNT], TICKET)
    (tmp_path / STATE_FILE).unlink()
    with store.at(MONDAY_NOON) as world:
        assert not world.accounts[ACCOUNT].orders


def test_a_world_slept_through_months_wakes_up_whole_and_small(tmp_path):
    now = MONDAY_NOON
    for pause in (timedelta(0), timedelta(days=3), timedelta(days=92), timedelta(days=900), timedelta(minutes=1)):
        now += pause
        with Store(tmp_path).at(now) as world:
            assert world.now == now
            for account in world.accounts.values():
                assert_history_explains(account)
            assert len(world.accounts["SIM00000001"].positions) > 3
    assert (tmp_path / STATE_FILE).stat().st_size < 2_000_000
    assert sorted(path.name for path in tmp_path.iterdir()) == [STATE_FILE, f"{STATE_FILE}.lock"]
