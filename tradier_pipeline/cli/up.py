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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import IO, Any

from filelock import FileLock, Timeout

from tradier_pipeline import clock
from tradier_pipeline.broker.client import RetryPolicy
from tradier_pipeline.broker.http import is_loopback
from tradier_pipeline.cli.output import warn
from tradier_pipeline.cli.tail import Failures, News, Output, Terminal, next_due_text
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.files import PRIVATE_FILE, make_directory, writing
from tradier_pipeline.core.processes import PARENT_PIPE
from tradier_pipeline.core.settings import STORAGE_VARIABLE, Settings
from tradier_pipeline.core.sources import STARTED_IN, started_in
from tradier_pipeline.domain.budget import Budget
from tradier_pipeline.extract.connection import Broker, active_accounts, connect
from tradier_pipeline.instance import StorageError, check_storage
from tradier_pipeline.instance.databases import SWITCHES, Away, Broken, broken, inconsistent, set_aside

STOP_TIMEOUT_S = 8.0
LOOK_EVERY_S, LOOK_AGAIN_S = 5.0, 1.0  # at Dagster's databases; again, when one could not be written
MALFORMED = "malformed"  # says SQLite of a file with damaged pages
SHIP = ["tradier_pipeline.cli", "lake", "ship", "--follow"]
SHIP_AGAIN_S = 15.0  # after its process ended
FLUSH_AFTER_S = 1.0  # of silence
LOCK = ".up.lock"
STOPPED_BY = {signal.SIGTERM.value: "SIGTERM", signal.SIGINT.value: "Ctrl-C"}  # a closed terminal shows nothing
LOCATION = "tradier_pipeline"  # run history and the switches of schedules are kept by it
WORKSPACE = """
load_from:
  - grpc_server:
      socket: {socket}
      location_name: {location}
"""


ANSWER_TIMEOUT_S = 1.0
ONE_LOOK = RetryPolicy(attempts=1, deadline=5.0)
REACHED = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where one that serves every address is reached


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
    storage = settings.dagster_storage.get_secret_value() if settings.dagster_storage else ""
    os.environ[STORAGE_VARIABLE] = storage  # ours as well: a slip in a .env that is edited meanwhile must not end `up`
    with _embedded(settings) as broker, tempfile.TemporaryDirectory(prefix="tradier-pipeline-") as scratch:
        environment = {
            **os.environ,
            "DAGSTER_HOME": str(settings.dagster_home),
            "TRADIER_PIPELINE_HOME": str(settings.home),
            "TRADIER_UI_TOKEN": address.token or "",
            STARTED_IN: str(started_in(os.environ)),
            "PYTHONUNBUFFERED": "1",
            "PYTHONSAFEPATH": "1",  # no file of the working directory is taken for a module, by whom it may be
        }
        if broker is not None:  # the embedded simulator never sees the user's token
            environment |= {
                "TRADIER_ENV": settings.environment,
                "TRADIER_BASE_URL": broker.url,
                "TRADIER_ACCESS_TOKEN": broker.token.get_secret_value(),
            }
        terminal = Terminal()
        _warn_of_too_many_accounts(settings)
        # of a real broker every run reads the settings itself: a token changed in .env counts from the next run on
        while not stopping.is_set():
            _make_usable(settings.dagster_home, environment, stopping)
            if not stopping.is_set():
                damaged = _serve(Path(scratch), settings, address, environment, stopping, terminal)
                for found in damaged:
                    _set_aside(found)
        if by := STOPPED_BY.get(stopping.number or 0):
            warn(f"ended by {by}; all it had started has ended")


@contextmanager
def _embedded(settings: Settings) -> Iterator[Broker | None]:
    """The simulated broker that is built in, if it is the one to read; it lives as long as `up`."""
    if not settings.is_embedded:
        yield None
        return
    with connect(settings) as broker:
        yield broker


