"""The report that people open in a browser: of a whole account, or of one of its trade dates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.core import progress
from tradier_pipeline.core.files import write_whole
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.lake.reads import connect_history
from tradier_pipeline.landing.errors import LandingError
from tradier_pipeline.landing.zone import LandingZone
from tradier_pipeline.monitoring.status import request_budget
from tradier_pipeline.report.figures import AccountFigures, DayFigures, IndexFigures, ReportError
from tradier_pipeline.report.page import Index, Indexed, Links, account_page, day_page, index_page
from tradier_pipeline.report.reads import account_figures, account_ids, day_figures, index_figures, report_days


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
        FileError: a file cannot be written.
    """
    written: list[Report] = []
    indexed: dict[str, IndexFigures] = {}
    with connect_history(settings) as connection:
        accounts = [account_id] if account_id else account_ids(connection, day)
        if output and len(accounts) > 1:
            raise ReportError(f"{output} cannot hold the reports of {len(accounts)} accounts", "Choose one: --account.")
        if not accounts:
            raise ReportError(
                f"no snapshot of {day} is published" if day else "there is no account to report on yet",
                "See `tradier-pipeline status`." if day else "Take a snapshot: `tradier-pipeline snapshot`.",
            )
        for done, one in enumerate(accounts):
            progress.working(f"report of {one}{f', {day}' if day else ''}", done, len(accounts))
            figures = (
                day_figures(connection, one, day)
                if day
                else _with_room(settings, account_figures(connection, one, since, until, settings.benchmark))
            )
            written.append(_write_report(settings, figures, output))
            if isinstance(figures, AccountFigures):
                indexed[one] = figures.indexed
        if output is None:
            write_index(settings, connection, indexed)
    return written


def _with_room(settings: Settings, figures: AccountFigures) -> AccountFigures:
    """With what the broker's answers to the snapshot said of its rate limit, which is landed and in no table."""
    snapshot_id = figures.snapshot.snapshot_id
    budget = None
    if figures.broker and snapshot_id:
        with suppress(LandingError):  # what is damaged is named by `status`; the report is of the warehouse
            budget = request_budget(LandingZone(settings.landing).find(SnapshotId.parse(snapshot_id)))
    if not (figures.broker and budget):
        return figures
    return replace(figures, broker=replace(figures.broker, allowed=budget.allowed, available=budget.available))


def _write_report(settings: Settings, figures: DayFigures | AccountFigures, output: Path | None = None) -> Report:
    day = figures.day if isinstance(figures, DayFigures) else None
    path = output or settings.reports / figures.account_id / f"{day or 'account'}.html"
    links = Links() if output else links_of(path, day)
    page = day_page(figures, links) if isinstance(figures, DayFigures) else account_page(figures, links)
    write_whole(path, page.html.encode())
    return Report(figures.account_id, path, page.chart)


def write_every_report(settings: Settings, account_id: str | None = None) -> list[Report]:
    """Write the report of each trade date that has a snapshot and none yet, then those of the accounts, and the index.

    Raises:
        ReportError, WarehouseError, FileError: as of `write_reports`.
    """
    with connect_history(settings) as connection:
        wanted = [
            (one, day)
            for one in ([account_id] if account_id else account_ids(connection))
            for day in report_days(connection, one)
            if not (settings.reports / one / f"{day}.html").exists()
        ]
        written: list[Report] = []
        for done, (one, day) in enumerate(wanted):
            progress.working(f"report of {one}, {day}", done, len(wanted))
            written.append(_write_report(settings, day_figures(connection, one, day)))
    return [*written, *write_reports(settings, account_id)]


def write_index(
    settings: Settings, connection: duckdb.DuckDBPyConnection, known: Mapping[str, IndexFigures] | None = None
) -> Path:
    """Write the page that links every report of every account: `<home>/reports/index.html`.

    Args:
        known: what was read already, by account.
    """
    known = known or {}
    path = index_path(settings)
    accounts = tuple(
        Indexed(*of_account, links=links_in(settings.reports / of_account[0], f"{of_account[0]}/"))
        for account_id in account_ids(connection)
        if (settings.reports / account_id).is_dir()
        and (of_account := known.get(account_id) or index_figures(connection, account_id))
    )
    write_whole(path, index_page(Index(clock.now(), accounts)).html.encode())
    return path


def index_path(settings: Settings) -> Path:
    """Where the index is."""
    return settings.reports / "index.html"


def links_in(folder: Path, prefix: str = "") -> Links:
    """The reports of an account, as hrefs from where `prefix` leads to its folder."""
    found = {day: f"{prefix}{day}.html" for path in folder.glob("*.html") if (day := _day_of(path))}
    account = f"{prefix}account.html" if (folder / "account.html").exists() else None
    return Links(account=account, days=dict(sorted(found.items())))


def links_of(path: Path, day: date | None) -> Links:
    """The reports beside the one at a path, with the neighbours of its day."""
    beside = links_in(path.parent)
    earlier, later = ([one for one in beside.days.items() if day and past(one[0])] for past in _beside(day))
    return Links(
        index="../index.html",
        account=beside.account if day else None,
        days=beside.days,
        before=earlier[-1] if earlier else None,
        after=later[0] if later else None,
    )


def _beside(day: date | None) -> tuple[Callable[[date], bool], Callable[[date], bool]]:
    return (lambda one: day is not None and one < day), (lambda one: day is not None and one > day)


def _day_of(path: Path) -> date | None:
    try:
        return date.fromisoformat(path.stem)
    except ValueError:
        return None
