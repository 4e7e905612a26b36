"""How many accounts of one access token can be read in one minute, and whose turn it is when they are more.

The broker counts the requests of a token by the minute. What is skipped is an instant that is missed, and says why.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.landing.zone import MISSED, REQUIRED_RESOURCES, LandingZone
from tradier_pipeline.warehouse.unpublished import EPOCH

REQUESTS = len(REQUIRED_RESOURCES)  # of a snapshot; its quotes count as market data, of which as many are allowed
ALLOWED: Mapping[str, int] = {"live": 120, "sandbox": 60, "simulator": 120}  # Tradier: a minute and token


@dataclass(frozen=True, slots=True)
class Budget:
    """What an access token allows, and how many accounts want it.

    Attributes:
        allowed: requests a minute.
        accounts: of the token.
    """

    allowed: int
    accounts: int

    @classmethod
    def of(cls, environment: str, accounts: int) -> Budget:
        return cls(ALLOWED[environment], accounts)

    @property
    def fits(self) -> int:
        """So many accounts can be read in one minute."""
        return self.allowed // REQUESTS

    @property
    def is_exceeded(self) -> bool:
        return self.accounts > self.fits

    @property
    def minutes(self) -> int:
        """Within so many minutes every account has its turn."""
        return -(-self.accounts // self.fits)

    def __str__(self) -> str:
        return (
            f"{self.accounts} accounts need {self.accounts * REQUESTS} requests, and the access token allows "
            f"{self.allowed} a minute: {self.fits} accounts"
        )


class Spare:
    """What of a minute's requests the first readings of all accounts leave over: for reading an account again.

    Safe in threads.
    """

    def __init__(self, budget: Budget) -> None:
        self._left = budget.allowed - min(budget.accounts, budget.fits) * REQUESTS
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether an account may be read once more."""
        with self._lock:
            is_enough = self._left >= REQUESTS
            self._left -= REQUESTS * is_enough
        return is_enough


def in_turn(
    zone: LandingZone, snapshot_ids: Sequence[SnapshotId], budget: Budget
) -> tuple[list[SnapshotId], list[SnapshotId]]:
    """The snapshots that can be read now, those first whose accounts have waited longest, and those that cannot."""
    if not budget.is_exceeded:
        return list(snapshot_ids), []
    ordered = sorted(snapshot_ids, key=lambda snapshot_id: _last_read(zone, snapshot_id))
    return ordered[: budget.fits], ordered[budget.fits :]


def _last_read(zone: LandingZone, snapshot_id: SnapshotId) -> datetime:
    """When the account had its last turn on this day, whatever came of it."""
    attempts = zone.attempts(snapshot_id.account_id, snapshot_id.trade_date, EPOCH)
    tried = [SnapshotId.parse(key).instant for key, path in attempts.items() if not path.name.endswith(MISSED)]
    return max(tried, default=EPOCH)
