"""A look at the age of the history every minute: no run could tell that there are no runs."""

from datetime import timedelta

import dagster as dg
from pydantic import AwareDatetime, BaseModel

from tradier_pipeline import clock
from tradier_pipeline.assets.resource import told_in_one_line
from tradier_pipeline.checks.freshness import evaluation
from tradier_pipeline.core.settings import load_settings
from tradier_pipeline.cycles.alerts import tell
from tradier_pipeline.cycles.defaults import SENSORS
from tradier_pipeline.monitoring.alerts import AlertError
from tradier_pipeline.monitoring.freshness import Freshness, read_freshness

ASLEEP = timedelta(minutes=5)  # without a tick for so long the machine was off: snapshots get their time again


class Watch(BaseModel, frozen=True):
    """The cursor: since and until when somebody watched, the stale accounts as reported, and as told in an alert."""

    since: AwareDatetime
    until: AwareDatetime
    reported: tuple[str, ...] | None = None
    told: tuple[str, ...] = ()


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=SENSORS,
    description="Reports snapshot_is_fresh when its verdict changes, and alerts. It launches no run.",
)
def freshness_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Judge the newest snapshots; report and tell what has changed since the last tick."""
    with told_in_one_line():
        now = clock.now()
        watch = Watch.model_validate_json(context.cursor) if context.cursor else Watch(since=now, until=now)
        since = watch.since if now - watch.until < ASLEEP else now
        found = read_freshness(load_settings(), now, since)
        changed = found.stale != watch.reported
        told = watch.told if found.stale == watch.told else _tell(context, found, watch.told)
    cursor = Watch(since=since, until=now, reported=found.stale, told=told).model_dump_json()
    if not changed:
        return dg.SensorResult(skip_reason=str(found), cursor=cursor)
    return dg.SensorResult(asset_events=[evaluation(found)], cursor=cursor)


def _tell(context: dg.SensorEvaluationContext, found: Freshness, told: tuple[str, ...]) -> tuple[str, ...]:
    """What has been told now. What reached nobody is told again at the next tick; it does not hold up the report."""
    title = f"stale: {', '.join(found.stale)}" if found.stale else f"up to date again: {', '.join(told)}"
    try:
        tell(context.log, title, str(found))
    except AlertError as error:
        context.log.error(str(error))
        return told
    return found.stale
