"""The connection to the broker that the settings name, for synchronous callers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

from pydantic import SecretStr

from tradier_pipeline import clock
from tradier_pipeline.broker.client import BrokerClient, RetryPolicy
from tradier_pipeline.broker.decode import rows_of
from tradier_pipeline.broker.errors import AccountRefusedError, AuthError, BrokerError
from tradier_pipeline.broker.pages import Extract
from tradier_pipeline.core.errors import ExtractError, PipelineError
from tradier_pipeline.core.settings import Settings
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.ledger.store import Ledger

T = TypeVar("T")
LOOK_S = 0.5  # the system may give a signal to another thread than the one that waits, which then has to look

PROFILE_SHARED = timedelta(seconds=5)  # a third of how far apart the answers of a snapshot may be
CHECK_SETTINGS = "Check TRADIER_ACCOUNT_ID, TRADIER_ACCESS_TOKEN and TRADIER_ENV."


@dataclass(frozen=True)
class Broker:
    """Where to read from, and with which token.

    `profile`: the answer that its readers have in common; None: each asks for its own. `token_of`: whose the token is
    and where it is set; None: TRADIER_ACCESS_TOKEN.
    """

    url: str
    token: SecretStr
    environment: str
    policy: RetryPolicy | None = None
    profile: SharedProfile | None = field(default=None, compare=False)
    token_of: tuple[str, str] | None = None

    def read(self, read: Callable[[BrokerClient], Awaitable[T]]) -> T:
        """Run one read to its end, wherever the caller is: also inside the event loop of a notebook."""

        async def session() -> T:
            async with self.client() as client:
                return await read(client)

        return _run(session)

    @property
    def check_settings(self) -> str:
        """What to check where an account is none of the token's."""
        if self.token_of is None:
            return CHECK_SETTINGS
        name, place = self.token_of
        return f"Check {name} in {place}, with its accounts and its environment."

    def client(self) -> BrokerClient:
        """A client of its own."""
        return BrokerClient(self.url, self.token, policy=self.policy, token_of=self.token_of)

    def sharing_profile(self) -> Broker:
        """The same broker for several accounts that are read side by side: its profile is asked for once."""
        return replace(self, profile=SharedProfile(self))

    def read_profile(self) -> Extract:
        """The profile with all accounts of the token. Raises BrokerError: it was not read."""
        if self.profile is not None:
            return self.profile.since(None).result()
        return self.read(lambda client: client.fetch_account())


