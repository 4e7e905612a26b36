"""What `up` says while it runs: a line for each snapshot and each failure, and the address once the UI answers."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from tradier_pipeline import clock
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.core.terminal import Condensed
from tradier_pipeline.core.texts import printable
from tradier_pipeline.cycles.on_demand import first_failure
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.domain.ticks import Cadence, next_due
from tradier_pipeline.instance import open_instance
from tradier_pipeline.instance.runs import PROCESS_TAG, failed_runs, partitions_of
from tradier_pipeline.instance.switches import SwitchesError, read_stopped_schedules
from tradier_pipeline.warehouse.damaged import kept_aside
from tradier_pipeline.warehouse.reads import connect_readonly, missed_since, published_since

if TYPE_CHECKING:
    import dagster as dg

LOOK_EVERY_S = 1.0
LATE = timedelta(seconds=5)  # by which another process may record the end of a run
LONGEST = 600  # characters of a cause
KEPT_LINES = 20  # of what a process printed last
REPEAT = timedelta(hours=1)  # of a failure that goes on
ONE_BY_ONE = 3  # more missed minutes of one account and reason are one line
OLDER = timedelta(hours=1)  # snapshots before the newest are counted, not listed
_DAGSTER_LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} - (?P<logger>\S+) - (?P<level>[A-Z]+) - (?P<text>.*)"
)
_TICK = re.compile(r"for (?P<tick>(?:schedule|sensor) \w+)")
_DAEMONS = {"SensorDaemon": "a sensor", "SchedulerDaemon": "a schedule"}  # where Dagster does not say which
_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w*\.)*(?P<name>[A-Z]\w*): (?P<text>.+)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # Dagster's log has colours wherever it goes
RUN_LOGGER = "dagster"  # of what a run prints: its failure is reported from the run history


class Terminal:
    """Lines on stderr, in colour only where it is a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)

    def say(self, *parts: str | tuple[str, str]) -> None:
        """One line of texts, or of texts with their style. Whoever wrote them, they do nothing to the terminal."""
        styled = ((part, "") if isinstance(part, str) else part for part in parts)
        self._console.print(Text.assemble(*((printable(text), style) for text, style in styled)))

    def fail(self, what: str, cause: str, how: str = "failed") -> None:
        """One line of what went wrong, with its cause and remedy."""
        self.say(what, "  ", (how, "bold red"), f": {' '.join(cause.split())[:LONGEST]}")


