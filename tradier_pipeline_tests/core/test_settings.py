"""Settings: read from the environment and .env only, refused by the name of the variable, never by its value."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tradier_pipeline.core import sources
from tradier_pipeline.core.dotenv import SettingsError
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import DEMO_ACCOUNT, DEMO_TOKEN, load_settings
from tradier_pipeline.extract.connection import connect
from tradier_pipeline.simulator import app
from tradier_pipeline.simulator.server import embedded_simulator

SECRET = "0123456789abcdefSECRET789012"  # as long as a real token


@pytest.fixture
def anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No home is named: the default one is `tmp_path`/checkout/data, and we stand elsewhere."""
    monkeypatch.delenv("TRADIER_PIPELINE_HOME")
    checkout, elsewhere = tmp_path / "checkout", tmp_path / "elsewhere"
    checkout.mkdir()
    (checkout / "pyproject.toml").touch()
    elsewhere.mkdir()
    monkeypatch.setattr(sources, "_PROJECT", checkout)
    monkeypatch.chdir(elsewhere)
    return checkout


def write(path: Path, **variables: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"TRADIER_{name}={value}\n" for name, value in variables.items()))


ACCOUNT = {"ENV": "sandbox", "ACCESS_TOKEN": SECRET, "ACCOUNT_ID": "VA12345678"}


def test_without_any_variable_the_simulated_account_is_read_into_the_home_of_the_checkout(anywhere: Path) -> None:
    settings = load_settings()
    assert (settings.environment, settings.accounts, settings.broker_url) == ("simulator", (DEMO_ACCOUNT,), None)
    assert settings.token.get_secret_value() == DEMO_TOKEN == app.DEMO_TOKEN  # type: ignore[attr-defined]
    assert settings.home == anywhere / "data"
    assert settings.warehouse == anywhere / "data" / "tradier.duckdb"
    assert settings.landing == anywhere / "data" / "raw"
    assert settings.dagster_home == anywhere / "data" / "dagster"
    assert settings.dotenv is None
    assert settings.notices == ()
    assert settings.identity == f"SIMULATED account {DEMO_ACCOUNT}, embedded simulated broker, home {anywhere}/data"


