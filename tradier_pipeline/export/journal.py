"""The books of accounts as double entries that add up to the cent, for the programs of plain-text accounting. Pure.

Every movement of cash has its counterpart. Securities are kept in USD: at cost, which a trade changes by its whole
amount, commission included, and a closed lot by its gain or loss; and a valuation, which brings cost to the value that
the broker has at the close of a session. So no lot has to be matched: gains are the broker's own, and what the parts
come to is asserted against the broker's cash and value wherever it gives them.

What the broker shows and its history does not explain is an entry of its own, marked as doubtful.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

Row = Mapping[str, Any]
ZERO: Final = Decimal(0)
NEXT_DAY: Final = timedelta(days=1)
OPENING: Final = "Equity:Opening-Balances"
_NOT_READ: Final = "the broker's history was not read of all days since the close before"


@dataclass(frozen=True, slots=True)
class Posting:
    """What an account changes by, in USD."""

    account: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Entry:
    """A transaction, whose postings add up to zero.

    Attributes:
        doubtful: somebody has to look at it: nothing tells what is behind it.
        details: what else is known of it, as text by name.
    """

    day: date
    text: str
    postings: tuple[Posting, ...]
    details: Mapping[str, str] = field(default_factory=dict)
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Assertion:
    """What an account holds at the end of a day by the broker, in USD; with those below it."""

    day: date
    account: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Journal:
    """Entries and assertions in the order of their days; those of a day as they follow from each other."""

    entries: tuple[Entry, ...]
    assertions: tuple[Assertion, ...]
    notes: tuple[str, ...] = ()

    @property
    def accounts(self) -> list[str]:
        """Every account that is named."""
        posted = {posting.account for entry in self.entries for posting in entry.postings}
        return sorted(posted | {assertion.account for assertion in self.assertions})

    @property
    def first_day(self) -> date | None:
        days = [entry.day for entry in self.entries] + [assertion.day for assertion in self.assertions]
        return min(days, default=None)


@dataclass(frozen=True, slots=True)
class Chart:
    """The names of the accounts in the books that a brokerage account is kept in."""

    account_id: str
    environment: str | None

    def _name(self, kind: str, *parts: str) -> str:
        return ":".join((kind, self.broker, _word(self.account_id), *parts))

    @property
    def broker(self) -> str:
        """Money of the sandbox or the simulator is never below the same name as that of a live account."""
        return "Tradier" if self.environment in (None, "", "live") else f"Tradier-{self.environment.capitalize()}"

    @property
    def whole(self) -> str:
        return self._name("Assets")

    @property
    def cash(self) -> str:
        return self._name("Assets", "Cash")

    @property
    def cost(self) -> str:
        return self._name("Assets", "Securities", "Cost")

    @property
    def valuation(self) -> str:
        return self._name("Assets", "Securities", "Valuation")

    @property
    def realized(self) -> str:
        return self._name("Income", "Realized")

    @property
    def unrealized(self) -> str:
        return self._name("Income", "Unrealized")

    @property
    def opening(self) -> str:
        """What was before the books: all live accounts share the name that beancount has for it."""
        return OPENING if self.broker == "Tradier" else f"Equity:{self.broker}:Opening-Balances"

    @property
    def unexplained(self) -> str:
        return self._name("Equity", "Unexplained")

    def counterpart(self, movement: Row) -> str:
        """Where what moved cash came from or went."""
        if movement["between_accounts"] or movement["kind"] == "internal":
            return f"Equity:{self.broker}:Transfers"  # shared: what one account sends another receives
        return self._name(*_COUNTERPARTS.get(movement["kind"], ("Equity", "Unexplained")))


_COUNTERPARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "trade": ("Assets", "Securities", "Cost"),
    "option": ("Assets", "Securities", "Cost"),
    "deposit": ("Equity", "Deposits"),
    "withdrawal": ("Equity", "Withdrawals"),
    "dividend": ("Income", "Dividends"),
    "interest": ("Income", "Interest"),
    "fee": ("Expenses", "Fees"),
    "tax": ("Expenses", "Taxes"),
    "adjustment": ("Income", "Adjustments"),
}


def journal(
    movements: Iterable[Row],
    lots: Iterable[Row],
    closes: Iterable[Row],
    since: date | None = None,
    until: date | None = None,
) -> Journal:
    """The books of all accounts that the rows are of, between two days.

    Args:
        movements, lots, closes: as `warehouse.bookkeeping` gives them, of any accounts; dates are New York's.
        since: what was before is one opening entry on the day before; None: the books begin with what is known first.
        until: the last day; None: the last one that is known.
    """
    by_account: dict[str, tuple[list[Row], list[Row], list[Row]]] = defaultdict(lambda: ([], [], []))
    for place, rows in enumerate((movements, lots, closes)):
        for row in rows:
            by_account[row["account_id"]][place].append(row)
    entries: list[Entry] = []
    assertions: list[Assertion] = []
    notes: list[str] = []
    for account_id, (moved, closed, known) in sorted(by_account.items()):
        environment = next(row["environment"] for row in (*moved, *closed, *known))
        books = _Books(Chart(account_id, environment), moved, closed, known)
        entries += _between(books.entries, since, until, books.chart.opening)
        assertions += [one for one in books.assertions if _is_in(one.day, since, until)]
        notes += books.notes
    entries.sort(key=lambda entry: entry.day)
    assertions.sort(key=lambda one: one.day)
    return Journal(tuple(entries), tuple(assertions), tuple(notes))


class _Books:
    """The entries of one account, day by day."""

    def __init__(self, chart: Chart, movements: Sequence[Row], lots: Sequence[Row], closes: Sequence[Row]) -> None:
        self.chart = chart
        self.entries: list[Entry] = []
        self.assertions: list[Assertion] = []
        self.held: dict[str, Decimal] = defaultdict(Decimal)
        known = [row for row in closes if row["equity"] is not None]
        read = any(row["covered"] for row in known)
        used = [row for row in known if row["covered"] or not read]
        dates = [row["trade_date"] for row in closes]
        moved = [(_booked_on(row, dates), row) for row in movements]
        self._open(moved, lots, used)
        self._keep(moved, lots, closes, used)
        self.notes = tuple(self._notes(moved, known, used, read=read))

    def _open(self, moved: Sequence[tuple[date, Row]], lots: Sequence[Row], used: Sequence[Row]) -> None:
        """What cash there was before the first movement: the first that is known less what has moved until then."""
        first = next((row for row in used if row["cash"] is not None), None)
        if first is None:
            return
        so_far = sum((self._cash_of(row) for day, row in moved if day <= first["trade_date"]), ZERO)
        days = [first["trade_date"], *(day for day, _ in moved), *(row["close_date"] for row in lots)]
        self._post(min(days) - NEXT_DAY, "Opening balance", self.chart.cash, self.chart.opening, first["cash"] - so_far)

    def _keep(
        self, moved: Sequence[tuple[date, Row]], lots: Sequence[Row], closes: Sequence[Row], used: Sequence[Row]
    ) -> None:
        steps = [(day, 0, row) for day, row in moved]
        steps += [(row["close_date"], 1, row) for row in lots]
        steps += [(row["trade_date"], 2, row) for row in used]
        doubts = _doubts(closes, used)
        for day, what, row in sorted(steps, key=lambda step: step[:2]):
            if what == 0:
                self._move(day, row)
            elif what == 1:
                self._realize(row)
            else:
                self._close(row, doubts[day], begins=row is used[0])

    def _cash_of(self, movement: Row) -> Decimal:
        amount: Decimal = movement["amount"]
        return ZERO if self._is_of_securities(movement) else amount

    def _is_of_securities(self, movement: Row) -> bool:
        """Whether securities came or left, by the owner's word: then no cash did."""
        return movement["source"] == "owner" and movement["symbol"] is not None

    def _move(self, day: date, row: Row) -> None:
        asset = self.chart.cost if self._is_of_securities(row) else self.chart.cash
        details = {name: plain_amount(row[name]) for name in ("symbol", "quantity") if row[name] is not None}
        details |= {name: money(row[name]) for name in ("price", "commission") if row[name] is not None}
        if row["word"]:
            details["kind"] = row["word"]
        if row["source"] == "owner":
            details["source"] = "stated by the owner"
        if day != row["trade_date"]:
            details["dated"] = str(row["trade_date"])
        counterpart = self.chart.counterpart(row)
        doubtful = counterpart == self.chart.unexplained
        text = _narration(row["description"]) or (row["word"] or row["kind"]).capitalize()
        self._post(day, text, asset, counterpart, row["amount"], details, doubtful=doubtful)

    def _realize(self, lot: Row) -> None:
        details = {"symbol": lot["symbol"], "quantity": plain_amount(lot["quantity"]), "opened": str(lot["open_date"])}
        details |= {name: money(lot[name]) for name in ("proceeds", "cost")}
        text = f"Closed {plain_amount(lot['quantity'])} {lot['symbol']}"
        self._post(lot["close_date"], text, self.chart.cost, self.chart.realized, lot["gain_loss"], details)

    def _close(self, row: Row, doubt: str | None, *, begins: bool) -> None:
        """Bring the books to what the broker has at the close, and assert that they are."""
        day, chart = row["trade_date"], self.chart
        if row["cash"] is not None:
            missing = row["cash"] - self.held[chart.cash]
            why = {"reason": doubt} if doubt else {}
            text = "Cash that the broker's history does not explain"
            self._post(day, text, chart.cash, chart.unexplained, missing, why, doubtful=True)
            self.assertions.append(Assertion(day, chart.cash, row["cash"]))
        change = row["equity"] - self.held[chart.cash] - self.held[chart.cost] - self.held[chart.valuation]
        if begins:
            self._post(day, "Opening valuation", chart.valuation, chart.opening, change)
        elif doubt:
            text = "Value whose change nothing explains"
            self._post(day, text, chart.valuation, chart.unexplained, change, {"reason": doubt}, doubtful=True)
        else:
            self._post(day, "Valuation at the close", chart.valuation, chart.unrealized, change)
        self.assertions.append(Assertion(day, chart.whole, row["equity"]))

    def _post(
        self,
        day: date,
        text: str,
        asset: str,
        counterpart: str,
        amount: Decimal,
        details: Mapping[str, str] | None = None,
        *,
        doubtful: bool = False,
    ) -> None:
        if not amount:
            return
        self.held[asset] += amount
        self.held[counterpart] -= amount
        postings = (Posting(asset, amount), Posting(counterpart, -amount))
        self.entries.append(Entry(day, text, postings, details or {}, doubtful))

    def _notes(
        self, moved: Sequence[tuple[date, Row]], known: Sequence[Row], used: Sequence[Row], *, read: bool
    ) -> Iterator[str]:
        name = self.chart.account_id
        if not known:
            yield f"{name}: no value at a close is known: nothing asserts these entries"
            return
        if not read:
            yield f"{name}: the broker's history was not read: what moved cash is not known, and marked !"
        elif used[-1] is not known[-1]:
            yield f"{name}: no value after {used[-1]['trade_date']}: the broker's history is not read of later days yet"
        if moved and all(row["cash"] is None for row in used):
            yield f"{name}: cash at a close was never read: it begins at zero here, and nothing asserts it"
        if doubtful := sum(entry.doubtful for entry in self.entries):
            yield f"{name}: {doubtful} entries are marked !: nothing tells what is behind them"


