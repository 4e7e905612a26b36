"""Measure the cycles as they run for a user: `make bench-cycles`. Takes as long as its ticks: half an hour and more.

A simulated broker, a real `tradier-pipeline up` on the rehearsal calendar (every minute is one of the session), and an
observer that notes when each snapshot can be read in DuckDB. Nothing else should run on the machine.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import httpx

from tradier_pipeline.api import sync_tradier_snapshot
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.benchmarks.bench import Figure
from tradier_pipeline_tests.support.ports import free_port

TICKS = int(os.environ.get("BENCH_TICKS", "30"))
IDLE_S = 60
SETTLE_S = 30  # after the start, before anything is measured
PATIENCE_S = 60
CYCLES_OFF = dict.fromkeys(("TRADIER_MONITOR_MINUTES", "TRADIER_TRADE_MINUTES", "TRADIER_SYNC_MINUTES"), "0")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-cycles-") as scratch, _broker(Path(scratch)) as url:
        os.environ |= {"TRADIER_BASE_URL": url, "TRADIER_PIPELINE_HOME": str(Path(scratch) / "home")}
        figures = [*idle(Path(scratch)), *ticks(Path(scratch), url)]
    for figure in figures:
        mark = "ok  " if figure.met else "OVER"
        print(f"{mark} {figure.what:<66} {figure.measured:>8,.2f} {figure.unit}  (budget {figure.budget})")
    report = Path(os.environ.get("BENCH_JSON", "bench-cycles.json"))
    report.write_text(json.dumps([asdict(figure) for figure in figures], indent=1))
    print(f"written to {report}")


def idle(scratch: Path) -> list[Figure]:
    """What `up` costs while nothing is due: schedules skip, sensors find nothing."""
    with _up(scratch, CYCLES_OFF) as process:
        time.sleep(SETTLE_S)
        before = _cpu_seconds(process.pid)
        time.sleep(IDLE_S)
        spent = {name: used - before.get(name, 0.0) for name, used in _cpu_seconds(process.pid).items()}
    daemon = 100 * sum(used for name, used in spent.items() if "webserver" not in name) / IDLE_S
    whole = 100 * sum(spent.values()) / IDLE_S
    return [
        Figure("idle daemon with its code server, of one core", daemon, None, "%", "<= 10 %", daemon <= 10),
        Figure("idle `up` as a whole, of one core", whole, None, "%", "-", True),
    ]


def ticks(scratch: Path, url: str) -> list[Figure]:
    """From the minute, and from an order in the ledger, to a snapshot that can be read."""
    home = Path(os.environ["TRADIER_PIPELINE_HOME"])
    ordered: list[float] = []
    direct: list[float] = []
    with _up(scratch, {"TRADIER_CALENDAR": "24/7", "TRADIER_TRADE_MINUTES": "5"}), Observer(home) as observer:
        _wait_for(lambda: observer.seen, 3 * PATIENCE_S)
        started_up = set(observer.seen)  # the first tick waited for `up` itself
        for number in range(TICKS):
            _until_second(15)
            ordered.append(_order_to_snapshot(home, observer, number))
            _until_second(40)
            started = time.time()
            sync_tradier_snapshot(trigger="manual")
            direct.append(time.time() - started)
        _until_second(15)
        seen = {key: at for key, at in observer.seen.items() if key not in started_up}
    taken = {key: at for key, at in seen.items() if _scheduled(key[0])}
    lone = [at - _instant(key) for (key, trigger), at in taken.items() if trigger == "monitor_cycle"]
    coinciding = [at - _instant(key) for (key, trigger), at in taken.items() if trigger != "monitor_cycle"]
    minutes = {_instant(key) for key, _ in taken}
    missing = round((max(minutes) - min(minutes)) / 60) + 1 - len(minutes)
    requests = _requests_of_minutes(url, {_instant(key) for key, trigger in taken if "," in trigger})
    return [
        _p95(f"tick to readable, one cycle ({len(lone)} ticks)", lone, 4),
        _p95(f"tick to readable, cycles that coincide ({len(coinciding)} ticks)", coinciding, 6),
        Figure("minutes without a snapshot", missing, None, "", "0", missing == 0),
        Figure("requests to the broker in a coinciding minute", requests, None, "", "<= 5", requests <= 5),
        _p95(f"order in the ledger to readable, by the sensor ({len(ordered)} orders)", ordered, 10),
        _p95(f"direct call to readable ({len(direct)} calls)", direct, 4),
    ]


class Observer:
    """Notes when each snapshot can be read for the first time."""

    def __init__(self, home: Path) -> None:
        self.seen: dict[tuple[str, str], float] = {}
        self._warehouse = home / "tradier.duckdb"
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Observer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _watch(self) -> None:
        published: tuple[int, int] | None = None
        while not self._ending.wait(0.01):
            if not self._warehouse.exists():
                continue
            status = self._warehouse.stat()
            if published == (status.st_ino, status.st_mtime_ns):
                continue
            published, now = (status.st_ino, status.st_mtime_ns), time.time()
            with connect_readonly(self._warehouse) as connection:
                for key in connection.execute("SELECT snapshot_id, trigger FROM tradier_snapshots").fetchall():
                    self.seen.setdefault(key, now)


def _order_to_snapshot(home: Path, observer: Observer, number: int) -> float:
    """Write an order as an engine would, by plain SQL."""
    Ledger(home / "ledger.sqlite").waiting()  # there is one
    before = set(observer.seen)
    placed = time.time()
    with sqlite3.connect(home / "ledger.sqlite") as connection:
        connection.execute(
            "INSERT INTO orders (client_order_id, account_id, role, quantity) VALUES (?, ?, 'ENTRY', '1')",
            (f"bench-{os.getpid()}-{number}", DEMO_ACCOUNT),
        )
    connection.close()
    return _wait_for(lambda: [observer.seen[key] for key in set(observer.seen) - before if "order" in key[1]]) - placed


def _wait_for(found: Callable[[], list[float] | dict[tuple[str, str], float]], patience: float = PATIENCE_S) -> float:
    end = time.time() + patience
    while time.time() < end:
        if times := found():
            return min(times.values() if isinstance(times, dict) else times)
        time.sleep(0.01)
    raise SystemExit(f"nothing was published within {patience:.0f} s: see up.log")


def _until_second(second: int) -> None:
    time.sleep((second - time.time()) % 60)


def _scheduled(snapshot_id: str) -> bool:
    return snapshot_id.endswith(":00Z")


def _instant(snapshot_id: str) -> float:
    return datetime.fromisoformat(snapshot_id.partition("@")[2]).timestamp()


def _requests_of_minutes(url: str, minutes: set[float]) -> int:
    """The most requests of the first 12 seconds of a minute."""
    journal = httpx.get(f"{url}/_simulator/requests", trust_env=False).json()
    instants = [datetime.fromisoformat(entry["at"]).astimezone(UTC).timestamp() for entry in journal]
    counts = Counter(at // 60 * 60 for at in instants if at % 60 < 12)
    return max((counts[minute] for minute in minutes), default=0)


def _p95(what: str, seconds: list[float], budget: int) -> Figure:
    at = sorted(seconds)[max(0, -(-len(seconds) * 95 // 100) - 1)] if seconds else float("nan")
    return Figure(f"{what}, p95", at, None, "s", f"<= {budget} s", at <= budget)


@contextmanager
def _broker(scratch: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "tradier_pipeline.cli", "simulate", "--port", str(port)]
    with _process(command, scratch, {"TRADIER_PIPELINE_HOME": str(scratch / "broker")}, "broker.log"):
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                httpx.get(f"{url}/_simulator/requests", trust_env=False)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield url


@contextmanager
def _up(scratch: Path, settings: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tradier_pipeline.cli", "up", "--port", str(free_port())]
    with _process(command, scratch, settings, "up.log") as process:
        yield process


@contextmanager
def _process(
    command: list[str], scratch: Path, settings: dict[str, str], log: str
) -> Iterator[subprocess.Popen[bytes]]:
    with (scratch / log).open("ab") as out:
        process = subprocess.Popen(command, cwd=scratch, env={**os.environ, **settings}, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _cpu_seconds(parent: int) -> dict[str, float]:
    """What every descendant of a process has used, the ones it has waited for included."""
    used: dict[int, tuple[int, str, float]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it has ended
            continue
        ticks = sum(map(int, fields[11:15]))
        used[int(entry.name)] = (int(fields[1]), command, ticks / os.sysconf("SC_CLK_TCK"))
    family, grown = {parent}, True
    while grown:
        children = {pid for pid, (above, _, _) in used.items() if above in family} - family
        family, grown = family | children, bool(children)
    return {f"{pid} {used[pid][1]}": used[pid][2] for pid in family - {parent}}


if __name__ == "__main__":
    main()
