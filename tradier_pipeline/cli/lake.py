"""Commands about the lake, which has what the homes of all machines have published."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tradier_pipeline import clock
from tradier_pipeline.cli import helps, screen
from tradier_pipeline.cli.options import JSON
from tradier_pipeline.cli.output import echo, print_json, warn, with_settings

if TYPE_CHECKING:
    from tradier_pipeline.core.settings import Settings


@click.group(cls=helps.Group)
def lake() -> None:
    """The lake, where TRADIER_LAKE is set: the history of all machines in one place."""


@lake.command()
@click.option("--follow", is_flag=True, help="Go on with what comes, until interrupted. `up` does so by itself.")
@JSON
@with_settings
def ship(settings: Settings, follow: bool, as_json: bool) -> None:
    """Ship what is published here and not in the lake: proven by count and hash, all or nothing, each thing once."""
    from tradier_pipeline.lake.connection import lake_of
    from tradier_pipeline.lake.ship import Shipper

    place = lake_of(settings)
    if follow:
        if as_json:
            raise click.UsageError("give one of --follow and --json")
        _follow(settings)
        return
    shipper = Shipper(settings.home, settings.warehouse, place)
    try:
        done = shipper.ship()
    finally:
        shipper.close()
    snapshots, rows = sum(one.snapshots for one in done), sum(one.rows for one in done)
    if as_json:
        print_json({"commits": len(done), "snapshots": snapshots, "rows": rows})
    elif done:
        counted = f"{screen.plural(snapshots, 'snapshot')}, {screen.plural(rows, 'row')}"
        echo(f"shipped {counted} in {screen.plural(len(done), 'commit')}")
    else:
        echo("the lake has all that is published here")


def _follow(settings: Settings) -> None:
    import signal
    import threading

    from tradier_pipeline.lake.connection import lake_of
    from tradier_pipeline.lake.follow import follow

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    follow(
        *(settings.home, settings.warehouse, lake_of(settings), settings.lake_keep_days),
        lambda text: warn(f"{clock.iso(clock.now())} {text}"),
        stop,
    )


@lake.command()
@JSON
@with_settings
def status(settings: Settings, as_json: bool) -> None:
    """What is in the lake, from which machines, and how old it is."""
    from dataclasses import asdict

    from tradier_pipeline.core.texts import lasting
    from tradier_pipeline.lake.connection import lake_of
    from tradier_pipeline.lake.status import read_status

    found = read_status(lake_of(settings))
    if as_json:
        print_json(asdict(found))
        return
    echo(f"{found.place}, files in {found.data}")
    if found.schema_version is None:
        echo("nothing is shipped yet")
        return
    counted = f"{screen.plural(found.snapshots, 'snapshot')} of {screen.plural(found.accounts, 'account')}"
    echo(f"{counted}, schema version {found.schema_version}")
    for home in found.homes:
        age = lasting((clock.now() - home.newest_as_of).total_seconds()) if home.newest_as_of else "none"
        when = screen.when(home.shipped_at, seconds=False)
        echo(f"  {home.machine} ({home.home[:8]}): newest snapshot {age} old, last commit {when} New York")
    if found.maintained_at:
        echo(f"maintained {screen.when(found.maintained_at, seconds=False)} New York")


@lake.command()
@JSON
@with_settings
def maintain(settings: Settings, as_json: bool) -> None:
    """Bring what lies in the catalog into files, and small files into large ones. Every night it is done by itself."""
    from dataclasses import asdict

    from tradier_pipeline.lake.connection import lake_of
    from tradier_pipeline.lake.maintain import maintain as maintain_lake

    done = maintain_lake(lake_of(settings), settings.lake_keep_days)
    if as_json:
        print_json(asdict(done))
    else:
        echo(
            f"{done.flushed_rows:,} rows into files, {done.merged_files:,} files merged, {done.removed_files:,} removed"
        )
