"""The words of an explanation that later verdicts read again, and how its amounts are written. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal

from tradier_pipeline.reconcile.account_state import ZERO

FITS_ALIKE = "which fits as others do"  # of one of several explanations that nothing tells apart

MAY_BE = "may be "
ANOTHER_NAME = "another name of it"
NOT_LISTED = "that is not listed any more"  # of an order or a trade: the broker lists those of a day
FOR_FRACTIONS = "of a share paid in cash"
MERGER = "a merger for shares"
SPIN_OFF = "by a spin-off of"
_ENDED = re.compile(r"([+-][0-9.]+) (?:expired|ended) ")


def signed(amount: Decimal) -> str:
    """An amount as a person reads it, with its sign: +5, -1.40."""
    return ("-" if amount < 0 else "+") + unsigned(amount)


def unsigned(amount: Decimal) -> str:
    """An amount as a person reads it, without its sign."""
    text = f"{abs(amount).normalize():f}"
    _, _, fraction = text.partition(".")
    return f"{text}0" if len(fraction) == 1 else text


def usd_each(amount: Decimal, count: Decimal) -> str:
    """An amount for each of some, in USD."""
    return f"{abs(amount) / count:.4f} USD"


def usd_a_share(amount: Decimal) -> str:
    """USD for a share, to the cent or as far as it needs, at most four places."""
    exact = round(amount, 4).normalize()
    return f"{exact:.2f}" if exact == round(exact, 2) else f"{exact:f}"


def ended_in(explanation: Iterable[str]) -> Decimal:
    """The contracts, as they were held, that the explanation of a finding says to have ended."""
    found = (match for line in explanation if (match := _ENDED.match(line)))
    return -sum((Decimal(match[1]) for match in found), ZERO)


def may_owe_fractions(explanation: str) -> bool:
    """Whether a split, a merger or a spin-off that may have left fractions is among what an explanation names."""
    return any(words in explanation for words in (FOR_FRACTIONS, MERGER, SPIN_OFF))


def only_ended(text: str) -> str:
    """The text of an expiry, as one that need not have been for nothing."""
    return re.sub(r"^([+-][0-9.]+) expired ", r"\1 ended ", text)
