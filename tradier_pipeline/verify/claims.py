"""What a person asks of a snapshot: a dozen claims, each over many rules. Only here stands which rule belongs to which.

A claim is an asset check of Dagster. A rule keeps its own name, number and severity; `verify`, the JSON documents and
`check_results` tell rule by rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tradier_pipeline.core.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of a snapshot. `asset`: the asset that it is about; `rules`: the names of the checks that prove it."""

    name: str
    asset: str
    text: str
    rules: tuple[str, ...]


CLAIMS = (
    Claim(
        "snapshot_is_whole",
        "tradier_snapshot",
        "Everything of one account was read, once, in order, and all of it is stored together.",
        (
            *("fetch_states_ok", "payload_shapes_ok", "account_identity_ok", "snapshot_atomic", "as_of_increases"),
            "mirror_equals_newest",
        ),
    ),
    Claim(
        "provenance_proven",
        "tradier_snapshot",
        "Every stored row names the request, the bytes and the instant that it came from, and they are landed.",
        ("header_equals_manifest", "provenance_equals_manifest"),
    ),
    Claim(
        "account_equals_broker",
        "tradier_snapshot",
        "Account and balances are stored as the broker sent them.",
        ("account_equal", "account_is_active", "balances_present", "balances_finite", "balances_equal"),
    ),
    Claim(
        "positions_equal_broker",
        "tradier_snapshot",
        "The stored positions are the broker's: the same symbols, quantities, sides and costs.",
        (
            *("position_counts_equal", "position_keys_equal", "position_quantities_equal", "cost_basis_equal"),
            *("side_matches_sign", "one_row_per_symbol", "symbols_round_trip", "positions_all_parsed"),
        ),
    ),
    Claim(
        "orders_equal_broker",
        "tradier_snapshot",
        "The stored orders and legs are the broker's, in every field.",
        ("order_counts_equal", "order_statuses_equal", "order_values_equal", "order_legs_equal"),
    ),
    Claim(
        "snapshot_is_consistent",
        "tradier_snapshot",
        "What the broker said fits together and follows from what it said before: the snapshot is good.",
        (
            *("snapshot_is_good", "flat_is_explained", "balances_not_all_zero", "equity_identity_holds"),
            *("equity_covers_requirement", "equity_does_not_jump", "resource_skew_small", "clock_agrees"),
        ),
    ),
    Claim(
        "fields_known",
        "tradier_snapshot",
        "Every field and every word of the broker is known, and every number and text is stored as it is.",
        ("fields_known", "fields_complete", "order_words_known", "numbers_stored_exactly", "texts_stored_whole"),
    ),
    Claim(
        "orders_progress",
        "tradier_snapshot",
        "Orders move forward only, their fills and prices add up, and none is lost.",
        (
            *("order_progress_monotonic", "fill_arithmetic_holds", "fill_prices_present", "leg_fills_agree"),
            *("working_orders_found", "orders_tagged", "rejections_explained", "day_orders_end_with_session"),
            "leg_effects_fit",
        ),
    ),
    Claim(
        "cycle_on_time",
        "tradier_snapshot",
        "Every due instant was read, alone and within the budget of requests, and the trade gate says what follows.",
        (
            *("missed_equal", "gate_follows_snapshot", "minute_coverage", "no_overlap", "request_budget"),
            "session_open_for_trading",
        ),
    ),
    Claim(
        "positions_priced",
        "portfolio_positions",
        "Every position has a sane quote, and its value and profit follow from it.",
        (
            *("quotes_equal", "quotes_cover_positions", "position_values_equal", "quotes_sane"),
            "contract_metadata_agrees",
        ),
    ),
    Claim(
        "positions_plausible",
        "portfolio_positions",
        "What is held makes sense: nothing expired, no short option uncovered, no stock from an unseen assignment.",
        ("no_expired_position_held", "short_options_covered", "stock_not_from_assignment"),
    ),
    Claim(
        "spreads_equal_positions",
        "option_spreads",
        "The spreads hold every option contract exactly once, and their figures follow from the positions.",
        ("spreads_use_contracts_once", "spreads_follow_positions", "short_options_follow_positions"),
    ),
    Claim(
        "changes_explained",
        "conservation",
        "Every change of positions and cash since the last good snapshot has a cause.",
        ("conservation_follows_snapshots", "changes_explained", "holdings_do_not_drop", "positions_follow_fills"),
    ),
)

LEDGER_CLAIMS = (
    Claim(
        "ledger_orders_agree",
        "order_reconciliation",
        "The orders of the ledger and the broker's are one to one, and say the same.",
        (
            *("ledger_orders_follow_broker", "ledger_orders_found", "orders_of_ours_recorded", "sent_orders_arrived"),
            *("orders_pair_one_to_one", "tags_echoed", "live_orders_listed_or_read"),
        ),
    ),
    Claim(
        "ledger_trades_agree",
        "trade_reconciliation",
        "The trades of the ledger stand where their fills, the positions and their expiration put them.",
        (
            *("orders_fit_their_trades", "open_trades_have_legs", "legs_allocated", "positions_belong_to_trades"),
            *("strategies_fit_legs", "open_trades_entered_by_fills", "closed_trades_proven", "closed_trades_priced"),
            *("profits_follow_prices", "exit_prices_within_width", "pending_trades_have_orders"),
            *("ended_trades_hold_nothing", "transitions_allowed", "terms_unchanged", "entries_unique"),
            "emergencies_not_hasty",
        ),
    ),
)
"""Claims of the ledger beside the newest snapshot. They block nothing: their facts are the broker's."""

CLAIM_OF: Mapping[str, Claim] = MappingProxyType(
    {rule: claim for claim in (*CLAIMS, *LEDGER_CLAIMS) for rule in claim.rules}
)
"""The claim that a rule belongs to, by the rule's name."""


def outcomes_of(claim: Claim, outcomes: Iterable[Outcome]) -> tuple[Outcome, ...]:
    """The outcomes of the rules of a claim."""
    return tuple(outcome for outcome in outcomes if outcome.check in claim.rules)
