"""Processes that die, or stand still, at a named point of a snapshot.

`python -m tradier_pipeline_tests.support.crash_child` is a nursery: it has everything imported, reads one job a line
from stdin and forks a child for each, so that a kill costs milliseconds. The points are reached by wrapping functions
of the child; the product has no failpoint. A job may be a whole command line (`command`) or a Dagster job (`job`)
instead, killed at a point too, or after a delay; or a command line on a terminal, or the opening of a Dagster home
(`open`), which nobody kills.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import gc
import importlib
import itertools
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import termios
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, Self
from unittest.mock import patch

import anyio._backends._asyncio  # noqa: F401 - what the HTTP library would import at its first request
import duckdb
import pandas  # noqa: F401 - what DuckDB imports at its first parameter
from pydantic import SecretStr

from tradier_pipeline import clock
from tradier_pipeline.broker import envelope
from tradier_pipeline.broker.client import BrokerClient, RetryPolicy
from tradier_pipeline.core import files
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import DEMO_TOKEN
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.domain.calendar import session_of
from tradier_pipeline.extract import snapshot
from tradier_pipeline.extract.connection import Broker
from tradier_pipeline.extract.snapshot import extract_quotes, extract_snapshot
from tradier_pipeline.landing import compaction
from tradier_pipeline.landing import zone as landing
from tradier_pipeline.landing.zone import LandingZone
from tradier_pipeline.publish import store
from tradier_pipeline.warehouse import reads, staging
from tradier_pipeline.warehouse.staging import StagedWarehouse, Warehouse
from tradier_pipeline_tests.support.bodies import SMALL_BLOCKS
from tradier_pipeline_tests.support.connections import Pool, Pooled

Act = Callable[[], None]
FAILED = 3
IMPORTED = (
    *("tradier_pipeline.cli", "tradier_pipeline.definitions", "tradier_pipeline_tests.support.dagster_runs"),
    *("tradier_pipeline.cli.without_dagster", "httpcore", "dagster._utils.hosted_user_process"),
)


@dataclass(frozen=True)
class Point:
    """A place to die. `landed` and `published`: what must be there afterwards; `races`: killed from outside, while."""

    name: str
    arm: Callable[[Act], None]
    landed: bool = True
    published: bool = False
    races: bool = False


def _before(owner: Any, name: str, nth: int = 1, when: Callable[..., bool] = lambda *_: True) -> Callable[[Act], None]:
    def arm(act: Act) -> None:
        original, calls = getattr(owner, name), itertools.count(1)

        def wrapped(*arguments: Any, **named: Any) -> Any:
            if when(*arguments) and next(calls) == nth:
                act()
            return original(*arguments, **named)

        setattr(owner, name, wrapped)

    return arm


def _after(owner: Any, name: str, nth: int = 1, when: Callable[..., bool] = lambda *_: True) -> Callable[[Act], None]:
    def arm(act: Act) -> None:
        original, calls = getattr(owner, name), itertools.count(1)

        def wrapped(*arguments: Any, **named: Any) -> Any:
            result = original(*arguments, **named)
            if when(*arguments) and next(calls) == nth:
                act()
            return result

        setattr(owner, name, wrapped)

    return arm


class _Tapped:
    """A connection that tells when it is about to execute a statement, and stands still once it has."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, statement: str, act: Act, *, waits: bool) -> None:
        self._connection, self._statement, self._act, self._waits = connection, statement, act, waits

    def execute(self, sql: str, *arguments: Any) -> Any:
        if sql != self._statement:
            return self._connection.execute(sql, *arguments)
        self._act()
        self._connection.execute(sql)
        if self._waits:
            os.write(REPORT, b"acknowledged\n")
            while True:
                signal.pause()
        return self._connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _at_statement(statement: str, *, races: bool = False) -> Callable[[Act], None]:
    def arm(act: Act) -> None:
        connect = duckdb.connect

        def tapped(*arguments: Any, **named: Any) -> Any:
            return _Tapped(connect(*arguments, **named), statement, act, waits=races)

        staging.duckdb.connect = tapped  # type: ignore[assignment, attr-defined]

    return arm


