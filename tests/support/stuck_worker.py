"""Worker that hangs before the effect of the job of HANGS_BEFORE, or after the effect of that of HANGS_AFTER.

It batches no jobs.
"""

import asyncio
import os
import sys

from procrastinate.cli import main

from jobs import execution

execution.BATCH_SIZE = 0
_run = execution._run


async def stuck(given, query, **more):
    """Runs the statement as jobs.execution._run does, then waits for ever."""
    if str(given["event_id"]) == os.environ["HANGS_BEFORE"]:
        await asyncio.Event().wait()
    found = await _run(given, query, **more)
    if str(given["event_id"]) == os.environ["HANGS_AFTER"]:
        await asyncio.Event().wait()
    return found


execution._run = stuck

if __name__ == "__main__":
    sys.exit(main())
