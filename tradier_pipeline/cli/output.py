"""What every command prints: lines, tables, documents. An error is one line on stderr, or the document of --json."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from datetime import date, datetime
from decimal import Decimal
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from tradier_pipeline import clock
from tradier_pipeline.cli import screen
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.outcome import shown
from tradier_pipeline.core.settings import Settings, load_settings
from tradier_pipeline.core.texts import printable

if TYPE_CHECKING:
    import duckdb


UNSTORED_EVENT = "Exception while writing logger call to event log"  # begins Dagster
INDENT = "  "  # of a line that goes on


def echo(*values: object, flush: bool = False) -> None:
    """One line on stdout. What it quotes may be the broker's text: it stays in the line and does nothing to the
    terminal."""
    click.echo(printable(" ".join(map(str, values))))
    if flush:
        sys.stdout.flush()


def styled(text: str) -> None:
    """One line on stdout that may be coloured; what it quotes is printable by itself."""
    click.echo(text, color=True)  # whether there are colours was decided by who styled it


def warn(text: str) -> None:
    """One line on stderr; on a terminal that is too narrow several, in whole words."""
    click.echo("\n".join(screen.wrapped(text, sys.stderr, indent=INDENT)), err=True)


class _WithoutDagstersLines(io.TextIOBase):
    """A stream without what Dagster's log writes straight to stderr of events that it cannot store: that the run
    history lacks them is said in one line of ours."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return len(text) if text.startswith(UNSTORED_EVENT) else self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()


@contextmanager
def without_dagsters_lines() -> Iterator[None]:
    """Within, Dagster does not say of each event that it cannot be stored."""
    with redirect_stderr(_WithoutDagstersLines(sys.stderr)):
        yield


_DECIMAL = re.compile(r"DECIMAL\(\d+,\d+\)")


def report_errors(command: Callable[..., int | None]) -> Callable[..., None]:
    """Turn an expected failure into one line (or, with --json, one document) and exit code 1."""

    @wraps(command)
    def run(**arguments: Any) -> None:
        try:
            code = command(**arguments) or 0
        except PipelineError as error:
            print_error(error, as_json=arguments.get("as_json", False))
            code = 1
        sys.stdout.flush()
        sys.exit(code)

    return run


def with_settings(command: Callable[..., int | None]) -> Callable[..., None]:
    """Hand the settings to a command as its first argument, read once; and `report_errors`."""

    @wraps(command)
    def run(**arguments: Any) -> int | None:
        return command(read_settings(), **arguments)

    return report_errors(run)


def read_settings() -> Settings:
    """The settings; what the user ought to know of where they are from is reported on stderr."""
    settings = load_settings()
    for notice in settings.notices:
        warn(f"tradier-pipeline: warning: {notice}.")
    return settings


def _write_text(text: str, output: Path | None) -> None:
    if output is None:
        if sys.stdout.isatty():
            for line in text.splitlines():
                echo(line)
            return
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PipelineError(f"cannot write {output}: {error.strerror}", "Choose another --output.") from None


def signed(amount: Decimal | None) -> str:
    return "-" if amount is None else f"{amount:+,.2f}"


def print_error(error: PipelineError, *, as_json: bool) -> None:
    outcomes = getattr(error, "outcomes", ())
    if as_json:
        print_json({"error": {"cause": error.cause, "remedy": error.remedy}, "checks": checks_document(outcomes)})
    else:
        print_checks([outcome for outcome in outcomes if not outcome.passed])
    warn(f"tradier-pipeline: error: {error}")


def print_checks(outcomes: Any) -> None:
    for outcome in outcomes:
        mark = ("ok  " if outcome.judged else "-   ") if outcome.passed else "FAIL" if outcome.blocks else "warn"
        _echo_wrapped(f"  {mark} {outcome.check:<28} broker: {outcome.broker}; stored: {outcome.stored}")
        for difference in outcome.differences:
            _echo_wrapped(f"         {difference.where}: broker {difference.broker}, stored {difference.stored}")
        if outcome.differing > len(outcome.differences):
            echo(f"         and {outcome.differing - len(outcome.differences)} more")


def _echo_wrapped(text: str) -> None:
    click.echo("\n".join(screen.wrapped(text, indent=" " * 9)))


def checks_document(outcomes: Any) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from tradier_pipeline.verify.claims import CLAIM_OF

    return [asdict(outcome) | {"claim_name": CLAIM_OF[outcome.check].name} for outcome in outcomes]


