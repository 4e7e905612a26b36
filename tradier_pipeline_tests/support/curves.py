"""Equity curves that were made once: to plan their query takes longer than to take a snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import pytest

from tradier_pipeline.warehouse import derived
from tradier_pipeline.warehouse.equity import CURVES

KEPT = (derived.ENVIRONMENTS.table, *(curve.table for curve in CURVES))
FEW = 100  # rows: of more the query takes less time than to insert them one by one


class MadeCurves:
    """Stands in for `derived._make_curves`: equal fingerprints have equal curves, but for what `_hand_on` brings."""

    def __init__(self) -> None:
        self._make = derived._make_curves
        self._rows: dict[str, dict[str, list[tuple[Any, ...]]]] = {}

    def make(self, connection: duckdb.DuckDBPyConnection, fingerprint: str) -> None:
        if fingerprint not in self._rows:
            self._make(connection, fingerprint)
            rows = {table.name: connection.execute(f"FROM {table.name}").fetchall() for table in KEPT}
            if sum(map(len, rows.values())) <= FEW:
                self._rows[fingerprint] = rows
            return
        for name, of_table in self._rows[fingerprint].items():
            connection.execute(f"DELETE FROM {name}")
            if of_table:
                row = f"({', '.join('?' for _ in of_table[0])})"
                connection.execute(f"INSERT INTO {name} VALUES {', '.join([row] * len(of_table))}", sum(of_table, ()))
        derived._hand_on(connection)


@contextmanager
def days_made_later() -> Iterator[None]:
    """No publish in it makes the rows of days and curves: the first one after it does, of all that came meanwhile.

    Whenever they are made they are the same: warehouse/test_derived.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(derived, "refresh", lambda _connection: None)
        yield
