"""Several access tokens in one home: each reads its accounts from its broker, and its trouble is its own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import dagster as dg
import httpx
import pytest

from tradier_pipeline import clock
from tradier_pipeline.cli.up import _warn_of_too_many_accounts
from tradier_pipeline.core.settings import load_settings
from tradier_pipeline.core.snapshot_id import SnapshotId
from tradier_pipeline.cycles.schedules import _by_token
from tradier_pipeline.instance.runs import SNAPSHOTS_TAG, keys_together, snapshots_tags
from tradier_pipeline.simulator.limits import Limits
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline.simulator.world import ROUND_THE_CLOCK
from tradier_pipeline.warehouse.reads import connect_readonly, snapshot_ids
from tradier_pipeline_tests.conftest import Home, Simulated
from tradier_pipeline_tests.cycles.conftest import MINUTE, OPEN, Clock
from tradier_pipeline_tests.support.command_line import run
from tradier_pipeline_tests.support.dagster_runs import definitions, evaluate

pytestmark = pytest.mark.usefixtures("without_days")

OURS, THEIRS = "0123456789abcdefSECRET789012", "0123456789abcdefOTHERS789012"
FIRST, SECOND = ("VA00000001", "VA00000002"), ("VB00000001",)


@dataclass(frozen=True)
class Two:
    """Two brokers, each of one token, and the file that names both."""

    first: Simulated
    second: Simulated
    file: Path

    def write(self, **changed: object) -> None:
        """The file; `changed` is what the second group has otherwise."""
        groups = [
            {"name": "first", "token": OURS, "base_url": self.first.url, "accounts": FIRST},
            {"name": "second", "token": THEIRS, "base_url": self.second.url, "accounts": SECOND} | changed,
        ]
        self.file.write_text(json.dumps(groups))
        self.file.chmod(0o600)


@pytest.fixture
def two(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Two]:
    with (
        embedded_simulator(None, token=OURS, calendar=ROUND_THE_CLOCK) as first,
        embedded_simulator(None, token=THEIRS, calendar=ROUND_THE_CLOCK) as second,
    ):
        both = Two(Simulated(first), Simulated(second), tmp_path / "tokens.json")
        for broker, accounts in ((both.first, FIRST), (both.second, SECOND)):
            broker.admin("POST", "reset", {"accounts": [{"id": account} for account in accounts]})
        both.write()
        monkeypatch.setenv("TRADIER_ENV", "sandbox")
        monkeypatch.setenv("TRADIER_TOKENS", str(both.file))
        yield both


def stored(home: Home) -> list[str]:
    with connect_readonly(home.warehouse.path) as connection:
        return sorted(key.partition("@")[0] for key in snapshot_ids(connection))


def asked(broker: Simulated) -> Counter[str]:
    return Counter(one["path"].rpartition("/")[2] for one in broker.requests())


def test_the_command_line_reads_each_account_with_its_token_and_each_profile_once(home: Home, two: Two) -> None:
    result = run("snapshot", "--json")
    assert result.exit_code == 0, result.stderr
    assert stored(home) == [*FIRST, *SECOND]
    assert asked(two.first) == {"profile": 1, "balances": 2, "positions": 2, "orders": 2}
    assert asked(two.second) == {"profile": 1, "balances": 1, "positions": 1, "orders": 1}
    landed = [next(home.zone.latest(account)) for account in FIRST]
    profiles = [one.pages("account") for one in landed]
    assert profiles[0] == profiles[1]  # bytes, hash and instants of one answer, in each landing directory
    assert all((one.directory / "account.json").read_bytes() == one.bodies("account")[0] for one in landed)
    assert all(one.manifest.as_of <= pages[0].started_at for one, pages in zip(landed, profiles, strict=True))
    assert run("verify", "--all").exit_code == 0
    texts = [path.read_bytes() for path in home.path.rglob("*") if path.is_file()]
    assert not any(token.encode() in text for token in (OURS, THEIRS) for text in texts)


def test_a_token_that_is_refused_leaves_the_accounts_of_the_other_stored(
    home: Home, two: Two, instance: dg.DagsterInstance
) -> None:
    two.write(token="revoked")
    settings = load_settings()
    now = SnapshotId.now(FIRST[0]).instant
    ids = [SnapshotId(account, now) for account in settings.accounts or ()]
    outcomes = {}
    for group, of_token in _by_token(settings, ids):
        tags = snapshots_tags([one.account_id for one in of_token], clock.iso(now)) | {
            "tradier/trigger": "monitor_cycle"
        }
        job = definitions().resolve_job_def("snapshot_accounts")
        outcomes[group] = job.execute_in_process(instance=instance, tags=tags, raise_on_error=False).success
    assert outcomes == {"first": True, "second": False}
    assert stored(home) == list(FIRST)
    result = run("snapshot", "--json")  # both in one run of the command line
    assert result.exit_code == 1
    documents = json.loads(result.stdout)["snapshots"]
    assert [document.get("published", True) for document in documents] == [True, True, False]
    assert "Invalid Access Token" in documents[2]["error"]["cause"]
    assert documents[2]["error"]["cause"].endswith(", with the token of the group second")
    place = f"the token of the group second in TRADIER_TOKENS ({two.file})"
    assert documents[2]["error"]["remedy"].startswith(f"Check that {place} is valid")
    assert place in run("backfill", "--account", SECOND[0]).stderr


def test_what_a_token_allows_is_counted_for_each_and_status_says_what_fits(
    home: Home, two: Two, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tradier_pipeline.domain.budget.ALLOWED", {"sandbox": 6})  # one account
    _warn_of_too_many_accounts(load_settings())  # as `up` does before anything else
    assert "the access token first allows 6 a minute" in capsys.readouterr().err
    run("snapshot", "--account", SECOND[0])
    warning = json.loads(run("status", "--json").stdout)["requests_warning"]
    assert warning.startswith(
        "2 accounts need 7 requests, and the access token first allows 6 a minute: 1 accounts. The cadence that fits: "
        "each account has its turn every 2 minutes"
    )
    assert "second" not in warning


def test_backfill_reads_each_account_with_its_token(home: Home, two: Two) -> None:
    result = run("backfill", "--since", "2026-01-02", "--benchmark", "off")
    assert all(account in result.stdout for account in (*FIRST, *SECOND)), result.stderr


def test_an_account_of_no_group_is_told_so(two: Two) -> None:
    result = run("snapshot", "--account", "VC00000001")
    assert result.exit_code == 1
    assert "VC00000001 is in no group of TRADIER_TOKENS" in result.stderr


def test_accounts_on_demand_that_a_minute_has_no_requests_for_wait_for_the_next_one(
    home: Home, two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tradier_pipeline.cycles.on_demand.time.sleep", waits.append)
    monkeypatch.setattr("tradier_pipeline.domain.budget.ALLOWED", {"sandbox": 6})  # one account
    result = run("snapshot", "--json")
    assert result.exit_code == 0, result.stderr
    assert stored(home) == [*FIRST, *SECOND]
    (seconds,) = waits
    assert 0 < seconds <= 61
    assert asked(two.first) == {"profile": 2, "balances": 2, "positions": 2, "orders": 2}
    with connect_readonly(home.warehouse.path) as connection:
        assert connection.execute("SELECT count(*) FROM missed_snapshots").fetchone() == (0,)


def test_what_another_program_has_used_of_the_minute_is_waited_for(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    later = [timedelta()]
    real = clock.now
    monkeypatch.setattr(clock, "now", lambda: real() + later[0])

    def sleep(seconds: float) -> None:
        later[0] += timedelta(seconds=seconds)

    monkeypatch.setattr("tradier_pipeline.cycles.on_demand.time.sleep", sleep)
    with embedded_simulator(
        None, token=OURS, calendar=ROUND_THE_CLOCK, clock=lambda: clock.now(), limits=Limits(standard=8)
    ) as url:
        broker = Simulated(url)
        broker.admin("POST", "reset", {"accounts": [{"id": account} for account in FIRST]})
        for name, value in {"ENV": "sandbox", "ACCESS_TOKEN": OURS, "BASE_URL": url}.items():
            monkeypatch.setenv(f"TRADIER_{name}", value)
        monkeypatch.setenv("TRADIER_ACCOUNT_ID", ",".join(FIRST))
        headers = {"Authorization": f"Bearer {OURS}", "Accept": "application/json"}
        for _ in range(4):  # and leaves enough for one of the two accounts
            httpx.get(f"{url}/v1/user/profile", headers=headers, trust_env=False).raise_for_status()
        result = run("snapshot", "--json")
        assert result.exit_code == 0, result.stdout + result.stderr
        assert stored(home) == list(FIRST)
        assert 0 < later[0].total_seconds() <= 62
        assert {one["status"] for one in broker.requests()} == {200}


def test_a_cycle_asks_for_a_run_for_each_token(
    two: Two, instance: dg.DagsterInstance, machine: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_TOKENS", two.file.read_text())  # the text does as well as the file
    machine.time = OPEN + MINUTE + timedelta(seconds=1)
    requests, _ = evaluate(instance, "monitor_cycle", OPEN + MINUTE)
    asked_for = {request.run_key: keys_together(request.tags[SNAPSHOTS_TAG]) for request in requests}
    at = clock.iso(OPEN + MINUTE)
    assert asked_for == {
        f"monitor_cycle/first@{at}": tuple(f"{account}@{at}" for account in FIRST),
        f"monitor_cycle/second@{at}": tuple(f"{account}@{at}" for account in SECOND),
    }
    assert {request.job_name for request in requests} <= {None, "snapshot_accounts"}
