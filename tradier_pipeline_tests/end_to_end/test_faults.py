"""The fault matrix, docs/faults.md: faults that have no other place, and a proof that every test it names exists."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr

from tradier_pipeline.broker.client import BrokerClient
from tradier_pipeline.cli import main
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.warehouse.reads import connect_readonly, snapshot_ids
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.end_to_end.test_crashes import prove_published
from tradier_pipeline_tests.end_to_end.test_storage_breaks_under_up import small_disk
from tradier_pipeline_tests.end_to_end.test_true_states import ny
from tradier_pipeline_tests.support import bodies
from tradier_pipeline_tests.support.crash_child import POINTS, Job, Nursery
from tradier_pipeline_tests.support.reads import read_positions
from tradier_pipeline_tests.support.sampling import sampled
from tradier_pipeline_tests.support.scripted_account import ACCOUNT, TOKEN, ScriptedAccount, scripted_account
from tradier_pipeline_tests.support.scripted_server import Answer, Request, answer, computed, serving

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
ROW = re.compile(r"^\| (?P<id>[A-Z]\d+) \| (?P<fault>.+?) \| (?P<behaviour>.+?) \| (?P<tests>.+?) \|$", re.MULTILINE)
NAMED = re.compile(r"`(?P<file>[\w/]+\.py)::(?P<test>test_\w+)`")
ROWS = {"N": 6, "H": 8, "P": 6, "T": 5, "C": 3, "K": 11, "D": 7, "S": 5, "V": 4}


def named_tests() -> list[tuple[str, str, str]]:
    """Row, file and function of every test that the page names."""
    rows = ROW.finditer(PAGE.read_text(encoding="utf-8"))
    return [(row["id"], test["file"], test["test"]) for row in rows for test in NAMED.finditer(row["tests"])]


def test_every_fault_of_the_matrix_has_its_row_and_a_test() -> None:
    rows = [row["id"] for row in ROW.finditer(PAGE.read_text(encoding="utf-8"))]
    assert rows == [f"{group}{number}" for group, count in ROWS.items() for number in range(1, count + 1)]
    assert {row for row, _, _ in named_tests()} == set(rows)


def test_every_test_that_the_matrix_names_exists() -> None:
    named = named_tests()
    functions = {file: functions_of(Path(__file__).parents[1] / file) for _, file, _ in named}
    assert [f"{row}: {file}::{test}" for row, file, test in named if test not in functions[file]] == []


@cache
def functions_of(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.exists() else ast.parse("")
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


# --- network


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="tradier-pipeline")


def published(home: Home) -> list[str]:
    with connect_readonly(home.warehouse.path) as connection:
        return snapshot_ids(connection)


def error_line(result: Result) -> str:
    assert result.exit_code == 1
    (line,) = [line for line in result.stderr.splitlines() if "error" in line]
    return line


@pytest.fixture
def account(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedAccount]:
    with scripted_account(home, monkeypatch) as scripted:
        yield scripted


def test_a_name_that_is_not_resolved_costs_the_minute_and_nothing_else(
    home: Home, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(home, simulated.broker)
    before = home.warehouse.path.read_bytes()
    for name, value in {"ENV": "sandbox", "ACCESS_TOKEN": TOKEN, "ACCOUNT_ID": DEMO_ACCOUNT}.items():
        monkeypatch.setenv(f"TRADIER_{name}", value)
    monkeypatch.setenv("TRADIER_BASE_URL", "https://broker.invalid")
    monkeypatch.setenv("NO_PROXY", "*")
    line = error_line(run("snapshot"))
    assert "ConnectError" in line
    with connect_readonly(home.warehouse.path) as connection:
        assert len(snapshot_ids(connection)) == 1
        assert connection.execute("SELECT count(*) FROM missed_snapshots").fetchone() == (1,)
    assert home.warehouse.path.read_bytes() != before  # the failure is a row
    monkeypatch.setenv("TRADIER_BASE_URL", simulated.url)
    monkeypatch.setenv("TRADIER_ACCESS_TOKEN", simulated.broker.token.get_secret_value())
    assert run("snapshot").exit_code == 0


@pytest.fixture
def self_signed(tmp_path: Path) -> ssl.SSLContext:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"]
    try:
        subprocess.run([*command, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("a certificate is made by openssl, which is not installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def test_a_certificate_that_nobody_vouches_for_is_told_and_nothing_is_sent(
    home: Home, self_signed: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(answer("{}"), self_signed) as server:
        settings = {"ENV": "live", "BASE_URL": server.url, "ACCESS_TOKEN": TOKEN, "ACCOUNT_ID": ACCOUNT}
        for name, value in settings.items():
            monkeypatch.setenv(f"TRADIER_{name}", value)
        line = error_line(run("snapshot"))
        assert "ConnectError" in line
        assert server.requests == []


def test_an_answer_that_comes_twice_on_a_connection_is_not_taken_for_the_next_one(account: ScriptedAccount) -> None:
    account.shows(ny("11-20 09:31"), ("KO", 100, 6500))
    late = bodies.dumps(bodies.listed("positions", "position", [bodies.position("TSLA", 999, 1)])).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(late)}\r\n\r\n".encode()

    async def read() -> list[bytes]:
        def twice(request: Request) -> Answer:
            send = account.server(request)

            async def both(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await send(request, reader, writer)
                writer.write(head + late)
                await writer.drain()

            return both

        with serving(computed(twice)) as server:
            async with BrokerClient(server.url, SecretStr(TOKEN)) as client:
                return [(await read_positions(client, ACCOUNT)).pages[0].body for _ in range(5)]

    for body in asyncio.run(read()):
        assert b"KO" in body
        assert b"TSLA" not in body


# --- process and storage


@pytest.fixture
def unlimited() -> Iterator[Simulated]:
    with embedded_simulator(None, limits=None) as url:
        yield Simulated(url)


def lose_power(home: Home, synced: Path) -> None:
    """Of what was not fsynced since it was last written, only the name is left."""
    noted = set(synced.read_text().splitlines()) if synced.exists() else set()
    for path in (*(home.path / "raw").rglob("*"), *home.path.glob("*tradier.duckdb*")):
        status = path.stat()
        if path.is_file() and f"{status.st_ino} {status.st_mtime_ns}" not in noted:
            path.chmod(0o600)
            os.truncate(path, 0)


# while it lands, before it is published, and on either side of that
@sampled("points, variants_of_each", [(("K3", "K4", "K8"), 1), (tuple(POINTS), 2)])
def test_power_lost_at_any_point_takes_nothing_that_was_published(
    points: Sequence[str], variants_of_each: int, home: Home, unlimited: Simulated, children: Nursery, tmp_path: Path
) -> None:
    synced, good = tmp_path / "synced", []
    for point in (None, *points):
        for variant in range(min(len(POINTS[point]), variants_of_each) if point else 1):
            job = Job(home=str(home.path), url=unlimited.url, synced=str(synced), snapshot_id=new_id())
            children.run(Job(**{**vars(job), "point": point, "variant": variant}))
            lose_power(home, synced)
            if home.warehouse.path.exists():
                assert set(good) <= set(published(home)), (point, variant)
            again = Job(**{**vars(job), "snapshot_id": new_id()})
            assert children.run(again).code == 0, (point, variant)
            good.append(again.snapshot_id)
            assert set(good) <= set(published(home))
    prove_published(home)


def new_id() -> str:
    return str(SnapshotId.now(DEMO_ACCOUNT))


def test_a_disk_that_became_read_only_is_told_and_everything_on_it_stays(
    tmp_path: Path, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "64m"):
        home = Home(disk / "home")
        monkeypatch.setenv("TRADIER_PIPELINE_HOME", str(home.path))
        take(home, simulated.broker)
        before = home.warehouse.path.read_bytes()
        remount(disk, "ro")
        line = error_line(run("snapshot"))
        assert "Read-only file system" in line
        assert home.warehouse.path.read_bytes() == before
        remount(disk, "rw")
        assert run("snapshot").exit_code == 0
        assert len(published(home)) == 2


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def test_a_warehouse_of_a_newer_duckdb_is_left_alone_and_can_be_rebuilt(home: Home, simulated: Simulated) -> None:
    landed, _ = take(home, simulated.broker)
    content = bytearray(home.warehouse.path.read_bytes())
    content[12:20] = (9999).to_bytes(8, "little")  # the storage version of the header
    home.warehouse.path.chmod(0o600)
    home.warehouse.path.write_bytes(content)
    wrong = re.search(r"computed checksum (\d+)", error_line(run("query", "SELECT 1")))
    assert wrong is not None
    content[:8] = int(wrong[1]).to_bytes(8, "little")  # as the newer one would have written it
    home.warehouse.path.write_bytes(content)
    for arguments in (["query", "SELECT 1"], ["snapshot"]):
        line = error_line(run(*arguments))
        assert "tradier-pipeline rebuild" in line
        assert home.warehouse.path.read_bytes() == content
    assert run("rebuild").exit_code == 0
    assert str(landed.snapshot_id) in published(home)


def test_a_closed_port_is_told_and_is_no_state(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("TRADIER_BASE_URL", f"http://127.0.0.1:{port}")
    assert "ConnectError" in error_line(run("snapshot"))
    assert list(home.zone.snapshots()) == []
