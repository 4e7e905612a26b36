"""A trustworthy history of a Tradier brokerage account."""

from tradier_pipeline.api import request_snapshot, sync_tradier_snapshot
from tradier_pipeline.publish.taken import TradierSnapshot

__all__ = ["TradierSnapshot", "request_snapshot", "sync_tradier_snapshot"]
