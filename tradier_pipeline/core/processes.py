"""A process under a name that another one can ask about later, and processes that do not outlive their parent.

Process ids are given again: a name has the host, the id, and when that process started, since which boot.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

GONE = "-"
PARENT_PIPE = "TRADIER_PIPELINE_PARENT"  # a descriptor that reads its end when the parent has died


def name_of(pid: int) -> str:
    """A process of this machine: host, process id, and when it started."""
    return f"{socket.gethostname()} {pid} {_started(pid) or GONE}"


def pid_of(name: str) -> int | None:
    """The process id if the process is one of this machine."""
    host, pid, _ = _parts(name)
    return int(pid) if host == socket.gethostname() and pid.isdecimal() else None


def is_gone(name: str) -> bool:
    """Whether a process of this machine has ended, also if another one has its id by now.

    Of another machine nothing is known: it is not gone.
    """
    pid = pid_of(name)
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's: it lives
        pass
    _, _, started = _parts(name)
    return started is not None and started != _started(pid)


def is_known(name: str) -> bool:
    """Whether it is certain that a process of this machine is the one that was named: only then may it be signalled.

    Earlier versions named a process by its id alone.
    """
    pid, (_, _, started) = pid_of(name), _parts(name)
    return pid is not None and started is not None and started == _started(pid)


def _parts(name: str) -> tuple[str, str, str | None]:
    host, _, rest = name.partition(" ")
    pid, _, started = rest.partition(" ")
    return host, pid, started or None


def _started(pid: int) -> str | None:
    """When a process started, distinguished from every other time; None if there is no such process."""
    status = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            ticks = status.read_text().rpartition(")")[2].split()[19]  # since the boot; its name may have blanks
            return f"{ticks}@{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
        except OSError:
            return None
    reported = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607
    return reported.stdout.strip().replace(" ", "_") or None


def end_with_parent() -> None:
    """End this process and all of its group, at once, when the process that started it has died.

    The parent holds the other end of a pipe; whatever kills the parent closes it. Every state on disk survives this.
    """
    descriptor = int(os.environ.pop(PARENT_PIPE))

    def wait() -> None:
        with suppress(OSError):
            while os.read(descriptor, 1):
                pass
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def main() -> None:
    """Run a module as `python -m` does, but no longer than the parent lives: `... processes MODULE ARGUMENTS`."""
    import runpy

    end_with_parent()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
