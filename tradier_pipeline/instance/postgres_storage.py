"""Dagster's PostgreSQL storage; a deleted run leaves nothing behind, and the UI knows the partitions of checks."""

from __future__ import annotations

from dagster._serdes import ConfigurableClassData
from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.storage import DagsterPostgresStorage

from tradier_pipeline.instance.event_log import CompleteEventLog
from tradier_pipeline.instance.postgres import driver_url


class CompletePostgresEventLog(CompleteEventLog, PostgresEventLogStorage):
    """Dagster's event log in PostgreSQL."""


class PostgresStorage(DagsterPostgresStorage):
    """Dagster's storage in the database of a URL."""

    def __init__(self, url: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(driver_url(url), inst_data=inst_data)
        self._event_log_storage = CompletePostgresEventLog(driver_url(url))
