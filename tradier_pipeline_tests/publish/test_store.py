"""From the landing zone into the warehouse, end to end and without Dagster."""

from __future__ import annotations

import shutil

import pytest

from tradier_pipeline.core.files import LandingError
from tradier_pipeline.publish.store import rebuild
from tradier_pipeline_tests.conftest import Home, Simulated, take


def test_a_snapshot_of_the_simulated_account_passes_every_check(home: Home, simulated: Simulated) -> None:
    _, outcomes = take(home, simulated.broker)
    assert [outcome for outcome in outcomes if not outcome.passed] == []


def test_a_rebuild_refuses_to_lose_what_is_published_but_not_landed_any_more(home: Home, simulated: Simulated) -> None:
    landed, _ = take(home, simulated.broker)
    take(home, simulated.broker)
    before = home.warehouse.path.read_bytes()
    shutil.rmtree(landed.directory)
    with pytest.raises(LandingError, match=r"1 published snapshots are not, such as SIM"):
        rebuild(home.warehouse, home.zone, lambda done: None)
    assert home.warehouse.path.read_bytes() == before
    assert rebuild(home.warehouse, home.zone, lambda done: None, forget=True).published == 1


def test_a_rebuild_from_an_empty_landing_zone_leaves_the_warehouse(home: Home, simulated: Simulated) -> None:
    take(home, simulated.broker)
    shutil.rmtree(home.zone.root)
    with pytest.raises(LandingError, match="published snapshots are not"):
        rebuild(home.warehouse, home.zone, lambda done: None)
    assert home.warehouse.path.exists()
