"""Checks of the snapshot as a whole: that everything was read, of the right account, in time, and stored together."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal

from tradier_pipeline import clock
from tradier_pipeline.core.check import claim_that, differing
from tradier_pipeline.core.outcome import Difference, RuleResult, Severity, shown
from tradier_pipeline.landing.zone import REQUIRED_RESOURCES
from tradier_pipeline.verify.evidence import Evidence, Row, by_key, instant
from tradier_pipeline.verify.registry import check
from tradier_pipeline.warehouse import schema

MAX_SKEW = timedelta(seconds=15)
MAX_CLOCK_SKEW_S = 5
DATA_TABLES = tuple(table.name for table in schema.TABLES if table is not schema.TRADIER_SNAPSHOTS)
_SHARED = ("account_id", "as_of", "trade_date")
DOCUMENT_KEYS = {"account": "profile", "balances": "balances", "positions": "positions", "orders": "orders"}


@check(1)
def fetch_states_ok(evidence: Evidence) -> RuleResult:
    """Every required resource was answered with status 200, and its landed bytes are those that were received."""
    differences: list[Difference] = []
    for resource in REQUIRED_RESOURCES:
        pages = evidence.manifest["resources"].get(resource, [])
        differences += claim_that(bool(pages), resource, "no page", "expected")
        for page in pages:
            differences += claim_that(page["status"] == 200, f"{resource} page {page['number']}", page["status"], 200)
    differences += claim_that(len(evidence.documents) > 0, "bytes", "unreadable", "expected")
    return RuleResult(f"{len(REQUIRED_RESOURCES)} resources", "all required", tuple(differences))


@check(2)
def payload_shapes_ok(evidence: Evidence) -> RuleResult:
    """Every landed body is a JSON object with its documented top key, and is no error body."""
    differences: list[Difference] = []
    for resource, key in DOCUMENT_KEYS.items():
        for document in evidence.documents[resource]:
            differences += claim_that(key in document, resource, ", ".join(document), key)
            differences += claim_that(not {"errors", "fault"} & document.keys(), resource, "an error body", key)
    return RuleResult("bodies", "documented keys", tuple(differences))


@check(3)
def account_identity_ok(evidence: Evidence) -> RuleResult:
    """Profile, balances and snapshot id name one account, and every row carries it."""
    wanted = evidence.account_id
    differences = [
        *claim_that(bool(evidence.account), "profile", "not listed", wanted),
        *claim_that(
            evidence.balances.get("account_number") == wanted,
            "balances",
            evidence.balances.get("account_number"),
            wanted,
        ),
        *claim_that(evidence.manifest["account_id"] == wanted, "manifest", evidence.manifest["account_id"], wanted),
    ]
    return RuleResult(str(evidence.balances.get("account_number")), wanted, tuple(differences))


@check(None, Severity.WARN)
def account_is_active(evidence: Evidence) -> RuleResult:
    """The profile says that the account is active; what a closed one answers is its true last state."""
    status = evidence.account.get("status")
    what = f"the account is {shown(status)} at the broker, not active"
    return RuleResult(shown(status), shown(status), claim_that(status == "active", what, status, status))


@check(4)
def snapshot_atomic(evidence: Evidence) -> RuleResult:
    """There is one header, and every row of every table carries its id, account, as-of and trade date."""
    headers = evidence.stored("tradier_snapshots")
    if len(headers) != 1:
        return RuleResult(
            "1 header", f"{len(headers)} headers", (Difference("tradier_snapshots", "1", str(len(headers))),)
        )
    header = headers[0]
    rows = {table: evidence.stored(table) for table in DATA_TABLES}
    found = Counter((table, *(row[column] for column in _SHARED)) for table in rows for row in rows[table])
    differences = [
        Difference(f"{table}, {count} rows, {column}", shown(header[column]), shown(value))
        for (table, *values), count in found.items()
        for column, value in zip(_SHARED, values, strict=True)
        if value != header[column]
    ]
    for table in ("accounts", "account_balances"):
        differences += claim_that(len(rows[table]) == 1, table, 1, len(rows[table]))
    return RuleResult("1 header", f"1 header, {found.total()} rows", tuple(differences))


@check(None)
def header_equals_manifest(evidence: Evidence) -> RuleResult:
    """The header repeats what the manifest recorded, counts what the broker listed, and was committed afterwards."""
    manifest = evidence.manifest
    as_of = datetime.fromisoformat(manifest["as_of"])
    judged = (manifest.get("readings") or [None])[-1]
    expected: Row = {
        "account_id": manifest["account_id"],
        "as_of": as_of,
        "trade_date": clock.trade_date(as_of),
        "as_of_end": instant(manifest["as_of_end"]),
        "requested_at": instant(manifest["requested_at"]),
        "environment": manifest["environment"],
        "trigger": manifest["trigger"],
        "positions_count": len(evidence.listed("positions")),
        "orders_count": len(evidence.listed("orders")),
        "clock_skew_s": None if (skew := manifest.get("clock_skew_s")) is None else round(Decimal(str(skew)), 8),
        "coherence": judged and judged["verdict"],
        "coherence_evidence": judged and "; ".join(judged["evidence"]),
    }
    stored = by_key(evidence.stored("tradier_snapshots"), "snapshot_id")
    differences = list(differing("header", {(manifest["snapshot_id"],): expected}, stored))
    for row in stored.values():
        wrong = evidence.landed.manifest.clock_was_wrong
        after = wrong or expected["as_of_end"] <= row["committed_at"] <= clock.now()
        differences += claim_that(
            after, "committed_at", f"after {expected['as_of_end']}, not later", row["committed_at"]
        )
        differences += claim_that(bool(row["code_version"]), "code_version", "a version", row["code_version"])
    return RuleResult(manifest["snapshot_id"], f"{len(stored)} header", tuple(differences))


@check(None)
def account_equal(evidence: Evidence) -> RuleResult:
    """The stored account equals the account's row of the profile."""
    raw = evidence.account
    expected: Row = {
        "status": raw["status"],
        "type": raw["type"],
        "classification": raw.get("classification"),
        "option_level": raw.get("option_level"),
        "day_trader": raw.get("day_trader"),
        "date_created": instant(raw.get("date_created")),
        "last_update_date": instant(raw.get("last_update_date")),
    }
    stored = by_key(evidence.stored("accounts"), "account_id")
    return RuleResult(
        "1 account", f"{len(stored)} rows", differing("account", {(evidence.account_id,): expected}, stored)
    )


