"""Findings: problems as things that begin, last and end, rather than as an alert with every snapshot. Pure.

A problem is known by its account, code and subject. What a good snapshot does not show any more is resolved; what comes
back after that is another one. A doubtful snapshot resolves nothing, and shows nothing but that it is doubtful.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from tradier_pipeline import clock
from tradier_pipeline.broker.models import Order
from tradier_pipeline.ledger.records import SETTLED
from tradier_pipeline.reconcile.conservation import ItemVerdict
from tradier_pipeline.reconcile.explanation import signed, unsigned
from tradier_pipeline.reconcile.facts import Severity
from tradier_pipeline.reconcile.order_matching import ZERO, OrderRow, progress
from tradier_pipeline.reconcile.reconciliation import Reconciliation

DOUBTFUL, UNEXPLAINED, OVERFILLED = "doubtful", "change_unexplained", "overfilled"
TORN = "torn"  # what an earlier version called it
UNKNOWN_WORD = "activity_word_unknown"
CYCLE_OFF = "cycle_switched_off"

ACTIONS: Mapping[str, str] = {
    "order_unmatched": "Find out who placed it; record it in the ledger, or cancel it at the broker.",
    "order_missing": "Look for it at the broker; if it never arrived, end it in the ledger.",
    "order_doubtful": "Correct the broker's id or the tag in the ledger, so that one order is one order.",
    "order_contradicts": "Compare both sides, and correct the ledger by hand: it is not overwritten.",
    "order_ambiguous": "Correct the broker's id or the tag of this order in the ledger.",
    "order_claimed_twice": "Let one trade and one role alone have this order in the ledger.",
    "order_unknown": "Record this order in the ledger, or clear its id in the trade.",
    OVERFILLED: "Compare it with the broker's account history; nothing beyond what was ordered is taken over.",
    "exit_offered": "Link it if it closed the trade: `tradier-pipeline ledger link TRADE_ID ORDER_ID`.",
    "wrong_effect": "Correct the legs or the trade of this order in the ledger.",
    "legs_uneven": "Close or open the odd legs at the broker; look at the leftover risk first.",
    "closed_more_than_held": "Look for a position the other way round at the broker, and close it.",
    "sent_without_id": "Make sure that it is not working at the broker; then end it in the ledger and send it again.",
    "more_held_than_filled": "Look for an order that the ledger lacks, and record it.",
    "closed_without_fill": "Look at the position: reopen the trade, or record the order that closed it.",
    "closed_without_proof": "Record the order that closed it.",
    "exit_price_unknown": "Enter the price from the broker's account history.",
    "exit_price_unproven": "Compare it with the broker's account history, and name its source.",
    "exit_price_out_of_range": "Compare it with the fills; a net price cannot exceed the width.",
    "cancelled_but_filled": "Reopen the trade in the ledger: it was filled.",
    "cancelled_but_held": "Reopen the trade, or close its legs at the broker.",
    "needs_attention": "Manage the trade by hand, then correct its status.",
    "open_without_fill": "Look for its entry at the broker; record its fill, or cancel the trade.",
    "legs_unknown": "Enter the legs of the trade.",
    "closed_but_held": "Look at the position: its exit was filled, and something is held.",
    "partly_closed": "Close the rest, or take it over as it is.",
    "entry_price_unknown": "Enter the price from the broker's account history.",
    "end_open": "Wait: an assignment is told over night, by the opening of the next session.",
    "settling": "Wait: a fill may show before its position does.",
    "leg_delivered": "Look at the shares and at the legs that are left: the risk is another one now.",
    "legs_missing": "Look at the position at the broker before anything trades this underlying.",
    "expired_still_held": "Wait for the settlement; look at the position if it is still there the next morning.",
    "duplicate_entry": "Close one of them if it was entered twice; end its trade if it never was.",
    "strategy_contradicts_legs": "Correct the strategy or the legs in the ledger.",
    "width_contradicts_legs": "Correct the width in the ledger.",
    "position_without_trade": "Record a trade for it, or leave it if it is held by hand.",
    UNKNOWN_WORD: "State what came or left on its days: `tradier-pipeline flows add`; ask the broker what it means.",
    UNEXPLAINED: "Compare with the broker's account history, which is complete the next morning.",
    DOUBTFUL: "Wait: nothing is concluded from it until later snapshots confirm it or show something else.",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong that a snapshot shows. `subject`: the trade, order or symbol; None: the account."""

    code: str
    subject: str | None
    severity: Severity
    text: str
    evidence: tuple[str, ...] = ()
    action: str | None = None


