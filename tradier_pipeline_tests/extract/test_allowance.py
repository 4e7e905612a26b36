"""The requests of a token while accounts are read side by side: none is sent that would be refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime

import pytest

from tradier_pipeline import clock
from tradier_pipeline.broker.rate import rate_limit
from tradier_pipeline.extract.allowance import Allowance

SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Answered:
    headers: Mapping[str, str]
    ended_at: datetime


def answered(available: int, ends_in: float = 60.0, unit: int = 1000) -> Answered:
    """An answer of now; the broker's clock is ten minutes ahead of ours."""
    now = clock.now()
    theirs = now.replace(microsecond=0) + timedelta(minutes=10)
    expiry = (theirs + timedelta(seconds=ends_in)).timestamp() * unit
    headers = {"x-ratelimit-available": str(available), "x-ratelimit-expiry": f"{expiry:.0f}"}
    return Answered(headers | {"date": format_datetime(theirs, usegmt=True)}, now)


@pytest.mark.parametrize("unit", [1, 1000])
def test_the_end_of_a_window_is_read_in_seconds_and_milliseconds_and_by_our_clock(unit: int) -> None:
    answer = answered(7, 30.0, unit)
    limit = rate_limit(answer.headers, answer.ended_at)
    assert limit is not None
    assert (limit.available, limit.ends_at) == (7, answer.ended_at + 30 * SECOND)


@pytest.mark.parametrize("headers", [{}, {"x-ratelimit-available": "many"}])
def test_an_answer_that_says_nothing_is_none(headers: Mapping[str, str]) -> None:
    assert rate_limit(headers, clock.now()) is None


def test_an_account_for_which_nothing_is_left_in_time_is_not_begun() -> None:
    allowance = Allowance(120, 2)
    allowance.heard([answered(5)])
    first = allowance.begin(clock.now() + 5 * SECOND)
    assert first is not None
    first.end([answered(2)])
    assert allowance.begin(clock.now() + 5 * SECOND) is None
    assert allowance.ends_at - clock.now() > 50 * SECOND


def test_an_account_waits_for_the_next_window_if_it_comes_in_time() -> None:
    allowance = Allowance(120, 1)
    allowance.heard([answered(0, 0.2)])
    assert allowance.begin(clock.now() + 59 * SECOND) is not None


def test_what_the_first_readings_of_others_need_is_not_spent_on_a_second_reading() -> None:
    allowance = Allowance(120, 2)
    allowance.heard([answered(9)])
    reading = allowance.begin(clock.now() + SECOND)
    assert reading is not None
    assert not reading.may_repeat()  # 3 are under way, 3 belong to the other
    other = allowance.begin(clock.now() + SECOND)
    assert other is not None
    other.end([answered(8)])
    assert reading.may_repeat()
    assert not reading.may_repeat()


def test_our_own_requests_are_counted_where_the_broker_says_nothing() -> None:
    allowance = Allowance(7, 3)
    for _ in range(2):
        reading = allowance.begin(clock.now() + SECOND)
        assert reading is not None
        reading.end()
    assert allowance.begin(clock.now() + SECOND) is None
