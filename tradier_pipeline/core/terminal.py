"""What other programs print, made fit for the terminal of `up`: a traceback becomes its last line."""

from __future__ import annotations

import re
from collections.abc import Iterator

BEGINS = ("Traceback (most recent call last):", "Stack Trace:")
_JOINT = re.compile(
    r"(The above exception was |During handling of the above|\[SQL: |\[parameters: |\(Background on this|>)"
)
_ERROR = re.compile(r"(?P<module>[A-Za-z_][\w.]*\.)?[A-Z]\w*(:.*)?")


class Condensed:
    """Lines in, lines out. A traceback is held back until it is over: a line that is no part of one, or `flush`."""

    def __init__(self) -> None:
        self._within = False
        self._error = ""

    def feed(self, line: str) -> Iterator[str]:
        """The lines to be shown once this one was printed."""
        if line.startswith(BEGINS):
            self._within = True
        elif not self._within:
            yield line
        elif not line.strip() or line[0].isspace() or _JOINT.match(line):
            pass
        elif _ERROR.fullmatch(line):
            self._error = line
        else:
            yield from self.flush()
            yield line

    def flush(self) -> Iterator[str]:
        """What was held back."""
        if self._error:
            yield self._error
        self._within, self._error = False, ""
