"""Checks of the balances: present, finite, equal to the broker's bytes, plausible."""

from __future__ import annotations

from decimal import Decimal

from tradier_pipeline.core.check import claim_that, differing
from tradier_pipeline.core.outcome import Difference, RuleResult, Severity, not_judged, shown
from tradier_pipeline.verify.evidence import Evidence, Row, by_key, storable
from tradier_pipeline.verify.registry import check

SENT_ALWAYS = (
    "total_equity",
    "total_cash",
    "market_value",
    "long_market_value",
    "short_market_value",
    "stock_long_value",
    "option_long_value",
    "option_short_value",
    "open_pl",
    "close_pl",
    "current_requirement",
    "option_requirement",
    "pending_cash",
    "pending_orders_count",
    "uncleared_funds",
)
SENT_IN_BLOCK = (
    "option_buying_power",
    "stock_buying_power",
    "day_trade_buying_power",
    "fed_call",
    "maintenance_call",
    "stock_short_value",
    "sweep",
    "cash_available",
    "unsettled_funds",
)
FOUR_NAMES = ("cash", "buying_power", "equity", "margin_requirement")


@check(16)
def balances_present(evidence: Evidence) -> RuleResult:
    """Every field the account's type requires was sent and is stored."""
    (stored,) = evidence.stored("account_balances")
    buying_power = "cash_available" if _block_name(evidence) == "cash" else "option_buying_power"
    required = (*FOUR_NAMES, *SENT_ALWAYS, buying_power)
    missing = [name for name in required if stored[name] is None]
    return RuleResult(
        f"{len(required)} required",
        f"{len(required) - len(missing)} stored",
        tuple(Difference(name, "required", "null") for name in missing),
    )


@check(17)
def balances_finite(evidence: Evidence) -> RuleResult:
    """Every stored balance is a finite number."""
    (stored,) = evidence.stored("account_balances")
    values = {name: value for name, value in stored.items() if isinstance(value, Decimal | float)}
    wrong = {name: value for name, value in values.items() if not Decimal(value).is_finite()}
    return RuleResult(
        "finite",
        f"{len(values)} numbers",
        tuple(Difference(name, "finite", str(value)) for name, value in wrong.items()),
    )


@check(18)
def balances_equal(evidence: Evidence) -> RuleResult:
    """Every stored balance equals the field of the broker it is mapped from, rounded to 8 fraction digits."""
    raw, block = evidence.balances, evidence.balances[_block_name(evidence)]
    expected: Row = {"account_type": raw["account_type"]}
    expected |= {name: storable(raw[name]) for name in SENT_ALWAYS}
    expected |= {name: storable(block.get(name)) for name in SENT_IN_BLOCK}
    expected |= {
        "cash": storable(raw["total_cash"]),
        "equity": storable(raw["total_equity"]),
        "margin_requirement": storable(raw["current_requirement"]),
        "buying_power": storable(
            block["cash_available"] if "cash_available" in block else block["option_buying_power"]
        ),
    }
    stored = by_key(evidence.stored("account_balances"), "account_id")
    differences = differing("balances", {(evidence.account_id,): expected}, stored)
    equity = ", ".join(shown(row["equity"]) for row in stored.values())
    return RuleResult(f"equity {shown(expected['equity'])}", f"equity {equity}", differences)


@check(19, Severity.WARN)
def balances_not_all_zero(evidence: Evidence) -> RuleResult:
    """The four balances are not all zero while positions are held, or right after they were not zero the same day."""
    (stored,) = evidence.stored("account_balances")
    all_zero = all(stored[name] == 0 for name in FOUR_NAMES)
    contradicted = bool(evidence.listed("positions")) or _had_money_today(evidence)
    return RuleResult(
        f"{len(evidence.listed('positions'))} positions",
        "all zero" if all_zero else "not all zero",
        claim_that(not (all_zero and contradicted), "balances", "money or positions", "all zero"),
    )


@check(20, Severity.WARN)
def equity_identity_holds(evidence: Evidence) -> RuleResult:
    """total_equity is total_cash plus long and short market values, within 1 USD or 0.1 %."""
    (stored,) = evidence.stored("account_balances")
    parts = stored["total_cash"] + stored["long_market_value"] + stored["short_market_value"]
    tolerance = max(Decimal(1), abs(stored["total_equity"]) / 1000)
    holds = abs(stored["total_equity"] - parts) <= tolerance
    equity, total = f"equity {shown(stored['total_equity'])}", f"cash + long + short {shown(parts)}"
    return RuleResult(equity, total, claim_that(holds, "identity", equity, total))


@check(21, Severity.WARN)
def equity_covers_requirement(evidence: Evidence) -> RuleResult:
    """The broker's current requirement is no more than the equity."""
    (stored,) = evidence.stored("account_balances")
    equity, required = f"equity {shown(stored['equity'])}", f"{shown(stored['margin_requirement'])} required"
    holds = stored["margin_requirement"] <= stored["equity"]
    return RuleResult(equity, required, claim_that(holds, "requirement", equity, required))


@check(22, Severity.WARN)
def equity_does_not_jump(evidence: Evidence) -> RuleResult:
    """Since the previous snapshot, equity did not change by more than a fifth."""
    (stored,), previous = evidence.stored("account_balances"), evidence.previous
    if previous is None:
        return not_judged("the first snapshot")
    (balances,) = evidence.before["account_balances"]
    before, now = balances["equity"], stored["equity"]
    holds = abs(now - before) * 5 <= abs(before)
    reported, had = f"equity {shown(now)}", f"{shown(before)} before"
    return RuleResult(reported, had, claim_that(holds, "equity", reported, had))


def _block_name(evidence: Evidence) -> str:
    (name,) = [name for name in ("margin", "pdt", "cash") if isinstance(evidence.balances.get(name), dict)]
    return name


def _had_money_today(evidence: Evidence) -> bool:
    previous, (stored,) = evidence.previous, evidence.stored("account_balances")
    if previous is None or previous["trade_date"] != stored["trade_date"]:
        return False
    return any(row["equity"] != 0 for row in evidence.before["account_balances"])
