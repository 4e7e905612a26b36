"""`tradier-pipeline up`: UI, daemon and simulated broker come up together, keep their history, and leave together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from tradier_pipeline.cli import up
from tradier_pipeline.core.settings import DEMO_ACCOUNT, DEMO_TOKEN
from tradier_pipeline.instance import open_instance
from tradier_pipeline.warehouse.reads import connect_readonly, snapshot_ids
from tradier_pipeline_tests.conftest import Home, Simulated
from tradier_pipeline_tests.support.dagster_runs import materialized

T = TypeVar("T")
DEADLINE_S = 90.0  # of one wait; on an idle machine `up` is ready after 6 s
NO_CYCLES = dict.fromkeys(("TRADIER_MONITOR_MINUTES", "TRADIER_TRADE_MINUTES", "TRADIER_SYNC_MINUTES"), "0")
USERS_TOKEN = "0123456789abcdefSECRET789012"

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) { __typename ... on LaunchRunSuccess { run { runId } } }
}
"""
STATUS = "query Status($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
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
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {seconds:.0f} s")


class Up:
    """A running `tradier-pipeline up`."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, query: str, variables: dict[str, Any] | None = None) -> Any:
        answer = httpx.post(
            f"{self.url}/graphql", json={"query": query, "variables": variables or {}}, timeout=30, trust_env=False
        ).json()
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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
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


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds its processes in /proc")
def test_up_takes_a_snapshot_on_request_and_keeps_its_history_and_leaves_nothing_even_when_it_is_killed(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCESS_TOKEN", USERS_TOKEN)  # of no use to the simulated broker, which must not see it
    with running(tmp_path) as first:
        launched = first.ask(LAUNCH, {"params": REQUEST})["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        run_id = launched["run"]["runId"]
        assert until("the end of the run", lambda: first.finished(run_id)) == "SUCCESS"
        with connect_readonly(home.warehouse.path) as connection:
            (snapshot_id,) = snapshot_ids(connection)
        assert snapshot_id.startswith(f"{DEMO_ACCOUNT}@")
        with open_instance(home.path / "dagster") as instance:
            assert materialized(instance) == {snapshot_id}
        assert len(family(home)) >= 4
        first.process.kill()
        first.process.wait()
        until("the end of all", lambda: True if not family(home) else None)

    with running(tmp_path) as again:
        assert again.finished(run_id) == "SUCCESS"
        assert len(family(home)) >= 4
        (daemon,) = [line for line in family(home) if "dagster._daemon" in line]
        os.kill(int(daemon.split()[0]), signal.SIGKILL)
        assert again.process.wait(30) == 1
        assert family(home) == []

    log = (tmp_path / "up.log").read_text()
    assert "tradier-pipeline: error: the daemon ended with exit code -9." in log
    assert "Traceback" not in log
    assert USERS_TOKEN not in log


def test_a_taken_port_is_told_in_one_line_and_nothing_is_started(home: Home, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = subprocess.run(
            [sys.executable, "-m", "tradier_pipeline.cli", "up", "--port", str(taken.getsockname()[1])],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ended.returncode == 1
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


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds its processes in /proc")
def test_a_token_that_is_changed_in_the_env_file_counts_from_the_next_run_on_and_sigterm_ends_all(
    home: Home, tmp_path: Path, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRADIER_BASE_URL")
    settings = f"TRADIER_ENV=sandbox\nTRADIER_ACCOUNT_ID={DEMO_ACCOUNT}\nTRADIER_BASE_URL={simulated.url}\n"
    (tmp_path / ".env").write_text(f"{settings}TRADIER_ACCESS_TOKEN=expired\n")
    with running(tmp_path) as started:

        def launched() -> str:
            run_id = started.ask(LAUNCH, {"params": REQUEST})["launchRun"]["run"]["runId"]
            return until("the end of the run", lambda: started.finished(run_id))

        assert launched() == "FAILURE"
        (tmp_path / ".env").write_text(f"{settings}TRADIER_ACCESS_TOKEN={DEMO_TOKEN}\n")
        assert launched() == "SUCCESS"
        started.process.send_signal(signal.SIGTERM)
        assert started.process.wait(30) == 0
    assert family(home) == []
    *_, line = (tmp_path / "up.log").read_text().splitlines()
    assert line == "ended by SIGTERM; all it had started has ended"
