"""The options that commands share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import click

from tradier_pipeline import clock

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


class _Day(click.ParamType):  # type: ignore[type-arg]
    """A date as YYYY-MM-DD; the value is the midnight that begins it."""

    name = "date"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "YYYY-MM-DD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return datetime.strptime(value, "%Y-%m-%d")  # noqa: DTZ007 - of a date alone
        except ValueError:
            self.fail(f"{value!r} does not match the format YYYY-MM-DD.", param, ctx)


class _Instant(click.ParamType):  # type: ignore[type-arg]
    """A date (the end of that New York day), or a date and time, New York's where no zone is named."""

    name = "instant"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "INSTANT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            read = datetime.fromisoformat(value)
            if len(value) <= len("2026-11-20"):
                read += timedelta(days=1)
            return (read if read.tzinfo else read.replace(tzinfo=clock.NEW_YORK)).astimezone(UTC)
        except (ValueError, OverflowError):  # of the last day that there is, or a time before the first
            self.fail(f"{value!r} is no date and no time like 2026-11-20T16:30.", param, ctx)


DAY = _Day()
KNOWN_AT = click.option(
    "--known-at",
    type=_Instant(),
    help="As it was known then: a date (its end) or 2026-11-20T16:30, New York. The first time takes a replay.",
)
OUTPUT = click.option("--output", "-o", type=click.Path(path_type=Path), help="File to write instead of stdout.")


def table(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that prints a table: `form` and `output`."""
    return FORMAT(OUTPUT(command))


def between(
    since: str, until: str, *, also: tuple[str, ...] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options `--since` and `--until`, dates in this order, with their help.

    Args:
        also: other names of both, if they have any.
    """

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def in_order(*args: Any, since: datetime | None, until: datetime | None, **others: Any) -> Any:
            if since and until and since > until:
                raise click.UsageError("--since is after --until")
            return command(*args, since=since, until=until, **others)

        until_option = click.option("--until", *also[1:], type=DAY, help=until)
        return click.option("--since", *also[:1], type=DAY, help=since)(until_option(in_order))

    return add
