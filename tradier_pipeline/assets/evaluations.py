"""Results of checks that the step of an asset reports itself, after the materialization that they are about.

A check that is part of a run is planned when the run starts, and counts as failed if the run ends before it. So the
specs stand in checks of their own, outside of the jobs, and each can be executed alone.
"""

from collections.abc import Collection, Iterable, Iterator

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as Target,  # nothing public makes one outside of a check
)


def evaluations(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    results: Iterable[dg.AssetCheckResult],
    *,
    blocking: Collection[str] = (),
    published: bool = True,
    partition: str | None = None,
) -> Iterator[dg.AssetCheckEvaluation]:
    """The results as what Dagster records of the partition of the run, if it has one.

    Args:
        results: with the key of their asset and their name.
        blocking: the names of those that block.
        published: each is about the newest materialization of its asset; else the step has refused it, and about none.
        partition: of a run that has none itself because it is about several.
    """
    partition = partition or (context.partition_key if context.has_partition_key else None)
    targets: dict[dg.AssetKey, Target | None] = {}
    for result in results:
        key = result.asset_key
        assert key is not None
        assert result.check_name is not None
        if published and key not in targets:
            targets[key] = _target(context.instance, key, partition)
        yield dg.AssetCheckEvaluation(
            asset_key=key,
            check_name=result.check_name,
            passed=bool(result.passed),
            metadata=result.metadata,
            target_materialization_data=targets.get(key),
            severity=result.severity,
            description=result.description,
            blocking=result.check_name in blocking,
            partition=partition,
        )


def _target(instance: dg.DagsterInstance, asset: dg.AssetKey, partition: str | None) -> Target | None:
    wanted = dg.AssetRecordsFilter(asset, asset_partitions=[partition] if partition else None)
    for record in instance.fetch_materializations(wanted, limit=1).records:
        return Target(storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp)
    return None
