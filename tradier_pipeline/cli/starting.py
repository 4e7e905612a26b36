"""How the command line comes up: quickly, and an interrupt while it does is one line."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tradier_pipeline.core import collector

INTERRUPTED = 130  # what a shell makes of SIGINT


@contextmanager
def up() -> Iterator[None]:
    """While the commands are imported: no collection of garbage, and Ctrl-C ends the process with one line.

    Where somebody else handles the signal already, or in a thread, it stays theirs.
    """
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, _end)
    try:
        with collector.paused():
            yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(_: int, __: FrameType | None) -> None:
    os.write(2, b"tradier-pipeline: interrupted.\n")
    os._exit(INTERRUPTED)
