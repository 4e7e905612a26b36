"""Tables for people: dollars with thousands, New York time, what matters first, and no value cut in two.

Exact values are in the exports. What a terminal has no room for is left out as whole columns, ids first, and named.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from tradier_pipeline import clock
from tradier_pipeline.cli import screen
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.outcome import shown
from tradier_pipeline.core.texts import printable

if TYPE_CHECKING:
    import duckdb

MAX_PIPED_ROWS = 9_999  # more are for programs, which want another format
MAX_SCREEN_ROWS = 1_000
FINER = ("snapshot", "hour")  # than a day
WRAPPED = 32  # characters; a longer text may stand in several lines
GAP = 2
MOST_NAMED = 3  # of the columns that have no room

# they name rows and join tables; nobody reads them first
_IDS = frozenset(
    {
        *("snapshot_id", "account_id", "environment", "position_id", "row_no", "spread_no", "leg_no", "leg_id"),
        *("content_key", "ordinal", "finding_id", "first_snapshot_id", "last_snapshot_id", "path", "sha256"),
    }
)
# of a statement: what is mostly nothing; of a day: all but its close
_DETAILS = frozenset(
    {
        *("dividends", "interest", "fees", "tax", "adjustments", "cash_close"),
        *("open", "high", "low", "snapshots", "last", "source"),
    }
)
_LEAD = frozenset({"as_of", "trade_date"})  # the same in every row of one snapshot
_NUMBER = re.compile(r"[-+]?[\d,]+(\.\d+)?( ?[%*])*|-|")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table on the screen: its texts, by row, and how it is laid out.

    `last`: where there is no room, the columns with the highest give way first. `profit`: green above zero, red below.
    """

    name: str
    texts: tuple[str, ...]
    right: bool
    last: int = 0
    values: tuple[Any, ...] = ()
    profit: bool = False

    @property
    def width(self) -> int:
        from rich.cells import cell_len

        return max(map(cell_len, (self.name, *self.texts)))

    @property
    def least(self) -> int:
        """The narrowest it can be without a number or a word being cut."""
        return self.width if self.right or self.width <= WRAPPED else max(WRAPPED, len(self.name))


def print_relation(connection: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation) -> None:
    """Print the rows of a relation of DuckDB.

    Raises:
        PipelineError: they are more than a file or another program gets as text.
    """
    on_screen = screen.is_terminal()
    most = MAX_SCREEN_ROWS if on_screen else MAX_PIPED_ROWS
    names, types = list(relation.columns), list(map(str, relation.types))
    money = _money_columns(connection)
    rows = relation.limit(most + 1).fetchall()
    if len(rows) > most:
        if not on_screen:
            raise _too_many(_count(relation))
        rows = rows[:most]
    columns = [
        _column(name, type_, [row[place] for row in rows], name in money)
        for place, (name, type_) in enumerate(zip(names, types, strict=True))
    ]
    # a query may show whatever the broker wrote: no colours, which nobody could tell from its own
    print_columns(columns, count=len(rows), colours=False)
    if len(rows) == most and on_screen:
        print_note(f"the first {most:,} rows; --format csv has all", colours=False)


