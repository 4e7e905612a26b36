"""A run launcher whose processes begin with everything imported that takes long.

Dagster's default starts a new interpreter for every run, which imports Dagster for a second or more before it reads
anything. These are forked from one process that has done that once. The project's own modules are imported by each
run: what was reloaded in the UI is what runs.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Self

from dagster._config.config_schema import UserConfigSchema
from dagster._core.instance import DagsterInstance
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, RunLauncher, WorkerStatus
from dagster._core.storage.dagster_run import DagsterRun
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClass, serialize_value
from dagster._serdes.config_class import ConfigurableClassData

from tradier_pipeline.core.processes import is_gone, is_known, name_of, pid_of

WORKER_TAG = "tradier/worker"  # of a launched run: host, process id and start
IMPORTED = ["dagster", "dagster._cli.api", "dagster._core.executor.in_process", "duckdb", "httpx", "pydantic_settings"]


class ForkingRunLauncher(RunLauncher[DagsterInstance], ConfigurableClass):
    """Launches each run in a process of its own on this machine, with the command that Dagster's containers use."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        super().__init__()  # type: ignore[no-untyped-call]

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls(inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        assert run.job_code_origin is not None
        arguments = ExecuteRunArgs(run.job_code_origin, run.run_id, self._instance.get_ref())
        # the process it is forked from has the environment of the first launch
        place = dict(os.environ), str(Path.cwd())
        process = _processes().Process(target=_execute, args=(serialize_value(arguments), *place))
        process.start()
        assert process.pid is not None
        self._instance.add_run_tags(run.run_id, {WORKER_TAG: name_of(process.pid)})

    def terminate(self, run_id: str) -> bool:
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        worker = run.tags.get(WORKER_TAG, "")
        pid = pid_of(worker)
        if pid is None or not is_known(worker):  # another process may have its id by now
            return False
        os.kill(pid, signal.SIGTERM)  # the run ends its step and is recorded as canceled
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        if is_gone(run.tags.get(WORKER_TAG, "")):
            return CheckRunHealthResult(WorkerStatus.FAILED, "its process is gone")
        return CheckRunHealthResult(WorkerStatus.RUNNING)


def _processes() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def _execute(arguments: str, environment: Mapping[str, str], directory: str) -> None:
    """Execute a run in a process that was forked for it."""
    gc.freeze()  # what was imported before lives for ever: the collector would go through all of it, in every run
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    from dagster._cli.api import execute_run_command

    execute_run_command.main([arguments], standalone_mode=False)
