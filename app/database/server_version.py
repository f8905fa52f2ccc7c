"""Which PostgreSQL this code runs on, and from which minor version on it has the fixes that row-level security leans on."""

import logging

log = logging.getLogger("claims.versions")

OLDEST = 15
PATCHED = {15: 19, 16: 15, 17: 11, 18: 6}
"""The first minor version of each major one without a known hole that any login could use."""


class UnsafeDatabase(RuntimeError):
    """The database is not the one this code expects, or the login could bypass row-level security."""


def missing_fixes(version: int) -> str | None:
    """What a server of this server_version_num lacks; None where that is nothing. Raises Unsafe where it is too old to run on."""
    major, minor = divmod(version, 10_000)
    if major < OLDEST:
        raise UnsafeDatabase(f"PostgreSQL {major} is too old: {OLDEST} or newer is needed.")
    if minor >= PATCHED.get(major, 0):
        return None
    return f"PostgreSQL {major}.{minor} lacks security fixes: {major}.{PATCHED[major]} or newer is needed."


def warn_if_outdated(version: int) -> None:
    """Warns in the log of a server that lacks fixes; raises Unsafe where it is too old. To be called once, at a process's start."""
    if lack := missing_fixes(version):
        log.warning(lack)
