"""`python -m app.operations.migrate`: brings the database to the schema of this code in one deploy step. `--check` only compares.

Migrations run once. All other files under sql/ describe a state: each runs again whenever it has changed.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from procrastinate.schema import SchemaManager
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import UndefinedColumn
from yoyo import get_backend, read_migrations

from app.config import Settings, read_settings
from app.database.pool import connection_problem
from app.database.schema_check import BY_HAND, DIFFERENCES, NEVER_APPLIED, NEVER_APPLIED_TEXT, compare
from app.database.schema_files import COMPATIBLE_VERSION, MIGRATIONS, RENAME, ROLES, SCHEMA_ADMIN, VERSION, digest
from app.database.server_version import UnsafeDatabase, warn_if_outdated
from app.operations.apply_files import LOCK_TIMEOUT_MS, AppliedFiles, apply_files, retry_locks, run_file
from app.operations.catalog_diff import APPLIED_AND_NOW, name_changes
from app.operations.context_keys import refuse_key_lockout, store_keys, unknown_keys
from app.operations.psql import database_url
from app.operations.shared_roles import refuse_rename_under_others

LOCK = 0x636C61696D73
"""The key of the advisory lock of the schema step: "claims" in ASCII."""
BEGIN_CHANGING = "update schema_admin.state set changing_until = now() + interval '10 minutes'"
NOTE_FACTS = "select schema_admin.note_facts()"


@contextmanager
def _admin(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """An administrator's connection with the advisory lock, so that concurrent schema steps run one after the other."""
    assert settings.database_url
    with psycopg.connect(settings.database_url, autocommit=True, application_name="claims-schema") as connection:
        warn_if_outdated(connection.info.server_version)
        connection.execute("select pg_advisory_lock(%s)", [LOCK])
        connection.execute(f"set lock_timeout = {LOCK_TIMEOUT_MS}")
        yield connection


def check(settings: Settings) -> list[str]:
    """The differences between the database and this code, with each fact that was changed by hand. Empty if there are none."""
    with _admin(settings) as connection:
        unknown = unknown_keys(connection, settings)  # each of them can sign contexts
        differences = compare(_state(connection), exactly=True) + [
            f"context.keys: {kid} is not in TOKEN_KEYS" for kid in unknown
        ]
        if BY_HAND not in differences:
            return differences
        try:
            row = connection.execute(APPLIED_AND_NOW).fetchone()
        except NEVER_APPLIED:  # an earlier version applied the schema, and stored no facts
            return differences
        named = name_changes(*row) if row else []
        return [line for text in differences for line in (named if text == BY_HAND and named else [text])]


def _state(connection: psycopg.Connection[Any]) -> tuple[Any, ...] | None:
    """The row of DIFFERENCES; None if the schema was never applied."""
    with suppress(*NEVER_APPLIED):
        return connection.execute(DIFFERENCES).fetchone()
    return None


def apply(settings: Settings) -> None:
    """Brings the database to the schema of this code. Applies only files that differ, and nothing if there are no differences.

    Processes of the previous version may run meanwhile. Raises UnsafeDatabase, unless settings.force is set, if running processes sign
    with a key that TOKEN_KEYS no longer has, or if the schema is newer than this code.
    """
    with _admin(settings) as connection:
        state = _state(connection)
        if not settings.force:
            refuse_key_lockout(connection, settings)
            refuse_rename_under_others(connection)
            _refuse_downgrade(state)
        if differences := compare(state, exactly=True):
            was_expected = not {BY_HAND, NEVER_APPLIED_TEXT} & set(differences)
            _set_changing(connection, changing=True)
            try:
                _apply_all(settings, connection, all_differ=not was_expected)
            except BaseException:
                if was_expected:  # else a change by hand would be recorded as expected
                    _set_changing(connection, changing=False)
                raise
        _passwords(connection, settings)
        store_keys(connection, settings)


def _refuse_downgrade(state: tuple[Any, ...] | None) -> None:
    """Raises UnsafeDatabase if the schema is newer: the files of this code would replace newer ones, and leave newer tables."""
    if state and state[3] > VERSION:
        raise UnsafeDatabase(
            f"schema: it has version {state[3]}, this code version {VERSION}. Run the schema step of the newer code, or FORCE=1."
        )


def _apply_all(settings: Settings, connection: psycopg.Connection[Any], *, all_differ: bool) -> None:
    applied = AppliedFiles(connection, all_differ=all_differ)
    first = [path for path in (RENAME, ROLES, SCHEMA_ADMIN) if applied.differs(path)]
    for path in first:
        connection.execute("set role claims_owner" if path == SCHEMA_ADMIN else "reset role")
        retry_locks(connection, path.name, partial(run_file, connection, path))
    connection.execute("reset role")
    retry_locks(connection, "migrations", partial(migrate, settings))
    if connection.execute("select to_regclass('procrastinate.procrastinate_jobs')").fetchone() == (None,):
        connection.execute("set role claims_owner; set search_path = procrastinate")
        connection.execute(SchemaManager.get_schema().encode())
        connection.execute("reset role")
    apply_files(connection, applied)
    with connection.transaction():
        for path in first:
            applied.record(path)
        connection.execute(
            "insert into schema_admin.state (files, catalog, version, compatible_version) values (%s, '', %s, %s) on conflict (one) "
            "do update set files = excluded.files, applied_at = excluded.applied_at, version = excluded.version, "
            "compatible_version = excluded.compatible_version",
            [digest(), VERSION, COMPATIBLE_VERSION],
        )
        # Changes a default, so it runs before the facts are stored.
        connection.execute("select schema_admin.note_cluster()")
        connection.execute(NOTE_FACTS)


def _set_changing(connection: psycopg.Connection[Any], *, changing: bool) -> None:
    """Tells running processes that the catalog may change now, or stores its facts as the expected ones."""
    with suppress(*NEVER_APPLIED, UndefinedColumn):
        connection.execute(BEGIN_CHANGING if changing else NOTE_FACTS)


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
    options = f"-c role=claims_owner -c row_security=off -c lock_timeout={LOCK_TIMEOUT_MS}"
    parts |= {"options": options, "schema": "schema_admin"}
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
