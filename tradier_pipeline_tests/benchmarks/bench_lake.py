"""What a commit to the lake costs beside 100,000 snapshots of other homes, and beside none: `make bench-lake`.

Those of the years lie in files, as after a night; of today as many rows lie in the catalog as there may be of them.
CPU is that of the process that ships and of PostgreSQL; both lakes are shipped to by turns, minute by minute.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Final

import duckdb
from pydantic import SecretStr

from tradier_pipeline.core.settings import LAKE_PREFIX, Settings
from tradier_pipeline.domain.calendar import Session
from tradier_pipeline.lake.connection import Lake, lake_of
from tradier_pipeline.lake.maintain import FLUSH_ROWS, maintain
from tradier_pipeline.lake.ship import Shipper
from tradier_pipeline.warehouse import derived, schema
from tradier_pipeline.warehouse.sql import literal
from tradier_pipeline.warehouse.staging import Warehouse
from tradier_pipeline_tests.support.postgres import Postgres, serving
from tradier_pipeline_tests.support.year import fill, sessions

SNAPSHOTS: Final = int(os.environ.get("SNAPSHOTS", "100000"))
MINUTES: Final = 12
SNAPSHOTS_OF_A_SESSION: Final = 388
BUDGET: Final = 1.5
TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """CPU seconds of a commit: of who ships, and of PostgreSQL."""

    ours: float
    postgres: float

    @property
    def whole(self) -> float:
        return self.ours + self.postgres


def make_lake(server: Postgres, root: Path, name: str) -> Lake:
    server.create(name)
    address = SecretStr(f"{LAKE_PREFIX}{server.url(name)}")
    return lake_of(Settings(lake=address, lake_data=f"{root / name}/"))


def ship_bulk(lake: Lake, home: Path, days: Sequence[Session]) -> None:
    """Ship another home's history of some sessions, and leave it as the nightly maintenance does."""
    warehouse = Warehouse(home / "tradier.duckdb")
    with warehouse.staged() as staged:
        fill(staged.connection, days, "VA00000009")
    shipper = Shipper(home, warehouse.path, lake)
    shipper.ship()
    shipper.close()
    maintain(lake, None)


def ship_today(lake: Lake, root: Path, day: Session) -> None:
    """Ship the mornings of other homes, one by one, until as many rows lie in the catalog as before a flush."""
    rows, numbers = 0, count()
    while rows < FLUSH_ROWS:
        number = next(numbers)
        warehouse = Warehouse(root / f"today{number}" / "tradier.duckdb")
        with warehouse.staged() as staged:
            fill(staged.connection, [day], f"VA1{number:07d}")
            (last,) = staged.connection.execute(f"{ALL_INSTANTS} LIMIT 1 OFFSET 100").fetchone() or (None,)
            _keep_until(staged.connection, last)
        shipper = Shipper(warehouse.path.parent, warehouse.path, lake)
        rows += sum(one.rows for one in shipper.ship())
        shipper.close()


def _keep_until(connection: duckdb.DuckDBPyConnection, last: datetime | None) -> None:
    for table in schema.TABLES:
        connection.execute(f"DELETE FROM {table.name} WHERE as_of > {literal(last)}")
    derived.refresh(connection)


def make_minutes(root: Path, day: Session) -> list[Path]:
    """The published file of a home after each of some minutes."""
    whole = root / "whole" / "tradier.duckdb"
    with Warehouse(whole).staged() as staged:
        fill(staged.connection, [day], "VA00000001")
        instants = [row[0] for row in staged.connection.execute(ALL_INSTANTS).fetchall()]
    found = []
    for number, last in enumerate(instants[100 : 100 + MINUTES + 1]):
        path = root / f"minute{number}" / "tradier.duckdb"
        path.parent.mkdir()
        shutil.copy(whole, path)
        with Warehouse(path).staged() as staged:
            _keep_until(staged.connection, last)
        found.append(path)
    return found


ALL_INSTANTS: Final = "SELECT DISTINCT as_of FROM tradier_snapshots ORDER BY as_of"


def commits(server: Postgres, lakes: Sequence[Lake], home: Path, minutes: Sequence[Path]) -> list[list[Cost]]:
    """What each minute's commit costs in each lake; the first commit of each, which has more to do, is left out."""
    homes = [home / str(number) for number in range(len(lakes))]
    shippers = [Shipper(path, path / "tradier.duckdb", lake) for path, lake in zip(homes, lakes, strict=True)]
    found: list[list[Cost]] = [[] for _ in lakes]
    for number, minute in enumerate(minutes):
        for place, shipper, costs in zip(homes, shippers, found, strict=True):
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(minute, place / "next.duckdb")
            (place / "next.duckdb").replace(place / "tradier.duckdb")
            cost = measured(server, shipper.ship)
            if number:
                costs.append(cost)
    for shipper in shippers:
        shipper.close()
    return found


def measured(server: Postgres, work: Callable[[], object]) -> Cost:
    """Raises AssertionError if it shipped nothing."""
    ours, theirs = _own_cpu(), _cpu_of_server(server)
    assert work()
    time.sleep(0.05)  # a backend that ends is counted with its parent
    return Cost(_own_cpu() - ours, _cpu_of_server(server) - theirs)


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _cpu_of_server(server: Postgres) -> float:
    """CPU seconds of a server and its backends, those that ended among them; 0 where there is no /proc."""
    pid = int((server.directory / "data" / "postmaster.pid").read_text().split()[0])
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if stat.parent.name == str(pid):
            ticks += sum(map(int, fields[11:15]))
        elif fields[1] == str(pid):
            ticks += sum(map(int, fields[11:13]))
    return ticks / TICKS


def compared(server: Postgres, root: Path, snapshots: int) -> tuple[list[Cost], list[Cost]]:
    """What commits cost to an empty lake, and to one with so many snapshots of other homes."""
    days = sessions(snapshots // SNAPSHOTS_OF_A_SESSION + 2)
    empty, full = make_lake(server, root, "empty"), make_lake(server, root, "filled")
    ship_bulk(full, root / "other", days[:-1])
    ship_today(full, root, days[-1])
    bare, beside = commits(server, [empty, full], root / "homes", make_minutes(root, days[-1]))
    return bare, beside


def ratio(bare: Sequence[Cost], beside: Sequence[Cost]) -> float:
    """How many times as dear the median commit is."""
    return statistics.median(cost.whole for cost in beside) / statistics.median(cost.whole for cost in bare)


def main() -> None:
    with tempfile.TemporaryDirectory() as name, serving() as server:
        bare, beside = compared(server, Path(name), SNAPSHOTS)
    for title, costs in (("empty", bare), (f"{SNAPSHOTS:,} snapshots", beside)):
        ours, theirs = (statistics.median(getattr(cost, part) for cost in costs) for part in ("ours", "postgres"))
        print(f"{title:>20}: {ours:.3f} s of who ships, {theirs:.3f} s of PostgreSQL")
    print(f"{'ratio':>20}: {ratio(bare, beside):.2f}, budget {BUDGET}")
    sys.exit(ratio(bare, beside) > BUDGET)


if __name__ == "__main__":
    main()
