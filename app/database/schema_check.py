"""Checks that every process runs at start: the database has the schema of this code, and the login has no excessive rights."""

from collections.abc import Awaitable, Callable
from typing import Any

import psycopg

from app.database.connection import Rows, Statements
from app.database.schema_files import VERSION, digest
from app.database.server_version import UnsafeDatabase, warn_if_outdated

Fetch = Callable[[Statements], Awaitable[list[Rows]]]
"""A pool's fetch."""

DIFFERENCES = """
select s.files, s.catalog = schema_admin.fingerprint(),
       to_jsonb(s) ->> 'cluster' = (select c.system_identifier::text from pg_control_system() c),
       coalesce((to_jsonb(s) ->> 'version')::integer, 0), coalesce((to_jsonb(s) ->> 'compatible_version')::integer, 0),
       coalesce((to_jsonb(s) ->> 'changing_until')::timestamptz > now(), false)
from schema_admin.state s"""
"""to_jsonb, because earlier versions did not have all of these columns."""

LOGIN_RIGHTS = """
select current_setting('server_version_num')::integer, session_user::text, array_remove(array[
    case when r.rolsuper then 'is a superuser' end,
    case when r.rolbypassrls then 'has BYPASSRLS' end,
    case when pg_has_role(r.oid, 'claims_owner', 'member') then 'is a member of claims_owner' end,
    case when exists (select from unnest(array[
                          'claims_auth_definer', 'claims_context_definer', 'claims_trigger_definer', 'claims_audit_sealer']) as definer
                      where pg_has_role(r.oid, definer, 'member'))
        then 'is a member of a definer role' end,
    case when exists (select from pg_class c where c.relowner = r.oid and c.relnamespace = 'app'::regnamespace)
        then 'owns a table' end], null)
from pg_roles r
where r.rolname = session_user"""


NEVER_APPLIED = (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedFunction)
NEVER_APPLIED_TEXT = "the schema was never applied"
BY_HAND = "tables, policies, grants, functions, roles or settings were changed by hand"


async def differences(fetch: Fetch) -> list[str]:
    """The differences between the database and this code; empty if there are none."""
    try:
        (rows,) = await fetch([(DIFFERENCES, {})])
    except NEVER_APPLIED:
        rows = []
    return compare(rows[0] if rows else None)


def compare(row: tuple[Any, ...] | None, *, exactly: bool = False) -> list[str]:
    """The differences according to a row of DIFFERENCES; None if there is no row.

    A newer schema that supports the version of this code is none, nor is a catalog that a schema step is changing now. exactly: both
    are differences.
    """
    if row is None:
        return [NEVER_APPLIED_TEXT]
    files, is_catalog_expected, is_same_cluster, version, compatible_version, is_changing = row
    is_supported = not exactly and compatible_version <= VERSION < version
    changes = [] if files == digest() or is_supported else ["it was applied from other files"]
    changes += [] if is_catalog_expected or (is_changing and not exactly) else [BY_HAND]
    return changes + ([] if is_same_cluster else ["it was copied from another server"])


async def check_database(fetch: Fetch) -> None:
    """Raises UnsafeDatabase unless the schema is as expected and the login cannot bypass row-level security.

    Only logs a warning about a server that lacks security fixes.
    """
    (((version, login, bypasses),),) = await fetch([(LOGIN_RIGHTS, {})])
    warn_if_outdated(version)
    if changes := await differences(fetch):
        raise UnsafeDatabase(
            f"schema: {'; '.join(changes)}. Run `make check`, which lists changes by hand, then `make schema`."
        )
    if bypasses:
        raise UnsafeDatabase(f"login: {login} {' and '.join(bypasses)}. Log in as claims_api or claims_worker.")
