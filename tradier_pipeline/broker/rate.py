"""What an answer says of the requests that its access token has left: Tradier's X-Ratelimit headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from tradier_pipeline.broker.envelope import epoch, http_date

LONGEST = timedelta(seconds=62)  # a window is a minute, and a Date has whole seconds


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Requests left in the current window of one minute.

    Attributes:
        left_at: when the answer had arrived, UTC.
        ends_at: when the window ends by this machine's clock; None if the answer did not say.
        allowed: requests of a whole window; None if the answer did not say.
    """

    available: int
    left_at: datetime
    ends_at: datetime | None
    allowed: int | None = None


def rate_limit(headers: Mapping[str, str], ended_at: datetime) -> RateLimit | None:
    """What the headers of an answer say; None: nothing that can be understood."""
    available, allowed = (headers.get(f"x-ratelimit-{name}", "") for name in ("available", "allowed"))
    if not available.isdecimal():
        return None
    whole = int(allowed) if allowed.isdecimal() else None
    return RateLimit(int(available), ended_at, _ends_at(headers, ended_at), whole)


def _ends_at(headers: Mapping[str, str], ended_at: datetime) -> datetime | None:
    """The broker's expiry by our clock: what is left of the window by its own clock, from the answer on."""
    expiry = epoch(headers.get("x-ratelimit-expiry", ""))
    said = http_date(headers["date"]) if "date" in headers else ended_at
    if expiry is None or said is None:
        return None
    left = expiry - said
    return ended_at + left if timedelta() <= left <= LONGEST else None
