"""The resource of every asset: the settings, the broker, the landing zone and the warehouse of this run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TypeVar

import dagster as dg
from pydantic import PrivateAttr

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import Settings, load_settings
from tradier_pipeline.extract.connection import Broker, connect
from tradier_pipeline.landing.zone import LandingZone
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.warehouse.staging import Warehouse

T = TypeVar("T")


class TradierResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """What the environment and `.env` configure. It has no fields: no secret can reach a run's config."""

    _open: ExitStack = PrivateAttr(default_factory=ExitStack)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        self._open.close()

    @cached_property
    def settings(self) -> Settings:
        return load_settings()

    @cached_property
    def brokers(self) -> Mapping[str | None, Broker]:
        """The broker of each token, by its group; an embedded simulated one lives until the run ends."""
        return {one.group: self._open.enter_context(connect(one)) for one in self.settings.by_token}

    def broker_of(self, account_id: str) -> Broker:
        """The broker with the token that reads an account. Raises PipelineError: none does."""
        return self.brokers[self.settings.of_account(account_id).group]

    def of_any_token(self, read: Callable[[Broker], T]) -> T:
        """Read what is the same for every token: with the first whose read does not fail.

        Raises:
            PipelineError: all failed; of the first.
        """
        failures: list[PipelineError] = []
        for broker in self.brokers.values():
            try:
                return read(broker)
            except PipelineError as error:
                failures.append(error)
        raise failures[0]

    @property
    def landing_zone(self) -> LandingZone:
        return LandingZone(self.settings.landing)

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.settings.warehouse)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.settings.ledger)


@contextmanager
def as_dagster_failure() -> Iterator[None]:
    """Show an expected failure as its one line in the UI, and do not retry it."""
    try:
        yield
    except PipelineError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from None
