"""Every change of an account has its cause; what has none is reported to the cent and the contract."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tradier_pipeline.broker.models import Order
from tradier_pipeline.reconcile.account_state import ZERO, AccountState, Terms, legless_of, parts_of
from tradier_pipeline.reconcile.comparison import CASH, CENT
from tradier_pipeline.reconcile.conservation import ItemChange, ItemVerdict, Open, changes, settle
from tradier_pipeline.reconcile.ends import Moved, ends_of
from tradier_pipeline.reconcile.explanation import FITS_ALIKE, signed
from tradier_pipeline.reconcile.outstanding import Line, claimed, with_yet_to_come
from tradier_pipeline_tests.reconcile.statements import (
    AFTER_CLOSE,
    LIVING,
    MINUTE,
    OPEN,
    STOCKS,
    Book,
    after_expiry,
    after_fills,
    changed,
    paid,
    part,
    statement,
)

Case = tuple[Book, AccountState, AccountState]
PUT, CALL = "SPY261120P00600000", "SPY261120C00610000"
AMOUNTS = st.decimals(Decimal("0.01"), Decimal(100_000), places=2).flatmap(lambda size: st.sampled_from([size, -size]))


def found(before: AccountState, now: AccountState) -> dict[str, ItemChange]:
    return {change.item: change for change in changes(before, now)}


def left(before: AccountState, now: AccountState) -> dict[str, Decimal]:
    return {item: change.unexplained for item, change in found(before, now).items() if change.unexplained}


def reported_causes(change: ItemChange) -> list[str]:
    return [cause.text for cause in change.causes]


# --- complete, and exact ----------------------------------------------------------------------------------------------


@given(after_fills())
def test_any_fills_explain_the_positions_and_the_cash_they_moved(case: Case) -> None:
    _, before, now = case
    assert left(before, now) == {}


@given(after_expiry())
def test_any_mixture_of_fills_expiries_and_deliveries_is_explained_without_a_rest(case: Case) -> None:
    _, before, now = case
    assert left(before, now) == {}


@given(after_fills(), AMOUNTS)
def test_any_unexplained_cash_is_told_to_the_cent(case: Case, amount: Decimal) -> None:
    _, before, now = case
    assert left(before, paid(now, amount)) == {CASH: amount}


@given(after_fills(), st.sampled_from(STOCKS + LIVING[:2]), st.integers(-300, 300).filter(bool))
def test_any_unexplained_change_of_a_position_is_told_to_the_share(case: Case, symbol: str, by: int) -> None:
    _, before, now = case
    assert left(before, changed(now, symbol, Decimal(by))) == {symbol: Decimal(by)}


@given(after_expiry(), st.integers(-4, 4), st.integers(1, 49))
def test_unexplained_cash_is_told_to_the_cent_also_on_the_day_of_expiration(case: Case, dollars: int, odd: int) -> None:
    # less than two strikes can differ by: more may be reported as another contract that was delivered
    _, before, now = case
    amount = Decimal(dollars) + Decimal(odd).scaleb(-2)
    now = paid(now, amount)
    behind_all = "".join(line for change in changes(before, now) for line in change.candidates)
    assume(FITS_ALIKE not in behind_all)  # several deliveries come to the same shares and cash: none is a fact
    assert left(before, now) == {CASH: amount}


@given(after_fills(), st.sampled_from([Decimal("0.35"), Decimal("0.65"), Decimal("1.50")]))
def test_fees_of_the_contracts_filled_are_told_apart_and_never_alarm(case: Case, each: Decimal) -> None:
    book, before, now = case
    fees = each * book.contracts
    (*_, cash) = settle(changes(before, paid(now, -fees)), {})
    assert (cash.item, cash.unexplained, cash.in_flight) == (CASH, -fees, 0)
    assert cash.state == ("fees" if fees else "explained")


# --- causes -----------------------------------------------------------------------------------------------------------


def test_the_legs_of_a_spread_explain_what_the_spread_moved() -> None:
    legs = (
        replace(part(7, PUT, "sell_to_open", 3, "2.10"), leg_id=8),
        replace(part(7, "SPY261120P00595000", "buy_to_open", 3, "0.90"), leg_id=9),
    )
    before = statement(cash=1000)
    now = statement(*legs, cash=1360, **{PUT: -3, "SPY261120P00595000": 3})
    assert left(before, now) == {}
    assert reported_causes(found(before, now)[CASH]) == [
        f"+630 for -3 {PUT}, order 7",
        "-270 for +3 SPY261120P00595000, order 7",
    ]


def test_only_what_filled_since_counts_of_an_order_that_fills_in_parts() -> None:
    before = statement(part(7, "F", "buy", 2, "10.00"), cash=980, F=2)
    now = statement(part(7, "F", "buy", 5, "10.30"), cash="948.50", F=5)  # 3 more at 10.50
    assert left(before, now) == {}


def test_a_fill_before_its_price_leaves_the_cash_open_until_the_price_is_told() -> None:
    before, filled = statement(), statement(part(7, "F", "buy", 2, None), cash=980, F=2)
    assert left(before, filled) == {CASH: -20}
    assert "order 7: the price of +2 F is not reported yet" in found(before, filled)[CASH].candidates
    assert left(filled, statement(part(7, "F", "buy", 2, "10"), cash=980, F=2)) == {CASH: 20}


def test_an_order_of_an_earlier_day_that_was_not_listed_is_no_fill_of_today() -> None:
    old = part(7, "F", "buy", 2, "10", changed_at=OPEN - timedelta(days=3))
    assert left(statement(F=2), statement(old, F=2)) == {}


def test_an_option_gone_before_its_expiration_without_a_fill_has_not_expired() -> None:
    noon = datetime(2026, 11, 20, 17, 0, tzinfo=UTC)
    assert left(statement(**{PUT: -3}), statement(as_of=noon)) == {PUT: 3}
    assert left(statement(**{PUT: -3}), statement(as_of=AFTER_CLOSE)) == {}


def test_an_early_assignment_is_told_by_the_shares_it_brought() -> None:
    put = LIVING[0]  # expires in a month
    change = found(statement(cash=200_000, **{put: -3}), statement(cash=80_000, SPY=200, **{put: -1}))
    assert not any(one.unexplained for one in change.values())
    assert reported_causes(change["SPY"]) == [f"+200 at 600: {put} assigned"]
    assert reported_causes(change[CASH]) == [f"-120000 for +200 SPY, {put} assigned"]


def test_a_spread_assigned_and_exercised_on_one_day_is_told_by_its_cash_alone() -> None:
    before = statement(cash=5000, **{PUT: -2, "SPY261120P00595000": 2})
    change = found(before, statement(cash=4000, as_of=AFTER_CLOSE))
    assert not any(one.unexplained for one in change.values())
    assert [cause.amount for cause in change["SPY"].causes] == [-200, 200]


def test_contracts_settled_in_cash_leave_an_amount_with_their_name() -> None:
    symbol = "SPXW261120P06000000"
    change = found(statement(cash=5000, **{symbol: -2}), statement(cash=3000, as_of=AFTER_CLOSE))
    assert change[symbol].unexplained == 0
    assert change[CASH].unexplained == -2000
    assert f"a settlement in cash of {symbol}: 10.0000 USD a share" in change[CASH].candidates


@pytest.mark.parametrize(("old", "new", "ratio"), [(100, 200, "2 for 1"), (90, 135, "3 for 2"), (100, 10, "1 for 10")])
def test_a_split_changes_the_quantity_and_not_the_cost(old: int, new: int, ratio: str) -> None:
    costs = {"AAPL": "12345.67"}
    change = found(statement(costs=costs, AAPL=old), statement(costs=costs, AAPL=new))
    assert change["AAPL"].unexplained == 0
    assert reported_causes(change["AAPL"]) == [f"{signed(Decimal(new - old))} by a split, {ratio}"]
    assert left(statement(costs=costs, AAPL=old), statement(AAPL=new)) == {"AAPL": new - old}


def test_a_symbol_that_became_another_keeps_quantity_and_cost() -> None:
    change = found(statement(costs={"FB": "500.25"}, FB=7), statement(costs={"META": "500.25"}, META=7))
    assert {symbol: reported_causes(change[symbol]) for symbol in ("FB", "META")} == {
        "FB": ["-7 became META"],
        "META": ["+7 came from FB"],
    }
    assert left(statement(FB=7), statement(costs={"META": "1.00"}, META=7)) == {"FB": -7, "META": 7}


# --- candidates -------------------------------------------------------------------------------------------------------


def behind(before: AccountState, now: AccountState, item: str = CASH) -> tuple[str, ...]:
    return found(before, now)[item].candidates


def test_what_is_left_comes_with_what_may_be_behind_it() -> None:
    bought = part(7, "F", "buy", 2, "10")
    sold = part(8, "AAPL", "sell", 1, "290")
    assert behind(statement(), statement(bought, F=2))[0] == "order 7: -20 USD that cash may not show yet"
    both = statement(bought, sold, F=2, cash=1000)
    assert behind(statement(AAPL=1), both)[0] == "order 7, order 8: +270 USD that cash may not show yet"
    fees = statement(part(9, PUT, "sell_to_open", 4, "1"), cash=1393, **{PUT: -4})
    assert behind(statement(), fees)[0] == "4 contracts x 1.7500 USD of fees"
    assert behind(statement(AAPL=100), statement(AAPL=100, cash=1026))[0] == "a dividend of AAPL: 0.26 USD a share"
    assert behind(statement(), statement(cash=6000)) == ("a deposit, a dividend or interest",)
    assert behind(statement(), statement(bought, cash=980), "F")[0].startswith("order 7: its fill of +2 may not")
    working = part(7, "F", "buy", 0, None, quantity=5, status="open")
    assert behind(statement(working), statement(working, F=5), "F")[0].startswith("order 7: +5 still to fill")
    delivered = "an assignment or exercise: whole hundreds"
    assert behind(statement(**{PUT: -5}), statement(SPY=-200, **{PUT: -5}), "SPY")[0] == delivered
    assert delivered not in behind(statement(**{LIVING[2]: -2}), statement(SPY=-200, **{LIVING[2]: -2}), "SPY")
    night = statement(as_of=OPEN + timedelta(days=3), SPY=3)
    assert behind(statement(), night, "SPY")[0].startswith("what happened after 11-20 09:31 New York")


# --- over time --------------------------------------------------------------------------------------------------------


def followed(*statements: AccountState) -> list[dict[str, ItemVerdict]]:
    """The findings of each statement after the first, each with what the one before left in flight."""
    carried: dict[str, Open] = {}
    story: list[dict[str, ItemVerdict]] = []
    for before, now in pairwise(statements):
        findings = {finding.item: finding for finding in settle(changes(before, now), carried)}
        carried = {
            item: Open.of(finding.in_flight, finding.fees_at_most, finding.explanation)
            for item, finding in findings.items()
            if finding.in_flight
        }
        story.append(findings)
    return story


def states(story: list[dict[str, ItemVerdict]], item: str) -> list[str | None]:
    return [findings[item].state if item in findings else None for findings in story]


def test_the_order_of_the_brokers_list_changes_nothing_that_is_told() -> None:
    working = [part(number, "F", "buy", 0, None, quantity=3, status="open") for number in (34, 47, 27)]
    first, second = (statement(*some, F=6) for some in (working, working[::-1]))
    assert changes(statement(F=5), first) == changes(statement(F=5), second)


def test_a_fill_that_the_next_statement_shows_was_in_flight() -> None:
    shown_late = part(7, "F", "buy", 5, "10")
    story = followed(statement(), statement(F=5, cash=950), statement(shown_late, F=5, cash=950))
    assert states(story, "F") == states(story, CASH) == ["in_flight", "explained"]
    assert story[1]["F"].explanation == ("+5 filled, order 7", "what was in flight is explained now")


def test_what_is_still_there_after_two_statements_is_unexplained_once() -> None:
    bare, more = statement(), statement(F=5)
    story = followed(bare, more, more, more)
    assert states(story, "F") == ["in_flight", "unexplained", None]
    assert (story[1]["F"].unexplained, story[1]["F"].in_flight) == (5, 0)
    assert story[1]["F"].explanation == (
        "+5 unexplained, since two statements",
        "may be a transfer or a correction: no order tells of it",
    )


def test_what_is_new_beside_what_is_old_is_in_flight_itself() -> None:
    story = followed(statement(), statement(F=5), statement(F=7), statement(F=7), statement(F=7))
    assert [findings["F"].unexplained for findings in story[:3]] == [5, 7, 2]
    assert states(story, "F") == ["in_flight", "unexplained", "unexplained", None]


def test_fees_of_contracts_in_flight_are_fees_when_the_cash_arrives() -> None:
    sold = part(7, PUT, "sell_to_open", 2, "1.00")
    story = followed(
        statement(), statement(sold, **{PUT: -2}), statement(sold, cash="1199.30", **{PUT: -2}), statement()
    )
    assert states(story, CASH)[:2] == ["in_flight", "fees"]
    assert story[1][CASH].unexplained == Decimal("-0.70")


@given(st.lists(AMOUNTS, min_size=1, max_size=6))
def test_what_is_told_as_open_adds_up_to_what_happened(amounts: list[Decimal]) -> None:
    total, statements = Decimal(1000), [statement(cash=1000)]
    for number, amount in enumerate(amounts, 1):
        total += amount
        statements.append(statement(cash=total, as_of=OPEN + number * MINUTE))
    for findings in followed(*statements):
        cash = findings[CASH]
        assert abs(cash.change + cash.carried - cash.explained - cash.unexplained) < CENT
        assert abs(cash.in_flight) <= abs(cash.unexplained)


def test_less_than_a_cent_is_rounding() -> None:
    (cash,) = settle(changes(statement(cash="1000.0049"), statement(cash=1000)), {})
    assert (cash.state, cash.unexplained) == ("explained", 0)


# --- a fact only where nothing else is left ---------------------------------------------------------------------------

NIGHT = OPEN + timedelta(days=3)
INDEX = ("SPX", "SPXW", "XSP", "NDX", "NDXP", "RUT", "RUTW", "VIX", "DJX", "OEX")


def at(hour: int, minute: int) -> datetime:
    """A time of the afternoon of 2026-11-20 in New York."""
    return datetime(2026, 11, 20, hour + 5, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("symbol", "early", "late"),
    [
        ("F261120P00011000", at(15, 59), at(16, 0)),
        ("SPY261120P00600000", at(16, 14), at(16, 15)),
        ("SPXW261120P06000000", at(15, 59), at(16, 0)),
        ("SPX261120P06000000", at(9, 29), at(9, 30)),
    ],
)
def test_nothing_expires_before_its_own_time(symbol: str, early: datetime, late: datetime) -> None:
    held = statement(as_of=at(9, 0), **{symbol: -3})
    assert left(held, statement(as_of=early)) == {symbol: 3}
    assert left(held, statement(as_of=late)) == {}


def test_on_a_half_day_options_expire_with_its_close() -> None:
    symbol = "F261120P00011000"
    short = replace(statement(as_of=at(13, 1)), session_close=at(13, 0))
    assert left(statement(**{symbol: -3}), short) == {}
    assert left(statement(**{symbol: -3}), replace(short, as_of_end=at(12, 59))) == {symbol: 3}


@given(st.sampled_from(INDEX), st.sampled_from("CP"), st.integers(-5, 5).filter(bool), st.integers(-600_000, 600_000))
def test_no_option_on_an_index_delivers_shares(root: str, letter: str, contracts: int, cash: int) -> None:
    symbol = f"{root}261120{letter}00600000"
    change = found(statement(**{symbol: contracts}), statement(cash=1000 + cash, as_of=NIGHT))
    assert set(change) == {symbol, CASH}
    assert [cause.kind for one in change.values() for cause in one.causes] == ["expiry"]


def test_a_cash_settled_spread_is_a_candidate_with_its_amount_a_share() -> None:
    sold, bought = "XSP261120P00600000", "XSP261120P00595000"
    change = found(statement(**{sold: -2, bought: 2}), statement(cash=0, as_of=NIGHT))
    assert change[CASH].unexplained == -1000
    assert f"a settlement in cash of {bought} and {sold}: 5.0000 USD a share" in change[CASH].candidates


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_only_a_usual_ratio_is_a_split_for_a_fact(old: int, new: int) -> None:
    costs = {"AAPL": "12345.67"}
    change = found(statement(costs=costs, AAPL=old), statement(costs=costs, AAPL=new, as_of=NIGHT))
    if "AAPL" in change and not change["AAPL"].unexplained:
        big, small = max(old, new), min(old, new)
        assert not big % small or any(big * two == small * one for one, two in ((3, 2), (4, 3), (5, 2), (5, 4), (6, 5)))
        assert big * 1 != small * 22


def test_a_reverse_split_that_leaves_a_fraction_is_a_candidate_and_so_is_the_cash_for_it() -> None:
    costs = {"MULN": "440.00"}
    story = followed(
        statement(costs=costs, MULN=110),
        statement(costs=costs, MULN=5, as_of=NIGHT),
        statement(costs=costs, MULN=5, as_of=NIGHT + timedelta(days=1), cash="1001.50"),
    )
    assert "may be a split, 1 for 20, with 0.50 of a share paid in cash" in story[0]["MULN"].explanation
    assert story[1][CASH].explanation[1] == "may be cash for fractions of MULN"


def test_shares_that_came_with_the_cost_another_gave_up_are_a_spin_off() -> None:
    old = statement(costs={"MDU": "1992.80"}, MDU=94)
    new = statement(costs={"MDU": "1604.62", "KNF": "388.18"}, MDU=94, KNF=22, as_of=NIGHT)
    assert reported_causes(found(old, new)["KNF"]) == ["+22 by a spin-off of MDU, which gave up 388.18 USD of its cost"]
    other = statement(costs={"MDU": "1604.62", "KNF": "388.19"}, MDU=94, KNF=22, as_of=NIGHT)
    assert left(old, other) == {"KNF": 22}


def test_a_root_that_was_adjusted_is_the_same_option_and_another_strike_date_is_not() -> None:
    one, became, other = "MDU270115C00030000", "MDU1270115C00030000", "MDU1270219C00030000"
    had = statement(costs={one: "210.00"}, **{one: 1})
    assert left(had, statement(costs={became: "210.00"}, **{became: 1})) == {}
    assert left(had, statement(costs={other: "210.00"}, **{other: 1})) == {one: -1, other: 1}


def test_contracts_whose_strikes_may_have_moved_on_by_one_are_no_fact() -> None:
    held = [f"F261218C000{strike}" for strike in ("12500", "10000", "07500")]
    costs = dict.fromkeys(held, -90)
    before = statement(costs=costs, **dict.fromkeys(held[:2], -1))
    now = statement(costs=costs, as_of=NIGHT, **dict.fromkeys(held[1:], -1))
    assert left(before, now) == {held[0]: 1, held[2]: -1}
    assert behind(before, now, held[0])[0] == f"another name of it: {held[2]} changed by -1"


def test_a_contract_that_may_go_by_another_name_at_another_cost_has_no_certain_end() -> None:
    old, new = "F261218C00010000", "F1261218C00010000"
    before, now = statement(costs={old: 500}, **{old: 2}), statement(costs={new: 499}, as_of=NIGHT, **{new: 2})
    verdicts = settle(changes(before, now), {})
    assert all(f"may be another name of it: {other}" in str(verdicts) for other in (old, new))
    moved = [Moved(one.item, NIGHT, one.in_flight, ZERO, "; ".join(one.explanation)) for one in verdicts]
    assert ends_of(moved)[old].fate == "uncertain"
    sold = settle(changes(statement(**{old: 2}), statement(as_of=NIGHT, cash=1480)), {})  # nothing came for it
    assert ends_of([Moved(one.item, NIGHT, one.in_flight, ZERO, "; ".join(one.explanation)) for one in sold]) == {}


def test_shares_do_not_merge_into_options() -> None:
    before, now = statement(F=100, **{LIVING[0]: -1}), statement(cash=2000, as_of=NIGHT)
    assert not any("merger for shares" in line or "fractions" in line for line in behind(before, now))


def test_shares_gone_and_cash_come_may_be_one_merger() -> None:
    change = found(statement(F=100), statement(cash=3450, as_of=NIGHT))
    assert "a cash merger or redemption: 24.50 USD a share" in change["F"].candidates
    assert "a cash merger or redemption of F: 24.50 USD a share" in change[CASH].candidates


def test_shares_gone_and_others_come_may_be_one_merger() -> None:
    change = found(statement(F=100), statement(AAPL=37, as_of=NIGHT))
    assert {"a merger for shares: 0.3700 AAPL for each F"} <= {*change["F"].candidates} & {*change["AAPL"].candidates}


def test_a_fraction_more_without_an_order_may_be_a_reinvested_dividend() -> None:
    assert (
        behind(statement(F=20), statement(costs={"F": "1029.99"}, F="20.6242", as_of=NIGHT), "F")[0]
        == "a reinvested dividend"
    )


def test_shares_alone_tell_an_assignment_and_its_cash_may_follow_with_a_fee() -> None:
    put = "F261120P00011000"
    monday = statement(F=100, as_of=NIGHT, cash=9000, costs={"F": 1100})
    change = found(statement(cash=9000, **{put: -1}), monday)
    assert {item: one.unexplained for item, one in change.items()} == {put: 0, "F": 0, CASH: 1100}
    tuesday = statement(F=100, as_of=NIGHT + timedelta(days=1), cash=7891)
    (cash,) = (one for one in settle(changes(monday, tuesday), {}, {CASH: [Decimal(1100)]}) if one.item == CASH)
    assert cash.unexplained == -9
    assert "may be an assignment or exercise fee" in cash.explanation


@pytest.mark.parametrize(("cost", "is_fact"), [(0, True), (1089, True), (1150, True), (830, False), (1400, False)])
def test_shares_that_came_at_a_cost_of_their_own_need_not_have_been_delivered(cost: int, is_fact: bool) -> None:
    put = "F261120P00011000"
    before = statement(cash=9000, **{put: -1})
    assert (left(before, statement(F=100, as_of=NIGHT, cash=9000, costs={"F": cost})).get("F") is None) == is_fact
    assert left(before, statement(F=100, as_of=NIGHT, cash=7900, costs={"F": cost})) == {}


def test_shares_whose_cost_is_the_cash_that_was_paid_for_them_may_be_bought_beside_an_expired_option() -> None:
    before = statement(cash=5000, costs={"F261120P00011000": -40}, **{"F261120P00011000": -1})
    for paid_, is_fact in ((1120, False), (1100, True), (1060, True)):  # 1060: less the premium
        now = statement(cash=5000 - paid_, F=100, as_of=NIGHT, costs={"F": paid_})
        assert ("F" not in left(before, now)) == is_fact
    now = statement(cash=3880, F=100, as_of=NIGHT, costs={"F": 1120})
    assert "F261120P00011000 assigned at 11" in behind(before, now, "F")
    assert "a trade that no order shows: 11.20 USD a share, fees included" in behind(before, now, "F")


@pytest.mark.parametrize("cost", [-1100, 1100, 1133])  # the broker writes that of short ones with either sign
def test_short_shares_of_an_assigned_call_may_have_a_cost_of_either_sign(cost: int) -> None:
    before = statement(**{"F261120C00011000": -1})
    assert "F" not in left(before, statement(F=-100, as_of=NIGHT, costs={"F": cost}))


def test_cash_that_follows_shares_that_came_is_their_price() -> None:
    monday = replace(statement(F=100, as_of=NIGHT), gone={"F": Decimal(100)})
    line = "the price of F, which came before: 12.00 USD a share"
    assert line in behind(monday, statement(cash=-200, F=100, as_of=NIGHT + MINUTE))


# the contracts before, what is held and what cash changed by when they are gone: none of them is said to have expired
@pytest.mark.parametrize(
    ("held", "now", "cash", "reported"),
    [
        ({"XSP261120C00660000": 1}, {}, 350, "settled in cash"),
        ({"F1261120P00011000": -1}, {"F": 5}, -1100, "assigned at 11"),
        ({"F1261120P00011000": -1}, {}, -40, "assigned at 11"),
        ({"F261120P00011000": -1}, {"F": 250}, -2800, "assigned at 11"),
        ({PUT: -1}, {}, -37, "closed by an order that is not listed any more"),
        ({PUT: -1, "SPY261120P00595000": 1}, {}, -15, "closed by an order that is not listed any more"),
        ({PUT: 2}, {}, 90, "closed by an order that is not listed any more"),
    ],
)
def test_what_cash_or_shares_may_have_come_for_is_not_said_to_have_expired(
    held: dict[str, int], now: dict[str, int], cash: int, reported: str
) -> None:
    later = replace(statement(cash=1000 + cash, as_of=NIGHT, **now), session_open=NIGHT.replace(hour=14, minute=30))
    before = statement(**held)
    for symbol in held:
        change = found(before, later)[symbol]
        assert reported_causes(change) == [f"{signed(Decimal(-held[symbol]))} ended 2026-11-20"]
        assert reported in change.candidates
    assert claimed(map(Line.of, settle(changes(before, later), {}))) >= held.keys()


@pytest.mark.parametrize(("days", "what"), [(3, "expired"), (4, "ended")], ids=["on Monday", "on Tuesday"])
def test_shares_that_were_delivered_may_be_traded_on_a_day_that_nobody_saw(days: int, what: str) -> None:
    opened = OPEN.replace(hour=14, minute=30) + timedelta(days=days)
    later = replace(statement(cash=849, as_of=opened + MINUTE), session_open=opened)
    change = found(statement(as_of=AFTER_CLOSE, **{PUT: -1}), later)[PUT]
    assert reported_causes(change) == [f"+1 {what} 2026-11-20"]
    line = "assigned at 600, and its shares traded by an order that is not listed any more"
    assert (line in change.candidates) == (what == "ended")


@pytest.mark.parametrize(("cash", "is_fees"), [(-13, True), (-31, False)])
def test_fees_of_the_day_before_are_no_settlement(cash: int, is_fees: bool) -> None:
    symbols = ("SPXW261120P06500000", "SPXW261120P06490000")
    parts = [part(n, symbol, "buy_to_open", 10, 1) for n, symbol in enumerate(symbols, 1)]
    before = statement(*parts, as_of=AFTER_CLOSE, **dict(zip(symbols, (-10, 10), strict=True)))
    later = replace(statement(cash=1000 + cash, as_of=NIGHT), session_open=NIGHT.replace(hour=14, minute=30))
    assert ("fees of the day before, posted over night" in behind(before, later)) == is_fees
    what = "expired" if is_fees else "ended"
    assert reported_causes(found(before, later)[symbols[0]]) == [f"+10 {what} 2026-11-20"]


@pytest.mark.parametrize(
    ("as_of", "cash"),
    [(OPEN, 0), (OPEN, 5000), (AFTER_CLOSE, -37)],
    ids=["no cash", "cash that no short put brings", "nobody could trade it any more"],
)
def test_what_cash_cannot_have_come_for_expired(as_of: datetime, cash: int) -> None:
    later = replace(statement(cash=1000 + cash, as_of=NIGHT), session_open=NIGHT.replace(hour=14, minute=30))
    assert reported_causes(found(statement(as_of=as_of, **{PUT: -1}), later)[PUT]) == ["+1 expired 2026-11-20"]


@pytest.mark.parametrize(
    ("held", "came", "cash", "item", "reported"),
    [
        ({"F261120P00012000": -3}, {"F": 300}, -3600, "F", "F261120P00012000 assigned at 12"),
        ({"F261120P00012000": -3}, {}, -3600, CASH, "for 3 F261120P00012000 assigned at 12"),
        ({"F261120C00012000": -1}, {}, 1200, CASH, "for 1 F261120C00012000 assigned at 12"),
        ({"SPXW261120C06600000": 1}, {}, 431, CASH, "a settlement in cash of SPXW261120C06600000: 4.3100 USD a share"),
        ({"F1261120P00011000": -1}, {"F": 5}, -1100, "F", "F1261120P00011000 assigned at 11"),
    ],
)
def test_what_comes_for_a_contract_that_is_still_listed_names_it_and_it_does_not_expire_later(
    held: dict[str, int], came: dict[str, int], cash: int, item: str, reported: str
) -> None:
    saturday = statement(cash=1000 + cash, as_of=AFTER_CLOSE + timedelta(hours=12), **held, **came)
    verdicts = settle(changes(statement(as_of=AFTER_CLOSE, **held), saturday), {})
    (verdict,) = (one for one in verdicts if one.item == item)
    assert f"may be {reported}" in verdict.explanation
    monday = replace(statement(cash=1000 + cash, as_of=NIGHT, **came), session_open=NIGHT.replace(hour=14, minute=30))
    left_list = found(with_yet_to_come(saturday, map(Line.of, verdicts)), monday)
    for symbol in held:
        assert reported_causes(left_list[symbol]) == [f"{signed(Decimal(-held[symbol]))} ended 2026-11-20"]
        assert any(line.endswith("which came before it left the list") for line in left_list[symbol].candidates)


def test_shares_without_a_cost_may_be_spun_off_by_those_that_are_held() -> None:
    before, now = statement(SPY=200), statement(SPY=200, F=66, costs={"F": 0}, as_of=NIGHT)
    (change,) = (one for one in settle(changes(before, now), {}) if one.item == "F")
    line = "shares by a spin-off of SPY, whose cost has not moved yet: 0.3300 for each"
    assert f"may be {line}" in change.explanation
    later = replace(statement(SPY=200, F=66, cash=1030, as_of=NIGHT + timedelta(days=1)))
    assert "cash for fractions of F" in behind(with_yet_to_come(now, [Line.of(change)]), later)


def test_a_reverse_split_under_another_symbol_that_leaves_a_fraction_is_named_before_a_merger() -> None:
    before, now = statement(costs={"F": 3030}, F=1010), statement(costs={"AAPL": 3000}, AAPL=50, as_of=NIGHT)
    for item in ("F", "AAPL"):
        first, second, *_ = found(before, now)[item].candidates
        assert first == "a split, 1 for 20, with 0.50 of a share paid in cash, of F, which became AAPL"
        assert second == "a merger for shares: 0.0495 AAPL for each F"


def test_cash_and_shares_of_a_trade_that_no_order_shows_name_each_other() -> None:
    before, now = statement(cash=1000), statement(cash=0, F=80, as_of=NIGHT)
    assert behind(before, now)[0] == "+80 F by a trade that no order shows"
    assert "a trade that no order shows: 12.50 USD a share, fees included" in behind(before, now, "F")


def test_shares_that_two_options_may_have_delivered_are_no_fact_before_the_cash() -> None:
    puts = {"F261120P00011000": -1, "F261120P00012000": -1}
    assert left(statement(**puts), statement(F=100, as_of=NIGHT)) == {"F": 100}
    assert left(statement(cash=2000, **puts), statement(cash=900, F=100, as_of=NIGHT)) == {}


def test_the_fill_of_an_adjusted_option_counts_by_the_size_that_a_quote_reports() -> None:
    symbol = "BABA2261218C00145000"
    sold = part(7, symbol, "sell_to_close", 1, "1.25")
    before, now = statement(**{symbol: 2}), statement(sold, cash=1125, **{symbol: 1})
    assert behind(before, now)[0] == f"order 7: -1 {symbol}, its multiplier is not known"
    assert left(before, replace(now, terms={symbol: Terms(100, "BABA")})) == {}


def test_an_option_on_a_share_class_delivers_the_shares_its_root_stands_for() -> None:
    call = "HEIA261120C00200000"
    before = statement(**{"HEI/A": 100, call: -1})
    assert left(before, statement(cash=21000, as_of=NIGHT)) == {}


@given(after_expiry(), AMOUNTS, st.integers(-300, 300), AMOUNTS)
def test_what_changed_and_was_carried_is_explained_or_not(case: Case, amount: Decimal, by: int, due: Decimal) -> None:
    _, before, now = case
    carried = {CASH: Open(amount), "F": Open(Decimal(by))}
    for one in settle(changes(before, changed(paid(now, amount), "SPY", Decimal(by))), carried, {CASH: [due]}):
        assert abs(one.change + one.carried - one.explained - one.unexplained) < CENT


# --- packages ---------------------------------------------------------------------------------------------------------


def package(kind: str, price: Any, *prices: Any) -> Order:
    """Two calls, one sold and one bought, as one order."""
    reported = {"class": "option", "status": "filled", "quantity": 1, "exec_quantity": 1}
    reported |= {"create_date": OPEN.isoformat()}
    symbols = ("SPY261218C00610000", "SPY261218C00615000")
    legs = [
        reported | {"id": place, "side": side, "option_symbol": symbol, "avg_fill_price": each}
        for place, (side, symbol, each) in enumerate(zip(("sell_to_open", "buy_to_open"), symbols, prices, strict=True))
    ]
    parent = {"id": 9, "class": "multileg", "type": kind, "symbol": "SPY", "side": "buy", "avg_fill_price": price}
    return Order.model_validate(reported | parent | {"leg": legs})


@pytest.mark.parametrize(
    ("kind", "price", "cash"),
    [("even", 0, [0, 0]), ("even", None, [None, None]), ("credit", 0, [None, None]), ("debit", 0, [None, None])],
)
def test_only_an_even_package_trades_for_nothing(kind: str, price: Any, cash: list[Any]) -> None:
    parts = parts_of([package(kind, price and Decimal(price), Decimal(0), Decimal(0))])
    assert [one.cash for one in parts.values()] == cash


def test_the_legs_of_an_even_package_have_their_own_prices() -> None:
    parts = parts_of([package("even", Decimal(0), Decimal("1.20"), Decimal("1.20"))])
    assert [one.cash for one in parts.values()] == [120, -120]


def test_an_order_without_its_legs_fills_nothing_and_may_be_behind_any_change_of_its_underlying() -> None:
    reported = package("credit", Decimal("-0.50"), Decimal(0), Decimal(0)).model_copy(update={"leg": ()})
    assert parts_of([reported]) == {}
    legless = legless_of([reported])
    sold, other = "SPY261218C00610000", "AAPL270115C00290000"
    before = statement(SPY=100)
    now = replace(statement(SPY=100, cash=1050, **{sold: -1, other: 1}), legless=legless)
    changed_by = found(before, now)
    assert "SPY" not in changed_by
    assert changed_by[sold].candidates[0] == "the unknown legs of order 9"
    assert changed_by[CASH].candidates[0] == "the unknown legs of order 9"
    assert "the unknown legs of order 9" not in changed_by[other].candidates


def test_legs_that_are_told_later_are_no_second_fill() -> None:
    reported = package("credit", Decimal("-0.50"), Decimal("1.20"), Decimal("0.70"))
    held = {"SPY261218C00610000": -1, "SPY261218C00615000": 1}
    before = replace(statement(**held), legless=legless_of([reported.model_copy(update={"leg": ()})]))
    now = replace(statement(**held), parts=parts_of([reported]))
    assert left(before, now) == {}
