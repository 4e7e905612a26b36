"""Whatever texts and bodies a broker sends, it controls neither the terminal nor the page, and exhausts nothing."""

from __future__ import annotations

import asyncio
import gzip
import html
import json
import os
import re
import resource
import shutil
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from dagster._serdes import serialize_value
from markdown_it import MarkdownIt
from pydantic import SecretStr

from tradier_pipeline.assets.results import markdown_list
from tradier_pipeline.broker.client import BrokerClient, RetryPolicy
from tradier_pipeline.broker.errors import BodyError, BrokerError, RateLimitError, UnavailableError, excerpt
from tradier_pipeline.broker.http import open_http
from tradier_pipeline.broker.receive import receive_body
from tradier_pipeline.cli import main
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.core.texts import MAX_TEXT_CHARS, long_texts, may_have_long_texts, printable, shortened
from tradier_pipeline.instance import open_instance
from tradier_pipeline.landing import day
from tradier_pipeline.landing.compaction import compact
from tradier_pipeline.landing.errors import LandingError
from tradier_pipeline.ledger.import_d1 import import_d1
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.monitoring.alerts import send
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.simulator.world import ROUND_THE_CLOCK
from tradier_pipeline.warehouse.reads import connect_readonly
from tradier_pipeline_tests.conftest import Home, Simulated, take
from tradier_pipeline_tests.support import bodies
from tradier_pipeline_tests.support.dagster_runs import new_key, run_job
from tradier_pipeline_tests.support.reads import read_positions
from tradier_pipeline_tests.support.sampling import sampled
from tradier_pipeline_tests.support.scripted_server import ScriptedServer, answer, raw
from tradier_pipeline_tests.support.terminal import on_terminal

ATTACKS = {
    "clears the screen": "\x1b[2J\x1b[H",
    "sets the title": "\x1b]0;owned\x07",
    "links elsewhere": "\x1b]8;;https://evil.example\x1b\\",
    "rings": "\a",
    "starts a line": "\r\ntradier-pipeline: error: call +1 555 0100",
    "goes back": "\b\b\b\b",
    "C1": "\x9b31m\x9d0;owned\x9c",
    "reorders": "\u202e\u2066\u200f",
    "hides": "\u200b\u2060\ufeff",
    "joins": "\u200d\u034f\ufe0f\U000e0100",
    "tags": "\U000e0001\U000e0053\U000e0050\U000e0059\U000e007f",
    "is blank": "\u00a0\u115f\u1160\u17b4\u180b\u180e\u2800\u3000\u3164\uffa0",
    "annotates": "\ufff9\ufffa\ufffb",
    "is of nobody": "\ue000\U000f0000\ufdd0",
    "breaks lines": "\u2028\u2029\x85\v\f",
    "deletes": "\x7f",
}
ALL = "".join(ATTACKS.values())
UNSEEN = {c for c in ALL if not c.isascii()}
MARKUP = [
    "![x](https://evil.example/x.png)",
    "[click](javascript:alert(1))",
    "<img src=https://evil.example/x.png onerror=alert(1)>",
    "<https://evil.example>",
    "https://evil.example www.evil.example",
    "**bold** `code` ~~gone~~ a_b_c",
    "&lt;b&gt; &#x3c;b&#x3e;",
    "a\\](b)",
    "| a | b |",
]
POSITIONS_PATH = f"/v1/accounts/{bodies.ACCOUNT}/positions"
AT_ONCE = RetryPolicy(base_delay=0.0, deadline=30.0)


def unescaped(text: str) -> list[str]:
    """The characters that a terminal or a page would obey."""
    return sorted({c for c in text if c in UNSEEN or (not c.isprintable() and c != "\n")})


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_text_stays_in_its_line_and_does_nothing(attack: str) -> None:
    reported = printable(f"before{attack}after")
    assert unescaped(reported) == []
    assert reported.startswith("before")
    assert reported.endswith("after")
    assert printable("Zürich 株式 100 % \u2013 \\x1b") == "Zürich 株式 100 % \u2013 \\x1b"
    assert str(PipelineError(f"cause {attack}", "remedy")) == f"cause {printable(attack)}. remedy"
    assert unescaped(excerpt(attack)) == []


