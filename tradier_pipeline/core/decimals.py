"""What a DECIMAL(24,8) holds, and how exact numbers are rounded and written."""

from __future__ import annotations

from decimal import Decimal
from typing import overload

INTEGER_DIGITS = 16


FRACTION_DIGITS = 8


QUANTUM = Decimal(1).scaleb(-FRACTION_DIGITS)


@overload
def plain(value: Decimal) -> Decimal: ...


@overload
def plain(value: Decimal | None) -> Decimal | None: ...


def plain(value: Decimal | None) -> Decimal | None:
    """A number without the zeros that the broker pads with."""
    return value if value is None else Decimal(f"{value.normalize():f}")


def rounded(value: Decimal) -> Decimal | None:
    """A computed value as DECIMAL(24,8) holds it, half rounded to even; null if it is too large for that."""
    near = value.quantize(QUANTUM)
    return near if near.adjusted() < INTEGER_DIGITS else None
