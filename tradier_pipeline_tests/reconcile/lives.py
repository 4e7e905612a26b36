"""Random lives of an account, seen through a broker whose lists run behind each other and now and then say "null"."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import takewhile
from random import Random

from tradier_pipeline import clock
from tradier_pipeline.broker.symbols import classify
from tradier_pipeline.reconcile.account_state import AccountState, Holding, OrderPart, PartKey, by_key
from tradier_pipeline.reconcile.comparison import CASH
from tradier_pipeline.reconcile.conservation import ItemVerdict, Open
from tradier_pipeline.reconcile.findings import FindingScope, FindingState, findings_of, update_findings
from tradier_pipeline.reconcile.outstanding import Change, Line, outstanding, with_yet_to_come
from tradier_pipeline.reconcile.verdict import Figures, Good, Judgement, Observation, judge_snapshot, reach
from tradier_pipeline_tests.reconcile.statements import Book

ZERO = Decimal(0)
MINUTE = timedelta(minutes=1)
OPENS = (datetime(2026, 11, 19, 14, 30, tzinfo=UTC), datetime(2026, 11, 20, 14, 30, tzinfo=UTC))
SESSION = timedelta(hours=6, minutes=30)
MAX_LAG = 20  # minutes
QUOTES_BEHIND = timedelta(minutes=15)  # in the sandbox
STOCKS = ("KO", "F")
OPTIONS = ("SPY261218P00600000", "SPY261218P00590000", "KO270115C00070000")
ENDPOINTS = ("positions", "orders", "balances")


@dataclass(frozen=True)
class Books:
    """The books at an instant."""

    at: datetime
    statement: AccountState


@dataclass
class Life:
    """The true states of an account over time, oldest first.

    Attributes:
        uncaused: items that changed without a cause that any list shows.
        happened: what else became of symbols, in a word.
        moves: what prices are multiplied with, for every five minutes; none if they stand still.
        exchanged: new shares for one old, of a merger.
        fee: USD of each contract that is traded.
    """

    states: list[Books] = field(default_factory=list)
    uncaused: set[str] = field(default_factory=set)
    happened: set[tuple[str, str]] = field(default_factory=set)
    moves: tuple[Decimal, ...] = ()
    exchanged: Decimal = Decimal(1)
    fee: Decimal = ZERO

    def factor(self, moment: datetime) -> Decimal:
        """What prices are multiplied with then."""
        if not self.moves:
            return Decimal(1)
        return self.moves[int((moment - OPENS[0] + timedelta(hours=12)) / (5 * MINUTE)) % len(self.moves)]

    def price(self, symbol: str, moment: datetime) -> Decimal:
        """USD that one share or contract is counted with then: shares of a merger are worth what they came for."""
        each = (7 / self.exchanged).quantize(Decimal("0.0001")) if symbol == NEW_SHARES else Decimal(7)
        return each * self.factor(moment)

    def at(self, moment: datetime) -> AccountState:
        """The last true state of then."""
        place = bisect_right([state.at for state in self.states], moment)
        return self.states[max(0, place - 1)].statement


def live(random: Random, fee: Decimal = ZERO) -> Life:
    """Two sessions: fills, and at times a deposit or a transfer of shares."""
    book, life = Book(cash=Decimal(random.randint(20_000, 60_000)), fee=fee), Life(fee=fee)
    for symbol in random.sample((*STOCKS, *OPTIONS), random.randint(1, 4)):
        book.fill(symbol, _quantity(random, symbol), _price(random, symbol), OPENS[0] - timedelta(days=2))
    book.parts.clear()  # listed for a day
    life.states.append(Books(OPENS[0] - timedelta(hours=1), book.statement(OPENS[0])))
    for opened in OPENS:
        if book.parts:
            book.parts.clear()
            life.states.append(Books(opened - timedelta(hours=2), book.statement(opened)))
        for minute in sorted(random.sample(range(1, 300), random.randint(0, 5))):
            _happens(random, book, life, opened + minute * MINUTE)
            life.states.append(Books(opened + minute * MINUTE, book.statement(opened)))
    return life


def _happens(random: Random, book: Book, life: Life, at: datetime) -> None:
    kind = random.choices(("fill", "deposit", "transfer"), (8, 1, 1))[0]
    symbol = random.choice((*STOCKS, *OPTIONS))
    if kind == "fill":
        had = book.holdings.get(symbol, Holding(ZERO, ZERO)).quantity
        quantity = -int(had) if had and random.random() < 0.5 else _quantity(random, symbol)
        book.fill(symbol, quantity, _price(random, symbol), at)
    elif kind == "deposit":
        book.cash += random.randint(-5, 9) * 100 + 17
        life.uncaused.add(CASH)
    else:
        stock = random.choice(STOCKS)
        book.move(stock, Decimal(random.choice((-25, 25))), Decimal(random.randint(1, 90)))
        life.uncaused.add(stock)


def _quantity(random: Random, symbol: str) -> int:
    return random.choice((-3, -2, -1, 1, 2, 3)) * (10 if symbol in STOCKS else 1)


def _price(random: Random, symbol: str) -> Decimal:
    """What a position is counted with, 7 USD a share or contract, and for shares a little more or less."""
    return Decimal("0.07") if symbol in OPTIONS else Decimal(random.choice((695, 700, 705))).scaleb(-2)


EXPIRING = ("KO261119C00007000", "F261119P00007000")  # on the first date; strikes at what a share is counted with
SPUN_OFF = "KNF"
PAID_PER_SHARE = Decimal("7.31")  # by a merger; at a strike nobody could tell it from a delivery


def live_through_events(random: Random, fee: Decimal = ZERO) -> Life:
    """Two sessions with what no order shows: ends of options, what companies do over night; and busted trades."""
    book, life = Book(cash=Decimal(random.randint(20_000, 60_000)), fee=fee), Life(fee=fee)
    for symbol in EXPIRING:
        if count := random.randint(-2, 2):
            book.fill(symbol, count, _price(random, symbol), OPENS[0] - timedelta(days=2))
    for stock in random.sample(STOCKS, random.randint(0, 2)):
        book.fill(stock, random.choice((30, 100, 110)), _price(random, stock), OPENS[0] - timedelta(days=2))
    book.parts.clear()
    life.states.append(Books(OPENS[0] - timedelta(hours=1), book.statement(OPENS[0])))
    _trade(random, book, life, OPENS[0])
    _expire(random, book, life, OPENS[0] + SESSION + timedelta(minutes=random.randint(20, 80)))
    book.parts.clear()
    _company_acts(random, book, life, OPENS[1] - timedelta(minutes=random.randint(40, 85)))
    _trade(random, book, life, OPENS[1])
    return life


def _trade(random: Random, book: Book, life: Life, opened: datetime) -> None:
    for minute in sorted(random.sample(range(1, 300), random.randint(0, 3))):
        at = opened + minute * MINUTE
        busted = book.parts and random.random() < 0.3 and book.bust(len(book.parts) - 1, at)
        if busted:
            life.uncaused |= {CASH} if life.fee else set()  # nothing shows that fees come back
        else:
            symbol = random.choice((*STOCKS, *OPTIONS))
            price = _price(random, symbol)
            if life.moves and symbol in STOCKS:
                price = (price * life.factor(at)).quantize(Decimal("0.01"))
            book.fill(symbol, _quantity(random, symbol), price, at)
        life.states.append(Books(at, book.statement(at)))


def _expire(random: Random, book: Book, life: Life, at: datetime) -> None:
    """Every contract of the date ends: worthless, or all of it against shares."""
    for symbol in EXPIRING:
        contracts = int(book.holdings.get(symbol, Holding(ZERO, ZERO)).quantity)
        if not contracts:
            continue
        delivered = contracts if random.random() < 0.5 else 0
        book.end(symbol, contracts, delivered)
        life.happened.add((symbol, ("assigned" if contracts < 0 else "exercised") if delivered else "expired"))
    life.states.append(Books(at, book.statement(at)))


def _company_acts(random: Random, book: Book, life: Life, at: datetime) -> None:
    held = [stock for stock in STOCKS if book.holdings.get(stock, Holding(ZERO, ZERO)).quantity > 0]
    kind = random.choice(("nothing", "split", "fractions", "spin-off", "merger"))
    if held and kind != "nothing":
        stock = random.choice(held)
        had = book.holdings[stock]
        later = ZERO
        if kind == "split":
            book.holdings[stock] = replace(had, quantity=had.quantity * 2)
            life.happened.add((stock, "split"))
        elif kind == "fractions":
            due = had.quantity / 20
            whole = Decimal(int(due))
            book.holdings[stock] = Holding(whole, (had.cost_basis * whole / due).quantize(Decimal("0.01")))
            later = ((due - whole) * 140).quantize(Decimal("0.01"))
            life.uncaused |= {stock, CASH}
            if not later:  # no fraction is left: the ratio is all there is to know
                life.happened.add((stock, "split"))
        elif kind == "spin-off":
            given = Decimal(50)
            book.holdings[stock] = replace(had, cost_basis=had.cost_basis - given)
            book.holdings[SPUN_OFF] = Holding(Decimal(int(had.quantity) // 4), given)
            life.happened.add((SPUN_OFF, "spin-off"))
        else:
            book.holdings[stock] = Holding(ZERO, ZERO)
            book.cash += had.quantity * PAID_PER_SHARE
            life.uncaused |= {stock, CASH}
        life.states.append(Books(at, book.statement(at)))
        if later:
            book.cash += later
            life.states.append(Books(at + 20 * MINUTE, book.statement(at + 20 * MINUTE)))


CALLED, TAKEN_OVER, NEW_SHARES = "KO261218C00007000", "F", "CVX"


def live_in_a_moving_market(random: Random, fee: Decimal = ZERO) -> Life:
    """Two sessions in the sandbox, whose prices move by several percent while quotes are delayed.

    Over night a short call may be assigned before the shares go ex dividend, shares become others in a ratio, and what
    ended on the evening is delivered in the morning only.
    """
    book, life = Book(cash=Decimal(random.randint(20_000, 60_000)), fee=fee), Life(moves=_walk(random), fee=fee)
    for symbol in EXPIRING:
        if count := random.randint(-2, 2):
            book.fill(symbol, count, Decimal("0.07"), OPENS[0] - timedelta(days=2))
    for stock in STOCKS:
        book.fill(stock, random.choice((37, 100, 200)), Decimal(7), OPENS[0] - timedelta(days=2))
    if random.random() < 0.7:
        book.fill(CALLED, -1, Decimal("0.07"), OPENS[0] - timedelta(days=2))
    book.parts.clear()
    life.states.append(Books(OPENS[0] - timedelta(hours=1), book.statement(OPENS[0])))
    _trade(random, book, life, OPENS[0])
    evening, morning = OPENS[0] + SESSION + timedelta(minutes=30), OPENS[1] - timedelta(minutes=random.randint(30, 85))
    due = _end(random, book, life)
    life.states.append(Books(evening, book.statement(evening)))
    book.parts.clear()
    for symbol, delivered in due.items():
        book.end(symbol, 0, delivered)
    if random.random() < 0.5 and book.holdings.get(CALLED, Holding(ZERO, ZERO)).quantity:
        book.end(CALLED, -1, -1)
        life.happened.add((CALLED, "assigned"))
    life.states.append(Books(morning, book.statement(morning)))
    if random.random() < 0.5:
        _take_over(random, book, life, morning + 5 * MINUTE)
    _trade(random, book, life, OPENS[1])
    return life


def _walk(random: Random) -> tuple[Decimal, ...]:
    """Prices over the days: up to 2 % every five minutes, so 6 % while a quote is on its way.

    They stay where a delivery is worth about what is paid for it: nobody exercises what is far out of the money.
    """
    at, found = Decimal(1), []
    for _ in range(600):
        at = min(max(at * (1 + Decimal(random.randint(-200, 200)) / 10_000), Decimal("0.85")), Decimal("1.2"))
        found.append(at)
    return tuple(found)


def _end(random: Random, book: Book, life: Life) -> dict[str, int]:
    """Every contract of the date leaves the list; what of them is delivered in the morning."""
    due = {}
    for symbol in EXPIRING:
        contracts = int(book.holdings.get(symbol, Holding(ZERO, ZERO)).quantity)
        if contracts:
            due[symbol] = contracts if random.random() < 0.5 else 0
            book.end(symbol, contracts, 0)
            life.happened.add((symbol, ("assigned" if contracts < 0 else "exercised") if due[symbol] else "expired"))
    return due


def _take_over(random: Random, book: Book, life: Life, at: datetime) -> None:
    """A merger for shares in a ratio; the fraction is paid for later."""
    had = book.holdings.get(TAKEN_OVER, Holding(ZERO, ZERO))
    if had.quantity <= 0:
        return
    life.exchanged = random.choice((Decimal("1.025"), Decimal("0.5"), Decimal("0.3341")))
    due = had.quantity * life.exchanged
    whole = Decimal(int(due))
    book.holdings[TAKEN_OVER] = Holding(ZERO, ZERO)
    book.holdings[NEW_SHARES] = Holding(whole, had.cost_basis * random.choice((Decimal(1), Decimal("1.1"))))
    life.uncaused |= {TAKEN_OVER, NEW_SHARES, CASH}
    life.states.append(Books(at, book.statement(at)))
    if due > whole:
        book.cash += ((due - whole) * 140).quantize(Decimal("0.01"))
        life.states.append(Books(at + 20 * MINUTE, book.statement(at + 20 * MINUTE)))


@dataclass(frozen=True)
class Weather:
    """What the broker's endpoints do: minutes behind by endpoint and five minutes, and the "null" of some minutes."""

    lags: Mapping[str, tuple[int, ...]]
    nulls: Mapping[str, frozenset[int]]
    calm_from: datetime

    def seen(self, life: Life, moment: datetime) -> tuple[AccountState, bool]:
        """What a snapshot of then shows, and whether the balances are all 0."""
        minute = int((moment - OPENS[0] + timedelta(hours=12)) / MINUTE)
        shown = {name: life.at(moment - self._lag(name, minute, moment)) for name in ENDPOINTS}
        null = {name: minute in self.nulls[name] and moment < self.calm_from for name in ENDPOINTS}
        parts = shown["orders"].parts.values()
        day = clock.trade_date(moment)
        today = [part for part in parts if part.changed_at and clock.trade_date(part.changed_at) == day]
        return AccountState(
            moment,
            moment + timedelta(milliseconds=400),
            {} if null["orders"] else by_key(today),
            {} if null["positions"] else shown["positions"].holdings,
            ZERO if null["balances"] else shown["balances"].cash,
            session_open=next((opened for opened in OPENS if clock.trade_date(opened) == day), None),
        ), null["balances"]

    def _lag(self, name: str, minute: int, moment: datetime) -> timedelta:
        if moment >= self.calm_from:
            return timedelta()
        lags = self.lags[name]
        return lags[minute // 5 % len(lags)] * MINUTE

    def counted_at(self, moment: datetime) -> datetime:
        """The time of which the balances count positions and prices."""
        minute = int((moment - OPENS[0] + timedelta(hours=12)) / MINUTE)
        return moment - self._lag("balances", minute, moment)


CALM = Weather(dict.fromkeys(ENDPOINTS, (0,)), {name: frozenset() for name in ENDPOINTS}, OPENS[0])


def weather(random: Random) -> Weather:
    """Each endpoint now and then up to 20 minutes behind or empty; calm in the last hour of the last session."""
    slots = 400
    lags = {name: tuple(_slow(random) for _ in range(slots)) for name in ENDPOINTS}
    nulls = {name: frozenset(_outages(random)) for name in ENDPOINTS}
    if random.random() < 0.3:  # a maintenance: all at once
        all_at_once = frozenset(_outages(random))
        nulls = {name: minutes | all_at_once for name, minutes in nulls.items()}
    return Weather(lags, nulls, OPENS[-1] + SESSION - timedelta(minutes=60))


def _slow(random: Random) -> int:
    return random.randint(1, MAX_LAG) if random.random() < 0.15 else 0


def _outages(random: Random) -> Iterator[int]:
    for _ in range(random.randint(0, 3)):
        begin = random.randint(0, 2_200)
        yield from range(begin, begin + random.randint(1, 12))


def instants(random: Random) -> list[datetime]:
    """When snapshots are taken: every few minutes of both sessions, some at night."""
    step = random.choice((3, 5, 10))
    found = [opened + minute * MINUTE for opened in OPENS for minute in range(-90, 480, step)]
    return [moment + timedelta(seconds=random.randint(0, 20)) for moment in found]


@dataclass
class Kept:
    """One stored snapshot."""

    observation: Observation
    judgement: Judgement
    verdict: str
    found: tuple[ItemVerdict, ...] = ()


@dataclass
class Store:
    """What a warehouse would hold: snapshots with verdicts, what explains their changes, findings over time."""

    kept: list[Kept] = field(default_factory=list)
    tracked: list[FindingState] = field(default_factory=list)
    parts: dict[PartKey, OrderPart] = field(default_factory=dict)  # as good ones showed them last
    changes: list[Change] = field(default_factory=list)  # of good ones
    cash: defaultdict[date, set[Decimal]] = field(default_factory=lambda: defaultdict(set))  # of good ones

    def store(self, observation: Observation) -> Kept:
        found = self._good()
        good = self._known(found) if found else None
        doubtful = (one.observation for one in takewhile(lambda one: one.verdict == "doubtful", reversed(self.kept)))
        judgement = judge_snapshot(
            observation,
            self._last(good, found, observation) if good else None,
            doubtful,
        )
        for one in self.kept:
            if one.observation in judgement.confirms:
                self._conclude(one)
        kept = Kept(observation, judgement, judgement.verdict)
        if judgement.verdict == "good":
            self._conclude(kept)
        self.kept.append(kept)
        self._follow(kept)
        return kept

    def _last(self, good: Kept, found: Kept | None, observation: Observation) -> Good:
        earlier_cash = self._earlier_cash(observation, found)
        since = self._shown_since(observation)
        statement = with_yet_to_come(good.observation.statement, self._yet_to_come(observation))
        before = replace(good.observation, statement=statement)
        return Good(
            before,
            self._carried(good),
            outstanding(self.changes, clock.trade_date(observation.statement.as_of)),
            earlier_cash,
            since,
        )

    def _yet_to_come(self, observation: Observation) -> list[Line]:
        """As the warehouse finds it."""
        earlier = (one for one in self.kept if one.observation.statement.as_of < observation.statement.as_of)
        return [Line.of(row) for one in earlier for row in one.found if row.explanation != ("no change",)]

    def _shown_since(self, observation: Observation) -> dict[PartKey, OrderPart]:
        """The orders that doubtful ones showed since the last good one."""
        before = [one for one in self.kept if one.observation.statement.as_of < observation.statement.as_of]
        shown: dict[PartKey, OrderPart] = {}
        for one in reversed(list(takewhile(lambda one: one.verdict == "doubtful", reversed(before)))):
            shown |= one.observation.statement.parts
        return shown

    def _conclude(self, kept: Kept) -> None:
        observation = kept.observation
        good = next((one for one in reversed(self.kept) if one.verdict == "good" and self._is_before(one, kept)), None)
        kept.verdict = "good"
        self.cash[clock.trade_date(observation.statement.as_of)].add(observation.statement.cash)
        if good:
            last = self._last(self._known(good), good, observation)
            kept.found = last.findings(observation.statement)
            self.parts |= last.shown_since
        self.parts |= observation.statement.parts
        day = clock.trade_date(observation.statement.as_of)
        self.changes += [Change.of(row, day) for row in kept.found]

    def _earlier_cash(self, observation: Observation, good: Kept | None) -> set[Decimal]:
        """As the warehouse finds it."""
        last = good.observation.statement.cash if good else None
        return self.cash[clock.trade_date(observation.statement.as_of)] - {last}

    def _known(self, good: Kept) -> Kept:
        """With what earlier good snapshots knew of orders that it does not list: what was known stays known."""
        day = clock.trade_date(good.observation.statement.as_of)
        today = {
            key: part
            for key, part in self.parts.items()
            if part.changed_at and clock.trade_date(part.changed_at) == day
        }
        statement = replace(good.observation.statement, parts=today)
        return replace(good, observation=replace(good.observation, statement=statement))

    @staticmethod
    def _is_before(one: Kept, other: Kept) -> bool:
        return one.observation.statement.as_of < other.observation.statement.as_of

    def _good(self) -> Kept | None:
        return next((one for one in reversed(self.kept) if one.verdict == "good"), None)

    @staticmethod
    def _carried(good: Kept | None) -> dict[str, Open]:
        found = good.found if good else ()
        return {one.item: Open.of(one.in_flight, one.fees_at_most, one.explanation) for one in found if one.in_flight}

    def _follow(self, kept: Kept) -> None:
        observation = kept.observation
        scope = FindingScope(
            snapshot_id=observation.snapshot_id,
            account_id="VA1",
            as_of=observation.statement.as_of,
            doubtful=kept.verdict == "doubtful",
            settled=self._settled(),
        )
        said = findings_of(scope, evidence=kept.judgement.evidence, changes=kept.found)
        rows = update_findings([row for row in self.tracked if row.resolved_at is None], said, scope)
        self.tracked = [row for row in self.tracked if row.resolved_at is not None] + rows

    def _settled(self) -> frozenset[str]:
        """As the warehouse sums it up."""
        left: defaultdict[str, Decimal] = defaultdict(Decimal)
        for row in self.changes:
            left[row.item] += (row.unexplained if row.state in ("in_flight", "unexplained") else ZERO) - row.carried
        return frozenset(item for item, amount in left.items() if not amount)

    @property
    def open_findings(self) -> set[tuple[str, str | None]]:
        return {(row.code, row.subject) for row in self.tracked if row.resolved_at is None}


def observe(life: Life, sky: Weather, moment: datetime) -> Observation:
    """A snapshot as the broker lets it be seen."""
    statement, zero = sky.seen(life, moment)
    counted_at = sky.counted_at(moment)
    counted = {
        symbol: holding.quantity * life.price(symbol, counted_at)
        for symbol, holding in life.at(counted_at).holdings.items()
    }
    long, short, option_long, option_short = (ZERO,) * 4 if zero else _values(counted)
    quoted_at = moment - QUOTES_BEHIND
    rows = [
        Row(symbol, holding.quantity, life.price(symbol, quoted_at)) for symbol, holding in statement.holdings.items()
    ]
    cash = statement.cash
    return Observation(
        clock.iso(moment),
        statement,
        Figures(
            equity=cash + long + short,
            cash=cash,
            buying_power=cash,
            requirement=ZERO,
            long_value=long,
            short_value=short,
            option_long_value=option_long,
            option_short_value=option_short,
        ),
        in_session=any(opened <= moment < opened + SESSION for opened in OPENS),
        priced=sum((abs(row.quantity) * row.price for row in rows), ZERO),
        worth=sum((row.quantity * row.price for row in rows), ZERO),
        reach=reach(rows, {}, delayed=bool(life.moves)),
        delayed=bool(life.moves),
    )


@dataclass(frozen=True)
class Row:
    """A position as it is quoted; `price` is of one share or contract."""

    symbol: str
    quantity: Decimal
    price: Decimal
    bid: Decimal | None = None
    ask: Decimal | None = None
    last: Decimal | None = None

    @property
    def multiplier(self) -> int:
        return 100 if classify(self.symbol).option else 1

    @property
    def mark(self) -> Decimal:
        return self.price / self.multiplier


def _values(worth: Mapping[str, Decimal]) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    options = [value for symbol, value in worth.items() if classify(symbol).option]
    return _ups(worth.values()), _downs(worth.values()), _ups(options), _downs(options)


def _ups(values: Iterable[Decimal]) -> Decimal:
    return sum((value for value in values if value > 0), ZERO)


def _downs(values: Iterable[Decimal]) -> Decimal:
    return sum((value for value in values if value < 0), ZERO)
