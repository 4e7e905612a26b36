"""Dagster's webserver behind our guard, as a process of `up`.

Dagster's own command has no place for a guard. What is put together here from its parts is what that command puts
together; should a part be gone in a later version, the UI does not start, rather than start unguarded.
"""

from __future__ import annotations

import os
from contextlib import suppress

import click
import uvicorn
from dagster import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.version import __version__

from tradier_pipeline.instance.guard import Guard

TOKEN_VARIABLE = "TRADIER_UI_TOKEN"  # noqa: S105 - the name of a variable
STATEMENT_TIMEOUT_MS, POOL_RECYCLE_S, MAX_OVERFLOW = 15_000, 3600, 20  # as `dagster-webserver` by default
LIVE_DATA_POLL_MS = 2000
FIRST_PAGE = "/assets/account"  # Dagster's own is a list of job names


@click.command()
@click.option("--workspace", required=True)
@click.option("--host", required=True)
@click.option("--port", type=int, required=True)
def main(workspace: str, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM."""
    token = os.environ.pop(TOKEN_VARIABLE, None) or None  # no child of ours needs it
    with DagsterInstance.get() as instance:
        instance.optimize_for_webserver(STATEMENT_TIMEOUT_MS, POOL_RECYCLE_S, MAX_OVERFLOW)
        target = WorkspaceFileTarget([workspace])
        with WorkspaceProcessContext(instance, version=__version__, workspace_load_target=target) as context:
            app = create_app_from_workspace_process_context(context, "", LIVE_DATA_POLL_MS)
            uvicorn.run(
                Guard(app, host, token, FIRST_PAGE, instance.has_run),
                host=host,
                port=port,
                log_level="warning",
                lifespan="off",
                server_header=False,
            )


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal again once it has ended
        main(standalone_mode=False)
