"""Who follows says what is wrong once, and goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from tradier_pipeline.lake import follow as following
from tradier_pipeline.lake.connection import Lake, LakeError, UnavailableError
from tradier_pipeline.lake.ship import Shipment, Shipper

LAKE = Lake({"host": "nowhere"}, "/nowhere/")
AGAIN = "the lake can be used again, and has all that is published here"


def said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails: list[LakeError]) -> list[str]:
    """What is said of shipments that fail one after the other, until one does not."""
    errors, stop, found = iter(fails), threading.Event(), []

    def ship(_: Shipper) -> list[Shipment]:
        for error in errors:
            raise error
        stop.set()
        return []

    warehouse = tmp_path / "tradier.duckdb"
    warehouse.touch()
    monkeypatch.setattr(Shipper, "ship", ship)
    monkeypatch.setattr(following, "maintain_if_due", lambda *_: None)
    monkeypatch.setattr(following, "RETRY_S", (0.0,))
    following.follow(tmp_path, warehouse, LAKE, None, found.append, stop)
    return found


def test_a_server_that_is_away_is_one_line_whatever_the_client_says_of_it_each_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    texts = ("server closed the connection", "connection refused", "server closed the connection")
    lines = said(monkeypatch, tmp_path, [UnavailableError(text, "Wait.") for text in texts])
    assert [texts[0] in lines[0], *lines[1:]] == [True, AGAIN]


def test_trouble_of_another_kind_is_another_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fails = [UnavailableError("connection refused", "Wait."), LakeError("the lake is newer", "Upgrade.")]
    assert len(said(monkeypatch, tmp_path, fails)) == len(fails) + 1


def test_trouble_that_lasts_is_said_again_with_what_it_is_now(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hours: Iterator[int] = count(0, 3600)
    monkeypatch.setattr(following, "time", SimpleNamespace(monotonic=lambda: next(hours)))
    lines = said(monkeypatch, tmp_path, [UnavailableError(text, "Wait.") for text in ("refused", "no space")])
    assert ["refused" in lines[0], "no space" in lines[1], *lines[2:]] == [True, True, AGAIN]
