"""Install packages into the Python that runs this, each proven by its hash, and show how far it is.

It needs nothing but that Python and its pip: it runs before anything is installed.
Call: python deploy/install.py requirements.lock [another.lock ...]. Exit code: pip's; 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

LEGEND = "installing"
BAR = 20  # characters
LOOKS = 0.2  # seconds between two looks at what is installed
INTERRUPTED = 130
PIN = re.compile(r"^[A-Za-z0-9._-]+(?:\[[^\]]*\])?==", re.MULTILINE)
SITE = Path(sysconfig.get_path("purelib"))


class Line:
    """How many packages are fetched and installed: a line that moves on a terminal, elsewhere one at the end."""

    def __init__(self, packages: int) -> None:
        self.packages = max(packages, 1)
        self.fetched = 0
        self.name = ""
        self.began = time.monotonic()
        self.moves = sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")
        self.before = self.installed()

    @staticmethod
    def installed() -> int:
        return sum(1 for _ in SITE.glob("*.dist-info"))

    def show(self) -> None:
        if not self.moves:
            return
        new = self.installed() - self.before
        done, what = (new, "written") if new > 0 else (self.fetched, "fetched")
        share = min((self.fetched + new) / (2 * self.packages), 1.0)
        bar = "━" * round(share * BAR)
        text = f"{LEGEND} {bar:─<{BAR}} {done} of {self.packages} packages {what}, {self.seconds:.0f} s  {self.name}"
        sys.stdout.write(f"\r\033[K{text[: os.get_terminal_size(sys.stdout.fileno()).columns - 1]}")
        sys.stdout.flush()

    def clear(self) -> None:
        if self.moves:
            sys.stdout.write("\r\033[K")
            sys.stdout.flush()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


def pip(files: list[str]) -> subprocess.Popen[str]:
    options = ["--disable-pip-version-check", "--progress-bar", "off", "--no-deps", "--require-hashes"]
    wanted = [part for file in files for part in ("--requirement", file)]
    return subprocess.Popen(  # noqa: S603 - our own arguments
        [sys.executable, "-m", "pip", "install", *options, *wanted],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PIP_QUIET": "0"},
    )


def follow(process: subprocess.Popen[str], line: Line) -> None:
    """Count what pip fetches."""
    for text in process.stdout or ():
        if text.startswith("Ignoring "):  # of another platform
            line.packages -= 1
        elif text.startswith(("Collecting ", "Requirement already satisfied: ")):
            line.fetched += 1
            line.name = text.split(": " if ": " in text else " ", 1)[1].split("==")[0].strip()
        elif text.startswith("Installing collected packages"):
            line.name = ""


def main(files: list[str]) -> int:
    line = Line(sum(len(PIN.findall(Path(file).read_text(encoding="utf-8"))) for file in files))
    if not line.moves:
        print(f"{LEGEND} {line.packages} packages", flush=True)
    process = pip(files)
    reader = threading.Thread(target=follow, args=(process, line), daemon=True)
    reader.start()
    try:
        while True:
            line.show()
            try:
                code = process.wait(LOOKS)
                break
            except subprocess.TimeoutExpired:
                continue
    except KeyboardInterrupt:  # the terminal has sent it to pip, too
        process.wait()
        line.clear()
        print("install: interrupted. Run make again.", file=sys.stderr)
        return INTERRUPTED
    reader.join()
    line.clear()
    if code == 0:
        what = f"{line.packages} packages, each proven by its hash"
        print(f"installed  {what:<58}{line.seconds:>8.1f} s", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
