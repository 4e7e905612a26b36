"""Environment (and `.env`) -> typed settings. The only module that reads configuration."""

from __future__ import annotations

import os
import re
from datetime import time
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from tradier_pipeline.core.dotenv import SetName, SettingsError, unknown_names
from tradier_pipeline.core.sources import (
    HOME_REMEDY,
    Sources,
    default_home,
    find_sources,
    open_to_others,
)
from tradier_pipeline.core.tokens import REMEDY as TOKENS_REMEDY
from tradier_pipeline.core.tokens import VARIABLE as TOKENS
from tradier_pipeline.core.tokens import TokenGroup, file_of, read_groups

Environment = Literal["simulator", "sandbox", "live"]
Calendar = Literal["XNYS", "24/7"]
LedgerWrite = Literal["off", "propose", "apply"]
Read = Literal["home", "lake"]
LAKE_PREFIX = "ducklake:postgres:"

# unlike any real number: demo history can never be taken for that of a real account
DEMO_ACCOUNT = "SIM00000001"
DEMO_TOKEN = "simulator"  # noqa: S105 - opens nothing but the simulated broker

WAREHOUSE = "tradier.duckdb"
STORAGE_VARIABLE = "TRADIER_DAGSTER_STORAGE"
POSTGRES_URL = r"postgres(ql)?(\+psycopg2)?://[^\s/?#]+/[^\s/?#]+(\?\S*)?$"

BASE_URLS: dict[Environment, str] = {
    "sandbox": "https://sandbox.tradier.com",
    "live": "https://api.tradier.com",
}

REMEDIES = {
    "env": "Set it to simulator, sandbox or live.",
    "access_token": "Set it to the access token of that environment, in the environment or in .env.",
    "account_id": "Set it to an account number, several (A,B), or all; in the environment or in .env.",
    "base_url": "Set it to scheme://host[:port], or leave it unset.",
    "pipeline_home": HOME_REMEDY,
    "monitor_minutes": "Set it to whole minutes, up to 390; 0 switches the cycle off.",
    "trade_minutes": "Set it to a multiple of 5 minutes, up to 390; 0 switches the cycle off.",
    "sync_minutes": "Set it to a multiple of 5 minutes, up to 780; 0 switches the cycle off.",
    "calendar": "Set it to XNYS, or to 24/7 to rehearse outside the session.",
    "close_extension_minutes": "Set it to whole minutes, up to 60: 15 where options trade until 16:15.",
    "sync_from": "Set it to a New York time on a multiple of 5 minutes, such as 07:00.",
    "sync_until": "Set it to a New York time on a multiple of 5 minutes, after TRADIER_SYNC_FROM, such as 20:00.",
    "sync_before_open": "Set it to a New York time on a multiple of 5 minutes, such as 08:00.",
    "sync_after_close_minutes": "Set it to a multiple of 5 minutes, up to 240.",
    "broker_sensor_seconds": "Set it to whole seconds from 5 to 3600; 0 switches the sensor off.",
    "keep_run_days": "Set it to whole days, from 1 to 365.",
    "compact_after_days": "Set it to whole days, from 1 to 3650.",
    "summary_after_close_minutes": "Set it to a multiple of 5 minutes, up to 240.",
    "max_age_seconds": "Set it to whole seconds, from 60 to 3600.",
    "alert_urls": "Set it to Apprise URLs, separated by spaces: mailto://..., json://..., slack://...",
    "ping_url": "Set it to an https URL, or http for this machine; or leave it unset.",
    "max_open_positions": "Set it to a whole number, or leave it unset for no limit.",
    "ledger_write": "Set it to off, propose or apply.",
    "ui_token": "Set it to 16 characters or more, or leave it unset.",
    "dagster_storage": "Set it to postgresql://user:password@host:port/database, or leave it unset.",
    "benchmark": "Set it to a symbol, such as SPY or BRK/B, or to off.",
    "lake": "Set it to ducklake:postgres:host=... dbname=... user=..., or ducklake:postgres:postgresql://...",
    "lake_data": "Set it to a directory, or to an address such as s3://bucket/prefix.",
    "lake_s3_file": "Set it to a file of lines KEY_ID=..., SECRET=..., ENDPOINT=....",
    "lake_keep_days": "Set it to whole days from 1 on, or leave it unset: the lake then forgets nothing.",
    "read": "Set it to home or lake.",
    "tokens": TOKENS_REMEDY,
    "order_tag_prefix": "Set it to what your orders' tags begin with: letters, digits and hyphens.",
}


