"""One read of the broker's client, for tests of what holds for each."""

from __future__ import annotations

from tradier_pipeline.broker.client import BrokerClient, _account_path, _Request
from tradier_pipeline.broker.pages import Extract


async def read_positions(client: BrokerClient, account: str) -> Extract:
    """The positions of an account: one request, the least that the client reads of one."""
    request = _Request(1, f"{_account_path(account)}/positions")
    return await client._single("positions", request, client._deadline())
