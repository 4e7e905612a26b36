"""The hash chain of what was filed: an append-only text file beside it, a line for each record, announced before it is
filed.

    <number> <kind> <sha256 of the record> <hash> <path of the record>

A hash is of the hash of the line before, and of the line without it: who changes, removes, inserts or reorders anything
has to write every later line anew, and then the last hash, the head, is another one. A record is a manifest, which has
the sha256 of its bodies; or an archive, which has them all.

A line is durable before its record is filed, so what is in no line was never filed by us. A process that dies between
the two leaves a last line without a record: whoever files next says so by a line of kind `void`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, get_args

from tradier_pipeline import clock
from tradier_pipeline.core.files import exclusive, make_directory, open_file, read_file, write_whole, writing

CHAIN: Final = "chain"
LOCK: Final = ".chain.lock"
LOCK_TIMEOUT_S: Final = 60.0

Kind = Literal["filed", "found", "archived", "void"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_LINE = re.compile(r"(\d+) ([a-z]+) ([0-9a-f]{64}) ([0-9a-f]{64}) ([^\n]+)")
_TAIL = 16_384  # bytes; a line has some 250


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain ends: how many lines it has, and the hash of the last one."""

    number: int
    hash: str


@dataclass(frozen=True, slots=True)
class Link:
    """A line: `filed` by whoever wrote it; `found` when the chain began; `archived`: a day; `void`: was never filed."""

    number: int
    kind: Kind
    sha256: str
    hash: str
    path: str

    @classmethod
    def after(cls, head: Head, kind: Kind, sha256: str, path: str) -> Link:
        number = head.number + 1
        return cls(number, kind, sha256, _hash(head.hash, number, kind, sha256, path), path)

    @classmethod
    def parse(cls, line: str) -> Link | None:
        """None if it is no line of ours."""
        match = _LINE.fullmatch(line)
        if match is None:
            return None
        for kind in KINDS:
            if match[2] == kind and str(int(match[1])) == match[1]:
                return cls(int(match[1]), kind, match[3], match[4], match[5])
        return None

    def follows(self, head: Head) -> bool:
        return self == Link.after(head, self.kind, self.sha256, self.path)

    @property
    def head(self) -> Head:
        return Head(self.number, self.hash)

    def __str__(self) -> str:
        return f"{self.number} {self.kind} {self.sha256} {self.hash} {self.path}\n"


class Records(Protocol):
    """What a chain is about: the records that lie beside it."""

    def existing(self) -> Iterable[tuple[Kind, str, str]]:
        """Those that are there, in the order of filing as far as it shows: kind, path, sha256."""
        ...

    def holds(self, path: str) -> bool:
        """Whether there is such a record, damaged or not."""
        ...

    def sha256(self, path: str) -> str | None:
        """Of the record that is there now; None if there is none that can be read."""
        ...

    def forget(self, path: str) -> None:
        """Remove what a process left that died before it had filed the record."""
        ...


def genesis(name: str) -> Head:
    """Where the chain of an owner begins: no other's can be shown in its place."""
    return Head(0, hashlib.sha256(f"tradier_pipeline {name}".encode()).hexdigest())


