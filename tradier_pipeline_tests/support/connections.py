"""Connections to DuckDB that are taken again: a new instance takes longer than most of what a test does with it."""

from __future__ import annotations

import os
import re
from typing import Any, Self
from unittest.mock import ANY

import duckdb

# What leaves nothing behind in the instance: it is set for one connection, or by each user of the same pool alike, or
# it is reset where the instance is given back.
KEPT = re.compile(
    r"SET (threads = 1|TimeZone = 'UTC'|enable_progress_bar = false|force_compression = 'uncompressed'"
    r"|disabled_compression_methods = '\w+'|search_path = '[\w.,]+'|VARIABLE \w+ = .*)"
)
CHANGES = re.compile(r"(?:^|;)\s*(SET|RESET|PRAGMA|LOAD|INSTALL)\b", re.IGNORECASE)
CREATES = re.compile(r"(?:^|;)\s*CREATE\b", re.IGNORECASE)  # by a reader: in memory
READS = frozenset({"fetchone", "fetchall", "fetchmany", "fetchnumpy", "fetchdf", "df", "description", "interrupt"})


class Pool:
    """Stands in for the module `duckdb` in one that opens each file by `ATTACH` in a new instance in memory.

    Each connection has an instance of its own while it is open. It is given back with nothing attached, and is not
    taken again once anything else of it may have been changed.

    Args:
        writes: what is created is created in an attached file.
        threads: of each instance; None: as many as there are cores.
    """

    def __init__(self, *, writes: bool = False, threads: int | None = None) -> None:
        self.writes = writes
        self._config: dict[str, Any] = {} if threads is None else {"threads": threads}
        self._free: list[tuple[int, duckdb.DuckDBPyConnection]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(duckdb, name)

    def connect(self, database: str = ":memory:", **options: Any) -> Any:
        """How many threads are asked for does not matter here."""
        if database != ":memory:" or options not in ({}, {"config": {"threads": ANY}}):
            return duckdb.connect(database, **options)
        while self._free:
            process, instance = self._free.pop()
            if process == os.getpid():  # that of a parent has no threads here
                return self._taken(instance)
        return self._taken(duckdb.connect(":memory:", config=self._config))

    def _taken(self, instance: duckdb.DuckDBPyConnection) -> Pooled:
        return Pooled(instance, self)

    def take_back(self, instance: duckdb.DuckDBPyConnection) -> None:
        self._free.append((os.getpid(), instance))


class Pooled:
    """A connection of a pool: what a `DuckDBPyConnection` does."""

    def __init__(self, instance: duckdb.DuckDBPyConnection, pool: Pool) -> None:
        self._instance, self._pool = instance, pool
        self._connection = instance.cursor()
        self._is_open, self._is_clean = True, True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        self._is_clean &= name in READS
        return getattr(self._connection, name)

    def execute(self, query: Any, *arguments: Any, **named: Any) -> Self:
        self._look_at(query)
        self._connection.execute(query, *arguments, **named)
        return self

    def sql(self, query: Any, *arguments: Any, **named: Any) -> Any:
        self._look_at(query)
        return self._connection.sql(query, *arguments, **named)

    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._connection.close()
        if self._is_clean and self._is_emptied():
            self._pool.take_back(self._instance)
        else:
            self._instance.close()

    def _look_at(self, query: Any) -> None:
        changes = not isinstance(query, str) or (CHANGES.search(query) and not KEPT.fullmatch(query))
        self._is_clean &= not changes and (self._pool.writes or not CREATES.search(query))

    def _is_emptied(self) -> bool:
        """Whether nothing is attached any more. Of other files it has read the instance keeps parts, changed or not."""
        names = "SELECT database_name FROM duckdb_databases() WHERE NOT internal AND database_name <> 'memory'"
        try:
            for (name,) in self._instance.execute(names).fetchall():
                self._instance.execute(f'DETACH "{name}"')
            self._instance.execute("RESET disabled_compression_methods")
            return not self._instance.execute("FROM duckdb_external_file_cache() LIMIT 1").fetchall()
        except duckdb.Error:
            return False
