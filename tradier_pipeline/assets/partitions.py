"""The one partition axis: a dynamic key per snapshot, `<account number>@<instant>`."""

from __future__ import annotations

import dagster as dg

PARTITION_TAG = "dagster/partition"  # of every run of a partition

SNAPSHOTS = dg.DynamicPartitionsDefinition(name="tradier_snapshots")
