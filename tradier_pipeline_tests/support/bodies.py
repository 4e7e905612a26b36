"""Bodies in the broker's shapes, written by hand: single ones, the whole answer of an account, and every state of one.

A number is an `int` or a `Decimal` and is written as the literal that its `Decimal` was made from.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal

import duckdb
from hypothesis import strategies as st

from tradier_pipeline.broker.pages import Attempt, Extract, Page
from tradier_pipeline.core.outcome import Outcome, Severity
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.extract.records import page_records
from tradier_pipeline.landing.manifest import FetchRound, LookupRecord, Manifest, QuotesManifest
from tradier_pipeline.landing.zone import MANIFEST, QUOTES_MANIFEST, LandedSnapshot, LandingZone
from tradier_pipeline.publish.derive import conserve
from tradier_pipeline.verify import CHECKS, verify_snapshot
from tradier_pipeline.verify.evidence import Evidence
from tradier_pipeline.warehouse.rows import table_rows
from tradier_pipeline.warehouse.staging import STORAGE_VERSION, StagedWarehouse, attach, create_schema
from tradier_pipeline.warehouse.typed import read_typed

ACCOUNT = "VA12345678"
AS_OF = datetime(2025, 11, 20, 14, 31, 0, 250_000, tzinfo=UTC)

Body = dict[str, Any]


def dumps(value: Any) -> str:
    """JSON with the number literals as they were given."""
    match value:
        case dict():
            return "{" + ", ".join(f"{json.dumps(key)}: {dumps(member)}" for key, member in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(dumps(member) for member in value) + "]"
        case Decimal():
            return str(value)
        case _:
            return json.dumps(value)


# --- one object each, the least the broker always sends ---------------------------------------------------------------


def account(number: str = ACCOUNT, **fields: Any) -> Body:
    return {
        "account_number": number,
        "classification": "individual",
        "date_created": "2016-08-01T21:08:55.000Z",
        "day_trader": False,
        "option_level": 6,
        "status": "active",
        "type": "margin",
        "last_update_date": "2016-08-01T21:08:55.000Z",
    } | fields


def balances(block: str = "margin", number: str = ACCOUNT, **fields: Any) -> Body:
    margin = {
        "fed_call": 0,
        "maintenance_call": 0,
        "option_buying_power": Decimal("6363.860000000000000000000000"),
        "stock_buying_power": Decimal("12727.7200000000000000"),
        "stock_short_value": 0,
    }
    blocks: dict[str, Body] = {
        "margin": {**margin, "sweep": 0},
        "pdt": margin,
        "cash": {"cash_available": Decimal("4343.38"), "sweep": 0, "unsettled_funds": Decimal("1310.00")},
    }
    return {
        "option_short_value": Decimal("-147.0"),
        "total_equity": Decimal("17798.360000000000000000000000"),
        "account_number": number,
        "account_type": block,
        "close_pl": Decimal("-4813.000000000000000000"),
        "current_requirement": Decimal("2557.00000000000000000000"),
        "equity": 0,
        "long_market_value": Decimal("11581.5"),
        "market_value": Decimal("11434.50000000000000000000"),
        "open_pl": Decimal("546.900000000000000000000000"),
        "option_long_value": Decimal("8877.5000000000000000000"),
        "option_requirement": 0,
        "pending_orders_count": 0,
        "short_market_value": Decimal("-147.0"),
        "stock_long_value": Decimal("2704.00000000000000000000"),
        "total_cash": Decimal("6363.860000000000000000000000"),
        "uncleared_funds": 0,
        "pending_cash": 0,
        block: blocks[block],
    } | fields


def position(
    symbol: str = "AAPL", quantity: Any = Decimal("1.00000000"), cost: Any = Decimal("207.01"), **fields: Any
) -> Body:
    return {
        "cost_basis": cost,
        "date_acquired": "2018-08-08T14:41:11.405Z",
        "id": 130089,
        "quantity": quantity,
        "symbol": symbol,
    } | fields


def order(number: int = 228175, **fields: Any) -> Body:
    return {
        "id": number,
        "type": "limit",
        "symbol": "AAPL",
        "side": "buy",
        "quantity": Decimal("50.00000000"),
        "status": "open",
        "duration": "gtc",
        "price": Decimal("22.00000000"),
        "avg_fill_price": Decimal("0E-8"),
        "exec_quantity": Decimal("0E-8"),
        "last_fill_price": Decimal("0E-8"),
        "last_fill_quantity": Decimal("0E-8"),
        "remaining_quantity": Decimal("50.00000000"),
        "create_date": "2025-11-20T14:00:05.370Z",
        "transaction_date": "2025-11-20T14:00:05.450Z",
        "class": "equity",
    } | fields


def leg(number: int, option_symbol: str, side: str, **fields: Any) -> Body:
    return (
        order(number, option_symbol=option_symbol, side=side, type="credit", duration="day")
        | {"class": "option"}
        | fields
    )


def spread(number: int = 229065, **fields: Any) -> Body:
    """A credit spread of two legs."""
    return (
        order(number, symbol="SPY", type="credit", duration="day", price=Decimal("0.80"), num_legs=2, strategy="spread")
        | {
            "class": "multileg",
            "leg": [
                leg(number + 1, "SPY251219P00602500", "sell_to_open"),
                leg(number + 2, "SPY251219P00597500", "buy_to_open"),
            ],
        }
        | fields
    )


def quote(symbol: str = "AAPL", **fields: Any) -> Body:
    return {
        "symbol": symbol,
        "description": "Apple Inc",
        "exch": "Q",
        "type": "stock",
        "last": Decimal("208.21"),
        "change": Decimal("-2.63"),
        "volume": 25288395,
        "open": None,
        "close": None,
        "bid": Decimal("208.19"),
        "ask": Decimal("208.21"),
        "trade_date": 1557168406000,
        "prevclose": Decimal("211.75"),
        "bidsize": 12,
        "bid_date": 1557168406123,
        "asksize": 1,
        "ask_date": 0,
    } | fields


def option_quote(symbol: str, **fields: Any) -> Body:
    return (
        quote(symbol, type="option", contract_size=100, open_interest=41, expiration_type="standard")
        | {
            "underlying": "SPY",
            "root_symbol": "SPY",
            "greeks": {
                "delta": Decimal("-0.31034"),
                "gamma": Decimal("0.0172"),
                "theta": Decimal("-0.2"),
                "vega": Decimal("0.55"),
                "rho": Decimal("1E-17"),
                "phi": 0,
                "bid_iv": Decimal("0.16"),
                "mid_iv": Decimal("0.165"),
                "updated_at": "2025-11-20 14:30:01",
            },
        }
        | fields
    )


# --- what an account answers ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """The documents one account is answered with. `quotes` None: the broker did not answer that request."""

    account: Any = field(default_factory=lambda: {"profile": {"id": "id-1", "name": "A B", "account": account()}})
    balances: Any = field(default_factory=lambda: {"balances": balances(**worth_of())})
    positions: Any = field(default_factory=lambda: {"positions": "null"})
    orders: Any = field(default_factory=lambda: {"orders": "null"})
    quotes: Any = field(default_factory=lambda: {"quotes": {"unmatched_symbols": {"symbol": "X"}}})

    def required(self) -> dict[str, list[bytes]]:
        """The pages of each required resource; a document that is a list of documents is several pages."""
        return {name: _pages(getattr(self, name)) for name in ("account", "balances", "positions", "orders")}


def listed(outer: str, inner: str, rows: Sequence[Body]) -> Body:
    """A list document as the broker writes it: none is the text "null", one a bare object, several an array."""
    return {outer: "null" if not rows else {inner: rows[0] if len(rows) == 1 else list(rows)}}


def worth_of(positions: Sequence[Body] = ()) -> Body:
    """The market values of balances that cannot be there: of the sides and kinds of which nothing is held."""
    held = {(row["quantity"] > 0, len(row["symbol"]) > 15) for row in positions if row.get("quantity")}
    names = {
        "long_market_value": (True, None),
        "short_market_value": (False, None),
        "option_long_value": (True, True),
        "option_short_value": (False, True),
    }
    return {
        name: 0
        for name, (long, option) in names.items()
        if not any(side == long and (option is None or kind == option) for side, kind in held)
    }


def answers(
    *,
    positions: Sequence[Body] = (),
    orders: Sequence[Body] = (),
    quotes: Sequence[Body] = (),
    **documents: Any,
) -> Answers:
    """An account that holds and has ordered these. Its balances show no value on a side that holds nothing."""
    reported = documents.get("balances", {"balances": balances()})
    if isinstance(reported, dict) and isinstance(reported.get("balances"), dict):
        usual = balances()
        absent = {
            name: zero for name, zero in worth_of(positions).items() if reported["balances"].get(name) == usual[name]
        }
        documents["balances"] = {"balances": reported["balances"] | absent}
    return Answers(
        positions=listed("positions", "position", positions),
        orders=listed("orders", "order", orders),
        quotes=listed("quotes", "quote", quotes),
        **documents,
    )


def land(
    zone: LandingZone,
    reported: Answers | Mapping[str, Sequence[bytes]],
    as_of: datetime = AS_OF,
    *,
    account_id: str = ACCOUNT,
    took: timedelta = timedelta(milliseconds=400),
    previous_as_of: datetime | None = None,
    quotes: Sequence[bytes] | None = None,
    environment: str = "sandbox",
    lookups: Sequence[LookupRecord] = (),
    verdict: Literal["coherent", "torn", "unknown"] = "coherent",
    clock_skew_s: float | None = None,
) -> LandedSnapshot:
    """File answers as one snapshot read at `as_of`. Bytes, by resource, are filed as they are."""
    if isinstance(reported, Answers):
        required: Mapping[str, Sequence[bytes]] = reported.required()
        quote_pages = _pages(reported.quotes)
    else:
        required, quote_pages = reported, quotes
    resources, bodies = {}, {}
    for resource, pages in required.items():
        resources[resource], named = page_records(resource, _extract(resource, pages, as_of, took))
        bodies |= named
    snapshot_id = SnapshotId(account_id, as_of.replace(microsecond=0))
    manifest = Manifest(
        snapshot_id=str(snapshot_id),
        account_id=account_id,
        environment=environment,
        trigger="test",
        requested_at=snapshot_id.instant,
        previous_as_of=previous_as_of,
        code_version="0.1.0",
        as_of=as_of,
        as_of_end=as_of + took,
        resources=resources,
        lookups=tuple(lookups),
        readings=(FetchRound(as_of=as_of, as_of_end=as_of + took, verdict=verdict, evidence=("as reported",)),),
        # and so that it is in doubt, whatever it shows
        clock_skew_s=3600 if verdict == "torn" else clock_skew_s,
    )
    landed = zone.land(manifest, bodies)
    if quote_pages is None:
        failed = QuotesManifest(state="failed", reason="quotes: HTTP 503", pages=(), attempts=())
        zone.land_quotes(landed, failed, {})
    else:
        records, bodies = page_records("quotes", _extract("quotes", quote_pages, as_of + took, took))
        zone.land_quotes(landed, QuotesManifest(state="ok", reason=None, pages=records, attempts=()), bodies)
    return landed


def rich(block: str = "margin") -> Answers:
    """An account with one of everything: each stored column that can have a value has one in some row."""
    filled = order(
        228749,
        symbol="SPY",
        option_symbol="SPY251219C00602500",
        side="buy_to_close",
        status="filled",
        type="stop_limit",
        stop_price=Decimal("21.50000000"),
        avg_fill_price=Decimal("-2.40"),
        exec_quantity=Decimal("50.00000000"),
        last_fill_price=Decimal("2.41"),
        last_fill_quantity=Decimal("20.00000000"),
        remaining_quantity=Decimal("0.00000000"),
        tag="exit-1",
    ) | {"class": "option"}
    rejected = order(228750, status="rejected", reason_description="Buying power O'Hara", stop_price=22)
    reported = balances(block)
    if block != "cash":
        reported[block] |= {"day_trade_buying_power": Decimal("25455.44")}
    stripped = {
        "id": 228751,
        "class": "oco",
        "status": "pending_cancel",
        "create_date": "2025-11-20T14:10:05Z",
        "transaction_date": "2025-11-20T14:10:05.000Z",
        "leg": leg(228752, "SPY251219C00602500", "sell_to_close", stop_price=3, reason_description="held"),
    }
    return Answers(
        account={
            "profile": {"id": "id-1", "name": "A B", "account": [account("6YA05708", status="closed"), account()]}
        },
        balances={"balances": reported},
        positions=listed(
            "positions",
            "position",
            [
                position("AAPL", Decimal("12.50000000"), Decimal("2602.63"), id=1),
                position("SPY251219P00602500", -3, Decimal("-147.0"), id=2),
                position("AAPL1251219C00150000", 2, Decimal("310.00"), id=3),
                position("odd one", 1, Decimal("5.00"), id=4),
                position("SPY251219P00597500", 3, Decimal("90.00"), id=5),
                position("SPY251226P00590000", 1, Decimal("150.00"), id=6),  # a strangle: two break-evens
                position("SPY251226C00620000", 1, Decimal("110.00"), id=7),
            ],
        ),
        orders=[
            listed("orders", "order", [order(), filled, rejected]),
            listed("orders", "order", [stripped]),
            listed("orders", "order", [spread(status="filled")]),
        ],
        quotes=listed(
            "quotes",
            "quote",
            [
                quote("AAPL", close=Decimal("207.9"), ask_date=1557168406456),
                option_quote("SPY251219P00602500"),
                option_quote("SPY251219P00597500", bid=Decimal("1.00"), ask=Decimal("1.10")),
                quote("SPY", bid=Decimal("606.10"), ask=Decimal("606.12")),
                option_quote("SPY251226P00590000", bid=Decimal("1.40"), ask=Decimal("1.60")),
                option_quote("SPY251226C00620000", bid=Decimal("1.00"), ask=Decimal("1.20")),
                option_quote("AAPL1251219C00150000", contract_size=150, bid=None),
            ],
        ),
    )


def reland(landed: LandedSnapshot, home: Path, resource: str, number: int, body: bytes) -> LandedSnapshot:
    """The landing zone as if the broker had sent another body: its digest is right, the rows are of the old one."""
    directory = home / landed.directory.relative_to(landed.directory.parents[2])
    directory.mkdir(parents=True)
    for file in landed.directory.iterdir():
        (directory / file.name).symlink_to(file)
    manifest = directory / (QUOTES_MANIFEST if resource == "quotes" else MANIFEST)
    record = json.loads(manifest.read_bytes())
    page = (record["pages"] if resource == "quotes" else record["resources"][resource])[number - 1]
    page |= {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    for file, content in ((directory / page["file"], body), (manifest, json.dumps(record).encode())):
        file.unlink()
        file.write_bytes(content)
    return LandedSnapshot(landed.snapshot_id, directory)


def zone_in(directory: Path) -> LandingZone:
    return LandingZone(directory / "raw")


@contextmanager
def warehouse_in_memory() -> Iterator[StagedWarehouse]:
    """A warehouse that never reaches a disk."""
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'; SET threads = 1")  # more only wait for each other over a few rows
        copy_schema(connection)
        yield StagedWarehouse(connection)


SMALL_BLOCKS = 16_384  # a file of them is written in less time; a year of them would take more room


def copy_schema(connection: duckdb.DuckDBPyConnection) -> None:
    """What `create_schema` does, as a copy of what it once made, which takes a sixth of the time."""
    (target,) = connection.execute("SELECT current_database()").fetchone() or ("",)
    connection.execute(f"ATTACH '{_empty_warehouse()}' AS empty (READ_ONLY)")
    connection.execute(f"COPY FROM DATABASE empty TO {target}; DETACH empty")


def attach_copy(connection: duckdb.DuckDBPyConnection, path: Path, options: str) -> None:
    """`attach`, where a new file of small blocks begins as a copy of what `create_schema` once made."""
    blocks = f", BLOCK_SIZE {SMALL_BLOCKS}"
    if blocks in options:
        shutil.copyfile(_empty_warehouse(), path)
    connection.execute("SET force_compression = 'uncompressed'")  # not to look for the best one for a few rows
    attach(connection, path, options.replace(blocks, ""))


@cache
def _empty_warehouse() -> Path:
    directory = tempfile.TemporaryDirectory()
    atexit.register(directory.cleanup)
    path = Path(directory.name) / "empty.duckdb"
    with duckdb.connect(":memory:") as connection:
        attach(connection, path, f"STORAGE_VERSION '{STORAGE_VERSION}', BLOCK_SIZE {SMALL_BLOCKS}")
        create_schema(connection)
        connection.execute("CHECKPOINT tradier")
    return path


def store(staged: StagedWarehouse, landed: LandedSnapshot) -> list[Outcome]:
    """Put a landed snapshot into a warehouse, whatever the checks say of it, and say what they say."""
    store_unproven(staged, landed)
    return verify_snapshot(landed, staged.connection)


def blocking(landed: LandedSnapshot, connection: duckdb.DuckDBPyConnection) -> list[Outcome]:
    """What blocks, of all checks; those that only warn are not asked."""
    evidence = Evidence(landed, connection)
    fatal = (check for check in CHECKS if check.severity is Severity.FATAL)
    return [outcome for check in fatal if (outcome := check.run(evidence)).blocks]


def store_unproven(staged: StagedWarehouse, landed: LandedSnapshot) -> None:
    """Put a landed snapshot into a warehouse, and ask no check."""
    typed = replace(read_typed(landed), verdict="doubtful" if landed.manifest.is_torn else "good")
    rows = table_rows(conserve(staged.connection, typed))
    try:
        staged.store(str(landed.snapshot_id), rows)
    except duckdb.Error:
        staged.connection.execute("ROLLBACK")  # elsewhere the whole copy is thrown away
        raise


def _pages(document: Any) -> Any:
    if document is None:
        return None
    return [dumps(page).encode() for page in (document if isinstance(document, list) else [document])]


def _extract(resource: str, pages: Sequence[bytes], started_at: datetime, took: timedelta) -> Extract:
    ended_at = started_at + took
    tried = (Attempt(started_at, ended_at, "200"),)
    return Extract(
        resource,
        tuple(
            Page(number, f"/v1/{resource}", {}, 200, {"date": "x"}, body, started_at, ended_at, tried)
            for number, body in enumerate(pages, 1)
        ),
    )


# --- every state of an account ----------------------------------------------------------------------------------------

TEXTS = st.one_of(
    st.sampled_from(
        ["null", "", "O'Hara", '"', "'; DROP TABLE orders; --", "\x1b[31m", "naïve ✓ 😀", "{}", "a,b", "\\", "\u2028"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12),
)
IDS = st.integers(1, 2**31)
EXTRAS = st.dictionaries(
    st.sampled_from(["venue", "is_extended", "row_no", "as_of", "snapshot_id", "model_config", "copy", "", "κ"]),
    st.one_of(st.none(), st.booleans(), st.integers(), TEXTS, st.lists(st.integers(), max_size=2)),
    max_size=2,
)


def _words(text: str) -> list[str]:
    return text.split()


def _word_of(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from(text.split())


def _literal(text: str) -> Any:
    number = Decimal(text)
    return int(text) if text.lstrip("-").isdigit() else number


def _written(number: Decimal, zeros: int) -> Any:
    """The number as the broker may write it: as it is, with more zeros, or as an integer."""
    text = format(number, "f")
    if zeros:
        text += ("" if "." in text else ".") + "0" * zeros
    return _literal(text)


NUMBERS = st.one_of(
    st.sampled_from(["0", "0.0", "-0.0", "0E-8", "0.00000000", "1E+3", "-225300.265", "163905.3018"]).map(_literal),
    st.integers(-(10**7), 10**7),
    st.decimals(-(10**7), 10**7, places=2),
    st.decimals(Decimal(-(10**16)), Decimal(10**16), places=8).filter(lambda number: abs(number) < 10**16),
    st.builds(_written, st.decimals(-(10**6), 10**6, places=2), st.integers(0, 26)),
)
QUANTITIES = st.one_of(
    st.sampled_from(["0", "-0.0", "0E-8", "1.00000000", "-1", "-67", "0.00012345", "37"]).map(_literal),
    st.integers(-500, 500),
    # not the last digit that a column holds: the rows of one symbol must still add up
    st.decimals(Decimal(-(10**12)), Decimal(10**12), places=8),
)
PRICES = st.one_of(st.none(), st.just(0), st.decimals(0, 5000, places=2), NUMBERS)
INSTANTS = st.datetimes(datetime(1990, 1, 1), datetime(2035, 1, 1)).flatmap(  # noqa: DTZ001 - the zone is written
    lambda moment: st.sampled_from(
        [
            moment.isoformat(timespec="milliseconds") + "Z",
            moment.isoformat(timespec="seconds") + "Z",
            moment.isoformat(timespec="microseconds") + "789Z",
            moment.isoformat(timespec="seconds") + "-05:00",
        ]
    )
)
EPOCHS = st.one_of(st.none(), st.just(0), st.integers(0, 4_102_444_800_000))


def _occ(root: str, expires: date, letter: str, thousandths: int, padded: bool) -> str:
    return f"{root.ljust(6) if padded else root}{expires:%y%m%d}{letter}{thousandths:08d}"


OPTIONS = st.builds(
    _occ,
    st.sampled_from(["SPY", "F", "SPXW", "SPX", "BRKB", "GOOGL", "AAPL1", "AAPL7", "XSPW"]),
    st.dates(date(2024, 1, 1), date(2031, 1, 1)),
    st.sampled_from("CP"),
    st.integers(1, 99_999_999),
    st.booleans(),
)
SYMBOLS = st.one_of(
    OPTIONS,
    st.sampled_from(["AAPL", "GOOGL", "BRK/B", "ABC.WS.A", "^VIX", "037833100", "NULL", "A"]),
    st.sampled_from(["aapl260102p00290000", "AAPL261302P00290000", "AAPL260102P00000000", "123", "null", "$€"]),
    TEXTS,
)


def _optional(strategies: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Body]:
    """Any of these fields, each with a value or null."""
    return st.fixed_dictionaries({}, optional={name: st.none() | values for name, values in strategies.items()})


def _merged(*parts: st.SearchStrategy[Body]) -> st.SearchStrategy[Body]:
    """Objects of the parts' fields; earlier parts win, so unknown fields come last."""
    return st.tuples(*parts).map(
        lambda bodies: {key: value for body in reversed(bodies) for key, value in body.items()}
    )


