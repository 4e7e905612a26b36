"""Literals in the place of parameters rely on this: DuckDB reads each as the value it was made of."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradier_pipeline.warehouse.sql import bind

AHEAD = timezone(timedelta(hours=5, minutes=45))
TEXTS = [
    "",
    "O'Hara",
    "''",
    "\\",
    "\\'",
    "a\nb\r\t",
    "$$x$$",
    "?",
    "-- ?",
    "/*",
    "%s {}",
    "\\u0041",
    "naïve ✓ 😀",
    "\x01",
]


def asked(*values: Any) -> tuple[Any, ...]:
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        row = connection.execute(bind(f"SELECT {', '.join('?' for _ in values)}", *values)).fetchone()
    assert row is not None
    return row


def test_every_text_comes_back_as_it_is_whatever_it_looks_like() -> None:
    assert asked(*TEXTS) == tuple(TEXTS)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")))
def test_any_text_comes_back_as_it_is(text: str) -> None:
    assert asked(text, text) == (text, text)


@pytest.mark.parametrize("number", [0, -1, 2**31, -(2**63), 2**63 - 1, 2**100, True])
def test_a_number_comes_back_as_it_is(number: int) -> None:
    assert asked(number) == (number,)


def test_nothing_is_null() -> None:
    assert asked(None) == (None,)


def test_a_date_and_an_instant_keep_their_type_and_every_microsecond() -> None:
    instant = datetime(2025, 11, 2, 1, 30, 0, 123_456, tzinfo=AHEAD)
    day, read, type_of_day, type_of_read = asked_types(date(2024, 2, 29), instant)
    assert (day, read) == (date(2024, 2, 29), instant.astimezone(UTC))
    assert (type_of_day, type_of_read) == ("DATE", "TIMESTAMP WITH TIME ZONE")


def asked_types(day: date, instant: datetime) -> tuple[Any, ...]:
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        query = "SELECT day, read, typeof(day), typeof(read) FROM (SELECT ? AS day, ? AS read)"
        row = connection.execute(bind(query, day, instant)).fetchone()
    assert row is not None
    return row


@pytest.mark.parametrize("values", [(), ("a",), ("a", "b", "c")])
def test_as_many_values_as_places_or_none(values: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="places for"):
        bind("SELECT ? WHERE ?", *values)
