"""A backup in an object store: whole or not named, only what is new, restored into a home that an audit proves."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import fsspec
import pytest

from tradier_pipeline.landing.compaction import compact
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline_tests.conftest import ROUND_THE_CLOCK, Home, Simulated, take
from tradier_pipeline_tests.publish.test_backup import back_up, landed
from tradier_pipeline_tests.support.command_line import run

STORE = "memory://backups/tradier"


@pytest.fixture(scope="module")
def simulated() -> Iterator[Simulated]:
    with embedded_simulator(None, limits=None, calendar=ROUND_THE_CLOCK) as url:
        yield Simulated(url)


@pytest.fixture(scope="module")
def taken(simulated: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with an archive and a snapshot beside it."""
    home = Home(tmp_path_factory.mktemp("taken") / "home")
    take(home, simulated.broker)
    compact(home.zone, date.max)
    take(home, simulated.broker)
    return home


@pytest.fixture
def held(home: Home, taken: Home) -> Home:
    shutil.copytree(taken.path, home.path)
    return home


@pytest.fixture
def system() -> Iterator[fsspec.AbstractFileSystem]:
    """fsspec's own store in memory: objects, and no rename, no lock, no disk."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    yield store
    store.store.clear()


def objects(system: fsspec.AbstractFileSystem) -> list[str]:
    return [path for path in system.find("/backups/tradier") if "/objects/" in path]


@pytest.mark.usefixtures("system")
def test_what_was_restored_from_an_object_store_is_as_filed_and_goes_on(
    held: Home, simulated: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(STORE)
    result = run("restore", STORE, "--to", str(tmp_path / "new"), "--quick")
    assert result.exit_code == 0, result.output
    assert "rows not looked at" in result.stdout
    assert "all as filed" in result.stdout
    assert landed(tmp_path / "new") == landed(held.path)
    monkeypatch.setenv("TRADIER_PIPELINE_HOME", str(tmp_path / "new"))
    take(Home(tmp_path / "new"), simulated.broker)
    assert run("audit").exit_code == 0


def test_only_what_is_new_is_sent_and_what_no_backup_has_goes(
    held: Home, simulated: Simulated, system: fsspec.AbstractFileSystem
) -> None:
    first = back_up(STORE)
    assert back_up(STORE)["copied_files"] == 0
    take(held, simulated.broker)
    more = back_up(STORE)
    assert 0 < more["copied_files"] < first["copied_files"]
    before = len(objects(system))
    compact(held.zone, date.max)
    assert run("backup", STORE, "--keep", "1").exit_code == 0
    assert len(objects(system)) < before
    assert len([path for path in system.find("/backups/tradier") if path.endswith(".backup.json")]) == 1


def test_an_object_that_is_damaged_or_gone_restores_nothing_and_is_sent_again_by_the_next_backup(
    held: Home, system: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    back_up(STORE)
    whole = {path: system.cat_file(path) for path in objects(system)}
    for path in whole:
        system.pipe_file(path, whole[path][:-1])
    cut = run("restore", STORE, "--to", str(tmp_path / "new"))
    assert (cut.exit_code, "is damaged" in cut.stderr) == (1, True)
    for path in whole:
        system.rm_file(path)
    gone = run("restore", STORE, "--to", str(tmp_path / "new"))
    assert (gone.exit_code, "is missing" in gone.stderr) == (1, True)
    assert not (tmp_path / "new").exists()
    back_up(STORE)
    assert run("restore", STORE, "--to", str(tmp_path / "new")).exit_code == 0


def test_a_backup_that_breaks_off_is_not_named(
    held: Home, system: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(error: Exception) -> str:
        def refuse(*_: object, **__: object) -> None:
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(type(system), "pipe_file", refuse)
            result = run("backup", STORE)
        assert result.exit_code == 1
        assert len(result.stderr.strip().splitlines()) == 1
        return result.stderr

    assert f"{STORE} cannot be reached: PermissionError: Access Denied" in refused(PermissionError("Access Denied"))
    assert f"{STORE} is not there: no such bucket" in refused(FileNotFoundError("no such bucket"))
    assert "no such backup" in run("restore", STORE, "--to", str(held.path / "new")).stderr


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("s3://bucket/tradier", "pip install 'tradier-pipeline[s3]'"),
        ("nothing://bucket/tradier", "nothing://bucket/tradier cannot be reached"),
    ],
)
def test_a_store_that_nothing_reaches_is_one_line(held: Home, url: str, cause: str) -> None:
    if url.startswith("s3") and importlib.util.find_spec("s3fs"):
        pytest.skip("s3fs is installed")
    result = run("backup", url)
    assert result.exit_code == 1
    assert cause in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_file_url_is_a_folder(held: Home, tmp_path: Path) -> None:
    back_up(f"file://{tmp_path / 'disk'}")
    shutil.rmtree(held.path / "raw")
    assert run("restore", str(tmp_path / "disk"), "--to", str(tmp_path / "new")).exit_code == 0
