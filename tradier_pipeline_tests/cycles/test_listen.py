"""The listener: bursts become one call, failures end nothing, and the command turns an order into a snapshot."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import httpx
import pytest

from tradier_pipeline.broker.events import OrderEvent
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import DEMO_ACCOUNT, DEMO_TOKEN
from tradier_pipeline.cycles.listen import Changes, in_one_line, listen_until
from tradier_pipeline.instance import open_instance
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home, Simulated
from tradier_pipeline_tests.simulator.test_http import KO

A, B = "VA11111111", "VA22222222"


def event(order: int, account: str = A) -> OrderEvent:
    return OrderEvent(id=order, account=account, status="open")


@dataclass
class Acting:
    """What is done about a change: noted, and held up until the test lets it go on."""

    failure: Exception | None = None
    calls: list[tuple[str, list[int]]] = field(default_factory=list)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    go_on: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __call__(self, account: str, events: Sequence[OrderEvent]) -> None:
        self.calls.append((account, [one.id for one in events]))
        self.begun.release()
        assert self.go_on.acquire(timeout=10)
        if self.failure:
            raise self.failure

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=10)


def test_a_burst_is_one_call_and_what_happens_meanwhile_is_one_more():
    async def main() -> None:
        acting = Acting()
        changes = Changes(acting, lambda line: None, burst=0.0)
        changes.add(event(1))
        changes.add(event(2))
        task = asyncio.create_task(changes.run())
        await acting.has_begun()
        for order in (3, 4, 5):
            changes.add(event(order))
        changes.add(event(6, B))
        for _ in range(3):
            acting.go_on.release()
        await acting.has_begun()
        await acting.has_begun()
        task.cancel()
        assert acting.calls == [(A, [1, 2]), (A, [3, 4, 5]), (B, [6])]

    asyncio.run(main())


@pytest.mark.parametrize("failure", [PipelineError("orders: no", "Wait."), RuntimeError("a surprise")])
def test_a_failure_is_one_line_and_the_next_change_is_acted_upon(failure):
    lines: list[str] = []

    async def main() -> None:
        acting = Acting(failure)
        changes = Changes(acting, lines.append, burst=0.0)
        task = asyncio.create_task(changes.run())
        for order in (1, 2):
            changes.add(event(order))
            acting.go_on.release()
            await acting.has_begun()
        task.cancel()
        assert acting.calls == [(A, [1]), (A, [2])]

    asyncio.run(main())
    reported = [line for line in lines if "error: " in line]
    assert reported[0].startswith(f"{A} error: ")
    assert str(failure) in reported[0]
    assert "\n" not in reported[0]


def test_many_events_fit_one_line():
    assert in_one_line([event(n) for n in range(1, 6)]) == "order 1 open; order 2 open; order 3 open; and 2 more"
    assert in_one_line([]) == ""


def test_it_begins_with_every_account_and_finishes_what_it_does(simulated: Simulated):
    async def main() -> None:
        acting, stop = Acting(), asyncio.Event()
        listening = asyncio.create_task(listen_until(stop, simulated.broker, [DEMO_ACCOUNT], acting, lambda line: None))
        await acting.has_begun()
        assert acting.calls == [(DEMO_ACCOUNT, [])]
        stop.set()
        acting.go_on.release()
        await asyncio.wait_for(listening, 10)

    asyncio.run(main())


class Listening:
    """A running `tradier-pipeline listen`; it is killed rather than waited for for ever."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tradier_pipeline.cli", "listen"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stderr=pipe, stdout=pipe, text=True, env={**os.environ})
        self._limit = threading.Timer(90, self.process.kill)
        self._limit.start()

    def says(self, *parts: str) -> str:
        """Read on until each of these was said; the last line read."""
        missing = set(parts)
        for line in self.process.stderr:
            missing -= {part for part in missing if part in line}
            if not missing:
                return line
        raise AssertionError(f"it ended without saying {missing}")

    def end(self) -> None:
        self._limit.cancel()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def listening(home: Home, simulated: Simulated) -> Iterator[Listening]:
    """Nobody but the test trades in its account."""
    simulated.admin("POST", "reset", {"accounts": [{"id": DEMO_ACCOUNT}]})
    listening = Listening()
    yield listening
    listening.end()


def test_an_order_becomes_a_snapshot_and_a_signal_ends_it(home: Home, simulated: Simulated, listening: Listening):
    listening.says("published: listening began", "connected to the account stream")
    headers = {"Authorization": f"Bearer {DEMO_TOKEN}", "Accept": "application/json"}
    placed = httpx.post(f"{simulated.url}/v1/accounts/{DEMO_ACCOUNT}/orders", data=KO, headers=headers)
    order = placed.json()["order"]["id"]
    snapshot = listening.says(f"published: order {order} pending").split()[1]
    listening.process.send_signal(signal.SIGTERM)
    out, _ = listening.process.communicate()
    assert (listening.process.returncode, out) == (0, "")
    with connect_readonly(home.warehouse.path) as connection:
        rows = connection.sql(
            "SELECT trigger FROM orders JOIN tradier_snapshots USING (snapshot_id) "
            f"WHERE order_id = {order} AND snapshot_id = '{snapshot}'"
        )
        assert rows.fetchall() == [("order_placed",)]
    with open_instance(home.path / "dagster") as instance:
        assert instance.get_runs()[-1].tags["tradier/trigger"] == "listen"
