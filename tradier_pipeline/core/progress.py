"""What long work says of how far it is, to whoever listens. Where nobody does, saying it costs nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

Listener = Callable[["Step | Working"], None]


@dataclass(frozen=True, slots=True)
class Step:
    """A step that is done: its name, what it came to in words, and the seconds it took."""

    name: str
    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Working:
    """What is being done right now; `done` of `total` of it, where that is known. `urgent`: something is in its way."""

    text: str
    done: int | None = None
    total: int | None = None
    urgent: bool = False


_listener: ContextVar[Listener | None] = ContextVar("progress", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Hand what is said in this context, and in tasks it starts, to a listener."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def working(text: str, done: int | None = None, total: int | None = None, *, urgent: bool = False) -> None:
    """Say what is being done now."""
    if listener := _listener.get():
        listener(Working(text, done, total, urgent))


def step(name: str, text: str, since: float) -> float:
    """Say that a step is done; `since` and the result are readings of `time.monotonic()`."""
    now = time.monotonic()
    if listener := _listener.get():
        listener(Step(name, text, now - since))
    return now
