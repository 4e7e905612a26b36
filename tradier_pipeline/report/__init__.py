"""The report that people open in a browser: of a whole account, or of one of its trade dates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from tradier_pipeline.core.files import write_whole
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.report.figures import ReportError, account_figures, account_ids, day_figures
from tradier_pipeline.report.page import account_page, day_page
from tradier_pipeline.warehouse.reads import reading


@dataclass(frozen=True, slots=True)
class Report:
    """A report that was written; `chart` is the SVG of its first chart, None if it has none."""

    account_id: str
    path: Path
    chart: str | None


def write_reports(
    settings: Settings,
    account_id: str | None = None,
    *,
    day: date | None = None,
    since: date | None = None,
    until: date | None = None,
    output: Path | None = None,
) -> list[Report]:
    """Write the report of an account, or of each of which anything is known.

    Args:
        day: the report of this trade date instead of the whole account.
        since: first trade date of the curves and the coverage of a whole account.
        until: the last one.
        output: the file; None means `<home>/reports/<account>/account.html` or `<trade date>.html`.

    Raises:
        ReportError: there is no snapshot to report on, or one file is to hold several reports.
        WarehouseError: the warehouse cannot be read.
        LandingError: a file cannot be written.
    """
    written: list[Report] = []
    with reading(settings.warehouse) as connection:
        accounts = [account_id] if account_id else account_ids(connection, day)
        if output and len(accounts) > 1:
            raise ReportError(f"{output} cannot hold the reports of {len(accounts)} accounts", "Choose one: --account.")
        if not accounts:
            raise ReportError(
                f"no snapshot of {day} is published" if day else "there is no account to report on yet",
                "See `tradier-pipeline status`." if day else "Take a snapshot: `tradier-pipeline snapshot`.",
            )
        for one in accounts:
            page = (
                day_page(day_figures(connection, one, day))
                if day
                else account_page(account_figures(connection, one, since, until, settings.benchmark))
            )
            path = output or settings.reports / one / f"{day or 'account'}.html"
            write_whole(path, page.html.encode())
            written.append(Report(one, path, page.chart))
    return written
