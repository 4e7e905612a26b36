"""A PostgreSQL of our own: Debian's, on a private port and directory, as a user that is not root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tradier_pipeline_tests.support.ports import free_port

USER, PASSWORD = "lake", "not-for-logs-7f3a"
DEBIAN = Path("/usr/lib/postgresql")


def binaries() -> Path | None:
    """Where `initdb` and `pg_ctl` are; None: there is no PostgreSQL."""
    installed = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name))
    found = str(installed[-1]) if installed else shutil.which("initdb")
    return Path(found).parent if found else None


@dataclass(frozen=True)
class Postgres:
    """A server that runs until `stop`; it keeps its port and its databases."""

    bin: Path
    directory: Path
    port: int

    def start(self) -> None:
        options = f"-p {self.port} -k {self.directory} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = str(self.directory / "log")
        self._run("pg_ctl", "-D", str(self.directory / "data"), "-o", options, "-l", log, "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.directory / "data"), "-m", "immediate", "-w", "stop")

    def create(self) -> None:
        secret = self.directory / "secret"
        secret.write_text(PASSWORD)
        if os.getuid() == 0:
            shutil.chown(secret, "postgres")
        data = str(self.directory / "data")
        self._run("initdb", "-D", data, "-U", USER, "--auth", "scram-sha-256", "--pwfile", str(secret), "--no-sync")

    def sql(self, query: str, database: str = "postgres") -> str:
        address = ("-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", database)
        return self._run("psql", *address, "-At", "-c", query).strip()

    def address(self, database: str) -> str:
        """As TRADIER_LAKE has it, password included."""
        return f"ducklake:postgres:postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            [*_as_somebody(), str(self.bin / command[0]), *command[1:]],
            env=os.environ | {"PGPASSWORD": PASSWORD, "LC_ALL": "C"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if command[0] == "psql" else subprocess.DEVNULL,  # the server would hold it open
            text=True,
            check=True,
        )
        return done.stdout or ""


def _as_somebody() -> Sequence[str]:
    """PostgreSQL refuses root."""
    if os.getuid() != 0:
        return ()
    return ("setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups")


def why_not() -> str:
    """Why there can be none; "" if it can."""
    if binaries() is None:
        return "no PostgreSQL: neither is initdb in the PATH nor /usr/lib/postgresql there"
    if os.getuid() == 0 and "postgres" not in {user.pw_name for user in pwd.getpwall()}:
        return "PostgreSQL refuses root, and there is no user postgres"
    return ""


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server with an empty data directory, stopped and removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="tradier-postgres-", dir="/tmp"))  # where its user may go, too
    found = binaries()
    assert found is not None
    server = Postgres(found, directory, free_port())
    try:
        if os.getuid() == 0:
            shutil.chown(directory, "postgres")
        server.create()
        server.start()
        yield server
    finally:
        if (directory / "data" / "postmaster.pid").exists():
            server.stop()
        shutil.rmtree(directory, ignore_errors=True)