class Settings(BaseModel):
    """What the user configured: the variables TRADIER_<field name in capitals>.

    `base_url` is None when the environment's own URL is meant. `pipeline_home` is absolute.
    The minutes are between two ticks of a cycle; 0 switches the cycle off. Times of day are New York's.
    `dagster_storage` is the URL of a PostgreSQL database that Dagster's run history is kept in; None: in the home.
    `benchmark` is the symbol that returns are compared with; empty (`off`): none.
    `lake` and `lake_data`: the catalog and the files of the lake that what is published is shipped to; None: none.
    `lake_keep_days`: how long its own older states are kept; None: for ever. `read`: where the history is read.
    `tokens`: the groups of several access tokens, instead of one token with its accounts; None: there is one.
    `max_age_seconds` and `max_open_positions` (None: no limit) are what the trade gate asks of a snapshot.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    env: Environment = "simulator"
    access_token: SecretStr | None = None
    tokens: tuple[TokenGroup, ...] | None = None
    account_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9]{1,32}(\s*,\s*[A-Za-z0-9]{1,32})*$")
    base_url: str | None = Field(default=None, pattern=r"^https?://[^/\s@?#]+/?$")
    pipeline_home: Path = Field(default_factory=default_home)
    monitor_minutes: int = Field(default=1, ge=0, le=390)
    trade_minutes: int = Field(default=15, ge=0, le=390, multiple_of=5)
    sync_minutes: int = Field(default=30, ge=0, le=780, multiple_of=5)
    sync_from: time = time(7)
    sync_until: time = time(20)
    sync_before_open: time = time(8)
    sync_after_close_minutes: int = Field(default=15, ge=0, le=240, multiple_of=5)
    calendar: Calendar = "XNYS"
    close_extension_minutes: int = Field(default=0, ge=0, le=60)
    broker_sensor_seconds: int = Field(default=0, ge=0, le=3600)
    keep_run_days: int = Field(default=7, ge=1, le=365)
    compact_after_days: int = Field(default=2, ge=1, le=3650)
    summary_after_close_minutes: int = Field(default=30, ge=0, le=240, multiple_of=5)
    max_age_seconds: int = Field(default=120, ge=60, le=3600)
    alert_urls: SecretStr | None = None
    ping_url: SecretStr | None = None
    max_open_positions: int | None = Field(default=None, ge=0)
    ledger_write: LedgerWrite = "propose"
    ui_token: SecretStr | None = Field(default=None, min_length=16)
    order_tag_prefix: str | None = Field(default=None, pattern=r"^[A-Za-z0-9-]{1,255}$")
    dagster_storage: SecretStr | None = None
    benchmark: str = Field(default="SPY", pattern=r"^([A-Z0-9]{1,8}([/.][A-Z0-9]{1,4})?)?$")

    lake: SecretStr | None = None
    lake_data: str | None = None
    lake_s3_file: Path | None = None
    lake_keep_days: int | None = Field(default=None, ge=1, le=36500)
    read: Read = "home"

    @field_validator("lake")
    @classmethod
    def _of_ducklake(cls, lake: SecretStr | None) -> SecretStr | None:
        if lake is not None and not lake.get_secret_value().startswith(LAKE_PREFIX):
            raise ValueError("not a DuckLake in PostgreSQL")
        return lake

    @field_validator("dagster_storage")
    @classmethod
    def _of_postgres(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not re.match(POSTGRES_URL, url.get_secret_value()):
            raise ValueError("not the URL of a PostgreSQL database")
        return url

    @field_validator("benchmark", mode="before")
    @classmethod
    def _in_capitals(cls, symbol: object) -> object:
        reported = symbol.strip().upper() if isinstance(symbol, str) else symbol
        return "" if reported == "OFF" else reported

    _group: str | None = PrivateAttr(default=None)
    _groups_in: str = PrivateAttr(default=TOKENS)
    _dotenv: Path | None = PrivateAttr(default=None)
    _notices: tuple[str, ...] = PrivateAttr(default=())

    @field_validator("pipeline_home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        try:
            return home.expanduser().absolute()
        except RuntimeError:
            raise ValueError("no such user") from None

    @field_validator("sync_from", "sync_until", "sync_before_open")
    @classmethod
    def _on_the_grid(cls, at: time) -> time:
        if at.tzinfo or at.minute % 5 or at.second or at.microsecond:
            raise ValueError("not a time of day on a multiple of 5 minutes")
        return at

    @field_validator("ping_url")
    @classmethod
    def _safe(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not is_safe_url(url.get_secret_value()):
            raise ValueError("not an https URL")
        return url

    @field_validator("broker_sensor_seconds")
    @classmethod
    def _not_too_often(cls, seconds: int) -> int:
        if 0 < seconds < 5:  # Dagster's sensors run no oftener
            raise ValueError("less than 5 seconds")
        return seconds

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.sync_until <= self.sync_from:
            raise SettingsError("TRADIER_SYNC_UNTIL is not after TRADIER_SYNC_FROM", REMEDIES["sync_until"])
        if self.lake is not None and self.lake_data is None:
            raise SettingsError("TRADIER_LAKE is set, and TRADIER_LAKE_DATA is not", REMEDIES["lake_data"])
        if self.read == "lake" and self.lake is None:
            raise SettingsError("TRADIER_READ is lake, and TRADIER_LAKE is not set", REMEDIES["lake"])
        if self.tokens is not None:
            self._refuse_two_ways()
            return self
        if self.env == "simulator":
            return self
        for field in ("access_token", "account_id"):
            if getattr(self, field) is None:
                raise SettingsError(
                    f"{_variable(field)} is not set, and TRADIER_ENV={self.env} needs it", REMEDIES[field]
                )
        return self

    def _refuse_two_ways(self) -> None:
        for field in ("access_token", "account_id"):
            if getattr(self, field) is not None:
                raise SettingsError(
                    f"both {TOKENS} and {_variable(field)} are set", "Set one: the groups have tokens and accounts."
                )
        for group in self.tokens or ():
            if (group.environment or self.env) == "simulator" and not (group.base_url or self.base_url):
                raise SettingsError(
                    f"the group {group.name} of {TOKENS} has the environment simulator and no base_url",
                    "The simulated broker that is built in has one token: start `tradier-pipeline simulate`, or leave "
                    f"{TOKENS} unset.",
                )

    @property
    def by_token(self) -> tuple[Settings, ...]:
        """The settings of each access token: the same but for token, accounts, environment and URL."""
        return tuple(self._of(group) for group in self.tokens) if self.tokens is not None else (self,)

    def _of(self, group: TokenGroup) -> Settings:
        own = self.model_copy(
            update={
                "tokens": None,
                "access_token": group.token,
                "account_id": ",".join(group.accounts),
                "env": group.environment or self.env,
                "base_url": group.base_url or self.base_url,
            }
        )
        own._group = group.name
        return own

    def of_account(self, account_id: str) -> Settings:
        """The settings of the token that an account is read with.

        Raises:
            SettingsError: there are several tokens, and it is no account of theirs.
        """
        if self.tokens is None:
            return self
        for group in self.tokens:
            if account_id in group.accounts:
                return self._of(group)
        raise SettingsError(f"{account_id} is in no group of {TOKENS}", "Add it to the group whose token reads it.")

    @property
    def group(self) -> str | None:
        """The name of the token's group; None where there is but one token."""
        return self._group

    @property
    def token_of(self) -> tuple[str, str] | None:
        """Whose the token is and where it is set, of several; None where there is but TRADIER_ACCESS_TOKEN."""
        return None if self._group is None else (f"the token of the group {self._group}", self._groups_in)

    @property
    def is_embedded(self) -> bool:
        """Whether the broker is the simulated one that is built in."""
        return self.tokens is None and self.broker_url is None

    @property
    def dotenv(self) -> Path | None:
        """The `.env` that was read; None if there is none."""
        return self._dotenv

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user ought to know of where the settings are from, each in a sentence."""
        return self._notices

    @property
    def broker_host(self) -> str:
        """Whom the pipeline reads, for people."""
        if self.tokens is not None:
            return ", ".join(dict.fromkeys(one.broker_host for one in self.by_token))
        return urlsplit(self.broker_url).netloc if self.broker_url else "embedded simulated broker"

    @property
    def identity(self) -> str:
        """Whether what is read is simulated or real, of which accounts, whose answers, where it is kept and which file
        says so, in one line."""
        kinds = {"simulator": "SIMULATED", "sandbox": "SANDBOX", "live": "REAL"}
        kind = " and ".join(dict.fromkeys(kinds[one.environment] for one in self.by_token))
        accounts = "all accounts" if self.accounts is None else f"account {', '.join(self.accounts)}"
        if self.tokens is not None:
            names = ", ".join(f"{group.name} ({len(group.accounts)})" for group in self.tokens)
            accounts = f"accounts of {len(self.tokens)} tokens: {names}"
        dotenv = f", .env {self.dotenv}" if self.dotenv else ""
        return f"{kind} {accounts}, {self.broker_host}, home {self.home}{dotenv}"

    @property
    def environment(self) -> Environment:
        """simulator, sandbox or live."""
        return self.env

    @property
    def home(self) -> Path:
        """Where everything is kept."""
        return self.pipeline_home

    @property
    def token(self) -> SecretStr:
        """The token to send. The embedded simulated broker never sees the user's."""
        if self.broker_url is None or self.access_token is None:
            return SecretStr(DEMO_TOKEN)
        return self.access_token

    @property
    def accounts(self) -> tuple[str, ...] | None:
        """The account numbers to read, each once; in the simulator by default the demo account. None means all."""
        if self.tokens is not None:
            return tuple(account for group in self.tokens for account in group.accounts)
        if self.account_id == "all":
            return None
        named = (self.account_id or DEMO_ACCOUNT).split(",")
        return tuple(dict.fromkeys(name.strip() for name in named))

    @property
    def broker_url(self) -> str | None:
        """`scheme://host[:port]` of the broker; None means the embedded simulated broker."""
        return self.base_url or BASE_URLS.get(self.env)

    @property
    def simulator(self) -> Path:
        """Where the world of the embedded simulated broker lives on."""
        return self.home / "simulator"

    @property
    def warehouse(self) -> Path:
        """The published DuckDB file."""
        return self.home / WAREHOUSE

    @property
    def ledger(self) -> Path:
        """What the trading engine believes, and its requests for snapshots (SQLite)."""
        return self.home / "ledger.sqlite"

    @property
    def landing(self) -> Path:
        """The root of the landing zone."""
        return self.home / "raw"

    @property
    def reports(self) -> Path:
        """The reports people open in a browser: `<account>/<trade date>.html` and `<account>/account.html`."""
        return self.home / "reports"

    @property
    def calendar_files(self) -> Path:
        """The sessions of the exchange: those computed once a year, and those the broker names."""
        return self.home / "calendar"

    @property
    def dagster_home(self) -> Path:
        """DAGSTER_HOME: run history of the UI, the daemon and the command line alike."""
        return self.home / "dagster"


