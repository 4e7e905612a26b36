"""Whether one statement of an account follows from the one before: every position and cash change has its cause. Pure.

A position changes by what filled, by expiry, by an assignment or exercise, or by a corporate action. Cash changes by
what filled and by what was delivered at a strike; deposits, dividends, interest and the exact fees are posted overnight
only, by the account history. What nothing explains is a finding: its exact amount, and what may be behind it.

A finding is in flight when it is new, since the broker's lists may run behind each other, and unexplained when it is
still there after the next good statement. What a later statement explains was in flight.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import partial
from itertools import combinations, product
from math import prod
from typing import Literal, Self

from tradier_pipeline import clock
from tradier_pipeline.broker.symbols import OptionSymbol, classify, letters
from tradier_pipeline.reconcile.account_state import (
    EXACT,
    NOTHING,
    ZERO,
    AccountState,
    Fill,
    Holding,
    fills,
    multiplier,
)

CASH = "cash"  # no ticker: those are written in capitals
CENT = Decimal("0.01")
SHARES = 100  # of a standard contract
SATURDAY = 5  # Monday is 0

# Tradier charges up to 0.35 USD a contract; exchanges and regulators add less than 1 USD, most on index options
MOST_PER_CONTRACT = Decimal("1.50")
MOST_PER_DOLLAR_SOLD = Decimal("0.0001")  # of stock: the SEC's and FINRA's fees

# USD that brokers take for an assignment or exercise; what is paid for a hundred shares, at strikes of half dollars
LEAST_DELIVERY_FEE, MOST_DELIVERY_FEE, DELIVERY_STEP = Decimal(5), Decimal(30), Decimal(50)

# what companies declare: new shares for one old, other forward splits, old shares for one new
_FORWARD = frozenset({2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 100})
_OTHER_FORWARD = frozenset({Fraction(3, 2), Fraction(4, 3), Fraction(5, 2), Fraction(5, 4), Fraction(6, 5)})
_REVERSE = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 35, 40, 50, 60, 75, 80, 100, 150, 200, 250, 300, 500, 1000)
_USUAL = frozenset({*map(Fraction, _FORWARD), *_OTHER_FORWARD, *(Fraction(1, count) for count in _REVERSE)})
_FOR_FRACTIONS = "of a share paid in cash"

MOST_CHOICES = 3_000  # ways in which options may have ended that are tried
MOST_SUMMED = 12  # fills whose sums are tried
MOST_CANDIDATES = 12
MOST_DELIVERIES = 4  # candidates of what was delivered
MOST_PARENTS = 3  # candidates of what was spun off

FITS_ALIKE = "which fits as others do"  # of one of several explanations that nothing tells apart

MAY_BE = "may be "
ANOTHER_NAME = "another name of it"
NOT_LISTED = "that is not listed any more"  # of an order or a trade: the broker lists those of a day
_MERGER = "a merger for shares"
_SPIN_OFF = "by a spin-off of"
_ALL_BUT_STRIKE = ("underlying", "expiration", "option_type")
_ENDED = re.compile(r"([+-][0-9.]+) (?:expired|ended) ")

Kind = Literal["fill", "expiry", "delivery", "corporate_action"]
State = Literal["explained", "fees", "in_flight", "unexplained"]


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an item changed by `amount`: shares, contracts, or USD of cash."""

    kind: Kind
    amount: Decimal
    text: str


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
        return _Comparison(before, now).changes()


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


def signed(amount: Decimal) -> str:
    """An amount as a person reads it, with its sign: +5, -1.40."""
    return ("-" if amount < 0 else "+") + unsigned(amount)


def unsigned(amount: Decimal) -> str:
    """An amount as a person reads it, without its sign."""
    text = f"{abs(amount).normalize():f}"
    _, _, fraction = text.partition(".")
    return f"{text}0" if len(fraction) == 1 else text


def ended_in(explanation: Iterable[str]) -> Decimal:
    """The contracts, as they were held, that the explanation of a finding says to have ended."""
    found = (match for line in explanation if (match := _ENDED.match(line)))
    return -sum((Decimal(match[1]) for match in found), ZERO)


def may_owe_fractions(explanation: str) -> bool:
    """Whether a split, a merger or a spin-off that may have left fractions is among what an explanation names."""
    return any(words in explanation for words in (_FOR_FRACTIONS, _MERGER, _SPIN_OFF))


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


@dataclass(frozen=True, slots=True)
class _Gone:
    """Contracts of an option that went without a fill: `contracts` as they were held, negative if short.

    Attributes:
        cost: USD, as the broker wrote it, of one of them; None if it is not known any more.
        late: they ended at an earlier statement.
    """

    symbol: str
    option: OptionSymbol
    contracts: Decimal
    expired: bool
    cost: Decimal | None = None
    late: bool = False

    @property
    def fate(self) -> str:
        """What a delivery of it is called."""
        return "assigned" if self.contracts < 0 else "exercised"

    @property
    def delivered_per_contract(self) -> int:
        """Shares that come in for one contract held long, or sold short with the opposite sign."""
        assert self.option.multiplier is not None
        return self.option.multiplier * (1 if self.option.option_type == "call" else -1)


@dataclass(frozen=True, slots=True)
class _Delivery:
    """What became of the gone options of one underlying.

    Attributes:
        delivered: contracts of each gone option that were delivered, signed as held.
        left: shares of the underlying that this does not explain.
        lost: contracts that it does not explain.
        cash: USD it brought.
        net: shares it brought.
    """

    delivered: tuple[Decimal, ...]
    left: Decimal
    lost: Decimal
    cash: Decimal
    net: Decimal

    @property
    def brings_shares(self) -> bool:
        """Whether shares moved by it, so that they are evidence; else all that was delivered came to nothing."""
        return self.net != 0

    @property
    def cost(self) -> tuple[int, Decimal, int]:
        """How much it leaves open, and how much it supposes."""
        return (self.left != 0) + (self.lost != 0), abs(self.left) + self.lost, sum(map(bool, self.delivered))


