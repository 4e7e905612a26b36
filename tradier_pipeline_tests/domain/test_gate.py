"""The trade gate: ready only when nothing speaks against it, and every blocker by its name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tradier_pipeline import clock
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.domain.gate import REASONS, GateRules, evaluate_gate, reasons
from tradier_pipeline.landing.manifest import FailureRecord, MissedRecord
from tradier_pipeline.publish.store import store_snapshot
from tradier_pipeline.warehouse import views
from tradier_pipeline.warehouse.reads import connect_readonly, trade_gates
from tradier_pipeline.warehouse.staging import Warehouse
from tradier_pipeline_tests.support.bodies import ACCOUNT, land, rich, zone_in

pytestmark = pytest.mark.usefixtures("without_days")

OPEN = datetime(2025, 11, 20, 14, 30, tzinfo=UTC)
CLOSE = datetime(2025, 11, 20, 21, 0, tzinfo=UTC)
DAY = date(2025, 11, 20)
ALL_DAY = MarketCalendar("24/7")


@pytest.mark.parametrize(
    ("as_of", "day", "open_positions", "limit", "blockers"),
    [
        (OPEN, DAY, 3, None, ()),
        (CLOSE - timedelta(microseconds=1), DAY, 3, 4, ()),
        (CLOSE, DAY, 3, 4, ("session_closed",)),
        (OPEN - timedelta(microseconds=1), DAY, 0, None, ("session_closed",)),
        (OPEN, DAY, 4, 4, ("max_open_positions",)),
        (OPEN, DAY, 0, 0, ("max_open_positions",)),
        (OPEN + timedelta(days=7), date(2025, 11, 27), 9, 4, ("session_closed", "max_open_positions")),
        (datetime(2025, 11, 28, 18, 0, tzinfo=UTC), date(2025, 11, 28), 0, None, ("session_closed",)),  # half day
    ],
)
def test_a_snapshot_is_judged_by_its_session_and_its_open_positions(
    as_of: datetime, day: date, open_positions: int, limit: int | None, blockers: tuple[str, ...]
) -> None:
    connect_readonly = evaluate_gate(as_of, day, open_positions, GateRules(max_open_positions=limit))
    assert (connect_readonly.blockers, connect_readonly.ready) == (blockers, not blockers)


# --- the view, by the clock -------------------------------------------------------------------------------------------


class Published:
    """A warehouse with a snapshot of a moment ago, and what is changed of it."""

    def __init__(self, home: Path) -> None:
        self.zone, self.warehouse = zone_in(home), Warehouse(home / "tradier.duckdb")

    def take(self, age: timedelta = timedelta(seconds=3), **rules: Any) -> str:
        landed = land(self.zone, rich(), clock.now() - age)
        store_snapshot(self.warehouse, landed, GateRules(**{"calendar": ALL_DAY, **rules}))
        return str(landed.snapshot_id)

    def gate(self, sql: str = "") -> dict[str, Any]:
        if sql:
            with self.warehouse.staged() as staged:
                staged.connection.execute(sql)
        with connect_readonly(self.warehouse.path) as connection:
            (gate,) = trade_gates(connection)
        return gate


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return Published(tmp_path)


def test_a_fresh_sound_snapshot_in_the_session_is_ready(published: Published) -> None:
    snapshot_id = published.take(max_open_positions=4)
    gate = published.gate()
    assert (gate["snapshot_id"], gate["ready"], gate["blockers"], gate["open_positions"]) == (snapshot_id, True, [], 3)
    assert 3 <= gate["age_s"] < 60


def finding_row(severity: str, resolved_at: str = "NULL") -> str:
    values = f"'id', '{ACCOUNT}', 'legs_missing', 't-1', '{severity}', 'text', NULL, 'look', now(), 'a', now(), 'a', 1"
    return f"INSERT INTO findings VALUES ({values}, {resolved_at})"


BLOCKED: dict[str, Callable[[Published], dict[str, Any]]] = {
    "stale": lambda home: (home.take(timedelta(seconds=121)), home.gate())[1],
    "stale by the setting": lambda home: (home.take(timedelta(seconds=20), max_age_s=10), home.gate())[1],
    "stale, of the future": lambda home: (
        home.take(),
        home.gate("UPDATE tradier_snapshots SET as_of = as_of + INTERVAL 1 MINUTE"),
    )[1],
    "stale, of unknown age": lambda home: (home.take(), home.gate("DELETE FROM trade_gate_readings"))[1],
    "max_open_positions": lambda home: (home.take(max_open_positions=3), home.gate())[1],
    "max_open_positions, not counted": lambda home: (home.take(), home.gate("DELETE FROM trade_gate_readings"))[1],
    "session_closed": lambda home: (
        home.take(),
        home.gate("UPDATE trade_gate_readings SET session_close = now() - INTERVAL 1 SECOND"),
    )[1],
    "session_closed, not yet open": lambda home: (
        home.take(),
        home.gate("UPDATE trade_gate_readings SET session_open = now() + INTERVAL 1 HOUR"),
    )[1],
    "session_closed, no session": lambda home: (
        home.take(),
        home.gate("UPDATE trade_gate_readings SET session_open = NULL, session_close = NULL"),
    )[1],
    "doubtful": lambda home: (home.take(), home.gate("UPDATE tradier_snapshots SET verdict = 'doubtful'"))[1],
    "findings": lambda home: (home.take(), home.gate(finding_row("error")))[1],
    "balances_missing": lambda home: (home.take(), home.gate("DELETE FROM account_balances"))[1],
}


@pytest.mark.parametrize("case", BLOCKED)
def test_each_blocker_is_told_by_its_name_and_its_reason(published: Published, case: str) -> None:
    gate = BLOCKED[case](published)
    name = case.partition(",")[0].partition(" ")[0]
    assert gate["ready"] is False
    assert name in gate["blockers"]
    assert reasons(gate)[name]


def missed_row(kind: str, missed_at: str) -> str:
    values = f"'{ACCOUNT}@x', '{ACCOUNT}', current_date, now(), '{kind}', 'test', 'why {kind}', {missed_at}, now(), 'p'"
    return f"INSERT INTO missed_snapshots VALUES ({values})"


@pytest.mark.parametrize(
    ("kind", "blocker"),
    [("missed", "missed_snapshots"), ("failed", "missed_snapshots"), ("refused", "check_failed")],
)
def test_what_was_missed_after_the_snapshot_blocks_and_what_was_before_does_not(
    published: Published, kind: str, blocker: str
) -> None:
    published.take()
    assert published.gate(missed_row(kind, "now() - INTERVAL 10 MINUTE"))["ready"]
    gate = published.gate(missed_row(kind, "now()"))
    assert (gate["ready"], gate["blockers"]) == (False, [blocker])
    assert f"why {kind}" in reasons(gate)[blocker]


def test_only_open_errors_block_and_the_reason_says_what_they_are(published: Published) -> None:
    published.take()
    assert published.gate(finding_row("warn"))["ready"]
    assert published.gate(finding_row("error", "now()"))["ready"]
    assert published.gate("UPDATE tradier_snapshots SET coherence = NULL")["ready"]  # an earlier version did not judge
    gate = published.gate(finding_row("error"))
    assert (gate["ready"], gate["blockers"]) == (False, ["findings"])
    assert reasons(gate)["findings"] == "1 open errors, see `tradier-pipeline findings`: legs_missing"


def test_every_blocker_of_the_view_has_a_reason() -> None:
    (column,) = [column for column in views.TRADE_GATE.columns if column.name == "blockers"]
    assert all(name in column.comment for name in REASONS)
    assert set(REASONS) == set(views._CONDITIONS)


def test_an_engine_that_asks_for_an_account_without_a_row_is_told_not_ready(published: Published) -> None:
    published.take()
    ready = "SELECT coalesce(bool_and(ready), false) FROM trade_gate WHERE account_id = '{}'"
    with connect_readonly(published.warehouse.path) as connection:
        answers = [connection.execute(ready.format(account)).fetchone() for account in (ACCOUNT, "NOBODY")]
    assert answers == [(True,), (False,)]


# --- the instants that were missed ------------------------------------------------------------------------------------


def instants(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    with connect_readonly(warehouse.path) as connection:
        return connection.execute(
            "SELECT snapshot_id, kind, trigger, reason, missed_at FROM missed_snapshots ORDER BY ALL"
        ).fetchall()


def miss(published: Published, at: datetime, reason: str = "late") -> str:
    snapshot_id = str(SnapshotId(ACCOUNT, at))
    published.zone.record_missed(
        MissedRecord(snapshot_id=snapshot_id, trigger="monitor_cycle", recorded_at=clock.now(), reason=reason)
    )
    return snapshot_id


def fail(published: Published, at: datetime, failed_at: datetime, words: str) -> str:
    snapshot_id = str(SnapshotId(ACCOUNT, at))
    published.zone.land_failed(
        FailureRecord(
            snapshot_id=snapshot_id,
            environment="sandbox",
            trigger="trade_cycle",
            failed_at=failed_at,
            errors={"balances": words},
            resources={},
        ),
        {},
    )
    return snapshot_id


def test_the_newest_failure_outweighs_older_ones_and_the_record_that_it_was_missed(published: Published) -> None:
    minute = clock.now().replace(microsecond=0) - timedelta(minutes=9)
    only_missed = miss(published, minute - timedelta(minutes=1))
    failed = miss(published, minute)
    for seconds, words in ((2, "second"), (1, "first")):
        fail(published, minute, minute + timedelta(seconds=seconds), words)
    published.take()
    assert instants(published.warehouse) == [
        (only_missed, "missed", "monitor_cycle", "late", minute - timedelta(minutes=1)),
        (failed, "failed", "trade_cycle", "second", minute + timedelta(seconds=2)),
    ]


def test_a_later_failure_of_an_instant_takes_the_place_of_the_stored_one(published: Published) -> None:
    minute = clock.now().replace(microsecond=0) - timedelta(minutes=9)
    miss(published, minute)
    published.take(timedelta(minutes=2))
    fail(published, minute, minute + timedelta(minutes=8), "answered 503")
    published.take()
    assert [row[1:4] for row in instants(published.warehouse)] == [("failed", "trade_cycle", "answered 503")]


def test_an_instant_that_is_published_is_missed_no_more(published: Published) -> None:
    as_of = clock.now() - timedelta(seconds=30)
    fail(published, as_of.replace(microsecond=0), as_of, "HTTP 503")
    published.take(timedelta(minutes=5))
    assert len(instants(published.warehouse)) == 1
    landed = land(published.zone, rich(), as_of)
    store_snapshot(published.warehouse, landed, GateRules(ALL_DAY))
    assert instants(published.warehouse) == []


def test_minutes_of_an_earlier_day_that_are_found_to_be_missed_later_are_stored_too(published: Published) -> None:
    published.take(timedelta(days=3))
    published.take(timedelta(minutes=3))
    late = miss(published, (clock.now() - timedelta(days=3)).replace(microsecond=0) + timedelta(minutes=5))
    published.take()
    assert [row[0] for row in instants(published.warehouse)] == [late]


def test_a_record_that_cannot_be_read_costs_no_snapshot(published: Published) -> None:
    snapshot_id = miss(published, clock.now().replace(microsecond=0) - timedelta(minutes=2))
    (record,) = published.zone.root.glob("*/*/*.missed.json")
    record.write_text("{")
    published.take()
    ((found, kind, trigger, reason, _),) = instants(published.warehouse)
    assert (found, kind, trigger) == (snapshot_id, "missed", None)
    assert "is not a manifest" in reason
