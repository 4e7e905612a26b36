"""Two statements of one account side by side: what changed, and the causes that were found for it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Literal

from tradier_pipeline import clock
from tradier_pipeline.broker.symbols import OptionSymbol, classify, letters
from tradier_pipeline.reconcile.account_state import ZERO, AccountState, Fill, Holding, fills, multiplier
from tradier_pipeline.reconcile.explanation import signed

CASH = "cash"  # no ticker: those are written in capitals
CENT = Decimal("0.01")

# Tradier charges up to 0.35 USD a contract; exchanges and regulators add less than 1 USD, most on index options
MOST_PER_CONTRACT = Decimal("1.50")
MOST_PER_DOLLAR_SOLD = Decimal("0.0001")  # of stock: the SEC's and FINRA's fees

Kind = Literal["fill", "expiry", "delivery", "corporate_action"]


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an item changed by `amount`: shares, contracts, or USD of cash."""

    kind: Kind
    amount: Decimal
    text: str


class Comparison:
    """What changed from one statement to the next, and why as far as it is booked: fills at first.

    Attributes:
        causes: of each symbol, and of cash.
        moved: how much the quantity of each symbol changed that was held or filled.
        other_day: the statements are of two New York dates, so that the orders of the first are not listed any more.
    """

    def __init__(self, before: AccountState, now: AccountState) -> None:
        self.before, self.now = before, now
        self.fills = fills(before, now)
        self.causes: dict[str, list[Cause]] = defaultdict(list)
        filled = [fill.symbol for fill in self.fills]
        self.moved = {
            symbol: now.held(symbol).quantity - before.held(symbol).quantity
            for symbol in sorted({*before.holdings, *now.holdings, *filled})
        }
        self.other_day = clock.trade_date(before.as_of) != clock.trade_date(now.as_of)
        for fill in self.fills:
            self._book_fill(fill)

    @cached_property
    def rests(self) -> Mapping[str, Decimal]:
        """What no cause explains of each symbol; to be asked for when all causes are booked."""
        return {symbol: self.left(symbol) for symbol in self.moved}

    def left(self, item: str) -> Decimal:
        moved = self.now.cash - self.before.cash if item == CASH else self.moved.get(item, ZERO)
        return moved - sum((cause.amount for cause in self.causes[item]), ZERO)

    def book(self, kind: Kind, item: str, amount: Decimal, text: str) -> None:
        self.causes[item].append(Cause(kind, amount, f"{signed(amount)} {text}"))

    def _book_fill(self, fill: Fill) -> None:
        if fill.quantity:
            up_to = f", of up to {signed(fill.part.filled)} that may have filled before" if fill.at_most else ""
            what = "taken back of what had filled" if fill.is_taken_back else "filled"
            self.book("fill", fill.symbol, fill.quantity, f"{what}, {fill.order}{up_to}")
        if fill.cash:
            self.book("fill", CASH, fill.cash, f"for {signed(fill.quantity)} {fill.symbol}, {fill.order}")

    def filled(self) -> set[str]:
        return {fill.symbol for fill in self.fills}

    def apart_from_fills(self, symbol: str) -> Holding | None:
        """The position without what was added to it since; None if that is not all, or its cost is not known."""
        now, filled = self.now.held(symbol), [fill for fill in self.fills if fill.symbol == symbol]
        quantity = sum((fill.quantity for fill in filled), ZERO)
        if self.left(symbol) != self.moved[symbol] - quantity:
            return None
        was = self.before.held(symbol).quantity
        if any(fill.at_most or fill.cash is None or fill.quantity * was <= 0 for fill in filled):
            return None
        return Holding(now.quantity - quantity, now.cost_basis + sum((fill.cash or ZERO for fill in filled), ZERO))

    def underlying(self, symbol: str, option: OptionSymbol) -> str:
        """The symbol of the shares that an option is on: as a quote reports it, and as they are held."""
        quoted = (terms[symbol].underlying for terms in (self.now.terms, self.before.terms) if symbol in terms)
        name = next((name for name in quoted if name), option.underlying)
        if name in self.moved:
            return name
        alike = [held for held in self.moved if multiplier(held) == 1 and letters(held) == letters(name)]
        return alike[0] if len(alike) == 1 else name

    def has_expired(self, option: OptionSymbol) -> bool:
        today = clock.trade_date(self.now.as_of_end)
        if option.expiration != today:
            return option.expiration < today
        return option.expires_at(self.now.session_close) <= self.now.as_of_end

    def fees(self) -> Decimal:
        contracts = sum((abs(fill.quantity) for fill in self.fills if classify(fill.symbol).option), ZERO)
        paid = (fill.cash or ZERO for fill in self.fills if multiplier(fill.symbol) == 1)
        sold = sum((cash for cash in paid if cash > 0), ZERO)
        of_sales = (sold * MOST_PER_DOLLAR_SOLD + CENT).quantize(CENT) if sold else ZERO
        return contracts * MOST_PER_CONTRACT + of_sales

    def fees_of_before(self) -> Decimal:
        """USD that the fees of the contracts of the day before may come to: some are posted over night."""
        day = clock.trade_date(self.before.as_of)
        parts = self.before.parts.values() if self.other_day else ()
        filled = (
            abs(part.filled)
            for part in parts
            if part.changed_at and clock.trade_date(part.changed_at) == day and classify(part.symbol).option
        )
        return sum(filled, ZERO) * MOST_PER_CONTRACT

    def cash_beyond_fees(self) -> Decimal:
        """USD of cash that no cause explains; 0 where it may be fees."""
        left = self.left(CASH)
        return ZERO if abs(left) < CENT or -self.fees() - self.fees_of_before() <= left < 0 else left
