"""A held position, classified and valued: the broker's row, what its symbol says, and what its quote says. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Context, Decimal, localcontext

from tradier_pipeline.broker.models import Position, Quote
from tradier_pipeline.broker.symbols import classify
from tradier_pipeline.core.decimals import rounded

_UNROUNDED = Context(prec=64)  # holds every product of two stored numbers and a multiplier


@dataclass(frozen=True, slots=True)
class PortfolioPosition:
    """One held position. Money in USD; `quantity` and `market_value` are negative when short.

    The fields are the columns of the `positions` table; null is what cannot be known without a quote or because the
    symbol is not an option's, and a computed value too large for DECIMAL(24,8).
    """

    row_no: int
    position_id: int
    symbol: str
    quantity: Decimal
    asset_class: str
    root: str | None
    underlying: str | None
    expiration: date | None
    option_type: str | None
    strike: Decimal | None
    multiplier: int | None
    side: str | None
    cost_basis: Decimal
    cost_basis_per_contract: Decimal | None
    date_acquired: datetime
    bid: Decimal | None
    ask: Decimal | None
    last: Decimal | None
    mark: Decimal | None
    market_value: Decimal | None
    unrealized_pl: Decimal | None


def value_position(row_no: int, position: Position, quote: Quote | None) -> PortfolioPosition:
    """Classify and value one position row of the broker."""
    classified = classify(position.symbol)
    option = classified.option
    multiplier = _multiplier(classified.asset_class, option.multiplier if option else None, quote)
    quantity, cost = position.quantity, abs(position.cost_basis)
    with localcontext(_UNROUNDED):
        mark = _mark(quote)
        market_value = None if mark is None or multiplier is None else rounded(quantity * mark * multiplier)
        # the broker's sign for short positions varies, so the cost takes the sign of the quantity
        gain = None if market_value is None else rounded(market_value - (-cost if quantity < 0 else cost))
        cost_each = rounded(cost / abs(quantity)) if quantity else None
    return PortfolioPosition(
        row_no=row_no,
        position_id=position.id,
        symbol=position.symbol,
        quantity=quantity,
        asset_class=classified.asset_class,
        root=option.root if option else None,
        underlying=((quote and quote.underlying) or option.underlying) if option else None,
        expiration=option.expiration if option else None,
        option_type=option.option_type if option else None,
        strike=option.strike if option else None,
        multiplier=multiplier,
        side=None if quantity == 0 else "short" if quantity < 0 else "long",
        cost_basis=position.cost_basis,
        cost_basis_per_contract=cost_each,
        date_acquired=position.date_acquired,
        bid=quote.bid if quote else None,
        ask=quote.ask if quote else None,
        last=quote.last if quote else None,
        mark=mark,
        market_value=market_value,
        unrealized_pl=gain,
    )


def _multiplier(asset_class: str, from_symbol: int | None, quote: Quote | None) -> int | None:
    if asset_class == "equity":
        return 1
    if quote is not None and quote.contract_size is not None:
        return quote.contract_size
    return from_symbol


def _mark(quote: Quote | None) -> Decimal | None:
    if quote is None:
        return None
    if quote.bid is None or quote.ask is None:
        return quote.last
    return rounded((quote.bid + quote.ask) / 2)
