"""The verdicts on changes are stored with the snapshot, follow it through rebuilds, and cannot be wrong unnoticed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tradier_pipeline.core.outcome import Outcome
from tradier_pipeline.domain.gate import DEFAULT_RULES
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.publish.derive import Known, known_of, upsert_word_findings, with_verdict
from tradier_pipeline.publish.store import rebuild
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.activity import upsert_activity
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline.warehouse.staging import StagedWarehouse
from tradier_pipeline.warehouse.typed import read_typed
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.extract.test_coherent_read import holding
from tradier_pipeline_tests.support.activities import body_of, event, filed
from tradier_pipeline_tests.support.bodies import (
    AS_OF,
    Answers,
    answers,
    balances,
    land,
    leg,
    order,
    position,
    spread,
    store,
    warehouse_in_memory,
    zone_in,
)
from tradier_pipeline_tests.support.sampling import sampled
from tradier_pipeline_tests.verify.test_mutations import ANOTHER

MINUTE = timedelta(minutes=1)
PUTS = ("SPY251219P00602500", "SPY251219P00597500")
COLUMNS = list(schema.CONSERVATION.columns)


def account(cash: Any, *held: Any, orders: Any = ()) -> Answers:
    reported = {"total_cash": Decimal(cash), "total_equity": Decimal(cash), "market_value": 0}
    return answers(positions=held, orders=orders, balances={"balances": balances(**reported)})


def opened() -> Any:
    """Two credit spreads, filled."""
    filled = {"status": "filled", "exec_quantity": 2, "remaining_quantity": 0, "quantity": 2}
    legs = [
        leg(11, PUTS[0], "sell_to_open", avg_fill_price=Decimal("2.10"), **filled),
        leg(12, PUTS[1], "buy_to_open", avg_fill_price=Decimal("0.90"), **filled),
    ]
    return spread(10, leg=legs, avg_fill_price=Decimal("-1.20"), **filled)


class Bench:
    """Snapshots of one account, a minute apart, in a warehouse that never reaches a disk."""

    def __init__(self, staged: StagedWarehouse, directory: Path) -> None:
        self.staged, self.zone = staged, zone_in(directory)
        self.minutes = 0

    def take(self, answers: Answers, **fields: Any) -> dict[str, Outcome]:
        self.minutes += 1
        landed = land(self.zone, answers, AS_OF + self.minutes * MINUTE, **fields)
        return {outcome.check: outcome for outcome in store(self.staged, landed)}

    def rows(self, columns: str) -> list[tuple[Any, ...]]:
        """Of the newest snapshot, by item."""
        query = (
            f"SELECT {columns} FROM conservation WHERE as_of = (SELECT max(as_of) FROM tradier_snapshots) ORDER BY 1"
        )
        return self.staged.connection.execute(query).fetchall()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with warehouse_in_memory() as staged:
        yield Bench(staged, tmp_path)


def test_fills_of_a_spread_explain_its_legs_and_its_cash_but_the_fees(bench: Bench) -> None:
    bench.take(account("1000.00"))
    held = (position(PUTS[0], -2, id=1), position(PUTS[1], 2, id=2))
    outcomes = bench.take(account("1238.60", *held, orders=[opened()]))
    assert bench.rows("item, change, explained, unexplained, state") == [
        (PUTS[1], 2, 2, 0, "explained"),
        (PUTS[0], -2, -2, 0, "explained"),
        ("cash", Decimal("238.60"), 240, Decimal("-1.40"), "fees"),
    ]
    assert outcomes["conservation_follows_snapshots"].passed
    assert outcomes["changes_explained"].passed


def test_a_deposit_is_in_flight_then_unexplained_and_then_past(bench: Bench) -> None:
    story = []
    for cash in ("1000.00", "6000.00", "6000.00", "6000.00"):
        outcomes = bench.take(account(cash))
        story.append((bench.rows("item, unexplained, state"), outcomes["changes_explained"].passed))
        assert outcomes["conservation_follows_snapshots"].passed
    assert story == [
        ([], True),
        ([("cash", 5000, "in_flight")], True),
        ([("cash", 5000, "unexplained")], False),
        ([("cash", 0, "explained")], True),
    ]


def test_a_snapshot_that_is_stored_already_keeps_what_confirmed_it_since_and_is_no_news(bench: Bench) -> None:
    landed = land(bench.zone, account("1000.00"), AS_OF)
    connection, typed = bench.staged.connection, read_typed(landed)
    assert known_of(connection, typed) == Known(is_news=True)
    store(bench.staged, landed)
    bench.staged.set_verdict(str(landed.snapshot_id), "good", "confirmed since")
    known = known_of(connection, typed)
    assert known == Known(False, "good", "confirmed since")
    kept = with_verdict(connection, typed, DEFAULT_RULES.calendar, known)
    assert (kept.verdict, kept.verdict_evidence) == ("good", "confirmed since")


def test_an_unknown_word_that_another_extract_brings_again_is_the_same_finding(bench: Bench) -> None:
    day, connection = AS_OF.date(), bench.staged.connection
    rows = [event(day, 3_000, "someBrandNewKind")]
    landed = filed(bench.zone, (day, day), AS_OF, history=[body_of("history", rows)])
    upsert_activity(connection, landed)
    for path in ("an extract", "another extract"):
        upsert_word_findings(connection, landed.manifest.account_id, path, AS_OF)
    found = connection.execute("SELECT subject, first_snapshot_id, last_snapshot_id FROM findings").fetchall()
    assert found == [("someBrandNewKind", "an extract", "an extract")]


def test_nothing_is_concluded_from_a_torn_snapshot_nor_compared_with_it(bench: Bench) -> None:
    bench.take(account("1000.00", position("AAPL", 5)))
    torn = bench.take(account("1000.00"), verdict="torn")
    assert bench.rows("item") == []
    assert torn["conservation_follows_snapshots"].passed
    assert torn["positions_follow_fills"].passed
    bench.take(account("1000.00", position("AAPL", 5)))
    assert bench.rows("item, change, state") == [("cash", 0, "explained")]


def test_positions_of_a_torn_snapshot_are_still_missed_when_they_are_gone(bench: Bench) -> None:
    bench.take(account("1000.00", position("AAPL", 5)), verdict="torn")
    outcomes = bench.take(account("1000.00"))
    assert not outcomes["flat_is_explained"].passed
    assert outcomes["conservation_follows_snapshots"].passed


def test_an_order_read_by_its_id_explains_what_it_filled(bench: Bench) -> None:
    working = order(7, symbol="AAPL", quantity=3, remaining_quantity=3)
    bench.take(account("1000.00", orders=[working]))
    done = {"status": "filled", "exec_quantity": 3, "remaining_quantity": 0, "avg_fill_price": Decimal("22.00")}
    bench.take(account("934.00", position("AAPL", 3), orders=[working | done]))
    assert bench.rows("item, unexplained, explanation") == [
        ("AAPL", 0, "+3 filled, order 7"),
        ("cash", 0, "-66 for +3 AAPL, order 7"),
    ]


@sampled("column", COLUMNS, kept=range(0, len(COLUMNS), 3))
def test_one_changed_value_in_any_column_is_found(bench: Bench, column: schema.Column) -> None:
    from tradier_pipeline.verify import verify_snapshot

    bench.take(account("1000.00", position("AAPL", 1)))
    bench.take(account("1500.00", position("AAPL", 3)))
    bench.take(account("1500.00", position("AAPL", 3), position("F", 1, id=2)))
    newest: LandedSnapshot = list(bench.zone.snapshots())[-1]
    changed = ANOTHER[column.type].format(column.name)
    bench.staged.connection.execute(
        f"UPDATE conservation SET {column.name} = {changed} WHERE item = 'F' AND snapshot_id = '{newest.snapshot_id}'"
    )
    failed = {outcome.check for outcome in verify_snapshot(newest, bench.staged.connection) if not outcome.passed}
    assert failed & {"conservation_follows_snapshots", "snapshot_atomic"}


@pytest.mark.soak  # end_to_end/test_verdicts, on an account that has more of them
def test_a_rebuild_comes_to_the_same_verdicts(home: Home, simulated: Simulated) -> None:
    for shares, cash in ((5, "1000.00"), (5, "6000.00"), (7, "6000.00"), (5, "6000.00"), (5, "6000.00")):
        holding(simulated, shares, cash=cash)
        take(home, simulated.broker)

    def stored() -> list[tuple[Any, ...]]:
        with connect_readonly(home.warehouse.path) as connection:
            return connection.execute("SELECT * FROM conservation ORDER BY as_of, item").fetchall()

    before = stored()
    assert [(row[5], row[12]) for row in before] == [
        ("cash", "in_flight"),
        ("cash", "unexplained"),
        ("cash", "explained"),
    ]
    rebuild(home.warehouse, home.zone, lambda _: None)
    assert stored() == before
