"""Whatever page the user's browser has open, it drives nothing and reads nothing of Dagster's UI."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tradier_pipeline.cli import main
from tradier_pipeline.cli.up import ui_address
from tradier_pipeline.core.settings import load_settings
from tradier_pipeline.instance.dagster_ui import FIRST_PAGE
from tradier_pipeline.instance.guard import COOKIE, Guard
from tradier_pipeline.simulator.server import running
from tradier_pipeline_tests.support.ports import free_port
from tradier_pipeline_tests.support.sampling import sampled

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TOKEN = "a-token-that-nobody-guesses"
MUTATION = 'mutation { setConcurrencyLimit(concurrencyKey: "attacked", limit: 1) }'
LIMITS = "{ instance { concurrencyLimits { concurrencyKey } } }"
JSON = ("Content-Type", "application/json")
EVIL = ("Origin", "https://evil.example")
Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Ui:
    """Dagster's real webserver as `up` starts it."""

    port: int

    @property
    def own(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ask(self, method: str, target: str, headers: Headers = (), body: str = "", host: str | None = "") -> Answer:
        """One request as it stands; `host`: "" is the right one, None is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            if host is not None:
                connection.putheader("Host", host or self.own)
            for name, value in headers:
                connection.putheader(name, value)
            if body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body.encode() if body else None)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def graphql(self, query: str, *headers: tuple[str, str], host: str = "") -> Answer:
        return self.ask("POST", "/graphql", (JSON, *headers), json.dumps({"query": query}), host)

    def limits(self) -> list[str]:
        answer = self.graphql(LIMITS)
        assert answer.status == 200, answer.body
        limits = json.loads(answer.body)["data"]["instance"]["concurrencyLimits"]
        return [limit["concurrencyKey"] for limit in limits]


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    home, port = tmp_path_factory.mktemp("dagster"), free_port()
    (home / "workspace.yaml").write_text("load_from: []\n")
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    command = [
        sys.executable,
        "-m",
        "tradier_pipeline.instance.dagster_ui",
        "--workspace",
        str(home / "workspace.yaml"),
    ]
    environment = {**os.environ, "DAGSTER_HOME": str(home)}
    with (home / "ui.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], env=environment, stdout=log, stderr=log
        )
    try:
        served = Ui(port)
        end = time.monotonic() + 90
        while not _answers(served):
            assert process.poll() is None, (home / "ui.log").read_text()
            assert time.monotonic() < end
            time.sleep(0.1)
        yield served
    finally:
        process.kill()
        process.wait()


def _answers(served: Ui) -> bool:
    try:
        return served.ask("GET", "/server_info").status == 200
    except OSError:
        return False


@pytest.fixture
def untouched(ui: Ui) -> Iterator[Ui]:
    """The UI; after the test nothing of it was changed."""
    yield ui
    assert ui.limits() == []


# ---------------------------------------------------------------- what must work


def test_the_uis_own_page_and_the_users_own_programs_are_served(ui: Ui) -> None:
    typed = [("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate")]
    assert ui.ask("GET", "/", typed).headers["location"] == FIRST_PAGE
    page = ui.ask("GET", FIRST_PAGE, typed)
    assert page.status == 200
    assert b"<html" in page.body
    own = [("Origin", f"http://{ui.own}"), ("Sec-Fetch-Site", "same-origin")]
    utf8 = ("Content-Type", "application/json; charset=utf-8")
    assert ui.ask("POST", "/graphql", [utf8, *own], json.dumps({"query": LIMITS})).status == 200
    assert ui.graphql(LIMITS, *own).status == 200
    assert ui.graphql(LIMITS).status == 200
    for name in ("localhost", f"localhost:{ui.port}", f"LOCALHOST:{ui.port}", f"[::1]:{ui.port}"):
        assert ui.graphql(LIMITS, host=name).status == 200
    editor = ui.ask("GET", f"/graphql?query={quote(MUTATION)}", [("Accept", "text/html")])
    assert editor.status == 200
    assert b"graphiql" in editor.body
    assert ui.limits() == []


def test_a_mutation_of_the_ui_itself_is_carried_out(ui: Ui) -> None:
    own = [("Origin", f"http://{ui.own}"), ("Sec-Fetch-Site", "same-origin")]
    try:
        assert ui.graphql(MUTATION, *own).status == 200
        assert ui.limits() == ["attacked"]  # so what the attacks try would be seen
    finally:
        ui.graphql('mutation { deleteConcurrencyLimit(concurrencyKey: "attacked") }')
    assert ui.limits() == []


def test_the_uis_socket_is_served_to_its_page_and_to_programs(ui: Ui) -> None:
    for origin in (f"http://{ui.own}", None):
        with connect(f"ws://{ui.own}/graphql", subprotocols=["graphql-ws"], origin=origin, proxy=None) as opened:  # type: ignore[arg-type, list-item]
            opened.send(json.dumps({"type": "connection_init"}))
            assert json.loads(opened.recv(30)) == {"type": "connection_ack"}


# ---------------------------------------------------------------- attacks


@pytest.mark.parametrize("path", ["/graphql", "/graphql%0A", "/graphql/", "//graphql", "/%67raphql", "/graphql%00"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"])
def test_no_mutation_by_another_method_than_post(untouched: Ui, method: str, path: str) -> None:
    for headers in ([], [("Accept", "image/avif,image/*"), ("Sec-Fetch-Site", "cross-site")], [JSON]):
        answer = untouched.ask(method, f"{path}?query={quote(MUTATION)}", headers)
        assert answer.status in (400, 403, 405), (headers, answer.body)


@pytest.mark.parametrize(
    "content_type",
    [
        *("text/plain", "text/plain; application/json", "text/plain;charset=application/json"),
        *("application/x-www-form-urlencoded", "multipart/form-data", "application/graphql", "", None),
    ],
)
def test_no_mutation_by_what_a_form_can_post(untouched: Ui, content_type: str | None) -> None:
    headers = [] if content_type is None else [("Content-Type", content_type)]
    body = json.dumps({"query": MUTATION})
    assert untouched.ask("POST", f"/graphql?query={quote(MUTATION)}", headers, body).status == 415
    assert untouched.ask("POST", "/graphql", headers, body).status == 415
    if headers:
        assert untouched.ask("POST", "/graphql", [*headers, JSON], body).status == 415


@pytest.mark.parametrize(
    "headers",
    [
        [EVIL],
        [("Origin", "null")],
        [("Origin", "file://")],
        [("Origin", "http://localhost:1")],
        [("Origin", "http://127.0.0.1")],
        [("Origin", "")],
        [("Origin", "http://127.0.0.1:{port}.evil.example")],
        [("Origin", "http://127.0.0.1:{port}"), EVIL],
        [("Sec-Fetch-Site", "cross-site")],
        [("Sec-Fetch-Site", "same-site")],
        [("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")],
        [("Origin", "http://127.0.0.1:{port}/")],
        [("Origin", "http://[::1]:{port}")],
        [("Origin", "http://user@127.0.0.1:{port}")],
        [("Origin", "127.0.0.1:{port}")],
        [("Origin", "app://127.0.0.1:{port}")],
        [("Origin", "http://127.0.0.1:{port}, https://evil.example")],
        [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")],
    ],
)
def test_no_mutation_for_a_page_of_another_origin(untouched: Ui, headers: Headers) -> None:
    sent = [(name, value.replace("{port}", str(untouched.port))) for name, value in headers]
    assert untouched.graphql(MUTATION, *sent).status == 403


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "evil@localhost", "localhost,evil.example"),
        *("127.0.0.2", "10.0.0.1", "0.0.0.0", "localhost.", "localhost:evil", "[::2]", None),
        *("LOCALHOST.", "localhost:", "localhost:80:80", "127.0.0.1.", "127.1", "0x7f.0.0.1", "2130706433"),
        *("[::ffff:127.0.0.1]", "[0:0:0:0:0:0:0:1]", "[::1%25lo]", "[::1", "::1", "[::1]evil", "[::]", "[]"),
        *("127.0.0.1#evil.example", "127.0.0.1/evil.example", "evil.example:3000", "localhost evil.example", "*"),
    ],
)
def test_nothing_is_read_under_a_name_that_was_rebound(untouched: Ui, host: str | None) -> None:
    for target in ("/", "/server_info", "/logs/x/y.err", "/download_debug/x"):
        assert untouched.ask("GET", target, host=host).status in (400, 403)
    body = json.dumps({"query": LIMITS})
    origin = [("Origin", f"http://{host}"), ("Sec-Fetch-Site", "same-origin")]
    assert untouched.ask("POST", "/graphql", [JSON, *origin], body, host=host).status in (400, 403)


@pytest.mark.parametrize(
    "header", ["X-Forwarded-Host", "X-Host", "X-Original-Host", "X-Forwarded-Server", "Forwarded", "X-Forwarded-For"]
)
def test_no_other_header_names_the_host(untouched: Ui, header: str) -> None:
    value = f"host={untouched.own}" if header == "Forwarded" else untouched.own
    assert untouched.ask("GET", "/server_info", [(header, value)], host="evil.example").status == 403
    # and what a proxy adds opens nothing either
    assert untouched.graphql(MUTATION, (header, "evil.example"), EVIL).status == 403


@pytest.mark.parametrize(
    "target",
    [
        *(
            "http://127.0.0.1/graphql",
            "/x/../graphql",
            "/./graphql",
            "/graphql;x",
            "/graphql%2F",
            "/GRAPHQL",
            "/%2567raphql",
        ),
        *(
            "/\\graphql",
            "///graphql",
            "/graphql/graphql",
            "/graphql/?",
            "/graphql%20",
            "/%2e/graphql",
            "/x%2F..%2Fgraphql",
        ),
    ],
)
@sampled("parameter", ["query", "QUERY", "query%00", "mutation", "operations", "query[]"], kept=(0, 2))
def test_no_way_of_writing_a_path_makes_a_get_a_mutation(untouched: Ui, target: str, parameter: str) -> None:
    joined = "&" if target.endswith("?") else "?"
    for headers in ([], [("X-HTTP-Method-Override", "POST"), JSON], [("X-Method-Override", "POST")]):
        untouched.ask("GET", f"{target}{joined}{parameter}={quote(MUTATION)}&_method=POST", headers)
    untouched.ask("GET", f"{target}{joined}{parameter}={quote(MUTATION)}", [JSON], json.dumps({"query": MUTATION}))


@pytest.mark.parametrize("method", ["PATCH", "CONNECT", "PROPFIND", "post", "GET2"])
def test_no_other_method_is_served(untouched: Ui, method: str) -> None:
    body = json.dumps({"query": MUTATION})
    assert untouched.ask(method, f"/graphql?query={quote(MUTATION)}", [JSON], body).status in (400, 405)


def test_no_batch_of_another_page_is_carried_out(untouched: Ui) -> None:
    batch = json.dumps([{"query": MUTATION}, {"query": LIMITS}])
    assert untouched.ask("POST", "/graphql", [("Content-Type", "text/plain")], batch).status == 415
    assert untouched.ask("POST", "/graphql", [JSON, EVIL], batch).status == 403
    form = (
        '--x\r\nContent-Disposition: form-data; name="operations"\r\nContent-Type: application/json\r\n\r\n'
        f"{json.dumps({'query': MUTATION})}\r\n--x--\r\n"
    )
    assert untouched.ask("POST", "/graphql", [("Content-Type", "multipart/form-data; boundary=x")], form).status == 415


def test_two_hosts_are_none(untouched: Ui) -> None:
    assert untouched.ask("GET", "/server_info", [("Host", "evil.example")]).status in (400, 403)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", "http://127.0.0.1"])
def test_no_socket_for_a_page_of_another_origin(untouched: Ui, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://{untouched.own}/graphql", subprotocols=["graphql-ws"], origin=origin, proxy=None)  # type: ignore[arg-type, list-item]
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("protocol", ["graphql-ws", "graphql-transport-ws", None])
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "localhost."},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "websocket"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    ],
)
def test_no_socket_of_another_host_or_site(untouched: Ui, headers: dict[str, str], protocol: str | None) -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    asked = [
        *upgrade,
        ("Sec-WebSocket-Key", key),
        *((name, value) for name, value in headers.items() if name != "Host"),
    ]
    asked += [("Sec-WebSocket-Protocol", protocol)] if protocol else []
    for path in ("/graphql", f"/graphql?query={quote(MUTATION)}", "//graphql", "/graphql/"):
        assert untouched.ask("GET", path, asked, host=headers.get("Host", "")).status == 403


@pytest.mark.parametrize("what", ["materialization", "check", "observation"])
def test_no_page_reports_an_asset(untouched: Ui, what: str) -> None:
    target = f"/report_asset_{what}/tradier_snapshot?check_name=x&passed=true"
    assert untouched.ask("POST", target).status == 415
    assert untouched.ask("POST", target, [JSON, EVIL], "{}").status == 403


def test_a_page_of_another_origin_links_here_and_neither_frames_nor_loads_anything(untouched: Ui) -> None:
    cross = ("Sec-Fetch-Site", "cross-site")
    link = untouched.ask("GET", FIRST_PAGE, [cross, ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")])
    assert link.status == 200
    assert link.headers["x-frame-options"] == "SAMEORIGIN"
    assert "frame-ancestors 'self'" in link.headers["content-security-policy"]
    assert link.headers["cross-origin-resource-policy"] == "same-origin"
    for mode, destination in (("navigate", "iframe"), ("no-cors", "script"), ("cors", "empty"), ("no-cors", "image")):
        answer = untouched.ask("GET", "/", [cross, ("Sec-Fetch-Mode", mode), ("Sec-Fetch-Dest", destination)])
        assert answer.status == 403


@pytest.mark.parametrize(
    "path", ["/notebook", "/dagit/notebook", "//notebook", "/%6eotebook", "/./notebook", "/notebook/"]
)
def test_no_link_shows_a_notebook_whose_scripts_would_be_the_uis_own(untouched: Ui, path: str) -> None:
    link = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")]
    for headers in (link, []):
        answer = untouched.ask("GET", f"{path}?repoLocName=tradier_pipeline&path=/tmp/evil.ipynb", headers)
        assert (answer.status, answer.headers["content-type"]) == (404, "text/plain; charset=utf-8")


@pytest.mark.parametrize(
    "path",
    ["/logs/../dagster.yaml", "/logs/%2e%2e/x.err", "/logs/a/..%2f..%2fx.out", "/..\\x", "/logs/..%5C..%5Cx.err"],
)
def test_no_path_leads_upwards(untouched: Ui, path: str) -> None:
    assert untouched.ask("GET", path).status == 400


@pytest.mark.parametrize("run_id", ["x", "00000000-0000-0000-0000-000000000000", "a%20b"])
def test_the_events_of_a_run_that_there_is_not_are_not_found(untouched: Ui, run_id: str) -> None:
    """Dagster's own answer is an error of the server, and two lines in the terminal of `up`."""
    answer = untouched.ask("GET", f"/download_debug/{run_id}")
    assert (answer.status, answer.body) == (404, b"There is no such run.\n")


ATTACKS = """
<!doctype html><body><script>
const ui = %(ui)s, mutation = %(mutation)s, form = document.createElement("form");
const query = "/graphql?query=" + encodeURIComponent(mutation), body = JSON.stringify({query: mutation});
const ended = [];
const image = url => new Promise(done => { const i = new Image(); i.onload = i.onerror = done; i.src = url; });
const socket = url => new Promise(done => {
  const s = new WebSocket(url, "graphql-ws");
  s.onopen = () => done("open"); s.onerror = () => done("refused");
});
(async () => {
  await image(ui + query);
  await image(ui + "/graphql%%0A?query=" + encodeURIComponent(mutation));
  for (const type of ["text/plain", "text/plain; application/json"])
    await fetch(ui + "/graphql", {method: "POST", mode: "no-cors", headers: {"Content-Type": type}, body})
      .catch(() => 0);
  for (const url of [ui + "/graphql", ui + query])
    await fetch(url, {method: "POST", headers: {"Content-Type": "application/json"}, body}).catch(() => 0);
  document.title = "tried; socket " + await socket(ui.replace("http", "ws") + "/graphql");
})();
</script>
"""


def test_a_page_in_a_real_browser_tries_all_of_it_in_vain(untouched: Ui, browser: Browser) -> None:
    reported = {"ui": json.dumps(f"http://{untouched.own}"), "mutation": json.dumps(MUTATION)}
    evil = Starlette(routes=[Route("/", lambda _: HTMLResponse(ATTACKS % reported))])
    with running(evil) as url:
        page = browser.new_page()
        page.goto(url)
        page.wait_for_function("document.title.startsWith('tried')", timeout=60_000)
        assert page.title() == "tried; socket refused"
        page.close()


# ---------------------------------------------------------------- a UI that other machines reach


@pytest.fixture
def shared() -> Iterator[Ui]:
    """The guard of a UI that listens everywhere, in front of a page."""

    async def page(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close"})
            return
        await HTMLResponse("equity 1,234.56")(scope, receive, send)

    with running(Guard(page, "0.0.0.0", TOKEN)) as url:
        yield Ui(int(url.rpartition(":")[2]))


def basic(password: str) -> tuple[str, str]:
    return ("Authorization", f"Basic {base64.b64encode(f'me:{password}'.encode()).decode()}")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "Bearer wrong")],
        [("Authorization", f"Bearer {TOKEN[:-1]}")],
        [("Authorization", "Bearer \xe9")],
        [("Authorization", f"Digest {TOKEN}")],
        [("Authorization", "Basic !!!")],
        [basic("")],
        [basic("wrong")],
        [("Cookie", f"{COOKIE}={TOKEN}")],
        [("Cookie", f"{COOKIE}=")],
        [("Cookie", "\x01=;;;")],
    ],
)
def test_without_the_token_nothing_is_shown(shared: Ui, headers: Headers) -> None:
    for target in ("/", "/graphql", "/?token=", "/?token=wrong", "/logs/x", "/favicon.ico"):
        answer = shared.ask("GET", target, [("Accept", "text/html"), *headers])
        assert (answer.status, b"equity" in answer.body) == (401, False)
        assert "set-cookie" not in answer.headers
    assert shared.graphql(LIMITS, *headers).status == 401


