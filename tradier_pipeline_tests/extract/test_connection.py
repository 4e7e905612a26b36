"""One read of the broker, to its end, from wherever it is asked."""

from __future__ import annotations

import asyncio
import os
import signal
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


def test_an_interrupt_ends_a_read_that_a_notebook_waits_for() -> None:
    async def notebook() -> None:
        with pytest.raises(Interrupt):
            BROKER.read(_ended_by_nothing_else)

    asyncio.run(notebook())
