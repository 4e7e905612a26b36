"""A PostgreSQL server of the machine's own packages, on a private port and directory."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tradier_pipeline_tests.support.ports import free_port

PASSWORD = "kept-secret"
_PLACES = ("/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin")


def programs() -> Path | None:
    """Where initdb and pg_ctl are; None: this machine has no server."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    found_in = [path for place in _PLACES for path in Path("/").glob(f"{place[1:]}/initdb")]
    return max(found_in).parent if found_in else None


@dataclass
class Postgres:
    """A server.

    Attributes:
        directory: its own, with `data` in it.
        port: on the loopback interface.
    """

    bin: Path
    directory: Path
    port: int

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://tester:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off -k {self.directory}"
        self._run("pg_ctl", "-D", self._data, "-l", str(self.directory / "log"), "-o", options, "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def create(self, database: str) -> str:
        """An empty database; returns its URL."""
        self._run("psql", self.url(), "-qc", f'CREATE DATABASE "{database}"')
        return self.url(database)

    def initialize(self) -> None:
        secret = self.directory / "password"
        secret.write_text(PASSWORD)
        self._own(secret)
        self._run("initdb", "-D", self._data, "-U", "tester", "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync")

    @property
    def _data(self) -> str:
        return str(self.directory / "data")

    def _own(self, path: Path) -> None:
        if os.getuid() == 0:
            shutil.chown(path, "postgres", "postgres")

    def _run(self, program: str, *arguments: str) -> None:
        # it refuses to serve root
        user = pwd.getpwnam("postgres").pw_uid if os.getuid() == 0 else None
        done = subprocess.run(
            [str(self.bin / program), *arguments],
            user=user,
            cwd=self.directory,
            stdout=subprocess.DEVNULL,  # a server keeps what it inherits open
            stderr=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == 0, f"{program} {arguments}: {done.returncode}"


@contextmanager
def serving() -> Iterator[Postgres]:
    """A server for a while; a test without one on its machine is skipped."""
    found = programs()
    if found is None:
        pytest.skip("no PostgreSQL server on this machine")
    if os.getuid() == 0 and "postgres" not in {user.pw_name for user in pwd.getpwall()}:
        pytest.skip("PostgreSQL serves no root, and there is no user postgres")
    with tempfile.TemporaryDirectory(prefix="postgres-", dir="/tmp", ignore_cleanup_errors=True) as name:
        server = Postgres(found, Path(name), free_port())
        server._own(server.directory)
        server.initialize()
        server.start()
        try:
            yield server
        finally:
            server.stop()