ACCOUNTS = _merged(
    st.fixed_dictionaries({"status": st.just("active"), "type": st.sampled_from(["margin", "cash"])}),
    _optional(
        {
            "classification": TEXTS,
            "option_level": st.integers(0, 6),
            "day_trader": st.booleans(),
            "date_created": INSTANTS,
            "last_update_date": INSTANTS,
        }
    ),
    EXTRAS,
)


@st.composite
def _profiles(draw: st.DrawFn) -> Body:
    ours = draw(ACCOUNTS) | {"account_number": ACCOUNT}
    others = draw(st.lists(ACCOUNTS, max_size=2))
    rows = [{**other, "account_number": f"6YA0570{number}", "status": "closed"} for number, other in enumerate(others)]
    rows.insert(draw(st.integers(0, len(rows))), ours)
    bare = len(rows) == 1 and draw(st.booleans())
    return {"profile": {"id": "id-1", "name": draw(TEXTS), "account": ours if bare else rows}}


_BALANCES = _words(
    "total_equity total_cash market_value long_market_value short_market_value stock_long_value option_long_value "
    "option_short_value open_pl close_pl current_requirement option_requirement pending_cash uncleared_funds"
)
_MARGIN = _words("fed_call maintenance_call option_buying_power stock_buying_power stock_short_value")
_CASH = _words("cash_available sweep unsettled_funds")


