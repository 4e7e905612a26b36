"""Walking all that the home holds, offline: chains, landed bytes, archives, sealed months, warehouse; and the outside
anchors of the chains' heads.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import httpx

from tradier_pipeline import clock
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.files import create_private, sync, writing
from tradier_pipeline.core.settings import Settings, is_safe_url
from tradier_pipeline.domain.daily_summary import content_key
from tradier_pipeline.landing.audit import Audited, Walked, audit_landing, walk
from tradier_pipeline.landing.chain import Head
from tradier_pipeline.landing.zone import Damaged, LandingZone
from tradier_pipeline.ledger.audit import audit_ledger
from tradier_pipeline.publish.missed import missed_row
from tradier_pipeline.verify import warehouse_audit
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.reads import connect_readonly, require_current
from tradier_pipeline.warehouse.sealed_chain import sealed_chain
from tradier_pipeline.warehouse.sql import rows_of
from tradier_pipeline.warehouse.staging import sealed_directory

ANCHOR_TIMEOUT_S = 10.0


class AnchorError(PipelineError):
    """An anchor cannot be written, sent or read."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What was walked, and what of it is not as it was.

    `snapshots`: how many stored ones were proven row by row; None: the warehouse was not looked at.
    """

    landing: Audited
    sealed: Walked
    snapshots: int | None
    wrong: tuple[Damaged, ...]
    ledger: tuple[Walked, ...] = ()

    @property
    def chains(self) -> tuple[Walked, ...]:
        return (*self.landing.chains, *([self.sealed] if self.sealed.links else []), *self.ledger)

    def lacks(self, anchors: Sequence[tuple[str, Head]]) -> Iterator[Damaged]:
        """The heads that were anchored once and that no chain has come to."""
        chains = {chain.name: chain for chain in self.chains}
        for name, head in anchors:
            if name not in chains or not chains[name].contains(head):
                what = f"the chain of {name} has no line {head.number} of the hash {head.hash[:16]}..."
                yield Damaged(
                    f"anchor: {name} {head.number}", f"{what}, which was anchored: it was cut off or written anew"
                )


def audit(settings: Settings, *, rows: bool = True) -> Audit:
    """Walk the home. Reads only; snapshots go on meanwhile.

    Args:
        rows: prove the stored rows, too, which takes the longest.

    Raises:
        BusyError: another process has been filing for a minute.
    """
    zone = LandingZone(settings.landing)
    landing = audit_landing(zone)
    root = sealed_directory(settings.warehouse)
    of_sealed = walk(sealed_chain(root))
    ledger = audit_ledger(settings.ledger)
    wrong = [*landing.wrong, *of_sealed.wrong, *(damage for chain in ledger for damage in chain.wrong)]
    snapshots = None
    if settings.warehouse.exists():
        snapshots, found = _audit_warehouse(settings, landing, of_sealed, rows=rows)
        wrong += found
    return Audit(landing, of_sealed, snapshots if rows else None, tuple(wrong), tuple(ledger))


def _audit_warehouse(
    settings: Settings, landing: Audited, of_sealed: Walked, *, rows: bool
) -> tuple[int, list[Damaged]]:
    path, zone = settings.warehouse, LandingZone(settings.landing)
    places = {damage.path for damage in landing.wrong}
    days = {Path(place) for place in places if place.endswith(".zip")}

    def known(directory: Path) -> bool:
        own = str(directory)
        return any(place.startswith(own) for place in places) or directory.parent.with_suffix(".zip") in days

    found: list[Damaged] = []
    try:
        with connect_readonly(path) as connection:
            require_current(connection)
            found += warehouse_audit.audit_bytes(connection, path)
            if found:
                return 0, found  # what cannot be read cannot be proven
            (snapshots,) = connection.execute("SELECT count(*) FROM tradier_snapshots").fetchone() or (0,)
            found += warehouse_audit.audit_heads(connection, landing.chains)
            found += warehouse_audit.audit_sealed(connection, of_sealed, sealed_directory(path))
            if rows:
                found += warehouse_audit.audit_definitions(connection)
                if not any(damage.path.endswith(".parquet") for damage in found):
                    found += warehouse_audit.audit_derived(connection)
                found += warehouse_audit.audit_rows(connection, zone, known)
                found += warehouse_audit.audit_posted(connection, zone, known)
                found += _missed_rows(connection, zone, known)
                found += _summaries(connection)
    except (PipelineError, duckdb.Error) as error:
        found.append(Damaged(str(path), f"{path} cannot be read: {str(error).splitlines()[0][:300]}"))
        return 0, found
    return snapshots, found


def _missed_rows(
    connection: duckdb.DuckDBPyConnection, zone: LandingZone, known: Callable[[Path], bool]
) -> Iterator[Damaged]:
    """The instants without a snapshot beside the records that tell of them. Why one was refused no record tells."""
    for stored in rows_of(connection, f"FROM {schema.MISSED_SNAPSHOTS.name} ORDER BY snapshot_id"):
        path, named = zone.root / stored["path"], f"{schema.MISSED_SNAPSHOTS.name}: {stored['snapshot_id']}"
        if known(path):
            continue
        try:
            given = missed_row(
                zone, path, stored["snapshot_id"], stored["reason"] if stored["kind"] == "refused" else None
            )
        except (PipelineError, ValueError) as error:
            yield Damaged(named, f"{named} cannot be proven: {str(error).splitlines()[0][:300]}")
            continue
        for column in (name for name, value in given.items() if stored[name] != value):
            yield Damaged(named, f"{named}: {column} is {stored[column]}, and {given[column]} was recorded")


def _summaries(connection: duckdb.DuckDBPyConnection) -> Iterator[Damaged]:
    """Each revision of a day's summary has the hash of its figures in it."""
    for row in rows_of(connection, f"FROM {schema.DAILY_SUMMARIES.name} ORDER BY account_id, trade_date, revision"):
        if content_key(row) != row["content_key"]:
            named = f"{schema.DAILY_SUMMARIES.name}: {row['account_id']} {row['trade_date']} revision {row['revision']}"
            yield Damaged(named, f"{named} does not have the figures that it was made with")


