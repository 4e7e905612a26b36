"""The broker's bodies as frozen types: required fields, exact numbers, aware instants.

Shapes and which fields are always sent: docs.tradier.com reference pages for profile, balances, positions, orders,
history, gain and loss, historical balances and the calendar.
Every number is the `Decimal` of its JSON literal, rounded to the 8 fraction digits of its column where the broker sends
more (it prints products such as fractional shares times a price); the check numbers_stored_exactly names those.
Unknown fields are never an error: they stay in the landed bytes, and the check fields_known tells of them.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from tradier_pipeline.broker.errors import BodyError, excerpt
from tradier_pipeline.core.decimals import INTEGER_DIGITS, QUANTUM

_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,19}")
_TIME_OF_DAY = re.compile(r"\d\d:\d\d")
_LAST_MILLISECOND = 253_402_300_799_999  # of the year 9999


def _is_number(value: Any) -> Any:
    if type(value) not in (int, Decimal):  # True is an int, too
        raise ValueError("is not a number")
    return value


def _to_places(value: Decimal) -> Decimal:
    """The value as DECIMAL(24,8) holds it: more fraction digits are rounded half to even."""
    # the exponent tells without computing: 1E+400 must not be expanded
    near = value if value.adjusted() >= INTEGER_DIGITS else value.quantize(QUANTUM, ROUND_HALF_EVEN)
    if near and near.adjusted() >= INTEGER_DIGITS:
        raise ValueError(f"has more than the {INTEGER_DIGITS} digits before the point that DECIMAL(24,8) holds")
    kept = value if near == value else near  # as sent, if that is exact
    return kept or abs(kept)  # DECIMAL has no negative zero


def _as_whole(value: Any) -> Any:
    """A number that is written with a fraction of zeros, such as 9003.0, is that whole number."""
    if not isinstance(value, Decimal | float):
        return value
    if value % 1:
        raise ValueError(f"is not a whole number: {value}")
    return int(value)


def _as_identifier(value: Any) -> Any:
    """An id sent as JSON text is the number that it spells."""
    return int(value) if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value) else _as_whole(value)


def _to_float(value: Any) -> float:
    try:
        return float(_is_number(value))
    except OverflowError:
        raise ValueError("is out of range") from None


def _is_iso(value: Any) -> Any:
    if not isinstance(value, str) or not _ISO.fullmatch(value):
        raise ValueError("is not an ISO 8601 instant")
    return value


def _in_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("has no time zone")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("is out of range") from None


def _is_date(value: Any) -> Any:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise ValueError("is not an ISO 8601 date")
    return value


def _is_day(value: Any) -> Any:
    if not isinstance(value, str) or not (_DATE.fullmatch(value) or _ISO.fullmatch(value)):
        raise ValueError("is not an ISO 8601 date or instant")
    return value[:10]


def _is_time_of_day(value: Any) -> Any:
    if not isinstance(value, str) or not _TIME_OF_DAY.fullmatch(value):
        raise ValueError("is not a time of day such as 09:30")
    return value


def _as_rows(value: Any) -> Any:
    if value is None or value == "null":
        return ()
    return value if isinstance(value, list) else [value]


Number = Annotated[Decimal, BeforeValidator(_is_number), AfterValidator(_to_places)]
ModelValue = Annotated[float, BeforeValidator(_to_float), Field(allow_inf_nan=False)]
Integer = Annotated[int, BeforeValidator(_as_whole), Field(strict=True, ge=-(2**31), lt=2**31)]
Count = Annotated[int, BeforeValidator(_as_whole), Field(strict=True, ge=0, lt=2**31)]
Identifier = Annotated[int, BeforeValidator(_as_identifier), Field(strict=True, ge=-(2**63), lt=2**63)]
Milliseconds = Annotated[int, BeforeValidator(_as_whole), Field(strict=True, ge=0, le=_LAST_MILLISECOND)]
TimeOfDay = Annotated[time, BeforeValidator(_is_time_of_day)]
Day = Annotated[date, BeforeValidator(_is_day)]  # Tradier: midnight UTC stands for a date, whatever the time zone
# Tradier sends milliseconds, nanoseconds in its event stream; microseconds are what is kept
Instant = Annotated[datetime, BeforeValidator(_is_iso), AfterValidator(_in_utc)]


IDENTIFIER: TypeAdapter[int] = TypeAdapter(Identifier)


class BrokerModel(BaseModel):
    """Base of all bodies: immutable, tolerant of new fields, strict about the known ones."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Account(BrokerModel):
    """One `profile.account` row. `type` is cash or margin; pattern-day-trader shows in the balances only."""

    account_number: str
    status: str
    type: str
    classification: str | None = None
    option_level: Integer | None = None
    day_trader: Annotated[bool, Field(strict=True)] | None = None
    date_created: Instant | None = None
    last_update_date: Instant | None = None


class BuyingPower(BrokerModel):
    """The `margin` or `pdt` block. USD. `day_trade_buying_power` is sent for pdt accounts only, and not always."""

    fed_call: Number
    maintenance_call: Number
    option_buying_power: Number
    stock_buying_power: Number
    stock_short_value: Number
    sweep: Number | None = None
    day_trade_buying_power: Number | None = None


