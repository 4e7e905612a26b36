"""The PostgreSQL database that Dagster's storage may be kept in, looked at without Dagster and in a moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from tradier_pipeline.instance import InstanceError, StorageError, unusable

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812 - a class

CONNECT_TIMEOUT_S = 5
_STOPPED = """
    SELECT DISTINCT instigator_body::json -> 'origin' ->> 'job_name' AS name FROM instigators
    WHERE instigator_type = 'SCHEDULE' AND status = %s ORDER BY name
"""


def driver_url(url: str) -> str:
    """The URL with the driver that Dagster's own listens by: SQLAlchemy 2.1 takes psycopg 3 where none is named."""
    return f"postgresql+psycopg2://{url.partition('://')[2]}"


def reason_of(url: str) -> str | None:
    """What keeps the database from being written now, in one line; None: nothing."""
    try:
        with connected(url) as connection, connection.cursor() as cursor:
            cursor.execute("SHOW transaction_read_only")
            return "it can only be read" if cursor.fetchone() == ("on",) else None
    except StorageError as error:
        return error.cause


def schedules_with(url: str, status: str) -> tuple[str, ...]:
    """The names of the schedules with a status.

    Raises:
        StorageError: they cannot be read.
    """
    with connected(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('instigators')")
        if cursor.fetchone() == (None,):  # nobody has opened it yet
            return ()
        cursor.execute(_STOPPED, (status,))
        return tuple(name for (name,) in cursor.fetchall())


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A connection for a moment.

    Raises:
        InstanceError: what reads PostgreSQL is not installed.
        StorageError: the server does not answer, refuses, or fails.
    """
    try:
        import psycopg2  # an extra
    except ImportError:
        raise InstanceError(
            "TRADIER_DAGSTER_STORAGE needs the package dagster-postgres",
            "Run: pip install 'tradier-pipeline[postgres]'.",
        ) from None
    try:
        target = f"postgresql://{url.partition('://')[2]}"
        with closing(psycopg2.connect(target, connect_timeout=CONNECT_TIMEOUT_S)) as connection:
            yield connection
    except psycopg2.Error as error:
        raise unusable(url, " ".join(str(error).split())[:200]) from None