def _named(suffix: str) -> Callable[..., bool]:
    return lambda path, *_: str(path).endswith(suffix)


_COPIED = _after(staging, "copy")
_LANDING = _named(".tmp")
_STAGED = _named(".staged")
_QUOTES_MANIFEST = _named("/quotes.manifest.json")

POINTS: dict[str, tuple[Point, ...]] = {
    "K1": (Point("before the first request", _before(BrokerClient, "fetch_snapshot"), landed=False),),
    "K2": tuple(
        Point(f"after answer {nth} of 4", _after(envelope, "decode_answer", nth), landed=False) for nth in (1, 2, 3)
    ),
    "K3": (
        Point("before landing", _before(LandingZone, "land"), landed=False),
        Point("between two landed files", _before(files, "write_synced", 3), landed=False),
        Point("before the landing's rename", _before(Path, "rename", when=_LANDING), landed=False),
    ),
    "K4": (
        Point("right after the landing's rename", _after(Path, "rename", when=_LANDING)),
        Point("after landing", _after(LandingZone, "land")),
        Point("between quotes and their manifest", _before(Path, "replace", when=_QUOTES_MANIFEST)),
        Point("before the warehouse is copied", _before(staging, "copy")),
        Point("before BEGIN", _before(StagedWarehouse, "store")),
        Point("after the copy", _COPIED),
    ),
    "K5": tuple(Point(f"before table {nth} of 8", _before(staging, "insert", nth)) for nth in (5, 2, 8, 3, 4, 6, 7)),
    "K6": (Point("during COMMIT", _at_statement("COMMIT", races=True), races=True),),
    "K7": (Point("after COMMIT, before the checks", _before(store, "verify_snapshot")),),
    "K8": (
        Point("between chmod and rename", _before(Path, "replace", when=_STAGED)),
        Point("right after the rename", _after(Path, "replace", when=_STAGED), published=True),
        Point("before CHECKPOINT", _at_statement("CHECKPOINT tradier")),
        Point("during CHECKPOINT", _at_statement("CHECKPOINT tradier", races=True), races=True),
        Point("before chmod", _before(Path, "chmod", when=_STAGED)),
    ),
}

_ARCHIVE = _named(".zip.tmp")
_JSON = _named(".json")