class CashBlock(BrokerModel):
    """The `cash` block. USD."""

    cash_available: Number
    sweep: Number
    unsettled_funds: Number


class Balances(BrokerModel):
    """The `balances` object of one account. USD; short values are negative.

    `equity` is deprecated by the broker (0 in every current body): use `total_equity`.
    """

    account_number: str
    account_type: str
    equity: Number | None = None
    total_equity: Number
    total_cash: Number
    market_value: Number
    long_market_value: Number
    short_market_value: Number
    stock_long_value: Number
    option_long_value: Number
    option_short_value: Number
    open_pl: Number
    close_pl: Number
    current_requirement: Number
    option_requirement: Number
    pending_cash: Number
    pending_orders_count: Count
    uncleared_funds: Number
    margin: BuyingPower | None = None
    pdt: BuyingPower | None = None
    cash: CashBlock | None = None

    @model_validator(mode="after")
    def _has_its_block(self) -> Self:
        if len(self._blocks()) != 1:
            found = ", ".join(self._blocks()) or "none"
            raise ValueError(f"needs exactly one of the blocks margin, pdt, cash (found: {found})")
        return self

    def _blocks(self) -> list[str]:
        return [name for name in ("margin", "pdt", "cash") if getattr(self, name) is not None]

    @property
    def block(self) -> BuyingPower | CashBlock:
        """The one block sent. A documented body names `margin` and sends `pdt`: the block decides, not the name."""
        block = self.margin or self.pdt or self.cash
        assert block is not None
        return block

    @property
    def buying_power(self) -> Decimal:
        """USD available for options: option_buying_power, or cash_available of a cash account."""
        block = self.block
        return block.cash_available if isinstance(block, CashBlock) else block.option_buying_power


class Position(BrokerModel):
    """One `positions.position` row: signed quantity, total cost basis in USD.

    `date_acquired` moves on partial trades; it is not an opening date.
    """

    id: Identifier
    symbol: Annotated[str, Field(strict=True)]
    quantity: Number
    cost_basis: Number
    date_acquired: Instant


class Greeks(BrokerModel):
    """The `greeks` of an option quote: model values, not money, so binary floats are exact enough."""

    delta: ModelValue | None = None
    gamma: ModelValue | None = None
    theta: ModelValue | None = None
    vega: ModelValue | None = None
    rho: ModelValue | None = None
    mid_iv: ModelValue | None = None


class Quote(BrokerModel):
    """One `quotes.quote` row, in USD per share. Sizes and counts are whole numbers."""

    symbol: str
    type: str | None = None
    bid: Number | None = None
    ask: Number | None = None
    last: Number | None = None
    close: Number | None = None
    prevclose: Number | None = None
    volume: Number | None = None
    open_interest: Number | None = None
    contract_size: Annotated[Integer, Field(gt=0)] | None = None
    underlying: str | None = None
    root_symbol: str | None = None
    expiration_type: str | None = None
    bid_date: Milliseconds | None = None
    ask_date: Milliseconds | None = None
    trade_date: Milliseconds | None = None
    greeks: Greeks | None = None


# Tradier: order reference pages; a word outside its set is stored as unknown, beside the word itself
ORDER_WORDS = {
    "status": ("open", "partially_filled", "filled", "expired", "canceled", "pending", "rejected", "error", "held"),
    "class": ("equity", "option", "multileg", "combo", "oto", "oco", "otoco"),
    "type": ("market", "limit", "stop", "stop_limit", "debit", "credit", "even"),
    "side": (
        *("buy", "sell", "sell_short", "buy_to_cover"),
        *("buy_to_open", "buy_to_close", "sell_to_open", "sell_to_close"),
    ),
    "duration": ("day", "gtc", "pre", "post"),
}
FINISHED = frozenset({"filled", "expired", "canceled", "rejected", "error"})
# Tradier: the newest reference and the words of its streams; all of them still work -> the word of the closed set
WORKING_WORDS = {
    "pending_cancel": "pending",
    "open_pending": "pending",
    "submitted": "pending",
    "calculated": "held",
    "accepted_for_bidding": "held",
}
PACKAGES = ("multileg", "combo")  # their legs fill as one, at one net price
OF_SEVERAL = (*PACKAGES, "oto", "oco", "otoco")  # it is their legs that fill
UNKNOWN = "unknown"


def known_word(name: str, word: str | None) -> str | None:
    """An order's word in the closed set of its kind, else unknown: never the nearest or the default one."""
    if name == "status" and word in WORKING_WORDS:
        return WORKING_WORDS[word]
    return word if word is None or word in ORDER_WORDS[name] else UNKNOWN


class OrderLeg(BrokerModel):
    """One leg, and all that a leg shares with its parent order.

    Only `id`, `class` and `status` are always there: an oco parent has no symbol, side, type or quantity.
    """

    id: Identifier
    class_: str = Field(alias="class")
    status: str
    type: str | None = None
    symbol: str | None = None
    option_symbol: str | None = None
    side: str | None = None
    quantity: Number | None = None
    duration: str | None = None
    price: Number | None = None
    stop_price: Number | None = None
    avg_fill_price: Number | None = None
    exec_quantity: Number | None = None
    last_fill_price: Number | None = None
    last_fill_quantity: Number | None = None
    remaining_quantity: Number | None = None
    create_date: Instant | None = None
    transaction_date: Instant | None = None
    reason_description: str | None = None


