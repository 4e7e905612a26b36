"""A scripted engine at the simulated broker: each trade is summarized once, and as the broker closed it."""

from __future__ import annotations

from collections import Counter
from datetime import time, timedelta
from decimal import Decimal
from functools import partial

import pytest

from tradier_pipeline.core.settings import load_settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.extract.activity import extract_activity
from tradier_pipeline.extract.snapshot import extract_quotes, extract_snapshot
from tradier_pipeline.landing.activity import ActivityRange
from tradier_pipeline.ledger.writeback import apply
from tradier_pipeline.publish.ledger_state import read_relevant_ledger
from tradier_pipeline.publish.store import store_activity, store_snapshot
from tradier_pipeline.publish.summaries import make_summaries, summary_evidence
from tradier_pipeline.reconcile.gainloss import GAINLOSS_CHECKS
from tradier_pipeline.reconcile.summary_checks import SUMMARY_CHECKS
from tradier_pipeline.warehouse.closings import cash_days, closed_day
from tradier_pipeline.warehouse.reads import connect_readonly, daily_summaries
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.cycles.conftest import OPEN, Clock
from tradier_pipeline_tests.reconcile.month import ACCOUNT, FIRST, PREFIX, Month, month

TIMES = (time(9, 45), time(12, 30), time(16, 20))
SESSIONS = 6  # over a Friday, on which options expire


def snapshot(lived: Month) -> None:
    """Read, store beside the ledger, write back."""
    lived.keep_time()
    landed = extract_snapshot(lived.home.zone, lived.simulated.broker, SnapshotId.now(ACCOUNT), "test")
    extract_quotes(lived.home.zone, lived.simulated.broker, landed)
    typed, _ = store_snapshot(lived.home.warehouse, landed, read_ledger=partial(read_relevant_ledger, load_settings()))
    if typed.reconciled:
        apply(lived.ledger, str(landed.snapshot_id), typed.reconciled.changes)


@pytest.mark.soak  # the rules one by one: warehouse/test_summaries; a month of this engine: test_month
def test_every_trade_is_summarized_once_and_agrees_with_the_closed_lots(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Clock(OPEN)
    monkeypatch.setattr("tradier_pipeline.clock.now", machine.now)
    monkeypatch.setenv("TRADIER_ORDER_TAG_PREFIX", PREFIX)
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", ACCOUNT)
    monkeypatch.setattr(Month, "inject", lambda *_: None)
    monkeypatch.setattr(Month, "snapshot", snapshot)
    with month(home, machine) as lived:
        lived.sessions(SESSIONS, TIMES)
        last = FIRST + timedelta(days=SESSIONS + 1)
        lived.go_to(machine.time + timedelta(hours=15))
        wanted = ActivityRange(ACCOUNT, FIRST, last)
        landed = extract_activity(home.zone, lived.simulated.broker, wanted)
        store_activity(home.warehouse, landed, MarketCalendar("XNYS"))
        trades = {trade.trade_id: trade for trade in lived.ledger.trades()}
    days = [FIRST + timedelta(days=number) for number in (0, 1, 2, 3, 4, 7)]
    assert days[-1] == last
    for day in days:
        make_summaries(home.warehouse, day)
    with connect_readonly(home.warehouse.path) as connection:
        rows = daily_summaries(connection)
        assert [row["trade_date"] for row in rows] == days
        for check in SUMMARY_CHECKS:
            assert check.run(*(summary_evidence(connection, row) for row in rows)).differences == ()
        found = [closed_day(connection, ACCOUNT, day) for day in days]
        cash = [row for day in days for row in cash_days(connection, day)]
        open_fees = connection.execute("SELECT sum(unexplained) FROM conservation WHERE state = 'fees'").fetchone()
        told_fees = connection.execute("SELECT sum(fees) FROM cash_by_day").fetchone()
    counted = Counter(one["id"] for row in rows for one in row["closed_trades"])
    assert counted == Counter(key for key, trade in trades.items() if trade.status == "CLOSED")
    assert {one["id"] for one in rows[-1]["open_trades"]} == {
        key for key, trade in trades.items() if trade.status in ("OPEN", "CLOSING_PENDING")
    }
    reasons = Counter(trade.exit_reason for trade in trades.values() if trade.status == "CLOSED")
    assert reasons["NORMAL_EXIT"] > 3
    assert reasons["EXPIRED"] > 0
    known = [one["realized_pnl"] for row in rows for one in row["closed_trades"] if one["realized_pnl"] is not None]
    assert sum((row["realized_pnl"] or Decimal(0) for row in rows), Decimal(0)) == sum(known)
    compared = [day for day in found if day]
    assert sum(len(day.lots) for day in compared) > 10
    profits, contracts = (check.run(*compared) for check in GAINLOSS_CHECKS)
    assert contracts.differences == ()
    assert [day.trade_date for day in cash] == days[1:]
    assert {day.unexplained for day in cash} == {0}
    # what every snapshot had to leave to fees, history tells; an average price is rounded at its eighth digit
    (history,), (left_open,) = told_fees or (), open_fees or ()
    assert round(history, 4) == round(left_open, 4)
    # what expired on the Friday is concluded on the Monday, and counts on its own date
    assert {one["id"] for row in rows for one in row["closed_trades"] if one["realized_pnl"] is None} == set()
    assert profits.differences == ()
