"""What assets and checks show in the UI: tables of rows, metadata, results."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from tradier_pipeline.core.check import Check
from tradier_pipeline.core.outcome import Outcome, Severity, shown
from tradier_pipeline.core.texts import printable
from tradier_pipeline.instance.partitions import TRADE_DATES
from tradier_pipeline.warehouse import schema

ASSET_KEY = dg.AssetKey("tradier_snapshot")
SHOWN_ROWS = 10  # stored with every run


_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")  # each of ASCII may mean something in Markdown


def cell_text(value: Any) -> str:
    """A value in a table of the UI; of a text that somebody else chose nothing that reorders or hides."""
    return printable(shown(value))


def plain_markdown(text: str) -> str:
    """A text that somebody else chose within Markdown: no markup, no link, no picture that would be loaded."""
    return _PUNCTUATION.sub(r"\\\g<0>", printable(text))


def markdown_list(items: Iterable[tuple[str, str]]) -> dg.MarkdownMetadataValue:
    """Names in bold, each with what is said of it; or "none"."""
    lines = [f"- **{plain_markdown(name)}** {plain_markdown(said)}" for name, said in items]
    return dg.MetadataValue.md("\n".join(lines) or "none")


def describe(claim: str, number: int | None) -> str:
    """The claim of a check, with its number in the list of consistency checks."""
    return claim if number is None else f"{claim} (check {number})"


def date_check_specs(asset: dg.AssetKey, checks: Iterable[Check[Any]]) -> list[dg.AssetCheckSpec]:
    """The checks of trade dates on an asset."""
    return [
        dg.AssetCheckSpec(
            check.name, asset=asset, description=describe(check.claim, check.number), partitions_def=TRADE_DATES
        )
        for check in checks
    ]


def _table_schema(*tables: schema.Table) -> dg.TableSchema:
    """Every column of the tables, as `table.column`."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                f"{table.name}.{column.name}",
                column.type,
                description=column.comment,
                constraints=dg.TableColumnConstraints(nullable=not column.required),
            )
            for table in tables
            for column in table.columns
        ]
    )


def table_metadata(name: str, *tables: schema.Table) -> dict[str, Any]:
    return {"dagster/column_schema": _table_schema(*tables), "dagster/table_name": f"tradier.main.{name}"}


def rows_table(rows: Sequence[object], columns: Sequence[str]) -> dg.TableMetadataValue:
    """The first rows as a table; all of them are in DuckDB."""
    return records_table([{name: getattr(row, name) for name in columns} for row in rows[:SHOWN_ROWS]], columns)


def records_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> dg.TableMetadataValue:
    """The first rows as a table, by column name."""
    return dg.MetadataValue.table(
        records=[dg.TableRecord({name: cell_text(row[name]) for name in columns}) for row in rows[:SHOWN_ROWS]],
        schema=dg.TableSchema(columns=[dg.TableColumn(name) for name in columns]),
    )


def check_result(outcome: Outcome, asset_key: dg.AssetKey) -> dg.AssetCheckResult:
    """The result in the UI: both figures, and the rows that differ if any do."""
    metadata: dict[str, Any] = {"broker": outcome.broker, "stored": outcome.stored}
    if outcome.differences:
        columns = ("where", "broker", "stored")
        rows = [dg.TableRecord({name: getattr(row, name) for name in columns}) for row in outcome.differences]
        table_schema = dg.TableSchema(columns=[dg.TableColumn(name) for name in columns])
        metadata["differences"] = dg.MetadataValue.table(records=rows, schema=table_schema)
        metadata["differing"] = outcome.differing
    return dg.AssetCheckResult(
        asset_key=asset_key,
        check_name=outcome.check,
        passed=outcome.passed,
        severity=dg.AssetCheckSeverity.ERROR if outcome.severity is Severity.FATAL else dg.AssetCheckSeverity.WARN,
        metadata=metadata,
    )
