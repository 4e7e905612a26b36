"""The Dagster instance of a home: its settings and its first start."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.files import exclusive, make_directory, write_whole, writing
from tradier_pipeline.core.settings import read_dagster_storage

if TYPE_CHECKING:
    from dagster import DagsterInstance

OPENING_TIMEOUT_S = 30.0
DAMAGED = (
    "Move that directory aside: the run history begins anew; no snapshot is lost, they are in tradier.duckdb and raw/."
)
REMEDIES = {
    "is full": "Free some space on its disk.",
    "is locked": "End the program that holds it; `tradier-pipeline up` and the command line share it.",
    "readonly": "Make that directory one you may write to.",
    "unable to open": "Make that directory one you may write to.",
    "disk I/O": "Look at its disk.",
}
MANAGED = "# Managed by tradier-pipeline"


class InstanceError(PipelineError):
    """The Dagster instance of a home cannot be opened."""


class StorageError(InstanceError):
    """Dagster's databases cannot be used: full, locked, truncated, or no databases."""


def open_instance(dagster_home: Path) -> DagsterInstance:
    """The Dagster instance under `dagster_home`, created if need be, whatever DAGSTER_HOME says.

    Opening is serialised: two processes that create the SQLite storage at once can leave it unusable.

    Raises:
        FileError: the directory cannot be written.
        InstanceError: the user's own settings are not what Dagster accepts.
        StorageError: its databases are full, locked, truncated or no databases.
    """
    from dagster import DagsterInstance, DagsterInvalidConfigError

    with writing(dagster_home):
        make_directory(dagster_home)
        with (
            exclusive(dagster_home / ".opening.lock", OPENING_TIMEOUT_S, f"{dagster_home} is being opened"),
            _environment("DAGSTER_HOME", str(dagster_home)),
        ):
            path = dagster_home / "dagster.yaml"
            _write_settings(path)
            try:
                return DagsterInstance.get()
            except DagsterInvalidConfigError as error:
                raise _malformed(path, error.errors[0].message) from None
            except Exception as error:
                if (reported := storage_error(error, dagster_home)) is not None:
                    raise reported from None
                if path.read_text(encoding="utf-8", errors="replace") == _settings():
                    raise
                raise _malformed(path, " ".join(str(error).split())) from None


def check_storage(dagster_home: Path) -> None:
    """Open the instance once and look into each of its databases.

    Raises:
        StorageError: one of them cannot be used.
    """
    with open_instance(dagster_home) as instance:
        try:
            instance.get_runs_count()
            instance.all_instigator_state()
            instance.has_dynamic_partition("tradier_snapshots", "")
        except Exception as error:
            if (reported := storage_error(error, dagster_home)) is None:
                raise
            raise reported from None


def storage_error(error: BaseException, dagster_home: Path) -> StorageError | None:
    """What is wrong with Dagster's databases if it is that which an error is about, in one line."""
    from alembic.util import CommandError
    from sqlalchemy.exc import SQLAlchemyError

    if isinstance(error, StorageError):
        return error
    chain: BaseException | None = error
    while chain is not None and not isinstance(chain, SQLAlchemyError | sqlite3.Error | CommandError):
        chain = chain.__cause__ or chain.__context__
    if chain is None:
        return None
    return explained(str(getattr(chain, "orig", None) or chain).splitlines()[0], dagster_home)


def unusable(url: str, reason: str) -> StorageError:
    """What PostgreSQL says of the database, with a remedy; without the password."""
    parts = urlsplit(url)
    place = f"{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"
    return StorageError(
        f"Dagster's storage at {place} cannot be used: {reason}",
        "Start that server, or correct TRADIER_DAGSTER_STORAGE.",
    )


def explained(text: str, dagster_home: Path) -> StorageError:
    """What SQLite says of one of Dagster's databases, with a remedy; or PostgreSQL of the one that is set."""
    if url := read_dagster_storage():
        return unusable(url, text)
    remedy = next((remedy for words, remedy in REMEDIES.items() if words in text), DAMAGED)
    return StorageError(f"Dagster's storage in {dagster_home} cannot be used: {text}", remedy)


def in_temporary_home() -> bool:
    """Whether `dagster dev` was started without DAGSTER_HOME: it makes one, and removes it when it ends."""
    return bool(os.environ.get("DAGSTER_IS_DEV_CLI")) and not os.environ.get("DAGSTER_HOME")


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set a variable for a while: the caller's process may have a Dagster of its own."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _malformed(path: Path, reason: str) -> InstanceError:
    return InstanceError(f"{path}: {reason[:200]}", "Correct it, or delete it: it is written anew.")


def _settings() -> str:
    return files("tradier_pipeline.instance").joinpath("dagster.yaml").read_text(encoding="utf-8")


def _write_settings(path: Path) -> None:
    """Keep the instance settings current, unless the user has taken them over by removing the first line.

    What a power failure left of them is ours as well: of an empty file Dagster would take other storages and launchers.
    """
    ours = _settings()
    theirs = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    managed = theirs.startswith(MANAGED) or MANAGED.startswith(theirs.strip("\0\r\n "))
    if managed and theirs != ours:
        write_whole(path, ours.encode())
