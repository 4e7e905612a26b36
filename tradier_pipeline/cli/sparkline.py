"""A curve in one line of text."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[Decimal | None], width: int) -> str:
    """A block for every value, the lowest ▁, the highest █, and a space where there is none.

    More values than `width` are drawn in stretches of as many each: a block is the last value of its stretch, a space
    a stretch without any.
    """
    length, count = len(values), min(len(values), width)
    stretches = [values[length * number // count : length * (number + 1) // count] for number in range(count)]
    drawn = [next((value for value in reversed(stretch) if value is not None), None) for stretch in stretches]
    known = [value for value in drawn if value is not None]
    low, high = min(known, default=Decimal()), max(known, default=Decimal())
    return "".join(" " if value is None else _block(value, low, high) for value in drawn)


def _block(value: Decimal, low: Decimal, high: Decimal) -> str:
    top = len(BLOCKS) - 1
    return BLOCKS[round((value - low) / (high - low) * top) if low < high else top // 2]
