"""What the landing zone raises."""

from tradier_pipeline.core.errors import PipelineError


class LandingError(PipelineError):
    """The landing zone holds something that is not what was landed, or lacks it."""