class Order(OrderLeg):
    """One `orders.order` row with its legs (none, one or many)."""

    num_legs: Integer | None = None
    strategy: str | None = None
    tag: str | None = None
    create_date: Instant
    leg: Annotated[tuple[OrderLeg, ...], BeforeValidator(_as_rows)] = ()

    @property
    def lacks_legs(self) -> bool:
        """Whether its legs were left out, as the sandbox does: nobody knows what it trades, never its symbol."""
        return self.class_ in OF_SEVERAL and not self.leg


class HistoryEvent(BrokerModel):
    """One `history.event` row: USD that cash changed by, and what for.

    Tradier: the details are in a block named like the type, of a dividend in `adjustment`; one sample has none and is
    flat. `type` is the broker's word: trade, option, ach, wire, dividend, fee, tax, journal, check, transfer, ...
    """

    date: Day
    type: str
    amount: Number
    description: str | None = None
    symbol: str | None = None
    quantity: Number | None = None
    price: Number | None = None
    commission: Number | None = None
    trade_type: str | None = None
    option_type: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _unfold(cls, row: Any) -> Any:
        if not isinstance(row, dict):
            return row
        blocks = {name: value for name, value in row.items() if isinstance(value, dict)}
        block = blocks.get(str(row.get("type"))) or next(iter(blocks.values()), {})
        return row | {name: value for name, value in block.items() if name not in ("date", "type", "amount")}


class ClosedPosition(BrokerModel):
    """One `gainloss.closed_position` row: a closed lot, in USD. `term` in days.

    Tradier: one close may be several rows, and equal ones at that; nothing tells them apart.
    """

    close_date: Day
    open_date: Day
    symbol: Annotated[str, Field(strict=True)]
    quantity: Number
    cost: Number
    proceeds: Number
    gain_loss: Number
    gain_loss_percent: Number | None = None
    term: Integer | None = None


class DailyBalance(BrokerModel):
    """One row of the historical balances: the account's value on a date, USD."""

    date: Day
    value: Number


def _or_none(value: Any) -> Any:
    return None if isinstance(value, str) and value.strip().lower() in ("nan", "") else value


Price = Annotated[Number | None, BeforeValidator(_or_none)]


class DailyPrice(BrokerModel):
    """One `history.day` row of a symbol, USD per share. A day without a trade may have "NaN" in the place of prices."""

    date: Day
    open: Price = None
    high: Price = None
    low: Price = None
    close: Price = None
    volume: Price = None


DividendDay = Annotated[Day | None, BeforeValidator(_or_none)]


class CashDividend(BrokerModel):
    """One `cash_dividends` row of a symbol: per share, by the ex-dividend date; it may be announced and yet to come."""

    share_class_id: str | None = None
    dividend_type: str | None = None
    ex_date: DividendDay = None
    cash_amount: Price = None
    currency_i_d: str | None = None
    declaration_date: DividendDay = None
    record_date: DividendDay = None
    pay_date: DividendDay = None
    frequency: Integer | None = None


class DividendTables(BrokerModel):
    """`tables` of a result: null where the broker has none."""

    cash_dividends: Annotated[tuple[CashDividend, ...], BeforeValidator(_as_rows)] = ()


class DividendResult(BrokerModel):
    """One of the `results` of a symbol: its company, which has no dividends, and its stock or fund."""

    type: str | None = None
    id: str | None = None
    tables: DividendTables | None = None


class DividendAnswer(BrokerModel):
    """The element of one symbol. Without `results`: the broker has nothing of it."""

    request: str
    results: Annotated[tuple[DividendResult, ...], BeforeValidator(_as_rows)] = ()


class Hours(BrokerModel):
    """From when until when on a day, New York time."""

    start: TimeOfDay
    end: TimeOfDay


class CalendarDay(BrokerModel):
    """One `calendar.days.day` row. Tradier: `open` are the hours of the session, absent on closed days."""

    day: Annotated[date, BeforeValidator(_is_date)] = Field(alias="date")
    status: Literal["open", "closed"]
    open: Hours | None = None

    @model_validator(mode="after")
    def _has_hours_if_open(self) -> Self:
        if (self.status == "open") != (self.open is not None):
            raise ValueError(f"is {self.status} and has {'' if self.open else 'no '}hours")
        if self.open is not None and self.open.start >= self.open.end:
            raise ValueError("closes before it opens")
        return self


def identifier(resource: str, path: str, value: Any) -> int:
    """An id of the broker, a number or the text of one. Raises BodyError, naming the path, for anything else."""
    try:
        return IDENTIFIER.validate_python(value)
    except ValidationError:
        text = "is missing" if value is None else f"is not a whole number of 64 bits: {excerpt(str(value))}"
        raise BodyError(resource, text, path=path) from None
