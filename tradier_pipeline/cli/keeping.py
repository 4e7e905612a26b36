"""Commands that prove, back up and restore what a home holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tradier_pipeline import clock
from tradier_pipeline.cli import screen
from tradier_pipeline.cli.options import JSON
from tradier_pipeline.cli.output import echo, print_json, warn, with_settings
from tradier_pipeline.cli.progress import shown
from tradier_pipeline.core.errors import PipelineError

if TYPE_CHECKING:
    from tradier_pipeline.core.settings import Settings
    from tradier_pipeline.publish.audit import Audit

SHOWN_WRONG = 100


@click.command()
@click.option("--anchor", metavar="FILE|URL", help="Then append the heads of the chains to FILE, or POST them to URL.")
@click.option(
    "--against",
    metavar="FILE|URL",
    help="Prove that the chains still have the heads that --anchor has written to FILE, or that URL answers with.",
)
@click.option(
    "--quick", is_flag=True, help="Do not prove the stored rows: landed bytes, archives, chains, files alone."
)
@JSON
@with_settings
def audit(settings: Settings, anchor: str | None, against: str | None, quick: bool, as_json: bool) -> int:
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


@click.command()
@click.argument("where", metavar="FOLDER|URL")
@click.option("--keep", type=click.IntRange(1, 1000), default=3, show_default=True, help="How many backups stay.")
@JSON
@with_settings
def backup(settings: Settings, where: str, keep: int, as_json: bool) -> None:
    """Back the home up into FOLDER, on another disk, or an object store, such as s3://bucket/tradier.

    Only what is new is copied; snapshots go on meanwhile.
    Not copied: Dagster's run history, and .env, which holds the token.
    """
    from tradier_pipeline.publish.backup import backup as back_up
    from tradier_pipeline.publish.backup_places import SUFFIX

    with shown():
        done = back_up(settings, where, keep)
    if as_json:
        print_json(_as_document(done))
        return
    echo(f"{where}: {done.name.removesuffix(SUFFIX)}, {done.files:,} files, {done.bytes / 1e6:,.1f} MB")
    echo(f"copied {done.copied_files:,} files, {done.copied_bytes / 1e6:,.1f} MB in {done.seconds:,.1f} s")


@click.command()
@click.argument("where", metavar="FOLDER|URL")
@click.option("--to", type=click.Path(path_type=Path), metavar="HOME", help="Where to. Default: the home that is set.")
@click.option("--at", metavar="INSTANT", help="The beginning of a backup's name. Default: the newest.")
@JSON
@with_settings
def restore(settings: Settings, where: str, to: Path | None, at: str | None, as_json: bool) -> int:
    """Restore a home from the backups in FOLDER or at URL, and prove it by an audit. The home has to be empty.

    The next snapshot continues its history.
    """
    from tradier_pipeline.publish import audit as auditing
    from tradier_pipeline.publish import backup as backups

    with shown():
        done = backups.restore(where, to or settings.home, at)
        audited = auditing.audit(settings.model_copy(update={"pipeline_home": done.home}))
    wrong = audited.wrong
    if as_json:
        print_json(_as_document(done) | {"wrong": [{"path": one.path, "reason": one.reason} for one in wrong]})
        return 1 if wrong else 0
    size = f"{done.files:,} files, {done.bytes / 1e6:,.1f} MB"
    echo(f"{done.home}: restored as of {screen.when(done.at)} New York, {size} in {done.seconds:,.1f} s")
    for one in wrong[:SHOWN_WRONG]:
        echo(f"wrong: {one.reason}")
    if wrong:
        warn(f"tradier-pipeline: {screen.plural(len(wrong), 'place')} not as filed when it was backed up.")
        return 1
    _print_audit(audited, 0)
    echo("all as filed")
    return 0


def _as_document(done: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(done)


@click.command()
@click.option("--call", metavar="COMMAND", help="Run it if history is not current; why is in TRADIER_WATCH_REASON.")
@click.option("--url", metavar="URL", help="POST why to this URL, too. https, or http for this machine.")
@JSON
@with_settings
def watch(settings: Settings, call: str | None, url: str | None, as_json: bool) -> int:
    """Say whether the history is current: nothing and exit code 0 if it is, else one line and exit code 1.

    Made for cron or a systemd timer: needs neither `up` nor Dagster, only the files of the home. Judged by the
    exchange's calendar and the cycles that are switched on, as `status` does.
    """
    from pydantic import SecretStr

    from tradier_pipeline.core.settings import is_safe_url
    from tradier_pipeline.monitoring import watch as watching
    from tradier_pipeline.monitoring.ping import ping

    if url is not None and not is_safe_url(url):
        raise click.UsageError("--url is not an https URL; http is for this machine only")
    reason = watching.not_current(settings, clock.now())
    if as_json:
        print_json({"current": reason is None, "reason": reason})
    if reason is None:
        return 0
    if not as_json:
        warn(f"tradier-pipeline: {reason}.")
    for tell, target in ((watching.call, call), (lambda one, why: ping(SecretStr(one), why), url)):
        try:
            if target is not None:
                tell(target, reason)
        except PipelineError as error:  # the other one is still to be told
            warn(f"tradier-pipeline: error: {error}")
    return 1
