"""SIGKILL at every step of a snapshot: nothing torn, doubled or lost, and the next run completes it.

The points (K1 before the first request ... K8 while publishing) and how they are reached: `crash_child`.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tradier_pipeline.core.settings import DEMO_ACCOUNT, Settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.publish.reverify import reverify
from tradier_pipeline.publish.store import rebuild, store_snapshot
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.simulator.world import ROUND_THE_CLOCK
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.reads import connect_readonly, snapshot_ids
from tradier_pipeline.warehouse.staging import Warehouse
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.support.crash_child import POINTS, Job, Nursery

ACCOUNT_REQUESTS = ("/profile", "/balances", "/positions", "/orders")
RACE_S = 0.004  # longer than a COMMIT or CHECKPOINT of one snapshot takes


@pytest.fixture
def unlimited(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulated]:
    """A simulated broker without a request budget: these tests read more often than anybody may."""
    with embedded_simulator(None, limits=None, calendar=ROUND_THE_CLOCK) as url:
        monkeypatch.setenv("TRADIER_BASE_URL", url)
        yield Simulated(url)


class Crash:
    """A home with a good snapshot, in which others die."""

    def __init__(self, home: Home, simulated: Simulated, children: Nursery) -> None:
        self.home, self.simulated, self.children = home, simulated, children
        landed, _ = take(home, simulated.broker)
        self.good = [str(landed.snapshot_id)]
        self.unacknowledged = 0

    def at(self, point: str, variant: int, delay: float = 0.0) -> None:
        """Kill one snapshot there, prove the home sound, run it again, prove it complete."""
        wanted = POINTS[point][variant]
        snapshot_id = SnapshotId.now(DEMO_ACCOUNT)
        published = self.home.warehouse.path.read_bytes()
        self.simulated.admin("DELETE", "requests")
        job = Job(home=str(self.home.path), url=self.simulated.url, snapshot_id=str(snapshot_id))
        end = self.children.run(Job(**{**vars(job), "point": point, "variant": variant, "delay": delay}))
        where = f"{point} {wanted.name}: {end}"
        assert end.signal == signal.SIGKILL, where
        self.unacknowledged += not end.acknowledged

        self._locks_are_free()
        assert self._published() == self.good + [str(snapshot_id)] * wanted.published, where
        if wanted.published:
            prove_published(self.home)
        else:
            assert self.home.warehouse.path.read_bytes() == published, where
        landed = self.home.zone.find(snapshot_id)
        assert (landed is not None) == wanted.landed, where
        received = _bytes(landed) if landed else {}
        quotes_read = landed is not None and landed.quotes is not None
        requested = self._requests()
        assert sum(requested[part] for part in ACCOUNT_REQUESTS) == 0 or point != "K1", where

        assert self.children.run(job).code == 0
        requested_again = {part: count - requested[part] for part, count in self._requests().items()}
        landed = self.home.zone.find(snapshot_id)
        assert landed is not None
        readings = 0 if wanted.landed else len(landed.manifest.readings)
        expected = dict.fromkeys(ACCOUNT_REQUESTS, readings) | {"/quotes": int(not quotes_read)}
        assert requested_again == expected, where
        assert received.items() <= _bytes(landed).items(), where
        self.good.append(str(snapshot_id))
        assert self._published() == self.good, where
        assert leftovers(self.home.path) == [], where

    def prove(self) -> None:
        """Prove everything published, and that it is what storing the same bytes undisturbed yields."""
        prove_published(self.home)
        found = [self.home.zone.find(SnapshotId.parse(snapshot_id)) for snapshot_id in self.good]
        prove_equal_to_undisturbed(self.home, [landed for landed in found if landed])

    def _locks_are_free(self) -> None:
        for path in (
            self.home.path / "raw" / DEMO_ACCOUNT / ".lock",
            self.home.warehouse.path.with_name(".tradier.duckdb.lock"),
        ):
            FileLock(path).acquire(timeout=0).lock.release()

    def _published(self) -> list[str]:
        with connect_readonly(self.home.warehouse.path) as connection:
            return snapshot_ids(connection)

    def _requests(self) -> dict[str, int]:
        paths = [str(request["path"]) for request in self.simulated.requests()]
        return {part: sum(path.endswith(part) for path in paths) for part in (*ACCOUNT_REQUESTS, "/quotes")}


@pytest.fixture
def crash(home: Home, unlimited: Simulated, children: Nursery) -> Crash:
    return Crash(home, unlimited, children)


def prove_published(home: Home) -> None:
    """Run every check of every published snapshot."""
    results = list(reverify(Settings(pipeline_home=home.path), [], everything=True))
    assert [outcome for result in results for outcome in result.outcomes if outcome.blocks] == []


def prove_equal_to_undisturbed(home: Home, snapshots: list[LandedSnapshot]) -> None:
    """Store the same bytes without disturbance, elsewhere, and compare every row of every table."""
    control = Warehouse(home.path.with_name("control") / "tradier.duckdb")
    for landed in snapshots:
        store_snapshot(control, landed)
    assert stored(home.warehouse.path) == stored(control.path)


def stored(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, but for when it was written."""
    with connect_readonly(path) as connection:
        return {
            table.name: connection.execute(
                f"SELECT * {'EXCLUDE committed_at' if table is schema.TRADIER_SNAPSHOTS else ''} "
                f"FROM {table.name} ORDER BY ALL"
            ).fetchall()
            for table in schema.TABLES
        }


