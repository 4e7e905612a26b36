"""How many accounts of one access token can be read in one minute: the broker counts the requests of a token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tradier_pipeline.landing.zone import REQUIRED_RESOURCES

SHARED = 1  # the profile lists all accounts of the token: it is asked for once, whatever their number
EACH = len(REQUIRED_RESOURCES) - SHARED  # of an account; its quotes are market data, of which as many are allowed
ALLOWED: Mapping[str, int] = {"live": 120, "sandbox": 60, "simulator": 120}  # Tradier: a minute and token


@dataclass(frozen=True, slots=True)
class Budget:
    """What an access token allows, and how many accounts want it.

    Attributes:
        allowed: requests a minute.
        accounts: of the token.
        name: of the token's group in TRADIER_TOKENS; None where there is but one token.
    """

    allowed: int
    accounts: int
    name: str | None = None

    @classmethod
    def of(cls, environment: str, accounts: int, name: str | None = None) -> Budget:
        return cls(ALLOWED[environment], accounts, name)

    @property
    def requests(self) -> int:
        """What all accounts need in a minute in which each is read."""
        return self.accounts * EACH + SHARED

    @property
    def fits(self) -> int:
        """So many accounts can be read in one minute."""
        return (self.allowed - SHARED) // EACH

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
        where = f"in the group {self.name} of TRADIER_TOKENS" if self.name else "in TRADIER_ACCOUNT_ID"
        every = self.minutes * (monitor_minutes or 1)
        return (
            f"{self}. The cadence that fits: each account has its turn every {every} minutes, and its other "
            f"minutes are recorded as missed. Name at most {self.fits} {where} to have all of them."
        )

    def __str__(self) -> str:
        token = f"the access token {self.name}" if self.name else "the access token"
        return (
            f"{self.accounts} accounts need {self.requests} requests, and {token} allows "
            f"{self.allowed} a minute: {self.fits} accounts"
        )
