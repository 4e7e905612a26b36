"""The asset that writes the reports of a day, in the job of its summary."""

from __future__ import annotations

import base64
import re

import dagster as dg

from tradier_pipeline import clock
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.support.dagster_runs import definitions, materialized


def test_the_job_of_the_summary_writes_both_reports_and_the_asset_shows_and_links_them(
    home: Home, instance: dg.DagsterInstance, simulated: Simulated
) -> None:
    landed, _ = take(home, simulated.broker)
    day = clock.trade_date(landed.manifest.as_of)
    job = definitions().resolve_job_def("daily_summary")
    result = job.execute_in_process(instance=instance, partition_key=str(day))
    assert materialized(instance, dg.AssetKey("daily_report")) == {str(day)}
    (event,) = result.asset_materializations_for_node("daily_report")
    paths = [home.path / "reports" / DEMO_ACCOUNT / name for name in (f"{day}.html", "account.html")]
    links = {event.metadata[f"{DEMO_ACCOUNT} {path.stem}"].value for path in paths}
    assert links == {path.as_uri() for path in paths}
    assert event.metadata["bytes"].value == sum(len(path.read_bytes()) for path in paths)
    (encoded,) = re.findall(r"\(data:image/svg\+xml;base64,([^)]*)\)", str(event.metadata["equity"].value))
    assert base64.b64decode(encoded).startswith(b"<svg")
