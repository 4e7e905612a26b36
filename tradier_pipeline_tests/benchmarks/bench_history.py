"""Measure a year of minute history as its users read it: `make bench-history`; `make bench-history YEARS=10` for ten.

The year is made up (year.py) and published once; the years before it are copies of it, sealed. Each time of a question
is that of opening the file, asking, and fetching every row; the file is in the page cache. What is asked of more years
than one at once has no budget there: it has as many rows more. A publish is measured by its
CPU time beside one into an empty warehouse, in turn: other work on the machine changes both.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from pathlib import Path

from pydantic import SecretStr

from tradier_pipeline import clock
from tradier_pipeline.core.files import size_of
from tradier_pipeline.core.settings import DEMO_TOKEN
from tradier_pipeline.extract.connection import Broker
from tradier_pipeline.landing.zone import LandingZone
from tradier_pipeline.publish.seal import seal
from tradier_pipeline.publish.store import store_snapshot
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.warehouse import exposure, spread_book
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline.warehouse.staging import Warehouse
from tradier_pipeline_tests.benchmarks.bench import Figure, landed_now
from tradier_pipeline_tests.support.year import FIRST_DAY, SESSIONS_OF_A_YEAR, add_earlier, fill, sessions

ROUNDS = 9
LONG_MS = 1000
MINUTE = timedelta(minutes=1)
DAYS_MS, AT_MS, STATEMENT_MS, SYMBOL_MS = 50, 100, 150, 200
ACCOUNT = "VA12345678"
BY_DAY = ("cash_by_day", "broker_latency", "lags_behind_fills", "doubtful_spans")
COUNTED = ("tradier_snapshots", "positions", "quotes", "orders")
RELATIONS = """
    SELECT view_name FROM duckdb_views() WHERE NOT internal AND database_name = 'tradier'
    UNION ALL
    SELECT function_name FROM duckdb_functions()
    WHERE function_type = 'table_macro' AND NOT internal AND database_name = 'tradier'
