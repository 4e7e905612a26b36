"""Shipping: the lake has what the homes have published, each thing once, and nothing of a commit that did not end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tradier_pipeline import clock
from tradier_pipeline.core.settings import LAKE_PREFIX
from tradier_pipeline.lake import maintain as maintaining
from tradier_pipeline.lake import ship as shipping
from tradier_pipeline.lake import state
from tradier_pipeline.lake.connection import ALIAS, LakeError, alone, open_lake
from tradier_pipeline.lake.maintain import maintain, maintain_if_due
from tradier_pipeline.lake.ship import Shipment
from tradier_pipeline.lake.tables import encoded
from tradier_pipeline.publish.store import rebuild
from tradier_pipeline.warehouse import derived, schema
from tradier_pipeline.warehouse.sql import literal
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.lake.conftest import OfTest
from tradier_pipeline_tests.support.command_line import run
from tradier_pipeline_tests.support.ports import free_port
from tradier_pipeline_tests.support.postgres import PASSWORD
from tradier_pipeline_tests.support.reads import only_in_each
from tradier_pipeline_tests.support.sampling import sampled
from tradier_pipeline_tests.support.year import FIRST_DAY, fill, sessions

NOON = datetime(2025, 1, 2, 17, tzinfo=UTC)
ACCOUNTS = (("SIM00000001", "SIM00000002"), ("SIM00000003",))
INSTANTS = 2
WRITTEN = {"committed_at", "fingerprint"}  # when it was stored, and what follows from that


@pytest.fixture
def homes(tmp_path: Path) -> tuple[Home, Home]:
    return Home(tmp_path / "one"), Home(tmp_path / "other")


def differences(
    lake: OfTest, home: Home, tables: Collection[str], accounts: Collection[str] = ()
) -> dict[str, tuple[int, int]]:
    """Rows that only the lake or only a home has, by table, of those that differ.

    Args:
        accounts: whose rows are looked at; empty: all.
    """
    found = {}
    with open_lake(lake.lake, read_only=True) as connection:
        connection.execute(f"ATTACH {literal(str(home.warehouse.path))} AS home (READ_ONLY)")
        for name in tables:
            columns = connection.execute(f"DESCRIBE home.main.{name}").fetchall()
            listed = ", ".join(f'"{column[0]}"' for column in columns if column[0] not in WRITTEN)
            which = f"WHERE account_id IN ({', '.join(map(literal, accounts))})" if accounts else ""
            queries = (f"SELECT {listed} FROM {place}.main.{name} {which}" for place in (ALIAS, "home"))
            if (counts := only_in_each(connection, *queries)) != (0, 0):
                found[name] = counts
    return found


@pytest.mark.soak
def test_the_lake_of_two_homes_has_what_a_rebuild_of_all_landed_bytes_has_and_each_session_once(
    lake: OfTest, homes: tuple[Home, Home], simulated: Simulated, tmp_path: Path
) -> None:
    shippers = [lake.shipper(home) for home in homes]
    for _ in range(INSTANTS):
        for home, shipper, accounts in zip(homes, shippers, ACCOUNTS, strict=True):
            for account_id in accounts:
                take(home, simulated.broker, account_id)
            shipper.ship()
    whole = Home(tmp_path / "whole")
    for home in homes:
        shutil.copytree(home.path / "raw", whole.path / "raw", dirs_exist_ok=True)
    rebuild(whole.warehouse, whole.zone, lambda _: None)

    anew = [table.name for table in schema.ALL_TABLES if table is not schema.FINDINGS]  # those no landed byte tells
    assert differences(lake, whole, [*anew, *(one.table.name for one in derived.DERIVED), "equity_curve"]) == {}
    for home, accounts in zip(homes, ACCOUNTS, strict=True):
        assert differences(lake, home, ["findings", "positions", "equity_curve"], accounts) == {}
    assert lake.rows("SELECT count(*), count(DISTINCT snapshot_id) FROM tradier_snapshots") == [(6, 6)]
    assert lake.rows("SELECT trade_date FROM sessions GROUP BY ALL HAVING count(*) > 1") == []
    assert [shipper.ship() for shipper in shippers] == [[], []]


def shipped(lake: OfTest, home: Home) -> list[Shipment]:
    shipper = lake.shipper(home)
    try:
        return shipper.ship()
    finally:
        shipper.close()


ALL = [table.name for table in schema.ALL_TABLES]


@pytest.mark.soak
def test_what_has_changed_at_home_holds_in_the_lake_and_what_was_is_kept(begun: OfTest, shipped_bulk: Home) -> None:
    assert differences(begun, shipped_bulk, ALL) == {}
    with shipped_bulk.warehouse.staged() as staged:
        ids = [
            row[0]
            for row in staged.connection.execute("SELECT snapshot_id FROM tradier_snapshots ORDER BY as_of").fetchall()
        ]
        staged.set_verdict(ids[3], "doubtful", "holdings gone")
        missed = {"account_id": "VA12345678", "trade_date": FIRST_DAY, "requested_at": NOON, "missed_at": NOON}
        missed |= {"recorded_at": NOON, "kind": "refused", "trigger": "test", "reason": "equity", "path": "raw/x"}
        staged.refuse(missed | {"snapshot_id": ids[5]})
        staged.connection.execute("UPDATE findings SET times_seen = times_seen + 1, text = 'another'")
        staged.connection.execute("DELETE FROM stated_flows")
        staged.connection.execute("DELETE FROM check_results")
    before = begun.rows("SELECT count(*) FROM versions.positions")

    (one,) = shipped(begun, shipped_bulk)
    assert one.snapshots == 1
    assert differences(begun, shipped_bulk, ALL) == {}
    assert begun.rows(f"SELECT count(*) FROM tradier_snapshots WHERE snapshot_id = '{ids[5]}'") == [(0,)]
    assert begun.rows("SELECT count(*) FROM versions.positions") > before
    assert shipped(begun, shipped_bulk) == []


@pytest.mark.soak
def test_a_home_that_forgot_what_it_shipped_ships_nothing_twice(begun: OfTest, shipped_bulk: Home) -> None:
    before = begun.rows("SELECT count(*) FROM versions.positions")
    (shipped_bulk.path / state.FILE).unlink()
    shipped(begun, shipped_bulk)
    assert begun.rows("SELECT count(*) FROM versions.positions") == before
    assert differences(begun, shipped_bulk, ALL) == {}


@pytest.mark.soak
def test_a_home_that_lost_its_warehouse_takes_nothing_out_of_the_lake(
    begun: OfTest, shipped_bulk: Home, filled: Home
) -> None:
    with shipped_bulk.warehouse.staged(fresh=True) as staged:
        fill(staged.connection, sessions(1), "VA00000001", ledger=False)
        for table in schema.TABLES:
            staged.connection.execute(f"DELETE FROM {table.name} WHERE strftime(as_of, '%H:%M') > '14:35'")
    shipped(begun, shipped_bulk)
    of_account = [table.name for table in schema.ALL_TABLES if "account_id" in table.column_names]
    assert differences(begun, filled, of_account, ["VA12345678"]) == {}
    assert begun.rows("SELECT count(DISTINCT account_id) FROM tradier_snapshots") == [(2,)]


@pytest.mark.soak
def test_an_account_that_moved_to_another_home_is_there_once(begun: OfTest, shipped_bulk: Home, tmp_path: Path) -> None:
    other = Home(Path(shutil.copytree(shipped_bulk.path, tmp_path / "other")))
    (other.path / state.FILE).unlink()
    with other.warehouse.staged() as staged:
        staged.connection.execute("UPDATE findings SET text = 'as the other home has it'")
    shipped(begun, other)
    assert differences(begun, other, ALL) == {}
    assert shipped(begun, shipped_bulk) == []


def test_another_commit_in_between_leaves_nothing_of_ours(
    begun: OfTest, shipped_bulk: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shipped_bulk.warehouse.staged() as staged:
        staged.connection.execute("UPDATE findings SET text = 'another'")
    note = shipping._note

    def interrupted(*arguments: Any) -> None:
        note(*arguments)
        with open_lake(begun.lake) as other:  # as one would who did not ask for the lock
            other.execute(f"CREATE TABLE {ALIAS}.main.in_between (i INTEGER)")

    before = begun.rows("SELECT count(*) FROM versions.shipments")
    monkeypatch.setattr(shipping, "_note", interrupted)
    with pytest.raises(LakeError, match="cannot be used"):
        shipped(begun, shipped_bulk)
    assert begun.rows("SELECT count(*) FROM versions.shipments") == before
    monkeypatch.undo()
    assert len(shipped(begun, shipped_bulk)) == 1
    assert differences(begun, shipped_bulk, ["findings", "positions"]) == {}


def test_what_is_not_read_back_as_it_was_is_not_committed(
    lake: OfTest, bulk: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "encoded", lambda column: "0" if column.name == "unrealized_pl" else encoded(column))
    with pytest.raises(LakeError, match="gives back other rows of positions"):
        shipped(lake, bulk)
    assert lake.rows("SELECT count(*) FROM tradier_snapshots") == [(0,)]


def test_nobody_ships_while_another_machine_does(
    begun: OfTest, shipped_bulk: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shipped_bulk.warehouse.staged() as staged:
        staged.connection.execute("UPDATE findings SET text = 'another'")
    monkeypatch.setattr(shipping, "LOCK_WAIT_S", 0.2)
    with (
        open_lake(begun.lake) as other,
        alone(other, begun.lake, 1.0),
        pytest.raises(LakeError, match="another machine"),
    ):
        shipped(begun, shipped_bulk)
    assert len(shipped(begun, shipped_bulk)) == 1


@pytest.mark.soak
def test_maintenance_moves_rows_from_the_catalog_into_files_and_changes_none(begun: OfTest, shipped_bulk: Home) -> None:
    for text in ("one", "other"):
        with shipped_bulk.warehouse.staged() as staged:
            staged.connection.execute(f"UPDATE findings SET text = '{text}'")
        shipped(begun, shipped_bulk)
        done = maintain(begun.lake, keep_days=1)
        assert done.flushed_rows > 0
    assert list(begun.data.rglob("*.parquet"))
    assert differences(begun, shipped_bulk, ALL) == {}
    assert shipped(begun, shipped_bulk) == []


def test_what_lies_in_the_catalog_is_flushed_before_it_is_much_and_the_night_comes_all_the_same_once(
    begun: OfTest, shipped_bulk: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = "SELECT is_whole, flushed_rows > 0 FROM versions.maintained ORDER BY maintained_at"
    assert not maintain_if_due(begun.lake, None, clock.now())
    monkeypatch.setattr(maintaining, "FLUSH_ROWS", 10)
    for _ in range(2):  # the second time there is nothing
        assert not maintain_if_due(begun.lake, None, clock.now())
    assert maintain_if_due(begun.lake, None, clock.now() + timedelta(days=1))
    assert not maintain_if_due(begun.lake, None, clock.now())
    flushed, night = begun.rows(noted)
    assert (flushed, night[0]) == ((False, True), True)
    assert differences(begun, shipped_bulk, ["positions", "findings"]) == {}


@sampled("command", [("lake", "ship"), ("lake", "status"), ("lake", "maintain")])
def test_no_error_shows_the_password(
    lake: OfTest, bulk: Home, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TRADIER_PIPELINE_HOME", str(bulk.path))
    nobody = lake.settings["TRADIER_LAKE"].replace(f":{lake.server.port}/", f":{free_port()}/")
    for address in (
        nobody,
        f"{LAKE_PREFIX}{lake.server.url('no_such_database')}",
        nobody.replace("://tester:", "://nobody:"),
    ):
        monkeypatch.setenv("TRADIER_LAKE", address)
        monkeypatch.setenv("TRADIER_LAKE_DATA", lake.settings["TRADIER_LAKE_DATA"])
        result = run(*command)
        assert result.exit_code == 1
        assert "cannot be used" in result.stderr
        assert PASSWORD not in result.output


def test_the_commands_ship_and_say_what_is_there(new_lake: OfTest, bulk: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADIER_PIPELINE_HOME", str(bulk.path))
    for name, value in new_lake.settings.items():
        monkeypatch.setenv(name, value)
    nothing = run("lake", "status")
    assert "nothing is shipped yet" in nothing.stdout
    assert PASSWORD not in nothing.output
    assert run("lake", "ship").stdout.startswith("shipped ")
    assert "has all that is published here" in run("lake", "ship").stdout
    status = run("lake", "status", "--json")
    found = json.loads(status.stdout)
    assert PASSWORD not in status.output
    assert (found["accounts"], len(found["homes"])) == (1, 1)
    assert json.loads(run("lake", "maintain", "--json").stdout)["flushed_rows"] > 0


def test_a_lake_whose_files_are_elsewhere_is_refused(begun: OfTest, shipped_bulk: Home, tmp_path: Path) -> None:
    with shipped_bulk.warehouse.staged() as staged:
        staged.connection.execute("UPDATE findings SET text = 'another'")
    with pytest.raises(LakeError, match="TRADIER_LAKE_DATA is"):
        shipped(replace(begun, data=tmp_path / "elsewhere"), shipped_bulk)
