"""`tradier-pipeline up`: UI, daemon and simulated broker come up together, keep their history, and leave together."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import pytest
from pydantic import SecretStr

from tradier_pipeline.cli import up
from tradier_pipeline.core.settings import DEMO_ACCOUNT, DEMO_TOKEN, STORAGE_VARIABLE, Settings, load_settings
from tradier_pipeline.extract.connection import active_accounts
from tradier_pipeline.instance import open_instance
from tradier_pipeline.instance.databases import broken
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.simulator.world import ROUND_THE_CLOCK
from tradier_pipeline.warehouse.reads import connect_readonly, snapshot_ids
from tradier_pipeline_tests.conftest import Home, Simulated
from tradier_pipeline_tests.instance.test_storage_damage import RUNS, garbage
from tradier_pipeline_tests.support.command_line import run
from tradier_pipeline_tests.support.dagster_runs import materialized
from tradier_pipeline_tests.support.ports import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

T = TypeVar("T")
DEADLINE_S = 90.0  # of one wait; on an idle machine `up` is ready after 6 s
NO_CYCLES = dict.fromkeys(("TRADIER_MONITOR_MINUTES", "TRADIER_TRADE_MINUTES", "TRADIER_SYNC_MINUTES"), "0")
USERS_TOKEN = "0123456789abcdefSECRET789012"
RELOAD = 'mutation { reloadRepositoryLocation(repositoryLocationName: "tradier_pipeline") { __typename } }'

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) { __typename ... on LaunchRunSuccess { run { runId } } }
}
"""
STATUS = "query Status($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
SUCCEEDED = "{ runsOrError(filter: {statuses: [SUCCESS]}) { ... on Runs { results { runId } } } }"
LOCATIONS = """
{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus locationOrLoadError {
  __typename ... on RepositoryLocation { repositories { name } } } } } } }
"""
REQUEST = {
    "selector": {
        "repositoryLocationName": "tradier_pipeline",
        "repositoryName": "__repository__",
        "jobName": "request_snapshot",
    }
}


def until(what: str, attempt: Callable[[], T | None], seconds: float = DEADLINE_S) -> T:
    """Ask again and again until there is an answer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (answer := attempt()) is not None:
            return answer
        time.sleep(0.4)  # each try takes from what is waited for
    raise AssertionError(f"{what} did not happen within {seconds:.0f} s")


class Up:
    """A running `tradier-pipeline up`."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self._client = httpx.Client(base_url=self.url, trust_env=False, verify=False, timeout=30)

    def ask(self, query: str, variables: dict[str, Any] | None = None) -> Any:
        asked = {"query": query, "variables": variables or {}}
        answer = self._client.post("/graphql", json=asked).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def ready(self) -> bool | None:
        assert self.process.poll() is None, "it ended"
        try:
            (entry,) = self.ask(LOCATIONS)["workspaceOrError"]["locationEntries"]
        except httpx.TransportError:
            return None
        return True if entry["loadStatus"] == "LOADED" else None

    def finished(self, run_id: str) -> str | None:
        status = self.ask(STATUS, {"id": run_id})["runOrError"]["status"]
        return status if status in ("SUCCESS", "FAILURE", "CANCELED") else None


@contextmanager
def running(folder: Path, settings: Mapping[str, str] = NO_CYCLES, seconds: float = DEADLINE_S) -> Iterator[Up]:
    """`up` on a free port, started in a folder that is no checkout, until its GraphQL answers."""
    port = free_port()
    # the UI imports a module of this name: not this one, or it does not start
    (folder / "gql.py").write_text("raise SystemExit('a file of the working directory was run')\n")
    with (folder / "up.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tradier_pipeline.cli", "up", "--port", str(port)],
            cwd=folder,
            env={**os.environ, **settings},
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    started = Up(process, port)
    try:
        until("up", started.ready, seconds)
        yield started
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def reported(folder: Path, text: str) -> str | None:
    """The one line of `up` that has a text; None if there is none yet."""
    found = [line for line in (folder / "up.log").read_text().splitlines() if text in line]
    assert len(found) <= 1, found
    return found[0] if found else None


