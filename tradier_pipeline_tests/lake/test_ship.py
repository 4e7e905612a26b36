"""Shipping: the lake has what the homes have published, each thing once, and nothing of a commit that did not end."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

import duckdb
import pytest

from tradier_pipeline.lake import ship as shipping
from tradier_pipeline.lake.connection import ALIAS, LakeError, open_lake
from tradier_pipeline.publish.store import rebuild
from tradier_pipeline.warehouse import derived, schema
from tradier_pipeline.warehouse.sql import literal
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.lake.conftest import OfTest
from tradier_pipeline_tests.support.year import SESSIONS_OF_A_YEAR, fill, sessions

ACCOUNTS = (("SIM00000001", "SIM00000002"), ("SIM00000003",))
INSTANTS = 3
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
            in_lake, in_home = (f"SELECT {listed} FROM {place}.main.{name} {which}" for place in (ALIAS, "home"))
            counts = tuple(
                connection.execute(f"SELECT count(*) FROM ({one} EXCEPT ALL {other})").fetchone()[0]
                for one, other in ((in_lake, in_home), (in_home, in_lake))
            )
            if counts != (0, 0):
                found[name] = counts
    return found


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
    assert lake.rows("SELECT count(*), count(DISTINCT snapshot_id) FROM tradier_snapshots") == [(9, 9)]
    assert lake.rows("SELECT trade_date FROM sessions GROUP BY ALL HAVING count(*) > 1") == []
    assert [shipper.ship() for shipper in shippers] == [[], []]
