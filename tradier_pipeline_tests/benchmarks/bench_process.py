"""What `bench` starts in a process of its own: a whole snapshot run, as a Python caller or the command takes it, or an
empty job with one asset.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(kind: str) -> None:
    if kind == "empty":
        import dagster as dg  # here: what takes a snapshot imports it itself, and may do it in a better way

        @dg.asset
        def empty() -> None:
            """Nothing."""

        defs = dg.Definitions(assets=[empty], executor=dg.in_process_executor)
        with dg.DagsterInstance.get() as instance:
            job = defs.resolve_implicit_global_asset_job_def()
            assert job.execute_in_process(instance=instance).success
    elif kind == "command":
        from tradier_pipeline.cli import main as command

        try:
            command(["snapshot"])
        except SystemExit as ended:
            if ended.code:
                raise
    else:
        from tradier_pipeline import sync_tradier_snapshot

        sync_tradier_snapshot(trigger="bench")
    status = Path("/proc/self/status").read_text(encoding="ascii")
    print(status.partition("VmHWM:")[2].split()[0])  # kB; getrusage would include the parent from before exec


if __name__ == "__main__":
    main(sys.argv[1])
