"""Minutes of an account from one seed: its life, the network, lagging endpoints, kills and full disks in a row.

`python -m tradier_pipeline_tests.simulation.simulate --seeds 1-20 --minutes 30` (or `make simulate`). Every minute is
what `up` does at one, in a process of its own that reads a simulated broker over HTTP: extract, land, store, verify,
publish, reconcile. The seed decides the account's trades, what goes wrong, and where the process dies. After every
minute the invariants are looked at from outside; the first that does not hold is printed with its seed, which replays
alone. The rules of `verify/` are asked again about what is published, ten snapshots at a time: snapshots do not change.

`--judge` (`make simulate JUDGE=1 SEEDS=1-1000`) is of judging alone: each seed is a life of two sessions of each kind
in `reconcile.lives`, read through disturbed lists every few minutes, and compared with what happened in it. No file and
no network.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, BinaryIO, NamedTuple

from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.landing.zone import LandingZone
from tradier_pipeline.ledger.records import settled
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.simulator.app import create_app
from tradier_pipeline.simulator.engine import LEARNS_AFTER, DemoEngine
from tradier_pipeline.simulator.server import running
from tradier_pipeline.simulator.store import Store
from tradier_pipeline.simulator.world import new_york_date
from tradier_pipeline.verify import refuted
from tradier_pipeline.verify.in_bulk import Decoded
from tradier_pipeline.warehouse import reads, schema
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline.warehouse.sql import literal
from tradier_pipeline_tests.conftest import Simulated
from tradier_pipeline_tests.reconcile.lives import live, live_in_a_moving_market, live_through_events
from tradier_pipeline_tests.reconcile.test_lives import prove
from tradier_pipeline_tests.simulation.planted import PLANTED
from tradier_pipeline_tests.support.connections import Pool
from tradier_pipeline_tests.support.crash_child import End, Job, nursery

LIVES = {"trading": live, "events": live_through_events, "a moving market": live_in_a_moving_market}
OPEN = datetime(2026, 11, 23, 14, 31, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
RESOURCES = ("user/profile", "balances", "positions", "orders", "quotes")
DURABLE_CHANGES = 55  # of a minute, about
STATEMENTS = 170  # of SQL, of a minute, about
WHOLE_EACH = 40  # minutes one is a run of Dagster's job; of the others the assets' own code runs without it
BLUNT: Mapping[str, Mapping[str, Any]] = {
    "status": {"status": 500},
    "reset": {},
    "truncate": {},
    "html": {},
    "body": {},
}
OWNERLESS = " UNION ALL ".join(
    f"SELECT '{table.name}', snapshot_id FROM {table.name} ANTI JOIN tradier_snapshots USING (snapshot_id)"
    for table in schema.TABLES
    if table is not schema.TRADIER_SNAPSHOTS
)
COUNTED = ("accounts", "account_balances", "positions", "orders")
PROVEN_AT_ONCE = 10  # snapshots: the rules take as long for ten as for one
LANDING = 12  # changes of the disk, about, before the snapshot of the minute is landed
WRONGS = ("network", "network", "lag", "lag", "kill", "kill", "disk", "off")
DEADLY = ("network", *("kill",) * 7)  # of a life with many kills
AGAIN = (0, 0, 1, 3)  # how often a minute that is killed is killed before that, and begun again
KILLS_MORE = 5  # of a minute that is killed in a life with many
NONE = '{"%s": {}}'  # which means none, as the documented `{"%s": "null"}` does: all that is held seems gone
SHAPELESS = (
    "{}",
    NONE,
    '{"%s": ""}',
    '{"%s": []}',
    "[]",
    '{"%s": {"none": "null"}}',
)  # the others are of no documented form


@dataclass
class Disturbance:
    """What goes wrong in one minute."""

    faults: list[dict[str, Any]] = field(default_factory=list)
    durable: int | None = None
    statement: int | None = None
    full: bool = False
    skipped: bool = False  # nobody runs: the machine was off

    @property
    def name(self) -> str:
        kinds = sorted({fault["kind"] for fault in self.faults})
        ends = (
            ["off"]
            if self.skipped
            else ["full disk"]
            if self.full
            else ["killed"]
            if self.durable or self.statement
            else []
        )
        return " and ".join([*kinds, *ends]) or "nothing"


def disturbance(random: Random, wrongs: Sequence[str] = WRONGS) -> Disturbance:
    """Half of the minutes are undisturbed: what was broken has to mend itself."""
    chosen = Disturbance()
    if random.random() < 0.5:
        return chosen
    what = random.choice(wrongs)
    if what == "network":
        for path in random.sample(RESOURCES, random.randint(1, 2)):
            kind = random.choice((*BLUNT, "body", "body"))
            times = random.choice((1, 20))  # once, or until the minute is given up
            chosen.faults.append(
                {"path": path, "kind": kind, "times": times, **BLUNT[kind], **_body(kind, path, random)}
            )
    elif what == "lag":
        path = random.choice(("positions", "orders", "balances"))
        chosen.faults.append({"path": path, "kind": "lag", "seconds": random.choice((60, 300, 900, 1200))})
    elif what == "off":
        chosen.skipped = True
    else:
        chosen.durable, chosen.full = random.randint(1, DURABLE_CHANGES), what == "disk"
    return chosen


def _body(kind: str, path: str, random: Random) -> dict[str, str]:
    if kind != "body":
        return {}
    return {"body": random.choice(SHAPELESS).replace("%s", path.partition("/")[2] or path)}


ORDER_ENDED = ("status", "filled_quantity", "avg_fill_price", "broker_order_id")  # columns of the ledger
TRADE_OPENED = ("quantity", "entry_price", "broker_order_id_open")
GAIN, CENT = "realized_pnl", Decimal("0.01")  # the engine's follows from a price that it has rounded
TRADE_ENDED = ("status", "exit_price", "broker_order_id_close", GAIN)


class Header(NamedTuple):
    """What is published of a snapshot. None of it ever changes, but that what is doubtful may be confirmed."""

    snapshot_id: str
    verdict: str
    coherence: str
    positions_count: int
    orders_count: int


class Truth(NamedTuple):
    """What an account has at an instant: symbol -> quantity, and USD."""

    held: Mapping[str, Decimal]
    cash: Decimal


def _may_say_none(fault: Mapping[str, Any]) -> bool:
    """Whether the broker's own answer may be that there is none: in that form, or of a while ago."""
    return fault["kind"] == "lag" or fault.get("body") == NONE % fault["path"]