def test_an_installed_package_keeps_its_home_with_the_users_data(
    anywhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (anywhere / "pyproject.toml").unlink()
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert load_settings().home == Path.home() / ".local/share/tradier-pipeline"
    monkeypatch.setenv("XDG_DATA_HOME", "/srv/data")
    assert load_settings().home == Path("/srv/data/tradier-pipeline")


@pytest.mark.parametrize("name", ["tradier.duckdb", "ledger.sqlite", "dagster/dagster.yaml"])
def test_a_home_that_was_made_in_the_working_directory_is_used_on_and_told(anywhere: Path, name: str) -> None:
    write(Path("data") / name)
    settings = load_settings()
    assert settings.home == Path.cwd() / "data"
    notice, *_ = settings.notices
    assert f"Set TRADIER_PIPELINE_HOME={Path.cwd()}/data" in notice
    assert str(anywhere / "data") in notice


def test_a_folder_data_that_is_no_home_of_ours_is_left_alone(anywhere: Path) -> None:
    write(Path("data/raw/results.csv"))
    assert load_settings().home == anywhere / "data"


def test_the_dotenv_of_the_home_comes_before_the_nearest_one_and_that_before_the_one_beside_the_home(
    anywhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {
        name: path / ".env"
        for name, path in {"BESIDE": anywhere, "ABOVE": Path.cwd(), "HOME": anywhere / "data"}.items()
    }
    below = Path.cwd() / "one" / "two"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    (below / ".env").write_text("UNRELATED=1\nODD LINE\n")  # another project's
    for account, path in places.items():
        write(path, **{**ACCOUNT, "ACCOUNT_ID": account})
        settings = load_settings()
        assert (settings.accounts, settings.dotenv, settings.home) == ((account,), path, anywhere / "data")
        assert settings.identity == (
            f"SANDBOX account {account}, sandbox.tradier.com, home {anywhere}/data, .env {path}"
        )
    monkeypatch.chdir("/")  # where cron stands
    assert load_settings().dotenv == places["HOME"]
    places["HOME"].unlink()
    assert load_settings().dotenv == places["BESIDE"]


def test_a_working_directory_that_was_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed = tmp_path / "removed"
    removed.mkdir()
    monkeypatch.chdir(removed)
    monkeypatch.setenv("PWD", str(removed))
    removed.rmdir()
    with pytest.raises(SettingsError, match=f"the working directory, {removed}, was removed. Change to one"):
        load_settings()


def test_a_home_that_a_dotenv_names_is_relative_to_that_file_and_its_own_dotenv_counts(anywhere: Path) -> None:
    write(Path(".env"), PIPELINE_HOME="history", **ACCOUNT)
    assert load_settings().home == Path.cwd() / "history"
    write(Path("history/.env"), **{**ACCOUNT, "PIPELINE_HOME": "/nowhere", "ACCOUNT_ID": "INSIDE"})
    settings = load_settings()
    assert (settings.home, settings.accounts) == (Path.cwd() / "history", ("INSIDE",))


@pytest.mark.parametrize("field", ["base_url", "alert_urls"])
def test_a_strangers_dotenv_does_not_decide_whom_an_exported_token_is_sent_to(
    field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(f"TRADIER_{name}", value)
    write(tmp_path / ".env", **{field.upper(): "https://evil.example"})
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert refused.value.cause == (
        f"TRADIER_ACCESS_TOKEN is set in the environment, but TRADIER_{field.upper()} in {tmp_path}/.env"
    )
    monkeypatch.delenv("TRADIER_ACCESS_TOKEN")
    write(tmp_path / ".env", ACCESS_TOKEN=SECRET, **{field.upper(): "https://mine.example"})
    assert load_settings().token.get_secret_value() == SECRET


def test_an_exported_url_does_not_get_the_token_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / ".env", **ACCOUNT)
    monkeypatch.setenv("TRADIER_BASE_URL", "https://evil.example")
    with pytest.raises(SettingsError, match=r"TRADIER_ACCESS_TOKEN is set in .*\.env, but TRADIER_BASE_URL in the env"):
        load_settings()


def test_the_dotenv_of_the_home_says_where_alerts_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(f"TRADIER_{name}", value)
    write(tmp_path / "data" / ".env", ALERT_URLS="json://127.0.0.1")
    assert load_settings().alert_urls is not None


@pytest.mark.parametrize("field", ["ACCESS_TOKEN", "ACCOUNT_ID"])
@pytest.mark.parametrize("in_file", [True, False])
def test_a_token_or_an_account_without_an_environment_is_refused(
    field: str, in_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if in_file:
        write(tmp_path / ".env", **{field: SECRET})
    else:
        monkeypatch.setenv(f"TRADIER_{field}", SECRET)
    source = f"{tmp_path}/.env" if in_file else "the environment"
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert str(refused.value) == (
        f"TRADIER_{field} is set in {source}, but TRADIER_ENV is not set. Set it to simulator, sandbox or live."
    )


def test_a_value_of_a_dotenv_takes_nothing_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_SECRET", "hunter2")
    write(tmp_path / ".env", BASE_URL="https://${SOME_SECRET}.evil.example")
    assert "hunter2" not in (load_settings().broker_url or "")


def test_a_line_of_ours_that_sets_nothing_is_refused(tmp_path: Path) -> None:
    for line in ("TRADIER_ENV", "TRADIER_ENV live", "TRADIER_ENV='live"):
        (tmp_path / ".env").write_text(f"OTHER=1\n{line}\n")
        with pytest.raises(SettingsError, match=r"^line 2 of .*\.env is malformed\. Write NAME=value\.$"):
            load_settings()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("TRADIER_MAX_OPEN_POSITION=3", "TRADIER_MAX_OPEN_POSITION in line 1 of {}.*nearest one is {}_POSITIONS"),
        ("\n\nTRADER_ENV=live", "TRADER_ENV in line 3 of {}.*the nearest one is TRADIER_ENV"),
        ("TRADIER-LEDGER-WRITE=off", "TRADIER-LEDGER-WRITE in line 1.*nearest one is TRADIER_LEDGER_WRITE"),
        ("TRADIER_ZZ=1", "TRADIER_ZZ in line 1 of {} is no setting and has no effect$"),
        ("DEBUG=1\nTRADIER_WATCH_REASON=1", None),
    ],
)
def test_a_name_that_is_no_setting_is_named_with_its_line_and_the_nearest_one(
    text: str, reported: str | None, tmp_path: Path
) -> None:
    path = tmp_path / ".env"
    path.write_text(text)
    path.chmod(0o600)
    notices = load_settings().notices
    assert len(notices) == (reported is not None)
    if reported:
        expected = reported.replace("{}_POSITIONS", "TRADIER_MAX_OPEN_POSITIONS").format(re.escape(str(path)))
        assert re.search(expected, notices[0])


def test_a_misspelt_variable_of_the_environment_is_named_and_explains_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_TRADER_MINUTES", "5")
    assert load_settings().notices == (
        "TRADIER_TRADER_MINUTES in the environment is no setting and has no effect; the nearest one is "
        "TRADIER_TRADE_MINUTES",
    )
    (tmp_path / ".env").write_text("TRADIER_ENV=sandbox\nTRADIER_ACESS_TOKEN=x\nTRADIER_ACCOUNT_ID=VA1")
    with pytest.raises(SettingsError, match=r"ACCESS_TOKEN is not set.*TRADIER_ACESS_TOKEN in line 2 of"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("TRADIER_ENV=sandbox\nA=1\nTRADIER_ENV=live", "TRADIER_ENV is set otherwise in line 1 of .* than in line 3"),
        ("tradier_calendar=XNYS\nTRADIER_CALENDAR=24/7", "TRADIER_CALENDAR is set otherwise in line 1"),
        ('TRADIER_UI_TOKEN="0123456789abcdef\nTRADIER_ENV=live\nA="b"', "line 1 of .* is malformed"),
        ('\nA="b\nTRADIER_ENV=live\nB="b"', "line 2 of .* is malformed"),
        ("\ufeffTRADIER_ENV=none", "TRADIER_ENV is malformed"),
        ("TRADIER_ENV=none\r\nTRADIER_CALENDAR=XNYS\r\n", "TRADIER_ENV is malformed"),
    ],
)
def test_no_line_of_a_dotenv_is_lost_to_another(text: str, reported: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(text)
    with pytest.raises(SettingsError, match=reported):
        load_settings()


@pytest.mark.parametrize("place", ["data", "."])
@pytest.mark.parametrize("kind", ["directory", "pipe", "link"])
def test_what_is_no_file_in_the_place_of_a_dotenv_is_named(kind: str, place: str, tmp_path: Path) -> None:
    """A container that mounts a file which is not there has a directory in its place."""
    path = tmp_path / place / ".env"
    path.parent.mkdir(exist_ok=True)
    {"directory": path.mkdir, "pipe": lambda: os.mkfifo(path), "link": lambda: path.symlink_to("nothing")}[kind]()
    with pytest.raises(SettingsError, match=rf"{re.escape(str(path))} is (a directory|no file|a link to nothing)"):
        load_settings()


def test_somebodys_python_of_that_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".env" / "bin").mkdir(parents=True)
    assert load_settings().dotenv is None