def family(home: Home) -> list[str]:
    """The processes that work on this home: `up`, UI, daemon, code servers, runs."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if f"TRADIER_PIPELINE_HOME={home.path}\0".encode() in environment and "dagster" in command:
            found.append(f"{entry.name} {command[:120]}")
    return found


@dataclass(frozen=True)
class Lived:
    """An `up` that several tests go on with, the folder it was started in, and its broker."""

    up: Up
    home: Home
    folder: Path
    simulated: Simulated

    @property
    def settings(self) -> Mapping[str, str]:
        own = {"TRADIER_PIPELINE_HOME": str(self.home.path), "TRADIER_ACCOUNT_ID": DEMO_ACCOUNT}
        return {**NO_CYCLES, **own, "DAGSTER_HOME": ""}

    @property
    def log(self) -> list[str]:
        return (self.folder / "up.log").read_text().splitlines()

    def uses(self, token: str) -> None:
        """Of what the environment of `up` sets it counts alone, in every run: an account, where Dagster's home is."""
        settings = f"TRADIER_ENV=sandbox\nTRADIER_BASE_URL={self.simulated.url}\nTRADIER_ACCESS_TOKEN={token}\n"
        nowhere = self.folder / "nowhere"
        (self.folder / ".env").write_text(f"{settings}TRADIER_ACCOUNT_ID=VA99999999\nDAGSTER_HOME={nowhere}\n")

    def launch(self) -> tuple[str, str]:
        """A snapshot on request: the run and how it ended."""
        until("up", self.up.ready)
        launched = self.up.ask(LAUNCH, {"params": REQUEST})["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        run_id = launched["run"]["runId"]
        return run_id, until("the end of the run", lambda: self.up.finished(run_id))

    def succeeded(self) -> str:
        """A run that went well: of a test before, or of a new snapshot."""
        until("up", self.up.ready)
        runs = [run["runId"] for run in self.up.ask(SUCCEEDED)["runsOrError"]["results"]]
        return runs[0] if runs else self.launch()[0]

    def request(self) -> None:
        Ledger(self.home.path / "ledger.sqlite").request(DEMO_ACCOUNT, "manual")

    def published(self) -> list[str]:
        if not self.home.warehouse.path.exists():
            return []
        with connect_readonly(self.home.warehouse.path) as connection:
            return snapshot_ids(connection)

    def has_published(self, count: int) -> None:
        until(f"snapshot {count}", lambda: len(self.published()) >= count or None)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lived]:
    if not Path("/proc/self/environ").exists():
        pytest.skip("finds its processes in /proc")
    folder = tmp_path_factory.mktemp("up")
    with (
        pytest.MonkeyPatch.context() as patched,
        embedded_simulator(None, limits=None, calendar=ROUND_THE_CLOCK) as url,
    ):
        for name in [name for name in os.environ if name.startswith("TRADIER_")]:
            patched.delenv(name)
        prepared = Lived(None, Home(folder / "home"), folder, Simulated(url))  # type: ignore[arg-type]
        prepared.uses(DEMO_TOKEN)
        with running(folder, prepared.settings) as started:
            yield replace(prepared, up=started)


def test_a_token_that_is_changed_in_the_env_file_counts_from_the_next_run_on(lived: Lived) -> None:
    lived.uses("expired")
    assert lived.launch()[1] == "FAILURE"
    line = until("its line", lambda: reported(lived.folder, "request_snapshot  failed: "))
    assert "Check that TRADIER_ACCESS_TOKEN is valid" in line
    lived.uses(DEMO_TOKEN)
    assert lived.launch()[1] == "SUCCESS"
    taken = rf"\d{{4}}-\d\d-\d\d [\d:]{{8}} New York  {DEMO_ACCOUNT}  equity [\d,]+\.\d\d USD  good  next due .+"
    until("the line of the snapshot", lambda: next((one for one in lived.log if re.fullmatch(taken, one)), None))
    assert sum(re.search(r"; next snapshot due .+; stop with Ctrl-C", one) is not None for one in lived.log) == 1
    assert not any(" - dagster" in one for one in lived.log)


