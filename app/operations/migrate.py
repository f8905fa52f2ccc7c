"""`python -m app.operations.migrate`: brings the database to the schema of this code in one deploy step. `--check` only compares.

Migrations run once. All other files under sql/ describe a state: they run again, all of them, whenever one has changed.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from procrastinate.schema import SchemaManager
from psycopg.conninfo import conninfo_to_dict
from yoyo import get_backend, read_migrations

from app.config import Settings, read_settings
from app.database.pool import connection_problem
from app.database.schema_check import BY_HAND, DIFFERENCES, NEVER_APPLIED, compare
from app.database.schema_files import MIGRATIONS, ROOT, SQL, digest, state_files
from app.database.server_version import UnsafeDatabase, warn_if_outdated
from app.operations.catalog_diff import APPLIED_AND_NOW, name_changes
from app.operations.context_keys import refuse_key_lockout, store_keys, unknown_keys
from app.operations.psql import database_url
from app.operations.reference_data import load_claim_transitions, load_diagnosis_codes
from app.operations.shared_roles import refuse_rename_under_others

LOCK = 0x636C61696D73
"""The key of the advisory lock of the schema step: "claims" in ASCII."""


@contextmanager
def _admin(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """An administrator's connection with the advisory lock, so that concurrent schema steps run one after the other."""
    assert settings.database_url
    with psycopg.connect(settings.database_url, autocommit=True, application_name="claims-schema") as connection:
        warn_if_outdated(connection.info.server_version)
        connection.execute("select pg_advisory_lock(%s)", [LOCK])
        yield connection


def check(settings: Settings) -> list[str]:
    """The differences between the database and this code, with each fact that was changed by hand. Empty if there are none."""
    with _admin(settings) as connection:
        unknown = unknown_keys(connection, settings)  # each of them can sign contexts
        differences = _differences(connection) + [f"context.keys: {kid} is not in TOKEN_KEYS" for kid in unknown]
        if BY_HAND not in differences:
            return differences
        try:
            row = connection.execute(APPLIED_AND_NOW).fetchone()
        except NEVER_APPLIED:  # an earlier version applied the schema, and stored no facts
            return differences
        named = name_changes(*row) if row else []
        return [line for text in differences for line in (named if text == BY_HAND and named else [text])]


def _differences(connection: psycopg.Connection[Any]) -> list[str]:
    try:
        return compare(connection.execute(DIFFERENCES).fetchone())
    except NEVER_APPLIED:
        return compare(None)


def apply(settings: Settings) -> None:
    """Brings the database to the schema of this code. Applies nothing if there are no differences.

    Raises UnsafeDatabase if running processes sign with a key that TOKEN_KEYS no longer has, unless settings.force is set.
    """
    with _admin(settings) as connection:
        if not settings.force:
            refuse_key_lockout(connection, settings)
            refuse_rename_under_others(connection)
        if _differences(connection):
            _run(connection, SQL / "deploy" / "rename.sql")
            _run(connection, SQL / "deploy" / "roles.sql")
            connection.execute("set role claims_owner")
            _run(connection, SQL / "deploy" / "schema_admin.sql")
            migrate(settings)
            connection.execute("set search_path = procrastinate")
            if connection.execute("select to_regclass('procrastinate_jobs')").fetchone() == (None,):
                connection.execute(SchemaManager.get_schema().encode())
            connection.execute("reset role")
            apply_state_files(connection)
        _passwords(connection, settings)
        store_keys(connection, settings)


def _run(connection: psycopg.Connection[Any], path: Path) -> None:
    try:
        connection.execute(path.read_bytes())
    except psycopg.Error as error:
        error.add_note(str(path.relative_to(ROOT)))
        raise


def apply_state_files(connection: psycopg.Connection[Any]) -> None:
    """Applies functions, policies, grants and reference data in one transaction, so that no request sees an intermediate state.

    Runs as the administrator, who may set the owners of definer functions. All other objects belong to claims_owner afterwards.
    """
    with connection.transaction():
        connection.execute(
            "set local lock_timeout = '10s'; set local search_path = app; set local check_function_bodies = off"
        )
        for path in state_files():
            _run(connection, path)
        load_claim_transitions(connection)
        load_diagnosis_codes(connection)
        connection.execute(
            "insert into schema_admin.state (files, catalog) values (%s, '') on conflict (one) "
            "do update set files = excluded.files, applied_at = excluded.applied_at",
            [digest()],
        )
        connection.execute(
            "select schema_admin.note_cluster()"
        )  # changes a default, so it runs before the facts are stored
        connection.execute("select schema_admin.note_facts()")


def _passwords(connection: psycopg.Connection[Any], settings: Settings) -> None:
    """Sets the logins' passwords from their URLs. They are hashed here, so that none appears in the server's log."""
    for url in (settings.api_database_url, settings.worker_database_url):
        parts = conninfo_to_dict(url or "")
        if parts.get("password"):
            user, password = str(parts["user"]), str(parts["password"])
            hashed = connection.pgconn.encrypt_password(password.encode(), user.encode(), b"scram-sha-256").decode()
            connection.execute(
                psycopg.sql.SQL("alter role {} password {}").format(psycopg.sql.Identifier(user), hashed)
            )


def migrate(settings: Settings, *, down: bool = False) -> None:
    """Applies all pending migrations as claims_owner. down: rolls back all migrations."""
    with get_backend(_yoyo_url(settings)) as backend:
        migrations = read_migrations(str(MIGRATIONS))
        with backend.lock():
            if down:
                backend.rollback_migrations(backend.to_rollback(migrations))
            else:
                backend.apply_migrations(backend.to_apply(migrations))
        if not down and (pending := [migration.id for migration in backend.to_apply(migrations)]):
            raise UnsafeDatabase(f"migrations not applied: {', '.join(pending)}")


def _yoyo_url(settings: Settings) -> str:
    parts = {
        key: str(value) for key, value in conninfo_to_dict(settings.database_url or "").items() if value is not None
    }
    user, password, name = parts.pop("user", "postgres"), parts.pop("password", ""), parts.pop("dbname", "postgres")
    parts |= {"options": "-c role=claims_owner -c row_security=off", "schema": "schema_admin"}
    login = quote(user, safe="") + (":" + quote(password, safe="") if password else "")
    return f"postgresql+psycopg://{login}@/{quote(name, safe='')}?{urlencode(parts)}"


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 if the schema is as expected, 1 if --check found differences, 2 if the step cannot run."""
    environ = dict(os.environ)
    if arguments == ["--check"]:
        environ["DATABASE_URL"] = database_url()
    settings = read_settings(environ, need=("database_url",))
    try:
        if arguments == ["--check"]:
            differences = check(settings)
            print("\n".join(differences) or "the schema is as expected")
            return 1 if differences else 0
        apply(settings)
    except UnsafeDatabase as error:
        print(error, file=sys.stderr)
        return 2
    except psycopg.OperationalError as error:
        if error.sqlstate:  # a statement failed, not the connection
            raise
        print(f"schema: the database {connection_problem(error)}", file=sys.stderr)
        return 2
    print("the schema is applied")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
