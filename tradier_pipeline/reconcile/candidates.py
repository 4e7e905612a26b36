"""What may be behind a change that no cause explains, the likeliest first: lines for a person. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import combinations

from tradier_pipeline import clock
from tradier_pipeline.broker.symbols import classify
from tradier_pipeline.reconcile.account_state import ZERO, multiplier
from tradier_pipeline.reconcile.comparison import CASH, CENT, MOST_PER_CONTRACT, Comparison
from tradier_pipeline.reconcile.corporate_actions import CorporateActions
from tradier_pipeline.reconcile.deliveries import MOST_DELIVERY_FEE
from tradier_pipeline.reconcile.ended_options import SHARES, EndedOptions
from tradier_pipeline.reconcile.explanation import ANOTHER_NAME, FITS_ALIKE, signed, unsigned, usd_a_share, usd_each

MOST_CANDIDATES = 12
MOST_SUMMED = 12  # fills whose sums are tried


class Candidates:
    """The candidates for what is left when all causes between two statements are booked."""

    def __init__(self, compared: Comparison, companies: CorporateActions, options: EndedOptions) -> None:
        self.compared, self.companies, self.options = compared, companies, options
        self.before, self.now, self.rests = compared.before, compared.now, compared.rests

    def of_position(self, symbol: str) -> Iterator[str]:
        left = self.compared.left(symbol)
        if not left:
            yield from self.options.fates(symbol)
            return
        found = [
            *self._legless(symbol),
            *(
                f"{fill.order}: its fill of {signed(fill.quantity)} may not show in the positions yet"
                for fill in self.compared.fills
                if fill.symbol == symbol and fill.quantity == -left
            ),
            *(
                f"order {part.order_id}: {signed(part.rest)} still to fill, and the fill may not be listed yet"
                for part in self.now.parts.values()
                if part.symbol == symbol and part.rest and abs(left) <= abs(part.rest) and left * part.rest > 0
            ),
            *(
                f"{ANOTHER_NAME}: {other} changed by {signed(rest)}"
                for other, rest in self.rests.items()
                if self.companies.may_be_another_name(symbol, other)
            ),
            *(
                f"a transfer or a change of symbol: {other} changed by {signed(rest)}"
                for other, rest in self.rests.items()
                if rest == -left
            ),
            *self.options.behind_shares.get(symbol, ()),
            *self.options.from_still_listed(symbol, left),
            *(["an assignment or exercise: whole hundreds"] if self._may_be_delivered(symbol, left) else []),
            *(self.companies.behind_shares(symbol) if multiplier(symbol) == 1 else ()),
            *self._unlisted_trade(symbol),
            *self._other_day(),
            "a transfer or a correction: no order tells of it",
        ]
        yield from found[:MOST_CANDIDATES]

    def of_cash(self) -> Iterator[str]:
        left = self.compared.left(CASH)
        if abs(left) < CENT:
            return
        found = [
            *self._from_trades(left),
            *self._from_ended_options(left),
            *self._from_companies(left),
            *self.options.late_pairs(left),
            *self._from_dividends(left),
            *self._for_what_went_before(left),
            *self.options.late_payments(left),
            *self._other_day(),
            "a deposit, a dividend or interest" if left > 0 else "a withdrawal, a fee or interest",
        ]
        yield from found[:MOST_CANDIDATES]

    def _from_trades(self, left: Decimal) -> Iterator[str]:
        yield from self._legless()
        if -self.compared.fees_of_before() <= left < 0:
            yield "fees of the day before, posted over night"
        fills = self.compared.fills
        of_options = [fill for fill in fills if classify(fill.symbol).option]
        contracts = sum((abs(fill.quantity) for fill in of_options), ZERO)
        if left < 0 and contracts:
            yield f"{unsigned(contracts)} contracts x {usd_each(left, contracts)} of fees"
        taken_back = sum((abs(fill.quantity) for fill in of_options if fill.is_taken_back), ZERO)
        if 0 < left <= taken_back * MOST_PER_CONTRACT:
            yield f"the fees of {unsigned(taken_back)} contracts, which were taken back"
        for fill in fills:
            if fill.cash is None and fill.lacks_multiplier:
                yield f"{fill.order}: {signed(fill.quantity)} {fill.symbol}, its multiplier is not known"
            elif fill.cash is None:
                yield f"{fill.order}: the price of {signed(fill.quantity)} {fill.symbol} is not reported yet"
        yield from self._fills_that_sum_to(-left)

    def _from_ended_options(self, left: Decimal) -> Iterator[str]:
        yield from self._deliveries_that_sum_to(-left)
        alike = dict.fromkeys(line for lines in self.options.alike.values() for line in lines)
        yield from (f"{line}, {FITS_ALIKE}" for line in alike)
        if -MOST_DELIVERY_FEE * self.options.delivered_lots() <= left < 0:
            yield "an assignment or exercise fee"
        yield from self.options.settlements()
        yield from self.options.unseen_ends()

    def _from_companies(self, left: Decimal) -> Iterator[str]:
        for symbol in self.companies.paid_out():
            paid = usd_a_share(-left / self.rests[symbol])
            yield f"a cash merger or redemption of {symbol}: {paid} USD a share"
        for symbol, rest in self.rests.items():
            if any(self._unlisted_trade(symbol)):
                yield f"{signed(rest)} {symbol} by a trade that no order shows"
        if left > 0:
            for symbol, causes in self.compared.causes.items():
                certain = (cause for cause in causes if cause.kind == "corporate_action")
                yield from (f"cash for fractions: {symbol} {cause.text}" for cause in certain)
            yield from (f"cash for fractions of {symbol}" for symbol in self.companies.with_fractions())

    def _from_dividends(self, left: Decimal) -> Iterator[str]:
        for symbol, rest in self.rests.items():
            if rest % 1 and rest > 0 and multiplier(symbol) == 1:
                yield f"what is left of a dividend that was reinvested in {symbol}"
        for symbol, held in self.before.holdings.items():
            if multiplier(symbol) == 1 and _is_dividend(left, held.quantity):
                yield f"a dividend of {symbol}: {unsigned(left / held.quantity)} USD a share"

    def _for_what_went_before(self, left: Decimal) -> Iterator[str]:
        for symbol, shares in sorted(self.before.gone.items()):
            if multiplier(symbol) != 1 or shares * left >= 0:
                continue
            paid = usd_a_share(-left / shares)
            if shares < 0 and self.now.held(symbol).quantity >= 0:
                yield f"a cash merger or redemption of {symbol}, which went before: {paid} USD a share"
            elif shares > 0:
                yield f"the price of {symbol}, which came before: {paid} USD a share"

    def _options_on(self, shares: str) -> bool:
        """Whether an option that delivers these shares was held, or filled."""
        options = ((symbol, classify(symbol).option) for symbol in {*self.before.holdings, *self.compared.filled()})
        return any(
            option is not None and not option.settles_in_cash and self.compared.underlying(symbol, option) == shares
            for symbol, option in options
        )

    def _unlisted_trade(self, symbol: str) -> Iterator[str]:
        """What cash was paid for the one position that changed without a cause, as of a trade by the broker itself."""
        left, cash, size = self.rests[symbol], self.compared.left(CASH), multiplier(symbol)
        if size and left * cash < 0 and sum(map(bool, self.rests.values())) == 1:
            yield f"a trade that no order shows: {usd_a_share(-cash / left / size)} USD a share, fees included"

    def _may_be_delivered(self, symbol: str, left: Decimal) -> bool:
        return multiplier(symbol) == 1 and not left % SHARES and self._options_on(symbol)

    def _legless(self, symbol: str | None = None) -> Iterator[str]:
        """The orders without legs that may stand behind a change of a symbol, or of cash."""
        option = classify(symbol).option if symbol else None
        underlying = option.underlying if option else symbol
        for order in self.now.legless.values():
            if order.may_have_filled and underlying in (None, order.symbol):
                yield f"the unknown legs of order {order.order_id}"

    def _fills_that_sum_to(self, amount: Decimal) -> Iterator[str]:
        priced = [fill for fill in self.compared.fills if fill.cash][:MOST_SUMMED]
        for size in (1, 2, 3):
            for some in combinations(priced, size):
                if abs(sum((fill.cash or ZERO for fill in some), ZERO) - amount) < CENT:
                    orders = ", ".join(dict.fromkeys(fill.order for fill in some))
                    yield f"{orders}: {signed(amount)} USD that cash may not show yet"

    def _deliveries_that_sum_to(self, amount: Decimal) -> Iterator[str]:
        due = [cause for cause in self.compared.causes[CASH] if cause.kind == "delivery"][:MOST_SUMMED]
        for size in range(len(due), 0, -1):
            for some in combinations(due, size):
                if abs(sum((one.amount for one in some), ZERO) - amount) < CENT:
                    yield f"{signed(amount)} USD of what was delivered, which cash may not show yet"
                    return

    def _other_day(self) -> list[str]:
        since = self.before.as_of_end.astimezone(clock.NEW_YORK)
        return [
            f"what happened after {since:%m-%d %H:%M} New York: orders are listed for a day"
        ] * self.compared.other_day


def _is_dividend(amount: Decimal, shares: Decimal) -> bool:
    """Whether an amount is a plausible one per share: up to 5 USD, in hundredths of a cent."""
    each = amount / shares
    return 0 < each <= 5 and each == round(each, 4)
