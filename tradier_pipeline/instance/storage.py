"""Dagster's storage: a PostgreSQL database where one is set, else SQLite files.

Of SQLite all events are in one database, and connections are kept open.

Dagster's default makes a database for every run, which stays for ever, stores most events twice, and opens a new
engine for every event: 0.6 MB and 2.5 s for 125 events, against 0.25 MB and 0.7 s with these
classes. Tables and behaviour are Dagster's own, but that a deleted run leaves nothing behind.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log.polling_event_watcher import SqlPollingEventWatcher
from dagster._core.storage.event_log.sqlite.consolidated_sqlite_event_log import ConsolidatedSqliteEventLogStorage
from dagster._core.storage.runs.schema import RunTagsTable
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sql import create_engine
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS, create_db_conn_string
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, event, inspect
from sqlalchemy.pool import QueuePool

from tradier_pipeline.core.settings import read_dagster_storage
from tradier_pipeline.instance.event_log import CompleteEventLog

EventCallback = Callable[[EventLogEntry, str], None]


class PooledEventLogStorage(CompleteEventLog, ConsolidatedSqliteEventLogStorage):
    """Dagster's event log in one file, on kept connections."""

    _tables: frozenset[str] = frozenset()

    @cached_property
    def _engine(self) -> Engine:
        return _pooled_engine(self._conn_string)

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        with self._engine.connect() as connection, connection.begin():
            yield connection

    def has_table(self, table_name: str) -> bool:
        # asked of the same tables for every event, each time by a new engine: what there is, stays
        if table_name not in self._tables:
            self._tables = frozenset(inspect(self._engine).get_table_names())
        return table_name in self._tables

    @cached_property
    def _watcher(self) -> SqlPollingEventWatcher:
        # Dagster watches the file, which a kept write-ahead log changes too rarely for the live view of a run
        return SqlPollingEventWatcher(self)

    def watch(self, run_id: str, cursor: str | None, callback: EventCallback) -> None:
        self._watcher.watch_run(run_id, cursor, callback)

    def end_watch(self, run_id: str, handler: EventCallback) -> None:
        self._watcher.unwatch_run(run_id, handler)

    def dispose(self) -> None:
        if "_watcher" in self.__dict__:
            self._watcher.close()
        self._engine.dispose()


class PooledRunStorage(SqliteRunStorage):
    """Dagster's run storage on kept connections."""

    @classmethod
    def from_local(cls, base_dir: str, inst_data: ConfigurableClassData | None = None) -> Self:
        if _is_made(base_dir, "runs", "instance_info"):
            return cls(create_db_conn_string(base_dir, "runs"), inst_data)
        return super().from_local(base_dir, inst_data)

    @cached_property
    def _engine(self) -> Engine:
        return _pooled_engine(self._conn_string)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with self._engine.connect() as connection, connection.begin():
            yield connection

    def delete_run(self, run_id: str) -> None:
        with self.connect() as connection:  # Dagster leaves them to a cascade that SQLite does not run by default
            connection.execute(RunTagsTable.delete().where(RunTagsTable.c.run_id == run_id))
        super().delete_run(run_id)

    def dispose(self) -> None:
        super().dispose()
        self._engine.dispose()


class MadeScheduleStorage(SqliteScheduleStorage):
    """Dagster's schedule storage."""

    @classmethod
    def from_local(cls, base_dir: str, inst_data: ConfigurableClassData | None = None) -> SqliteScheduleStorage:
        if _is_made(base_dir, "schedules", "job_ticks"):
            return cls(create_db_conn_string(base_dir, "schedules"), inst_data)
        return super().from_local(base_dir, inst_data)


class PooledSqliteStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage under `base_dir`."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self.base_dir = base_dir
        self._inst_data = inst_data
        history = os.path.join(base_dir, "history")  # noqa: PTH118 - Dagster wants text
        self._run_storage = PooledRunStorage.from_local(history)
        self._event_log_storage = PooledEventLogStorage(history)  # type: ignore[assignment]
        _stamp_events(Path(history).absolute())
        self._schedule_storage = MadeScheduleStorage.from_local(os.path.join(base_dir, "schedules"))  # noqa: PTH118
        # not its own: that would open the storages a second time
        super(DagsterSqliteStorage, self).__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> PooledSqliteStorage:
        return cls.from_local(inst_data=inst_data, **config_value)


class ConfiguredStorage(PooledSqliteStorage):
    """Dagster's storage in the database of TRADIER_DAGSTER_STORAGE, else in its SQLite files under `base_dir`."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Any:
        url = read_dagster_storage()
        if url is None:
            return PooledSqliteStorage.from_config_value(inst_data, config_value)
        from tradier_pipeline.instance.postgres import connected

        with connected(url):  # Dagster itself would try for ten seconds, and print each time
            from tradier_pipeline.instance.postgres_storage import PostgresStorage  # an extra

            return PostgresStorage(url, inst_data)


def _is_made(base_dir: str, name: str, table: str) -> bool:
    """Whether Dagster has made a database, down to a table, and stamped it: nothing is left to do at its opening.

    Dagster looks up the newest version, too, for which it loads every migration there ever was, and does nothing with
    it. What cannot be read is left to Dagster, which says why.
    """
    path = Path(base_dir, f"{name}.db").absolute()
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=0)) as connection:
            stamped = connection.execute("SELECT count(*) FROM alembic_version").fetchone()
            made = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    except sqlite3.Error:
        return False
    return bool(stamped[0] and made[0])


def _stamp_events(history: Path) -> None:
    """Note the version of the event log, which Dagster forgets to commit: it is that of the runs, made beside it.

    Without it the next version of Dagster would bring the file over from the first version that there ever was. What
    cannot be written now is with a later opening.
    """
    uri, runs = (f"{(history / name).as_uri()}?mode=rw" for name in ("event_log.db", "runs.db"))
    with suppress(sqlite3.Error), closing(sqlite3.connect(uri, uri=True, timeout=0)) as connection:
        if connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (0,):
            connection.execute("ATTACH ? AS runs", (runs,))
            with connection:
                connection.execute("INSERT INTO alembic_version SELECT version_num FROM runs.alembic_version")


def _pooled_engine(conn_string: str) -> Engine:
    engine = create_engine(conn_string, poolclass=QueuePool, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS})

    @event.listens_for(engine, "connect")
    def _relax(connection: Any, _record: object) -> None:
        # with a write-ahead log this can lose the last events on power loss, never corrupt; history is in DuckDB
        connection.execute("PRAGMA synchronous = NORMAL")

    return engine
