"""The ledger beside a snapshot is stored with it, once and for good; the findings go on from snapshot to snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tradier_pipeline import clock
from tradier_pipeline.cli import main
from tradier_pipeline.core.settings import DEMO_ACCOUNT, load_settings
from tradier_pipeline.domain.gate import DEFAULT_RULES
from tradier_pipeline.landing.zone import LandedSnapshot, LandingZone
from tradier_pipeline.ledger.store import Ledger, LedgerError
from tradier_pipeline.publish.ledger_state import read_ledger, reconcile_typed
from tradier_pipeline.publish.store import rebuild, store_snapshot
from tradier_pipeline.reconcile.facts import LedgerState
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline.warehouse.reconciled_rows import table_rows
from tradier_pipeline.warehouse.staging import Warehouse, WarehouseError
from tradier_pipeline.warehouse.typed import read_typed
from tradier_pipeline_tests.cli.test_ledger import SPREAD, believes, entry, ledger, shows  # noqa: F401
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.reconcile.values import ACCOUNT, put, trade
from tradier_pipeline_tests.support.bodies import AS_OF, account, answers, balances, land, order, position, zone_in
from tradier_pipeline_tests.support.unpublished import unpublished

pytestmark = pytest.mark.usefixtures("without_days")

MINUTE = timedelta(minutes=1)
YESTERDAY = AS_OF - timedelta(days=1)
OPEN = LedgerState(trades=(trade(opened_at=YESTERDAY, created_at=YESTERDAY, entry_price=Decimal("2.05")),))
HELD = (position(put(290), -1, id=1), position(put(285), 1, id=2))
FINDINGS = """
    SELECT code, subject, times_seen, resolved_at IS NOT NULL FROM findings
    WHERE code <> 'change_unexplained' ORDER BY first_seen, code, subject
"""


class Bench:
    """Snapshots of one account, a minute apart."""

    def __init__(self, zone: LandingZone, warehouse: Warehouse) -> None:
        self.zone, self.warehouse, self.minutes = zone, warehouse, 0
        self.cash, self.held, self.orders = Decimal(10_000), dict[str, int](), list[Any]()

    def land(self, *held: Any, **fields: Any) -> LandedSnapshot:
        """What is held differs from before by what somebody's orders filled."""
        now = {row["symbol"]: row["quantity"] for row in held}
        if self.minutes and not fields:
            for symbol in sorted(now.keys() | self.held.keys()):
                if moved := now.get(symbol, 0) - self.held.get(symbol, 0):
                    self._fill(symbol, moved)
        self.minutes, self.held = self.minutes + 1, self.held if fields else now
        cash = balances(total_cash=self.cash, total_equity=self.cash, market_value=0)
        reported = answers(
            account={"profile": {"account": account(ACCOUNT)}},
            positions=held,
            orders=self.orders,
            balances={"balances": cash},
        )
        return land(self.zone, reported, AS_OF + self.minutes * MINUTE, **fields)

    def _fill(self, symbol: str, moved: int) -> None:
        option = len(symbol) > 15
        done = {"status": "filled", "quantity": abs(moved), "exec_quantity": abs(moved), "remaining_quantity": 0}
        at = AS_OF + (self.minutes + 0.5) * MINUTE
        way = ("buy" if moved > 0 else "sell") + ("_to_open" if option else "")
        named = {"option_symbol": symbol} if option else {"symbol": symbol}
        filled = order(
            len(self.orders) + 1, side=way, avg_fill_price=1, transaction_date=at.isoformat(), **named, **done
        )
        self.orders.append(filled | {"class": "option" if option else "equity"})
        self.cash -= moved * (100 if option else 1)

    def take(self, *held: Any, ledger_state: LedgerState | None = OPEN, **fields: Any) -> LandedSnapshot:
        landed = self.land(*held, **fields)
        store_snapshot(self.warehouse, landed, read_ledger=lambda *_: ledger_state)
        return landed

    def rows(self, sql: str = FINDINGS) -> list[tuple[Any, ...]]:
        with self.warehouse.staged() as staged:
            return staged.connection.execute(sql).fetchall()

    def everything(self) -> dict[str, list[tuple[Any, ...]]]:
        tables = (*schema.RECONCILED, schema.FINDINGS)
        return {table.name: self.rows(f"SELECT * FROM {table.name} ORDER BY ALL") for table in tables}


