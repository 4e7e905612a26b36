"""Reading one snapshot from the broker into the landing zone: once, in time, under the right account's name."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tradier_pipeline import clock
from tradier_pipeline.broker.client import BrokerClient, SnapshotFetchError
from tradier_pipeline.broker.decode import row_of, rows_of
from tradier_pipeline.broker.errors import AuthError, BrokerError
from tradier_pipeline.broker.pages import Extract, Page
from tradier_pipeline.broker.symbols import classify
from tradier_pipeline.core.errors import ExtractError, PipelineError
from tradier_pipeline.core.snapshot_id import CLOCK_SKEW, MAX_LATENESS, SnapshotId
from tradier_pipeline.core.version import CODE_VERSION
from tradier_pipeline.extract.coherent_read import Earlier, earlier, judged, unlisted
from tradier_pipeline.extract.connection import (
    Broker,
    SharedProfile,
    accounts_of_token,
    explained_refusal,
    not_of_token,
)
from tradier_pipeline.extract.lookups import NOTHING_ASKED, Asked, followed, legless, look_up, vanished
from tradier_pipeline.extract.records import attempt_records, page_records
from tradier_pipeline.landing.manifest import (
    FailureRecord,
    FetchRound,
    LookupRecord,
    Manifest,
    MissedRecord,
    PageRecord,
    QuotesManifest,
    clock_skew_s,
)
from tradier_pipeline.landing.zone import REQUIRED_RESOURCES, LandedSnapshot, LandingZone
from tradier_pipeline.ledger.store import Ledger

LOGGER = logging.getLogger(__name__)

UNASKED = "ui"  # the trigger of a run that no cycle and no request asked for: a key that somebody typed
REREADS = 2  # of a reading that may be torn
SETTLE_S = 2.0  # before each


def extract_snapshot(
    zone: LandingZone,
    broker: Broker,
    snapshot_id: SnapshotId,
    trigger: str,
    *,
    ledger: Ledger | None = None,
    log: logging.Logger = LOGGER,
    may_repeat: Callable[[], bool] = lambda: True,
) -> LandedSnapshot:
    """Land the four required resources of a snapshot, or find them landed already.

    Every request for a snapshot of the account that waits in the ledger is answered by this one, whoever started it:
    claimed right before the first fetch, so what it asked about had happened by then.

    Args:
        may_repeat: whether there are requests left to read once more what may be torn.

    Raises:
        ExtractError: the instant is too long ago or in the future; nothing was requested.
        BrokerError: a required resource was not read; what did arrive is kept for diagnosis.
        FileError: the landing zone cannot be written.
    """
    with zone.locked(snapshot_id.account_id):
        if landed := zone.find(snapshot_id):
            return landed
        refuse_other_times(zone, snapshot_id, trigger)
        newest = zone.newest(snapshot_id.account_id)
        if newest and newest.manifest.clock_skew_s is None:  # a broker that tells no time cannot say which is wrong
            _refuse_other_order(clock.now(), newest)
        account_id = snapshot_id.account_id
        before = _Before(earlier(zone, account_id), followed(zone, account_id), newest)
        if ledger is not None:
            _claim_requests(ledger, snapshot_id, log)
        try:
            received = broker.read(
                lambda client: _read_settled(client, snapshot_id, before, may_repeat, broker.profile)
            )
        except BrokerError as error:
            _keep(zone, broker, snapshot_id, trigger, error)
            failures = error.failures.values() if isinstance(error, SnapshotFetchError) else (error,)
            if reported := explained_refusal(broker, account_id, failures):
                raise reported from error
            raise
        return _land(zone, broker, snapshot_id, trigger, received, newest)


def extract_quotes(zone: LandingZone, broker: Broker, landed: LandedSnapshot) -> QuotesManifest:
    """Land the quotes of all held symbols, and of what the held options are written on, or why there are none.

    Never fails because of the broker.
    """
    with zone.locked(landed.snapshot_id.account_id):
        if landed.quotes is not None:
            return landed.quotes
        manifest, bodies = _read_quotes(broker, landed)
        zone.land_quotes(landed, manifest, bodies)
        return manifest


@dataclass(frozen=True)
class Received:
    """What the broker said for one snapshot: the required resources, and the orders that had left the list."""

    extracts: Mapping[str, Extract]
    lookups: tuple[LookupRecord, ...]
    looked_up: tuple[Page, ...]
    readings: tuple[FetchRound, ...] = ()

    @property
    def resources(self) -> dict[str, Extract]:
        """All that is to be landed."""
        return {**self.extracts, **({"order": Extract("order", self.looked_up)} if self.looked_up else {})}


@dataclass(frozen=True, slots=True)
class _Before:
    """What was landed before that matters to the next reading: what to compare it with, and the orders that go on."""

    statements: Earlier
    orders: Mapping[int, int]
    newest: LandedSnapshot | None


async def _read_settled(
    client: BrokerClient,
    snapshot_id: SnapshotId,
    before: _Before,
    may_repeat: Callable[[], bool],
    shared: SharedProfile | None,
) -> Received:
    """Read, and read again while it is still settling: at most twice more, and within the time of the snapshot.

    The last reading counts. Another one that fails costs nothing but the proof: what was read before it stays.
    """
    received = await _receive(client, snapshot_id.account_id, before, shared)
    reading, is_settling = judged(received.resources, before.statements)
    readings = [reading]
    latest = snapshot_id.instant + MAX_LATENESS - timedelta(seconds=SETTLE_S)
    while is_settling and len(readings) <= REREADS and clock.now() < latest and may_repeat():
        await asyncio.sleep(SETTLE_S)
        try:
            asked = (received.lookups, received.looked_up)
            received = await _receive(client, snapshot_id.account_id, before, shared, asked)
        except BrokerError as error:
            reported = (*reading.evidence, f"not read again: {error.what}")
            readings[-1] = reading.model_copy(update={"evidence": reported})
            break
        reading, is_settling = judged(received.resources, before.statements)
        readings.append(reading)
    return replace(received, readings=tuple(readings))


async def _receive(
    client: BrokerClient,
    account_id: str,
    before: _Before,
    shared: SharedProfile | None,
    asked: Asked = NOTHING_ASKED,
) -> Received:
    profile = None
    if shared is not None:
        newest = before.newest.manifest.as_of_end if before.newest else None
        profile = asyncio.wrap_future(shared.since(newest))
    extracts = await client.fetch_snapshot(account_id, profile)
    _refuse_other_account(extracts, account_id)
    orders = extracts["orders"]
    without_legs = legless(before.newest, orders, asked)
    lookups, looked_up = await look_up(client, account_id, vanished(before.orders, orders), without_legs)
    return Received(extracts, lookups, looked_up)


def _claim_requests(ledger: Ledger, snapshot_id: SnapshotId, log: logging.Logger) -> None:
    """A ledger that cannot be used does not cost the snapshot; its requests wait for the next one."""
    if not ledger.exists:
        return
    try:
        claimed = ledger.claim(snapshot_id)
    except PipelineError as error:
        log.warning("the requests for a snapshot go on waiting: %s", error)
    else:
        log.info("requests answered by this snapshot: %d", claimed)


def refuse_other_times(zone: LandingZone, snapshot_id: SnapshotId, trigger: str) -> None:
    """Only an instant of now is read. One that was asked for and came too late is recorded as missed.

    Raises:
        ExtractError: it lies in the future, or too far in the past.
    """
    now = clock.now()
    if snapshot_id.instant > now + CLOCK_SKEW:
        raise ExtractError(
            f"{snapshot_id} lies in the future (it is {clock.iso(now)})",
            "Name the current instant, or run the job request_snapshot, which needs no key.",
        )
    if snapshot_id.instant < now - MAX_LATENESS:
        reason = f"nothing was landed within {MAX_LATENESS.seconds} s of the instant"
        if trigger != UNASKED:
            zone.record_missed(
                MissedRecord(snapshot_id=str(snapshot_id), trigger=trigger, recorded_at=now, reason=reason)
            )
        raise ExtractError(
            f"{snapshot_id} was missed: {reason}, and a later reading is never filed under it",
            "Take a snapshot of now: `tradier-pipeline snapshot`, or the job request_snapshot.",
        )


def refuse_unknown_account(
    zone: LandingZone, configured: Collection[str] | None, broker: Broker, account_id: str
) -> None:
    """An account that nobody configured and of which nothing is filed must be one of the token, before anything is.

    Args:
        configured: the accounts of the settings; None means all of the token.

    Raises:
        BrokerError: the profile was not read.
        ExtractError: it is none.
    """
    if account_id in (configured or ()) or account_id in zone.accounts():
        return
    listed = accounts_of_token(broker)
    if account_id not in listed:
        raise not_of_token(account_id, listed, "Name one of these; nothing was recorded.")


def _refuse_other_order(at: datetime, newest: LandedSnapshot) -> None:
    """An instant at or before that of a snapshot which is landed, and no word of the broker on which one is wrong.

    Of a clock that the broker's contradicts, the snapshot is landed, and doubtful. Else it would count as older than
    what was read before it, and history would be reported in another order than it happened.
    """
    if at <= newest.manifest.as_of:
        raise ExtractError(
            f"the clock says {clock.iso(at)}, but a snapshot of {clock.iso(newest.manifest.as_of)} is landed already",
            "Set the clock of this machine right; if that snapshot is the wrong one, move its directory out of raw/.",
        )


def _refuse_other_account(extracts: Mapping[str, Extract], account_id: str) -> None:
    """One account's data is never filed under another's name."""
    (profile,) = extracts["account"].pages
    (balances_page,) = extracts["balances"].pages
    balances = row_of("balances", balances_page.body)
    problems: dict[str, str] = {}
    if account_id not in {str(row.get("account_number")) for row in rows_of("account", [profile.body])}:
        problems["account"] = f"{account_id} is not among the accounts of this access token"
    if balances.get("account_number") != account_id:
        problems["balances"] = f"what was received does not name the account {account_id}"
    if problems:
        remedy = "Check TRADIER_ACCOUNT_ID, TRADIER_ACCESS_TOKEN and TRADIER_ENV."
        refusals = {resource: AuthError(resource, problem, remedy) for resource, problem in problems.items()}
        raise SnapshotFetchError(extracts, refusals)


def _land(
    zone: LandingZone,
    broker: Broker,
    snapshot_id: SnapshotId,
    trigger: str,
    received: Received,
    newest: LandedSnapshot | None,
) -> LandedSnapshot:
    extracts = received.extracts
    resources, bodies = _records(received.resources)
    as_of = min(extract.started_at for extract in extracts.values())
    manifest = Manifest(
        snapshot_id=str(snapshot_id),
        account_id=snapshot_id.account_id,
        environment=broker.environment,
        trigger=trigger,
        requested_at=snapshot_id.instant,
        previous_as_of=newest.manifest.as_of if newest and newest.manifest.as_of < as_of else None,
        code_version=CODE_VERSION,
        as_of=as_of,
        as_of_end=max(extract.ended_at for extract in extracts.values()),
        resources=resources,
        lookups=received.lookups,
        readings=received.readings,
        unlisted=unlisted(received.resources, newest),
        clock_skew_s=clock_skew_s(page for resource in REQUIRED_RESOURCES for page in resources[resource]),
    )
    if manifest.clock_was_wrong:
        LOGGER.warning("the clock of this machine is %+.0f s off the broker's: set it right", manifest.clock_skew_s)
    elif newest:
        _refuse_other_order(as_of, newest)
    return zone.land(manifest, bodies)


def _records(extracts: Mapping[str, Extract]) -> tuple[dict[str, tuple[PageRecord, ...]], dict[str, bytes]]:
    resources: dict[str, tuple[PageRecord, ...]] = {}
    bodies: dict[str, bytes] = {}
    for resource, extract in extracts.items():
        resources[resource], named = page_records(resource, extract)
        bodies |= named
    return resources, bodies


def _keep(zone: LandingZone, broker: Broker, snapshot_id: SnapshotId, trigger: str, error: BrokerError) -> None:
    """Keep what a failed read did receive: whole resources, and the answers that were refused."""
    received: dict[str, Extract] = {}
    failures: Mapping[str, BrokerError] = {error.resource: error}
    if isinstance(error, SnapshotFetchError):
        received, failures = dict(error.extracts), error.failures
    received |= {name: Extract(name, failure.pages) for name, failure in failures.items() if failure.pages}
    resources, bodies = _records(received)
    zone.land_failed(
        FailureRecord(
            snapshot_id=str(snapshot_id),
            environment=broker.environment,
            trigger=trigger,
            failed_at=clock.now(),
            errors={name: str(failure) for name, failure in failures.items()},
            resources=resources,
        ),
        bodies,
    )


def _read_quotes(broker: Broker, landed: LandedSnapshot) -> tuple[QuotesManifest, dict[str, bytes]]:
    (body,) = landed.bodies("positions")
    symbols = [
        row["symbol"] for row in rows_of("positions", [body]) if isinstance(row.get("symbol"), str) and row["symbol"]
    ]
    options = (classify(symbol).option for symbol in symbols)
    symbols += [option.underlying for option in options if option]  # how far a strike is from its price
    if not symbols:
        return QuotesManifest(state="not_needed", reason=None, pages=(), attempts=()), {}
    if clock.now() > landed.manifest.as_of_end + MAX_LATENESS:
        reason = f"more than {MAX_LATENESS.seconds} s had passed since the positions were read"
        return QuotesManifest(state="missed", reason=reason, pages=(), attempts=()), {}
    try:
        extract = broker.read(lambda client: client.fetch_quotes(symbols))
    except BrokerError as error:
        return QuotesManifest(state="failed", reason=str(error), pages=(), attempts=attempt_records(error.attempts)), {}
    pages, bodies = page_records("quotes", extract)
    return QuotesManifest(state="ok", reason=None, pages=pages, attempts=()), bodies
