"""An S3 server of the machine's own packages (moto's) that can be out of reach for a while, with what it has kept."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import httpx
import pytest

from tradier_pipeline_tests.support.ports import free_port

BUCKET = "lake"
SECRET = "kept-secret-of-objects"
START_S = 120.0


@dataclass
class ObjectStore:
    """A server behind a relay.

    Attributes:
        port: of the relay, on the loopback interface.
    """

    behind: int
    port: int = field(default_factory=free_port)
    _listener: socket.socket | None = None
    _open: list[socket.socket] = field(default_factory=list)

    def settings_file(self) -> str:
        """What TRADIER_LAKE_S3_FILE is to have."""
        lines = ("KEY_ID=tester", f"SECRET={SECRET}", "REGION=us-east-1", f"ENDPOINT=127.0.0.1:{self.port}")
        return "\n".join((*lines, "URL_STYLE=path", "USE_SSL=false", ""))

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        """Refuse every connection from now on, and cut those that are open."""
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept
            self._listener.close()
        while self._open:
            with suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.behind))
            self._open += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=_pass_on, args=(source, target), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def storing() -> Iterator[ObjectStore]:
    """A server with an empty bucket; a test without one on its machine is skipped."""
    program = os.environ.get("TRADIER_TEST_S3") or shutil.which("moto_server")
    if program is None:
        pytest.skip("no S3 server on this machine: pip install 'moto[server]', or name one by TRADIER_TEST_S3")
    port = free_port()
    command = [program, "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _until_bucket(f"http://127.0.0.1:{port}/{BUCKET}")
            store = ObjectStore(port)
            store.start()
            yield store
            store.stop()
        finally:
            process.terminate()


def _until_bucket(url: str) -> None:
    deadline = time.monotonic() + START_S
    while True:
        with suppress(httpx.TransportError):
            assert httpx.put(url, trust_env=False).is_success
            return
        assert time.monotonic() < deadline, "the S3 server did not start"
        time.sleep(0.2)
