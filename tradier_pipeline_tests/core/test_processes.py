"""Processes by pid, start and boot; and those that do not outlive their parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.test_utils import create_run_for_test

from tradier_pipeline.cli import main, up
from tradier_pipeline.core.processes import is_gone, is_known, name_of, pid_of
from tradier_pipeline.instance import open_instance
from tradier_pipeline.instance.launcher import WORKER_TAG, ForkingRunLauncher
from tradier_pipeline_tests.cli.test_up import _alive, _content, until
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.support.sampling import sampled

SLEEP = "import time; time.sleep(600)"
# a parent that starts a module as `up` does, which starts a process itself
PARENT = """
import os, sys
from tradier_pipeline.cli import up
with up._running({"it": ["child"]}, dict(os.environ)) as processes:
    processes["it"].wait()
"""
CHILD = f"""
import os, subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", {SLEEP!r}])
print(os.getpid(), grandchild.pid, file=open("pids", "w"), flush=True)
time.sleep(600)
"""


@pytest.fixture
def somebody() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", SLEEP]) as process:
        yield process
        process.kill()


def renamed(name: str) -> str:
    """As if the process had started at another time: its id was given again."""
    host, pid, started = name.split(" ")
    return f"{host} {pid} 1{started}"


def test_a_process_is_known_by_when_it_started_too(somebody: subprocess.Popen[bytes]) -> None:
    name = name_of(somebody.pid)
    assert (pid_of(name), is_gone(name), is_known(name)) == (somebody.pid, False, True)
    assert (is_gone(renamed(name)), is_known(renamed(name))) == (True, False)
    of_an_earlier_version = f"{socket.gethostname()} {somebody.pid}"
    assert (is_gone(of_an_earlier_version), is_known(of_an_earlier_version)) == (False, False)
    somebody.kill()
    somebody.wait()
    assert (is_gone(name), is_known(name), is_gone(name_of(somebody.pid))) == (True, False, True)


@pytest.mark.usefixtures("interruptible")
def test_a_recorded_id_that_belongs_to_somebody_else_now_is_not_signalled(
    tmp_path: Path, somebody: subprocess.Popen[bytes]
) -> None:
    with open_instance(tmp_path / "dagster") as instance:
        launcher = instance.run_launcher
        assert isinstance(launcher, ForkingRunLauncher)
        for name, signalled in ((renamed(name_of(somebody.pid)), False), (name_of(somebody.pid), True)):
            run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED, tags={WORKER_TAG: name})
            assert launcher.terminate(run.run_id) is signalled
            assert (somebody.poll() is None) is not signalled or somebody.wait(10) == -signal.SIGTERM


@sampled("number", [signal.SIGKILL, signal.SIGSEGV])
def test_what_was_started_ends_with_a_parent_that_is_killed(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(CHILD)
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=tmp_path, env={**os.environ, "PYTHONPATH": "."})
    pids = [int(pid) for pid in until("the child", lambda: _content(tmp_path / "pids")).split()]
    assert all(map(_alive, pids))
    parent.send_signal(number)
    parent.wait()
    until("the end of both", lambda: True if not any(map(_alive, pids)) else None)


def test_a_second_up_on_a_home_is_refused_with_the_name_of_the_first(home: Home) -> None:
    with up._alone(home.path, "http://127.0.0.1:3000"):
        result = CliRunner().invoke(main, ["up", "--port", "38951"])
    assert result.exit_code == 1
    *_, line = result.stderr.splitlines()
    assert f"runs on {home.path} already: process {os.getpid()}, http://127.0.0.1:3000" in line
    with up._alone(home.path, "http://127.0.0.1:3000"):
        pass
