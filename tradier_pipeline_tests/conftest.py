"""What every test starts from: an empty home, no inherited settings, and a real simulated broker on a socket."""

from __future__ import annotations

import gc
import os
import pickle
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import httpx
import httpx._transports.default as httpx_transports
import pytest
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, settings
from pydantic import SecretStr

from tradier_pipeline import instance
from tradier_pipeline.broker.client import RetryPolicy
from tradier_pipeline.broker.models import Balances
from tradier_pipeline.cli.app import PRIVATE_UMASK
from tradier_pipeline.core.outcome import Outcome
from tradier_pipeline.core.settings import DEMO_ACCOUNT, DEMO_TOKEN
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.extract import snapshot
from tradier_pipeline.extract.connection import Broker
from tradier_pipeline.extract.snapshot import extract_quotes, extract_snapshot
from tradier_pipeline.landing.zone import LandedSnapshot, LandingZone
from tradier_pipeline.publish import store
from tradier_pipeline.publish.store import store_snapshot
from tradier_pipeline.reconcile.facts import LedgerState
from tradier_pipeline.simulator import store as simulator_store
from tradier_pipeline.simulator.exchange import advance
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.simulator.strategy import DEMO_ACCOUNTS, DEMO_SEED, AccountPlan, create_world
from tradier_pipeline.simulator.world import EXCHANGE, ROUND_THE_CLOCK, World, to_milliseconds
from tradier_pipeline.warehouse import derived, reads, rows, staging
from tradier_pipeline.warehouse.staging import Warehouse
from tradier_pipeline_tests.support.bodies import SMALL_BLOCKS, attach_copy, copy_schema
from tradier_pipeline_tests.support.connections import Pool
from tradier_pipeline_tests.support.crash_child import Nursery, nursery
from tradier_pipeline_tests.support.curves import MadeCurves

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
IMPATIENT = RetryPolicy(base_delay=0.0)

# How long an example takes is the machine's business. A run looks at a few examples, the same in each run, so that what
# fails is what was changed; `make soak` runs every such test with others each time, as many as find what is rare.
settings.register_profile(
    "sample", deadline=None, max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("soak", settings.get_profile("sample"), max_examples=2000, derandomize=False)
settings.load_profile("sample")


# In the background SIGINT is ignored, and Dagster gives SIGTERM what SIGINT has: what a test starts would hear neither.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def pytest_collection(session: pytest.Session) -> None:
    """Each worker begins with another part of the tests: what it compiles of a fresh clone the others find compiled."""
    worker: Mapping[str, Any] | None = getattr(session.config, "workerinput", None)
    if worker is not None and session.config.args == session.config.getini("testpaths"):
        files = sorted(Path(__file__).parent.rglob("test_*.py"))
        first = len(files) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
        for path in (*files[first:], *files[:first]):
            import_module(".".join(path.relative_to(Path(__file__).parents[1]).with_suffix("").parts))


# What is imported and collected stays: a million objects that the garbage collector need not look through again.
gc.disable()
COUNT_FROZEN = gc.get_freeze_count


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000, 20, 20)  # a test makes thousands of objects, and few circles of them
    gc.get_freeze_count = lambda: 1  # counting a million takes as long as a short test, and the product asks


# Dagster's ninety revisions, which Alembic would import anew for each of the three databases of each home opened.
ScriptDirectory.from_config = cache(ScriptDirectory.from_config)  # type: ignore[method-assign]


@cache
def _certificates(_file: str | None, _directory: str | None) -> Any:
    return httpx.create_ssl_context()


