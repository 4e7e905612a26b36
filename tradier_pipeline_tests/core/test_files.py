"""Files that are whole or not there, and of which nothing stays but themselves."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tradier_pipeline.core.files import write_whole

WRITES = """
import os, signal, sys
from pathlib import Path
from tradier_pipeline.core import files

def stop(_):
    print("amid", flush=True)
    sys.stdin.readline()

files.os.fsync = stop
files.write_whole(Path(sys.argv[1]), b"of the child")
"""


def writing(path: Path) -> subprocess.Popen[str]:
    """A process that stands still amid writing a file."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "amid\n"
    return process


def test_what_a_killed_process_left_of_a_file_goes_with_the_next_one_and_what_a_living_one_writes_stays(
    tmp_path: Path,
) -> None:
    path = tmp_path / "sessions [1].json"
    with writing(path) as killed, writing(path) as living:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert len(list(tmp_path.iterdir())) == 2
        write_whole(path, b"of the next one")
        assert path.read_bytes() == b"of the next one"
        (left,) = (found for found in tmp_path.iterdir() if found != path)
        assert f"%20{living.pid}%20" in left.name
        living.kill()
        living.wait()
    write_whole(path, b"of the last one")
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
