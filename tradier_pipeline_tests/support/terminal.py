"""A command in a terminal of its own: what a person sees, with the size and the colours of that terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence

CLI = ("-m", "tradier_pipeline.cli")
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def on_terminal(
    *arguments: str, columns: int = 80, lines: int = 24, program: Sequence[str] = CLI, **environment: str
) -> tuple[int, str]:
    """A Python program, the command line if none is named.

    Returns: exit code and all that it wrote, stdout and stderr together, as the terminal got it.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, *program, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        | {"TERM": "xterm-256color"}
        | environment,
    )
    os.close(theirs)
    reported = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while part := os.read(ours, 65536):
            reported += part
    os.close(ours)
    return process.wait(timeout=60), reported.decode().replace("\r\n", "\n")


def plain(reported: str) -> str:
    """The text without its colours."""
    return ESCAPES.sub("", reported)
