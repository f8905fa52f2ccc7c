"""`python -m app.operations.migrate`: makes the database what this code expects, in one deploy step; `--check` only compares.

Migrations are history, everything else under sql/ is state: complete files that are run again as a whole whenever one changed.
"""

import hashlib
import lzma
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from procrastinate.schema import SchemaManager
from psycopg.conninfo import conninfo_to_dict
from yoyo import get_backend, read_migrations

from app.config import Settings, read_settings
from app.database.connection import Rows, Statements
from app.database.pool import why_refused
from app.database.server_version import Unsafe, look_at
from app.operations.catalog_diff import APPLIED_AND_NOW, name_changes
from app.security.mac import pads

ROOT = Path(__file__).parent.parent.parent
SQL = ROOT / "sql"
MIGRATIONS = ROOT / "migrations"
Fetch = Callable[[Statements], Awaitable[list[Rows]]]
"""How a running process asks: its pool's fetch."""
LOCK = 0x636C61696D73
"""The advisory lock that one schema step holds: "claims" in ASCII."""


def _state_files() -> Iterator[Path]:
    """Files that are applied as a whole after the migrations, in this order. What a file refers to while it runs comes before it."""
    yield SQL / "deploy" / "drop_functions.sql"
    for folder in ("platform", "functions", "triggers"):
        yield from sorted((SQL / folder).glob("*.sql"))
    yield SQL / "deploy" / "set_function_owners.sql"
    yield SQL / "deploy" / "queue.sql"
    yield from sorted((SQL / "policies").glob("*.sql"))


