"""A worker with one of its parts taken out, for `make bench NAME=jobs`: `python -m tests.load.job_worker [more|pool]`."""

import sys

import jobs
from jobs import execution, worker


def main(without: list[str]) -> None:
    """Procrastinate's own command line, over a jobs.app that lacks what is named."""
    if "more" in without:  # every job by itself
        execution.BATCH_SIZE = 0
    if "pool" in without:  # the pool asks every connection whether it lives; statements stand in BEGIN and COMMIT
        connector = jobs.app.connector
        del worker.Connector._create_pool
        connector._pool_args.pop("configure")
    from procrastinate.cli import main as procrastinate

    sys.argv = ["procrastinate", "worker"]
    procrastinate()


if __name__ == "__main__":
    main(sys.argv[1:])
