"""The checks of the cycles: what was missed, two readings at once, too many requests, trading outside the session."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from tradier_pipeline import clock
from tradier_pipeline.core.outcome import Severity
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.landing.manifest import FailureRecord, LookupRecord, MissedRecord
from tradier_pipeline.landing.zone import MANIFEST, LandedSnapshot
from tradier_pipeline.publish.missed import new_missed
from tradier_pipeline.verify import CHECKS
from tradier_pipeline.warehouse import schema
from tradier_pipeline_tests.support.bodies import ACCOUNT, AS_OF, order, zone_in
from tradier_pipeline_tests.support.sampling import sampled
from tradier_pipeline_tests.verify.incidents import EARLIER, YESTERDAY, Bench, sound

MINUTE = timedelta(minutes=1)


def test_the_checks_have_their_numbers_and_severities() -> None:
    found = {check.name: (check.number, check.severity) for check in CHECKS}
    assert {
        "missed_equal": (None, Severity.FATAL),
        "gate_follows_snapshot": (None, Severity.FATAL),
        "minute_coverage": (12, Severity.WARN),
        "no_overlap": (13, Severity.FATAL),
        "request_budget": (14, Severity.WARN),
        "session_open_for_trading": (74, Severity.WARN),
    }.items() <= found.items()


def whole_minute(as_of: datetime) -> datetime:
    return as_of.replace(second=0, microsecond=0)


def missed(bench: Bench, at: datetime, recorded_at: datetime) -> None:
    record = MissedRecord(
        snapshot_id=str(SnapshotId(ACCOUNT, at)), trigger="monitor_cycle", recorded_at=recorded_at, reason="overlap"
    )
    zone_in(bench.home).record_missed(record)


def failed(bench: Bench, at: datetime, failed_at: datetime) -> None:
    record = FailureRecord(
        snapshot_id=str(SnapshotId(ACCOUNT, at)),
        environment="sandbox",
        trigger="trade_cycle",
        failed_at=failed_at,
        errors={"orders": "HTTP 503", "balances": "HTTP 503"},
        resources={},
    )
    zone_in(bench.home).land_failed(record, {})


def reported(bench: Bench, check: str) -> list[str]:
    return [difference.where for difference in bench.outcomes[check].differences]


@pytest.fixture
def troubled(bench: Bench) -> LandedSnapshot:
    """A good snapshot, then one of each kind of missed instant, and a good one again, all stored."""
    bench.take(as_of=AS_OF - 4 * MINUTE)
    missed(bench, whole_minute(AS_OF) - 3 * MINUTE, AS_OF - 2 * MINUTE)
    failed(bench, whole_minute(AS_OF) - 2 * MINUTE, AS_OF - 2 * MINUTE)
    refused = bench.take(as_of=EARLIER)
    bench.staged.connection.execute(f"DELETE FROM tradier_snapshots WHERE snapshot_id = '{refused.snapshot_id}'")
    landed = bench.take()
    bench.staged.miss(new_missed(bench.staged.connection, zone_in(bench.home), landed.snapshot_id))
    bench.again(landed)
    return landed


def test_what_was_missed_is_stored_as_the_landing_zone_tells_it(bench: Bench, troubled: LandedSnapshot) -> None:
    outcome = bench.outcomes["missed_equal"]
    assert (outcome.passed, outcome.broker, outcome.stored) == (True, "3 reported of", "3 stored")


@sampled("kind", ["missed", "failed", "refused"], kept=[1])  # one with all columns
def test_any_changed_value_of_a_missed_instant_is_found(bench: Bench, troubled: LandedSnapshot, kind: str) -> None:
    for column in schema.MISSED_SNAPSHOTS.column_names:
        if (kind, column) == ("refused", "reason"):
            continue  # what a check said then: no landed byte tells it
        another = "'x'" if column not in ("trade_date", "requested_at", "missed_at", "recorded_at") else f"{column} - 1"
        another = another.replace("- 1", "- INTERVAL 1 MICROSECOND") if column.endswith("_at") else another
        bench.spoil(troubled, f"UPDATE missed_snapshots SET {column} = {another} WHERE kind = '{kind}'")
        assert bench.outcomes["missed_equal"].blocks, column


def test_a_missed_instant_that_is_not_stored_or_was_none_is_found(bench: Bench, troubled: LandedSnapshot) -> None:
    for kind in ("missed", "failed", "refused"):
        bench.spoil(troubled, f"DELETE FROM missed_snapshots WHERE kind = '{kind}'")
        assert len(reported(bench, "missed_equal")) == 1
        assert bench.outcomes["missed_equal"].blocks
    for instant in ("2025-11-20T14:29:30Z", "2025-11-20T14:31:00Z"):  # invented, published
        row = f"SELECT * REPLACE ('{ACCOUNT}@{instant}' AS snapshot_id) FROM missed_snapshots WHERE kind = 'missed'"
        bench.spoil(troubled, f"INSERT INTO missed_snapshots {row}")
        assert reported(bench, "missed_equal") == [f"missed_snapshots {ACCOUNT}@{instant}"]


def test_what_is_recorded_while_a_snapshot_is_stored_may_come_with_the_next_one(bench: Bench) -> None:
    missed(bench, whole_minute(AS_OF) - MINUTE, clock.now() - timedelta(seconds=5))
    bench.take()
    assert bench.failed() == set()


def test_a_missed_instant_warns_at_the_next_good_snapshot_with_the_reason(
    bench: Bench, troubled: LandedSnapshot
) -> None:
    outcome = bench.outcomes["minute_coverage"]
    assert (outcome.passed, outcome.blocks) == (False, False)
    assert [(found.where.split("@")[1], found.broker[:8], found.stored) for found in outcome.differences] == [
        ("2025-11-20T14:28:00Z (monitor_cycle)", "overlap", "missed"),
        ("2025-11-20T14:29:00Z (trade_cycle)", "HTTP 503", "failed"),
        ("2025-11-20T14:30:00Z (test)", "landed a", "refused"),
    ]


def test_the_snapshot_after_that_is_covered(bench: Bench, troubled: LandedSnapshot) -> None:
    bench.take(as_of=AS_OF + MINUTE)
    assert bench.outcomes["minute_coverage"].passed


def test_a_minute_of_yesterday_that_is_found_to_be_missed_today_warns_today(bench: Bench) -> None:
    bench.take(as_of=YESTERDAY)
    bench.take(as_of=EARLIER)
    missed(bench, whole_minute(YESTERDAY) + MINUTE, AS_OF - timedelta(seconds=2))
    landed = bench.take()
    bench.staged.miss(new_missed(bench.staged.connection, zone_in(bench.home), landed.snapshot_id, ever=True))
    bench.again(landed)
    assert [where[:31] for where in reported(bench, "minute_coverage")] == [f"{ACCOUNT}@2025-11-19T14:32:00Z"]


@pytest.mark.parametrize(("took", "overlaps"), [(400, True), (300, False)], ids=["overlap", "one after the other"])
def test_two_readings_at_once_block(bench: Bench, took: int, overlaps: bool) -> None:
    first = bench.take(as_of=AS_OF - timedelta(milliseconds=300), took=timedelta(milliseconds=took))
    second = bench.take()
    assert bench.outcomes["no_overlap"].blocks == overlaps
    assert reported(bench, "no_overlap") == [str(first.snapshot_id)] * overlaps
    bench.again(first)  # and the earlier one of the two tells it, too
    assert reported(bench, "no_overlap") == [str(second.snapshot_id)] * overlaps


def again_with(bench: Bench, landed: LandedSnapshot, **changed: Any) -> None:
    """The same snapshot by another manifest."""
    manifest = landed.manifest.model_copy(update=changed)
    (landed.directory / MANIFEST).write_text(manifest.model_dump_json())
    bench.again(landed)


def limited(landed: LandedSnapshot, headers: Mapping[str, str]) -> dict[str, Any]:
    pages = landed.manifest.resources["orders"]
    reported = tuple(page.model_copy(update={"headers": headers}) for page in pages)
    return {"resources": landed.manifest.resources | {"orders": reported}}


def test_further_pages_of_orders_lookups_and_retries_are_within_the_budget(bench: Bench) -> None:
    pages = [{"orders": {"order": [order(number, tag="t")]}} for number in (1, 2)]
    lookups = [LookupRecord(order_id=number, state="not_found", times_not_found=2) for number in range(20)]
    landed = bench.take(sound(orders=pages), lookups=lookups)
    assert bench.outcomes["request_budget"].passed
    assert (bench.outcomes["request_budget"].broker, bench.outcomes["request_budget"].stored) == (
        "26 requests",
        f"{_retries(landed)} retries",
    )


def _retries(landed: LandedSnapshot) -> int:
    resources = (*landed.manifest.resources, "quotes")
    return sum(len(page.attempts) - 1 for resource in resources for page in landed.pages(resource))


def test_more_requests_than_a_snapshot_takes_warn(bench: Bench) -> None:
    landed = bench.sound()
    positions = landed.manifest.resources["positions"]
    again_with(bench, landed, resources=landed.manifest.resources | {"positions": (*positions, *positions)})
    assert reported(bench, "request_budget") == ["positions requests"]
    assert not bench.outcomes["request_budget"].blocks


def test_more_orders_asked_for_by_id_than_one_snapshot_may_warn(bench: Bench) -> None:
    asked = tuple(LookupRecord(order_id=number, state="failed") for number in range(21))
    again_with(bench, bench.sound(), lookups=asked)
    assert reported(bench, "request_budget") == ["orders by id"]


@pytest.mark.parametrize(("available", "enough"), [("24", True), ("23", False), ("many", True)])
def test_less_than_a_fifth_of_the_brokers_limit_left_warns(bench: Bench, available: str, enough: bool) -> None:
    landed = bench.sound()
    headers = {"x-ratelimit-allowed": "120", "x-ratelimit-available": available}
    again_with(bench, landed, **limited(landed, headers))
    assert bench.outcomes["request_budget"].passed == enough
    assert reported(bench, "request_budget") == ["of 120 a minute"] * (not enough)


@pytest.mark.parametrize(
    ("trigger", "requested_at", "passes"),
    [
        ("monitor_cycle,trade_cycle", "2025-11-20 14:30:00Z", True),
        ("trade_cycle", "2025-11-20 21:00:00Z", False),
        ("monitor_cycle,trade_cycle", "2025-11-20 14:29:59Z", False),
        ("account_sync", "2025-11-20 21:00:00Z", True),
    ],
)
def test_a_trade_cycle_outside_the_session_warns(bench: Bench, trigger: str, requested_at: str, passes: bool) -> None:
    changed = f"UPDATE tradier_snapshots SET trigger = '{trigger}', requested_at = TIMESTAMPTZ '{requested_at}'"
    bench.spoil(bench.sound(), changed)
    assert bench.outcomes["session_open_for_trading"].passed == passes
    assert not bench.outcomes["session_open_for_trading"].blocks


def test_a_trade_cycle_on_a_holiday_warns(bench: Bench) -> None:
    landed = bench.take(as_of=AS_OF + timedelta(days=7))  # Thanksgiving
    bench.spoil(landed, "UPDATE tradier_snapshots SET trigger = 'trade_cycle'")
    assert not bench.outcomes["session_open_for_trading"].passed


@pytest.mark.parametrize(
    "changed",
    ["open_positions = 0", "ready = false", "blockers = ['stale']", "max_open_positions = 1", "session_open = NULL"],
)
def test_a_reading_of_the_gate_that_does_not_follow_blocks(bench: Bench, changed: str) -> None:
    bench.spoil(bench.sound(), f"UPDATE trade_gate_readings SET {changed}")
    assert bench.outcomes["gate_follows_snapshot"].blocks
