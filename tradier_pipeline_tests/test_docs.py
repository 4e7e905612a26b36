"""The pages that are written from the code are those of this code."""

from __future__ import annotations

import re

from tradier_pipeline_tests.support.bodies import warehouse_in_memory
from tradier_pipeline_tests.support.reference import PAGE, reference

DATA = PAGE.with_name("data.md")


def test_the_reference_of_tables_is_that_of_the_schema() -> None:
    with warehouse_in_memory() as warehouse:
        assert PAGE.read_text(encoding="utf-8") == reference(warehouse.connection), "run `make docs`"


def test_the_page_about_the_data_names_every_table_and_view_and_none_that_is_not_there() -> None:
    with warehouse_in_memory() as warehouse:
        there = {
            name
            for (name,) in warehouse.connection.execute(
                "SELECT table_name FROM duckdb_tables() WHERE NOT internal "
                "UNION SELECT view_name FROM duckdb_views() WHERE NOT internal"
            ).fetchall()
        }
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", DATA.read_text(encoding="utf-8"), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named - there == set()
    assert there - named == set()
