"""The sensors: requests become runs; fills, orders placed by hand and positions that are gone become requests."""

import json
import warnings
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import dagster as dg

from tradier_pipeline import clock
from tradier_pipeline.assets.missed_minutes import record_gaps
from tradier_pipeline.assets.resource import as_dagster_failure
from tradier_pipeline.broker.client import RetryPolicy
from tradier_pipeline.broker.decode import rows_of
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.outcome import shown
from tradier_pipeline.core.settings import Settings, load_settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.cycles.accounts import running_partitions
from tradier_pipeline.cycles.accounts_job import SNAPSHOT_ACCOUNTS, snapshot_accounts
from tradier_pipeline.cycles.defaults import SENSORS
from tradier_pipeline.cycles.on_demand import ONLY_ERRORS
from tradier_pipeline.cycles.snapshot_job import snapshot
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.extract.connection import Broker, connect, known_accounts
from tradier_pipeline.instance.partitions import PARTITION_TAG
from tradier_pipeline.instance.runs import ACCOUNT_TAG, TRIGGER_TAG, snapshots_tags
from tradier_pipeline.landing.errors import LandingError
from tradier_pipeline.landing.zone import LandedSnapshot, LandingZone
from tradier_pipeline.ledger.records import HOLDING, SnapshotRequest
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.warehouse.missing_legs import read_gone
from tradier_pipeline.warehouse.reads import connect_readonly

# Dagster warns of a parameter that it gives itself, to every sensor of more than one job.
warnings.filterwarnings("ignore", "Parameter `owners` of initializer `SensorDefinition", dg.BetaWarning)

MIN_SENSOR_INTERVAL_S = 1  # seconds; Dagster looks every 5, and would skip every other look at an interval of just that
GAPS_EVERY = 30  # seconds
AT_ONCE = 8  # tokens that are asked at a time
ASKED_AGAIN = timedelta(minutes=1)
ONE_LOOK = RetryPolicy(attempts=1, deadline=10.0)  # the next look comes soon


def build_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """The sensors; the one that looks at the broker only if the settings want it."""
    sensors = [request_sensor, flat_sensor, gap_sensor]
    return [*sensors, _broker_sensor(settings.broker_sensor_seconds)] if settings.broker_sensor_seconds else sensors


@dg.sensor(
    minimum_interval_seconds=GAPS_EVERY,
    default_status=SENSORS,
    description="Records every due minute of which there is no snapshot, with its cause. It launches no run.",
)
def gap_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    with as_dagster_failure():
        found = record_gaps(load_settings(), context.instance)
        if not found:
            return dg.SkipReason("every due minute is accounted for")
        return dg.SkipReason(f"{len(found)} due minutes were missed, such as {found[-1]}")


@dg.sensor(
    jobs=[snapshot, snapshot_accounts],
    minimum_interval_seconds=MIN_SENSOR_INTERVAL_S,
    default_status=SENSORS,
    description="Takes a snapshot of every account for which a request waits in the ledger.",
)
def request_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    with as_dagster_failure():
        settings = load_settings()
        waiting = _by_account(Ledger(settings.ledger).waiting())
        if not waiting:
            return dg.SkipReason("no request waits")
        return _requested(settings, waiting, context)


def _requested(
    settings: Settings, waiting: Mapping[str, list[SnapshotRequest]], context: dg.SensorEvaluationContext
) -> dg.SensorResult | dg.SkipReason:
    asked: dict[str, Any] = json.loads(context.cursor or "{}")
    running = running_partitions(context.instance, LandingZone(settings.landing))
    wanted: dict[tuple[str, str | None], list[str]] = {}  # by what for, and by the token's group
    skipped: list[str] = []
    for account_id, account_requests in waiting.items():
        newest = account_requests[-1].request_id
        if settings.accounts is not None and account_id not in settings.accounts:
            reason = f"not an account of TRADIER_{'ACCOUNT_ID' if settings.tokens is None else 'TOKENS'}"
        elif account_id in running:  # it answers them, or the next look does
            reason = f"{running[account_id]} is still being taken"
        elif _just_asked(asked.get(account_id), newest):
            reason = "the run asked for did not answer them; asked again within a minute"
        else:
            trigger = ",".join(dict.fromkeys(request.reason for request in account_requests))
            wanted.setdefault((trigger, settings.of_account(account_id).group), []).append(account_id)
            asked[account_id] = {"newest": newest, "at": clock.iso(clock.now())}
            continue
        skipped.append(f"{account_id}: {reason}")
    if not wanted:
        return dg.SkipReason("; ".join(skipped))
    for line in skipped:
        context.log.info(line)
    requests = [_run_request(accounts, trigger) for (trigger, _), accounts in wanted.items()]
    return dg.SensorResult(run_requests=requests, cursor=json.dumps(asked))


def _just_asked(last: Mapping[str, Any] | None, newest: int) -> bool:
    """Whether a run for the same requests was asked for: it failed before its first fetch, or could not claim them."""
    return (
        last is not None and newest <= last["newest"] and clock.now() < datetime.fromisoformat(last["at"]) + ASKED_AGAIN
    )


