"""A look at the age of the history every minute: no run could tell that there are no runs."""

from datetime import timedelta

import dagster as dg
from pydantic import AwareDatetime, BaseModel

from tradier_pipeline import clock
from tradier_pipeline.assets.resource import as_dagster_failure
from tradier_pipeline.checks.freshness import evaluation
from tradier_pipeline.core.settings import load_settings
from tradier_pipeline.cycles.alerts import tell
from tradier_pipeline.cycles.defaults import SENSORS
from tradier_pipeline.monitoring.alerts import AlertError
from tradier_pipeline.monitoring.freshness import Freshness, read_freshness

MAX_TICK_GAP = timedelta(minutes=5)  # without a tick for so long the machine was off: snapshots get their time again


class Watch(BaseModel, frozen=True):
    """The cursor: since and until when somebody watched, the stale accounts as reported, and as reported in an alert."""

    since: AwareDatetime
    until: AwareDatetime
    reported: tuple[str, ...] | None = None
    alerted: tuple[str, ...] = ()


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=SENSORS,
    description="Reports snapshot_is_fresh when its verdict changes, and alerts. It launches no run.",
)
def freshness_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Judge the newest snapshots; report and tell what has changed since the last tick."""
    with as_dagster_failure():
        now = clock.now()
        watch = Watch.model_validate_json(context.cursor) if context.cursor else Watch(since=now, until=now)
        since = watch.since if now - watch.until < MAX_TICK_GAP else now
        found = read_freshness(load_settings(), now, since)
        changed = found.stale != watch.reported
        alerted = watch.alerted if found.stale == watch.alerted else _tell(context, found, watch.alerted)
    cursor = Watch(since=since, until=now, reported=found.stale, alerted=alerted).model_dump_json()
    if not changed:
        return dg.SensorResult(skip_reason=str(found), cursor=cursor)
    return dg.SensorResult(asset_events=[evaluation(found)], cursor=cursor)


def _tell(context: dg.SensorEvaluationContext, found: Freshness, alerted: tuple[str, ...]) -> tuple[str, ...]:
    """What has been reported now. What reached nobody is reported again at the next tick; it does not hold up the report."""
    title = f"stale: {', '.join(found.stale)}" if found.stale else f"up to date again: {', '.join(alerted)}"
    try:
        tell(context.log, title, str(found))
    except AlertError as error:
        context.log.error(str(error))
        return alerted
    return found.stale
