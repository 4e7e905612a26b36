"""`tradier-pipeline up`: the UI, the daemon and, without credentials, the simulated broker, in the foreground."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from tradier_pipeline.errors import PipelineError
from tradier_pipeline.extract import connect
from tradier_pipeline.instance import check_storage
from tradier_pipeline.settings import Settings

STOP_TIMEOUT_S = 8.0
LOCATION = "tradier_pipeline"  # run history and the switches of schedules are kept by it
WORKSPACE = """
load_from:
  - grpc_server:
      socket: {socket}
      location_name: {location}
"""


class UpError(PipelineError):
    """One of the processes could not be started, or ended by itself."""


def up(settings: Settings, host: str, port: int) -> None:
    """Run until interrupted.

    Raises:
        UpError: the port is taken, or one of the processes ended by itself.
    """
    _refuse_busy_port(host, port)
    check_storage(settings.dagster_home)  # opened once, before the processes that share it start
    stopping = _stop_on_signals()
    with connect(settings) as broker, tempfile.TemporaryDirectory(prefix="tradier-pipeline-") as scratch:
        socket_path, workspace = Path(scratch) / "code.sock", Path(scratch) / "workspace.yaml"
        workspace.write_text(WORKSPACE.format(socket=socket_path, location=LOCATION), encoding="utf-8")
        environment = {
            **os.environ,
            "DAGSTER_HOME": str(settings.dagster_home),
            "TRADIER_PIPELINE_HOME": str(settings.home),
            "TRADIER_BASE_URL": broker.url,
            "TRADIER_ACCESS_TOKEN": broker.token.get_secret_value(),  # the embedded simulator never sees the user's
            "PYTHONUNBUFFERED": "1",
        }
        code = ["-m", "tradier_pipeline.definitions", "--location-name", LOCATION, "--socket", str(socket_path)]
        # one for both: by default the daemon starts a server of its own anew every minute
        server = {"the code server": ["dagster", "code-server", "start", *code, "--log-level", "warning"]}
        clients = {
            "the UI": ["dagster_webserver", "-w", str(workspace), "--host", host, "--port", str(port)],
            "the daemon": ["dagster._daemon", "run", "-w", str(workspace), "--log-level", "warning"],
        }
        with _running(server, environment) as serving:
            while not (socket_path.exists() or stopping.wait(0.1)):
                _refuse_ended(serving)
            with _running(clients, environment) as processes:
                while not stopping.wait(0.5):
                    _refuse_ended({**serving, **processes})


def _refuse_ended(processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
    for name, process in processes.items():
        if process.poll() is not None:
            raise UpError(f"{name} ended with exit code {process.returncode}", "Its last lines above say why.")


@contextmanager
def _running(
    commands: Mapping[str, list[str]], environment: Mapping[str, str]
) -> Iterator[Mapping[str, subprocess.Popen[bytes]]]:
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, arguments in commands.items():
            # a session of its own: an interrupt at the terminal reaches only us, and we end all of it in order
            command = [sys.executable, "-m", *arguments]
            processes[name] = subprocess.Popen(command, env=environment, start_new_session=True)  # noqa: S603
        yield processes
    finally:
        _end(processes.values())


def _end(processes: Collection[subprocess.Popen[bytes]]) -> None:
    """Ask the processes to end; what is left of their sessions (code servers, runs) may finish until the deadline."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    for process in processes:
        process.send_signal(signal.SIGINT)
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        with suppress(ProcessLookupError):  # all of it has ended
            while time.monotonic() < deadline:
                os.killpg(process.pid, 0)
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _stop_on_signals() -> threading.Event:
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the last one: the terminal was closed
        signal.signal(number, stop)
    return stopping


def _refuse_busy_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UpError(f"cannot serve on {host}:{port}: {error.strerror}", "Choose another with --port.") from None