def _ssl_context(**how: Any) -> Any:
    """The certificates of the world are loaded once: each client would load them anew for a broker on this machine."""
    if how == {"verify": True, "cert": None, "trust_env": True}:
        return _certificates(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    return httpx.create_ssl_context(**how)


vars(httpx_transports)["create_ssl_context"] = _ssl_context
WRITE_SETTINGS = instance._write_settings
MAKE_CURVES = derived._make_curves
if find_spec("sniffio") is None:
    sys.modules["sniffio"] = None  # type: ignore[assignment] # the HTTP library looks for it at every request


def dear_examples(part: int) -> int:
    """How many examples a test takes of which each is dear: one in `part` of what the profile asks for.

    Call it where the test is defined: the profile of the command line is loaded after this module.
    """
    return max(settings().max_examples // part, 1)


@pytest.fixture(autouse=True)
def _no_inherited_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("TRADIER_", "DAGSTER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DAGSTER_HOME", "")  # set again by our commands; monkeypatch takes it back afterwards
    monkeypatch.setenv("TRADIER_PIPELINE_HOME", str(tmp_path / "data"))  # not the home and the .env of the checkout
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def patched() -> Iterator[pytest.MonkeyPatch]:
    """What holds for all tests, and for what modules prepare."""
    with pytest.MonkeyPatch.context() as context:
        yield context


@pytest.fixture(scope="session", autouse=True)
def _no_waiting(patched: pytest.MonkeyPatch) -> None:
    patched.setattr(snapshot, "SETTLE_S", 0.0)


@pytest.fixture(scope="session", autouse=True)
def _quick_warehouse(patched: pytest.MonkeyPatch) -> None:
    """A new warehouse is a copy of one that was made once."""
    patched.setattr(staging, "attach", attach_copy)
    patched.setattr(staging, "create_schema", copy_schema)  # where the blocks are of another size
    patched.setattr(staging, "BLOCK_SIZE", SMALL_BLOCKS)


@pytest.fixture(scope="session", autouse=True)
def _quick_curves(patched: pytest.MonkeyPatch) -> None:
    """Curves of what they were made of before are copies; warehouse/test_derived has them made each time."""
    patched.setattr(derived, "_make_curves", MadeCurves().make)


@pytest.fixture(scope="session", autouse=True)
def _quick_connections(patched: pytest.MonkeyPatch) -> None:
    patched.setattr(staging, "duckdb", Pool(writes=True))
    patched.setattr(reads, "duckdb", Pool())


class Worlds:
    """What `create_world` does for the demo, but the days behind a world are lived through once in ten minutes.

    As of a later instant it is that world gone on, whose traders have the pause before them that those of a new one
    have.
    """

    KEPT = timedelta(minutes=10)

    def __init__(self) -> None:
        self._created: dict[tuple[str, datetime], bytes] = {}

    def create(
        self,
        now: datetime,
        seed: int = DEMO_SEED,
        plans: Sequence[AccountPlan] = DEMO_ACCOUNTS,
        calendar: MarketCalendar = EXCHANGE,
    ) -> World:
        if (seed, plans) != (DEMO_SEED, DEMO_ACCOUNTS):
            return create_world(now, seed, plans, calendar)
        world = self._of(now, calendar)
        passed = to_milliseconds(now) - world.now
        for account in world.accounts.values():
            account.wakes_at = account.wakes_at and account.wakes_at + passed
        advance(world, now)
        return world

    def _of(self, now: datetime, calendar: MarketCalendar) -> World:
        for (name, created), kept in self._created.items():
            if name == calendar.calendar and timedelta(0) <= now - created < self.KEPT:
                world: World = pickle.loads(kept)
                break
        else:
            world = create_world(now, calendar=calendar)
            self._created[calendar.calendar, now] = pickle.dumps(world)
        world.calendar = calendar
        return world


WORLDS = Worlds()


@pytest.fixture(scope="session", autouse=True)
def _quick_demo(patched: pytest.MonkeyPatch) -> None:
    patched.setattr(simulator_store, "create_world", WORLDS.create)


@pytest.fixture(scope="session")
def empty_dagster_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Dagster home in which nothing has happened yet: creating one takes longer than most tests of it."""
    path = tmp_path_factory.mktemp("empty") / "dagster"
    with pytest.MonkeyPatch.context() as unpatched:
        unpatched.setattr(instance, "_write_settings", WRITE_SETTINGS)
        unpatched.setenv("TRADIER_DAGSTER_STORAGE", "")  # of files, whoever asks for it first
        before = os.umask(PRIVATE_UMASK)  # as under our commands
        instance.open_instance(path).dispose()
        os.umask(before)
    return path


@pytest.fixture(scope="session", autouse=True)
def _quick_dagster_home(request: pytest.FixtureRequest, patched: pytest.MonkeyPatch) -> None:
    """A new Dagster home is a copy of one that was made once."""

    def copy_home(path: Path) -> None:
        if not any(found for found in path.parent.iterdir() if found.suffix != ".lock"):
            shutil.copytree(request.getfixturevalue("empty_dagster_home"), path.parent, dirs_exist_ok=True)
        WRITE_SETTINGS(path)

    patched.setattr(instance, "_write_settings", copy_home)


@dataclass(frozen=True)
class Home:
    """An empty home and its parts."""

    path: Path

    @property
    def zone(self) -> LandingZone:
        return LandingZone(self.path / "raw")

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.path / "tradier.duckdb")


@dataclass(frozen=True)
class Simulated:
    """A running simulated broker and its switchboard."""

    url: str

    @property
    def broker(self) -> Broker:
        return Broker(self.url, SecretStr(DEMO_TOKEN), "simulator", IMPATIENT)

    def admin(self, method: str, path: str, json: Any = None) -> Any:
        url = f"{self.url}/_simulator/{path}"  # without the certificates that would be loaded for each
        answer = httpx.request(method, url, json=json, trust_env=False, verify=False, timeout=60)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def fault(self, path: str, kind: str, **details: Any) -> None:
        """Make requests whose path contains `path` fail in a way, until `heal` (or `times` times)."""
        self.admin("POST", "faults", [{"path": path, "kind": kind, **details}])

    def heal(self) -> None:
        self.admin("DELETE", "faults")

    def requests(self) -> list[Mapping[str, Any]]:
        """What was asked for. Further pages are left out: a list of 25 orders takes a second one, and the demo trades
        by the clock."""
        asked = self.admin("GET", "requests")
        return [one for one in asked if parse_qs(one["query"]).get("page", ["1"]) == ["1"]]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT interrupts, in this process and its children, even where the suite runs in the background or by nohup."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    path = tmp_path / "home"
    monkeypatch.setenv("TRADIER_PIPELINE_HOME", str(path))
    return Home(path)


@pytest.fixture
def without_days(monkeypatch: pytest.MonkeyPatch) -> None:
    """No publish makes the rows of days and curves, for tests that ask for neither.

    Whenever they are made they are the same: warehouse/test_derived.
    """
    monkeypatch.setattr(derived, "refresh", lambda _connection: None)


@pytest.fixture
def without_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """No snapshot is checked before it is published, for tests of views, which follow from the rows alone.

    What the checks find: verify, end_to_end.
    """
    monkeypatch.setattr(store, "verify_snapshot", lambda *_: [])


@pytest.fixture(scope="session")
def children() -> Nursery:
    """Processes that die, or stand still, where a test says."""
    return nursery()


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulated]:
    """A fresh world in memory, traded round the clock, whenever the suite runs; TRADIER_BASE_URL points to it."""
    with embedded_simulator(None, calendar=ROUND_THE_CLOCK) as url:
        monkeypatch.setenv("TRADIER_BASE_URL", url)
        yield Simulated(url)


@pytest.fixture(scope="module")  # while it lives its thread has a running event loop, which other tests may not like
def browser() -> Iterator[Browser]:
    """A real browser without a window: Debian's Chromium, or that of TRADIER_TEST_BROWSER. Nothing is downloaded."""
    api = pytest.importorskip("playwright.sync_api")
    found = map(shutil.which, (os.environ.get("TRADIER_TEST_BROWSER", ""), *BROWSERS))
    path = next(filter(None, found), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed, and TRADIER_TEST_BROWSER names none")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--disable-gpu", "--disable-dev-shm-usage"])
        yield opened
        opened.close()


def miscount(monkeypatch: pytest.MonkeyPatch, only: Callable[[Balances], bool] = lambda _: True) -> None:
    """Make our own code store another equity than was landed: the one kind of mistake that keeps a snapshot out."""
    honest = rows._balances_row

    def dishonest(balances: Balances) -> dict[str, Any]:
        stored = honest(balances)
        return stored | {"equity": stored["equity"] + 1} if only(balances) else stored

    monkeypatch.setattr(rows, "_balances_row", dishonest)


def take(
    home: Home, broker: Broker, account_id: str = DEMO_ACCOUNT, ledger_state: LedgerState | None = None
) -> tuple[LandedSnapshot, list[Outcome]]:
    """One whole snapshot without Dagster: read, land, store, verify, publish."""
    landed = extract_snapshot(home.zone, broker, SnapshotId.now(account_id), "test")
    extract_quotes(home.zone, broker, landed)
    _, outcomes = store_snapshot(home.warehouse, landed, read_ledger=lambda *_: ledger_state)
    return landed, outcomes


@pytest.fixture(scope="module")
def template(simulated: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with one snapshot to copy; for modules whose `simulated` lives as long as they do."""
    home = Home(tmp_path_factory.mktemp("template") / "home")
    take(home, simulated.broker)
    return home


@pytest.fixture
def good(home: Home, template: Home) -> LandedSnapshot:
    """The snapshot that the home already has."""
    shutil.copytree(template.path, home.path)
    (landed,) = home.zone.snapshots()
    return landed
