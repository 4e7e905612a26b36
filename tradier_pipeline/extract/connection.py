"""The connection to the broker that the settings name, for synchronous callers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from pydantic import SecretStr

from tradier_pipeline import clock
from tradier_pipeline.broker import envelope
from tradier_pipeline.broker.client import BrokerClient, RetryPolicy
from tradier_pipeline.core.errors import ExtractError, PipelineError
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.ledger.store import Ledger

T = TypeVar("T")


@dataclass(frozen=True)
class Broker:
    """Where to read from, and with which token."""

    url: str
    token: SecretStr
    environment: str
    policy: RetryPolicy | None = None

    def read(self, read: Callable[[BrokerClient], Awaitable[T]]) -> T:
        """Run one read to its end, wherever the caller is: also inside the event loop of a notebook."""

        async def session() -> T:
            async with BrokerClient(self.url, self.token, policy=self.policy) as client:
                return await read(client)

        return _run(session)


@contextmanager
def connect(settings: Settings) -> Iterator[Broker]:
    """The broker the settings name; the embedded simulated one when they name none."""
    if settings.broker_url is not None:
        yield Broker(settings.broker_url, settings.token, settings.environment)
        return
    # only where there is no real broker
    from tradier_pipeline.simulator.engine import DemoEngine
    from tradier_pipeline.simulator.server import embedded_simulator

    engine = DemoEngine(Ledger(settings.ledger), settings.accounts)
    with embedded_simulator(settings.simulator, keeper=engine.keep) as url:
        yield Broker(url, settings.token, settings.environment)


def accounts_to_read(settings: Settings) -> tuple[str, ...]:
    """The configured account numbers; for `all`, every active account of the profile.

    Raises:
        BrokerError: the profile was not read.
        ExtractError: the profile lists no active account.
    """
    if settings.accounts is not None:
        return settings.accounts
    with connect(settings) as broker:
        (profile,) = broker.read(lambda client: client.fetch_account()).pages
    rows = envelope.rows("account", envelope.parse_json(profile.body, "account"))
    active = tuple(str(row["account_number"]) for row in rows if row.get("status") == "active")
    if not active:
        raise ExtractError(
            "the profile lists no active account", "Set TRADIER_ACCOUNT_ID to the account you want, if it has one."
        )
    return active


def _run(session: Callable[[], Awaitable[T]]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(asyncio.run(session()))  # type: ignore[arg-type]
        except BaseException as error:
            errors.append(error)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        work()
    else:
        thread = threading.Thread(target=work, name="tradier-broker")
        thread.start()
        thread.join()
    if errors:
        raise _interrupt(errors[0])
    return results[0]


def _interrupt(error: BaseException) -> BaseException:
    """The interrupt that ended requests which were under way together; any other error as it is."""
    while isinstance(error, BaseExceptionGroup) and not isinstance(error, Exception):
        error = next(one for one in error.exceptions if not isinstance(one, Exception))
    return error


ACCOUNTS_KEPT = timedelta(hours=1)


_active_accounts: dict[Settings, tuple[datetime, tuple[str, ...]]] = {}


def known_accounts(settings: Settings) -> tuple[str, ...]:
    """The accounts to read. For `all` the profile is asked once an hour, not every minute.

    Raises:
        PipelineError: the accounts of the token cannot be read.
    """
    if settings.accounts is not None:
        return settings.accounts
    now = clock.now()
    read_at, accounts = _active_accounts.get(settings, (None, ()))
    if read_at is None or now - read_at > ACCOUNTS_KEPT:
        try:
            accounts = accounts_to_read(settings)
        except PipelineError as error:
            remedy = "Name the accounts in TRADIER_ACCOUNT_ID: then no cycle depends on this."
            raise PipelineError(f"the accounts of the token are not known: {error.cause}", remedy) from None
        _active_accounts[settings] = (now, accounts)
    return accounts