@dataclass(frozen=True, slots=True)
class FindingState:
    """A problem over time. The fields are the columns of `findings`."""

    finding_id: str
    account_id: str
    code: str
    subject: str | None
    severity: str
    text: str
    evidence: str | None
    suggested_action: str
    first_seen: datetime
    first_snapshot_id: str
    last_seen: datetime
    last_snapshot_id: str
    times_seen: int
    resolved_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FindingScope:
    """One look at an account: the snapshot, and what could be judged with it.

    Attributes:
        doubtful: nothing may be concluded from it.
        conserved: it was compared with the last good snapshot.
        ledger_read: the ledger could be set beside it, or there is none.
        switches_read: it is known which cycles were switched off then.
        settled: the items of which no change is left unexplained.
    """

    snapshot_id: str
    account_id: str
    as_of: datetime
    doubtful: bool = False
    conserved: bool = True
    ledger_read: bool = True
    switches_read: bool = True
    settled: frozenset[str] = frozenset()


def findings_of(
    scope: FindingScope,
    *,
    evidence: Sequence[str] = (),
    changes: Iterable[ItemVerdict] = (),
    orders: Iterable[Order] = (),
    reconciled: Reconciliation | None = None,
    words: Mapping[str, tuple[int, Decimal]] | None = None,
    stopped: Iterable[str] = (),
) -> list[Finding]:
    """What is wrong as a snapshot is stored: what it shows, what is not known in the history, what is switched off.

    Args:
        evidence: what its verdict rests on.
        changes: since the last good snapshot.
        orders: of the broker.
        reconciled: with the ledger; None if it was not.
        words: those of the history that are not known; a doubtful snapshot shows none.
        stopped: the cycles that are switched off.
    """
    off = switched_off(stopped)
    if scope.doubtful:
        return [Finding(DOUBTFUL, None, "warn", "the newest snapshot is doubtful", tuple(evidence)), *off]
    unexplained = [_unexplained(change) for change in changes if change.state == "unexplained"]
    overfilled = [_overfilled(order) for order in orders if progress(order).is_beyond]
    beside = [*off, *unknown_words(words or {})]
    if reconciled is None:
        return [*unexplained, *overfilled, *beside]
    of_orders = [finding for row in reconciled.orders if (finding := _of_order(row))]
    of_trades = [
        Finding(found.code, trade_id or found.subject, found.severity, found.text, found.evidence, found.action)
        for trade_id, found in reconciled.findings
        if trade_id or found.severity != "info"  # shares held by hand are no problem: reconciliation_findings has them
    ]
    return [*unexplained, *overfilled, *of_orders, *of_trades, *beside]


def unknown_words(words: Mapping[str, tuple[int, Decimal]]) -> list[Finding]:
    """One for each word of the broker's history that is not known, by what its rows come to: how many, USD."""
    return [
        Finding(
            UNKNOWN_WORD,
            word,
            "warn",
            f"the history has the unknown word {word!r} for {amount:,.2f} USD in {rows} row{'s' * (rows > 1)}: whether "
            "that came from outside is not known, and the returns leave those days out",
        )
        for word, (rows, amount) in words.items()
    ]


def switched_off(cycles: Iterable[str]) -> list[Finding]:
    """One for each cycle that was switched off in the UI, so that nothing stops without a word."""
    text, action = "is switched off in the UI: what it is there for is not done", "Switch it on again under Automation."
    return [Finding(CYCLE_OFF, cycle, "warn", f"{cycle} {text}", action=action) for cycle in sorted(cycles)]


def update_findings(
    tracked: Iterable[FindingState], said: Iterable[Finding], scope: FindingScope
) -> list[FindingState]:
    """The open findings of an account after a newer snapshot of it: still open or resolved, and new ones."""
    now = {_finding_id(scope, finding): finding for finding in _merged(said)}
    rows = []
    for row in tracked:
        if finding := now.pop(row.finding_id, None):
            rows.append(_seen_again(row, finding, scope))
        else:
            rows.append(replace(row, resolved_at=scope.as_of) if _is_over(row, scope) else row)
    return [*rows, *(_first_seen(finding_id, finding, scope) for finding_id, finding in now.items())]


