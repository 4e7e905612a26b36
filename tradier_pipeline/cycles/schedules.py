"""The schedules: what is due at a minute becomes a run; of several accounts one for all. A tick writes nothing:
`assets/missed_minutes.py` records what it skips.

Cycles that coincide share one run: the schedule of the widest requests it, the others skip and say so.
"""

from collections.abc import Sequence
from datetime import datetime

import dagster as dg

from tradier_pipeline import clock
from tradier_pipeline.assets.resource import as_dagster_failure
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import Settings, load_settings
from tradier_pipeline.core.snapshot_id import MAX_LATENESS, SnapshotId
from tradier_pipeline.cycles.accounts import running_partitions
from tradier_pipeline.cycles.accounts_job import SNAPSHOT_ACCOUNTS
from tradier_pipeline.cycles.defaults import SCHEDULES
from tradier_pipeline.cycles.on_demand import ONLY_ERRORS
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.domain.cron import cron_schedules
from tradier_pipeline.domain.ticks import Cadence, due, widest
from tradier_pipeline.extract.connection import known_accounts
from tradier_pipeline.instance.partitions import PARTITION_TAG
from tradier_pipeline.instance.runs import ACCOUNT_TAG, TRIGGER_TAG, snapshots_tags
from tradier_pipeline.instance.switches import stopped_schedules
from tradier_pipeline.landing.zone import LandingZone

PRIORITY_TAG, CYCLES_FIRST = "dagster/priority", "10"  # of the queue: before backfills and what somebody launched
SETTING = {"monitor_cycle": "monitor_minutes", "trade_cycle": "trade_minutes", "account_sync": "sync_minutes"}
NEVER_DUE = "30 9 * * 1-5"  # a schedule needs a cron string; by it one that somebody starts says daily that it is off


