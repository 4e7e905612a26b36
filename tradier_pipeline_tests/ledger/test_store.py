"""The ledger from Python: typed rows, requests that exactly one snapshot answers, and files that cannot be used."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.ledger import store
from tradier_pipeline.ledger.records import EngineOrder, Leg, Trade
from tradier_pipeline.ledger.schema import MIGRATIONS, VERSION
from tradier_pipeline.ledger.store import Ledger, LedgerError

ACCOUNT, OTHER = "VA12345678", "VA00000002"
START = datetime(2026, 11, 20, 14, 31, tzinfo=UTC)
SYMBOL = "SPY261218P00650000"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "home" / "ledger.sqlite")


def snapshot(number: int = 0, account_id: str = ACCOUNT) -> SnapshotId:
    return SnapshotId(account_id, START + timedelta(seconds=number))


# ---------------------------------------------------------------- rows


def test_a_request_reads_back_as_it_was_written(ledger: Ledger) -> None:
    written = ledger.request(ACCOUNT, "order_placed", order_id="gw-1-entry", note="by hand")
    assert (written.account_id, written.reason, written.order_id) == (ACCOUNT, "order_placed", "gw-1-entry")
    assert (written.note, written.snapshot_id, written.claimed_at) == ("by hand", None, None)
    second = ledger.request(OTHER, "debug")
    assert ledger.waiting() == ledger.requests() == [written, second]
    assert ledger.requests(limit=1) == [second]


def test_an_order_reads_back_exactly_and_asks_for_a_snapshot_when_it_is_new_or_changed(ledger: Ledger) -> None:
    order = EngineOrder(
        client_order_id="gw-1-entry",
        account_id=ACCOUNT,
        role="ENTRY",
        **{"class": "multileg"},
        order_type="credit",
        duration="day",
        symbol="SPY",
        legs=(Leg(option_symbol=SYMBOL, side="sell_to_open", quantity=Decimal("0.12345678901234567890")),),
        quantity=Decimal("2"),
        limit_price=Decimal("0.850"),
    )
    ledger.record_order(order)
    (found,) = ledger.orders()
    assert found.created_at == found.updated_at != None  # noqa: E711 - both are instants
    assert found.model_copy(update={"created_at": None, "updated_at": None}) == order
    assert str(found.limit_price) == "0.850"
    assert [request.order_id for request in ledger.waiting()] == ["gw-1-entry"]

    assert ledger.claim(snapshot()) == 1
    ledger.record_order(found)
    assert ledger.waiting() == []
    reported = found.model_copy(update={"status": "FILLED", "snapshot_id": str(snapshot())})
    ledger.record_order(reported)
    assert ledger.waiting() == []
    ledger.record_order(order.model_copy(update={"status": "CANCELLED"}))
    assert [request.order_id for request in ledger.waiting()] == ["gw-1-entry"]
    (after,) = ledger.orders()
    assert (after.status, after.snapshot_id, after.created_at) == ("CANCELLED", str(snapshot()), found.created_at)


def test_a_trade_reads_back_exactly_and_by_its_state(ledger: Ledger) -> None:
    trade = Trade(
        trade_id="t-1",
        account_id=ACCOUNT,
        symbol="SPY",
        status="OPEN",
        quantity=Decimal("2"),
        expiration=date(2026, 12, 18),
        short_strike=Decimal("650"),
        legs=(Leg(option_symbol=SYMBOL, side="short", quantity=Decimal("2")),),
        entry_price=Decimal("-0.85"),
        opened_at=START,
        realized_pnl=Decimal("-12.34"),
        managed=False,
    )
    ledger.record_trade(trade)
    ledger.record_trade(trade.model_copy(update={"trade_id": "t-2", "status": "CLOSED"}))
    (found,) = ledger.trades(["OPEN"])
    assert found.model_copy(update={"created_at": None, "updated_at": None}) == trade
    assert [one.trade_id for one in ledger.trades()] == ["t-1", "t-2"]
    assert ledger.waiting() == []


def test_what_breaks_a_rule_is_told_with_the_name_of_the_rule(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="account_number"):
        ledger.request("no account", "manual")
    with pytest.raises(LedgerError, match="client_order_id_is_a_tag"):
        ledger.record_order(EngineOrder(client_order_id="a b", account_id=ACCOUNT, role="ENTRY"))
    assert ledger.requests() == []


def test_the_same_note_asks_once_answered_or_not(ledger: Ledger) -> None:
    assert ledger.request_once(ACCOUNT, "position_flat", order_id="t-1", note="gone")
    assert not ledger.request_once(ACCOUNT, "position_flat", order_id="t-1", note="gone")
    ledger.claim(snapshot())
    assert not ledger.request_once(ACCOUNT, "position_flat", order_id="t-1", note="gone")
    assert ledger.request_once(ACCOUNT, "position_flat", order_id=None, note="gone")
    assert not ledger.request_once(ACCOUNT, "position_flat", order_id=None, note="gone")
    assert ledger.request_once(ACCOUNT, "position_flat", order_id="t-1", note="gone again")
    assert ledger.request_once(OTHER, "position_flat", order_id="t-1", note="gone")


# ---------------------------------------------------------------- claims


@given(steps=st.lists(st.tuples(st.sampled_from(["request", "snapshot"]), st.sampled_from([ACCOUNT, OTHER]))))
def test_every_request_is_answered_by_the_first_snapshot_of_its_account_that_begins_after_it(
    steps: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.sqlite")
    expected: dict[int, str | None] = {}
    owner: dict[int, str] = {}
    for number, (step, account_id) in enumerate(steps):
        if step == "request":
            request = ledger.request(account_id, "manual")
            expected[request.request_id], owner[request.request_id] = None, account_id
        else:
            answered = [one for one, by in expected.items() if by is None and owner[one] == account_id]
            assert ledger.claim(snapshot(number, account_id)) == len(answered)
            expected |= dict.fromkeys(answered, str(snapshot(number, account_id)))
    assert {request.request_id: request.snapshot_id for request in ledger.requests()} == expected
    for request in ledger.requests():
        assert request.claimed_at is None or request.claimed_at >= request.requested_at


def test_a_claim_in_the_last_instants_of_a_second_is_kept(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    request = ledger.request(ACCOUNT, "manual")
    late = request.requested_at.replace(microsecond=999_900) + timedelta(seconds=1)
    monkeypatch.setattr("tradier_pipeline.clock.now", lambda: late)
    assert ledger.claim(snapshot(1, ACCOUNT)) == 1
    (claimed,) = ledger.requests()
    assert claimed.claimed_at == late.replace(microsecond=999_000)


WRITER = """
import sqlite3, sys
from pathlib import Path
from tradier_pipeline.ledger.store import Ledger

