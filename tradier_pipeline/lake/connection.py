"""A connection to the lake: DuckDB's extensions, secrets that no error shows, and the lock of the deployment."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

import duckdb
from dotenv import dotenv_values

from tradier_pipeline.core.dotenv import SettingsError
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import LAKE_PREFIX, Settings
from tradier_pipeline.core.sources import started_in
from tradier_pipeline.warehouse.sql import literal

ALIAS: Final = "lake"  # of one who ships; a reader attaches the lake by the name that a home has
LOCK: Final = "deployment"
EXTENSIONS: Final = ("postgres_scanner", "ducklake")
INLINED_ROWS: Final = 1000  # an insert of fewer rows lies in the catalog until the nightly flush
CONNECT_TIMEOUT_S: Final = "10"
CREATE_WAIT_S: Final = 60.0
NOT_THERE: Final = "creating a new DuckLake is explicitly disabled"
LOCK_KEY: Final = 0x7472_6164_6965  # of PostgreSQL's advisory lock, in the database of the catalog
# a machine that is gone without a word loses the lock within half a minute
LOCK_OPTIONS: Final = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "idle_in_transaction_session_timeout": "10min",
}
_OF_SECRET: Final = {
    "host": "HOST",
    "port": "PORT",
    "user": "USER",
    "password": "PASSWORD",
    "dbname": "DATABASE",
}
_S3: Final = ("key_id", "secret", "session_token", "region", "endpoint", "url_style", "use_ssl")
_S3_SCHEMES: Final = ("s3://", "r2://", "gcs://")


class LakeError(PipelineError):
    """The lake cannot be reached, read or written."""


class UnavailableError(LakeError):
    """PostgreSQL, the object store or DuckDB refused; it may be another part, or another text, the next time."""


class NoLakeError(LakeError):
    """Nothing has been shipped to it yet."""


@dataclass(frozen=True, slots=True)
class Lake:
    """Where the lake is.

    Attributes:
        catalog: connection parameters of PostgreSQL, by libpq's names; has the password.
        data: the directory, or the address in an object store, of its Parquet files.
        s3: parameters of DuckDB's S3 secret, by its names; has the key.
    """

    catalog: Mapping[str, str] = field(repr=False)
    data: str
    s3: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def place(self) -> str:
        """Where its catalog is, for people."""
        catalog = self.catalog
        return f"{catalog.get('dbname', '')}@{catalog.get('host', 'localhost')}:{catalog.get('port', '5432')}"

    def redacted(self, text: str) -> str:
        """A text without any secret of the lake."""
        secrets = [self.catalog.get("password"), *(self.s3.get(name) for name in ("secret", "session_token"))]
        for secret in filter(None, secrets):
            text = text.replace(secret, "***")
        return text


def lake_of(settings: Settings) -> Lake:
    """The lake that is configured.

    Raises:
        SettingsError: none is, or the file of the object store's key cannot be read.
    """
    if settings.lake is None or settings.lake_data is None:
        raise SettingsError("TRADIER_LAKE is not set", "Set it to ducklake:postgres:..., and TRADIER_LAKE_DATA.")
    catalog = settings.lake.get_secret_value().removeprefix(LAKE_PREFIX)
    data = settings.lake_data
    place = data if "://" in data else f"{started_in(os.environ) / Path(data).expanduser()}/"
    return Lake(conninfo(catalog), place, _s3(settings.lake_s3_file))


def conninfo(text: str) -> dict[str, str]:
    """What a connection string of PostgreSQL says, a URI or `key=value ...`.

    Raises:
        SettingsError: it is neither.
    """
    malformed = SettingsError(
        "TRADIER_LAKE is malformed",
        "Set it to ducklake:postgres:host=... dbname=..., or ducklake:postgres:postgresql://...",
    )
    try:
        if text.startswith(("postgresql://", "postgres://")):
            parts = urlsplit(text)
            named = {"host": parts.hostname, "port": str(parts.port or ""), "dbname": parts.path.removeprefix("/")}
            named |= {"user": unquote(parts.username or ""), "password": unquote(parts.password or "")}
            return {key: value for key, value in (named | dict(parse_qsl(parts.query))).items() if value}
        return dict(_pair(word) for word in shlex.split(text))
    except ValueError:
        raise malformed from None


def _pair(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals:
        raise ValueError(word)
    return key, value


def _s3(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    path = started_in(os.environ) / path
    if not path.is_file():
        raise SettingsError(f"TRADIER_LAKE_S3_FILE: there is no file {path}", "Set it to a file of lines NAME=value.")
    found = {name.lower(): value for name, value in dotenv_values(path).items() if value}
    if unknown := sorted(set(found) - set(_S3)):
        raise SettingsError(f"{path} sets {unknown[0]}, which is not known", f"Known are {', '.join(_S3)}.")
    return found


def open_lake(lake: Lake, alias: str = ALIAS, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """A connection in UTC with the lake attached.

    Raises:
        LakeError: an extension is not there, or PostgreSQL does not answer.
    """
    os.environ.setdefault("PGCONNECT_TIMEOUT", CONNECT_TIMEOUT_S)  # libpq waits for minutes by default
    connection = duckdb.connect(":memory:")
    try:
        load_extensions(connection, EXTENSIONS + (("httpfs",) if lake.data.startswith(_S3_SCHEMES) else ()))
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        # a commit that another one came before is never tried again by itself: it has looked at what was there before
        connection.execute("SET ducklake_max_retry_count = 0")
        with explained(lake):
            attach(connection, lake, alias, read_only=read_only)
    except BaseException:
        connection.close()
        raise
    return connection


def attach(connection: duckdb.DuckDBPyConnection, lake: Lake, alias: str, *, read_only: bool) -> None:
    """Attach the lake; its secrets are where no error and no view of DuckDB shows them.

    One that is not there yet is made, unless it is to be read only, by one machine alone.
    """
    parameters = ", ".join(
        f"{_OF_SECRET[key]} {literal(value)}" for key, value in lake.catalog.items() if key in _OF_SECRET
    )
    connection.execute(f"CREATE OR REPLACE TEMPORARY SECRET lake_catalog (TYPE postgres, {parameters})")
    if lake.s3:
        keys = ", ".join(f"{name} {literal(value)}" for name, value in lake.s3.items())
        connection.execute(f"CREATE OR REPLACE TEMPORARY SECRET lake_data (TYPE s3, {keys})")
    options = ["META_SECRET 'lake_catalog'"]
    options += ["READ_ONLY"] if read_only else [f"DATA_INLINING_ROW_LIMIT {INLINED_ROWS}"]
    place = f"{literal(f'ducklake:postgres:{_other(lake)}')} AS {alias}"
    try:
        connection.execute(f"ATTACH {place} ({', '.join([*options, 'CREATE_IF_NOT_EXISTS false'])})")
    except duckdb.InvalidInputException as error:
        if read_only or NOT_THERE not in str(error):
            raise
        with alone(connection, lake, CREATE_WAIT_S):
            connection.execute(f"ATTACH {place} ({', '.join([*options, f'DATA_PATH {literal(lake.data)}'])})")


def _other(lake: Lake) -> str:
    """What the secret has no place for, such as sslmode."""
    return " ".join(f"{key}={shlex.quote(value)}" for key, value in lake.catalog.items() if key not in _OF_SECRET)


def load_extensions(connection: duckdb.DuckDBPyConnection, names: tuple[str, ...]) -> None:
    """Load extensions from the packages that the extra `lake` installs, else those that DuckDB itself has installed.

    Raises:
        LakeError: one is in neither place.
    """
    for name in names:
        path = packaged(name)
        try:
            connection.execute(f"LOAD {literal(str(path)) if path else name}")
        except duckdb.Error as error:
            raise LakeError(
                f"DuckDB {duckdb.__version__} cannot load its extension {name}: {str(error).splitlines()[0][:200]}",
                "Install tradier-pipeline[lake]: its versions fit together.",
            ) from None


def packaged(name: str) -> Path | None:
    """The file of an extension for this DuckDB, as its wheel installs it; None if it is not there."""
    found = find_spec(f"duckdb_extension_{name}")
    for place in (found.submodule_search_locations or ()) if found else ():
        path = Path(place) / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        if path.is_file():
            return path
    return None


@contextmanager
def explained(lake: Lake) -> Iterator[None]:
    """Turn what DuckDB and PostgreSQL refuse into one line with a remedy, and without a secret."""
    try:
        yield
    except duckdb.Error as error:
        if NOT_THERE in str(error):
            raise NoLakeError(
                f"there is nothing in the lake {lake.place} yet", "Ship something: `tradier-pipeline lake ship`."
            ) from None
        text = " ".join(lake.redacted(str(error)).split("Stack Trace")[0].split())[:600].rstrip(" .")
        raise UnavailableError(
            f"the lake {lake.place} cannot be used: {text}",
            "Snapshots go on without it; what is published meanwhile is shipped once it answers.",
        ) from None


@contextmanager
def alone(connection: duckdb.DuckDBPyConnection, lake: Lake, wait_s: float) -> Iterator[None]:
    """Hold the lock of the deployment: nobody else commits to the lake meanwhile.

    PostgreSQL lets go of it when the holder dies, and takes it from a machine that is gone without a word.

    Raises:
        LakeError: another one has held it for `wait_s` seconds, or PostgreSQL does not answer.
    """
    holding = connection.cursor()  # a transaction of its own, beside the one that commits
    try:
        holding.execute(f"ATTACH IF NOT EXISTS {literal(_other(lake))} AS {LOCK} (TYPE postgres, SECRET lake_catalog)")
        holding.execute("BEGIN")
        options = LOCK_OPTIONS | {"lock_timeout": f"{int(wait_s * 1000)}ms"}
        configured = ", ".join(
            f"set_config({literal(name)}, {literal(value)}, false) AS {name}" for name, value in options.items()
        )
        query = f"SELECT {configured}, pg_advisory_xact_lock({LOCK_KEY})::text AS lock"
        try:
            holding.execute(f"FROM postgres_query({literal(LOCK)}, {literal(query)})").fetchall()
        except duckdb.Error as error:
            if "lock timeout" not in str(error):
                raise
            raise LakeError(
                f"another machine has been committing to the lake {lake.place} for {wait_s:.0f} s", "Wait for it."
            ) from None
        yield
    finally:
        with suppress(duckdb.Error):
            holding.execute("ROLLBACK")
        holding.close()
