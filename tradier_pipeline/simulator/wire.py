"""How values are written on the wire: exact number literals, the broker's empty forms, and its default XML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from json.encoder import encode_basestring_ascii
from typing import TypeAlias
from xml.sax.saxutils import escape

Json: TypeAlias = "bool | int | Decimal | str | Sequence[Json] | Mapping[str, Json] | None"


def dumps(value: Json) -> str:
    """JSON text in which every Decimal keeps its exact literal (`1.00000000`, `0E-8`); nothing passes through float."""
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    if isinstance(value, Decimal):
        return str(value if value else value.copy_abs())
    if value is None or isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, Mapping):
        return "{" + ",".join([f'"{key}":{dumps(item)}' for key, item in value.items()]) + "}"
    return "[" + ",".join([dumps(item) for item in value]) + "]"


def loads(text: str | bytes) -> Json:
    """JSON with every fractional number as the Decimal of its literal."""
    parsed: Json = json.loads(text, parse_float=Decimal)
    return parsed


def xml(value: Mapping[str, Json]) -> str:
    """The same document as XML, which is what Tradier answers without `Accept: application/json`."""
    return '<?xml version="1.0" encoding="UTF-8"?>' + "".join(_element(key, item) for key, item in value.items())


def _element(name: str, value: Json) -> str:
    if isinstance(value, Mapping):
        inner = "".join(_element(key, item) for key, item in value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str):
        return "".join(_element(name, item) for item in value)
    else:
        inner = escape(value) if isinstance(value, str) else dumps(value)
    return f"<{name}>{inner}</{name}>"


def listing(outer: str, inner: str, rows: Sequence[Json]) -> dict[str, Json]:
    """A list endpoint's envelope (Tradier: the string "null" for none, a bare object for one, an array for many)."""
    return {outer: {inner: rows[0] if len(rows) == 1 else rows} if rows else "null"}


def places(number: Decimal, count: int) -> Decimal:
    """The same number written with `count` decimal places (Tradier: 17798.360000000000000000000000)."""
    return Decimal(f"{number:.{count}f}")


def milliseconds(at: datetime) -> str:
    """Tradier: `2018-08-08T14:41:11.405Z`."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
