"""The simulated broker's routes under /v1/watchlists. They belong to the user, not to an account."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tradier_pipeline.simulator.admin import Controls
from tradier_pipeline.simulator.params import parameters, respond, symbols
from tradier_pipeline.simulator.tickets import InvalidParameterError
from tradier_pipeline.simulator.wire import Json, listing
from tradier_pipeline.simulator.world import Watchlist, World


@dataclass(frozen=True, slots=True)
class Watchlists:
    controls: Controls

    def routes(self) -> list[BaseRoute]:
        one = "/v1/watchlists/{watchlist}"
        return [
            Route("/v1/watchlists", self.show_all, methods=["GET"]),
            Route("/v1/watchlists", self.create, methods=["POST"]),
            Route(one, self.show, methods=["GET"]),
            Route(one, self.replace, methods=["PUT"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"{one}/symbols", self.add, methods=["POST"]),
            Route(f"{one}/symbols/{{symbol:path}}", self.remove, methods=["DELETE"]),
        ]

    async def show_all(self, request: Request) -> Response:
        with self.controls.store.at(self.controls.now()) as world:
            return respond(request, _all(world))

    async def show(self, request: Request) -> Response:
        with self._watchlist(request) as (_, found):
            return respond(request, _body(found))

    async def create(self, request: Request) -> Response:
        params = await parameters(request)
        name = _name(params)
        with self.controls.store.at(self.controls.now()) as world:
            created = Watchlist(_free_id(world, name), name, symbols(params))
            world.watchlists[created.id] = created
            world.version += 1
            return respond(request, _body(created))

    async def replace(self, request: Request) -> Response:
        params = await parameters(request)
        name = _name(params)
        with self._watchlist(request) as (world, found):
            found.name = name
            found.symbols = symbols(params) if "symbols" in params else found.symbols
            world.version += 1
            return respond(request, _body(found))

    async def delete(self, request: Request) -> Response:
        with self._watchlist(request) as (world, found):
            del world.watchlists[found.id]
            world.version += 1
            return respond(request, _all(world))

    async def add(self, request: Request) -> Response:
        more = symbols(await parameters(request))
        if not more:
            raise InvalidParameterError("symbols", "is required")
        with self._watchlist(request) as (world, found):
            found.symbols = list(dict.fromkeys([*found.symbols, *more]))
            world.version += 1
            return respond(request, _body(found))

    async def remove(self, request: Request) -> Response:
        symbol = request.path_params["symbol"].upper()
        with self._watchlist(request) as (world, found):
            if symbol not in found.symbols:
                raise HTTPException(404, f"{symbol} is not in the watchlist {found.id}")
            found.symbols.remove(symbol)
            world.version += 1
            return respond(request, _body(found))

    @contextmanager
    def _watchlist(self, request: Request) -> Iterator[tuple[World, Watchlist]]:
        with self.controls.store.at(self.controls.now()) as world:
            name = request.path_params["watchlist"]
            if name not in world.watchlists:
                raise HTTPException(404, f"there is no watchlist {name}")
            yield world, world.watchlists[name]


def _name(params: dict[str, str]) -> str:
    name = params.get("name", "").strip()
    if not name:
        raise InvalidParameterError("name", "is required")
    return name


def _free_id(world: World, name: str) -> str:
    """The name in the letters of a path; a number makes it the only one."""
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "watchlist"
    number, found = 1, stem
    while found in world.watchlists:
        number += 1
        found = f"{stem}-{number}"
    return found


def _head(one: Watchlist) -> dict[str, Json]:
    return {"name": one.name, "id": one.id, "public_id": f"public-{one.id}"}


def _all(world: World) -> Json:
    return listing("watchlists", "watchlist", [_head(one) for one in world.watchlists.values()])


def _body(one: Watchlist) -> Json:
    items: list[Json] = [{"symbol": symbol, "id": symbol.lower().replace("/", ":")} for symbol in one.symbols]
    return {"watchlist": {**_head(one), **listing("items", "item", items)}}
