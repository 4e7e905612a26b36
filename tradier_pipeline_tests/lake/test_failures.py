"""What may fail: who ships, the catalog, many who publish at once. Nothing is lost, doubled or half there."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from tradier_pipeline.lake.connection import ALIAS, Lake, LakeError, open_lake
from tradier_pipeline.lake.maintain import maintain
from tradier_pipeline.warehouse import derived, schema
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.lake.conftest import OfTest
from tradier_pipeline_tests.support.object_store import BUCKET, SECRET, ObjectStore, storing
from tradier_pipeline_tests.support.postgres import Postgres
from tradier_pipeline_tests.support.year import fill, sessions

MINUTES = 3
DOWN_S = float(os.environ.get("TRADIER_TEST_DOWN_S", "180"))  # how long a part of the lake is down
# every snapshot that can be seen is whole: as many positions and payloads as its header and its home say
TORN = """
    SELECT snapshot_id FROM tradier_snapshots
    LEFT JOIN (SELECT snapshot_id, count(*) AS n FROM positions GROUP BY ALL) AS held USING (snapshot_id)
    LEFT JOIN (SELECT snapshot_id, count(*) AS b FROM account_balances GROUP BY ALL) AS worth USING (snapshot_id)
    WHERE coalesce(n, 0) <> positions_count OR coalesce(b, 0) <> 1
