"""A warehouse of which nothing is published while it is written: a copy of it for each snapshot takes longest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from tradier_pipeline.warehouse.staging import StagedWarehouse, Warehouse


class Unpublished(Warehouse):
    """Each who writes it goes on with what was written before. Use `unpublished`."""

    def __init__(self, path: Path, copy: StagedWarehouse) -> None:
        super().__init__(path)
        self.copy = copy

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        return self.copy.connection

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql).fetchall()

    @contextmanager
    def staged(self, *, fresh: bool = False, compact: bool = False) -> Iterator[StagedWarehouse]:
        yield self.copy


@contextmanager
def unpublished(path: Path) -> Iterator[Unpublished]:
    """What is written in the block is published as one when it ends."""
    with Warehouse(path).staged() as copy:
        yield Unpublished(path, copy)