@st.composite
def _balances(draw: st.DrawFn) -> Body:
    block = draw(st.sampled_from(["margin", "pdt", "cash"]))
    required = dict.fromkeys(_CASH if block == "cash" else _MARGIN, NUMBERS)
    optional = {} if block == "cash" else {"sweep": NUMBERS, "day_trade_buying_power": NUMBERS}
    body = draw(EXTRAS) | draw(st.fixed_dictionaries(dict.fromkeys(_BALANCES, NUMBERS)))
    body |= draw(_optional({"equity": NUMBERS})) | {"pending_orders_count": draw(st.integers(0, 1500))}
    if not any(body[name] for name in ("total_equity", "total_cash", "current_requirement")):
        body["total_equity"] = Decimal("100000.00")  # an account of nothing at all is distinguished by a check
    body |= {"account_number": ACCOUNT, "account_type": draw(st.sampled_from([block, "margin"]))}
    body[block] = draw(_merged(st.fixed_dictionaries(required), _optional(optional), EXTRAS))
    return {"balances": body}


POSITIONS = _merged(
    st.fixed_dictionaries(
        {"id": IDS, "symbol": SYMBOLS, "quantity": QUANTITIES, "cost_basis": NUMBERS, "date_acquired": INSTANTS}
    ),
    EXTRAS,
)
STATUSES = _word_of(
    "open partially_filled filled expired canceled pending rejected error held pending_cancel calculated cancelled"
)
_PART: dict[str, st.SearchStrategy[Any]] = {
    "type": _word_of("market limit stop stop_limit debit credit even"),
    "symbol": SYMBOLS,
    "option_symbol": OPTIONS,
    "side": _word_of("buy sell sell_short buy_to_cover sell_to_open buy_to_close"),
    "quantity": QUANTITIES,
    "duration": _word_of("day gtc pre post"),
    "price": NUMBERS,
    "stop_price": NUMBERS,
    "avg_fill_price": NUMBERS,
    "exec_quantity": QUANTITIES,
    "last_fill_price": NUMBERS,
    "last_fill_quantity": QUANTITIES,
    "remaining_quantity": QUANTITIES,
    "transaction_date": INSTANTS,
    "reason_description": TEXTS,
}
LEGS = _merged(
    st.fixed_dictionaries({"id": IDS, "class": st.sampled_from(["equity", "option"]), "status": STATUSES}),
    _optional({**_PART, "create_date": INSTANTS}),
    EXTRAS,
)
ORDERS = _merged(
    st.fixed_dictionaries(
        {
            "class": _word_of("equity option multileg combo oto oco otoco"),
            "status": STATUSES | TEXTS,
            "create_date": INSTANTS,
        }
    ),
    _optional({**_PART, "num_legs": st.integers(0, 4), "strategy": TEXTS, "tag": TEXTS | st.just("null")}),
    st.one_of(
        st.just({}),
        st.fixed_dictionaries({"leg": st.one_of(st.none(), st.just("null"), LEGS, st.lists(LEGS, max_size=4))}),
    ),
    EXTRAS,
)