def _warn_of_too_many_accounts(settings: Settings) -> None:
    """Before the first minute is lost. Which accounts `all` means is asked once, and not waited for."""
    for one in settings.by_token:
        accounts = one.accounts
        if accounts is None:
            with suppress(PipelineError), connect(one) as broker:
                accounts = active_accounts(replace(broker, policy=ONE_LOOK))
        budget = Budget.of(one.environment, len(accounts or ()), one.group)
        if warning := budget.warning(settings.monitor_minutes):
            warn(warning)


def _serve(
    scratch: Path,
    settings: Settings,
    address: Address,
    environment: Mapping[str, str],
    stopping: _Stopping,
    terminal: Terminal,
) -> list[Broken]:
    """Code server, UI and daemon, until it is to stop or Dagster's storage breaks under them.

    Returns the databases in which they met damage that only a look at every page finds.
    """
    socket_path, workspace = scratch / "code.sock", scratch / "workspace.yaml"
    socket_path.unlink(missing_ok=True)
    workspace.write_text(WORKSPACE.format(socket=socket_path, location=LOCATION), encoding="utf-8")
    code = ["-m", "tradier_pipeline.definitions", "--location-name", LOCATION, "--socket", str(socket_path)]
    code += ["--working-directory", str(settings.dagster_home)]  # Dagster looks for modules there: not where we stand
    # one for both: by default the daemon starts a server of its own anew every minute
    server = {"the code server": ["dagster", "code-server", "start", *code, "--log-level", "warning"]}
    listening = ["--host", address.host, "--port", str(address.port)]
    clients = {
        "the UI": ["tradier_pipeline.instance.dagster_ui", "--workspace", str(workspace), *listening],
        "the daemon": ["dagster._daemon", "run", "-w", str(workspace), "--log-level", "warning"],
    }
    watch, failures = _StorageWatch(settings.dagster_home), Failures(terminal)
    with _reported(News(settings, terminal)), _running(server, environment, watch.read, failures) as serving:
        while not (socket_path.exists() or stopping.wait(0.1)):
            _refuse_ended(serving)
        shipping = _Shipping(settings, environment)
        with _running(clients, environment, watch.read, failures) as processes, shipping:
            answers = False
            while not (stopping.wait(0.5) or watch.is_broken()):
                _refuse_ended({**serving, **processes})
                shipping.keep()
                if not answers and (answers := _answers(address)):
                    due = next_due_text(settings, " New York")  # on a holiday nothing else would be said for a day
                    terminal.say("UI at ", (address.url, "bold"), f"; next snapshot due {due}; stop with Ctrl-C")
    return watch.damaged


class _Shipping(ExitStack):
    """The committer of this machine where there is a lake. Nothing else depends on it: one that ends begins again."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        super().__init__()
        self._commands = {"the lake": SHIP} if settings.lake else {}
        self._environment = environment
        self._processes: Mapping[str, _Process] = {}
        self._next = 0.0

    def keep(self) -> None:
        """Start it if it does not run, at most once in a while."""
        ended = all(process.poll() is not None for process in self._processes.values())
        if self._commands and ended and time.monotonic() >= self._next:
            for name, process in self._processes.items():
                warn(f"{name}: its process ended with exit code {process.returncode} and is started again")
            self.close()
            self._next = time.monotonic() + SHIP_AGAIN_S
            self._processes = self.enter_context(_running(self._commands, self._environment, _show_of_lake))


def _show_of_lake(line: str) -> None:
    warn(f"the lake: {line}")


@contextmanager
def _reported(news: News) -> Iterator[None]:
    """Tell the news meanwhile, in a thread: whatever is slow to read holds nobody up."""
    ended = threading.Event()
    thread = threading.Thread(target=news.tell_until, args=(ended,), name="news", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(STOP_TIMEOUT_S)


def _answers(address: Address) -> bool:
    """Whether the UI serves; that it asks for a token is an answer."""
    try:
        with socket.create_connection((REACHED.get(address.host, address.host), address.port), ANSWER_TIMEOUT_S):
            return True
    except OSError:
        return False


class _StorageWatch:
    """Looks every few seconds whether Dagster's databases can still be written, and listens to what Dagster says."""

    def __init__(self, dagster_home: Path) -> None:
        self._dagster_home = dagster_home
        self._next = time.monotonic() + LOOK_EVERY_S
        self._before: Broken | Away | None = None
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
                warn("Dagster's storage can be used again")
            return _open(dagster_home)
        if isinstance(found, Broken) and found.damaged:
            _set_aside(found)
            continue
        if found.reason != reported:
            reported = found.reason
            warn(f"{found.error(dagster_home)} Until then the cycles take their snapshots without it.")
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
    warn(f"{found.database}: {found.reason}. It is moved to {aside.name} and begins anew; {lost}")


