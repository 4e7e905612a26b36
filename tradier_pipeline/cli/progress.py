"""Progress of long work: finished steps as lines, what is going on as one line on stderr that goes away."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from tradier_pipeline.cli import screen
from tradier_pipeline.cli.output import echo
from tradier_pipeline.core import progress
from tradier_pipeline.core.progress import Step, Working
from tradier_pipeline.core.texts import printable

if TYPE_CHECKING:
    from rich.progress import Progress


class _Line:
    """What is going on, in one line at the bottom of the terminal, with the seconds it has taken."""

    def __init__(self) -> None:
        self._live: Progress | None = None
        # Dagster sends the stderr of a step to a file of its own; this one stays the terminal's
        self._terminal = os.fdopen(os.dup(sys.stderr.fileno()), "w") if screen.is_terminal(sys.stderr) else None
        self._moves = screen.has_colours(sys.stderr)  # it can write over a line, and its user wants that

    def show(self, what: Working) -> None:
        if self._terminal is None:
            return
        if not self._moves:
            if what.urgent:
                self._terminal.write(f"{printable(what.text)}\n")
                self._terminal.flush()
            return
        self._live = self._live or _started(self._terminal)
        task = self._live.task_ids[0]
        self._live.update(task, description=printable(what.text), total=what.total, completed=what.done or 0)

    def close(self) -> None:
        self.clear()
        if self._terminal is not None:
            self._terminal.close()

    def clear(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _started(terminal: TextIO) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    live = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TimeElapsedColumn(),
        console=Console(file=terminal),
        transient=True,
        redirect_stdout=False,  # a line of stdout belongs there, also while this moves
        redirect_stderr=False,
    )
    live.add_task("", total=None)
    live.start()
    return live


@contextmanager
def shown(*, steps: bool = False) -> Iterator[Callable[[], None]]:
    """Show how far the work of the block is; with `steps` every finished step stays, a line on stdout.

    Yields what takes the moving line away, to be called before something else is printed.
    """
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
            yield line.clear
    finally:
        line.close()