def compaction_points(nth: int) -> tuple[Point, ...]:
    """Where a compaction dies: around the archive's rename, and at the nth of many files, in, out and away."""
    return (
        Point("before the archive is written", _before(compaction, "_write_archive")),
        Point(f"before member {nth} is written", _before(zipfile.ZipFile, "writestr", nth)),
        Point("before the archive's rename", _before(Path, "replace", when=_ARCHIVE)),
        Point("right after the archive's rename", _after(Path, "replace", when=_ARCHIVE)),
        Point("before a file is removed", _before(compaction, "_remove")),
        Point(f"before file {nth} is removed", _before(Path, "unlink", nth, when=_JSON)),
        Point("before a directory is removed", _before(Path, "rmdir")),
        Point("before the day's directory is removed", _before(Path, "rmdir", when=_named("-20"))),
    )


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a child does, and where it gets a signal. Without a point it runs to its end."""

    home: str
    url: str = ""
    snapshot_id: str = ""
    work: str = "snapshot"
    point: str | None = None
    variant: int = 0
    signal: int = signal.SIGKILL
    delay: float = 0.0
    lock_timeout: float | None = None
    user: int | None = None
    file_size: int | None = None
    arguments: tuple[str, ...] = ()  # of the work `command`; of `job`: its name
    kill_after: float | None = None  # seconds; of a command or a job
    days_later: int = 0  # what its clock is ahead by
    now: str | None = None  # of the work `minute`: what its clock says
    durable: int | None = None  # of the work `minute`: its how manieth change of the disk is the last, or fails
    statement: int | None = None  # likewise, of a lean one: it dies before its how manieth statement of SQL
    planted: str | None = None  # likewise: a mistake of `simulation.planted`
    lean: bool = False  # likewise: the assets' own code without Dagster around it
    full: bool = False  # that change finds the disk full, and so does every later one
    synced: str | None = None  # a file that lists every file and directory made to outlive a power failure
    terminal: str | None = None  # of the work `terminal`: the device that its command has
    environment: Mapping[str, str] | None = None  # likewise: all that there is of it


@dataclass(frozen=True)
class End:
    """How a child ended: by a signal, with an exit code, or not at all (stopped)."""

    stopped: bool
    signal: int | None
    code: int | None
    lines: tuple[str, ...]

    @property
    def acknowledged(self) -> bool:
        return "acknowledged" in self.lines

    @property
    def error(self) -> str:
        """`<type>: <one line>` of an expected failure."""
        return "\n".join(line for line in self.lines if line != "acknowledged")


class Nursery:
    """The parent's side: starts children and learns how they ended."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, job: Job) -> int:
        """Start a child; returns its process id. A racing point is over when this returns."""
        return int(self._ask({"job": asdict(job)})["pid"])

    def wait(self, pid: int) -> End:
        """Wait until a child has ended or stands still."""
        answer = self._ask({"wait": pid})
        return End(answer["stopped"], answer["signal"], answer["code"], tuple(answer["lines"]))

    def run(self, job: Job) -> End:
        return self.wait(self.start(job))

    def run_here(self, job: Job) -> End:
        """A lean minute in the nursery's own process, which is not to be killed in it: without the cost of a fork."""
        answer = self._ask({"here": asdict(job)})
        return End(answer["stopped"], answer["signal"], answer["code"], tuple(answer["lines"]))

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@cache
def nursery() -> Nursery:
    """The nursery of this process; its children end with it, and find the modules `IMPORTED` loaded."""
    command = [sys.executable, "-m", "tradier_pipeline_tests.support.crash_child"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TRADIER_", "DAGSTER_"))}
    environment = dict(inherited, PYTHONPATH=str(Path(__file__).parents[2]))
    pipe = subprocess.PIPE
    # the directory of the test that asks first goes with that test, and the children of later ones would stand in it
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment, cwd="/")
    atexit.register(process.communicate)
    return Nursery(process)


# --- the nursery's side ---------------------------------------------------------------------------------------------

WRITERS, READERS = Pool(writes=True, threads=1), Pool(threads=1)  # a thread would not outlive a fork
REPORT = -1  # where a child writes what its parent should know


def _serve() -> None:
    for module in IMPORTED:
        importlib.import_module(module)
    session_of(clock.trade_date(clock.now()))  # of this year, which a new home would compute
    attach = staging.attach

    def attach_quickly(connection: duckdb.DuckDBPyConnection, path: Path, options: str) -> None:
        connection.execute("SET force_compression = 'uncompressed'")  # as in the tests' own process
        attach(connection, path, options)

    staging.attach = attach_quickly
    gc.freeze()  # no child goes through what all of them have
    pipes: dict[int, int] = {}
    try:
        for line in sys.stdin:
            question = json.loads(line)
            if "here" in question:
                answer = _minute_here(Job(**question["here"]))
            else:
                answer = _start(Job(**question["job"]), pipes) if "job" in question else _wait(question["wait"], pipes)
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        for pid in pipes:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _start(job: Job, pipes: dict[int, int]) -> dict[str, Any]:
    readable, writable = os.pipe()
    terminal = None if job.terminal is None else os.open(job.terminal, os.O_RDWR | os.O_NOCTTY)  # it has it at once
    pid = os.fork()
    if not pid:
        os.close(readable)
        if terminal is not None:
            _take_terminal(terminal)
        _child(job, writable)
    os.close(writable)
    if terminal is not None:
        os.close(terminal)
    pipes[pid] = readable
    if job.kill_after is not None:
        time.sleep(job.kill_after)
        os.kill(pid, job.signal)  # it may have ended before: then it waits to be collected
    if (point := _point(job)) and point.races:
        os.read(readable, 1)  # it is about to begin; or it is dead
        until = time.perf_counter() + job.delay
        while time.perf_counter() < until:
            pass
        os.kill(pid, job.signal)
    return {"pid": pid}


