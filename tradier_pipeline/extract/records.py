"""What a manifest records of the requests of an extract."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tradier_pipeline.landing.manifest import AttemptRecord, PageRecord

if TYPE_CHECKING:
    from tradier_pipeline.broker.pages import Attempt, Extract


def page_records(resource: str, extract: Extract) -> tuple[tuple[PageRecord, ...], dict[str, bytes]]:
    """The page records of what the client received, and the bodies by the file names they get."""
    bodies = {
        f"{resource}.json" if page.number == 1 else f"{resource}.{page.number}.json": page.body
        for page in extract.pages
    }
    records = tuple(
        PageRecord(
            file=file,
            number=page.number,
            path=page.path,
            query=dict(page.query),
            status=page.status,
            headers=dict(page.headers),
            attempts=attempt_records(page.attempts),
            started_at=page.started_at,
            ended_at=page.ended_at,
            bytes=len(page.body),
            sha256=hashlib.sha256(page.body).hexdigest(),
        )
        for file, page in zip(bodies, extract.pages, strict=True)
    )
    return records, bodies


def attempt_records(attempts: Iterable[Attempt]) -> tuple[AttemptRecord, ...]:
    """The client's attempts as manifest records."""
    return tuple(
        AttemptRecord(started_at=attempt.started_at, ended_at=attempt.ended_at, outcome=attempt.outcome)
        for attempt in attempts
    )
