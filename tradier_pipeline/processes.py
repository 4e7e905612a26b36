"""A process under a name that another one can ask about later."""

from __future__ import annotations

import os
import socket


def name_of(pid: int) -> str:
    """A process of this machine, by host and process id."""
    return f"{socket.gethostname()} {pid}"


def pid_of(name: str) -> int | None:
    """The process id if the process is one of this machine."""
    host, _, pid = name.rpartition(" ")
    return int(pid) if host == socket.gethostname() and pid.isdecimal() else None


def is_gone(name: str) -> bool:
    """Whether a process of this machine has ended. Of another machine nothing is known: it is not gone."""
    pid = pid_of(name)
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's: it lives
        return False
    return False
