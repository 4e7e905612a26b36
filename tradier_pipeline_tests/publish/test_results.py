"""`check_results`: what a snapshot did not meet stays in the warehouse, can be queried, and is found by a rebuild."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import duckdb
import pytest

from tradier_pipeline.landing.compaction import compact
from tradier_pipeline.publish.store import NotPublishedError, rebuild, store_snapshot
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home, Simulated, miscount, take
from tradier_pipeline_tests.end_to_end.test_damage import cut
from tradier_pipeline_tests.extract.test_coherent_read import holding

pytestmark = pytest.mark.usefixtures("without_days")


def results(home: Home) -> list[dict[str, Any]]:
    with connect_readonly(home.warehouse.path) as connection:
        cursor = connection.execute("FROM check_results ORDER BY snapshot_id, rule")
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def test_a_sound_snapshot_has_no_row(home: Home, simulated: Simulated) -> None:
    _, outcomes = take(home, simulated.broker)
    assert all(outcome.passed for outcome in outcomes)
    assert results(home) == []


def test_what_only_warns_is_a_row_of_a_published_snapshot_with_both_figures_and_the_places(
    home: Home, simulated: Simulated
) -> None:
    simulated.fault("/quotes", "status", status=400, body="no", times=1)
    landed, outcomes = take(home, simulated.broker)
    (warned,) = [outcome for outcome in outcomes if not outcome.passed]
    (row,) = results(home)
    assert row == {
        "snapshot_id": landed.manifest.snapshot_id,
        "account_id": landed.manifest.account_id,
        "as_of": landed.manifest.as_of,
        "trade_date": row["trade_date"],
        "rule": "quotes_cover_positions",
        "number": 34,
        "claim": "positions_priced",
        "severity": "warn",
        "broker": warned.broker,
        "stored": warned.stored,
        "differing": warned.differing,
        "differences": [{"place": one.where, "broker": one.broker, "stored": one.stored} for one in warned.differences],
    }


def test_what_keeps_a_snapshot_out_is_kept_although_its_rows_are_not_until_it_is_published(
    home: Home, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(home, simulated.broker)
    with monkeypatch.context() as mistake:
        miscount(mistake)
        with pytest.raises(NotPublishedError):
            take(home, simulated.broker)
    (row,) = results(home)
    assert (row["rule"], row["claim"], row["severity"]) == ("balances_equal", "account_equals_broker", "fatal")
    assert row["differences"][0]["broker"] != row["differences"][0]["stored"]
    with connect_readonly(home.warehouse.path) as connection:
        found = connection.execute(
            "SELECT kind FROM check_results JOIN missed_snapshots USING (snapshot_id)"
        ).fetchall()
    assert found == [("refused",)]
    refused = next(one for one in home.zone.snapshots() if str(one.snapshot_id) == row["snapshot_id"])
    store_snapshot(home.warehouse, refused)
    assert results(home) == []


def test_a_rebuild_finds_the_same_again(home: Home, simulated: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    take(home, simulated.broker)
    simulated.fault("/quotes", "status", status=400, body="no", times=1)
    take(home, simulated.broker)
    holding(simulated, 5, cash="4321.00")
    miscount(monkeypatch, lambda balances: balances.total_cash == 4321)
    with pytest.raises(NotPublishedError):
        take(home, simulated.broker)
    before = results(home)
    assert {"quotes_cover_positions", "balances_equal"} <= {row["rule"] for row in before}
    rebuild(home.warehouse, home.zone, lambda _: None)
    assert results(home) == before


@pytest.mark.soak  # as every table: warehouse/test_staging
def test_a_warehouse_of_the_version_before_gets_the_table_with_its_next_snapshot_and_the_rest_by_a_rebuild(
    home: Home, simulated: Simulated
) -> None:
    simulated.fault("/quotes", "status", status=400, body="no", times=1)
    take(home, simulated.broker)
    before = results(home)
    home.warehouse.path.chmod(0o644)
    with duckdb.connect(home.warehouse.path) as connection:
        connection.execute("DROP TABLE check_results; CREATE OR REPLACE MACRO schema_version() AS 8")
    take(home, simulated.broker)
    assert results(home) == []
    with connect_readonly(home.warehouse.path) as connection:
        assert connection.execute("SELECT schema_version()").fetchone() == (schema.SCHEMA_VERSION,)
        reported = connection.execute(
            "SELECT count(*), count(comment) FROM duckdb_columns() WHERE table_name = 'check_results'"
        ).fetchone()
    assert reported == (len(schema.CHECK_RESULTS.columns),) * 2
    rebuild(home.warehouse, home.zone, lambda _: None)
    assert results(home) == before


def test_a_rebuild_takes_over_the_results_of_a_published_snapshot_whose_bytes_are_damaged_by_now(
    home: Home, simulated: Simulated
) -> None:
    simulated.fault("/quotes", "status", status=400, body="no", times=1)
    landed, _ = take(home, simulated.broker)
    before = results(home)
    compact(home.zone, landed.snapshot_id.trade_date + timedelta(days=1))
    cut(landed.day.archive_path)
    take(home, simulated.broker)
    assert rebuild(home.warehouse, home.zone, lambda _: None).kept_rows == 1
    assert results(home) == before != []
