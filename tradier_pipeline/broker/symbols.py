"""What a position's symbol says: an equity, or an option with its contract terms. Pure.

Tradier sends option symbols as compact OCC: root, YYMMDD, C or P, strike in thousandths as 8 digits. The root is not
the underlying: SPXW options are on SPX, BRKB options on BRK/B, and a digit after the root marks a contract whose
deliverable was changed by a corporate action.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal

AssetClass = Literal["equity", "option", "adjusted_option", "unparsed"]
OptionType = Literal["call", "put"]
Settlement = Literal["AM", "PM"]

# Tradier writes share classes with a slash; option roots have no room for one.
_UNDERLYINGS: Mapping[str, str] = {
    "SPXW": "SPX",
    "NDXP": "NDX",
    "RUTW": "RUT",
    "VIXW": "VIX",
    "XSPW": "XSP",
    "BRKB": "BRK/B",
    "BFB": "BF/B",
}
# Of the index options only: whether the opening or the closing prices of the expiration day settle them.
_SETTLEMENTS: Mapping[str, Settlement] = {
    "SPX": "AM",
    "SPXW": "PM",
    "NDX": "AM",
    "NDXP": "PM",
    "RUT": "AM",
    "RUTW": "PM",
    "VIX": "AM",
    "VIXW": "AM",
    "XSP": "PM",
    "XSPW": "PM",
}
_MINI = "7"

# The last 15 characters are fixed, so the symbol is read from the right. A padded symbol has its root filled to 6.
_OPTION = re.compile(r"([A-Z0-9]{1,6})([0-9]{2})([0-9]{2})([0-9]{2})([CP])([0-9]{8})")
_PADDED = re.compile(r"(?=[A-Z0-9 ]{6}[0-9]{6}[CP])([A-Z0-9]{1,6}) *([0-9]{6}[CP][0-9]{8})")
_ROOT = re.compile(r"([A-Z]{1,6})([0-9]*)")
# A ticker with at most two suffixes (BRK/B, BAC/PRL, ABC.WS.A), or the CUSIP that stands in for a delisted one.
_EQUITY = re.compile(r"\^?[A-Z][A-Z0-9]{0,5}([./-][A-Z0-9]{1,4}){0,2}|[A-Z0-9]{8}[0-9]")


@dataclass(frozen=True, slots=True)
class OptionSymbol:
    """The contract an option symbol names.

    Attributes:
        root: as in the symbol, e.g. SPXW, AAPL1.
        underlying: as Tradier quotes it, e.g. SPX, AAPL, BRK/B.
        strike: USD per share, exact to the thousandth.
        multiplier: shares per contract; 10 for a mini, None for an adjusted one (the quote's contract_size tells).
        settlement: AM or PM for index options, else None.
    """

    root: str
    underlying: str
    expiration: date
    option_type: OptionType
    strike: Decimal
    multiplier: int | None
    settlement: Settlement | None

    @property
    def symbol(self) -> str:
        """The compact OCC symbol."""
        return (
            f"{self.root}{self.expiration:%y%m%d}{'C' if self.option_type == 'call' else 'P'}"
            f"{int(self.strike.scaleb(3)):08d}"
        )


@dataclass(frozen=True, slots=True)
class Classified:
    """A symbol and what it is.

    Attributes:
        option: the contract of an option or adjusted_option, else None.
        problem: why the symbol is unparsed, else None.
    """

    symbol: str
    asset_class: AssetClass
    option: OptionSymbol | None = None
    problem: str | None = None


def classify(symbol: str) -> Classified:
    """Tell what a symbol is. Never raises: what cannot be read is "unparsed" and says why."""
    padded = _PADDED.fullmatch(symbol)
    match = _OPTION.fullmatch(padded[1] + padded[2] if padded else symbol)
    if match is None:
        if _EQUITY.fullmatch(symbol):
            return Classified(symbol, "equity")
        return _unparsed(symbol, "neither a ticker nor an option symbol" if symbol else "empty")
    root, year, month, day, letter, thousandths = match.groups()
    parts = _ROOT.fullmatch(root)
    if parts is None:
        return _unparsed(symbol, f"the root {root} is not letters, or letters and the digit of an adjustment")
    try:
        expiration = date(2000 + int(year), int(month), int(day))
    except ValueError:
        return _unparsed(symbol, f"{year}{month}{day} is not a date")
    if int(thousandths) == 0:
        return _unparsed(symbol, "the strike is zero")
    name, adjustment = parts.groups()
    option = OptionSymbol(
        root=root,
        underlying=_UNDERLYINGS.get(name, name),
        expiration=expiration,
        option_type="call" if letter == "C" else "put",
        strike=Decimal(int(thousandths)).scaleb(-3),
        multiplier={"": 100, _MINI: 10}.get(adjustment),
        settlement=_SETTLEMENTS.get(root),
    )
    return Classified(symbol, "adjusted_option" if adjustment else "option", option)


def _unparsed(symbol: str, problem: str) -> Classified:
    return Classified(symbol, "unparsed", problem=problem)
