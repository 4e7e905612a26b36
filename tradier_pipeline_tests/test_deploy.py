"""The examples under deploy/ are what systemd, launchd, Docker and Dagster's chart accept, and start what there is."""

from __future__ import annotations

import plistlib
import shutil
import subprocess
from configparser import ConfigParser
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from click.testing import CliRunner

from tradier_pipeline.cli import main
from tradier_pipeline.core.settings import Settings

DEPLOY = Path(__file__).parents[1] / "deploy"
UNIT, PLIST = DEPLOY / "tradier-pipeline.service", DEPLOY / "tradier-pipeline.plist"


def unit() -> ConfigParser:
    parser = ConfigParser(interpolation=None, delimiters=("=",), strict=True)
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    parser.read_string(UNIT.read_text())
    return parser


def plist() -> dict[str, object]:
    found: dict[str, object] = plistlib.loads(PLIST.read_bytes())
    return found


@pytest.mark.parametrize("name", ["tradier-pipeline.service", "tradier-pipeline-watch.service"])
def test_systemd_accepts_the_unit(name: str, tmp_path: Path) -> None:
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not installed")
    program = tmp_path / "tradier-pipeline" / ".venv" / "bin" / "tradier-pipeline"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for file in DEPLOY.glob("*.service"):
        (tmp_path / file.name).write_text(file.read_text().replace("%h", str(tmp_path)))
    for file in DEPLOY.glob("*.timer"):
        (tmp_path / file.name).write_text(file.read_text())
    placed = [tmp_path / name, *tmp_path.glob(f"{Path(name).stem}.timer")]
    verified = subprocess.run([analyze, "verify", "--man=no", *placed], capture_output=True, text=True, check=False)
    about_it = [line for line in verified.stderr.splitlines() if name in line]
    assert (verified.returncode, about_it) == (0, []), verified.stderr


def test_the_property_list_is_one_and_its_values_have_the_types_that_launchd_wants() -> None:
    found = plist()
    types = {
        **{"Label": str, "WorkingDirectory": str, "ProgramArguments": list, "RunAtLoad": bool, "KeepAlive": bool},
        **{"ThrottleInterval": int, "ExitTimeOut": int, "Umask": int, "StandardErrorPath": str, "StandardOutPath": str},
    }
    assert {key: type(value) for key, value in found.items()} == types
    assert found["Umask"] == 0o077
    if plutil := shutil.which("plutil"):
        subprocess.run([plutil, "-lint", PLIST], check=True)


@pytest.mark.parametrize("by", ["systemd", "launchd"])
def test_both_start_a_command_that_exists_and_start_it_again_whenever_it_ends(by: str) -> None:
    found, service = plist(), unit()["Service"]
    command = service["ExecStart"].split() if by == "systemd" else found["ProgramArguments"]
    assert isinstance(command, list)
    assert command[0].endswith("/.venv/bin/tradier-pipeline")
    assert CliRunner().invoke(main, [*command[1:], "--help"]).exit_code == 0
    assert (service["Restart"], found["KeepAlive"]) == ("always", True)
    assert int(service["TimeoutStopSec"]) == found["ExitTimeOut"]


def test_the_timer_starts_a_command_that_exists_and_needs_no_daemon() -> None:
    parser = ConfigParser(interpolation=None, delimiters=("=",), strict=True)
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    parser.read_string((DEPLOY / "tradier-pipeline-watch.service").read_text())
    program, command = parser["Service"]["ExecStart"].split()
    assert program.endswith("/.venv/bin/tradier-pipeline")
    assert command in main.commands
    assert parser["Service"]["Type"] == "oneshot"
    assert "OnCalendar=" in (DEPLOY / "tradier-pipeline-watch.timer").read_text()


def test_launchd_watches_as_often_as_the_timer_and_keeps_nothing_running() -> None:
    found = plistlib.loads((DEPLOY / "tradier-pipeline-watch.plist").read_bytes())
    assert found["StartInterval"] == 5 * 60
    assert "KeepAlive" not in found
    program, command, *options = found["ProgramArguments"]
    assert program.endswith("/.venv/bin/tradier-pipeline")
    assert "TRADIER_WATCH_REASON" in main.commands[command].make_context(command, options).params["call"]


def helm_values() -> Any:
    return yaml.safe_load((DEPLOY / "helm-values.yaml").read_text())


def test_the_helm_values_name_a_launcher_a_module_commands_and_settings_that_exist() -> None:
    values = helm_values()
    launcher = values["runLauncher"]["config"]["customRunLauncher"]
    assert hasattr(import_module(launcher["module"]), launcher["class"])
    known = {f"TRADIER_{name}".upper() for name in Settings.model_fields} | {"TRADIER_PIPELINE_HOME"}
    for deployment in values["dagster-user-deployments"]["deployments"]:
        flag, module = deployment["dagsterApiGrpcArgs"]
        assert (flag, find_spec(module) is None) == ("-m", False)
        for sidecar in deployment["sidecarContainers"]:
            assert CliRunner().invoke(main, [*sidecar["command"][1:], "--help"]).exit_code == 0
        containers = [deployment, *deployment["sidecarContainers"]]
        assert {variable["name"] for container in containers for variable in container["env"]} <= known
        mounted = {mount["name"] for container in containers for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in deployment["volumes"]}


def test_the_helm_values_have_no_secret_and_one_daemon_that_retries_nothing() -> None:
    values = helm_values()
    assert values["dagsterDaemon"]["runRetries"] == {"enabled": False}
    assert "replicaCount" not in values["dagsterDaemon"]
    assert "password" not in str(values).replace("PasswordSecret", "").lower()
    assert values["postgresql"]["postgresqlScheme"] == "postgresql+psycopg2"  # the driver that the extra brings


def test_a_container_starts_what_the_chart_or_the_compose_file_names() -> None:
    lines = [line.split() for line in (DEPLOY / "Dockerfile").read_text().splitlines() if line]
    assert "ENTRYPOINT" not in {line[0] for line in lines}  # the chart gives `dagster api grpc` as arguments
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for name in ("one", "two", "reader"):
        program, *arguments = services[name]["command"]
        assert program == "tradier-pipeline"
        assert CliRunner().invoke(main, [arguments[0], "--help"]).exit_code == 0


def test_of_a_home_with_one_writer_the_old_pod_ends_before_the_new_one_begins() -> None:
    for deployment in helm_values()["dagster-user-deployments"]["deployments"]:
        assert deployment["deploymentStrategy"] == {"type": "Recreate"}