class _Comparison:
    def __init__(self, before: AccountState, now: AccountState) -> None:
        self.before, self.now = before, now
        self.fills = fills(before, now)
        self.causes: dict[str, list[Cause]] = defaultdict(list)
        filled = [fill.symbol for fill in self.fills]
        self.moved = {
            symbol: now.held(symbol).quantity - before.held(symbol).quantity
            for symbol in sorted({*before.holdings, *now.holdings, *filled})
        }
        self.left: Mapping[str, Decimal] = {}
        self.delivered_on: Collection[str] = ()  # the shares that options which went may have delivered
        self.deliveries: dict[str, list[str]] = {}  # by shares, what else may have been delivered, the likeliest first
        self.alike: dict[str, list[str]] = {}  # by contract, what may have been delivered: each explains all alike
        self.other_ends: dict[str, list[str]] = {}  # by contract, what else than expiry may have become of it
        self.other_day = clock.trade_date(before.as_of) != clock.trade_date(now.as_of)

    def changes(self) -> tuple[ItemChange, ...]:
        for fill in self.fills:
            self._book_fill(fill)
        self._book_corporate_actions()
        self._book_ended_options()
        self._book_expiries()
        self.left = {symbol: self._left(symbol) for symbol in self.moved}
        self._doubt_expiries()
        positions = [
            ItemChange(
                symbol,
                self.moved.get(symbol, ZERO),
                tuple(self.causes[symbol]),
                candidates=tuple(self._behind_position(symbol)),
            )
            for symbol in sorted(self.moved.keys() | self.causes.keys() - {CASH})
            if self.moved.get(symbol) or self.causes[symbol]
        ]
        cash = self.now.cash - self.before.cash
        return *positions, ItemChange(CASH, cash, tuple(self.causes[CASH]), self._fees(), tuple(self._behind_cash()))

    def _left(self, item: str) -> Decimal:
        moved = self.now.cash - self.before.cash if item == CASH else self.moved.get(item, ZERO)
        return moved - sum((cause.amount for cause in self.causes[item]), ZERO)

    def _book(self, kind: Kind, item: str, amount: Decimal, text: str) -> None:
        self.causes[item].append(Cause(kind, amount, f"{signed(amount)} {text}"))

    def _book_fill(self, fill: Fill) -> None:
        if fill.quantity:
            up_to = f", of up to {signed(fill.part.filled)} that may have filled before" if fill.at_most else ""
            what = "taken back of what had filled" if fill.is_taken_back else "filled"
            self._book("fill", fill.symbol, fill.quantity, f"{what}, {fill.order}{up_to}")
        if fill.cash:
            self._book("fill", CASH, fill.cash, f"for {signed(fill.quantity)} {fill.symbol}, {fill.order}")

    def _book_corporate_actions(self) -> None:
        """Splits, and symbols that became others: the quantity or the name changed, and the cost to the cent not."""
        filled = {fill.symbol for fill in self.fills}
        for symbol in self.moved:
            old, new = self.before.held(symbol), self._apart_from_fills(symbol)
            ratio = _ratio(old.quantity, new.quantity) if new else None
            if new and ratio and old.cost_basis == new.cost_basis != 0:
                self._book("corporate_action", symbol, self._left(symbol), f"by a split, {ratio}")
        left = [symbol for symbol in self.moved if symbol not in filled and self.moved[symbol]]
        gone = [symbol for symbol in left if self.now.held(symbol) is NOTHING]
        come = [symbol for symbol in left if self.before.held(symbol) is NOTHING]
        pairs = [pair for pair in product(gone, come) if self._may_have_become(*pair)]
        for old_symbol, new_symbol in pairs:
            if sum(old_symbol in pair or new_symbol in pair for pair in pairs) > 1:
                continue  # which one became which is not certain
            old, new = self.before.held(old_symbol), self.now.held(new_symbol)
            how = "" if old.quantity == new.quantity else f", {_ratio(old.quantity, new.quantity)}"
            self._book("corporate_action", old_symbol, -old.quantity, f"became {new_symbol}{how}")
            self._book("corporate_action", new_symbol, new.quantity, f"came from {old_symbol}{how}")
        self._book_spin_offs([symbol for symbol in come if not self.causes[symbol]], filled)

    def _apart_from_fills(self, symbol: str) -> Holding | None:
        """The position without what was added to it since; None if that is not all, or its cost is not known."""
        now, filled = self.now.held(symbol), [fill for fill in self.fills if fill.symbol == symbol]
        quantity = sum((fill.quantity for fill in filled), ZERO)
        if self._left(symbol) != self.moved[symbol] - quantity:
            return None
        was = self.before.held(symbol).quantity
        if any(fill.at_most or fill.cash is None or fill.quantity * was <= 0 for fill in filled):
            return None
        return Holding(now.quantity - quantity, now.cost_basis + sum((fill.cash or ZERO for fill in filled), ZERO))

    def _may_have_become(self, old_symbol: str, new_symbol: str) -> bool:
        """Whether a position that went and one that came are one at an unchanged cost, under another name."""
        old, new = self.before.held(old_symbol), self.now.held(new_symbol)
        if old.cost_basis != new.cost_basis or not old.cost_basis:
            return False
        if old.quantity != new.quantity and not _ratio(old.quantity, new.quantity):
            return False
        was, became = classify(old_symbol).option, classify(new_symbol).option
        if was is None or became is None:
            return was is became
        if any(self._is_like(other, old_symbol) for other in self.before.holdings.keys() - {old_symbol}):
            return False  # all strikes may have moved on by one
        return (was.expiration, was.option_type) == (became.expiration, became.option_type)

    def _is_like(self, other: str, symbol: str) -> bool:
        """Whether a contract is held before and now as another one was, but for the strike."""
        one, option = classify(other).option, classify(symbol).option
        if one is None or option is None or self.before.held(other) != self.before.held(symbol):
            return False
        alike = all(getattr(one, name) == getattr(option, name) for name in _ALL_BUT_STRIKE)
        return alike and self.now.held(other) == self.before.held(other)

    def _may_be_another_name(self, symbol: str, other: str) -> bool:
        """Whether a contract that went and one that came may be one, though their costs differ."""
        was, is_now = classify(symbol).option, classify(other).option
        went, came = (symbol, other) if self.now.held(symbol) is NOTHING else (other, symbol)
        old, new = self.before.held(went), self.now.held(came)
        if was is None or is_now is None or NOTHING in (old, new) or self.before.held(came) is not NOTHING:
            return False
        alike = all(getattr(was, name) == getattr(is_now, name) for name in _ALL_BUT_STRIKE)
        is_all = self.left[went] == -old.quantity and self.left[came] == new.quantity
        return alike and is_all and (old.quantity == new.quantity or bool(_ratio(old.quantity, new.quantity)))

    def _book_spin_offs(self, come: Sequence[str], filled: set[str]) -> None:
        """Shares that came with exactly the cost that another position gave up, its quantity unchanged."""
        shares = [symbol for symbol in come if multiplier(symbol) == 1 and self.now.held(symbol).cost_basis > 0]
        given_up = {
            symbol: had.cost_basis - self.now.held(symbol).cost_basis
            for symbol, had in self.before.holdings.items()
            if symbol not in filled and multiplier(symbol) == 1 and self.now.held(symbol).quantity == had.quantity
        }
        pairs = [
            (parent, some)
            for parent, cost in given_up.items()
            for size in (1, 2)
            for some in combinations(shares, size)
            if cost == sum((self.now.held(symbol).cost_basis for symbol in some), ZERO)
        ]
        for parent, some in pairs:
            if sum(parent == other or bool({*some} & {*others}) for other, others in pairs) > 1:
                continue
            for symbol in some:
                cost = unsigned(self.now.held(symbol).cost_basis)
                text = f"{_SPIN_OFF} {parent}, which gave up {cost} USD of its cost"
                self._book("corporate_action", symbol, self.moved[symbol], text)

    def _book_ended_options(self) -> None:
        gone: dict[str, list[_Gone]] = defaultdict(list)
        for symbol in self.moved:
            if (ended := self._gone(symbol)) is not None:
                gone[self._underlying(symbol, ended.option)].append(ended)
        for late in self._late():
            underlying = self._underlying(late.symbol, late.option)
            if self._left(underlying) and underlying not in self._filled():
                gone[underlying].append(late)
        self.delivered_on = gone.keys()
        ways = {underlying: self._ways(underlying, options) for underlying, options in gone.items()}
        for (underlying, options), way in zip(gone.items(), self._likeliest(gone, list(ways.values())), strict=True):
            self._book_delivery(underlying, options, way)
            if not any(way.delivered) and self._left(underlying):
                self._note_deliveries(underlying, options, ways[underlying])

    def _late(self) -> Iterator[_Gone]:
        """Options that ended at an earlier statement: their shares or cash may show only now."""
        for symbol, contracts in self.before.ended.items():
            if (option := classify(symbol).option) is not None:
                yield _Gone(symbol, option, contracts, expired=True, late=True)

    def _gone(self, symbol: str) -> _Gone | None:
        """The contracts of a symbol that went without a fill, if it is an option and they are not more than held."""
        option, left = classify(symbol).option, self._left(symbol)
        if option is None or not left:
            return None
        had = self.now.held(symbol).quantity - left
        if had * left > 0 or abs(left) > abs(had):
            return None
        held = self.before.held(symbol)
        cost = held.cost_basis / held.quantity if held.quantity else None
        return _Gone(symbol, option, -left, self._has_expired(option), cost)

    def _has_expired(self, option: OptionSymbol) -> bool:
        today = clock.trade_date(self.now.as_of_end)
        if option.expiration != today:
            return option.expiration < today
        return option.expires_at(self.now.session_close) <= self.now.as_of_end

    def _underlying(self, symbol: str, option: OptionSymbol) -> str:
        """The symbol of the shares that an option is on: as a quote reports it, and as they are held."""
        quoted = (terms[symbol].underlying for terms in (self.now.terms, self.before.terms) if symbol in terms)
        name = next((name for name in quoted if name), option.underlying)
        if name in self.moved:
            return name
        alike = [held for held in self.moved if multiplier(held) == 1 and letters(held) == letters(name)]
        return alike[0] if len(alike) == 1 else name

    def _options_on(self, shares: str) -> bool:
        """Whether an option that delivers these shares was held, or filled."""
        options = ((symbol, classify(symbol).option) for symbol in {*self.before.holdings, *self._filled()})
        return any(
            option is not None and not option.settles_in_cash and self._underlying(symbol, option) == shares
            for symbol, option in options
        )

    def _filled(self) -> set[str]:
        return {fill.symbol for fill in self.fills}

    def _ways(self, underlying: str, options: list[_Gone]) -> list[_Delivery]:
        """What may have become of the gone options: delivered in part, wholly or not, the likeliest first."""
        return self._ways_of(self._left(underlying), options)

    @staticmethod
    def _ways_of(shares: Decimal, options: list[_Gone]) -> list[_Delivery]:
        if not shares and not any(gone.expired for gone in options):
            return [_delivery(shares, options, tuple(ZERO for _ in options))]
        some = [_parts(gone) for gone in options]
        if prod(map(len, some)) > MOST_CHOICES:
            some = [[ZERO, gone.contracts] if len(_parts(gone)) > 1 else [ZERO] for gone in options]
        if prod(map(len, some)) > MOST_CHOICES:
            some = [[ZERO] for _ in options]
        return sorted((_delivery(shares, options, choice) for choice in product(*some)), key=lambda way: way.cost)

    def _likeliest(self, gone: Mapping[str, list[_Gone]], ways: list[list[_Delivery]]) -> Sequence[_Delivery]:
        """One way of each underlying: those that explain the most, cash included."""
        every = ways
        if prod(map(len, ways)) > MOST_CHOICES:  # leave cash to tell apart only what explains the shares alike
            ways = [[way for way in some if way.cost[:2] == some[0].cost[:2]] for some in ways]
        if not ways or prod(map(len, ways)) > MOST_CHOICES:
            return [some[0] for some in ways]
        rank = partial(_open_items, self._left(CASH), self._fees())
        best = min(product(*ways), key=rank)
        paid = sum((way.cash for way in best), ZERO)
        fees = MOST_DELIVERY_FEE * sum(abs(done) for way in best for done in way.delivered)
        is_late = any(
            done and option.late
            for options, way in zip(gone.values(), best, strict=True)
            for option, done in zip(options, way.delivered, strict=True)
        )
        if abs(self._left(CASH) - paid) <= (fees if is_late else abs(paid) / 10):
            return self._untied(gone, best, [some for some in product(*ways) if rank(some) == rank(best)])
        # cash does not support it yet: it is certain only where the shares, or their cost, allow one way
        return [
            self._certain(underlying, options, some, way)
            for (underlying, options), some, way in zip(gone.items(), every, best, strict=True)
        ]

    def _untied(
        self, gone: Mapping[str, list[_Gone]], best: Sequence[_Delivery], alike: Sequence[Sequence[_Delivery]]
    ) -> Sequence[_Delivery]:
        """The likeliest ways, but none where others explain shares and cash alike and no cost of shares tells them."""
        if not any(any(way.delivered) for way in best):
            return best
        found = []
        for place, (underlying, options) in enumerate(gone.items()):
            ways = list({some[place].delivered: some[place] for some in alike}.values())
            fitting = [way for way in ways if way.brings_shares and self._fits_cost(underlying, options, way)]
            certain = fitting if len(fitting) == 1 else ways
            if not fitting and self._may_be_bought(underlying, best[place]):
                certain = [_delivery(self._left(underlying), options, tuple(ZERO for _ in options))]
            elif len(certain) > 1:
                reported = [_reported(options, way) for way in ways[:MOST_DELIVERIES]]
                self.alike |= {one.symbol: reported for one in options}
                certain = [_delivery(self._left(underlying), options, tuple(ZERO for _ in options))]
            found += certain
        return found

    def _certain(self, underlying: str, options: list[_Gone], ways: list[_Delivery], best: _Delivery) -> _Delivery:
        rivals = [way for way in ways if way.cost[:2] == best.cost[:2]]
        if any(best.delivered) and best.brings_shares:
            fitting = [way for way in rivals if self._fits_cost(underlying, options, way)]
            if len(fitting) == 1:
                return fitting[0]
        if not any(best.delivered):
            return best
        is_only = len(rivals) == 1 or not best.brings_shares
        may_be_another = self._may_be_moved(options, best) or self._cost_differs(underlying, options, best)
        is_certain = is_only and not any(gone.late for gone in options) and not may_be_another
        # shares that leave are delivered only where they are paid for: else they may have left the account
        if is_certain and best.net * self.before.held(underlying).quantity >= 0:
            return best
        return next(way for way in ways if not any(way.delivered))

    def _may_be_moved(self, options: list[_Gone], way: _Delivery) -> bool:
        """Whether shares and options may have left the account together: then nothing was delivered.

        Other shares moved than a delivery brings, other positions left as well, or living contracts went while the
        exchange was open: what is delivered is delivered over night.
        """
        if way.left:
            return True
        others = (symbol for symbol in self.moved.keys() - self.delivered_on if multiplier(symbol) == 1)
        if any(self._left(symbol) and self.now.held(symbol) is NOTHING for symbol in others):
            return True
        opened = self.now.session_open
        is_open = opened is not None and not self.other_day and opened <= self.before.as_of
        return is_open and any(done and not gone.expired for gone, done in zip(options, way.delivered, strict=True))

    def _fits_cost(self, underlying: str, options: list[_Gone], way: _Delivery) -> bool:
        """Whether the cost of the shares that came is what they were delivered at, with or without the premium."""
        old, new = self.before.held(underlying), self.now.held(underlying)
        if abs(new.quantity) <= abs(old.quantity) or old.quantity * new.quantity < 0:
            return False
        premiums = [done * (gone.cost or ZERO) for gone, done in zip(options, way.delivered, strict=True)]
        gap = new.cost_basis - old.cost_basis + way.cash
        return any(abs(gap - premium) < CENT for premium in (ZERO, sum(premiums, ZERO)))

    def _may_be_bought(self, underlying: str, way: _Delivery) -> bool:
        """Whether the cost of the shares that came is, to the cent, what cash was paid, and the delivery is not."""
        old, new, paid = self.before.held(underlying), self.now.held(underlying), -self._left(CASH)
        if abs(new.quantity) <= abs(old.quantity) or not way.brings_shares or underlying in self._filled():
            return False
        return abs(paid) >= CENT > abs(new.cost_basis - old.cost_basis - paid) and abs(paid + way.cash) >= CENT

    def _cost_differs(self, underlying: str, options: list[_Gone], way: _Delivery) -> bool:
        """Whether the shares that came have a cost of their own, as those of a transfer; none is told at first."""
        old, new = self.before.held(underlying), self.now.held(underlying)
        came = abs(new.cost_basis - old.cost_basis)  # that of short shares has either sign
        if not came or abs(new.quantity) <= abs(old.quantity) or old.quantity * new.quantity < 0:
            return False
        premium = sum((done * (gone.cost or ZERO) for gone, done in zip(options, way.delivered, strict=True)), ZERO)
        return abs(came - abs(way.cash)) > abs(way.cash) / 10 + abs(premium)

    def _note_deliveries(self, underlying: str, options: list[_Gone], ways: list[_Delivery]) -> None:
        """Keep, for the shares, what may have been delivered where that is not certain."""
        self.deliveries[underlying] = [
            _reported(options, way)
            for way in ways[:MOST_DELIVERIES]
            if way.brings_shares and abs(way.left) < abs(way.left + way.net)
        ]

    def _book_delivery(self, underlying: str, options: list[_Gone], way: _Delivery) -> None:
        for gone, delivered in zip(options, way.delivered, strict=True):
            what = gone.fate
            if delivered and gone.late:
                self._book("expiry", gone.symbol, delivered, f"ended {gone.option.expiration}, taken back")
            if delivered:
                shares = delivered * gone.delivered_per_contract
                self._book("delivery", gone.symbol, -delivered, what)
                self._book("delivery", underlying, shares, f"at {unsigned(gone.option.strike)}: {gone.symbol} {what}")
                paid = -shares * gone.option.strike
                self._book("delivery", CASH, paid, f"for {signed(shares)} {underlying}, {gone.symbol} {what}")
            if gone.expired and gone.contracts != delivered and not gone.late:
                is_known = self._end_is_known(gone.option, self.now) and gone.symbol not in self.alike
                what = "expired" if is_known else "ended"
                self._book("expiry", gone.symbol, delivered - gone.contracts, f"{what} {gone.option.expiration}")

    def _book_expiries(self) -> None:
        """What ended before, and nothing was delivered for it by the time that its end is known whole: it expired."""
        if abs(self._left(CASH)) >= CENT:
            return  # which may be for it; so may be what changed of its shares, or of other contracts on them
        options = {symbol: classify(symbol).option for symbol in self.moved if self._left(symbol)}
        changed = {self._underlying(symbol, option) if option else symbol for symbol, option in options.items()}
        for gone in self._late():
            if gone.symbol in self.before.claimed:
                continue  # what came without a cause may have come for it
            is_new = self._end_is_known(gone.option, self.now) and not self._end_is_known(gone.option, self.before)
            if is_new and not self.causes[gone.symbol] and self._underlying(gone.symbol, gone.option) not in changed:
                text = f"expired {gone.option.expiration}: nothing was delivered for {signed(gone.contracts)}"
                self.causes[gone.symbol].append(Cause("expiry", ZERO, text))

    def _doubt_expiries(self) -> None:
        """What expired only ended, where what came without a cause, now or before, may have come for it."""
        for symbol, causes in list(self.causes.items()):
            option = classify(symbol).option
            ended = -sum((cause.amount for cause in causes if cause.kind == "expiry"), ZERO)
            if option is None or not ended or not self.moved.get(symbol) or symbol in self.alike:
                continue
            if ends := list(self._other_ends(_Gone(symbol, option, ended, expired=True))):
                self.other_ends[symbol] = ends
                self.causes[symbol] = [replace(cause, text=_only_ended(cause.text)) for cause in causes]

    def _other_ends(self, gone: _Gone) -> Iterator[str]:
        symbol, option, cash = gone.symbol, gone.option, self._cash_beyond_fees()
        if symbol in self.before.claimed:
            what = "settled in cash" if option.settles_in_cash else f"{gone.fate} at {unsigned(option.strike)}"
            yield f"{what}, which came before it left the list"
        if option.settles_in_cash and cash and any(symbol in line for line in self._settlements()):
            yield "settled in cash"
        behind_shares = self.deliveries.get(self._underlying(symbol, option), ())
        if gone in self._of_unknown_size() or any(symbol in line for line in behind_shares):
            yield f"{gone.fate} at {unsigned(option.strike)}"
        if gone in self._traded_unseen():
            yield f"closed by an order {NOT_LISTED}"
        if gone in self._delivered_unseen():
            yield f"{gone.fate} at {unsigned(option.strike)}, and its shares traded by an order {NOT_LISTED}"

    def _cash_beyond_fees(self) -> Decimal:
        """USD of cash that no cause explains; 0 where it may be fees."""
        left = self._left(CASH)
        return ZERO if abs(left) < CENT or -self._fees() - self._fees_of_before() <= left < 0 else left

    def _fees_of_before(self) -> Decimal:
        """USD that the fees of the contracts of the day before may come to: some are posted over night."""
        day = clock.trade_date(self.before.as_of)
        parts = self.before.parts.values() if self.other_day else ()
        filled = (
            abs(part.filled)
            for part in parts
            if part.changed_at and clock.trade_date(part.changed_at) == day and classify(part.symbol).option
        )
        return sum(filled, ZERO) * MOST_PER_CONTRACT

    def _ended_now(self) -> list[_Gone]:
        """The contracts that ended since the statement before, and were not delivered."""
        ended = {
            symbol: -sum((cause.amount for cause in causes if cause.kind == "expiry"), ZERO)
            for symbol, causes in self.causes.items()
            if self.moved.get(symbol)
        }
        return [
            _Gone(symbol, option, contracts, expired=True)
            for symbol, contracts in ended.items()
            if contracts and (option := classify(symbol).option) is not None
        ]

    def _still_listed(self) -> list[_Gone]:
        """The contracts that are over and have not left the list: what comes for them may come before they go."""
        return [
            _Gone(symbol, option, holding.quantity, expired=True)
            for symbol, holding in self.now.holdings.items()
            if (option := classify(symbol).option) is not None and self._has_expired(option)
        ]

    def _of_unknown_size(self) -> list[_Gone]:
        """The contracts that are over, do not tell what they deliver, and may have brought what is left."""
        return [
            gone
            for gone in (*self._ended_now(), *self._still_listed())
            if gone.option.multiplier is None
            and (self._left(self._underlying(gone.symbol, gone.option)) or self._cash_beyond_fees())
        ]

    def _traded_unseen(self) -> list[_Gone]:
        """The contracts whose end was not seen, and that cash may have been paid for: orders are listed for a day."""
        cash = self._cash_beyond_fees()
        if not self.other_day or not cash:
            return []
        gone = [one for one in self._ended_now() if not self._was_over(one.option)]
        return gone if any(one.contracts * cash > 0 for one in gone) else []

    def _delivered_unseen(self) -> list[_Gone]:
        """The contracts whose shares may have come and gone on a day between, for what cash lacks or has."""
        cash = self._cash_beyond_fees()
        return [
            gone
            for gone in self._ended_now()
            if cash and gone.option.multiplier and not gone.option.settles_in_cash
            if abs(cash) < abs(gone.contracts) * gone.option.multiplier * gone.option.strike
            if self._has_unseen_day_since(gone.option.expiration)
        ]

    def _has_unseen_day_since(self, expiration: date) -> bool:
        """Whether there was a weekday after it that neither statement is of."""
        first, today = max(clock.trade_date(self.before.as_of), expiration), clock.trade_date(self.now.as_of)
        between = (first + timedelta(days=count) for count in range(1, (today - first).days))
        return any(day.weekday() < SATURDAY for day in between)

    def _was_over(self, option: OptionSymbol) -> bool:
        """Whether nobody could trade it any more at the statement before."""
        seen = self.before.as_of_end
        close = self.before.session_close if option.expiration == clock.trade_date(seen) else None
        return option.expires_at(close) <= seen

    @staticmethod
    def _end_is_known(option: OptionSymbol, state: AccountState) -> bool:
        return option.end_is_known(state.as_of_end, state.session_open)

    def _fees(self) -> Decimal:
        contracts = sum((abs(fill.quantity) for fill in self.fills if classify(fill.symbol).option), ZERO)
        paid = (fill.cash or ZERO for fill in self.fills if multiplier(fill.symbol) == 1)
        sold = sum((cash for cash in paid if cash > 0), ZERO)
        of_sales = (sold * MOST_PER_DOLLAR_SOLD + CENT).quantize(CENT) if sold else ZERO
        return contracts * MOST_PER_CONTRACT + of_sales

    def _behind_position(self, symbol: str) -> Iterator[str]:
        left = self._left(symbol)
        if not left:
            yield from self._fates(symbol)
            return
        found = [
            *self._legless(symbol),
            *(
                f"{fill.order}: its fill of {signed(fill.quantity)} may not show in the positions yet"
                for fill in self.fills
                if fill.symbol == symbol and fill.quantity == -left
            ),
            *(
                f"order {part.order_id}: {signed(part.rest)} still to fill, and the fill may not be listed yet"
                for part in self.now.parts.values()
                if part.symbol == symbol and part.rest and abs(left) <= abs(part.rest) and left * part.rest > 0
            ),
            *(
                f"{ANOTHER_NAME}: {other} changed by {signed(rest)}"
                for other, rest in self.left.items()
                if self._may_be_another_name(symbol, other)
            ),
            *(
                f"a transfer or a change of symbol: {other} changed by {signed(rest)}"
                for other, rest in self.left.items()
                if rest == -left
            ),
            *self.deliveries.get(symbol, ()),
            *self._from_still_listed(symbol, left),
            *(["an assignment or exercise: whole hundreds"] if self._may_be_delivered(symbol, left) else []),
            *(self._behind_shares(symbol) if multiplier(symbol) == 1 else ()),
            *self._unlisted_trade(symbol),
            *self._other_day(),
            "a transfer or a correction: no order tells of it",
        ]
        yield from found[:MOST_CANDIDATES]

    def _from_still_listed(self, shares: str, left: Decimal) -> Iterator[str]:
        """What may have been delivered of contracts that are over and still listed, or whose size is not known."""
        over = [gone for gone in self._still_listed() if self._underlying(gone.symbol, gone.option) == shares]
        ways = self._ways_of(left, over) if over else []
        found = [way for way in ways if way.brings_shares and abs(way.left) < abs(way.left + way.net)]
        yield from (_reported(over, way) for way in found[:MOST_DELIVERIES])
        yield from (
            f"{gone.symbol} {gone.fate} at {unsigned(gone.option.strike)}"
            for gone in self._of_unknown_size()
            if self._underlying(gone.symbol, gone.option) == shares
        )

    def _unlisted_trade(self, symbol: str) -> Iterator[str]:
        """What cash was paid for the one position that changed without a cause, as of a trade by the broker itself."""
        left, cash, size = self.left[symbol], self._left(CASH), multiplier(symbol)
        if size and left * cash < 0 and sum(map(bool, self.left.values())) == 1:
            yield f"a trade that no order shows: {_price(-cash / left / size)} USD a share, fees included"

    def _fates(self, symbol: str) -> Iterator[str]:
        """What may have become of contracts that ended, as long as it does not show, or shows several ways alike."""
        yield from (f"{line}, {FITS_ALIKE}" for line in self.alike.get(symbol, ()))
        ended = -sum((cause.amount for cause in self.causes[symbol] if cause.kind == "expiry"), ZERO)
        option = classify(symbol).option
        if symbol in self.other_ends:
            yield "expired worthless"
            yield from self.other_ends[symbol]
            return
        if option is None or not ended or not self.moved.get(symbol) or self._end_is_known(option, self.now):
            return
        yield "expired worthless"
        if option.settles_in_cash:
            yield "settled in cash, which would follow by the next session"
        else:
            fate = "assigned" if ended < 0 else "exercised"
            yield f"{fate} at {unsigned(option.strike)}, whose shares would follow by the next session"

    def _may_be_delivered(self, symbol: str, left: Decimal) -> bool:
        return multiplier(symbol) == 1 and not left % SHARES and self._options_on(symbol)

    def _behind_shares(self, symbol: str) -> Iterator[str]:
        """What a company may have done to shares that changed without a fill or another cause."""
        old, new = self.before.held(symbol), self._apart_from_fills(symbol)
        cash = self._left(CASH)
        if new is None:
            return
        if ratio := _ratio(old.quantity, new.quantity):
            yield f"a split, {ratio}, and the cost was changed as well"
        yield from _with_fractions(old, new)
        if new.quantity > old.quantity > 0 and (new.quantity - old.quantity) % 1:
            yield "a reinvested dividend"
        if old is NOTHING and new.quantity > 0 and not new.cost_basis:
            yield from self._parents(symbol)
        if 2 * old.quantity > new.quantity > old.quantity > 0 and new.cost_basis == old.cost_basis:
            yield f"a stock dividend of {unsigned(round(100 * (new.quantity / old.quantity - 1), 4))} %"
        yield from self._exchanges(symbol)
        if symbol in self._paid_out():
            part = "a buy-in by the broker" if old.quantity < 0 else "a tender or redemption of a part"
            what = "a cash merger or redemption" if not new.quantity else part
            yield f"{what}: {_price(-cash / self.left[symbol])} USD a share"

    def _parents(self, symbol: str) -> Iterator[str]:
        """The shares by whose spin-off others may have come that have no cost yet: it is allocated days later."""
        held = [
            other
            for other, had in self.before.holdings.items()
            if multiplier(other) == 1 and had.quantity > 0 and self.now.held(other) == had
        ]
        if len(held) > MOST_PARENTS:
            yield f"shares {_SPIN_OFF} another one that is held, whose cost has not moved yet"
            return
        for other in held:
            each = self.now.held(symbol).quantity / self.before.held(other).quantity
            yield f"shares {_SPIN_OFF} {other}, whose cost has not moved yet: {each:.4f} for each"

    def _paid_out(self) -> list[str]:
        """The shares that went, or a part of them, while cash came for them, or that were owed and were paid for."""
        cash = self._left(CASH)
        return [
            symbol
            for symbol, rest in self.left.items()
            if multiplier(symbol) == 1
            and rest == self.moved[symbol]
            and rest * self.before.held(symbol).quantity < 0
            and abs(rest) <= abs(self.before.held(symbol).quantity)
            and rest * cash < 0
            and abs(cash) >= CENT
        ]

    def _exchanges(self, symbol: str) -> Iterator[str]:
        """Mergers for shares: all of one went, and others came."""
        if multiplier(symbol) != 1:
            return
        for other, rest in self.left.items():
            went, came = (symbol, other) if self.left[symbol] < 0 else (other, symbol)
            if other == symbol or multiplier(other) != 1 or rest * self.left[symbol] >= 0:
                continue
            if self.now.held(went) is NOTHING and self.before.held(went).quantity == -self.left[went]:
                if self.before.held(came) is NOTHING:
                    splits = _with_fractions(self.before.held(went), self.now.held(came))
                    yield from (f"{line}, of {went}, which became {came}" for line in splits)
                each = f"{-self.left[came] / self.left[went]:.4f} {came}"
                if went in self._paid_out():
                    paid = _price(-self._left(CASH) / self.left[went])
                    yield f"{_MERGER} and cash: {each} and {paid} USD for each {went}"
                yield f"{_MERGER}: {each} for each {went}"

    def _settlements(self) -> Iterator[str]:
        """Expired options that settle in cash, alone or as a spread, of which the cash that is left may come."""
        left = self._cash_beyond_fees()
        if not left:
            return
        ended = [
            (symbol, option, -cause.amount, option.multiplier or SHARES)
            for symbol, causes in self.causes.items()
            for cause in causes
            if cause.kind == "expiry" and (option := classify(symbol).option) is not None and option.settles_in_cash
        ]
        ended += [
            (gone.symbol, gone.option, gone.contracts, gone.option.multiplier or SHARES)
            for gone in (*self._late(), *self._still_listed())
            if gone.option.settles_in_cash
        ]
        for (one, first, held, size), (other, second, sold, _) in combinations(ended, 2):
            each = abs(left) / (abs(held) * size)
            alike = (first.underlying, first.option_type) == (second.underlying, second.option_type)
            if alike and held == -sold and each <= abs(first.strike - second.strike):
                yield f"a settlement in cash of {one} and {other}: {each:.4f} USD a share"
        for symbol, _, held, size in ended:
            if held * left > 0:
                yield f"a settlement in cash of {symbol}: {_each(left, abs(held) * size)} a share"
        if len(ended) > 2:
            yield f"a settlement in cash of {', '.join(symbol for symbol, *_ in ended)} together"

    def _behind_cash(self) -> Iterator[str]:
        left = self._left(CASH)
        if abs(left) < CENT:
            return
        contracts = sum((abs(fill.quantity) for fill in self.fills if classify(fill.symbol).option), ZERO)
        found = [
            *self._legless(),
            *(["fees of the day before, posted over night"] if -self._fees_of_before() <= left < 0 else []),
            *(
                [f"{unsigned(contracts)} contracts x {_each(left, contracts)} of fees"]
                if left < 0 and contracts
                else []
            ),
            *(
                f"{fill.order}: {signed(fill.quantity)} {fill.symbol}, its multiplier is not known"
                if fill.lacks_multiplier
                else f"{fill.order}: the price of {signed(fill.quantity)} {fill.symbol} is not reported yet"
                for fill in self.fills
                if fill.cash is None
            ),
            *self._fills_that_sum_to(-left),
            *self._deliveries_that_sum_to(-left),
            *(f"{line}, {FITS_ALIKE}" for line in dict.fromkeys(line for some in self.alike.values() for line in some)),
            *(["an assignment or exercise fee"] if -MOST_DELIVERY_FEE * self._delivered_lots() <= left < 0 else []),
            *self._settlements(),
            *self._unseen_ends(),
            *(
                f"a cash merger or redemption of {symbol}: {_price(-left / self.left[symbol])} USD a share"
                for symbol in self._paid_out()
            ),
            *(
                f"{signed(rest)} {symbol} by a trade that no order shows"
                for symbol, rest in self.left.items()
                if any(self._unlisted_trade(symbol))
            ),
            *(
                f"cash for fractions: {symbol} {cause.text}"
                for symbol, causes in self.causes.items()
                for cause in causes
                if cause.kind == "corporate_action" and left > 0
            ),
            *([f"cash for fractions of {symbol}" for symbol in self._with_fractions()] if left > 0 else []),
            *self._late_pairs(left),
            *(
                f"what is left of a dividend that was reinvested in {symbol}"
                for symbol, rest in self.left.items()
                if rest % 1 and rest > 0 and multiplier(symbol) == 1
            ),
            *(
                f"a dividend of {symbol}: {unsigned(left / held.quantity)} USD a share"
                for symbol, held in self.before.holdings.items()
                if multiplier(symbol) == 1 and _is_dividend(left, held.quantity)
            ),
            *(
                f"{'a cash merger or redemption of' if shares < 0 else 'the price of'} {symbol}, "
                f"which {'went' if shares < 0 else 'came'} before: {_price(-left / shares)} USD a share"
                for symbol, shares in sorted(self.before.gone.items())
                if multiplier(symbol) == 1 and shares * left < 0 and (shares > 0 or self.now.held(symbol).quantity >= 0)
            ),
            *self._late_payments(left),
            *self._other_day(),
            "a deposit, a dividend or interest" if left > 0 else "a withdrawal, a fee or interest",
        ]
        yield from found[:MOST_CANDIDATES]

    def _unseen_ends(self) -> Iterator[str]:
        """What cash may have come for of contracts that are over: deliveries of any size, and trades nobody saw."""
        for gone in self._of_unknown_size():
            yield f"for {gone.symbol} {gone.fate}, whose size is not known"
        claimed = (gone for gone in self._late() if gone.symbol in self.before.claimed)
        for gone in (*claimed, *self._still_listed()):
            if not gone.option.multiplier or gone.option.settles_in_cash:
                continue
            count = -self._left(CASH) / (gone.delivered_per_contract * gone.option.strike)
            if not count % 1 and 0 < count * gone.contracts <= gone.contracts**2:
                yield f"for {unsigned(count)} {gone.symbol} {gone.fate} at {unsigned(gone.option.strike)}"
        if traded := self._traded_unseen():
            yield f"a trade of {', '.join(gone.symbol for gone in traded)} {NOT_LISTED}"
        if delivered := self._delivered_unseen():
            yield f"a trade of what {', '.join(gone.symbol for gone in delivered)} delivered {NOT_LISTED}"

    def _with_fractions(self) -> Iterator[str]:
        """The shares that a split or a merger, now or lately, may have left fractions of."""
        for symbol, rest in self.left.items():
            now = self._apart_from_fills(symbol)
            split = now is not None and any(_with_fractions(self.before.held(symbol), now))
            if split or (rest > 0 and any(self._exchanges(symbol))):
                yield symbol
        yield from sorted(symbol for symbol in self.before.owed if symbol in self.now.holdings)

    def _late_pairs(self, left: Decimal) -> Iterator[str]:
        """Options that expired lately whose deliveries come to the cash that is left, and to no shares."""
        over = (*self._late(), *self._still_listed())
        late = [gone for gone in over if not gone.option.settles_in_cash and gone.option.multiplier]
        for one, other in combinations(late, 2):
            net = one.contracts * one.delivered_per_contract + other.contracts * other.delivered_per_contract
            paid = sum(
                (-gone.contracts * gone.delivered_per_contract * gone.option.strike for gone in (one, other)), ZERO
            )
            alike = self._underlying(one.symbol, one.option) == self._underlying(other.symbol, other.option)
            if alike and not net and paid and abs(left - paid) * 10 <= abs(paid):
                yield f"{one.symbol} {one.fate} and {other.symbol} {other.fate}: {signed(paid)} USD"

    def _late_payments(self, left: Decimal) -> Iterator[str]:
        """Options that went lately together with the shares they deliver, where their strike, less a fee, is paid."""
        living = {symbol: -changed for symbol, changed in self.before.gone.items()}
        for symbol, contracts in sorted({**living, **self.before.ended}.items()):
            option = classify(symbol).option
            if option is None or option.settles_in_cash or not option.multiplier:
                continue
            gone = _Gone(symbol, option, contracts, expired=False)
            shares = contracts * gone.delivered_per_contract
            went = any(
                rest == shares and multiplier(of) == 1 and letters(of) == letters(option.underlying)
                for of, rest in self.before.gone.items()
            )
            if went and ZERO <= -shares * option.strike - left <= MOST_DELIVERY_FEE * abs(contracts):
                yield f"{symbol} {gone.fate} at {unsigned(option.strike)}, whose shares went before"

    def _legless(self, symbol: str | None = None) -> Iterator[str]:
        """The orders without legs that may stand behind a change of a symbol, or of cash."""
        option = classify(symbol).option if symbol else None
        underlying = option.underlying if option else symbol
        for order in self.now.legless.values():
            if order.may_have_filled and underlying in (None, order.symbol):
                yield f"the unknown legs of order {order.order_id}"

    def _delivered_lots(self) -> Decimal:
        """How many contracts were assigned or exercised."""
        of_options = (causes for symbol, causes in self.causes.items() if classify(symbol).option is not None)
        return sum((abs(one.amount) for causes in of_options for one in causes if one.kind == "delivery"), ZERO)

    def _fills_that_sum_to(self, amount: Decimal) -> Iterator[str]:
        priced = [fill for fill in self.fills if fill.cash][:MOST_SUMMED]
        for size in (1, 2, 3):
            for some in combinations(priced, size):
                if abs(sum((fill.cash or ZERO for fill in some), ZERO) - amount) < CENT:
                    orders = ", ".join(dict.fromkeys(fill.order for fill in some))
                    yield f"{orders}: {signed(amount)} USD that cash may not show yet"

    def _deliveries_that_sum_to(self, amount: Decimal) -> Iterator[str]:
        due = [cause for cause in self.causes[CASH] if cause.kind == "delivery"][:MOST_SUMMED]
        for size in range(len(due), 0, -1):
            for some in combinations(due, size):
                if abs(sum((one.amount for one in some), ZERO) - amount) < CENT:
                    yield f"{signed(amount)} USD of what was delivered, which cash may not show yet"
                    return

    def _other_day(self) -> list[str]:
        since = self.before.as_of_end.astimezone(clock.NEW_YORK)
        return [f"what happened after {since:%m-%d %H:%M} New York: orders are listed for a day"] * self.other_day


