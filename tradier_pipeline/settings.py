"""Environment (and `.env`) -> typed settings. The only module that reads configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tradier_pipeline.errors import PipelineError

Environment = Literal["simulator", "sandbox", "live"]

# unlike any real number: demo history can never be taken for that of a real account
DEMO_ACCOUNT = "SIM00000001"
DEMO_TOKEN = "simulator"  # noqa: S105 - opens nothing but the simulated broker

BASE_URLS: dict[Environment, str] = {
    "sandbox": "https://sandbox.tradier.com",
    "live": "https://api.tradier.com",
}

REMEDIES = {
    "environment": "Set TRADIER_ENV to simulator, sandbox or live.",
    "access_token": "Set TRADIER_ACCESS_TOKEN to the token of that environment, in the environment or in .env.",
    "account_id": "Set TRADIER_ACCOUNT_ID to the account number, in the environment or in .env.",
    "base_url": "Set TRADIER_BASE_URL to scheme://host[:port], or leave it unset.",
    "home": "Set TRADIER_PIPELINE_HOME to a directory you may write to.",
}


class SettingsError(PipelineError):
    """A setting is missing or malformed."""


class Settings(BaseSettings):
    """What the user configured.

    `base_url` is None exactly when the embedded simulated broker is meant. `home` is absolute.
    """

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    environment: Environment = Field("simulator", validation_alias=AliasChoices("environment", "TRADIER_ENV"))
    access_token: SecretStr | None = Field(
        None, validation_alias=AliasChoices("access_token", "TRADIER_ACCESS_TOKEN"), validate_default=True
    )
    account_id: str | None = Field(
        None,
        validation_alias=AliasChoices("account_id", "TRADIER_ACCOUNT_ID"),
        pattern=r"^[A-Za-z0-9]{1,32}$",
        validate_default=True,
    )
    base_url: str | None = Field(
        None, validation_alias=AliasChoices("base_url", "TRADIER_BASE_URL"), pattern=r"^https?://[^/\s@?#]+/?$"
    )
    home: Path = Field(Path("data"), validation_alias=AliasChoices("home", "TRADIER_PIPELINE_HOME"))

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.environment == "simulator":
            return self
        for field in ("access_token", "account_id"):
            if getattr(self, field) is None:
                raise SettingsError(
                    f"TRADIER_{field.upper()} is not set, and TRADIER_ENV={self.environment} needs it", REMEDIES[field]
                )
        return self

    @property
    def token(self) -> SecretStr:
        """The token to send. The embedded simulated broker never sees the user's."""
        if self.broker_url is None or self.access_token is None:
            return SecretStr(DEMO_TOKEN)
        return self.access_token

    @property
    def account(self) -> str:
        """The account number to read: the user's, or in the simulator the demo account."""
        return self.account_id or DEMO_ACCOUNT

    @property
    def broker_url(self) -> str | None:
        """`scheme://host[:port]` of the broker; None means the embedded simulated broker."""
        return self.base_url or BASE_URLS.get(self.environment)

    @property
    def simulator(self) -> Path:
        """Where the world of the embedded simulated broker lives on."""
        return self.home / "simulator"

    @property
    def warehouse(self) -> Path:
        """The published DuckDB file."""
        return self.home / "tradier.duckdb"

    @property
    def landing(self) -> Path:
        """The root of the landing zone."""
        return self.home / "raw"

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
        return Settings()  # type: ignore[call-arg]
    except ValidationError as error:
        field = str(error.errors(include_input=False)[0]["loc"][0])
        name = _field_of(field)
        raise SettingsError(f"{_variable(name)} is malformed", REMEDIES[name]) from None


def _field_of(location: str) -> str:
    return next(name for name in Settings.model_fields if location in (name, _variable(name)))


def _variable(field: str) -> str:
    alias = Settings.model_fields[field].validation_alias
    assert isinstance(alias, AliasChoices)
    return str(alias.choices[-1])
