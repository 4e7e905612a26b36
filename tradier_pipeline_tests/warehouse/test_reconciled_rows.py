from __future__ import annotations

import json
from decimal import Decimal

import duckdb

from tradier_pipeline.reconcile.facts import Facts
from tradier_pipeline.reconcile.holdings import Holdings
from tradier_pipeline.reconcile.reconciliation import reconcile
from tradier_pipeline.warehouse.reconciled_rows import table_rows
from tradier_pipeline.warehouse.schema import KEY_NAMES, RECONCILED, ddl
from tradier_pipeline.warehouse.staging import insert
from tradier_pipeline_tests.reconcile.values import ACCOUNT, AS_OF, broker_order, engine_order, put, trade


def test_a_reconciliation_is_stored_whole_and_exact():
    orders = [engine_order(trade_id="t-1", broker_order_id=7, avg_fill_price=Decimal("1E30")), engine_order("e-2")]
    theirs = broker_order(
        *(7, "filled", {"sell_to_open": put(290), "buy_to_open": put(285)}),
        exec_quantity=1,
        avg_fill_price=Decimal("-2.05"),
    )
    facts = Facts(
        *(f"{ACCOUNT}@2025-12-02T15:00:00Z", ACCOUNT, AS_OF),
        positions={put(290): Decimal(-1), put(285): Decimal(1), "MSFT": Decimal(5)},
        orders=(theirs,),
        before=Holdings("x", AS_OF, frozenset()),
    )
    rows = table_rows(reconcile(orders, [trade(status="ENTRY_PENDING")], facts))
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    lead = dict(zip(KEY_NAMES, (facts.snapshot_id, ACCOUNT, AS_OF, AS_OF.date()), strict=True))
    for table in RECONCILED:
        connection.execute(ddl(table))
        assert all(lead.keys() | row.keys() == set(table.column_names) for row in rows[table.name])
        insert(connection, table, [lead | row for row in rows[table.name]])
    stored = connection.execute(
        "SELECT client_order_id, match_state, order_id, broker_price, ledger_price FROM order_reconciliation ORDER BY 1"
    ).fetchall()
    assert stored == [("e-1", "matched", 7, Decimal("-2.05"), None), ("e-2", "missing_at_broker", None, None, None)]
    ((status, price, allocated, proposed),) = connection.execute(
        "SELECT status, entry_price, allocated, proposed FROM trade_reconciliation"
    ).fetchall()
    assert (status, price, json.loads(allocated)) == ("OPEN", Decimal("2.05"), {put(290): "-1", put(285): "1"})
    assert json.loads(proposed)["entry_price"] == "2.05"
    assert connection.execute("SELECT trade_id, code, severity FROM reconciliation_findings").fetchall() == [
        (None, "position_without_trade", "info")
    ]
