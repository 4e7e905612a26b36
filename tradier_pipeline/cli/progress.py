"""Progress of long work: finished steps as lines, what is going on as one line on stderr that goes away."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from tradier_pipeline.cli import screen
from tradier_pipeline.cli.output import echo
from tradier_pipeline.core import progress
from tradier_pipeline.core.progress import Step, Working
from tradier_pipeline.core.texts import printable

QUIET_S = 0.5  # what takes less needs no line


class _Line:
    """The one line on stderr that is written over."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._drawn = False
        self._shows = screen.has_colours(sys.stderr)  # a terminal that can write over a line

    def show(self, what: Working) -> None:
        if not self._shows or (time.monotonic() - self._began < QUIET_S and not what.urgent):
            return
        told = printable(what.text)
        if what.total:
            done = 20 * (what.done or 0) // what.total
            told = f"[{'#' * done}{'.' * (20 - done)}] {what.done:,} of {what.total:,}  {told}"
        room = screen.width() - 1
        click.echo(f"\r\x1b[K{told[:room]}", err=True, nl=False)
        self._drawn = True

    def clear(self) -> None:
        if self._drawn:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._drawn = False


@contextmanager
def shown(*, steps: bool = False) -> Iterator[None]:
    """Show how far the work of the block is; with `steps` every finished step stays, a line on stdout."""
    line = _Line()

    def listen(event: Step | Working) -> None:
        if isinstance(event, Working):
            line.show(event)
            return
        line.clear()
        if steps:
            echo(f"{event.name:<10} {event.text:<58}{event.seconds:>8.1f} s", flush=True)

    try:
        with progress.listening(listen):
            yield
    finally:
        line.clear()
