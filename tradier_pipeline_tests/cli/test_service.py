"""How the broker and the pipeline serve: from snapshots over HTTP to `tradier-pipeline broker`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tradier_pipeline import clock
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.landing.manifest import MissedRecord
from tradier_pipeline.warehouse.activity import upsert_activity
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.report.conftest import Document, text_of
from tradier_pipeline_tests.support.activities import body_of, event, filed
from tradier_pipeline_tests.support.command_line import rows_of, run
from tradier_pipeline_tests.support.scripted_account import ACCOUNT, Broken, ScriptedAccount, filled, scripted_account

OPEN = datetime(2025, 11, 20, 14, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def account(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedAccount]:
    with scripted_account(home, monkeypatch) as scripted:
        yield scripted


def level(service: str, window: str = "day") -> dict[str, object]:
    (found,) = [
        row for row in rows_of("broker", "--table", "levels") if (row["service"], row["window"]) == (service, window)
    ]
    return found


def miss(account: ScriptedAccount, at: datetime) -> None:
    named = {"snapshot_id": f"{ACCOUNT}@{clock.iso(at)}", "trigger": "monitor_cycle"}
    account.home.zone.record_missed(MissedRecord(**named, recorded_at=at, reason="late"))


def test_latency_is_that_of_each_resource_over_the_dates_asked_for(account: ScriptedAccount) -> None:
    for number in range(3):
        account.shows(OPEN + number * MINUTE, ("KO", 100, 6000), cash=1000)
    found = {row["resource"]: row for row in rows_of("broker")}
    assert set(found) == {"account", "balances", "positions", "orders", "quotes"}
    for row in found.values():
        assert (row["reads"], row["retries"]) == (3, 0)
        assert 0 <= row["median_ms"] <= row["p95_ms"] <= row["worst_ms"]
    assert rows_of("broker", "--since", "2025-11-21") == []
    assert run("broker").stdout.splitlines()[0].split()[:2] == ["resource", "reads"]
    (hour,) = rows_of("broker", "--table", "hours")
    assert (hour["hour"], hour["reads"], hour["failures"]) == (9, 15, 0)
    with connect_readonly(account.home.warehouse.path) as connection:
        query = "SELECT resource, hour, reads, round(median_ms, 6), round(worst_ms, 6) FROM broker_latency ORDER BY ALL"
        of_view = connection.execute(query).fetchall()
    figures = {name: (round(row["median_ms"], 6), round(row["worst_ms"], 6)) for name, row in found.items()}
    assert of_view == [(name, 9, 3, *figures[name]) for name in sorted(found)]


def test_an_instant_that_the_broker_did_not_answer_is_a_failure_of_what_it_did_not_answer(
    account: ScriptedAccount,
) -> None:
    account.shows(OPEN, ("KO", 100, 6000), cash=1000)
    account.server.instead = {"positions": Broken("{}", 503), "orders": Broken("{}", 503)}
    with pytest.raises(PipelineError):
        account.shows(OPEN + MINUTE, ("KO", 100, 6000), cash=1000)
    account.server.instead = {}
    account.shows(OPEN + 2 * MINUTE, ("KO", 100, 6000), cash=1000)
    failed = {row["resource"]: row["failures"] for row in rows_of("broker")}
    assert failed == {"account": 0, "balances": 0, "positions": 1, "orders": 1, "quotes": 0}
    (hour,) = rows_of("broker", "--table", "hours")
    assert hour["failures"] == 2


def test_what_had_filled_and_was_not_held_yet_ran_behind_for_as_long_and_the_report_shows_it(
    account: ScriptedAccount,
) -> None:
    account.shows(OPEN, cash=7000)
    bought = [filled(1, "KO", "buy", 100, 60, OPEN + MINUTE - timedelta(seconds=5))]
    assert account.shows(OPEN + MINUTE, cash=7000, orders=bought) == "doubtful"
    account.shows(OPEN + 2 * MINUTE, ("KO", 100, 6000), cash=1000, orders=bought)
    lags = {row["resource"]: row for row in rows_of("broker", "--table", "lags")}
    assert set(lags) == {"positions", "balances"}
    for row in lags.values():
        assert (row["times"], row["going_on"]) == (1, 0)
        assert row["worst_s"] == pytest.approx(60, abs=5)
    assert f"behind fills: positions of {ACCOUNT} 1 time, median 60 s" in run("broker").stdout

    assert run("report").exit_code == 0
    page = Document((account.home.path / "reports" / ACCOUNT / "account.html").read_text())
    resources = {row[0]: row[1:4] for row in page.table("How long the broker took, 22 Oct")[1:]}
    assert resources == {
        row["resource"]: [str(row[name]) for name in ("reads", "retries", "failures")] for row in rows_of("broker")
    }
    assert [row[:2] for row in page.table("what had filled")[1:]] == [["positions", "1"], ["balances", "1"]]
    assert "Restated" not in text_of(page.section("broker"))  # which never happened


def test_what_the_broker_posted_late_or_took_back_is_counted_by_its_source(account: ScriptedAccount) -> None:
    account.shows(OPEN, cash=7000)
    day = OPEN.date()
    with account.home.warehouse.staged() as staged:
        for days, rows in ((1, []), (3, [event(day, 12.5)])):
            read_at = OPEN + timedelta(days=days)
            dates = (day, day + timedelta(days=days - 1))
            upsert_activity(
                staged.connection, filed(account.home.zone, dates, read_at, history=[body_of("history", rows)])
            )
    (row,) = rows_of("broker", "--table", "restated", "--since", str(day))
    assert (row["source"], row["reason"], row["changes"], row["days_late"]) == ("history", "posted late", 1, 3)
    assert "restated: history posted late 1 time, up to 12.50 USD, up to 3 days later" in run("broker").stdout


def test_a_time_in_doubt_lasts_until_the_next_snapshot_without_doubt_and_stays_listed_when_it_was_confirmed(
    account: ScriptedAccount,
) -> None:
    account.shows(OPEN, ("KO", 100, 6000), cash=1000)
    for minutes in (1, 2):
        assert account.shows(OPEN + minutes * MINUTE, cash=1000, counted=[("KO", 100, 6000)]) == "doubtful"
    (going_on,) = rows_of("broker", "--table", "doubt")
    assert (going_on["until"], going_on["seconds"]) == (None, None)
    assert "still" in run("broker").stdout
    assert account.shows(OPEN + 3 * MINUTE, ("KO", 100, 6000), cash=1000) == "good"
    (span,) = rows_of("broker", "--table", "doubt")
    assert (span["snapshots"], span["confirmed"]) == (2, 0)
    assert 115 < span["seconds"] < 125
    assert "KO" in span["evidence"]
    assert "in doubt: 1 time" in run("broker").stdout


def test_instants_that_were_missed_burn_the_budget_of_coverage(account: ScriptedAccount) -> None:
    account.shows(OPEN, ("KO", 100, 6000), cash=1000)
    miss(account, OPEN + MINUTE)
    account.shows(OPEN + 2 * MINUTE, ("KO", 100, 6000), cash=1000)
    coverage = level("coverage")
    assert (coverage["events"], coverage["bad"]) == (1.0, 1.0)  # those of a test are nobody's cycle
    assert coverage["burn_rate"] == pytest.approx(100)
    assert coverage["budget_left"] == pytest.approx(-99)
    assert "budget burns    coverage 0.00% of 99.0% over the week" in run("status").stdout


def test_seconds_without_a_fresh_snapshot_burn_the_budget_of_freshness(
    account: ScriptedAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    miss(account, OPEN + MINUTE)
    for minutes in (0, 2, 12):
        account.shows(OPEN + minutes * MINUTE, ("KO", 100, 6000), cash=1000)
    freshness = level("freshness")
    session = 390 * 60
    stale = (12 - 2) * 60 - 120 + (390 - 12) * 60 - 120
    assert freshness["events"] == session
    assert freshness["bad"] == pytest.approx(stale, abs=2)
    assert freshness["reached"] == pytest.approx(1 - stale / session, abs=1e-3)


def test_a_session_of_which_every_minute_was_missed_was_never_fresh(account: ScriptedAccount) -> None:
    miss(account, OPEN)
    account.shows(OPEN + timedelta(hours=8), ("KO", 100, 6000), cash=1000)
    assert level("freshness")["reached"] == pytest.approx(120 / (390 * 60))


def test_who_takes_snapshots_by_hand_owes_no_freshness_and_a_window_without_events_burns_nothing(
    account: ScriptedAccount,
) -> None:
    account.shows(OPEN, ("KO", 100, 6000), cash=1000)
    assert level("freshness")["reached"] is None
    assert "budget burns" not in run("status").stdout
    coverage = level("coverage", "month")
    assert (coverage["events"], coverage["reached"], coverage["burn_rate"]) == (0.0, None, None)
    assert level("verification")["reached"] == 1.0
