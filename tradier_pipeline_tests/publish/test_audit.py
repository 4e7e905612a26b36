"""An audit names whatever is not as it was filed, with its place, and nothing else."""

from __future__ import annotations

import json
import random
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tradier_pipeline.core.settings import DEMO_ACCOUNT, load_settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.landing.audit import audit_landing, walk
from tradier_pipeline.landing.chained import chain_of
from tradier_pipeline.landing.compaction import compact
from tradier_pipeline.landing.manifest import MissedRecord
from tradier_pipeline.landing.zone import QUOTES_MANIFEST
from tradier_pipeline.publish.audit import audit
from tradier_pipeline.publish.store import rebuild
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.warehouse.chain_heads import noted_heads
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import ROUND_THE_CLOCK, Home, Simulated, take
from tradier_pipeline_tests.support.command_line import run
from tradier_pipeline_tests.support.sampling import sampled
from tradier_pipeline_tests.support.scripted_server import Answer, answer, reset, serving

SEED = 18
LOCKS = (".lock", ".chain.lock")


@pytest.fixture(scope="module")
def simulated() -> Iterator[Simulated]:
    with embedded_simulator(None, limits=None, calendar=ROUND_THE_CLOCK) as url:
        yield Simulated(url)


@pytest.fixture(scope="module")
def filled(simulated: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Three snapshots with quotes, a missed minute; two of the snapshots in an archive that a third was added to."""
    home = Home(tmp_path_factory.mktemp("filled") / "home")
    take(home, simulated.broker)
    take(home, simulated.broker)
    compact(home.zone, date.max)
    landed, _ = take(home, simulated.broker)
    missed = SnapshotId(DEMO_ACCOUNT, landed.snapshot_id.instant + timedelta(milliseconds=1))
    at = landed.manifest.as_of
    home.zone.record_missed(MissedRecord(snapshot_id=str(missed), trigger="test", recorded_at=at, reason="late"))
    return home


@pytest.fixture
def held(home: Home, filled: Home) -> Home:
    shutil.copytree(filled.path, home.path)
    return home


def places(*, rows: bool = True) -> list[str]:
    return [damage.path for damage in audit(load_settings(), rows=rows).wrong]


def chain_lines(home: Home) -> list[str]:
    return chain_of(home.zone.root / DEMO_ACCOUNT).lines()


def files(root: Path) -> list[Path]:
    return [path for path in sorted(root.rglob("*")) if path.is_file() and path.name not in LOCKS]


def change_a_byte(path: Path, place: int, by: int) -> None:
    body = bytearray(path.read_bytes())
    body[place] = (body[place] + by) % 256
    path.chmod(0o644)
    path.write_bytes(body)


@contextmanager
def restored(path: Path) -> Iterator[None]:
    kept, mode = path.read_bytes(), path.stat().st_mode
    try:
        yield
    finally:
        path.chmod(0o644)
        path.write_bytes(kept)
        path.chmod(mode)


def test_a_home_that_nobody_touched_is_as_filed(held: Home) -> None:
    result = run("audit")
    assert result.exit_code == 0, result.output
    assert "all as filed" in result.stdout
    document = json.loads(run("audit", "--json").stdout)
    assert document["ok"]
    assert document["wrong"] == []
    assert document["snapshots"] == 3
    (chain,) = (one for one in document["chains"] if one["chain"] == DEMO_ACCOUNT)
    assert (
        chain["entries"] == len(chain_lines(held)) - 1 == 8
    )  # three snapshots, their quotes, an archive, a missed one
    with connect_readonly(held.warehouse.path) as connection:
        ((name, _, head),) = noted_heads(connection)
    assert name == DEMO_ACCOUNT
    assert head.number == 7


def test_what_was_removed_inserted_or_swapped_is_named(held: Home) -> None:
    day = next(path for path in (held.zone.root / DEMO_ACCOUNT).iterdir() if path.is_dir())
    snapshot = next(path for path in day.iterdir() if path.is_dir())
    (snapshot / "orders.json").rename(snapshot / "kept")
    (snapshot / "balances.json").rename(snapshot / "orders.json")
    (snapshot / "kept").rename(snapshot / "balances.json")
    (snapshot / "positions.json").unlink()
    (snapshot / "more.json").write_text("{}")
    shutil.copytree(snapshot, day / f"{snapshot.name[:-3]}01Z")
    found = "\n".join(places(rows=False))
    for name in ("orders.json", "balances.json", "positions.json", "more.json"):
        assert str(snapshot / name) in found
    assert f"{snapshot.name[:-3]}01Z/manifest.json" in found


@pytest.mark.parametrize("how", ["changed", "removed", "inserted", "reordered", "cut"])
def test_a_chain_that_was_written_over_is_named(held: Home, how: str) -> None:
    path = held.zone.root / DEMO_ACCOUNT / "chain"
    lines = path.read_text().splitlines(keepends=True)
    match how:
        case "changed":
            lines[2] = lines[2].replace(" filed ", " found ")
        case "removed":
            del lines[2]
        case "inserted":
            lines.insert(2, lines[1])
        case "reordered":
            lines[2], lines[3] = lines[3], lines[2]
        case "cut":
            del lines[-3:]
    path.write_text("".join(lines))
    found = places(rows=False)
    assert found
    if how != "cut":
        assert any(place.startswith(f"{path}:") for place in found)
    assert run("audit", "--quick").exit_code == 1


def test_a_row_that_was_changed_with_a_valid_checksum_is_named(held: Home) -> None:
    held.warehouse.path.chmod(0o644)
    with duckdb.connect(held.warehouse.path) as connection:
        connection.execute("UPDATE account_balances SET equity = equity + 1 ")
        connection.execute("UPDATE snapshot_days SET high = high + 1")
        connection.execute("CREATE OR REPLACE VIEW trade_gate AS SELECT * FROM accounts")
    found = "\n".join(places())
    assert "snapshot_days" in found
    assert "trade_gate" in found
    assert DEMO_ACCOUNT in found


def test_a_chain_that_was_written_anew_does_not_have_the_heads_that_were_known(held: Home, tmp_path: Path) -> None:
    anchors = tmp_path / "anchors.jsonl"
    assert run("audit", "--quick", "--anchor", str(anchors)).exit_code == 0
    assert run("audit", "--quick", "--against", str(anchors)).exit_code == 0
    directory = held.zone.root / DEMO_ACCOUNT
    missed = next(directory.glob("*/*.missed.json"))
    missed.unlink()
    (directory / "chain").unlink()
    with chain_of(directory).settled():
        pass
    assert not audit_landing(held.zone).wrong  # consistent in itself
    assert any(DEMO_ACCOUNT in place for place in places(rows=False))  # the warehouse has seen another one
    held.warehouse.path.unlink()
    rebuild(held.warehouse, held.zone, lambda _: None)
    assert not places()
    result = run("audit", "--quick", "--against", str(anchors))
    assert result.exit_code == 1
    assert "anchored" in result.stdout


def test_a_process_that_dies_before_it_has_filed_costs_one_void_line(held: Home, simulated: Simulated) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        held.zone.filing(held.zone.root / DEMO_ACCOUNT / "2026-01-01/x/manifest.json", b"{}"),
    ):
        raise ZeroDivisionError
    assert places(rows=False) == [str(held.zone.root / DEMO_ACCOUNT / "2026-01-01/x/manifest.json")]
    take(held, simulated.broker)
    assert not places()
    assert [line.split()[1] for line in chain_lines(held)[-4:-1]] == ["void", "filed", "filed"]


def test_a_process_that_dies_before_it_has_replaced_a_record_leaves_the_one_before(
    held: Home, simulated: Simulated
) -> None:
    (archive,) = (held.zone.root / DEMO_ACCOUNT).glob("*.zip")
    with pytest.raises(ZeroDivisionError), chain_of(archive.parent).filing(archive.name, "0" * 64, "archived"):
        raise ZeroDivisionError
    assert places(rows=False) == [str(archive)]
    take(held, simulated.broker)
    assert not places()
    assert [line.split()[1] for line in chain_lines(held)[-4:-1]] == ["void", "filed", "filed"]


def test_damage_of_what_was_filed_last_stays_named_and_nothing_of_it_is_removed(
    held: Home, simulated: Simulated
) -> None:
    landed, _ = take(held, simulated.broker)
    path = landed.directory / QUOTES_MANIFEST
    assert chain_lines(held)[-2].endswith(f"/{path.name}")
    path.write_bytes(path.read_bytes()[:-9])
    kept = files(landed.directory)
    take(held, simulated.broker)
    assert files(landed.directory) == kept
    assert not [line for line in chain_lines(held) if " void " in line]
    assert str(path) in places(rows=False)


def test_a_line_that_was_cut_off_with_the_power_is_mended(held: Home, simulated: Simulated) -> None:
    path = held.zone.root / DEMO_ACCOUNT / "chain"
    with path.open("a") as file:
        file.write("9 filed 0123")
    assert len(places(rows=False)) == 1
    take(held, simulated.broker)
    assert not places()


def test_a_home_of_before_is_chained_once(held: Home, simulated: Simulated) -> None:
    directory = held.zone.root / DEMO_ACCOUNT
    (directory / "chain").unlink()
    held.warehouse.path.chmod(0o644)
    with duckdb.connect(held.warehouse.path) as connection:
        connection.execute("DELETE FROM chain_heads")
    assert places(rows=False) == [str(directory / "chain")]
    take(held, simulated.broker)
    walked = walk(chain_of(directory))
    assert not places()
    assert walked.found == 7
    assert len(walked.links) == 10


def test_compaction_and_rebuild_keep_the_proof(held: Home) -> None:
    compact(held.zone, date.max)
    rebuild(held.warehouse, held.zone, lambda _: None)
    assert not places()
    (archive,) = (held.zone.root / DEMO_ACCOUNT).glob("*.zip")
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("more.json", "{}")
    assert str(archive) in places(rows=False)


def content(path: Path) -> dict[str, list[Any]]:
    """Every row of a warehouse; raises what DuckDB does if it cannot be read."""
    with duckdb.connect(path, read_only=True) as connection:
        tables = connection.execute(
            "SELECT schema_name || '.' || table_name FROM duckdb_tables() ORDER BY 1"
        ).fetchall()
        return {name: connection.execute(f"FROM {name} ORDER BY ALL").fetchall() for (name,) in tables}


def change_and_audit(held: Home, count: int, seed: int) -> tuple[int, int, list[str]]:
    """Change one byte at a time; returns how many were named, how many changed no content, and those missed."""
    chosen = random.Random(seed)
    landed, warehouse = files(held.zone.root), held.warehouse.path
    truth = content(warehouse)
    named = without_effect = 0
    missed = []
    for number in range(count):
        path = warehouse if number % 4 == 3 else chosen.choice(landed)
        place, by = chosen.randrange(path.stat().st_size), chosen.randrange(1, 256)
        with restored(path):
            change_a_byte(path, place, by)
            if audit(load_settings(), rows=path == warehouse).wrong:
                named += 1
            elif path == warehouse and content(path) == truth:
                without_effect += 1  # of a block that nothing uses
            else:
                missed.append(f"{path}: {place} +{by}")
    return named, without_effect, missed


def test_each_of_twenty_changed_bytes_is_named(held: Home) -> None:
    named, without_effect, missed = change_and_audit(held, 20, SEED)
    assert not missed
    assert named + without_effect == 20
    assert named >= 15


@pytest.mark.soak
def test_each_of_a_thousand_changed_bytes_is_named(held: Home) -> None:
    named, without_effect, missed = change_and_audit(held, 1_000, SEED + 1)
    print(f"seed {SEED + 1}: {named} named, {without_effect} in blocks that nothing uses, {len(missed)} missed")  # noqa: T201
    assert not missed
    assert named + without_effect == 1_000


def test_heads_that_were_sent_to_a_url_prove_the_chains_later(held: Home) -> None:
    with serving() as server:
        url = f"{server.url}/secret/anchors"
        server.on("/secret/anchors", answer("", status=201))
        sent = run("audit", "--quick", "--anchor", url, "--json")
        assert sent.exit_code == 0, sent.output
        assert json.loads(sent.stdout)["anchored"] == 1
        (request,) = server.requests
        assert request.method == "POST"
        body = request.body
        server.on("/secret/anchors", answer(body))
        assert run("audit", "--quick", "--against", url).exit_code == 0
        server.on("/secret/anchors", answer(body.replace(json.loads(body)["heads"][0]["head"][:8], "0" * 8)))
        cut = run("audit", "--quick", "--against", url)
        assert cut.exit_code == 1
        assert "which was anchored" in cut.stdout


@pytest.mark.parametrize(
    ("option", "given", "cause"),
    [
        ("--anchor", answer("", status=500), "127.0.0.1 did not take the anchor: HTTP 500"),
        ("--anchor", reset(), "127.0.0.1 did not take the anchor: "),
        ("--anchor", answer("", status=302, headers={"Location": "/elsewhere"}), "did not take the anchor: HTTP 302"),
        ("--against", answer("", status=404), "127.0.0.1 did not give the anchor: HTTP 404"),
        ("--against", answer("<html>"), "line 1 of 127.0.0.1 is no anchor"),
        ("--against", answer(""), "127.0.0.1 has no anchor"),
    ],
)
def test_a_url_that_fails_is_one_line_without_its_path(held: Home, option: str, given: Answer, cause: str) -> None:
    with serving(given) as server:
        result = run("audit", "--quick", option, f"{server.url}/secret")
    assert result.exit_code == 1
    (line,) = [line for line in result.stderr.splitlines() if "error" in line]
    assert cause in line
    assert "secret" not in result.output


def test_an_anchor_is_sent_to_no_stranger_in_the_clear(held: Home) -> None:
    result = run("audit", "--quick", "--anchor", "http://example.com/secret")
    assert result.exit_code == 1
    assert "not an https URL" in result.stderr


def test_a_view_whose_columns_are_named_otherwise_is_named_also_where_it_leaves_some_out(held: Home) -> None:
    """Of two columns that swap their names, as many letters are the same."""
    path = held.warehouse.path
    path.chmod(0o644)
    with duckdb.connect(path) as connection:
        query = "SELECT sql FROM duckdb_views() WHERE view_name = 'account_exposure'"
        ((sql,),) = connection.execute(query).fetchall()
        assert "EXCLUDE" in sql
        swapped = sql.replace("theta", "in_between").replace("vega", "theta").replace("in_between", "vega")
        assert swapped != sql
        connection.execute(swapped.replace("CREATE VIEW", "CREATE OR REPLACE VIEW"))
    assert places() == ["account_exposure"]


@pytest.mark.soak
def test_views_that_are_stored_again_and_again_stay_as_they_are(held: Home, simulated: Simulated) -> None:
    for _ in range(3):
        take(held, simulated.broker)
    assert not places()


@sampled("change", ["reason = 'because'", "recorded_at = recorded_at + INTERVAL 1 SECOND"])
def test_a_changed_word_of_a_missed_minute_is_named(held: Home, simulated: Simulated, change: str) -> None:
    take(held, simulated.broker)
    held.warehouse.path.chmod(0o644)
    with duckdb.connect(held.warehouse.path) as connection:
        assert connection.execute("SELECT count(*) FROM missed_snapshots").fetchone() == (1,)
        connection.execute(f"UPDATE missed_snapshots SET {change}")
    assert "missed_snapshots" in [place.partition(": ")[0] for place in places()]
