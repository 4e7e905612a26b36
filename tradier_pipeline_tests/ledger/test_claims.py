"""A snapshot answers the requests that came before its first fetch, whoever takes it; a ledger never costs one."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import pytest

from tradier_pipeline import request_snapshot, sync_tradier_snapshot
from tradier_pipeline.broker.errors import BrokerError
from tradier_pipeline.core.errors import ExtractError, PipelineError
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.extract.connection import Broker
from tradier_pipeline.extract.snapshot import extract_snapshot
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.ledger import store
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline_tests.conftest import Home, Simulated

OTHER = "SIM00000002"


@pytest.fixture
def ledger(home: Home) -> Ledger:
    return Ledger(home.path / "ledger.sqlite")


def extract(home: Home, broker: Broker, ledger: Ledger, key: SnapshotId | None = None) -> LandedSnapshot:
    return extract_snapshot(home.zone, broker, key or SnapshotId.now(DEMO_ACCOUNT), "test", ledger=ledger)


def answers(ledger: Ledger) -> list[str | None]:
    return [request.snapshot_id for request in ledger.requests()]


@dataclass(frozen=True)
class WhileReading(Broker):
    """A broker during whose reading somebody asks for a snapshot."""

    ledger: Ledger = field(kw_only=True)

    def read(self, read: Any) -> Any:
        self.ledger.request(DEMO_ACCOUNT, "order_placed", order_id="during")
        return super().read(read)


def test_requests_before_the_first_fetch_share_the_snapshot_and_later_ones_wait(
    home: Home, simulated: Simulated, ledger: Ledger
) -> None:
    for order_id in ("one", "two"):
        ledger.request(DEMO_ACCOUNT, "order_placed", order_id=order_id)
    ledger.request(OTHER, "manual")
    real = simulated.broker
    broker = WhileReading(real.url, real.token, real.environment, real.policy, ledger=ledger)
    landed = extract(home, broker, ledger)
    first = str(landed.snapshot_id)
    assert answers(ledger) == [first, first, None, None]
    for request in ledger.requests()[:2]:
        assert request.claimed_at is not None
        assert request.requested_at <= request.claimed_at <= landed.manifest.as_of
    second = str(extract(home, real, ledger).snapshot_id)
    assert answers(ledger) == [first, first, None, second]


def test_a_replay_answers_nothing(home: Home, simulated: Simulated, ledger: Ledger) -> None:
    landed = extract(home, simulated.broker, ledger)
    ledger.request(DEMO_ACCOUNT, "manual")
    extract(home, simulated.broker, ledger, landed.snapshot_id)
    assert answers(ledger) == [None]


def test_a_snapshot_that_is_refused_before_its_first_fetch_answers_nothing(
    home: Home, simulated: Simulated, ledger: Ledger
) -> None:
    ledger.request(DEMO_ACCOUNT, "manual")
    with pytest.raises(ExtractError, match="was missed"):
        extract(home, simulated.broker, ledger, SnapshotId.parse(f"{DEMO_ACCOUNT}@2026-01-05T14:31:00Z"))
    assert answers(ledger) == [None]


def test_a_snapshot_that_fails_at_the_broker_has_answered(home: Home, simulated: Simulated, ledger: Ledger) -> None:
    """Asking again and again would storm a broker that is down; the failure is recorded under the snapshot's id."""
    ledger.request(DEMO_ACCOUNT, "manual")
    simulated.fault("/balances", "status", status=400, body="no")
    with pytest.raises(BrokerError):
        extract(home, simulated.broker, ledger)
    (failure,) = home.zone.failures(DEMO_ACCOUNT)
    assert answers(ledger) == [failure.snapshot_id]


def test_a_home_without_a_ledger_gets_none(home: Home, simulated: Simulated, ledger: Ledger) -> None:
    extract(home, simulated.broker, ledger)
    assert not ledger.exists


def test_a_ledger_that_cannot_be_used_costs_a_warning_and_not_the_snapshot(
    home: Home,
    simulated: Simulated,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger.request(DEMO_ACCOUNT, "manual")
    monkeypatch.setattr(store, "VERSION", 0)
    landed = extract(home, simulated.broker, ledger)
    assert home.zone.find(landed.snapshot_id)
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "the requests for a snapshot go on waiting: " in warning.getMessage()
    monkeypatch.undo()
    assert answers(ledger) == [None]


# ---------------------------------------------------------------- from Python


def test_a_request_from_python_waits_for_the_next_snapshot_whoever_takes_it(
    home: Home, simulated: Simulated, ledger: Ledger
) -> None:
    (request,) = request_snapshot(reason="order_placed", order_id="gw-1-entry", note="by hand")
    assert ledger.waiting() == [request]
    assert (request.account_id, request.reason, request.order_id) == (DEMO_ACCOUNT, "order_placed", "gw-1-entry")
    taken = sync_tradier_snapshot()
    assert answers(ledger) == [taken.snapshot_id]


def test_every_configured_account_gets_a_request_and_no_other(
    home: Home, simulated: Simulated, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", f"{DEMO_ACCOUNT},{OTHER}")
    assert [request.account_id for request in request_snapshot()] == [DEMO_ACCOUNT, OTHER]
    assert [request.account_id for request in request_snapshot(OTHER)] == [OTHER]
    with pytest.raises(PipelineError, match=rf"VA1 is not an account of this home \({DEMO_ACCOUNT}, {OTHER}\)"):
        request_snapshot("VA1")
    with pytest.raises(PipelineError, match="'because' is no reason"):
        request_snapshot(reason="because")  # type: ignore[arg-type]
    assert len(ledger.waiting()) == 3
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", "all")
    assert [request.account_id for request in request_snapshot()] == [DEMO_ACCOUNT, OTHER, "SIM00000003"]
    assert [request.account_id for request in request_snapshot("SIM00000003")] == ["SIM00000003"]
