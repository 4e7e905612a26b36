"""Trades whose positions are gone: suspected by one snapshot, confirmed by the next."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import get_args

import pytest

from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.ledger.records import HOLDING, Leg, Trade, TradeStatus
from tradier_pipeline.reconcile.holdings import Holdings, MissingLegs, missing_legs
from tradier_pipeline.warehouse.missing_legs import read_gone
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home, Simulated, take

SHORT, LONG = "SPY261218P00650000", "SPY261218P00645000"
AS_OF = datetime(2026, 11, 20, 14, 31, tzinfo=UTC)
HELD = Holdings("now", AS_OF, frozenset({(SHORT, "short"), (LONG, "long"), ("AAPL", "long")}))
EMPTY = replace(HELD, held=frozenset())
BEFORE = timedelta(minutes=1)
TRADE = Trade(
    trade_id="t-1",
    account_id=DEMO_ACCOUNT,
    symbol="SPY",
    status="OPEN",
    quantity=Decimal(1),
    legs=(
        Leg(option_symbol=SHORT, side="short", quantity=Decimal(1)),
        Leg(option_symbol=LONG, side="long", quantity=Decimal(1)),
    ),
    opened_at=AS_OF - timedelta(hours=1),
)


def reported(*symbols: str, state: str) -> list[MissingLegs]:
    return [MissingLegs("t-1", DEMO_ACCOUNT, symbols, "now", state)]  # type: ignore[arg-type]


def earlier(shown: Holdings) -> Holdings:
    return replace(shown, snapshot_id="before", as_of=shown.as_of - BEFORE)


def without(*symbols: str) -> Holdings:
    return replace(HELD, held=frozenset(held for held in HELD.held if held[0] not in symbols))


def test_a_trade_whose_legs_are_all_held_is_not_gone() -> None:
    assert missing_legs([TRADE], HELD, None) == []
    assert missing_legs([TRADE], HELD, earlier(EMPTY)) == []


@pytest.mark.parametrize("before", [None, earlier(HELD)])
def test_what_one_snapshot_does_not_show_is_suspected(before: Holdings | None) -> None:
    assert missing_legs([TRADE], without(LONG), before) == reported(LONG, state="suspected")
    assert missing_legs([TRADE], EMPTY, before) == reported(SHORT, LONG, state="suspected")


def test_what_two_snapshots_do_not_show_is_confirmed() -> None:
    assert missing_legs([TRADE], EMPTY, earlier(EMPTY)) == reported(SHORT, LONG, state="confirmed")
    assert missing_legs([TRADE], without(LONG), earlier(EMPTY)) == reported(LONG, state="confirmed")


def test_a_leg_that_goes_after_another_is_suspected_anew() -> None:
    assert missing_legs([TRADE], EMPTY, earlier(without(LONG))) == reported(SHORT, LONG, state="suspected")


def test_the_other_side_of_the_same_contract_is_not_the_position() -> None:
    turned = replace(HELD, held=frozenset({(SHORT, "long"), (LONG, "long")}))
    assert missing_legs([TRADE], turned, None) == reported(SHORT, state="suspected")


@pytest.mark.parametrize("status", get_args(TradeStatus))
def test_only_a_trade_that_should_be_held_can_be_gone(status: TradeStatus) -> None:
    assert bool(missing_legs([TRADE.model_copy(update={"status": status})], EMPTY, None)) == (status in HOLDING)


def test_a_snapshot_says_nothing_about_a_trade_opened_after_it() -> None:
    opened_since = TRADE.model_copy(update={"opened_at": AS_OF + BEFORE})
    assert missing_legs([opened_since], EMPTY, None) == []
    opened_between = TRADE.model_copy(update={"opened_at": AS_OF - BEFORE / 2})
    assert missing_legs([opened_between], EMPTY, earlier(EMPTY)) == reported(SHORT, LONG, state="suspected")
    assert missing_legs([TRADE.model_copy(update={"opened_at": None})], EMPTY, None) == reported(
        SHORT, LONG, state="suspected"
    )


def test_the_newest_two_published_snapshots_of_the_trades_account_are_read(home: Home, simulated: Simulated) -> None:
    take(home, simulated.broker)
    with connect_readonly(home.warehouse.path) as connection:
        rows = connection.execute("SELECT symbol, side FROM positions WHERE asset_class = 'option'").fetchall()
        held = TRADE.model_copy(
            update={"legs": tuple(Leg(option_symbol=name, side=side, quantity=Decimal(1)) for name, side in rows)}
        )
        foreign = TRADE.model_copy(update={"account_id": "SIM00000002"})
        assert read_gone(connection, []) == []
        assert read_gone(connection, [held, foreign]) == []
        (missing,) = read_gone(connection, [TRADE, held, foreign])
        assert (missing.state, missing.symbols) == ("suspected", (SHORT, LONG))
    take(home, simulated.broker)
    newest, _ = take(home, simulated.broker)
    with connect_readonly(home.warehouse.path) as connection:
        (missing,) = read_gone(connection, [TRADE, held])
        assert (missing.state, missing.snapshot_id) == ("confirmed", str(newest.snapshot_id))
