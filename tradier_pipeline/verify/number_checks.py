"""Whether the store holds every digit and letter that the broker sent. The landed bytes keep the whole of all."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from tradier_pipeline.core.outcome import Difference, RuleResult, Severity, shown
from tradier_pipeline.core.texts import MAX_TEXT_CHARS
from tradier_pipeline.verify import balance_checks, order_checks, position_checks
from tradier_pipeline.verify.check import check
from tradier_pipeline.verify.evidence import Evidence, number, storable


@check(None, Severity.WARN)
def numbers_stored_exactly(evidence: Evidence) -> RuleResult:
    """No number of the broker has more than the 8 fraction digits that are stored; others are rounded half to even."""
    seen = 0
    rounded: dict[str, list[tuple[Decimal, Decimal]]] = {}
    for path, value in _numbers(evidence):
        seen += 1
        try:
            exact, stored = number(value), storable(value)
        except ValueError:  # of a malformed quote, which is not stored
            continue
        if exact is not None and stored is not None and exact != stored:
            rounded.setdefault(path, []).append((exact, stored))
    count = sum(map(len, rounded.values()))
    return RuleResult(
        f"{count} of {seen} numbers with more than 8 fraction digits",
        "rounded to 8" if rounded else "exact",
        tuple(Difference(path, shown(exact), shown(stored)) for path, [(exact, stored), *_] in sorted(rounded.items())),
    )


@check(None, Severity.WARN)
def texts_stored_whole(evidence: Evidence) -> RuleResult:
    """No text of the broker has more than the 1,000 characters that are stored; of others the beginning is."""
    found = evidence.long_texts
    count = sum(map(len, found.values()))
    return RuleResult(
        f"{count} texts with more than {MAX_TEXT_CHARS} characters",
        "shortened" if found else "whole",
        tuple(
            Difference(path, f"{max(map(len, texts))} characters", f"the first {MAX_TEXT_CHARS}, and a digest")
            for path, texts in sorted(found.items())
        ),
    )


def _numbers(evidence: Evidence) -> Iterator[tuple[str, Any]]:
    """Every field that is stored as DECIMAL(24,8): its path, and what the broker sent."""
    for name in balance_checks.SENT_ALWAYS:
        yield f"balances.{name}", evidence.balances.get(name)
    for block in ("margin", "pdt", "cash"):
        for name in balance_checks.SENT_IN_BLOCK:
            yield f"balances.{block}.{name}", (evidence.balances.get(block) or {}).get(name)
    for row in evidence.listed("positions"):
        for name in ("quantity", "cost_basis"):
            yield f"positions.position.{name}", row.get(name)
    for order in evidence.orders:
        for path, part in [("orders.order", order), *(("orders.order.leg", leg) for leg in order_checks.legs(order))]:
            for name in order_checks.NUMBERS:
                yield f"{path}.{name}", part.get(name)
    for quote in evidence.listed("quotes"):
        for name in position_checks.QUOTE_NUMBERS:
            yield f"quotes.quote.{name}", quote.get(name)
