"""A look at the service levels every hour: a budget that burns is told before it is gone."""

from __future__ import annotations

import dagster as dg
from pydantic import BaseModel

from tradier_pipeline.assets.resource import as_dagster_failure
from tradier_pipeline.core.settings import load_settings
from tradier_pipeline.cycles.alerts import tell
from tradier_pipeline.cycles.defaults import SENSORS
from tradier_pipeline.monitoring.service_levels import burning
from tradier_pipeline.warehouse.reads import connect_readonly

EVERY_S = 3600


class Alerted(BaseModel, frozen=True):
    """The cursor: account and service of which an alert was sent, and no end of it."""

    burning: tuple[str, ...] = ()


@dg.sensor(
    name="alert_service_level",
    minimum_interval_seconds=EVERY_S,
    default_status=SENSORS,
    description="Tells when the error budget of a service level burns too fast, and when that is over. No run.",
)
def service_level_alert(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Judge the service levels; tell what burns that did not, and what burns no more."""
    with as_dagster_failure():
        settings = load_settings()
        alerted = Alerted.model_validate_json(context.cursor) if context.cursor else Alerted()
        if not settings.warehouse.exists():
            return dg.SensorResult(skip_reason="nothing is published yet", cursor=context.cursor)
        with connect_readonly(settings.warehouse) as connection:
            found = burning(connection)
        # by account and service: the figures change at every look
        named = {
            f"{account} {level.split()[0]}": f"{account}: {level}"
            for account, levels in found.items()
            for level in levels
        }
        new, over = named.keys() - set(alerted.burning), set(alerted.burning) - named.keys()
        if new:
            tell(context.log, "an error budget burns", "\n".join(named[one] for one in sorted(new)))
        if over:
            tell(context.log, "an error budget burns no more", ", ".join(sorted(over)))
    cursor = Alerted(burning=tuple(sorted(named))).model_dump_json()
    return dg.SensorResult(skip_reason="; ".join(named.values()) or "every budget lasts", cursor=cursor)
