"""Measure what the design budgets: `make bench`. Every figure stands beside the bare limit of the same run.

The bare limit of a snapshot is what no implementation can avoid: four parallel GETs over kept connections, and one
DuckDB transaction that inserts the same rows into a plain file. Ratios carry over between machines, times do not.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import httpx
from pydantic import SecretStr

from tradier_pipeline import clock
from tradier_pipeline.core.settings import DEMO_ACCOUNT, DEMO_TOKEN, Settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.extract.connection import Broker
from tradier_pipeline.extract.snapshot import extract_quotes, extract_snapshot
from tradier_pipeline.landing.zone import LandedSnapshot, LandingZone
from tradier_pipeline.ledger.records import EngineOrder, Leg, Trade
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.ledger.writeback import apply
from tradier_pipeline.publish.ledger_state import read_relevant_ledger
from tradier_pipeline.publish.seal import seal
from tradier_pipeline.publish.store import store_snapshot
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.simulator.world import ROUND_THE_CLOCK
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline.warehouse.rows import table_rows
from tradier_pipeline.warehouse.staging import Warehouse, insert
from tradier_pipeline.warehouse.typed import read_typed

ROUNDS = 9
YEAR_OF_SNAPSHOTS = 98_000
FOLLOWS_THE_CLOCK = {
    "as_of",
    "as_of_end",
    "requested_at",
    "committed_at",
    "started_at",
    "ended_at",
    "bid_date",
    "ask_date",
}


@dataclass(frozen=True)
class Figure:
    """One line of the table: a measured value, what it is compared with, and the budget."""

    what: str
    measured: float
    bare: float | None
    unit: str
    budget: str
    met: bool

    @property
    def ratio(self) -> float | None:
        return None if not self.bare else round(self.measured / self.bare, 2)


def main() -> None:
    figures = [
        *run_process_against_empty_job(),
        *snapshot_against_bare_limit(),
        *ledger_beside_snapshot(),
        *year_of_snapshots(),
    ]
    for figure in figures:
        bare = "" if figure.bare is None else f"  bare {figure.bare:,.1f}  ratio {figure.ratio}"
        mark = "ok  " if figure.met else "OVER"
        print(f"{mark} {figure.what:<68} {figure.measured:>9,.1f} {figure.unit}{bare}  (budget {figure.budget})")
    report = Path(os.environ.get("BENCH_JSON", "bench.json"))
    report.write_text(json.dumps([asdict(figure) | {"ratio": figure.ratio} for figure in figures], indent=1))
    print(f"written to {report}")


def snapshot_against_bare_limit() -> list[Figure]:
    """Fetch, land, validate, store, verify and publish 100 positions and 500 orders, against the bare limit."""
    with _home() as home, embedded_simulator(None, limits=None, calendar=ROUND_THE_CLOCK) as url:
        _large_account(url)
        broker, zone, warehouse = Broker(url, SecretStr(DEMO_TOKEN), "simulator"), _zone(home), _warehouse(home)
        first = _whole(zone, warehouse, broker)  # the first publish creates the tables
        rows = table_rows(read_typed(first))
        plain = home / "plain.duckdb"
        with duckdb.connect(plain) as connection:
            for table in schema.TABLES:
                connection.execute(schema.ddl(table))
        whole, bare = _in_turn(
            lambda: _whole(zone, warehouse, broker),
            lambda: (asyncio.run(_bare_gets(url)), _bare_transaction(plain, rows)),
        )
        requests = len(zone.newest(DEMO_ACCOUNT).manifest.resources) + 1  # type: ignore[union-attr]
    return [
        _ratio("snapshot, 100 positions and 500 orders: fetch to published", whole, bare, 2.0),
        Figure("broker requests of a snapshot", requests, None, "", "<= 5", requests <= 5),
    ]


def ledger_beside_snapshot() -> list[Figure]:
    """What reading a ledger and setting it beside a snapshot adds to storing 100 positions and 500 orders."""
    figures = []
    with _home() as home, embedded_simulator(None, limits=None, calendar=ROUND_THE_CLOCK) as url:
        _large_account(url)
        settings, broker = Settings(pipeline_home=home), Broker(url, SecretStr(DEMO_TOKEN), "simulator")
        _large_ledger(Ledger(settings.ledger))
        for what, prepare in (
            ("ledger of 1 000 orders and 200 trades, of which nothing is up to date, added", lambda: None),
            ("ledger of 1 000 orders and 200 trades, up to date, added", lambda: _bring_up_to_date(home, broker)),
            ("ledger of 18 400 orders and 6 000 trades, up to date, added", lambda: _add_years(settings.ledger)),
        ):
            prepare()
            added = _added_by_ledger(settings, broker)
            figures.append(Figure(what, added, None, "ms", "<= 150 ms", added <= 150))
    return figures


def _added_by_ledger(settings: Settings, broker: Broker) -> float:
    zone, warehouse = _zone(settings.home), _warehouse(settings.home)
    gc.freeze()  # as every launched run does
    snapshots = iter([landed_now(zone, broker) for _ in range(2 * ROUNDS + 2)])
    pairs = _pairs(
        lambda: store_snapshot(warehouse, next(snapshots), read_ledger=partial(read_relevant_ledger, settings)),
        lambda: store_snapshot(warehouse, next(snapshots)),
    )
    return _ms([beside - alone for beside, alone in pairs])


def year_of_snapshots() -> list[Figure]:
    """Store and publish one more snapshot on top of 98 000, against an empty warehouse; and a year by day."""
    with _home() as home, embedded_simulator(None, limits=None, calendar=ROUND_THE_CLOCK) as url:
        broker, zone = Broker(url, SecretStr(DEMO_TOKEN), "simulator"), _zone(home)
        empty, full = Warehouse(home / "empty.duckdb"), Warehouse(home / "full.duckdb")
        landed = landed_now(zone, broker)
        store_snapshot(empty, landed)
        _fill_a_year(full, landed)
        snapshots = iter([landed_now(zone, broker) for _ in range(4 * ROUNDS + 4)])
        on_full, on_empty = _in_turn(
            lambda: _publish_only(full, next(snapshots)), lambda: _publish_only(empty, next(snapshots))
        )
        size = full.path.stat().st_size / 1e6
        by_day = _median(lambda: _balances_by_day(full.path))
        seal(full)
        on_sealed, beside = _in_turn(
            lambda: _publish_only(full, next(snapshots)), lambda: _publish_only(empty, next(snapshots))
        )
        sealed_size = full.path.stat().st_size / 1e6
    return [
        Figure("commit and publish on 98 000 snapshots", on_full, None, "ms", "<= 150 ms", on_full <= 150),
        _ratio("commit and publish on 98 000 snapshots, against an empty warehouse", on_full, on_empty, 3.0),
        Figure("warehouse of 98 000 snapshots, 15 positions, moving quotes", size, None, "MB", "-", True),
        _ratio("the same once what is old is sealed, against an empty warehouse", on_sealed, beside, 1.3),
        Figure(
            "bytes of a publish on 98 000 snapshots, sealed", sealed_size, None, "MB", "<= 60 MB", sealed_size <= 60
        ),
        Figure("a year of balances by day", by_day, None, "ms", "<= 50 ms", by_day <= 50),
    ]


def run_process_against_empty_job() -> list[Figure]:
    """A whole run in a process of its own, against an empty Dagster job with one asset on Dagster's own storage."""
    with _home() as home, embedded_simulator(None, limits=None, calendar=ROUND_THE_CLOCK) as url:
        environment = os.environ | {"TRADIER_PIPELINE_HOME": str(home), "TRADIER_BASE_URL": url}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # installed, Dagster is compiled and we are not
        plain = environment | {"DAGSTER_HOME": str(home / "plain")}
        (home / "plain").mkdir()
        before_runs = 2
        for _ in range(before_runs):  # create both storages first
            _process("snapshot", environment), _process("empty", plain)
        storage = _size(home / "dagster")
        pairs = [(_process("snapshot", environment), _process("empty", plain)) for _ in range(ROUNDS)]
        per_run = (_size(home / "dagster") - storage) / ROUNDS / 1000
        memory = max(ours.megabytes for ours, _ in pairs)
        commands = [(_process("command", environment), _process("empty", plain)) for _ in range(ROUNDS)]
    return [
        *_against_empty("run process", pairs),
        *_against_empty("the command `snapshot`", commands),
        Figure("memory of a run process", memory, None, "MB", "<= 300 MB", memory <= 300),
        Figure("Dagster storage per run", per_run, None, "kB", "<= 200 kB", per_run <= 200),
    ]