"""
DOUBLED = "SELECT snapshot_id FROM tradier_snapshots GROUP BY ALL HAVING count(*) > 1"
LOST = "SELECT snapshot_id FROM positions ANTI JOIN tradier_snapshots USING (snapshot_id)"


def publish(home: Home, account_id: str, minute: int) -> None:
    """Publish what a minute brings: the snapshots of an account until then."""
    with home.warehouse.staged(fresh=True) as staged:
        fill(staged.connection, sessions(1), account_id)
        keep = "SELECT as_of FROM (SELECT DISTINCT as_of FROM tradier_snapshots) ORDER BY as_of"
        last = staged.connection.execute(f"{keep} LIMIT 1 OFFSET {4 + minute}").fetchone()[0]
        for table in schema.TABLES:
            staged.connection.execute(f"DELETE FROM {table.name} WHERE as_of > '{last.isoformat()}'")
        derived.refresh(staged.connection)


def ship(lake: OfTest, home: Home, *arguments: str) -> subprocess.Popen[bytes]:
    environment = os.environ | lake.settings | {"TRADIER_PIPELINE_HOME": str(home.path), "TRADIER_ENV": "simulator"}
    return subprocess.Popen(
        [sys.executable, "-m", "tradier_pipeline.cli", "lake", "ship", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


@contextmanager
def read_meanwhile(lake: Lake) -> Iterator[list[str]]:
    """A reader that looks at the whole state again and again; what it found wrong, in a list that is complete after."""
    ended, wrong, looks = threading.Event(), [], []

    def look() -> None:
        while not ended.wait(0.1):
            try:
                with open_lake(lake, read_only=True) as connection:
                    connection.execute(f"USE {ALIAS}; BEGIN")
                    if connection.execute(
                        "SELECT count(*) FROM duckdb_views() WHERE view_name = 'positions'"
                    ).fetchone() == (0,):
                        continue
                    wrong.extend(
                        repr(row) for query in (TORN, DOUBLED, LOST) for row in connection.execute(query).fetchall()
                    )
                    looks.append(1)
            except LakeError as error:
                if "nothing in the lake" not in str(error):
                    wrong.append(str(error))
            except Exception as error:
                wrong.append(repr(error))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield wrong
    finally:
        ended.set()
        thread.join()
    assert looks


def held(home: Home) -> set[str]:
    with duckdb.connect(str(home.warehouse.path), read_only=True) as connection:
        return {row[0] for row in connection.execute("SELECT snapshot_id FROM tradier_snapshots").fetchall()}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> list[Home]:
    """A home as it is after each of three minutes."""
    homes = [Home(tmp_path_factory.mktemp(f"minute{minute}")) for minute in range(MINUTES)]
    for minute, home in enumerate(homes):
        publish(home, "VA00000001", minute * 3)
    return homes


def _of_machine(published: list[Home], tmp_path: Path, number: int) -> list[Home]:
    """The same for the account of another machine."""
    del published
    homes = [Home(tmp_path / f"machine{number}-{minute}") for minute in range(MINUTES)]
    for minute, home in enumerate(homes):
        publish(home, f"VA0000000{number}", minute * 3)
    return homes


def killed(lake: OfTest, published: list[Home], tmp_path: Path, times: int) -> None:
    home = Home(tmp_path / "killed")
    shutil.copytree(published[0].path, home.path)
    generator = random.Random(7)
    started = time.monotonic()
    assert ship(lake, home).wait(240) == 0
    whole = time.monotonic() - started
    with read_meanwhile(lake.lake) as wrong:
        for number in range(times):
            shutil.copy(published[(number + 1) % MINUTES].warehouse.path, home.path / "next.duckdb")
            (home.path / "next.duckdb").replace(home.warehouse.path)
            process = ship(lake, home)
            with suppress(subprocess.TimeoutExpired):
                process.wait(generator.uniform(0.3, 1.1) * whole)  # its first third is Python's start
            process.send_signal(signal.SIGKILL)
            process.communicate()
        shutil.copy(published[-1].warehouse.path, home.path / "next.duckdb")
        (home.path / "next.duckdb").replace(home.warehouse.path)
        other = Home(tmp_path / "other")  # of another machine
        shutil.copytree(published[-1].path, other.path)
        started = time.monotonic()
        for one in (other, home):  # the lock of one that is dead holds nobody up
            last = ship(lake, one)
            _, said = last.communicate(timeout=300)
            assert last.returncode == 0, said
            assert time.monotonic() - started < 60 + 2 * whole
    assert wrong == []
    assert {row[0] for row in lake.rows("SELECT snapshot_id FROM tradier_snapshots")} == held(home)


@pytest.mark.soak
def test_one_that_ships_and_is_killed_leaves_nothing_half_and_the_next_one_catches_up(
    lake: OfTest, published: list[Home], tmp_path: Path
) -> None:
    killed(lake, published, tmp_path, 2)


@pytest.mark.soak
def test_one_that_ships_and_is_killed_at_twenty_points_leaves_nothing_half(
    lake: OfTest, published: list[Home], tmp_path: Path
) -> None:
    killed(lake, published, tmp_path, 20)


def many(lake: OfTest, published: list[Home], tmp_path: Path, machines: int) -> None:
    of_machines = [_of_machine(published, tmp_path, number) for number in range(1, machines + 1)]
    homes = [Home(tmp_path / f"home{number}") for number in range(machines)]
    with read_meanwhile(lake.lake) as wrong:
        for minute in range(MINUTES):
            processes = []
            for home, minutes in zip(homes, of_machines, strict=True):
                home.path.mkdir(exist_ok=True)
                shutil.copy(minutes[minute].warehouse.path, home.warehouse.path)
                processes.append(ship(lake, home))
            if minute:
                maintain(lake.lake, None)  # as it comes between the commits, every night
            for process in processes:
                _, said = process.communicate(timeout=600)
                assert process.returncode == 0, said
    assert wrong == []
    assert {row[0] for row in lake.rows("SELECT snapshot_id FROM tradier_snapshots")} == set().union(*map(held, homes))
    assert lake.rows("SELECT trade_date FROM sessions GROUP BY ALL HAVING count(*) > 1") == []
    assert lake.rows("SELECT count(*), count(DISTINCT shipment) FROM versions.shipments")[0][0] == machines * MINUTES


@pytest.mark.soak
def test_machines_that_ship_at_once_lose_and_double_nothing_and_no_reader_sees_a_part(
    new_lake: OfTest, published: list[Home], tmp_path: Path
) -> None:
    many(new_lake, published, tmp_path, 2)


@pytest.mark.soak
def test_eight_machines_that_ship_at_once_lose_and_double_nothing_and_no_reader_sees_a_part(
    new_lake: OfTest, published: list[Home], tmp_path: Path
) -> None:
    many(new_lake, published, tmp_path, 8)


@pytest.mark.soak
def test_while_the_catalog_is_down_publishing_goes_on_and_the_lake_catches_up(
    lake: OfTest, published: list[Home], tmp_path: Path
) -> None:
    home = Home(tmp_path / "home")
    shutil.copytree(published[0].path, home.path)
    process = ship(lake, home, "--follow")
    try:
        _until(lambda: _shipped(lake) == len(held(published[0])))
        lake.server.stop()
        try:
            shutil.copy(published[1].warehouse.path, home.path / "next.duckdb")  # what a publish does: one rename
            (home.path / "next.duckdb").replace(home.warehouse.path)
            assert process.stderr is not None
            assert b"Snapshots go on without it" in process.stderr.readline()
        finally:
            lake.server.start()
        _until(lambda: _shipped(lake) == len(held(published[1])))
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.soak
def test_a_dump_of_the_catalog_and_a_copy_of_the_files_after_it_are_a_lake_that_catches_up(
    lake: OfTest, published: list[Home], tmp_path: Path
) -> None:
    home = Home(tmp_path / "home")
    shutil.copytree(published[0].path, home.path)
    assert ship(lake, home).wait(240) == 0
    maintain(lake.lake, None)
    dump = lake.server.directory / "lake.sql"  # where its user may write
    lake.server._run("pg_dump", "-f", str(dump), lake.server.url(lake.database))
    kept = shutil.copytree(lake.data, tmp_path / "kept")
    shutil.copy(published[-1].warehouse.path, home.warehouse.path)
    assert ship(lake, home).wait(240) == 0
    maintain(lake.lake, None)

    lake.server._run("psql", lake.server.url(), "-qc", f"DROP DATABASE {lake.database} WITH (FORCE)")
    shutil.rmtree(lake.data)
    shutil.copytree(kept, lake.data)
    lake.server.create(lake.database)
    lake.server._run("psql", lake.server.url(lake.database), "-qf", str(dump))
    assert {row[0] for row in lake.rows("SELECT snapshot_id FROM tradier_snapshots")} == held(published[0])
    assert ship(lake, home).wait(240) == 0
    assert {row[0] for row in lake.rows("SELECT snapshot_id FROM tradier_snapshots")} == held(home)
    for query in (TORN, DOUBLED, LOST):
        assert lake.rows(query) == []


class Following:
    """`lake ship --follow` of a home, and what it said."""

    def __init__(self, lake: OfTest, home: Home) -> None:
        self.process = ship(lake, home, "--follow")
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(line.decode() for line in self.process.stderr)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(120)
        finally:
            self.process.kill()
            self._reader.join()


@contextmanager
def following(lake: OfTest, home: Home) -> Iterator[Following]:
    found = Following(lake, home)
    try:
        yield found
    except BaseException:
        found.end()
        raise
    assert found.end() == 0


def outlasted(lake: OfTest, home: Home, simulated: Simulated, part: Postgres | ObjectStore, down_s: float) -> None:
    """Snapshots of two accounts are taken while a part of the lake is down: none fails, and the lake gets all."""
    accounts = ("SIM00000001", "SIM00000002")
    for account_id in accounts:
        take(home, simulated.broker, account_id)
    with following(lake, home) as committer:
        _until(lambda: _shipped(lake) == len(accounts), 300)
        maintain(lake.lake, None)  # what is known of the snapshots lies in files, as it does after a night
        part.stop()
        taken = [*accounts]
        try:
            ends = time.monotonic() + down_s
            while time.monotonic() < ends:
                for account_id in accounts:
                    take(home, simulated.broker, account_id)
                    taken.append(account_id)
                time.sleep(1.0)
        finally:
            part.start()
        assert len(held(home)) == len(taken)
        _until(lambda: _shipped(lake) == len(taken), 300)
        _until(lambda: len(committer.said) > 1, 60)
        assert committer.process.poll() is None
    trouble = [line for line in committer.said if "cannot be used" in line]
    assert len(trouble) == 1, committer.said
    assert "Snapshots go on without it" in trouble[0]
    assert [line for line in committer.said if "can be used again" in line] == committer.said[-1:]
    assert SECRET not in "".join(committer.said)
    assert {row[0] for row in lake.rows("SELECT snapshot_id FROM tradier_snapshots")} == held(home)
    for query in (TORN, DOUBLED, LOST):
        assert lake.rows(query) == []


@pytest.mark.soak
def test_while_the_catalog_is_down_for_minutes_snapshots_go_on_and_the_lake_catches_up(
    new_lake: OfTest, tmp_path: Path, simulated: Simulated
) -> None:
    outlasted(new_lake, Home(tmp_path / "home"), simulated, new_lake.server, DOWN_S)


@pytest.mark.soak
def test_while_the_object_store_is_down_for_minutes_snapshots_go_on_and_the_lake_catches_up(
    new_lake: OfTest, tmp_path: Path, simulated: Simulated
) -> None:
    with storing() as store:
        (tmp_path / "s3").write_text(store.settings_file())
        lake = replace(new_lake, data=f"s3://{BUCKET}/tradier", s3_file=tmp_path / "s3")
        outlasted(lake, Home(tmp_path / "home"), simulated, store, DOWN_S)


def _shipped(lake: OfTest) -> int:
    try:
        return int(lake.rows("SELECT count(*) FROM tradier_snapshots")[0][0])
    except Exception:
        return -1


def _until(holds: object, timeout: float = 120.0) -> None:
    deadline = time.monotonic() + timeout
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.5)
