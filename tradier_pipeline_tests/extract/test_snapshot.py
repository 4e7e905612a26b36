"""Reading a snapshot: whatever else the broker answers, it is never an account without positions or orders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from tradier_pipeline import clock
from tradier_pipeline.broker.client import RetryPolicy, SnapshotFetchError
from tradier_pipeline.broker.errors import AuthError, BrokerError
from tradier_pipeline.core.errors import ExtractError
from tradier_pipeline.core.settings import DEMO_ACCOUNT, DEMO_TOKEN
from tradier_pipeline.core.snapshot_id import SnapshotId, SnapshotIdError
from tradier_pipeline.extract.connection import Broker
from tradier_pipeline.extract.snapshot import extract_quotes, extract_snapshot
from tradier_pipeline.landing.manifest import FailureRecord
from tradier_pipeline.landing.zone import REQUIRED_RESOURCES, LandedSnapshot
from tradier_pipeline.publish.store import store_snapshot
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.simulator.world import ROUND_THE_CLOCK
from tradier_pipeline.warehouse.typed import read_typed
from tradier_pipeline_tests.conftest import Home, Simulated, dear_examples, take
from tradier_pipeline_tests.support.sampling import sampled, thinned

pytestmark = pytest.mark.usefixtures("without_days")

PATHS = {"account": "/profile", "balances": "/balances", "positions": "/positions", "orders": "/orders"}
KEYS = {"account": "profile", "balances": "balances", "positions": "positions", "orders": "orders"}
HASTY_POLICY = RetryPolicy(attempts=2, base_delay=0.0)
REAL_BODIES = Path(__file__).parents[3] / "shared" / "payloads" / "errors"

ERRORS = '{"errors":{"error":["Backoffice rejected override of the order.","InitialMargin"]}}'
BAD_TOKEN = (
    '{"fault":{"faultstring":"Invalid Access Token",'
    '"detail":{"errorcode":"keymanagement.service.invalid_access_token"}}}'
)
DATASTORE = '{"fault":{"faultstring":"Datastore Error","detail":{"errorcode":"datastore.ErrorWhileAccessing"}}}'

# kind of fault -> its details; {key} and {account} are filled in
FAILURES: dict[str, dict[str, Any]] = {
    "errors, several": {"kind": "body", "body": ERRORS},
    "errors, one": {"kind": "body", "body": '{"errors":{"error":"Sell order cannot be placed."}}'},
    "errors beside data": {"kind": "body", "body": '{"errors":{"error":"late"},"{key}":"null"}'},
    "token fault": {"kind": "body", "status": 401, "body": BAD_TOKEN},
    "token fault with 200": {"kind": "body", "body": BAD_TOKEN},
    "gateway fault": {"kind": "body", "status": 500, "body": DATASTORE},
    "gateway fault with 200": {"kind": "body", "body": DATASTORE},
    "other error object": {"kind": "body", "body": '{"error":{"code":429,"message":"Rate limit exceeded"}}'},
    "foreign account": {"kind": "status", "status": 401, "body": "Unauthorized Account: VA00000000"},
    "bad parameter": {"kind": "status", "status": 400, "body": "Invalid parameter, page: is not a number."},
    "forbidden": {"kind": "status", "status": 403},
    "not found": {"kind": "status", "status": 404, "body": "Not Found"},
    "backend": {"kind": "status", "status": 500, "body": "An error occurred while communicating with the backend."},
    "bad gateway": {"kind": "html", "status": 502},
    "unavailable": {"kind": "status", "status": 503},
    "content network": {"kind": "status", "status": 520},
    "quota with status": {"kind": "status", "status": 429, "headers": {"x-ratelimit-expiry": "4102444800000"}},
    "quota in words": {"kind": "status", "status": 200, "body": "Quota Violation: limit exceeded 4102444800000"},
    "redirect": {"kind": "status", "status": 302, "headers": {"location": "https://example.com/v1"}},
    "no content": {"kind": "status", "status": 204},
    "maintenance page": {"kind": "html"},
    "page that claims to be JSON": {"kind": "html", "content_type": "application/json"},
    "XML": {"kind": "body", "body": "<{key}/>", "content_type": "application/xml"},
    "nothing": {"kind": "body", "body": ""},
    "white space": {"kind": "body", "body": " \n"},
    "bare null": {"kind": "body", "body": "null"},
    "bare word": {"kind": "body", "body": '"null"'},
    "bare array": {"kind": "body", "body": "[]"},
    "no members": {"kind": "body", "body": "{}"},
    "other key": {"kind": "body", "body": '{"data":{}}'},
    "key in capitals": {"kind": "body", "body": '{"{KEY}":"null"}'},
    "empty text": {"kind": "body", "body": '{"{key}":""}'},
    "another word": {"kind": "body", "body": '{"{key}":"none"}'},
    "number": {"kind": "body", "body": '{"{key}":0}'},
    "false": {"kind": "body", "body": '{"{key}":false}'},
    "array without rows": {"kind": "body", "body": '{"{key}":[]}'},
    "unknown row key": {"kind": "body", "body": '{"{key}":{"item":[]}}'},
    "row that is a word": {"kind": "body", "body": '{"{key}":{"position":"none","order":"none","account":"none"}}'},
    "rows that are words": {"kind": "body", "body": '{"{key}":{"position":["a"],"order":["a"],"account":["a"]}}'},
    "cut off": {"kind": "body", "body": '{"{key}":{"position":[{"id":1,'},
    "two documents": {"kind": "body", "body": '{"{key}":"null"}{"{key}":"null"}'},
    "key twice": {"kind": "body", "body": '{"{key}":{"position":[]},"{key}":"null"}'},
    "not a number": {"kind": "body", "body": '{"{key}":{"position":[{"id":NaN}],"order":[{"id":NaN}],"total":NaN}}'},
    "endless number": {"kind": "body", "body": '{"{key}":{"position":[{"q":1e999999}],"order":[{"q":1e999999}]}}'},
    "deep nesting": {"kind": "body", "body": '{"{key}":' + "[" * 5000 + "]" * 5000 + "}"},
    "connection reset": {"kind": "reset"},
    "truncated": {"kind": "truncate"},
}
EMPTY_OBJECT_FORMS = ['"null"', "null", "{}"]  # mean none for lists; the profile and the balances have no empty form
EMPTY_LIST_FORMS = [*EMPTY_OBJECT_FORMS, '{"{row}":null}', '{"{row}":[]}']
FAILURES |= {f"empty form {form}": {"kind": "body", "body": f'{{"{{key}}":{form}}}'} for form in EMPTY_OBJECT_FORMS}


@dataclass(frozen=True)
class Switched(Simulated):
    """A simulated broker whose switchboard is used so often that it keeps its connection."""

    connection: httpx.Client

    def admin(self, method: str, path: str, json: Any = None) -> Any:
        answer = self.connection.request(method, f"{self.url}/_simulator/{path}", json=json)
        answer.raise_for_status()
        return answer.json()


class Scene:
    """A home with one good snapshot, and a broker that can be made to fail."""

    def __init__(self, home: Home, simulated: Simulated) -> None:
        self.home, self.simulated = home, simulated
        self.broker = Broker(simulated.url, SecretStr(DEMO_TOKEN), "simulator", HASTY_POLICY)
        self.good, _ = take(home, self.broker)
        self.published = home.warehouse.path.read_bytes()

    def extract(self) -> LandedSnapshot:
        self.asked = SnapshotId.now(DEMO_ACCOUNT)
        return extract_snapshot(self.home.zone, self.broker, self.asked, "test")

    def prove_nothing_happened(self, resource: str) -> Path:
        """Nothing landed, the good snapshot is current; returns where the failure is kept."""
        assert self.home.zone.find(self.asked) is None
        newest = self.home.zone.newest(DEMO_ACCOUNT)
        assert newest is not None
        assert newest.snapshot_id == self.good.snapshot_id
        assert self.home.warehouse.path.read_bytes() == self.published
        (kept,) = self.good.directory.parent.parent.glob(f"*/{self.asked.file_name}.failed-*/")
        record = FailureRecord.model_validate_json((kept / "manifest.json").read_bytes())
        assert record.snapshot_id == str(self.asked)
        assert list(record.errors) == [resource]
        return kept


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with (
        embedded_simulator(None, limits=None, calendar=ROUND_THE_CLOCK) as url,
        httpx.Client(trust_env=False) as connection,
    ):
        yield Scene(Home(tmp_path_factory.mktemp("scene") / "home"), Switched(url, connection))


@pytest.fixture(autouse=True)
def _healed(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "scene" in request.fixturenames:
        request.getfixturevalue("scene").simulated.heal()


def _filled(text: str, resource: str) -> str:
    row = {"account": "account", "positions": "position", "orders": "order"}.get(resource, "")
    key = KEYS[resource]
    return text.replace("{key}", key).replace("{KEY}", key.upper()).replace("{row}", row)


def _cases() -> Iterator[Any]:
    for resource in REQUIRED_RESOURCES:
        for place, (name, fault) in enumerate(FAILURES.items()):
            if name.startswith("empty form") and resource in ("positions", "orders"):
                continue
            # of one list all, which are decoded alike
            marks = () if resource == "positions" or place % 6 == 0 else pytest.mark.soak
            yield pytest.param(resource, fault, id=f"{resource}: {name}", marks=marks)


@pytest.mark.parametrize(("resource", "fault"), list(_cases()))
def test_a_failure_is_never_an_empty_or_zero_snapshot(scene: Scene, resource: str, fault: dict[str, Any]) -> None:
    body = _filled(fault.get("body", ""), resource)
    scene.simulated.fault(PATHS[resource], **{**fault, "body": body if "body" in fault else None})
    with pytest.raises(SnapshotFetchError) as caught:
        scene.extract()
    assert str(caught.value).startswith(f"{resource}: ")
    assert "\n" not in str(caught.value)
    kept = scene.prove_nothing_happened(resource)
    if fault["kind"] in ("body", "status"):
        assert (kept / f"{resource}.json").read_bytes() == body.encode()
    if isinstance(caught.value.failures[resource], AuthError):
        return  # the other reads may have been given up at once
    for other in set(REQUIRED_RESOURCES) - {resource}:
        assert (kept / f"{other}.json").stat().st_size > 0


@pytest.mark.skipif(not REAL_BODIES.is_dir(), reason="the reference bodies are not part of the project")
@pytest.mark.parametrize("resource", REQUIRED_RESOURCES)
def test_no_recorded_error_body_is_a_snapshot(scene: Scene, resource: str) -> None:
    for file in sorted(REAL_BODIES.iterdir()):
        for status in (200, 401, 500):
            scene.simulated.heal()
            scene.simulated.fault(PATHS[resource], "body", status=status, body=file.read_text())
            with pytest.raises(BrokerError):
                scene.extract()
            kept = scene.prove_nothing_happened(resource)
            assert (kept / f"{resource}.json").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("resource", REQUIRED_RESOURCES)
def test_a_broker_that_never_answers_is_given_up_by_the_deadline(scene: Scene, resource: str) -> None:
    scene.simulated.fault(PATHS[resource], "hang")
    hasty = Broker(scene.simulated.url, SecretStr(DEMO_TOKEN), "simulator", RetryPolicy(deadline=0.4))
    scene.asked = SnapshotId.now(DEMO_ACCOUNT)
    with pytest.raises(BrokerError, match=rf"^{resource}: no complete answer within 0.4 s"):
        extract_snapshot(scene.home.zone, hasty, scene.asked, "test")
    scene.prove_nothing_happened(resource)


@pytest.mark.parametrize("form", EMPTY_LIST_FORMS)
@pytest.mark.parametrize("resource", ["positions", "orders"])
def test_the_documented_empty_forms_are_an_empty_list(home: Home, scene: Scene, resource: str, form: str) -> None:
    body = _filled(f'{{"{{key}}":{form}}}', resource)
    scene.simulated.fault(PATHS[resource], "body", body=body)
    landed = extract_snapshot(home.zone, scene.broker, SnapshotId.now(DEMO_ACCOUNT), "test")
    assert landed.bodies(resource)[0] == body.encode()
    if resource == "positions":
        quotes = extract_quotes(home.zone, scene.broker, landed)
        assert quotes.state == "not_needed"
    assert getattr(read_typed(landed), resource) == ()


QUOTE_FAILURES = {name: fault for name, fault in FAILURES.items() if "{key}" not in fault.get("body", "")}
MALFORMED_QUOTES = {
    "no row": "null",
    "rows without symbol": '{"quote":[{"bid":1.5},{"symbol":null}]}',
    "price in words": '{"quote":{"symbol":"{symbol}","bid":"dear"}}',
    "size of zero": '{"quote":[{"symbol":"{symbol}","contract_size":0}]}',
    "price beyond all sense": '{"quote":[{"symbol":"{symbol}","bid":1e30}]}',
    "unknown symbol": '{"unmatched_symbols":{"symbol":"{symbol}"}}',
}


@pytest.mark.parametrize("name", thinned([pytest.param(name, id=name) for name in QUOTE_FAILURES], 2))
def test_quotes_that_cannot_be_read_never_cost_the_snapshot(scene: Scene, name: str) -> None:
    scene.simulated.fault("/quotes", **QUOTE_FAILURES[name])
    landed = scene.extract()
    manifest = extract_quotes(scene.home.zone, scene.broker, landed)
    assert manifest.state == "failed"
    assert manifest.reason is not None
    assert manifest.reason.startswith("quotes: ")
    typed = read_typed(landed)
    assert typed.positions
    assert {position.mark for position in typed.positions} == {None}
    scene.good = landed


@sampled("form", ["failed", *MALFORMED_QUOTES], kept=(0, 2, 3, 6))  # no answer, no symbol, no number, no such symbol
def test_a_snapshot_without_usable_quotes_is_published_with_a_warning(home: Home, scene: Scene, form: str) -> None:
    if form == "failed":
        scene.simulated.fault("/quotes", "status", status=500)
    else:
        symbol = read_typed(scene.good).positions[0].symbol
        body = f'{{"quotes":{MALFORMED_QUOTES[form].replace("{symbol}", symbol)}}}'
        scene.simulated.fault("/quotes", "body", body=body)
    _, outcomes = take(home, scene.broker)
    assert [outcome.check for outcome in outcomes if not outcome.passed] == ["quotes_cover_positions"]


def test_quotes_are_not_read_long_after_the_positions(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    landed = scene.extract()
    late = clock.now() + timedelta(minutes=2)
    monkeypatch.setattr(clock, "now", lambda: late)
    scene.simulated.admin("DELETE", "requests")
    assert extract_quotes(scene.home.zone, scene.broker, landed).state == "missed"
    assert scene.simulated.requests() == []
    scene.good = landed


def test_what_was_landed_is_never_fetched_again(scene: Scene) -> None:
    landed = scene.extract()
    extract_quotes(scene.home.zone, scene.broker, landed)
    scene.simulated.admin("DELETE", "requests")
    again = extract_snapshot(scene.home.zone, scene.broker, landed.snapshot_id, "another trigger")
    assert again.manifest == landed.manifest
    assert extract_quotes(scene.home.zone, scene.broker, again) == landed.quotes
    assert scene.simulated.requests() == []
    scene.good = landed


def test_an_instant_in_the_past_is_recorded_as_missed_once_and_not_requested(home: Home, scene: Scene) -> None:
    missed = SnapshotId(DEMO_ACCOUNT, clock.now().replace(microsecond=0) - timedelta(seconds=62))
    scene.simulated.admin("DELETE", "requests")
    for _ in range(2):
        with pytest.raises(ExtractError, match="was missed"):
            extract_snapshot(home.zone, scene.broker, missed, "test")
    assert [record.snapshot_id for record in home.zone.missed(DEMO_ACCOUNT)] == [str(missed)]
    assert home.zone.find(missed) is None
    assert scene.simulated.requests() == []


def test_an_instant_in_the_future_is_refused(home: Home, scene: Scene) -> None:
    future = SnapshotId(DEMO_ACCOUNT, clock.now().replace(microsecond=0) + timedelta(seconds=60))
    scene.simulated.admin("DELETE", "requests")
    with pytest.raises(ExtractError, match="lies in the future"):
        extract_snapshot(home.zone, scene.broker, future, "test")
    assert list(home.zone.missed(DEMO_ACCOUNT)) == []
    assert scene.simulated.requests() == []


def test_a_token_without_the_account_is_refused_and_nothing_is_filed_under_its_name(home: Home, scene: Scene) -> None:
    with pytest.raises(ExtractError, match=r"VA00000000 is not among the accounts .* It has: SIM00000001"):
        take(home, scene.broker, "VA00000000")
    assert list(home.zone.snapshots()) == []


def test_a_wrong_token_is_refused_at_once(home: Home, scene: Scene) -> None:
    wrong = Broker(scene.simulated.url, SecretStr("wrong"), "simulator", HASTY_POLICY)
    scene.simulated.admin("DELETE", "requests")
    with pytest.raises(SnapshotFetchError, match="TRADIER_ACCESS_TOKEN is valid"):
        take(home, wrong)
    assert list(home.zone.snapshots()) == []
    assert len(scene.simulated.requests()) <= len(REQUIRED_RESOURCES)


@pytest.mark.parametrize("resource", ["account", "balances"])
def test_another_accounts_data_is_never_landed_under_this_name(scene: Scene, resource: str) -> None:
    (body,) = scene.good.bodies(resource)
    foreign = body.replace(DEMO_ACCOUNT.encode(), b"SIM99999999")
    assert foreign != body
    scene.simulated.fault(PATHS[resource], "body", body=foreign.decode())
    with pytest.raises(SnapshotFetchError, match=rf"^{resource}: .*{DEMO_ACCOUNT}"):
        scene.extract()
    kept = scene.prove_nothing_happened(resource)
    assert (kept / f"{resource}.json").read_bytes() == foreign


def test_balances_without_an_account_number_are_refused(scene: Scene) -> None:
    (body,) = scene.good.bodies("balances")
    scene.simulated.fault("/balances", "body", body=body.decode().replace("account_number", "number"))
    with pytest.raises(SnapshotFetchError, match="does not name the account"):
        scene.extract()
    scene.prove_nothing_happened("balances")


def test_a_snapshot_after_failures_is_taken_as_if_nothing_had_been(home: Home, scene: Scene) -> None:
    good, _ = take(home, scene.broker)
    scene.simulated.fault("/orders", "status", status=503)
    with pytest.raises(BrokerError):
        take(home, scene.broker)
    scene.simulated.heal()
    landed, outcomes = take(home, scene.broker)
    assert landed.manifest.previous_as_of == good.manifest.as_of
    assert not any(outcome.blocks for outcome in outcomes)
    assert store_snapshot(home.warehouse, landed)[0].landed.snapshot_id == landed.snapshot_id


INSTANTS = st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1))  # noqa: DTZ001
ACCOUNTS = st.from_regex(r"[A-Za-z0-9]{1,32}", fullmatch=True)


@settings(max_examples=dear_examples(3))
@given(ACCOUNTS, INSTANTS, st.booleans())
def test_every_id_reads_back_as_itself(account: str, instant: datetime, whole: bool) -> None:
    from datetime import UTC

    microsecond = 0 if whole else instant.microsecond // 1000 * 1000
    snapshot_id = SnapshotId(account, instant.replace(microsecond=microsecond, tzinfo=UTC))
    assert SnapshotId.parse(str(snapshot_id)) == snapshot_id


@given(
    st.text() | st.from_regex(r"[A-Z0-9 /.@]{0,12}@2026-[01][0-9]-[0-9]{2}T[0-9:.]{5,12}[Zz+0]{0,2}", fullmatch=True)
)
def test_a_text_is_an_id_only_if_it_is_written_exactly_as_one(text: str) -> None:
    try:
        snapshot_id = SnapshotId.parse(text)
    except SnapshotIdError:
        pass
    else:
        assert str(snapshot_id) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "VA12345678",
        "@2026-11-20T14:31:00Z",
        "VA1@2026-11-20T14:31:00",
        "VA1@2026-11-20T14:31:00+00:00",
        "VA1@2026-11-20T14:31:00z",
        "VA1@2026-11-20 14:31:00Z",
        "VA1@2026-11-20T14:31Z",
        "VA1@2026-11-20T14:31:00.000Z",
        "VA1@2026-11-20T14:31:00.5Z",
        "VA1@2026-11-20T14:31:60Z",
        "VA1@2026-02-30T14:31:00Z",
        "VA1@2026-11-20T14:31:00Z\n",
        " VA1@2026-11-20T14:31:00Z",
        "../x@2026-11-20T14:31:00Z",
        "VA/1@2026-11-20T14:31:00Z",
        "VA1@VA1@2026-11-20T14:31:00Z",
        "VÄ1@2026-11-20T14:31:00Z",
        "VA1@٢٠٢٦-11-20T14:31:00Z",
    ],
)
def test_garbage_is_no_id(text: str) -> None:
    with pytest.raises(SnapshotIdError):
        SnapshotId.parse(text)
