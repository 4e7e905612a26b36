"""The frames of the market stream. Pure.

Tradier: every number of a trade, a summary and a timesale is a string, those of a quote are numbers; every date is a
string of epoch milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from tradier_pipeline.simulator.market import Market
from tradier_pipeline.simulator.market_bodies import quote_rows
from tradier_pipeline.simulator.wire import Json

# of a kind of frame: what of the quote has to change for another frame
_NEWS_OF: Mapping[str, Sequence[str]] = {
    "summary": ("open", "high", "low", "prevclose"),
    "quote": ("bid", "ask"),
    "trade": ("last",),
    "tradex": ("last",),
    "timesale": ("last",),
}
KINDS = frozenset(_NEWS_OF)

Known = dict[tuple[str, str], tuple[Json, ...]]


def events(market: Market, symbols: Sequence[str], at: datetime, kinds: Sequence[str], known: Known) -> list[Json]:
    """The frames that tell what has changed since `known`, which is brought up to now.

    Of a symbol that is not known yet there is one of each of `kinds`; of one that nobody quotes there is none.
    """
    frames: list[Json] = []
    for row in quote_rows(market, symbols, at):
        for kind in kinds:
            key, news = (str(row["symbol"]), kind), tuple(row[name] for name in _NEWS_OF[kind])
            if known.get(key) != news:
                known[key] = news
                frames.append(_frame(kind, row))
    return frames


def _frame(kind: str, row: Mapping[str, Json]) -> Json:
    head: dict[str, Json] = {"type": kind, "symbol": row["symbol"]}
    if kind == "quote":
        return head | {
            "bid": row["bid"],
            "bidsz": row["bidsize"],
            "bidexch": row["bidexch"],
            "biddate": str(row["bid_date"]),
            "ask": row["ask"],
            "asksz": row["asksize"],
            "askexch": row["askexch"],
            "askdate": str(row["ask_date"]),
        }
    if kind == "summary":
        return head | _texts(row, open="open", high="high", low="low", prevClose="prevclose")
    if kind == "timesale":
        sold = _texts(row, exch="exch", bid="bid", ask="ask", last="last", size="last_volume", date="trade_date")
        number = int(str(row["trade_date"])) // 1000
        return head | sold | {"seq": number, "flag": "", "cancel": False, "correction": False, "session": "normal"}
    return head | _texts(
        row, exch="exch", price="last", size="last_volume", cvol="volume", date="trade_date", last="last"
    )


def _texts(row: Mapping[str, Json], **names: str) -> dict[str, Json]:
    """The fields of a frame, each the text of a field of the quote."""
    return {name: str(row[source]) for name, source in names.items()}
