"""From the bytes of an answer to the rows of a resource. Pure: no clock, no network.

Absence is not emptiness: only the empty forms Tradier is known to send, under the documented key of a JSON object,
mean "none". Everything else raises.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, cast

from tradier_pipeline.broker.errors import (
    AccountRefusedError,
    AuthError,
    BodyError,
    BrokerError,
    FaultError,
    RateLimitError,
    RefusedError,
    UnavailableError,
    excerpt,
)
from tradier_pipeline.core.texts import may_have_long_texts, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

BODY_LIMIT = 32 * 1024 * 1024
"""Bytes. The largest documented answers (1500 orders with legs) are about 2 MB."""

_DEPTH_LIMIT = 32  # the deepest documented body, an order's legs, has 6 levels
_EXPONENT_LIMIT = 100  # far beyond any money; keeps 1e999999 from being expanded later
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")

ObjectResource = Literal["account", "balances", "order", "clock", "stream"]
ListResource = Literal[
    "account",
    "positions",
    "orders",
    "quotes",
    "history",
    "gainloss",
    "historical_balances",
    "calendar",
    "prices",
    "dividends",
]

_OBJECT_KEYS: Mapping[ObjectResource, str] = {
    "account": "profile",
    "balances": "balances",
    "order": "order",
    "clock": "clock",
    "stream": "stream",
}


@dataclass(frozen=True, slots=True)
class _ListShape:
    container: tuple[str, ...]
    row: str
    may_be_empty: bool = True


_LIST_SHAPES: Mapping[ListResource, _ListShape] = {
    "account": _ListShape(("profile",), "account", may_be_empty=False),
    "positions": _ListShape(("positions",), "position"),
    "orders": _ListShape(("orders",), "order"),
    "quotes": _ListShape(("quotes",), "quote"),
    "history": _ListShape(("history",), "event"),
    "gainloss": _ListShape(("gainloss",), "closed_position"),
    "historical_balances": _ListShape((), "balances"),
    "calendar": _ListShape(("calendar", "days"), "day"),
    "prices": _ListShape(("history",), "day"),
    "dividends": _ListShape((), "dividends"),
}
_BARE_LISTS = frozenset({"dividends"})  # Tradier: fundamentals are an array, an element for each symbol


def parse_json(body: bytes, resource: str, *, limit: int = BODY_LIMIT) -> dict[str, Any]:
    """Decode a body strictly: UTF-8, one JSON object, no duplicate keys, no NaN.

    An array that is the whole body of a resource becomes a member of the resource's name.
    Fractional numbers become exact `Decimal`s, integers stay `int`. A text of more than 1,000 characters is shortened.

    Raises:
        BodyError: with `transient` set when the bytes are not JSON at all (a gateway's page, a truncated body).
    """
    if len(body) > limit:
        raise BodyError(resource, f"the body has {len(body)} bytes, more than the limit of {limit}")
    if not body.strip():
        raise BodyError(resource, "the body is empty", transient=True)
    if _is_html(body):
        raise BodyError(resource, "the body is an HTML page, not JSON", transient=True)
    try:
        text = body.decode("utf-8")
        document = json.loads(
            text, parse_float=_decimal, parse_constant=_reject_constant, object_pairs_hook=_unique_keys
        )
    except UnicodeDecodeError:
        raise BodyError(resource, f"the body is not UTF-8: {excerpt(body)}", transient=True) from None
    except json.JSONDecodeError as error:
        raise BodyError(
            resource, f"the body is not JSON (at character {error.pos} of {len(body)}): {excerpt(body)}", transient=True
        ) from None
    except RecursionError:
        raise BodyError(resource, "the body is nested too deeply") from None
    except ValueError as error:  # ours, and Python's limit on the digits of an integer
        raise BodyError(resource, f"the body is not acceptable JSON: {excerpt(str(error))}") from None
    if resource in _BARE_LISTS and isinstance(document, list):
        document = {resource: document}
    if not isinstance(document, dict):
        raise BodyError(resource, f"the body is not a JSON object: {excerpt(body)}", transient=True)
    if _deeper_than(document, _DEPTH_LIMIT):
        raise BodyError(resource, "the body is nested too deeply")
    if _SURROGATE_ESCAPE.search(text):
        _reject_lone_surrogates(document, resource)
    if may_have_long_texts(text):
        return {key: shortened(member) for key, member in document.items()}
    return document


def one(resource: ObjectResource, document: Mapping[str, Any]) -> dict[str, Any]:
    """The object of a resource that has exactly one: the profile, the balances, an order, the clock, a stream.

    These have no empty form: Tradier documents none, and an account without balances is not an account.

    Raises:
        AuthError, RefusedError, FaultError: the document is an `errors` or a `fault` body.
        BodyError: the expected key is missing or is not an object.
    """
    raise_for_document(resource, document)
    key = _OBJECT_KEYS[resource]
    value = _member(resource, document, (), key)
    if not isinstance(value, dict):
        raise BodyError(resource, f"is {_kind(value)}, expected an object", path=key)
    if resource == "account":
        _rows(resource, document)
    return value


def rows(resource: ListResource, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a list resource. For "account": the accounts of the profile, at least one.

    Tradier: none is the string "null" (accepted as well: null, {}, {"<row>": null}, {"<row>": []}), one is a bare
    object, several are an array. A quotes answer may hold only `unmatched_symbols`.

    Raises:
        AuthError, RefusedError, FaultError: the document is an `errors` or a `fault` body.
        BodyError: anything else, with the path of the offending part.
    """
    raise_for_document(resource, document)
    return _rows(resource, document)


def unmatched_symbols(document: Mapping[str, Any]) -> list[str]:
    """The symbols of a quotes answer that the broker does not know."""
    quotes = _member("quotes", document, (), "quotes")
    unmatched = quotes.get("unmatched_symbols") if isinstance(quotes, dict) else None
    if unmatched is None or unmatched == "null":
        return []
    symbols = unmatched.get("symbol") if isinstance(unmatched, dict) else unmatched
    listed: list[Any] = symbols if isinstance(symbols, list) else [symbols]
    if not all(isinstance(symbol, str) for symbol in listed):
        raise BodyError("quotes", "is not a list of symbols", path="quotes.unmatched_symbols")
    return listed


def raise_for_document(resource: str, document: Mapping[str, Any]) -> None:
    """Raise if a JSON answer is not data but an `errors` or a `fault` body. Tradier sends both with status 200, too."""
    if "errors" in document:
        raise RefusedError(resource, f"the broker answered with errors: {_error_text(document['errors'])}", _REFUSED)
    if "fault" in document:
        raise _fault(resource, document["fault"])


def decode_answer(
    resource: str, status: int, headers: Mapping[str, str], body: bytes, *, now: datetime, limit: int = BODY_LIMIT
) -> dict[str, Any]:
    """The document of an answer that is complete for the resource (see `one` and `rows`).

    Args:
        headers: response headers with lower-case names.
        now: when the answer arrived, for a rate limit's expiry if the answer has no Date.

    Raises:
        BrokerError: any other answer; `transient` says whether reading again may help.
    """
    text = body[:1000].decode("utf-8", "replace").strip()
    if status == HTTPStatus.TOO_MANY_REQUESTS or text.startswith("Quota Violation"):
        raise _rate_limit(resource, status, headers, text, now)
    if status == HTTPStatus.OK:
        document = parse_json(body, resource, limit=limit)
        if resource in _OBJECT_KEYS:
            one(cast(ObjectResource, resource), document)
        else:
            rows(cast(ListResource, resource), document)
        return document
    error = _http_error(resource, status, headers, text, body)
    clock = http_date(headers.get("date", "")) or now
    if retry_at := _retry_after(headers.get("retry-after", ""), clock):
        error.wait = max(0.0, (retry_at - clock).total_seconds())
    raise error


# --- JSON -----------------------------------------------------------------------------------------------------------


def _decimal(literal: str) -> Decimal:
    try:
        value = Decimal(literal)
    except InvalidOperation:
        raise ValueError("a number is out of range") from None
    if abs(value.adjusted()) > _EXPONENT_LIMIT:
        raise ValueError("a number is out of range")
    return value


def _reject_constant(literal: str) -> Any:
    raise ValueError(f"{literal} is not a JSON number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {twice} appears twice in one object")
    return members


def _deeper_than(document: Any, limit: int) -> bool:
    level = [document]
    for _ in range(limit):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _reject_lone_surrogates(document: dict[str, Any], resource: str) -> None:
    # JSON can escape half a character; no file or database could store that text.
    try:
        json.dumps(document, ensure_ascii=False, default=str).encode("utf-8")
    except UnicodeEncodeError:
        raise BodyError(resource, "the body contains half of a surrogate pair") from None


def _is_html(body: bytes) -> bool:
    return body.lstrip()[:1] == b"<"


# --- shapes ---------------------------------------------------------------------------------------------------------


def _rows(resource: ListResource, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    shape = _LIST_SHAPES[resource]
    container: Any = document
    for depth, key in enumerate(shape.container):
        container = _member(resource, container, shape.container[:depth], key)
    path = ".".join(shape.container)
    if shape.container and container in ("null", None, {}):
        return _none(resource, shape, path)
    if not isinstance(container, dict):
        raise BodyError(resource, f"is {_kind(container)}, expected an object", path=path)
    if resource == "quotes" and "quote" not in container and "unmatched_symbols" in container:
        return []
    value = _member(resource, container, shape.container, shape.row)
    path = ".".join((*shape.container, shape.row))
    if value is None or value == [] or (not shape.container and value in ("null", {})):
        return _none(resource, shape, path)
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list):
        raise BodyError(resource, f"is {_kind(value)}, expected an object or an array", path=path)
    for index, row in enumerate(value):
        if not isinstance(row, dict):
            raise BodyError(resource, f"is {_kind(row)}, expected an object", path=f"{path}[{index}]")
    return value


def _none(resource: str, shape: _ListShape, path: str) -> list[dict[str, Any]]:
    if shape.may_be_empty:
        return []
    raise BodyError(resource, "is empty", path=path)


def _member(resource: str, parent: Any, parent_path: tuple[str, ...], key: str) -> Any:
    if isinstance(parent, dict) and key in parent:
        return parent[key]
    found = f"has {_names(parent)}" if isinstance(parent, dict) else f"is {_kind(parent)}"
    raise BodyError(resource, f"is missing: its parent {found}", path=".".join((*parent_path, key)))


def _names(parent: dict[str, Any]) -> str:
    return f"only {excerpt(', '.join(parent))}" if parent else "no members"


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return f"the text {excerpt(value)}"
        case dict():
            return "an object"
        case list():
            return "an array"
        case _:
            return "a number"


# --- refusals -------------------------------------------------------------------------------------------------------

_CREDENTIAL = "Check that TRADIER_ACCESS_TOKEN is valid and belongs to the environment named by TRADIER_ENV."
_INACTIVE = (
    "Look at the account at the broker: it answers so where the account is not active or not funded, or API access is "
    "not enabled for it, even to a valid token; if all that is well, set TRADIER_ACCESS_TOKEN to a new one."
)
_REFUSED = "Correct what the broker names; the request was not repeated."
_LATER = "The next snapshot tries again."
_WRONG_TOKEN = re.compile(r"(invalid|expired).{0,20}access.?token|access.?token.{0,20}(invalid|expired)", re.IGNORECASE)
_NOT_APPROVED = re.compile(r"access[ _]token[ _]not[ _]approved", re.IGNORECASE)
_UNAUTHORIZED_ACCOUNT = re.compile(r"Unauthorized Account:?\s*(\S*)", re.IGNORECASE)


def _error_text(errors: Any) -> str:
    listed = errors.get("error", errors) if isinstance(errors, dict) else errors
    return excerpt("; ".join(str(item) for item in listed) if isinstance(listed, list) else str(listed))


def _fault(resource: str, fault: Any) -> BrokerError:
    detail = fault.get("detail") if isinstance(fault, dict) else None
    code = str(detail.get("errorcode", "")) if isinstance(detail, dict) else ""
    text = str(fault.get("faultstring", "")) if isinstance(fault, dict) else str(fault)
    what = f"the broker's gateway answered with the fault {excerpt(f'{text} ({code})' if code else text)}"
    if _NOT_APPROVED.search(f"{code} {text}"):
        return AuthError(resource, what, _INACTIVE)
    if code.startswith(("keymanagement.", "oauth.")) or _WRONG_TOKEN.search(f"{code} {text}"):
        return AuthError(resource, what, _CREDENTIAL)
    too_big = code == "protocol.http.TooBigBody"  # the same request gets the same answer
    return FaultError(resource, what, _REFUSED if too_big else _LATER, transient=not too_big, code=code)


def _http_error(resource: str, status: int, headers: Mapping[str, str], text: str, body: bytes) -> BrokerError:
    fault = _fault_of(resource, body)
    if isinstance(fault, AuthError):
        return fault
    if (
        status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
        or _WRONG_TOKEN.search(text)
        or _NOT_APPROVED.search(text)
    ):
        return _auth_error(resource, status, text)
    if fault is not None:
        return fault
    what = _response_text(status, text)
    if 300 <= status < 400:
        host = re.sub(r"^(\w+:)?//|[/?#].*$", "", headers.get("location", "")).rpartition("@")[2]
        return RefusedError(
            resource,
            f"HTTP {_status(status)} redirects to {excerpt(host)}, and redirects are not followed",
            "Set TRADIER_BASE_URL to the host that answers itself.",
        )
    # Tradier: 404 is sometimes temporary. Every 5xx is: 520 and 530 come from the content network before the broker.
    if status == HTTPStatus.NOT_FOUND:
        return UnavailableError(resource, what, "If it repeats, check TRADIER_BASE_URL.", transient=True)
    if status >= 500:
        return UnavailableError(resource, what, _LATER, transient=True)
    return RefusedError(resource, what, _REFUSED)


def _fault_of(resource: str, body: bytes) -> BrokerError | None:
    try:
        raise_for_document(resource, parse_json(body, resource))
    except (AuthError, FaultError) as error:
        return error
    except BrokerError:
        return None
    return None


def _auth_error(resource: str, status: int, text: str) -> AuthError:
    account = _UNAUTHORIZED_ACCOUNT.match(text)
    if account is None:
        return AuthError(
            resource, _response_text(status, text), _INACTIVE if _NOT_APPROVED.search(text) else _CREDENTIAL
        )
    return AccountRefusedError(
        resource,
        f"HTTP {_status(status)}: the access token does not give access to the account {excerpt(account[1])}"
        # Tradier: an unknown order id gets the same answer as a foreign account.
        + (" or the order does not exist" if resource == "order" else ""),
        "Check TRADIER_ACCOUNT_ID against the accounts of TRADIER_ACCESS_TOKEN, and TRADIER_ENV.",
    )


def _rate_limit(resource: str, status: int, headers: Mapping[str, str], text: str, now: datetime) -> RateLimitError:
    what = f"HTTP {_status(status)}, the request limit is used up"
    # Expiry and Date come from one clock and the local one may be off: use their difference.
    clock = http_date(headers.get("date", "")) or now
    retry_at = (
        epoch(headers.get("x-ratelimit-expiry", ""))
        or _retry_after(headers.get("retry-after", ""), clock)
        or (epoch(text.split()[-1]) if text.startswith("Quota Violation") else None)
    )
    wait = max(0.0, (retry_at - clock).total_seconds()) if retry_at else None
    return RateLimitError(resource, what, retry_at=retry_at, wait=wait)


def epoch(text: str) -> datetime | None:
    """Tradier: documented as milliseconds, read as seconds by clients in use; above 1e11 it is milliseconds."""
    if not re.fullmatch(r"[0-9]{9,13}", text):
        return None
    number = int(text)
    return datetime.fromtimestamp(number / 1000 if number > 1e11 else number, UTC)


def _retry_after(text: str, clock: datetime) -> datetime | None:
    if re.fullmatch(r"[0-9]{1,20}", text):
        return clock + min(timedelta(days=365), timedelta(seconds=min(int(text), 10**9)))
    return http_date(text)


def http_date(text: str) -> datetime | None:
    """The instant of a Date header; None if it is none."""
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date.astimezone(UTC) if date.tzinfo else None


def _response_text(status: int, text: str) -> str:
    quoted = "" if not text else " with an HTML page" if text.startswith("<") else f": {excerpt(text)}"
    return f"HTTP {_status(status)}{quoted}"


def _status(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:  # the content network's own, e.g. 520
        return str(status)
