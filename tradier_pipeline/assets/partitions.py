"""The one partition axis: a dynamic key per snapshot, `<account number>@<instant>`."""

from __future__ import annotations

import dagster as dg

SNAPSHOTS = dg.DynamicPartitionsDefinition(name="tradier_snapshots")