def _only_ended(text: str) -> str:
    """The text of an expiry, as one that need not have been for nothing."""
    return re.sub(r"^([+-][0-9.]+) expired ", r"\1 ended ", text)


def _ratio(old: Decimal, new: Decimal) -> str | None:
    """`2 for 1` if the quantities are exactly in a ratio that companies declare."""
    if not old or not new or old == new or old * new < 0:
        return None
    ratio = Fraction(new) / Fraction(old)
    return f"{ratio.numerator} for {ratio.denominator}" if ratio in _USUAL else None


def _with_fractions(old: Holding, new: Holding) -> Iterator[str]:
    """The splits that leave the new whole shares and a fraction, at no higher cost."""
    had, has = Fraction(abs(old.quantity)), Fraction(abs(new.quantity))
    if (
        old.quantity * new.quantity <= 0
        or had == has
        or has.denominator != 1
        or abs(new.cost_basis) > abs(old.cost_basis)
    ):
        return
    for ratio in sorted(_USUAL, key=lambda ratio: (ratio.denominator % 5 != 0, ratio.denominator, ratio.numerator)):
        due = had * ratio
        kept = Fraction(abs(old.cost_basis)) * has / due
        if due // 1 == has < due and Fraction(abs(new.cost_basis)) >= kept - Fraction(CENT):
            share = Decimal((due - has).numerator) / (due - has).denominator
            fraction = unsigned(round(share, 4))
            yield f"a split, {ratio.numerator} for {ratio.denominator}, with {fraction} {_FOR_FRACTIONS}"


