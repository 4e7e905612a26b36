"""The version of the code, as every snapshot records it."""

from __future__ import annotations

from importlib.metadata import version

CODE_VERSION = version("tradier-pipeline")
