"""The landing zone beside its chains: every byte that is not as it was filed is named with its place.

Nothing is asked and nothing written but lock files, which are no part of the history.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tradier_pipeline.core import progress
from tradier_pipeline.core.files import file_sha256, read_file
from tradier_pipeline.landing.chain import Chain, Head, Kind, Link, genesis
from tradier_pipeline.landing.chained import OwnFiles, chain_of, is_record
from tradier_pipeline.landing.day import MAX_FILE_BYTES, Archive, is_partial
from tradier_pipeline.landing.errors import LandingError
from tradier_pipeline.landing.zone import OF_THE_MARKET, Damaged, LandingZone

TRIES = 3  # of an account that is written meanwhile


@dataclass(frozen=True, slots=True)
class Walked:
    """A chain read from its beginning.

    Attributes:
        name: the account, `_prices`, `_dividends` or `sealed`.
        links: its lines that can be read.
        current: path -> SHA-256 of what has to lie there now.
        wrong: lines that are not what was written, or not where.
    """

    name: str
    links: tuple[Link, ...]
    current: Mapping[str, str]
    kinds: Mapping[str, Kind]
    wrong: tuple[Damaged, ...]

    @property
    def head(self) -> Head:
        return self.links[-1].head if self.links else genesis(self.name)

    @property
    def found(self) -> int:
        """How many of its lines were there when it began: what happened to those before that nobody can tell."""
        return sum(link.kind == "found" for link in self.links)

    def contains(self, head: Head) -> bool:
        """Whether the chain has come to this head once."""
        if head.number == 0:
            return head == genesis(self.name)
        return 0 < head.number <= len(self.links) and self.links[head.number - 1].head == head


@dataclass(frozen=True, slots=True)
class Audited:
    """What was walked: chains, records, bodies and bytes that were read; and what is not as it was filed."""

    chains: tuple[Walked, ...]
    files: int = 0
    bytes: int = 0
    wrong: tuple[Damaged, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class _Filed:
    sha256: str
    kind: Kind
    replaced: _Filed | None


def walk(chain: Chain) -> Walked:
    """Read a chain and see whether each line follows from the one before it."""
    links: list[Link] = []
    wrong: list[Damaged] = []
    filed: dict[str, _Filed] = {}
    head = genesis(chain.name)
    *lines, rest = chain.lines()
    for number, line in enumerate(lines, 1):
        link = Link.parse(line)
        if link is None:
            wrong.append(_at(chain, number, "is not a line that was written"))
            head = Head(number, hashlib.sha256(line.encode()).hexdigest())
            continue
        if not link.follows(head):
            wrong.append(_at(chain, number, f"({link.path}) does not follow from the line before it"))
        _apply(link, filed)
        links.append(link)
        head = link.head
    if rest:
        wrong.append(_at(chain, len(lines) + 1, "is cut off"))
    current = {path: one.sha256 for path, one in filed.items()}
    kinds = {path: one.kind for path, one in filed.items()}
    return Walked(chain.name, tuple(links), current, kinds, tuple(wrong))


def _apply(link: Link, filed: dict[str, _Filed]) -> None:
    """A record that was never filed leaves the one that it was to replace."""
    before = filed.pop(link.path, None)
    if link.kind != "void":
        filed[link.path] = _Filed(link.sha256, link.kind, before)
    elif before and before.replaced:
        filed[link.path] = before.replaced


def _at(chain: Chain, number: int, what: str) -> Damaged:
    return Damaged(f"{chain.path}:{number}", f"line {number} of {chain.path} {what}")


def audit_landing(zone: LandingZone) -> Audited:
    """Every account, the prices and the dividends, each beside its chain."""
    names = [*zone.accounts(), *(name for name in OF_THE_MARKET if (zone.root / name).is_dir())]
    audits = [audit_owner(zone.root / name) for name in names]
    foreign = [
        Damaged(str(path), f"{path} was not filed by this program")
        for path in sorted(zone.root.glob("*"))
        if path.name not in names and not is_partial(path.name)
    ]
    return Audited(
        tuple(chain for one in audits for chain in one.chains),
        sum(one.files for one in audits),
        sum(one.bytes for one in audits),
        (*(damage for one in audits for damage in one.wrong), *foreign),
    )


def audit_owner(directory: Path) -> Audited:
    """One account, or the prices. What is filed or compacted meanwhile is no damage: then it is read again."""
    chain = chain_of(directory)
    for _ in range(TRIES):
        audited = _audit_owner(chain, OwnFiles(directory))
        if not audited.wrong or chain.head() in (None, audited.chains[0].head):
            break
    return audited


def _audit_owner(chain: Chain, files: OwnFiles) -> Audited:
    with chain.still():
        walked, listed = walk(chain), _Listed.of(files)
    if listed.names and not chain.path.exists():
        what = f"there is no {chain.path}: it was removed, or the next snapshot begins it"
        return Audited((walked,), wrong=(Damaged(str(chain.path), what),))
    seen = _Seen(files, walked, listed)
    wrong = (*walked.wrong, *seen.records(), *seen.beside())
    return Audited((walked,), seen.count, seen.size, wrong)


@dataclass(frozen=True, slots=True)
class _Listed:
    """What lies there: plain files, archives, and the names that each archive holds."""

    plain: Mapping[str, Path]
    archives: Mapping[str, Path]
    held: Mapping[str, frozenset[str]]
    damaged: tuple[Damaged, ...]

    @classmethod
    def of(cls, files: OwnFiles) -> _Listed:
        archives, held, damaged = files.archives(), {}, []
        for name, path in archives.items():
            try:
                with Archive(path) as archive:
                    names = archive.namelist()
                    held[name] = frozenset(names)
                    if len(held[name]) != len(names):
                        damaged.append(Damaged(str(path), f"{path} holds a name twice"))
            except Exception as error:  # a damaged file makes the library raise many things
                held[name] = frozenset()
                damaged.append(Damaged(str(path), f"cannot read {path}: {error}"))
        plain = {name: path for name, path in files.plain().items() if name not in archives}
        return cls(plain, archives, held, tuple(damaged))

    @property
    def names(self) -> set[str]:
        """Every file, wherever it lies."""
        return {*self.plain, *(f"{_day(name)}/{one}" for name, names in self.held.items() for one in names)}


class _Seen:
    """Reads what a chain has, and then what else lies there."""

    def __init__(self, files: OwnFiles, walked: Walked, listed: _Listed) -> None:
        self.files, self.walked, self.listed = files, walked, listed
        self.count = self.size = 0
        self.expected: dict[str, str] = {}  # every file that has to be there: name -> SHA-256
        self._damaged: set[PurePosixPath] = set()  # folders of records that do not prove their bodies any more
        self._opened: tuple[str, Archive] | None = None

    def records(self) -> Iterator[Damaged]:
        """Records and their bodies that are missing or are not what was filed."""
        for done, (name, sha256) in enumerate(self.walked.current.items()):
            progress.working(f"auditing {self.walked.name}", done, len(self.walked.current))
            if self.walked.kinds[name] == "archived" or name.endswith(".zip"):
                yield from self._archive(name, sha256)
                continue
            yield from self._file(name, sha256)
            for body, of_body in self._bodies(name):
                yield from self._file(body, of_body)

    def _archive(self, name: str, sha256: str) -> Iterator[Damaged]:
        path = self.files.directory / name
        try:
            size, now = path.stat().st_size, file_sha256(path)
        except OSError as error:
            yield Damaged(str(path), f"{path} is in the chain and cannot be read: {error.strerror}")
            return
        self.count, self.size = self.count + 1, self.size + size
        if now != sha256:
            yield Damaged(str(path), f"{path} is not what was filed (sha256 differs)")

    def _file(self, name: str, sha256: str) -> Iterator[Damaged]:
        """A file, in each place where it lies."""
        self.expected[name] = sha256
        place = self.files.directory / name
        bodies = list(self._places(name))
        if not bodies:
            self._blame(name)
            yield Damaged(str(place), f"{place} was filed and is not there")
        for where, body in bodies:
            if isinstance(body, str):
                self._blame(name)
                yield Damaged(str(place), f"cannot read {name} in {where}: {body}")
                continue
            self.count, self.size = self.count + 1, self.size + len(body)
            if hashlib.sha256(body).hexdigest() != sha256:
                self._blame(name)
                yield Damaged(str(place), f"{name} in {where} is not what was filed (sha256 differs)")

    def _blame(self, name: str) -> None:
        if is_record(name):
            self._damaged.add(PurePosixPath(name).parent)

    def _places(self, name: str) -> Iterator[tuple[Path, bytes | str]]:
        """Where a file lies, and its bytes there, or why they cannot be read."""
        if (path := self.files.directory / name).is_file():
            try:
                yield path.parent, read_file(path)
            except OSError as error:
                yield path.parent, error.strerror or str(error)
        day, _, member = name.partition("/")
        if member in self.listed.held.get(f"{day}.zip", ()):
            yield self.listed.archives[f"{day}.zip"], self._member(f"{day}.zip", member)

    def _member(self, archive: str, member: str) -> bytes | str:
        try:
            if self._opened is None or self._opened[0] != archive:  # opening one reads its whole table of contents
                self._opened = (archive, Archive(self.listed.archives[archive]))
            opened = self._opened[1]
            if opened.NameToInfo[member].file_size > MAX_FILE_BYTES:
                return "it is longer than any file that was filed"
            return opened.read(member)
        except Exception as error:  # a damaged file makes the library raise many things
            return str(error)

    def _bodies(self, name: str) -> Iterator[tuple[str, str]]:
        """The bodies that a record names, with their SHA-256; none of one that is not what was filed: it is named."""
        folder = PurePosixPath(name).parent
        if folder in self._damaged or not is_record(name):
            return
        with suppress(LandingError, ValueError):
            for page in _pages(json.loads(self.files.read(name))):
                yield str(folder / page["file"]), page["sha256"]

    def beside(self) -> Iterator[Damaged]:
        """What lies there and is in no line of the chain."""
        yield from self.listed.damaged
        for name in sorted(self.listed.names - self.expected.keys()):
            if PurePosixPath(name).parent in self._damaged:
                continue  # its record is named, and tells nothing of it any more
            place = self.files.directory / name
            what = "a record" if is_record(name) else "a file"
            yield Damaged(str(place), f"{place}: {what} that was not filed, or not as it was announced")
        for name in sorted(self.listed.archives.keys() - self.walked.current.keys()):
            path = self.listed.archives[name]
            yield Damaged(str(path), f"{path} was not filed by this program")


def _pages(document: Any) -> Iterator[Mapping[str, Any]]:
    """The pages that a manifest names: whatever has a file and its SHA-256."""
    if isinstance(document, dict):
        if isinstance(document.get("file"), str) and isinstance(document.get("sha256"), str):
            yield document
            return
        for value in document.values():
            yield from _pages(value)
    elif isinstance(document, list):
        for value in document:
            yield from _pages(value)


def _day(archive: str) -> str:
    return archive.removesuffix(".zip")