def leftovers(home: Path) -> list[Path]:
    return [path for suffix in ("tmp", "staged", "wal") for path in home.rglob(f"*.{suffix}")]


def _bytes(landed: LandedSnapshot) -> dict[str, bytes]:
    """The files whose manifest says that they are complete."""
    resources = [*landed.manifest.resources, *(["quotes"] if landed.quotes else [])]
    files = [page.file for resource in resources for page in landed.pages(resource)]
    files += ["manifest.json", *(["quotes.manifest.json"] if landed.quotes else [])]
    return {name: (landed.directory / name).read_bytes() for name in files}


def test_a_snapshot_killed_at_any_point_leaves_the_home_whole_and_is_completed_by_the_next_run(crash: Crash) -> None:
    chance = random.Random("kill")
    for point in ("K3", "K6", "K8"):  # while it lands, while it commits, while it publishes; K4: test_faults
        for variant in range(2 if point == "K8" else 1):  # before and after it is visible
            crash.at(point, variant, chance.uniform(0, RACE_S))
    crash.prove()


@pytest.mark.soak
@pytest.mark.parametrize("point", POINTS)
def test_many_kills_at_every_point(crash: Crash, point: str) -> None:
    chance = random.Random(f"{point} soak")
    kills = 28
    for number in range(kills):
        crash.at(point, number % len(POINTS[point]), chance.uniform(0, RACE_S))
    crash.prove()
    if any(variant.races for variant in POINTS[point]):
        assert crash.unacknowledged, "no kill fell into the statement"


def test_a_rebuild_killed_before_it_publishes_leaves_the_old_warehouse_and_the_next_one_completes(crash: Crash) -> None:
    landed, _ = take(crash.home, crash.simulated.broker)
    crash.good.append(str(landed.snapshot_id))
    before = crash.home.warehouse.path.read_bytes()
    end = crash.children.run(Job(home=str(crash.home.path), work="rebuild", point="K8"))  # at any: test_random_kills
    assert end.signal == signal.SIGKILL
    assert crash.home.warehouse.path.read_bytes() == before
    assert rebuild(crash.home.warehouse, crash.home.zone, lambda _: None).published == 2
    crash.prove()
    assert leftovers(crash.home.path) == []


# a partition is replayed without a request and leaves identical rows: cycles/test_snapshot_job; any kill: above
@pytest.mark.soak
def test_killed_dagster_runs_are_completed_by_running_their_partitions_again(
    home: Home, simulated: Simulated, children: Nursery
) -> None:
    from tradier_pipeline.instance import open_instance
    from tradier_pipeline_tests.support.dagster_runs import run_job

    take(home, simulated.broker)
    before = home.warehouse.path.read_bytes()
    for point, variant in (("K4", "after landing"), ("K8", "between chmod and rename")):
        kill_command(home, simulated, children, point, variant)
        assert home.warehouse.path.read_bytes() == before
    first, after_landing, publishing = home.zone.snapshots()
    requested = len(simulated.requests())

    with open_instance(home.path / "dagster") as instance:
        for landed in (after_landing, publishing):
            assert run_job(instance, str(landed.snapshot_id)).success
    assert len(simulated.requests()) == requested + 1  # the quotes that the first had not come to
    prove_published(home)
    prove_equal_to_undisturbed(home, [first, after_landing, publishing])
    assert leftovers(home.path / "raw") == []
    assert list(home.path.glob(".tradier.duckdb.staged*")) == []


def kill_command(home: Home, simulated: Simulated, children: Nursery, point: str, variant: str) -> None:
    """Kill a whole `tradier-pipeline snapshot` at a named point."""
    number = [known.name for known in POINTS[point]].index(variant)
    command = Job(home=str(home.path), url=simulated.url, work="command", arguments=("snapshot",))
    end = children.run(Job(**{**vars(command), "point": point, "variant": number}))
    assert end.signal == signal.SIGKILL, (end, home.path.with_name("killed.log").read_text())
