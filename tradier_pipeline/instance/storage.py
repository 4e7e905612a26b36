"""Dagster's SQLite storage with connections kept open.

Dagster opens a new SQLAlchemy engine for every event, which made the 100 events of a snapshot cost more than the
snapshot: 2.5 s, against 0.7 s with these classes. Tables, files and behaviour are Dagster's own.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sql import create_engine
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, event
from sqlalchemy.pool import QueuePool

OPEN_DATABASES = 16  # every run has a database of its own; the UI visits many


class Engines:
    """The engines used last, by connection string."""

    def __init__(self) -> None:
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._lock = Lock()

    def get(self, conn_string: str) -> Engine:
        with self._lock:
            engine = self._engines.pop(conn_string, None) or _engine(conn_string)
            self._engines[conn_string] = engine
            while len(self._engines) > OPEN_DATABASES:
                _, oldest = self._engines.popitem(last=False)
                oldest.dispose()
            return engine

    def dispose(self) -> None:
        with self._lock:
            for engine in self._engines.values():
                engine.dispose()
            self._engines.clear()


def _engine(conn_string: str) -> Engine:
    engine = create_engine(conn_string, poolclass=QueuePool, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS})

    @event.listens_for(engine, "connect")
    def _relax(connection: Any, _record: object) -> None:
        # with a write-ahead log this can lose the last events on power loss, never corrupt; history is in DuckDB
        connection.execute("PRAGMA synchronous = NORMAL")

    return engine


class PooledEventLogStorage(SqliteEventLogStorage):
    """Dagster's event log on kept connections."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines = Engines()
        super().__init__(base_dir, inst_data)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            engine = self._engines.get(self.conn_string_for_shard(shard))
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.connect() as connection, connection.begin():
                yield connection

    def dispose(self) -> None:
        super().dispose()
        self._engines.dispose()


class PooledRunStorage(SqliteRunStorage):
    """Dagster's run storage on kept connections."""

    def __init__(self, conn_string: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines = Engines()
        super().__init__(conn_string, inst_data)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with self._engines.get(self._conn_string).connect() as connection, connection.begin():
            yield connection

    def dispose(self) -> None:
        super().dispose()
        self._engines.dispose()


class PooledSqliteStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage, its files in their usual places under `base_dir`."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self.base_dir = base_dir
        self._inst_data = inst_data
        self._run_storage = PooledRunStorage.from_local(os.path.join(base_dir, "history", ""))  # noqa: PTH118
        self._event_log_storage = PooledEventLogStorage(os.path.join(base_dir, "history", "runs", ""))  # noqa: PTH118
        self._schedule_storage = SqliteScheduleStorage.from_local(os.path.join(base_dir, "schedules", ""))  # noqa: PTH118
        super(DagsterSqliteStorage, self).__init__()  # not its own: it would open the storages a second time

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> PooledSqliteStorage:
        return cls.from_local(inst_data=inst_data, **config_value)
