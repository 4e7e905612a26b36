"""What `bench` starts in a process of its own: one whole snapshot run, or an empty job with one asset."""

from __future__ import annotations

import sys
from pathlib import Path

import dagster as dg


@dg.asset
def empty() -> None:
    """Nothing."""


def main(kind: str) -> None:
    if kind == "empty":
        defs = dg.Definitions(assets=[empty], executor=dg.in_process_executor)
        with dg.DagsterInstance.get() as instance:
            job = defs.resolve_implicit_global_asset_job_def()
            assert job.execute_in_process(instance=instance).success
    else:
        from tradier_pipeline import sync_tradier_snapshot

        sync_tradier_snapshot(trigger="bench")
    status = Path("/proc/self/status").read_text(encoding="ascii")
    print(status.partition("VmHWM:")[2].split()[0])  # kB; getrusage would include the parent from before exec


if __name__ == "__main__":
    main(sys.argv[1])
