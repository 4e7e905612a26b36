"""The Dagster instance of a home: its settings, its first start, and whose they are."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

import pytest
from dagster._core.run_coordinator import QueuedRunCoordinator

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.instance import MANAGED, open_instance
from tradier_pipeline.instance.storage import PooledEventLogStorage, PooledRunStorage
from tradier_pipeline_tests.support.crash_child import Job, Nursery

OURS = files("tradier_pipeline.instance").joinpath("dagster.yaml").read_text(encoding="utf-8")


def test_the_settings_are_what_dagster_takes_them_for(tmp_path: Path) -> None:
    with open_instance(tmp_path / "dagster") as instance:
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        assert instance.run_monitoring_enabled
        assert not instance.run_retries_enabled
        assert isinstance(instance.run_coordinator, QueuedRunCoordinator)
        assert instance.run_coordinator.dequeue_interval_seconds == 1
        assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 8  # type: ignore[union-attr]
        assert instance.run_monitoring_max_runtime_seconds == 180
        assert isinstance(instance.run_storage, PooledRunStorage)
        assert isinstance(instance.event_log_storage, PooledEventLogStorage)
    assert {path.name for path in tmp_path.iterdir()} == {"dagster"}


def test_the_settings_are_kept_current_until_the_user_takes_them_over(tmp_path: Path) -> None:
    path = tmp_path / "dagster.yaml"
    open_instance(tmp_path).dispose()
    assert path.read_text() == OURS
    path.write_text(f"{MANAGED} once upon a time\ntelemetry: {{enabled: true}}\n")
    open_instance(tmp_path).dispose()
    assert path.read_text() == OURS
    theirs = OURS.split("\n", 1)[1].replace("max_concurrent_runs: 8", "max_concurrent_runs: 9")
    path.write_text(theirs)
    with open_instance(tmp_path) as instance:
        assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 9  # type: ignore[union-attr]
    assert path.read_text() == theirs


def test_settings_dagster_refuses_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: perhaps}\nno_such_key: 1\n")
    with pytest.raises(PipelineError, match=r"dagster\.yaml") as reported:
        open_instance(tmp_path)
    assert "\n" not in str(reported.value)


def test_a_home_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(PipelineError, match="TRADIER_PIPELINE_HOME"):
        open_instance(tmp_path / "home" / "dagster")


@pytest.mark.parametrize("before", [None, "/somebody/elses"])
def test_the_callers_dagster_home_is_left_alone(
    before: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before is None:
        monkeypatch.delenv("DAGSTER_HOME")
    else:
        monkeypatch.setenv("DAGSTER_HOME", before)
    with open_instance(tmp_path) as instance:
        assert instance.root_directory == str(tmp_path)
    assert os.environ.get("DAGSTER_HOME") == before


def test_processes_that_open_an_empty_home_at_once_all_succeed(tmp_path: Path, children: Nursery) -> None:
    racers = [children.start(Job(home=str(tmp_path / "home"), work="open", arguments=(key,))) for key in "ab"]
    assert [(ended.code, ended.lines) for ended in map(children.wait, racers)] == [(0, ())] * 2
    with open_instance(tmp_path / "home") as instance:
        assert set(instance.get_dynamic_partitions("keys")) == {"a", "b"}
