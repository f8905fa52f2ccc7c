"""`python -m tests.support.debug_entry api` or `... worker`: the process with every logger at DEBUG."""

import logging
import sys

from procrastinate.cli import main as worker

from app import main  # noqa: F401  # what logs is there to be turned up
from app.__main__ import main as api

if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        logging.getLogger(name).setLevel(logging.DEBUG)
    sys.exit(worker() if sys.argv[1:] == ["worker"] else api([]))