def test_a_person_sees_the_lineage_takes_a_snapshot_and_finds_it_with_its_checks(
    lived: Lived, browser: Browser
) -> None:
    from playwright.sync_api import expect

    page = browser.new_page(viewport={"width": 1500, "height": 1000})
    page.set_default_timeout(DEADLINE_S * 1000)
    expect.set_options(timeout=DEADLINE_S * 1000)

    def shown(text: str | re.Pattern[str]) -> Locator:
        """The first that a person sees: the UI has copies of its labels only to measure them."""
        return page.get_by_text(text, exact=True).filter(visible=True).first

    before = set(lived.published())
    page.goto(lived.up.url)
    page.locator("a[href='/asset-groups']").click()
    for group in ("raw", "snapshot", "portfolio", "reconciliation", "reporting"):
        expect(shown(group)).to_be_visible()
    page.goto(f"{lived.up.url}/assets/tradier_snapshot?view=lineage")
    for asset in ("account", "balances", "positions", "orders", "quotes", "tradier_snapshot", "daily_summary"):
        expect(shown(asset)).to_be_visible()

    page.goto(f"{lived.up.url}/locations/tradier_pipeline/jobs/request_snapshot/playground")
    page.get_by_role("button", name="Launch Run").click()
    expect(shown("RUN_SUCCESS")).to_be_visible()
    snapshot_id = shown(re.compile(f"^{DEMO_ACCOUNT}@")).inner_text()
    assert set(lived.published()) == before | {snapshot_id}

    page.goto(f"{lived.up.url}/assets/tradier_snapshot?view=partitions&partition={snapshot_id}")
    expect(shown(f"Materialized ({len(before) + 1})")).to_be_visible()
    expect(shown(snapshot_id)).to_be_visible()

    page.goto(f"{lived.up.url}/assets/tradier_snapshot?view=checks")
    page.get_by_placeholder("Filter checks").fill("positions_equal_broker")
    shown("positions_equal_broker").click()
    expect(shown("Passed")).to_be_visible()
    expect(shown(snapshot_id)).to_be_visible()
    page.close()


@pytest.mark.soak
def test_a_code_location_reloaded_amid_a_run_costs_nothing(lived: Lived) -> None:
    before = len(lived.published())
    lived.simulated.admin("DELETE", "requests")
    lived.simulated.fault("/orders", "delay", seconds=8)  # three times, if the reload takes as long
    lived.simulated.fault("/orders", "status", status=503, times=2)
    lived.request()
    until("the first request", lambda: lived.simulated.requests() or None)
    lived.up.ask(RELOAD)
    assert len(lived.published()) == before
    lived.simulated.heal()
    lived.has_published(before + 1)  # that what is requested then is taken: the next test
    with connect_readonly(lived.home.warehouse.path) as connection:
        (version,) = connection.execute("SELECT DISTINCT code_version FROM tradier_snapshots").fetchone() or ("",)
    assert version


@pytest.mark.soak
def test_up_sets_a_damaged_database_aside_and_goes_on(lived: Lived) -> None:
    before, printed = len(lived.published()), len(lived.log)
    garbage(lived.home.path / "dagster" / RUNS)
    moved = "It is moved to runs.db.damaged-"
    line = until("a line that says so", lambda: next((one for one in lived.log[printed:] if moved in one), None))
    assert re.search("not a database|malformed", line)
    lived.request()
    lived.has_published(before + 1)
    assert lived.up.process.poll() is None
    assert [line for line in lived.log[printed:] if "race" in line or line.startswith("  File")] == []


