"""`python -m jobs`: as many workers as WORKER_PROCESSES says, each started again when it ends by itself; SIGTERM drains them."""

import os
import signal
import time
from types import FrameType

from app.children import Child, end
from app.config import read_settings


def main() -> None:
    """Until SIGINT, SIGTERM or SIGHUP."""
    settings = read_settings(need=("worker_database_url",))
    environ = os.environ | {"PROCRASTINATE_APP": "jobs.app"}
    workers = [Child(f"worker {n + 1}", ["procrastinate", "worker"], environ) for n in range(settings.worker_processes)]
    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    while not stopping:
        for worker in workers:
            worker.keep()
        time.sleep(0.05)
    end(workers)


if __name__ == "__main__":
    main()