def _booked_on(movement: Row, sessions: Sequence[date]) -> date:
    """The day of a movement: the broker's, unless it is another evening whose equity shows it.

    Args:
        sessions: those since the first known equity.
    """
    day: date = movement["trade_date"]
    shown: date | None = movement["counted_on"]
    evening = next(iter(sessions[bisect_left(sessions, day) :]), None)
    if evening is None or movement["kind"] not in ("deposit", "withdrawal"):
        return day
    if shown is None:  # it is in the first known equity
        return min(day, sessions[0])
    return day if shown == evening else shown


def _doubts(closes: Sequence[Row], used: Sequence[Row]) -> dict[date, str | None]:
    """Why the change of value since the close before is not known to be a gain or loss; None: it is."""
    doubts: dict[date, str | None] = {}
    since: list[Row] = []
    days = {row["trade_date"] for row in used}
    for row in closes:
        since.append(row)
        if row["trade_date"] not in days:
            continue
        reasons = [one["reason"] for one in since if one["uncertain"]]
        reasons += [_NOT_READ] if not all(one["covered"] for one in since) else []
        doubts[row["trade_date"]] = "; ".join(dict.fromkeys(reasons)) or None
        since = []
    return doubts


def _between(entries: Sequence[Entry], since: date | None, until: date | None, opening: str) -> list[Entry]:
    """The entries between two days, and what was before as one entry."""
    held: dict[str, Decimal] = defaultdict(Decimal)
    for entry in entries:
        if since and entry.day < since:
            for posting in entry.postings:
                held[posting.account] += posting.amount
    assets = [Posting(name, amount) for name, amount in held.items() if name.startswith("Assets:") and amount]
    within = [entry for entry in entries if _is_in(entry.day, since, until)]
    if not since or not assets:
        return within
    rest = Posting(opening, -sum((one.amount for one in assets), ZERO))
    return [Entry(since - NEXT_DAY, "Opening balance", (*assets, *([rest] if rest.amount else []))), *within]


def _is_in(day: date, since: date | None, until: date | None) -> bool:
    return (since is None or since <= day) and (until is None or day <= until)


def plain_amount(value: Any) -> str:
    """A decimal with the places that it needs; any other value as text."""
    text = f"{value:f}" if isinstance(value, Decimal) else str(value)
    return text.rstrip("0").rstrip(".") if isinstance(value, Decimal) and "." in text else text


def money(amount: Decimal) -> str:
    """An amount with the places that it needs, two at least."""
    whole, _, places = f"{amount:f}".partition(".")
    return f"{whole}.{places.rstrip('0'):0<2}"


def _narration(text: str | None) -> str:
    return " ".join((text or "").split())


def _word(text: str) -> str:
    """A part of an account's name: letters, digits and hyphens."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in text.upper()).lstrip("-")