def test_a_dotenv_of_another_user_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / ".env", MONITOR_MINUTES="0")
    os.chown(tmp_path / ".env", 12345, 12345)
    load_settings()  # root may
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    with pytest.raises(SettingsError, match=r"\.env belongs to another user"):
        load_settings()


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
    with pytest.raises(SettingsError, match="TRADIER_ACCOUNT_ID is not set") as reported:
        load_settings()
    assert SECRET not in f"{reported.value}{reported.value.__cause__}{reported.value.__context__}"
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
    with pytest.raises(SettingsError) as reported:
        load_settings()
    assert reported.value.cause == f"{variable} is malformed"
    assert reported.value.remedy.startswith("Set it to ")
    assert "secret" not in str(reported.value)
    assert reported.value.__suppress_context__


def test_dotenv_is_read_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(
        f"TRADIER_ENV=sandbox\nTRADIER_ACCESS_TOKEN={SECRET}\nTRADIER_ACCOUNT_ID=VA12345678\n"
        "TRADIER_PIPELINE_HOME=history\nUNRELATED=1\nDAGSTER_HOME=elsewhere\n"
    )
    monkeypatch.delenv("TRADIER_PIPELINE_HOME")
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
    assert settings.home == sources.default_home()


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
    monkeypatch.setenv("TRADIER_ENV", "simulator")
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
        settings["PIPELINE_HOME"] = str(tmp_path / "data")
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


def group(name: str = "alice", account: str = "VA12345678", **more: object) -> dict[str, object]:
    return {"name": name, "token": f"{SECRET}{name}", "environment": "sandbox", "accounts": [account]} | more


