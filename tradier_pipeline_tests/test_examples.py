"""The example notebook and the example of docs/data.md run as they are."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import tradier_pipeline
from tradier_pipeline.publish.store import store_snapshot
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.staging import Warehouse, insert
from tradier_pipeline_tests.support.bodies import ACCOUNT, balances, land, rich, zone_in

PACKAGE = Path(tradier_pipeline.__file__).parent
PAGE = PACKAGE.parent / "docs" / "data.md"
NOTEBOOK = PACKAGE / "examples" / "history.ipynb"
FIRST = datetime(2025, 11, 19, 21, 5, tzinfo=UTC)  # after the close


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three days and a deposit."""
    home = tmp_path_factory.mktemp("example")
    warehouse = Warehouse(home / "tradier.duckdb")
    for number, equity in enumerate(("100000", "101500.25", "100900")):
        reported = replace(rich(), balances={"balances": balances(total_equity=Decimal(equity))})
        store_snapshot(warehouse, land(zone_in(home), reported, FIRST + number * timedelta(days=1)))
    deposit = {"account_id": ACCOUNT, "trade_date": date(2025, 11, 20), "type": "ach", "amount": Decimal(1000)}
    read = {"content_key": "k", "ordinal": 1, "first_read_at": FIRST, "last_read_at": FIRST}
    with warehouse.staged() as staged:
        insert(staged.connection, schema.ACCOUNT_ACTIVITY, [deposit | read])
    return home


def test_the_notebook_is_committed_as_it_was_written() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.id for cell in cells if cell.outputs or cell.execution_count or cell.metadata] == []
    assert {*notebook.metadata} == {"kernelspec", "language_info"}


def test_the_notebook_runs_from_top_to_bottom(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADIER_PIPELINE_HOME", str(example))
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()

    shown = {cell.id: [output.data for output in cell.outputs] for cell in notebook.cells if cell.cell_type == "code"}
    assert {cell: len(outputs) for cell, outputs in shown.items()} == {
        "imports": 0,
        **dict.fromkeys(("daily", "chart", "held", "external", "coverage"), 1),
    }
    assert "101500.25" in shown["daily"][0]["text/plain"]
    assert "1000.0" in shown["external"][0]["text/plain"]
    assert "AAPL" in shown["held"][0]["text/plain"]
    drawn = shown["chart"][0]["image/svg+xml"]
    assert all(part in drawn for part in ("101500.25", "drawdown", "equity, USD"))
    assert "<script" not in drawn


def test_the_python_example_of_the_documentation_runs(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADIER_PIPELINE_HOME", str(example))
    (code,) = re.findall(r"```python\n(from tradier_pipeline import history\n.*?)```", PAGE.read_text(), re.DOTALL)
    exec(code, {})
