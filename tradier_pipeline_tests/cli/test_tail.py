"""What `up` prints while it runs: a line for each snapshot and each failure, and nothing of Dagster's own log."""

from __future__ import annotations

import os
import pty
import sys
from pathlib import Path

import pytest

from tradier_pipeline import clock
from tradier_pipeline.cli.tail import Failures, News, Output, Terminal
from tradier_pipeline.core.settings import load_settings
from tradier_pipeline.warehouse.damaged import keep_aside, set_aside, waiting_aside
from tradier_pipeline_tests.conftest import Home, Simulated, take

TICK = "2026-11-26 10:02:00 +0000 - dagster.daemon.SchedulerDaemon - ERROR - Scheduler daemon caught an error for "
RUN = "2026-11-26 10:01:02 +0000 - dagster - ERROR - monitor_cycle - ed06 - 12669 - STEP_FAILURE - Execution failed."
TRACEBACK = ("", "Traceback (most recent call last):", '  File "x.py", line 1, in f', "    raise", "")
MALFORMED = "TRADIER_MONITOR_MINUTES is malformed. Set it to whole minutes, up to 390; 0 switches the cycle off."
OURS = f"dagster._core.definitions.events.Failure: {MALFORMED}"


def printed(capsys: pytest.CaptureFixture[str], *lines: str, name: str = "the daemon") -> list[str]:
    """What `up` says of what a process prints."""
    output = Output(name, Failures(Terminal()))
    for line in lines:
        list(output.feed(line))
    list(output.flush())
    return capsys.readouterr().err.splitlines()


def test_a_tick_that_fails_is_one_line_with_cause_and_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, f"{TICK}schedule monitor_cycle", *TRACEBACK, OURS) == [
        f"schedule monitor_cycle  failed: {MALFORMED}"
    ]


def test_a_sensor_that_dagster_does_not_name_is_a_sensor(capsys: pytest.CaptureFixture[str]) -> None:
    unnamed = "2026-11-26 10:02:00 +0000 - dagster.daemon.SensorDaemon - ERROR - Sensor tick caught an error"
    assert printed(capsys, unnamed, *TRACEBACK, OURS) == [f"a sensor  failed: {MALFORMED}"]


def test_the_colours_of_dagsters_log_hide_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    coloured = "\x1b[32m2026-11-26 10:26:49 +0000\x1b[0m - dagster.daemon.SensorDaemon - \x1b[34mERROR\x1b[0m - "
    coloured += "\x1b[31mSensor daemon caught an error for sensor flat_sensor\x1b[0m"
    assert printed(capsys, RUN, coloured, *TRACEBACK, OURS) == [f"sensor flat_sensor  failed: {MALFORMED}"]


def test_a_failure_that_goes_on_is_told_once_whoever_meets_it(capsys: pytest.CaptureFixture[str]) -> None:
    again = [line for name in ("flat_sensor", "gap_sensor") for line in (f"{TICK}sensor {name}", *TRACEBACK, OURS)]
    assert len(printed(capsys, *again, *again)) == 1


def test_an_error_that_is_none_of_ours_keeps_its_kind(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = printed(capsys, f"{TICK}sensor flat_sensor", *TRACEBACK, "KeyError: 'positions'", "after")
    assert line == "sensor flat_sensor  failed: KeyError: 'positions'"
    (line,) = printed(capsys, *TRACEBACK, "OSError: [Errno 28] No space left on device", name="the UI")
    assert line == "the UI  failed: OSError: [Errno 28] No space left on device"


def test_what_a_run_and_dagster_log_is_not_shown_but_kept_for_the_end_of_the_process(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = Output("the daemon", Failures(Terminal()))
    lines = ["2026-11-26 10:01:09 +0000 - dagster.daemon - WARNING - slow", RUN, *TRACEBACK, OURS, "exit status 9"]
    for line in lines:
        list(output.feed(line))
    assert capsys.readouterr().err == ""
    assert output.last_lines == (lines[0], RUN, OURS, "exit status 9")


def test_a_text_of_somebody_else_does_nothing_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().fail("SIM[bold]1[/]", "\x1b[2Jgone\x07 [red]x[/red]. Do\n not.")
    assert capsys.readouterr().err == "SIM[bold]1[/]  failed: \\x1b[2Jgone\\x07 [red]x[/red]. Do not.\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_there_is_colour_only_on_a_terminal(terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    master, slave = pty.openpty()
    with os.fdopen(master, "rb", 0) as screen, os.fdopen(slave, "w") as device, (tmp_path / "log").open("w") as log:
        monkeypatch.setattr(sys, "stderr", device if terminal else log)
        Terminal().say("1,234.50 USD  ", ("good", "green"))
        sys.stderr.flush()
        shown = screen.read(1000) if terminal else (tmp_path / "log").read_bytes()
    assert (b"\x1b[32mgood" in shown) is terminal
    assert b"1,234.50 USD" in shown


def test_a_warehouse_that_was_damaged_is_one_line_once(
    home: Home, simulated: Simulated, without_days: None, capsys: pytest.CaptureFixture[str]
) -> None:
    take(home, simulated.broker)
    news = News(load_settings(), Terminal())
    set_aside(home.warehouse.path)
    kept = keep_aside(waiting_aside(home.warehouse.path), clock.now()).name
    for _ in range(2):
        take(home, simulated.broker)
        news._tell_warehouse()
    lines = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
    reported = "tradier.duckdb was damaged and is made anew from what is landed; the damaged file is kept as"
    assert lines == [f"{reported} {kept}"]