@pytest.fixture(scope="module")
def attacking() -> Iterator[Simulated]:
    """A broker whose every text attacks."""
    position = bodies.position(symbol=f"SPY{ALL}", quantity=1)
    order = bodies.order(symbol=f"AAPL{ALL}", tag=f"t{ALL}", status=f"odd{ALL}", reason_description=f"why{ALL}")
    profile = {"profile": {"id": "x", "account": bodies.account(DEMO_ACCOUNT, classification=f"kind{ALL}")}}
    reported = {
        "/positions": bodies.listed("positions", "position", [position]),
        "/orders": bodies.listed("orders", "order", [order]),
        "/profile": profile,
    }
    with embedded_simulator(None, limits=None, calendar=ROUND_THE_CLOCK) as url:
        simulated = Simulated(url)
        for path, body in reported.items():
            simulated.fault(path, "body", body=bodies.dumps(body))
        yield simulated


@pytest.fixture(scope="module")
def attacked(attacking: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("attacked") / "home")
    take(home, attacking.broker)
    return home


@pytest.fixture
def hostile(home: Home, attacking: Simulated, attacked: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with a snapshot whose every text of the broker attacks."""
    monkeypatch.setenv("TRADIER_BASE_URL", attacking.url)
    shutil.copytree(attacked.path, home.path)
    return home


COMMANDS = [
    *(["status"], ["verify"], ["findings", "--all"], ["gate"], ["pnl"], ["balances"], ["summary"], ["snapshot"]),
    *(["query", "FROM portfolio_positions"], ["query", "FROM orders"]),
    *(
        ["portfolio"],
        ["spreads"],
        ["orders"],
        ["trades"],
        ["describe", "\x1b[2J"],
        ["portfolio", "--account", "\x1b[2J"],
    ),
    ["query", 'SELECT tag AS "\x1b[31m" FROM orders'],
    *(["query", 'FROM "no\x1b]0;owned\x07table"'], ["status", "--account", "\x1b[2J"], ["verify", "\x1b[2J"]),
    *(
        ["status", "--json"],
        *[pytest.param([name, "--json"], marks=pytest.mark.soak) for name in ("verify", "snapshot")],
    ),
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: printable(" ".join(arguments)))
def test_no_command_prints_what_a_terminal_obeys(hostile: Home, arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.stdout or result.stderr
    assert unescaped(result.stdout + result.stderr) == []
    assert not re.search(r"^tradier-pipeline: error: call", result.output, re.MULTILINE)


@pytest.mark.parametrize("form", ["text", "csv", "json"])
def test_a_terminal_gets_escaped_tables_in_every_format(hostile: Home, form: str) -> None:
    plain = {"NO_COLOR": "1", "TERM": "dumb"}  # what is escaped is not ours
    _, shown = on_terminal("query", "SELECT symbol, tag FROM orders", "--format", form, **plain)
    assert "AAPL" in shown
    assert unescaped(shown) == []


@pytest.mark.parametrize("command", ["snapshot", "portfolio", "orders"])
def test_a_terminal_is_told_to_colour_and_nothing_else(command: str, hostile: Home) -> None:
    _, reported = on_terminal(command)
    colours_and_the_moving_line = r"\x1b\[(\d+(;\d+)*m|\?25[lh]|2K|1A)|\r"
    assert unescaped(re.sub(colours_and_the_moving_line, "", reported)) == []


def test_a_program_gets_the_texts_as_they_are(hostile: Home) -> None:
    result = CliRunner().invoke(main, ["query", "SELECT tag FROM orders", "--format", "csv"])
    assert f"t{ALL}" in result.stdout_bytes.decode()


def test_the_report_shows_no_text_that_reorders_or_hides(hostile: Home, tmp_path: Path) -> None:
    for options in ([], ["--day", f"{time.strftime('%Y-%m-%d')}"]):
        result = CliRunner().invoke(main, ["report", "--output", str(tmp_path / "report.html"), *options])
        assert unescaped(result.output) == []
        if result.exit_code == 0:
            page = (tmp_path / "report.html").read_text()
            assert unescaped(page.replace("\t", "")) == []
    assert (tmp_path / "report.html").exists()


def test_alerts_are_escaped_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, str]] = []
    apprise = pytest.importorskip("apprise")
    monkeypatch.setattr(apprise.Apprise, "notify", lambda self, **message: sent.append(message) or True)
    send(SecretStr("json://127.0.0.1"), "title \x1b[2J", "one \x07\ntwo \u202e")
    assert sent == [{"title": "title \\x1b[2J", "body": "one \\x07\ntwo \\u202e"}]


def test_dagsters_ui_gets_every_text_escaped(home: Home, attacking: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADIER_BASE_URL", attacking.url)
    with open_instance(home.path / "dagster") as instance:
        for _ in range(2):
            result = run_job(instance, new_key(), job="trade_cycle")
        recorded = [*texts_of([json.loads(serialize_value(entry)) for entry in instance.all_logs(result.run_id)])]
    assert any("SPY" in text for text in recorded)
    assert {text: found for text in recorded if (found := unescaped(text))} == {}


def texts_of(value: Any) -> Iterator[str]:
    """Every text in a JSON value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from texts_of([*value, *value.values()])
    elif isinstance(value, list):
        for member in value:
            yield from texts_of(member)


@pytest.mark.parametrize("text", [*MARKUP, *ATTACKS.values()])
def test_a_text_is_no_markup_of_the_ui(text: str) -> None:
    reader = MarkdownIt("gfm-like", {"html": True, "linkify": False})
    shown = reader.render(markdown_list([(text, text)]).value)
    assert set(re.findall(r"</?(\w+)", shown)) == {"ul", "li", "strong"}
    assert html.unescape(re.sub(r"<[^>]*>", "", shown)).strip() == " ".join(
        f"{printable(text)} {printable(text)}".split(" ")
    )


# ---------------------------------------------------------------- long texts


def test_a_symbol_of_megabytes_is_stored_short_and_landed_whole(home: Home, simulated: Simulated) -> None:
    symbol = "A" * 3_000_000
    rows = [bodies.position(id=1, symbol=symbol), bodies.position(id=2, symbol=f"{symbol}B")]
    reported = bodies.listed("positions", "position", rows)
    simulated.fault("/positions", "body", body=bodies.dumps(reported))
    landed, outcomes = take(home, simulated.broker)
    assert [outcome.check for outcome in outcomes if outcome.blocks] == []
    (warning,) = [outcome for outcome in outcomes if outcome.check == "texts_stored_whole"]
    assert not warning.passed
    found = {difference.where: difference.broker for difference in warning.differences}
    assert found["positions.position.symbol"] == "3000001 characters"
    with connect_readonly(home.warehouse.path) as connection:
        stored = [symbol for (symbol,) in connection.execute("SELECT symbol FROM positions ORDER BY row_no").fetchall()]
    assert len(set(stored)) == 2  # still two positions
    assert max(map(len, stored)) < MAX_TEXT_CHARS + 100
    assert [json.loads(body)["positions"]["position"][0]["symbol"] for body in landed.bodies("positions")] == [symbol]
    assert home.warehouse.path.stat().st_size < 5_000_000
    assert max(len(str(outcome)) for outcome in outcomes) < 100_000
    assert CliRunner().invoke(main, ["verify"]).exit_code == 0


@pytest.mark.parametrize(
    "text", ["x" * (MAX_TEXT_CHARS + 1), '"' * 1200, "\\" * 1200, "\u202e" * 1200, ('a"' * 600), "\n" * 1001]
)
def test_every_long_text_is_found_however_it_is_written(text: str) -> None:
    for body in (json.dumps({"a": {"b": [{"c": text}]}}), json.dumps({"a": {"b": [{"c": text}]}}, ensure_ascii=False)):
        assert may_have_long_texts(body)
    assert list(long_texts({"a": {"b": [{"c": text}]}})) == [("a.b.c", text)]
    assert len(shortened({"a": text})["a"]) < MAX_TEXT_CHARS + 100
    assert shortened({"a": [text[:MAX_TEXT_CHARS], 1, None]}) == {"a": [text[:MAX_TEXT_CHARS], 1, None]}


# ---------------------------------------------------------------- packed answers


def fetch(script: Any, policy: RetryPolicy = AT_ONCE, **options: Any) -> tuple[BrokerError | None, int]:
    """What reading positions ends with, and after how many requests."""

    async def read() -> tuple[BrokerError | None, int]:
        async with ScriptedServer() as server:
            server.on(POSITIONS_PATH, script)
            async with BrokerClient(server.url, SecretStr("token"), policy=policy, **options) as client:
                try:
                    await read_positions(client, bodies.ACCOUNT)
                except BrokerError as error:
                    return error, len(server.requests)
            return None, len(server.requests)

    return asyncio.run(read())


@sampled("coding", ["gzip, gzip", "gzip,gzip,gzip", "deflate", "br", "zstd", "identity, gzip", "x"], kept=(0, 2, 6))
def test_an_answer_that_is_packed_twice_or_otherwise_is_refused_unopened(coding: str) -> None:
    bomb = gzip.compress(gzip.compress(b" " * 40_000_000, 9), 9) if coding == "gzip, gzip" else gzip.compress(b"x")
    error, requests = fetch(answer(bomb, headers={"Content-Encoding": coding}))
    assert type(error) is BodyError
    assert "the body has the content coding" in str(error)
    assert requests == 1


def test_two_headers_of_codings_are_two_codings() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"
    error, _ = fetch(raw(head))
    assert type(error) is BodyError


def test_a_bomb_of_one_coding_ends_at_the_limit_and_lets_others_work_meanwhile() -> None:
    """32 MiB are unpacked in steps of 1 MiB, and the event loop comes round after each."""

    class Body(httpx.AsyncByteStream):
        async def __aiter__(self):  # type: ignore[no-untyped-def]
            packer = zlib.compressobj(9, zlib.DEFLATED, 31)
            yield packer.compress(b" " * 100_000_000) + packer.flush()

    async def read() -> int:
        rounds = 0

        async def count_rounds() -> None:
            nonlocal rounds
            while True:
                rounds += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count_rounds())
        response = httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=Body())
        try:
            with pytest.raises(BodyError, match="larger than the limit of 33554432 bytes"):
                await receive_body(response, "positions", 32 << 20)
        finally:
            counting.cancel()
        return rounds

    assert asyncio.run(read()) > 30


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
GZIP_HEADER = b"\x1f\x8b\x08%c\x00\x00\x00\x00\x00\xff"
ENDLESS: dict[str, tuple[bytes, bytes]] = {  # what the answer begins with, and what it goes on with for ever
    "headers": (OK, b"X-More: and more\r\n"),
    "one header": (OK + b"X-More: ", b"more"),
    "a status line": (b"HTTP/1.1 200 ", b"OK"),
    "answers before the answer": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "chunks": (CHUNKED, b"5\r\n     \r\n"),
    "a chunk's size": (CHUNKED, b"0"),
    "a chunk's extension": (CHUNKED + b"5;", b"x=y;"),
    "trailers": (CHUNKED + b"0\r\n", b"X-More: and more\r\n"),
    "a body of unsaid length": (OK + b"Connection: close\r\n\r\n", b"     "),
    "a body longer than its length": (OK + b"Content-Length: 20\r\n\r\n", b'{"positions":"null"}'),
    "a packed name": (OK + b"Content-Encoding: gzip\r\n\r\n" + GZIP_HEADER % 8, b"name"),
    "packed nothing": (OK + b"Content-Encoding: gzip\r\n\r\n" + GZIP_HEADER % 0, b"\x00\x00\x00\xff\xff"),
    "packed packs": (OK + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"")),
}


