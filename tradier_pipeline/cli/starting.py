"""How the command line comes up: quickly, and an interrupt while it does is one line.

It imports almost nothing: what is imported before it can be interrupted with a traceback.
"""

from __future__ import annotations

import os
import signal

INTERRUPTED = 130  # what a shell makes of SIGINT


def _end(_: int, __: object) -> None:
    os.write(2, b"tradier-pipeline: interrupted.\n")
    os._exit(INTERRUPTED)


class up:  # noqa: N801 - a block: `with starting.up():`
    """While the commands are imported: no collection of garbage, and Ctrl-C ends the process with one line.

    Where somebody else handles the signal already, or in a thread, it stays theirs.
    """

    def __enter__(self) -> None:
        self._ours = False
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
