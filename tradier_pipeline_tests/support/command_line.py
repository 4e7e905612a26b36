"""The command line in this process."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result

from tradier_pipeline.cli import main


def run(*arguments: str) -> Result:
    """What it printed and its exit code. Only an exit may end it."""
    result = CliRunner().invoke(main, arguments, prog_name="tradier-pipeline")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def rows_of(*arguments: str) -> list[dict[str, Any]]:
    """The rows that it prints."""
    result = run(*arguments, "--format", "json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)  # type: ignore[no-any-return]
