"""What this project leans on in Dagster without a promise of its documentation. A failure here explains the others."""

import ast
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module, metadata
from inspect import isfunction, signature
from pathlib import Path

import dagster as dg
import pytest
from alembic.script import ScriptDirectory
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

import tradier_pipeline

PRODUCT = Path(tradier_pipeline.__file__).parent
PARTS = dg.DynamicPartitionsDefinition(name="parts")
LOADED = dg.AssetKey("loaded")


def _unpromised() -> Iterator[tuple[str, str, str]]:
    """Module, name and file of everything that the product imports from Dagster's inside."""
    for path in sorted(PRODUCT.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "from dagster" in text else ():
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(("dagster._", "dagster_")):
                yield from ((node.module, name.name, str(path.relative_to(PRODUCT))) for name in node.names)


@pytest.mark.parametrize(("module", "name", "file"), list(_unpromised()))
def test_what_is_imported_from_dagsters_inside_is_still_there(module: str, name: str, file: str) -> None:
    cause = f"Dagster {metadata.version('dagster')} has no {module}.{name} any more, on which {file} stands"
    try:
        found = hasattr(import_module(module), name)
    except ImportError:
        found = False
    assert found, cause


@pytest.mark.parametrize(
    ("module", "name"),
    [
        *(("storage", name) for name in ("PooledEventLogStorage", "PooledRunStorage", "PooledSqliteStorage")),
        *(("storage", "MadeScheduleStorage"), ("launcher", "ForkingRunLauncher")),
    ],
)
def test_what_is_overridden_of_dagsters_is_still_asked_for_by_the_same_parameters(module: str, name: str) -> None:
    ours = getattr(import_module(f"tradier_pipeline.instance.{module}"), name)  # in here: the causes above come first
    for method, own in vars(ours).items():
        own = getattr(own, "__func__", own)
        if isfunction(own) and method != "__init__":
            theirs = getattr(super(ours, ours), method, None)
            assert theirs is not None, f"Dagster has no {method} any more, which {name} overrides"
            expected = list(signature(getattr(theirs, "__func__", theirs)).parameters)
            assert list(signature(own).parameters) == expected, f"Dagster calls {method} of {name} otherwise"


def test_partitioned_check_specs_are_still_in_preview() -> None:
    # once they are not, the filters in assets/__init__.py and pyproject.toml can go
    with pytest.warns(dg.PreviewWarning, match="Specifying a partitions_def on an AssetCheckSpec"):
        dg.AssetCheckSpec("sound", asset="loaded", partitions_def=PARTS)


def test_code_references_are_still_in_beta() -> None:
    @dg.asset
    def anything() -> None: ...

    with pytest.warns(dg.BetaWarning, match="with_source_code_references"):
        dg.with_source_code_references([anything])


def _checked(partitions: dg.PartitionsDefinition, *, sound: bool) -> dg.Definitions:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        spec = dg.AssetCheckSpec("sound", asset=LOADED, blocking=True, partitions_def=partitions)

    @dg.asset(key=LOADED, partitions_def=partitions, check_specs=[spec])
    def loaded() -> Iterator[dg.AssetCheckResult | dg.MaterializeResult[None]]:
        yield dg.AssetCheckResult(check_name="sound", passed=sound, metadata={"seen": 1})
        if not sound:
            raise dg.Failure("refused", allow_retries=False)
        yield dg.MaterializeResult()

    @dg.asset(deps=[LOADED], partitions_def=partitions)
    def downstream() -> None: ...

    job = dg.define_asset_job("load", selection="*", executor_def=dg.in_process_executor)
    return dg.Definitions([loaded, downstream], jobs=[job])


def test_check_results_yielded_before_a_failure_are_stored_and_nothing_is_materialized() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("parts", ["a", "b"])
        for key, sound in (("a", True), ("b", False)):
            job = _checked(PARTS, sound=sound).resolve_job_def("load")
            result = job.execute_in_process(instance=instance, partition_key=key, raise_on_error=False)
            assert result.success is sound
            (evaluation,) = result.get_asset_check_evaluations()
            assert (evaluation.partition, evaluation.passed) == (key, sound)
        records = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(LOADED, "sound"), limit=5
        )
        assert [(record.partition, record.status.value) for record in records] == [("b", "FAILED"), ("a", "SUCCEEDED")]
        assert instance.get_materialized_partitions(LOADED) == {"a"}
        assert instance.get_materialized_partitions(dg.AssetKey("downstream")) == {"a"}


