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
from tradier_pipeline.reconcile import conservation
from tradier_pipeline.reconcile.facts import Severity
from tradier_pipeline.reconcile.orders import OrderRow
from tradier_pipeline.reconcile.packages import ZERO, progress
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
class Problem:
    """Something wrong that a snapshot shows. `subject`: the trade, order or symbol; None: the account."""

    code: str
    subject: str | None
    severity: Severity
    text: str
    evidence: tuple[str, ...] = ()
    action: str | None = None


@dataclass(frozen=True, slots=True)
class Tracked:
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
class Sight:
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


def problems(
    sight: Sight,
    *,
    evidence: Sequence[str] = (),
    changes: Iterable[conservation.Finding] = (),
    orders: Iterable[Order] = (),
    reconciled: Reconciliation | None = None,
) -> list[Problem]:
    """What a snapshot shows to be wrong.

    Args:
        evidence: what its verdict rests on.
        changes: since the last good snapshot.
        orders: of the broker.
        reconciled: with the ledger; None if it was not.
    """
    if sight.doubtful:
        return [Problem(DOUBTFUL, None, "warn", "the newest snapshot is doubtful", tuple(evidence))]
    unexplained = [_unexplained(change) for change in changes if change.state == "unexplained"]
    overfilled = [_overfilled(order) for order in orders if progress(order).is_beyond]
    if reconciled is None:
        return [*unexplained, *overfilled]
    of_orders = [problem for row in reconciled.orders if (problem := _of_order(row))]
    of_trades = [
        Problem(found.code, trade_id or found.subject, found.severity, found.text, found.evidence, found.action)
        for trade_id, found in reconciled.findings
        if trade_id or found.severity != "info"  # shares held by hand are no problem: reconciliation_findings has them
    ]
    return [*unexplained, *overfilled, *of_orders, *of_trades]


def unknown_words(words: Mapping[str, tuple[int, Decimal]]) -> list[Problem]:
    """One for each word of the broker's history that is not known, by what its rows come to: how many, USD."""
    return [
        Problem(
            UNKNOWN_WORD,
            word,
            "warn",
            f"the history has the unknown word {word!r} for {amount:,.2f} USD in {rows} row{'s' * (rows > 1)}: whether "
            "that came from outside is not known, and the returns leave those days out",
        )
        for word, (rows, amount) in words.items()
    ]


def switched_off(cycles: Iterable[str]) -> list[Problem]:
    """One for each cycle that was switched off in the UI, so that nothing stops without a word."""
    text, action = "is switched off in the UI: what it is there for is not done", "Switch it on again under Automation."
    return [Problem(CYCLE_OFF, cycle, "warn", f"{cycle} {text}", action=action) for cycle in sorted(cycles)]


def fold(tracked: Iterable[Tracked], said: Iterable[Problem], sight: Sight) -> list[Tracked]:
    """The open findings of an account after a newer snapshot of it: still open or resolved, and new ones."""
    now = {_finding_id(sight, problem): problem for problem in _merged(said)}
    rows = []
    for row in tracked:
        if problem := now.pop(row.finding_id, None):
            rows.append(_seen_again(row, problem, sight))
        else:
            rows.append(replace(row, resolved_at=sight.as_of) if _is_over(row, sight) else row)
    return [*rows, *(_first_seen(finding_id, problem, sight) for finding_id, problem in now.items())]


def _is_over(row: Tracked, sight: Sight) -> bool:
    """Whether a snapshot that does not show it proves that it is gone."""
    if row.code == CYCLE_OFF:  # the broker has no part in it
        return sight.switches_read
    if sight.doubtful:
        return False
    if row.code in (DOUBTFUL, TORN):
        return True
    if row.code == UNKNOWN_WORD:
        return True
    if row.code == UNEXPLAINED:
        # it is reported once; what is behind it is known over night, unless something settles it before
        next_date = clock.trade_date(row.last_seen) < clock.trade_date(sight.as_of)
        return sight.conserved and (next_date or row.subject in sight.settled)
    return sight.ledger_read or row.code == OVERFILLED


def _first_seen(finding_id: str, problem: Problem, sight: Sight) -> Tracked:
    return Tracked(
        finding_id=finding_id,
        account_id=sight.account_id,
        code=problem.code,
        subject=problem.subject,
        severity=problem.severity,
        text=problem.text,
        evidence=_told(problem),
        suggested_action=problem.action or ACTIONS[problem.code],
        first_seen=sight.as_of,
        first_snapshot_id=sight.snapshot_id,
        last_seen=sight.as_of,
        last_snapshot_id=sight.snapshot_id,
        times_seen=1,
    )


def _seen_again(row: Tracked, problem: Problem, sight: Sight) -> Tracked:
    return replace(
        row,
        severity=problem.severity,
        text=problem.text,
        evidence=_told(problem),
        suggested_action=problem.action or ACTIONS[problem.code],
        last_seen=sight.as_of,
        last_snapshot_id=sight.snapshot_id,
        times_seen=row.times_seen + 1,
    )


def _finding_id(sight: Sight, problem: Problem) -> str:
    return ":".join((sight.account_id, problem.code, *((problem.subject,) if problem.subject else ())))


def _merged(said: Iterable[Problem]) -> Iterator[Problem]:
    """One for each code and subject, with the evidence of all: two orders of a trade may be wrong in one way."""
    by_key: dict[tuple[str, str | None], Problem] = {}
    for problem in said:
        key = (problem.code, problem.subject)
        known = by_key.get(key)
        by_key[key] = replace(known, evidence=(*known.evidence, *problem.evidence)) if known else problem
    return iter(by_key.values())


def _told(problem: Problem) -> str | None:
    return "; ".join(dict.fromkeys(text for text in problem.evidence if text)) or None


def _unexplained(change: conservation.Finding) -> Problem:
    text = f"nothing explains {conservation.shown(change.unexplained)} of {change.item}"
    return Problem(UNEXPLAINED, change.item, "warn", text, change.explanation)


def _overfilled(order: Order) -> Problem:
    parts = [part for part in (order.leg or (order,)) if part.quantity is not None]
    told = tuple(
        f"{conservation.plain(part.exec_quantity or ZERO)} of {conservation.plain(part.quantity or ZERO)} "
        f"{part.option_symbol or part.symbol or ''}".strip()
        for part in parts
    )
    return Problem(OVERFILLED, str(order.id), "error", f"order {order.id}: more was filled than ordered", told)


def _of_order(row: OrderRow) -> Problem | None:
    """What is wrong with an order, if the ledger cannot just take over what the broker says."""
    code, severity = _verdict(row)
    if code is None:
        return None
    subject = str(row.client_order_id if row.broker_order_id is None else row.broker_order_id)
    text = f"order {subject}: {row.match_state}, {row.raw_status or row.ledger_status}"
    return Problem(code, subject, severity, text, (*row.differences, *(f"looks like {one}" for one in row.suggested)))


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
