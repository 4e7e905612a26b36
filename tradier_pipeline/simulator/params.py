"""What every route of the simulated broker shares: how parameters are read, and how a body is answered."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from tradier_pipeline.simulator.market import NEW_YORK
from tradier_pipeline.simulator.tickets import InvalidParameterError
from tradier_pipeline.simulator.wire import Json, dumps, xml


def respond(request: Request, body: Json) -> Response:
    """JSON to a client that accepts it, else XML (Tradier: the default)."""
    if "application/json" in request.headers.get("accept", ""):
        return Response(dumps(body), media_type="application/json")
    assert isinstance(body, Mapping)
    return Response(xml(body), media_type="application/xml")


async def parameters(request: Request) -> dict[str, str]:
    """The parameters of the query and of the form, which wins (Tradier takes either on POST and PUT)."""
    return {**request.query_params, **dict(parse_qsl((await request.body()).decode()))}


def flag(params: Mapping[str, str], name: str) -> bool:
    """A yes-or-no parameter; clients also write it as Python does, `True`."""
    return params.get(name, "").lower() == "true"


def required(params: Mapping[str, str], name: str) -> str:
    """A parameter that must be there, in capitals, as symbols are written. Raises InvalidParameterError."""
    text = params.get(name, "").strip().upper()
    if not text:
        raise InvalidParameterError(name, "is required")
    return text


def number(params: Mapping[str, str], name: str, default: int) -> int:
    """A positive whole number. Raises InvalidParameterError."""
    text = params.get(name, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise InvalidParameterError(name, f"{text} is not valid")
    return int(text)


def day(params: Mapping[str, str], name: str) -> date | None:
    """A date written YYYY-MM-DD, None when absent. Raises InvalidParameterError."""
    text = params.get(name)
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise InvalidParameterError(name, f"{text} is not valid") from None


def minute(params: Mapping[str, str], name: str) -> datetime | None:
    """An instant written `YYYY-MM-DD HH:MM` in New York, None when absent. Raises InvalidParameterError."""
    text = params.get(name)
    try:
        return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK) if text else None
    except ValueError:
        raise InvalidParameterError(name, f"{text} is not valid") from None


def symbols(params: Mapping[str, str], name: str = "symbols") -> list[str]:
    """The symbols of a list with commas, each once, in capitals."""
    words = (word.strip().upper() for word in params.get(name, "").split(","))
    return list(dict.fromkeys(word for word in words if word))