def test_execute_in_process_takes_no_partition_key_for_a_check_alone() -> None:
    @dg.asset(partitions_def=PARTS)
    def plain() -> None: ...

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)

        @dg.asset_check(asset=plain, partitions_def=PARTS)
        def alone(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=context.partition_key == "a")

    definitions = dg.Definitions(
        [plain], asset_checks=[alone], jobs=[dg.define_asset_job("check", dg.AssetSelection.checks(alone))]
    )
    job = definitions.resolve_job_def("check")
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("parts", ["a"])
        with pytest.raises(Exception, match="no PartitionsDefinition shared"):
            job.execute_in_process(instance=instance, partition_key="a")
        result = job.execute_in_process(instance=instance, tags={"dagster/partition": "a"})
        assert [(one.partition, one.passed) for one in result.get_asset_check_evaluations()] == [("a", True)]


def test_a_run_inside_an_op_is_recorded_as_a_run_of_its_own() -> None:
    @dg.op
    def inner_op() -> None: ...

    @dg.job(executor_def=dg.in_process_executor)
    def inner() -> None:
        inner_op()

    @dg.op
    def outer_op(context: dg.OpExecutionContext) -> None:
        assert inner.execute_in_process(instance=context.instance).success

    @dg.job(executor_def=dg.in_process_executor)
    def outer() -> None:
        outer_op()

    with dg.DagsterInstance.ephemeral() as instance:
        assert outer.execute_in_process(instance=instance).success
        recorded = [(run.job_name, run.status) for run in instance.get_runs()]
    assert recorded == [("inner", dg.DagsterRunStatus.SUCCESS), ("outer", dg.DagsterRunStatus.SUCCESS)]


@dg.asset
def noted() -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"rows": 3})


POOLED = """
storage:
  custom:
    module: tradier_pipeline.instance.storage
    class: PooledSqliteStorage
    config: {base_dir: HOME}
"""
PLAIN = """
run_storage: {module: dagster._core.storage.runs, class: SqliteRunStorage, config: {base_dir: HOME/history}}
event_log_storage:
  module: dagster._core.storage.event_log
  class: ConsolidatedSqliteEventLogStorage
  config: {base_dir: HOME/history}
schedule_storage:
  module: dagster._core.storage.schedules
  class: SqliteScheduleStorage
  config: {base_dir: HOME/schedules}
"""


def _open(home: Path, storage: str) -> dg.DagsterInstance:
    (home / "dagster.yaml").write_text(storage.replace("HOME", str(home)) + "telemetry: {enabled: false}\n")
    return dg.DagsterInstance.from_config(str(home))


@pytest.mark.parametrize(("writer", "reader"), [(POOLED, PLAIN), (PLAIN, POOLED)], ids=["read plainly", "read pooled"])
def test_kept_connections_leave_the_files_to_dagsters_own_storage_and_take_them_over(
    writer: str, reader: str, tmp_path: Path
) -> None:
    with _open(tmp_path, writer) as instance:
        run_id = dg.materialize([noted], instance=instance).run_id
        instance.add_dynamic_partitions("parts", ["a"])
        written = [entry.message for entry in instance.all_logs(run_id)]
    with _open(tmp_path, reader) as instance:
        (run,) = instance.get_runs()
        assert (run.run_id, run.status) == (run_id, dg.DagsterRunStatus.SUCCESS)
        assert [entry.message for entry in instance.all_logs(run_id)] == written != []
        assert instance.get_dynamic_partitions("parts") == ["a"]
        entry = instance.get_latest_materialization_event(noted.key)
        assert entry is not None
        assert entry.asset_materialization is not None
        assert entry.asset_materialization.metadata["rows"].value == 3
        assert dg.materialize([noted], instance=instance).success  # and goes on writing
        assert len(instance.get_runs()) == 2


def test_a_storage_that_was_made_is_opened_without_loading_dagsters_migrations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    look = ScriptDirectory.as_revision_number

    def looking(self: ScriptDirectory, name: str | None) -> object:
        looked.append(str(name))
        return look(self, name)

    monkeypatch.setattr(ScriptDirectory, "as_revision_number", looking)
    with _open(tmp_path, POOLED) as instance:
        dg.materialize([noted], instance=instance)
    assert looked  # an absent one is made by Dagster
    looked.clear()
    with _open(tmp_path, POOLED) as instance:
        assert len(instance.get_runs()) == 1
        assert instance.all_instigator_state() == []
    assert looked == []
    for name in ("history/runs.db", "schedules/schedules.db"):  # half made by a process that died
        with closing(sqlite3.connect(tmp_path / name)) as connection, connection:
            connection.execute("DELETE FROM alembic_version")
    with _open(tmp_path, POOLED) as instance:
        assert len(instance.get_runs()) == 1
    assert looked == ["head", "head"]


