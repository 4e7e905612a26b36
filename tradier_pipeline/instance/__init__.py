"""The Dagster instance of a home: its settings and its first start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from tradier_pipeline.errors import PipelineError
from tradier_pipeline.landing import writing

if TYPE_CHECKING:
    from dagster import DagsterInstance

MANAGED = "# Managed by tradier-pipeline"


class InstanceError(PipelineError):
    """The Dagster instance of a home cannot be opened."""


def open_instance(dagster_home: Path) -> DagsterInstance:
    """The Dagster instance under `dagster_home`, created if need be, whatever DAGSTER_HOME says.

    Opening is serialised: two processes that create the SQLite storage at once can leave it unusable.

    Raises:
        LandingError: the directory cannot be written.
        InstanceError: the user's own settings are not what Dagster accepts.
    """
    from dagster import DagsterInstance, DagsterInvalidConfigError

    with writing(dagster_home):
        dagster_home.mkdir(parents=True, exist_ok=True)
        with FileLock(dagster_home / ".opening.lock"), _environment("DAGSTER_HOME", str(dagster_home)):
            path = dagster_home / "dagster.yaml"
            _write_settings(path)
            try:
                return DagsterInstance.get()
            except DagsterInvalidConfigError as error:
                reason = error.errors[0].message[:200]
                raise InstanceError(f"{path}: {reason}", "Correct it, or delete it: it is written anew.") from None


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


def _write_settings(path: Path) -> None:
    """Keep the instance settings current, unless the user has taken them over by removing the first line."""
    ours = files("tradier_pipeline.instance").joinpath("dagster.yaml").read_text(encoding="utf-8")
    theirs = path.read_text(encoding="utf-8") if path.exists() else MANAGED
    if theirs.startswith(MANAGED) and theirs != ours:
        path.write_text(ours, encoding="utf-8")
