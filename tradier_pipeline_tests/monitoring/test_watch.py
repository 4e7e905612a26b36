"""What tells that everything is dead: a URL that hears of every publish, and a command that needs no daemon."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tradier_pipeline import clock
from tradier_pipeline.core.dotenv import SettingsError
from tradier_pipeline.core.settings import load_settings
from tradier_pipeline.monitoring.ping import ping_published
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.support.command_line import run


@dataclass
class Switch:
    """An HTTP server that notes what it hears."""

    url: str
    heard: list[tuple[str, str, bytes]] = field(default_factory=list)
    status: int = 200
    answer: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Switch]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.heard.append((self.command, self.path, body))
            found.answer.wait(10)
            self.send_response(found.status)
            self.send_header("Location", f"{found.url}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Switch(f"http://127.0.0.1:{server.server_port}")
    found.answer.set()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("TRADIER_PING_URL", f"{found.url}/secret-8f14e45f")
    monkeypatch.setenv("TRADIER_CALENDAR", "24/7")
    yield found
    found.answer.set()
    server.shutdown()
    server.server_close()


def tell_now() -> None:
    thread = ping_published(load_settings())
    assert thread is not None
    thread.join()


def later(monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    then: Callable[[], datetime] = clock.now
    monkeypatch.setattr(clock, "now", lambda: then() + by)


def test_each_publish_is_told_once(home: Home, simulated: Simulated, switch: Switch) -> None:
    assert run("snapshot").exit_code == 0
    for thread in [one for one in threading.enumerate() if one.name == "ping"]:
        thread.join()
    assert switch.heard == [("POST", "/secret-8f14e45f", b"")]


def test_a_switch_that_does_not_answer_delays_nothing_and_is_one_line_without_the_url(
    home: Home, simulated: Simulated, switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    take(home, simulated.broker)
    switch.answer.clear()
    thread = ping_published(load_settings())
    assert thread is not None
    assert thread.is_alive()  # we go on meanwhile
    switch.answer.set()
    thread.join()
    for status in (500, 302):
        switch.status = status
        tell_now()
    assert [record.getMessage().split(". ")[0] for record in caplog.records if record.name.endswith("ping")] == [
        "the ping was not taken: HTTP 500",
        "the ping was not taken: HTTP 302",
    ]
    assert [path for _, path, _ in switch.heard] == ["/secret-8f14e45f"] * 3
    assert "secret-8f14e45f" not in caplog.text


def test_nothing_is_told_while_an_account_is_not_current(
    home: Home, simulated: Simulated, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(home, simulated.broker)
    monkeypatch.setenv("TRADIER_ENV", "simulator")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", "SIM00000001,VA00000002")
    tell_now()
    monkeypatch.delenv("TRADIER_ACCOUNT_ID")
    later(monkeypatch, timedelta(hours=1))
    tell_now()
    assert switch.heard == []


@pytest.mark.parametrize(
    "url", ["http://example.com/x", "ftp://example.com", "https://", "https://a b/", "https://x:y"]
)
def test_a_url_that_would_send_it_in_the_open_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADIER_PING_URL", url)
    with pytest.raises(SettingsError, match="TRADIER_PING_URL is malformed") as raised:
        load_settings()
    assert url not in str(raised.value)
    assert run("watch", "--url", url).exit_code in (1, 2)


def test_a_stray_file_cannot_say_where_pings_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("TRADIER_PING_URL=https://example.com/x\n")
    for name, value in {"ENV": "live", "ACCESS_TOKEN": "t" * 20, "ACCOUNT_ID": "VA12345678"}.items():
        monkeypatch.setenv(f"TRADIER_{name}", value)
    with pytest.raises(SettingsError, match="TRADIER_PING_URL in"):
        load_settings()


def test_a_current_history_is_said_nothing_of(home: Home, simulated: Simulated, switch: Switch) -> None:
    take(home, simulated.broker)
    result = run("watch")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_one_that_is_not_current_is_one_line_a_command_and_a_url(
    home: Home, simulated: Simulated, switch: Switch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "nothing is published" in run("watch").stderr
    take(home, simulated.broker)
    later(monkeypatch, timedelta(minutes=4))
    program = (
        f"{sys.executable} -c \"import os; open('{tmp_path}/why', 'w').write(os.environ['TRADIER_WATCH_REASON'])\""
    )
    result = run("watch", "--call", program, "--url", f"{switch.url}/fail")
    assert result.exit_code == 1
    assert " ".join(result.stderr.split()).startswith("tradier-pipeline: the history is not current: SIM00000001 is of")
    why = (tmp_path / "why").read_text()
    assert why.startswith("the history is not current")
    assert switch.heard == [("POST", "/fail", why.encode())]
    assert json.loads(run("watch", "--json").stdout)["current"] is False
    failed = run("watch", "--call", "/none/such")
    assert (failed.exit_code, failed.stderr.count("error:")) == (1, 1)


def test_a_warehouse_that_cannot_be_read_is_not_current(home: Home, simulated: Simulated) -> None:
    take(home, simulated.broker)
    home.warehouse.path.chmod(0o644)
    home.warehouse.path.write_bytes(b"rot" * 5_000)
    result = run("watch")
    assert result.exit_code == 1
    assert "cannot be read" in result.stderr


def test_it_works_without_dagster(home: Home, simulated: Simulated, switch: Switch) -> None:
    take(home, simulated.broker)
    program = """
import sys
sys.modules["dagster"] = None  # whoever imports it fails
from tradier_pipeline.cli import main
main(["watch"])
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=os.environ)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