def _take_without_dagster(environment: Mapping[str, str], stopping: _Stopping) -> None:
    commands = {"the snapshot without Dagster": ["tradier_pipeline.cli.without_dagster"]}
    with _running(commands, environment, _show) as processes:
        while any(process.poll() is None for process in processes.values()) and not stopping.wait(0.1):
            pass


def _show(line: str) -> None:
    warn(line)


def _refuse_ended(processes: Mapping[str, _Process]) -> None:
    for name, process in processes.items():
        if process.poll() is not None:
            process.printing.join(STOP_TIMEOUT_S)
            for line in process.output.last_lines:
                _show(line)
            why = "Its last lines above say why." if process.returncode > 0 else "Start it again."
            raise UpError(f"{name} {_end_of(process.returncode)}", why)


def _end_of(returncode: int) -> str:
    return (
        f"was ended by {signal.Signals(-returncode).name}" if returncode < 0 else f"ended with exit code {returncode}"
    )


class _Process(subprocess.Popen[bytes]):
    """One of the processes, with what it prints.

    Attributes:
        output: what it printed last.
        printing: the thread that reads it until its end.
    """

    def __init__(self, command: Sequence[str], output: Output, listen: Callable[[str], None], **options: Any) -> None:
        super().__init__(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
        self.output = output
        self.printing = threading.Thread(target=_read, args=(self.stdout, output, listen), daemon=True)
        self.printing.start()


@contextmanager
def _running(
    commands: Mapping[str, list[str]],
    environment: Mapping[str, str],
    read: Callable[[str], None] = lambda _line: None,
    failures: Failures | None = None,
) -> Iterator[Mapping[str, _Process]]:
    processes: dict[str, _Process] = {}
    watched, held = os.pipe()  # nobody else holds its other end: it closes when this process dies
    try:
        for name, arguments in commands.items():
            # a session of its own: an interrupt at the terminal reaches only us, and we end all of it in order
            processes[name] = _Process(
                [sys.executable, "-m", "tradier_pipeline.core.processes", *arguments],
                Output(name, failures),
                read,
                env={**environment, PARENT_PIPE: str(watched)},
                # Dagster would put a `.env` of its working directory, whosever it is, above the environment
                cwd=environment.get("DAGSTER_HOME") or None,
                start_new_session=True,
                pass_fds=[watched],
            )
        yield processes
    finally:
        _end(processes.values())
        for process in processes.values():
            process.printing.join(STOP_TIMEOUT_S)
        os.close(watched)
        os.close(held)


def _read(printed: IO[bytes], output: Output, read: Callable[[str], None]) -> None:
    """Read what a process prints, line by line as it comes, until its end."""
    rest = b""
    while True:
        ready, _, _ = select.select([printed], [], [], FLUSH_AFTER_S)
        chunk = os.read(printed.fileno(), 65_536) if ready else b""
        *lines, rest = (rest + chunk).split(b"\n")
        ended = ready and not chunk
        lines += [rest] if ended else []
        for line in lines:
            for counted in output.feed(line.decode(errors="replace")):
                read(counted)
        if not chunk:  # it is silent, or has ended
            for counted in output.flush():
                read(counted)
        if ended:
            break
    printed.close()


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
