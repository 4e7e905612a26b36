"""The schedules, called as the daemon calls them: one run for each due minute, or a recorded miss."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from itertools import takewhile
from typing import Any, cast

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.remote_representation.external import RemoteSchedule
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._scheduler.scheduler import ScheduleIterationTimes, launch_scheduled_runs
from dagster._utils.schedules import schedule_execution_time_iterator

from tradier_pipeline import clock
from tradier_pipeline.assets.missed_minutes import FILE, Scheduled, record_gaps
from tradier_pipeline.assets.raw import trigger_of
from tradier_pipeline.cli import main, without_dagster
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import DEMO_ACCOUNT, Settings, load_settings
from tradier_pipeline.cycles.schedules import build_schedules
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.domain.ticks import Cadence, due
from tradier_pipeline.instance.partitions import PARTITION_TAG
from tradier_pipeline.instance.runs import SNAPSHOTS_TAG, keys_together
from tradier_pipeline.instance.switches import read_stopped_schedules, stopped_schedules
from tradier_pipeline.landing.manifest import MissedRecord
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.cycles.conftest import CLOSE, MINUTE, OPEN, Clock, unfinished, workspace_of
from tradier_pipeline_tests.support.dagster_runs import CYCLES, definitions, evaluate, failure, materialized, run_job
from tradier_pipeline_tests.support.sampling import sampled

LOGGER = logging.getLogger(__name__)
OTHER = "SIM00000002"
ENDED = ("14:30:00Z", "14:31:00Z")


def every_cycle(instance: dg.DagsterInstance, instant: datetime) -> Mapping[str, list[dg.RunRequest]]:
    return {cycle: requests for cycle in CYCLES if (requests := evaluate(instance, cycle, instant)[0])}


def missed(home: Home, account_id: str = DEMO_ACCOUNT) -> list[MissedRecord]:
    """By instant."""
    return sorted(home.zone.missed(account_id), key=lambda record: record.snapshot_id)


@sampled("first", [375, 0])
def test_a_session_up_to_its_close_has_one_request_for_every_due_minute_of_all_accounts(
    home: Home, machine: Clock, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", f"{DEMO_ACCOUNT},{OTHER}")
    asked: Counter[str] = Counter()
    tags: dict[str, Mapping[str, str]] = {}
    jobs = Counter[str]()
    minutes = range(first, 391)  # the 391st is the account sync at the close
    for minute in minutes:
        machine.time = OPEN + minute * MINUTE + timedelta(seconds=1)
        for cycle, requests in every_cycle(instance, OPEN + minute * MINUTE).items():
            jobs[cycle] += len(requests)
            for request in requests:
                assert request.run_key == f"{cycle}@{clock.iso(OPEN + minute * MINUTE)}"
                for key in keys_together(request.tags[SNAPSHOTS_TAG]):
                    asked[key] += 1
                    tags[key] = request.tags
    due = [OPEN + minute * MINUTE for minute in minutes]
    expected = {f"{account}@{clock.iso(instant)}" for account in (DEMO_ACCOUNT, OTHER) for instant in due}
    assert asked == dict.fromkeys(expected, 1)
    trades = sum(minute % 15 == 0 for minute in minutes[:-1])
    assert jobs == {"monitor_cycle": len(due) - 1 - trades, "trade_cycle": trades, "account_sync": 1}
    assert instance.get_dynamic_partitions("tradier_snapshots") == []  # each exists once it is landed
    assert tags[f"{OTHER}@2025-11-03T20:45:00Z"] == {
        ".dagster/tradier_snapshots": f"{DEMO_ACCOUNT},{OTHER}@2025-11-03T20:45:00Z",
        "dagster/priority": "10",
        ".dagster/tradier_account": "several",
        "tradier/trigger": "monitor_cycle,trade_cycle",
    }
    assert tags[f"{OTHER}@2025-11-03T20:46:00Z"]["tradier/trigger"] == "monitor_cycle"
    assert missed(home) == []


def ticks_of(schedule: dg.ScheduleDefinition, day: str) -> set[str]:
    """The New York times of a day at which Dagster ticks a schedule."""
    midnight = datetime.fromisoformat(day).replace(tzinfo=clock.NEW_YORK)
    found = schedule_execution_time_iterator(
        midnight.timestamp(), cast("str | list[str]", schedule.cron_schedule), schedule.execution_timezone
    )
    return {f"{at:%H:%M}" for at in takewhile(lambda at: f"{at:%Y-%m-%d}" == day, found)}


def due_on(cycle: str, day: str, settings: Settings) -> set[str]:
    """The New York times of a day at which a cycle is due."""
    session, cadence = MarketCalendar(settings.calendar).session_of(date.fromisoformat(day)), Cadence.of(settings)
    midnight = datetime.fromisoformat(day).replace(tzinfo=clock.NEW_YORK)
    minutes = [midnight + number * MINUTE for number in range(24 * 60)]
    return {f"{at:%H:%M}" for at in minutes if cycle in due(at.astimezone(UTC), session, cadence)}


FULL_DAYS = ["2025-11-03", "2025-06-04", "2025-03-10"]
HALF_DAY = "2025-11-28"
SETTINGS: list[dict[str, Any]] = [
    {},
    {"monitor_minutes": 7, "trade_minutes": 25, "sync_minutes": 65},
    {"monitor_minutes": 5, "trade_minutes": 60, "sync_from": time(6, 30), "sync_until": time(17)},
    {"sync_before_open": time(9, 15), "sync_after_close_minutes": 45, "sync_minutes": 390},
    {"calendar": "24/7", "trade_minutes": 25},
]


@sampled("given", SETTINGS, kept=(0, 2, 4))
def test_a_schedule_ticks_when_its_cycle_is_due_and_beyond_that_only_where_an_early_close_makes_it_due(
    given: dict[str, Any],
) -> None:
    settings = Settings(**given)
    for schedule in build_schedules(settings):
        if schedule.default_status is dg.DefaultScheduleStatus.STOPPED:
            continue
        on_half_days = due_on(schedule.name, HALF_DAY, settings)
        assert on_half_days <= ticks_of(schedule, HALF_DAY)
        for day in FULL_DAYS:
            needed = due_on(schedule.name, day, settings)
            assert needed <= ticks_of(schedule, day) <= needed | on_half_days


@pytest.mark.parametrize(
    ("given", "cycle", "description"),
    [
        ({"monitor_minutes": 0}, "monitor_cycle", "Switched off by TRADIER_MONITOR_MINUTES=0."),
        ({"trade_minutes": 0}, "trade_cycle", "Switched off by TRADIER_TRADE_MINUTES=0."),
        ({"sync_minutes": 0}, "account_sync", "Switched off by TRADIER_SYNC_MINUTES=0."),
        ({"calendar": "24/7"}, "account_sync", "Never due: TRADIER_CALENDAR=24/7 has no time outside the session."),
    ],
)
def test_a_cycle_that_is_never_due_does_not_tick_and_says_which_setting_is_why(
    given: dict[str, Any], cycle: str, description: str
) -> None:
    schedules = {schedule.name: schedule for schedule in build_schedules(Settings(**given))}
    stopped = [name for name, one in schedules.items() if one.default_status is dg.DefaultScheduleStatus.STOPPED]
    assert stopped == [cycle]
    assert schedules[cycle].description == description


def test_a_setting_changed_after_the_schedules_were_made_loses_no_minute_between_them(
    home: Home, machine: Clock, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {schedule.name: schedule for schedule in build_schedules(load_settings())}
    monkeypatch.setenv("TRADIER_TRADE_MINUTES", "5")  # by which 14:35 were the trade cycle's, which does not tick then
    machine.time = OPEN + 5 * MINUTE
    with dg.build_schedule_context(
        instance=instance, scheduled_execution_time=machine.time.astimezone(clock.NEW_YORK)
    ) as context:
        (request,) = cast("list[dg.RunRequest]", before["monitor_cycle"](context))
    assert "tradier/trigger" not in request.tags


def test_a_request_fits_its_job(home: Home, machine: Clock, instance: dg.DagsterInstance) -> None:
    for cycle, instant in {
        "trade_cycle": OPEN,
        "monitor_cycle": OPEN + MINUTE,
        "account_sync": CLOSE,
    }.items():
        machine.time = instant
        ((request,), _) = evaluate(instance, cycle, instant)
        job = definitions().resolve_job_def(CYCLES[cycle].job_name)
        assert job.name == cycle
        assert dg.validate_run_config(job, request.run_config)
        local = instant.astimezone(clock.NEW_YORK)
        repository = definitions().get_repository_def()
        with dg.build_schedule_context(
            instance=instance, scheduled_execution_time=local, repository_def=repository
        ) as context:
            data = CYCLES[cycle].evaluate_tick(context)
        (resolved,) = data.run_requests or []
        assert resolved.tags["dagster/partition"] == request.run_key


@pytest.mark.parametrize("day", ["2025-11-27", "2025-12-25"])
def test_a_holiday_has_no_request_and_no_miss(
    day: str, home: Home, machine: Clock, instance: dg.DagsterInstance
) -> None:
    machine.time = datetime.fromisoformat(f"{day}T15:00:00Z")
    for cycle in CYCLES:
        assert evaluate(instance, cycle, machine.time) == ([], f"the exchange is closed on {day}")
    assert missed(home) == []


def test_the_schedules_that_skip_name_the_one_that_runs(
    home: Home, machine: Clock, instance: dg.DagsterInstance
) -> None:
    assert evaluate(instance, "monitor_cycle", OPEN) == ([], "trade_cycle takes the snapshot of this minute")
    assert evaluate(instance, "account_sync", OPEN) == ([], "not due at 09:30 New York time")


def test_a_cycle_switched_off_by_zero_leaves_its_minutes_to_the_others(
    home: Home, machine: Clock, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_TRADE_MINUTES", "0")
    assert set(every_cycle(instance, OPEN)) == {"monitor_cycle"}
    monkeypatch.setenv("TRADIER_MONITOR_MINUTES", "0")
    assert every_cycle(instance, OPEN) == {}
    assert missed(home) == []


def test_a_tick_later_than_a_minute_requests_nothing(home: Home, machine: Clock, instance: dg.DagsterInstance) -> None:
    machine.time = OPEN + timedelta(seconds=60)
    assert len(every_cycle(instance, OPEN)) == 1
    machine.time = OPEN + timedelta(seconds=61)
    requests, reason = evaluate(instance, "trade_cycle", OPEN)
    assert (requests, reason) == ([], f"{DEMO_ACCOUNT}: missed, late: the tick came 61 s after its minute")
    assert evaluate(instance, "monitor_cycle", OPEN)[0] == []


def test_an_evaluation_has_no_effects_whatever_its_instant(
    home: Home, machine: Clock, instance: dg.DagsterInstance
) -> None:
    for instant in (OPEN - timedelta(days=3), OPEN, OPEN + timedelta(days=1), OPEN + 45 * MINUTE):
        for cycle in CYCLES:
            evaluate(instance, cycle, instant)
    assert {path.name for path in home.path.iterdir()} == {"dagster", "calendar"}  # the sessions are computed once
    assert instance.get_dynamic_partitions("tradier_snapshots") == []


@pytest.mark.parametrize("status", ["NOT_STARTED", "STARTING", "STARTED", "CANCELING"])
def test_a_tick_while_a_run_of_the_account_is_unfinished_skips_that_account_alone(
    status: str, home: Home, machine: Clock, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", f"{DEMO_ACCOUNT},{OTHER}")
    before = f"{DEMO_ACCOUNT}@2025-11-03T14:29:00Z"
    unfinished(instance, dg.DagsterRunStatus[status], before)
    ((request,), _) = evaluate(instance, "trade_cycle", OPEN)
    assert keys_together(request.tags[SNAPSHOTS_TAG]) == (f"{OTHER}@2025-11-03T14:30:00Z",)


def test_a_run_whose_process_died_holds_nothing_up_and_one_that_lives_does(
    home: Home, machine: Clock, instance: dg.DagsterInstance
) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    before = f"{DEMO_ACCOUNT}@2025-11-03T14:29:00Z"
    unfinished(instance, dg.DagsterRunStatus.STARTED, before, f"{socket.gethostname()} {dead.pid}")
    assert len(evaluate(instance, "trade_cycle", OPEN)[0]) == 1
    unfinished(instance, dg.DagsterRunStatus.STARTED, before, f"{socket.gethostname()} {os.getpid()}")
    assert evaluate(instance, "trade_cycle", OPEN)[0] == []


@pytest.mark.parametrize("status", ["SUCCESS", "FAILURE", "CANCELED"])
def test_a_finished_run_holds_nothing_up(status: str, home: Home, machine: Clock, instance: dg.DagsterInstance) -> None:
    unfinished(instance, dg.DagsterRunStatus[status], f"{DEMO_ACCOUNT}@2025-11-03T14:29:00Z")
    assert len(evaluate(instance, "trade_cycle", OPEN)[0]) == 1


def test_an_interrupted_tick_that_is_evaluated_again_asks_for_its_own_run_again(
    home: Home, machine: Clock, instance: dg.DagsterInstance
) -> None:
    """Dagster then finds the run by its key and starts no second one."""
    ((request,), _) = evaluate(instance, "trade_cycle", OPEN)
    unfinished(instance, dg.DagsterRunStatus.STARTED, str(request.run_key))
    assert evaluate(instance, "trade_cycle", OPEN)[0] == [request]
    assert missed(home) == []


def test_a_malformed_setting_fails_the_tick_in_one_line(
    home: Home, machine: Clock, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_TRADE_MINUTES", "7")
    with pytest.raises(dg.Failure) as reported:
        evaluate(instance, "trade_cycle", OPEN)
    assert reported.value.description == (
        "TRADIER_TRADE_MINUTES is malformed. Set it to a multiple of 5 minutes, up to 390; 0 switches the cycle off."
    )


def test_all_accounts_are_looked_up_once_an_hour(
    home: Home, simulated: Simulated, machine: Clock, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", "all")
    for minute in (0, 1, 30, 60):
        machine.time = OPEN + minute * MINUTE
        for requests in every_cycle(instance, machine.time).values():
            (request,) = requests
            accounts = [key.partition("@")[0] for key in keys_together(request.tags[SNAPSHOTS_TAG])]
            assert accounts == [DEMO_ACCOUNT, OTHER, "SIM00000003"]
    assert len(simulated.requests()) == 1
    machine.time = OPEN + 61 * MINUTE
    assert len(every_cycle(instance, machine.time)) == 1
    assert len(simulated.requests()) == 2


def test_accounts_that_cannot_be_looked_up_fail_the_tick_and_say_to_name_them(
    home: Home, simulated: Simulated, machine: Clock, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", "all")
    monkeypatch.setenv("TRADIER_ACCESS_TOKEN", "wrong")
    with pytest.raises(dg.Failure, match="Name the accounts in TRADIER_ACCOUNT_ID"):
        evaluate(instance, "trade_cycle", OPEN)


def test_a_requested_run_takes_the_snapshot_under_the_names_of_its_cycles(
    home: Home, simulated: Simulated, instance: dg.DagsterInstance
) -> None:
    now = clock.now().replace(second=0, microsecond=0)
    key = f"{DEMO_ACCOUNT}@{clock.iso(now)}"
    tags = {"tradier/trigger": "monitor_cycle,trade_cycle"}
    result = run_job(instance, key, job="trade_cycle", tags=tags)
    assert result.success, failure(result)
    assert materialized(instance) == {key}
    (landed,) = home.zone.snapshots(DEMO_ACCOUNT)
    assert landed.manifest.trigger == "monitor_cycle,trade_cycle"


class Daemon:
    """Dagster's own scheduler on the project's code location, an iteration at a time, at the test's clock."""

    def __init__(self, context: WorkspaceProcessContext, machine: Clock) -> None:
        self._context = context
        self._machine = machine
        self._iterations: dict[str, ScheduleIterationTimes] = {}

    def iterate(self, now: datetime, *, fails: bool = False) -> None:
        self._machine.time = now
        errors = [
            error for error in launch_scheduled_runs(self._context, LOGGER, now, self._iterations) if error is not None
        ]
        assert bool(errors) == fails, errors

    def count(self, now: datetime) -> None:
        """What the sensor does that accounts for every due minute."""
        self._machine.time = now
        record_gaps(load_settings(), self._context.instance)

    def stop(self, cycle: str) -> None:
        """What the switch in the UI does."""
        schedule = self._schedule(cycle)
        self._context.instance.stop_schedule(schedule.get_remote_origin_id(), schedule.selector_id, schedule)

    def start(self, cycle: str) -> None:
        self._context.instance.start_schedule(self._schedule(cycle))

    def _schedule(self, cycle: str) -> RemoteSchedule:
        (entry,) = self._context.create_request_context().get_code_location_entries().values()
        assert entry.code_location is not None
        return entry.code_location.get_repository("__repository__").get_schedule(cycle)