def _parts(gone: _Gone) -> list[Decimal]:
    """How many contracts may have been delivered: all or none before expiration, where the rest has no other cause."""
    if not gone.option.multiplier or gone.option.settles_in_cash or gone.contracts % 1:
        return [ZERO]
    if not gone.expired or abs(gone.contracts) > MOST_CHOICES:
        return [ZERO, gone.contracts]
    return [Decimal(count).copy_sign(gone.contracts) for count in range(int(abs(gone.contracts)) + 1)]


def _delivery(shares: Decimal, options: list[_Gone], choice: tuple[Decimal, ...]) -> _Delivery:
    delivered = [
        (gone, contracts * gone.delivered_per_contract)
        for gone, contracts in zip(options, choice, strict=True)
        if contracts
    ]
    lost = (gone.contracts - done for gone, done in zip(options, choice, strict=True) if not gone.expired)
    net = sum((count for _, count in delivered), ZERO)
    return _Delivery(
        delivered=choice,
        net=net,
        left=shares - net,
        lost=sum(map(abs, lost), ZERO),
        cash=sum((-count * gone.option.strike for gone, count in delivered), ZERO),
    )


def _reported(options: Sequence[_Gone], way: _Delivery) -> str:
    return " and ".join(
        f"{gone.symbol} {gone.fate} at {unsigned(gone.option.strike)}"
        for gone, done in zip(options, way.delivered, strict=True)
        if done
    )


