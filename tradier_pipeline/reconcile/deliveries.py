"""What was delivered for options that went without a fill: the likeliest way, or none where none is certain. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import product
from math import prod

from tradier_pipeline.broker.symbols import OptionSymbol
from tradier_pipeline.reconcile.account_state import NOTHING, ZERO, multiplier
from tradier_pipeline.reconcile.comparison import CASH, CENT, Comparison
from tradier_pipeline.reconcile.explanation import unsigned

# USD that brokers take for an assignment or exercise; what is paid for a hundred shares, at strikes of half dollars
LEAST_DELIVERY_FEE, MOST_DELIVERY_FEE, DELIVERY_STEP = Decimal(5), Decimal(30), Decimal(50)

MOST_CHOICES = 3_000  # ways in which options may have ended that are tried
MOST_DELIVERIES = 4  # candidates of what was delivered


@dataclass(frozen=True, slots=True)
class Gone:
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
class Delivery:
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


class Deliveries:
    """The ways in which the options of each underlying may have ended.

    Attributes:
        gone: by the shares that they deliver.
        ways: by the shares, the likeliest first.
        alike: by contract, what may have been delivered: each explains all alike.
    """

    def __init__(self, compared: Comparison, gone: Mapping[str, list[Gone]]) -> None:
        self.compared, self.gone = compared, gone
        self.before, self.now = compared.before, compared.now
        self.ways = {shares: ways_of(compared.left(shares), options) for shares, options in gone.items()}
        self.alike: dict[str, list[str]] = {}

    def likeliest(self) -> Sequence[Delivery]:
        """One way for each of `gone`: those that explain the most, cash included; nothing where none is certain."""
        ways = list(self.ways.values())
        if prod(map(len, ways)) > MOST_CHOICES:  # leave cash to tell apart only what explains the shares alike
            ways = [[way for way in some if way.cost[:2] == some[0].cost[:2]] for some in ways]
        if not ways or prod(map(len, ways)) > MOST_CHOICES:
            return [some[0] for some in ways]
        rank = partial(_open_items, self.compared.left(CASH), self.compared.fees())
        best = min(product(*ways), key=rank)
        paid = sum((way.cash for way in best), ZERO)
        fees = MOST_DELIVERY_FEE * sum(abs(done) for way in best for done in way.delivered)
        is_late = any(
            done and option.late
            for options, way in zip(self.gone.values(), best, strict=True)
            for option, done in zip(options, way.delivered, strict=True)
        )
        if abs(self.compared.left(CASH) - paid) <= (fees if is_late else abs(paid) / 10):
            return self._untied(best, [some for some in product(*ways) if rank(some) == rank(best)])
        # cash does not support it yet: it is certain only where the shares, or their cost, allow one way
        return [
            self._certain(underlying, options, self.ways[underlying], way)
            for (underlying, options), way in zip(self.gone.items(), best, strict=True)
        ]

    def _untied(self, best: Sequence[Delivery], alike: Sequence[Sequence[Delivery]]) -> Sequence[Delivery]:
        """The likeliest ways, but none where others explain shares and cash alike and no cost of shares tells them."""
        if not any(any(way.delivered) for way in best):
            return best
        found = []
        for place, (underlying, options) in enumerate(self.gone.items()):
            ways = list({some[place].delivered: some[place] for some in alike}.values())
            fitting = [way for way in ways if way.brings_shares and self._fits_cost(underlying, options, way)]
            certain = fitting if len(fitting) == 1 else ways
            if not fitting and self._may_be_bought(underlying, best[place]):
                certain = [_delivery(self.compared.left(underlying), options, tuple(ZERO for _ in options))]
            elif len(certain) > 1:
                lines = [reported(options, way) for way in ways[:MOST_DELIVERIES]]
                self.alike |= {one.symbol: lines for one in options}
                certain = [_delivery(self.compared.left(underlying), options, tuple(ZERO for _ in options))]
            found += certain
        return found

    def _certain(self, underlying: str, options: list[Gone], ways: list[Delivery], best: Delivery) -> Delivery:
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

    def _may_be_moved(self, options: list[Gone], way: Delivery) -> bool:
        """Whether shares and options may have left the account together: then nothing was delivered.

        Other shares moved than a delivery brings, other positions left as well, or living contracts went while the
        exchange was open: what is delivered is delivered over night.
        """
        if way.left:
            return True
        others = (symbol for symbol in self.compared.moved.keys() - self.gone.keys() if multiplier(symbol) == 1)
        if any(self.compared.left(symbol) and self.now.held(symbol) is NOTHING for symbol in others):
            return True
        opened = self.now.session_open
        is_open = opened is not None and not self.compared.other_day and opened <= self.before.as_of
        return is_open and any(done and not gone.expired for gone, done in zip(options, way.delivered, strict=True))

    def _fits_cost(self, underlying: str, options: list[Gone], way: Delivery) -> bool:
        """Whether the cost of the shares that came is what they were delivered at, with or without the premium."""
        old, new = self.before.held(underlying), self.now.held(underlying)
        if abs(new.quantity) <= abs(old.quantity) or old.quantity * new.quantity < 0:
            return False
        premiums = [done * (gone.cost or ZERO) for gone, done in zip(options, way.delivered, strict=True)]
        gap = new.cost_basis - old.cost_basis + way.cash
        return any(abs(gap - premium) < CENT for premium in (ZERO, sum(premiums, ZERO)))

    def _may_be_bought(self, underlying: str, way: Delivery) -> bool:
        """Whether the cost of the shares that came is, to the cent, what cash was paid, and the delivery is not."""
        old, new, paid = self.before.held(underlying), self.now.held(underlying), -self.compared.left(CASH)
        if abs(new.quantity) <= abs(old.quantity) or not way.brings_shares or underlying in self.compared.filled():
            return False
        return abs(paid) >= CENT > abs(new.cost_basis - old.cost_basis - paid) and abs(paid + way.cash) >= CENT

    def _cost_differs(self, underlying: str, options: list[Gone], way: Delivery) -> bool:
        """Whether the shares that came have a cost of their own, as those of a transfer; none is told at first."""
        old, new = self.before.held(underlying), self.now.held(underlying)
        came = abs(new.cost_basis - old.cost_basis)  # that of short shares has either sign
        if not came or abs(new.quantity) <= abs(old.quantity) or old.quantity * new.quantity < 0:
            return False
        premium = sum((done * (gone.cost or ZERO) for gone, done in zip(options, way.delivered, strict=True)), ZERO)
        return abs(came - abs(way.cash)) > abs(way.cash) / 10 + abs(premium)


def ways_of(shares: Decimal, options: list[Gone]) -> list[Delivery]:
    if not shares and not any(gone.expired for gone in options):
        return [_delivery(shares, options, tuple(ZERO for _ in options))]
    some = [_parts(gone) for gone in options]
    if prod(map(len, some)) > MOST_CHOICES:
        some = [[ZERO, gone.contracts] if len(_parts(gone)) > 1 else [ZERO] for gone in options]
    if prod(map(len, some)) > MOST_CHOICES:
        some = [[ZERO] for _ in options]
    return sorted((_delivery(shares, options, choice) for choice in product(*some)), key=lambda way: way.cost)


def reported(options: Sequence[Gone], way: Delivery) -> str:
    return " and ".join(
        f"{gone.symbol} {gone.fate} at {unsigned(gone.option.strike)}"
        for gone, done in zip(options, way.delivered, strict=True)
        if done
    )


def _parts(gone: Gone) -> list[Decimal]:
    """How many contracts may have been delivered: all or none before expiration, where the rest has no other cause."""
    if not gone.option.multiplier or gone.option.settles_in_cash or gone.contracts % 1:
        return [ZERO]
    if not gone.expired or abs(gone.contracts) > MOST_CHOICES:
        return [ZERO, gone.contracts]
    return [Decimal(count).copy_sign(gone.contracts) for count in range(int(abs(gone.contracts)) + 1)]


def _delivery(shares: Decimal, options: list[Gone], choice: tuple[Decimal, ...]) -> Delivery:
    delivered = [
        (gone, contracts * gone.delivered_per_contract)
        for gone, contracts in zip(options, choice, strict=True)
        if contracts
    ]
    lost = (gone.contracts - done for gone, done in zip(options, choice, strict=True) if not gone.expired)
    net = sum((count for _, count in delivered), ZERO)
    return Delivery(
        delivered=choice,
        net=net,
        left=shares - net,
        lost=sum(map(abs, lost), ZERO),
        cash=sum((-count * gone.option.strike for gone, count in delivered), ZERO),
    )


def _open_items(
    left: Decimal, fees: Decimal, ways: tuple[Delivery, ...]
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
