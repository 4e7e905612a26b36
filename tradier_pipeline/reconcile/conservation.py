"""Whether one statement of an account follows from the one before: every position and cash change has its cause. Pure.

A position changes by what filled, by expiry, by an assignment or exercise, or by a corporate action. Cash changes by
what filled and by what was delivered at a strike; deposits, dividends, interest and the exact fees are posted overnight
only, by the account history. What nothing explains is a finding: its exact amount, and what may be behind it.

A finding is in flight when it is new, since the broker's lists may run behind each other, and unexplained when it is
still there after the next good statement. What a later statement explains was in flight.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from typing import Literal, Self

from tradier_pipeline.reconcile.account_state import EXACT, ZERO, AccountState, multiplier
from tradier_pipeline.reconcile.candidates import Candidates
from tradier_pipeline.reconcile.comparison import CASH, CENT, Cause, Comparison
from tradier_pipeline.reconcile.corporate_actions import CorporateActions
from tradier_pipeline.reconcile.deliveries import DELIVERY_STEP, LEAST_DELIVERY_FEE, MOST_DELIVERY_FEE
from tradier_pipeline.reconcile.ended_options import EndedOptions
from tradier_pipeline.reconcile.explanation import MAY_BE, may_owe_fractions, signed, unsigned

State = Literal["explained", "fees", "in_flight", "unexplained"]


@dataclass(frozen=True, slots=True)
class ItemChange:
    """How one item changed from one statement to the next: a symbol's quantity, or `cash` in USD.

    Attributes:
        fees_at_most: USD of cash that the fees of what filled may come to.
        candidates: what may be behind the part that no cause explains, or what may have become of an ended contract.
    """

    item: str
    amount: Decimal
    causes: tuple[Cause, ...]
    fees_at_most: Decimal = ZERO
    candidates: tuple[str, ...] = ()

    @property
    def explained(self) -> Decimal:
        with localcontext(EXACT):
            return sum((cause.amount for cause in self.causes), ZERO)

    @property
    def unexplained(self) -> Decimal:
        with localcontext(EXACT):
            return self.amount - self.explained

    @property
    def only_tells_expiry(self) -> bool:
        """Whether nothing moved: it became known that what had ended before expired."""
        return not self.amount and [(cause.kind, cause.amount) for cause in self.causes] == [("expiry", ZERO)]


@dataclass(frozen=True, slots=True)
class Open:
    """What an earlier statement left open of an item, and the lines that say what may be behind it."""

    amount: Decimal
    fees_at_most: Decimal = ZERO
    behind: tuple[str, ...] = ()

    @classmethod
    def of(cls, amount: Decimal, fees_at_most: Decimal | None, explanation: Iterable[str]) -> Self:
        """What a finding with such an explanation left open."""
        return cls(amount, fees_at_most or ZERO, tuple(line for line in explanation if line.startswith(MAY_BE)))


@dataclass(frozen=True, slots=True)
class ItemVerdict:
    """The verdict on one item. `change` + `carried` = `explained` + `unexplained`.

    Attributes:
        carried: what the statement before had left in flight.
        state: explained; fees: all that is left may be fees, which are posted overnight; in_flight: left open for the
            first time; unexplained: still open after the next statement.
        in_flight: the part of `unexplained` that is open for the first time.
        explanation: lines for a person.
    """

    item: str
    change: Decimal
    carried: Decimal
    explained: Decimal
    unexplained: Decimal
    in_flight: Decimal
    fees_at_most: Decimal
    state: State
    explanation: tuple[str, ...]


def changes(before: AccountState, now: AccountState) -> tuple[ItemChange, ...]:
    """Every item that changed or filled, by symbol, then cash, which is always there."""
    with localcontext(EXACT):
        compared = Comparison(before, now)
        companies, options = CorporateActions(compared), EndedOptions(compared)
        companies.book()
        options.book()
        return tuple(_changes(compared, Candidates(compared, companies, options)))


def settle(
    changed: Iterable[ItemChange],
    carried: Mapping[str, Open],
    outstanding: Mapping[str, Sequence[Decimal]] | None = None,
) -> tuple[ItemVerdict, ...]:
    """The verdict on every item that changed or was left in flight.

    Args:
        carried: what the statement before left in flight.
        outstanding: what the statements before left open, and nothing has settled since.
            A change that settles one of them, or all, explains both, however late it comes.
    """
    is_open = any(sum(amounts, ZERO) for amounts in (outstanding or {}).values())
    # what is open may be what was delivered
    by_item = {change.item: change for change in changed if not (is_open and change.only_tells_expiry)}
    if CASH in by_item:
        by_item[CASH] = _with_cash_for_fractions(by_item[CASH], carried)
    with localcontext(EXACT):
        late = {
            item: Open(settled)
            for item, amounts in (outstanding or {}).items()
            if item in by_item and (settled := _settled(by_item[item], amounts))
        }
        if CASH in late and by_item[CASH].unexplained + late[CASH].amount <= -LEAST_DELIVERY_FEE:
            fee = ("an assignment or exercise fee", "another fee")
            by_item[CASH] = replace(by_item[CASH], candidates=fee)
    carried = {**carried, **late}
    with localcontext(EXACT):
        return tuple(
            _finding(by_item.get(item, ItemChange(item, ZERO, ())), carried.get(item, Open(ZERO)))
            for item in sorted(by_item.keys() | carried.keys(), key=lambda item: (item == CASH, item))
        )


def _changes(compared: Comparison, candidates: Candidates) -> Iterator[ItemChange]:
    for symbol in sorted(compared.moved.keys() | compared.causes.keys() - {CASH}):
        moved, causes = compared.moved.get(symbol, ZERO), tuple(compared.causes[symbol])
        if moved or causes:
            yield ItemChange(symbol, moved, causes, candidates=tuple(candidates.of_position(symbol)))
    cash = compared.now.cash - compared.before.cash
    yield ItemChange(CASH, cash, tuple(compared.causes[CASH]), compared.fees(), tuple(candidates.of_cash()))


def _settled(change: ItemChange, amounts: Sequence[Decimal]) -> Decimal:
    """The outstanding amount that a change settles, to the cent or but for its fees; 0 if there is none."""
    for amount in (*amounts, sum(amounts, ZERO)):
        rest = change.unexplained + amount
        if amount * change.unexplained < 0 and -max(change.fees_at_most, CENT) < rest < CENT:
            return amount
    # the cash of a delivery comes with its fee
    of_deliveries = [amount for amount in amounts if change.item == CASH and not amount % DELIVERY_STEP]
    for count, amount in [(1, amount) for amount in of_deliveries] + [(len(of_deliveries), sum(of_deliveries, ZERO))]:
        fee = -(change.unexplained + amount)
        if amount * change.unexplained < 0 and LEAST_DELIVERY_FEE <= fee <= MOST_DELIVERY_FEE * count:
            return amount
    return ZERO


def _with_cash_for_fractions(cash: ItemChange, carried: Mapping[str, Open]) -> ItemChange:
    """Cash that came, with the splits and mergers in flight that may have left fractions among its candidates."""
    split = sorted(
        item
        for item, left in carried.items()
        if left.amount and any(map(may_owe_fractions, left.behind)) and (left.amount > 0 or multiplier(item) == 1)
    )
    if cash.unexplained < CENT or not split:
        return cash
    return replace(cash, candidates=(*(f"cash for fractions of {item}" for item in split), *cash.candidates))


def _finding(change: ItemChange, carried: Open) -> ItemVerdict:
    left = change.unexplained + carried.amount
    fees = change.fees_at_most + carried.fees_at_most
    if change.item == CASH and abs(left) < CENT:
        left = ZERO
    # what is new now, apart from what was there before and still is
    same = carried.amount * left > 0
    old = min(abs(carried.amount), abs(left)) if same else ZERO
    new = left - old.copy_sign(left)
    state: State
    if not left:
        reported = ["what was in flight is explained now"] if carried.amount else []
        reported += [] if change.unexplained else [f"{MAY_BE}{line}" for line in change.candidates]
        state, text = "explained", reported if reported or change.causes else ["no change"]
    elif -fees <= left < 0:
        state, text = (
            "fees",
            [f"{signed(left)} left: fees, up to {unsigned(fees)} USD, which are posted the next morning"],
        )
    else:
        state = "unexplained" if old else "in_flight"
        since = "since two statements" if old else "new"
        behind = (*(f"{MAY_BE}{line}" for line in change.candidates), *carried.behind)
        text = [f"{signed(left)} unexplained, {since}", *dict.fromkeys(behind)]
    return ItemVerdict(
        item=change.item,
        change=change.amount,
        carried=carried.amount,
        explained=change.explained,
        unexplained=left,
        in_flight=new if state in ("in_flight", "unexplained") else ZERO,
        fees_at_most=fees,
        state=state,
        explanation=(*(cause.text for cause in change.causes), *text),
    )
