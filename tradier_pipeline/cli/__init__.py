"""The command line `tradier-pipeline`."""

from tradier_pipeline.cli import starting  # first: from here on an interrupt is one line

with starting.up():
    from tradier_pipeline.cli.app import main

__all__ = ["main"]
