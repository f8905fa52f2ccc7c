"""Plugins of the tests, which pytest wants named at the top, and how many run at once."""

import os

pytest_plugins = ["tests.policy_coverage"]


def pytest_xdist_auto_num_workers() -> int:
    """Half as many again as cores: a third of the time tests wait for clocks and for processes to start."""
    return max(1, (os.cpu_count() or 1) * 3 // 2)
