"""Settings: read from the environment and .env only, refused by the name of the variable, never by its value."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tradier_pipeline.broker.simulator import app
from tradier_pipeline.broker.simulator.server import embedded_simulator
from tradier_pipeline.errors import PipelineError
from tradier_pipeline.extract import connect
from tradier_pipeline.settings import DEMO_ACCOUNT, DEMO_TOKEN, SettingsError, load_settings

SECRET = "0123456789abcdefSECRET789012"  # as long as a real token


def test_without_any_variable_the_simulated_account_is_read_into_the_working_directory(tmp_path: Path) -> None:
    settings = load_settings()
    assert (settings.environment, settings.accounts, settings.broker_url) == ("simulator", (DEMO_ACCOUNT,), None)
    assert settings.token.get_secret_value() == DEMO_TOKEN == app.DEMO_TOKEN
    assert settings.home == tmp_path / "data"
    assert settings.warehouse == tmp_path / "data" / "tradier.duckdb"
    assert settings.landing == tmp_path / "data" / "raw"
    assert settings.dagster_home == tmp_path / "data" / "dagster"


@pytest.mark.parametrize(
    ("environment", "url"), [("sandbox", "https://sandbox.tradier.com"), ("live", "https://api.tradier.com")]
)
def test_an_environment_has_its_url_and_needs_token_and_account(
    environment: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_ENV", environment)
    with pytest.raises(SettingsError, match=f"TRADIER_ACCESS_TOKEN is not set, and TRADIER_ENV={environment} needs it"):
        load_settings()
    monkeypatch.setenv("TRADIER_ACCESS_TOKEN", SECRET)
    with pytest.raises(SettingsError, match="TRADIER_ACCOUNT_ID is not set") as told:
        load_settings()
    assert SECRET not in f"{told.value}{told.value.__cause__}{told.value.__context__}"
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", "VA12345678")
    settings = load_settings()
    assert (settings.broker_url, settings.accounts) == (url, ("VA12345678",))
    assert settings.token.get_secret_value() == SECRET
    assert SECRET not in repr(settings)
    monkeypatch.setenv("TRADIER_BASE_URL", "http://127.0.0.1:8470")
    assert load_settings().broker_url == "http://127.0.0.1:8470"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TRADIER_ENV", "prod-secret"),
        ("TRADIER_ACCOUNT_ID", "no/such account-secret"),
        ("TRADIER_BASE_URL", "https://secret@api.tradier.com"),
        ("TRADIER_BASE_URL", "https://api.tradier.com/v1/secret"),
        ("TRADIER_BASE_URL", "secret.tradier.com"),
        ("TRADIER_PIPELINE_HOME", "~nosuchuser-secret/data"),
        ("TRADIER_MONITOR_MINUTES", "-1"),
        ("TRADIER_TRADE_MINUTES", "7"),
        ("TRADIER_SYNC_MINUTES", "secret"),
        ("TRADIER_CALENDAR", "secret"),
        ("TRADIER_KEEP_RUN_DAYS", "0"),
        ("TRADIER_COMPACT_AFTER_DAYS", "0"),
        ("TRADIER_CLOSE_EXTENSION_MINUTES", "61"),
        ("TRADIER_SYNC_FROM", "07:01"),
        ("TRADIER_SYNC_UNTIL", "secret"),
        ("TRADIER_SYNC_BEFORE_OPEN", "08:00+01:00"),
        ("TRADIER_SYNC_AFTER_CLOSE_MINUTES", "7"),
        ("TRADIER_BROKER_SENSOR_SECONDS", "4"),
        ("TRADIER_BROKER_SENSOR_SECONDS", "-1"),
        ("TRADIER_MAX_AGE_SECONDS", "0"),
        ("TRADIER_MAX_OPEN_POSITIONS", "-1"),
    ],
)
def test_a_malformed_variable_is_named_and_its_value_is_not(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as told:
        load_settings()
    assert told.value.cause == f"{variable} is malformed"
    assert told.value.remedy.startswith("Set it to ")
    assert "secret" not in str(told.value)
    assert told.value.__suppress_context__


def test_dotenv_is_read_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(
        f"TRADIER_ENV=sandbox\nTRADIER_ACCESS_TOKEN={SECRET}\nTRADIER_ACCOUNT_ID=VA12345678\n"
        "TRADIER_PIPELINE_HOME=history\nUNRELATED=1\nDAGSTER_HOME=elsewhere\n"
    )
    settings = load_settings()
    assert (settings.environment, settings.accounts) == ("sandbox", ("VA12345678",))
    assert settings.token.get_secret_value() == SECRET
    assert settings.home == tmp_path / "history"
    monkeypatch.setenv("TRADIER_ACCOUNT_ID", "VA87654321")
    assert load_settings().accounts == ("VA87654321",)


def test_empty_values_are_as_good_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("TRADIER_ACCESS_TOKEN=\nTRADIER_ACCOUNT_ID=\nTRADIER_BASE_URL=\n")
    monkeypatch.setenv("TRADIER_ENV", "")
    monkeypatch.setenv("TRADIER_PIPELINE_HOME", "")
    settings = load_settings()
    assert (settings.environment, settings.accounts, settings.broker_url) == ("simulator", (DEMO_ACCOUNT,), None)
    assert settings.home == tmp_path / "data"


@pytest.mark.parametrize("name", ["HOME", "ENV", "ACCESS_TOKEN", "ACCOUNT_ID", "BASE_URL", "PIPELINE_HOME", "USER"])
def test_a_variable_without_the_prefix_is_never_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_settings()
    monkeypatch.setenv(name, "/somewhere/else")
    assert load_settings() == before


def test_an_unreadable_dotenv_is_told(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"TRADIER_ENV=\xff\xfe\n")
    with pytest.raises(SettingsError, match=r"\.env cannot be read"):
        load_settings()


def test_the_embedded_simulator_never_sees_the_users_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADIER_ACCESS_TOKEN", SECRET)
    with connect(load_settings()) as broker:
        assert broker.url.startswith("http://127.0.0.1:")
        assert broker.token.get_secret_value() == DEMO_TOKEN


@pytest.mark.parametrize("url", ["http://192.0.2.1", "http://tradier.invalid:8080"])
def test_the_token_never_travels_unencrypted(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADIER_BASE_URL", url)
    with connect(load_settings()) as broker, pytest.raises(PipelineError, match="http"):
        broker.read(lambda client: client.fetch_account())


def test_a_real_broker_is_read_without_loading_the_simulator_and_the_token_is_written_nowhere(tmp_path: Path) -> None:
    program = (
        "import sys, tradier_pipeline\n"
        "print(tradier_pipeline.sync_tradier_snapshot().account.account_number)\n"
        "sys.exit(any('simulator' in name for name in sys.modules))"
    )
    with embedded_simulator(None, token=SECRET) as url:
        settings = {"ENV": "live", "BASE_URL": url, "ACCESS_TOKEN": SECRET, "ACCOUNT_ID": DEMO_ACCOUNT}
        ended = subprocess.run(
            [sys.executable, "-c", program],
            env={f"TRADIER_{name}": value for name, value in settings.items()},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert (ended.returncode, ended.stdout.strip()) == (0, DEMO_ACCOUNT), ended.stderr
    holding = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert holding == []


def test_a_sync_window_that_ends_before_it_begins_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADIER_SYNC_FROM", "20:00")
    with pytest.raises(SettingsError, match="TRADIER_SYNC_UNTIL is not after TRADIER_SYNC_FROM"):
        load_settings()
