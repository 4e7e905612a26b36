"""Checks of the cycles: nothing missed unnoticed, no two readings at once, few requests, a gate that is in order."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from tradier_pipeline import clock
from tradier_pipeline.core.check import claim_that, differing
from tradier_pipeline.core.outcome import Difference, RuleResult, Severity
from tradier_pipeline.extract.lookups import BUDGET
from tradier_pipeline.landing.day import Day
from tradier_pipeline.landing.zone import REQUIRED_RESOURCES
from tradier_pipeline.verify.evidence import Entry, Evidence, Row, by_key
from tradier_pipeline.verify.registry import check

_TOLD_AT = {"missed": "recorded_at", "failed": "failed_at", "refused": "as_of_end"}  # the later one outweighs
RECORDING = timedelta(minutes=1)  # what is recorded while a snapshot is stored may come with the next one
MIN_HEADROOM = 20  # percent
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@check(None)
def missed_equal(evidence: Evidence) -> RuleResult:
    """Since the day of the previous snapshot, missed_snapshots is what the landing zone tells of the unpublished.

    Nothing is said of a row whose file has been removed or damaged since: it was true when it was stored.
    """
    (header,) = evidence.stored("tradier_snapshots")
    days = (evidence.previous or header)["trade_date"], header["trade_date"]
    zone = evidence.landed.zone
    missed = [row for row in evidence.missed_between(*days) if zone.can_be_read(row["path"])]
    stored = dict(by_key(missed, "snapshot_id"))
    recorded = _recorded(evidence, header, {snapshot_id for (snapshot_id,) in stored}, *days)
    expected: dict[tuple[str], Row] = {}
    for snapshot_id, records in recorded.items():
        if not all(record.readable for record in records):
            stored.pop((snapshot_id,), None)
            continue
        settled = [place for place, record in enumerate(records) if record.settled]
        ours = stored.get((snapshot_id,), {})
        if settled or ours:
            newest = [record.row for record in records[max(settled, default=0) :]]
            expected[(snapshot_id,)] = next((row for row in newest if row.items() <= ours.items()), newest[0])
    differences = differing("missed_snapshots", expected, stored)
    return RuleResult(f"{len(recorded)} reported of", f"{len(stored)} stored", differences)


@check(None)
def gate_follows_snapshot(evidence: Evidence) -> RuleResult:
    """The one reading of the gate counts the stored spreads, and is ready unless it names what speaks against it."""
    readings = evidence.stored("trade_gate_readings")
    differences = list(claim_that(len(readings) == 1, "trade_gate_readings", 1, len(readings)))
    (header,) = evidence.stored("tradier_snapshots")
    for row in readings:
        opens, closes, limit = row["session_open"], row["session_close"], row["max_open_positions"]
        spreads = len(evidence.stored("option_spreads"))
        blockers = [
            *(["session_closed"] if opens is None or not opens <= header["as_of"] < closes else []),
            *(["max_open_positions"] if limit is not None and limit <= spreads else []),
            # in doubt then; its header may have become good since
            *(["doubtful"] if header["verdict_evidence"] and "doubtful" in row["blockers"] else []),
        ]
        expected: Row = {"open_positions": spreads, "blockers": blockers, "ready": blockers == []}
        differences += differing("trade_gate_readings", {(): expected}, {(): row})
        differences += claim_that(
            opens is None or clock.trade_date(opens) == header["trade_date"], "session", header["trade_date"], opens
        )
    return RuleResult(
        f"{len(evidence.stored('option_spreads'))} spreads", f"{len(readings)} reading", tuple(differences)
    )


@check(12, Severity.WARN)
def minute_coverage(evidence: Evidence) -> RuleResult:
    """No instant was missed, or found to have been missed, since the previous snapshot."""
    (header,) = evidence.stored("tradier_snapshots")
    since = evidence.previous["as_of"] if evidence.previous else EPOCH
    missed = evidence.query(
        "SELECT * FROM missed_snapshots WHERE account_id = ? "
        "AND (missed_at BETWEEN ? AND ? OR recorded_at BETWEEN ? AND ?) ORDER BY requested_at",
        *(evidence.account_id, since, header["as_of"], since, header["as_of"]),
    )
    differences = tuple(
        Difference(f"{row['snapshot_id']} ({row['trigger']})", row["reason"], row["kind"]) for row in missed
    )
    recorded = f"since {clock.iso(since)}" if evidence.previous else "not judged: the first snapshot"
    return RuleResult(recorded, f"{len(missed)} missed", differences, judged=evidence.previous is not None)


@check(13)
def no_overlap(evidence: Evidence) -> RuleResult:
    """No other snapshot of the account was being read while this one was, as far as the clock was right."""
    manifest, zone = evidence.landed.manifest, evidence.landed.zone
    others = [] if manifest.clock_was_wrong else evidence.read_meanwhile()
    interval = _span(manifest.as_of, manifest.as_of_end)
    differences = tuple(
        Difference(row["snapshot_id"], interval, _span(row["as_of"], row["as_of_end"]))
        for row in others
        if not zone.clock_was_wrong(row["snapshot_id"])
    )
    return RuleResult(interval, f"{len(differences)} at the same time", differences)


@check(14, Severity.WARN)
def request_budget(evidence: Evidence) -> RuleResult:
    """It took 4 requests, one for quotes, one for each further page of orders and each order asked for by its id; and
    a fifth of the broker's limit is left."""
    landed, lookups = evidence.landed, evidence.manifest["lookups"]
    pages = {resource: len(landed.pages(resource)) for resource in (*REQUIRED_RESOURCES, "quotes")}
    asked = sum(lookup["state"] != "deferred" for lookup in lookups)
    allowed = dict.fromkeys(pages, 1) | {"orders": pages["orders"]}
    differences = [
        difference
        for name, count in pages.items()
        for difference in claim_that(count <= allowed[name], f"{name} requests", count, allowed[name])
    ]
    differences += claim_that(asked <= BUDGET, "orders by id", asked, BUDGET)
    sent = [page for resource in (*landed.manifest.resources, "quotes") for page in landed.pages(resource)]
    limit, left = min(_headroom(page.headers for page in sent), key=lambda recorded: recorded[1], default=("-", 100))
    differences += claim_that(left >= MIN_HEADROOM, limit, f"{left} % left", f"{MIN_HEADROOM} %")
    retries = sum(len(page.attempts) - 1 for page in sent)
    return RuleResult(f"{sum(pages.values()) + asked} requests", f"{retries} retries", tuple(differences))


