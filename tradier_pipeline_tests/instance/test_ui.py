"""The Dagster UI as a person uses it, in a real browser: lineage, a snapshot from the Launchpad, its checks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.warehouse.reads import connect_readonly, snapshot_ids
from tradier_pipeline_tests.cli.test_up import DEADLINE_S, family, running
from tradier_pipeline_tests.conftest import Home

USERS_TOKEN = "0123456789abcdefSECRET789012"

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="as test_up.py")
def test_a_person_sees_the_lineage_takes_a_snapshot_and_finds_it_with_its_checks(
    home: Home, tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    from playwright.sync_api import expect

    page = browser.new_page(viewport={"width": 1500, "height": 1000})
    page.set_default_timeout(DEADLINE_S * 1000)
    expect.set_options(timeout=DEADLINE_S * 1000)

    def shown(text: str | re.Pattern[str]) -> Locator:
        """The first that a person sees: the UI has copies of its labels only to measure them."""
        return page.get_by_text(text, exact=True).filter(visible=True).first

    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCESS_TOKEN", USERS_TOKEN)  # of no use to the simulated broker, which must not see it
    with running(tmp_path) as started:
        page.goto(started.url)
        page.get_by_role("link", name="Lineage").click()
        for group in ("raw", "snapshot", "portfolio", "reconciliation", "reporting"):
            expect(shown(group)).to_be_visible()
        page.goto(f"{started.url}/assets/tradier_snapshot?view=lineage")
        for asset in ("account", "balances", "positions", "orders", "quotes", "tradier_snapshot", "daily_summary"):
            expect(shown(asset)).to_be_visible()

        page.goto(f"{started.url}/locations/tradier_pipeline/jobs/request_snapshot/playground")
        page.get_by_role("button", name="Launch Run").click()
        expect(shown("RUN_SUCCESS")).to_be_visible()
        snapshot_id = shown(re.compile(f"^{DEMO_ACCOUNT}@")).inner_text()
        with connect_readonly(home.warehouse.path) as connection:
            assert snapshot_ids(connection) == [snapshot_id]

        page.goto(f"{started.url}/assets/tradier_snapshot?view=partitions&partition={snapshot_id}")
        expect(shown("Materialized (1)")).to_be_visible()
        expect(shown(snapshot_id)).to_be_visible()

        page.goto(f"{started.url}/assets/tradier_snapshot?view=checks")
        page.get_by_placeholder("Filter checks").fill("positions_equal_broker")
        shown("positions_equal_broker").click()
        expect(shown("Passed")).to_be_visible()
        expect(shown(snapshot_id)).to_be_visible()
    page.close()
    assert (started.process.returncode, family(home)) == (0, [])
    assert USERS_TOKEN not in (tmp_path / "up.log").read_text()
