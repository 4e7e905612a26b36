"""The hash chain of the sealed months: each Parquet file is announced with its SHA-256 before it gets its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tradier_pipeline.core.files import file_sha256
from tradier_pipeline.landing.chain import Chain, Kind


@dataclass(frozen=True, slots=True)
class _SealedFiles:
    root: Path

    def existing(self) -> Iterator[tuple[Kind, str, str]]:
        for path in sorted(self.root.glob("*/*.parquet"), key=lambda path: (path.name, path)):
            yield "filed", path.relative_to(self.root).as_posix(), file_sha256(path)

    def holds(self, path: str) -> bool:
        return (self.root / path).exists()

    def sha256(self, path: str) -> str | None:
        with suppress(OSError):
            return file_sha256(self.root / path)
        return None

    def forget(self, path: str) -> None:
        """What has no name yet is removed by the next sealing."""


def sealed_chain(root: Path) -> Chain:
    """The chain of the files of sealed months, by their directory."""
    return Chain(root, _SealedFiles(root))
