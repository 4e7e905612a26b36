"""What lies damaged or foreign in the landing zone never stops what comes: it is passed over, and named."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tradier_pipeline import clock
from tradier_pipeline.cli import main
from tradier_pipeline.core.errors import ExtractError
from tradier_pipeline.core.settings import DEMO_ACCOUNT, load_settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.extract.connection import Broker
from tradier_pipeline.extract.snapshot import extract_quotes, extract_snapshot
from tradier_pipeline.landing.compaction import compact
from tradier_pipeline.landing.errors import LandingError
from tradier_pipeline.landing.manifest import FailureRecord
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.monitoring.status import read_status
from tradier_pipeline.publish.store import rebuild
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.simulator.world import ROUND_THE_CLOCK
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline.warehouse.schema import MISSED_SNAPSHOTS
from tradier_pipeline_tests.conftest import Home, Simulated, miscount, take
from tradier_pipeline_tests.support.sampling import sampled

pytestmark = pytest.mark.usefixtures("without_days")

UNPROVEN = pytest.mark.usefixtures("without_proof")

NOW = clock.now


@pytest.fixture(scope="module")
def simulated() -> Iterator[Simulated]:
    with embedded_simulator(None, limits=None, calendar=ROUND_THE_CLOCK) as url:
        yield Simulated(url)


def rewrite(landed: LandedSnapshot, resource: str, body: bytes) -> None:
    """As if the broker had answered so: digest and length are right."""
    manifest = landed.directory / "manifest.json"
    record = json.loads(manifest.read_bytes())
    (page, *_) = record["resources"][resource]
    page |= {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    (landed.directory / page["file"]).write_bytes(body)
    manifest.write_text(json.dumps(record))


def listed(*orders: dict[str, Any]) -> bytes:
    return json.dumps({"orders": {"order": list(orders)}}).encode()


def cut(path: Path) -> Path:
    body = path.read_bytes()
    path.write_bytes(body[: len(body) // 2])
    return path


def replaced(path: Path, body: bytes) -> Path:
    path.write_bytes(body)
    return path


def directory_instead(path: Path) -> Path:
    path.unlink()
    path.mkdir()
    return path


def pipe_instead(path: Path) -> Path:
    path.unlink()
    os.mkfifo(path)
    return path


def removed(path: Path) -> Path:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return path


def made(path: Path, body: bytes | None = None) -> Path:
    """A file, or a directory with one in it."""
    (path.parent if body is not None else path).mkdir(parents=True, exist_ok=True)
    (path if body is not None else path / "inside.txt").write_bytes(body or b"")
    return path


def copied(path: Path, name: str) -> Path:
    return Path(shutil.copytree(path, path.with_name(name)))


def another_id(landed: LandedSnapshot, earlier: int = 1) -> str:
    before = landed.snapshot_id.instant - timedelta(milliseconds=earlier)
    return SnapshotId(DEMO_ACCOUNT, before.replace(microsecond=before.microsecond // 1000 * 1000)).file_name


FILES = ("account.json", "balances.json", "positions.json", "orders.json", "manifest.json", "quotes.manifest.json")
KINDS: dict[str, Callable[[Path], Path]] = {
    "cut": cut,
    "garbage": lambda path: replaced(path, b"\x00\xff garbage"),
    "another document": lambda path: replaced(path, b"[1, {}]"),
    "missing": removed,
    "a directory": directory_instead,
    "a pipe": pipe_instead,
}
DAMAGE: dict[str, Callable[[LandedSnapshot], Path]] = {
    **{
        f"{file}, {kind}": lambda landed, file=file, damage=damage: damage(landed.directory / file)  # type: ignore[misc]
        for file in FILES
        for kind, damage in KINDS.items()
        if (file, kind) != ("quotes.manifest.json", "missing")  # the same as not read yet
    },
    "a manifest without pages": lambda landed: replaced(
        landed.directory / "manifest.json",
        landed.manifest.model_copy(update={"resources": {}}).model_dump_json().encode(),
    ),
    "the manifest of another": lambda landed: copied(landed.directory, another_id(landed)),
    "a copy in the day": lambda landed: copied(landed.directory, f"Copy of {landed.directory.name}"),
    "a copy with a suffix": lambda landed: copied(landed.directory, f"{landed.directory.name} 2"),
    "another account in the day": lambda landed: copied(
        landed.directory, landed.directory.name.replace(DEMO_ACCOUNT, "VA00000009")
    ),
    "another day in the day": lambda landed: copied(landed.directory, f"{DEMO_ACCOUNT}@2026-01-05T15-00-00Z"),
    "an instant that is none": lambda landed: copied(landed.directory, f"{DEMO_ACCOUNT}@2026-13-45T15-00-00Z"),
    "a file named as a snapshot": lambda landed: made(landed.directory.with_name(another_id(landed, 2)), b"text"),
    "a file in the day": lambda landed: made(landed.directory.parent / "notes.txt", b"text"),
    "what a file manager leaves": lambda landed: made(landed.directory.parent / ".DS_Store", b"\x00"),
    "a failed attempt that is a file": lambda landed: made(
        landed.directory.with_name(f"{landed.directory.name}.failed-2026-01-05T15-00-00Z"), b""
    ),
    "a failed attempt without its record": lambda landed: made(
        landed.directory.with_name(f"{landed.directory.name}.failed-2026-01-05T15-01-00Z")
    ),
    "a missed instant that is garbage": lambda landed: made(
        landed.directory.with_name(f"{another_id(landed, 3)}.missed.json"), b"[]"
    ),
    "a missed instant that is a directory": lambda landed: made(
        landed.directory.with_name(f"{another_id(landed, 4)}.missed.json")
    ),
    "a day that is none": lambda landed: made(landed.directory.parents[1] / "2026-13-45"),
    "a day that is a file": lambda landed: made(landed.directory.parents[1] / "2026-01-07", b"text"),
    "a copy of a day": lambda landed: copied(landed.directory.parent, f"Copy of {landed.directory.parent.name}"),
    "an archive that is none": lambda landed: made(landed.directory.parents[1] / "2026-01-05.zip", b"PK\x03\x04"),
    "an archive that is a directory": lambda landed: made(landed.directory.parents[1] / "2026-01-06.zip"),
    "an archive of no day": lambda landed: made(landed.directory.parents[1] / "2026-13-45.zip", b"PK"),
    "an archive of this day": lambda landed: made(landed.directory.parent.with_suffix(".zip"), b"PK\x03\x04"),
    "a file beside the days": lambda landed: made(landed.directory.parents[1] / "notes.txt", b"text"),
    "a file beside the accounts": lambda landed: made(landed.directory.parents[2] / ".DS_Store", b"text"),
    "a directory beside the accounts": lambda landed: copied(landed.directory.parents[1], f"Copy of {DEMO_ACCOUNT}"),
}


def published(home: Home) -> dict[str, str]:
    with connect_readonly(home.warehouse.path) as connection:
        return dict(connection.execute("SELECT snapshot_id, verdict FROM tradier_snapshots").fetchall())


# Each takes another path: other bytes than landed, a document of another form, none, what cannot be read.
SINGLE = (
    *("account.json, cut", "positions.json, missing", "positions.json, a pipe", "orders.json, a directory"),
    *(f"manifest.json, {kind}" for kind in ("cut", "another document", "missing", "a directory", "a pipe")),
    *(f"quotes.manifest.json, {kind}" for kind in ("garbage", "another document", "a directory")),
    *("a manifest without pages", "an archive of this day"),
)
NEWEST = ("manifest.json, missing", "an archive of this day")
OF_A_FILE = tuple(kind for kind in DAMAGE if kind.partition(", ")[0] in FILES)
STRANGERS = tuple(kind for kind in DAMAGE if kind not in (*OF_A_FILE, *SINGLE))


@pytest.fixture(scope="module")
def two_landed(simulated: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("two") / "home")
    for _ in range(2):
        take(home, simulated.broker)
    return home


def costs_no_other_snapshot(home: Home, simulated: Simulated, two_landed: Home, kinds: Sequence[str]) -> None:
    """Damage the newer of two, or lay something beside it, and take another; then from the landed bytes alone."""
    shutil.copytree(two_landed.path, home.path)
    older, good = home.zone.snapshots()
    paths = [DAMAGE[kind](good) for kind in kinds]
    following, _ = take(home, simulated.broker)
    kept = {str(landed.snapshot_id) for landed in (older, following)}
    assert published(home).keys() == kept | {str(good.snapshot_id)}
    damaged = [one.path for one in read_status(load_settings()).damaged]
    named = {path: [name for name in damaged if str(path).startswith(name)] for path in paths}
    assert [path for path, names in named.items() if not names] == []
    rebuilt = rebuild(home.warehouse, home.zone, lambda _: None)
    assert published(home).keys() >= kept
    for path, names in named.items():
        known = (Path(names[0]).name, path.name, str(good.snapshot_id))
        assert [reason for reason in rebuilt.refused.values() if any(name in reason for name in known)], path


@sampled("kind", list(DAMAGE), kept=[place for place, kind in enumerate(DAMAGE) if kind in NEWEST])
def test_damage_is_named_and_costs_no_other_snapshot(
    kind: str, home: Home, simulated: Simulated, two_landed: Home
) -> None:
    costs_no_other_snapshot(home, simulated, two_landed, [kind])


def landed_only(home: Home, broker: Broker) -> LandedSnapshot:
    landed = extract_snapshot(home.zone, broker, SnapshotId.now(DEMO_ACCOUNT), "test")
    extract_quotes(home.zone, broker, landed)
    return landed


def test_damages_of_many_snapshots_are_each_named_and_cost_no_other(home: Home, simulated: Simulated) -> None:
    of_one = [kind for kind in SINGLE if kind not in NEWEST]
    landed = [landed_only(home, simulated.broker) for _ in of_one]
    whole = str(take(home, simulated.broker)[0].snapshot_id)
    paths = {DAMAGE[kind](one): str(one.snapshot_id) for kind, one in zip(of_one, landed, strict=True)}
    damaged = [one.path for one in read_status(load_settings()).damaged]
    assert [path for path in paths if not any(str(path).startswith(name) for name in damaged)] == []
    rebuilt = rebuild(home.warehouse, home.zone, lambda _: None)
    assert whole in published(home)
    refused = [f"{name} {reason}" for name, reason in rebuilt.refused.items()]
    assert [path for path, snapshot_id in paths.items() if not any(snapshot_id in one for one in refused)] == []


def test_each_of_many_strangers_is_named_and_they_cost_no_snapshot(
    home: Home, simulated: Simulated, two_landed: Home
) -> None:
    costs_no_other_snapshot(home, simulated, two_landed, STRANGERS)


ODD_ORDERS: tuple[dict[str, Any], ...] = (
    {"id": "228175", "status": "open"},  # a text, but a number
    {"id": "../../x", "status": "open"},
    {"id": None, "status": "open"},
    {"id": [1], "status": "open"},
    {"id": 1.5, "status": "open"},
    {"status": "open"},
    {"id": 228175},
)


@UNPROVEN
@pytest.mark.parametrize("place", ["listed", "read by its id"])
def test_orders_of_odd_forms_in_the_newest_snapshot_cost_no_other(
    place: str, home: Home, simulated: Simulated, good: LandedSnapshot
) -> None:
    if place == "listed":
        rewrite(good, "orders", listed({"id": 5, "status": "open"}, *ODD_ORDERS))
    else:
        manifest = good.directory / "manifest.json"
        record = json.loads(manifest.read_bytes())
        (page, *_) = record["resources"]["orders"]
        bodies = {f"order.{place}.json": json.dumps({"order": one}).encode() for place, one in enumerate(ODD_ORDERS, 1)}
        for file, body in bodies.items():
            (good.directory / file).write_bytes(body)
        record["resources"]["order"] = [
            page | {"file": file, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
            for file, body in bodies.items()
        ]
        manifest.write_text(json.dumps(record))
        rewrite(good, "orders", listed({"id": 5, "status": "open"}))
    landed, _ = take(home, simulated.broker)
    assert {lookup.order_id for lookup in landed.manifest.lookups} == {5, 228175}
    assert published(home)[str(landed.snapshot_id)] == "good"


@UNPROVEN
def test_orders_are_followed_from_the_newest_snapshot_that_can_be_read(
    home: Home, simulated: Simulated, good: LandedSnapshot
) -> None:
    rewrite(good, "orders", listed({"id": 5, "status": "open"}))
    second, _ = take(home, simulated.broker)
    cut(second.directory / "orders.json")
    third, _ = take(home, simulated.broker)
    assert [lookup.order_id for lookup in third.manifest.lookups] == [5]


@UNPROVEN
@pytest.mark.parametrize("damage", [directory_instead, pipe_instead])
def test_what_is_no_file_in_the_place_of_a_chain_costs_no_snapshot(
    damage: Callable[[Path], Path], home: Home, simulated: Simulated, good: LandedSnapshot
) -> None:
    chain = damage(good.directory.parents[1] / "chain")
    landed, _ = take(home, simulated.broker)
    assert published(home).keys() == {str(good.snapshot_id), str(landed.snapshot_id)}
    (reported,) = read_status(load_settings()).damaged
    assert reported.path.startswith(f"{chain}.damaged-")
    assert chain.read_text().count("\n") == 4  # the manifest and the quotes of each


@UNPROVEN
@pytest.mark.parametrize("damage", [removed, lambda path: cut(path / "manifest.json")], ids=["removed", "cut"])
@sampled("failures", [1, 2], kept=[1])
def test_a_failed_attempt_that_is_gone_or_damaged_later_blocks_nothing(
    damage: Callable[[Path], Path], failures: int, home: Home, simulated: Simulated, good: LandedSnapshot
) -> None:
    failed_id = SnapshotId(DEMO_ACCOUNT, good.snapshot_id.instant - timedelta(seconds=30))
    paths = []
    for place in range(failures):
        at = good.manifest.as_of - timedelta(minutes=5 - place)
        record = FailureRecord(
            snapshot_id=str(failed_id),
            environment="simulator",
            trigger="test",
            failed_at=at,
            errors={"orders": "orders: HTTP 503"},
            resources={},
        )
        paths.append(home.zone.land_failed(record, {}))
    take(home, simulated.broker)
    damage(paths[-1])
    for _ in range(2):
        landed, _ = take(home, simulated.broker)
    assert str(landed.snapshot_id) in published(home)


def test_a_damaged_archive_stops_neither_the_others_nor_a_rebuild(
    home: Home, simulated: Simulated, good: LandedSnapshot
) -> None:
    compact(home.zone, good.snapshot_id.trade_date + timedelta(days=1))
    archive = cut(good.day.archive_path)
    landed, _ = take(home, simulated.broker)
    assert str(archive) in [one.path for one in read_status(load_settings()).damaged]
    rebuilt = rebuild(home.warehouse, home.zone, lambda _: None)
    assert published(home).keys() == {str(good.snapshot_id), str(landed.snapshot_id)}
    assert str(archive) in rebuilt.refused
    assert rebuilt.kept_rows == 1
    assert rebuild(home.warehouse, home.zone, lambda _: None, forget=True).kept_rows == 0
    assert published(home).keys() == {str(landed.snapshot_id)}


def test_a_rebuild_that_would_lack_a_published_snapshot_leaves_the_old_file(
    home: Home, simulated: Simulated, good: LandedSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes are whole; it is our code that would store something else by now."""
    take(home, simulated.broker)
    before = home.warehouse.path.read_bytes()
    miscount(monkeypatch)
    with pytest.raises(LandingError, match="the old warehouse stays, the new one would lack 2 of its snapshots"):
        rebuild(home.warehouse, home.zone, lambda _: None)
    assert home.warehouse.path.read_bytes() == before
    assert rebuild(home.warehouse, home.zone, lambda _: None, forget=True).published == 0


