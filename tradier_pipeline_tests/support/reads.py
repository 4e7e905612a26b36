"""One read of the broker's client, for tests of what holds for each; and two queries beside each other."""

from __future__ import annotations

import duckdb

from tradier_pipeline.broker.client import BrokerClient, _account_path, _Request
from tradier_pipeline.broker.pages import Extract


async def read_positions(client: BrokerClient, account: str) -> Extract:
    """The positions of an account: one request, the least that the client reads of one."""
    request = _Request(1, f"{_account_path(account)}/positions")
    return await client._single("positions", request, client._deadline())


def only_in_each(connection: duckdb.DuckDBPyConnection, one: str, other: str) -> tuple[int, int]:
    """How many rows only one of two queries gives, and only the other; each is asked once."""
    query = f"""
        WITH one AS MATERIALIZED ({one}), other AS MATERIALIZED ({other})
        SELECT (SELECT count(*) FROM (FROM one EXCEPT ALL FROM other)),
               (SELECT count(*) FROM (FROM other EXCEPT ALL FROM one))
    """
    ((found, missing),) = connection.execute(query).fetchall()
    return found, missing