def require_few(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Make sure that a query has no more rows than text may have, without fetching them.

    Raises:
        PipelineError: they are more than a file or another program gets as text.
    """
    if not screen.is_terminal() and (count := _count(connection.sql(query))) > MAX_PIPED_ROWS:
        raise _too_many(count)


def _count(relation: duckdb.DuckDBPyRelation) -> int:
    (count,) = relation.count("*").fetchone() or (0,)
    return int(count)


def _too_many(count: int) -> PipelineError:
    narrower = _narrower()
    fewer = f", or narrow it: {', '.join(narrower)}" if narrower else ""
    return PipelineError(f"{count:,} rows are too many for text", f"Choose --format csv, json or parquet{fewer}.")


def _narrower() -> list[str]:
    """What the command that runs has to show less: dates, and days instead of snapshots."""
    context = click.get_current_context(silent=True)
    if context is None:
        return []
    given = {option.opts[0]: context.params.get(option.name or "") for option in context.command.params}
    found = [name for name in ("--since", "--until") if name in given and not given[name]]
    return found + [f"{name} day" for name in ("--by", "--each") if given.get(name) in FINER]


def print_rows_of(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, profits: Sequence[str] = ()
) -> None:
    """Print chosen columns of rows: key -> header. Decimals are money, but those of a key `quantity` or `filled`."""
    print_columns(
        [
            _named(header, [row[key] for row in rows], profit=key in profits, money="quantity" not in key)
            for key, header in columns.items()
        ]
    )


def _named(header: str, values: Sequence[Any], *, profit: bool, money: bool) -> Column:
    numeric = all(isinstance(value, int | float | Decimal | None) for value in values)
    texts = tuple(
        screen.money(value, sign=profit)
        if money and isinstance(value, Decimal)
        else f"{value:z.0%}"
        if isinstance(value, float)
        else cell(value)
        for value in values
    )
    return Column(header, texts, numeric or _looks_numeric(texts), values=tuple(values), profit=profit)


def print_lines(lines: Sequence[Sequence[str]], indent: str, *, last: Sequence[str] = ()) -> None:
    """Print lines of texts under the first, which names the columns.

    Args:
        last: the columns that give way where there is no room, the last of them first.
    """
    header, *rows = ((f"{indent}{first}", *others) for first, *others in lines)
    named = zip(header, zip(*rows, strict=True), strict=True)
    columns = [
        Column(name, texts, right=place > 0, last=_rank(name, last)) for place, (name, texts) in enumerate(named)
    ]
    print_columns(columns, see="--json")


def _rank(name: str, last: Sequence[str]) -> int:
    return last.index(name) + 1 if name in last else 0


def print_columns(
    columns: Sequence[Column], *, count: int | None = None, see: str = "--format csv", colours: bool = True
) -> None:
    """Print columns beside each other, as many as there is room for, and name the others; then the count of rows."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = screen.width() if screen.is_terminal() else sys.maxsize
    fitting = _fitting(columns, width)
    colours = colours and screen.has_colours()
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold" if colours else "")
    for column in fitting:
        table.add_column(
            Text(printable(column.name)),
            justify="right" if column.right else "left",
            no_wrap=column.least == column.width,
            overflow="fold",
            min_width=column.least if column.least == column.width else None,
        )
    for number in range(len(columns[0].texts) if columns else 0):
        table.add_row(*(_text(column, number) for column in fitting))
    wide = min(width, sum(column.width + GAP for column in fitting) + GAP)
    console = Console(
        file=sys.stdout,
        width=max(1, wide),
        color_system="standard" if colours else None,
        force_terminal=colours,
        highlight=False,
        markup=False,
        emoji=False,
    )
    with console.capture() as captured:
        console.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    left_out = [column.name for column in columns if column not in fitting]
    notes = [screen.plural(count, "row")] if count is not None and count != 1 else []
    if left_out:
        named, more = left_out[:MOST_NAMED], len(left_out) - MOST_NAMED
        text = f"{', '.join(named)}{f' and {more} more' if more > 0 else ''}"
        notes.append(f"not shown here: {text}; {see} has all")
    if notes:
        print_note("; ".join(notes), colours=colours)


def print_note(text: str, *, colours: bool = True) -> None:
    """A line below a table that is no row of it, in whole words."""
    for line in screen.wrapped(text):
        sys.stdout.write(f"{screen.dim(line) if colours else line}\n")


def _text(column: Column, number: int) -> Any:
    from rich.text import Text

    amount = column.values[number] if column.profit and column.values else None
    style = "" if not amount or not screen.has_colours() else "green" if amount > 0 else "red"
    return Text(column.texts[number], style=style)


def _fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """The columns in their order, if all have room; else those that matter, and the others as far as there is room."""
    if sum(column.width + GAP for column in columns) - GAP <= width:
        return list(columns)
    room = width + GAP
    taken: list[Column] = []
    for column in sorted(columns, key=lambda one: one.last):
        if column.least + GAP <= room or not taken:
            taken.append(column)
            room -= column.least + GAP
    return taken


def _column(name: str, type_: str, values: Sequence[Any], is_money: bool) -> Column:
    money = is_money and type_.startswith("DECIMAL")
    profit = money and (name.endswith("_pl") or name in ("pnl", "gain_loss", "profit", "realized_pnl"))
    texts = tuple(screen.money(value) if money else cell(value) for value in values)
    return Column(
        name,
        texts,
        right=bool(re.match(r"DECIMAL|DOUBLE|FLOAT|U?(BIG|HUGE|SMALL|TINY)?INT", type_)) or _looks_numeric(texts),
        last=1 if name in _DETAILS else 2 * _gives_way(name, values),
        values=tuple(values),
        profit=profit,
    )


def _gives_way(name: str, values: Sequence[Any]) -> bool:
    """Ids, but for the account where there are several; and what is the same of all rows of a snapshot."""
    several = len(set(map(str, values))) > 1
    if name == "account_id":
        return not several
    return name in _IDS or (name in _LEAD and len(values) > 1 and not several)


def _looks_numeric(texts: Sequence[str]) -> bool:
    return any(texts) and all(_NUMBER.fullmatch(text) for text in texts)


def cell(value: Any) -> str:
    """A value as a person reads it; of a text its characters, none that a terminal would obey."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case Decimal():
            return _exact(value)
        case float():
            return f"{value:,.4f}".rstrip("0").rstrip(".") if abs(value) >= 0.0001 or not value else f"{value:.3g}"
        case datetime() if value.tzinfo:
            return screen.when(value)
        case datetime() | date():
            return value.isoformat(*(" ",) if isinstance(value, datetime) else ())
        case list() | dict() | tuple():
            return printable(json.dumps(value, default=lambda inner: cell(inner), ensure_ascii=False))
        case _:
            return printable(str(value))


def _exact(value: Decimal) -> str:
    text = shown(value)
    whole, _, fraction = text.partition(".")
    grouped = f"{int(whole):,}" if whole.lstrip("-") else whole
    sign = "-" if whole.startswith("-") and not grouped.startswith("-") else ""
    return f"{sign}{grouped}{f'.{fraction}' if fraction else ''}"


def _money_columns(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """The names that the schema says are USD everywhere."""
    found = connection.execute(
        "SELECT column_name FROM duckdb_columns() WHERE database_name = 'tradier' AND comment IS NOT NULL "
        "GROUP BY column_name HAVING bool_and(comment LIKE 'USD%')"
    ).fetchall()
    return frozenset(name for (name,) in found)


def in_new_york(connection: duckdb.DuckDBPyConnection) -> None:
    """Times that SQL itself turns into text are New York's."""
    connection.execute(f"SET TimeZone = '{clock.NEW_YORK.key}'")
