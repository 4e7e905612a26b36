"""Tradier's request budgets: per token and bucket, a minute that starts at the first request."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

_WINDOW = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Limits:
    """Requests a minute per bucket (Tradier: live figures)."""

    standard: int = 120
    market: int = 120
    trading: int = 60

    def of(self, method: str, path: str) -> tuple[str, int]:
        """(bucket, allowed requests a minute) of a request."""
        if path.startswith(("/v1/markets", "/beta/markets")):
            return "market", self.market
        trades = method != "GET" and "/orders" in path
        return ("trading", self.trading) if trades else ("standard", self.standard)


@dataclass(slots=True)
class Meter:
    """Counts requests. State of one process; a restart starts new windows."""

    limits: Limits
    _windows: dict[tuple[str, str], tuple[datetime, int]] = field(default_factory=dict)

    def count(self, token: str, method: str, path: str, now: datetime) -> tuple[bool, int, dict[str, str]]:
        """(within budget, window's end in epoch ms, the X-Ratelimit headers) after one more request."""
        bucket, allowed = self.limits.of(method, path)
        start, used = self._windows.get((token, bucket), (now, 0))
        if not start <= now < start + _WINDOW:
            start, used = now, 0
        granted = used < allowed
        used += granted
        self._windows[token, bucket] = (start, used)
        expiry = int((start + _WINDOW).timestamp() * 1000)
        headers = {
            "X-Ratelimit-Allowed": str(allowed),
            "X-Ratelimit-Used": str(used),
            "X-Ratelimit-Available": str(allowed - used),
            "X-Ratelimit-Expiry": str(expiry),
        }
        return granted, expiry, headers
