"""Where a person looks first: how every account stands by its newest snapshot, and where the rest of it is."""

from collections.abc import Collection, Mapping
from typing import Any

import dagster as dg

from tradier_pipeline import clock
from tradier_pipeline.assets.raw import OWNERS
from tradier_pipeline.assets.results import cell_text
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.warehouse.reads import accounts_now, connect_readonly

ACCOUNT = dg.AssetKey("account")
COLUMNS = ("account_id", "read", "equity", "cash", "buying_power", "verdict", "ready", "blockers")
NO_REPORT = "none yet: it is made after the close; `tradier-pipeline report` makes one now"
DESCRIPTION = """\
Start here: how every account stands by its newest snapshot.

The *Metadata* below says how it stands, *Latest materialization* how old that is. Where the rest is:

- [tradier_snapshot](/assets/tradier_snapshot): each snapshot; its *Checks* prove it equal to the broker
- [trade_gate](/assets/trade_gate): whether it may be traded on, and what blocks it
- [findings](/assets/findings): the problems of the account and its ledger, with what to do about each
- [daily_summary](/assets/daily_summary), [daily_report](/assets/daily_report): what a day came to, with its chart
- [Automation](/automation): the cycles, and what alerts; [Runs](/runs): what they did

Without the UI: `tradier-pipeline status`, `tradier-pipeline report`.
"""

account = dg.AssetSpec(
    ACCOUNT,
    # reported by each snapshot that is the newest one of its account: nothing of it is planned or can be missing
    deps=[dg.AssetDep("tradier_snapshot", partition_mapping=dg.AllPartitionMapping())],
    description=DESCRIPTION,
    group_name="account",  # the first one of the catalog and of the lineage
    kinds={"duckdb", "view"},
    owners=OWNERS,
)


def account_materialization(settings: Settings, own: Collection[SnapshotId]) -> dg.AssetMaterialization | None:
    """How the accounts stand now, if one of the published snapshots is the newest of its account; of older ones
    nothing."""
    with connect_readonly(settings.warehouse) as connection:
        rows = accounts_now(connection)
    if {row["snapshot_id"] for row in rows}.isdisjoint(map(str, own)):
        return None
    shown_rows = [_in_words(row) for row in rows]
    reports = sorted(settings.reports.glob("*/*.html"), key=lambda path: path.stat().st_mtime)
    return dg.AssetMaterialization(
        ACCOUNT,
        metadata={
            "equity": float(sum(row["equity"] for row in rows)),  # the UI plots floats
            "verdict": ", ".join(sorted({row["verdict"] for row in rows})),
            "read_at": dg.MetadataValue.timestamp(min(row["as_of"] for row in rows)),
            "accounts": dg.MetadataValue.table(
                records=[dg.TableRecord(row) for row in shown_rows],
                schema=dg.TableSchema(columns=[dg.TableColumn(name) for name in COLUMNS]),
            ),
            "report": dg.MetadataValue.path(reports[-1]) if reports else NO_REPORT,
            "chart": dg.MetadataValue.md("[Equity of the day](/assets/daily_report)"),
        },
    )


def _in_words(row: Mapping[str, Any]) -> dict[str, str]:
    read = f"{row['as_of'].astimezone(clock.NEW_YORK):%Y-%m-%d %H:%M:%S} New York"
    reported = {**row, "read": read, "blockers": ", ".join(row["blockers"] or ()) or "-"}
    return {name: cell_text(reported[name]) for name in COLUMNS}
