"""Texts that somebody else chose: how long one is stored, and how it is shown to a person."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

MAX_TEXT_CHARS = 1000
"""Of a text that is stored. Tradier documents 255 for the longest, a tag; its descriptions have fewer."""

# Without a sight of its own, although Python calls it printable: what Unicode says to ignore, and the blank of Braille.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_LONG = re.compile(rf'"[^"]{{{MAX_TEXT_CHARS},}}"')


def printable(text: str) -> str:
    """A text in one line that says what it is and does nothing: control, format, bidirectional and line-breaking
    characters, which a terminal or a page would obey, stand as escapes such as `\\x1b` and `\\u202e`; so do those that
    nobody sees, which make two texts look like one."""
    if text.isprintable() and (text.isascii() or not _UNSEEN.search(text)):
        return text
    return "".join(c if is_seen(c) else c.encode("unicode_escape").decode("ascii") for c in text)


def is_seen(character: str) -> bool:
    """Whether a character only shows itself."""
    return character.isprintable() and not _UNSEEN.match(character)


def may_have_long_texts(body: str) -> bool:
    """Whether a JSON body may hold a text of more than MAX_TEXT_CHARS: false for whatever the broker normally says."""
    return '\\"' in body or _LONG.search(body) is not None


def shortened(value: Any) -> Any:
    """A JSON value as it is stored: of a longer text its beginning, how long it was, and a digest, which tells it from
    others that begin so. The whole of it stays in the landed bytes."""
    if isinstance(value, str) and len(value) > MAX_TEXT_CHARS:
        digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return f"{value[:MAX_TEXT_CHARS]}... [{len(value)} characters, sha256 {digest}...]"
    if isinstance(value, dict):
        return {key: shortened(member) for key, member in value.items()}
    if isinstance(value, list):
        return [shortened(member) for member in value]
    return value


def long_texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The texts that `shortened` shortens: path without indexes, such as `orders.order.tag`, and text."""
    if isinstance(value, str) and len(value) > MAX_TEXT_CHARS:
        yield path, value
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from long_texts(member, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for member in value:
            yield from long_texts(member, path)
