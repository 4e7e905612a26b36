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
from collections.abc import Callable, Mapping
from pathlib import Path

from tradier_pipeline_tests.support.crash_child import Job, nursery

ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def on_terminal(*arguments: str, columns: int = 80, lines: int = 24, **environment: str) -> tuple[int, str]:
    """The command line, in a process of its own that is forked from one that has imported all.

    Returns: exit code and all that it wrote, stdout and stderr together, as the terminal got it.
    """

    def start(terminal: int) -> Callable[[], int | None]:
        job = Job(
            home=str(Path.cwd()),
            work="terminal",
            arguments=arguments,
            terminal=os.ttyname(terminal),
            environment=_environment(environment),
        )
        pid = nursery().start(job)
        return lambda: nursery().wait(pid).code

    return _on_terminal(start, columns, lines)


def program_on_terminal(program: Path, *arguments: str, columns: int = 80, **environment: str) -> tuple[int, str]:
    """Likewise of another Python program, which is started as it is."""

    def start(terminal: int) -> Callable[[], int | None]:
        command, ends = [sys.executable, str(program), *arguments], {"stdin": terminal, "stdout": terminal}
        process = subprocess.Popen(command, **ends, stderr=terminal, env=_environment(environment))
        return lambda: process.wait(timeout=60)

    return _on_terminal(start, columns, 24)


def _on_terminal(start: Callable[[int], Callable[[], int | None]], columns: int, lines: int) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    wait = start(theirs)
    os.close(theirs)
    reported = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while part := os.read(ours, 65536):
            reported += part
    os.close(ours)
    code = wait()
    assert code is not None, reported
    return code, reported.decode().replace("\r\n", "\n")


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    return inherited | {"TERM": "xterm-256color"} | variables


def plain(reported: str) -> str:
    """The text without its colours."""
    return ESCAPES.sub("", reported)
