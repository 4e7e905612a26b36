"""Recorded bodies come back byte for byte."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.simulator.replay import create_replay_app
from tradier_pipeline.simulator.server import running

POSITIONS = b'{"positions": "null"}\n'
ORDERS = b'{ "orders": {"order": {"id": 7, "price": 1.50000000}} }'


def record(directory: Path, **bodies: bytes) -> Path:
    directory.mkdir(exist_ok=True)
    for name, body in bodies.items():
        (directory / name.replace("__", ".")).write_bytes(body)
    return directory


def test_bodies_are_served_verbatim_for_any_account_and_token(tmp_path):
    record(tmp_path, account__json=b"{}", positions__json=POSITIONS, orders__json=ORDERS, orders__2__json=b'{"two":2}')
    with running(create_replay_app(tmp_path)) as url, httpx.Client(base_url=f"{url}/v1") as client:
        profile = client.get("/user/profile")
        assert (profile.content, profile.headers["content-type"]) == (b"{}", "application/json")
        assert client.get("/accounts/ANY/positions").content == POSITIONS
        assert client.get("/accounts/ANY/orders?page=1&limit=1000").content == ORDERS
        assert client.get("/accounts/ANY/orders?page=2").content == b'{"two":2}'
        assert client.get("/accounts/ANY/orders?page=3").json() == {"orders": "null"}
        missing = client.post("/markets/quotes", data={"symbols": "F"})
        assert (missing.status_code, missing.text) == (404, "no recorded body for quotes")
        assert client.get("/accounts/ANY/balances").status_code == 404
        assert client.get("/accounts/ANY/secrets").status_code == 404


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("balances__txt", "text/plain"), ("balances__html", "text/html"), ("balances__json", "application/json")],
)
def test_the_extension_names_the_media_type(tmp_path, name, media_type):
    record(tmp_path, **{name: b"<x>"})
    with running(create_replay_app(tmp_path)) as url:
        answer = httpx.get(f"{url}/v1/accounts/A/balances")
    assert (answer.content, answer.headers["content-type"]) == (b"<x>", media_type)


def test_a_directory_named_like_the_account_wins(tmp_path):
    record(tmp_path, positions__json=POSITIONS, balances__json=b"1")
    record(tmp_path / "VA1", positions__json=b"own")
    with running(create_replay_app(tmp_path)) as url, httpx.Client(base_url=f"{url}/v1/accounts") as client:
        assert client.get("/VA1/positions").content == b"own"
        assert client.get("/VA1/balances").content == b"1"
        assert client.get("/VA2/positions").content == POSITIONS


def test_nothing_outside_the_directory_is_served(tmp_path):
    inside = record(tmp_path / "inside", positions__json=POSITIONS)
    record(tmp_path, positions__json=b"outside")
    with running(create_replay_app(inside)) as url:
        assert httpx.get(f"{url}/v1/accounts/%2e%2e/positions").content == POSITIONS


@pytest.mark.parametrize("names", [None, [], ["notes.md"]])
def test_a_directory_without_bodies_is_told(tmp_path, names):
    directory = tmp_path / "recorded"
    if names is not None:
        record(directory, **dict.fromkeys(names, b""))
    with pytest.raises(PipelineError, match="recorded"):
        create_replay_app(directory)