def _schedule(cycle: str, settings: Settings, cron: Sequence[str]) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=cycle,
        job_name=SNAPSHOT_ACCOUNTS if takes_several(settings) else cycle,
        cron_schedule=list(cron) or NEVER_DUE,
        execution_timezone=str(clock.NEW_YORK),
        default_status=SCHEDULES if cron else dg.DefaultScheduleStatus.STOPPED,
        description=_description(cycle, settings, switched_on=bool(cron)),
    )
    def evaluate(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        with as_dagster_failure():
            return requested(cycle, settings, context)

    return evaluate


def build_schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """A schedule for each cycle that ticks when it can be due; one that is switched off is stopped and says why.

    Whether it is due is decided at every tick, by `due`, from the same settings: where another cycle leaves a minute to
    it, it must tick.
    """
    return [_schedule(cycle, settings, cron) for cycle, cron in cron_schedules(settings).items()]


def takes_several(settings: Settings) -> bool:
    """Whether the cycles take the snapshots of several accounts, all of a minute by one run. A schedule has one job."""
    return settings.accounts is None or len(settings.accounts) > 1 or settings.tokens is not None


def _description(cycle: str, settings: Settings, *, switched_on: bool) -> str:
    minutes = getattr(settings, SETTING[cycle])
    named = f"TRADIER_{SETTING[cycle].upper()}={minutes}"
    if minutes == 0:
        return f"Switched off by {named}."
    if not switched_on:
        return f"Never due: TRADIER_CALENDAR={settings.calendar} has no time outside the session."
    every = "Every minute" if minutes == 1 else f"Every {minutes} minutes"
    if cycle != "account_sync":
        return f"{every} of the session ({named})."
    return (
        f"{every} ({named}) from {settings.sync_from:%H:%M} to {settings.sync_until:%H:%M} outside the session, at "
        f"{settings.sync_before_open:%H:%M}, and {settings.sync_after_close_minutes} minutes after the close."
    )


def requested(
    cycle: str, built: Settings, context: dg.ScheduleEvaluationContext
) -> list[dg.RunRequest] | dg.SkipReason:
    """What the schedule of a cycle asks for at a minute: a run, or why there is none.

    Args:
        cycle: the name of the schedule.
        built: the settings that the schedules were made from: all of them tick by these until they are made anew.
        context: of the tick.

    Raises:
        PipelineError: the settings are malformed, or the accounts of the token cannot be read.
    """
    settings = load_settings()
    instant = context.scheduled_execution_time
    day = clock.trade_date(instant)
    calendar = MarketCalendar.of(built)
    session = calendar.session_of(day)
    if session is None:
        return dg.SkipReason(f"the exchange is closed on {day}")
    cadence = Cadence.of(built)
    cycles = due(instant, session, cadence)
    if cycle not in cycles:
        return dg.SkipReason(f"not due at {instant.astimezone(clock.NEW_YORK):%H:%M} New York time")
    if widest(cycles) != cycle:
        stopped = stopped_schedules(context.instance)  # another one must do their work
        cycles = tuple(name for name in cycles if name == cycle or name not in stopped)
    if (runner := widest(cycles)) != cycle:
        return dg.SkipReason(f"{runner} takes the snapshot of this minute")
    together = takes_several(built)
    wanted, skipped = _wanted(settings, instant, context)
    if not wanted:
        return dg.SkipReason("; ".join(skipped))
    for line in skipped:
        context.log.warning(line)
    if together:
        return [_request_together(of_token, cycle, cycles, group) for group, of_token in _by_token(settings, wanted)]
    return [_request(snapshot_id, cycles) for snapshot_id in wanted]


def _wanted(
    settings: Settings, instant: datetime, context: dg.ScheduleEvaluationContext
) -> tuple[list[SnapshotId], list[str]]:
    """The snapshots to take now, and why others are not."""
    zone = LandingZone(settings.landing)
    running = running_partitions(context.instance, zone)
    wanted: list[SnapshotId] = []
    skipped: list[str] = []
    for account_id in known_accounts(settings):
        try:
            snapshot_id = SnapshotId.parse(str(SnapshotId(account_id, instant)))
            reason = _reason_to_skip(zone, snapshot_id, running.get(account_id))
            if reason is None:
                wanted.append(snapshot_id)
        except PipelineError as error:  # of one account; the others go on
            reason = str(error)
        if reason is not None:
            skipped.append(f"{account_id}: {reason}")
    return wanted, skipped


def _by_token(settings: Settings, wanted: Sequence[SnapshotId]) -> list[tuple[str | None, list[SnapshotId]]]:
    """A run for each access token: what one waits for, no other does. Which goes first changes by the minute."""
    found: dict[str | None, list[SnapshotId]] = {}
    for snapshot_id in wanted:
        found.setdefault(settings.of_account(snapshot_id.account_id).group, []).append(snapshot_id)
    runs = list(found.items())
    first = int(wanted[0].instant.timestamp() // 60) % len(runs)
    return [*runs[first:], *runs[:first]]


def _request_together(
    wanted: Sequence[SnapshotId], cycle: str, cycles: tuple[str, ...], group: str | None
) -> dg.RunRequest:
    instant = clock.iso(wanted[0].instant)
    of_token = f"/{group}" if group else ""
    return dg.RunRequest(
        run_key=f"{cycle}{of_token}@{instant}",  # of a tick that is evaluated again, too, whatever is landed by then
        run_config=ONLY_ERRORS,
        tags={
            **snapshots_tags([snapshot_id.account_id for snapshot_id in wanted], instant),
            PRIORITY_TAG: CYCLES_FIRST,
            TRIGGER_TAG: ",".join(cycles),
        },
    )


def _request(snapshot_id: SnapshotId, cycles: tuple[str, ...]) -> dg.RunRequest:
    # a run of one cycle says which by its name
    trigger = {TRIGGER_TAG: ",".join(cycles)} if len(cycles) > 1 else {}
    return dg.RunRequest(
        run_key=str(snapshot_id),
        run_config=ONLY_ERRORS,
        tags={
            PARTITION_TAG: str(snapshot_id),  # the partition itself exists once it is landed
            ACCOUNT_TAG: snapshot_id.account_id,
            PRIORITY_TAG: CYCLES_FIRST,
            **trigger,
        },
    )


def _reason_to_skip(zone: LandingZone, snapshot_id: SnapshotId, running: str | None) -> str | None:
    """Why this account gets no run now. A minute that is lost by it is recorded as missed."""
    now = clock.now()
    if zone.find(snapshot_id):
        return "landed already"
    if now > snapshot_id.instant + MAX_LATENESS:
        reason = f"late: the tick came {(now - snapshot_id.instant).total_seconds():.0f} s after its minute"
    elif running not in (None, str(snapshot_id)):  # its own run: this tick was interrupted and is evaluated again
        reason = f"overlap: {running} is still being taken"
    else:
        return None
    return f"missed, {reason}"
