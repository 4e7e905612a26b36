"""How a broker read fails. Every error names the resource, is one line, and never contains the access token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.texts import is_seen

if TYPE_CHECKING:
    from datetime import datetime

    from tradier_pipeline.broker.pages import Attempt, Page

_EXCERPT_CHARS = 120


class BrokerError(PipelineError):
    """A resource that was not read.

    Attributes:
        resource: which one ("account", "balances", "positions", "orders", "quotes", ...).
        what: the cause without the resource's name.
        transient: whether the client may repeat the request.
        attempts: every request made for the resource, in order.
        pages: what was received, the refused answer last: kept for diagnosis, never a source of rows.
        wait: seconds that the broker asks to wait before the request is repeated; None if it did not say.
    """

    def __init__(self, resource: str, what: str, remedy: str, *, transient: bool = False) -> None:
        super().__init__(f"{resource}: {what}", remedy)
        self.args = (resource, what, remedy)  # what pickle and copy call the class with
        self.resource = resource
        self.what = what
        self.transient = transient
        self.attempts: tuple[Attempt, ...] = ()
        self.pages: tuple[Page, ...] = ()
        self.wait: float | None = None


class AuthError(BrokerError):
    """The broker refused the credential or the account. Never retried: no later attempt can differ."""

    def of_token(self, name: str, place: str) -> Self:
        """The same of a token that is not TRADIER_ACCESS_TOKEN: whose it is, and where it is set."""
        remedy = self.remedy.replace("TRADIER_ACCESS_TOKEN", f"{name} in {place}")
        return type(self)(self.resource, f"{self.what}, with {name}", remedy)


class AccountRefusedError(AuthError):
    """The broker shows this credential no such account. An order that it does not know is answered alike."""


class RefusedError(BrokerError):
    """The broker understood the request and declined it: an `errors` body, a 400, a redirect."""


class FaultError(BrokerError):
    """A gateway `fault` body.

    Attributes:
        code: `fault.detail.errorcode`, empty when absent.
    """

    def __init__(self, resource: str, what: str, remedy: str, *, transient: bool = False, code: str = "") -> None:
        super().__init__(resource, what, remedy, transient=transient)
        self.code = code


class BodyError(BrokerError):
    """A body that does not have the resource's documented shape.

    Attributes:
        path: where in the body, e.g. `orders.order[3].id`; empty when the whole body is meant.
    """

    def __init__(self, resource: str, what: str, *, path: str = "", transient: bool = False) -> None:
        super().__init__(
            resource,
            f"{path} {what}" if path else what,
            "Nothing was recorded from this answer; if it repeats, the broker's format has changed.",
            transient=transient,
        )
        self.args = (resource, what)
        self.path = path


class RateLimitError(BrokerError):
    """The request budget of the token is used up.

    Attributes:
        retry_at: when the broker accepts requests again, by the broker's clock; None if it did not say.
        wait: seconds from the answer to `retry_at`; None if the broker did not say.
    """

    def __init__(
        self, resource: str, what: str, *, retry_at: datetime | None = None, wait: float | None = None
    ) -> None:
        when = f", until {retry_at:%Y-%m-%dT%H:%M:%SZ}" if retry_at else ""
        super().__init__(
            resource,
            f"{what}{when}",
            "Wait, or reduce what else uses this access token: the limit is per token and minute.",
            transient=True,
        )
        self.args = (resource, what)
        self.retry_at = retry_at
        self.wait = wait


class UnavailableError(BrokerError):
    """No usable answer: the attempts or the deadline are used up. `__cause__` is the last failure."""


def excerpt(value: bytes | str) -> str:
    """Quote untrusted text: one line, at most 120 characters, control, format and markup characters escaped."""
    text = value[: _EXCERPT_CHARS * 4].decode("utf-8", "replace") if isinstance(value, bytes) else value
    text = " ".join(text[: _EXCERPT_CHARS * 4].split())
    safe = "".join(c if is_seen(c) and c not in "<>" else f"\\u{ord(c):04x}" for c in text[:_EXCERPT_CHARS])
    return f"'{safe}'" if len(safe) <= _EXCERPT_CHARS else f"'{safe[: _EXCERPT_CHARS - 3]}...'"
