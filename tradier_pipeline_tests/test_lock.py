"""requirements.lock: what is installed, proven file by file, wherever it is downloaded from."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).parents[1]
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)", re.MULTILINE)
LOCK = (PROJECT / "requirements.lock").read_text()


def pins(text: str) -> dict[str, str]:
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in PIN.findall(text)}


def test_the_lock_has_the_pins_of_the_constraints_and_what_other_platforms_need() -> None:
    pinned, locked = pins((PROJECT / "constraints.txt").read_text()), pins(LOCK)
    assert pinned.items() <= locked.items()
    assert {"pip", "setuptools", "dagster", "duckdb"} <= locked.keys()
    others = re.findall(r"^([A-Za-z0-9._-]+)==\S+ ; (.*) \\$", LOCK, re.MULTILINE)
    assert locked.keys() - pinned.keys() <= {name.replace("_", "-").lower() for name, _ in others}


def test_every_package_has_hashes_and_no_line_names_a_host() -> None:
    blocks = re.split(r"\n(?=\S)", LOCK.strip())[1:]
    assert len(blocks) == len(pins(LOCK))
    for block in blocks:
        assert re.fullmatch(r"\S+==[^\n]*(\n    --hash=sha256:[0-9a-f]{64}( \\)?)+", block), block
    assert "://" not in LOCK
    assert "--index" not in LOCK
    assert "--find-links" not in LOCK
