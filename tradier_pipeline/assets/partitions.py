"""The partition axes: a dynamic key per snapshot, `<account number>@<instant>`, and the trade dates."""

from __future__ import annotations

import dagster as dg

from tradier_pipeline import clock

PARTITION_TAG = "dagster/partition"  # of every run of a partition

TRADE_DATES = dg.DailyPartitionsDefinition("2020-01-01", timezone=str(clock.NEW_YORK), end_offset=1)  # with today
SNAPSHOTS = dg.DynamicPartitionsDefinition(name="tradier_snapshots")
