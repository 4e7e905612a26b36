"""The resource of every asset: the settings, the broker, the landing zone and the warehouse of this run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property

import dagster as dg
from pydantic import PrivateAttr

from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import Settings, load_settings
from tradier_pipeline.extract.connection import Brokers, connect_each
from tradier_pipeline.landing.zone import LandingZone
from tradier_pipeline.ledger.store import Ledger
from tradier_pipeline.warehouse.staging import Warehouse


class TradierResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """What the environment and `.env` configure. It has no fields: no secret can reach a run's config."""

    _open: ExitStack = PrivateAttr(default_factory=ExitStack)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        self._open.close()

    @cached_property
    def settings(self) -> Settings:
        return load_settings()

    @cached_property
    def brokers(self) -> Brokers:
        """The broker of each token; an embedded simulated one lives until the run ends."""
        return self._open.enter_context(connect_each(self.settings))

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