def _run_request(accounts: Sequence[str], trigger: str) -> dg.RunRequest:
    """A run for the accounts of which a snapshot is wanted for the same reason."""
    account_id, *others = accounts
    snapshot_id = str(SnapshotId.now(account_id))
    if others:
        return dg.RunRequest(
            run_key=snapshot_id,
            job_name=SNAPSHOT_ACCOUNTS,
            run_config=ONLY_ERRORS,
            tags={**snapshots_tags(accounts, snapshot_id.rpartition("@")[2]), TRIGGER_TAG: trigger},
        )
    return dg.RunRequest(
        run_key=snapshot_id,
        job_name="snapshot",
        run_config=ONLY_ERRORS,
        tags={PARTITION_TAG: snapshot_id, ACCOUNT_TAG: account_id, TRIGGER_TAG: trigger},
    )


def _by_account(requests: Sequence[SnapshotRequest]) -> dict[str, list[SnapshotRequest]]:
    found: dict[str, list[SnapshotRequest]] = {}
    for request in requests:
        found.setdefault(request.account_id, []).append(request)
    return found


@dg.sensor(
    minimum_interval_seconds=MIN_SENSOR_INTERVAL_S,
    default_status=SENSORS,
    description="Requests a second snapshot when one shows a position gone that the ledger holds open.",
)
def flat_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    with as_dagster_failure():
        settings = load_settings()
        ledger = Ledger(settings.ledger)
        published = _published(settings)
        if not ledger.exists or published in (None, context.cursor):
            return dg.SkipReason("nothing new is published")
        trades = ledger.trades(HOLDING)
        suspected: list[str] = []
        if trades:
            with connect_readonly(settings.warehouse) as connection:
                found = read_gone(connection, trades)
            for missing in found:
                note = f"{', '.join(missing.symbols)} gone in {missing.snapshot_id}"
                if missing.state == "suspected" and ledger.request_once(
                    missing.account_id, "position_flat", order_id=missing.trade_id, note=note
                ):
                    suspected.append(f"{missing.trade_id}: {note}")
        context.update_cursor(published)
        return dg.SkipReason("; ".join(suspected) or "every open trade is held, or its end is confirmed")


def _published(settings: Settings) -> str | None:
    """What changes with every publish: it renames a new file over the old one."""
    try:
        status = settings.warehouse.stat()
    except FileNotFoundError:
        return None
    return f"{status.st_ino}-{status.st_mtime_ns}"


def _broker_sensor(seconds: int) -> dg.SensorDefinition:
    @dg.sensor(
        minimum_interval_seconds=seconds,
        default_status=SENSORS,
        description="Looks at today's orders between the cycles of a session (TRADIER_BROKER_SENSOR_SECONDS), and "
        "requests a snapshot when one was filled, or placed by hand.",
    )
    def broker_sensor() -> dg.SkipReason:
        with as_dagster_failure():
            settings = load_settings()
            now = clock.now()
            session = MarketCalendar.of(settings).session_of(clock.trade_date(now))
            if session is None or now not in session:
                return dg.SkipReason("the exchange is closed")
            ledger = Ledger(settings.ledger)
            asked = {request.account_id for request in ledger.waiting()}
            with ThreadPoolExecutor(AT_ONCE) as pool:  # a token that does not answer holds up no other
                looks = [pool.submit(_look_at_all, one, ledger, asked) for one in settings.by_token]
                news = [line for look in looks for line in look.result()]
            return dg.SkipReason("; ".join(line for line in news if line) or "no order has changed")

    return broker_sensor


def _look_at_all(settings: Settings, ledger: Ledger, asked: Collection[str]) -> list[str | None]:
    """What is new of the accounts of one token; what keeps it from being read is told, and costs no other."""
    try:
        with connect(settings) as broker:
            brief = replace(broker, policy=ONE_LOOK)
            accounts = [account_id for account_id in known_accounts(settings) if account_id not in asked]
            return [_look(settings, ledger, brief, account_id) for account_id in accounts]
    except PipelineError as error:
        if settings.group is None:
            raise
        return [f"{settings.group}: {error}"]


def _look(settings: Settings, ledger: Ledger, broker: Broker, account_id: str) -> str | None:
    """Request a snapshot if an order differs from the newest landed one; say so."""
    try:
        listed = broker.read(lambda client: client.fetch_orders(account_id))
        newest = LandingZone(settings.landing).recall(account_id, _landed_states)
        if newest is None or newest[0] >= listed.pages[0].started_at:
            return None
        before = newest[1]
        changed = {
            order_id: state
            for order_id, state in _states([page.body for page in listed.pages]).items()
            if before.get(order_id) != state
        }
        text = ", ".join(
            f"{order_id} {status} {shown(done)}" for order_id, (status, done) in sorted(changed.items(), key=str)
        )
        if changed and ledger.request_once(account_id, "order_placed", order_id=None, note=f"at the broker: {text}"):
            return f"{account_id}: {text}"
    except PipelineError as error:  # of one account; the others go on
        return f"{account_id}: {error}"
    return None


def _landed_states(landed: LandedSnapshot) -> tuple[datetime, dict[Any, tuple[str, Decimal]]]:
    """When it was read, and its orders."""
    if landed.manifest.clock_was_wrong:
        raise LandingError(f"the clock was wrong when {landed.snapshot_id} was read", "Take the one before.")
    return landed.manifest.as_of, _states(landed.bodies("orders"))


def _states(bodies: Sequence[bytes]) -> dict[Any, tuple[str, Decimal]]:
    """Order id -> its status and executed quantity."""
    return {
        row.get("id"): (str(row.get("status")), row.get("exec_quantity") or Decimal())
        for row in rows_of("orders", bodies)
    }
