"""A command in a terminal of its own: what a person sees, with the size and the colours of that terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import termios
from pathlib import Path

from tradier_pipeline_tests.support.crash_child import Job, nursery

ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def on_terminal(*arguments: str, columns: int = 80, lines: int = 24, **environment: str) -> tuple[int, str]:
    """Exit code and all that it wrote, stdout and stderr together, as the terminal got it.

    It is a process of its own, forked from one that has imported all.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    job = Job(
        home=str(Path.cwd()),
        work="terminal",
        arguments=arguments,
        terminal=os.ttyname(theirs),
        environment=inherited | {"TERM": "xterm-256color"} | environment,
    )
    pid = nursery().start(job)
    os.close(theirs)
    reported = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while part := os.read(ours, 65536):
            reported += part
    os.close(ours)
    ended = nursery().wait(pid)
    assert ended.code is not None, ended
    return ended.code, reported.decode().replace("\r\n", "\n")


def plain(reported: str) -> str:
    """The text without its colours."""
    return ESCAPES.sub("", reported)
