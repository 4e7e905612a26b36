"""From the landing zone into the warehouse, end to end and without Dagster."""

from __future__ import annotations

from tradier_pipeline_tests.conftest import Home, Simulated, take


def test_a_snapshot_of_the_simulated_account_passes_every_check(home: Home, simulated: Simulated) -> None:
    _, outcomes = take(home, simulated.broker)
    assert [outcome for outcome in outcomes if not outcome.passed] == []
