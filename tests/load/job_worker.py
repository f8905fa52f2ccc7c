"""A worker without one of its parts, for `make bench NAME=jobs`: `python -m tests.load.job_worker [more|pool]`."""

import sys

import jobs
from jobs import execution, worker


def main(without: list[str]) -> None:
    """Procrastinate's own command line, with a jobs.app that lacks the named parts."""
    if "more" in without:  # every job alone
        execution.BATCH_SIZE = 0
    if "pool" in without:  # the pool checks every connection before use, and statements run between BEGIN and COMMIT
        connector = jobs.app.connector
        del worker.Connector._create_pool
        connector._pool_args.pop("configure")
    from procrastinate.cli import main as procrastinate

    sys.argv = ["procrastinate", "worker"]
    procrastinate()


if __name__ == "__main__":
    main(sys.argv[1:])
