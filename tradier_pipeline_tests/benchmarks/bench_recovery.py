"""How long it takes to back a home up, to restore it and to prove it, by the sessions of which it has every minute.

`SESSIONS=252 python -m tradier_pipeline_tests.benchmarks.bench_recovery` (or `make bench-recovery SESSIONS=5`). Every
minute of a session is landed as bytes with its chain, all but the last two sessions are archives, and the warehouse is
rebuilt from them, sealed where months have closed. Beside each figure stands what it comes to for a year.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from tradier_pipeline.core.files import size_of
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.domain.calendar import Session
from tradier_pipeline.landing.compaction import compact
from tradier_pipeline.landing.zone import LandingZone
from tradier_pipeline.publish.audit import audit
from tradier_pipeline.publish.backup import backup, restore
from tradier_pipeline.publish.seal import seal
from tradier_pipeline.publish.store import rebuild
from tradier_pipeline.warehouse.staging import Warehouse
from tradier_pipeline_tests.support.bodies import Answers, land, rich
from tradier_pipeline_tests.support.year import SESSIONS_OF_A_YEAR, sessions

PLAIN = 2  # sessions that are not compacted yet


def main() -> None:
    days = sessions(int(os.environ.get("SESSIONS", "2")))
    with tempfile.TemporaryDirectory(prefix="bench-recovery-") as scratch:
        home = Path(scratch) / "home"
        settings = Settings(pipeline_home=home)
        zone, warehouse = LandingZone(settings.landing), Warehouse(settings.warehouse)
        snapshots = _fill(zone, days)
        compact(zone, days[max(0, len(days) - PLAIN)].date)
        rebuild(warehouse, zone, lambda _: None)
        seal(warehouse)
        print(f"{snapshots:,} snapshots of {len(days)} sessions, {size_of(home) / 1e6:,.1f} MB", flush=True)

        def timed(what: str, work: Callable[[], object]) -> None:
            started, used = time.perf_counter(), time.process_time()
            work()
            seconds, cpu = time.perf_counter() - started, time.process_time() - used
            year = f"{cpu / len(days) * SESSIONS_OF_A_YEAR / 60:,.1f} min of a CPU for {SESSIONS_OF_A_YEAR}"
            print(f"{what:<32} {seconds:8.1f} s, {cpu:8.1f} s of a CPU; {year}", flush=True)

        disk, new = Path(scratch) / "disk", Path(scratch) / "new"
        timed("backup, the first", lambda: backup(settings, str(disk)))
        timed("backup, nothing new", lambda: backup(settings, str(disk)))
        timed("restore", lambda: restore(str(disk), new))
        restored = Settings(pipeline_home=new)
        timed("audit of bytes and chains", lambda: _proven(restored, rows=False))
        timed("audit with every row", lambda: _proven(restored, rows=True))


def _proven(settings: Settings, *, rows: bool) -> None:
    found = audit(settings, rows=rows).wrong
    assert not found, found[0]


def _fill(zone: LandingZone, days: Sequence[Session]) -> int:
    """Land every minute of some sessions, each with other quotes and balances than the last; returns how many."""
    shown, before, number = rich("margin"), None, 0
    for day in days:
        at = day.open
        while at < day.close:
            before = land(zone, _moved(shown, number), at, previous_as_of=before).manifest.as_of
            at, number = at + timedelta(minutes=1), number + 1
    return number


def _moved(shown: Answers, minute: int) -> Answers:
    """What a broker shows some minutes later: the same positions and orders, at other prices."""
    cents = Decimal(minute % 97) / 100
    balances, quotes = deepcopy(shown.balances), deepcopy(shown.quotes)
    for name in ("total_equity", "market_value", "long_market_value", "open_pl"):
        balances["balances"][name] += cents
    for one in quotes["quotes"]["quote"]:
        for name in ("bid", "ask", "last"):
            one[name] = one[name] and one[name] + cents
    return replace(shown, balances=balances, quotes=quotes)


if __name__ == "__main__":
    main()
