"""A trustworthy history of a Tradier brokerage account."""
