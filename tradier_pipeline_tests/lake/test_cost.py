"""What a commit costs does not grow with what the lake has."""

from __future__ import annotations

from pathlib import Path

import pytest

from tradier_pipeline_tests.benchmarks.bench_lake import BUDGET, compared, ratio
from tradier_pipeline_tests.support.postgres import Postgres


@pytest.mark.soak
def test_a_commit_beside_100_000_snapshots_costs_at_most_half_again(server: Postgres, tmp_path: Path) -> None:
    assert ratio(*compared(server, tmp_path, 100_000)) <= BUDGET
