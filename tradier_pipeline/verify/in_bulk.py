"""The evidence of many snapshots at once: each table is asked once for all of them, and a body that is answered again
and again is decoded once. The rules are those of one snapshot, over the same evidence, and so is what they find.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from functools import cached_property
from typing import Any

import duckdb

from tradier_pipeline.landing.day import Day
from tradier_pipeline.landing.errors import LandingError
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.verify.evidence import NEARBY, Entry, Evidence, Row, decoded
from tradier_pipeline.warehouse.sql import bind, literal, rows_of

REMEMBERED = 100  # bodies; of a minute there are five and the further pages


class Decoded:
    """The documents of proven bodies, by SHA-256: mostly a minute is answered what the one before it was."""

    def __init__(self) -> None:
        self._known: dict[str, Row] = {}

    def of(self, body: bytes, sha256: str) -> Row:
        document = self._known.pop(sha256, None)
        if document is None:
            document = decoded(body)
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]  # not asked for the longest
        self._known[sha256] = document
        return document


class Neighbours:
    """What is stored of some snapshots of one account, read one after the other, and of those near to them.

    For as long as nothing is written: what was asked once is not asked again.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, snapshots: Sequence[LandedSnapshot], known: Decoded
    ) -> None:
        self.connection, self.snapshots, self.known = connection, snapshots, known
        self._answers: dict[str, list[Row]] = {}
        self._by_snapshot: dict[str, Mapping[str, list[Row]]] = {}
        self.unpublished: dict[tuple[date, date], list[tuple[Day, Entry]]] = {}

    def evidence(self) -> list[Evidence]:
        """That of each snapshot."""
        return [_Evidence(landed, self) for landed in self.snapshots]

    def answer(self, sql: str) -> list[Row]:
        """The rows of a query."""
        if sql not in self._answers:
            self._answers[sql] = rows_of(self.connection, sql)
        return self._answers[sql]

    def stored(self, table: str) -> Mapping[str, list[Row]]:
        """The rows of a table by their snapshot."""
        if table not in self._by_snapshot:
            of_each: dict[str, list[Row]] = defaultdict(list)
            for row in rows_of(self.connection, f"SELECT * FROM {table} WHERE {self._which}"):  # noqa: S608
                of_each[row["snapshot_id"]].append(row)
            self._by_snapshot[table] = of_each
        return self._by_snapshot[table]

    @cached_property
    def _span(self) -> tuple[datetime, datetime]:
        """From before the first one to after the last one that can be read."""
        read: list[datetime] = []
        for landed in self.snapshots:
            with suppress(LandingError):
                read.append(landed.manifest.as_of)
        read = read or [self.snapshots[0].manifest.as_of]  # raises what is wrong with it
        return min(read) - NEARBY, max(read) + NEARBY

    @cached_property
    def _which(self) -> str:
        listed = ", ".join(literal(str(landed.snapshot_id)) for landed in self.snapshots)
        return bind(f"snapshot_id IN ({listed}) AND as_of BETWEEN ? AND ?", *self._span)

    @cached_property
    def headers(self) -> list[Row]:
        """Those near to the snapshots, of the same account, the newest first."""
        sql = "SELECT * FROM tradier_snapshots WHERE account_id = ? AND as_of BETWEEN ? AND ? ORDER BY as_of DESC"
        return self.answer(bind(sql, self.snapshots[0].snapshot_id.account_id, *self._span))


class _Evidence(Evidence):
    """The evidence of one of them."""

    def __init__(self, landed: LandedSnapshot, neighbours: Neighbours) -> None:
        super().__init__(landed, neighbours.connection)
        self._neighbours = neighbours

    def query(self, sql: str, *parameters: Any) -> list[Row]:
        return self._neighbours.answer(bind(sql, *parameters))

    def stored(self, table: str) -> list[Row]:
        _ = self.landed.manifest  # of one that cannot be read nothing is proven
        return self._neighbours.stored(table).get(self.snapshot_id, [])

    def read_meanwhile(self) -> list[Row]:
        manifest = self.landed.manifest
        return [
            row
            for row in self._neighbours.headers
            if row["snapshot_id"] != self.snapshot_id
            and abs(row["as_of"] - manifest.as_of) <= NEARBY
            and row["as_of"] < manifest.as_of_end
            and row["as_of_end"] > manifest.as_of
        ]

    @cached_property
    def previous(self) -> Row | None:
        as_of = self.landed.manifest.as_of
        near = (row for row in self._neighbours.headers if as_of - NEARBY < row["as_of"] < as_of)
        last = next((row for row in near if row["verdict"] != "doubtful"), None)
        return last if last is not None and last["verdict"] == "good" else super().previous

    def unpublished_between(self, first_day: date, last_day: date) -> list[tuple[Day, Entry]]:
        known = self._neighbours.unpublished
        if (first_day, last_day) not in known:
            known[first_day, last_day] = super().unpublished_between(first_day, last_day)
        return known[first_day, last_day]

    def _documents(self, resource: str) -> list[Row]:
        landed, known = self.landed, self._neighbours.known
        pages, bodies = landed.pages(resource), landed.bodies(resource)
        return [known.of(body, page.sha256) for page, body in zip(pages, bodies, strict=True)]
