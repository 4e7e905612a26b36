"""The simulated broker's routes under /v1/markets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.simulator import listings, market_bodies
from tradier_pipeline.simulator.admin import Controls
from tradier_pipeline.simulator.faults import LAG
from tradier_pipeline.simulator.market import INDEXES, Market, Option, exchange_of
from tradier_pipeline.simulator.params import day, flag, minute, number, parameters, required, respond, symbols
from tradier_pipeline.simulator.tickets import InvalidParameterError, choice, read_price

_YEARS = range(1990, 2100)  # that the library of the calendar is asked for


@dataclass(frozen=True, slots=True)
class MarketData:
    """Market data of any symbol. Bodies are made in a thread, so that a long one does not keep others waiting."""

    controls: Controls

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/v1/markets/quotes", self.quotes, methods=["GET", "POST"]),
            Route("/v1/markets/history", self.history),
            Route("/v1/markets/timesales", self.time_sales),
            Route("/v1/markets/options/expirations", self.expirations),
            Route("/v1/markets/options/strikes", self.strikes),
            Route("/v1/markets/options/chains", self.chain),
            Route("/v1/markets/options/lookup", self.option_symbols),
            Route("/v1/markets/search", self.search),
            Route("/v1/markets/lookup", self.lookup),
            Route("/v1/markets/etb", self.easy_to_borrow),
            Route("/v1/markets/clock", self.clock),
            Route("/v1/markets/calendar", self.calendar),
        ]

    def _market(self, request: Request) -> tuple[Market, MarketCalendar, datetime]:
        """The market, the exchange's calendar and the instant that the answer is of."""
        store = self.controls.store
        with store.at(self.controls.now()) as world:
            now = world.now - timedelta(seconds=request.scope.get(LAG) or 0)
            return world.market, store.calendar.of_exchange(), now

    async def quotes(self, request: Request) -> Response:
        params = await parameters(request)
        wanted = symbols(params)
        if not wanted:
            raise InvalidParameterError("symbols", "is required")
        market, _, now = self._market(request)
        body = await asyncio.to_thread(market_bodies.quotes, market, wanted, now, greeks=flag(params, "greeks"))
        return respond(request, body)

    async def history(self, request: Request) -> Response:
        params = request.query_params
        symbol, start, end = required(params, "symbol"), day(params, "start"), day(params, "end")
        _refuse_far(start, end)
        interval = choice(params, "interval", market_bodies.INTERVALS, "daily")
        market, calendar, now = self._market(request)
        body = await asyncio.to_thread(
            market_bodies.prices, market, calendar, symbol, now, interval=interval, start=start, end=end
        )
        return respond(request, body)

    async def time_sales(self, request: Request) -> Response:
        params = request.query_params
        symbol, start, end = required(params, "symbol"), minute(params, "start"), minute(params, "end")
        interval = choice(params, "interval", market_bodies.STEPS, "tick")
        market, calendar, now = self._market(request)
        body = await asyncio.to_thread(
            market_bodies.time_sales, market, calendar, symbol, now, interval=interval, start=start, end=end
        )
        return respond(request, body)

    async def expirations(self, request: Request) -> Response:
        params = request.query_params
        underlying = required(params, "symbol")
        market, calendar, now = self._market(request)
        body = await asyncio.to_thread(
            market_bodies.option_expirations,
            market,
            calendar,
            underlying,
            now,
            with_strikes=flag(params, "strikes"),
            detailed=flag(params, "contractSize") or flag(params, "expirationType"),
        )
        return respond(request, body)

    async def strikes(self, request: Request) -> Response:
        params = request.query_params
        underlying, expiration = required(params, "symbol"), _expiration(params)
        market, calendar, now = self._market(request)
        body = await asyncio.to_thread(market_bodies.option_strikes, market, calendar, underlying, expiration, now)
        return respond(request, body)

    async def chain(self, request: Request) -> Response:
        params = request.query_params
        underlying, expiration, greeks = required(params, "symbol"), _expiration(params), flag(params, "greeks")
        market, calendar, now = self._market(request)
        body = await asyncio.to_thread(
            market_bodies.option_chain, market, calendar, underlying, expiration, now, greeks=greeks
        )
        return respond(request, body)

    async def option_symbols(self, request: Request) -> Response:
        params = request.query_params
        underlying, expiration, strike = (
            required(params, "underlying"),
            day(params, "expiration"),
            read_price(params, "strike"),
        )
        right = choice(params, "type", frozenset({"call", "put", ""}), "")

        def wanted(option: Option) -> bool:
            return (
                expiration in {None, option.expiration}
                and strike in {None, option.strike}
                and right in {"", option.right}
            )

        market, calendar, now = self._market(request)
        body = await asyncio.to_thread(market_bodies.option_symbols, market, calendar, underlying, now, wanted)
        return respond(request, body)

    async def search(self, request: Request) -> Response:
        found = listings.search(required(request.query_params, "q"))
        if not flag(request.query_params, "indexes"):
            found = [ticker for ticker in found if ticker not in INDEXES]
        return respond(request, market_bodies.securities(found))

    async def lookup(self, request: Request) -> Response:
        types, exchanges = symbols(request.query_params, "types"), symbols(request.query_params, "exchanges")
        kept = [
            ticker
            for ticker in listings.lookup(required(request.query_params, "q"))
            if (not types or market_bodies.security_type(ticker).upper() in types)
            and (not exchanges or exchange_of(ticker) in exchanges)
        ]
        return respond(request, market_bodies.securities(kept))

    async def easy_to_borrow(self, request: Request) -> Response:
        return respond(request, market_bodies.securities(listings.easy_to_borrow()))

    async def clock(self, request: Request) -> Response:
        calendar = self.controls.store.calendar.of_exchange()
        return respond(request, await asyncio.to_thread(market_bodies.clock, calendar, self.controls.now()))

    async def calendar(self, request: Request) -> Response:
        today = self.controls.now()
        year = number(request.query_params, "year", today.year)
        month = number(request.query_params, "month", today.month)
        if not (month <= 12 and year in _YEARS):
            name, wrong = ("month", month) if month > 12 else ("year", year)
            raise InvalidParameterError(name, f"{wrong} is not valid")
        calendar = self.controls.store.calendar.of_exchange()
        return respond(request, await asyncio.to_thread(market_bodies.month, calendar, year, month))


def _expiration(params: Mapping[str, str]) -> date:
    required(params, "expiration")
    found = day(params, "expiration")
    assert found is not None
    return found


def _refuse_far(*days: date | None) -> None:
    for one in days:
        if one is not None and one.year not in _YEARS:
            raise InvalidParameterError("start", f"{one} is not valid")
