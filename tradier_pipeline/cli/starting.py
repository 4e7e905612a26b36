"""How the command line comes up: quickly, and an interrupt while it does is one line.

It imports almost nothing: what is imported before it can be interrupted with a traceback.
"""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = 130  # what a shell makes of SIGINT


def _end(_: int, __: object) -> None:
    os.write(2, b"tradier-pipeline: interrupted.\n")
    os._exit(INTERRUPTED)


def open_closed_streams() -> None:
    """Give a process that was started without stdin, stdout or stderr the null device in their place.

    Else the next file that is opened, the warehouse, would be what everybody who prints writes to.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
        setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


class up:  # noqa: N801 - a block: `with starting.up():`
    """While the commands are imported: no collection of garbage, and Ctrl-C ends the process with one line.

    Where somebody else handles the signal already, or in a thread, it stays theirs.
    """

    def __enter__(self) -> None:
        self._ours = False
        open_closed_streams()
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            try:
                signal.signal(signal.SIGINT, _end)
                self._ours = True
            except ValueError:  # not the main thread
                pass
        from tradier_pipeline.core import collector

        self._paused = collector.paused()
        self._paused.__enter__()

    def __exit__(self, *_: object) -> None:
        self._paused.__exit__(None, None, None)
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
