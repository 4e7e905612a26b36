"""Python's garbage collector beside some hundred thousand objects that were imported and live for ever.

It goes through all of them many times while Dagster is imported, and once more when the interpreter ends: a quarter of
the processor time of a short run.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Collect nothing, for a short while in which much is imported; then all of it counts as old.

    A collector that the caller had switched off stays off.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        with sparing():  # into the oldest generation, without going through it
            pass
        gc.enable()


@contextmanager
def sparing() -> Iterator[None]:
    """Collect only what is made from now on. What the caller had frozen before stays frozen."""
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def skip_at_exit() -> None:
    """For a process of our own: its end frees everything, there is nothing to look for first."""
    atexit.register(gc.freeze)
