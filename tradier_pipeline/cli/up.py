"""`tradier-pipeline up`: the UI, the daemon and, without credentials, the simulated broker, in the foreground.

One `up` for a home: two daemons would lose minutes to each other. What it starts ends with it, whatever kills it.
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

import click
from filelock import FileLock, Timeout

from tradier_pipeline import clock
from tradier_pipeline.broker.http import is_loopback
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.files import PRIVATE_FILE, make_directory, writing
from tradier_pipeline.core.processes import PARENT_PIPE
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.core.terminal import Condensed
from tradier_pipeline.extract.connection import connect
from tradier_pipeline.instance import StorageError, check_storage
from tradier_pipeline.instance.databases import SWITCHES, Broken, broken, inconsistent, set_aside

STOP_TIMEOUT_S = 8.0
LOOK_EVERY_S, LOOK_AGAIN_S = 5.0, 1.0  # at Dagster's databases; again, when one could not be written
MALFORMED = "malformed"  # says SQLite of a file with damaged pages
FLUSH_AFTER_S = 1.0  # of silence
LOCK = ".up.lock"
LOCATION = "tradier_pipeline"  # run history and the switches of schedules are kept by it
WORKSPACE = """
load_from:
  - grpc_server:
      socket: {socket}
      location_name: {location}
"""


class UpError(PipelineError):
    """One of the processes could not be started, or ended by itself."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the UI is served.

    Attributes:
        url: to open in a browser; with the token if only we know it.
        token: what the UI asks for; None: it asks nobody.
        notice: what to tell the user of it; "" if nothing.
    """

    host: str
    port: int
    url: str
    token: str | None = field(default=None, repr=False)
    notice: str = ""


def ui_address(settings: Settings, host: str, port: int) -> Address:
    """Where the UI is served; a token is asked for where one is set, or where other machines reach it."""
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    local = is_loopback(host)
    if settings.ui_token is not None:
        return Address(host, port, url, settings.ui_token.get_secret_value(), "the UI asks for TRADIER_UI_TOKEN")
    if local:
        return Address(host, port, url)
    token = secrets.token_urlsafe(24)
    notice = (
        f"other machines reach {host}, so the UI asks for the token in its address; TRADIER_UI_TOKEN sets another. "
        "It travels in plain text: use an SSH tunnel or a proxy with TLS in a network that is not yours alone"
    )
    return Address(host, port, f"{url}/?token={token}", token, notice)


def up(settings: Settings, address: Address) -> None:
    """Run until interrupted.

    Raises:
        UpError: another `up` runs on this home, the port is taken, or one of the processes ended by itself.
    """
    _refuse_busy_port(address.host, address.port, settings.home)
    with _alone(settings.home, f"http://{address.host}:{address.port}"):
        _up(settings, address)


def _up(settings: Settings, address: Address) -> None:
    stopping = _stop_on_signals()
    with connect(settings) as broker, tempfile.TemporaryDirectory(prefix="tradier-pipeline-") as scratch:
        environment = {
            **os.environ,
            "DAGSTER_HOME": str(settings.dagster_home),
            "TRADIER_PIPELINE_HOME": str(settings.home),
            "TRADIER_UI_TOKEN": address.token or "",
            "PYTHONUNBUFFERED": "1",
        }
        if settings.broker_url is None:  # the embedded simulator never sees the user's token
            environment |= {
                "TRADIER_ENV": settings.environment,
                "TRADIER_BASE_URL": broker.url,
                "TRADIER_ACCESS_TOKEN": broker.token.get_secret_value(),
            }
        # of a real broker every run reads the settings itself: a token changed in .env counts from the next run on
        while not stopping.is_set():
            _make_usable(settings.dagster_home, environment, stopping)
            if not stopping.is_set():
                damaged = _serve(Path(scratch), settings.dagster_home, address, environment, stopping)
                for found in damaged:
                    _set_aside(found)
        if stopping.number == signal.SIGTERM:
            click.echo("ended by SIGTERM; all it had started has ended", err=True)


def _serve(
    scratch: Path, dagster_home: Path, address: Address, environment: Mapping[str, str], stopping: _Stopping
) -> list[Broken]:
    """Code server, UI and daemon, until it is to stop or Dagster's storage breaks under them.

    Returns the databases in which they met damage that only a look at every page finds.
    """
    socket_path, workspace = scratch / "code.sock", scratch / "workspace.yaml"
    socket_path.unlink(missing_ok=True)
    workspace.write_text(WORKSPACE.format(socket=socket_path, location=LOCATION), encoding="utf-8")
    code = ["-m", "tradier_pipeline.definitions", "--location-name", LOCATION, "--socket", str(socket_path)]
    # one for both: by default the daemon starts a server of its own anew every minute
    server = {"the code server": ["dagster", "code-server", "start", *code, "--log-level", "warning"]}
    listening = ["--host", address.host, "--port", str(address.port)]
    clients = {
        "the UI": ["tradier_pipeline.instance.dagster_ui", "--workspace", str(workspace), *listening],
        "the daemon": ["dagster._daemon", "run", "-w", str(workspace), "--log-level", "warning"],
    }
    watch = _StorageWatch(dagster_home)
    with _running(server, environment, watch.read) as serving:
        while not (socket_path.exists() or stopping.wait(0.1)):
            _refuse_ended(serving)
        with _running(clients, environment, watch.read) as processes:
            while not (stopping.wait(0.5) or watch.is_broken()):
                _refuse_ended({**serving, **processes})
    return watch.damaged


class _StorageWatch:
    """Looks every few seconds whether Dagster's databases can still be written, and listens to what Dagster says."""

    def __init__(self, dagster_home: Path) -> None:
        self._dagster_home = dagster_home
        self._next = time.monotonic() + LOOK_EVERY_S
        self._before: Broken | None = None
        self._suspicious = False
        self.damaged: list[Broken] = []

    def read(self, line: str) -> None:
        """A line that Dagster printed."""
        self._suspicious |= MALFORMED in line

    def is_broken(self) -> bool:
        """Whether two looks in a row found so: a lock that another process holds for a moment is none."""
        if time.monotonic() < self._next:
            return False
        if self._suspicious:
            self._suspicious, self.damaged = False, list(inconsistent(self._dagster_home))
            if self.damaged:
                return True
        found = broken(self._dagster_home, in_use=True)
        again, self._before = found is not None and self._before is not None, found
        self._next = time.monotonic() + (LOOK_EVERY_S if found is None else LOOK_AGAIN_S)
        return again


