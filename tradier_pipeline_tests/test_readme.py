"""Every example of the README and of docs/ runs, as it stands there: SQL, Python, the commands that take a query."""

from __future__ import annotations

import re
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import duckdb
import pytest
from click.testing import CliRunner

from tradier_pipeline.cli import main
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.support.year import fill, sessions

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
README = "\n".join(page.read_text() for page in PAGES)
RELATIONS = """
    SELECT view_name FROM duckdb_views() WHERE NOT internal AND database_name = 'tradier'
    UNION ALL
    SELECT DISTINCT function_name FROM duckdb_functions()
    WHERE function_type = 'table_macro' AND NOT internal AND database_name = 'tradier'
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def of_ledger(block: str) -> bool:
    return "ledger.sqlite" in block


def commands() -> Iterator[list[str]]:
    """The arguments of each `tradier-pipeline` that a shell example runs."""
    for line in "\n".join(blocks("sh")).splitlines():
        for command in re.split(r"&&|\|", line):
            words = shlex.split(command, comments=True)
            if words and Path(words[0]).name == "tradier-pipeline":
                yield words[1:]


SQL = [
    statement.query.strip()
    for block in blocks("sql")
    if not of_ledger(block)
    for statement in duckdb.extract_statements(block)
]
QUERIES = re.findall(r'tradier-pipeline query "([^"]+)"', README)  # in the text, too


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with some days of history, for examples that only read."""
    home = Home(tmp_path_factory.mktemp("readme") / "home")
    with home.warehouse.staged() as staged:
        fill(staged.connection, sessions(3), DEMO_ACCOUNT, minutes=5)
    return home


def test_the_readme_has_examples_of_every_kind() -> None:
    assert len(SQL) > 5
    assert len(QUERIES) > 1
    assert len(blocks("python")) > 1
    assert len([block for block in blocks("sql") if of_ledger(block)]) > 0


@pytest.mark.parametrize("sql", SQL)
def test_every_query_runs(sql: str, filled: Home) -> None:
    with connect_readonly(filled.warehouse.path) as connection:
        connection.execute(sql).fetchall()


@pytest.mark.parametrize("sql", QUERIES)
def test_every_query_of_the_command_line_runs(sql: str, filled: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADIER_PIPELINE_HOME", str(filled.path))
    result = CliRunner().invoke(main, ["query", sql])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout


def test_every_statement_for_the_ledger_runs(home: Home) -> None:
    Ledger(home.path / "ledger.sqlite").waiting()  # there is one
    with closing(sqlite3.connect(home.path / "ledger.sqlite")) as connection:
        for block in filter(of_ledger, blocks("sql")):
            connection.executescript(block)


@pytest.mark.parametrize("block", blocks("python"))
def test_every_python_example_runs_and_prints_money_as_money(
    block: str, home: Home, simulated: Simulated, capsys: pytest.CaptureFixture[str]
) -> None:
    take(home, simulated.broker)
    exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})
    assert not re.search(r"\d\.\d{5,}", capsys.readouterr().out)


@pytest.mark.parametrize("arguments", list(commands()), ids=" ".join)
def test_every_command_has_the_options_it_is_shown_with(arguments: list[str]) -> None:
    command: click.Command = main
    words = iter(arguments)
    while isinstance(command, click.Group):
        command = command.commands[next(words)]
    command.make_context(command.name, list(words))


def test_every_view_and_macro_is_listed_and_has_an_example(filled: Home) -> None:
    with connect_readonly(filled.warehouse.path) as connection:
        relations = [name for (name,) in connection.execute(RELATIONS).fetchall()]
    assert len(relations) > 10
    asked = "\n".join((*SQL, *QUERIES, *blocks("python")))
    assert [name for name in relations if not re.search(rf"`{name}[`(]", README)] == []
    assert [name for name in relations if not re.search(rf"\b{name}\b", asked)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_first_page_fits_on_a_screen_or_two() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 6000