@pytest.fixture
def bench(tmp_path: Path, without_proof: None) -> Iterator[Bench]:
    with unpublished(tmp_path / "tradier.duckdb") as warehouse:
        yield Bench(zone_in(tmp_path), warehouse)


@pytest.fixture
def publishing(home: Home, without_proof: None) -> Bench:
    """One whose snapshots are published each by itself."""
    return Bench(zone_in(home.path), home.warehouse)


def test_every_stored_value_is_what_the_reconciliation_of_this_moment_says(
    home: Home,
    simulated: Simulated,
    ledger: Ledger,  # noqa: F811
) -> None:
    believes(ledger)
    shows(simulated, SPREAD, [entry()])
    ledger_state = read_ledger(load_settings())
    landed, _ = take(home, simulated.broker, ledger_state=ledger_state)
    with connect_readonly(home.warehouse.path) as connection:
        expected = table_rows(reconcile_typed(connection, read_typed(landed), ledger_state, DEFAULT_RULES.calendar))
        for table in schema.RECONCILED:
            stored = connection.execute(f"SELECT * EXCLUDE ({', '.join(schema.KEY_NAMES)}) FROM {table.name}")
            names = [column[0] for column in stored.description or ()]
            assert expected[table.name]
            assert [dict(zip(names, row, strict=True)) for row in stored.fetchall()] == expected[table.name]
            lead = connection.execute(f"SELECT DISTINCT {', '.join(schema.KEY_NAMES)} FROM {table.name}").fetchall()
            header = connection.execute(f"SELECT {', '.join(schema.KEY_NAMES)} FROM tradier_snapshots").fetchall()
            assert lead == header


def test_a_problem_goes_on_is_resolved_and_begins_anew(bench: Bench) -> None:
    bench.take(*HELD)
    assert bench.rows() == []
    bench.take(HELD[0])
    bench.take(HELD[0])
    assert bench.rows() == [("legs_missing", "t-1", 2, False)]
    bench.take(*HELD)
    assert bench.rows() == [("legs_missing", "t-1", 2, True)]
    bench.take(HELD[0])
    assert bench.rows() == [("legs_missing", "t-1", 2, True), ("legs_missing", "t-1", 1, False)]
    is_open = "SELECT finding_id, times_seen FROM open_findings WHERE severity = 'error'"
    assert bench.rows(is_open) == [(f"{ACCOUNT}:legs_missing:t-1", 1)]


def test_without_a_ledger_nothing_is_stored_and_one_that_cannot_be_read_leaves_its_findings_open(bench: Bench) -> None:
    bench.take(*HELD, ledger_state=LedgerState(tag_prefix="engine-"))
    bench.take(*HELD, ledger_state=None)
    assert not any(bench.everything().values())
    bench.take(HELD[0])
    bench.take(*HELD, ledger_state=None)
    assert bench.rows() == [("legs_missing", "t-1", 1, False)]
    assert bench.rows("SELECT count(DISTINCT snapshot_id) FROM trade_reconciliation") == [(1,)]
    bench.take(*HELD, ledger_state=LedgerState())
    assert bench.rows() == [("legs_missing", "t-1", 1, True)]


def test_a_torn_snapshot_opens_only_that_and_resolves_and_proposes_nothing(bench: Bench) -> None:
    bench.take(HELD[0])
    stale = LedgerState(trades=(OPEN.trades[0].model_copy(update={"status": "CLOSING_PENDING"}),))
    bench.take(HELD[1], verdict="torn", ledger_state=stale)
    assert bench.rows() == [("legs_missing", "t-1", 1, False), ("doubtful", None, 1, False)]
    proposed = "SELECT proposed IS NOT NULL FROM trade_reconciliation WHERE as_of = (SELECT max(as_of) FROM positions)"
    assert bench.rows("SELECT count(proposed) FROM trade_reconciliation") == [(0,)]
    bench.take(*HELD, ledger_state=stale)
    assert [row[3] for row in bench.rows()] == [True, True]
    assert bench.rows(proposed) == [(True,)]


def test_a_replay_keeps_what_the_ledger_led_to_then_and_counts_nothing_twice(bench: Bench) -> None:
    bench.take(*HELD)
    landed = bench.take(HELD[0])
    before = bench.everything()
    store_snapshot(bench.warehouse, landed, read_ledger=lambda *_: LedgerState())
    assert bench.everything() == before


