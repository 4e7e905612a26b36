"""Where settings come from: which home, which `.env`, and what each of the environment and the file says."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from tradier_pipeline.core.dotenv import Dotenv, SetName, SettingsError, of_ours, read_dotenv

HOME = "pipeline_home"
STARTED_IN = "_TRADIER_STARTED_IN"  # set by `up` for what it starts elsewhere: where the user stands
DOTENV = ".env"
HOME_REMEDY = "Set it to a directory you may write to."

_HOME_FILES = ("tradier.duckdb", "ledger.sqlite", "dagster/dagster.yaml")  # of which any home that was used has one
_PROJECT = Path(__file__).absolute().parents[2]


@dataclass(frozen=True, slots=True)
class Sources:
    """What is configured, and where.

    Attributes:
        home: absolute.
        dotenv: the one file that is read; None if there is none.
        from_environment, from_file: field name (lower case, without TRADIER_) -> text, of what is not empty.
        notice: what the user ought to know of the home, in a sentence; "" if nothing.
        names: every name that is set in one of the files that were looked at, whosever it is.
    """

    home: Path
    dotenv: Path | None
    from_environment: Mapping[str, str]
    from_file: Mapping[str, str]
    notice: str = ""
    names: tuple[SetName, ...] = ()

    @property
    def values(self) -> dict[str, str]:
        """Field name -> text; the environment wins."""
        return {**self.from_file, **self.from_environment, HOME: str(self.home)}

    def of(self, field: str) -> str | None:
        """The source that decides a field: the environment or the path of the file; None if neither sets it."""
        if field in self.from_environment:
            return "the environment"
        return str(self.dotenv) if field in self.from_file else None

    def directory_of(self, field: str) -> Path:
        """Where a relative path starts: beside the `.env` that names it, else where the command was started."""
        in_file = self.dotenv is not None and field not in self.from_environment
        return self.dotenv.parent if self.dotenv is not None and in_file else started_in(os.environ)


def find_sources(environment: Mapping[str, str]) -> Sources:
    """Find the home and the `.env` beside the environment's variables.

    The home is TRADIER_PIPELINE_HOME (of the environment, else of the nearest `.env`, relative to that file), else the
    default one. The `.env` is the home's own; else the nearest from the working directory upwards; else the one beside
    the home, so that it is found wherever cron stands. Files that set nothing of ours are another project's.

    Raises:
        SettingsError: a file cannot be read, is somebody else's, or has a line of ours that cannot be understood.
    """
    given, here = of_ours(environment), started_in(environment)
    looked_at: list[Dotenv] = []
    nearest = _that_sets_ours(_upwards(here), looked_at)
    notice = ""
    if HOME in given:
        home = _absolute(given[HOME], here)
    elif nearest and HOME in nearest.ours:
        home = _absolute(nearest.ours[HOME], nearest.path.parent)
    else:
        home, notice = _default_home(here)
    found = _read(home / DOTENV, looked_at, own=True) or nearest or _that_sets_ours([home.parent / DOTENV], looked_at)
    names = tuple(set_ for one in looked_at for set_ in one.names)
    return Sources(home, found.path if found else None, given, found.ours if found else {}, notice, names)


def started_in(environment: Mapping[str, str]) -> Path:
    """The working directory of the command that was started, also in the processes that it has started.

    Raises:
        SettingsError: somebody has removed it.
    """
    try:
        return Path(environment.get(STARTED_IN) or Path.cwd())
    except FileNotFoundError:
        where = environment.get("PWD", "which the shell does not name")
        raise SettingsError(f"the working directory, {where}, was removed", "Change to one that there is.") from None


def default_home() -> Path:
    """The home where none is set, the same wherever the command is started: `data` of a checkout, else the user's."""
    if (_PROJECT / "pyproject.toml").exists():
        return _PROJECT / "data"
    shared = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return _absolute(f"{shared}/tradier-pipeline", Path("/"))


def open_to_others(path: Path | None) -> str:
    """What to tell of a home or a `.env` that every user of the machine can read, with the command that mends it."""
    if path is None or not path.exists():
        return ""
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & stat.S_IRWXO:
        return ""
    recursive = "-R " if path.is_dir() else ""
    return (
        f"{path} is open to every user of this machine (mode {mode:04o}): `chmod {recursive}go-rwx {quote(str(path))}`"
    )


def _default_home(working_directory: Path) -> tuple[Path, str]:
    """The default home, or the one that an earlier version has made in the working directory; and what to say."""
    default, earlier = default_home(), working_directory / "data"
    if earlier == default or not any((earlier / name).exists() for name in _HOME_FILES):
        return default, ""
    refuse_strangers(earlier)
    return earlier, (
        f"the home is {earlier}, because there is one in the working directory; from elsewhere it would be {default}. "
        f"Set TRADIER_PIPELINE_HOME={earlier}"
    )


def _upwards(directory: Path) -> Iterator[Path]:
    return (one / DOTENV for one in (directory, *directory.parents))


def _that_sets_ours(paths: Iterable[Path], looked_at: list[Dotenv]) -> Dotenv | None:
    for path in paths:
        if (found := _read(path, looked_at)) and found.ours:
            return found
    return None


def _read(path: Path, looked_at: list[Dotenv], *, own: bool = False) -> Dotenv | None:
    known = next((one for one in looked_at if one.path == path), None)
    if known is None and (known := read_dotenv(path, own=own)) is not None:
        looked_at.append(known)
        if known.ours:
            refuse_strangers(path)
    return known


def refuse_strangers(path: Path) -> None:
    """Raise SettingsError if a file or home that was only found, not named, is another user's."""
    owner, us = path.stat().st_uid, os.geteuid()
    if us not in (0, owner) and owner != 0:
        raise SettingsError(
            f"{path} belongs to another user", "Remove it, or set TRADIER_PIPELINE_HOME and work there."
        )


def _absolute(text: str, beside: Path) -> Path:
    try:
        return Path(os.path.abspath(beside / Path(text).expanduser()))  # noqa: PTH100 - without following links
    except RuntimeError:
        raise SettingsError("TRADIER_PIPELINE_HOME is malformed", HOME_REMEDY) from None
