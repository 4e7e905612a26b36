"""What an account is exposed to: the greeks of its book, what its short options promise, and what expires when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from tradier_pipeline.warehouse.schema import (
    BIGINT,
    BOOLEAN,
    DATE,
    DECIMAL,
    DOUBLE,
    GOOD_OF_DAY,
    INTEGER,
    KEY_COLUMNS,
    KEYS,
    MOMENT,
    UNDERLYING_PRICE,
    VARCHAR,
    Column,
    View,
)

ExposureBy = Literal["underlying", "account", "expiring"]
Each = Literal["day", "snapshot"]
SOON_DAYS: Final = 7
LATER_DAYS: Final = 30
_MIDDLE: Final = f"(CASE WHEN bid > 0 AND ask > 0 THEN (bid + ask) / 2 ELSE last END)::{DECIMAL}"  # of a quote
_GREEKS: Final[Mapping[str, str]] = {
    "delta": "Shares that it moves like: those held, and quantity x multiplier x delta of each option",
    "gamma": "Shares that delta changes by per USD of the underlying",
    "theta": "USD per day",
    "vega": "USD per point of volatility",
}


# What is read twice is written twice: a condition on account and date does not reach a part that two others share.
def quoted(snapshots: str = "") -> str:
    """The quotes of what is held, as `quoted`.

    Args:
        snapshots: the join that leaves the wanted ones; none is needed where only rows of wanted ones join them.
    """
    columns = f"{MOMENT}, symbol, underlying, contract_size, {', '.join(_GREEKS)}"
    return f"(SELECT {columns} FROM quotes {snapshots}) AS quoted"  # noqa: S608


def prices(snapshots: str = "") -> str:
    """One price of each quote, of what may be an underlying, as `prices`; see `quoted`."""
    columns = f"{MOMENT}, symbol AS underlying, {_MIDDLE} AS underlying_price"
    return f"(SELECT {columns} FROM quotes {snapshots}) AS prices"  # noqa: S608


def beside(snapshots: str) -> str:
    """The join that leaves the wanted snapshots, for a part that only their rows join: none in a view."""
    return "" if snapshots == GOOD_OF_DAY else snapshots


def to_scale(amount: str) -> str:
    """A product of decimals with the digits that are stored: a cast alone takes four times as long to cut them."""
    return f"round({amount}, 8)::{DECIMAL}"


# USD per share that the underlying is out of the money; negative: in the money
OUT_OF_THE_MONEY: Final = (
    "CASE option_type WHEN 'put' THEN underlying_price - strike ELSE strike - underlying_price END"
)


def _legs(snapshots: str) -> str:
    """`legs`, what is held, a row per position with its greeks.

    Args:
        snapshots: the join that leaves the wanted ones.
    """
    of_leg = ", ".join(
        f"CASE WHEN is_option THEN quantity::DOUBLE * size * quoted.{name} "
        f"WHEN asset_class = 'equity' THEN {'quantity::DOUBLE' if name == 'delta' else '0'} END AS {name}"
        for name in _GREEKS
    )
    return f"""
    legs AS (
        SELECT held.* EXCLUDE underlying, coalesce(held.underlying, quoted.underlying, root, symbol) AS underlying,
               coalesce(contract_size, multiplier) AS size, asset_class IN ('option', 'adjusted_option') AS is_option,
               expiration - trade_date AS days_left, {of_leg}
        FROM (SELECT {KEYS}, symbol, quantity, asset_class, root, underlying, expiration, option_type, strike,
                     multiplier
              FROM positions {snapshots}) AS held
        LEFT JOIN {quoted(beside(snapshots))} USING ({MOMENT}, symbol) WHERE quantity <> 0
    )
    """  # noqa: S608


def _books(snapshots: str) -> str:
    """`books`, a row per underlying that is held, with its price and the sums of what is held of it.

    Args:
        snapshots: the join that leaves the wanted ones.
    """
    return f"""
    {_legs(snapshots)}, books AS (
        SELECT *, delta * underlying_price::DOUBLE AS dollar_delta
        FROM ({_figures(f"{MOMENT}, underlying")}) LEFT JOIN {prices(beside(snapshots))} USING ({MOMENT}, underlying)
    )
    """  # noqa: S608


def _figures(keys: str) -> str:
    """The sums of `legs` by `keys`: with CASE, as each FILTER takes DuckDB as long as a few sums."""
    known = " AND ".join(f"{name} IS NOT NULL" for name in _GREEKS)
    greeks = ", ".join(f"CASE WHEN count({name}) = count(*) THEN sum({name}) END AS {name}" for name in _GREEKS)
    return f"""
    SELECT {keys}, any_value(snapshot_id) AS snapshot_id, count(CASE WHEN is_option THEN 1 END) AS option_legs,
           count(CASE WHEN is_option AND {known} THEN 1 END) AS legs_with_greeks,
           sum(CASE WHEN asset_class = 'equity' THEN quantity END) AS shares, {greeks},
           {_notional("is_short")} AS short_notional,
           {_notional("is_short AND option_type = 'put'")} AS short_put_notional,
           {_notional("is_short AND option_type = 'call'")} AS short_call_notional,
           {", ".join(f"{_contracts(days)} AS expiring_{days}d" for days in (SOON_DAYS, LATER_DAYS))},
           min(CASE WHEN is_option THEN expiration END) AS next_expiration
    FROM (SELECT *, is_option AND quantity < 0 AS is_short, -quantity * size * strike AS notional FROM legs)
    GROUP BY ALL
    """  # noqa: S608


def _notional(which: str) -> str:
    """Null if it is not known of one of them."""
    unknown = f"count(CASE WHEN {which} AND notional IS NULL THEN 1 END)"
    return f"CASE WHEN {unknown} = 0 THEN sum(CASE WHEN {which} THEN notional ELSE 0 END) END"


def _contracts(days: int) -> str:
    return f"sum(CASE WHEN is_option AND days_left <= {days} THEN abs(quantity) ELSE 0 END)"


def _by_underlying(snapshots: str) -> str:
    return f"""
    WITH {_books(snapshots)}
    SELECT {KEYS}, environment, underlying, underlying_price, coalesce(shares, 0)::{DECIMAL} AS shares,
           {", ".join(_GREEKS)}, dollar_delta, option_legs, legs_with_greeks, {_COVERAGE},
           {", ".join(f"{to_scale(name)} AS {name}" for name in _AMOUNTS)}, next_expiration
    FROM books LEFT JOIN account_environments USING (account_id)
    """  # noqa: S608


_COVERAGE = "CASE WHEN option_legs > 0 THEN legs_with_greeks / option_legs END AS coverage"
_AMOUNTS = (
    *("short_notional", "short_put_notional", "short_call_notional"),
    *(f"expiring_{days}d" for days in (SOON_DAYS, LATER_DAYS)),
)


def _by_account(snapshots: str) -> str:
    sums = ", ".join(f"sum({name}) AS {name}" for name in ("option_legs", "legs_with_greeks"))
    whole = ", ".join(
        f"CASE WHEN bool_and({name} IS NOT NULL) THEN sum({name}) END AS {name}"
        for name in ("dollar_delta", "theta", "vega", *_AMOUNTS)
    )
    amounts = ", ".join(f"{to_scale(f'CASE WHEN held THEN {name} ELSE 0 END')} AS {name}" for name in _AMOUNTS)
    greeks = ", ".join(f"CASE WHEN held THEN {name} ELSE 0 END AS {name}" for name in ("dollar_delta", "theta", "vega"))
    return f"""
    WITH {_books(beside(snapshots))}, summed AS (
        SELECT {MOMENT}, true AS held, {sums}, {whole}, min(next_expiration) AS next_expiration FROM books GROUP BY ALL
    ), joined AS (
        SELECT balances.*, summed.* EXCLUDE ({MOMENT}, held), coalesce(held, false) AS held
        FROM (SELECT {KEYS}, equity, buying_power, margin_requirement FROM account_balances {snapshots}) AS balances
        LEFT JOIN summed USING ({MOMENT})
    )
    SELECT {KEYS}, environment, equity, buying_power, margin_requirement,
           CASE WHEN equity > 0 THEN 1 - buying_power::DOUBLE / equity::DOUBLE END AS buying_power_use, {greeks},
           coalesce(option_legs, 0)::BIGINT AS option_legs, coalesce(legs_with_greeks, 0)::BIGINT AS legs_with_greeks,
           {_COVERAGE}, {amounts}, next_expiration
    FROM joined LEFT JOIN account_environments USING (account_id)
    """  # noqa: S608


def _expiring(snapshots: str) -> str:
    return f"""
    WITH {_legs(snapshots)}, measured AS (
        SELECT legs.*, underlying_price,
               {OUT_OF_THE_MONEY} AS distance
        FROM legs LEFT JOIN {prices(beside(snapshots))} USING ({MOMENT}, underlying)
        WHERE is_option AND days_left <= {LATER_DAYS}
    )
    SELECT {KEYS}, environment, symbol, underlying, option_type, strike, expiration, days_left::INTEGER AS days_left,
           days_left <= {SOON_DAYS} AS within_{SOON_DAYS}_days, quantity, size AS multiplier, underlying_price,
           distance::{DECIMAL} AS distance,
           CASE WHEN underlying_price > 0 THEN distance::DOUBLE / underlying_price::DOUBLE END AS distance_ratio,
           distance < 0 AS in_the_money
    FROM measured LEFT JOIN account_environments USING (account_id)
    """  # noqa: S608


_ENVIRONMENT = Column("environment", VARCHAR, "simulator, sandbox or live")
_OF_GREEKS = (
    Column("option_legs", BIGINT, "Positions in options"),
    Column("legs_with_greeks", BIGINT, "Those whose greeks and contract size the broker gave"),
    Column("coverage", DOUBLE, "legs_with_greeks / option_legs, 1 = all; null without options"),
)
_OF_OPTIONS = (
    Column(
        "short_notional", DECIMAL, "USD; contracts x multiplier x strike of the short options; null if one has none"
    ),
    Column("short_put_notional", DECIMAL, "USD; of the short puts: what assignment of all would cost"),
    Column("short_call_notional", DECIMAL, "USD; of the short calls"),
    Column(f"expiring_{SOON_DAYS}d", DECIMAL, f"Contracts, long and short, that expire within {SOON_DAYS} days"),
    Column(f"expiring_{LATER_DAYS}d", DECIMAL, f"Contracts, long and short, that expire within {LATER_DAYS} days"),
    Column("next_expiration", DATE, "The nearest expiration; null without options"),
)
EXPOSURE = View(
    "exposure",
    "One row per good snapshot and underlying that is held, in shares or options: the greeks of the book. Each is null "
    "where it is missing of any position: coverage tells of how many it is there.",
    (
        *KEY_COLUMNS,
        _ENVIRONMENT,
        Column("underlying", VARCHAR, "What the options are written on, or the equity"),
        UNDERLYING_PRICE,
        Column("shares", DECIMAL, "Shares held; negative when short"),
        *(Column(name, DOUBLE, f"{text}; null if one has none") for name, text in _GREEKS.items()),
        Column("dollar_delta", DOUBLE, "USD; delta x underlying_price"),
        *_OF_GREEKS,
        *_OF_OPTIONS,
    ),
    _by_underlying(GOOD_OF_DAY),
)

ACCOUNT_EXPOSURE = View(
    "account_exposure",
    "One row per good snapshot: how much of the buying power is used, and what the book comes to over all underlyings. "
    "A sum is null where a part of it is.",
    (
        *KEY_COLUMNS,
        _ENVIRONMENT,
        Column("equity", DECIMAL, "USD"),
        Column("buying_power", DECIMAL, "USD; as in account_balances"),
        Column("margin_requirement", DECIMAL, "USD"),
        Column("buying_power_use", DOUBLE, "1 - buying_power / equity, 0.25 = 25 %; null without equity"),
        Column("dollar_delta", DOUBLE, "USD; gain per 100 % that all underlyings rise, by delta alone"),
        Column("theta", DOUBLE, "USD per day"),
        Column("vega", DOUBLE, "USD per point of volatility"),
        *_OF_GREEKS,
        *_OF_OPTIONS,
    ),
    _by_account(GOOD_OF_DAY),
)

EXPIRING_OPTIONS = View(
    "expiring_options",
    f"One row per good snapshot and option position that expires within {LATER_DAYS} days, with its distance to the "
    "strike.",
    (
        *KEY_COLUMNS,
        _ENVIRONMENT,
        Column("symbol", VARCHAR, "As in positions"),
        Column("underlying", VARCHAR, "What it is written on"),
        Column("option_type", VARCHAR, "call or put"),
        Column("strike", DECIMAL, "USD per share"),
        Column("expiration", DATE, "When it expires"),
        Column("days_left", INTEGER, "Calendar days from trade_date to expiration"),
        Column(f"within_{SOON_DAYS}_days", BOOLEAN, f"Whether it expires within {SOON_DAYS} days"),
        Column("quantity", DECIMAL, "Contracts; negative when short"),
        Column("multiplier", INTEGER, "Shares per contract, as quoted; null while unknown"),
        UNDERLYING_PRICE,
        Column("distance", DECIMAL, "USD per share that the underlying is out of the money; negative: in the money"),
        Column("distance_ratio", DOUBLE, "distance / underlying_price, 0.05 = 5 %"),
        Column("in_the_money", BOOLEAN, "Whether distance is below zero"),
    ),
    _expiring(GOOD_OF_DAY),
)

VIEWS = (EXPOSURE, ACCOUNT_EXPOSURE, EXPIRING_OPTIONS)
_QUERIES: Final = {"underlying": _by_underlying, "account": _by_account, "expiring": _expiring}
_ORDER: Final = {"underlying": ", underlying", "account": "", "expiring": ", expiration, underlying, strike, symbol"}


def exposure_query(by: ExposureBy, asked: str, *, each: Each | Literal["newest"] = "day") -> str:
    """The rows of `exposure`, `account_exposure` or `expiring_options`, oldest first.

    Args:
        asked: the WHERE of an account and of dates; empty: of all.
        each: of every good `snapshot`, of the last one of each account and `day`, or of its `newest` one alone.
    """
    rows = _QUERIES[by](good_snapshots(asked, each))
    return f"FROM ({rows}) ORDER BY as_of, account_id{_ORDER[by]}"


def good_snapshots(asked: str, each: Each | Literal["newest"]) -> str:
    """The join that leaves the rows of good snapshots.

    What is asked stands behind it, too: by its constants DuckDB skips the files of other dates, by a join it does not.

    Args:
        asked, each: as of `exposure_query`.
    """
    groups = {"day": "account_id, trade_date", "newest": "account_id"}
    good = f"{asked} {'AND' if asked else 'WHERE'} verdict = 'good'"
    wanted = f"SELECT account_id, as_of FROM tradier_snapshots {good}"  # noqa: S608
    if each != "snapshot":
        wanted = f"SELECT account_id, max(as_of) AS as_of FROM tradier_snapshots {good} GROUP BY {groups[each]}"  # noqa: S608
    return f"SEMI JOIN ({wanted}) USING (account_id, as_of) {asked}"


def in_text(query: str, by: ExposureBy) -> str:
    """What people read of it: amounts to the cent, greeks and ratios rounded, without the columns that only join.

    What the question is about comes first: how much of the buying power is used, what expires in the money.
    """
    cents, ratios, hidden = _IN_TEXT[by]
    rounded = [f"{_to_the_cent(name)} AS {name}" for name in cents]
    rounded += [f"round({name}, {places}) AS {name}" for name, places in ratios.items()]
    leading = ", ".join(_LEADING[by])
    rows = f"SELECT * EXCLUDE ({', '.join((*_HIDDEN, *hidden))}) REPLACE ({', '.join(rounded)}) FROM ({query})"  # noqa: S608
    return f"SELECT {leading}, * EXCLUDE ({leading}) FROM ({rows})" if leading else rows  # noqa: S608


def _to_the_cent(name: str) -> str:
    """To the cent, but for what is less than a dollar."""
    return f"CASE WHEN abs({name}) < 1 THEN {name} ELSE round({name}, 2) END"


_LEADING: Final[Mapping[ExposureBy, tuple[str, ...]]] = {
    "underlying": (),
    "account": ("account_id", "as_of", "buying_power_use", "buying_power", "dollar_delta", "theta", "vega"),
    "expiring": ("account_id", "as_of", "symbol", "days_left", "quantity", "distance", "in_the_money"),
}


_HIDDEN: Final = ("snapshot_id", "trade_date", "environment")
_DETAILS: Final = ("short_put_notional", "short_call_notional", "legs_with_greeks")
# amounts that are shown to the cent, places of what is rounded otherwise, and what is not shown
_IN_TEXT: Final[Mapping[ExposureBy, tuple[tuple[str, ...], Mapping[str, int], tuple[str, ...]]]] = {
    "underlying": (
        ("underlying_price", "short_notional"),
        {"delta": 2, "gamma": 3, "theta": 2, "vega": 2, "dollar_delta": 0, "coverage": 2},
        _DETAILS,
    ),
    "account": (
        ("equity", "buying_power", "margin_requirement", "short_notional"),
        {"buying_power_use": 4, "dollar_delta": 0, "theta": 2, "vega": 2, "coverage": 2},
        _DETAILS,
    ),
    "expiring": (
        ("underlying_price", "distance"),
        {"distance_ratio": 4},
        ("underlying", "option_type", "strike", f"within_{SOON_DAYS}_days"),
    ),
}
