"""`tradier-pipeline up`: the UI, the daemon and, without credentials, the simulated broker, in the foreground."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from tradier_pipeline.errors import PipelineError
from tradier_pipeline.instance import open_instance
from tradier_pipeline.settings import Settings

STOP_TIMEOUT_S = 15


class UpError(PipelineError):
    """The UI or the daemon could not be started, or ended by itself."""


def up(settings: Settings, host: str, port: int) -> None:
    """Run until interrupted.

    Raises:
        UpError: the port is taken, or one of the processes ended by itself.
    """
    _refuse_busy_port(host, port)
    open_instance(settings.dagster_home).dispose()  # once, before the processes that share it start
    workspace = _workspace_arguments()
    stopping = _stop_on_signals()
    environment = dict(os.environ, TRADIER_PIPELINE_HOME=str(settings.home), PYTHONUNBUFFERED="1")
    with ExitStack() as stack:
        if settings.broker_url is None:
            environment["TRADIER_BASE_URL"] = stack.enter_context(_simulator(settings))
        webserver = ["dagster_webserver", *workspace, "--host", host, "--port", str(port)]
        processes = {
            "the UI": stack.enter_context(_process(webserver, environment)),
            "the daemon": stack.enter_context(_process(["dagster._daemon", "run", *workspace], environment)),
        }
        while not stopping.wait(0.5):
            for name, process in processes.items():
                if process.poll() is not None:
                    raise UpError(f"{name} ended with exit code {process.returncode}", "Its last lines above say why.")


@contextmanager
def _process(arguments: Sequence[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    # a session of its own: an interrupt at the terminal reaches only us, and we end both in order
    process = subprocess.Popen([sys.executable, "-m", *arguments], env=environment, start_new_session=True)  # noqa: S603
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def _simulator(settings: Settings) -> Iterator[str]:
    from tradier_pipeline.broker.simulator.server import embedded_simulator

    with embedded_simulator(settings.simulator) as url:
        yield url


def _stop_on_signals() -> threading.Event:
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    return stopping


def _workspace_arguments() -> list[str]:
    workspace = Path("workspace.yaml")
    if workspace.exists():
        return ["-w", str(workspace)]
    return ["-m", "tradier_pipeline.definitions"]


def _refuse_busy_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UpError(f"cannot serve on {host}:{port}: {error.strerror}", "Choose another with --port.") from None