def test_the_token_opens_once_and_the_browser_keeps_a_session(shared: Ui) -> None:
    entered = shared.ask("GET", f"/runs?a=1&token={TOKEN}")
    assert (entered.status, entered.headers["location"]) == (303, "/runs?a=1")
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert TOKEN not in cookie
    session = [("Cookie", cookie.partition(";")[0])]
    assert shared.ask("GET", "/runs?a=1", session).status == 200
    assert shared.graphql(MUTATION, *session).status == 200
    assert shared.graphql(MUTATION, *session, EVIL).status == 403  # a cookie goes with every request
    assert shared.ask("GET", f"//evil.example/?token={TOKEN}").headers["location"] == "/evil.example/"


@pytest.mark.parametrize(
    "header", [("Authorization", f"Bearer {TOKEN}"), ("Authorization", f"token {TOKEN}"), basic(TOKEN)]
)
def test_a_password_prompt_and_a_program_may_show_the_token(shared: Ui, header: tuple[str, str]) -> None:
    assert shared.ask("GET", "/", [header]).body == b"equity 1,234.56"
    assert shared.graphql(LIMITS, header).status == 200


def test_no_socket_without_the_token(shared: Ui) -> None:
    url = f"ws://{shared.own}/graphql"
    with pytest.raises(InvalidStatus):
        connect(url, proxy=None)
    with connect(url, proxy=None, additional_headers={"Authorization": f"Bearer {TOKEN}"}):
        pass


