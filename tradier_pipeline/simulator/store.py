"""Where a world lives between requests: one JSON file that several processes share, or memory."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.files import PRIVATE_FILE, make_directory
from tradier_pipeline.simulator.exchange import advance
from tradier_pipeline.simulator.strategy import DEMO_ACCOUNTS, DEMO_SEED, AccountPlan, act, create_world
from tradier_pipeline.simulator.world import World

STATE_FILE = "simulator.json"
_FORMAT = 1
_LOCK_SECONDS = 10
_PAST_KEPT = 32


@dataclass(frozen=True, slots=True)
class _State:
    format: int
    world: World


_STATE = TypeAdapter(_State)
_Stamp = tuple[int, int, int]


class Store:
    """Gives each request the world as of its instant, and keeps what changed.

    Args:
        directory: where `simulator.json` lies; None keeps the world in memory.
        seed, plans: of the world that is created when there is none yet.

    Attributes:
        keepers: called with the world at the end of every visit, by one visitor of all processes at a time.
        watchers: called with the world after every visit.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        seed: int = DEMO_SEED,
        plans: tuple[AccountPlan, ...] = DEMO_ACCOUNTS,
    ) -> None:
        self._path = directory / STATE_FILE if directory is not None else None
        self._lock: AbstractContextManager[object] = nullcontext()
        if directory is not None:
            make_directory(directory)
            self._lock = FileLock(
                directory / f"{STATE_FILE}.lock", timeout=_LOCK_SECONDS, mode=PRIVATE_FILE, thread_local=False
            )
        self._new: Callable[[datetime], World] = lambda now: create_world(now, seed, plans)
        self._world: World | None = None
        self._saved = -1
        self._stamp: _Stamp | None = None
        self.keepers: list[Callable[[World], None]] = []
        self.watchers: list[Callable[[World], None]] = []
        self._past: deque[tuple[datetime, bytes]] = deque(maxlen=_PAST_KEPT)

    @contextmanager
    def at(self, now: datetime) -> Iterator[World]:
        """The world advanced to `now`, exclusively; changes are stored on leaving. Raises PipelineError."""
        with self._locked():
            world = self._current(now)
            advance(world, now, act)
            yield world
            self._save(world)
            for keep in self.keepers:
                keep(world)
        for watch in self.watchers:
            watch(world)

    @contextmanager
    def past(self, now: datetime, behind: timedelta) -> Iterator[World]:
        """A copy of the world as it was `behind` ago (as far back as this process remembers); changes are lost."""
        with self.at(now):
            then = now - behind
            older = [text for at, text in self._past if at <= then]
            world = _STATE.validate_json(older[-1] if older else self._past[0][1]).world
        advance(world, then, act)
        yield world

    def replace(self, world: World) -> None:
        """Put another world in the place of this one."""
        with self._locked():
            self._past.clear()
            self._saved = -1
            self._world = world
            self._save(world)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except Timeout as error:
            raise PipelineError(
                f"The simulated broker's state {self._path} has been locked for {_LOCK_SECONDS} s",
                "Stop the process that holds it, or start the demo in another directory.",
            ) from error

    def _current(self, now: datetime) -> World:
        stamp = self._read_stamp()
        if self._world is None or stamp != self._stamp:
            if self._path is not None and stamp is not None:
                self._world = self._load(self._path)
                self._saved, self._stamp = self._world.version, stamp
            else:
                self._world, self._saved = self._new(now), -1
        return self._world

    def _read_stamp(self) -> _Stamp | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _load(self, path: Path) -> World:
        remedy = f"Delete {path} to start a new demo account, or restore it from a backup."
        try:
            text = path.read_bytes()
            state = _STATE.validate_json(text)
        except (OSError, ValidationError) as error:
            raise PipelineError(f"The simulated broker's state {path} cannot be read", remedy) from error
        if state.format != _FORMAT:
            raise PipelineError(f"The simulated broker's state {path} has the unknown format {state.format}", remedy)
        self._past.append((state.world.now, text))
        return state.world

    def _save(self, world: World) -> None:
        if world.version == self._saved:
            return
        text = _STATE.dump_json(_State(_FORMAT, world), exclude_defaults=True)
        if self._path is not None:
            _replace(self._path, text)
            self._stamp = self._read_stamp()
        self._saved = world.version
        self._past.append((world.now, text))


def _replace(path: Path, text: bytes) -> None:
    """Write a file so that a reader, or a crash, finds the old one or the new one and nothing between."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def dump_world(world: World) -> bytes:
    """The whole truth about a world as JSON; decimals as strings."""
    return TypeAdapter(World).dump_json(world)