def _open_items(
    left: Decimal, fees: Decimal, ways: tuple[_Delivery, ...]
) -> tuple[int, bool, bool, Decimal, Decimal, int]:
    """What a choice leaves open: positions, cash beyond fees, any cash, quantity, USD; and how much it supposes."""
    rest = left - sum((way.cash for way in ways), ZERO)
    is_even, may_be_fees = abs(rest) < CENT, -fees <= rest < 0
    items, amounts, supposed = zip(*(way.cost for way in ways), strict=True)
    # deliveries that cash alone suggests must explain nine tenths of it
    doubtful = abs(rest) * (10 if sum(supposed) else 1)
    is_open = not is_even and not may_be_fees
    # shares are better evidence than cash, which may come a day later
    return sum(items), is_open, not is_even, sum(amounts), doubtful, sum(supposed)


def _each(amount: Decimal, count: Decimal) -> str:
    return f"{abs(amount) / count:.4f} USD"


def _price(amount: Decimal) -> str:
    """USD a share, to the cent or as far as it needs, at most four places."""
    exact = round(amount, 4).normalize()
    return f"{exact:.2f}" if exact == round(exact, 2) else f"{exact:f}"


def _is_dividend(amount: Decimal, shares: Decimal) -> bool:
    """Whether an amount is a plausible one per share: up to 5 USD, in hundredths of a cent."""
    each = amount / shares
    return 0 < each <= 5 and each == round(each, 4)
