"""The long-lived listener: an order moves at the broker, something is done about its account at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TypeAlias

from tradier_pipeline.broker.events import AccountEvents, EventsPolicy, OrderEvent, OrderWatch
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.extract.connection import Broker, accounts_to_read, connect

BURST_S = 0.2  # an order and its legs move together
_TOLD_EVENTS = 3

OnChange: TypeAlias = "Callable[[str, Sequence[OrderEvent]], None]"
"""What to do about an account, in a thread of its own: its number, and what happened; at the start, nothing yet."""


def listen(settings: Settings, on_change: OnChange, tell: Callable[[str], None]) -> None:
    """Call `on_change` for every change of an order of the configured accounts, until SIGINT or SIGTERM.

    It is first called without an event for each account: nobody knows what changed before.

    Args:
        tell: called with one line per event and per change of state.

    Raises:
        PipelineError: it cannot begin: no accounts, unusable settings, a missing package.
    """
    with ExitStack() as stack:
        listened = [(stack.enter_context(connect(one)), accounts_to_read(one)) for one in settings.by_token]
        asyncio.run(_until_a_signal(listened, on_change, tell))


async def _until_a_signal(
    listened: Sequence[tuple[Broker, Sequence[str]]], on_change: OnChange, tell: Callable[[str], None]
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    async def of_token(broker: Broker, accounts: Sequence[str]) -> None:
        try:
            await listen_until(stop, broker, accounts, on_change, tell)
        except* PipelineError as errors:
            if len(listened) == 1:
                raise errors.exceptions[0] from None
            tell(f"{', '.join(accounts)} error: {errors.exceptions[0]}")

    async with asyncio.TaskGroup() as group:
        for broker, accounts in listened:
            group.create_task(of_token(broker, accounts))


async def listen_until(
    stop: asyncio.Event,
    broker: Broker,
    accounts: Sequence[str],
    on_change: OnChange,
    tell: Callable[[str], None],
    policy: EventsPolicy | None = None,
) -> None:
    """`listen` inside an event loop. Returns once `stop` is set and what is being done is finished."""
    events = AccountEvents(broker.url, broker.token, policy)
    async with broker.client() as client:
        changes = Changes(on_change, tell)
        changes.begin(accounts)
        watch = OrderWatch(events, client, accounts, changes.add, tell)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(watch.run()), group.create_task(changes.run())]
            tell(f"listening for orders of {', '.join(accounts)}")
            await stop.wait()
            for task in tasks:
                task.cancel()


class Changes:
    """Collects what happens to an account while something is already being done about it.

    A burst becomes one call; all that happens during a call becomes one more. Calls follow one another.
    """

    def __init__(self, on_change: OnChange, tell: Callable[[str], None], burst: float = BURST_S) -> None:
        self._on_change = on_change
        self._tell = tell
        self._burst = burst
        self._waiting: dict[str, list[OrderEvent]] = {}
        self._any = asyncio.Event()

    def begin(self, accounts: Sequence[str]) -> None:
        for account in accounts:
            self._waiting.setdefault(account, [])
        self._any.set()

    def add(self, event: OrderEvent) -> None:
        self._tell(f"{event.account} {event}")
        self._waiting.setdefault(event.account, []).append(event)
        self._any.set()

    async def run(self) -> None:
        """Act until cancelled. A failure is logged and ends nothing: the account's next event or cycle tries again."""
        while True:
            await self._any.wait()
            await asyncio.sleep(self._burst)
            self._any.clear()
            waiting, self._waiting = self._waiting, {}
            for account, events in waiting.items():
                try:
                    await asyncio.to_thread(self._on_change, account, tuple(events))
                except PipelineError as error:
                    self._tell(f"{account} error: {error}")
                except Exception as error:  # one bad moment must not end a process that is to run for weeks
                    self._tell(f"{account} error: {type(error).__name__}: {error}")


def in_one_line(events: Sequence[OrderEvent]) -> str:
    """What happened, for a log or a note."""
    more = len(events) - _TOLD_EVENTS
    return "; ".join(map(str, events[:_TOLD_EVENTS])) + (f"; and {more} more" if more > 0 else "")
