"""A simulated month: what was put there is found and nothing else, and the ledger is right at its end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import time

import pytest

from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.cycles.conftest import OPEN, Clock
from tradier_pipeline_tests.reconcile.month import ACCOUNT, PREFIX, TIMES, WITHIN, month


@pytest.mark.parametrize(("sessions", "times"), [(2, TIMES[::2]), pytest.param(20, TIMES, marks=pytest.mark.soak)])
def test_a_month_is_found_as_it_was(
    sessions: int,
    times: Sequence[time],
    home: Home,
    without_proof: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine = Clock(OPEN)
    monkeypatch.setattr("tradier_pipeline.clock.now", machine.now)
    monkeypatch.setenv("TRADIER_ORDER_TAG_PREFIX", PREFIX)
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", ACCOUNT)
    with month(home, machine) as lived:
        lived.sessions(sessions, times)
        lived.next_morning()
        figures = lived.finish()
    with capsys.disabled():
        print("", *figures.lines(), sep="\n  ")  # noqa: T201 - the figures are what the proof is for
    assert figures.false == []
    assert figures.found == figures.injected
    assert max(figures.after) <= WITHIN
    assert figures.wrong == []
