"""The Dagster UI as a person uses it, in a real browser: lineage, a snapshot from the Launchpad, its checks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tradier_pipeline.settings import DEMO_ACCOUNT
from tradier_pipeline.warehouse.reads import reading, snapshot_ids
from tradier_pipeline_tests.conftest import Home
from tradier_pipeline_tests.test_up import running

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PATIENCE_MS = 60_000  # of one wait; on an idle machine none takes longer than the run, 5 s


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="as test_up.py")
def test_a_person_sees_the_lineage_takes_a_snapshot_and_finds_it_with_its_checks(
    home: Home, tmp_path: Path, browser: Browser
) -> None:
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE_MS)
    page = browser.new_page(viewport={"width": 1500, "height": 1000})
    page.set_default_timeout(PATIENCE_MS)
    with running(tmp_path) as started:
        page.goto(f"{started.url}/asset-groups")
        for group in ("raw", "snapshot"):
            page.get_by_text(group, exact=True).last.dblclick()
        for asset in ("account", "balances", "positions", "orders", "quotes", "tradier_snapshot"):
            expect(page.get_by_text(asset, exact=True).last).to_be_visible()

        page.goto(f"{started.url}/locations/tradier_pipeline/jobs/request_snapshot/playground")
        page.get_by_role("button", name="Launch Run").click()
        expect(page.get_by_text("RUN_SUCCESS")).to_be_visible()
        with reading(home.warehouse.path) as connection:
            (snapshot_id,) = snapshot_ids(connection)
        assert snapshot_id.startswith(f"{DEMO_ACCOUNT}@")
        expect(page.get_by_text(snapshot_id, exact=True).first).to_be_visible()

        page.goto(f"{started.url}/assets/tradier_snapshot?view=partitions&partition={snapshot_id}")
        expect(page.get_by_text("Materialized (1)")).to_be_visible()
        expect(page.get_by_text(snapshot_id, exact=True).first).to_be_visible()

        page.get_by_role("tab", name="Checks").click()
        page.get_by_text("position_quantities_equal").first.click()
        expect(page.get_by_text(re.compile("^Passed$")).first).to_be_visible()
        expect(page.get_by_text(snapshot_id, exact=True).first).to_be_visible()
    page.close()