def test_up_ends_with_its_daemon_leaves_nothing_running_and_keeps_its_history(lived: Lived) -> None:
    """It ends the `up` that the others go on with."""
    run_id = lived.succeeded()
    newest = max(lived.published())
    assert newest.startswith(f"{DEMO_ACCOUNT}@")
    assert len(family(lived.home)) >= 4
    (daemon,) = [line for line in family(lived.home) if "dagster._daemon" in line]
    os.kill(int(daemon.split()[0]), signal.SIGKILL)
    assert lived.up.process.wait(30) == 1
    assert family(lived.home) == []
    assert "tradier-pipeline: error: the daemon was ended by SIGKILL. Start it again." in lived.log
    assert not any("Traceback" in line for line in lived.log)
    with open_instance(lived.home.path / "dagster") as instance:
        assert newest in materialized(instance)
        assert [run.status.value for run in instance.get_runs() if run.run_id == run_id] == ["SUCCESS"]


@pytest.mark.soak  # core/test_processes kills a parent whose children cost less
def test_up_with_the_broker_in_it_leaves_nothing_when_it_is_killed_and_goes_on_with_its_history(
    home: Home, tmp_path: Path
) -> None:
    with running(tmp_path) as killed:
        run_id, status = Lived(killed, home, tmp_path, None).launch()  # type: ignore[arg-type]
        assert status == "SUCCESS"
        assert len(family(home)) >= 4
        killed.process.kill()
        killed.process.wait()
        until("the end of all", lambda: True if not family(home) else None)
    (tmp_path / ".env").write_text(f"TRADIER_ENV=simulator\nTRADIER_ACCESS_TOKEN={USERS_TOKEN}\n")
    with running(tmp_path) as again:
        assert again.finished(run_id) == "SUCCESS"
    assert USERS_TOKEN not in (tmp_path / "up.log").read_text()