def anchor(where: str, chains: Sequence[Walked]) -> int:
    """Append the heads to a file, or send them to a URL by POST, as JSON; returns how many.

    Raises:
        AnchorError: it cannot be written or was not taken.
    """
    at = clock.iso(clock.now())
    heads = [{"at": at, "chain": one.name, "entries": one.head.number, "head": one.head.hash} for one in chains]
    if is_url(where):
        _send(where, heads)
    else:
        _append(Path(where), heads)
    return len(heads)


def is_url(where: str) -> bool:
    """Whether an anchor is a URL, and not a file."""
    return where.startswith(("http://", "https://"))


def _append(path: Path, heads: Sequence[object]) -> None:
    with writing(path):
        create_private(path)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(head)}\n" for head in heads)
        sync(path)


def _send(url: str, heads: Sequence[object]) -> None:
    response = _asked("POST", url, "did not take", json={"heads": heads})
    if not response.is_success:
        raise AnchorError(f"{_host(url)} did not take the anchor: HTTP {response.status_code}", "Try again.")


def _asked(method: str, url: str, failing: str, **content: Any) -> httpx.Response:
    """What a URL of the owner's answers. The URL is a secret: no message and no log has more of it than the host."""
    if not is_safe_url(url):
        raise AnchorError("the URL of the anchor is not an https URL", "Use https; http is for this machine only.")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it quotes the URLs
    try:
        return httpx.request(method, url, timeout=ANCHOR_TIMEOUT_S, follow_redirects=False, **content)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise AnchorError(f"{_host(url)} {failing} the anchor: {type(error).__name__}", "Try again.") from None


def _host(url: str) -> str:
    return urlsplit(url).hostname or "no host"


def read_anchors(where: str) -> list[tuple[str, Head]]:
    """What `anchor` has written to a file, or what a URL keeps of what was sent to it: chain and head.

    Raises:
        AnchorError: it cannot be read, or something in it is no anchor.
    """
    if is_url(where):
        name, remedy = _host(where), "Name a URL that answers GET with what `tradier-pipeline audit --anchor` has sent."
        response = _asked("GET", where, "did not give")
        if not response.is_success:
            raise AnchorError(f"{name} did not give the anchor: HTTP {response.status_code}", remedy)
        text = response.text
    else:
        name, remedy = where, "Name a file that `tradier-pipeline audit --anchor` has written."
        try:
            text = Path(where).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            cause = getattr(error, "strerror", None) or "not UTF-8"
            raise AnchorError(f"cannot read {where}: {cause}", remedy) from None
    anchors = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            document = json.loads(line)
            heads = document.get("heads", [document])
            anchors += [(str(one["chain"]), Head(int(one["entries"]), str(one["head"]))) for one in heads]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise AnchorError(f"line {number} of {name} is no anchor", remedy) from None
    if not anchors:
        raise AnchorError(f"{name} has no anchor", remedy)
    return anchors
