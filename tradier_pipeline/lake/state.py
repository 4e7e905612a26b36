"""What a home remembers of its last shipment: a hint where to look, never what is there. The lake itself says that."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from uuid import uuid4

from tradier_pipeline.core.files import write_whole

FILE = "lake.json"


@dataclass(frozen=True, slots=True)
class Shipped:
    """What was shipped last.

    Attributes:
        home: what tells this home from others in the lake.
        lake_id, schema_version, shipment: the state of the lake that had it; 0: none.
        snapshots: how many the home had.
        periods: kind of unit -> account and period -> fingerprint of what the home had of it.
    """

    home: str = field(default_factory=lambda: uuid4().hex)
    lake_id: str = ""
    schema_version: int = 0
    shipment: int = 0
    snapshots: int = 0
    periods: dict[str, dict[str, str]] = field(default_factory=dict)


def load(home: Path) -> Shipped:
    """What the home remembers; of a file that is not there or damaged, nothing: then all is compared."""
    with suppress(OSError, ValueError, TypeError):
        return Shipped(**json.loads((home / FILE).read_bytes()))
    return Shipped()


def save(home: Path, shipped: Shipped) -> None:
    """Raises FileError if it cannot be written; then the next shipment compares more than it must."""
    write_whole(home / FILE, json.dumps(asdict(shipped)).encode())