class SharedProfile:
    """The one answer that lists all accounts of a token, for accounts that are read side by side.

    Each lands its bytes as its own. So that a snapshot stays one reading in one short window, an answer is shared for
    `PROFILE_SHARED` from the start of its request, and never with an account of which something newer is landed. One
    that failed is told to all who wait for it; who comes later asks again. Safe in threads.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._lock = threading.Lock()
        self._asked_at: datetime | None = None
        self._answer: Future[Extract] = Future()
        self._first: Future[Extract] | None = None

    def first(self) -> Future[Extract]:
        """The first answer, asked for now if nobody did."""
        with self._lock:
            if self._first is None:
                self._ask_anew()
                self._first = self._answer
            return self._first

    def since(self, newest: datetime | None) -> Future[Extract]:
        """The answer to a request that began after an instant (None: any) and not long ago."""
        with self._lock:
            if not self._serves(newest):
                self._ask_anew()
            return self._answer

    def _ask_anew(self) -> None:
        self._asked_at, self._answer = clock.now(), Future()
        self._answer.set_running_or_notify_cancel()  # one that gives up does not cancel it for the others
        context = copy_context()
        threading.Thread(target=context.run, args=(self._ask, self._answer), name="tradier-profile").start()

    def _serves(self, newest: datetime | None) -> bool:
        if self._asked_at is None or not timedelta() <= clock.now() - self._asked_at <= PROFILE_SHARED:
            return False
        failure = self._answer.exception() if self._answer.done() else None
        if failure is not None:
            return isinstance(failure, AuthError)  # no later attempt can differ
        return newest is None or newest < self._asked_at

    def _ask(self, answer: Future[Extract]) -> None:
        try:
            answer.set_result(self._broker.read(lambda client: client.fetch_account()))
        except BaseException as error:
            answer.set_exception(error)


@contextmanager
def connect(settings: Settings) -> Iterator[Broker]:
    """The broker the settings name; the embedded simulated one when they name none.

    Args:
        settings: of one token: see `Settings.by_token` and `Settings.of_account`.
    """
    if settings.tokens is not None:
        raise PipelineError("there are several access tokens, and none was chosen", "Name an account.")
    if settings.broker_url is not None:
        yield Broker(settings.broker_url, settings.token, settings.environment, token_of=settings.token_of)
        return
    # only where there is no real broker
    from tradier_pipeline.simulator.engine import DemoEngine
    from tradier_pipeline.simulator.server import embedded_simulator

    engine = DemoEngine(Ledger(settings.ledger), settings.accounts)
    calendar = MarketCalendar(settings.calendar, directory=settings.calendar_files)
    with embedded_simulator(settings.simulator, keeper=engine.keep, calendar=calendar) as url:
        yield Broker(url, settings.token, settings.environment)


@dataclass(frozen=True, slots=True)
class Brokers:
    """The broker of each token that the settings name, by its group."""

    settings: Settings
    by_group: Mapping[str | None, Broker]

    def of_account(self, account_id: str) -> Broker:
        """The one with the token that reads an account. Raises SettingsError: none does."""
        return self.by_group[self.settings.of_account(account_id).group]

    def of_any_token(self, read: Callable[[Broker], T], environment: str | None = None) -> T:
        """Read what is the same for every token: with the first whose read does not fail.

        Args:
            environment: of which it is the same; None: of all.

        Raises:
            PipelineError: all failed; of the first.
        """
        failures: list[PipelineError] = []
        for broker in self.by_group.values():
            if environment is not None and broker.environment != environment:
                continue
            try:
                return read(broker)
            except PipelineError as error:
                failures.append(error)
        raise failures[0]


@contextmanager
def connect_each(settings: Settings) -> Iterator[Brokers]:
    """The brokers of all tokens, as `connect` gives that of one."""
    with ExitStack() as stack:
        yield Brokers(settings, {one.group: stack.enter_context(connect(one)) for one in settings.by_token})


def accounts_to_read(settings: Settings) -> tuple[str, ...]:
    """The configured account numbers; for `all`, every active account of the profile.

    Raises:
        BrokerError: the profile was not read.
        ExtractError: the profile lists no active account.
    """
    if settings.accounts is not None:
        return settings.accounts
    with connect(settings) as broker:
        return active_accounts(broker)


def active_accounts(broker: Broker) -> tuple[str, ...]:
    """Every active account of the profile.

    Raises:
        BrokerError: the profile was not read.
        ExtractError: it lists no active account.
    """
    (profile,) = broker.read_profile().pages
    listed = rows_of("account", [profile.body])
    active = tuple(str(row["account_number"]) for row in listed if row.get("status") == "active")
    if not active:
        raise ExtractError(
            "the profile lists no active account", "Set TRADIER_ACCOUNT_ID to the account you want, if it has one."
        )
    return active


def accounts_of_token(broker: Broker) -> tuple[str, ...]:
    """The accounts that the profile lists, active or not. Raises BrokerError: it was not read."""
    (profile,) = broker.read_profile().pages
    return tuple(str(row.get("account_number")) for row in rows_of("account", [profile.body]))


def not_of_token(account_id: str, listed: Collection[str], also: str = "") -> ExtractError:
    """That an account is none of the token's, and which are."""
    names = ", ".join(sorted(listed)) or "none"
    return ExtractError(
        f"{account_id} is not among the accounts of this access token", f"It has: {names}. {also}".strip()
    )


def explained_refusal(broker: Broker, account_id: str, failures: Iterable[BrokerError]) -> ExtractError | None:
    """Why the broker refused an account, if the token has others and not this one; None: for another reason."""
    if not any(isinstance(failure, AccountRefusedError) for failure in failures):
        return None
    try:
        listed = accounts_of_token(broker)
    except PipelineError:
        return None  # the refusal itself is reported
    return None if account_id in listed else not_of_token(account_id, listed, broker.check_settings)


def _run(session: Callable[[], Awaitable[T]]) -> T:
    """Run it in a thread of its own: in the event loop of a caller, too, and where no signal breaks in. An interrupt
    between two steps of a loop loses what the next one waits for, and the read would never end.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    given_up = threading.Event()
    runner = asyncio.Runner()
    loop = runner.get_loop()

    def work() -> None:
        try:
            with runner:
                if not given_up.is_set():
                    results.append(runner.run(session()))  # type: ignore[arg-type]
        except BaseException as error:
            errors.append(error)

    def cancel() -> None:
        for task in asyncio.all_tasks(loop):
            task.cancel()

    context = copy_context()  # who listens to the progress listens there, too
    thread = threading.Thread(target=context.run, args=(work,), name="tradier-broker")
    try:
        thread.start()
        while thread.is_alive():
            thread.join(LOOK_S)
    except BaseException:
        given_up.set()  # it may not have begun yet
        with suppress(RuntimeError):  # it has ended meanwhile
            loop.call_soon_threadsafe(cancel)
        if thread.is_alive():
            thread.join()
        raise
    if errors:
        raise errors[0]
    return results[0]


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
