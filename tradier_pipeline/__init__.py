"""A trustworthy history of a Tradier brokerage account."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # typing takes as long to import as all else that the command line needs to answer Ctrl-C
if TYPE_CHECKING:
    from tradier_pipeline.api import known_at, request_snapshot, sync_tradier_snapshot
    from tradier_pipeline.publish.published_snapshot import TradierSnapshot

__all__ = ["TradierSnapshot", "known_at", "request_snapshot", "sync_tradier_snapshot"]

_HOMES = {
    "TradierSnapshot": "tradier_pipeline.publish.published_snapshot",
    "known_at": "tradier_pipeline.api",
    "request_snapshot": "tradier_pipeline.api",
    "sync_tradier_snapshot": "tradier_pipeline.api",
}


def __getattr__(name: str) -> object:
    """Each public name is imported when it is asked for: the command line speaks before it has loaded everything."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
