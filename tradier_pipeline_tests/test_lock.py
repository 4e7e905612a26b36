"""The locks: what is installed, proven file by file, wherever it is downloaded from; and what is seen meanwhile."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tradier_pipeline_tests.support.terminal import plain, program_on_terminal

PROJECT = Path(__file__).parents[1]
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)", re.MULTILINE)
USERS, DEVELOPERS = "requirements.lock", "requirements-dev.lock"


def text_of(name: str) -> str:
    return (PROJECT / name).read_text()


def pins(text: str) -> dict[str, str]:
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in PIN.findall(text)}


def test_the_lock_has_the_pins_of_the_constraints_and_what_other_platforms_need() -> None:
    pinned, locked = pins(text_of("constraints.txt")), pins(text_of(DEVELOPERS))
    assert pinned.items() <= locked.items()
    assert {"pip", "setuptools", "dagster", "duckdb"} <= locked.keys()
    others = re.findall(r"^([A-Za-z0-9._-]+)==\S+ ; (.*) \\$", text_of(DEVELOPERS), re.MULTILINE)
    assert locked.keys() - pinned.keys() <= {name.replace("_", "-").lower() for name, _ in others}


def test_users_get_what_snapshots_the_ui_and_reports_need_and_no_developers_package() -> None:
    users = pins(text_of(USERS))
    assert users.items() <= pins(text_of(DEVELOPERS)).items()
    assert {"pip", "setuptools", "dagster-webserver", "duckdb", "vl-convert-python", "apprise", "websockets"} <= set(
        users
    )
    assert not {"pytest", "mypy", "ruff", "hypothesis", "ipykernel", "playwright", "import-linter"} & set(users)


@pytest.mark.parametrize("name", [USERS, DEVELOPERS])
def test_every_package_has_hashes_and_no_line_names_a_host(name: str) -> None:
    lock = text_of(name)
    blocks = re.split(r"\n(?=\S)", lock.strip())[1:]
    assert len(blocks) == len(pins(lock))
    for block in blocks:
        assert re.fullmatch(r"\S+==[^\n]*(\n    --hash=sha256:[0-9a-f]{64}( \\)?)+", block), block
    assert "://" not in lock
    assert "--index" not in lock
    assert "--find-links" not in lock


# what pip says on a pipe while it installs two packages of three
PIP = """
import sys, time
print("Collecting duckdb==1.5.6 (from -r requirements.lock (line 2))", flush=True)
print("Ignoring colorama: markers 'sys_platform == \\"win32\\"' don't match your environment", flush=True)
print("Requirement already satisfied: rich==15.0.0 in ./site-packages", flush=True)
if "broken.lock" in sys.argv:
    sys.exit("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES")
time.sleep(0.5)
print("Installing collected packages: duckdb", flush=True)
"""


@pytest.fixture
def installing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What installs two locks, with a pip that only says what the real one would."""
    (tmp_path / "pip.py").write_text(PIP)
    for name in ("some.lock", "broken.lock"):
        (tmp_path / name).write_text("duckdb==1.5.6 \\\n    --hash=\ncolorama==1 ; x \\\nrich==15 \\\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return str(PROJECT / "deploy/install.py")


def test_in_a_pipe_the_install_is_two_lines(installing: str) -> None:
    done = subprocess.run([sys.executable, installing, "some.lock"], capture_output=True, text=True, check=True)
    first, last = done.stdout.splitlines()
    assert first == "installing 3 packages"
    assert re.fullmatch(r"installed  2 packages, each proven by its hash +\d+\.\d s", last)
    assert done.stderr == ""


def test_on_a_terminal_it_moves_and_leaves_one_line(installing: str) -> None:
    code, seen = program_on_terminal(Path(installing), "some.lock")
    assert code == 0
    assert re.search(r"installing ━+─+ 2 of 2 packages fetched, \d s  rich", seen)
    assert re.fullmatch(r"installed .* s", plain(seen).strip().split("\r")[-1])


def test_what_pip_refuses_is_said_and_fails(installing: str) -> None:
    done = subprocess.run([sys.executable, installing, "broken.lock"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert "installed" not in done.stdout
