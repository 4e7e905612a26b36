"""The command line `tradier-pipeline`."""

from tradier_pipeline.cli import starting  # first: an interrupt while the rest is imported is one line, too

with starting.up():
    from tradier_pipeline.cli.app import main

__all__ = ["main"]
