"""How values look on a screen: dollars with thousands, New York time, colours where the terminal has them."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TextIO

import click

from tradier_pipeline import clock
from tradier_pipeline.core.outcome import shown
from tradier_pipeline.core.texts import printable

CENT = Decimal("0.01")
COLUMNS, LINES = 80, 24  # of a terminal that does not say


def money(amount: Decimal | None, *, sign: bool = False) -> str:
    """USD with thousands and cents; a hyphen where there is none. Below a dollar, parts of a cent are kept."""
    if amount is None:
        return "-"
    parts = abs(amount) < 1 and round(amount, 4) != round(amount, 2)
    text = f"{round(amount, 4 if parts else 2):{'+' if sign else ''},.{4 if parts else 2}f}"
    text = text.rstrip("0") if parts else text
    return text.replace("-", "") if not Decimal(text.replace(",", "")) and not sign else text


def quantity(amount: Decimal | None) -> str:
    """Shares or contracts without the zeros of the exact value."""
    return "-" if amount is None else shown(amount)


def when(instant: datetime | None, *, seconds: bool = True) -> str:
    """An instant in New York's time."""
    if instant is None:
        return "-"
    return f"{instant.astimezone(clock.NEW_YORK):{'%Y-%m-%d %H:%M:%S' if seconds else '%Y-%m-%d %H:%M'}}"


def since(instant: datetime, now: datetime) -> str:
    """An earlier instant beside a later one: the time alone, if it is of the same New York date."""
    earlier, later = instant.astimezone(clock.NEW_YORK), now.astimezone(clock.NEW_YORK)
    return f"{earlier:%H:%M:%S}" if earlier.date() == later.date() else f"{earlier:%Y-%m-%d %H:%M}"


def day(value: date) -> str:
    return f"{value:%b %d}" if value.year == clock.trade_date(clock.now()).year else value.isoformat()


def plural(count: int, one: str, several: str = "") -> str:
    """`1 row`, `2 rows`, `no rows`."""
    return f"{f'{count:,}' if count else 'no'} {one if count == 1 else several or f'{one}s'}"


def path(of: Path) -> str:
    """A path as short as it can be typed: from here, or from the user's home."""
    for start, name in ((Path.cwd(), ""), (Path.home(), "~/")):
        if of.is_relative_to(start) and of != start:
            return f"{name}{of.relative_to(start)}"
    return str(of)


def command() -> str:
    """The command as it must be typed here."""
    return "tradier-pipeline" if shutil.which("tradier-pipeline") else os.path.relpath(sys.argv[0])


def wrapped(text: str, stream: TextIO | None = None, *, indent: str = "") -> list[str]:
    """A text in lines of the terminal's width, all but the first indented, in whole words; elsewhere one line."""
    return textwrap.wrap(
        printable(text),
        max(width(stream), len(indent) + 1) if is_terminal(stream) else sys.maxsize,
        subsequent_indent=indent,
        break_long_words=False,  # a path or a command is copied whole
        break_on_hyphens=False,
    ) or [""]


def is_terminal(stream: object = None) -> bool:
    return bool(getattr(stream or sys.stdout, "isatty", lambda: False)())


def has_colours(stream: object = None) -> bool:
    """Whether a stream is a terminal that shows colours, and its user wants them."""
    return is_terminal(stream) and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


def width(stream: TextIO | None = None) -> int:
    """The columns of the terminal that a stream is, which need not be the terminal of stdout."""
    if stream is not None and is_terminal(stream) and "COLUMNS" not in os.environ:
        return os.get_terminal_size(stream.fileno()).columns or COLUMNS
    return shutil.get_terminal_size((COLUMNS, LINES)).columns


def lines() -> int:
    return shutil.get_terminal_size((COLUMNS, LINES)).lines


def coloured(text: str, amount: Decimal | float | None) -> str:
    """Green above zero, red below, where there are colours."""
    if not amount or not has_colours():
        return text
    return click.style(text, fg="green" if amount > 0 else "red")


def dim(text: str) -> str:
    return click.style(text, dim=True) if has_colours() else text


def bold(text: str) -> str:
    return click.style(text, bold=True) if has_colours() else text
