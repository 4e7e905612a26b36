"""How the lake is: what of each home is in it, and how far behind it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tradier_pipeline.lake.connection import ALIAS, Lake, NoLakeError, explained, open_lake
from tradier_pipeline.lake.tables import MAINTAINED, SHIPMENTS, version_of


@dataclass(frozen=True, slots=True)
class HomeInLake:
    """A home as the lake has it: who it is, the newest snapshot of it, its last commit, and how many there were."""

    home: str
    machine: str
    newest_as_of: datetime | None
    shipped_at: datetime
    shipments: int


@dataclass(frozen=True, slots=True)
class LakeStatus:
    """The lake: where it is, its tables' version (None: it has none yet), its accounts and snapshots, and its homes."""

    place: str
    data: str
    schema_version: int | None
    accounts: int
    snapshots: int
    homes: tuple[HomeInLake, ...]
    maintained_at: datetime | None


def read_status(lake: Lake) -> LakeStatus:
    """Raises LakeError if the lake cannot be read."""
    nothing = LakeStatus(lake.place, lake.data, None, 0, 0, (), None)
    with explained(lake):
        try:
            connection = open_lake(lake, read_only=True)
        except NoLakeError:
            return nothing
        try:
            connection.execute("BEGIN")  # one state of it
            version = version_of(connection, ALIAS)
            if version is None:
                return nothing
            query = f"""
                SELECT home, max_by(machine, shipment), max(newest_as_of), max(shipped_at), count(*)
                FROM {ALIAS}.{SHIPMENTS.name} GROUP BY home ORDER BY home
            """  # noqa: S608
            homes = tuple(HomeInLake(*row) for row in connection.execute(query).fetchall())
            connection.execute(f"USE {ALIAS}")
            query = "SELECT count(DISTINCT account_id), count(*) FROM tradier_snapshots"
            accounts, snapshots = connection.execute(query).fetchone() or (0, 0)
            query = f"SELECT max(maintained_at) FROM {MAINTAINED.name} WHERE is_whole"  # noqa: S608
            (maintained,) = connection.execute(query).fetchone() or (None,)
            return LakeStatus(lake.place, lake.data, version, accounts, snapshots, homes, maintained)
        finally:
            connection.close()