def _make_usable(dagster_home: Path, environment: Mapping[str, str], stopping: _Stopping) -> None:
    """Set damaged databases aside; while one is full or locked, take the snapshots of the cycles without Dagster."""
    reported, taken = "", None
    while not stopping.is_set():
        found = broken(dagster_home, in_use=False)
        if found is None:
            if reported:
                click.echo("Dagster's storage can be used again", err=True)
            return _open(dagster_home)
        if found.damaged:
            _set_aside(found)
            continue
        if found.reason != reported:
            reported = found.reason
            click.echo(f"{found.error(dagster_home)} Until then the cycles take their snapshots without it.", err=True)
        minute = clock.now().replace(second=0, microsecond=0)
        if minute != taken:
            taken = minute
            _take_without_dagster(environment, stopping)
        stopping.wait(LOOK_AGAIN_S)
    return None


def _open(dagster_home: Path) -> None:
    """Open the storage once before the processes that share it start; set aside what turns out to be damaged."""
    try:
        check_storage(dagster_home)
    except StorageError:
        damaged = [found for found in inconsistent(dagster_home) if found.damaged]
        if not damaged:
            raise
        for found in damaged:
            _set_aside(found)
        check_storage(dagster_home)


def _set_aside(found: Broken) -> None:
    aside = set_aside(found.database, clock.now())
    lost = "cycles that were switched off are on again" if aside.name.startswith(SWITCHES) else "no snapshot is lost"
    click.echo(f"{found.database}: {found.reason}. It is moved to {aside.name} and begins anew; {lost}", err=True)


