"""Whatever a broker may answer is stored whole and proven; whatever is changed afterwards is found."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings

from tradier_pipeline.landing import LandedSnapshot
from tradier_pipeline.store import rebuild
from tradier_pipeline.verify import verify_snapshot
from tradier_pipeline.verify.outcome import Outcome
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.publish import StagedWarehouse, Warehouse
from tradier_pipeline.warehouse.rows import read_typed, table_rows
from tradier_pipeline_tests import bodies
from tradier_pipeline_tests.bodies import AS_OF, Answers, land, states, zone_in
from tradier_pipeline_tests.conftest import Home, Simulated, take

QUICK = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(QUICK, max_examples=4000)


@pytest.fixture(scope="module")
def staged() -> Iterator[StagedWarehouse]:
    """One warehouse for all examples; what reaches the disk is shown elsewhere."""
    with warehouse_in_memory() as warehouse, pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)
        yield warehouse


def proves_whole(staged: StagedWarehouse, told: Answers) -> None:
    with tempfile.TemporaryDirectory() as directory:
        landed = land(zone_in(Path(directory)), told)
        blocking = [outcome for outcome in store(staged, landed) if outcome.blocks]
        assert blocking == []
        rows = {table.name: staged.connection.table(table.name).count("*").fetchone() for table in schema.TABLES}
        pages = told.orders if isinstance(told.orders, list) else [told.orders]
        assert rows["orders"] == (sum(_rows(page, "orders", "order") for page in pages),)
        assert rows["positions"] == (_rows(told.positions, "positions", "position"),)


def _rows(document: bodies.Body, outer: str, inner: str) -> int:
    holder = document[outer]
    found = holder.get(inner) if isinstance(holder, dict) else None
    return len(found) if isinstance(found, list) else 1 if found else 0


@QUICK
@given(told=states())
def test_any_state_of_an_account_is_stored_whole_and_passes_every_blocking_check(
    staged: StagedWarehouse, told: Answers
) -> None:
    proves_whole(staged, told)


@pytest.mark.soak
@LONG
@given(told=states())
def test_thousands_of_states_are_stored_whole_and_pass_every_blocking_check(
    staged: StagedWarehouse, told: Answers
) -> None:
    proves_whole(staged, told)