def test_damage_is_named_on_the_command_line(home: Home, simulated: Simulated, good: LandedSnapshot) -> None:
    environment = {"TRADIER_BASE_URL": simulated.url}

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(main, arguments, prog_name="tradier-pipeline", env=environment)
        assert result.exit_code == 0, (result.stdout, result.stderr)
        return result.stdout

    path = cut(good.directory / "orders.json")
    copied(good.directory, "Copy of it")
    run("snapshot")
    assert "Copy of it" in run("status")
    found = json.loads(run("status", "--json"))["damaged"]
    assert [Path(one["path"]).name for one in found] == ["Copy of it", good.directory.name]
    assert str(path) in found[1]["reason"]
    assert "orders.json is not what was landed" in run("rebuild")


# ---------------------------------------------------------------- the clock


def test_the_clock_is_held_against_the_brokers(good: LandedSnapshot) -> None:
    assert good.manifest.clock_skew_s is not None
    assert -1 < good.manifest.clock_skew_s < 5


def test_a_clock_that_was_ahead_costs_one_doubt_and_no_snapshot(
    home: Home, simulated: Simulated, good: LandedSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(clock, "now", lambda: NOW() + timedelta(minutes=10))
        wrong, outcomes = take(home, simulated.broker)
    assert [one.check for one in outcomes if not one.passed and one.check == "clock_agrees"]
    assert wrong.manifest.clock_skew_s is not None
    assert 599 < wrong.manifest.clock_skew_s < 605
    right, _ = take(home, simulated.broker)
    assert right.manifest.previous_as_of == good.manifest.as_of
    expected = {str(good.snapshot_id): "good", str(wrong.snapshot_id): "doubtful", str(right.snapshot_id): "good"}
    assert published(home) == expected
    with connect_readonly(home.warehouse.path) as connection:
        shown = connection.execute("SELECT DISTINCT snapshot_id FROM portfolio_positions").fetchall()
    assert shown == [(str(right.snapshot_id),)]
    assert rebuild(home.warehouse, home.zone, lambda _: None).refused == {}
    assert published(home) == expected


@sampled("back", [timedelta(minutes=10), timedelta(hours=3)])
def test_a_clock_that_was_set_back_costs_one_doubt_and_no_snapshot(
    home: Home, simulated: Simulated, good: LandedSnapshot, monkeypatch: pytest.MonkeyPatch, back: timedelta
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(clock, "now", lambda: NOW() - back)
        wrong, _ = take(home, simulated.broker)
    right, _ = take(home, simulated.broker)
    assert right.manifest.previous_as_of == good.manifest.as_of
    expected = {str(wrong.snapshot_id): "doubtful", str(good.snapshot_id): "good", str(right.snapshot_id): "good"}
    assert published(home) == expected
    with connect_readonly(home.warehouse.path) as connection:
        assert connection.execute("SELECT count(*) FROM findings").fetchone() == (0,)
    assert rebuild(home.warehouse, home.zone, lambda _: None).refused == {}
    assert published(home) == expected


def test_an_order_of_time_that_the_broker_cannot_settle_is_refused(
    home: Home, simulated: Simulated, good: LandedSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two days: what is so far off is no drift but a time that was set, or an answer of another day."""
    monkeypatch.setattr(clock, "now", lambda: NOW() - timedelta(days=2, minutes=7))
    with pytest.raises(ExtractError, match="is landed already"):
        take(home, simulated.broker)
    assert [landed.snapshot_id for landed in home.zone.snapshots()] == [good.snapshot_id]


def test_a_small_difference_of_the_clocks_is_a_warning(
    home: Home, simulated: Simulated, good: LandedSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW() + timedelta(seconds=8))
    landed, outcomes = take(home, simulated.broker)
    assert not {one.check: one.passed for one in outcomes}["clock_agrees"]
    assert published(home)[str(landed.snapshot_id)] == "good"


# ---------------------------------------------------------------- refused in the past


def test_what_was_refused_for_its_content_is_published_by_a_rebuild(
    home: Home, simulated: Simulated, good: LandedSnapshot
) -> None:
    """Flat without a cause kept a snapshot out in earlier versions."""
    second, _ = take(home, simulated.broker)
    rewrite(second, "positions", b'{"positions":"null"}')
    with home.warehouse.staged() as staged:
        row = {
            "snapshot_id": str(second.snapshot_id),
            "account_id": DEMO_ACCOUNT,
            "trade_date": second.snapshot_id.trade_date,
            "requested_at": second.snapshot_id.instant,
            "kind": "refused",
            "trigger": "test",
            "reason": "the check flat_is_explained failed",
            "missed_at": second.manifest.as_of_end,
            "recorded_at": second.manifest.as_of_end,
            "path": home.zone.relative(second.directory),
        }
        staged.refuse(row)
    assert published(home).keys() == {str(good.snapshot_id)}
    assert rebuild(home.warehouse, home.zone, lambda _: None).refused == {}
    assert published(home) == {str(good.snapshot_id): "good", str(second.snapshot_id): "doubtful"}
    with connect_readonly(home.warehouse.path) as connection:
        assert connection.execute(f"SELECT count(*) FROM {MISSED_SNAPSHOTS.name}").fetchone() == (0,)
