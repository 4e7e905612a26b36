"""The trade gate: ready only when nothing speaks against it, and every blocker by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tradier_pipeline import clock
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.domain.gate import REASONS, GateRules, evaluate_gate, reasons
from tradier_pipeline.landing.manifest import FailureRecord, MissedRecord
from tradier_pipeline.landing.zone import LandingZone
from tradier_pipeline.publish.store import store_snapshot
from tradier_pipeline.warehouse import views
from tradier_pipeline.warehouse.reads import trade_gates
from tradier_pipeline_tests.support.bodies import ACCOUNT, land, rich, zone_in
from tradier_pipeline_tests.support.unpublished import Unpublished, unpublished

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


class Bench:
    """Snapshots of a moment ago, and what is changed of them."""

    def __init__(self, zone: LandingZone, warehouse: Unpublished) -> None:
        self.zone, self.warehouse = zone, warehouse

    def take(self, age: timedelta = timedelta(seconds=3), **rules: Any) -> str:
        landed = land(self.zone, rich(), clock.now() - age)
        store_snapshot(self.warehouse, landed, GateRules(**{"calendar": ALL_DAY, **rules}))
        return str(landed.snapshot_id)

    def gate(self) -> dict[str, Any]:
        (gate,) = trade_gates(self.warehouse.connection)
        return gate

    def missed(self) -> list[tuple[Any, ...]]:
        return self.warehouse.rows(
            "SELECT snapshot_id, kind, trigger, reason, missed_at FROM missed_snapshots ORDER BY ALL"
        )


@pytest.fixture
def bench(tmp_path: Path, without_proof: None) -> Iterator[Bench]:
    with unpublished(tmp_path / "tradier.duckdb") as warehouse:
        yield Bench(zone_in(tmp_path), warehouse)


Gate = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """What the gate of a good snapshot, which is good for an hour, is once something has been changed of it."""
    home = tmp_path_factory.mktemp("gate")
    with unpublished(home / "tradier.duckdb") as warehouse:
        kept = Bench(zone_in(home), warehouse)
        kept.take(max_age_s=3600)

        def gate(changes: str) -> dict[str, Any]:
            warehouse.connection.execute("BEGIN")
            try:
                for change in changes.split(";"):
                    warehouse.connection.execute(change)
                return kept.gate()
            finally:
                warehouse.connection.execute("ROLLBACK")

        yield gate


def test_a_fresh_sound_snapshot_in_the_session_is_ready(bench: Bench) -> None:
    snapshot_id = bench.take(max_open_positions=5)
    gate = bench.gate()
    assert (gate["snapshot_id"], gate["ready"], gate["blockers"], gate["open_positions"]) == (snapshot_id, True, [], 4)
    assert 3 <= gate["age_s"] < 60


def finding_row(severity: str, resolved_at: str = "NULL") -> str:
    values = f"'id', '{ACCOUNT}', 'legs_missing', 't-1', '{severity}', 'text', NULL, 'look', now(), 'a', now(), 'a', 1"
    return f"INSERT INTO findings VALUES ({values}, {resolved_at})"


BLOCKED = {
    "stale, of the future": "UPDATE tradier_snapshots SET as_of = now() + INTERVAL 1 MINUTE",
    "stale, of unknown age": "DELETE FROM trade_gate_readings",
    "max_open_positions, not counted": "DELETE FROM trade_gate_readings",
    "session_closed": "UPDATE trade_gate_readings SET session_close = now() - INTERVAL 1 SECOND",
    "session_closed, not yet open": "UPDATE trade_gate_readings SET session_open = now() + INTERVAL 1 HOUR",
    "session_closed, no session": "UPDATE trade_gate_readings SET session_open = NULL, session_close = NULL",
    "doubtful": "UPDATE tradier_snapshots SET verdict = 'doubtful'",
    "findings": finding_row("error"),
    "balances_missing": "DELETE FROM account_balances",
}


@pytest.mark.parametrize("case", BLOCKED)
def test_each_blocker_is_told_by_its_name_and_its_reason(taken: Gate, case: str) -> None:
    blocked(taken(BLOCKED[case]), case.partition(",")[0])


@pytest.mark.parametrize(
    ("blocker", "age", "rules"),
    [("stale", 20, {"max_age_s": 10}), ("max_open_positions", 3, {"max_open_positions": 4})],
)
def test_the_settings_say_from_when_on_it_is_blocked(
    bench: Bench, blocker: str, age: int, rules: dict[str, Any]
) -> None:
    bench.take(timedelta(seconds=age), **rules)
    blocked(bench.gate(), blocker)


def blocked(gate: dict[str, Any], name: str) -> None:
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
    taken: Gate, kind: str, blocker: str
) -> None:
    before = missed_row(kind, "now() - INTERVAL 10 MINUTE")
    assert taken(before)["ready"]
    gate = taken(f"{before}; {missed_row(kind, 'now()')}")
    assert (gate["ready"], gate["blockers"]) == (False, [blocker])
    assert f"why {kind}" in reasons(gate)[blocker]


def test_only_open_errors_block_and_the_reason_says_what_they_are(taken: Gate) -> None:
    others = f"{finding_row('warn')}; {finding_row('error', 'now()')}"
    assert taken(others)["ready"]
    assert taken("UPDATE tradier_snapshots SET coherence = NULL")["ready"]  # an earlier version did not judge
    gate = taken(f"{others}; {finding_row('error')}")
    assert (gate["ready"], gate["blockers"]) == (False, ["findings"])
    assert reasons(gate)["findings"] == "1 open errors, see `tradier-pipeline findings`: legs_missing"


def test_every_blocker_of_the_view_has_a_reason() -> None:
    (column,) = [column for column in views.TRADE_GATE.columns if column.name == "blockers"]
    assert all(name in column.comment for name in REASONS)
    assert set(REASONS) == set(views._CONDITIONS)


def test_an_engine_that_asks_for_an_account_without_a_row_is_told_not_ready(bench: Bench) -> None:
    bench.take()
    ready = "SELECT coalesce(bool_and(ready), false) FROM trade_gate WHERE account_id = '{}'"
    assert [bench.warehouse.rows(ready.format(account)) for account in (ACCOUNT, "NOBODY")] == [[(True,)], [(False,)]]


# --- the instants that were missed ------------------------------------------------------------------------------------


def miss(bench: Bench, at: datetime, reason: str = "late") -> str:
    snapshot_id = str(SnapshotId(ACCOUNT, at))
    bench.zone.record_missed(
        MissedRecord(snapshot_id=snapshot_id, trigger="monitor_cycle", recorded_at=clock.now(), reason=reason)
    )
    return snapshot_id


def fail(bench: Bench, at: datetime, failed_at: datetime, words: str) -> str:
    snapshot_id = str(SnapshotId(ACCOUNT, at))
    bench.zone.land_failed(
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


def test_the_newest_failure_outweighs_older_ones_and_the_record_that_it_was_missed(bench: Bench) -> None:
    minute = clock.now().replace(microsecond=0) - timedelta(minutes=9)
    only_missed = miss(bench, minute - timedelta(minutes=1))
    failed = miss(bench, minute)
    for seconds, words in ((2, "second"), (1, "first")):
        fail(bench, minute, minute + timedelta(seconds=seconds), words)
    bench.take()
    assert bench.missed() == [
        (only_missed, "missed", "monitor_cycle", "late", minute - timedelta(minutes=1)),
        (failed, "failed", "trade_cycle", "second", minute + timedelta(seconds=2)),
    ]


def test_a_later_failure_of_an_instant_takes_the_place_of_the_stored_one(bench: Bench) -> None:
    minute = clock.now().replace(microsecond=0) - timedelta(minutes=9)
    miss(bench, minute)
    bench.take(timedelta(minutes=2))
    fail(bench, minute, minute + timedelta(minutes=8), "answered 503")
    bench.take()
    assert [row[1:4] for row in bench.missed()] == [("failed", "trade_cycle", "answered 503")]


def test_an_instant_that_is_published_is_missed_no_more(bench: Bench) -> None:
    as_of = clock.now() - timedelta(seconds=30)
    fail(bench, as_of.replace(microsecond=0), as_of, "HTTP 503")
    bench.take(timedelta(minutes=5))
    assert len(bench.missed()) == 1
    landed = land(bench.zone, rich(), as_of)
    store_snapshot(bench.warehouse, landed, GateRules(ALL_DAY))
    assert bench.missed() == []


def test_minutes_of_an_earlier_day_that_are_found_to_be_missed_later_are_stored_too(bench: Bench) -> None:
    bench.take(timedelta(days=3))
    bench.take(timedelta(minutes=3))
    late = miss(bench, (clock.now() - timedelta(days=3)).replace(microsecond=0) + timedelta(minutes=5))
    bench.take()
    assert [row[0] for row in bench.missed()] == [late]


def test_a_record_that_cannot_be_read_costs_no_snapshot(bench: Bench) -> None:
    snapshot_id = miss(bench, clock.now().replace(microsecond=0) - timedelta(minutes=2))
    (record,) = bench.zone.root.glob("*/*/*.missed.json")
    record.write_text("{")
    bench.take()
    ((found, kind, trigger, reason, _),) = bench.missed()
    assert (found, kind, trigger) == (snapshot_id, "missed", None)
    assert "is not a manifest" in reason
