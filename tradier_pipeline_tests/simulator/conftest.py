from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest

from tradier_pipeline.core.settings import DEMO_TOKEN
from tradier_pipeline.simulator.app import create_app
from tradier_pipeline.simulator.server import running
from tradier_pipeline.simulator.store import Store
from tradier_pipeline.simulator.strategy import AccountPlan
from tradier_pipeline_tests.simulator.worlds import ACCOUNT

HEADERS = {"Authorization": f"Bearer {DEMO_TOKEN}", "Accept": "application/json"}
NOON = datetime(2026, 11, 16, 17, 0, tzinfo=UTC)


@pytest.fixture
def broker() -> Iterator[httpx.Client]:
    """A broker at Monday noon in New York with one empty margin account; only the test moves its clock."""
    store = Store(None, plans=(AccountPlan(ACCOUNT, "margin", Decimal(100000), trader=False),))
    with (
        running(create_app(store, clock=lambda: NOON)) as url,
        httpx.Client(base_url=url, headers=HEADERS, timeout=5) as client,
    ):
        yield client
