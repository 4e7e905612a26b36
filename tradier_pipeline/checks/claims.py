"""The claims of a snapshot and of the ledger, proven again on demand: all, or one alone, of any partition."""

from collections.abc import Iterator

import dagster as dg

from tradier_pipeline.assets.claims import claim_results, claim_specs
from tradier_pipeline.assets.reconciliation import ledger_outcomes
from tradier_pipeline.assets.resource import TradierResource, as_dagster_failure
from tradier_pipeline.publish.reverify import reverify
from tradier_pipeline.verify.claims import CLAIMS, LEDGER_CLAIMS


@dg.multi_asset_check(name="snapshot_claims", specs=claim_specs(CLAIMS), can_subset=True)
def snapshot_claims(context: dg.AssetCheckExecutionContext, tradier: TradierResource) -> Iterator[dg.AssetCheckResult]:
    """Run the rules of the selected claims against the landed bytes; of a refused snapshot, on a trial copy."""
    with as_dagster_failure():
        (proven,) = reverify(tradier.settings, [context.partition_key], everything=False)
    yield from claim_results(context, CLAIMS, proven.outcomes)


@dg.multi_asset_check(
    name="ledger_claims",
    specs=claim_specs(LEDGER_CLAIMS),
    can_subset=True,  # what cannot be compared has no result
)
def ledger_claims(context: dg.AssetCheckExecutionContext, tradier: TradierResource) -> Iterator[dg.AssetCheckResult]:
    """Set the ledger as it is now beside the newest snapshot; nothing for an older one, or without a ledger."""
    with as_dagster_failure():
        outcomes = ledger_outcomes(context, tradier.settings, context.partition_key)
    if outcomes:
        yield from claim_results(context, LEDGER_CLAIMS, outcomes)
