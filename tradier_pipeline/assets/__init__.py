"""Assets: the raw extracts and the snapshot."""

import warnings

import dagster as dg

# Partitioned checks are in preview; what this project relies on is pinned by test_dagster_characterization.py.
warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec", dg.PreviewWarning)
