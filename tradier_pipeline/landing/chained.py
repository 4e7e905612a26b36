"""What the chain of an account is about: the records in its directory, whether their day is compacted or not."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tradier_pipeline.core import progress
from tradier_pipeline.core.files import file_sha256, read_file
from tradier_pipeline.landing.chain import CHAIN, LOCK, Chain, Head, Kind
from tradier_pipeline.landing.day import Archive, Day, is_partial
from tradier_pipeline.landing.errors import LandingError

_RECORD = re.compile(r"(?:.*/)?(?:quotes\.)?manifest\.json|[^/]*/[^/]*\.missed\.json")
_DAY = re.compile(r"(\d{4}-\d\d-\d\d)/(.+)", re.DOTALL)
_BESIDE = frozenset({CHAIN, LOCK, ".lock"})


@dataclass(frozen=True, slots=True)
class OwnFiles:
    """The files of an account, or those of the prices, by their names: paths relative to the directory."""

    directory: Path

    def plain(self) -> dict[str, Path]:
        """The files that are there, archives among them; not locks, nor what a process left that died."""
        found = {path.relative_to(self.directory).as_posix(): path for path in self.directory.rglob("*")}
        return {
            name: path
            for name, path in sorted(found.items())
            if path.name not in _BESIDE and not any(map(is_partial, name.split("/"))) and not path.is_dir()
        }

    def archives(self) -> dict[str, Path]:
        """The archives of compacted days."""
        found = sorted(self.directory.glob("????-??-??.zip"))
        return {path.name: path for path in found if path.is_file()}

    def read(self, name: str) -> bytes:
        """The bytes of a file, wherever it lies. Raises LandingError if it is missing or damaged."""
        of_day = _DAY.fullmatch(name)
        if of_day:
            return Day(self.directory / of_day[1]).read(of_day[2])
        path = self.directory / name
        try:
            return read_file(path)
        except OSError as error:
            raise LandingError(f"cannot read {path}: {error.strerror}", "Restore it from a backup.") from None

    def holds(self, name: str) -> bool:
        """Whether there is such a record, damaged or not, wherever it lies."""
        of_day = _DAY.fullmatch(name)
        return Day(self.directory / of_day[1]).holds(of_day[2]) if of_day else (self.directory / name).exists()

    def sha256(self, name: str) -> str | None:
        """Of a record that is there; None if there is none that can be read."""
        if name.endswith(".zip"):
            with suppress(OSError):
                return file_sha256(self.directory / name)
            return None
        with suppress(LandingError):
            return hashlib.sha256(self.read(name)).hexdigest()
        return None

    def forget(self, name: str) -> None:
        """Remove the bodies of quotes whose manifest was never filed: they come before it."""
        if name.endswith("/quotes.manifest.json"):
            for path in (self.directory / name).parent.glob("quotes*.json"):
                path.unlink(missing_ok=True)

    def existing(self) -> Iterator[tuple[Kind, str, str]]:
        """The records, by date and instant, and the archives after what they hold."""
        archives = self.archives()
        names = {name for name in self.plain() if _RECORD.fullmatch(name)}
        for file, path in archives.items():
            with suppress(Exception), Archive(path) as archive:  # a damaged one: what it held is in no line
                held = (f"{file.removesuffix('.zip')}/{name}" for name in archive.namelist())
                names |= {name for name in held if _RECORD.fullmatch(name)}
        for done, name in enumerate(sorted({*names, *archives}, key=_order)):
            progress.working(f"chaining what is landed of {self.directory.name}", done, len(names))
            if sha256 := self.sha256(name):
                yield "archived" if name in archives else "filed", name, sha256


def chain_of(directory: Path) -> Chain:
    """The chain of an account, or of the prices, by its directory in the landing zone."""
    return Chain(directory, OwnFiles(directory))


def chains_of(root: Path) -> list[Chain]:
    """The chains of a landing zone that have begun."""
    return [chain_of(path.parent) for path in sorted(root.glob(f"*/{CHAIN}")) if path.is_file()]


def heads(chains: Iterable[Chain]) -> dict[str, Head]:
    """Where each chain ends now, by its name; one whose last line is damaged has no head."""
    found = {chain.name: chain.head() for chain in chains}
    return {name: head for name, head in found.items() if head}


def is_record(name: str) -> bool:
    return _RECORD.fullmatch(name) is not None


def _order(name: str) -> tuple[str, str, str]:
    """By date; of an archive, and of what was read for a range of dates, after the last one. A snapshot's quotes follow
    it.
    """
    if of_day := _DAY.fullmatch(name):
        entry, _, file = of_day[2].partition("/")
        return of_day[1], f"0 {entry}", file
    if name.endswith(".zip"):
        return name.removesuffix(".zip"), "2", name
    dates = re.search(r"_(\d{4}-\d\d-\d\d)", name)
    return dates[1] if dates else "", "1", name
