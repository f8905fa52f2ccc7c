"""`python -m jobs`: keeps WORKER_PROCESSES workers running and restarts one that exits. SIGTERM drains all of them."""

import os

from app.config import read_settings
from app.server.supervisor import Child, supervise


def main() -> None:
    """Runs until SIGINT, SIGTERM or SIGHUP."""
    settings = read_settings(need=("worker_database_url",))
    environ = os.environ | {"PROCRASTINATE_APP": "jobs.app"}
    supervise(
        [Child(f"worker {n + 1}", ["procrastinate", "worker"], environ) for n in range(settings.worker_processes)]
    )


if __name__ == "__main__":
    main()
