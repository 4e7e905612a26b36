"""SIGKILL at random moments of `up` and of everything it starts, under a supervisor that starts it again.

`KILLS_UP_SECONDS` says how long. Every due minute must be a snapshot or a missed row with a
cause, every request answered.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from tradier_pipeline import clock
from tradier_pipeline.assets.missed_minutes import FILE, Scheduled
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.instance import open_instance
from tradier_pipeline.instance.runs import UNFINISHED
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.cli.test_up import Up, family, running, until
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.end_to_end.test_crashes import leftovers, prove_published

MINUTE = timedelta(minutes=1)
MINUTELY = {
    **{"TRADIER_CALENDAR": "24/7", "TRADIER_MONITOR_MINUTES": "1"},
    **{"TRADIER_TRADE_MINUTES": "0", "TRADIER_SYNC_MINUTES": "0"},
}
ROLES = {
    "the daemon": "dagster._daemon run",
    "the code server": "dagster code-server start",
    "its child": "dagster api grpc",
    "the UI": "dagster_ui",
}
SLOW_S = 600.0  # of one wait, on a busy machine
RUN, UP = "a run", "up"
ENDS_UP = {UP, "the daemon", "the code server", "the UI"}


def processes(home: Home, up: Up) -> dict[str, list[int]]:
    """Role -> the ids of its processes."""
    found: dict[str, list[int]] = {UP: [up.process.pid]}
    for line in family(home):
        pid, _, command = line.partition(" ")
        role = next((role for role, words in ROLES.items() if words in command), None)
        if role is None and "forkserver" in command:
            role = RUN if "forkserver" in _command(_parent(int(pid))) else "the parent of runs"
        if role is not None:
            found.setdefault(role, []).append(int(pid))
    return found


def _parent(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(bytes(1), b" ").decode()
    return ""


def disturb(home: Home, up: Up, chance: random.Random, end: float, counts: Counter[str]) -> None:
    """Kill runs, and at last something that `up` cannot go on without."""
    ledger = Ledger(home.path / "ledger.sqlite")
    while up.process.poll() is None and time.monotonic() < end:
        ledger.request(DEMO_ACCOUNT, "manual")
        time.sleep(chance.uniform(0, 8))
        found = processes(home, up)
        role = RUN if RUN in found and chance.random() < 0.8 else chance.choice(sorted(found))
        with suppress(ProcessLookupError):
            os.kill(chance.choice(found[role]), signal.SIGKILL)
            counts[role] += 1
            sys.stdout.write(f"{clock.iso(clock.now())} killed {role}\n")
        if role in ENDS_UP:
            up.process.wait(SLOW_S)
            until("the end of all", lambda: True if not family(home) else None, seconds=SLOW_S)


def due_minutes(home: Home, first: datetime) -> list[str]:
    """Those that must be accounted for by now."""
    last = clock.now() - timedelta(minutes=2, seconds=30)
    return [str(SnapshotId(DEMO_ACCOUNT, first + n * MINUTE)) for n in range(1, int((last - first) / MINUTE) + 1)]


def accounted_for(home: Home) -> dict[str, str]:
    """Snapshot id -> why it was missed; "" if it was published. None before the first publish, which kills put off."""
    if not home.warehouse.path.exists():
        return {}
    with connect_readonly(home.warehouse.path) as connection:
        rows = connection.execute(
            "SELECT snapshot_id, '' FROM tradier_snapshots UNION ALL SELECT snapshot_id, reason FROM missed_snapshots"
        ).fetchall()
    assert len(rows) == len(dict(rows)), "published and missed, or doubled"
    return dict(rows)


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds its processes in /proc")
def test_up_killed_at_random_moments_accounts_for_every_minute(home: Home, tmp_path: Path) -> None:
    seed = os.environ.get("KILLS_SEED", "up")
    chance, counts = random.Random(seed), Counter[str]()
    sys.stdout.write(f"KILLS_SEED={seed}\n")
    with running(tmp_path, MINUTELY, seconds=SLOW_S):
        begun = until("the first look at the schedule", lambda: _until(home), seconds=SLOW_S)
    end = time.monotonic() + float(os.environ.get("KILLS_UP_SECONDS", "600"))
    while time.monotonic() < end:
        with running(tmp_path, MINUTELY, seconds=SLOW_S) as up:
            disturb(home, up, chance, end, counts)
    with running(tmp_path, MINUTELY, seconds=SLOW_S):
        until(
            "a row for every minute",
            lambda: True if set(due_minutes(home, begun)) <= accounted_for(home).keys() else None,
            seconds=SLOW_S,
        )
        # a run that was about to start when its `up` was killed is waited for two minutes
        until(
            "an answer to every request",
            lambda: None if Ledger(home.path / "ledger.sqlite").waiting() else True,
            seconds=SLOW_S,
        )
        until("the end of every run", lambda: True if not unfinished(home) else None, seconds=SLOW_S)
    assert family(home) == []
    found = accounted_for(home)
    causes = Counter(reason.split(" ")[0] + "..." for reason in found.values())
    due = len(due_minutes(home, begun))
    sys.stdout.write(f"killed: {dict(counts)}; minutes due: {due}; rows by cause: {dict(causes)}\n")
    prove(home)


def _until(home: Home) -> datetime | None:
    with suppress(FileNotFoundError):
        return Scheduled.model_validate_json((home.path / FILE).read_bytes()).until[DEMO_ACCOUNT]
    return None


def unfinished(home: Home) -> list[str]:
    with open_instance(home.path / "dagster") as instance:
        return [run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))]


def prove(home: Home) -> None:
    landed = [str(one.snapshot_id) for one in home.zone.snapshots()]
    assert sorted(landed) == sorted(one for one, why in accounted_for(home).items() if not why)
    prove_published(home)
    assert [path for path in leftovers(home.path) if "dagster" not in path.parts] == []
