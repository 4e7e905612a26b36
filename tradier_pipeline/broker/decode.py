"""Bodies of the broker as models: one decoder for each resource, whoever reads them. Each raises BodyError, which names
the resource and the path, if a body or a row is malformed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import ValidationError

from tradier_pipeline.broker import envelope
from tradier_pipeline.broker.errors import BodyError
from tradier_pipeline.broker.models import Account, Balances, BrokerModel, CalendarDay, Hours, Order, Position, Quote
from tradier_pipeline.clock import NEW_YORK

M = TypeVar("M", bound=BrokerModel)

_DAYS = "calendar.days.day"


def parse(model: type[M], resource: str, path: str, row: Any) -> M:
    """Validate one object of a body.

    Raises:
        BodyError: names the resource and the path of the first field that is missing or malformed.
    """
    try:
        return model.model_validate(row)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join([path, *(str(part) for part in first["loc"])])
        raise BodyError(resource, _problem(first["msg"]), path=where) from None


def _problem(message: str) -> str:
    return "is missing" if message == "Field required" else message.removeprefix("Value error, ").removeprefix("Input ")


def parse_rows(model: type[M], resource: str, path: str, rows: Sequence[Any]) -> tuple[M, ...]:
    """Validate the rows of a list body; `path` is that of the list, such as `orders.order`."""
    return tuple(parse(model, resource, f"{path}[{index}]", row) for index, row in enumerate(rows))


def rows_of(resource: envelope.ListResource, bodies: Iterable[bytes]) -> list[dict[str, Any]]:
    """The rows of a list, of all its pages, as the broker sent them: to be read and not changed.

    For "account": the accounts of the profile.
    """
    return [row for body in bodies for row in _rows(resource, body)]


@lru_cache(maxsize=4)  # a list is followed, then judged, then stored
def _rows(resource: envelope.ListResource, body: bytes) -> tuple[dict[str, Any], ...]:
    return tuple(envelope.rows(resource, envelope.parse_json(body, resource)))


def row_of(resource: envelope.ObjectResource, body: bytes) -> dict[str, Any]:
    """The one object of a body, as the broker sent it: the balances, an order that was read by its id."""
    return envelope.one(resource, envelope.parse_json(body, resource))


def parse_accounts(bodies: Iterable[bytes]) -> dict[str, Account]:
    """Account number -> the account, of a profile."""
    listed = parse_rows(Account, "account", "profile.account", rows_of("account", bodies))
    return {account.account_number: account for account in listed}


def parse_balances(body: bytes) -> Balances:
    return parse(Balances, "balances", "balances", row_of("balances", body))


def parse_positions(bodies: Iterable[bytes]) -> tuple[Position, ...]:
    return parse_rows(Position, "positions", "positions.position", rows_of("positions", bodies))


def parse_quotes(bodies: Iterable[bytes]) -> dict[str, Quote]:
    """The quotes by symbol. A malformed one is left out, since it must not cost the snapshot; a check tells of it."""
    quotes: dict[str, Quote] = {}
    for row in rows_of("quotes", bodies):
        with suppress(BodyError):
            quote = parse(Quote, "quotes", "quotes.quote", row)
            quotes[quote.symbol] = quote
    return quotes


@lru_cache(maxsize=2)  # judged, then stored; and most minutes list the orders of the minute before, byte for byte
def parse_orders(listed: tuple[bytes, ...], by_id: tuple[bytes, ...]) -> tuple[tuple[Order, ...], tuple[Order, ...]]:
    """The orders of the bodies of a list, and of those read by their ids, as `with_legs` returns them."""
    return with_legs(
        parse_rows(Order, "orders", "orders.order", rows_of("orders", listed)),
        tuple(parse(Order, "order", "order", row_of("order", body)) for body in by_id),
    )


def with_legs(listed: tuple[Order, ...], by_id: tuple[Order, ...]) -> tuple[tuple[Order, ...], tuple[Order, ...]]:
    """The listed orders, each as it was read by its id where only that tells its legs, and those that are not listed.

    An order that was listed without its legs and tells none by its id either counts as it was listed.
    """
    read = {order.id: order for order in by_id}
    numbers = {order.id for order in listed}
    orders = (found if order.lacks_legs and (found := read.get(order.id, order)).leg else order for order in listed)
    return tuple(orders), tuple(order for order in by_id if order.id not in numbers)


def parse_hours(body: bytes, month: date) -> dict[date, tuple[datetime, datetime] | None]:
    """The days of a month: when the exchange opens and closes (UTC), or None if it stays closed.

    Args:
        body: an answer of `/v1/markets/calendar`.
        month: any day of the month that was asked for.

    Raises:
        BodyError: it lists no day, one twice, one of another month, or one without status or hours.
    """
    listed = parse_rows(
        CalendarDay, "calendar", _DAYS, envelope.rows("calendar", envelope.parse_json(body, "calendar"))
    )
    days: dict[date, tuple[datetime, datetime] | None] = {}
    for index, row in enumerate(listed):
        if row.day in days or (row.day.year, row.day.month) != (month.year, month.month):
            problem = "a second time" if row.day in days else f"in the answer for {month:%Y-%m}"
            raise BodyError("calendar", f"is {row.day} {problem}", path=f"{_DAYS}[{index}].date")
        days[row.day] = _instants(row.day, row.open) if row.open else None
    if not days:
        raise BodyError("calendar", "is empty", path=_DAYS)
    return days


def _instants(day: date, hours: Hours) -> tuple[datetime, datetime]:
    opens, closes = (datetime.combine(day, at, NEW_YORK).astimezone(UTC) for at in (hours.start, hours.end))
    return opens, closes
