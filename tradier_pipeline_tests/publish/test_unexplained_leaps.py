"""The broker's own daily value leaps: from a broker on a socket by `backfill` to `returns`, `balances`, `flows`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from click.testing import Result

from tradier_pipeline import clock
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.support.activities import body_of, day_value, event, lot
from tradier_pipeline_tests.support.command_line import rows_of, run
from tradier_pipeline_tests.support.scripted_server import ScriptedServer, answer, serving

ACCOUNT = "VA12345678"
DAYS = [date(2026, 2, day) for day in (2, 3, 4, 5, 6, 9)]
LEAP = DAYS[3]


@dataclass
class Broker:
    """A broker that reports daily values, a history and closed lots."""

    server: ScriptedServer

    def reports(self, values: Sequence[Any], *events: Any, lots: Sequence[Any] = ()) -> None:
        path = f"/v1/accounts/{ACCOUNT}"
        self.server.on(f"{path}/history", answer(body_of("history", [event(DAYS[0], 1), *events])))
        self.server.on(f"{path}/gainloss", answer(body_of("gainloss", lots)))
        listed = [day_value(day, value) for day, value in zip(DAYS, values, strict=True)]
        self.server.on(f"{path}/historical-balances", answer(body_of("historical_balances", listed)))


@pytest.fixture
def broker(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    monkeypatch.setattr(clock, "now", lambda: datetime(2026, 3, 10, 13, tzinfo=UTC))
    for name, value in {"ENV": "live", "ACCESS_TOKEN": "a-token-of-the-tests", "ACCOUNT_ID": ACCOUNT}.items():
        monkeypatch.setenv(f"TRADIER_{name}", value)
    with serving() as server:
        monkeypatch.setenv("TRADIER_BASE_URL", server.url)
        yield Broker(server)


def done(*arguments: str) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


def returned() -> Any:
    (account, *_) = json.loads(done("returns", "--account", ACCOUNT, "--json").stdout)["returns"]
    return account["periods"]["inception"]


def curve() -> dict[str, dict[str, Any]]:
    return {row["trade_date"]: row for row in rows_of("query", "FROM equity_curve ORDER BY trade_date")}


def bought(shares: int, price: str, on: date = DAYS[0]) -> Any:
    details = {"symbol": "AAPL", "quantity": shares, "price": Decimal(price), "commission": 0, "trade_type": "equity"}
    return event(on, -shares * Decimal(price), "trade", **details)


def test_a_leap_that_nothing_held_can_explain_is_marked_in_returns_and_balances(broker: Broker) -> None:
    broker.reports([10_000, 10_010, 10_020, 25_000, 25_010, 25_020])
    done("backfill", "--since", str(DAYS[0]))
    found = returned()
    assert [day for day, _ in found["uncertain"]] == [str(LEAP)]
    assert "nothing is known to be held that can have moved it by 14980.00 USD" in found["uncertain"][0][1]
    assert found["time_weighted"]["period"] == pytest.approx(10_020 / 10_000 * 25_020 / 25_000 - 1)
    assert str(LEAP) not in (found["best"][0], found["worst"][0])
    (row,) = rows_of("balances", "--by", "month", "--account", ACCOUNT)
    assert row["complete"] is False
    assert "uncertain closes, whose flows are not known: 1" in row["note"]
    assert row["return"] is None


def test_a_leap_of_less_than_what_is_held_can_move_counts(broker: Broker) -> None:
    broker.reports([10_000, 10_010, 10_020, 25_000, 25_010, 25_020], bought(160, "100"))
    done("backfill", "--since", str(DAYS[0]))
    assert returned()["uncertain"] == []


@pytest.mark.parametrize("after", [25_000, 1_000], ids=["up", "down"])
def test_a_leap_that_the_one_share_held_cannot_explain_is_marked(broker: Broker, after: int) -> None:
    broker.reports([10_000, 10_010, 10_020, after, after, after], bought(1, "100"))
    done("backfill", "--since", str(DAYS[0]))
    assert [day for day, _ in returned()["uncertain"]] == [str(LEAP)]


def test_a_lot_that_was_held_then_explains_a_leap_of_its_own_size(broker: Broker) -> None:
    held = lot(DAYS[4], 15_000, "AAPL", open_date=f"{DAYS[1]}T00:00:00.000Z", cost=9_000, proceeds=24_000, quantity=90)
    broker.reports([10_000, 10_010, 10_020, 25_000, 25_010, 25_020], lots=[held])
    done("backfill", "--since", str(DAYS[0]))
    assert returned()["uncertain"] == []


def test_the_owner_confirms_that_a_loss_is_real_and_takes_it_back(broker: Broker) -> None:
    broker.reports([10_000, 10_010, 10_020, 2_000, 2_000, 2_000])
    done("backfill", "--since", str(DAYS[0]))
    assert curve()[str(LEAP)]["return"] is None
    of_day = ("--account", ACCOUNT, "--date", str(LEAP))
    flow = json.loads(done("flows", "confirm", *of_day, "--note", "lost it", "--json").stdout)["flow"]
    confirmed = curve()[str(LEAP)]
    assert (confirmed["uncertain"], confirmed["return"]) == (False, pytest.approx(2_000 / 10_020 - 1))
    assert returned()["worst"] == [str(LEAP), pytest.approx(2_000 / 10_020 - 1)]
    assert returned()["confirmed"] == [str(LEAP)]
    assert f"* {LEAP} counts as the broker reports it" in done("returns").stdout
    listed = done("flows", "list").stdout
    assert "the change of this day is real  (stated by " in listed
    assert ": lost it" in listed
    (row,) = [row for row in rows_of("query", "FROM cash_flows") if row["source"] == "owner"]
    assert (row["trade_date"], Decimal(row["amount"]), row["description"]) == (str(LEAP), 0, "lost it")
    done("rebuild")
    assert curve()[str(LEAP)]["uncertain"] is False
    done("flows", "remove", str(flow["flow_id"]))
    assert curve()[str(LEAP)]["return"] is None
    assert returned()["confirmed"] == []


@pytest.mark.parametrize(
    ("day", "reported"), [(str(DAYS[1]), "is not uncertain"), ("2027-01-01", "is not uncertain"), ("never", "format")]
)
def test_only_a_day_that_is_uncertain_is_confirmed(broker: Broker, day: str, reported: str) -> None:
    broker.reports([10_000, 10_010, 10_020, 2_000, 2_000, 2_000])
    done("backfill", "--since", str(DAYS[0]))
    result = run("flows", "confirm", "--account", ACCOUNT, "--date", day)
    assert (result.exit_code in (1, 2), len(result.stderr.splitlines())) == (True, 1)
    assert reported in result.stderr
    assert str(LEAP) in result.stderr or reported == "format"


@pytest.mark.parametrize("dated", [DAYS[2], DAYS[3]], ids=["that day", "a day late"])
def test_an_account_that_was_emptied_and_filled_again_has_no_uncertain_day(broker: Broker, dated: date) -> None:
    broker.reports([10_000, 10_000, 0, 0, 0, 7_000], event(dated, -10_000), event(DAYS[5], 7_000))
    done("backfill", "--since", str(DAYS[0]))
    found = returned()
    assert (found["uncertain"], found["max_drawdown"], found["time_weighted"]["period"]) == ([], 0, 0)


def test_deposits_that_are_dated_on_each_others_evenings_count_where_they_show(broker: Broker) -> None:
    broker.reports([10_000, 10_000, 12_000, 17_000, 17_000, 17_000], event(DAYS[2], 5_000), event(DAYS[3], 2_000))
    done("backfill", "--since", str(DAYS[0]))
    days = curve()
    assert [Decimal(days[str(day)]["deposits"]) for day in DAYS[2:4]] == [2_000, 5_000]
    assert [days[str(day)]["return"] for day in DAYS[1:]] == [0] * 5
    assert returned()["uncertain"] == []


def test_evenings_that_set_each_other_off_by_a_flow_dated_on_them_are_uncertain(broker: Broker) -> None:
    """Of two deposits of one date the smaller one came the evening before, which a market's move may hide."""
    values = [10_000, 10_000, 13_000, 53_500, 53_500, 53_500]
    broker.reports(values, event(DAYS[3], 2_500), event(DAYS[3], 40_000), bought(50, "100"))
    done("backfill", "--since", str(DAYS[0]))
    days = curve()
    right = [days[str(day)]["uncertain"] or abs(days[str(day)]["return"]) <= 0.05 for day in DAYS[1:]]
    assert right == [True] * 5
