"""The access token appears nowhere: not in what is kept, not in what is said, whatever the broker answers."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tradier_pipeline.core.settings import DEMO_ACCOUNT
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.simulator.world import ROUND_THE_CLOCK
from tradier_pipeline_tests.conftest import Home, Simulated
from tradier_pipeline_tests.support.terminal import on_terminal

CANARY = "cAnArY+7f/3b9e=1d0c5a864e2b97"  # with characters that encodings change
ECHO = f'{{"headers":{{"Authorization":"Bearer {CANARY}"}}}}'

FAULTS: dict[str, dict[str, Any]] = {
    "echo in a body": {"path": "/positions", "kind": "body", "body": ECHO},
    "echo in an error text": {
        "path": "/v1/",
        "kind": "status",
        "status": 400,
        "body": f"Invalid header, Authorization: Bearer {CANARY}",
    },
    "echo in a fault": {
        "path": "/profile",
        "kind": "body",
        "status": 401,
        "body": f'{{"fault":{{"faultstring":"Invalid Access Token {CANARY}","detail":{{"errorcode":"{CANARY}"}}}}}}',
    },
    "echo in errors": {"path": "/orders", "kind": "body", "body": f'{{"errors":{{"error":["{CANARY}"]}}}}'},
    "echo in a page": {"path": "/balances", "kind": "html", "status": 400, "body": f"<p>{CANARY}</p>"},
    "echo in a header": {
        "path": "/balances",
        "kind": "status",
        "status": 400,
        "headers": {"content-type": f"text/{CANARY}", "x-ratelimit-allowed": CANARY},
    },
    "echo in the quotes": {"path": "/quotes", "kind": "body", "body": ECHO},
    "redirect": {"path": "/profile", "kind": "status", "status": 302, "headers": {"location": f"http://x/?t={CANARY}"}},
    "redirect to a user": {
        "path": "/profile",
        "kind": "status",
        "status": 307,
        "headers": {"location": f"http://{CANARY}@example.com/"},
    },
    "unauthorized": {"path": "/v1/", "kind": "status", "status": 401, "body": "Unauthorized Account: VA00000000"},
    "bad parameter": {"path": "/orders", "kind": "status", "status": 400, "body": "Invalid parameter, page: 1"},
    "not JSON": {"path": "/positions", "kind": "body", "status": 400, "body": "{"},
    "reset of the quotes": {"path": "/quotes", "kind": "reset", "times": 4},
}
QUICK = (("echo in a body", "echo in a header", "redirect", "echo in errors"), ("echo in an error text",))


def _spellings() -> list[bytes]:
    """The token as it is, and as encodings write it; of base64, the part that does not depend on what surrounds it."""
    plain = CANARY.encode()
    spelled = [plain, quote(CANARY, safe="").encode(), plain.hex().encode(), plain[::-1]]
    in_base64 = [base64.b64encode(b"x" * shift + plain)[4:-4] for shift in range(3)]
    return [*spelled, *in_base64, *(text.replace(b"+", b"-").replace(b"/", b"_") for text in in_base64)]


def _found(text: bytes) -> bool:
    return any(spelling in text for spelling in _spellings())


@pytest.fixture
def sandbox(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulated]:
    """A broker that accepts any token, configured as the sandbox with the canary."""
    with embedded_simulator(None, token=None, limits=None, calendar=ROUND_THE_CLOCK) as url:
        monkeypatch.setenv("TRADIER_ENV", "sandbox")
        monkeypatch.setenv("TRADIER_BASE_URL", url)
        monkeypatch.setenv("TRADIER_ACCESS_TOKEN", CANARY)
        monkeypatch.setenv("TRADIER_ACCOUNT_ID", DEMO_ACCOUNT)
        yield Simulated(url)


def _prove_unsaid(home: Home, said: str) -> None:
    assert not _found(said.encode())
    assert "Traceback" not in said
    files = [path for path in home.path.rglob("*") if path.is_file()]
    assert any("dagster" in path.parts for path in files)
    assert [str(path) for path in files if _found(path.read_bytes()) or _found(str(path).encode())] == []


def _prove(home: Home, sandbox: Simulated, groups: Iterable[tuple[str, ...]]) -> None:
    wide = {"columns": 1000}  # where no line is broken
    code, said = on_terminal("snapshot", "--json", **wide)
    assert code == 0, said
    _prove_unsaid(home, said)
    for names in groups:
        sandbox.admin("POST", "faults", [FAULTS[name] for name in names])
        code, said = on_terminal("snapshot", **wide)
        sandbox.heal()
        assert code == (0 if "quotes" in names[0] else 1), f"{names}: {said}"
        _prove_unsaid(home, said)


def test_the_token_is_found_nowhere(home: Home, sandbox: Simulated) -> None:
    _prove(home, sandbox, QUICK)


@pytest.mark.soak
def test_the_token_is_found_nowhere_after_every_fault(home: Home, sandbox: Simulated) -> None:
    _prove(home, sandbox, [(name,) for name in FAULTS])


def test_the_search_finds_a_token_however_it_is_spelled() -> None:
    encoded = base64.b64encode(f"Bearer {CANARY}".encode())
    for text in (CANARY.encode(), encoded, quote(CANARY, safe="").encode()):
        assert _found(b"before " + text + b" after")
    assert not _found(b"nothing here")
