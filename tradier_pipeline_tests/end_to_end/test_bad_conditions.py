"""Full disks, closed directories, damaged files: one clear line, nothing half-written, and the next run is fine."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.files import FileError
from tradier_pipeline.core.outcome import Outcome
from tradier_pipeline.core.settings import DEMO_ACCOUNT, Settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.landing.errors import LandingError
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.publish.reverify import reverify
from tradier_pipeline.publish.store import rebuild, store_snapshot
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.simulator.world import ROUND_THE_CLOCK
from tradier_pipeline.warehouse import staging
from tradier_pipeline.warehouse.reads import connect_readonly, snapshot_ids
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.end_to_end.test_crashes import leftovers, prove_equal_to_undisturbed, prove_published
from tradier_pipeline_tests.support.crash_child import FAILED, Job, Nursery
from tradier_pipeline_tests.support.sampling import sampled

pytestmark = pytest.mark.usefixtures("without_days")

NOBODY = 65534
DISK_BYTES = 24 * 1024 * 1024


@pytest.fixture(scope="module")
def simulated() -> Iterator[Simulated]:
    with embedded_simulator(None, limits=None, calendar=ROUND_THE_CLOCK) as url:
        yield Simulated(url)


@contextmanager
def _small_disk(path: Path) -> Iterator[None]:
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk takes root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


def _fill(path: Path, leave: int) -> None:
    """Fill the disk of a file until only so many bytes are left."""
    disk = os.statvfs(path.parent)
    path.write_bytes(bytes(max(0, disk.f_bavail * disk.f_frsize - leave)))


def _published(home: Home) -> list[str]:
    with connect_readonly(home.warehouse.path) as connection:
        return snapshot_ids(connection)


def _outcomes(home: Home) -> list[Outcome]:
    (result,) = reverify(Settings(pipeline_home=home.path), [], everything=False)
    return result.outcomes


# nothing is left; landing, copying, writing, checkpointing run out
@sampled("places", [(1, 2, 5), (0, 1, 2, 3, 4, 5)])
def test_a_full_disk_costs_the_snapshot_and_nothing_else(
    tmp_path: Path, simulated: Simulated, monkeypatch: pytest.MonkeyPatch, places: Sequence[int]
) -> None:
    monkeypatch.setattr(staging, "BLOCK_SIZE", 131_072)  # as it is; the steps below are of its size
    with _small_disk(tmp_path / "disk"):
        home = Home(tmp_path / "disk" / "home")
        good = [take(home, simulated.broker)[0]]
        size = home.warehouse.path.stat().st_size
        before = home.warehouse.path.read_bytes()
        ballast = home.path.parent / "ballast"
        room = (0, 8_192, 300_000, size + 200_000, size + 400_000, size + 600_000)
        for place in places:
            _fill(ballast, room[place])
            with pytest.raises(
                PipelineError, match=r"(No space left on device|no space left)\. Free some space"
            ) as reported:
                take(home, simulated.broker)
            assert "\n" not in str(reported.value)
            assert home.warehouse.path.read_bytes() == before
            ballast.unlink()
            assert leftovers(home.path) == []
        store_snapshot(home.warehouse, good[0])
        landed = list(home.zone.snapshots())
        assert len(landed) > 1, "no failure came after landing"
        for unpublished in landed[1:]:
            store_snapshot(home.warehouse, unpublished)
        take(home, simulated.broker)
        prove_published(home)


@sampled("limit, lands", [(2_000, False), (200_000, True)], kept=[1])  # while it lands, while it is staged
def test_a_file_size_limit_is_told_and_leaves_nothing_behind(
    home: Home, simulated: Simulated, children: Nursery, limit: int, lands: bool, good: LandedSnapshot
) -> None:
    before = home.warehouse.path.read_bytes()
    job = Job(home=str(home.path), url=simulated.url, snapshot_id=str(SnapshotId.now(DEMO_ACCOUNT)), file_size=limit)
    end = children.run(job)
    assert end.code == FAILED, end
    assert "FileError: cannot write" in end.error
    assert "File too large" in end.error
    assert "\n" not in end.error
    assert home.warehouse.path.read_bytes() == before
    landed = home.zone.find(SnapshotId.parse(job.snapshot_id))
    assert (landed is not None) == lands
    assert leftovers(home.path) == []
    after, _ = take(home, simulated.broker)
    assert _published(home) == [str(good.snapshot_id), str(after.snapshot_id)]


def test_a_home_that_is_a_file_is_told(home: Home, simulated: Simulated) -> None:
    home.path.write_text("a file")
    simulated.admin("DELETE", "requests")
    with pytest.raises(FileError, match=r"^cannot write .* TRADIER_PIPELINE_HOME"):
        take(home, simulated.broker)
    assert home.path.read_text() == "a file"
    assert simulated.requests() == []


@sampled("closed", ["", "raw", f"raw/{DEMO_ACCOUNT}", f"raw/{DEMO_ACCOUNT}/*-*-*"], kept=(0, 3))
def test_a_directory_that_may_not_be_written_is_told(simulated: Simulated, children: Nursery, closed: str) -> None:
    with tempfile.TemporaryDirectory() as directory:  # pytest's own directories are closed to others
        Path(directory).chmod(0o755)
        home = Home(Path(directory) / "home")
        good, _ = take(home, simulated.broker)
        before = home.warehouse.path.read_bytes()
        for path in (home.path, *home.path.rglob("*")):
            if os.getuid() == 0:
                os.chown(path, NOBODY, NOBODY)
        (target,) = home.path.glob(closed) if closed else [home.path]
        target.chmod(0o555)
        job = Job(home=str(home.path), url=simulated.url, snapshot_id=str(SnapshotId.now(DEMO_ACCOUNT)), user=NOBODY)
        end = children.run(job)
        target.chmod(0o755)
        if closed in ("raw", f"raw/{DEMO_ACCOUNT}"):  # nothing new is created there
            assert end.code == 0, end
            return
        assert end.code == FAILED, end
        assert end.error.startswith("FileError: cannot write ")
        assert end.error.endswith("Permission denied. Make TRADIER_PIPELINE_HOME a directory you may write to.")
        assert home.warehouse.path.read_bytes() == before
        assert children.run(job).code == 0
        assert _published(home) == [str(good.snapshot_id), job.snapshot_id]


@pytest.mark.parametrize(
    "file", ["orders.json", "positions.json", "quotes.json", "manifest.json", "quotes.manifest.json"]
)
@pytest.mark.parametrize("damage", ["changed", "deleted", "truncated"])
def test_a_landed_file_that_was_touched_is_found_and_nothing_is_overwritten(
    home: Home, file: str, damage: str, good: LandedSnapshot
) -> None:
    path = good.directory / file
    if damage == "deleted":
        path.unlink()
    else:
        body = path.read_bytes()
        path.write_bytes(body.replace(b"1", b"2", 1) if damage == "changed" else body[: len(body) // 2])
    before = {found.name: found.read_bytes() for found in good.directory.iterdir()}
    published = home.warehouse.path.read_bytes()
    assert [outcome for outcome in _outcomes(home) if outcome.blocks]
    again = LandedSnapshot(good.snapshot_id, good.directory)
    reported = file not in ("quotes.manifest.json", "manifest.json") or damage == "truncated"
    if reported or (file, damage) == ("manifest.json", "deleted"):
        with pytest.raises(LandingError, match=f"{file}.*"):
            store_snapshot(home.warehouse, again)
        assert home.warehouse.path.read_bytes() == published
    assert {found.name: found.read_bytes() for found in good.directory.iterdir()} == before


def test_a_damaged_body_fails_the_check_of_what_was_fetched(home: Home, good: LandedSnapshot) -> None:
    (good.directory / "positions.json").write_text('{"positions":"null"}')
    failed = {outcome.check for outcome in _outcomes(home) if outcome.blocks}
    assert "fetch_states_ok" in failed


@pytest.mark.soak  # as it was: test_properties
def test_a_lost_warehouse_is_rebuilt_from_what_was_landed(home: Home, simulated: Simulated) -> None:
    taken = [take(home, simulated.broker)[0] for _ in range(3)]
    home.warehouse.path.unlink()
    assert rebuild(home.warehouse, home.zone, lambda _: None).published == 3
    prove_published(home)
    prove_equal_to_undisturbed(home, taken)