def digest() -> str:
    """One digest of every file that the schema is made from."""
    whole = hashlib.sha256()
    made_from = [SQL / "deploy" / "roles.sql", SQL / "deploy" / "schema_admin.sql", *_state_files()]
    for path in [*sorted(MIGRATIONS.glob("*.sql")), *made_from, *sorted((SQL / "data").iterdir())]:
        whole.update(path.name.encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()


DIFFERENCES = """
select s.files, s.catalog = schema_admin.fingerprint(),
       to_jsonb(s) ->> 'cluster' = (select c.system_identifier::text from pg_control_system() c)
from schema_admin.state s"""

BYPASSES = """
select current_setting('server_version_num')::integer, session_user::text, array_remove(array[
    case when r.rolsuper then 'is a superuser' end,
    case when r.rolbypassrls then 'has BYPASSRLS' end,
    case when pg_has_role(r.oid, 'claims_owner', 'member') then 'is a member of claims_owner' end,
    case when exists (select from unnest(array['claims_gate', 'claims_usher', 'claims_recorder', 'claims_sealer']) as definer
                      where pg_has_role(r.oid, definer, 'member'))
        then 'is a member of a definer role' end,
    case when exists (select from pg_class c where c.relowner = r.oid and c.relnamespace = 'app'::regnamespace)
        then 'owns a table' end], null)
from pg_roles r
where r.rolname = session_user"""


NEVER_APPLIED = (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedFunction)
BY_HAND = "tables, policies, grants, functions, roles or settings were changed by hand"


async def differences(fetch: Fetch) -> list[str]:
    """How the database differs from this code; empty when it does not."""
    try:
        (rows,) = await fetch([(DIFFERENCES, {})])
    except NEVER_APPLIED:
        rows = []
    return _compare(rows[0] if rows else None)


def _compare(row: tuple[Any, ...] | None) -> list[str]:
    if row is None:
        return ["the schema was never applied"]
    found = [] if row[0] == digest() else ["it was made from other files"]
    found += [] if row[1] else [BY_HAND]
    return found + ([] if row[2] else ["it came here from another server"])


async def refuse_unsafe(fetch: Fetch) -> None:
    """Raises Unsafe unless the schema is as expected and the login can't get around row-level security.

    A server that lacks security fixes is only warned about.
    """
    (((version, login, bypasses),),) = await fetch([(BYPASSES, {})])
    look_at(version)
    if found := await differences(fetch):
        raise Unsafe(f"schema: {'; '.join(found)}. Run `make check`, which names changes by hand, then `make schema`.")
    if bypasses:
        raise Unsafe(f"login: {login} {' and '.join(bypasses)}. Log in as claims_api or claims_worker.")


@contextmanager
def _admin(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """An administrator's connection that holds the lock: two schema steps at once run one after the other."""
    assert settings.database_url
    with psycopg.connect(settings.database_url, autocommit=True, application_name="claims-schema") as connection:
        look_at(connection.info.server_version)
        connection.execute("select pg_advisory_lock(%s)", [LOCK])
        yield connection


def check(settings: Settings) -> list[str]:
    """How the database differs from this code, with each fact that was changed by hand; empty when it does not."""
    with _admin(settings) as connection:
        unknown = _unknown_keys(connection, settings)  # each can sign contexts
        found = _differences(connection) + [f"ctx.keys: {kid} is none of TOKEN_KEYS" for kid in unknown]
        if BY_HAND not in found:
            return found
        try:
            row = connection.execute(APPLIED_AND_NOW).fetchone()
        except NEVER_APPLIED:  # an earlier version applied the schema, and stored no facts
            return found
        named = name_changes(*row) if row else []
        return [line for one in found for line in (named if one == BY_HAND and named else [one])]


def _unknown_keys(connection: psycopg.Connection[Any], settings: Settings) -> list[str]:
    """Names of keys in ctx.keys that TOKEN_KEYS lack or have with another secret; empty where no TOKEN_KEYS are given."""
    given = {kid: pads(key) for kid, key in settings.context_keys().items()}
    if not given:
        return []
    try:
        rows = connection.execute("select kid, inner_pad, outer_pad from ctx.keys where kid <> 'self' order by kid")
    except NEVER_APPLIED:
        return []
    return [kid for kid, *halves in rows if given.get(kid) != tuple(halves)]


def _differences(connection: psycopg.Connection[Any]) -> list[str]:
    try:
        return _compare(connection.execute(DIFFERENCES).fetchone())
    except NEVER_APPLIED:
        return _compare(None)


def apply(settings: Settings) -> None:
    """Makes the database what this code expects; does nothing where it is so already.

    Raises Unsafe where running processes sign with a key that TOKEN_KEYS no longer has, unless settings.force.
    """
    with _admin(settings) as connection:
        if not settings.force:
            _refuse_lockout(connection, settings)
        if _differences(connection):
            _run(connection, SQL / "deploy" / "roles.sql")
            connection.execute("set role claims_owner")
            _run(connection, SQL / "deploy" / "schema_admin.sql")
            migrate(settings)
            connection.execute("set search_path = procrastinate")
            if connection.execute("select to_regclass('procrastinate_jobs')").fetchone() == (None,):
                connection.execute(SchemaManager.get_schema().encode())
            connection.execute("reset role")
            _rules(connection)
        _passwords(connection, settings)
        _context_keys(connection, settings)


def _run(connection: psycopg.Connection[Any], path: Path) -> None:
    try:
        connection.execute(path.read_bytes())
    except psycopg.Error as error:
        error.add_note(str(path.relative_to(ROOT)))
        raise


def _rules(connection: psycopg.Connection[Any]) -> None:
    """Functions, policies, grants and reference data in one transaction: no request sees a table between two states.

    As the administrator for the ownership of the definer functions; what they create belongs to claims_owner afterwards.
    """
    with connection.transaction():
        connection.execute(
            "set local lock_timeout = '10s'; set local search_path = app; set local check_function_bodies = off"
        )
        for path in _state_files():
            _run(connection, path)
        _transitions(connection)
        load_diagnosis_codes(connection)
        connection.execute(
            "insert into schema_admin.state (files, catalog) values (%s, '') on conflict (one) "
            "do update set files = excluded.files, applied_at = excluded.applied_at",
            [digest()],
        )
        connection.execute("select schema_admin.note_cluster()")  # changes a default, so the facts come after it
        connection.execute("select schema_admin.note_facts()")


def _transitions(connection: psycopg.Connection[Any]) -> None:
    header, *lines = (SQL / "data" / "claim-transitions.csv").read_text().splitlines()
    roles = header.split(",")[2:-1]
    connection.execute("delete from claim_transitions")
    with connection.cursor().copy("copy claim_transitions from stdin") as copy:
        for line in lines:
            old, new, *scopes, requires = line.split(",")
            for role, scope in zip(roles, scopes, strict=True):
                if scope != "no":
                    copy.write_row((old, new, role, scope, requires or None))


def load_diagnosis_codes(connection: psycopg.Connection[Any]) -> None:
    """The shipped release, unless it is loaded already."""
    if connection.execute("select exists (select from app.diagnosis_codes)").fetchone() == (True,):
        return
    text = lzma.decompress((SQL / "data" / "icd10cm-2026-04.tsv.xz").read_bytes())
    with connection.cursor().copy("copy app.diagnosis_codes (code, billable, description) from stdin") as copy:
        copy.write(text)
    connection.execute("analyze app.diagnosis_codes")


def _passwords(connection: psycopg.Connection[Any], settings: Settings) -> None:
    """The logins get the passwords that their URLs carry, hashed here: the server's log never sees one."""
    for url in (settings.api_database_url, settings.worker_database_url):
        parts = conninfo_to_dict(url or "")
        if parts.get("password"):
            user, password = str(parts["user"]), str(parts["password"])
            hashed = connection.pgconn.encrypt_password(password.encode(), user.encode(), b"scram-sha-256").decode()
            connection.execute(
                psycopg.sql.SQL("alter role {} password {}").format(psycopg.sql.Identifier(user), hashed)
            )


SIGNING = """
select distinct substr(a.application_name, 12) from pg_stat_activity a
where a.datname = current_database() and a.usename = 'claims_api' and a.application_name ~ '^claims-api [A-Za-z0-9_-]+$'"""
"""The keys that running processes sign with, by their names' first characters."""
NAMED = 63 - len("claims-api ")
"""Characters: PostgreSQL cuts application_name at 63 bytes."""


def _refuse_lockout(connection: psycopg.Connection[Any], settings: Settings) -> None:
    """Raises Unsafe where TOKEN_KEYS lack a key that an API process signs with, or have another secret under its name."""
    in_use = {name for (name,) in connection.execute(SIGNING)}
    lost = [kid for kid in _unknown_keys(connection, settings) if kid[:NAMED] in in_use]
    if lost:
        raise Unsafe(
            f"keys: running API processes sign with {', '.join(lost)}, which TOKEN_KEYS lack or have with another secret: every request "
            "would be refused. List it, restart them with another key first, then take it out; or FORCE=1."
        )


def _context_keys(connection: psycopg.Connection[Any], settings: Settings) -> None:
    """What contexts are signed with: the database's own key, made once, and those of the API, where this step is told them."""
    given = settings.context_keys()
    insert = "insert into ctx.keys values (%s, %s, %s) on conflict (kid) do "
    connection.execute(insert + "nothing", ("self", *pads(os.urandom(32))))
    if given:
        connection.execute("delete from ctx.keys where kid <> 'self' and kid <> all (%s)", [list(given)])
    for kid, key in given.items():
        connection.execute(
            insert + "update set inner_pad = excluded.inner_pad, outer_pad = excluded.outer_pad", (kid, *pads(key))
        )


def migrate(settings: Settings, *, down: bool = False) -> None:
    """Applies every migration not yet applied, as claims_owner; down: rolls all of them back."""
    with get_backend(_yoyo_url(settings)) as backend:
        migrations = read_migrations(str(MIGRATIONS))
        with backend.lock():
            if down:
                backend.rollback_migrations(backend.to_rollback(migrations))
            else:
                backend.apply_migrations(backend.to_apply(migrations))
        if not down and (left := [one.id for one in backend.to_apply(migrations)]):
            raise Unsafe(f"migrations not applied: {', '.join(left)}")


def _yoyo_url(settings: Settings) -> str:
    parts = {
        key: str(value) for key, value in conninfo_to_dict(settings.database_url or "").items() if value is not None
    }
    user, password, name = parts.pop("user", "postgres"), parts.pop("password", ""), parts.pop("dbname", "postgres")
    parts |= {"options": "-c role=claims_owner -c row_security=off", "schema": "schema_admin"}
    login = quote(user, safe="") + (":" + quote(password, safe="") if password else "")
    return f"postgresql+psycopg://{login}@/{quote(name, safe='')}?{urlencode(parts)}"


def main(arguments: list[str]) -> int:
    """The exit code: 0 when the schema is as expected, 1 when --check found differences, 2 when there is no going on."""
    settings = read_settings(need=("database_url",))
    try:
        if arguments == ["--check"]:
            found = check(settings)
            print("\n".join(found) or "the schema is as expected")
            return 1 if found else 0
        apply(settings)
    except Unsafe as error:
        print(error, file=sys.stderr)
        return 2
    except psycopg.OperationalError as error:
        if error.sqlstate:  # of a statement, not of the connection
            raise
        print(f"schema: the database {why_refused(error)}", file=sys.stderr)
        return 2
    print("the schema is applied")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
