"""The simulated broker's routes under /beta/markets/fundamentals: the documented envelope.

The companies have names and nothing else, so every table but the description is null, as Tradier's are where it has
no data.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tradier_pipeline.simulator.market import describe, is_quoted
from tradier_pipeline.simulator.params import symbols
from tradier_pipeline.simulator.tickets import InvalidParameterError
from tradier_pipeline.simulator.wire import Json, dumps

_PATH = "/beta/markets/fundamentals"


def fundamentals_routes() -> list[BaseRoute]:
    """Tradier's paths for the company, its calendar and its dividends; they answer JSON only."""
    return [
        Route(f"{_PATH}/company", company),
        Route(f"{_PATH}/calendars", calendars),
        Route(f"{_PATH}/dividends", dividends),
    ]


async def company(request: Request) -> Response:
    return _answer(request, "Company", "long_descriptions", described=True)


async def calendars(request: Request) -> Response:
    return _answer(request, "Company", "corporate_calendars")


async def dividends(request: Request) -> Response:
    return _answer(request, "Stock", "cash_dividends")


def _answer(request: Request, kind: str, table: str, *, described: bool = False) -> Response:
    """An array with one element for each symbol (Tradier: also for one); no result for an unknown one."""
    wanted = symbols(request.query_params)
    if not wanted:
        raise InvalidParameterError("symbols", "is required")
    rows: list[Json] = [
        {
            "request": symbol,
            "type": "Symbol",
            "results": [{"type": kind, "id": symbol, "tables": {table: describe(symbol) if described else None}}]
            if is_quoted(symbol)
            else [],
        }
        for symbol in wanted
    ]
    return Response(dumps(rows), media_type="application/json")
