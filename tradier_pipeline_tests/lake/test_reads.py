"""TRADIER_READ=lake: the same commands and names, read from the lake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tradier_pipeline import history
from tradier_pipeline.lake.connection import EXTENSIONS, open_lake
from tradier_pipeline.warehouse import derived, macros, schema, views
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home, Simulated
from tradier_pipeline_tests.lake.conftest import OfTest
from tradier_pipeline_tests.support.command_line import run
from tradier_pipeline_tests.support.postgres import PASSWORD

COMMANDS = (
    ("balances", "--by", "day", "--format", "json"),
    ("balances", "--by", "month", "--format", "json"),
    ("spreads", "--format", "json"),
    ("query", "SELECT symbol, quantity FROM portfolio_positions ORDER BY ALL", "--format", "json"),
    ("query", "FROM positions_at(TIMESTAMPTZ '2025-01-02 15:00Z') ORDER BY symbol", "--format", "csv"),
    ("query", "SELECT rule, differences FROM check_results ORDER BY ALL", "--format", "json"),
    ("returns", "--by", "month", "--benchmark", "off", "--format", "json"),
    ("describe", "positions", "--format", "json"),
    ("describe", "portfolio_positions"),
)
OF_READERS = {table.name for table in (*schema.ALL_TABLES, *derived.TABLES)} | {view.name for view in views.VIEWS}
OF_READERS -= {"curve_inputs"}  # of a home's bookkeeping


@pytest.fixture
def lake(begun: OfTest) -> OfTest:
    return begun


@pytest.fixture
def both(lake: OfTest, shipped_bulk: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home, set by the settings, that is shipped."""
    monkeypatch.setenv("TRADIER_PIPELINE_HOME", str(shipped_bulk.path))
    for name, value in lake.settings.items():
        monkeypatch.setenv(name, value)
    return shipped_bulk


@pytest.mark.soak
def test_every_command_and_frame_says_the_same_of_the_lake_as_of_the_home(
    both: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home = [run(*command) for command in COMMANDS]
    frame = history.equity_curve()
    monkeypatch.setenv("TRADIER_READ", "lake")
    both.warehouse.path.unlink()  # of the home nothing is read any more
    for command, before in zip(COMMANDS, at_home, strict=True):
        after = run(*command)
        assert (command, after.exit_code, after.stdout) == (command, before.exit_code, before.stdout)
        assert PASSWORD not in after.output
    assert history.equity_curve().equals(frame)
    written = run("report", "--day", "2025-01-02")
    assert written.exit_code == 0, written.stderr
    assert "VA12345678" in (both.path / "reports" / "VA12345678" / "2025-01-02.html").read_text()


def test_every_table_view_and_macro_of_a_home_is_in_the_lake(both: Home, lake: OfTest) -> None:
    del both
    with open_lake(lake.lake, read_only=True) as connection:
        connection.execute("USE lake")
        for name in sorted(OF_READERS):
            connection.execute(f"DESCRIBE {name}")
        for macro in macros.MACROS:
            connection.execute(f"DESCRIBE FROM {macro.name}({', '.join('NULL' for _ in macro.parameters)})")


@pytest.mark.soak
def test_every_column_has_the_comment_that_it_has_at_home(
    both: Home, lake: OfTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect_readonly(both.warehouse.path) as connection:
        query = "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE database_name = 'tradier'"
        at_home = {row for row in connection.execute(query).fetchall() if row[0] in OF_READERS}
    assert at_home
    assert at_home <= set(lake.rows("SELECT name, column_name, comment FROM versions.comments"))
    assert {macro.name for macro in macros.MACROS} <= {
        row[0] for row in lake.rows("SELECT name FROM versions.comments")
    }
    described = run("describe", "portfolio_positions").stdout
    monkeypatch.setenv("TRADIER_READ", "lake")
    assert run("describe", "portfolio_positions").stdout == described


def test_sql_reaches_the_lake_and_no_other_file(both: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    del both
    monkeypatch.setenv("TRADIER_READ", "lake")
    secret = tmp_path.parent / "secret.csv"
    secret.write_text("a\n1\n")
    assert run("query", f"FROM read_csv('{secret}')").exit_code == 1
    assert run("query", "SELECT count(*) FROM positions").exit_code == 0
    assert run("query", "DELETE FROM versions.positions").exit_code == 1
    assert PASSWORD not in run("query", "SELECT * FROM duckdb_databases(), duckdb_secrets()", "--format", "json").output


def test_a_lake_that_does_not_answer_is_one_line(new_lake: OfTest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (new_lake.settings | {"TRADIER_READ": "lake"}).items():
        monkeypatch.setenv(name, value)
    nothing = run("balances")
    assert nothing.exit_code == 1
    assert "there is nothing in the lake" in nothing.stderr


WITHOUT_A_LAKE = """
import sys
from pathlib import Path

def found():
    maps = Path("/proc/self/maps")
    loaded = ["an extension"] if maps.exists() and ".duckdb_extension" in maps.read_text() else []
    of_lake = ("tradier_pipeline.lake", "duckdb_extension")
    return loaded + sorted(name for name in sys.modules if name.startswith(of_lake))

from pydantic import SecretStr
import tradier_pipeline.definitions
import tradier_pipeline.cycles.snapshot_job
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.extract.connection import Broker
from tradier_pipeline.extract.snapshot import extract_snapshot
from tradier_pipeline.landing.zone import LandingZone
from tradier_pipeline.publish.store import store_snapshot
from tradier_pipeline.warehouse.staging import Warehouse
home, url = Path(sys.argv[1]), sys.argv[2]
broker = Broker(url, SecretStr("simulator"), "simulator")
landed = extract_snapshot(LandingZone(home / "raw"), broker, SnapshotId.now("SIM00000001"), "test")
store_snapshot(Warehouse(home / "tradier.duckdb"), landed, read_ledger=lambda *_: None)
print(found())
from tradier_pipeline.cli import main
try:
    main(["balances", "--by", "day"])
except SystemExit as end:
    assert not end.code
print(found())
"""


def test_where_nothing_is_set_no_extension_is_loaded_and_nothing_of_the_lake_imported(
    home: Home, simulated: Simulated
) -> None:
    command = [sys.executable, "-c", WITHOUT_A_LAKE, str(home.path), simulated.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    of_run, *_, of_reader = done.stdout.splitlines()
    assert of_run == "[]"
    assert of_reader == "['tradier_pipeline.lake', 'tradier_pipeline.lake.reads']"
    with connect_readonly(home.warehouse.path) as connection:
        query = "SELECT extension_name FROM duckdb_extensions() WHERE loaded"
        loaded = {name for (name,) in connection.execute(query).fetchall()}
    assert loaded.isdisjoint(EXTENSIONS)
    assert not (home.path / "lake.json").exists()
