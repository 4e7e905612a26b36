"""A trustworthy history of a Tradier brokerage account."""

from tradier_pipeline.snapshot import TradierSnapshot, sync_tradier_snapshot

__all__ = ["TradierSnapshot", "sync_tradier_snapshot"]
