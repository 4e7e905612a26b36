"""What is kept of the rules that a snapshot did not meet: `check_results`, to be queried for ever."""

from __future__ import annotations

from collections.abc import Iterable

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.core.outcome import Outcome
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.verify.claims import CLAIM_OF
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.sql import bind
from tradier_pipeline.warehouse.staging import insert
from tradier_pipeline.warehouse.typed import Row


def store_results(connection: duckdb.DuckDBPyConnection, landed: LandedSnapshot, outcomes: Iterable[Outcome]) -> None:
    """Store what is not met, in the place of what an earlier run stored of the snapshot."""
    connection.execute(bind("DELETE FROM check_results WHERE snapshot_id = ?", landed.manifest.snapshot_id))
    add_results(connection, landed, outcomes)


def add_results(connection: duckdb.DuckDBPyConnection, landed: LandedSnapshot, outcomes: Iterable[Outcome]) -> None:
    """Store what is not met of a snapshot of which nothing is stored yet."""
    manifest = landed.manifest
    lead = {
        "snapshot_id": manifest.snapshot_id,
        "account_id": manifest.account_id,
        "as_of": manifest.as_of,
        "trade_date": clock.trade_date(manifest.as_of),
    }
    insert(connection, schema.CHECK_RESULTS, [lead | _row(outcome) for outcome in outcomes if not outcome.passed])


def _row(outcome: Outcome) -> Row:
    return {
        "rule": outcome.check,
        "number": outcome.number,
        "claim": CLAIM_OF[outcome.check].name,
        "severity": str(outcome.severity),
        "broker": outcome.broker,
        "stored": outcome.stored,
        "differing": outcome.differing,
        "differences": [
            {"place": difference.where, "broker": difference.broker, "stored": difference.stored}
            for difference in outcome.differences
        ],
    }
