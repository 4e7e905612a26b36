"""SIGKILL at random moments of everything that writes: nothing lost, doubled, partial, stuck or orphaned.

Named points are in `test_crashes`; here the moment is drawn from the measured duration of an undisturbed command. Every
batch of kills has a seed, which each failure names; `KILLS_SEED="snapshot 12" make soak` runs that batch alone;
`KILLS` says how many, `KILLS_FROM` from which batch on.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from filelock import FileLock

from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.cycles.accounts import running_partitions
from tradier_pipeline.instance import open_instance
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.warehouse.reads import connect_readonly, snapshot_ids
from tradier_pipeline_tests.cli.test_ledger import SPREAD, believes, entry, shows
from tradier_pipeline_tests.cli.test_up import until
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.end_to_end.test_crashes import leftovers, prove_published
from tradier_pipeline_tests.support.crash_child import End, Job, Nursery
from tradier_pipeline_tests.support.dagster_runs import new_key, run_job
from tradier_pipeline_tests.support.sampling import sampled

ONLY_SEED = os.environ.get("KILLS_SEED")
FIRST = int(os.environ.get("KILLS_FROM", "0"))  # the number of the first batch: other ones than the last time


@dataclass(frozen=True)
class Kind:
    """What is killed, from which home it starts, and what must be true of that home.

    Attributes:
        prepare: fills the home that every batch begins with a copy of.
        holds: asserted after every kill, and after the command that completes the batch.
        batch: kills before it is let through.
        adds: a command that goes through publishes one snapshot more.
        afresh: of the home, restored before every kill: what the command would otherwise find done.
    """

    work: str
    arguments: tuple[str, ...]
    prepare: Callable[[Home, Simulated], None]
    holds: Callable[[Home, bool], None] = lambda _home, _completed: None
    batch: int = 5
    days_later: int = 0
    adds: bool = False
    afresh: tuple[str, ...] = ()


def _one_snapshot(home: Home, simulated: Simulated) -> None:
    take(home, simulated.broker)
    open_instance(home.path / "dagster").dispose()


def _recorded_snapshots(home: Home, simulated: Simulated) -> None:
    with open_instance(home.path / "dagster") as instance:
        for _ in range(2):
            assert run_job(instance, new_key()).success


def _ledger_behind(home: Home, simulated: Simulated) -> None:
    believes(Ledger(home.path / "ledger.sqlite"))
    shows(simulated, SPREAD, [entry()])
    take(home, simulated.broker)


def _both_or_none(home: Home, completed: bool) -> None:
    ledger = Ledger(home.path / "ledger.sqlite")
    state = ledger.orders()[0].status, ledger.trades()[0].status
    assert state in ({("FILLED", "OPEN")} if completed else {("PENDING", "ENTRY_PENDING"), ("FILLED", "OPEN")})


def _one_extract(home: Home, completed: bool) -> None:
    with connect_readonly(home.warehouse.path) as connection:
        counts = connection.execute(
            "SELECT (SELECT count(DISTINCT path) FROM activity_extracts), (SELECT count(*) FROM account_activity)"
        ).fetchone()
    assert counts is not None
    assert counts[0] == 1 if completed else counts[0] in (0, 1)
    assert (counts[0] == 0) == (counts[1] == 0)


def _compacted(home: Home, completed: bool) -> None:
    landed = list(home.zone.snapshots())
    assert len(landed) == 2
    for one in landed:
        one.prove()
    assert not completed or not any(one.directory.exists() for one in landed)


KINDS = {
    "snapshot": Kind("command", ("snapshot",), _one_snapshot, adds=True),
    "backfill": Kind("command", ("backfill", "--benchmark", "off"), _one_snapshot, _one_extract),
    "maintenance": Kind("job", ("maintenance",), _recorded_snapshots, _compacted, days_later=5),
    "ledger apply": Kind(
        "command", ("ledger", "apply"), _ledger_behind, _both_or_none, afresh=("ledger.sqlite",), batch=10
    ),
    "rebuild": Kind("command", ("rebuild",), _recorded_snapshots),
}
SOAK = {"snapshot": 300, "backfill": 150, "maintenance": 100, "ledger apply": 200, "rebuild": 100}


@pytest.fixture
def unlimited(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulated]:
    with embedded_simulator(None, limits=None) as url:
        monkeypatch.setenv("TRADIER_BASE_URL", url)
        yield Simulated(url)


@dataclass
class Killing:
    """Batches of kills of one kind, each in a copy of the same home."""

    name: str
    home: Home
    simulated: Simulated
    children: Nursery
    counts: Counter[str] = field(default_factory=Counter)
    duration: float = 0.0
    number: signal.Signals = signal.SIGKILL

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]

    @property
    def template(self) -> Path:
        return self.home.path.with_name("template")

    def run(self, kills: int) -> None:
        """As many kills, in batches. Raises AssertionError with the seed of the batch that broke something."""
        self.kind.prepare(self.home, self.simulated)
        self.home.path.rename(self.template)
        self._measure()
        for number in range(-(-kills // self.kind.batch)):
            seed = f"{self.name} {FIRST + number}"
            if ONLY_SEED in (None, seed):
                try:
                    self._batch(random.Random(seed), min(self.kind.batch, kills - number * self.kind.batch))
                except Exception as error:
                    raise AssertionError(f'KILLS_SEED="{seed}": {error}') from error
                sys.stdout.write(f"{seed}: {dict(self.counts)}, undisturbed {self.duration:.2f} s\n")

    def _measure(self) -> None:
        self._restore()
        began = time.perf_counter()
        assert self._start(None).code == 0, self._log()
        self.duration = time.perf_counter() - began

    def _restore(self) -> None:
        shutil.rmtree(self.home.path, ignore_errors=True)
        shutil.copytree(self.template, self.home.path)

    def _batch(self, chance: random.Random, kills: int) -> None:
        self._restore()
        for _ in range(kills):
            for name in self.kind.afresh:
                shutil.copyfile(self.template / name, self.home.path / name)
            before = self._published()
            end = self._start(chance.uniform(0, self.duration))
            self.counts["through" if end.code == 0 else "killed"] += 1
            self.duration *= 0.9 if end.code == 0 else 1.0  # the machine may have been busy when it was measured
            self._prove_after_a_kill(before, end)
        before = self._published()
        end = self._start(None)
        assert end.code == 0, (end, self._log())
        self._prove_completed(before)

    def _start(self, kill_after: float | None) -> End:
        job = Job(home=str(self.home.path), url=self.simulated.url, work=self.kind.work, arguments=self.kind.arguments)
        pid = self.children.start(
            replace(job, kill_after=kill_after, signal=self.number, days_later=self.kind.days_later)
        )
        end = self.children.wait(pid)
        if left := _group(pid):  # what captures a run's output looks every second whether the run still lives
            until(f"the end of {left}", lambda: None if _group(pid) else True)
        return end

    def _prove_after_a_kill(self, before: list[str], end: End) -> None:
        interrupted = end.code in (1, 130) and self.number != signal.SIGKILL  # it says so itself
        assert end.signal or interrupted or end.code == 0, (end, self._log())
        after = self._published()
        assert set(before) <= set(after), "lost"
        assert len(after) == len(set(after)), "doubled"
        if self.kind.adds and end.code == 0:
            assert len(after) > len(before), "acknowledged and not there"
        self._prove_whole()
        self._prove_unlocked()
        self.kind.holds(self.home, end.code == 0)

    def _prove_completed(self, before: list[str]) -> None:
        landed = [str(one.snapshot_id) for one in self.home.zone.snapshots()]
        assert sorted(landed) == sorted(self._published()), "landed and not published"
        assert not self.kind.adds or len(landed) > len(before)
        prove_published(self.home)
        assert leftovers(self.home.path) == []
        self.kind.holds(self.home, True)
        if (self.home.path / "dagster").exists():
            with open_instance(self.home.path / "dagster") as instance:
                assert running_partitions(instance, self.home.zone) == {}, "a dead run holds up the next one"

    def _published(self) -> list[str]:
        with connect_readonly(self.home.warehouse.path) as connection:
            return snapshot_ids(connection)

    def _prove_whole(self) -> None:
        """Every published snapshot has exactly one row of each table that has one for each."""
        with connect_readonly(self.home.warehouse.path) as connection:
            for table in ("accounts", "account_balances"):
                counts = connection.execute(
                    f"SELECT s.snapshot_id, count(t.snapshot_id) FROM tradier_snapshots s "
                    f"LEFT JOIN {table} t USING (snapshot_id) GROUP BY ALL HAVING count(t.snapshot_id) != 1"
                ).fetchall()
                assert counts == [], f"partial in {table}"

    def _prove_unlocked(self) -> None:
        for path in (self.home.path / "raw" / DEMO_ACCOUNT / ".lock", self.home.path / ".tradier.duckdb.lock"):
            FileLock(path).acquire(timeout=0).lock.release()

    def _log(self) -> str:
        path = self.home.path.with_name("killed.log")
        return path.read_text()[-2000:] if path.exists() else ""


def _group(pid: int) -> list[str]:
    """The processes of a session that its leader, who is dead, has left behind."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, _, group = (process / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(group) == pid and state != "Z":
                command = (process / "cmdline").read_bytes().replace(bytes(1), b" ").decode()
                found.append(f"{process.name} {command[:100]}")
    return found


# compaction and rebuild are killed at named points: landing/test_compaction, test_crashes
@sampled(
    "name", list(KINDS), kept=[place for place, name in enumerate(KINDS) if name not in ("maintenance", "rebuild")]
)
def test_a_command_killed_at_random_moments_breaks_nothing(
    name: str, home: Home, unlimited: Simulated, children: Nursery
) -> None:
    Killing(name, home, unlimited, children).run(1)


@pytest.mark.soak  # that it ends in one line, once: cli/test_cli
@pytest.mark.parametrize("kills", [50])
def test_a_snapshot_asked_to_end_at_random_moments_breaks_nothing(
    kills: int, home: Home, unlimited: Simulated, children: Nursery
) -> None:
    killing = Killing("snapshot", home, unlimited, children, number=signal.SIGTERM)
    killing.run(kills)
    assert "Traceback" not in killing._log()


@pytest.mark.soak
@pytest.mark.parametrize("name", KINDS)
def test_a_command_killed_hundreds_of_times_breaks_nothing(
    name: str, home: Home, unlimited: Simulated, children: Nursery
) -> None:
    Killing(name, home, unlimited, children).run(int(os.environ.get("KILLS", SOAK[name])))
