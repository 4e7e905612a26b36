"""The claims of a snapshot as Dagster's asset checks: their specs, their results, their evaluations.

Their specs stand in a check of their own (checks/claims.py), outside of the jobs of the cycles: a run that fails before
anything is checked leaves no check behind that counts as failed. The snapshot reports them after it has materialized
what they are about: the newest materialization of a partition is the one that they were evaluated on.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import dagster as dg

from tradier_pipeline.assets.evaluations import evaluations
from tradier_pipeline.core.outcome import Outcome, Severity
from tradier_pipeline.instance.partitions import SNAPSHOTS
from tradier_pipeline.verify import CHECKS
from tradier_pipeline.verify.claims import Claim, outcomes_of

SHOWN_DIFFERENCES = 10  # of a claim, stored with every run; all of them are in check_results and reported by `verify`


_collected: ContextVar[list[Outcome] | None] = ContextVar("outcomes", default=None)


@contextmanager
def collecting_outcomes() -> Iterator[list[Outcome]]:
    """Collects every outcome, rule by rule, of what is stored by runs in this process: Dagster records claims only."""
    outcomes: list[Outcome] = []
    token = _collected.set(outcomes)
    try:
        yield outcomes
    finally:
        _collected.reset(token)


def collect(outcomes: Iterable[Outcome]) -> None:
    """Hand the outcomes of a snapshot to who collects them, if anybody does."""
    if (collected := _collected.get()) is not None:
        collected.extend(outcomes)


def claim_specs(claims: Iterable[Claim]) -> list[dg.AssetCheckSpec]:
    """A check for each claim. It blocks where one of its rules compares our rows with the landed bytes."""
    return [
        dg.AssetCheckSpec(
            claim.name,
            asset=claim.asset,
            description=f"{claim.text} Rules: {', '.join(claim.rules)}.",
            blocking=_may_block(claim),
            partitions_def=SNAPSHOTS,
        )
        for claim in claims
    ]


def claim_results(
    context: dg.AssetCheckExecutionContext, claims: Iterable[Claim], outcomes: Sequence[Outcome]
) -> Iterator[dg.AssetCheckResult]:
    """The results of those claims that are selected, for a check that runs alone."""
    for claim in claims:
        if dg.AssetCheckKey(dg.AssetKey(claim.asset), claim.name) in context.selected_asset_check_keys:
            yield _result(claim, outcomes)


def claim_evaluations(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    claims: Sequence[Claim],
    outcomes: Sequence[Outcome],
    *,
    published: bool = True,
    partition: str | None = None,
) -> Iterator[dg.AssetCheckEvaluation]:
    """What the claims say of a partition, for the step that has just materialized what they are about.

    Args:
        published: each is about the newest materialization of its asset; else the step has refused it, and about none.
        partition: of a run that has none itself because it is about several.
    """
    results = (_result(claim, outcomes) for claim in claims)
    blocking = {claim.name for claim in claims if _may_block(claim)}
    return evaluations(context, results, blocking=blocking, published=published, partition=partition)


def _may_block(claim: Claim) -> bool:
    return any(check.severity is Severity.FATAL for check in CHECKS if check.name in claim.rules)


def _result(claim: Claim, outcomes: Sequence[Outcome]) -> dg.AssetCheckResult:
    """Whether a claim holds, and which rules refute it with the rows that differ."""
    found = outcomes_of(claim, outcomes)
    failed = [outcome for outcome in found if not outcome.passed]
    blocks = any(outcome.blocks for outcome in failed)
    metadata: dict[str, Any] = {"rules": len(found)}
    if failed:
        metadata["failed"] = ", ".join(outcome.check for outcome in failed)
        metadata["differences"] = differences_table(failed)
    return dg.AssetCheckResult(
        asset_key=dg.AssetKey(claim.asset),
        check_name=claim.name,
        passed=not failed,
        severity=dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN,
        metadata=metadata,
    )


def differences_table(failed: Sequence[Outcome]) -> dg.TableMetadataValue:
    """The first rows that differ, of every rule that failed some."""
    share = max(1, SHOWN_DIFFERENCES // max(1, len(failed)))
    columns = ("rule", "where", "broker", "stored")
    rows = [
        (outcome.check, difference.where, difference.broker, difference.stored)
        for outcome in failed
        for difference in outcome.differences[:share]
    ]
    return dg.MetadataValue.table(
        records=[dg.TableRecord(dict(zip(columns, row, strict=True))) for row in rows],
        schema=dg.TableSchema(columns=[dg.TableColumn(name) for name in columns]),
    )
