"""The options that commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document; decimals are strings.")


ACCOUNT = click.option("--account", metavar="NUMBER", help="Account number. Default: those of TRADIER_ACCOUNT_ID.")


ONLY_ACCOUNT = click.option("--account", metavar="NUMBER", help="Only this account number.")


FORMAT = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "csv", "json", "parquet"]),
    default="text",
    help="A table for people, or every row and column for programs; in json decimals are strings.",
)


BENCHMARK = click.option(
    "--benchmark",
    metavar="SYMBOL",
    callback=lambda _, __, symbol: "" if symbol and symbol.lower() == "off" else symbol,
    help="Compare with this symbol, such as SPY; off: with none. Default: that of TRADIER_BENCHMARK.",
)


OUTPUT = click.option("--output", "-o", type=click.Path(path_type=Path), help="File to write instead of stdout.")


def table(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that prints a table: `form` and `output`."""
    return FORMAT(OUTPUT(command))