def _wait(pid: int, pipes: dict[int, int]) -> dict[str, Any]:
    _, status = os.waitpid(pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        return {"stopped": True, "signal": None, "code": None, "lines": []}
    with os.fdopen(pipes.pop(pid)) as report:
        lines = report.read().split("\n")
    return {
        "stopped": False,
        "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
        "code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
        "lines": [line for line in lines if line],
    }


def _child(job: Job, report: int) -> NoReturn:
    global REPORT
    REPORT = report
    try:
        _restrict(job)
        if point := _point(job):
            point.arm(lambda: _tell_parent() if point.races else os.kill(os.getpid(), job.signal))
        WHOLE.get(job.work, _work)(job)
    except SystemExit as ended:
        sys.stdout.flush()
        os._exit(int(ended.code or 0))
    except PipelineError as error:
        os.write(report, f"{type(error).__name__}: {error}\n".encode())
        os._exit(FAILED)
    except BaseException as error:
        os.write(report, f"unexpected {type(error).__name__}: {error}\n".encode())
        os._exit(FAILED + 1)
    os._exit(0)


def _point(job: Job) -> Point | None:
    """Where the job dies. A compaction's `point` is its nth file."""
    if job.point is None:
        return None
    return (compaction_points(int(job.point)) if job.work == "compact" else POINTS[job.point])[job.variant]


def _tell_parent() -> None:
    os.write(REPORT, b"\n")


def _restrict(job: Job) -> None:
    if job.lock_timeout is not None:
        landing.LOCK_TIMEOUT_S = staging.LOCK_TIMEOUT_S = job.lock_timeout
    if job.file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job.file_size, job.file_size))
    if job.user is not None and os.getuid() == 0:
        os.setgroups([])
        os.setgid(job.user)
        os.setuid(job.user)


def _note_synced(path: str) -> None:
    """List inode and time of change of whatever is fsynced; the list is written past this process's own fsyncs."""
    fsync, notes = os.fsync, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def noted(descriptor: Any) -> None:
        fsync(descriptor)
        status = os.fstat(descriptor)
        os.write(notes, f"{status.st_ino} {status.st_mtime_ns}\n".encode())

    os.fsync = noted  # type: ignore[assignment]


def _work(job: Job) -> None:
    snapshot.SETTLE_S = 0.0
    if job.synced is not None:
        _note_synced(job.synced)
    zone, warehouse = LandingZone(Path(job.home) / "raw"), Warehouse(Path(job.home) / "tradier.duckdb")
    if job.work == "rebuild":
        store.rebuild(warehouse, zone, lambda _: None)
        return
    if job.work == "compact":
        compaction.compact(zone, date.max)
        return
    broker = Broker(job.url, SecretStr(DEMO_TOKEN), "simulator", RetryPolicy(base_delay=0.0))
    landed = extract_snapshot(zone, broker, SnapshotId.parse(job.snapshot_id), "test")
    extract_quotes(zone, broker, landed)
    if job.work == "snapshot":
        store.store_snapshot(warehouse, landed)


