"""One read of the broker, to its end, from wherever it is asked."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest
from pydantic import SecretStr

from tradier_pipeline.broker.client import BrokerClient
from tradier_pipeline.extract.connection import Broker

BROKER = Broker("http://127.0.0.1:9", SecretStr("unused"), "simulator")


class Interrupt(BaseException):
    """What Dagster's handler raises, wherever the program is at that moment."""


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    def interrupt(_: int, __: FrameType | None) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    yield
    signal.signal(signal.SIGUSR1, before)


async def _ended_by_nothing_else(_: BrokerClient) -> None:
    """Hangs, as a read of a broker that does not answer; the signal comes between two of its steps."""
    asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    await asyncio.Event().wait()


def test_an_interrupt_between_two_steps_of_a_read_ends_it() -> None:
    with pytest.raises(Interrupt):
        BROKER.read(_ended_by_nothing_else)


def test_an_interrupt_that_the_system_gives_to_the_thread_of_the_read_ends_it() -> None:
    async def hangs(_: BrokerClient) -> None:
        asyncio.get_running_loop().call_soon(signal.pthread_kill, threading.get_ident(), signal.SIGUSR1)
        await asyncio.Event().wait()

    with pytest.raises(Interrupt):
        BROKER.read(hangs)


@pytest.mark.parametrize("begun", [True, False])
def test_an_interrupt_while_a_read_begins_leaves_nothing_running(
    monkeypatch: pytest.MonkeyPatch, *, begun: bool
) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if begun:
            start(thread)
        raise Interrupt

    async def hangs(_: BrokerClient) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(Interrupt):
        BROKER.read(hangs)
    assert [thread for thread in threading.enumerate() if thread.name == "tradier-broker"] == []


def test_an_interrupt_ends_a_read_that_a_notebook_waits_for() -> None:
    async def notebook() -> None:
        with pytest.raises(Interrupt):
            BROKER.read(_ended_by_nothing_else)

    asyncio.run(notebook())