class Chain:
    """The chain of one owner: an account, the prices, or the sealed months."""

    def __init__(self, directory: Path, records: Records) -> None:
        self.path = directory / CHAIN
        self._records = records

    @property
    def name(self) -> str:
        return self.path.parent.name

    @contextmanager
    def filing(self, path: str, sha256: str, kind: Kind = "filed") -> Iterator[None]:
        """Announce a record; file it within. Others who file wait meanwhile, which takes milliseconds.

        Raises:
            BusyError: another process has been filing for a minute.
            FileError: the chain cannot be written; nothing is to be filed.
        """
        with self.settled() as head:
            self._append(Link.after(head, kind, sha256, path))
            yield

    @contextmanager
    def settled(self) -> Iterator[Head]:
        """Hold the chain while all that it announces is filed, or said to be void. It begins with what is there."""
        with writing(self.path):
            make_directory(self.path.parent)
        with exclusive(self.path.with_name(LOCK), LOCK_TIMEOUT_S, f"{self.path.parent} is being written"):
            self._set_aside_what_is_no_file()
            if not self.path.exists():
                self._begin()
            with writing(self.path):
                last = self._mended_tail()
            if isinstance(last, Link) and last.kind != "void" and not self._was_filed(last):
                if not self._records.holds(last.path):
                    self._records.forget(last.path)
                void = Link.after(last.head, "void", last.sha256, last.path)
                self._append(void)
                last = void
            yield last.head if isinstance(last, Link) else last

    @contextmanager
    def still(self) -> Iterator[None]:
        """Within, nothing is filed; nor is anything written here but the lock. A copy that is read-only has no writer.

        Raises:
            BusyError: another process has been filing for a minute.
        """
        if not (self.path.exists() and os.access(self.path.parent, os.W_OK)):
            yield
            return
        with exclusive(self.path.with_name(LOCK), LOCK_TIMEOUT_S, f"{self.path.parent} is being written"):
            yield

    def lines(self) -> list[str]:
        """The lines as they are, and what is after the last of them: nothing, unless one was cut off."""
        try:
            return read_file(self.path).decode(errors="replace").split("\n")
        except FileNotFoundError:
            return [""]

    def head(self) -> Head | None:
        """The last line that is whole; None if nothing was chained yet, or the last line is damaged."""
        try:
            with open_file(self.path) as file:
                link = Link.parse(_last_line(file.fileno()).removesuffix("\n"))
        except OSError:
            return None
        return link.head if link else None

    def _set_aside_what_is_no_file(self) -> None:
        """A directory or a pipe in the place of the chain costs no record. An audit finds that the chain began anew."""
        if self.path.exists() and not self.path.is_file():
            with writing(self.path):
                self.path.rename(self.path.with_name(f"{CHAIN}.damaged-{clock.now():%Y%m%dT%H%M%S}"))

    def _begin(self) -> None:
        head, lines = genesis(self.name), []
        for kind, path, sha256 in self._records.existing():
            link = Link.after(head, "found" if kind == "filed" else kind, sha256, path)
            lines.append(str(link))
            head = link.head
        write_whole(self.path, "".join(lines).encode())

    def _was_filed(self, last: Link) -> bool:
        """Whether its record is there, as announced or damaged since: a record gets its name when it is whole.

        A process that died before left none, or the one that it was to replace, which an earlier line names.
        """
        found = self._records.sha256(last.path)
        if found == last.sha256:
            return True
        earlier = (link for link in map(Link.parse, self.lines()) if link and link.number < last.number)
        return self._records.holds(last.path) and found not in {one.sha256 for one in earlier if one.path == last.path}

    def _mended_tail(self) -> Link | Head:
        """The last line. One that was cut off when the power failed announced nothing that was filed, and goes."""
        with self.path.open("r+b") as file:
            text = _last_line(file.fileno())
            link = Link.parse(text.removesuffix("\n"))
            if text and not text.endswith("\n"):
                if link is not None:
                    file.seek(0, os.SEEK_END)
                    file.write(b"\n")
                else:
                    file.truncate(os.fstat(file.fileno()).st_size - len(text.encode(errors="surrogateescape")))
                    text = _last_line(file.fileno())
                    link = Link.parse(text.removesuffix("\n"))
        if link is not None:
            return link
        if not text:
            return genesis(self.name)
        # damaged since: what comes is chained all the same, from the bytes that are there; an audit names the line
        damaged = text.removesuffix("\n").encode(errors="surrogateescape")
        return Head(len(self.lines()) - 1, hashlib.sha256(damaged).hexdigest())

    def _append(self, link: Link) -> None:
        with writing(self.path), self.path.open("ab") as file:
            file.write(str(link).encode())
            file.flush()
            os.fsync(file.fileno())


def _hash(before: str, number: int, kind: str, sha256: str, path: str) -> str:
    return hashlib.sha256(f"{before} {number} {kind} {sha256} {path}".encode()).hexdigest()


def _last_line(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, min(size, _TAIL), max(size - _TAIL, 0)).decode(errors="surrogateescape")
    return tail[tail.rstrip("\n").rfind("\n") + 1 :]
