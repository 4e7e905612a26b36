"""Closed lots in the columns of Form 8949 of the IRS, Sales and Other Dispositions of Capital Assets. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Final

from tradier_pipeline.broker.symbols import classify
from tradier_pipeline.export.journal import money, plain_amount

Row = Mapping[str, Any]

COLUMNS: Final = (
    "account",
    "term",
    "description",
    "date_acquired",
    "date_sold",
    "proceeds",
    "cost",
    "adjustment_code",
    "adjustment_amount",
    "gain",
)
NO_WASH_SALES: Final = (
    "The broker reports no wash sales: adjustment_code and adjustment_amount are empty because they are not known, "
    "not because there are none. Compare with Form 1099-B."
)
_ROUTES: Final = "Columns (a) to (h) of Form 8949; term short is Part I, long is Part II."
_SHORT_LOTS: Final = (
    "A lot that was short is acquired and sold on the day that it was closed, as the instructions say of short sales, "
    "and its gain is short-term; description has the day that it was opened."
)


def wanted(lots: Iterable[Row], since: date | None, until: date | None) -> list[Row]:
    """The lots that were closed between two dates, both included; None sets no limit."""
    return [lot for lot in lots if (since or date.min) <= lot["close_date"] <= (until or date.max)]


def form8949(lots: Iterable[Row]) -> tuple[str, tuple[str, ...]]:
    """CSV: what to know about it in lines that begin with #, the header, the lots of short term, those of long term.

    Args:
        lots: as `warehouse.bookkeeping.lots_query` gives them; dates are New York's, amounts USD.

    Returns:
        The text, and what to know about it.
    """
    lots = list(lots)
    real = [lot for lot in lots if lot["environment"] in (None, "live")]
    paper = sorted({f"{lot['account_id']} ({lot['environment']})" for lot in lots if lot not in real})
    rows = sorted((_line(lot) for lot in real or lots), key=lambda row: row["term"] != "short")
    notes = tuple(_notes(rows))
    if paper:
        what = "are left out; --account has those of one" if real else "are all that there are: they are no sales"
        notes = (*notes, f"Lots without real money {what}: {', '.join(paper)}.")
    text = io.StringIO()
    text.writelines(f"# {note}\n" for note in notes)
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue(), notes


def _notes(rows: Sequence[Row]) -> Iterator[str]:
    """What the lines do not say."""
    yield NO_WASH_SALES
    yield _ROUTES
    if any(row["was_short"] for row in rows):
        yield _SHORT_LOTS
    if index := sorted({row["index"] for row in rows if row["index"]}):
        yield f"Options on indexes may be section 1256 contracts, which belong on Form 6781: {', '.join(index)}."
    if off := sum(row["gain"] != money(row["difference"]) for row in rows):
        yield f"The broker's gain is not proceeds less cost in {off} lots; it stands as the broker reports it."


def _line(lot: Row) -> dict[str, Any]:
    opened, closed, quantity = lot["open_date"], lot["close_date"], lot["quantity"]
    was_short = quantity < 0
    option = classify(lot["symbol"]).option
    opened_on = f", short, opened {opened}" if was_short else ""
    return {
        "account": lot["account_id"],
        "term": "long" if not was_short and _is_long(opened, closed) else "short",
        "description": f"{plain_amount(abs(quantity))} {lot['symbol']}{opened_on}",
        "date_acquired": closed if was_short else opened,
        "date_sold": closed,
        "proceeds": money(lot["proceeds"]),
        "cost": money(lot["cost"]),
        "adjustment_code": "",
        "adjustment_amount": "",
        "gain": money(lot["gain_loss"]),
        "symbol": lot["symbol"],
        "was_short": was_short,
        "index": option.underlying if option and option.settles_in_cash else None,
        "difference": lot["proceeds"] - lot["cost"],
    }


def _is_long(opened: date, closed: date) -> bool:
    """Whether it was held for more than a year, counted from the day after it was acquired."""
    try:
        anniversary = opened.replace(year=opened.year + 1)
    except ValueError:  # 29 February
        anniversary = date(opened.year + 1, 2, 28)
    return closed > anniversary
