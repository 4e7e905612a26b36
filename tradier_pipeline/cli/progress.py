"""Progress of long work: finished steps as lines, what is going on as one line on stderr that goes away."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tradier_pipeline.cli import screen
from tradier_pipeline.cli.output import echo, warn
from tradier_pipeline.core import progress
from tradier_pipeline.core.progress import Step, Working
from tradier_pipeline.core.texts import printable

if TYPE_CHECKING:
    from rich.progress import Progress


class _Line:
    """What is going on, in one line at the bottom of the terminal, with the seconds it has taken."""

    def __init__(self) -> None:
        self._live: Progress | None = None
        self._moves = screen.has_colours(sys.stderr)  # a terminal that can write over a line, and whose user wants it

    def show(self, what: Working) -> None:
        if not self._moves:
            if what.urgent and screen.is_terminal(sys.stderr):
                warn(what.text)
            return
        self._live = self._live or _started()
        task = self._live.task_ids[0]
        self._live.update(task, description=printable(what.text), total=what.total, completed=what.done or 0)

    def clear(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _started() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    live = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TimeElapsedColumn(),
        console=Console(stderr=True),
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
        line.clear()
