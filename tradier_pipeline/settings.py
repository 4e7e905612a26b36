"""Environment (and `.env`) -> typed settings. The only module that reads configuration."""

from __future__ import annotations

from datetime import time
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from tradier_pipeline.errors import PipelineError

Environment = Literal["simulator", "sandbox", "live"]
Calendar = Literal["XNYS", "24/7"]
LedgerWrite = Literal["off", "propose", "apply"]

# unlike any real number: demo history can never be taken for that of a real account
DEMO_ACCOUNT = "SIM00000001"
DEMO_TOKEN = "simulator"  # noqa: S105 - opens nothing but the simulated broker

WAREHOUSE = "tradier.duckdb"

BASE_URLS: dict[Environment, str] = {
    "sandbox": "https://sandbox.tradier.com",
    "live": "https://api.tradier.com",
}

REMEDIES = {
    "env": "Set it to simulator, sandbox or live.",
    "access_token": "Set it to the access token of that environment, in the environment or in .env.",
    "account_id": "Set it to an account number, several (A,B), or all; in the environment or in .env.",
    "base_url": "Set it to scheme://host[:port], or leave it unset.",
    "pipeline_home": "Set it to a directory you may write to.",
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
    "max_open_positions": "Set it to a whole number, or leave it unset for no limit.",
    "ledger_write": "Set it to off, propose or apply.",
    "benchmark": "Set it to a symbol, such as SPY or BRK/B; empty switches it off.",
    "order_tag_prefix": "Set it to what your orders' tags begin with: letters, digits and hyphens.",
}


class SettingsError(PipelineError):
    """A setting is missing or malformed."""


class Settings(BaseSettings):
    """What the user configured: the variables TRADIER_<field name in capitals>.

    `base_url` is None when the environment's own URL is meant. `pipeline_home` is absolute.
    The minutes are between two ticks of a cycle; 0 switches the cycle off. Times of day are New York's.
    `benchmark` is the symbol that returns are compared with; empty: none.
    `max_age_seconds` and `max_open_positions` (None: no limit) are what the trade gate asks of a snapshot.
    """

    model_config = SettingsConfigDict(
        env_prefix="TRADIER_", env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    env: Environment = "simulator"
    access_token: SecretStr | None = None
    account_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9]{1,32}(\s*,\s*[A-Za-z0-9]{1,32})*$")
    base_url: str | None = Field(default=None, pattern=r"^https?://[^/\s@?#]+/?$")
    pipeline_home: Path = Path("data")
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
    max_open_positions: int | None = Field(default=None, ge=0)
    ledger_write: LedgerWrite = "propose"
    order_tag_prefix: str | None = Field(default=None, pattern=r"^[A-Za-z0-9-]{1,255}$")
    benchmark: str = Field(default="SPY", pattern=r"^([A-Z0-9]{1,8}([/.][A-Z0-9]{1,4})?)?$")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """An empty variable counts as unset, but for the benchmark, which it switches off."""

        class Benchmark(EnvSettingsSource):
            def __call__(self) -> dict[str, Any]:
                of_file = DotEnvSettingsSource(settings_cls, env_ignore_empty=False).env_vars
                told = {**of_file, **self.env_vars}.get("tradier_benchmark")
                return {} if told is None else {"benchmark": told}

        benchmark = Benchmark(settings_cls, env_ignore_empty=False)
        return init_settings, benchmark, env_settings, dotenv_settings, file_secret_settings

    @field_validator("benchmark", mode="before")
    @classmethod
    def _in_capitals(cls, symbol: object) -> object:
        return symbol.strip().upper() if isinstance(symbol, str) else symbol

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
        if self.env == "simulator":
            return self
        for field in ("access_token", "account_id"):
            if getattr(self, field) is None:
                raise SettingsError(
                    f"{_variable(field)} is not set, and TRADIER_ENV={self.env} needs it", REMEDIES[field]
                )
        return self

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


def load_settings() -> Settings:
    """Read the environment and `.env`.

    Raises:
        SettingsError: a setting is missing or malformed; the message names the variable and never its value.
    """
    try:
        return Settings()
    except ValidationError as error:
        field = str(error.errors(include_input=False)[0]["loc"][0])
        raise SettingsError(f"{_variable(field)} is malformed", REMEDIES[field]) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"{Path('.env').absolute()} cannot be read: {reason}", "Correct it or remove it.") from None


def _variable(field: str) -> str:
    return f"TRADIER_{field.upper()}"
