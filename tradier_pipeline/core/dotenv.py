"""A `.env` file: what it sets of ours, and every name that it sets. No line of ours is passed over in silence."""

from __future__ import annotations

import re
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from io import StringIO
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.texts import printable

PREFIX = "tradier_"
# of the shell completion, the tests and the command that `watch` calls
OTHERS = frozenset({"tradier_watch_reason", "tradier_test_browser", "tradier_test_s3", "tradier_test_down_s"})
_NEAR, _VERY_NEAR = 0.85, 0.9  # as difflib measures it, of names that begin alike
_TEXTS = frozenset({"tradier_tokens"})  # whose values may have several lines
_A_LINE_OF_OURS = re.compile(r"\n\s*(export\s+)?tradier_\w+\s*=", re.IGNORECASE)


class SettingsError(PipelineError):
    """A setting is missing or malformed."""


@dataclass(frozen=True, slots=True)
class SetName:
    """A name as a file sets it, and the line. Of the environment there is neither."""

    name: str
    path: Path | None = None
    line: int = 0

    @property
    def place(self) -> str:
        return f"line {self.line} of {self.path}" if self.path else "the environment"


@dataclass(frozen=True, slots=True)
class Dotenv:
    """A file that was read.

    Attributes:
        ours: field name (lower case, without TRADIER_) -> text, of what is not empty.
        names: every name that is set, also those of other programs.
    """

    path: Path
    ours: Mapping[str, str]
    names: tuple[SetName, ...]


def read_dotenv(path: Path, *, own: bool = False) -> Dotenv | None:
    """Read a file; None if there is none. A value is text: `${NAME}` in it is not replaced by other variables.

    Args:
        own: it is the one of the home. Elsewhere a directory of that name with something in it is somebody's Python.

    Raises:
        SettingsError: it cannot be read, is no file, or has a line of ours that cannot be understood or that another
            one contradicts.
    """
    try:
        if not _is_file(path, own=own):
            return None
        bindings = list(parse_stream(StringIO(path.read_text(encoding="utf-8-sig"))))  # Windows begins it with a mark
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"{path} cannot be read: {reason}", "Correct it or remove it.") from None
    for binding in bindings:
        if _is_malformed(binding):
            raise SettingsError(f"line {_line(binding)} of {path} is malformed", "Write NAME=value.")
    _refuse_contradictions(path, bindings)
    names = tuple(SetName(one.key, path, _line(one)) for one in bindings if one.key)
    return Dotenv(path, of_ours({one.key: one.value for one in bindings if one.key and one.value}), names)


def unknown_names(names: Iterable[SetName], fields: Collection[str]) -> tuple[str, ...]:
    """What to tell of names that look like ours and are none, each in a sentence, with the nearest one that is.

    Args:
        names: those that are set.
        fields: those that there are, in lower case and without TRADIER_.
    """
    known = {f"{PREFIX}{field}" for field in fields}
    listed = []
    for one in names:
        name = one.name.lower()
        near = get_close_matches(name.replace("-", "_"), known, 1, _NEAR if one.path else _VERY_NEAR)
        # other programs share the environment, and may begin their names like ours
        if name in known or name in OTHERS or not (near or (one.path and name.startswith(PREFIX))):
            continue
        hint = f"; the nearest one is {near[0].upper()}" if near else ""
        listed.append(f"{printable(one.name)} in {one.place} is no setting and has no effect{hint}")
    return tuple(listed)


def of_ours(variables: Mapping[str, str]) -> dict[str, str]:
    """Field name -> text, of the variables that are ours and not empty."""
    named = {name.lower(): value for name, value in variables.items()}
    return {name.removeprefix(PREFIX): value for name, value in named.items() if name.startswith(PREFIX) and value}


def _is_file(path: Path, *, own: bool) -> bool:
    """Whether there is a file to read. What is none is named: without it the simulator would be read, or no limit."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if not path.is_symlink():
            return False
        raise SettingsError(f"{path} is a link to nothing", "Correct it or remove it.") from None
    except NotADirectoryError:
        return False
    if stat.S_ISREG(mode):
        return True
    if stat.S_ISDIR(mode) and not own and any(path.iterdir()):
        return False
    kind = "a directory" if stat.S_ISDIR(mode) else "no file"
    raise SettingsError(f"{path} is {kind}", "Put a file of lines NAME=value there, or remove it.")


def _is_malformed(binding: Binding) -> bool:
    if binding.key is None:
        return binding.error and PREFIX in binding.original.string.lower()
    value, name = binding.value, binding.key.lower()
    if value is None:
        return name.startswith(PREFIX)
    # a quote that was not closed where it should be takes the lines below it into the value
    swallows = _A_LINE_OF_OURS.search(value) is not None
    return swallows or ("\n" in value and name.startswith(PREFIX) and name not in _TEXTS)


def _refuse_contradictions(path: Path, bindings: list[Binding]) -> None:
    before: dict[str, Binding] = {}
    for binding in bindings:
        name = (binding.key or "").lower()
        if not name.startswith(PREFIX):
            continue
        other = before.setdefault(name, binding)
        if other.value != binding.value:
            raise SettingsError(
                f"{name.upper()} is set otherwise in line {_line(other)} of {path} than in line {_line(binding)}",
                "Keep one of them.",
            )


def _line(binding: Binding) -> int:
    """Of the name itself: the parser counts empty lines before it to it."""
    text = binding.original.string
    return int(binding.original.line) + text[: len(text) - len(text.lstrip())].count("\n")
