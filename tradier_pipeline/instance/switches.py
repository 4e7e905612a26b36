"""Which schedules were switched off in the UI: their code says on, and only Dagster's storage knows better."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import read_dagster_storage
from tradier_pipeline.instance import InstanceError
from tradier_pipeline.instance.postgres import schedules_with

if TYPE_CHECKING:
    from dagster import DagsterInstance
    from dagster._core.scheduler.instigation import InstigatorState

_STOPPED = "STOPPED"
_QUERY = """
    SELECT DISTINCT json_extract(instigator_body, '$.origin.job_name') AS name FROM instigators
    WHERE instigator_type = 'SCHEDULE' AND status = ? ORDER BY name
"""


class SwitchesError(PipelineError):
    """Dagster's storage cannot be read."""


def stopped_schedules(instance: DagsterInstance) -> tuple[str, ...]:
    """The names of the schedules that are switched off, for whoever has an instance."""
    return tuple(sorted({one.instigator_name for one in instance.all_instigator_state() if _is_stopped_schedule(one)}))


def read_stopped_schedules(dagster_home: Path) -> tuple[str, ...]:
    """The same from the databases alone: in a moment, and without touching anything.

    Raises:
        SwitchesError: they cannot be read.
    """
    if url := read_dagster_storage():
        try:
            return schedules_with(url, _STOPPED)
        except InstanceError as error:
            raise SwitchesError(error.cause, error.remedy) from None
    path = dagster_home / "schedules" / "schedules.db"
    if not path.exists():
        return ()
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return tuple(name for (name,) in connection.execute(_QUERY, (_STOPPED,)))
    except sqlite3.Error as error:
        raise SwitchesError(
            f"{path} does not tell which cycles are switched off: {error}",
            "Look under Automation in the UI; if it does not start, move the directory `dagster` aside.",
        ) from None


def _is_stopped_schedule(state: InstigatorState) -> bool:
    return state.status.value == _STOPPED and state.instigator_type.value == "SCHEDULE"
