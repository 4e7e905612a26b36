"""The simulated broker's routes under /beta/markets/fundamentals: the documented envelope.

The companies have names and some pay dividends; every other table is null, as Tradier's are where it has no data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tradier_pipeline import clock
from tradier_pipeline.simulator.admin import Controls
from tradier_pipeline.simulator.market import describe, is_quoted
from tradier_pipeline.simulator.params import symbols
from tradier_pipeline.simulator.tickets import InvalidParameterError
from tradier_pipeline.simulator.wire import Json, dumps

_PATH = "/beta/markets/fundamentals"
# symbol: cents per share and quarter
_PAID = {"AAPL": 26, "F": 15, "IWM": 65, "KO": 51, "MSFT": 91, "NVDA": 1, "QQQ": 80, "SPY": 183}
_QUARTERLY = (3, 6, 9, 12)  # months
_ANNOUNCED = timedelta(days=45)  # before the ex-dividend date
_PAID_AFTER = timedelta(days=21)


@dataclass(frozen=True, slots=True)
class Fundamentals:
    """Tradier's paths for the company, its calendar and its dividends; they answer JSON only."""

    controls: Controls

    def routes(self) -> list[BaseRoute]:
        return [
            Route(f"{_PATH}/company", self.company),
            Route(f"{_PATH}/calendars", self.calendars),
            Route(f"{_PATH}/dividends", self.dividends),
        ]

    async def company(self, request: Request) -> Response:
        return _answer(request, "Company", "long_descriptions", describe)

    async def calendars(self, request: Request) -> Response:
        return _answer(request, "Company", "corporate_calendars")

    async def dividends(self, request: Request) -> Response:
        today = clock.trade_date(self.controls.now())
        return _answer(request, "Stock", "cash_dividends", lambda symbol: _dividends(symbol, today))


def _dividends(symbol: str, today: date) -> Json:
    """Of two years, and what is announced; newest first. The account is paid by its own engine, on other days."""
    if symbol not in _PAID:
        return None
    dates = (_third_monday(today.year - back, month) for back in (-1, 0, 1, 2) for month in reversed(_QUARTERLY))
    return [
        {
            "share_class_id": symbol,
            "dividend_type": "CD",
            "ex_date": str(ex_date),
            "cash_amount": Decimal(_PAID[symbol]).scaleb(-2),
            "currency_i_d": "USD",
            "declaration_date": str(ex_date - _ANNOUNCED),
            "frequency": len(_QUARTERLY),
            "pay_date": str(ex_date + _PAID_AFTER),
            "record_date": str(ex_date),
        }
        for ex_date in dates
        if ex_date - _ANNOUNCED <= today
    ]


def _third_monday(year: int, month: int) -> date:
    """In none of these months a holiday."""
    first = date(year, month, 1)
    return first + timedelta(days=-first.weekday() % 7 + 14)


def _nothing(_: str) -> Json:
    return None


def _answer(request: Request, kind: str, table: str, of_symbol: Callable[[str], Json] = _nothing) -> Response:
    """An array with one element for each symbol (Tradier: also for one); no result for an unknown one."""
    wanted = symbols(request.query_params)
    if not wanted:
        raise InvalidParameterError("symbols", "is required")
    rows: list[Json] = [
        {
            "request": symbol,
            "type": "Symbol",
            "results": [{"type": kind, "id": symbol, "tables": {table: of_symbol(symbol)}}]
            if is_quoted(symbol)
            else [],
        }
        for symbol in wanted
    ]
    return Response(dumps(rows), media_type="application/json")
