"""The records beside landed bodies: where each came from, when, and the hash that proves it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from tradier_pipeline import clock
from tradier_pipeline.core.files import LandingError


class Record(BaseModel):
    """Base of what a manifest holds."""

    model_config = ConfigDict(frozen=True)


R = TypeVar("R", bound=Record)


class AttemptRecord(Record):
    """One request of a page, successful or not."""

    started_at: AwareDatetime
    ended_at: AwareDatetime
    outcome: str


class PageRecord(Record):
    """Where one body came from and where it lies. `path` and `query` hold no secret."""

    file: str
    number: int
    path: str
    query: dict[str, str]
    status: int
    headers: dict[str, str]
    attempts: tuple[AttemptRecord, ...]
    started_at: AwareDatetime
    ended_at: AwareDatetime
    bytes: int
    sha256: str


class LookupRecord(Record):
    """An order that was asked for by its id: it had been working and left the broker's list, or was listed legless.

    `not_found` twice ends the search; `failed` and `deferred` (over the budget of one snapshot) are asked again.
    `legs`: it is listed, without the legs that its class has. Whether it was found or not, this is asked once; the
    answer is kept, record and body, with every snapshot that lists the order so.
    """

    order_id: int
    state: Literal["found", "not_found", "failed", "deferred"]
    times_not_found: int = 0
    reason: str | None = None
    about: Literal["vanished", "legs"] = "vanished"


class FetchRound(Record):
    """One reading of the required resources, and whether they show one state of the account."""

    as_of: AwareDatetime
    as_of_end: AwareDatetime
    verdict: Literal["coherent", "torn", "unknown"]
    evidence: tuple[str, ...]


class UnlistedRecord(Record):
    """An order, or a leg, that had filled by an earlier snapshot and that this one does not show any more.

    Signed quantities and USD as in `reconcile.statement.Part`. What it had filled stays known should it come back.
    """

    order_id: int
    leg_id: int | None
    symbol: str
    filled: Decimal
    cash: Decimal | None
    changed_at: AwareDatetime | None
    rest: Decimal
    created_at: AwareDatetime | None
    price: Decimal | None = None


class Manifest(Record):
    """What was read for one snapshot, when and how.

    `as_of` is when the first resource was read, `as_of_end` when the last one had arrived; both are of the attempts
    that succeeded. `previous_as_of` is the newest as-of of the account that had been landed before. `readings` are all
    that were made; the last one is landed. Snapshots of earlier versions have none: they were not judged.
    `clock_skew_s` is this machine's clock less the broker's, in seconds; None if no answer said what time it was.
    """

    snapshot_id: str
    account_id: str
    environment: str
    trigger: str
    requested_at: AwareDatetime
    previous_as_of: AwareDatetime | None
    code_version: str
    as_of: AwareDatetime
    as_of_end: AwareDatetime
    resources: dict[str, tuple[PageRecord, ...]]
    lookups: tuple[LookupRecord, ...] = ()
    readings: tuple[FetchRound, ...] = ()
    clock_skew_s: float | None = None
    unlisted: tuple[UnlistedRecord, ...] = ()

    @property
    def is_torn(self) -> bool:
        """Whether what is landed was judged not to show one state of the account."""
        return bool(self.readings) and self.readings[-1].verdict == "torn"

    @property
    def clock_was_wrong(self) -> bool:
        """Whether its instants are not to be compared with those of others. Of earlier versions' the answers tell."""
        pages = [page for pages in self.resources.values() for page in pages]
        skew = clock_skew_s(pages) if self.clock_skew_s is None else self.clock_skew_s
        return skew is not None and clock.is_wrong(timedelta(seconds=skew))


class QuotesManifest(Record):
    """How the quotes of one snapshot were read, or why there are none. Nothing to price is `not_needed`."""

    state: Literal["ok", "not_needed", "failed", "missed"]
    reason: str | None
    pages: tuple[PageRecord, ...]
    attempts: tuple[AttemptRecord, ...]


class FailureRecord(Record):
    """Why nothing was landed, beside whatever bodies did arrive."""

    snapshot_id: str
    environment: str
    trigger: str
    failed_at: AwareDatetime
    errors: dict[str, str]
    resources: dict[str, tuple[PageRecord, ...]]


class MissedRecord(Record):
    """A scheduled instant that was not read in time and therefore never will be."""

    snapshot_id: str
    trigger: str
    recorded_at: AwareDatetime
    reason: str


def clock_skew_s(pages: Iterable[PageRecord]) -> float | None:
    """This machine's clock when an answer had come less the broker's `Date`, in seconds; None if no answer has one.

    The answer that differs least counts: it took the least time on its way. A `Date` has whole seconds.
    """
    skews: list[float] = []
    for page in pages:
        with suppress(ValueError, TypeError, OverflowError):
            sent = parsedate_to_datetime(page.headers["date"]) if "date" in page.headers else None
            if sent is not None and sent.tzinfo is not None:
                skews.append((page.ended_at - sent).total_seconds())
    return min(skews, key=abs, default=None)


def to_bytes(record: Record) -> bytes:
    """A manifest as it is filed."""
    return record.model_dump_json(indent=1).encode()


def to_record(model: type[R], body: bytes, path: Path) -> R:
    """What a manifest says.

    Raises:
        LandingError: it is damaged.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise LandingError(
            f"{path} is not a manifest ({error.error_count()} errors)", "Restore it from a backup."
        ) from None


def proven(body: bytes, page: PageRecord, directory: Path) -> bytes:
    """The body of a page, if it is what was landed.

    Raises:
        LandingError: it is not.
    """
    if hashlib.sha256(body).hexdigest() != page.sha256:
        path = directory / page.file
        raise LandingError(f"{path} is not what was landed (sha256 differs)", "Restore it from a backup.")
    return body