@check(74, Severity.WARN)
def session_open_for_trading(evidence: Evidence) -> RuleResult:
    """A snapshot of the trade cycle was taken for an instant of the session."""
    (header,) = evidence.stored("tradier_snapshots")
    (row,) = evidence.stored("trade_gate_readings")
    opens, closes = row["session_open"], row["session_close"]
    within = opens is not None and opens <= header["requested_at"] < closes
    session = _span(opens, closes) if opens else "no session"
    trades = "trade_cycle" in header["trigger"].split(",")
    outside = claim_that(within or not trades, "instant", session, header["requested_at"])
    return RuleResult(session, header["trigger"][:50], outside, judged=trades)


def _span(start: datetime, end: datetime) -> str:
    return f"{clock.iso(start)} to {clock.iso(end)}"


@dataclass(frozen=True, slots=True)
class _Record:
    """What one file tells of an instant. `settled`: it was there when the snapshot was stored."""

    weight: tuple[int, datetime]
    settled: bool
    row: Row
    readable: bool = True


def _recorded(
    evidence: Evidence, header: Row, stored: Collection[str], first_day: date, last_day: date
) -> Mapping[str, list[_Record]]:
    """What is reported of each instant that is not published, the weightiest last."""
    recorded: dict[str, list[_Record]] = defaultdict(list)
    for day, entry in evidence.unpublished_between(first_day, last_day):
        later = not entry.kind and _requested_at(entry.snapshot_id) > header["as_of"] + RECORDING
        if entry.snapshot_id in stored or not later:  # a rebuild reads it later
            recorded[entry.snapshot_id].append(_record(day, entry, header))
    return {snapshot_id: sorted(records, key=lambda record: record.weight) for snapshot_id, records in recorded.items()}


def _record(day: Day, entry: Entry, header: Row) -> _Record:
    kind = "refused" if not entry.kind else "missed" if entry.kind == ".missed.json" else "failed"
    requested_at = _requested_at(entry.snapshot_id)
    row: Row = {"kind": kind, "requested_at": requested_at, "path": "/".join((*day.directory.parts[-2:], entry.name))}
    row |= {"account_id": header["account_id"], "trade_date": clock.trade_date(requested_at)}
    try:
        file = json.loads(day.read(entry.name if kind == "missed" else f"{entry.name}/manifest.json"))
        at = datetime.fromisoformat(file[_TOLD_AT[kind]])
        settled = at < header["committed_at"] - RECORDING
        if kind == "refused":
            settled = datetime.fromisoformat(file["as_of"]) < header["as_of"]
        else:
            row["reason"] = file["reason"] if kind == "missed" else "; ".join(file["errors"].values())
        row |= {"trigger": file["trigger"], "recorded_at": at, "missed_at": requested_at if kind == "missed" else at}
    except Exception:  # what cannot be read, which may be anything, cannot be compared
        return _Record((0, requested_at), False, row, readable=False)
    return _Record((tuple(_TOLD_AT).index(kind), at), settled, row)


def _requested_at(snapshot_id: str) -> datetime:
    return datetime.fromisoformat(snapshot_id.partition("@")[2])


def _headroom(sent: Iterable[Mapping[str, str]]) -> Iterator[tuple[str, int]]:
    """The percentage of its limit that each answer says is left, where it says so."""
    for headers in sent:
        allowed, available = (headers.get(f"x-ratelimit-{name}", "") for name in ("allowed", "available"))
        if allowed.isdecimal() and available.isdecimal() and int(allowed):
            yield f"of {allowed} a minute", int(available) * 100 // int(allowed)