def _versions(home: Path) -> dict[str, list[str]]:
    found = {}
    for name in ("history/runs.db", "history/event_log.db", "schedules/schedules.db"):
        with closing(sqlite3.connect(home / name)) as connection:
            found[name] = [version for (version,) in connection.execute("SELECT version_num FROM alembic_version")]
    return found


def test_every_database_says_of_which_version_it_is_and_one_that_does_not_yet_is_told(tmp_path: Path) -> None:
    with _open(tmp_path, PLAIN) as instance:
        dg.materialize([noted], instance=instance)
    (version,) = _versions(tmp_path)["history/runs.db"]
    assert _versions(tmp_path)["history/event_log.db"] == []  # once Dagster commits it, _stamp_events can go
    for _ in range(2):
        with _open(tmp_path, POOLED) as instance:
            assert len(instance.get_runs()) == 1
        assert set(map(tuple, _versions(tmp_path).values())) == {(version,)}
    with _open(tmp_path, POOLED) as instance:
        instance.upgrade()  # `dagster instance migrate`
        assert dg.materialize([noted], instance=instance).success
    assert set(map(tuple, _versions(tmp_path).values())) == {(version,)}


def test_two_open_instances_see_each_others_runs(tmp_path: Path) -> None:
    with _open(tmp_path, POOLED) as one, _open(tmp_path, POOLED) as other:
        first = dg.materialize([noted], instance=one).run_id
        second = dg.materialize([noted], instance=other).run_id
        assert {run.run_id for run in one.get_runs()} == {run.run_id for run in other.get_runs()} == {first, second}


def test_dagsters_own_storage_cannot_tell_the_checks_of_dynamic_partitions_without_being_told_of_their_keys(
    tmp_path: Path,
) -> None:
    # once it can, get_asset_check_state of our storage can go
    sound = dg.AssetCheckKey(LOADED, "sound")
    for storage, fails in ((PLAIN, True), (POOLED, False)):
        home = tmp_path / str(fails)
        home.mkdir()
        with _open(home, storage) as instance:
            instance.add_dynamic_partitions("parts", ["a"])
            job = _checked(PARTS, sound=True).resolve_job_def("load")
            assert job.execute_in_process(instance=instance, partition_key="a").success
            if fails:
                with pytest.raises(Exception, match="The instance is not available to load partitions"):
                    instance.event_log_storage.get_asset_check_state([(sound, PARTS)])
            else:
                assert set(instance.event_log_storage.get_asset_check_state([(sound, PARTS)])) == {sound}


def test_an_evaluation_is_of_the_materialization_that_it_names_and_needs_no_planned_one() -> None:
    # assets/claims.py makes the evaluations of a snapshot itself, after what they are about is materialized
    @dg.asset(key=LOADED, partitions_def=PARTS)
    def loaded(context: dg.AssetExecutionContext) -> Iterator[dg.AssetCheckEvaluation | dg.MaterializeResult[None]]:
        yield dg.MaterializeResult()
        wanted = dg.AssetRecordsFilter(LOADED, asset_partitions=["a"])
        (record,) = context.instance.fetch_materializations(wanted, limit=1).records
        target = AssetCheckEvaluationTargetMaterializationData(
            storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp
        )
        for name, about in (("reported", target), ("untold", None)):
            yield dg.AssetCheckEvaluation(
                asset_key=LOADED, check_name=name, passed=True, target_materialization_data=about, partition="a"
            )

    job = dg.Definitions([loaded], executor=dg.in_process_executor).resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("parts", ["a"])
        assert job.execute_in_process(instance=instance, partition_key="a").success
        keys = [dg.AssetCheckKey(LOADED, name) for name in ("reported", "untold")]
        found = instance.event_log_storage.get_asset_check_partition_info(keys)
    assert {one.check_key.name: one.is_current for one in found} == {"reported": True, "untold": False}


def test_the_webserver_can_be_put_together_from_the_parts_that_our_guard_stands_in_front_of() -> None:
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster_webserver.app import create_app_from_workspace_process_context

    assert list(signature(create_app_from_workspace_process_context).parameters)[:3] == [
        *("workspace_process_context", "path_prefix", "live_data_poll_rate")
    ]
    assert {"instance", "workspace_load_target", "version"} <= signature(WorkspaceProcessContext).parameters.keys()
    assert list(WorkspaceFileTarget(["workspace.yaml"]).paths) == ["workspace.yaml"]
