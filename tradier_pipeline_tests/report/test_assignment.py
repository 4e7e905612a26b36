"""What an assignment paid at the strike belongs to the shares that it brought."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.support.scripted_account import scripted_account

PUT = "SPY251121P00600000"
BEFORE = datetime(2025, 11, 21, 21, 15, tzinfo=UTC)
AFTER = datetime(2025, 11, 24, 21, 15, tzinfo=UTC)


def test_of_an_assigned_put_the_shares_have_what_they_lost_since(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted_account(home, monkeypatch) as account:
        marks: dict[str, Any] = {PUT: {"last": Decimal(5), "bid": Decimal(5), "ask": Decimal(5)}}
        account.server.marks = marks | {"SPY": {"last": 595, "bid": 595, "ask": 595}}
        account.shows(BEFORE, (PUT, -1, Decimal(-200)), cash=Decimal(70_000))
        account.server.marks["SPY"] = {"last": 593, "bid": 593, "ask": 593}
        account.shows(AFTER, ("SPY", 100, Decimal(60_000)), cash=Decimal(10_000))
        lines = account.rows("SELECT kind, amount FROM day_profit_lines ORDER BY line")
        ((change,),) = account.rows("SELECT change FROM day_profit")
    assert change == -200, "100 shares fell by 2 below the 595 that the put had them at"
    assert lines == [("spread", 500), ("stock", -700), ("unexplained", 0)]
