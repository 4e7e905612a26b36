"""Whatever a broker may answer is stored whole and proven; whatever is changed afterwards is found."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.publish.store import NotPublishedError, rebuild, store_snapshot
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline.warehouse.staging import StagedWarehouse, Warehouse
from tradier_pipeline_tests.conftest import Home, Simulated, dear_examples, miscount, take
from tradier_pipeline_tests.support import bodies
from tradier_pipeline_tests.support.bodies import (
    AS_OF,
    Answers,
    land,
    rich,
    states,
    store,
    warehouse_in_memory,
    zone_in,
)
from tradier_pipeline_tests.support.sampling import sampled

LONG = settings(max_examples=4000, deadline=None, suppress_health_check=list(HealthCheck))
# making a failing account small takes minutes; the long run does that
QUICK = settings(LONG, max_examples=dear_examples(4), phases=[Phase.explicit, Phase.reuse, Phase.generate])


@pytest.fixture(scope="module")
def staged() -> Iterator[StagedWarehouse]:
    """One warehouse for all examples; what reaches the disk is shown elsewhere."""
    with warehouse_in_memory() as warehouse, pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)
        yield warehouse


def proves_whole(staged: StagedWarehouse, answers: Answers) -> None:
    with tempfile.TemporaryDirectory() as directory:
        landed = land(zone_in(Path(directory)), answers)
        blocking = [outcome for outcome in store(staged, landed) if outcome.blocks]
        assert blocking == []
        rows = {
            table.name: staged.connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()
            for table in schema.TABLES
        }
        pages = answers.orders if isinstance(answers.orders, list) else [answers.orders]
        assert rows["orders"] == (sum(_rows(page, "orders", "order") for page in pages),)
        assert rows["positions"] == (_rows(answers.positions, "positions", "position"),)


def _rows(document: bodies.Body, outer: str, inner: str) -> int:
    holder = document[outer]
    found = holder.get(inner) if isinstance(holder, dict) else None
    return len(found) if isinstance(found, list) else 1 if found else 0


@QUICK
@given(answers=states())
def test_any_state_of_an_account_is_stored_whole_and_passes_every_blocking_check(
    staged: StagedWarehouse, answers: Answers
) -> None:
    proves_whole(staged, answers)


@pytest.mark.soak
@LONG
@given(answers=states())
def test_thousands_of_states_are_stored_whole_and_pass_every_blocking_check(
    staged: StagedWarehouse, answers: Answers
) -> None:
    proves_whole(staged, answers)


# --- the same bytes, the same warehouse -------------------------------------------------------------------------------


def content(warehouse: Warehouse) -> dict[str, list[tuple[Any, ...]]]:
    """All that a warehouse holds, but when it was written."""
    with connect_readonly(warehouse.path) as connection:
        return {
            table.name: connection.execute(
                f"SELECT * {'EXCLUDE (committed_at)' if table is schema.TRADIER_SNAPSHOTS else ''} "
                f"FROM {table.name} ORDER BY ALL"
            ).fetchall()
            for table in schema.TABLES
        }


def land_and_store(home: Path, answers: Sequence[Answers]) -> tuple[Warehouse, list[LandedSnapshot]]:
    """One snapshot a minute."""
    warehouse = Warehouse(home / "tradier.duckdb")
    landed = [land(zone_in(home), one, AS_OF + number * timedelta(minutes=1)) for number, one in enumerate(answers)]
    for one in landed:
        store_snapshot(warehouse, one)
    return warehouse, landed


DAY = (rich("margin"), rich("pdt"), rich("cash"))


@pytest.mark.soak  # in one home, by a rebuild: below
def test_the_same_bytes_make_the_same_warehouse_in_any_home(tmp_path: Path) -> None:
    first, _ = land_and_store(tmp_path / "one", DAY)
    second, _ = land_and_store(tmp_path / "another", DAY)
    assert content(first) == content(second)
    assert all(content(first)[table.name] for table in schema.TABLES if table not in schema.RECONCILED)


@pytest.fixture(scope="module")
def day_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("day")
    land_and_store(home, DAY)
    return home


@pytest.fixture
def day(day_once: Path, tmp_path: Path) -> Home:
    """A home with the day in it."""
    return Home(Path(shutil.copytree(day_once, tmp_path / "home")))


def test_storing_again_in_any_order_changes_nothing(day: Home) -> None:
    before = content(day.warehouse)
    for one in reversed(list(day.zone.snapshots())):
        store_snapshot(day.warehouse, one)
    assert content(day.warehouse) == before


def test_a_rebuild_from_the_landing_zone_alone_is_identical(day: Home) -> None:
    before = content(day.warehouse)
    day.warehouse.path.unlink()
    assert rebuild(day.warehouse, day.zone, lambda _: None).published == len(DAY)
    assert content(day.warehouse) == before


MISCOUNTED = Decimal("4711.25")


def refused_later(snapshot: int) -> tuple[Answers, ...]:
    """A day in which our code stores one snapshot wrong."""
    reported = rich().balances["balances"] | {"total_equity": MISCOUNTED}
    return (*DAY[:snapshot], replace(rich(), balances={"balances": reported}), *DAY[snapshot:])


@sampled("place", [1, 2, 3], kept=[1])
def test_a_snapshot_that_was_refused_stays_out_of_a_rebuild(
    tmp_path: Path, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    miscount(monkeypatch, lambda balances: balances.total_equity == MISCOUNTED)
    warehouse = Warehouse(tmp_path / "tradier.duckdb")
    for number, reported in enumerate(refused_later(place)):
        landed = land(zone_in(tmp_path), reported, AS_OF + number * timedelta(minutes=1))
        if number == place:
            with pytest.raises(NotPublishedError, match="balances_equal"):
                store_snapshot(warehouse, landed)
            refused = str(landed.snapshot_id)
        else:
            store_snapshot(warehouse, landed)
    before = content(warehouse)
    assert refused not in {row[0] for row in before["tradier_snapshots"]}
    rebuilt = rebuild(warehouse, zone_in(tmp_path), lambda _: None)
    assert (rebuilt.published, rebuilt.refused.keys()) == (len(DAY), {refused})
    assert content(warehouse) == before


def test_a_landed_body_that_cannot_be_read_is_told_and_stays_out_of_a_rebuild(day: Home) -> None:
    before = content(day.warehouse)
    unreadable = replace(rich(), balances={"balances": {**rich().balances["balances"], "total_cash": "1"}})
    land(day.zone, unreadable, AS_OF - timedelta(minutes=1))
    rebuilt = rebuild(day.warehouse, day.zone, lambda _: None)
    assert [reason for reason in rebuilt.refused.values() if "balances.total_cash is not a number" in reason]
    assert (rebuilt.published, content(day.warehouse)) == (len(DAY), before)


# --- the simulated broker's own states --------------------------------------------------------------------------------

WORLDS: list[dict[str, Any]] = [
    {},
    {"type": "cash", "cash": 0.01},
    {"type": "pdt", "cash": -225300.265},
    {"positions": [{"symbol": "AAPL", "quantity": 12.5, "cost_basis": 2602.63}]},
    {"positions": [{"symbol": "SPY251219P00602500", "quantity": -67, "cost_basis": -147.0}]},
    {
        "positions": [
            {"symbol": "SPY271217P00600000", "quantity": -3, "cost_basis": -900},
            {"symbol": "SPY271217P00595000", "quantity": 3, "cost_basis": 700},
            {"symbol": "SPXW271217C06000000", "quantity": 1, "cost_basis": 12000},
            {"symbol": "BRK/B", "quantity": 100, "cost_basis": 41000},
            {"symbol": "AAPL1271217C00150000", "quantity": 2, "cost_basis": 310},
        ]
    },
    {"orders": [{"id": 1, "class": "oco", "status": "pending_cancel", "create_date": "2025-11-20T14:10:05Z"}]},
]


@sampled("world", WORLDS, kept=(0, 5, 6))  # nothing, much, and an order without most of its fields
def test_any_forced_state_of_the_simulated_account_is_published(
    home: Home, simulated: Simulated, world: dict[str, Any]
) -> None:
    simulated.admin("POST", "world", {"account": DEMO_ACCOUNT, **world})
    landed, outcomes = take(home, simulated.broker)
    assert [outcome for outcome in outcomes if outcome.blocks] == []
    stored = content(home.warehouse)
    assert len(stored["positions"]) == len(world.get("positions", ()))
    assert len(stored["orders"]) == len(world.get("orders", ()))
    assert {row[0] for rows in stored.values() for row in rows} == {str(landed.snapshot_id)}
