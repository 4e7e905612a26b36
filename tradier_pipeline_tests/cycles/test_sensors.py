"""The sensors, called as the daemon calls them: what waits becomes one run, what is news becomes one request."""

from __future__ import annotations

import logging
import signal
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import dagster as dg
import httpx
import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.sensor import execute_sensor_iteration

from tradier_pipeline import clock
from tradier_pipeline.core.settings import DEMO_ACCOUNT, Settings, load_settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.cycles import sensors
from tradier_pipeline.cycles.sensors import build_sensors
from tradier_pipeline.extract.connection import Broker
from tradier_pipeline.ledger.records import Leg, Trade
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.cycles.conftest import MINUTE, OPEN, Clock, unfinished, workspace_of
from tradier_pipeline_tests.support.dagster_runs import definitions, materialized, run_job
from tradier_pipeline_tests.support.sampling import sampled

pytestmark = pytest.mark.usefixtures("without_days")

SENSORS = {sensor.name: sensor for sensor in build_sensors(Settings(broker_sensor_seconds=5))}
OTHER = "SIM00000002"
SECOND = timedelta(seconds=1)


@pytest.fixture
def ledger(home: Home) -> Ledger:
    return Ledger(home.path / "ledger.sqlite")


class Sensor:
    """A sensor that is evaluated again and again, with its cursor."""

    def __init__(self, name: str, instance: dg.DagsterInstance) -> None:
        self._name, self._instance = name, instance
        self.cursor: str | None = None

    def look(self) -> tuple[Sequence[dg.RunRequest], str | None]:
        """What one evaluation asks for, and why it asks for nothing."""
        with dg.build_sensor_context(
            instance=self._instance,
            instance_ref=self._instance.get_ref(),  # as the daemon does
            cursor=self.cursor,
            sensor_name=self._name,
            repository_def=definitions().get_repository_def(),
        ) as context:
            data = SENSORS[self._name].evaluate_tick(context)
        self.cursor = data.cursor
        for request in data.dynamic_partitions_requests or ():
            self._instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        return data.run_requests or [], data.skip_message


@pytest.fixture
def requester(instance: dg.DagsterInstance) -> Sensor:
    return Sensor("request_sensor", instance)


# ---------------------------------------------------------------- requests


def test_nothing_is_done_when_nothing_waits(home: Home, requester: Sensor) -> None:
    assert requester.look() == ([], "no request waits")


