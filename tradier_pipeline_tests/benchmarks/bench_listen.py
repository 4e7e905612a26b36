"""How long from the broker's acknowledgement of an order to its snapshot, as a reader of the warehouse sees it.

Real processes: `tradier-pipeline listen` against `tradier-pipeline simulate`, one order after the other. Each order is
canceled, and the snapshot of that awaited, before the next one.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import duckdb
import httpx

from tradier_pipeline.core.settings import DEMO_ACCOUNT, DEMO_TOKEN
from tradier_pipeline.warehouse.reads import connect_readonly

ORDERS = 25
PACE_S = 10.0  # Tradier: 120 requests a minute; an order makes three snapshots of five
RESTING = {"class": "equity", "symbol": "KO", "side": "buy", "quantity": "1", "type": "limit", "price": "1.00"}
PATH = f"/v1/accounts/{DEMO_ACCOUNT}/orders"


def order_to_snapshot(orders: int = ORDERS) -> list[float]:
    """Seconds for each order, sorted."""
    with tempfile.TemporaryDirectory() as directory, _command(directory, "simulate", "--port", "0") as simulator:
        url = _line(simulator, "simulated broker at").split()[3]
        headers = {"Authorization": f"Bearer {DEMO_TOKEN}", "Accept": "application/json"}
        with httpx.Client(base_url=url, headers=headers, trust_env=False) as broker:
            broker.post("/_simulator/reset", json={"accounts": [{"id": DEMO_ACCOUNT}]})
            with _command(directory, "listen", TRADIER_BASE_URL=url) as listener:
                _line(listener, "published: listening began")
                return sorted(_one_order(broker, Path(directory) / "tradier.duckdb") for _ in range(orders))


def _one_order(broker: httpx.Client, warehouse: Path) -> float:
    placed = broker.post(PATH, data={**RESTING, "duration": "day"})
    acknowledged = time.perf_counter()
    order = placed.json()["order"]["id"]
    _until(lambda: _shows(warehouse, f"order_id = {order}"))
    took = time.perf_counter() - acknowledged
    _until(lambda: _shows(warehouse, f"order_id = {order} AND status = 'open'"))
    broker.delete(f"{PATH}/{order}")
    _until(lambda: _shows(warehouse, f"order_id = {order} AND status = 'canceled'"))
    time.sleep(max(0.0, PACE_S - (time.perf_counter() - acknowledged)))
    return took


def _shows(warehouse: Path, condition: str) -> bool:
    with connect_readonly(warehouse) as connection:
        try:
            return bool(connection.sql(f"SELECT 1 FROM orders WHERE {condition} LIMIT 1").fetchall())
        except duckdb.CatalogException:
            return False


def _until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not done():
        if time.monotonic() > end:
            raise SystemExit("the snapshot did not come within a minute")
        time.sleep(0.01)


def _line(process: IO[str], part: str) -> str:
    for line in process:
        if part in line:
            return line
    raise SystemExit(f"it ended without saying {part!r}")


@contextmanager
def _command(home: str, *arguments: str, **environment: str) -> Iterator[IO[str]]:
    """What a command of ours says on stderr while it runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tradier_pipeline.cli", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TRADIER_PIPELINE_HOME": home} | environment,
    )
    assert process.stderr is not None
    try:
        yield process.stderr
    finally:
        process.terminate()
        process.communicate()


def main() -> None:
    took = order_to_snapshot()
    p95 = statistics.quantiles(took, n=20, method="inclusive")[-1]
    print(
        f"order event -> snapshot, {len(took)} orders: p50 {statistics.median(took):.2f} s, p95 {p95:.2f} s, ", end=""
    )
    print(f"max {took[-1]:.2f} s (budget 3 s)")


if __name__ == "__main__":
    main()
