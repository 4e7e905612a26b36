"""What Dagster's event logs leave out, whatever database they are in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dagster import AssetCheckKey, DagsterInstance, PartitionsDefinition
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.storage.asset_check_state import AssetCheckState
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from sqlalchemy import Connection, select


class CompleteEventLog(SqlEventLogStorage):
    """The check results of deleted runs go, too, and dynamic partitions of checks are known."""

    _instance: DagsterInstance

    def delete_events_for_run(self, conn: Connection, run_id: str) -> None:
        # Dagster keeps the check results of deleted runs, and no index finds them by run: look before the write lock
        table = AssetCheckExecutionsTable
        ids = conn.scalars(select(table.c.id).where(table.c.run_id == run_id)).all()
        super().delete_events_for_run(conn, run_id)
        conn.execute(table.delete().where(table.c.id.in_(ids)))

    def get_asset_check_state(
        self, keys: Sequence[tuple[AssetCheckKey, PartitionsDefinition[str] | None]]
    ) -> Mapping[AssetCheckKey, AssetCheckState]:
        # the UI asks for the checks of dynamic partitions without saying where their keys are, and fails
        with partition_loading_context(dynamic_partitions_store=self._instance):
            return super().get_asset_check_state(keys)