def test_requests_of_an_account_become_one_run_that_names_their_reasons(
    home: Home, ledger: Ledger, requester: Sensor, machine: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", f"{DEMO_ACCOUNT},{OTHER}")
    ledger.request(DEMO_ACCOUNT, "order_placed", order_id="one")
    ledger.request(OTHER, "manual")
    ledger.request(DEMO_ACCOUNT, "position_flat")
    ledger.request(DEMO_ACCOUNT, "order_placed", order_id="two")
    requests, _ = requester.look()
    assert [(request.run_key, request.tags["dagster/partition"]) for request in requests] == [
        (f"{DEMO_ACCOUNT}@2025-11-03T14:30:00Z", f"{DEMO_ACCOUNT}@2025-11-03T14:30:00Z"),
        (f"{OTHER}@2025-11-03T14:30:00Z", f"{OTHER}@2025-11-03T14:30:00Z"),
    ]
    tags = [
        {key: request.tags[key] for key in (".dagster/tradier_account", "tradier/trigger", "dagster/partition")}
        for request in requests
    ]
    assert tags == [
        {
            ".dagster/tradier_account": DEMO_ACCOUNT,
            "tradier/trigger": "order_placed,position_flat",
            "dagster/partition": f"{DEMO_ACCOUNT}@2025-11-03T14:30:00Z",
        },
        {
            ".dagster/tradier_account": OTHER,
            "tradier/trigger": "manual",
            "dagster/partition": f"{OTHER}@2025-11-03T14:30:00Z",
        },
    ]
    job = definitions().resolve_job_def("snapshot")
    for request in requests:
        assert request.job_name == "snapshot"
        assert dg.validate_run_config(job, request.run_config)


def test_accounts_of_which_a_snapshot_is_wanted_for_the_same_reason_become_one_run(
    home: Home, ledger: Ledger, requester: Sensor, machine: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", f"{DEMO_ACCOUNT},{OTHER}")
    ledger.request(DEMO_ACCOUNT, "manual")
    ledger.request(OTHER, "manual")
    ((request,), _) = requester.look()
    assert request.job_name == "snapshot_accounts"
    assert request.tags[".dagster/tradier_snapshots"] == f"{DEMO_ACCOUNT},{OTHER}@2025-11-03T14:30:00Z"
    assert request.tags["tradier/trigger"] == "manual"


@pytest.mark.parametrize("status", ["NOT_STARTED", "STARTED", "CANCELING"])
def test_an_account_whose_run_has_not_ended_waits_for_it_and_no_other_does(
    status: str,
    home: Home,
    ledger: Ledger,
    requester: Sensor,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", f"{DEMO_ACCOUNT},{OTHER}")
    before = str(SnapshotId.now(DEMO_ACCOUNT))
    unfinished(instance, dg.DagsterRunStatus[status], before)
    ledger.request(DEMO_ACCOUNT, "manual")
    assert requester.look() == ([], f"{DEMO_ACCOUNT}: {before} is still being taken")
    ledger.request(OTHER, "manual")
    (request,), _ = requester.look()
    assert request.tags[".dagster/tradier_account"] == OTHER
    (run,) = instance.get_runs()
    instance.report_run_failed(run)
    (request,), _ = requester.look()
    assert request.tags[".dagster/tradier_account"] == DEMO_ACCOUNT


def test_a_run_that_died_before_it_could_answer_is_asked_for_again_after_a_minute_or_with_the_next_request(
    home: Home, ledger: Ledger, requester: Sensor, machine: Clock
) -> None:
    ledger.request(DEMO_ACCOUNT, "manual")
    assert len(requester.look()[0]) == 1
    machine.time = OPEN + MINUTE - SECOND
    assert requester.look() == (
        [],
        f"{DEMO_ACCOUNT}: the run asked for did not answer them; asked again within a minute",
    )
    machine.time = OPEN + MINUTE
    (again,), _ = requester.look()
    assert again.run_key == f"{DEMO_ACCOUNT}@2025-11-03T14:31:00Z"
    machine.time += SECOND
    assert requester.look()[0] == []
    ledger.request(DEMO_ACCOUNT, "order_placed")
    assert len(requester.look()[0]) == 1


def test_a_request_for_an_account_that_is_not_configured_waits_and_stops_no_other(
    home: Home, ledger: Ledger, requester: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.request("VA1", "manual")
    assert requester.look() == ([], "VA1: not an account of TRADIER_ACCOUNT_ID")
    ledger.request(DEMO_ACCOUNT, "manual")
    (request,), _ = requester.look()
    assert request.tags[".dagster/tradier_account"] == DEMO_ACCOUNT
    assert len(ledger.waiting()) == 2
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", "all")
    (request,), _ = requester.look()
    assert request.tags[".dagster/tradier_account"] == "VA1"


def test_a_ledger_that_cannot_be_used_fails_the_tick_in_one_line(home: Home, ledger: Ledger, requester: Sensor) -> None:
    ledger.path.mkdir(parents=True)
    with pytest.raises(dg.Failure, match="cannot use the ledger"):
        requester.look()


# ---------------------------------------------------------------- the daemon


class Daemon:
    """Dagster's own sensor daemon on the project's code location, an iteration at a time."""

    def __init__(self, context: WorkspaceProcessContext) -> None:
        self._context = context

    def iterate(self) -> None:
        errors = [error for error in self._iteration() if error is not None]
        assert errors == []

    def die(self, sensor: str, point: str) -> None:
        """Run an iteration that ends at a point of Dagster's own, without a chance to record it."""
        with pytest.raises(KeyboardInterrupt):
            list(self._iteration({sensor: {point: signal.SIGINT}}))

    def _iteration(self, crashes: Any = None) -> Iterator[Any]:
        yield from execute_sensor_iteration(
            self._context, logging.getLogger(__name__), None, None, debug_crash_flags=crashes
        )


@pytest.fixture
def daemon(interruptible: None, home: Home, simulated: Simulated, instance: dg.DagsterInstance) -> Iterator[Daemon]:
    with workspace_of(instance) as context:
        yield Daemon(context)


def take_the_requested(instance: dg.DagsterInstance) -> str:
    """Do what the run coordinator would: take the one snapshot that is queued."""
    (queued,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]))
    assert queued.job_name == "snapshot"
    instance.report_run_canceled(queued)  # and run it here, under the same key and tags
    key = queued.tags["dagster/partition"]
    tags = {name: value for name, value in queued.tags.items() if name.startswith("tradier/")}
    assert run_job(instance, key, tags=tags).success
    return key


def let_pass(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """Let Dagster's clock and ours be later."""
    later = clock.now() + timedelta(seconds=seconds)
    monkeypatch.setattr("dagster._daemon.sensor.get_current_datetime", lambda: later)
    monkeypatch.setattr("dagster._daemon.sensor.get_current_timestamp", later.timestamp)


def test_an_order_in_the_ledger_becomes_one_run_that_answers_it_once(
    home: Home, ledger: Ledger, daemon: Daemon, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.iterate()
    assert instance.get_runs() == []
    with sqlite3.connect(ledger.path) as engine:  # the sensor has created it
        engine.execute(
            "INSERT INTO orders (client_order_id, account_id, role) VALUES ('gw-1-entry', ?, 'ENTRY')", [DEMO_ACCOUNT]
        )
    engine.close()
    for later in (10, 20):  # again, while the run is queued
        let_pass(monkeypatch, later)
        daemon.iterate()
    key = take_the_requested(instance)
    (request,) = ledger.requests()
    assert (request.order_id, request.snapshot_id) == ("gw-1-entry", key)
    assert materialized(instance) == {key}
    (landed,) = home.zone.snapshots()
    assert landed.manifest.trigger == "order_placed"
    let_pass(monkeypatch, 40)
    daemon.iterate()
    assert len(instance.get_runs()) == 2  # the queued one and the one that did its work


@sampled("point", ["TICK_CREATED", "RUN_IDS_RESERVED", "RUN_CREATED", "RUN_LAUNCHED"], kept=[2])
def test_a_daemon_that_dies_anywhere_asks_for_the_run_once(
    point: str,
    ledger: Ledger,
    daemon: Daemon,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    daemon.iterate()
    ledger.request(DEMO_ACCOUNT, "manual")
    let_pass(monkeypatch, 10)
    daemon.die("request_sensor", point)
    let_pass(monkeypatch, 20)
    daemon.iterate()
    key = take_the_requested(instance)
    assert [request.snapshot_id for request in ledger.requests()] == [key]
    let_pass(monkeypatch, 40)
    daemon.iterate()
    assert len(instance.get_runs()) == 2


# ---------------------------------------------------------------- positions that are gone


@pytest.fixture
def flat(instance: dg.DagsterInstance) -> Sensor:
    return Sensor("flat_sensor", instance)


def open_trade(ledger: Ledger, trade_id: str = "t-1", symbol: str = "SPY261218P00650000") -> None:
    leg = Leg(option_symbol=symbol, side="short", quantity=Decimal(1))
    ledger.record_trade(
        Trade(trade_id=trade_id, account_id=DEMO_ACCOUNT, symbol="SPY", status="OPEN", quantity=Decimal(1), legs=(leg,))
    )


def flat_requests(ledger: Ledger) -> list[tuple[str | None, str | None]]:
    return [(request.order_id, request.note) for request in ledger.requests() if request.reason == "position_flat"]


def test_a_position_that_is_gone_asks_for_one_second_snapshot_and_concludes_nothing(
    home: Home, simulated: Simulated, ledger: Ledger, flat: Sensor
) -> None:
    open_trade(ledger)
    trades = ledger.trades()
    assert flat.look() == ([], "nothing new is published")
    first, _ = take(home, simulated.broker)
    note = f"SPY261218P00650000 gone in {first.snapshot_id}"
    assert flat.look() == ([], f"t-1: {note}")
    assert flat.look() == ([], "nothing new is published")
    flat.cursor = None  # the daemon died before it kept the cursor
    flat.look()
    assert flat_requests(ledger) == [("t-1", note)]
    take(home, simulated.broker)
    assert flat.look() == ([], "every open trade is held, or its end is confirmed")
    assert flat_requests(ledger) == [("t-1", note)]
    open_trade(ledger, "t-2", "SPY261218P00600000")
    take(home, simulated.broker)
    flat.look()
    assert flat_requests(ledger) == [("t-1", note)]  # gone in the two newest ones: confirmed without asking
    assert [one.trade_id for one in ledger.trades(["OPEN"])] == ["t-1", "t-2"]
    assert ledger.trades()[0] == trades[0]


def test_a_home_without_a_ledger_has_no_trades(home: Home, simulated: Simulated, ledger: Ledger, flat: Sensor) -> None:
    take(home, simulated.broker)
    assert flat.look() == ([], "nothing new is published")
    assert not ledger.exists


# ---------------------------------------------------------------- the broker's orders


@pytest.fixture
def looker(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Sensor:
    monkeypatch.setenv("TRADIER_CALENDAR", "24/7")
    return Sensor("broker_sensor", instance)


def by_hand(simulated: Simulated, method: str, path: str = "", **ticket: str) -> int:
    """What somebody does at the broker's own desk."""
    answer = httpx.request(
        method,
        f"{simulated.url}/v1/accounts/{DEMO_ACCOUNT}/orders{path}",
        data=ticket,
        headers={"Authorization": f"Bearer {simulated.broker.token.get_secret_value()}", "Accept": "application/json"},
        trust_env=False,
    )
    answer.raise_for_status()
    return int(answer.json()["order"]["id"])


def place_by_hand(simulated: Simulated) -> int:
    """An order that rests."""
    ticket = {"class": "equity", "symbol": "SPY", "side": "buy", "quantity": "1", "duration": "gtc"}
    return by_hand(simulated, "POST", **ticket, type="limit", price="1.00")


def test_an_order_placed_by_hand_asks_for_one_snapshot(
    home: Home, simulated: Simulated, ledger: Ledger, looker: Sensor
) -> None:
    quiet = ([], "no order has changed")
    simulated.admin("POST", "clock", {"now": clock.iso(clock.now())})  # nobody else trades
    assert looker.look() == quiet  # nothing to compare with
    take(home, simulated.broker)
    assert looker.look() == quiet
    assert ledger.requests() == []
    order_id = place_by_hand(simulated)
    _, reported = looker.look()
    assert reported is not None
    assert str(order_id) in reported
    (request,) = ledger.waiting()
    assert (request.account_id, request.reason, request.order_id) == (DEMO_ACCOUNT, "order_placed", None)
    assert request.note is not None
    assert request.note.startswith("at the broker: ")
    assert str(order_id) in request.note

    asked = len(simulated.requests())
    assert looker.look() == quiet
    assert len(simulated.requests()) == asked  # a request waits already
    with sqlite3.connect(ledger.path) as connection:  # a snapshot that failed has answered it
        connection.execute(
            "UPDATE snapshot_requests SET claimed_at = requested_at, "
            "snapshot_id = account_id || '@2026-01-05T14:31:00Z'"
        )
    connection.close()
    assert looker.look() == quiet
    assert len(simulated.requests()) == asked + 1
    assert len(ledger.requests()) == 1  # the same news


def test_a_look_that_a_snapshot_has_overtaken_is_no_news(
    home: Home, simulated: Simulated, ledger: Ledger, instance: dg.DagsterInstance
) -> None:
    simulated.admin("POST", "clock", {"now": clock.iso(clock.now())})
    order_id = place_by_hand(simulated)
    take(home, simulated.broker)

    class Overtaken(Broker):
        def read(self, read: Any) -> Any:
            listed = super().read(read)
            by_hand(simulated, "DELETE", f"/{order_id}")
            take(home, simulated.broker)
            return listed

    real = simulated.broker
    slow = Overtaken(real.url, real.token, real.environment, real.policy)
    assert sensors._look(load_settings(), ledger, slow, DEMO_ACCOUNT) is None
    assert ledger.requests() == []


def test_the_broker_is_looked_at_during_the_session_only(
    home: Home, simulated: Simulated, looker: Sensor, machine: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_CALENDAR", "XNYS")
    machine.time = OPEN - SECOND
    assert looker.look() == ([], "the exchange is closed")
    machine.time = datetime.fromisoformat("2025-11-27T15:00:00Z")
    assert looker.look() == ([], "the exchange is closed")
    assert simulated.requests() == []
    machine.time = OPEN
    assert looker.look() == ([], "no order has changed")
    assert len(simulated.requests()) == 1


def test_a_broker_that_cannot_be_read_is_told_and_stops_no_other_account(
    home: Home, simulated: Simulated, looker: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", f"VA99999999,{DEMO_ACCOUNT}")
    simulated.fault(f"{DEMO_ACCOUNT}/orders", "status", status=503)
    _, reported = looker.look()
    assert reported is not None
    assert "VA99999999: orders: " in reported
    assert f"{DEMO_ACCOUNT}: orders: no usable answer in 1 attempts, the last: HTTP 503" in reported
    assert len(simulated.requests()) == 2  # one look, not four attempts


def test_the_broker_sensor_is_off_by_default() -> None:
    assert [sensor.name for sensor in build_sensors(Settings())] == ["request_sensor", "flat_sensor", "gap_sensor"]
    assert [sensor.minimum_interval_seconds for sensor in SENSORS.values()] == [1, 1, 30, 5]
    assert {sensor.default_status for sensor in SENSORS.values()} == {dg.DefaultSensorStatus.RUNNING}