def test_a_snapshot_older_than_the_newest_is_not_set_beside_the_ledger_of_now(bench: Bench) -> None:
    late = bench.land()
    bench.take(*HELD)
    before = bench.everything()
    store_snapshot(bench.warehouse, late, read_ledger=lambda *_: OPEN)
    assert bench.everything() == before


def test_positions_that_are_gone_without_a_trace_resolve_nothing_and_close_nothing(bench: Bench) -> None:
    bench.take(HELD[0])
    bench.take(verdict="unknown")
    assert bench.rows() == [("legs_missing", "t-1", 1, False), ("doubtful", None, 1, False)]
    assert bench.rows("SELECT count(proposed) FROM trade_reconciliation WHERE proposed LIKE '%CLOSED%'") == [(0,)]
    assert bench.rows("SELECT count(*) FROM portfolio_positions") == [(1,)]


def test_a_rebuild_keeps_what_only_the_old_file_can_tell_and_says_when_it_is_lost(publishing: Bench) -> None:
    bench = publishing
    bench.take(*HELD)
    bench.take(HELD[0])
    before = bench.everything()
    assert all(before[name] for name in ("trade_reconciliation", "reconciliation_findings", "findings"))
    assert rebuild(bench.warehouse, bench.zone, lambda _: None).kept_findings
    assert bench.everything() == before
    bench.warehouse.path.chmod(0o600)
    bench.warehouse.path.write_bytes(b"x" * 20_000)
    assert not rebuild(bench.warehouse, bench.zone, lambda _: None).kept_findings
    assert not any(bench.everything().values())
    bench.take(HELD[0])
    assert bench.rows() == [("legs_missing", "t-1", 1, False)]


def test_an_unexplained_change_is_a_finding_without_any_ledger(bench: Bench) -> None:
    for cash in (1000, 6000, 6000, 6000):
        bench.minutes += 1
        reported = answers(balances={"balances": balances(total_cash=cash, total_equity=cash, market_value=0)})
        store_snapshot(bench.warehouse, land(bench.zone, reported, AS_OF + bench.minutes * MINUTE))
    found = "SELECT code, subject, times_seen, resolved_at FROM findings"
    assert bench.rows(found) == [("change_unexplained", "cash", 1, None)]


def test_a_malformed_row_of_the_ledger_is_told_in_one_line(home: Home, ledger: Ledger) -> None:  # noqa: F811
    import sqlite3

    believes(ledger)
    with sqlite3.connect(ledger.path) as connection:
        connection.execute("PRAGMA ignore_check_constraints = on")
        connection.execute("UPDATE trades SET quantity = 'many'")
    connection.close()
    with pytest.raises(LedgerError, match="the row t-1 of the ledger has an odd quantity"):
        read_ledger(load_settings())


# --- the command ------------------------------------------------------------------------------------------------------


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["findings", *arguments], prog_name="tradier-pipeline")
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_lists_open_findings_the_worst_first_and_with_all_the_resolved_ones(publishing: Bench) -> None:
    publishing.take(*HELD)
    assert run() == "no open findings\n"
    publishing.take(*HELD, position(put(270), 1, id=3))  # older, and less bad
    publishing.take(HELD[0], position(put(270), 1, id=3))
    reported = run()
    assert reported.index("error legs_missing t-1: less is held than it ought to hold") < reported.index(
        "warn  position_with"
    )
    assert "Look at the position at the broker before anything trades this underlying." in reported
    publishing.take(*HELD)
    assert "legs_missing" not in run("--account", ACCOUNT)
    assert f"resolved {(AS_OF + 4 * MINUTE).astimezone(clock.NEW_YORK):%Y-%m-%d %H:%M}" in run("--all")
    assert run("--all", "--account", DEMO_ACCOUNT) == "no findings\n"
    assert '"code": "legs_missing"' in run("--all", "--json")


def test_a_warehouse_of_an_earlier_version_is_told_to_take_a_snapshot(bench: Bench) -> None:
    from tradier_pipeline.warehouse.reads import findings

    earlier = f"CREATE OR REPLACE MACRO schema_version() AS {schema.SCHEMA_VERSION - 1}"
    with bench.warehouse.staged() as staged:
        staged.connection.execute(earlier)
        with pytest.raises(WarehouseError, match="Take a snapshot"):
            findings(staged.connection, None, resolved=False)
