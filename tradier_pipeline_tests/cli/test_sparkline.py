"""A curve in one line: every block is a value that was there, every space one that was not."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradier_pipeline.cli.sparkline import BLOCKS, sparkline


def values(*numbers: str | int | None) -> list[Decimal | None]:
    return [None if number is None else Decimal(number) for number in numbers]


@pytest.mark.parametrize(
    ("reported", "width", "drawn"),
    [
        (range(1, 9), 8, "▁▂▃▄▅▆▇█"),
        (range(1, 9), 80, "▁▂▃▄▅▆▇█"),  # no wider than there are values
        (("-0.02", "0.05", "-0.02"), 3, "▁█▁"),
        ((5, 5, 5), 3, "▄▄▄"),
        ((1, None, None, 8), 4, "▁  █"),
        ((None, 1, 8, None), 4, " ▁█ "),
        ((1, 5, None, 8), 2, "▁█"),  # the last of each stretch: 5, then 8
        ((1, 8, None, None, 3, 1), 3, "█ ▁"),  # a stretch without any value
        ((1, None, 8), 1, "▄"),
        ((None, None), 5, "  "),
        ((), 5, ""),
    ],
)
def test_what_is_drawn(reported: range | tuple[str | int | None, ...], width: int, drawn: str) -> None:
    assert sparkline(values(*reported), width) == drawn


@given(
    reported=st.lists(st.none() | st.decimals(-(10**9), 10**9, places=2), max_size=200),
    width=st.integers(1, 60),
)
def test_it_fits_shows_its_extremes_and_has_a_space_only_where_nothing_is_known(
    reported: list[Decimal | None], width: int
) -> None:
    drawn = sparkline(reported, width)
    assert len(drawn) == min(len(reported), width)
    assert set(drawn) <= {" ", *BLOCKS}
    if len(reported) <= width:
        assert [block == " " for block in drawn] == [value is None for value in reported]
    if len(set(drawn) - {" "}) > 1:
        assert {"▁", "█"} <= set(drawn)