class BrokenInvariantError(AssertionError):
    """An invariant that does not hold, in words."""


@dataclass
class Simulation:
    """One seed, minute by minute.

    `truth`: by minute. `tally`: how minutes ended, by what went wrong.
    """

    seed: int
    home: Path
    planted: str | None = None
    deadly: bool = False
    simulated: Simulated = field(init=False)
    broker: Store = field(init=False)
    random: Random = field(init=False)
    kills: Random = field(init=False)
    now: datetime = OPEN
    begun: datetime | None = None
    truth: dict[datetime, Truth] = field(default_factory=dict)
    tally: Counter[str] = field(default_factory=Counter)
    ordered: set[datetime] = field(default_factory=set)  # the minutes at which there were orders to list
    said_none: set[tuple[str, datetime]] = field(default_factory=set)
    published: dict[str, Header] = field(default_factory=dict)
    unproven: list[str] = field(default_factory=list)
    late_at_first: Decimal | None = None  # cash of the first good snapshot, where it was not true
    _bodies: Decoded = field(default_factory=Decoded)
    _disturbed: bool = False
    _seen: int | None = None
    _kept: BinaryIO | None = None

    def __post_init__(self) -> None:
        self.random = Random(f"simulation {self.seed}")
        self.kills = Random(f"kills {self.seed}")  # of its own: a seed found means the same life
        self.broker = Store(None, seed=self.seed)
        self.broker.keepers.append(DemoEngine(Ledger(self.home / "ledger.sqlite"), None).keep)

    def run(self, minutes: int) -> None:
        """Raises BrokenInvariantError."""
        for _ in range(minutes):
            self._live(disturbance(self.random, DEADLY if self.deadly else WRONGS))
        for _ in range(2):
            self._live(Disturbance())
        self._every_minute_is_accounted_for()
        self._the_ledger_says_what_happened()

    def _live(self, wrong: Disturbance) -> None:
        self.truth[self.now] = self._truth()
        if self._disturbed:
            self.simulated.heal()
        if wrong.faults:
            self.simulated.admin("POST", "faults", wrong.faults)
            self.said_none |= {(one["path"], self.now) for one in wrong.faults if _may_say_none(one)}
        self._disturbed = bool(wrong.faults)
        outcome = "off"
        if wrong.durable is not None and not wrong.full:
            self._die_again_and_again(wrong)
            if self.deadly and self._is_lean and self.kills.random() < 0.5:
                wrong = replace(wrong, durable=None, statement=self.kills.randint(1, STATEMENTS))
        if not wrong.skipped:
            outcome = self._outcome(self._run(self._job(wrong)), wrong)
            self._note_begun()
        self.tally[f"{wrong.name}: {outcome}"] += 1
        self._what_is_published_is_whole_and_true()
        if wrong == Disturbance():
            self._nothing_is_stuck()
        self.now += MINUTE

    def _note_begun(self) -> None:
        """A home begins with the first thing that is kept: a process that died before has never seen its account."""
        kept = (self.home / "scheduled.json").exists() or any((self.home / "raw").glob("*/*/*"))
        self.begun = self.begun or (self.now if kept else None)

    def _die_again_and_again(self, wrong: Disturbance) -> None:
        """The first processes of the minute die before its snapshot is landed, each where the one before got to."""
        for _ in range(self.kills.choice(AGAIN) + (KILLS_MORE if self.deadly else 0)):
            early = replace(wrong, durable=self.kills.randint(1, LANDING))
            outcome = self._outcome(nursery().run(self._job(early)), early)
            self._note_begun()
            self.tally[f"{early.name} and begun again: {outcome}"] += 1
            self._what_is_published_is_whole_and_true()
            if outcome != "died":
                return

    def _run(self, job: Job) -> End:
        """In a process of its own where it may end in the middle, or is not as it was written."""
        here = job.lean and (job.durable, job.statement, job.planted) == (None, None, None)
        return nursery().run_here(job) if here else nursery().run(job)

    def _job(self, wrong: Disturbance) -> Job:
        at = (self.now + timedelta(seconds=1)).isoformat()
        return Job(
            home=str(self.home),
            url=self.simulated.url,
            work="minute",
            now=at,
            durable=wrong.durable,
            statement=wrong.statement,
            full=wrong.full,
            planted=self.planted,
            lean=self._is_lean,
        )

    @property
    def _is_lean(self) -> bool:
        return (self.now - OPEN) // MINUTE % WHOLE_EACH != 0

    def _outcome(self, ended: End, wrong: Disturbance) -> str:
        if ended.signal is not None:
            return "died"
        if "unexpected" in ended.error and not wrong.full:
            raise BrokenInvariantError(f"the minute ended with {ended.error}")
        return "published" if "published" in ended.lines else "refused"

    def _truth(self) -> Truth:
        with self.broker.at(self.now) as world:
            account = world.accounts[DEMO_ACCOUNT]
            if any(
                order.is_live or new_york_date(order.updated) == new_york_date(self.now) for order in account.orders
            ):
                self.ordered.add(self.now)
            return Truth({symbol: one.quantity for symbol, one in account.positions.items()}, account.cash)

    # --- the invariants -----------------------------------------------------------------------------------------------

    def _what_is_published_is_whole_and_true(self) -> None:
        path = self.home / "tradier.duckdb"
        if not path.exists() or self._seen == (now := path.stat()).st_ino:
            return  # nothing, or the file that was looked at: what is published has another inode
        self._seen, self._kept = now.st_ino, path.open("rb")  # while it is open, no other file gets its number
        with connect_readonly(path) as connection:
            new = self._newly_published(connection)
            self._are_whole(connection, new)
            self._are_true(connection, [one for one in new if one.verdict == "good"])
            self.unproven += [one.snapshot_id for one in new]
            if len(self.unproven) >= PROVEN_AT_ONCE:
                self._are_proven(connection)

    def _newly_published(self, connection: Any) -> list[Header]:
        """What was published before is there and says the same; returns what came to it, and what was confirmed."""
        rows = connection.execute(f"SELECT {', '.join(Header._fields)} FROM tradier_snapshots").fetchall()
        found = {row[0]: Header(*row) for row in rows}
        changed = [one for snapshot_id, one in self.published.items() if found.get(snapshot_id) != one]
        for before in changed:
            if before.verdict != "doubtful" or found.get(before.snapshot_id) != before._replace(verdict="good"):
                raise BrokenInvariantError(f"{before} was published, and now it is {found.get(before.snapshot_id)}")
        new = found.keys() - self.published.keys() | {one.snapshot_id for one in changed}
        self.published = found
        return sorted(found[snapshot_id] for snapshot_id in new)

    def _are_whole(self, connection: Any, new: Sequence[Header]) -> None:
        which = f"snapshot_id IN ({', '.join(literal(one.snapshot_id) for one in new) or 'NULL'})"
        listed = {"orders": "AND listed"}  # others were asked for by their ids
        each = (
            f"SELECT snapshot_id, '{table}', count(*) FROM {table} WHERE {which} {listed.get(table, '')} GROUP BY ALL"
            for table in COUNTED
        )
        found = {row[:2]: row[2] for row in connection.execute(" UNION ALL ".join(each)).fetchall()}
        for one in new:
            for table, expected in zip(COUNTED, (1, 1, one.positions_count, one.orders_count), strict=True):
                if (rows := found.get((one.snapshot_id, table), 0)) != expected:
                    raise BrokenInvariantError(f"{one.snapshot_id}: {rows} rows of {table}, not {expected}")
            at = SnapshotId.parse(one.snapshot_id).instant
            for what, shown, there in (
                ("positions", one.positions_count, self.truth[at].held),
                ("orders", one.orders_count, at in self.ordered),
            ):
                if there and not shown and (what, at) not in self.said_none:
                    raise BrokenInvariantError(f"{one.snapshot_id} shows no {what}, and the broker never said so")

    def _are_true(self, connection: Any, good: Sequence[Header]) -> None:
        """What is called good is what was held: nothing that lags is believed.

        But the cash of a first one of all, and what stays as that was: nothing earlier tells that it lags.
        """
        query = """
            SELECT (SELECT total_cash FROM account_balances WHERE snapshot_id = $1),
                   map_from_entries(array_agg((symbol, quantity)) FILTER (symbol IS NOT NULL))
            FROM positions WHERE snapshot_id = $1
        """
        first = min((one.snapshot_id for one in self.published.values() if one.verdict == "good"), default=None)
        for one in good:
            cash, rows = connection.execute(query, [one.snapshot_id]).fetchall()[0]
            shown = {symbol: Decimal(quantity) for symbol, quantity in (rows or {}).items()}
            true = self.truth[SnapshotId.parse(one.snapshot_id).instant]
            if shown != true.held:
                different = sorted(shown.items() ^ true.held.items())
                raise BrokenInvariantError(f"{one.snapshot_id} is good and not what was held: {different[:4]}")
            if one.snapshot_id == first and cash != true.cash:
                self.late_at_first = cash
            if cash not in (true.cash, self.late_at_first):
                raise BrokenInvariantError(f"{one.snapshot_id} is good with cash of {cash}, and it was {true.cash}")

    def _are_proven(self, connection: Any) -> None:
        """Everything published since the last time passes every blocking rule, and no row is of anything else."""
        zone, landed = LandingZone(self.home / "raw"), []
        for snapshot_id in self.unproven:
            landed.append(zone.find(SnapshotId.parse(snapshot_id)))
            if landed[-1] is None:
                raise BrokenInvariantError(f"{snapshot_id} is published and not landed")
        for one, failed in refuted(connection, [found for found in landed if found], self._bodies) if landed else ():
            if failed:
                raise BrokenInvariantError(f"{one.snapshot_id} is published and fails {failed[0].check}")
        self.unproven = []
        ownerless = connection.execute(OWNERLESS).fetchone()
        if ownerless:
            raise BrokenInvariantError(f"{ownerless[0]} has rows of {ownerless[1]}, which is no snapshot")

    def _nothing_is_stuck(self) -> None:
        """An undisturbed minute is published, and everything with it that was landed before, whatever went wrong."""
        published = {one.replace(":", "-") for one in self.published}
        landed = {path.name for path in (self.home / "raw" / DEMO_ACCOUNT).glob("*/*") if "." not in path.name}
        own = str(SnapshotId(DEMO_ACCOUNT, self.now)).replace(":", "-")
        if left := sorted((landed | {own}) - published):
            raise BrokenInvariantError(f"{left[0]} is not published by an undisturbed minute")

    def _every_minute_is_accounted_for(self) -> None:
        if not (self.home / "tradier.duckdb").exists():
            raise BrokenInvariantError("nothing was published, also of undisturbed minutes")
        with connect_readonly(self.home / "tradier.duckdb") as connection:
            self._are_proven(connection)
            rows = connection.execute(
                "SELECT snapshot_id FROM tradier_snapshots UNION ALL SELECT snapshot_id FROM missed_snapshots"
            ).fetchall()
        known = Counter(SnapshotId.parse(one).instant for (one,) in rows)
        minute = self.begun or self.now
        while minute < self.now:
            if known[minute] != 1:
                raise BrokenInvariantError(f"{minute:%H:%M} is accounted for {known[minute]} times")
            minute += MINUTE

    def _the_ledger_says_what_happened(self) -> None:
        """Set beside what an engine writes that nobody helps, once it has learnt of everything."""
        ledger = Ledger(self.home / "ledger.sqlite")
        # what it learns of below, no snapshot has seen
        filling = {order.trade_id for order in ledger.orders() if order.role == "ENTRY" and not settled(order)}
        alone = Ledger(self.home.with_name("alone.sqlite"))
        with self.broker.at(self.now + 2 * LEARNS_AFTER) as world:
            DemoEngine(alone, None).keep(world)
        orders = {row.client_order_id: row for row in alone.orders()}
        trades = {row.trade_id: row for row in alone.trades()}
        for order in ledger.orders():
            _agrees(order.client_order_id, order, orders[order.client_order_id], ORDER_ENDED if settled(order) else ())
        for trade in ledger.trades():
            ended = TRADE_ENDED if trade.status in ("CLOSED", "CANCELLED") else ()
            is_whole = trade.status not in ("ENTRY_PENDING", "CANCELLED") and trade.trade_id not in filling
            opened = TRADE_OPENED if is_whole else ()
            _agrees(trade.trade_id, trade, trades[trade.trade_id], (*ended, *opened))


