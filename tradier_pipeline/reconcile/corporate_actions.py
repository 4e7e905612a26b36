"""What companies did to positions: splits, changes of symbol, spin-offs, mergers; certain, or as candidates. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import combinations, product

from tradier_pipeline.broker.symbols import classify
from tradier_pipeline.reconcile.account_state import NOTHING, ZERO, Holding, multiplier
from tradier_pipeline.reconcile.comparison import CASH, CENT, Comparison
from tradier_pipeline.reconcile.explanation import FOR_FRACTIONS, MERGER, SPIN_OFF, unsigned, usd_a_share

# what companies declare: new shares for one old, other forward splits, old shares for one new
_FORWARD = frozenset({2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 100})
_OTHER_FORWARD = frozenset({Fraction(3, 2), Fraction(4, 3), Fraction(5, 2), Fraction(5, 4), Fraction(6, 5)})
_REVERSE = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 35, 40, 50, 60, 75, 80, 100, 150, 200, 250, 300, 500, 1000)
_USUAL = frozenset({*map(Fraction, _FORWARD), *_OTHER_FORWARD, *(Fraction(1, count) for count in _REVERSE)})

MOST_PARENTS = 3

_ALL_BUT_STRIKE = ("underlying", "expiration", "option_type")


class CorporateActions:
    """Those between two statements: certain ones are booked, the others are candidates of what nothing explains."""

    def __init__(self, compared: Comparison) -> None:
        self.compared = compared
        self.before, self.now = compared.before, compared.now

    def book(self) -> None:
        """Splits, and symbols that became others: the quantity or the name changed, and the cost to the cent not."""
        filled = {fill.symbol for fill in self.compared.fills}
        for symbol in self.compared.moved:
            old, new = self.before.held(symbol), self.compared.apart_from_fills(symbol)
            ratio = _ratio(old.quantity, new.quantity) if new else None
            if new and ratio and old.cost_basis == new.cost_basis != 0:
                self.compared.book("corporate_action", symbol, self.compared.left(symbol), f"by a split, {ratio}")
        left = [symbol for symbol in self.compared.moved if symbol not in filled and self.compared.moved[symbol]]
        gone = [symbol for symbol in left if self.now.held(symbol) is NOTHING]
        come = [symbol for symbol in left if self.before.held(symbol) is NOTHING]
        pairs = [pair for pair in product(gone, come) if self._may_have_become(*pair)]
        for old_symbol, new_symbol in pairs:
            if sum(old_symbol in pair or new_symbol in pair for pair in pairs) > 1:
                continue  # which one became which is not certain
            old, new = self.before.held(old_symbol), self.now.held(new_symbol)
            how = "" if old.quantity == new.quantity else f", {_ratio(old.quantity, new.quantity)}"
            self.compared.book("corporate_action", old_symbol, -old.quantity, f"became {new_symbol}{how}")
            self.compared.book("corporate_action", new_symbol, new.quantity, f"came from {old_symbol}{how}")
        self._book_spin_offs([symbol for symbol in come if not self.compared.causes[symbol]], filled)

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
                text = f"{SPIN_OFF} {parent}, which gave up {cost} USD of its cost"
                self.compared.book("corporate_action", symbol, self.compared.moved[symbol], text)

    def may_be_another_name(self, symbol: str, other: str) -> bool:
        """Whether a contract that went and one that came may be one, though their costs differ."""
        was, is_now = classify(symbol).option, classify(other).option
        went, came = (symbol, other) if self.now.held(symbol) is NOTHING else (other, symbol)
        old, new = self.before.held(went), self.now.held(came)
        if was is None or is_now is None or NOTHING in (old, new) or self.before.held(came) is not NOTHING:
            return False
        alike = all(getattr(was, name) == getattr(is_now, name) for name in _ALL_BUT_STRIKE)
        is_all = self.compared.rests[went] == -old.quantity and self.compared.rests[came] == new.quantity
        return alike and is_all and (old.quantity == new.quantity or bool(_ratio(old.quantity, new.quantity)))

    def behind_shares(self, symbol: str) -> Iterator[str]:
        """What a company may have done to shares that changed without a fill or another cause."""
        old, new = self.before.held(symbol), self.compared.apart_from_fills(symbol)
        cash = self.compared.left(CASH)
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
        if symbol in self.paid_out():
            part = "a buy-in by the broker" if old.quantity < 0 else "a tender or redemption of a part"
            what = "a cash merger or redemption" if not new.quantity else part
            yield f"{what}: {usd_a_share(-cash / self.compared.rests[symbol])} USD a share"

    def _parents(self, symbol: str) -> Iterator[str]:
        """The shares by whose spin-off others may have come that have no cost yet: it is allocated days later."""
        held = [
            other
            for other, had in self.before.holdings.items()
            if multiplier(other) == 1 and had.quantity > 0 and self.now.held(other) == had
        ]
        if len(held) > MOST_PARENTS:
            yield f"shares {SPIN_OFF} another one that is held, whose cost has not moved yet"
            return
        for other in held:
            each = self.now.held(symbol).quantity / self.before.held(other).quantity
            yield f"shares {SPIN_OFF} {other}, whose cost has not moved yet: {each:.4f} for each"

    def paid_out(self) -> list[str]:
        """The shares that went, or a part of them, while cash came for them, or that were owed and were paid for."""
        cash = self.compared.left(CASH)
        return [
            symbol
            for symbol, rest in self.compared.rests.items()
            if multiplier(symbol) == 1
            and rest == self.compared.moved[symbol]
            and rest * self.before.held(symbol).quantity < 0
            and abs(rest) <= abs(self.before.held(symbol).quantity)
            and rest * cash < 0
            and abs(cash) >= CENT
        ]

    def _exchanges(self, symbol: str) -> Iterator[str]:
        """Mergers for shares: all of one went, and others came."""
        if multiplier(symbol) != 1:
            return
        for other, rest in self.compared.rests.items():
            went, came = (symbol, other) if self.compared.rests[symbol] < 0 else (other, symbol)
            if other == symbol or multiplier(other) != 1 or rest * self.compared.rests[symbol] >= 0:
                continue
            if self.now.held(went) is NOTHING and self.before.held(went).quantity == -self.compared.rests[went]:
                if self.before.held(came) is NOTHING:
                    splits = _with_fractions(self.before.held(went), self.now.held(came))
                    yield from (f"{line}, of {went}, which became {came}" for line in splits)
                each = f"{-self.compared.rests[came] / self.compared.rests[went]:.4f} {came}"
                if went in self.paid_out():
                    paid = usd_a_share(-self.compared.left(CASH) / self.compared.rests[went])
                    yield f"{MERGER} and cash: {each} and {paid} USD for each {went}"
                yield f"{MERGER}: {each} for each {went}"

    def with_fractions(self) -> Iterator[str]:
        """The shares that a split or a merger, now or lately, may have left fractions of."""
        for symbol, rest in self.compared.rests.items():
            now = self.compared.apart_from_fills(symbol)
            split = now is not None and any(_with_fractions(self.before.held(symbol), now))
            if split or (rest > 0 and any(self._exchanges(symbol))):
                yield symbol
        yield from sorted(symbol for symbol in self.before.owed if symbol in self.now.holdings)


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
            yield f"a split, {ratio.numerator} for {ratio.denominator}, with {fraction} {FOR_FRACTIONS}"
