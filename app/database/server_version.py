"""The PostgreSQL versions that this code supports, and their minor versions with the fixes that row-level security depends on."""

import logging

log = logging.getLogger("claims.versions")

OLDEST = 15
PATCHED = {15: 19, 16: 15, 17: 11, 18: 6}
"""The first minor version of each major one without a known vulnerability that any login could exploit."""


class UnsafeDatabase(RuntimeError):
    """The database is not the one this code expects, or the login could bypass row-level security."""


def missing_fixes(version: int) -> str | None:
    """A message if a server of this server_version_num lacks fixes, else None. Raises UnsafeDatabase if it is too old."""
    major, minor = divmod(version, 10_000)
    if major < OLDEST:
        raise UnsafeDatabase(f"PostgreSQL {major} is too old: {OLDEST} or newer is needed.")
    if minor >= PATCHED.get(major, 0):
        return None
    return f"PostgreSQL {major}.{minor} lacks security fixes: {major}.{PATCHED[major]} or newer is needed."


def warn_if_outdated(version: int) -> None:
    """Logs a warning if the server lacks fixes; raises UnsafeDatabase if it is too old. Called once, when a process starts."""
    if warning := missing_fixes(version):
        log.warning(warning)
