"""The requests of one token while several of its accounts are read side by side: none is sent that would be refused.

What the broker says of the minute counts, since others use the token, too: another run, the trading engine, a person.
Where it says nothing, our own requests are counted.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from tradier_pipeline import clock
from tradier_pipeline.broker.rate import rate_limit
from tradier_pipeline.core import progress
from tradier_pipeline.domain.budget import EACH, SHARED

WINDOW = timedelta(minutes=1)


class Answer(Protocol):
    """A page as it was received, or as it is landed."""

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def ended_at(self) -> datetime: ...


class Allowance:
    """What a token has left of its minute, for the accounts of one run. Safe in threads.

    Args:
        allowed: requests a minute, as long as the broker says nothing else.
        accounts: that are to be read.
    """

    def __init__(self, allowed: int, accounts: int) -> None:
        self._allowed = self._left = allowed
        self._ends_at = clock.now() + WINDOW
        self._planned = EACH * accounts
        self._under_way = 0
        self._changed = threading.Condition()

    @property
    def ends_at(self) -> datetime:
        """When there are requests again."""
        with self._changed:
            return self._ends_at

    def heard(self, answers: Iterable[Answer]) -> None:
        """Take note of what answers say. The same window only shrinks: answers overtake each other."""
        with self._changed:
            for answer in answers:
                self._hear(answer)
            self._changed.notify_all()

    def begin(self, latest: datetime) -> Reading | None:
        """Wait until there are requests for one account; None: there will be none by the latest."""
        with self._changed:
            while True:
                if self._left - self._under_way >= EACH:
                    self._planned -= EACH
                    self._under_way += EACH
                    return Reading(self)
                wait = self._ends_at - clock.now()
                if not self._under_way and clock.now() + wait > latest:
                    self._planned -= EACH
                    return None
                seconds = max(0.0, wait.total_seconds())
                if not self._under_way:
                    progress.working(f"waiting {seconds:.0f} s: the requests of this minute are used up")
                if not self._changed.wait(seconds):
                    self._renew()

    def _hear(self, answer: Answer) -> None:
        reported = rate_limit(answer.headers, answer.ended_at)
        if reported is None:
            return
        ends_at = reported.ends_at or self._ends_at
        is_same = reported.left_at < self._ends_at and abs(ends_at - self._ends_at) < timedelta(seconds=2)
        self._left = min(self._left, reported.available) if is_same else reported.available
        self._ends_at = min(self._ends_at, ends_at) if is_same else ends_at

    def _renew(self) -> None:
        """The window has ended: the next request begins another one."""
        self._left, self._ends_at = self._allowed, clock.now() + WINDOW

    def _repeat(self) -> bool:
        with self._changed:
            needed = EACH + SHARED
            is_enough = self._left - self._under_way - self._planned >= needed
            self._under_way += needed * is_enough
        return is_enough

    def _end(self, reserved: int, answers: Iterable[Answer]) -> None:
        with self._changed:
            self._under_way -= reserved
            known = [answer for answer in answers if rate_limit(answer.headers, answer.ended_at)]
            if not known:
                self._left -= reserved
            for answer in known:
                self._hear(answer)
            self._changed.notify_all()


class Reading:
    """The requests of one account that is being read."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._reserved = EACH

    def may_repeat(self) -> bool:
        """Whether it may be read once more with what the first readings of all accounts leave over."""
        granted = self._allowance._repeat()
        self._reserved += (EACH + SHARED) * granted
        return granted

    def end(self, answers: Iterable[Answer] = ()) -> None:
        """It was read, or has failed; what its answers say counts."""
        self._allowance._end(self._reserved, answers)