"""


@dataclass(frozen=True, slots=True)
class Question:
    """What a user asks. `budget`: milliseconds; None: none was set. `whole`: of all rows, as many as years."""

    what: str
    sql: str
    budget: int | None = None
    whole: bool = False


def questions(relation: str, day: str) -> tuple[Question, ...]:
    """What is asked of a view or macro.

    Args:
        day: a trade date in the middle of the year.
    """
    of_day = f"WHERE account_id = '{ACCOUNT}' AND trade_date = '{day}'"
    if relation in ("positions_at", "balances_at", "orders_at"):
        instants = {"first day": "2025-01-02", "middle": day, "newest": "2099-01-01"}
        return tuple(
            Question(f"{relation}, {when}", f"FROM {relation}('{date} 20:00:00+00')", AT_MS)
            for when, date in instants.items()
        )
    if relation == "position_history":
        return tuple(
            Question(f"{relation}, {what}", f"FROM {relation}('{symbol}')", SYMBOL_MS, whole=True)
            for what, symbol in (("held all year", "SPY"), ("252 times for an hour", "F"), ("never", "X"))
        )
    if relation in ("daily_balances", "equity_curve", "total_equity_curve", "coverage"):
        return (
            Question(f"{relation}, all days", f"FROM {relation} ORDER BY trade_date", DAYS_MS),
            Question(f"{relation}, a day", f"FROM {relation} WHERE trade_date = '{day}'", DAYS_MS),
        )
    if relation in ("balance_history", "order_events", "account_performance", *(view.name for view in exposure.VIEWS)):
        return (
            Question(f"{relation}, a day", f"FROM {relation} {of_day} ORDER BY as_of", DAYS_MS),
            Question(f"{relation}, the newest ten", f"FROM {relation} ORDER BY as_of DESC LIMIT 10"),
            Question(f"{relation}, the year, counted", f"SELECT count(COLUMNS(*)) FROM {relation}"),
        )
    if relation in (view.name for view in spread_book.VIEWS):  # a year of it is asked by no one: minutes
        return (Question(f"{relation}, a day", f"FROM {relation} {of_day} ORDER BY as_of", DAYS_MS),)
    is_statement = relation == "account_statements" or relation.startswith("pnl_by_") or relation.endswith("ly_returns")
    whole = Question(f"{relation}, all", f"FROM {relation}", STATEMENT_MS if is_statement else AT_MS, whole=True)
    return (
        (whole, Question(f"{relation}, a day", f"FROM {relation} {of_day}", DAYS_MS))
        if relation in BY_DAY
        else (whole,)
    )


def main() -> None:
    figures = []
    with tempfile.TemporaryDirectory(prefix="bench-history-") as scratch:
        for figure in measure(Path(scratch)):
            figures.append(figure)
            mark = "ok  " if figure.met else "OVER"
            bare = "" if figure.bare is None else f" bare {figure.bare:,.1f} ratio {figure.ratio}"
            unit = f"{figure.unit:<4}{bare} (budget {figure.budget})"
            print(f"{mark} {figure.what:<58} {figure.measured:>12,.1f} {unit}", flush=True)
    report = Path(os.environ.get("BENCH_JSON", "bench-history.json"))
    report.write_text(json.dumps([asdict(figure) for figure in figures], indent=1))
    print(f"written to {report}")


def measure(home: Path) -> Iterator[Figure]:
    warehouse = Warehouse(home / "tradier.duckdb")
    days = [session for session in sessions(SESSIONS_OF_A_YEAR) if session.date.year == FIRST_DAY.year]  # whole months
    with warehouse.staged() as staged:
        fill(staged.connection, days, ACCOUNT)
    yield Figure("the file", warehouse.path.stat().st_size / 1e6, None, "MB", "-", True)
    with connect_readonly(warehouse.path) as connection:
        for table in COUNTED:
            ((rows,),) = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
            yield Figure(f"rows of {table}", rows, None, "", "-", True)
        relations = [relation for (relation,) in connection.execute(RELATIONS).fetchall()]
    asked = [one for relation in relations for one in questions(relation, str(days[len(days) // 2].date))]
    for question in asked:
        yield _figure(warehouse.path, question)
    seal(warehouse)
    years = int(os.environ.get("YEARS", "1"))
    if years > 1:
        add_earlier(warehouse, years)
    written, whole = warehouse.path.stat().st_size, size_of(home)
    yield Figure("the file, sealed", written / 1e6, None, "MB", "<= 60 MB", written <= 60e6)
    yield Figure(f"file and sealed files of {years} years", whole / 1e6, None, "MB", "<= 1000 MB", whole <= 1e9)
    yield from _publish_figures(home, warehouse, days[-1].date)
    for question in asked:
        budget = None if question.whole and years > 1 else question.budget
        yield _figure(warehouse.path, replace(question, what=f"{question.what}, sealed", budget=budget))


def _publish_figures(home: Path, warehouse: Warehouse, last: date) -> Iterator[Figure]:
    """CPU milliseconds of storing, proving and publishing a snapshot of another account, against an empty warehouse.

    Args:
        last: the last date of the history; the account begins in the session after it.
    """
    empty, zone = Warehouse(home / "empty" / "tradier.duckdb"), LandingZone(home / "raw")
    first, second = sessions(2, last + timedelta(days=1))
    instants = [session.open + minute * MINUTE for session in (first, second) for minute in range(30, 32 + ROUNDS)]
    now = instants[:1]
    used: dict[tuple[Warehouse, date], list[float]] = defaultdict(list)
    with embedded_simulator(None, clock=lambda: now[0], limits=None) as url:
        broker = Broker(url, SecretStr(DEMO_TOKEN), "simulator")
        for now[0] in instants:
            with clock.standing_at(now[0]):
                landed = landed_now(zone, broker)
                for one in (warehouse, empty):
                    started = time.process_time()
                    store_snapshot(one, landed)
                    used[one, now[0].date()].append((time.process_time() - started) * 1000)
    for session, what in ((first, "CPU of an account's first publishes, sealed"), (second, "CPU of a publish, sealed")):
        # the first two of a session create what is not there
        ours, theirs = (statistics.median(used[one, session.date][2:]) for one in (warehouse, empty))
        yield Figure(what, ours, theirs, "ms", "<= 1.3 x", ours / theirs <= 1.3)


def _figure(path: Path, question: Question) -> Figure:
    first = _asked_ms(path, question.sql)
    rounds = ROUNDS if first < LONG_MS else 1  # what takes seconds varies by less than anyone minds
    taken = statistics.median([first, *(_asked_ms(path, question.sql) for _ in range(rounds - 1))])
    budget = "-" if question.budget is None else f"<= {question.budget} ms"
    return Figure(question.what, taken, None, "ms", budget, question.budget is None or taken <= question.budget)


def _asked_ms(path: Path, sql: str) -> float:
    started = time.perf_counter()
    with connect_readonly(path) as connection:
        connection.execute(sql).fetchall()
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    main()
