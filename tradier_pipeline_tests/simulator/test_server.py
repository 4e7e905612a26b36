"""The server starts quietly anywhere and leaves at once."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.simulator.server import embedded_simulator, serve
from tradier_pipeline.simulator.store import STATE_FILE
from tradier_pipeline_tests.simulator.conftest import HEADERS, NOON
from tradier_pipeline_tests.support.sampling import sampled

PROGRAM = """
from tradier_pipeline.simulator.app import create_app
from tradier_pipeline.simulator.server import serve
from tradier_pipeline.simulator.store import Store
serve(create_app(Store(None)), on_ready=lambda url: print(url, flush=True))
print("left", flush=True)
"""


def test_it_serves_inside_a_running_event_loop():
    async def main() -> int:
        with embedded_simulator(None, clock=lambda: NOON) as url:
            async with httpx.AsyncClient(base_url=url, headers=HEADERS) as client:
                return (await client.get(f"/v1/accounts/{DEMO_ACCOUNT}/balances")).status_code

    assert asyncio.run(main()) == 200


def test_it_serves_from_another_thread_and_keeps_signal_handlers(tmp_path):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    seen: list[int] = []

    def work() -> None:
        with embedded_simulator(tmp_path, clock=lambda: NOON) as url:
            seen.append(httpx.get(f"{url}/v1/user/profile", headers=HEADERS).status_code)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert seen == [200]
    assert (tmp_path / STATE_FILE).exists()
    assert {number: signal.getsignal(number) for number in before} == before


def test_it_leaves_while_a_client_hangs_and_frees_its_threads():
    failures: list[type[Exception]] = []

    def hang(url: str) -> None:
        try:
            httpx.get(f"{url}/v1/user/profile", headers=HEADERS, timeout=60)
        except httpx.TransportError as error:
            failures.append(type(error))

    threads = threading.active_count()
    with embedded_simulator(None, clock=lambda: NOON) as url:
        httpx.post(f"{url}/_simulator/faults", json=[{"path": "profile", "kind": "hang"}])
        client = threading.Thread(target=hang, args=(url,))
        client.start()
        while not httpx.get(f"{url}/_simulator/requests").json():
            pass
    client.join(10)
    assert failures == [httpx.RemoteProtocolError]
    assert threading.active_count() == threads
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_any_token_is_accepted_when_none_is_asked_for():
    with embedded_simulator(None, clock=lambda: NOON, token=None) as url:
        assert httpx.get(f"{url}/v1/user/profile", headers={"Authorization": "Bearer x"}).status_code == 200
        assert httpx.get(f"{url}/v1/user/profile").status_code == 401


def test_an_unreadable_world_is_told_at_the_start(tmp_path):
    (tmp_path / STATE_FILE).write_text("{")
    with pytest.raises(PipelineError, match="cannot be read"), embedded_simulator(tmp_path):
        pass


def test_a_busy_port_is_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PipelineError, match=rf"cannot listen on 127\.0\.0\.1:{port}.*Choose another port"):
            serve(lambda scope, receive, send: None, port=port)  # type: ignore[return-value]


@sampled("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_it_stops_on_a_signal(number):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    url = process.stdout.readline().strip()
    assert httpx.get(f"{url}/v1/user/profile", headers=HEADERS, timeout=60).status_code == 200
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "left\n", "")


def test_importing_the_server_loads_neither_dagster_nor_pandas():
    code = (
        "import sys, tradier_pipeline.simulator.server\n"
        "print([name for name in ('dagster', 'pandas', 'duckdb', 'uvloop') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
