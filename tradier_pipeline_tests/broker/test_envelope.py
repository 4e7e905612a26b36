from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradier_pipeline.broker import envelope
from tradier_pipeline.broker.errors import (
    AccountRefusedError,
    AuthError,
    BodyError,
    BrokerError,
    FaultError,
    RateLimitError,
    RefusedError,
    UnavailableError,
    excerpt,
)

NOW = datetime(2026, 11, 20, 14, 31, tzinfo=UTC)
PAYLOADS = Path(__file__).parents[2].parent / "shared" / "payloads"
PATHS = {
    "positions": ("positions", "position"),
    "orders": ("orders", "order"),
    "quotes": ("quotes", "quote"),
    "history": ("history", "event"),
    "gainloss": ("gainloss", "closed_position"),
    "calendar": ("calendar", "days", "day"),
}


def wrap(resource, value, depth=None):
    """`value` under the resource's keys; without the last one for depth -1."""
    for key in reversed(PATHS[resource][:depth]):
        value = {key: value}
    return value


def refusal(resource, status, body, headers=None):
    with pytest.raises(BrokerError) as caught:
        envelope.decode_answer(resource, status, headers or {}, body, now=NOW)
    return caught.value


# --- JSON


def test_numbers_keep_every_digit():
    document = envelope.parse_json(b'{"a": 17798.360000000000000000000001, "b": 0E-8, "c": 37, "d": -2.40}', "balances")
    assert document["a"] == Decimal("17798.360000000000000000000001")
    assert document["b"] == 0
    assert isinstance(document["c"], int)
    assert str(document["d"]) == "-2.40"