@st.composite
def _documents(draw: st.DrawFn, outer: str, inner: str, rows: st.SearchStrategy[list[Body]]) -> Body:
    found = draw(rows)
    if not found:
        empty = ["null", None, {}, {inner: None}, {inner: []}]
        return {outer: draw(st.sampled_from(empty))}
    if len(found) == 1 and draw(st.booleans()):
        return {outer: {inner: found[0]}}
    return {outer: {inner: found}}


@st.composite
def _orders(draw: st.DrawFn) -> Any:
    numbers = st.lists(IDS, max_size=5, unique=True)
    rows = [{**draw(ORDERS), "id": number} for number in draw(numbers)]
    if len(rows) < 2:
        return draw(_documents("orders", "order", st.just(rows)))
    cut = draw(st.integers(1, len(rows)))
    return [listed("orders", "order", page) for page in (rows[:cut], rows[cut:]) if page]


def _quotes_of(symbols: list[str]) -> st.SearchStrategy[Any]:
    unlike = st.sampled_from([-1, "12.5", True, Decimal("1.123456789"), 10**17, 10**400, [], {}])
    # now and then a field is not what is documented; such a quote must not cost the snapshot
    quirk = st.fixed_dictionaries(
        {}, optional=dict.fromkeys(_words("ask volume contract_size bid_date greeks underlying"), unlike)
    )
    greek = st.none() | st.decimals(-10, 10, places=12) | st.just(Decimal("1E-17"))
    greeks = st.dictionaries(_word_of("delta gamma theta vega rho mid_iv smv_vol"), greek)
    fields = _optional(
        {
            **dict.fromkeys(("bid", "ask", "last", "close", "prevclose"), PRICES),
            **dict.fromkeys(("volume", "open_interest"), st.integers(0, 10**10)),
            **dict.fromkeys(("type", "underlying", "root_symbol", "expiration_type"), TEXTS),
            **dict.fromkeys(("bid_date", "ask_date", "trade_date"), EPOCHS),
            "contract_size": st.sampled_from([10, 100, 150]),
            "greeks": greeks,
        }
    )
    rows = [
        _merged(st.just({"symbol": symbol}), st.one_of(st.just({}), st.just({}), quirk), fields, EXTRAS)
        for symbol in symbols
    ]
    answered = st.tuples(*(st.none() | row for row in rows)).map(lambda found: [row for row in found if row])
    return st.none() | _documents("quotes", "quote", answered)


@st.composite
def states(draw: st.DrawFn) -> Answers:
    """Any state an account may be in, in any form the broker may write it."""
    held = draw(_documents("positions", "position", st.lists(POSITIONS, max_size=6)))
    found = held["positions"].get("position") if isinstance(held["positions"], dict) else None
    rows = found if isinstance(found, list) else [found] if found else []
    symbols = list(dict.fromkeys(row["symbol"] for row in rows))
    return Answers(
        account=draw(_profiles()),
        balances=draw(_balances()),
        positions=held,
        orders=draw(_orders()),
        quotes=draw(_quotes_of([*symbols, "EXTRA"])),
    )
