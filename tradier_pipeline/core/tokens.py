"""Several access tokens in one home: `TRADIER_TOKENS`, a file or a text of groups, each a token with its accounts.

    [{"name": "alice", "token": "...", "environment": "live", "accounts": ["VA11111111", "VA22222222"]}]

as JSON, or the same as TOML: a table `[alice]` for each, or `[[groups]]`.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from tradier_pipeline.core.dotenv import SettingsError
from tradier_pipeline.core.sources import refuse_strangers

VARIABLE = "TRADIER_TOKENS"
REMEDY = (
    "Set it to a file of groups, or to their text: "
    '[{"name": "alice", "token": "...", "environment": "live", "accounts": ["VA12345678"]}].'
)
BASE_URL = r"^https?://[^/\s@?#]+/?$"


class TokenGroup(BaseModel):
    """An access token and the accounts that are read with it.

    `environment` and `base_url`: None means those of TRADIER_ENV and TRADIER_BASE_URL.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$")
    token: SecretStr = Field(validation_alias=AliasChoices("token", "access_token"))
    environment: Literal["simulator", "sandbox", "live"] | None = Field(
        default=None, validation_alias=AliasChoices("environment", "env")
    )
    base_url: str | None = Field(default=None, pattern=BASE_URL)
    accounts: tuple[str, ...] = Field(min_length=1)

    @field_validator("token")
    @classmethod
    def _can_be_sent(cls, token: SecretStr) -> SecretStr:
        text = token.get_secret_value()
        if not text or not all("!" <= character <= "~" for character in text):
            raise ValueError("empty, or has characters no token has")
        return token

    @field_validator("accounts", mode="before")
    @classmethod
    def _each_once(cls, accounts: object) -> object:
        listed = accounts.split(",") if isinstance(accounts, str) else accounts
        if not isinstance(listed, (list, tuple)) or not all(isinstance(one, str) for one in listed):
            raise ValueError("not a list of account numbers")
        named = tuple(dict.fromkeys(one.strip() for one in listed))
        if any(not one.isascii() or not one.isalnum() or len(one) > 32 or one == "all" for one in named):
            raise ValueError("not account numbers")  # `all` neither: whose an account is must be known unasked
        return named


def read_groups(value: str, beside: Path) -> tuple[TokenGroup, ...]:
    """The groups that TRADIER_TOKENS names or holds.

    Args:
        value: the path of a file, or the text.
        beside: the directory that a relative path starts from.

    Raises:
        SettingsError: it cannot be understood or is not safe; the message never has a part of the text.
    """
    text, source = _text(value, beside)
    groups = tuple(_group(entry, number, source) for number, entry in enumerate(_entries(text, source), 1))
    if not groups:
        raise SettingsError(f"{source} has no group", REMEDY)
    _refuse_twice((group.name for group in groups), source, "groups with the name")
    _refuse_twice((account for group in groups for account in group.accounts), source, "groups with the account")
    _refuse_shared_token(groups, source)
    return groups


def file_of(value: str, beside: Path) -> Path | None:
    """The file that `TRADIER_TOKENS` names; None: it is the text of the groups."""
    if value.lstrip().startswith(("[", "{")) or "\n" in value.strip() or "=" in value:
        return None
    return beside / Path(value.strip()).expanduser()


def _text(value: str, beside: Path) -> tuple[str, str]:
    """The text, and what to call where it is from."""
    try:
        path = file_of(value, beside)
        if path is None:
            return value, VARIABLE
        if not path.is_file():
            raise SettingsError(f"{VARIABLE} is neither a file that is there nor the text of groups", REMEDY)
        refuse_strangers(path)
        return path.read_text(encoding="utf-8-sig"), f"{VARIABLE} ({path})"  # Windows begins it with a mark
    except (OSError, UnicodeDecodeError, RuntimeError, ValueError) as error:
        reason = (error.strerror or "") if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"the file of {VARIABLE} cannot be read: {reason}", REMEDY) from None


def _entries(text: str, source: str) -> Sequence[Mapping[str, Any]]:
    document = _document(text, source)
    if isinstance(document, Mapping):
        lists = [one for one in document.values() if isinstance(one, list)]
        if len(document) == 1 and lists:
            document = lists[0]
        elif "token" in document or "access_token" in document:
            document = [document]
        else:
            document = [{"name": name, **one} if isinstance(one, Mapping) else one for name, one in document.items()]
    if not isinstance(document, list) or not all(isinstance(one, Mapping) for one in document):
        raise SettingsError(f"{source} is not a list of groups", REMEDY)
    return document


def _document(text: str, source: str) -> Any:
    """JSON or TOML, told by where it cannot be understood and never by what stands there."""
    try:
        return json.loads(text, object_pairs_hook=_each_once)
    except _TwiceError:
        raise SettingsError(f"{source} has a name twice, and one of the two would not count", REMEDY) from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        if not text.lstrip().startswith(("{", '[{"', "[{")):
            at = str(error).rpartition("(at ")[2].rstrip(")")
            place = at if at.startswith("line") else "its end"
    raise SettingsError(f"{source} is malformed: neither JSON nor TOML at {place}", REMEDY)


class _TwiceError(ValueError):
    """A name stands twice in an object: JSON would take the last and forget the accounts of the first. TOML refuses."""


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise _TwiceError
    return dict(pairs)


def _group(entry: Mapping[str, Any], number: int, source: str) -> TokenGroup:
    try:
        return TokenGroup.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = str(first["loc"][0]) if first["loc"] else "group"
        # an unknown key may be a token that slipped: only the names that we know are repeated
        known = {*TokenGroup.model_fields, "access_token", "env"}
        what = {"missing": "has no", "extra_forbidden": "has an unknown field"}.get(first["type"], "has a malformed")
        name = f" {field}" if field in known else ""
        raise SettingsError(f"group {number} of {source} {what}{name}", REMEDY) from None


def _refuse_twice(names: Any, source: str, what: str) -> None:
    counted = Counter(names)
    twice = [name for name, count in counted.items() if count > 1]
    if twice:
        raise SettingsError(f"{source} has {counted[twice[0]]} {what} {twice[0]}", "Name it in one of them.")


def _refuse_shared_token(groups: Sequence[TokenGroup], source: str) -> None:
    """Two groups with one token would each spend its minute."""
    known: dict[tuple[str | None, str | None, str], str] = {}
    for group in groups:
        key = (group.environment, group.base_url, group.token.get_secret_value())
        if key in known:
            raise SettingsError(f"{source}: {known[key]} and {group.name} have the same token", "Make them one group.")
        known[key] = group.name
