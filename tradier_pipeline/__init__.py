"""A trustworthy history of a Tradier brokerage account."""

from tradier_pipeline.core.snapshot_id import TradierSnapshot, request_snapshot, sync_tradier_snapshot

__all__ = ["TradierSnapshot", "request_snapshot", "sync_tradier_snapshot"]
