"""The connections that this suite takes again begin as new ones would."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from tradier_pipeline.warehouse import staging
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.support.connections import Pool, Pooled

LEFT = "SELECT database_name FROM duckdb_databases() WHERE NOT internal"


def test_one_that_is_taken_again_has_nothing_of_the_one_before(tmp_path: Path) -> None:
    pool = Pool(writes=True)
    with pool.connect() as first:
        first.execute(f"ATTACH '{tmp_path / 'a file'}' AS tradier; USE tradier")
        first.execute("CREATE TABLE one AS SELECT 1; CREATE TEMP TABLE two AS SELECT 2")
        first.execute("SET VARIABLE shown_since = 3")
        first.execute("SET disabled_compression_methods = 'fsst'")
        first.execute("BEGIN; DELETE FROM one")
    with pool.connect() as again:
        assert again._instance is first._instance
        assert again.execute(LEFT).fetchall() == [("memory",)]
        assert again.execute("SELECT getvariable('shown_since')").fetchall() == [(None,)]
        assert again.execute("SELECT current_setting('disabled_compression_methods')").fetchall() == [("",)]
        with pytest.raises(duckdb.CatalogException):
            again.execute("FROM two")
    with duckdb.connect(tmp_path / "a file") as file:
        assert file.execute("FROM one").fetchall() == [(1,)]


def test_what_a_publish_has_opened_the_next_one_takes_again(home: Home) -> None:
    """Whatever a publish sets: a setting that the pool does not know would cost every test a new instance."""
    opened = []
    for _ in range(2):
        with home.warehouse.staged() as staged:
            opened.append(staged.connection)
    first, second = opened
    assert isinstance(first, Pooled)
    assert isinstance(second, Pooled)
    assert second._instance is first._instance


@pytest.mark.parametrize(
    "statement", ["SET memory_limit = '1GB'", "CREATE VIEW one AS SELECT 1", "SELECT 1; PRAGMA threads = 3"]
)
def test_one_that_may_have_changed_its_instance_is_not_taken_again(statement: str) -> None:
    pool = Pool()
    with pool.connect() as first:
        first.execute(statement)
    with pool.connect() as second:
        assert second._instance is not first._instance


def test_a_new_warehouse_is_a_copy_and_who_wrote_it_is_taken_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(writes=True)
    monkeypatch.setattr(staging, "duckdb", pool)
    monkeypatch.setattr(staging, "create_schema", lambda _connection: pytest.fail("not a copy of an empty one"))
    for _ in range(2):
        with home.warehouse.staged():
            pass
    assert len(pool._free) == 1


def test_one_that_read_another_file_is_not_taken_again(tmp_path: Path) -> None:
    path = tmp_path / "one.parquet"
    duckdb.execute(f"COPY (SELECT range AS number FROM range(100000)) TO '{path}'")
    pool = Pool()
    with pool.connect() as first:
        assert first.execute(f"SELECT count(*) FROM '{path}'").fetchall() == [(100_000,)]
        first.execute(f"SELECT sum(number) FROM '{path}'")
    with pool.connect() as second:
        assert second._instance is not first._instance


def test_two_at_once_share_nothing() -> None:
    pool = Pool()
    with pool.connect() as first, pool.connect() as second:
        assert second._instance is not first._instance