def _agrees(key: str, row: object, true: object, columns: Sequence[str]) -> None:
    for column in columns:
        said, happened = getattr(row, column), getattr(true, column)
        if said != happened and (column != GAIN or abs(said - happened) > CENT):
            raise BrokenInvariantError(f"the ledger says {column} {said} of {key}, which was {happened}")


@contextmanager
def simulation(seed: int, directory: Path, planted: str | None = None, *, deadly: bool = False) -> Iterator[Simulation]:
    """A home and a broker for one seed; with a mistake of `planted`, if one is named. `deadly`: many kills."""
    home = directory / f"seed-{seed}" / "home"
    home.parent.mkdir()
    lived = Simulation(seed, home, planted, deadly)
    with running(create_app(lived.broker, clock=lambda: lived.now, limits=None)) as url:
        lived.simulated = Simulated(url)
        yield lived


def judge(seeds: Iterable[int]) -> int:
    """Prove the lives of some seeds; returns how many broke."""
    broken, started = 0, time.monotonic()
    readings: Counter[str] = Counter()
    for seed in seeds:
        for name, lives in LIVES.items():
            try:
                readings[name] += prove(seed, lives)
            except AssertionError as error:
                broken += 1
                sys.stdout.write(f"seed {seed}, {name}: {str(error).splitlines()[0]}\n")
    for name, count in readings.items():
        sys.stdout.write(f"{count:10,}  readings of {name} were judged\n")
    sys.stdout.write(f"{readings.total():,} readings in {time.monotonic() - started:.0f} s, {broken} lives broke\n")
    return broken


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulate", description="Minutes of an account from one seed.")
    parser.add_argument("--seeds", default="1-10", help="such as 7 or 1-20")
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--deadly", action="store_true", help="several kills in most minutes that are disturbed")
    parser.add_argument("--planted", action="store_true", help="find each planted mistake")
    parser.add_argument("--judge", action="store_true", help="judge lives alone, without files and network")
    asked = parser.parse_args()
    first, _, last = asked.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    if asked.judge:
        return 1 if judge(seeds) else 0
    if asked.planted:
        return 1 if find_planted(seeds, asked.minutes) else 0
    return 1 if simulate(seeds, asked.minutes, deadly=asked.deadly) else 0