class Output:
    """What a process prints. Failures that only it reports are passed on; the rest is kept in case it ends."""

    def __init__(self, name: str, failures: Failures | None) -> None:
        self._name = name
        self._failures = failures
        self._condensed = Condensed()
        self._header: re.Match[str] | None = None
        self._kept: deque[str] = deque(maxlen=KEPT_LINES)

    @property
    def last_lines(self) -> tuple[str, ...]:
        """What it printed last, of a traceback the last line."""
        return tuple(self._kept)

    def feed(self, line: str) -> Iterator[str]:
        """The lines that count once this one was printed: all but tracebacks, of these the last line."""
        yield from self._counted(self._condensed.feed(_COLOUR.sub("", line)))

    def flush(self) -> Iterator[str]:
        """It is silent, or has ended."""
        yield from self._counted(self._condensed.flush())

    def _counted(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            if not line.strip():
                continue
            self._kept.append(line)
            self._tell(line)
            yield line

    def _tell(self, line: str) -> None:
        if self._failures is None:
            return
        if header := _DAGSTER_LINE.fullmatch(line):
            self._header = header
        elif found := _EXCEPTION.fullmatch(line):
            what, self._header = self._subject(), None
            if what is not None:
                # ours say cause and remedy; of another the class says more than its text
                self._failures.tell(what, found["text"] if found["name"] in ("Failure", *_own_errors()) else line)

    def _subject(self) -> str | None:
        """What failed, by the line of Dagster before an exception; None if it is reported otherwise."""
        header = self._header
        if header is None:
            return self._name
        if header["logger"] == RUN_LOGGER:
            return None
        tick = _TICK.search(header["text"])
        daemon = header["logger"].rpartition(".")[2]
        return tick["tick"] if tick else _DAEMONS.get(daemon, daemon)


def _own_errors() -> frozenset[str]:
    """The names of the errors that say cause and remedy."""
    found, waiting = {PipelineError.__name__}, [PipelineError]
    while waiting:
        below = waiting.pop().__subclasses__()
        waiting += below
        found |= {one.__name__ for one in below}
    return frozenset(found)


class Failures:
    """Each failure in one line; one that goes on, once an hour."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._said: dict[str, datetime] = {}

    def tell(self, what: str, cause: str) -> None:
        """Say that something failed unless the same cause was reported within the hour."""
        now = clock.now()
        self._said = {text: at for text, at in self._said.items() if now - at < REPEAT}
        if cause not in self._said:
            self._said[cause] = now
            self._terminal.fail(what, cause)


class News:
    """What was published, was missed or failed since the last look, a line each, in New York time."""

    def __init__(self, settings: Settings, terminal: Terminal) -> None:
        self._settings, self._terminal = settings, terminal
        self._published_since = self._missed_since = self._failed_since = clock.now()
        self._warehouse: int | None = None
        self._said: set[str] = set()
        self._kept = kept_aside(settings.warehouse)

    def tell_until(self, ended: threading.Event) -> None:
        """Look every second. What cannot be read now is reported with a later look."""
        with ExitStack() as stack:
            instance: dg.DagsterInstance | None = None
            while not ended.wait(LOOK_EVERY_S):
                with suppress(Exception):  # Dagster's storage breaks under it: `up` finds that, and says so
                    instance = instance or stack.enter_context(open_instance(self._settings.dagster_home))
                    self._tell_runs(instance)
                with suppress(PipelineError):
                    self._tell_warehouse()

    def _tell_runs(self, instance: dg.DagsterInstance) -> None:
        now = clock.now()
        runs = failed_runs(instance, self._failed_since)
        self._failed_since = now - LATE
        for run in runs:
            if run.run_id not in self._said and PROCESS_TAG not in run.tags:  # its caller knows
                self._said |= {run.run_id, *partitions_of(run)}
                self._terminal.fail(_subject(run), _cause(instance, run))

    def _tell_warehouse(self) -> None:
        path = self._settings.warehouse
        changed = path.stat().st_mtime_ns if path.exists() else None
        if changed == self._warehouse:
            return
        with connect_readonly(path) as connection:
            published = published_since(connection, self._published_since)
            missed = missed_since(connection, self._missed_since)
        self._warehouse = changed
        kept = kept_aside(path)
        for name in sorted(kept - self._kept):
            made = "was damaged and is made anew from what is landed; the damaged file is kept as"
            self._terminal.say(f"{path.name} {made} {name}")
        self._kept = kept
        self._tell_published(published)
        self._tell_missed([row for row in missed if row["snapshot_id"] not in self._said])
        self._published_since = max([self._published_since, *(row["committed_at"] for row in published)])
        self._missed_since = max(self._missed_since, clock.now() - OLDER)  # published some time after it was recorded

    def _tell_published(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        newest = max(row["as_of"] for row in rows)
        recent = [row for row in rows if row["as_of"] > newest - OLDER]
        if older := len(rows) - len(recent):
            self._terminal.say(f"{older:,} older snapshots published")
        due = next_due_text(self._settings)
        for row in recent:
            good = row["verdict"] == "good"
            evidence = "" if good or not row["verdict_evidence"] else f" ({row['verdict_evidence'][:LONGEST]})"
            self._terminal.say(
                _named(row["snapshot_id"]),
                f"  equity {row['equity']:,.2f} USD  ",
                (row["verdict"], "green" if good else "bold yellow"),
                f"{evidence}  next due {due}",
            )

    def _tell_missed(self, rows: Sequence[Mapping[str, Any]]) -> None:
        alike: dict[tuple[str, str], list[str]] = {}
        for row in rows:
            self._said.add(row["snapshot_id"])
            alike.setdefault((row["account_id"], row["reason"]), []).append(row["snapshot_id"])
        for (account_id, reason), ids in alike.items():
            if len(ids) > ONE_BY_ONE:
                first, last = _time(SnapshotId.parse(ids[0])), _time(SnapshotId.parse(ids[-1]))
                self._terminal.fail(f"{first} to {last}  {account_id}", reason, f"{len(ids):,} missed")
            for snapshot_id in ids if len(ids) <= ONE_BY_ONE else ():
                self._terminal.fail(_named(snapshot_id), reason, "missed")


def next_due_text(settings: Settings, zone: str = "") -> str:
    """When the next snapshot is due in New York, with the day unless it is today.

    Args:
        zone: what follows a time, where nothing beside it says whose time it is.
    """
    now = clock.now()
    stopped: tuple[str, ...] = ()
    with suppress(SwitchesError):
        stopped = read_stopped_schedules(settings.dagster_home)
    found = next_due(now, MarketCalendar.of(settings), Cadence.of(settings), stopped)
    if found is None:
        return "not within a week"
    local = found.astimezone(clock.NEW_YORK)
    day = "" if clock.trade_date(found) == clock.trade_date(now) else f"{local:%a %Y-%m-%d} "
    return f"{day}{local:%H:%M}{zone}"


def _subject(run: dg.DagsterRun) -> str:
    keys = partitions_of(run)
    if not keys:
        return run.job_name
    with suppress(PipelineError):
        first, *others = map(SnapshotId.parse, keys)
        return ", ".join([_named(str(first)), *(other.account_id for other in others)])
    return f"{run.job_name} {', '.join(keys)}"


def _cause(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Cause and remedy in the words of the first failed step, or of the run that none of them ended."""
    import dagster as dg

    if run.status is dg.DagsterRunStatus.CANCELED:
        return f"canceled by a person. Run {run.run_id}."
    steps = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    if steps:
        return first_failure(entry.get_dagster_event() for entry in steps)
    ended = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    said = [entry.get_dagster_event().message for entry in ended]
    return f"{next(filter(None, said), 'it ended')} Run {run.run_id}."


def _named(snapshot_id: str) -> str:
    parsed = SnapshotId.parse(snapshot_id)
    return f"{_time(parsed)}  {parsed.account_id}"


def _time(snapshot_id: SnapshotId) -> str:
    return f"{snapshot_id.instant.astimezone(clock.NEW_YORK):%Y-%m-%d %H:%M:%S} New York"
