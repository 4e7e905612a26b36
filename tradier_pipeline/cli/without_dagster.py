"""The snapshots of the current minute without Dagster's storage: `python -m tradier_pipeline.cli.without_dagster`.

`up` starts this while that storage cannot be used. What is due is the same; the run history lacks these runs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress

import click
import dagster as dg

from tradier_pipeline import clock
from tradier_pipeline.assets.missed_minutes import begin_with
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import Settings, load_settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.cycles.on_demand import SnapshotRun, run_several, run_snapshot
from tradier_pipeline.cycles.snapshot_job import snapshot_job
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.domain.ticks import Cadence, due
from tradier_pipeline.extract.connection import known_accounts
from tradier_pipeline.instance.switches import SwitchesError, read_stopped_schedules
from tradier_pipeline.landing.zone import LandingZone


def take_due(settings: Settings) -> Iterator[SnapshotRun]:
    """Take what is due at the current minute and not landed yet; of several accounts all together.

    Raises:
        PipelineError: the accounts of the token cannot be read.
    """
    minute = clock.now().replace(second=0, microsecond=0)
    session = MarketCalendar.of(settings).session_of(clock.trade_date(minute))
    stopped = _stopped(settings)
    cycles = [cycle for cycle in due(minute, session, Cadence.of(settings)) if cycle not in stopped]
    if not cycles:
        return
    zone = LandingZone(settings.landing)
    ids = [SnapshotId(account_id, minute) for account_id in known_accounts(settings)]
    with suppress(PipelineError):  # a home that cannot be written says so where it should land them
        begin_with(settings, ids)
    wanted = [snapshot_id for snapshot_id in ids if zone.find(snapshot_id) is None]
    with dg.DagsterInstance.ephemeral() as instance:
        if len(wanted) > 1:
            yield from run_several(instance, wanted, ",".join(cycles))
        elif wanted:
            yield run_snapshot(instance, snapshot_job, settings, wanted[0], ",".join(cycles))


def _stopped(settings: Settings) -> tuple[str, ...]:
    """Those switched off in the UI, as far as the storage still tells."""
    try:
        return read_stopped_schedules(settings.dagster_home)
    except SwitchesError:
        return ()


def main() -> None:
    """Take them, a line for each."""
    try:
        for run in take_due(load_settings()):
            outcome = "published, without Dagster's run history" if run.published else f"not published: {run.error}"
            click.echo(f"{run.snapshot_id} {outcome}", err=True)
    except PipelineError as error:
        click.echo(f"tradier-pipeline: error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
