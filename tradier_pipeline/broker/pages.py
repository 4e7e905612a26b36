"""What the client received: attempts, pages, extracts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request. `outcome` is "200" or what was wrong, e.g. "HTTP 503 Service Unavailable", "ConnectTimeout"."""

    started_at: datetime
    ended_at: datetime
    outcome: str


@dataclass(frozen=True, slots=True)
class Page:
    """One answer as received.

    Attributes:
        number: from 1.
        query: the query, or the form of the one read that is a POST. Without secrets.
        headers: date, content-type, retry-after and x-ratelimit-*, names in lower case.
        body: the bytes after content decoding.
        started_at, ended_at: UTC, of the request that got this answer.
        attempts: every request made for this page, the one that got the answer last.
    """

    number: int
    path: str
    query: Mapping[str, str]
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    started_at: datetime
    ended_at: datetime
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Extract:
    """A resource, completely received; every page is a checked 200 answer."""

    resource: str
    pages: tuple[Page, ...]

    @property
    def started_at(self) -> datetime:
        return min(page.started_at for page in self.pages)

    @property
    def ended_at(self) -> datetime:
        return max(page.ended_at for page in self.pages)
