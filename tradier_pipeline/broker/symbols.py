"""What a position's symbol says: an equity, or an option with its contract terms. Pure.

Tradier sends option symbols as compact OCC: root, YYMMDD, C or P, strike in thousandths as 8 digits. The root is not
the underlying: SPXW options are on SPX, BRKB options on BRK/B, and a digit after the root marks a contract whose
deliverable was changed by a corporate action.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Literal

from tradier_pipeline.clock import NEW_YORK

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
# The options on indexes, which settle in cash, never in shares: whether the opening or the closing prices of the
# expiration day settle them. Cboe's and Nasdaq's (PHLX) contract specifications; None where that is not certain.
_SETTLEMENTS: Mapping[str, Settlement | None] = {
    **dict.fromkeys(("SPX", "NDX", "RUT", "VIX", "VIXW", "DJX", "RLG", "RLV", "RUI", "UKXM"), "AM"),
    **dict.fromkeys(("XAU", "SOX", "OSX", "BKX", "HGX", "UTY", "KRX", "VOLQ", "SPIKE"), "AM"),
    **dict.fromkeys(
        ("SPXW", "SPXPM", "XSP", "XSPW", "NANOS", "NDXP", "NQX", "XND", "RUTW", "MRUT", "OEX", "XEO"), "PM"
    ),
    **dict.fromkeys(("MXACW", "MXUSA", "MXWLD", "CBTX", "MBTX", "SPEQX"), "PM"),
    **dict.fromkeys(("SIXB", "SIXC", "SIXE", "SIXI", "SIXM", "SIXR", "SIXRE", "SIXT", "SIXU", "SIXV", "SIXY"), None),
    **dict.fromkeys(("XDA", "XDB", "XDC", "XDE", "XDN", "XDS", "XDZ", "MXEA", "MXEF", "MGTN"), None),
}
# The funds whose options trade for another quarter of an hour (Cboe rule 5.1, NYSE Arca rule 6.1-O, Nasdaq's list of
# late-closing options). Exchanges change such lists: one that is not here is only taken as over a little early.
_LATE = frozenset(
    {
        *("AMJ", "AUM", "DBA", "DBB", "DBC", "DBO", "DBS", "DIA", "EEM", "EFA", "GAZ", "IWM", "IWN"),
        *("IWO", "IWV", "JJC", "KBE", "KRE", "MDY", "MLPN", "MOO", "NDO", "OEF", "OIL", "QQQ", "SLX"),
        *("SPY", "SVXY", "UNG", "UUP", "UVXY", "VIIX", "VIXM", "VIXY", "VXX", "VXZ", "XHB", "XLB", "XLC"),
        *("XLE", "XLF", "XLI", "XLK", "XLP", "XLRE", "XLU", "XLV", "XLY", "XME", "XRT"),
    }
)
_LATE_BY = timedelta(minutes=15)
_OPENING = time(9, 30)  # New York
_CLOSE = time(16)  # of a whole session; no session of the exchange ends later
_MULTIPLIERS: Mapping[str, int] = {"NANOS": 1}
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
        settlement: AM or PM of index options, by their opening or closing prices; None of others, and if not known.
        settles_in_cash: it is on an index: it never delivers shares.
    """

    root: str
    underlying: str
    expiration: date
    option_type: OptionType
    strike: Decimal
    multiplier: int | None
    settlement: Settlement | None
    settles_in_cash: bool = False

    def expires_at(self, session_close: datetime | None) -> datetime:
        """The instant (UTC) before which it cannot have expired.

        Args:
            session_close: when the exchange closes on the expiration date; None if that is not known.
        """
        opening, latest = (datetime.combine(self.expiration, at, NEW_YORK) for at in (_OPENING, _CLOSE))
        if self.settlement == "AM":
            return opening.astimezone(UTC)
        # what is configured as a longer session is not one of the exchange
        close = min(session_close, latest) if session_close else latest
        return (close + (_LATE_BY if self.root in _LATE else timedelta())).astimezone(UTC)

    def end_is_known(self, at: datetime, session_open: datetime | None) -> bool:
        """Whether all that came of its end shows: assignments are told over night, before the next session opens.

        Args:
            session_open: when the exchange opens on the New York date of `at`; None without a session.
        """
        day = at.astimezone(NEW_YORK).date()
        opening = datetime.combine(day, _OPENING, NEW_YORK)
        return session_open is not None and day > self.expiration and max(session_open, opening) <= at

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


@lru_cache(maxsize=4096)  # every order and every row of an account names one of a few hundred
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
        multiplier={"": _MULTIPLIERS.get(name, 100), _MINI: 10}.get(adjustment),
        settlement=_SETTLEMENTS.get(name),
        settles_in_cash=name in _SETTLEMENTS,
    )
    return Classified(symbol, "adjusted_option" if adjustment else "option", option)


def letters(symbol: str) -> str:
    """A name without what a root has no room for: BRK/B and BRKB are one."""
    return re.sub("[^A-Z0-9]", "", symbol)


def _unparsed(symbol: str, problem: str) -> Classified:
    return Classified(symbol, "unparsed", problem=problem)