def test_a_ui_that_listens_everywhere_is_found_by_address_and_by_no_foreign_name(shared: Ui) -> None:
    header = ("Authorization", f"Bearer {TOKEN}")
    for host in ("192.168.1.5:3000", "[fe80::1]:3000", f"{socket.gethostname()}:3000", "localhost"):
        assert shared.ask("GET", "/", [header], host=host).status == 200
    assert shared.ask("GET", "/", [header], host="evil.example").status == 403


def test_up_says_that_other_machines_reach_it_and_makes_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [ui_address(load_settings(), "0.0.0.0", 3000) for _ in range(2)]
    with socket.create_server(("127.0.0.1", 0)) as taken:  # so that it goes no further
        arguments = ["up", "--host", "0.0.0.0", "--port", str(taken.getsockname()[1])]
        reported = CliRunner().invoke(main, arguments).stderr
        monkeypatch.setenv("TRADIER_UI_TOKEN", TOKEN)
        chosen = CliRunner().invoke(main, arguments).stderr
        monkeypatch.setenv("TRADIER_UI_TOKEN", "short")
        refused = CliRunner().invoke(main, arguments).stderr
    assert reported.splitlines()[0].startswith("SIMULATED account ")
    assert "other machines reach 0.0.0.0" in reported
    assert min(len(address.token or "") for address in made) >= 32
    assert made[0].token != made[1].token
    assert all(address.url.endswith(f"?token={address.token}") for address in made)
    assert TOKEN not in chosen
    assert "asks for TRADIER_UI_TOKEN" in chosen
    assert "TRADIER_UI_TOKEN is malformed" in refused
