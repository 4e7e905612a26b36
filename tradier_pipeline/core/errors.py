"""The one base of every failure this project expects and can explain."""

from __future__ import annotations

from tradier_pipeline.core.texts import printable


class PipelineError(Exception):
    """An expected failure reported in one line: what went wrong, where, and what to do about it.

    Args:
        cause: what happened and where, as a sentence without a trailing period.
        remedy: what the user can do, as a sentence.
    """

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause, remedy)
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return printable(f"{self.cause}. {self.remedy}")  # a cause may quote what somebody else wrote


class ExtractError(PipelineError):
    """A snapshot was not read, for a reason that is not the broker's answer."""
