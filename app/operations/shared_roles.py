"""Roles belong to the whole server, so renaming them concerns every database on it (sql/deploy/rename.sql)."""

from typing import Any

import psycopg

from app.database.server_version import UnsafeDatabase

OTHER_DATABASES_IN_USE = """
select distinct a.datname from pg_stat_activity a
where a.usename in ('claims_api', 'claims_worker') and a.datname <> current_database()
  and exists (select from pg_roles where rolname = 'claims_gate')
order by 1"""
"""Databases with running processes, on a server whose roles still have the names of version 0033."""


def refuse_rename_under_others(connection: psycopg.Connection[Any]) -> None:
    """Raises UnsafeDatabase if the rename would break an API or a worker that runs on another database of the server."""
    if names := [name for (name,) in connection.execute(OTHER_DATABASES_IN_USE)]:
        raise UnsafeDatabase(
            f"roles: this step renames roles of the whole server. API or worker processes run on {', '.join(names)} and would fail until "
            "that database is upgraded as well. Stop them first, or FORCE=1."
        )
