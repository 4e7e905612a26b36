"""Cases of which `make test` takes a few and `make soak` all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pytest


def sampled(
    names: str, cases: Sequence[Any], kept: Collection[int] = (0,), indirect: Sequence[str] = ()
) -> pytest.MarkDecorator:
    """`pytest.mark.parametrize`, but that the cases at places that are not kept are for the soak.

    Args:
        names: the argument, or several with commas between them; then each case is a tuple.
        kept: places of cases, each of which takes a path of its own; the others take the same with other values.
        indirect: those of the names that are fixtures.
    """
    wide = "," in names
    values = [case if wide else (case,) for case in cases]
    marks = [() if place in kept else (pytest.mark.soak,) for place in range(len(cases))]
    return pytest.mark.parametrize(
        names,
        [pytest.param(*value, marks=marked) for value, marked in zip(values, marks, strict=True)],
        indirect=indirect,
    )


def thinned(cases: Sequence[Any], step: int) -> list[Any]:
    """Cases for `pytest.mark.parametrize`: every so many, from the first one on; the others are for the soak."""
    return [
        case if place % step == 0 else pytest.param(*case.values, id=case.id, marks=pytest.mark.soak)
        for place, case in enumerate(cases)
    ]
