"""The first minute of somebody who has just cloned the project: no account, no network but this machine's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tradier_pipeline.core.settings import DEMO_ACCOUNT, load_settings
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.support.command_line import rows_of, run
from tradier_pipeline_tests.support.terminal import on_terminal, plain

PROJECT = Path(__file__).parents[2]


def test_the_example_of_the_settings_can_be_copied_as_it_is_and_keeps_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRADIER_PIPELINE_HOME")
    shutil.copy(PROJECT / ".env.example", tmp_path / ".env")
    settings = load_settings()
    assert settings.dotenv == tmp_path / ".env"
    assert (settings.environment, settings.accounts, settings.broker_url) == ("simulator", (DEMO_ACCOUNT,), None)


def test_the_first_snapshot_of_the_demo_brings_its_past_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADIER_PIPELINE_HOME", str(tmp_path / "home"))
    first = run("snapshot")
    assert first.exit_code == 0, first.stderr
    assert [line.split()[0] for line in first.stdout.splitlines()[1:5]] == ["read", "proved", "published", "past"]
    assert len(first.stdout.splitlines()) <= 23
    assert len(rows_of("returns", "--by", "month")) > 1
    assert "YTD" in run("returns").stdout
    assert not [line for line in run("snapshot").stdout.splitlines() if line.startswith("past ")]


def test_a_home_whose_broker_somebody_names_reads_its_past_when_asked(home: Home, simulated: object) -> None:
    assert "\npast " not in run("snapshot").stdout
    assert run("returns").exit_code == 0
    assert rows_of("query", "FROM activity_extracts") == []


WITHOUT_DAGSTER = """
import os, sys

class End:
    def find_spec(self, name, path=None, target=None):
        if name == "dagster":
            os._exit(9)

sys.meta_path.insert(0, End())
sys.argv = ["tradier-pipeline", "snapshot"]
from tradier_pipeline.cli import main
main()
"""


def test_a_snapshot_fits_24_lines_and_speaks_before_it_has_loaded(home: Home, simulated: Simulated) -> None:
    take(home, simulated.broker)
    code, reported = on_terminal("snapshot")
    assert code == 0, reported
    lines = plain(reported).split("\r")[-1].splitlines()
    assert len(lines) <= 23
    ended = subprocess.run([sys.executable, "-c", WITHOUT_DAGSTER], capture_output=True, text=True)
    assert ended.returncode == 9
    assert ended.stdout.startswith("SIMULATED account ")


def test_make_up_hands_the_port_on() -> None:
    reported = subprocess.run(
        ["make", "--dry-run", "--assume-old=install", "up", "PORT=3017"], cwd=PROJECT, capture_output=True, text=True
    )
    assert "tradier-pipeline up --port 3017" in reported.stdout


def test_help_says_whole_sentences_of_the_commands_below_a_command() -> None:
    for group in ("ledger", "flows"):
        reported = run(group, "--help").stdout
        assert "..." not in reported.split("Commands:")[1]
        assert all(len(line) <= 80 for line in reported.splitlines())
    assert "the ledger keeps who stated it" in " ".join(reported.split())


@pytest.mark.parametrize("columns", [60, 80])
def test_an_error_wraps_at_the_terminals_width_in_whole_words_and_is_one_line_in_a_pipe(
    home: Home, columns: int
) -> None:
    code, reported = on_terminal("query", "FROM daily_balances", columns=columns)
    assert code == 1
    lines = plain(reported).splitlines()
    assert len(lines) > 1
    assert all(len(line) <= columns for line in lines if str(home.path) not in line)
    (piped,) = run("query", "FROM daily_balances").stderr.splitlines()
    assert " ".join(" ".join(lines).split()) == piped
