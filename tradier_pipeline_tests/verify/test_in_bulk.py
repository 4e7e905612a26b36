"""What the blocking rules find in many snapshots at once is what they find in each alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

import pytest

from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.verify import refuted
from tradier_pipeline.verify.evidence import Evidence
from tradier_pipeline.verify.in_bulk import Decoded, Neighbours
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.staging import StagedWarehouse
from tradier_pipeline_tests.support.bodies import (
    AS_OF,
    blocking,
    land,
    rich,
    store_unproven,
    warehouse_in_memory,
    zone_in,
)
from tradier_pipeline_tests.verify.test_mutations import ANOTHER, FREE, PROVEN

OF_ONE = "WHERE snapshot_id = (SELECT snapshot_id FROM tradier_snapshots ORDER BY as_of LIMIT 1 OFFSET 1)"

Stored = tuple[StagedWarehouse, Sequence[LandedSnapshot]]


def _another(table: schema.Table, column: schema.Column) -> str:
    another = ANOTHER[column.type].format(f'"{column.name}"')
    return f'UPDATE {table.name} SET "{column.name}" = {another} {OF_ONE}'


def _proven(table: schema.Table) -> list[schema.Column]:
    return [column for column in table.columns if (table.name, column.name) not in FREE]


CHANGES = [
    pytest.param(change, marks=() if place % 32 == 0 or place == 16 else pytest.mark.soak)
    for place, change in enumerate(
        [
            *(f"DELETE FROM {table.name} {OF_ONE}" for table in PROVEN),
            *(f"INSERT INTO {table.name} FROM {table.name} {OF_ONE}" for table in PROVEN),
            *(_another(table, column) for table in PROVEN for column in _proven(table)),
        ]
    )
]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """Three minutes of an account."""
    zone, landed = zone_in(tmp_path_factory.mktemp("bulk")), []
    with warehouse_in_memory() as staged:
        for minute in range(3):
            at = AS_OF + timedelta(minutes=minute)
            before = landed[-1].manifest.as_of if landed else None
            landed.append(land(zone, rich("margin"), at, previous_as_of=before, clock_skew_s=0.25))
            store_unproven(staged, landed[-1])
        yield staged, landed


def _found(staged: StagedWarehouse, landed: Sequence[LandedSnapshot]) -> tuple[object, object]:
    """What is wrong of all at once, and of one after the other."""
    together = [outcomes for _, outcomes in refuted(staged.connection, landed, Decoded())]
    alone = [blocking(one, staged.connection) for one in landed]
    return together, alone


def test_nothing_is_found_in_what_is_sound(stored: Stored) -> None:
    assert _found(*stored) == ([[], [], []], [[], [], []])


@pytest.mark.parametrize("change", CHANGES)
def test_the_same_is_found_at_once_as_of_each_alone(stored: Stored, change: str) -> None:
    staged, landed = stored
    staged.connection.execute("BEGIN")
    try:
        staged.connection.execute(change)
        together, alone = _found(staged, landed)
    finally:
        staged.connection.execute("ROLLBACK")
    assert together == alone


def test_a_damaged_snapshot_among_others_is_told_as_it_is_alone(stored: Stored) -> None:
    staged, landed = stored
    (path := landed[1].directory / "balances.json").write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    together, alone = _found(staged, landed)
    assert together == alone
    assert together != [[], [], []]


def test_one_in_doubt_is_passed_over_like_alone(stored: Stored) -> None:
    staged, landed = stored
    staged.connection.execute(f"UPDATE tradier_snapshots SET verdict = 'doubtful' {OF_ONE}")
    *_, evidence = Neighbours(staged.connection, landed, Decoded()).evidence()
    alone = Evidence(landed[-1], staged.connection)
    assert evidence.previous == alone.previous
    assert evidence.previous is not None
    assert evidence.previous["snapshot_id"] == str(landed[0].snapshot_id)
    assert evidence.read_meanwhile() == alone.read_meanwhile() == []
