"""The committer of a machine: ships what its home publishes as it comes, and waits out whatever fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tradier_pipeline import clock
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.lake.connection import Lake, UnavailableError
from tradier_pipeline.lake.maintain import maintain_if_due
from tradier_pipeline.lake.ship import Shipment, Shipper

LOOK_EVERY_S: Final = 1.0  # whether something was published
RETRY_S: Final = (2.0, 5.0, 15.0)  # after a failure, and after each that follows; the last one for ever
AGAIN_S: Final = 3600.0  # after which trouble that lasts is reported again
MAINTAIN_EVERY_S: Final = 600.0  # whether the lake is to be maintained

Report = Callable[[str], None]


def follow(
    home: Path, warehouse: Path, lake: Lake, keep_days: int | None, report: Report, stop: threading.Event
) -> None:
    """Ship until `stop` is set. Whatever fails is reported once an hour and tried again: the home never waits for it.

    Args:
        keep_days: how long the lake's own older states are kept; None: for ever.
        report: is called with each thing that a person ought to know, in a line.
    """
    shipper = Shipper(home, warehouse, lake)
    shipped: tuple[int, ...] = ()
    trouble, failures, reported, maintained = "", 0, 0.0, 0.0
    try:
        while not stop.is_set():
            try:
                published = _state(warehouse)
                if published != shipped and published:
                    done = shipper.ship()
                    shipped = published
                    _say(done, report)
                if time.monotonic() >= maintained:
                    if published and maintain_if_due(lake, keep_days, clock.now()):
                        report("the lake was maintained: what lay in its catalog is in files")
                    maintained = time.monotonic() + MAINTAIN_EVERY_S
                if trouble:
                    report("the lake can be used again, and has all that is published here")
                trouble, failures = "", 0
                stop.wait(LOOK_EVERY_S)
            except PipelineError as error:
                shipped = ()
                found = type(error).__name__ if isinstance(error, UnavailableError) else str(error)
                if found != trouble or time.monotonic() >= reported + AGAIN_S:
                    trouble, reported = found, time.monotonic()
                    report(str(error))
                stop.wait(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1
    finally:
        shipper.close()


def _state(warehouse: Path) -> tuple[int, ...]:
    """What tells one published file from the next; nothing: there is none."""
    try:
        found = warehouse.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _say(done: list[Shipment], report: Report) -> None:
    snapshots, rows = sum(one.snapshots for one in done), sum(one.rows for one in done)
    if len(done) > 1:  # of what has waited; a minute's is no news
        report(f"shipped {snapshots:,} snapshots, {rows:,} rows in {len(done)} commits")