def find_planted(seeds: Iterable[int], minutes: int) -> int:
    """Which of the seeds finds each mistake of `planted`, and when; returns how many none of them found."""
    reads.duckdb = Pool(threads=1)  # type: ignore[attr-defined, assignment]
    missed = 0
    for mistake in PLANTED:
        found = next((said for seed in seeds if (said := finds(mistake, seed, minutes))), None)
        missed += found is None
        sys.stdout.write(f"{mistake}: {found or 'NOT FOUND'}\n")
        sys.stdout.flush()
    return missed


def finds(mistake: str, seed: int, minutes: int) -> str | None:
    """At which minute a seed finds a planted mistake, and by what; None: it does not."""
    with (
        tempfile.TemporaryDirectory(prefix="simulation-") as directory,
        simulation(seed, Path(directory), planted=mistake) as lived,
    ):
        try:
            lived.run(minutes)
        except BrokenInvariantError as error:
            return f"seed {seed}, minute {(lived.now - OPEN) // MINUTE + 1}: {error}"
    return None


def simulate(seeds: Iterable[int], minutes: int, *, deadly: bool = False) -> int:
    """Live some seeds; returns how many broke an invariant. A signal ends it after the seed it is in, with its sums."""
    reads.duckdb = Pool(threads=1)  # type: ignore[attr-defined, assignment]
    tally: Counter[str] = Counter()
    broken, started, last = 0, time.monotonic(), False

    def end(*_: object) -> None:
        nonlocal last
        last = True

    signal.signal(signal.SIGTERM, end)
    for seed in seeds:
        with (
            tempfile.TemporaryDirectory(prefix="simulation-") as directory,
            simulation(seed, Path(directory), deadly=deadly) as lived,
        ):
            try:
                lived.run(minutes)
            except BrokenInvariantError as error:
                broken += 1
                sys.stdout.write(f"seed {seed} at {lived.now:%H:%M}: {error}\n")
                sys.stdout.flush()
            tally += lived.tally
        if last:
            break
    kills = sum(count for name, count in tally.items() if name.endswith(": died"))
    minutes = sum(count for name, count in tally.items() if "begun again" not in name)
    for name, count in sorted(tally.items()):
        sys.stdout.write(f"{count:6}  {name}\n")
    sys.stdout.write(
        f"{minutes} minutes, {kills} kills in {time.monotonic() - started:.0f} s, {broken} seeds broke an invariant\n"
    )
    return broken


if __name__ == "__main__":
    sys.exit(main())