@pytest.mark.parametrize(
    ("body", "problem", "transient"),
    [
        (b"", "empty", True),
        (b" \n", "empty", True),
        (b"<html><body>Down for maintenance</body></html>", "HTML", True),
        (b"Service unavailable", "not JSON", True),
        (b'{"orders": {"order": [{"id": 1', "not JSON", True),
        (b"[]", "not a JSON object", True),
        (b"null", "not a JSON object", True),
        (b'"null"', "not a JSON object", True),
        (b'{"a": "\xff"}', "UTF-8", True),
        ('{"a": 1}'.encode("utf-16"), "UTF-8", True),
        (b'{"a": NaN}', "NaN", False),
        (b'{"a": -Infinity}', "Infinity", False),
        (b'{"a": 1e400}', "out of range", False),
        (b'{"a": 1e99999999999999999999}', "out of range", False),
        (b'{"a": 1, "b": 2, "a": 1}', "a appears twice", False),
        (b'{"a": ' + b"9" * 5000 + b"}", "not acceptable", False),
        (b'{"a": ' * 40 + b"1" + b"}" * 40, "nested too deeply", False),
        (b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deeply", False),
        (b'{"a": "\\ud800"}', "surrogate", False),
    ],
)
def test_a_body_that_is_not_exactly_one_json_object_is_refused(body, problem, transient):
    with pytest.raises(BodyError, match=problem) as caught:
        envelope.parse_json(body, "orders")
    assert caught.value.transient is transient
    assert caught.value.resource == "orders"


def test_a_body_over_the_limit_is_refused_before_it_is_decoded():
    assert envelope.parse_json(b'{"a": 1}', "orders", limit=8)
    with pytest.raises(BodyError, match="more than the limit of 7"):
        envelope.parse_json(b'{"a": 1}', "orders", limit=7)


def test_text_is_kept_as_it_is():
    body = '{"orders": {"order": {"id": 1, "tag": "null", "symbol": "null", "x": "\\ud83d\\ude00 é"}}}'.encode()
    assert envelope.rows("orders", envelope.parse_json(body, "orders")) == [
        {"id": 1, "tag": "null", "symbol": "null", "x": "😀 é"}
    ]


# --- shapes


@pytest.mark.parametrize("resource", PATHS)
@pytest.mark.parametrize("empty", ["null", None, {}])
def test_the_empty_forms_under_the_right_key_are_no_rows(resource, empty):
    assert envelope.rows(resource, wrap(resource, empty, -1)) == []


@pytest.mark.parametrize("resource", PATHS)
@pytest.mark.parametrize("empty", [None, []])
def test_an_empty_row_key_is_no_rows(resource, empty):
    assert envelope.rows(resource, wrap(resource, empty)) == []


@pytest.mark.parametrize("resource", PATHS)
def test_one_row_is_a_bare_object_and_several_are_an_array(resource):
    assert envelope.rows(resource, wrap(resource, {"id": 1})) == [{"id": 1}]
    assert envelope.rows(resource, wrap(resource, [{"id": 1}, {"id": 2}])) == [{"id": 1}, {"id": 2}]


@pytest.mark.parametrize("resource", PATHS)
@pytest.mark.parametrize("value", ["null", "", "x", 0, False, True, [[]], [None], ["null"]])
def test_a_row_that_is_not_an_object_is_refused(resource, value):
    with pytest.raises(BodyError) as caught:
        envelope.rows(resource, wrap(resource, value))
    path = ".".join(PATHS[resource])
    assert caught.value.path == (f"{path}[0]" if isinstance(value, list) else path)
    assert path in str(caught.value)


@pytest.mark.parametrize("empty", ["null", None, {}, []])
def test_historical_balances_have_no_object_around_their_list(empty):
    row = {"date": "2026-11-20", "value": 1}
    assert envelope.rows("historical_balances", {"balances": empty}) == []
    assert envelope.rows("historical_balances", {"balances": row}) == [row]
    assert envelope.rows("historical_balances", {"balances": [row, row], "delta": 0}) == [row, row]


@pytest.mark.parametrize("document", [{}, {"delta": 0}, {"balances": 0}, {"balances": "x"}, {"balances": [[]]}])
def test_historical_balances_without_their_list_are_refused(document):
    with pytest.raises(BodyError, match="balances"):
        envelope.rows("historical_balances", document)


def test_the_offending_row_is_named_by_its_place():
    with pytest.raises(BodyError, match=r"orders\.order\[2\] is the text 'null', expected an object"):
        envelope.rows("orders", {"orders": {"order": [{}, {}, "null"]}})


@pytest.mark.parametrize("resource", PATHS)
@pytest.mark.parametrize("value", ["", "NULL", "none", [], 0, False, {"rows": []}, {"order_": None}, [{}]])
def test_an_unknown_empty_form_is_refused(resource, value):
    with pytest.raises(BodyError):
        envelope.rows(resource, wrap(resource, value, -1))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just("null"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(get_args(envelope.ListResource)), st.dictionaries(st.text(), json_values))
def test_no_value_under_a_wrong_key_is_ever_empty(resource, document):
    top = {"account": "profile", "historical_balances": "balances"}.get(resource, resource)
    document.pop(top, None)
    with pytest.raises(BrokerError):
        envelope.rows(resource, document)


@given(st.sampled_from(sorted(PATHS)), json_values)
def test_whatever_is_under_the_right_key_is_rows_or_an_error(resource, value):
    document = wrap(resource, value, -1)
    before = copy.deepcopy(document)
    try:
        rows = envelope.rows(resource, document)
    except BodyError:
        return
    assert rows or value in ("null", None, {}) or resource in ("calendar", "quotes") or not value[PATHS[resource][-1]]
    assert all(isinstance(row, dict) for row in rows)
    assert document == before


@given(st.binary())
def test_no_bytes_are_ever_empty(body):
    with pytest.raises(BrokerError):
        envelope.decode_answer("orders", 200, {}, body, now=NOW)


@pytest.mark.parametrize(
    "profile", ["null", None, {}, {"account": None}, {"account": []}, {"account": "null"}, {"id": 1}]
)
def test_a_profile_without_accounts_is_refused(profile):
    with pytest.raises(BodyError, match="profile"):
        envelope.one("account", {"profile": profile})
    with pytest.raises(BodyError, match="profile"):
        envelope.rows("account", {"profile": profile})


def test_a_profile_has_one_account_or_several():
    document = {"profile": {"id": "id-sb-1", "account": {"account_number": "VA1"}}}
    assert envelope.one("account", document)["id"] == "id-sb-1"
    assert envelope.rows("account", document) == [{"account_number": "VA1"}]
    assert len(envelope.rows("account", {"profile": {"account": [{}, {}]}})) == 2


@pytest.mark.parametrize("resource", ["balances", "order", "clock"])
@pytest.mark.parametrize("value", ["null", None, [], 0, [{}]])
def test_what_exists_once_has_no_empty_form(resource, value):
    assert envelope.one(resource, {resource: {"a": 1}}) == {"a": 1}
    with pytest.raises(BodyError, match=f"{resource} is .*, expected an object"):
        envelope.one(resource, {resource: value})


def test_quotes_may_consist_of_unknown_symbols_only():
    document = {"quotes": {"unmatched_symbols": {"symbol": "XXXX"}}}
    assert envelope.rows("quotes", document) == []
    assert envelope.unmatched_symbols(document) == ["XXXX"]
    both = {"quotes": {"quote": {"symbol": "SPY"}, "unmatched_symbols": {"symbol": ["A", "B"]}}}
    assert envelope.rows("quotes", both) == [{"symbol": "SPY"}]
    assert envelope.unmatched_symbols(both) == ["A", "B"]
    assert envelope.unmatched_symbols({"quotes": {"quote": {}}}) == []
    with pytest.raises(BodyError, match="unmatched_symbols"):
        envelope.unmatched_symbols({"quotes": {"unmatched_symbols": {"symbol": [1]}}})


@pytest.mark.parametrize("orders", ["null", {"order": []}, {"order": [{"id": 1}]}])
@pytest.mark.parametrize(("key", "kind"), [("errors", RefusedError), ("fault", FaultError)])
def test_an_errors_or_fault_key_beside_data_still_is_a_refusal(key, kind, orders):
    with pytest.raises(kind):
        envelope.rows("orders", {"orders": orders, key: {"error": "x"}})


# --- answers


@pytest.mark.parametrize(
    ("status", "body", "kind", "transient", "reported"),
    [
        (200, b'{"errors":{"error":["Refused.","InitialMargin"]}}', RefusedError, False, "Refused.; InitialMargin"),
        (200, b'{"errors":{"error":"Sell order"}}', RefusedError, False, "Sell order"),
        (200, b'{"fault":{"faultstring":"Datastore Error"}}', FaultError, True, "Datastore Error"),
        (500, b'{"fault":{"faultstring":"Datastore Error"}}', FaultError, True, "Datastore Error"),
        (500, b'{"fault":{"detail":{"errorcode":"protocol.http.TooBigBody"}}}', FaultError, False, "TooBigBody"),
        (200, b'{"fault":{"faultstring":"Invalid Access Token"}}', AuthError, False, "TRADIER_ACCESS_TOKEN"),
        (
            500,
            b'{"fault":{"detail":{"errorcode":"keymanagement.service.access_token_expired"}}}',
            AuthError,
            False,
            "ENV",
        ),
        (401, b'{"fault":{"faultstring":"Invalid Access Token"}}', AuthError, False, "fault 'Invalid Access Token'"),
        (
            500,
            b'{"fault":{"detail":{"errorcode":"oauth.v2.InvalidApiKey"}}}',
            AuthError,
            False,
            "oauth.v2.InvalidApiKey",
        ),
        *(
            (status, b'{"fault":{"faultstring":"Access Token not approved","detail":{"errorcode":"%s"}}}' % code, *said)
            for status in (200, 401, 403, 500)
            for code in (b"", b"keymanagement.service.access_token_not_approved")
            for said in [
                (AuthError, False, "'Access Token not approved"),
                (AuthError, False, "the account is not active or not funded, or API access is not enabled"),
            ]
        ),
        (401, b"Access Token not approved", AuthError, False, "not active or not funded"),
        (500, b"Access Token expired", AuthError, False, "TRADIER_ACCESS_TOKEN"),
        (401, b"", AuthError, False, "HTTP 401 Unauthorized. Check"),
        (403, b'{"fault":{"faultstring":"Forbidden"}}', AuthError, False, "TRADIER_ENV"),
        (
            401,
            b"Unauthorized Account: VA00000000",
            AccountRefusedError,
            False,
            "'VA00000000'. Check TRADIER_ACCOUNT_ID",
        ),
        (400, b"Invalid parameter, page: x", RefusedError, False, "HTTP 400 Bad Request: 'Invalid parameter, page: x'"),
        (418, b"", RefusedError, False, "HTTP 418"),
        (204, b"", RefusedError, False, "HTTP 204"),
        (404, b"", UnavailableError, True, "TRADIER_BASE_URL"),
        (500, b"An error occurred while communicating with the backend.", UnavailableError, True, "the backend."),
        (502, b"<html><h1>Bad Gateway</h1></html>", UnavailableError, True, "HTTP 502 Bad Gateway with an HTML page"),
        (520, b"", UnavailableError, True, "HTTP 520"),
        (530, b"", UnavailableError, True, "HTTP 530"),
        (200, b'{"error": {"code": 429, "message": "Rate limit exceeded"}}', BodyError, False, "only 'error'"),
    ],
)
def test_each_refusal_is_told_and_repeated_only_if_that_can_help(status, body, kind, transient, reported):
    error = refusal("orders", status, body)
    assert type(error) is kind
    assert error.transient is transient
    assert reported in str(error)
    assert str(error).startswith("orders: ")
    assert "\n" not in str(error)


def test_an_unknown_order_may_be_what_the_account_refusal_means():
    assert "or the order does not exist" in str(refusal("order", 401, b"Unauthorized Account: VA1"))


@pytest.mark.parametrize(
    ("location", "host"),
    [("https://evil.example/v1/x?a=b", "evil.example"), ("//u:p@evil.example:1/", "evil.example:1"), ("", "''")],
)
def test_a_redirect_names_the_other_host(location, host):
    error = refusal("orders", 302, b"", {"location": location})
    assert type(error) is RefusedError
    assert host in str(error)
    assert "redirects are not followed" in str(error)
    assert "u:p" not in str(error)


@pytest.mark.parametrize(
    ("headers", "body", "wait"),
    [
        ({"x-ratelimit-expiry": str(int(NOW.timestamp() + 30) * 1000)}, b"", 30),
        ({"x-ratelimit-expiry": str(int(NOW.timestamp() + 30))}, b"", 30),
        ({"x-ratelimit-expiry": str(int(NOW.timestamp() - 5))}, b"", 0),
        ({"x-ratelimit-expiry": str(int(NOW.timestamp() + 30)), "retry-after": "90"}, b"", 30),
        ({"retry-after": "12"}, b"", 12),
        ({"retry-after": "Fri, 20 Nov 2026 14:31:45 GMT"}, b"", 45),
        ({}, f"Quota Violation. Try after {int(NOW.timestamp() + 7) * 1000}".encode(), 7),
        # the local clock is ten minutes slow; the broker's own Date says how long it really is
        ({"date": "Fri, 20 Nov 2026 14:41:00 GMT", "x-ratelimit-expiry": str(int(NOW.timestamp() + 620))}, b"", 20),
        ({}, b"", None),
        ({"x-ratelimit-expiry": "soon", "retry-after": "later"}, b"Quota Violation", None),
        ({"x-ratelimit-expiry": "9" * 400, "retry-after": "-1"}, b"", None),
    ],
)
def test_a_rate_limit_tells_when_it_ends(headers, body, wait):
    error = refusal("orders", 429, body, headers)
    assert isinstance(error, RateLimitError)
    assert error.transient
    assert error.wait == wait
    assert (error.retry_at is None) == (wait is None)
    if wait:
        clock = NOW + timedelta(minutes=10) if "date" in headers else NOW
        assert error.retry_at == clock + timedelta(seconds=wait)
        assert f"until {error.retry_at:%Y-%m-%dT%H:%M:%SZ}" in str(error)


@pytest.mark.parametrize("status", [200, 403, 500])
def test_a_quota_violation_is_a_rate_limit_at_any_status(status):
    assert isinstance(refusal("orders", status, b"Quota Violation. 1795185060000"), RateLimitError)


@given(st.sampled_from([200, 301, 400, 401, 429, 500]), st.text() | st.binary())
def test_no_refusal_carries_terminal_or_markup_characters(status, text):
    body = text.encode("utf-8", "replace") if isinstance(text, str) else text
    error = refusal("orders", status, body, {"location": body.decode("latin-1")})
    assert str(error).isprintable()
    assert not set(str(error)) & set("<>")
    assert len(str(error)) < 500


def test_a_quotation_is_one_short_line():
    assert excerpt("\x1b[31mred\x07\n\tand <b>") == r"'\u001b[31mred\u0007 and \u003cb\u003e'"
    assert len(excerpt("x" * 10**6)) == 122
    assert len(excerpt(b"\x00" * 10**6)) <= 122


@pytest.mark.parametrize("status", [200, 302, 400, 401, 404, 429, 500])
@pytest.mark.parametrize("body", [b"{}", b"", b'{"fault":{}}', b'{"errors":{}}', b"Quota Violation 1795185060000"])
def test_errors_survive_pickling(status, body):
    error = refusal("orders", status, body)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))


