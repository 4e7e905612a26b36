"""How many accounts of one access token can be read in one minute: the broker counts the requests of a token."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from tradier_pipeline.landing.zone import REQUIRED_RESOURCES

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

    def warning(self, monitor_minutes: int) -> str | None:
        """What becomes of the cycles if there are more accounts than can be read, and what helps; None: there are not.

        Args:
            monitor_minutes: between two snapshots of an account as they are wanted; 0: they are not.
        """
        if not self.is_exceeded:
            return None
        return (
            f"{self}. Each account has its turn every {self.minutes * (monitor_minutes or 1)} minutes, and its other "
            f"minutes are recorded as missed. Name at most {self.fits} in TRADIER_ACCOUNT_ID to have all of them."
        )

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