def print_query(connection: duckdb.DuckDBPyConnection, sql: str, form: str, output: Path | None) -> None:
    import duckdb

    from tradier_pipeline.warehouse.reads import of_sealed

    with tempfile.TemporaryDirectory() as directory:
        result = Path(directory) / "result"
        try:
            _confine(connection, directory)
            query = _only_query(connection, sql)
            if form == "text":
                from tradier_pipeline.cli.tables import print_relation

                print_relation(connection, connection.sql(query))
                return
            options = {"csv": "FORMAT csv, HEADER", "json": "FORMAT json, ARRAY", "parquet": "FORMAT parquet"}[form]
            selected = _exact_in_json(connection, query) if form == "json" else f"FROM (\n{query}\n)"
            connection.execute(f"COPY ({selected}) TO '{result}' ({options})")
        except duckdb.Error as error:
            raise of_sealed(error) or _of_sql(error) from None
        if output is None:
            sys.stdout.flush()
            if sys.stdout.isatty():
                for line in result.read_text(encoding="utf-8", errors="replace").splitlines():
                    echo(line)
                return
            sys.stdout.buffer.write(result.read_bytes())
            return
        try:
            shutil.copyfile(result, output)
        except OSError as error:
            raise PipelineError(f"cannot write {output}: {error.strerror}", "Choose another --output.") from None


def print_rows(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]], form: str, output: Path | None) -> None:
    """Rows as `print_query` prints those of a query.

    Args:
        columns: name -> DuckDB type; what else a row has is left out.
    """
    import duckdb

    from tradier_pipeline.warehouse.schema import Column, Table, ddl
    from tradier_pipeline.warehouse.staging import insert

    printed = Table("printed", "", tuple(Column(name, type_, "") for name, type_ in columns.items()))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(ddl(printed))
        insert(connection, printed, [{name: row.get(name) for name in columns} for row in rows])
        print_query(connection, "FROM printed", form, output)


def _of_sql(error: duckdb.Error) -> PipelineError:
    """What DuckDB says of a query, with what it suggests."""
    first, *others = (line.strip() for line in str(error).splitlines())
    suggested = next((line.rstrip(".") for line in others if line.startswith(("Did you mean", "Candidate"))), "")
    known = "See `tradier-pipeline tables` and `tradier-pipeline describe TABLE`."
    end = "" if not suggested or suggested.endswith("?") else "."
    return PipelineError(first.rstrip("!."), f"{suggested}{end} {known}".lstrip())


def _exact_in_json(connection: duckdb.DuckDBPyConnection, query: str) -> str:
    """The query with decimals, also those in lists and structures, as text: readers of JSON make them floats."""
    columns = []
    relation = connection.sql(query)
    for place, (name, type_) in enumerate(zip(relation.columns, relation.types, strict=True), 1):
        as_text = _DECIMAL.sub("VARCHAR", str(type_))
        cast = f"::{as_text}" if as_text != str(type_) else ""
        columns.append(f'#{place}{cast} AS "{name.replace(chr(34), chr(34) * 2)}"')
    return f"SELECT {', '.join(columns)} FROM (\n{query}\n)"  # noqa: S608


def _confine(connection: duckdb.DuckDBPyConnection, directory: str) -> None:
    """From here on SQL reaches the warehouse, its sealed months and this directory, no other file and no network."""
    from tradier_pipeline.warehouse import sealed
    from tradier_pipeline.warehouse.sql import literal

    query = "SELECT count(*) FROM duckdb_databases() WHERE database_name = 'tradier' AND type = 'ducklake'"
    of_lake: list[str] = []
    if connection.execute(query).fetchone() == (1,):
        query = "SELECT value FROM ducklake_options('tradier') WHERE option_name = 'data_path'"
        of_lake = [path for (path,) in connection.execute(query).fetchall()]
    allowed = ", ".join(map(literal, [directory, *sealed.directories(connection), *of_lake]))
    connection.execute(f"SET allowed_directories = [{allowed}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


_WRITES = frozenset(
    {
        *("INSERT", "UPDATE", "DELETE", "MERGE_INTO", "CREATE", "CREATE_FUNC", "DROP", "ALTER", "COPY", "EXPORT"),
        *("COPY_DATABASE", "VACUUM", "ATTACH", "DETACH"),
    }
)
_TEMPORARY = re.compile(r"\s*CREATE\s+(OR\s+REPLACE\s+)?TEMP", re.IGNORECASE)


def _is_temporary(statement: duckdb.Statement) -> bool:
    """Whether it makes what goes away with the connection."""
    return _TEMPORARY.match(statement.query) is not None


def _only_query(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The one statement of the text that returns rows; what precedes it (temporary tables) is run."""
    import duckdb

    statements = connection.extract_statements(sql)
    for statement in statements:
        if statement.type.name in _WRITES and not _is_temporary(statement):
            raise PipelineError(
                f"query is read-only, and {statement.type.name} would change something", "Write one SELECT or FROM."
            )
    rows_only = [duckdb.ExpectedResultType.QUERY_RESULT]
    queries = [statement for statement in statements if statement.expected_result_type == rows_only]
    if len(queries) != 1 or queries != statements[-1:]:
        raise PipelineError("the SQL is not one query", "Write one SELECT or FROM.")
    for statement in statements[:-1]:
        connection.execute(statement)
    return queries[0].query.rstrip("; \n")


def print_json(document: dict[str, Any]) -> None:
    click.echo(json.dumps(document, indent=1, default=_to_json))  # its own escaping leaves nothing but ASCII


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return clock.iso(value)
    if isinstance(value, Decimal):
        return shown(value)
    if isinstance(value, date | Path):
        return str(value)
    raise TypeError(type(value).__name__)