# what serves is ended like what starts: it is heard here, and all that serves ends above
@pytest.mark.parametrize("serving", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["starting", "serving"])
def test_sigterm_ends_it_and_all_it_has_started(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_dagster_home: Path, serving: bool
) -> None:
    port = free_port()
    of_sandbox = {"ENV": "sandbox", "ACCOUNT_ID": DEMO_ACCOUNT, "ACCESS_TOKEN": DEMO_TOKEN}  # no broker to start
    for name, value in of_sandbox.items() if not serving else ():
        monkeypatch.setenv(f"TRADIER_{name}", value)
    home.path.mkdir(0o700)
    written = Path(shutil.copytree(empty_dagster_home, home.path / "dagster")) / "dagster.yaml"
    written.unlink()
    with (tmp_path / "up.log").open("w") as log:
        command = [sys.executable, "-m", "tradier_pipeline.cli", "up", "--port", str(port)]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT)
    until("its first start", lambda: written.exists() or None)
    if serving:
        until("its address", lambda: reported(tmp_path, "stop with Ctrl-C"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    *_, line = (tmp_path / "up.log").read_text().splitlines()
    assert line == "ended by SIGTERM; all it had started has ended"
    assert family(home) == []


@pytest.fixture
def stopping(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[up._Stopping]:
    """What ends `up` in this process, where no signal does: at the latest when a test has failed."""
    monkeypatch.setenv(STORAGE_VARIABLE, "")  # taken back at the end
    monkeypatch.delenv(STORAGE_VARIABLE)
    event = up._Stopping()
    monkeypatch.setattr(up, "_stop_on_signals", lambda: event)
    limit = Timer(DEADLINE_S, event.set)
    limit.start()
    yield event
    limit.cancel()


def up_here() -> None:
    settings = load_settings()
    up.up(settings, up.ui_address(settings, "127.0.0.1", free_port()))


def test_a_slip_in_the_env_file_that_is_edited_meanwhile_does_not_end_it(
    home: Home, simulated: Simulated, stopping: up._Stopping, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = []

    def serve(_scratch: Path, settings: Settings, _address: up.Address, environment: Mapping[str, str], *_: Any) -> Any:
        (home.path / ".env").write_text("TRADIER_ACCESS_TOKEN half a line\n")
        looked_at.append(broken(settings.dagster_home, in_use=False))
        looked_at.append(environment[STORAGE_VARIABLE])
        stopping.set()
        return []

    monkeypatch.setattr(up, "_serve", serve)
    up_here()
    assert looked_at == [None, ""]


def test_the_broker_in_it_never_sees_the_users_token(
    home: Home, stopping: up._Stopping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCESS_TOKEN", USERS_TOKEN)
    served = []

    def serve(*arguments: Any) -> Any:
        environment = arguments[3]
        assert USERS_TOKEN not in environment.values()
        simulated = Simulated(environment["TRADIER_BASE_URL"])
        broker = replace(simulated.broker, token=SecretStr(environment["TRADIER_ACCESS_TOKEN"]))
        served.append(active_accounts(broker))
        stopping.set()
        return []

    monkeypatch.setattr(up, "_serve", serve)
    up_here()
    assert DEMO_ACCOUNT in served[0]


def test_a_database_that_is_damaged_amid_it_is_set_aside_and_all_is_started_again(
    home: Home,
    simulated: Simulated,
    stopping: up._Stopping,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With nothing that serves; for the processes of Dagster see above."""
    database, started = home.path / "dagster" / RUNS, []

    @contextmanager
    def start_nothing(commands: Mapping[str, list[str]], *_: Any) -> Iterator[Mapping[str, Any]]:
        started.extend(commands)
        for command in commands.values():
            if "--socket" in command:
                Path(command[command.index("--socket") + 1]).touch()
        if started == ["the code server", "the UI", "the daemon"]:
            garbage(database)
        elif "the UI" in commands:
            stopping.set()
        yield {}

    for pause in ("LOOK_EVERY_S", "LOOK_AGAIN_S"):
        monkeypatch.setattr(up, pause, 0.0)
    monkeypatch.setattr(up, "_running", start_nothing)
    up_here()
    assert started == ["the code server", "the UI", "the daemon"] * 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "It is moved to runs.db.damaged-" in line]
    assert "not a database" in line
    assert broken(home.path / "dagster", in_use=False) is None
    assert list(database.parent.glob("runs.db.damaged-*"))


def test_a_taken_port_is_told_in_one_line_and_nothing_is_started(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = run("up", "--port", str(taken.getsockname()[1]))
    assert ended.exit_code == 1
    *_, line = ended.stderr.splitlines()
    assert line.startswith("tradier-pipeline: error: cannot serve on 127.0.0.1:")
    assert line.endswith("Address already in use. Choose another with --port.")
    assert not home.path.exists()


STUBBORN = """
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, file=open("stubborn.pid", "w"), flush=True)
child.wait()
"""


def test_what_ships_to_the_lake_is_started_again_when_it_ends_and_ends_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shipping.py").write_text("import sys; print('the catalog is gone'); sys.exit(3)")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(up, "SHIP", ["shipping"])
    monkeypatch.setattr(up, "SHIP_AGAIN_S", 0.0)
    with up._Shipping(Settings(lake="ducklake:postgres:dbname=lake", lake_data="/lake"), dict(os.environ)) as shipping:
        shipping.keep()
        (first,) = shipping._processes.values()
        assert first.wait(DEADLINE_S) == 3
        shipping.keep()
        (second,) = shipping._processes.values()
        assert second.pid != first.pid
    assert second.poll() is not None


def test_without_a_lake_nothing_is_started_that_ships() -> None:
    with up._Shipping(Settings(), dict(os.environ)) as shipping:
        shipping.keep()
        assert not shipping._processes


def test_what_does_not_end_when_asked_is_ended_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    monkeypatch.setattr(up, "STOP_TIMEOUT_S", 0.1)
    with up._running({"it": ["stubborn"]}, dict(os.environ)) as processes:
        pid = int(until("its child", lambda: _content(tmp_path / "stubborn.pid")))
    assert processes["it"].returncode == -signal.SIGKILL
    until("the end of its child", lambda: None if _alive(pid) else True)


def _content(path: Path) -> str | None:
    text = path.read_text() if path.exists() else ""
    return text if text.endswith("\n") else None


def _alive(pid: int) -> bool:
    """Running; a zombie that nobody has collected yet is not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().split(")")[1].split()[0] != "Z"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_an_orderly_end_and_a_closed_terminal_stop_it(number: signal.Signals) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        stopping = up._stop_on_signals()
        signal.raise_signal(number)
        assert stopping.is_set()
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