def going_on(begin: bytes, more: bytes) -> Any:
    """An answer without an end."""

    async def send(_: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hung_up = asyncio.ensure_future(reader.read())
        writer.write(begin)
        while not hung_up.done():
            writer.write(more * (65536 // len(more)))
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    return send


@pytest.mark.parametrize("endless", ENDLESS)
def test_an_answer_without_an_end_is_given_up_and_takes_no_memory(endless: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    policy = RetryPolicy(base_delay=0.0, deadline=1.0, attempts=2)
    began = time.monotonic()
    error, requests = fetch(going_on(*ENDLESS[endless]), policy, body_limit=1 << 18)
    whole = endless == "a body longer than its length"  # what comes after it is nobody's
    assert (error is None) == whole, error
    assert requests <= 2
    assert time.monotonic() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize("coding", ["gzip, chunked", "gzip", "deflate, chunked", "chunked, chunked", "identity", "x"])
def test_a_transfer_that_is_packed_is_refused_unopened(coding: str) -> None:
    packed = gzip.compress(b'{"positions":"null"}')
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(packed), packed)
    error, _ = fetch(raw(OK + f"Transfer-Encoding: {coding}\r\n\r\n".encode() + chunk))
    assert isinstance(error, BrokerError)
    assert unescaped(str(error)) == []


@pytest.mark.parametrize("size", [0, 1, 65_536, 1 << 20, (1 << 20) + 1, 3_000_000])
def test_a_packed_answer_is_unpacked_exactly(size: int) -> None:
    body = os.urandom(size // 2) + b"a" * (size - size // 2)

    async def read() -> bytes:
        async with ScriptedServer() as server:
            server.on("/x", answer(gzip.compress(body), headers={"Content-Encoding": "gzip"}))
            async with httpx.AsyncClient(trust_env=False) as http, http.stream("GET", f"{server.url}/x") as response:
                return await receive_body(response, "x", 1 << 30)

    assert asyncio.run(read()) == body


@pytest.mark.parametrize("damage", ["cut off", "more after it", "nothing"])
def test_a_damaged_pack_is_read_again(damage: str) -> None:
    whole = gzip.compress(b'{"positions":"null"}')
    body = {"cut off": whole[:-3], "more after it": whole + b"more", "nothing": b""}[damage]
    error, requests = fetch(answer(body, headers={"Content-Encoding": "gzip"}))
    assert type(error) is UnavailableError
    assert requests == AT_ONCE.attempts


# ---------------------------------------------------------------- Retry-After


@pytest.mark.parametrize("status", [429, 500, 503, 520])
@pytest.mark.parametrize("after", ["7", "00007"])
def test_retry_after_is_waited_for(status: int, after: str) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    policy = RetryPolicy(base_delay=0.0, deadline=30.0, sleep=sleep)
    fetch(answer("later", status, {"Retry-After": after}), policy)
    assert waits == [7.0] * (policy.attempts - 1)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("after", ["31", "99999999999999999999", "Fri, 31 Dec 2999 23:59:59 GMT"])
def test_a_wait_beyond_the_deadline_ends_the_read_at_once(status: int, after: str) -> None:
    error, requests = fetch(answer("later", status, {"Retry-After": after}))
    assert requests == 1
    assert isinstance(error, RateLimitError if status == 429 else UnavailableError)
    assert status == 429 or "asked to wait" in str(error)


@pytest.mark.parametrize("after", ["-5", "soon", "", "Fri, 31 Dec 1999 23:59:59 GMT", "1.5"])
def test_a_retry_after_that_says_nothing_or_is_past_is_no_wait(after: str) -> None:
    _, requests = fetch(answer("later", 503, {"Retry-After": after}))
    assert requests == AT_ONCE.attempts


# ---------------------------------------------------------------- the environment of the connection


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *(
            ("HTTPS_PROXY", value)
            for value in ("not a url", "http://[", "http://proxy:port", "ftp://x", "http://h:99999")
        ),
        *(("HTTPS_PROXY", value) for value in ("http://user:hunter2@", "http://user:hunter2@h:x", "://", "http://")),
        *(("https_proxy", "http://[::1"), ("ALL_PROXY", "gopher://h"), ("NO_PROXY", "http://[::")),
        *(
            ("HTTPS_PROXY", f"http://{value}")
            for value in ("h:0", "h:-1", "a..b", "-", "-h", ".", "h x", f"{'a' * 64}.b")
        ),
        *(("HTTPS_PROXY", value) for value in ("//h", "socks4://h", "http://h:1:1", "\x1b[2J", "http://%00", "\\\\h")),
        *(("SSL_CERT_FILE", "/dev/zero"), ("SSL_CERT_FILE", "/"), ("SSL_CERT_DIR", "/etc/hostname")),
        *(("SSL_CERT_FILE", "/nonexistent"), ("SSL_CERT_FILE", "/etc/hostname"), ("SSL_CERT_DIR", "/nonexistent")),
    ],
)
def test_a_malformed_proxy_or_certificate_variable_is_one_line(
    variable: str, value: str, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("TRADIER_ENV", "sandbox")
    monkeypatch.setenv("TRADIER_BASE_URL", "https://broker.invalid")
    monkeypatch.setenv("TRADIER_ACCESS_TOKEN", "0123456789abcdef0123456789ab")
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", "VA12345678")
    with pytest.raises(PipelineError, match=variable) as refused:
        open_http("https://broker.invalid", SecretStr("0123456789abcdef0123456789ab"))
    assert "hunter2" not in str(refused.value)
    result = CliRunner().invoke(main, ["backfill"])
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert variable in line


def test_a_broker_on_this_machine_needs_no_proxy(
    home: Home, simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "not a url")
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
    take(home, simulated.broker)


# ---------------------------------------------------------------- archives and dumps


def test_an_archive_that_unpacks_to_more_than_was_ever_landed_is_not_unpacked(home: Home, simulated: Simulated) -> None:
    landed, _ = take(home, simulated.broker)
    compact(home.zone, before=landed.day.trade_date.replace(year=landed.day.trade_date.year + 1))
    (path,) = home.path.rglob("*.zip")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            bomb = b" " * (day.MAX_FILE_BYTES + 1) if name.endswith("/positions.json") else None
            archive.writestr(name, bomb or body)
    assert path.stat().st_size < 1_000_000
    (again,) = home.zone.snapshots()
    with pytest.raises(LandingError, match="more than any file has that was landed"):
        again.read("positions.json")


TABLES = """
CREATE TABLE orders (id TEXT, client_order_id TEXT, proposal_id TEXT);
INSERT INTO orders VALUES('1','a','');
"""
DOUBLING = "INSERT INTO orders (id, client_order_id) SELECT id || 'x', client_order_id || 'x' FROM orders;\n"


def test_a_dump_that_doubles_its_rows_is_no_export(home: Home, tmp_path: Path) -> None:
    (tmp_path / "dump.sql").write_text(TABLES + DOUBLING * 27)
    with pytest.raises(PipelineError, match="is no export of D1: database or disk is full") as refused:
        import_d1(Ledger(home.path / "ledger.sqlite"), tmp_path / "dump.sql", DEMO_ACCOUNT)
    assert "\n" not in str(refused.value)


def test_a_dump_of_more_rows_than_the_old_system_could_have_is_refused(home: Home, tmp_path: Path) -> None:
    short = "INSERT INTO orders (id) SELECT '' FROM orders;\n"
    (tmp_path / "dump.sql").write_text(TABLES + short * 18)
    with pytest.raises(PipelineError, match="orders has more than 200,000 rows"):
        import_d1(Ledger(home.path / "ledger.sqlite"), tmp_path / "dump.sql", DEMO_ACCOUNT)
