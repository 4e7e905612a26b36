"""Checks of the derived conservation: it follows from what is stored, and leaves nothing unexplained for long."""

from __future__ import annotations

from tradier_pipeline.core.check import claim_that, differing
from tradier_pipeline.core.outcome import Difference, RuleResult, Severity, shown
from tradier_pipeline.reconcile import conservation
from tradier_pipeline.verify.evidence import Evidence, Row, by_key, rounded
from tradier_pipeline.verify.registry import check
from tradier_pipeline.warehouse.account_states import good_before, statement_of

AMOUNTS = ("change", "carried", "explained", "unexplained", "in_flight", "fees_at_most")


@check(None, Severity.WARN)  # a row of the snapshot before that was changed must not keep this one out
def conservation_follows_snapshots(evidence: Evidence) -> RuleResult:
    """Every stored verdict on a change is what this snapshot and the last good one lead to."""
    rows = evidence.stored("conservation")
    expected = {(found.item,): _row(found) for found in _expected(evidence)}
    last_good = _last_good(evidence)
    previous = last_good["snapshot_id"] if last_good else None
    differences = [
        *differing("change", expected, by_key(rows, "item")),
        *claim_that(len(rows) == len(expected), "conservation", len(expected), len(rows)),
        *(
            Difference(f"change {row['item']} previous_snapshot_id", shown(previous), row["previous_snapshot_id"])
            for row in rows
            if row["previous_snapshot_id"] != previous
        ),
    ]
    return RuleResult(f"{len(expected)} items", f"{len(rows)} stored", tuple(differences))


@check(None, Severity.WARN)
def changes_explained(evidence: Evidence) -> RuleResult:
    """No change of a position or of cash is still unexplained two good snapshots after it showed."""
    rows = evidence.stored("conservation")
    open_rows = [row for row in rows if row["state"] == "unexplained"]
    return RuleResult(
        f"{len(rows)} items changed" if rows else "not judged: doubtful, or the first",
        f"{len(open_rows)} unexplained",
        tuple(Difference(row["item"], shown(row["unexplained"]), row["explanation"]) for row in open_rows),
        judged=bool(rows),
    )


def _expected(evidence: Evidence) -> tuple[conservation.ItemVerdict, ...]:
    (header,), previous = evidence.stored("tradier_snapshots"), _last_good(evidence)
    if previous is None or header["verdict"] == "doubtful":
        return ()
    now = statement_of(header, {table: evidence.stored(table) for table in evidence.before})
    last = good_before(evidence.connection, evidence.account_id, previous, evidence.before, now)
    return last.findings(now)


def _last_good(evidence: Evidence) -> Row | None:
    previous = evidence.previous
    return None if previous is None or previous["verdict"] == "doubtful" else previous


def _row(found: conservation.ItemVerdict) -> Row:
    return {
        **{name: rounded(getattr(found, name)) for name in AMOUNTS},
        "state": found.state,
        "explanation": "; ".join(found.explanation),
    }
