"""The proof that the store equals the broker: rules over landed bytes and a connection, without side effects."""

from __future__ import annotations

import duckdb

from tradier_pipeline.core.outcome import Outcome
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.verify import (
    balance_checks,
    conservation_checks,
    cycle_checks,
    drift_checks,
    number_checks,
    order_checks,
    plausibility_checks,
    position_checks,
    progress_checks,
    snapshot_checks,
    spread_checks,
)
from tradier_pipeline.verify.evidence import Evidence
from tradier_pipeline.verify.registry import CHECKS

__all__ = [
    "CHECKS",
    "balance_checks",
    "conservation_checks",
    "cycle_checks",
    "drift_checks",
    "number_checks",
    "order_checks",
    "plausibility_checks",
    "position_checks",
    "progress_checks",
    "snapshot_checks",
    "spread_checks",
    "verify_snapshot",
]


def verify_snapshot(landed: LandedSnapshot, connection: duckdb.DuckDBPyConnection) -> list[Outcome]:
    """Run every check of one snapshot against the warehouse behind a connection. Never raises for a bad snapshot."""
    evidence = Evidence(landed, connection)
    return [check.run(evidence) for check in CHECKS]
