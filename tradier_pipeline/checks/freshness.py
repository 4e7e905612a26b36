"""Whether the newest snapshot is recent: on demand as a check, and every minute, also when there is no run."""

import dagster as dg

from tradier_pipeline import clock
from tradier_pipeline.assets.resource import TradierResource, as_dagster_failure
from tradier_pipeline.assets.results import ASSET_KEY
from tradier_pipeline.monitoring.freshness import Freshness, read_freshness

NAME = "snapshot_is_fresh"


@dg.asset_check(
    asset=ASSET_KEY,
    name=NAME,
    description="In the session, the newest snapshot of every account is at most TRADIER_MAX_AGE_SECONDS old; after "
    "it, it was when the session ended (check 11).",
)
def snapshot_is_fresh(tradier: TradierResource) -> dg.AssetCheckResult:
    """Judge the published warehouse now."""
    with as_dagster_failure():
        found = read_freshness(tradier.settings, clock.now())
    return dg.AssetCheckResult(
        passed=not found.stale, severity=dg.AssetCheckSeverity.ERROR, description=str(found), metadata=_metadata(found)
    )


def evaluation(found: Freshness) -> dg.AssetCheckEvaluation:
    """The same result for an evaluation without a run."""
    return dg.AssetCheckEvaluation(
        asset_key=ASSET_KEY,
        check_name=NAME,
        passed=not found.stale,
        severity=dg.AssetCheckSeverity.ERROR,
        description=str(found),
        metadata=_metadata(found),
    )


def _metadata(found: Freshness) -> dict[str, dg.MetadataValue]:
    return {
        "limit_s": dg.MetadataValue.int(int(found.limit.total_seconds())),
        "accounts": dg.MetadataValue.text("; ".join(map(found.described, found.newest)) or "-"),
    }
