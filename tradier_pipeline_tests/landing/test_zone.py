"""The landing zone: whole or absent, filed once, proven to be what was received."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest

from tradier_pipeline.core.files import BusyError, LandingError, exclusive
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.landing import zone as landing
from tradier_pipeline.landing.manifest import FailureRecord, Manifest, MissedRecord
from tradier_pipeline.landing.zone import LandedSnapshot, LandingZone
from tradier_pipeline_tests.conftest import Home

NOON = datetime(2026, 11, 20, 17, 0, tzinfo=UTC)
MISSED = MissedRecord(snapshot_id="", trigger="test", recorded_at=NOON, reason="first")


def _id(instant: datetime = NOON) -> SnapshotId:
    return SnapshotId("VA12345678", instant)


def _manifest(snapshot_id: SnapshotId) -> Manifest:
    return Manifest(
        snapshot_id=str(snapshot_id),
        account_id=snapshot_id.account_id,
        environment="sandbox",
        trigger="test",
        requested_at=snapshot_id.instant,
        previous_as_of=None,
        code_version="1",
        as_of=snapshot_id.instant,
        as_of_end=snapshot_id.instant,
        resources={},
    )


def _land(zone: LandingZone, instant: datetime = NOON) -> LandedSnapshot:
    with zone.locked("VA12345678"):
        return zone.land(_manifest(_id(instant)), {"positions.json": b'{"positions":"null"}'})


def _fail(zone: LandingZone, instant: datetime) -> None:
    failure = FailureRecord(
        snapshot_id=str(_id(instant)),
        environment="sandbox",
        trigger="test",
        failed_at=instant + timedelta(seconds=1),
        errors={"orders": "HTTP 503"},
        resources={},
    )
    with zone.locked("VA12345678"):
        zone.land_failed(failure, {"orders.json": b"<html>"})


def test_a_failed_read_never_counts_as_landed(home: Home) -> None:
    _land(home.zone)
    later = NOON + timedelta(minutes=1)
    _fail(home.zone, later)
    assert [landed.snapshot_id for landed in home.zone.snapshots()] == [_id()]
    newest = home.zone.newest("VA12345678")
    assert newest is not None
    assert newest.snapshot_id == _id()
    assert home.zone.find(_id(later)) is None
    assert [failure.errors for failure in home.zone.failures("VA12345678")] == [{"orders": "HTTP 503"}]


def test_a_day_of_failures_hides_no_earlier_day(home: Home) -> None:
    _land(home.zone)
    _fail(home.zone, NOON + timedelta(days=1))
    newest = home.zone.newest("VA12345678")
    assert newest is not None
    assert newest.snapshot_id == _id()


def test_milliseconds_come_after_their_second(home: Home) -> None:
    instants = [NOON, NOON + timedelta(milliseconds=250), NOON + timedelta(seconds=1)]
    for number, instant in enumerate(instants):
        _land(home.zone, instant)
        newest = home.zone.newest("VA12345678")
        assert newest is not None
        assert newest.snapshot_id.instant == instant
        assert [landed.snapshot_id.instant for landed in home.zone.snapshots()] == instants[: number + 1]


def test_what_is_landed_is_never_overwritten(home: Home) -> None:
    landed = _land(home.zone)
    before = {path.name: path.read_bytes() for path in landed.directory.iterdir()}
    with home.zone.locked("VA12345678"), pytest.raises(LandingError, match="cannot write"):
        home.zone.land(_manifest(_id()), {"positions.json": b"{}", "orders.json": b"{}"})
    assert {path.name: path.read_bytes() for path in landed.directory.iterdir()} == before


def test_the_next_landing_removes_what_a_dead_process_left(home: Home) -> None:
    landed = _land(home.zone)
    leftover = landed.directory.with_name(f".{landed.directory.name}.abc.tmp")
    leftover.mkdir()
    (leftover / "orders.json").write_bytes(b"{")
    _land(home.zone, NOON + timedelta(minutes=1))
    assert not leftover.exists()


def test_the_first_note_of_a_missed_instant_stays(home: Home) -> None:
    missed = MISSED.model_copy(update={"snapshot_id": str(_id())})
    home.zone.record_missed(missed)
    home.zone.record_missed(missed.model_copy(update={"reason": "second"}))
    assert [record.reason for record in home.zone.missed("VA12345678")] == ["first"]


def test_a_busy_account_names_its_holder_and_is_free_afterwards(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "LOCK_TIMEOUT_S", 0.0)
    with home.zone.locked("VA12345678"):
        with pytest.raises(BusyError, match=f"account VA12345678 is being read by process {os.getpid()}"):
            home.zone.locked("VA12345678").__enter__()
        with home.zone.locked("VA99999999"):
            pass
    with home.zone.locked("VA12345678"):
        pass


def test_a_lock_that_cannot_be_written_is_told_in_one_line(home: Home) -> None:
    home.path.write_text("a file")
    with (
        pytest.raises(LandingError, match=r"^cannot write .*lock: .* TRADIER_PIPELINE_HOME"),
        exclusive(home.path / "lock", 0, "it is being read"),
    ):
        pass


def test_failures_are_told_in_the_order_they_happened(home: Home) -> None:
    instants = [NOON, NOON + timedelta(milliseconds=250), NOON + timedelta(seconds=1)]
    for instant in instants:
        _fail(home.zone, instant)
    reported = [failure.snapshot_id for failure in home.zone.failures("VA12345678")]
    assert reported == [str(_id(instant)) for instant in instants]


@pytest.mark.parametrize("text", ["", "{", '{"snapshot_id": 1}', "[]", "null"])
def test_a_damaged_manifest_names_its_file(home: Home, text: str) -> None:
    landed = _land(home.zone)
    (landed.directory / "manifest.json").write_text(text)
    found = home.zone.find(_id())
    assert found is not None
    with pytest.raises(LandingError, match=r"manifest.json is not a manifest"):
        _ = found.manifest
