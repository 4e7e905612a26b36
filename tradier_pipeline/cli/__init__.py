"""The command line `tradier-pipeline`."""

from tradier_pipeline.cli.app import main

__all__ = ["main"]