path, name = Path(sys.argv[1]), sys.argv[2]
sys.stdin.read(1)
ledger = Ledger(path)
for number in range(40):
    if number % 2:
        ledger.request("VA12345678", "manual", note=f"{name}-{number}")
    else:
        ledger.waiting()
        with sqlite3.connect(path, timeout=30) as engine:
            engine.execute(
                "INSERT INTO orders (client_order_id, account_id, role) VALUES (?, 'VA12345678', 'ENTRY')",
                [f"{name}-{number}"],
            )
        engine.close()
"""


def test_processes_that_create_and_write_the_file_at_once_lose_nothing_and_claims_share_nothing(
    ledger: Ledger,
) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(ledger.path), name], stdin=subprocess.PIPE) for name in "ab"
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"x")
        writer.stdin.flush()
    numbers = count()
    with ThreadPoolExecutor(2) as pool:
        claimed = 0
        while any(writer.poll() is None for writer in writers):
            claimed += sum(pool.map(lambda _: ledger.claim(snapshot(next(numbers))), range(2)))
    assert [writer.wait() for writer in writers] == [0, 0]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.close()
    claimed += ledger.claim(snapshot(next(numbers)))
    names = sorted(f"{name}-{number}" for name in "ab" for number in range(40))
    requests = ledger.requests()
    assert sorted(request.note or request.order_id or "" for request in requests) == names
    assert claimed == len(requests)
    assert all(request.snapshot_id for request in requests)


# ---------------------------------------------------------------- files


def test_a_reader_does_not_hold_a_writer_up_nor_a_writer_a_reader(ledger: Ledger) -> None:
    ledger.request(ACCOUNT, "manual")
    engine = sqlite3.connect(ledger.path, isolation_level=None)
    engine.execute("BEGIN")
    assert engine.execute("SELECT count(*) FROM snapshot_requests").fetchone() == (1,)
    ledger.request(ACCOUNT, "manual")
    assert engine.execute("SELECT count(*) FROM snapshot_requests").fetchone() == (1,)
    engine.execute("ROLLBACK")
    engine.execute("BEGIN IMMEDIATE")
    assert len(ledger.waiting()) == 2
    engine.close()


def test_a_ledger_that_another_program_keeps_locked_is_told(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BUSY_TIMEOUT_S", 0.05)
    ledger.request(ACCOUNT, "manual")
    engine = sqlite3.connect(ledger.path, isolation_level=None)
    engine.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match=r"database is locked.*let it end its transaction"):
        ledger.claim(snapshot())
    engine.close()
    assert ledger.claim(snapshot()) == 1


def test_a_transaction_that_fails_leaves_nothing_and_locks_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise RuntimeError("the process ends here")

    monkeypatch.setattr(store, "_read", dies)
    with pytest.raises(RuntimeError):
        ledger.request(ACCOUNT, "manual")
    monkeypatch.undo()
    assert ledger.waiting() == []
    ledger.request(ACCOUNT, "manual")


def test_opening_again_changes_nothing(ledger: Ledger) -> None:
    ledger.request(ACCOUNT, "manual")
    before = _schema(ledger.path)
    assert len(Ledger(ledger.path).waiting()) == 1
    assert _schema(ledger.path) == before
    assert before[0] == VERSION


def test_a_file_of_an_earlier_version_is_brought_up_to_date_once_and_keeps_its_rows(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.request(ACCOUNT, "manual")
    monkeypatch.setattr(store, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE added (x TEXT) STRICT"))
    monkeypatch.setattr(store, "VERSION", VERSION + 1)
    assert len(ledger.waiting()) == 1
    assert len(ledger.waiting()) == 1
    version, tables = _schema(ledger.path)
    assert (version, "CREATE TABLE added (x TEXT) STRICT" in tables) == (VERSION + 1, True)
    monkeypatch.undo()
    with pytest.raises(LedgerError, match=rf"is of version {VERSION + 1}.*Install the newer"):
        ledger.waiting()


def test_a_migration_that_fails_leaves_the_version_before_whole(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.request(ACCOUNT, "manual")
    before = _schema(ledger.path)
    monkeypatch.setattr(store, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE added (x TEXT); CREATE TABLE orders (y)"))
    monkeypatch.setattr(store, "VERSION", VERSION + 1)
    with pytest.raises(LedgerError, match="already exists"):
        ledger.waiting()
    assert _schema(ledger.path) == before


def _schema(path: Path) -> tuple[int, list[str]]:
    connection = sqlite3.connect(path)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    texts = [text for (text,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY sql")]
    connection.close()
    return version, texts


def test_what_is_no_ledger_is_told_and_left_alone(ledger: Ledger) -> None:
    ledger.path.parent.mkdir()
    ledger.path.write_text("not a database, but long enough to be one " * 100)
    with pytest.raises(LedgerError, match=r"file is not a database.*Restore it from a backup"):
        ledger.waiting()
    assert ledger.path.read_text().startswith("not a database")


def test_a_place_that_cannot_be_written_is_told(ledger: Ledger) -> None:
    ledger.path.mkdir(parents=True)
    with pytest.raises(LedgerError, match=r"unable to open.*TRADIER_PIPELINE_HOME"):
        ledger.waiting()
