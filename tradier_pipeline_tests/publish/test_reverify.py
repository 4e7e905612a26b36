"""Proving stored snapshots again: which ones, against what, and without changing anything."""

from __future__ import annotations

import hashlib

import duckdb
import pytest

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import DEMO_ACCOUNT, load_settings
from tradier_pipeline.core.snapshot_id import SnapshotId, SnapshotIdError
from tradier_pipeline.publish.reverify import Reverified, reverify
from tradier_pipeline.publish.store import NotPublishedError
from tradier_pipeline_tests.conftest import Home, Simulated, miscount, take

pytestmark = pytest.mark.usefixtures("without_days")


def proven(*wanted: str, everything: bool = False) -> list[Reverified]:
    return list(reverify(load_settings(), wanted, everything=everything))


def refused(home: Home, simulated: Simulated) -> str:
    """A snapshot that is landed and was never published."""
    with pytest.MonkeyPatch.context() as patched:
        miscount(patched)
        with pytest.raises(NotPublishedError):
            take(home, simulated.broker)
    newest = home.zone.newest(DEMO_ACCOUNT)
    assert newest is not None
    return str(newest.snapshot_id)


def test_the_newest_published_one_or_all_or_those_named(home: Home, simulated: Simulated) -> None:
    ids = [str(take(home, simulated.broker)[0].snapshot_id) for _ in range(3)]
    asked = len(simulated.requests())
    assert [one.snapshot_id for one in proven()] == ids[-1:]
    assert [one.snapshot_id for one in proven(everything=True)] == ids
    assert [one.snapshot_id for one in proven(ids[1], ids[0])] == [ids[1], ids[0]]
    assert all(one.published and all(outcome.passed for outcome in one.outcomes) for one in proven(everything=True))
    assert len(simulated.requests()) == asked


def test_one_that_was_never_published_is_tried_on_a_copy(home: Home, simulated: Simulated) -> None:
    take(home, simulated.broker)
    snapshot_id = refused(home, simulated)
    before = hashlib.sha256(home.warehouse.path.read_bytes()).hexdigest()
    with pytest.MonkeyPatch.context() as patched:
        miscount(patched)
        (tried,) = proven(snapshot_id)
    assert not tried.published
    assert [outcome.check for outcome in tried.outcomes if outcome.blocks] == ["balances_equal"]
    assert hashlib.sha256(home.warehouse.path.read_bytes()).hexdigest() == before
    assert [one.snapshot_id == snapshot_id for one in proven(everything=True)] == [False]


def test_changed_bytes_are_found_as_well_as_changed_rows(home: Home, simulated: Simulated) -> None:
    first, _ = take(home, simulated.broker)
    second, _ = take(home, simulated.broker)
    home.warehouse.path.chmod(0o644)
    with duckdb.connect(home.warehouse.path) as connection:
        connection.execute("UPDATE orders SET quantity = 0 WHERE snapshot_id = $1", [str(first.snapshot_id)])
    orders = second.directory / "balances.json"
    orders.write_bytes(orders.read_bytes().replace(b"total_equity", b"total_equitx"))
    rows, bytes_ = proven(everything=True)
    assert [outcome.check for outcome in rows.outcomes if outcome.blocks] == ["order_values_equal"]
    assert {"balances_equal", "fetch_states_ok"} <= {outcome.check for outcome in bytes_.outcomes if outcome.blocks}


def test_what_cannot_be_proven_is_told(home: Home, simulated: Simulated) -> None:
    with pytest.raises(PipelineError, match="there is no warehouse"):
        proven()
    take(home, simulated.broker)
    with pytest.raises(SnapshotIdError):
        proven("SIM00000001@today")
    unknown = SnapshotId.now(DEMO_ACCOUNT)
    with pytest.raises(PipelineError, match=f"no snapshot {unknown} is landed"):
        proven(str(unknown))
