"""Options that are over or went without a fill: delivered, expired, or what else may have become of them. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from itertools import combinations

from tradier_pipeline import clock
from tradier_pipeline.broker.symbols import OptionSymbol, classify, letters
from tradier_pipeline.reconcile.account_state import ZERO, AccountState, multiplier
from tradier_pipeline.reconcile.comparison import CASH, CENT, Cause, Comparison
from tradier_pipeline.reconcile.deliveries import (
    MOST_DELIVERIES,
    MOST_DELIVERY_FEE,
    Deliveries,
    Delivery,
    Gone,
    reported,
    ways_of,
)
from tradier_pipeline.reconcile.explanation import FITS_ALIKE, NOT_LISTED, only_ended, signed, unsigned, usd_each

SHARES = 100  # of a standard contract
SATURDAY = 5  # Monday is 0


class EndedOptions:
    """Those between two statements: what is certain is booked, the rest are candidates of what nothing explains.

    Attributes:
        alike: by contract, what may have been delivered: each explains all alike.
        behind_shares: by shares, what else may have been delivered, the likeliest first.
        other_ends: by contract, what else than expiry may have become of it.
    """

    def __init__(self, compared: Comparison) -> None:
        self.compared = compared
        self.before, self.now = compared.before, compared.now
        self.alike: Mapping[str, list[str]] = {}
        self.behind_shares: dict[str, list[str]] = {}
        self.other_ends: dict[str, list[str]] = {}

    def book(self) -> None:
        """Book what was delivered and what expired, and doubt the expiries that something may contradict."""
        self._book_ended_options()
        self._book_expiries()
        self._doubt_expiries()

    def _book_ended_options(self) -> None:
        gone: dict[str, list[Gone]] = defaultdict(list)
        for symbol in self.compared.moved:
            if (ended := self._gone(symbol)) is not None:
                gone[self.compared.underlying(symbol, ended.option)].append(ended)
        for late in self._late():
            underlying = self.compared.underlying(late.symbol, late.option)
            if self.compared.left(underlying) and underlying not in self.compared.filled():
                gone[underlying].append(late)
        deliveries = Deliveries(self.compared, gone)
        likeliest = deliveries.likeliest()
        self.alike = deliveries.alike
        for (underlying, options), way in zip(gone.items(), likeliest, strict=True):
            self._book_delivery(underlying, options, way)
            if not any(way.delivered) and self.compared.left(underlying):
                self._note_deliveries(underlying, options, deliveries.ways[underlying])

    def _late(self) -> Iterator[Gone]:
        """Options that ended at an earlier statement: their shares or cash may show only now."""
        for symbol, contracts in self.before.ended.items():
            if (option := classify(symbol).option) is not None:
                yield Gone(symbol, option, contracts, expired=True, late=True)

    def _gone(self, symbol: str) -> Gone | None:
        """The contracts of a symbol that went without a fill, if it is an option and they are not more than held."""
        option, left = classify(symbol).option, self.compared.left(symbol)
        if option is None or not left:
            return None
        had = self.now.held(symbol).quantity - left
        if had * left > 0 or abs(left) > abs(had):
            return None
        held = self.before.held(symbol)
        cost = held.cost_basis / held.quantity if held.quantity else None
        return Gone(symbol, option, -left, self.compared.has_expired(option), cost)

    def _note_deliveries(self, underlying: str, options: list[Gone], ways: list[Delivery]) -> None:
        """Keep, for the shares, what may have been delivered where that is not certain."""
        self.behind_shares[underlying] = [
            reported(options, way)
            for way in ways[:MOST_DELIVERIES]
            if way.brings_shares and abs(way.left) < abs(way.left + way.net)
        ]

    def _book_delivery(self, underlying: str, options: list[Gone], way: Delivery) -> None:
        for gone, delivered in zip(options, way.delivered, strict=True):
            what = gone.fate
            if delivered and gone.late:
                self.compared.book("expiry", gone.symbol, delivered, f"ended {gone.option.expiration}, taken back")
            if delivered:
                shares = delivered * gone.delivered_per_contract
                self.compared.book("delivery", gone.symbol, -delivered, what)
                self.compared.book(
                    "delivery", underlying, shares, f"at {unsigned(gone.option.strike)}: {gone.symbol} {what}"
                )
                paid = -shares * gone.option.strike
                self.compared.book("delivery", CASH, paid, f"for {signed(shares)} {underlying}, {gone.symbol} {what}")
            if gone.expired and gone.contracts != delivered and not gone.late:
                is_known = self._end_is_known(gone.option, self.now) and gone.symbol not in self.alike
                what = "expired" if is_known else "ended"
                self.compared.book(
                    "expiry", gone.symbol, delivered - gone.contracts, f"{what} {gone.option.expiration}"
                )

    def _book_expiries(self) -> None:
        """What ended before, and nothing was delivered for it by the time that its end is known whole: it expired."""
        if abs(self.compared.left(CASH)) >= CENT:
            return  # which may be for it; so may be what changed of its shares, or of other contracts on them
        options = {symbol: classify(symbol).option for symbol in self.compared.moved if self.compared.left(symbol)}
        changed = {self.compared.underlying(symbol, option) if option else symbol for symbol, option in options.items()}
        for gone in self._late():
            if gone.symbol in self.before.claimed:
                continue  # what came without a cause may have come for it
            is_new = self._end_is_known(gone.option, self.now) and not self._end_is_known(gone.option, self.before)
            if (
                is_new
                and not self.compared.causes[gone.symbol]
                and self.compared.underlying(gone.symbol, gone.option) not in changed
            ):
                text = f"expired {gone.option.expiration}: nothing was delivered for {signed(gone.contracts)}"
                self.compared.causes[gone.symbol].append(Cause("expiry", ZERO, text))

    def _doubt_expiries(self) -> None:
        """What expired only ended, where what came without a cause, now or before, may have come for it."""
        for symbol, causes in list(self.compared.causes.items()):
            option = classify(symbol).option
            ended = -sum((cause.amount for cause in causes if cause.kind == "expiry"), ZERO)
            if option is None or not ended or not self.compared.moved.get(symbol) or symbol in self.alike:
                continue
            if ends := list(self._other_ends(Gone(symbol, option, ended, expired=True))):
                self.other_ends[symbol] = ends
                self.compared.causes[symbol] = [replace(cause, text=only_ended(cause.text)) for cause in causes]

    def _other_ends(self, gone: Gone) -> Iterator[str]:
        symbol, option, cash = gone.symbol, gone.option, self.compared.cash_beyond_fees()
        if symbol in self.before.claimed:
            what = "settled in cash" if option.settles_in_cash else f"{gone.fate} at {unsigned(option.strike)}"
            yield f"{what}, which came before it left the list"
        if option.settles_in_cash and cash and any(symbol in line for line in self.settlements()):
            yield "settled in cash"
        behind_shares = self.behind_shares.get(self.compared.underlying(symbol, option), ())
        if gone in self._of_unknown_size() or any(symbol in line for line in behind_shares):
            yield f"{gone.fate} at {unsigned(option.strike)}"
        if gone in self._traded_unseen():
            yield f"closed by an order {NOT_LISTED}"
        if gone in self._delivered_unseen():
            yield f"{gone.fate} at {unsigned(option.strike)}, and its shares traded by an order {NOT_LISTED}"

    def fates(self, symbol: str) -> Iterator[str]:
        """What may have become of contracts that ended, as long as it does not show, or shows several ways alike."""
        yield from (f"{line}, {FITS_ALIKE}" for line in self.alike.get(symbol, ()))
        ended = -sum((cause.amount for cause in self.compared.causes[symbol] if cause.kind == "expiry"), ZERO)
        option = classify(symbol).option
        if symbol in self.other_ends:
            yield "expired worthless"
            yield from self.other_ends[symbol]
            return
        if option is None or not ended or not self.compared.moved.get(symbol) or self._end_is_known(option, self.now):
            return
        yield "expired worthless"
        if option.settles_in_cash:
            yield "settled in cash, which would follow by the next session"
        else:
            fate = "assigned" if ended < 0 else "exercised"
            yield f"{fate} at {unsigned(option.strike)}, whose shares would follow by the next session"

    def _ended_now(self) -> list[Gone]:
        """The contracts that ended since the statement before, and were not delivered."""
        ended = {
            symbol: -sum((cause.amount for cause in causes if cause.kind == "expiry"), ZERO)
            for symbol, causes in self.compared.causes.items()
            if self.compared.moved.get(symbol)
        }
        return [
            Gone(symbol, option, contracts, expired=True)
            for symbol, contracts in ended.items()
            if contracts and (option := classify(symbol).option) is not None
        ]

    def _still_listed(self) -> list[Gone]:
        """The contracts that are over and have not left the list: what comes for them may come before they go."""
        return [
            Gone(symbol, option, holding.quantity, expired=True)
            for symbol, holding in self.now.holdings.items()
            if (option := classify(symbol).option) is not None and self.compared.has_expired(option)
        ]

    def _of_unknown_size(self) -> list[Gone]:
        """The contracts that are over, do not tell what they deliver, and may have brought what is left."""
        return [
            gone
            for gone in (*self._ended_now(), *self._still_listed())
            if gone.option.multiplier is None
            and (
                self.compared.left(self.compared.underlying(gone.symbol, gone.option))
                or self.compared.cash_beyond_fees()
            )
        ]

    def _traded_unseen(self) -> list[Gone]:
        """The contracts whose end was not seen, and that cash may have been paid for: orders are listed for a day."""
        cash = self.compared.cash_beyond_fees()
        if not self.compared.other_day or not cash:
            return []
        gone = [one for one in self._ended_now() if not self._was_over(one.option)]
        return gone if any(one.contracts * cash > 0 for one in gone) else []

    def _delivered_unseen(self) -> list[Gone]:
        """The contracts whose shares may have come and gone on a day between, for what cash lacks or has."""
        cash = self.compared.cash_beyond_fees()
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

    def from_still_listed(self, shares: str, left: Decimal) -> Iterator[str]:
        """What may have been delivered of contracts that are over and still listed, or whose size is not known."""
        over = [gone for gone in self._still_listed() if self.compared.underlying(gone.symbol, gone.option) == shares]
        ways = ways_of(left, over) if over else []
        found = [way for way in ways if way.brings_shares and abs(way.left) < abs(way.left + way.net)]
        yield from (reported(over, way) for way in found[:MOST_DELIVERIES])
        yield from (
            f"{gone.symbol} {gone.fate} at {unsigned(gone.option.strike)}"
            for gone in self._of_unknown_size()
            if self.compared.underlying(gone.symbol, gone.option) == shares
        )

    def settlements(self) -> Iterator[str]:
        """Expired options that settle in cash, alone or as a spread, of which the cash that is left may come."""
        left = self.compared.cash_beyond_fees()
        if not left:
            return
        ended = [
            (symbol, option, -cause.amount, option.multiplier or SHARES)
            for symbol, causes in self.compared.causes.items()
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
                yield f"a settlement in cash of {symbol}: {usd_each(left, abs(held) * size)} a share"
        if len(ended) > 2:
            yield f"a settlement in cash of {', '.join(symbol for symbol, *_ in ended)} together"

    def unseen_ends(self) -> Iterator[str]:
        """What cash may have come for of contracts that are over: deliveries of any size, and trades nobody saw."""
        for gone in self._of_unknown_size():
            yield f"for {gone.symbol} {gone.fate}, whose size is not known"
        claimed = (gone for gone in self._late() if gone.symbol in self.before.claimed)
        for gone in (*claimed, *self._still_listed()):
            if not gone.option.multiplier or gone.option.settles_in_cash:
                continue
            count = -self.compared.left(CASH) / (gone.delivered_per_contract * gone.option.strike)
            if not count % 1 and 0 < count * gone.contracts <= gone.contracts**2:
                yield f"for {unsigned(count)} {gone.symbol} {gone.fate} at {unsigned(gone.option.strike)}"
        if traded := self._traded_unseen():
            yield f"a trade of {', '.join(gone.symbol for gone in traded)} {NOT_LISTED}"
        if delivered := self._delivered_unseen():
            yield f"a trade of what {', '.join(gone.symbol for gone in delivered)} delivered {NOT_LISTED}"

    def late_pairs(self, left: Decimal) -> Iterator[str]:
        """Options that expired lately whose deliveries come to the cash that is left, and to no shares."""
        over = (*self._late(), *self._still_listed())
        late = [gone for gone in over if not gone.option.settles_in_cash and gone.option.multiplier]
        for one, other in combinations(late, 2):
            net = one.contracts * one.delivered_per_contract + other.contracts * other.delivered_per_contract
            paid = sum(
                (-gone.contracts * gone.delivered_per_contract * gone.option.strike for gone in (one, other)), ZERO
            )
            alike = self.compared.underlying(one.symbol, one.option) == self.compared.underlying(
                other.symbol, other.option
            )
            if alike and not net and paid and abs(left - paid) * 10 <= abs(paid):
                yield f"{one.symbol} {one.fate} and {other.symbol} {other.fate}: {signed(paid)} USD"

    def late_payments(self, left: Decimal) -> Iterator[str]:
        """Options that went lately together with the shares they deliver, where their strike, less a fee, is paid."""
        living = {symbol: -changed for symbol, changed in self.before.gone.items()}
        for symbol, contracts in sorted({**living, **self.before.ended}.items()):
            option = classify(symbol).option
            if option is None or option.settles_in_cash or not option.multiplier:
                continue
            gone = Gone(symbol, option, contracts, expired=False)
            shares = contracts * gone.delivered_per_contract
            went = any(
                rest == shares and multiplier(of) == 1 and letters(of) == letters(option.underlying)
                for of, rest in self.before.gone.items()
            )
            if went and ZERO <= -shares * option.strike - left <= MOST_DELIVERY_FEE * abs(contracts):
                yield f"{symbol} {gone.fate} at {unsigned(option.strike)}, whose shares went before"

    def delivered_lots(self) -> Decimal:
        """How many contracts were assigned or exercised."""
        of_options = (causes for symbol, causes in self.compared.causes.items() if classify(symbol).option is not None)
        return sum((abs(one.amount) for causes in of_options for one in causes if one.kind == "delivery"), ZERO)
