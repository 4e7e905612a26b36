"""Recorded bodies served as they were received, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tradier_pipeline.core.errors import PipelineError

# resource: the names a file of it may have, without extension and page number (those of the landing zone first)
_STEMS: Mapping[str, tuple[str, ...]] = {
    "account": ("account", "profile", "user-profile"),
    "balances": ("balances",),
    "positions": ("positions",),
    "orders": ("orders",),
    "quotes": ("quotes",),
}
_MEDIA_TYPES = {".json": "application/json", ".txt": "text/plain", ".html": "text/html"}
_NO_MORE_ORDERS = '{"orders":"null"}'


def create_replay_app(directory: Path) -> Starlette:
    """A broker that answers with the files of a directory, for any token and account.

    A subdirectory named like the account wins over the directory itself. Raises PipelineError when there is none, or
    nothing in it to serve.
    """
    if not directory.is_dir():
        raise PipelineError(f"There is no directory {directory} to replay", "Name a directory of recorded bodies.")
    places = [directory, *(path for path in sorted(directory.iterdir()) if path.is_dir())]
    if not any(_find([place], resource) for place in places for resource in _STEMS):
        raise PipelineError(
            f"{directory} holds no recorded body",
            "Expected are files like account.json, balances.json, positions.json, orders.json, quotes.json.",
        )
    replay = _Replay(directory)
    return Starlette(
        routes=[
            Route("/v1/user/profile", replay.profile),
            Route("/v1/accounts/{account}/{resource}", replay.account),
            Route("/v1/markets/quotes", replay.quotes, methods=["GET", "POST"]),
        ]
    )


@dataclass(frozen=True, slots=True)
class _Replay:
    directory: Path

    async def profile(self, _: Request) -> Response:
        return _serve([self.directory], "account")

    async def quotes(self, _: Request) -> Response:
        return _serve([self.directory], "quotes")

    async def account(self, request: Request) -> Response:
        resource, name = request.path_params["resource"], request.path_params["account"]
        if resource not in {"balances", "positions", "orders"}:
            return _missing(resource)
        own = self.directory / name
        places = [own, self.directory] if name not in {".", ".."} and own.is_dir() else [self.directory]
        page = request.query_params.get("page", "1")
        if resource != "orders" or page == "1":
            return _serve(places, resource)
        found = _find(places, resource, f".{page}") if page.isdecimal() else None
        # Tradier: a page beyond the end is the empty form.
        return _send(found) if found else Response(_NO_MORE_ORDERS, media_type="application/json")


def _find(places: list[Path], resource: str, page: str = "") -> Path | None:
    for place in places:
        for stem in _STEMS[resource]:
            for extension in _MEDIA_TYPES:
                path = place / f"{stem}{page}{extension}"
                if path.is_file():
                    return path
    return None


def _serve(places: list[Path], resource: str) -> Response:
    found = _find(places, resource)
    return _send(found) if found else _missing(resource)


def _send(path: Path) -> Response:
    # The media type is set as a header, because starlette would add a charset that the broker does not send.
    return Response(path.read_bytes(), headers={"content-type": _MEDIA_TYPES[path.suffix]})


def _missing(resource: str) -> Response:
    return PlainTextResponse(f"no recorded body for {resource}", 404)