@pytest.fixture
def daemon(machine: Clock, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A scheduler that has been up since a minute before the open."""
    monkeypatch.setattr(instance, "purge_ticks", lambda *_, **__: None)  # ticks of 2025 are past their age
    with workspace_of(instance) as context:
        started = Daemon(context, machine)
        started.stop("account_activity")  # of the day before, due at any minute until it is read
        started.iterate(OPEN - timedelta(seconds=30))
        started.count(OPEN - timedelta(seconds=30))
        yield started


def launched(instance: dg.DagsterInstance) -> dict[str, str]:
    """Partition -> the job that was launched for it, and proof that it was once."""
    runs = [(run.tags["dagster/partition"], run.job_name) for run in instance.get_runs()]
    assert len(dict(runs)) == len(runs)
    return dict(runs)


def runs_of(instance: dg.DagsterInstance, time: str) -> list[str]:
    return [run.run_id for run in instance.get_runs() if run.tags[PARTITION_TAG].endswith(time)]


def finish_runs(instance: dg.DagsterInstance) -> None:
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])):
        instance.report_run_canceled(run)


def test_the_daemon_launches_the_cycles_by_default_one_run_a_minute(
    home: Home, daemon: Daemon, instance: dg.DagsterInstance
) -> None:
    for minute in range(3):
        daemon.iterate(OPEN + minute * MINUTE + timedelta(seconds=1))
        finish_runs(instance)
    assert launched(instance) == {
        f"{DEMO_ACCOUNT}@2025-11-03T14:30:00Z": "trade_cycle",
        f"{DEMO_ACCOUNT}@2025-11-03T14:31:00Z": "monitor_cycle",
        f"{DEMO_ACCOUNT}@2025-11-03T14:32:00Z": "monitor_cycle",
    }
    assert missed(home) == []


def test_a_schedule_switched_off_in_the_ui_leaves_its_minutes_to_the_others(
    home: Home, daemon: Daemon, instance: dg.DagsterInstance
) -> None:
    daemon.stop("trade_cycle")
    daemon.iterate(OPEN + timedelta(seconds=1))
    (run,) = instance.get_runs()
    assert (run.job_name, trigger_of(run)) == ("monitor_cycle", "monitor_cycle")
    shown = {tag for tag in run.tags if not tag.startswith((".dagster/", "dagster/"))}
    assert shown == set()  # beside the partition: eight runs on a screen


def test_a_run_that_waits_for_too_long_costs_its_own_minute_alone(
    home: Home, daemon: Daemon, instance: dg.DagsterInstance
) -> None:
    daemon.iterate(OPEN + timedelta(seconds=1))
    daemon.iterate(OPEN + MINUTE + timedelta(seconds=1))
    assert launched(instance) == {
        f"{DEMO_ACCOUNT}@2025-11-03T14:30:00Z": "trade_cycle",
        f"{DEMO_ACCOUNT}@2025-11-03T14:31:00Z": "monitor_cycle",
    }
    daemon.count(OPEN + 4 * MINUTE)
    assert missed(home) == []  # they may still be about to record it themselves
    finish_runs(instance)
    daemon.count(OPEN + 4 * MINUTE)
    ended = [f"its run {runs_of(instance, time)[0]} ended before anything was landed: canceled" for time in ENDED]
    assert [(note.snapshot_id[-9:], note.reason) for note in missed(home)] == [
        *zip(ENDED, ended, strict=True),
        ("14:32:00Z", "the scheduler was not running"),
    ]


def test_every_minute_that_a_tick_asked_nothing_for_is_recorded_with_its_cause(
    home: Home, daemon: Daemon, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished(instance, dg.DagsterRunStatus.STARTED, f"{DEMO_ACCOUNT}@2025-11-03T14:29:00Z")
    daemon.iterate(OPEN + timedelta(seconds=1))
    daemon.iterate(OPEN + MINUTE + timedelta(seconds=70))  # of 14:31, late
    instance.report_run_canceled(instance.get_runs()[-1])
    with monkeypatch.context() as patched:
        patched.setenv("TRADIER_MAX_AGE_SECONDS", "soon")
        daemon.iterate(OPEN + 3 * MINUTE + timedelta(seconds=1), fails=True)
    daemon.count(OPEN + 5 * MINUTE)
    assert {note.snapshot_id[-9:-4]: note.reason for note in missed(home)} == {
        "14:30": f"overlap: {DEMO_ACCOUNT}@2025-11-03T14:29:00Z is still being taken",
        "14:31": "the scheduler was not running",
        "14:32": f"overlap: {DEMO_ACCOUNT}@2025-11-03T14:29:00Z is still being taken",
        "14:33": "the tick of monitor_cycle failed: TRADIER_MAX_AGE_SECONDS is malformed. "
        "Set it to whole seconds, from 60 to 3600.",
    }


def test_minutes_the_daemon_slept_through_are_missed_and_the_current_one_is_taken(
    home: Home, daemon: Daemon, instance: dg.DagsterInstance
) -> None:
    daemon.iterate(OPEN + timedelta(seconds=1))
    finish_runs(instance)
    daemon.iterate(OPEN + 17 * MINUTE + timedelta(seconds=1))
    assert launched(instance) == {
        f"{DEMO_ACCOUNT}@2025-11-03T14:30:00Z": "trade_cycle",
        f"{DEMO_ACCOUNT}@2025-11-03T14:47:00Z": "monitor_cycle",
    }
    daemon.count(OPEN + 17 * MINUTE + timedelta(seconds=45))
    records = {record.snapshot_id[-9:-4]: record for record in missed(home)}
    assert set(records) == {f"14:{minute}" for minute in range(30, 47)}
    assert records.pop("14:30").reason.endswith("canceled")
    newest_of_the_trade_cycle = records.pop("14:45")  # Dagster does evaluate it, late
    assert newest_of_the_trade_cycle.trigger == "monitor_cycle,trade_cycle"
    assert newest_of_the_trade_cycle.reason == "late: the tick came 121 s after its minute"
    assert {(record.trigger, record.reason) for record in records.values()} == {
        ("monitor_cycle", "the scheduler was not running")
    }


@pytest.mark.parametrize(("before", "counted"), [({}, ["14:30"]), ({OTHER: OPEN}, [])])
def test_a_home_begins_with_the_minute_of_its_first_tick_and_an_account_that_comes_to_it_when_it_is_seen(
    home: Home, daemon: Daemon, instance: dg.DagsterInstance, before: dict[str, datetime], counted: list[str]
) -> None:
    (home.path / FILE).write_text(Scheduled(until=before).model_dump_json())
    daemon.iterate(OPEN + timedelta(seconds=1))
    finish_runs(instance)
    daemon.count(OPEN + timedelta(seconds=30))
    assert missed(home) == []
    daemon.count(OPEN + 2 * MINUTE)
    assert [note.snapshot_id[-9:-4] for note in missed(home)] == counted


def test_a_home_whose_first_minute_is_taken_without_dagster_begins_with_it_before_anything_is_read(
    home: Home, simulated: Simulated, machine: Clock, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any) -> None:
        raise PipelineError("the disk is full", "Free some space.")

    monkeypatch.setattr(without_dagster, "run_snapshot", breaks)
    machine.time = OPEN + timedelta(seconds=1)
    with pytest.raises(PipelineError):
        list(without_dagster.take_due(load_settings()))
    assert simulated.requests() == []
    machine.time = OPEN + 2 * MINUTE
    record_gaps(load_settings(), instance)
    assert [note.snapshot_id[-9:-4] for note in missed(home)] == ["14:30"]


def test_a_minute_that_is_landed_is_no_gap_although_its_key_was_pruned(
    home: Home, daemon: Daemon, instance: dg.DagsterInstance
) -> None:
    daemon.iterate(OPEN + timedelta(seconds=1))
    finish_runs(instance)
    (home.zone.root / DEMO_ACCOUNT / "2025-11-03" / f"{DEMO_ACCOUNT}@2025-11-03T14-31-00Z").mkdir(parents=True)
    daemon.count(OPEN + 4 * MINUTE)
    assert [note.snapshot_id[-9:-4] for note in missed(home)] == ["14:30", "14:32"]


def test_a_night_is_no_gap(home: Home, daemon: Daemon, instance: dg.DagsterInstance) -> None:
    (home.path / FILE).write_text(Scheduled(until={DEMO_ACCOUNT: CLOSE - 2 * MINUTE}).model_dump_json())
    daemon.iterate(CLOSE - MINUTE + timedelta(seconds=1))
    finish_runs(instance)
    daemon.count(CLOSE + 5 * timedelta(hours=1))
    before = len(missed(home))
    daemon.iterate(OPEN + timedelta(days=1, seconds=1))
    finish_runs(instance)
    daemon.count(OPEN + timedelta(days=1))
    of_the_morning = sorted(record.snapshot_id for record in missed(home))[before:]
    of_the_morning = [snapshot_id[-9:-4] for snapshot_id in of_the_morning]
    assert of_the_morning == ["12:00", "12:30", "13:00", "13:30", "14:00"]  # of the account sync
    assert len([run for run in instance.get_runs() if run.job_name in CYCLES]) == 2
    assert len(instance.get_runs(dg.RunsFilter(job_name="maintenance"))) == 1


def test_a_cycle_that_is_switched_off_is_named_by_status_and_a_finding_until_it_is_on_again(
    home: Home, machine: Clock, daemon: Daemon, instance: dg.DagsterInstance, simulated: Simulated
) -> None:
    daemon.stop("trade_cycle")
    off = ("account_activity", "trade_cycle")
    assert stopped_schedules(instance) == read_stopped_schedules(home.path / "dagster") == off
    clock_of_today = datetime.now(UTC)
    machine.time = clock_of_today
    assert CliRunner().invoke(main, ["snapshot"]).exit_code == 0
    status = CliRunner().invoke(main, ["status"]).stdout
    assert "switched off in the UI: account_activity, trade_cycle; on again under Automation" in status
    assert json.loads(CliRunner().invoke(main, ["status", "--json"]).stdout)["switched_off"] == list(off)
    found = CliRunner().invoke(main, ["findings"]).stdout
    assert "trade_cycle is switched off in the UI" in found
    assert "Automation" in found

    daemon.start("trade_cycle")
    machine.time = clock_of_today + MINUTE
    assert CliRunner().invoke(main, ["snapshot"]).exit_code == 0
    assert read_stopped_schedules(home.path / "dagster") == ("account_activity",)
    assert "trade_cycle" not in CliRunner().invoke(main, ["findings"]).stdout


def test_a_damaged_storage_of_dagster_does_not_take_status_down(home: Home, simulated: Simulated) -> None:
    take(home, simulated.broker)
    path = home.path / "dagster" / "schedules" / "schedules.db"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"garbage" * 1000)
    result = CliRunner().invoke(main, ["status"])
    assert result.exit_code == 0
    assert f"switched off: not known: {path} does not tell which cycles are switched off" in result.stdout
    assert json.loads(CliRunner().invoke(main, ["status", "--json"]).stdout)["switched_off"] is None
