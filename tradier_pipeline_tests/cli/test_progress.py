"""What long work shows meanwhile: on a terminal, on stderr, and nowhere else."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.support.command_line import run
from tradier_pipeline_tests.support.sampling import sampled
from tradier_pipeline_tests.support.terminal import on_terminal, plain


def test_a_request_that_is_sent_again_is_told_with_its_host(home: Home, simulated: Simulated) -> None:
    simulated.fault("/balances", "status", status=503, times=2)  # one may be over before the line is drawn again
    code, reported = on_terminal("snapshot")
    assert code == 0, reported
    host = re.escape(simulated.url.removeprefix("http://"))
    assert re.search(f"balances: attempt [23] of 4, {host}", " ".join(plain(reported).split()))
    assert "2 asked for again" in reported


def test_a_terminal_that_moves_nothing_is_told_in_lines(home: Home, simulated: Simulated) -> None:
    simulated.fault("/balances", "status", status=503, times=1)
    code, reported = on_terminal("snapshot", TERM="dumb")
    assert code == 0, reported
    assert "\x1b" not in reported
    assert "\nbalances: attempt 2 of 4, " in reported


@sampled(
    "command, reported",
    [
        ("rebuild", "proving what is stored"),
        ("verify --all", "proving "),
        ("report", "report of "),
        ("backfill", "read"),
    ],
    kept=(0, 3),
)
def test_work_over_many_things_says_how_far_it_is_on_a_terminal_only(
    command: str, reported: str, home: Home, simulated: Simulated
) -> None:
    take(home, simulated.broker)
    code, shown = on_terminal(*command.split())
    assert code == 0, shown
    assert reported in plain(shown)
    assert "\x1b[2K" in shown  # and takes it away
    piped = run(*command.split())
    assert (piped.exit_code, piped.stderr) == (0, "")
    assert "\x1b" not in piped.stdout


INTERRUPTING = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.argv = ["tradier-pipeline", "snapshot"]
from tradier_pipeline.cli import main
main()
"""


@pytest.mark.usefixtures("interruptible")
@sampled(
    "name",
    [
        *("click", "tradier_pipeline.core.settings", "tradier_pipeline.cli.snapshots"),  # of every command
        *("dagster", "tradier_pipeline.warehouse.at_a_glance"),  # by the snapshot, and after it
    ],
    kept=(0, 3),
)
def test_an_interrupt_while_this_is_imported_is_one_line(name: str, home: Home, simulated: Simulated) -> None:
    program = [sys.executable, "-c", INTERRUPTING.format(name=name)]
    result = subprocess.run(program, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (130, "tradier-pipeline: interrupted.\n")