def named(tmp_path: Path, text: str, mode: int = 0o600) -> str:
    path = tmp_path / "tokens"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_several_tokens_are_read_from_json_and_toml_a_file_or_a_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_json = json.dumps([group(), group("bob", "VA87654321", environment="live")])
    as_toml = "".join(
        f'[{name}]\ntoken = "{SECRET}{name}"\nenvironment = "{environment}"\naccounts = ["{account}"]\n'
        for name, environment, account in (("alice", "sandbox", "VA12345678"), ("bob", "live", "VA87654321"))
    )
    as_list = as_toml.replace("[alice]", '[[groups]]\nname = "alice"').replace("[bob]", '[[groups]]\nname = "bob"')
    for text in (as_json, as_toml, as_list):
        for value in (text, named(tmp_path, text)):
            monkeypatch.setenv("TRADIER_TOKENS", value)
            settings = load_settings()
            assert SECRET not in repr(settings)
            assert settings.accounts == ("VA12345678", "VA87654321")
            assert "REAL" in settings.identity
            assert "SANDBOX" in settings.identity
            assert [(one.group, one.environment, one.accounts, one.broker_url) for one in settings.by_token] == [
                ("alice", "sandbox", ("VA12345678",), "https://sandbox.tradier.com"),
                ("bob", "live", ("VA87654321",), "https://api.tradier.com"),
            ]
            assert settings.of_account("VA87654321").token.get_secret_value() == f"{SECRET}bob"


def test_a_file_of_tokens_is_relative_to_the_dotenv_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(tmp_path, json.dumps([group()]))
    write(tmp_path / ".env", TOKENS="tokens")
    below = tmp_path / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    assert load_settings().accounts == ("VA12345678",)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "has no group"),
        ("[]", "has no group"),
        ('[{"name": "alice", "token": "' + SECRET + '"', "is malformed: neither JSON nor TOML at line 1, column"),
        ('[alice]\ntoken = "' + SECRET + "\n", "is malformed: neither JSON nor TOML at line 2, column"),
        ('"' + SECRET + '"', "is not a list of groups"),
        (json.dumps([{"name": "alice", "accounts": ["VA12345678"]}]), "has no token"),
        (json.dumps([group(accounts=[])]), "has a malformed accounts"),
        (json.dumps([group(accounts="all")]), "has a malformed accounts"),
        (json.dumps([group(token="two " + SECRET)]), "has a malformed token"),
        (json.dumps([group(environment="prod")]), "has a malformed environment"),
        (json.dumps([group(**{SECRET: ""})]), "has an unknown field"),
        (json.dumps([group(), group("bob")]), "has 2 groups with the account VA12345678"),
        (json.dumps([group(), group(account="B")]), "has 2 groups with the name alice"),
        (json.dumps([group(token=SECRET), group("bob", "B", token=SECRET)]), "alice and bob have the same token"),
        ('{"alice": %s, "alice": %s}' % ((json.dumps(group()),) * 2), "has a name twice, and one of the two"),
        ("\ufeff" + json.dumps([group(accounts=[])]), "has a malformed accounts"),
        (json.dumps([group(environment=None)]), "has no environment, and TRADIER_ENV is not set"),
        (json.dumps([group(environment="simulator")]), "has the environment simulator and no base_url"),
    ],
)
def test_a_file_of_tokens_that_cannot_be_used_is_one_line_without_a_token(
    text: str, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_TOKENS", named(tmp_path, text))
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert "TRADIER_TOKENS" in refused.value.cause
    assert cause in refused.value.cause
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_a_file_of_tokens_that_others_can_read_is_named_with_the_command_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = named(tmp_path, json.dumps([group()]), 0o644)
    monkeypatch.setenv("TRADIER_TOKENS", path)
    (notice,) = [one for one in load_settings().notices if path in one]
    assert "open to every user of this machine (mode 0644)" in notice
    assert f"chmod go-rwx {path}" in notice


@pytest.mark.parametrize("field", ["ACCESS_TOKEN", "ACCOUNT_ID"])
def test_several_tokens_and_a_single_one_are_refused(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADIER_ENV", "sandbox")
    monkeypatch.setenv("TRADIER_TOKENS", json.dumps([group()]))
    monkeypatch.setenv(f"TRADIER_{field}", "VA00000000")
    with pytest.raises(SettingsError, match=f"both TRADIER_TOKENS and TRADIER_{field} are set"):
        load_settings()


def test_a_token_that_was_given_for_the_file_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADIER_TOKENS", SECRET)
    with pytest.raises(SettingsError, match="neither a file that is there nor the text of groups") as refused:
        load_settings()
    assert SECRET not in str(refused.value)


def test_a_strangers_dotenv_does_not_decide_whom_the_tokens_of_a_file_are_sent_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADIER_TOKENS", json.dumps([group()]))
    write(tmp_path / ".env", BASE_URL="https://evil.example")
    with pytest.raises(SettingsError, match="TRADIER_TOKENS is set in the environment, but TRADIER_BASE_URL in "):
        load_settings()