# --- the broker's real bodies

RESOURCES = {
    "balances": "balances",
    "calendar": "calendar",
    "clock": "clock",
    "gainloss": "gainloss",
    "historical-balances": "historical_balances",
    "history": "history",
    "order": "order",
    "orders": "orders",
    "positions": "positions",
    "user-profile": "account",
}
NOT_DATA = {  # bodies their collection marks as never sent, or as sent instead of data
    "orders/11-lumibot-oco-filled-as-dataframe-nan.json",
    "balances/10-blaunius-null-string.json",
    "user-profile/06-wrkstrm-swift-no-account-key.json",
}


def collected(*folders):
    files = [path for folder in folders for path in sorted((PAYLOADS / folder).glob("*"))]
    return files or [pytest.param(None, marks=pytest.mark.skip(reason="the collected bodies are not here"))]


@pytest.mark.parametrize("path", collected(*RESOURCES), ids=lambda path: path and f"{path.parent.name}/{path.name}")
def test_a_collected_body_is_accepted_unless_it_is_known_not_to_be_data(path):
    resource = RESOURCES[path.parent.name]
    try:
        envelope.decode_answer(resource, 200, {}, path.read_bytes(), now=NOW)
    except BodyError:
        assert f"{path.parent.name}/{path.name}" in NOT_DATA
    else:
        assert f"{path.parent.name}/{path.name}" not in NOT_DATA


@pytest.mark.parametrize("path", collected("errors"), ids=lambda path: path and path.name)
@pytest.mark.parametrize("resource", ["account", *PATHS, "balances", "order", "clock"])
@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500, 503])
def test_a_collected_error_is_never_data(path, resource, status):
    refusal(resource, status, path.read_bytes())


def test_a_collected_body_cut_anywhere_is_refused():
    body = json.dumps({"positions": {"position": [{"id": 1, "symbol": "SPY", "quantity": 1.5}]}}).encode()
    envelope.decode_answer("positions", 200, {}, body, now=NOW)
    for length in range(len(body)):
        assert refusal("positions", 200, body[:length]).transient
