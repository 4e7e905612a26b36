"""`--known-at`: what a command tells, told as it was known at an instant."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any

from tradier_pipeline import clock
from tradier_pipeline.cli.options import KNOWN_AT
from tradier_pipeline.cli.output import read_settings, report_errors
from tradier_pipeline.cli.progress import shown


def with_settings_as_known(command: Callable[..., int | None]) -> Callable[..., None]:
    """Like `with_settings`, of a command that only looks at what is published: then or now."""

    @wraps(command)
    def run(known_at: datetime | None, **arguments: Any) -> int | None:
        settings = read_settings()
        if known_at is None:
            return command(settings, **arguments)
        from tradier_pipeline.publish.past import home_as_known  # pydantic and all rules: not on the way to a balance

        with shown():
            home = home_as_known(settings, known_at)
        with clock.standing_at(known_at):
            return command(settings.model_copy(update={"pipeline_home": home, "read": "home"}), **arguments)

    return KNOWN_AT(report_errors(run))
