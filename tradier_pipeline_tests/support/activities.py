"""What the broker tells over night, written by hand, and filed as if it had been read at any instant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from tradier_pipeline.broker.pages import Extract, Page
from tradier_pipeline.core.files import file_directory
from tradier_pipeline.extract.records import page_records
from tradier_pipeline.landing import activity as landing_activity
from tradier_pipeline.landing.activity import ActivityManifest, LandedActivity, Resource
from tradier_pipeline.landing.manifest import to_bytes
from tradier_pipeline.landing.zone import MANIFEST, LandingZone
from tradier_pipeline_tests.support.bodies import Body, dumps

ACCOUNT = "VA12345678"
LISTS: Mapping[Resource, tuple[str, ...]] = {
    "history": ("history", "event"),
    "gainloss": ("gainloss", "closed_position"),
    "historical_balances": ("balances",),
}


def event(day: date, amount: Any, kind: str = "ach", **details: Any) -> Body:
    """A row of the history: money that came or went, unless it is reported otherwise."""
    block = {"description": "ACH DEPOSIT", "quantity": 0, **details}
    return {"amount": amount, "date": f"{day}T00:00:00Z", "type": kind, kind: block}


def lot(closed: date, gain: Any, symbol: str = "GE", **others: Any) -> Body:
    """A row of gain and loss."""
    return {
        "close_date": f"{closed}T00:00:00.000Z",
        "cost": Decimal("12.7"),
        "gain_loss": gain,
        "gain_loss_percent": Decimal("-20.7874"),
        "open_date": "2018-06-19T00:00:00.000Z",
        "proceeds": Decimal("10.06"),
        "quantity": Decimal("1.0"),
        "symbol": symbol,
        "term": 134,
        **others,
    }


def day_value(day: date, amount: Any) -> Body:
    """A row of the historical balances."""
    return {"date": str(day), "value": amount}


def body_of(resource: Resource, rows: Sequence[Body]) -> bytes:
    """The body of a list: "null" for none, a bare object for one, an array for several."""
    first, *rest = LISTS[resource]
    if not rows:
        return dumps({first: "null"}).encode()
    body: Any = rows[0] if len(rows) == 1 else list(rows)
    for key in rest:
        body = {key: body}
    return dumps({first: body}).encode()


def filed(
    zone: LandingZone,
    dates: tuple[date, date],
    read_at: datetime,
    *,
    environment: str = "live",
    **bodies: Sequence[bytes],
) -> LandedActivity:
    """One extract with these bodies, page by page, by resource."""
    since, until = dates
    resources, files = {}, {}
    for resource, pages in bodies.items():
        extract = Extract(resource, tuple(_page(number, body, read_at) for number, body in enumerate(pages, 1)))
        resources[resource], named = page_records(resource, extract)
        files |= named
    manifest = ActivityManifest(
        account_id=ACCOUNT,
        environment=environment,
        since=since,
        until=until,
        read_at=read_at,
        code_version="0.1.0",
        resources=resources,
    )
    directory = (
        zone.root / ACCOUNT / landing_activity._FOLDER / landing_activity.ActivityRange(ACCOUNT, since, until).file_name
    )
    file_directory(directory, {**files, MANIFEST: to_bytes(manifest)})
    return LandedActivity(directory)


def _page(number: int, body: bytes, read_at: datetime) -> Page:
    at = read_at + timedelta(milliseconds=number - 1)
    return Page(number, "/v1/accounts", {}, 200, {}, body, at, at, ())
