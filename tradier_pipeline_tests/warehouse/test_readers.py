"""Readers and the writer never wait for each other, and what a stranger writes never becomes history."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from tradier_pipeline.core.settings import Settings
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.publish.reverify import reverify
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.simulator.world import ROUND_THE_CLOCK
from tradier_pipeline.warehouse import reads
from tradier_pipeline.warehouse.reads import connect_readonly, snapshot_ids
from tradier_pipeline.warehouse.staging import WarehouseError
from tradier_pipeline_tests.conftest import Home, Simulated, take

CLIENT = """
import os, sys, duckdb
path, mode, user = sys.argv[1:]
if user:
    os.setgroups([]); os.setgid(int(user)); os.setuid(int(user))
try:
    connection = duckdb.connect(path, read_only=mode == "read")
except duckdb.Error as error:
    print("refused", str(error).splitlines()[0], flush=True)
    raise SystemExit
print("open", flush=True)
for line in sys.stdin:
    try:
        print(connection.execute(line).fetchall(), flush=True)
    except duckdb.Error as error:
        print("error", str(error).splitlines()[0], flush=True)
connection.close()
"""
COUNT = "SELECT count(*), max(snapshot_id) FROM tradier_snapshots"
NOBODY = 65534


class Client:
    """Another program that has the warehouse open."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.greeting = self._line()

    def ask(self, sql: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(sql + "\n")
        self.process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextmanager
def client(path: Path, mode: str = "read", user: str = "") -> Iterator[Client]:
    command = [sys.executable, "-c", CLIENT, str(path), mode, user]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Client(process)
    finally:
        process.send_signal(signal.SIGCONT)
        process.communicate()


@pytest.fixture(scope="module")
def simulated() -> Iterator[Simulated]:
    with embedded_simulator(None, limits=None, calendar=ROUND_THE_CLOCK) as url:
        yield Simulated(url)


def _ids(home: Home) -> list[str]:
    with connect_readonly(home.warehouse.path) as connection:
        return snapshot_ids(connection)


def test_a_reader_that_stands_still_delays_no_snapshot_and_keeps_its_view(
    home: Home, simulated: Simulated, good: LandedSnapshot
) -> None:
    with client(home.warehouse.path) as reader:
        view = reader.ask(COUNT)
        assert view == f"[(1, '{good.snapshot_id}')]"
        reader.ask("BEGIN")
        reader.ask(COUNT)
        os.kill(reader.process.pid, signal.SIGSTOP)  # whoever waits for it now waits for ever
        taken = [take(home, simulated.broker)[0] for _ in range(2)]
        os.kill(reader.process.pid, signal.SIGCONT)
        assert reader.ask(COUNT) == view
        assert reader.ask("COMMIT") == "[]"
        assert reader.ask(COUNT) == view
        with client(home.warehouse.path) as new:
            assert new.ask(COUNT) == f"[(3, '{taken[-1].snapshot_id}')]"
    assert len(_ids(home)) == 3


def test_a_notebook_that_holds_the_warehouse_open_sees_the_newest_through_the_pipeline(
    home: Home, simulated: Simulated, good: LandedSnapshot
) -> None:
    with duckdb.connect(home.warehouse.path, read_only=True) as notebook:
        second, _ = take(home, simulated.broker)
        assert notebook.execute(COUNT).fetchall() == [(1, str(good.snapshot_id))]
        assert _ids(home) == [str(good.snapshot_id), str(second.snapshot_id)]
        assert all(result.published for result in reverify(Settings(pipeline_home=home.path), [], everything=True))


def test_pipeline_reads_cannot_write(home: Home, good: LandedSnapshot) -> None:
    with connect_readonly(home.warehouse.path) as connection, pytest.raises(duckdb.Error, match="read-only"):
        connection.execute("DELETE FROM positions")


@pytest.mark.skipif(os.getuid() != 0, reason="only root may write a file of mode 0444")
def test_what_a_stranger_writes_beside_the_published_file_never_becomes_history(
    home: Home, simulated: Simulated, good: LandedSnapshot
) -> None:
    log = home.path / "tradier.duckdb.wal"
    with client(home.warehouse.path, "write") as stranger:
        assert stranger.greeting == "open"
        second, _ = take(home, simulated.broker)  # now the stranger holds the old file
        stranger.ask("UPDATE account_balances SET equity = 0")
        assert log.exists()
        with pytest.raises(WarehouseError, match="another program has written"):
            _ids(home)
        third, _ = take(home, simulated.broker)
        assert not log.exists()
        stranger.ask("BEGIN")
        stranger.ask("DELETE FROM tradier_snapshots")
        fourth, _ = take(home, simulated.broker)
        os.kill(stranger.process.pid, signal.SIGKILL)
        stranger.process.wait()
    taken = [str(landed.snapshot_id) for landed in (good, second, third, fourth)]
    assert not log.exists()
    assert _ids(home) == taken
    results = list(reverify(Settings(pipeline_home=home.path), [], everything=True))
    assert [outcome for result in results for outcome in result.outcomes if not outcome.passed] == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root may write a file of mode 0444")
@pytest.mark.parametrize(
    ("damage", "reported"),
    [
        ("UPDATE account_balances SET equity = equity + 0.01", "equity"),
        ("DELETE FROM positions WHERE row_no = 1", "position"),
        ("INSERT INTO orders SELECT * FROM orders LIMIT 1", "order"),
        ("UPDATE tradier_snapshots SET as_of = as_of + INTERVAL 1 SECOND", "header"),
    ],
)
def test_a_change_a_stranger_made_in_the_published_file_is_found(
    home: Home, damage: str, reported: str, good: LandedSnapshot
) -> None:
    with client(home.warehouse.path, "write") as stranger:
        stranger.ask(damage)
    (result,) = reverify(Settings(pipeline_home=home.path), [], everything=True)
    failed = [outcome for outcome in result.outcomes if outcome.blocks]
    assert any(reported in difference.where for outcome in failed for difference in outcome.differences)


def test_nobody_but_root_can_open_the_published_file_for_writing(simulated: Simulated) -> None:
    user = str(NOBODY) if os.getuid() == 0 else ""
    with tempfile.TemporaryDirectory() as directory:  # pytest's own directories are closed to others
        Path(directory).chmod(0o755)
        home = Home(Path(directory) / "home")
        take(home, simulated.broker)
        if user:
            for path in (home.path, home.warehouse.path):
                os.chown(path, NOBODY, NOBODY)  # its owner may not write it either
        with client(home.warehouse.path, "write", user) as stranger:
            assert stranger.greeting.startswith("refused")
            assert "Permission denied" in stranger.greeting
        with client(home.warehouse.path, "read", user) as reader:
            assert reader.greeting == "open"


@pytest.mark.parametrize(("cores", "threads"), [(8, 4), (1, 1)])
def test_a_reader_leaves_half_of_the_cores_to_who_publishes(
    home: Home, good: LandedSnapshot, monkeypatch: pytest.MonkeyPatch, *, cores: int, threads: int
) -> None:
    monkeypatch.setattr(reads, "duckdb", duckdb)
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", str(cores))  # of which DuckDB believes that it has them
    reads._threads.cache_clear()
    with connect_readonly(home.warehouse.path) as connection:
        assert connection.execute("SELECT current_setting('threads')").fetchone() == (threads,)
    reads._threads.cache_clear()
