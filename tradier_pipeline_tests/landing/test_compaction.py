"""Closed days as archives: read as before, and nothing lost wherever a compaction dies."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import zipfile
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tradier_pipeline.core.settings import load_settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.landing import compaction, day
from tradier_pipeline.landing import zone as landing
from tradier_pipeline.landing.compaction import compact
from tradier_pipeline.landing.errors import LandingError
from tradier_pipeline.landing.manifest import FailureRecord, Manifest, MissedRecord, PageRecord, QuotesManifest
from tradier_pipeline.landing.zone import LandedSnapshot, LandingZone
from tradier_pipeline.publish.reverify import reverify
from tradier_pipeline.publish.store import rebuild
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.end_to_end.test_crashes import leftovers, stored
from tradier_pipeline_tests.support.crash_child import Job, Nursery, compaction_points

ACCOUNT = "VA12345678"
NOON = datetime(2026, 11, 20, 17, 0, tzinfo=UTC)
DAY = date(2026, 11, 20)
MINUTE = timedelta(minutes=1)
BODY = b'{"positions":"null"}'


def page(file: str, body: bytes = BODY) -> PageRecord:
    return PageRecord(
        file=file, number=1, path="/v1", query={}, status=200, headers={}, attempts=(), started_at=NOON,
        ended_at=NOON, bytes=len(body), sha256=hashlib.sha256(body).hexdigest(),
    )  # fmt: skip


def land(zone: LandingZone, instant: datetime = NOON, account_id: str = ACCOUNT) -> LandedSnapshot:
    manifest = Manifest(
        snapshot_id=str(SnapshotId(account_id, instant)), account_id=account_id, environment="sandbox", trigger="test",
        requested_at=instant, previous_as_of=None, code_version="1", as_of=instant, as_of_end=instant,
        resources={"positions": (page("positions.json"),)},
    )  # fmt: skip
    with zone.locked(account_id):
        return zone.land(manifest, {"positions.json": BODY})


def price(zone: LandingZone, landed: LandedSnapshot) -> None:
    quotes = QuotesManifest(state="ok", reason=None, pages=(page("quotes.json", b"{}"),), attempts=())
    with zone.locked(ACCOUNT):
        zone.land_quotes(landed, quotes, {"quotes.json": b"{}"})


def fail(zone: LandingZone, instant: datetime) -> None:
    failure = FailureRecord(
        snapshot_id=str(SnapshotId(ACCOUNT, instant)), environment="sandbox", trigger="test", failed_at=instant,
        errors={"orders": "HTTP 503"}, resources={},
    )  # fmt: skip
    with zone.locked(ACCOUNT):
        zone.land_failed(failure, {"orders.json": b"<html>"})


def miss(zone: LandingZone, instant: datetime, reason: str = "late") -> None:
    snapshot_id = str(SnapshotId(ACCOUNT, instant))
    zone.record_missed(MissedRecord(snapshot_id=snapshot_id, trigger="test", recorded_at=instant, reason=reason))


def fill(zone: LandingZone) -> None:
    """A day of everything: priced and unpriced snapshots, a failure and a missed minute."""
    for number in range(3):
        landed = land(zone, NOON + number * MINUTE)
        if number:
            price(zone, landed)
    fail(zone, NOON + 3 * MINUTE)
    miss(zone, NOON + 4 * MINUTE)


def seen(root: Path) -> dict[str, Any]:
    """Everything a zone tells its readers."""
    zone = LandingZone(root)
    landed = list(zone.snapshots())
    return {
        "snapshots": [
            (
                one.snapshot_id,
                one.manifest,
                one.quotes,
                [one.bodies(resource) for resource in ("positions", "quotes")],
                [one.relative_path(found) for found in (*one.pages("positions"), *one.pages("quotes"))],
                one.read("manifest.json"),
            )
            for one in landed
        ],
        "found": [zone.find(one.snapshot_id) == one for one in landed],
        "newest": zone.newest(ACCOUNT),
        "failures": list(zone.failures(ACCOUNT)),
        "missed": list(zone.missed(ACCOUNT)),
        "recent": (list(zone.failures(ACCOUNT, since=NOON)), list(zone.missed(ACCOUNT, since=NOON))),
    }


def archive(home: Home) -> Path:
    return home.zone.root / ACCOUNT / f"{DAY}.zip"


def directory(home: Home) -> Path:
    return home.zone.root / ACCOUNT / str(DAY)


def test_a_compacted_day_is_one_file_and_reads_as_before(home: Home) -> None:
    fill(home.zone)
    before = seen(home.zone.root)
    assert len(before["snapshots"]) == 3
    assert all(before["found"])
    files = sum(path.is_file() for path in directory(home).rglob("*"))
    compaction = compact(home.zone, DAY + timedelta(days=1))
    assert [(one.account_id, one.trade_date, one.files) for one in compaction.days] == [(ACCOUNT, DAY, files)]
    assert {path.name for path in directory(home).parent.iterdir()} == {
        *(".lock", "chain", ".chain.lock"),
        f"{DAY}.zip",
    }
    assert seen(home.zone.root) == before
    assert home.zone.find(SnapshotId(ACCOUNT, NOON + 9 * MINUTE)) is None
    assert compact(home.zone, DAY + timedelta(days=1)).days == ()


def test_a_day_that_is_not_closed_stays_as_it_is(home: Home) -> None:
    land(home.zone)
    assert compact(home.zone, DAY).days == ()
    assert directory(home).is_dir()
    assert not archive(home).exists()


def test_a_warehouse_is_proven_and_rebuilt_from_archives(home: Home, simulated: Simulated) -> None:
    for _ in range(2):
        take(home, simulated.broker)
    before = stored(home.warehouse.path)
    assert len(compact(home.zone, date.max).days) == 1
    results = list(reverify(load_settings(), [], everything=True))
    assert [outcome.passed for result in results for outcome in result.outcomes if outcome.blocks] == []
    assert len(results) == 2
    home.warehouse.path.unlink()
    assert rebuild(home.warehouse, home.zone, lambda _: None).refused == {}
    assert stored(home.warehouse.path) == before


def test_what_is_filed_late_is_read_at_once_and_joins_the_archive_the_next_time(home: Home) -> None:
    unpriced = land(home.zone)
    miss(home.zone, NOON + MINUTE, "first")
    compact(home.zone, date.max)
    price(home.zone, LandedSnapshot(unpriced.snapshot_id, unpriced.directory))
    fail(home.zone, NOON + 2 * MINUTE)
    miss(home.zone, NOON + MINUTE, "second")
    miss(home.zone, NOON + 3 * MINUTE, "third")
    late = seen(home.zone.root)
    assert [one[3] for one in late["snapshots"]] == [[(BODY,), (b"{}",)]]
    assert len(late["failures"]) == 1
    assert [record.reason for record in late["missed"]] == ["first", "third"]
    assert [one.files for one in compact(home.zone, date.max).days] == [5]
    assert not directory(home).exists()
    assert seen(home.zone.root) == late


def test_what_is_filed_while_a_day_is_compacted_stays(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(home.zone)
    remove = compaction._remove

    def file_meanwhile(files: Collection[Path], directories: Collection[Path]) -> None:
        miss(home.zone, NOON + 5 * MINUTE)  # takes no lock of the account
        remove(files, directories)

    monkeypatch.setattr(compaction, "_remove", file_meanwhile)
    compact(home.zone, date.max)
    assert len(list(home.zone.missed(ACCOUNT))) == 2
    assert len(list(home.zone.snapshots())) == 3
    compact(home.zone, date.max)
    assert len(list(home.zone.missed(ACCOUNT))) == 2
    assert not directory(home).exists()


def test_a_reader_that_began_before_the_compaction_reads_on(home: Home) -> None:
    fill(home.zone)
    begun = list(home.zone.snapshots())
    compact(home.zone, date.max)
    assert [one.bodies("positions") for one in begun] == [(BODY,)] * 3


def test_a_file_that_is_compacted_while_it_is_looked_for_is_read(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    landed = land(home.zone)
    read_bytes = Path.read_bytes

    def overtaken(path: Path) -> bytes:
        monkeypatch.setattr(Path, "read_bytes", read_bytes)
        compact(home.zone, date.max)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", overtaken)
    assert landed.read("positions.json") == BODY


def test_an_archive_and_a_directory_that_disagree_both_stay_and_hold_up_no_other_day(home: Home) -> None:
    landed = land(home.zone)
    land(home.zone, NOON + timedelta(days=1))
    with zipfile.ZipFile(archive(home), "w") as other:
        other.writestr(f"{landed.directory.name}/positions.json", b"{}")
    compaction = compact(home.zone, date.max)
    assert [one.trade_date for one in compaction.days] == [DAY + timedelta(days=1)]
    assert list(compaction.refused) == [f"{ACCOUNT}/{DAY}"]
    assert "is not what" in compaction.refused[f"{ACCOUNT}/{DAY}"]
    assert (landed.directory / "positions.json").read_bytes() == BODY
    with pytest.raises(LandingError, match="sha256 differs"):  # the archive wins
        landed.bodies("positions")


def test_a_busy_account_is_left_for_the_next_time(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "LOCK_TIMEOUT_S", 0.0)
    land(home.zone)
    land(home.zone, account_id="VA99999999")
    with home.zone.locked(ACCOUNT):
        compaction = compact(home.zone, date.max)
    assert [one.account_id for one in compaction.days] == ["VA99999999"]
    assert f"is being read by process {os.getpid()}" in compaction.refused[f"{ACCOUNT}/{DAY}"]
    assert directory(home).is_dir()


def test_an_archive_that_is_not_proven_never_gets_its_name(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(home.zone)
    before = seen(home.zone.root)
    monkeypatch.setattr(day.Archive, "read", lambda *_: b"rot")
    compaction = compact(home.zone, date.max)
    monkeypatch.undo()
    assert "as it was landed" in compaction.refused[f"{ACCOUNT}/{DAY}"]
    assert {path.name for path in directory(home).parent.iterdir()} == {".lock", ".chain.lock", "chain", str(DAY)}
    assert seen(home.zone.root) == before


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_archive_is_told_in_one_line(home: Home, damage: str) -> None:
    fill(home.zone)
    compact(home.zone, date.max)
    body = bytearray(archive(home).read_bytes())
    if damage == "cut":
        archive(home).write_bytes(body[: len(body) // 2])
    else:
        for place in range(60, len(body) // 2):
            body[place] ^= 0xFF
        archive(home).write_bytes(body)
    reported = [one.reason for one in home.zone.damaged() if f"{DAY}.zip" in one.reason]
    assert reported
    assert all("Restore it from a backup" in line and "\n" not in line for line in reported)


class Killed:
    """A zone of one day, and one of a day that is an archive already and got more: killed anywhere, they stay whole."""

    def __init__(self, root: Path, children: Nursery) -> None:
        self.root, self.children = root, children
        self.plain, self.merging = root / "plain", root / "merging"
        fill(LandingZone(self.plain / "raw"))
        fill(LandingZone(self.merging / "raw"))
        compact(LandingZone(self.merging / "raw"), date.max)
        price(LandingZone(self.merging / "raw"), next(LandingZone(self.merging / "raw").snapshots()))
        fail(LandingZone(self.merging / "raw"), NOON + 6 * MINUTE)

    def at(self, variant: int, nth: int) -> None:
        for template in (self.plain, self.merging):
            home = self.root / "home"
            shutil.rmtree(home, ignore_errors=True)
            shutil.copytree(template, home)
            wanted = seen(home / "raw")
            job = Job(home=str(home), work="compact", point=str(nth), variant=variant)
            end = self.children.run(job)
            where = f"{template.name}: {compaction_points(nth)[variant].name}: {end}"
            assert end.signal == signal.SIGKILL, where
            assert seen(home / "raw") == wanted, where
            FileLock(home / "raw" / ACCOUNT / ".lock").acquire(timeout=0).lock.release()
            assert self.children.run(Job(home=str(home), work="compact")).code == 0, where
            assert seen(home / "raw") == wanted, where
            assert {path.name for path in (home / "raw" / ACCOUNT).iterdir()} == {
                *(".lock", "chain", ".chain.lock"),
                f"{DAY}.zip",
            }, where
            assert leftovers(home) == [], where


@pytest.mark.parametrize("variant", range(len(compaction_points(1))))
def test_a_compaction_killed_at_any_point_loses_nothing_and_the_next_one_finishes(
    variant: int, tmp_path: Path, children: Nursery
) -> None:
    Killed(tmp_path, children).at(variant, nth=3)


@pytest.mark.soak
@pytest.mark.parametrize("variant", range(len(compaction_points(1))))
def test_a_compaction_killed_at_every_file(variant: int, tmp_path: Path, children: Nursery) -> None:
    killed = Killed(tmp_path, children)
    for nth in (1, 2, 3, 4):  # as many as both zones have
        killed.at(variant, nth)
