"""Each fault as a client meets it on a real connection."""

from __future__ import annotations

import httpx
import pytest

from tradier_pipeline_tests.simulator.worlds import ACCOUNT

POSITIONS = f"/v1/accounts/{ACCOUNT}/positions"
BALANCES = f"/v1/accounts/{ACCOUNT}/balances"


def fault(broker: httpx.Client, **fields: object) -> None:
    answer = broker.post("/_simulator/faults", json=[{"path": "positions", "times": 1, **fields}])
    assert answer.status_code == 200, answer.text


def hold(broker: httpx.Client, quantity: str) -> None:
    row = {"symbol": "F", "quantity": quantity, "cost_basis": "1"}
    broker.post("/_simulator/world", json={"account": ACCOUNT, "positions": [row]})


def test_a_status_comes_as_often_as_asked_and_only_on_its_path(broker):
    fault(broker, kind="status", status=503, body="An error", headers={"Retry-After": "7"}, times=2)
    assert broker.get(BALANCES).status_code == 200
    first = broker.get(POSITIONS)
    assert (first.status_code, first.text, first.headers["retry-after"]) == (503, "An error", "7")
    assert [broker.get(POSITIONS).status_code for _ in range(2)] == [503, 200]


def test_a_fault_without_times_stays_until_cleared(broker):
    fault(broker, kind="status", times=None)
    assert {broker.get(POSITIONS).status_code for _ in range(3)} == {503}
    broker.delete("/_simulator/faults")
    assert broker.get(POSITIONS).status_code == 200


def test_a_maintenance_page_is_html_with_status_200(broker):
    fault(broker, kind="html")
    answer = broker.get(POSITIONS)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html")
    assert answer.text.startswith("<html>")


def test_a_body_is_sent_as_given(broker):
    fault(broker, kind="body", body='{"errors":{"error":"no"}}', content_type="application/json")
    assert broker.get(POSITIONS).json() == {"errors": {"error": "no"}}


def test_a_reset_cuts_the_connection(broker):
    fault(broker, kind="reset")
    with pytest.raises(httpx.ReadError, match="reset"):
        broker.get(POSITIONS)
    assert broker.get(POSITIONS).status_code == 200


def test_a_truncated_body_is_shorter_than_announced(broker):
    fault(broker, kind="truncate")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
        broker.get(POSITIONS)


def test_a_hanging_answer_never_comes(broker):
    fault(broker, kind="hang")
    with pytest.raises(httpx.ReadTimeout):
        broker.get(POSITIONS, timeout=0.2)


def test_a_hang_ends_after_its_seconds(broker):
    fault(broker, kind="hang", seconds=0.01)
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        broker.get(POSITIONS)


def test_a_delay_precedes_the_answer_or_another_fault(broker):
    fault(broker, kind="delay", seconds=0.01, times=2)
    fault(broker, kind="status", status=502)
    assert [broker.get(POSITIONS).status_code for _ in range(2)] == [502, 200]


def test_a_stale_answer_is_the_last_one_given_before(broker):
    hold(broker, "1")
    before = broker.get(POSITIONS)
    hold(broker, "2")
    fault(broker, kind="stale", times=2)
    assert [broker.get(POSITIONS).text for _ in range(2)] == [before.text] * 2
    assert broker.get(POSITIONS).json()["positions"]["position"]["quantity"] == 2


def test_a_lagging_answer_is_as_of_some_seconds_ago(broker):
    hold(broker, "1")
    broker.post("/_simulator/clock", json={"now": "2026-11-16T17:00:30Z"})
    hold(broker, "2")
    broker.post("/_simulator/clock", json={"now": "2026-11-16T17:00:50Z"})
    undisturbed = broker.get(POSITIONS)
    answers = []
    for seconds in (10, 25, 3600):
        fault(broker, kind="lag", seconds=seconds)
        answers.append(broker.get(POSITIONS).json()["positions"])
    assert [answer["position"]["quantity"] for answer in answers[:2]] == [2, 1]
    assert answers[2] == answers[1]  # as far back as it remembers
    fault(broker, kind="stale")
    assert broker.get(POSITIONS).text == undisturbed.text
