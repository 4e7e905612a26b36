"""The bodies Tradier is known to send, where they lie beside the checkout: each is stored whole, or refused in words.

Provenance (INDEX.md): D official sample, M captured, R rebuilt from a capture: these must be whole. Of the others none
may lose a row or a value without an error. Run with -s to see the verdict body by body.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tradier_pipeline.broker.errors import BodyError
from tradier_pipeline.core.outcome import Outcome
from tradier_pipeline.landing.activity import Resource
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.warehouse.activity import DESTINATIONS, content_key, upsert_activity
from tradier_pipeline.warehouse.sql import literal
from tradier_pipeline.warehouse.staging import StagedWarehouse
from tradier_pipeline_tests.support.activities import LISTS, filed
from tradier_pipeline_tests.support.bodies import (
    ACCOUNT,
    AS_OF,
    account,
    answers,
    balances,
    land,
    store,
    warehouse_in_memory,
    zone_in,
)

PAYLOADS = Path(__file__).parents[3] / "shared" / "payloads"
FOLDERS = {"user-profile": "account", "balances": "balances", "positions": "positions", "orders": "orders"}
FOLDERS["order"] = "orders"
TOLD_OVER_NIGHT: dict[str, Resource] = {
    "history": "history",
    "gainloss": "gainloss",
    "historical-balances": "historical_balances",
}
GENUINE = {"D", "M", "R"}

# the broker's field -> our column, where the names differ; None: deliberately not stored
RENAMED: dict[str, dict[str, str | None]] = {
    "accounts": {"account_number": "account_id"},
    "account_balances": {"account_number": "account_id", "equity": None},  # deprecated by the broker, 0 everywhere
    "positions": {"id": "position_id"},
    "orders": {"id": "order_id", "status": "raw_status", "reason_description": "reason", "leg": None},  # has its table
    "order_legs": {"id": "leg_id", "status": "raw_status", "reason_description": "reason"},
    "account_activity_versions": {
        "date": "trade_date",
        "option_type": "option_event",
        "trade_type": None,
    },  # in lower case
    "closed_lots_versions": {"term": "term_days"},
    "broker_daily_balances_versions": {"date": "trade_date"},
}


def known_bodies(folders: Mapping[str, str] = FOLDERS) -> Iterator[Any]:
    if not PAYLOADS.is_dir():
        yield pytest.param("", "", marks=pytest.mark.skip(reason="no payloads beside the checkout"))
        return
    folder = ""
    for line in (PAYLOADS / "INDEX.md").read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"## (\S+)", line):
            folder = heading[1]
        elif (row := re.match(r"\| (\S+\.\w+) \| (\S+) \|", line)) and folder in folders:
            yield pytest.param(f"{folder}/{row[1]}", row[2], id=f"{folder}/{row[1].removesuffix('.json')}-{row[2]}")


@pytest.fixture(scope="module")
def staged() -> Iterator[StagedWarehouse]:
    with warehouse_in_memory() as warehouse:
        yield warehouse


@pytest.mark.parametrize(("name", "provenance"), list(known_bodies()))
def test_a_known_body_is_stored_whole_or_refused_in_words(
    staged: StagedWarehouse, tmp_path: Path, name: str, provenance: str
) -> None:
    folder = name.split("/")[0]
    body = (PAYLOADS / name).read_bytes()
    if folder == "order":
        body = b'{"orders": ' + body + b"}"  # one order by its id has the shape of a list of one
    for number, account_id in enumerate(accounts_of(folder, body)):
        landed = landed_with(tmp_path / str(number), FOLDERS[folder], body, account_id)
        outcomes = stored_or_refused(staged, landed)
        if isinstance(outcomes, BodyError):
            assert provenance not in GENUINE
            assert outcomes.resource == FOLDERS[folder]
            verdict = str(outcomes)
        else:
            assert [outcome for outcome in outcomes if outcome.blocks] == []
            verdict = f"{compare(staged, landed, folder, body)} values of {account_id} equal"
        sys.stdout.write(f"\n{provenance:2}  {name:62}  {verdict}")


@pytest.mark.parametrize(("name", "provenance"), list(known_bodies(TOLD_OVER_NIGHT)))
def test_a_known_body_of_what_is_told_over_night_is_stored_whole(
    staged: StagedWarehouse, tmp_path: Path, name: str, provenance: str
) -> None:
    folder, body = name.split("/")[0], (PAYLOADS / name).read_bytes()
    resource, destination = TOLD_OVER_NIGHT[folder], DESTINATIONS[TOLD_OVER_NIGHT[folder]]
    staged.connection.execute(f"DELETE FROM {destination.table.name}")
    landed = filed(zone_in(tmp_path), (date(2015, 1, 1), date(2025, 12, 31)), AS_OF, **{resource: [body]})
    upsert_activity(staged.connection, landed)
    listed = [
        {key: value for key, value in row.items() if not isinstance(value, dict)}
        | {key: value for block in row.values() if isinstance(block, dict) for key, value in block.items()}
        for row in rows_of(decoded(body), *LISTS[resource])
    ]
    query = f"SELECT * FROM {destination.table.name} ORDER BY content_key, ordinal"
    order = sorted(range(len(listed)), key=lambda number: content_key(rows_of(decoded(body), *LISTS[resource])[number]))
    compared = compare_values(staged, query, destination.table.name, [listed[number] for number in order])
    sys.stdout.write(f"\n{provenance:2}  {name:62}  {compared} values equal")


def stored_or_refused(staged: StagedWarehouse, landed: LandedSnapshot) -> list[Outcome] | BodyError:
    try:
        return store(staged, landed)
    except BodyError as error:
        return error


def accounts_of(folder: str, body: bytes) -> list[str]:
    """The accounts a body can be landed for: those it names."""
    if folder not in ("user-profile", "balances"):
        return [ACCOUNT]
    document = decoded(body)
    if folder == "user-profile":
        listed = rows_of(document, "profile", "account")
        return [row["account_number"] for row in listed if "account_number" in row] or [ACCOUNT]
    reported = document["balances"]
    return [reported.get("account_number", ACCOUNT) if isinstance(reported, dict) else ACCOUNT]


def landed_with(home: Path, resource: str, body: bytes, account_id: str) -> LandedSnapshot:
    ours = replace(
        answers(account={"profile": {"account": account(account_id)}}),
        balances={"balances": balances(number=account_id)},
    )
    pages = ours.required() | {resource: [body]}
    return land(zone_in(home), pages, account_id=account_id)


def compare(staged: StagedWarehouse, landed: LandedSnapshot, folder: str, body: bytes) -> int:
    """How many values were compared; each field of each row must be a stored value, and there is no other row."""
    document = decoded(body)
    if folder == "user-profile":
        mine = [
            row
            for row in rows_of(document, "profile", "account")
            if row["account_number"] == landed.snapshot_id.account_id
        ]
        return compare_rows(staged, landed, "accounts", mine)
    if folder == "balances":
        row = document["balances"]
        block = next(name for name in ("margin", "pdt", "cash") if name in row)
        flat = {key: value for key, value in row.items() if key != block}
        return compare_rows(staged, landed, "account_balances", [flat | row[block]])
    if folder == "positions":
        return compare_rows(staged, landed, "positions", rows_of(document, "positions", "position"))
    orders = rows_of(document, "orders", "order")
    legs = [leg for order in orders for leg in rows_of(order, "leg")]
    return compare_rows(staged, landed, "orders", orders) + compare_rows(staged, landed, "order_legs", legs)


def compare_rows(staged: StagedWarehouse, landed: LandedSnapshot, table: str, listed: list[dict[str, Any]]) -> int:
    return compare_values(
        staged, f"SELECT * FROM {table} WHERE snapshot_id = {literal(str(landed.snapshot_id))}", table, listed
    )


def compare_values(staged: StagedWarehouse, query: str, table: str, listed: list[dict[str, Any]]) -> int:
    cursor = staged.connection.execute(query)
    names = [column[0] for column in cursor.description or ()]
    stored = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    assert len(stored) == len(listed)
    compared = 0
    for row, ours in zip(listed, stored, strict=True):
        for key, value in row.items():
            column = RENAMED[table].get(key, key)
            if column is None:
                continue
            assert (column, ours[column]) == (column, expected(ours[column], value))
            compared += 1
    return compared


def expected(ours: Any, value: Any) -> Any:
    if isinstance(ours, datetime):
        return datetime.fromisoformat(value)
    return date.fromisoformat(value[:10]) if isinstance(ours, date) else value


def rows_of(document: dict[str, Any], *keys: str) -> list[dict[str, Any]]:
    found: Any = document
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, list) else [] if found in (None, "null") else [found]


def decoded(body: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(body, parse_float=Decimal)
    return document


def test_the_known_bodies_were_found() -> None:
    if not PAYLOADS.is_dir():
        pytest.skip("no payloads beside the checkout")
    found = [parameters.values[0].split("/")[0] for parameters in known_bodies()]
    assert set(found) == FOLDERS.keys()
    on_disk = [path for folder in FOLDERS for path in (PAYLOADS / folder).iterdir()]
    assert len(found) == len(on_disk)
    assert len(list(known_bodies(TOLD_OVER_NIGHT))) == sum(
        1 for folder in TOLD_OVER_NIGHT for _ in (PAYLOADS / folder).iterdir()
    )
