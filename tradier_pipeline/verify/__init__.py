"""The proof that the store equals the broker: rules over landed bytes and a connection, without side effects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import duckdb

from tradier_pipeline.core.outcome import Outcome, Severity
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
from tradier_pipeline.verify.in_bulk import Decoded, Neighbours
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
    "refuted",
    "snapshot_checks",
    "spread_checks",
    "verify_snapshot",
]


def verify_snapshot(landed: LandedSnapshot, connection: duckdb.DuckDBPyConnection) -> list[Outcome]:
    """Run every check of one snapshot against the warehouse behind a connection. Never raises for a bad snapshot."""
    evidence = Evidence(landed, connection)
    return [check.run(evidence) for check in CHECKS]


def refuted(
    connection: duckdb.DuckDBPyConnection, snapshots: Sequence[LandedSnapshot], known: Decoded
) -> Iterator[tuple[LandedSnapshot, list[Outcome]]]:
    """The blocking results of snapshots of one account that were read one after the other, found for all at once.

    Args:
        known: the bodies that came with others.
    """
    fatal = [check for check in CHECKS if check.severity is Severity.FATAL]
    for evidence in Neighbours(connection, snapshots, known).evidence():
        results = [check.run(evidence) for check in fatal]
        yield evidence.landed, [outcome for outcome in results if outcome.blocks]
