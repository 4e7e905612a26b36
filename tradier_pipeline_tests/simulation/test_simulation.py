"""Minutes in which everything goes wrong keep every invariant; a planted mistake breaks one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline_tests.simulation import simulate
from tradier_pipeline_tests.simulation.planted import PLANTED
from tradier_pipeline_tests.simulation.simulate import OPEN, finds, judge, simulation

FOUND_BY = range(110, 120)  # seeds; most mistakes are found by the first, at its first minutes
QUICK = "store: a figure is off by one"


@pytest.mark.parametrize(
    ("seeds", "minutes"), [(range(1, 2), 10), pytest.param(range(1, 101), 30, marks=pytest.mark.soak)]
)
def test_every_minute_keeps_every_invariant(seeds: range, minutes: int, tmp_path: Path) -> None:
    for seed in seeds:
        with simulation(seed, tmp_path) as lived:
            lived.run(minutes)


@pytest.mark.parametrize(
    "mistake", [pytest.param(name, marks=() if name == QUICK else pytest.mark.soak) for name in PLANTED]
)
def test_a_planted_mistake_is_found(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "PROVEN_AT_ONCE", 1)  # at once
    assert any(finds(mistake, seed, 25) for seed in FOUND_BY), f"{len(FOUND_BY)} seeds did not find: {mistake}"


def test_judging_alone_counts_what_it_judged_and_names_the_seed_of_what_it_finds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert judge(range(1)) == 0
    assert "readings in" in capsys.readouterr().out
    monkeypatch.setattr("tradier_pipeline_tests.reconcile.test_lives.is_true", lambda *_: False)
    assert judge(range(1)) == 3
    assert "seed 0, trading: " in capsys.readouterr().out


@pytest.mark.soak
def test_the_first_snapshot_of_all_whose_positions_run_behind_its_fills_is_in_doubt(tmp_path: Path) -> None:
    with simulation(401, tmp_path) as lived:
        lived.run(2)


@pytest.mark.soak
def test_orders_that_are_known_by_their_ids_alone_are_not_counted_as_listed(tmp_path: Path) -> None:
    with simulation(1010, tmp_path) as lived:
        lived.run(14)


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1004, 200009])  # of a full disk; of a process that was killed
def test_the_first_minute_of_a_home_is_accounted_for_also_if_it_left_nothing_else(seed: int, tmp_path: Path) -> None:
    with simulation(seed, tmp_path) as lived:
        lived.run(2)
        assert lived.begun == OPEN


@pytest.mark.soak
def test_a_list_that_says_that_nothing_is_held_any_more_is_published_in_doubt(tmp_path: Path) -> None:
    with simulation(110, tmp_path) as lived:
        lived.run(12)
        said = lived.published[f"{DEMO_ACCOUNT}@2026-11-23T14:42:00Z"]
        assert (said.positions_count, said.verdict) == (0, "doubtful")
