"""Each check by the incident it exists for: it passes on a sound snapshot and fails, as severely as said, on that."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tradier_pipeline.core.outcome import MAX_DIFFERENCES, Outcome, Severity, shown
from tradier_pipeline.landing.zone import MANIFEST
from tradier_pipeline.verify import CHECKS
from tradier_pipeline.verify.balance_checks import FOUR_NAMES, SENT_ALWAYS, SENT_IN_BLOCK
from tradier_pipeline.warehouse import schema
from tradier_pipeline_tests.support import bodies
from tradier_pipeline_tests.support.bodies import (
    ACCOUNT,
    AS_OF,
    Answers,
    account,
    answers,
    balances,
    dumps,
    leg,
    listed,
    option_quote,
    order,
    position,
    quote,
    reland,
    spread,
)
from tradier_pipeline_tests.support.sampling import sampled
from tradier_pipeline_tests.verify.incidents import (
    EARLIER,
    PUT,
    YESTERDAY,
    Bench,
    Incident,
    prove,
    sound,
    taken,
)

# domain.md, section 10; the unnumbered ones are equalities that no number there covers
SEVERITIES: dict[str, tuple[int | None, Severity]] = {
    "fetch_states_ok": (1, Severity.FATAL),
    "payload_shapes_ok": (2, Severity.FATAL),
    "account_identity_ok": (3, Severity.FATAL),
    "snapshot_atomic": (4, Severity.FATAL),
    "position_counts_equal": (5, Severity.FATAL),
    "order_counts_equal": (6, Severity.FATAL),
    "flat_is_explained": (7, Severity.WARN),
    "as_of_increases": (9, Severity.FATAL),
    "resource_skew_small": (10, Severity.WARN),
    "balances_present": (16, Severity.FATAL),
    "balances_finite": (17, Severity.FATAL),
    "balances_equal": (18, Severity.FATAL),
    "balances_not_all_zero": (19, Severity.WARN),
    "equity_identity_holds": (20, Severity.WARN),
    "position_keys_equal": (24, Severity.FATAL),
    "position_quantities_equal": (25, Severity.FATAL),
    "cost_basis_equal": (26, Severity.FATAL),
    "side_matches_sign": (27, Severity.FATAL),
    "one_row_per_symbol": (28, Severity.WARN),
    "symbols_round_trip": (29, Severity.FATAL),
    "positions_all_parsed": (30, Severity.WARN),
    "quotes_cover_positions": (34, Severity.WARN),
    "order_statuses_equal": (38, Severity.FATAL),
    "mirror_equals_newest": (80, Severity.FATAL),
    "order_values_equal": (None, Severity.FATAL),
    "order_legs_equal": (None, Severity.FATAL),
    "position_values_equal": (None, Severity.FATAL),
    "quotes_equal": (None, Severity.FATAL),
    "header_equals_manifest": (None, Severity.FATAL),
    "account_equal": (None, Severity.FATAL),
    "provenance_equals_manifest": (None, Severity.FATAL),
    "spreads_use_contracts_once": (None, Severity.FATAL),
    "spreads_follow_positions": (None, Severity.FATAL),
    "short_options_follow_positions": (None, Severity.FATAL),
}

AAPL = [f"AAPL260102P00{strike}000" for strike in range(200, 300, 5)]  # 20 legs


def test_the_checks_have_their_numbers_and_severities() -> None:
    assert SEVERITIES.items() <= {check.name: (check.number, check.severity) for check in CHECKS}.items()


def test_a_sound_snapshot_passes_every_check(bench: Bench) -> None:
    bench.take()
    assert bench.failed() == set()
    assert bench.outcomes.keys() >= SEVERITIES.keys()


@pytest.mark.parametrize("block", ["margin", "pdt", "cash"])
def test_a_sound_account_of_any_type_passes_every_check(bench: Bench, block: str) -> None:
    bench.take(sound(balances={"balances": balances(block)}))
    assert bench.failed() == set()


# --- the incidents ----------------------------------------------------------------------------------------------------


def spoiled(sql: str, reported: Answers | None = None) -> Callable[[Bench], object]:
    """The rows were changed after they had been written."""
    return lambda bench: bench.spoil(bench.take(reported) if reported else bench.sound(), sql)


def relanded(resource: str, body: bytes) -> Callable[[Bench], object]:
    """Another body was landed than the one that was stored."""
    return lambda bench: bench.again(reland(bench.sound(), bench.home / "other", resource, 1, body))


def _orders_answered_500(bench: Bench) -> None:
    landed = bench.sound()
    manifest = json.loads((landed.directory / MANIFEST).read_bytes())
    manifest["resources"]["orders"][0]["status"] = 500
    (landed.directory / MANIFEST).write_text(json.dumps(manifest))
    bench.again(landed)


def _bytes_changed(bench: Bench) -> None:
    landed = bench.sound()
    (landed.directory / "orders.json").write_text('{"orders": "null"}')
    bench.again(landed)


def _all_zero(answers: Answers) -> Answers:
    zero = balances(total_equity=0, total_cash=0, current_requirement=0, market_value=0)
    zero["margin"]["option_buying_power"] = Decimal("0E-8")
    return replace(answers, balances={"balances": zero})


def _all_zero_after_money(bench: Bench) -> None:
    bench.take(answers(), EARLIER)
    bench.take(_all_zero(answers()))


def _mirror_shows_stale(bench: Bench) -> None:
    bench.take(answers(positions=[position(symbol) for symbol in AAPL[:2]]), EARLIER)
    landed = bench.take(answers(positions=[position(AAPL[0])]))
    bench.spoil(landed, "CREATE OR REPLACE VIEW portfolio_positions AS SELECT * FROM positions")


def _eighteen_to_none(bench: Bench) -> None:
    bench.take(answers(positions=[position(symbol, -1) for symbol in AAPL[:18]]), EARLIER)
    bench.take(answers())


INCIDENTS = [
    Incident("fetch_states_ok", _orders_answered_500, "orders page 1", "500", "200"),
    Incident("fetch_states_ok", _bytes_changed, "landed bytes", "sha256 differs", "-"),
    Incident("payload_shapes_ok", relanded("positions", b'{"error": "gone"}'), "positions", "error", "positions"),
    Incident("payload_shapes_ok", relanded("positions", b"<html>busy</html>"), "evidence", "JSONDecodeError", "-"),
    Incident(
        "payload_shapes_ok",
        relanded("orders", b'{"orders": "null", "errors": {"error": "x"}}'),
        "orders",
        "an error body",
        "orders",
    ),
    Incident(
        "account_identity_ok",
        taken(sound(balances={"balances": balances(number="VA00000002")})),
        "balances",
        "VA00000002",
        ACCOUNT,
    ),
    Incident(
        "account_identity_ok",
        relanded("account", dumps({"profile": {"account": account("VA00000002")}}).encode()),
        "profile",
        "not listed",
        ACCOUNT,
    ),
    Incident("snapshot_atomic", spoiled("DELETE FROM tradier_snapshots"), "tradier_snapshots", "1", "0"),
    Incident(
        "snapshot_atomic",
        spoiled("UPDATE positions SET as_of = as_of + INTERVAL 1 HOUR WHERE row_no = 2"),
        "positions, 1 rows, as_of",
        "2025-11-20T14:31:00.250000+00:00",
        "2025-11-20T15:31:00.250000+00:00",
    ),
    Incident(
        "position_counts_equal",
        spoiled("DELETE FROM positions WHERE row_no > 18", answers(positions=[position(symbol) for symbol in AAPL])),
        "positions",
        "20",
        "18",
    ),
    Incident(
        "order_counts_equal",
        spoiled(
            "DELETE FROM orders WHERE order_id > 25",
            replace(
                answers(),
                orders=[
                    listed("orders", "order", [order(number) for number in range(start, start + 25) if number <= 60])
                    for start in (1, 26, 51)
                ],
            ),
        ),
        "orders",
        "60",
        "25",
    ),
    Incident("flat_is_explained", _eighteen_to_none, AAPL[0], "neither filled nor expired", "-1 held before"),
    Incident(
        "as_of_increases",
        taken(sound(), previous_as_of=AS_OF + timedelta(hours=1)),
        "previous as-of",
        "2025-11-20T15:31:00.250000+00:00",
        "2025-11-20T14:31:00.250000+00:00",
    ),
    Incident("as_of_increases", taken(sound(), as_of=datetime(2099, 1, 1, tzinfo=UTC)), "now", "2099-01-01", "20"),
    Incident("resource_skew_small", taken(sound(), took=timedelta(seconds=30)), "skew", "30.000 s", "at most 15 s"),
    Incident(
        "balances_present",
        spoiled("UPDATE account_balances SET option_buying_power = NULL"),
        "option_buying_power",
        "required",
        "null",
    ),
    Incident(
        "balances_present",
        spoiled("UPDATE account_balances SET cash_available = NULL", sound(balances={"balances": balances("cash")})),
        "cash_available",
        "required",
        "null",
    ),
    Incident(
        "balances_finite",
        spoiled(
            "ALTER TABLE account_balances ALTER cash_available TYPE DOUBLE;"
            "UPDATE account_balances SET cash_available = 'nan'"
        ),
        "cash_available",
        "finite",
        "nan",
    ),
    Incident(
        "balances_equal",
        spoiled(
            "UPDATE account_balances SET equity = 0",
            sound(balances={"balances": balances(total_equity=Decimal("48210.55"))}),
        ),
        f"balances {ACCOUNT} equity",
        "48210.55",
        "0",
    ),
    Incident("balances_not_all_zero", taken(_all_zero(sound())), "balances", "money or positions", "all zero"),
    Incident("balances_not_all_zero", _all_zero_after_money, "balances", "money or positions", "all zero"),
    Incident(
        "equity_identity_holds",
        taken(sound(balances={"balances": balances(total_equity=Decimal("17816.18"))})),
        "identity",
        "equity 17816.18",
        "cash + long + short 17798.36",
    ),
    Incident(
        "position_keys_equal",
        spoiled(
            "INSERT INTO positions SELECT * REPLACE (row_no + 18 AS row_no, 'AAPL260102C00280000' AS symbol) "
            "FROM positions WHERE row_no <= 2",
            answers(positions=[position(symbol) for symbol in AAPL[:18]]),
        ),
        "AAPL260102C00280000",
        "0 rows",
        "2 rows",
    ),
    Incident(
        "position_quantities_equal",
        spoiled("UPDATE positions SET quantity = -66 WHERE row_no = 2"),
        f"position 2 {PUT} quantity",
        "-67",
        "-66",
    ),
    Incident(
        "cost_basis_equal",
        spoiled("UPDATE positions SET cost_basis_per_contract = NULL"),
        f"position 2 {PUT} cost_basis_per_contract",
        "2.19402985",
        "null",
    ),
    Incident("cost_basis_equal", spoiled("UPDATE positions SET cost_basis = 0"), "cost_basis", "-147", "0"),
    Incident(
        "side_matches_sign",
        spoiled("UPDATE positions SET side = 'short'", answers(positions=[position(PUT, Decimal("0E-8"))])),
        f"{PUT} side",
        "null",
        "short",
    ),
    Incident("one_row_per_symbol", taken(answers(positions=[position(PUT, 1), position(PUT, 2)])), PUT, "2 rows", "1"),
    Incident(
        "symbols_round_trip",
        spoiled("UPDATE positions SET strike = 602 WHERE row_no = 2"),
        "position 2",
        PUT,
        "SPY251219P00602000",
    ),
    Incident("positions_all_parsed", taken(answers(positions=[position("odd", 2)])), "odd", "quantity 2", "unparsed"),
    Incident("quotes_cover_positions", taken(sound(quotes=None)), PUT, "quotes: HTTP 503", "null"),
    Incident(
        "quotes_cover_positions",
        taken(sound(quotes=listed("quotes", "quote", [quote("AAPL"), option_quote(PUT, bid="5.40")]))),
        PUT,
        "malformed",
        "null",
    ),
    Incident(
        "quotes_cover_positions",
        taken(sound(quotes={"quotes": {"quote": quote("AAPL"), "unmatched_symbols": {"symbol": PUT}}})),
        PUT,
        "not quoted by the broker",
        "null",
    ),
    Incident(
        "order_statuses_equal",
        spoiled(
            "UPDATE orders SET status = 'pending'", answers(orders=[order(22223806, status="filled"), order(22223807)])
        ),
        "order 22223806 status",
        "filled",
        "pending",
    ),
    Incident("mirror_equals_newest", _mirror_shows_stale, "portfolio_positions", "1", "3"),
    Incident(
        "order_values_equal",
        spoiled("UPDATE orders SET exec_quantity = 1", answers(orders=[order(7)])),
        "order 7 exec_quantity",
        "0",
        "1",
    ),
    Incident(
        "order_legs_equal",
        spoiled("UPDATE order_legs SET side = 'buy' WHERE leg_no = 1"),
        "leg 229065 1 side",
        "sell_to_open",
        "buy",
    ),
    Incident(
        "position_values_equal",
        spoiled("UPDATE positions SET multiplier = 1 WHERE row_no = 2"),
        f"position 2 {PUT} multiplier",
        "100",
        "1",
    ),
    Incident("quotes_equal", spoiled("UPDATE quotes SET bid = ask"), "quote AAPL bid", "208.19", "208.21"),
    Incident(
        "header_equals_manifest",
        spoiled("UPDATE tradier_snapshots SET positions_count = 1"),
        "positions_count",
        "3",
        "1",
    ),
    Incident("account_equal", spoiled("UPDATE accounts SET option_level = 1"), "option_level", "6", "1"),
    Incident(
        "provenance_equals_manifest", spoiled("UPDATE raw_payloads SET sha256 = 'x'"), "payload orders 1", "", "x"
    ),
]

INCIDENTS += [
    Incident(
        "spreads_use_contracts_once",
        spoiled("UPDATE option_spread_legs SET quantity = -66"),
        f"{PUT} quantity",
        "-67",
        "-66",
    ),
    Incident("spreads_follow_positions", spoiled("UPDATE option_spreads SET cost = 0"), "spread 1 cost", "-80", "0"),
    Incident(
        "spreads_follow_positions",
        spoiled("UPDATE option_spreads SET break_even_low = 0"),
        *("spread 1 break_even_low", "602.4880597", "0"),
    ),
    Incident(
        "short_options_follow_positions",
        spoiled("UPDATE short_options SET strike = 0"),
        *("short option 2 strike", "602.5", "0"),
    ),
]


@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: f"{incident.check}-{incident.where}")
def test_the_incident_is_told_by_its_check(bench: Bench, incident: Incident) -> None:
    prove(bench, incident, SEVERITIES[incident.check][1])


def test_every_check_has_an_incident() -> None:
    assert {incident.check for incident in INCIDENTS} == SEVERITIES.keys()


def test_a_warning_alone_blocks_nothing(bench: Bench) -> None:
    bench.take(sound(quotes=None))
    assert bench.failed() == {"quotes_cover_positions"}
    assert not any(outcome.blocks for outcome in bench.outcomes.values())


@pytest.mark.parametrize("status", ["closed", "pending", ""])
def test_a_closed_account_is_published_with_a_warning(bench: Bench, status: str) -> None:
    bench.take(sound(account={"profile": {"account": account(status=status)}}))
    assert bench.failed() == {"account_is_active"}
    (reported,) = bench.outcomes["account_is_active"].differences
    assert reported.where == f"the account is {shown(status)} at the broker, not active"
    assert reported.broker == reported.stored == shown(status)
    assert not any(outcome.blocks for outcome in bench.outcomes.values())


def test_an_outcome_holds_the_first_differences_and_counts_all(bench: Bench) -> None:
    many = answers(positions=[position(symbol, 1) for symbol in (*AAPL, "AAPL", "F")])
    bench.spoil(bench.take(many), "UPDATE positions SET quantity = 2")
    outcome = bench.outcomes["position_quantities_equal"]
    assert (len(outcome.differences), outcome.differing) == (MAX_DIFFERENCES, 22)
    assert (outcome.broker, outcome.stored) == ("sum 22", "sum 44")


# --- 7: an account that is flat all of a sudden -----------------------------------------------------------------------


def filled(number: int, symbol: str, at: datetime, **fields: Any) -> bodies.Body:
    reported = {"status": "filled", "exec_quantity": Decimal("1.00000000"), "transaction_date": at.isoformat()}
    return order(number, symbol="AAPL", option_symbol=symbol, side="buy_to_close", **(reported | fields)) | {
        "class": "option"
    }


def flat(bench: Bench, now: Answers, held: Sequence[bodies.Body], before: datetime = EARLIER) -> Outcome:
    bench.take(answers(positions=held), before)
    bench.take(now)
    return bench.outcomes["flat_is_explained"]


def test_flat_after_every_leg_was_filled_is_explained(bench: Bench) -> None:
    orders = [filled(number, symbol, AS_OF) for number, symbol in enumerate(AAPL, 1)]
    assert flat(bench, answers(orders=orders), [position(symbol, -1) for symbol in AAPL]).passed


def test_flat_with_one_leg_that_was_not_filled_names_that_leg(bench: Bench) -> None:
    orders = [filled(number, symbol, AS_OF) for number, symbol in enumerate(AAPL[1:], 1)]
    outcome = flat(bench, answers(orders=orders), [position(symbol, -1) for symbol in AAPL])
    assert [difference.where for difference in outcome.differences] == [AAPL[0]]


def test_the_legs_of_a_filled_spread_explain_their_symbols(bench: Bench) -> None:
    legs = [
        leg(2, PUT, "buy_to_close", status="filled", exec_quantity=3, transaction_date=AS_OF.isoformat()),
        leg(3, AAPL[0], "sell_to_close", status="filled", exec_quantity=3, transaction_date=None),
    ]
    closing = spread(1, status="filled", exec_quantity=3, transaction_date=AS_OF.isoformat(), leg=legs)
    assert flat(bench, answers(orders=[closing]), [position(PUT, -3), position(AAPL[0], 3)]).passed


def test_a_filled_spread_does_not_explain_its_underlying(bench: Bench) -> None:
    legs = [leg(2, PUT, "buy_to_close", status="filled", exec_quantity=3, transaction_date=AS_OF.isoformat())]
    closing = spread(1, status="filled", exec_quantity=3, transaction_date=AS_OF.isoformat(), leg=legs)
    outcome = flat(bench, answers(orders=[closing]), [position(PUT, -3), position("SPY", 100)])
    assert [difference.where for difference in outcome.differences] == ["SPY"]


def test_an_equity_that_was_sold_is_explained(bench: Bench) -> None:
    sold = order(1, side="sell", status="filled", exec_quantity=10, transaction_date=AS_OF.isoformat())
    assert flat(bench, answers(orders=[sold]), [position("AAPL", 10)]).passed


@pytest.mark.parametrize(("ago", "explained"), [(timedelta(seconds=59), True), (timedelta(seconds=61), False)])
def test_a_fill_before_the_last_snapshot_explains_only_if_the_positions_may_have_lagged(
    bench: Bench, ago: timedelta, explained: bool
) -> None:
    orders = [filled(1, PUT, EARLIER - ago)]
    assert flat(bench, answers(orders=orders), [position(PUT, -1)]).passed == explained


def test_an_order_that_was_not_filled_explains_nothing(bench: Bench) -> None:
    orders = [filled(1, PUT, AS_OF, status="canceled", exec_quantity=Decimal("0E-8"))]
    assert not flat(bench, answers(orders=orders), [position(PUT, -1)]).passed


@pytest.mark.parametrize(
    ("symbol", "explained"), [("SPY251120P00600000", True), ("SPY251121P00600000", False), ("SPY", False)]
)
def test_legs_that_expire_by_the_trade_date_are_explained(bench: Bench, symbol: str, explained: bool) -> None:
    assert flat(bench, answers(), [position(symbol, -1)]).passed == explained


@pytest.mark.parametrize(("market_value", "explained"), [(0, True), (Decimal("0E-8"), True), (Decimal("0.01"), False)])
def test_on_a_later_day_the_market_value_must_be_zero_too(bench: Bench, market_value: Any, explained: bool) -> None:
    now = answers(balances={"balances": balances(market_value=market_value)})
    outcome = flat(bench, now, [position(PUT, -1)], before=YESTERDAY)
    assert outcome.passed == explained
    assert explained or outcome.differences[0].where == "market_value"


def test_flat_after_flat_and_flat_at_first_need_no_explanation(bench: Bench) -> None:
    bench.take(answers(), EARLIER)
    assert bench.outcomes["flat_is_explained"].passed
    bench.take(answers())
    assert bench.outcomes["flat_is_explained"].passed


def test_rows_of_quantity_zero_were_not_held(bench: Bench) -> None:
    assert flat(bench, answers(), [position(PUT, 0)]).passed


def test_another_accounts_positions_do_not_matter(bench: Bench) -> None:
    other = replace(answers(positions=[position(PUT)]), account={"profile": {"account": account("VA2")}})
    bench.take(replace(other, balances={"balances": balances(number="VA2")}), EARLIER, account_id="VA2")
    bench.take(answers())
    assert bench.failed() == {"equity_identity_holds"}  # of an account that holds nothing, by balances of one that does


# --- 19 and 20: boundaries --------------------------------------------------------------------------------------------


def test_an_account_without_anything_may_be_all_zero(bench: Bench) -> None:
    bench.take(_all_zero(answers()))
    assert bench.outcomes["balances_not_all_zero"].passed


def test_an_account_may_be_all_zero_on_a_day_after_it_had_money(bench: Bench) -> None:
    bench.take(answers(), YESTERDAY)
    bench.take(_all_zero(answers()))
    assert bench.outcomes["balances_not_all_zero"].passed


@pytest.mark.parametrize(
    ("equity", "holds"), [("17798.36", True), ("17816.18", False), ("17816.17", True), ("17780.56", False)]
)
def test_the_equity_identity_holds_within_a_thousandth(bench: Bench, equity: str, holds: bool) -> None:
    bench.take(sound(balances={"balances": balances(total_equity=Decimal(equity))}))
    assert bench.outcomes["equity_identity_holds"].passed == holds


# --- evidence that cannot be read is no proof -------------------------------------------------------------------------


@pytest.mark.parametrize("resource", ["account", "balances", "positions", "orders", "quotes"])
@sampled(
    "body",
    [b"", b"[]", b"{}", b'{"x": NaN}', b"\xff", b'{"balances": {}, "orders": 5}', b'{"x":' + b"[" * 100_000],
    kept=(2, 6),  # an object without anything, and what no parser can read
)
def test_no_body_makes_verification_raise(bench: Bench, resource: str, body: bytes) -> None:
    bench.again(reland(bench.sound(), bench.home / "other", resource, 1, body))
    assert sum(outcome.blocks for outcome in bench.outcomes.values())  # every check has been asked


def test_a_missing_file_fails_every_check_that_needs_it(bench: Bench) -> None:
    landed = bench.sound()
    (landed.directory / "positions.json").unlink()
    bench.again(landed)
    assert {"fetch_states_ok", "position_keys_equal", "balances_equal"} <= bench.failed()
    assert bench.outcomes["fetch_states_ok"].differences[0].where == "landed bytes"


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b'{"as_of": null}', b"null", None])
def test_no_manifest_makes_verification_raise(bench: Bench, damage: bytes | None) -> None:
    landed = bench.sound()
    (landed.directory / MANIFEST).unlink()
    if damage is not None:
        (landed.directory / MANIFEST).write_bytes(damage)
    bench.again(landed)
    assert {"fetch_states_ok", "header_equals_manifest"} <= bench.failed()


def test_a_manifest_without_an_as_of_makes_no_check_raise(bench: Bench) -> None:
    landed = bench.sound()
    manifest = json.loads((landed.directory / MANIFEST).read_bytes())
    (landed.directory / MANIFEST).write_text(json.dumps(manifest | {"as_of": None}))
    bench.again(landed)
    assert "header_equals_manifest" in bench.failed()


def test_every_balance_that_is_stored_is_compared_with_what_the_broker_sent() -> None:
    of_every_table = {"snapshot_id", "account_id", "as_of", "trade_date"}
    compared = {*SENT_ALWAYS, *SENT_IN_BLOCK, *FOUR_NAMES, "account_type"}
    assert set(schema.ACCOUNT_BALANCES.column_names) - of_every_table == compared