def _take_without_dagster(environment: Mapping[str, str], stopping: _Stopping) -> None:
    commands = {"the snapshot without Dagster": ["tradier_pipeline.cli.without_dagster"]}
    with _running(commands, environment) as processes:
        while any(process.poll() is None for process in processes.values()) and not stopping.wait(0.1):
            pass


def _refuse_ended(processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
    for name, process in processes.items():
        if process.poll() is not None:
            raise UpError(f"{name} ended with exit code {process.returncode}", "Its last lines above say why.")


@contextmanager
def _running(
    commands: Mapping[str, list[str]], environment: Mapping[str, str], read: Callable[[str], None] = lambda _line: None
) -> Iterator[Mapping[str, subprocess.Popen[bytes]]]:
    processes: dict[str, subprocess.Popen[bytes]] = {}
    printing: list[threading.Thread] = []
    watched, held = os.pipe()  # nobody else holds its other end: it closes when this process dies
    try:
        for name, arguments in commands.items():
            # a session of its own: an interrupt at the terminal reaches only us, and we end all of it in order
            command = [sys.executable, "-m", "tradier_pipeline.core.processes", *arguments]
            processes[name] = subprocess.Popen(  # noqa: S603
                command,
                env={**environment, PARENT_PIPE: str(watched)},
                start_new_session=True,
                pass_fds=[watched],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            printing.append(
                threading.Thread(target=_print, args=(processes[name].stdout, read), name=name, daemon=True)
            )
            printing[-1].start()
        yield processes
    finally:
        _end(processes.values())
        for thread in printing:
            thread.join(STOP_TIMEOUT_S)
        os.close(watched)
        os.close(held)


def _print(output: IO[bytes], read: Callable[[str], None]) -> None:
    """What a process prints goes to our terminal as it comes, but for tracebacks: of these the last line."""
    condensed, rest = Condensed(), b""
    while True:
        ready, _, _ = select.select([output], [], [], FLUSH_AFTER_S)
        chunk = os.read(output.fileno(), 65_536) if ready else b""
        *lines, rest = (rest + chunk).split(b"\n")
        shown = [one for line in lines for one in condensed.feed(line.decode(errors="replace"))]
        if not chunk:  # it is silent, or has ended
            shown += condensed.flush()
        for line in shown:
            read(line)
            click.echo(line, err=True)
        if ready and not chunk:
            break
    if rest:
        click.echo(rest.decode(errors="replace"), err=True)
    output.close()


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


class _Stopping(threading.Event):
    """Set by the signal `number`."""

    number: int | None = None


def _stop_on_signals() -> _Stopping:
    stopping = _Stopping()

    def stop(number: int, _frame: FrameType | None) -> None:
        stopping.number = number
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the last one: the terminal was closed
        signal.signal(number, stop)
    return stopping


@contextmanager
def _alone(home: Path, url: str) -> Iterator[None]:
    """Hold the home: at most one `up` runs on it. The system lets go of it when the holder dies."""
    path = home / LOCK
    with writing(path):
        make_directory(home)
        lock = FileLock(path, mode=PRIVATE_FILE)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise _already_runs(home) from None
    try:
        with writing(path):
            path.write_text(f"process {os.getpid()}, {url}\n", encoding="utf-8")
        yield
    finally:
        lock.release()


def _already_runs(home: Path) -> UpError:
    holder = (home / LOCK).read_text(encoding="utf-8").strip() or "an unknown process"
    return UpError(f"`tradier-pipeline up` runs on {home} already: {holder}", "Use that one, or end it first.")


def _is_held(home: Path) -> bool:
    if not (home / LOCK).exists():
        return False
    lock = FileLock(home / LOCK, mode=PRIVATE_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _refuse_busy_port(host: str, port: int, home: Path) -> None:
    """Before anything is started. It may be the port of an `up` on the same home."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if _is_held(home):
                raise _already_runs(home) from None
            raise UpError(f"cannot serve on {host}:{port}: {error.strerror}", "Choose another with --port.") from None
