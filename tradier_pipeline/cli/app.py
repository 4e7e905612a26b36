"""The command line `tradier-pipeline`: its commands, and how a wrong call ends."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from tradier_pipeline.cli import (
    helps,
    keeping,
    lake,
    ledger,
    looking,
    operating,
    reading,
    returns,
    service,
    snapshots,
    today,
)
from tradier_pipeline.cli.output import print_error, warn
from tradier_pipeline.core import collector
from tradier_pipeline.core.errors import PipelineError

USAGE_ERROR, INTERRUPTED = 2, 130
PRIVATE_UMASK = 0o077  # files and directories are their owner's alone


class Commands(click.Group):
    """The commands; a wrong call is reported in one line like every other failure."""

    def main(self, args: Sequence[str] | None = None, **options: Any) -> Any:  # type: ignore[override]
        arguments = sys.argv[1:] if args is None else list(args)
        before = os.umask(PRIVATE_UMASK)  # also what Dagster writes, and what the processes of `up` write
        try:
            sys.exit(self._main(arguments, options))
        except OSError as error:
            _end_unwritten(error)
        finally:
            os.umask(before)

    def _main(self, arguments: list[str], options: dict[str, Any]) -> Any:
        try:
            return super().main(arguments, **options | {"standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.ctx.get_help() if error.ctx else "")
            sys.exit(0)
        except click.UsageError as error:
            help_command = f"{error.ctx.command_path if error.ctx else 'tradier-pipeline'} --help"
            message = " ".join(error.format_message().split()).rstrip(".?")
            print_error(PipelineError(message, f"See `{help_command}`."), as_json="--json" in arguments)
            sys.exit(USAGE_ERROR)
        except click.Abort:
            warn("tradier-pipeline: interrupted.")
            sys.exit(INTERRUPTED)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an interrupt that it does not tell of itself is one line."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, RuntimeError) as error:
            # DuckDB raises a RuntimeError from what a signal raises amid a query
            if not isinstance(error, KeyboardInterrupt) and not isinstance(error.__cause__, KeyboardInterrupt):
                raise
            warn("tradier-pipeline: interrupted.")
            sys.exit(INTERRUPTED)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands in groups, as a person looks for them."""
        helps.write_groups(formatter)


def _end_unwritten(error: OSError) -> NoReturn:
    """One line if it is stdout that takes no more, as on a full disk; what concerns a file is raised as it is."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it ends
    else:
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF):
            raise error
    cause = f"the output cannot be written: {error.strerror}"
    print_error(PipelineError(cause, "Make room, or write it elsewhere."), as_json=False)
    sys.exit(1)


@click.group(cls=Commands, epilog=helps.COMPLETION, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tradier-pipeline")
def main() -> None:
    """A trustworthy history of a Tradier brokerage account, in DuckDB."""
    # an interrupted connection leaves a coroutine behind, which Python tells at exit: after our own line it is noise
    warnings.filterwarnings("ignore", message="coroutine .* was never awaited", category=RuntimeWarning)
    collector.skip_at_exit()


for command in (
    snapshots.snapshot,
    snapshots.request,
    snapshots.verify,
    snapshots.rebuild,
    snapshots.backfill,
    today.today,
    looking.portfolio,
    looking.spreads,
    looking.orders,
    looking.trades,
    looking.tables,
    looking.describe,
    reading.query,
    reading.balances,
    reading.pnl,
    reading.exposure,
    reading.export,
    reading.summary,
    reading.report,
    returns.returns,
    operating.status,
    service.broker,
    operating.gate,
    operating.findings,
    operating.simulate,
    operating.up,
    operating.listen,
    operating.seal,
    keeping.audit,
    keeping.backup,
    keeping.restore,
    keeping.watch,
    lake.lake,
    ledger.flows,
    ledger.ledger,
):
    main.add_command(command)

helps.add_examples(main)