def _in_its_home(job: Job) -> None:
    """A process group, an output and the settings of its own, as a shell gives them to a command."""
    os.setsid()
    log = os.open(Path(job.home).parent / "killed.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(TRADIER_PIPELINE_HOME=job.home, TRADIER_BASE_URL=job.url)
    os.chdir(Path(job.home).parent)
    snapshot.SETTLE_S = 0.0
    if job.days_later:
        now = clock.now
        clock.now = lambda: now() + timedelta(days=job.days_later)


def _take_terminal(terminal: int) -> None:
    """What a shell of that terminal gives to a command."""
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    for descriptor in (0, 1, 2):
        os.dup2(terminal, descriptor)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _on_terminal(job: Job) -> None:
    from tradier_pipeline.cli import main

    os.environ.clear()
    os.environ.update(job.environment or {})
    os.chdir(job.home)
    snapshot.SETTLE_S = 0.0
    main(list(job.arguments), prog_name="tradier-pipeline")


def _command(job: Job) -> None:
    from tradier_pipeline.cli import main

    _in_its_home(job)
    main(list(job.arguments), prog_name="tradier-pipeline")


def _dagster_job(job: Job) -> None:
    from tradier_pipeline.instance import open_instance
    from tradier_pipeline_tests.support.dagster_runs import run_job

    _in_its_home(job)
    with open_instance(Path(job.home) / "dagster") as instance:
        if not run_job(instance, job=job.arguments[0]).success:
            raise SystemExit(1)


def _open_instance(job: Job) -> None:
    """The Dagster home `home`, which may not be there yet; what is done in it is to add a partition of that name."""
    from tradier_pipeline.instance import open_instance

    with open_instance(Path(job.home)) as instance:
        instance.add_dynamic_partitions("keys", list(job.arguments))
        assert instance.get_runs() == []


OF_A_MINUTE = {"TRADIER_LEDGER_WRITE": "apply"}
_DURABLE = ("mkdir", "rename", "replace", "link", "unlink", "rmdir", "fsync")


def _disturb(job: Job) -> None:
    """Die before one of the changes that last, or let the disk be full from there on."""
    calls = itertools.count(1)
    disk_full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def disturbed(change: Callable[..., Any], removes: bool) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            number = next(calls)
            if number == job.durable and not job.full:
                os.kill(os.getpid(), signal.SIGKILL)
            if job.full and job.durable is not None and number >= job.durable and not removes:
                raise disk_full
            return change(*arguments, **named)

        return wrapped

    for name in _DURABLE:
        setattr(os, name, disturbed(getattr(os, name), name in ("unlink", "rmdir")))


def _die_at_statement(nth: int) -> None:
    execute, calls = Pooled.execute, itertools.count(1)

    def counted(connection: Pooled, *arguments: Any, **named: Any) -> Any:
        if next(calls) == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return execute(connection, *arguments, **named)

    Pooled.execute = counted  # type: ignore[method-assign, assignment]


def _minute(job: Job) -> None:
    """What `up` does at a minute, in a process of its own."""
    _in_its_home(job)
    os.environ.update(OF_A_MINUTE)
    if job.planted is not None:
        from tradier_pipeline_tests.simulation.planted import PLANTED

        PLANTED[job.planted]()
    if job.durable is not None:
        _disturb(job)
    if job.statement is not None:
        _die_at_statement(job.statement)
    with _at_its_minute(job):
        _take_minute(job, lambda line: os.write(REPORT, f"{line}\n".encode()))


def _minute_here(job: Job) -> dict[str, Any]:
    """The same in the nursery itself, of a lean minute that nothing kills: what is warm stays so."""
    lines: list[str] = []
    environment = {"TRADIER_PIPELINE_HOME": job.home, "TRADIER_BASE_URL": job.url, **OF_A_MINUTE}
    with (
        chdir(Path(job.home).parent),
        patch.dict(os.environ, environment),
        patch.object(snapshot, "SETTLE_S", 0.0),
        _at_its_minute(job),
    ):
        try:
            _take_minute(job, lines.append)
        except PipelineError as error:
            lines.append(f"{type(error).__name__}: {error}")
        except Exception as error:
            lines.append(f"unexpected {type(error).__name__}: {error}")
    return {"stopped": False, "signal": None, "code": 0, "lines": [line for text in lines for line in text.split("\n")]}


@contextmanager
def _at_its_minute(job: Job) -> Iterator[None]:
    """The clock says what it has to; without Dagster its job is the assets alone."""
    now, started = datetime.fromisoformat(job.now or ""), time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(patch.object(clock, "now", lambda: now + timedelta(seconds=time.monotonic() - started)))
        stack.enter_context(patch.object(staging, "BLOCK_SIZE", SMALL_BLOCKS))
        if job.lean:
            from dagster import DagsterInstance

            from tradier_pipeline.cli import without_dagster

            stack.enter_context(patch.object(staging, "duckdb", WRITERS))
            stack.enter_context(patch.object(reads, "duckdb", READERS))
            stack.enter_context(patch.object(without_dagster, "run_snapshot", _run_assets))
            stack.enter_context(patch.object(DagsterInstance, "ephemeral", lambda: nullcontext(NOTHING_RAN)))
        yield


def _take_minute(job: Job, tell: Callable[[str], object]) -> None:
    """Take what is due, and account for the minutes before."""
    from tradier_pipeline.assets.missed_minutes import record_gaps
    from tradier_pipeline.cli.without_dagster import take_due
    from tradier_pipeline.core.settings import load_settings
    from tradier_pipeline.instance import open_instance

    settings = load_settings()
    for run in take_due(settings):
        tell("published" if run.published else str(run.error))
    with nullcontext(NOTHING_RAN) if job.lean else open_instance(settings.dagster_home) as instance:
        record_gaps(settings, instance)


# An instance of Dagster in which nothing ever ran, as far as a minute asks one.
NOTHING_RAN: Any = SimpleNamespace(
    is_ephemeral=True,
    all_instigator_state=lambda: [],
    get_runs=lambda *_, **__: [],
    get_run_records=lambda *_, **__: [],
    fetch_materializations=lambda *_, **__: SimpleNamespace(records=[]),
    has_dynamic_partition=lambda *_: True,
    delete_dynamic_partition=lambda *_: None,
)


def _run_assets(instance: Any, _job: Any, _settings: Any, snapshot_id: SnapshotId, trigger: str) -> Any:
    """What the job `snapshot` does, step by step, without Dagster's job: that takes most of such a minute."""
    import dagster as dg

    from tradier_pipeline.assets.resource import TradierResource
    from tradier_pipeline.cycles.on_demand import SnapshotRun
    from tradier_pipeline.cycles.snapshot_job import SNAPSHOT_ASSETS
    from tradier_pipeline.instance.partitions import PARTITION_TAG
    from tradier_pipeline.instance.runs import ACCOUNT_TAG, PROCESS_TAG, TRIGGER_TAG

    tags = {PARTITION_TAG: str(snapshot_id), TRIGGER_TAG: trigger, ACCOUNT_TAG: snapshot_id.account_id}
    run = SimpleNamespace(tags={**tags, PROCESS_TAG: "simulated"}, job_name="snapshot", run_id="simulated")
    log = logging.getLogger("simulated")
    context = SimpleNamespace(run=run, log=log, instance=instance, partition_key=str(snapshot_id))
    context.has_partition_key = True
    tradier, failure = TradierResource(), None
    try:
        for asset in SNAPSHOT_ASSETS:
            results = asset.op.compute_fn.decorated_fn(context, tradier)  # type: ignore[union-attr]
            for _ in results if isinstance(results, Iterator) else ():
                pass
    except dg.Failure as error:
        failure = str(error.description)
    return SnapshotRun(snapshot_id, run.run_id, failure is None, failure, (), None)


WHOLE: dict[str, Callable[[Job], None]] = {
    "command": _command,
    "job": _dagster_job,
    "minute": _minute,
    "open": _open_instance,
    "terminal": _on_terminal,
}


if __name__ == "__main__":
    _serve()