def _whole(zone: LandingZone, warehouse: Warehouse, broker: Broker) -> LandedSnapshot:
    landed = landed_now(zone, broker)
    store_snapshot(warehouse, landed)
    return landed


def landed_now(zone: LandingZone, broker: Broker) -> LandedSnapshot:
    landed = extract_snapshot(zone, broker, SnapshotId.now(DEMO_ACCOUNT), "bench")
    extract_quotes(zone, broker, landed)
    return landed


def _publish_only(warehouse: Warehouse, landed: LandedSnapshot) -> None:
    rows = table_rows(read_typed(landed))
    with warehouse.staged() as staged:
        staged.store(str(landed.snapshot_id), rows)


async def _bare_gets(url: str) -> None:
    account = f"/v1/accounts/{DEMO_ACCOUNT}"
    paths = [
        "/v1/user/profile",
        f"{account}/balances",
        f"{account}/positions",
        f"{account}/orders?limit=1000&includeTags=true",
    ]
    headers = {"Authorization": f"Bearer {DEMO_TOKEN}", "Accept": "application/json"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        for answer in await asyncio.gather(*(client.get(path) for path in paths)):
            answer.raise_for_status()


def _bare_transaction(path: Path, rows: dict[str, list[dict[str, Any]]]) -> None:
    with duckdb.connect(path) as connection:
        connection.execute("BEGIN")
        for table in schema.TABLES:
            insert(connection, table, rows[table.name])
        connection.execute("COMMIT")


def _large_account(url: str) -> None:
    positions = [
        {"symbol": f"SPY261218C{strike:05d}000", "quantity": "1", "cost_basis": "123.45"} for strike in range(500, 600)
    ]
    orders = [
        {
            "id": number,
            "type": "limit",
            "symbol": "SPY",
            "side": "buy",
            "quantity": 10.0,
            "status": "filled",
            "duration": "day",
            "price": 601.25,
            "avg_fill_price": 601.2,
            "exec_quantity": 10.0,
            "last_fill_price": 601.2,
            "last_fill_quantity": 10.0,
            "remaining_quantity": 0.0,
            "create_date": "2026-11-20T14:31:00.123Z",
            "transaction_date": "2026-11-20T14:31:01.456Z",
            "class": "equity",
            "tag": f"bench-{number}",
        }
        for number in range(1, 501)
    ]
    world = {"account": DEMO_ACCOUNT, "cash": "100000", "positions": positions, "orders": orders}
    httpx.post(f"{url}/_simulator/world", json=world, trust_env=False).raise_for_status()


def _large_ledger(ledger: Ledger) -> None:
    """Half of the orders are those of the day, by their tags; the others opened the trades and closed half of them."""
    long_ago = clock.now() - timedelta(days=30)
    shared = {"account_id": DEMO_ACCOUNT, "symbol": "SPY", "created_at": long_ago}
    for number in range(1, 501):
        ledger.record_order(
            EngineOrder.model_validate(shared | {"client_order_id": f"bench-{number}", "role": "ENTRY"})
        )
    for number in range(200):
        contract = f"SPY261218C{500 + number // 2:05d}000"
        opened_at = long_ago + number * timedelta(minutes=1)
        trade = {"trade_id": f"t-{number}", "quantity": 1, "status": "CLOSED" if number % 2 else "OPEN"}
        held = Leg(option_symbol=contract, side="long", quantity=Decimal(1))
        ledger.record_trade(Trade.model_validate(shared | trade | {"legs": (held,), "opened_at": opened_at}))
        tried = ["ENTRY", "EXIT", "EXIT"] if number % 2 else ["ENTRY", "ENTRY"]
        for place, role in enumerate(tried):
            leg = held.model_copy(update={"side": "buy_to_open" if role == "ENTRY" else "sell_to_close"})
            filled = place == 0 or place == 2
            order = {
                "client_order_id": f"t-{number}-{place}",
                "trade_id": f"t-{number}",
                "role": role,
                "legs": (leg,),
                "status": "FILLED" if filled else "CANCELLED",
                "filled_quantity": int(filled),
                "avg_fill_price": Decimal("2.05") if filled else None,
            }
            ledger.record_order(EngineOrder.model_validate(shared | order))


def _bring_up_to_date(home: Path, broker: Broker) -> None:
    """What the snapshots have shown is written to the ledger, and most of it was a month ago."""
    ledger = Ledger(home / "ledger.sqlite")
    read_ledger = partial(read_relevant_ledger, Settings(pipeline_home=home))
    typed, _ = store_snapshot(_warehouse(home), landed_now(_zone(home), broker), read_ledger=read_ledger)
    assert typed.reconciled
    apply(ledger, typed.landed.manifest.snapshot_id, typed.reconciled.changes)
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as connection:
        for table in ("orders", "trades"):
            connection.execute(f"UPDATE {table} SET updated_at = created_at")


def _add_years(path: Path) -> None:
    """What is over, and its orders, 58 times."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TEMP TABLE times (n)")
        connection.executemany("INSERT INTO times VALUES (?)", [(number,) for number in range(58)])
        connection.execute("CREATE TEMP TABLE over AS SELECT trade_id FROM trades WHERE status = 'CLOSED'")
        for table, own in (("trades", "trade_id"), ("orders", "client_order_id")):
            columns = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
            copied = [f"{name} || '-' || n" if name in (own, "trade_id") else name for name in columns]
            connection.execute(
                f"INSERT INTO {table} SELECT {', '.join(copied)} FROM {table}, times WHERE trade_id IN over"
            )


def _fill_a_year(warehouse: Warehouse, landed: LandedSnapshot) -> None:
    """98 000 copies of one snapshot, one a minute, with prices and balances that move."""
    with warehouse.staged() as staged:
        staged.store(str(landed.snapshot_id), table_rows(read_typed(landed)))
        moving = {"bid", "ask", "last", "mark", "market_value", "unrealized_pl", "cash", "equity", "total_equity"}
        for table in schema.TABLES:
            columns = ", ".join(_copied(column, moving) for column in table.columns)
            staged.connection.execute(
                f"INSERT INTO {table.name} SELECT {columns} FROM {table.name}, range(1, {YEAR_OF_SNAPSHOTS}) AS _(n)"
            )


def _copied(column: schema.Column, moving: set[str]) -> str:
    minute = "(n // 390 * 1440 + n % 390)"  # 390 minutes a day
    if column.name == "snapshot_id":
        return "snapshot_id || '-' || n AS snapshot_id"
    if column.name in FOLLOWS_THE_CLOCK:
        return f'"{column.name}" - INTERVAL 1 MINUTE * {minute}'
    if column.type == schema.DATE and column.name == "trade_date":
        return "trade_date - (n // 390)::INTEGER"
    if column.name in moving:
        return f'"{column.name}" + (hash(n, "{column.name}") % 2000)::DECIMAL(24,8) / 100 - 10'
    return f'"{column.name}"'


def _balances_by_day(path: Path) -> None:
    with connect_readonly(path) as connection:
        connection.execute("SELECT * FROM daily_balances ORDER BY account_id, trade_date").fetchall()


@dataclass(frozen=True)
class Ended:
    """A process that has ended: seconds it took, CPU seconds of it and its children, megabytes at its peak."""

    seconds: float
    cpu: float
    megabytes: float


def _process(kind: str, environment: dict[str, str]) -> Ended:
    """One run in a process of its own."""
    command = [sys.executable, "-m", "tradier_pipeline_tests.benchmarks.bench_process", kind]
    started, used = time.perf_counter(), _cpu_of_children()
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    seconds, cpu = time.perf_counter() - started, _cpu_of_children() - used
    return Ended(seconds, cpu, float(done.stdout.split()[-1]) / 1000)


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _against_empty(what: str, pairs: list[tuple[Ended, Ended]]) -> list[Figure]:
    """By the clock, and by the CPU time, which a busy machine changes less."""
    figures = []
    for how, seconds in (("", lambda one: one.seconds), (", CPU", lambda one: one.cpu)):
        ours, theirs = ([seconds(one) for one in side] for side in zip(*pairs, strict=True))
        figures.append(_ratio(f"{what}{how}, against an empty job with one asset", _ms(ours), _ms(theirs), 1.15))
    return figures


def _in_turn(ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float]:
    """Median milliseconds of both, run in turn so that a slow moment of the machine meets both."""
    pairs = _pairs(ours, theirs)
    return _ms([ours for ours, _ in pairs]), _ms([theirs for _, theirs in pairs])


def _pairs(ours: Callable[[], object], theirs: Callable[[], object]) -> list[tuple[float, float]]:
    """Seconds of both, run in turn; the first turn does not count."""
    return [(_seconds(ours), _seconds(theirs)) for _ in range(ROUNDS + 1)][1:]


def _median(work: Callable[[], object]) -> float:
    return _ms([_seconds(work) for _ in range(ROUNDS)])


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _ms(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1000


def _ratio(what: str, measured: float, bare: float, budget: float) -> Figure:
    return Figure(what, measured, bare, "ms", f"<= {budget} x", measured / bare <= budget)


def _zone(home: Path) -> LandingZone:
    return LandingZone(home / "raw")


def _warehouse(home: Path) -> Warehouse:
    return Warehouse(home / "tradier.duckdb")


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


@contextmanager
def _home() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="tradier-bench-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
