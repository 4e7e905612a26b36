"""The checks of a summary: what is sound passes, and each example is reported by its check."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tradier_pipeline.core.outcome import Severity
from tradier_pipeline.reconcile.daily import SUMMARY_CHECKS, SummaryEvidence

DAY = date(2025, 12, 8)
CLOSE = datetime(2025, 12, 8, 21, tzinfo=UTC)
AS_OF, BEFORE = CLOSE + timedelta(minutes=15), CLOSE - timedelta(days=2)


def summary(**fields: Any) -> dict[str, Any]:
    return {
        "account_id": "VA1",
        "trade_date": DAY,
        "generated_at": CLOSE + timedelta(minutes=30),
        "snapshot_id": f"VA1@{AS_OF}",
        "as_of": AS_OF,
        "session_close": CLOSE,
        "equity": Decimal(1000),
        "cash": Decimal(900),
        "buying_power": Decimal(800),
        "close_pl": Decimal(7),
        "trades_as_of": AS_OF,
        "trades_since": BEFORE,
        "trades_opened": 2,
        "trades_closed": 3,
        "trades_open": 4,
        "realized_pnl": Decimal(45),
        "realized_unknown": 1,
        "opened_trades": [{}] * 2,
        "closed_trades": [{"realized_pnl": profit} for profit in (Decimal(105), Decimal(-60), None)],
        "open_trades": [{}] * 4,
    } | fields


def snapshot(**fields: Any) -> dict[str, Any]:
    return {name: summary()[name] for name in ("trade_date", "as_of", "equity", "cash", "buying_power", "close_pl")} | (
        fields
    )


def before(**fields: Any) -> dict[str, Any]:
    return {"trade_date": date(2025, 12, 5), "trades_as_of": BEFORE, "trades_open": 5} | fields


def failed(*accounts: SummaryEvidence) -> set[str]:
    return {check.name for check in SUMMARY_CHECKS if not check.run(accounts).passed}


NO_LEDGER = {name: None for name in summary() if "trades" in name or name.startswith("realized")}
SOUND = {
    "a day": SummaryEvidence(summary(), before(), snapshot()),
    "the first": SummaryEvidence(summary(trades_since=None), None, snapshot()),
    "no session": SummaryEvidence(summary(session_close=None), before(), snapshot()),
    "no ledger": SummaryEvidence(summary(**NO_LEDGER), before(), snapshot()),
    "nothing closed": SummaryEvidence(
        summary(trades_closed=0, trades_open=7, realized_pnl=Decimal(0), realized_unknown=0)
        | {"closed_trades": [], "open_trades": [{}] * 7},
        before(),
        snapshot(),
    ),
    "only unknown profits": SummaryEvidence(
        summary(trades_closed=1, trades_open=6, realized_pnl=None)
        | {"closed_trades": [{"realized_pnl": None}], "open_trades": [{}] * 6},
        before(),
        snapshot(),
    ),
}
# example of the check -> its evidence
WRONG = {
    ("summary_after_close", "made at 15:15 EST"): SummaryEvidence(
        summary(generated_at=CLOSE - timedelta(minutes=45)), before(), snapshot()
    ),
    ("summary_after_close", "of a snapshot before"): SummaryEvidence(
        summary(as_of=CLOSE - timedelta(seconds=1)), before(), snapshot(as_of=CLOSE - timedelta(seconds=1))
    ),
    ("summary_reconciles", "one more open"): SummaryEvidence(summary(), before(trades_open=4), snapshot()),
    ("summary_reconciles", "a day between"): SummaryEvidence(
        summary(), before(trades_as_of=BEFORE - timedelta(days=1)), snapshot()
    ),
    ("summary_reconciles", "unknown as zero"): SummaryEvidence(summary(realized_unknown=0), before(), snapshot()),
    ("summary_reconciles", "another sum"): SummaryEvidence(summary(realized_pnl=Decimal(46)), before(), snapshot()),
    ("summary_reconciles", "fewer rows"): SummaryEvidence(summary(opened_trades=[{}]), before(), snapshot()),
    ("summary_history", "today's balance in an old row"): SummaryEvidence(
        summary(), before(), snapshot(equity=Decimal(2000))
    ),
    ("summary_history", "today's snapshot in an old row"): SummaryEvidence(
        summary(), before(), snapshot(trade_date=DAY + timedelta(days=1))
    ),
    ("summary_history", "today's trades in an old row"): SummaryEvidence(
        summary(trades_as_of=AS_OF + timedelta(days=1)), before(), snapshot()
    ),
    ("summary_history", "a snapshot that is not stored"): SummaryEvidence(summary(), before(), None),
}


@pytest.mark.parametrize("evidence", SOUND.values(), ids=SOUND)
def test_a_sound_summary_passes_every_check(evidence: SummaryEvidence) -> None:
    assert failed(evidence) == set()


@pytest.mark.parametrize(
    ("check", "evidence"),
    [pytest.param(name, evidence, id=what) for (name, what), evidence in WRONG.items()],
)
def test_the_example_is_told_by_its_check(check: str, evidence: SummaryEvidence) -> None:
    assert failed(SOUND["a day"], evidence) == {check}
    (found,) = [one.run([evidence]) for one in SUMMARY_CHECKS if one.name == check]
    assert found.differences[0].where.startswith("VA1 ")


def test_both_figures_of_a_summary_are_told_with_what_is_not_known() -> None:
    _, reconciles, _ = SUMMARY_CHECKS
    outcome = reconciles.run([SOUND["a day"]])
    assert outcome.broker == "5 open on 2025-12-05"
    assert outcome.stored == "2 opened, 3 closed, 4 open, 1 of unknown profit"
    assert (outcome.number, outcome.severity) == (78, Severity.WARN)
