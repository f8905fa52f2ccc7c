"""Plugins of the tests; pytest wants them named at the top."""

pytest_plugins = ["tests.security.policies.coverage"]
