"""Commands that prove, back up and restore what a home holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tradier_pipeline.cli import screen
from tradier_pipeline.cli.options import JSON
from tradier_pipeline.cli.output import echo, print_json, warn, with_settings
from tradier_pipeline.cli.progress import shown

if TYPE_CHECKING:
    from tradier_pipeline.core.settings import Settings
    from tradier_pipeline.publish.audit import Audit

SHOWN_WRONG = 100


@click.command()
@click.option("--anchor", metavar="FILE|URL", help="Then append the heads of the chains to FILE, or POST them to URL.")
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Prove that the chains still have the heads that --anchor has written to FILE.",
)
@click.option(
    "--quick", is_flag=True, help="Do not prove the stored rows: landed bytes, archives, chains, files alone."
)
@JSON
@with_settings
def audit(settings: Settings, anchor: str | None, against: Path | None, quick: bool, as_json: bool) -> int:
    """Prove that all is as it was filed: chains, landed bytes, archives, sealed months, stored rows. Needs no network.

    Names what was changed, removed, inserted or reordered, with its place. Exit code 1 if anything was.
    """
    from tradier_pipeline.publish import audit as auditing

    anchors = auditing.read_anchors(against) if against else []
    with shown():
        done = auditing.audit(settings, rows=not quick)
    wrong = [*done.wrong, *done.lacks(anchors)]
    anchored = auditing.anchor(anchor, done.chains) if anchor and not wrong else None
    if as_json:
        print_json(
            {
                "ok": not wrong,
                "chains": [
                    {"chain": one.name, "entries": one.head.number, "head": one.head.hash, "found": one.found}
                    for one in done.chains
                ],
                "files": done.landing.files,
                "bytes": done.landing.bytes,
                "snapshots": done.snapshots,
                "anchors": len(anchors),
                "anchored": anchored,
                "wrong": [{"path": one.path, "reason": one.reason} for one in wrong],
            }
        )
        return 1 if wrong else 0
    _print_audit(done, len(anchors))
    for one in wrong[:SHOWN_WRONG]:
        echo(f"wrong: {one.reason}")
    if len(wrong) > SHOWN_WRONG:
        echo(f"and {len(wrong) - SHOWN_WRONG:,} more")
    if wrong:
        warn(f"tradier-pipeline: {screen.plural(len(wrong), 'place')} not as filed. Restore them from a backup.")
        return 1
    echo(f"all as filed{f'; {anchored} heads anchored' if anchored is not None else ''}")
    return 0


def _print_audit(done: Audit, anchors: int) -> None:
    for chain in done.chains:
        since = f", {chain.found:,} of them filed before it began" if chain.found else ""
        echo(f"{chain.name}: {chain.head.number:,} entries{since}, head {chain.head.hash}")
    rows = f"; rows of {done.snapshots:,} snapshots proven" if done.snapshots is not None else "; rows not looked at"
    against = f"; {anchors:,} anchors" if anchors else ""
    echo(f"{done.landing.files:,} files, {done.landing.bytes / 1e6:,.1f} MB{rows}{against}")