def _is_over(row: FindingState, scope: FindingScope) -> bool:
    """Whether a snapshot that does not show it proves that it is gone."""
    if row.code == CYCLE_OFF:  # the broker has no part in it
        return scope.switches_read
    if scope.doubtful:
        return False
    if row.code in (DOUBTFUL, TORN):
        return True
    if row.code == UNKNOWN_WORD:
        return True
    if row.code == UNEXPLAINED:
        # it is reported once; what is behind it is known over night, unless something settles it before
        next_date = clock.trade_date(row.last_seen) < clock.trade_date(scope.as_of)
        return scope.conserved and (next_date or row.subject in scope.settled)
    return scope.ledger_read or row.code == OVERFILLED


def _first_seen(finding_id: str, finding: Finding, scope: FindingScope) -> FindingState:
    return FindingState(
        finding_id=finding_id,
        account_id=scope.account_id,
        code=finding.code,
        subject=finding.subject,
        severity=finding.severity,
        text=finding.text,
        evidence=_evidence_text(finding),
        suggested_action=finding.action or ACTIONS[finding.code],
        first_seen=scope.as_of,
        first_snapshot_id=scope.snapshot_id,
        last_seen=scope.as_of,
        last_snapshot_id=scope.snapshot_id,
        times_seen=1,
    )


def _seen_again(row: FindingState, finding: Finding, scope: FindingScope) -> FindingState:
    return replace(
        row,
        severity=finding.severity,
        text=finding.text,
        evidence=_evidence_text(finding),
        suggested_action=finding.action or ACTIONS[finding.code],
        last_seen=scope.as_of,
        last_snapshot_id=scope.snapshot_id,
        times_seen=row.times_seen + 1,
    )


def _finding_id(scope: FindingScope, finding: Finding) -> str:
    return ":".join((scope.account_id, finding.code, *((finding.subject,) if finding.subject else ())))


def _merged(said: Iterable[Finding]) -> Iterator[Finding]:
    """One for each code and subject, with the evidence of all: two orders of a trade may be wrong in one way."""
    by_key: dict[tuple[str, str | None], Finding] = {}
    for finding in said:
        key = (finding.code, finding.subject)
        known = by_key.get(key)
        by_key[key] = replace(known, evidence=(*known.evidence, *finding.evidence)) if known else finding
    return iter(by_key.values())


def _evidence_text(finding: Finding) -> str | None:
    return "; ".join(dict.fromkeys(text for text in finding.evidence if text)) or None


def _unexplained(change: ItemVerdict) -> Finding:
    text = f"nothing explains {signed(change.unexplained)} of {change.item}"
    return Finding(UNEXPLAINED, change.item, "warn", text, change.explanation)


def _overfilled(order: Order) -> Finding:
    parts = [part for part in (order.leg or (order,)) if part.quantity is not None]
    reported = tuple(
        f"{unsigned(part.exec_quantity or ZERO)} of {unsigned(part.quantity or ZERO)} "
        f"{part.option_symbol or part.symbol or ''}".strip()
        for part in parts
    )
    return Finding(OVERFILLED, str(order.id), "error", f"order {order.id}: more was filled than ordered", reported)


def _of_order(row: OrderRow) -> Finding | None:
    """What is wrong with an order, if the ledger cannot just take over what the broker says."""
    code, severity = _verdict(row)
    if code is None:
        return None
    subject = str(row.client_order_id if row.broker_order_id is None else row.broker_order_id)
    text = f"order {subject}: {row.match_state}, {row.raw_status or row.ledger_status}"
    return Finding(code, subject, severity, text, (*row.differences, *(f"looks like {one}" for one in row.suggested)))


def _verdict(row: OrderRow) -> tuple[str | None, Severity]:
    match row.match_state:
        case "unmatched_ours":
            over_unfilled = row.broker_status in SETTLED and not row.broker_filled
            return "order_unmatched", "warn" if over_unfilled else "error"
        case "missing_at_broker":
            return "order_missing", "warn"
        case "ambiguous":
            return "order_doubtful", "error"
        case "matched" if row.differences and row.change is None and not row.overfilled:
            works = row.ledger_status in SETTLED and row.broker_status not in SETTLED
            return "order_contradicts", "error" if works else "warn"
    return None, "info"