@check(None)
def provenance_equals_manifest(evidence: Evidence) -> RuleResult:
    """raw_payloads lists exactly the landed bodies, with their status, times, lengths and digests."""
    landed = evidence.landed
    expected: dict[tuple[str, int], Row] = {}
    for resource in (*landed.manifest.resources, "quotes"):
        for page in landed.pages(resource):
            expected[resource, page.number] = {
                "status": page.status,
                "attempts": len(page.attempts),
                "started_at": page.started_at,
                "ended_at": page.ended_at,
                "bytes": page.bytes,
                "sha256": page.sha256,
                "path": landed.relative_path(page),
            }
    rows = evidence.stored("raw_payloads")
    differences = differing("payload", expected, by_key(rows, "resource", "page"))
    differences += claim_that(len(rows) == len(expected), "raw_payloads", len(expected), len(rows))
    return RuleResult(f"{len(expected)} bodies", f"{len(rows)} rows", differences)


@check(9)
def as_of_increases(evidence: Evidence) -> RuleResult:
    """The snapshot was read after everything of this account that had been landed before, and not in the future.

    A wrong clock, which makes a snapshot doubtful, may have said that it was.
    """
    manifest = evidence.landed.manifest
    previous = manifest.previous_as_of
    differences = [
        *claim_that(previous is None or previous < manifest.as_of, "previous as-of", previous, manifest.as_of),
        *claim_that(manifest.as_of <= manifest.as_of_end, "as_of_end", manifest.as_of_end, manifest.as_of),
        *claim_that(manifest.as_of_end <= clock.now(), "now", manifest.as_of_end, clock.now()),
    ]
    if manifest.clock_was_wrong:
        differences = []
    return RuleResult(f"read at {clock.iso(manifest.as_of)}", f"after {_iso(previous)}", tuple(differences))


@check(10, Severity.WARN)
def resource_skew_small(evidence: Evidence) -> RuleResult:
    """The resources were read within 15 seconds of each other."""
    manifest = evidence.landed.manifest
    skew = manifest.as_of_end - manifest.as_of
    seconds = f"{skew.total_seconds():.3f} s"
    return RuleResult(
        seconds,
        f"at most {MAX_SKEW.seconds} s",
        claim_that(skew <= MAX_SKEW, "skew", seconds, f"at most {MAX_SKEW.seconds} s"),
    )


@check(None, Severity.WARN)
def clock_agrees(evidence: Evidence) -> RuleResult:
    """The clock of this machine and the broker's differed by less than 5 seconds, if the broker said what time it was.

    From 60 seconds on the snapshot is doubtful.
    """
    skew = evidence.manifest.get("clock_skew_s")
    text = "no time sent" if skew is None else f"{skew:+.1f} s"
    most = f"less than {MAX_CLOCK_SKEW_S} s"
    agree = skew is None or abs(skew) < MAX_CLOCK_SKEW_S
    return RuleResult(most, text, claim_that(agree, "this machine's clock less the broker's", most, text))


@check(None, Severity.WARN)
def snapshot_is_good(evidence: Evidence) -> RuleResult:
    """Nothing speaks against the snapshot, or later readings have confirmed it: anything may be concluded from it."""
    (header,) = evidence.stored("tradier_snapshots")
    why = header["verdict_evidence"] or "nothing"
    return RuleResult(
        why, header["verdict"], claim_that(header["verdict"] == "good", "verdict", why, header["verdict"])
    )


@check(80)
def mirror_equals_newest(evidence: Evidence) -> RuleResult:
    """portfolio_positions shows exactly the positions of the account's newest good snapshot."""
    newest = evidence.query(
        "SELECT snapshot_id, as_of FROM tradier_snapshots WHERE account_id = ? AND verdict = 'good' "
        "ORDER BY as_of DESC LIMIT 1",
        evidence.account_id,
    )
    held = "SELECT snapshot_id, row_no, symbol, quantity, market_value FROM"
    of_newest = f"{held} positions WHERE snapshot_id = ? AND as_of = ?"
    expected = [row for good in newest for row in evidence.query(of_newest, *good.values())]
    shown_rows = evidence.query(f"{held} portfolio_positions WHERE account_id = ?", evidence.account_id)
    differences = differing(
        "position", by_key(expected, "snapshot_id", "row_no"), by_key(shown_rows, "snapshot_id", "row_no")
    )
    differences += claim_that(len(expected) == len(shown_rows), "portfolio_positions", len(expected), len(shown_rows))
    return RuleResult(f"{len(expected)} positions", f"{len(shown_rows)} shown", differences)


def _iso(moment: datetime | None) -> str:
    return "the first" if moment is None else clock.iso(moment)
