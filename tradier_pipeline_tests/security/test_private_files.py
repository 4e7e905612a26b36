"""What a home holds is its owner's alone, whatever the umask of the shell that made it."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from tradier_pipeline.core.settings import DEMO_ACCOUNT, load_settings
from tradier_pipeline.landing.compaction import compact
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.support.command_line import run


@pytest.fixture(autouse=True)
def _generous_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def open_to_others(home: Path) -> list[str]:
    """What of a home anybody but its owner may use; the published file is read-only for all, in a closed directory."""
    every = [path for path in (home, *home.rglob("*")) if path.name != "tradier.duckdb"]
    return [f"{path} {mode:o}" for path in every if (mode := stat.S_IMODE(path.lstat().st_mode)) & 0o077]


def test_the_command_line_makes_a_home_that_only_its_owner_can_use(home: Home) -> None:
    for arguments in (["snapshot"], ["request", "--reason", "manual"], ["report"]):
        ended = run(*arguments)
        assert ended.exit_code == 0, ended.stderr
        assert "warning" not in ended.stderr
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    assert open_to_others(home.path) == []
    with duckdb.connect(str(home.warehouse.path), read_only=True) as shell:
        assert shell.sql("SELECT count(*) FROM tradier_snapshots").fetchall() == [(1,)]
    assert stat.S_IMODE(home.warehouse.path.stat().st_mode) & 0o222 == 0


def test_the_library_makes_private_files_in_a_process_of_another_umask(home: Home, simulated: Simulated) -> None:
    landed, _ = take(home, simulated.broker)
    take(home, simulated.broker)
    Ledger(home.path / "ledger.sqlite").request(DEMO_ACCOUNT, "manual")
    compact(home.zone, before=landed.day.trade_date + timedelta(days=1))
    assert list(home.path.rglob("*.zip"))
    assert open_to_others(home.path) == []


def test_a_home_that_is_open_to_others_is_told_with_the_command_that_closes_it(
    home: Home, simulated: Simulated
) -> None:
    take(home, simulated.broker)
    (home.path / ".env").write_text("TRADIER_MONITOR_MINUTES=1\n")
    home.path.chmod(0o755)
    notices = load_settings().notices
    assert [notice.partition("`")[2].rstrip("`") for notice in notices] == [
        f"chmod -R go-rwx {home.path}",
        f"chmod go-rwx {home.path}/.env",
    ]
    ended = run("status")
    assert ended.exit_code == 0
    assert ended.stderr.startswith(f"tradier-pipeline: warning: {home.path} is open to every user of this machine")
    for notice in notices:
        subprocess.run(notice.partition("`")[2].rstrip("`"), shell=True, check=True)
    assert load_settings().notices == ()
    assert open_to_others(home.path) == []