def is_safe_url(text: str) -> bool:
    """Whether what is sent there is encrypted, or stays on this machine."""
    try:
        url = urlsplit(text.strip())
        host, _ = url.hostname, url.port  # a port that is none raises
    except ValueError:
        return False
    if not host or not text.isprintable() or " " in text:
        return False
    if url.scheme == "http":
        return host == "localhost" or _is_loopback(host)
    return url.scheme == "https"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings() -> Settings:
    """Read the environment and `.env`.

    Raises:
        SettingsError: a setting is missing or malformed, or a token would go where its owner did not send it; the
            message names the variable and never its value.
    """
    sources = find_sources(os.environ)
    names = (*sources.names, *map(SetName, os.environ))
    misspelt = unknown_names(names, Settings.model_fields)
    try:
        settings = _settings_of(sources)
    except SettingsError as error:  # what is missing may be there under another name
        if not misspelt:
            raise
        raise SettingsError(f"{error.cause} ({'; '.join(misspelt)})", error.remedy) from None
    settings._notices = (*settings._notices, *misspelt)
    return settings


def _settings_of(sources: Sources) -> Settings:
    values: dict[str, object] = dict(sources.values)
    private = [sources.home, sources.dotenv]
    if text := sources.values.get("tokens"):
        beside = sources.directory_of("tokens")
        groups = read_groups(text, beside)
        private.append(file_of(text, beside))
        values["tokens"] = groups
        if "env" not in values:
            values["env"] = _most_real(groups)
    try:
        settings = Settings(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        field = str(error.errors(include_input=False)[0]["loc"][0])
        raise SettingsError(f"{_variable(field)} is malformed", REMEDIES[field]) from None
    _refuse_unnamed_environment(sources)
    _refuse_mixed_sources(sources)
    if text:
        settings._groups_in = f"{TOKENS} ({file_of(text, beside) or sources.of('tokens')})"
    settings._dotenv = sources.dotenv
    settings._notices = tuple(filter(None, (sources.notice, *map(open_to_others, private))))
    return settings


def _most_real(groups: tuple[TokenGroup, ...]) -> str:
    """What the home is of where TRADIER_ENV does not say it: each group has to, then."""
    for group in groups:
        if group.environment is None:
            raise SettingsError(
                f"the group {group.name} of {TOKENS} has no environment, and TRADIER_ENV is not set", REMEDIES["env"]
            )
    return max((group.environment or "simulator" for group in groups), key=["simulator", "sandbox", "live"].index)


def read_dagster_storage() -> str | None:
    """The URL of the database that Dagster writes to, for its own processes; None: files in the home.

    They read this setting alone: whatever else is malformed, why a run failed is recorded. `up` hands it down, so that
    all that it starts write to one place.

    Raises:
        SettingsError: it is malformed, or the file that may set it.
    """
    url = os.environ.get(STORAGE_VARIABLE)
    if url is None:
        url = find_sources(os.environ).values.get("dagster_storage", "")
    if url and not re.match(POSTGRES_URL, url):
        raise SettingsError(f"{STORAGE_VARIABLE} is malformed", REMEDIES["dagster_storage"])
    return url or None


def _refuse_unnamed_environment(sources: Sources) -> None:
    """Raise SettingsError if the default, the simulator, would be read by somebody who has named an account."""
    for field in ("access_token", "account_id"):
        if (source := sources.of(field)) and not sources.of("env"):
            raise SettingsError(f"{_variable(field)} is set in {source}, but TRADIER_ENV is not set", REMEDIES["env"])


def _refuse_mixed_sources(sources: Sources) -> None:
    """Raise SettingsError if a file that happens to lie there decides whom a token, an alert or a run is sent to.

    Tradier's own URLs are nobody's setting. The home's own `.env` may name where alerts, pings and run history go.
    """
    field_of_token = "tokens" if sources.of("tokens") else "access_token"
    token = sources.of(field_of_token)
    if token is None:
        return
    for field in ("base_url", "alert_urls", "ping_url", "dagster_storage"):
        source = sources.of(field)
        own = sources.dotenv is not None and sources.dotenv.parent == sources.home
        if source in (None, token) or (field != "base_url" and (own or source == "the environment")):
            continue
        raise SettingsError(
            f"{_variable(field_of_token)} is set in {token}, but {_variable(field)} in {source}",
            "Set both in one place.",
        )


def _variable(field: str) -> str:
    return f"TRADIER_{field.upper()}"
