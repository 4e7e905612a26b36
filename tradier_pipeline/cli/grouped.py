"""Findings of one kind as one: five shares without a trade are a line with five names."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import takewhile
from typing import TypeVar

T = TypeVar("T")

STEM_WORDS = 2  # that several texts must begin with to be reported as one


def grouped(rows: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """Rows with the same key together, in the order of the first of each."""
    groups: dict[Hashable, list[T]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.values())


def joined(texts: Sequence[str]) -> str:
    """Several texts as one: what they begin with once, then what each goes on with."""
    different = list(dict.fromkeys(texts))
    if len(different) == 1:
        return different[0]
    words = [text.split(" ") for text in different]
    common = list(takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False)))
    if len(common) < STEM_WORDS or any(len(one) == len(common) for one in words):
        return "; ".join(different)
    stem = " ".join(column[0] for column in common)
    return f"{stem} {', '.join(' '.join(one[len(common) :]) for one in words)}"
