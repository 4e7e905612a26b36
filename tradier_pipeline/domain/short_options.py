"""The short options of a snapshot, each beside what its assignment is measured against. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, localcontext

from tradier_pipeline.core.decimals import UNROUNDED, rounded
from tradier_pipeline.domain.positions import PortfolioPosition
from tradier_pipeline.domain.spread_figures import Quoted


@dataclass(frozen=True, slots=True)
class ShortOption:
    """A position in an option that was sold. The fields are the columns of the table `short_options`; null is what
    cannot be known without a quote, or is too large for DECIMAL(24,8).

    Attributes:
        row_no: of the position.
        underlying: what it is written on; a root that is not known stands for itself.
        quantity: contracts, negative.
        underlying_price: USD, see `Quoted.price`.
        cash: USD, of the account, for all of its puts together.
        shares_held: of the underlying, for all of its calls together; negative when short.
    """

    row_no: int
    symbol: str
    underlying: str
    option_type: str
    strike: Decimal | None
    expiration: date | None
    quantity: Decimal
    multiplier: int | None
    mark: Decimal | None
    underlying_price: Decimal | None
    cash: Decimal | None
    shares_held: Decimal | None


def short_options(
    positions: Iterable[PortfolioPosition], quotes: Mapping[str, Quoted], cash: Decimal | None
) -> tuple[ShortOption, ...]:
    """The short options among the positions of a snapshot, in their order."""
    listed = tuple(positions)
    with localcontext(UNROUNDED):
        shares: dict[str, Decimal] = defaultdict(Decimal)
        for position in listed:
            if position.asset_class == "equity":
                shares[_underlying(position)] += position.quantity
        return tuple(
            ShortOption(
                row_no=position.row_no,
                symbol=position.symbol,
                underlying=underlying,
                option_type=position.option_type,
                strike=position.strike,
                expiration=position.expiration,
                quantity=position.quantity,
                multiplier=position.multiplier,
                mark=position.mark,
                underlying_price=quotes[underlying].price if underlying in quotes else None,
                cash=cash,
                shares_held=rounded(shares[underlying]),
            )
            for position in listed
            if position.quantity < 0 and position.option_type is not None
            for underlying in (_underlying(position),)
        )


def _underlying(position: PortfolioPosition) -> str:
    return position.underlying or position.root or position.symbol
