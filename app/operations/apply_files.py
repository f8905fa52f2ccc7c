"""Applies the files of the schema that differ from those applied last, while processes of the previous version run.

Each transaction locks few objects, waits for locks only briefly, and is repeated. A waiting lock of the schema step would otherwise
block every request behind it.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from psycopg.errors import DeadlockDetected, InvalidFunctionDefinition, LockNotAvailable

from app.backoff import Backoff
from app.database.schema_files import ROOT, file_digest, function_files, table_files
from app.database.server_version import UnsafeDatabase
from app.operations.reference_data import LOADERS

Connection = psycopg.Connection[Any]

LOCK_TIMEOUT_MS = 300
"""Requests queue behind a lock that waits. It is less than deadlock_timeout, so that in a deadlock never the request fails."""
RETRY_FOR_S = 60.0
BLOCKERS = """
select string_agg(format('%s (pid %s, for %s)', coalesce(nullif(application_name, ''), usename), pid,
                         date_trunc('second', clock_timestamp() - xact_start)), ', ' order by xact_start)
from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and xact_start < clock_timestamp() - interval '1 s'"""
"""Transactions that are older than a second: one of them has the lock."""


def retry_locks(connection: Connection, what: str, step: Callable[[], None]) -> None:
    """Runs the step, a transaction or several, until it gets its locks. Raises UnsafeDatabase if it does not within RETRY_FOR_S."""
    backoff, ends_at = Backoff(0.05, 2.0), time.monotonic() + RETRY_FOR_S
    while True:
        try:
            return step()
        except (LockNotAvailable, DeadlockDetected):
            if time.monotonic() > ends_at:
                row = connection.execute(BLOCKERS).fetchone()
                raise UnsafeDatabase(
                    f"{what}: could not lock its table for {RETRY_FOR_S:.0f} s. Transactions that run: {(row and row[0]) or 'none'}. "
                    "What was applied remains; run `make schema` again."
                ) from None
            time.sleep(backoff.next_wait_s())


def run_file(connection: Connection, path: Path) -> None:
    """Runs all statements of the file. A failure names the file."""
    try:
        connection.execute(path.read_bytes())
    except psycopg.Error as error:
        error.add_note(_name(path))
        raise


class AppliedFiles:
    """The files that this database has, by schema_admin.applied_files. all_differ: treats each file as one that differs."""

    def __init__(self, connection: Connection, *, all_differ: bool) -> None:
        self._connection = connection
        table = connection.execute("select to_regclass('schema_admin.applied_files')").fetchone()
        self.all_differ = all_differ or table == (None,)
        self._digests: dict[str, str] = {}
        self._functions: dict[str, list[str]] = {}
        if not self.all_differ:
            for path, digest, functions in connection.execute(
                "select path, digest, functions from schema_admin.applied_files"
            ):
                self._digests[path] = digest
                self._functions[path] = functions

    def differs(self, path: Path) -> bool:
        """Whether the file is not the one that was applied last."""
        return self._digests.get(_name(path)) != file_digest(path)

    def differing(self, paths: Sequence[Path]) -> list[Path]:
        """Those of the files that differ, in order."""
        return [path for path in paths if self.differs(path)]

    def to_apply(self, paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
        """Those of the files of functions to apply, in order, and the functions to reset before.

        Besides those that differ, they are the files that grant or define a function of a differing file: resetting the function removes
        their grants too. The functions of files that exist no more are also reset.
        """
        names = {_name(path) for path in paths}
        chosen = {_name(path) for path in self.differing(paths)} | (self._functions.keys() - names)
        functions: set[str] = set()
        while True:
            functions.update(*(self._functions.get(name, []) for name in chosen))
            sharing = {
                name for name, own in self._functions.items() if name not in chosen and not functions.isdisjoint(own)
            }
            if not sharing:
                return [path for path in paths if _name(path) in chosen], sorted(functions)
            chosen |= sharing

    def record(self, path: Path, functions: Sequence[str] = ()) -> None:
        """Records that the file was applied, in the current transaction."""
        self._connection.execute(
            "insert into schema_admin.applied_files (path, digest, functions) values (%s, %s, %s) on conflict (path) "
            "do update set digest = excluded.digest, functions = excluded.functions",
            [_name(path), file_digest(path), list(functions)],
        )


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def apply_files(connection: Connection, applied: AppliedFiles) -> None:
    """Applies the files of functions, triggers, policies and data that differ. Runs as the administrator.

    Afterwards every function belongs to claims_owner or to the definer role that its file names.
    """
    connection.execute("set search_path = app; set check_function_bodies = off")
    retry_locks(connection, "functions", partial(_apply_functions, connection, applied))
    for path in applied.differing(table_files()):
        retry_locks(connection, _name(path), partial(_apply_table_file, connection, applied, path))
    for path, load in LOADERS.items():
        if applied.differs(path):
            with connection.transaction():
                load(connection)
                applied.record(path)
    retry_locks(connection, "functions", partial(_drop_undefined, connection))


def _apply_functions(connection: Connection, applied: AppliedFiles) -> None:
    """Applies all differing files of functions in one transaction, because functions of different files call each other."""
    paths, functions = applied.to_apply(function_files())
    if not paths and not functions:
        return
    with connection.transaction():
        if applied.all_differ:
            connection.execute("select schema_admin.drop_functions()")
        connection.execute(
            "select schema_admin.reset_functions(%s::text[])", [None if applied.all_differ else functions]
        )
        for path in paths:
            applied.record(path, _run_functions(connection, path))
        connection.execute("select schema_admin.adopt_functions()")


def _run_functions(connection: Connection, path: Path) -> list[str]:
    """Runs a file of functions; returns those that it defines or grants.

    PostgreSQL can't replace a function by one with another result or other names of parameters. Such functions are dropped first.
    """
    before = _functions(connection)
    try:
        with connection.transaction():
            run_file(connection, path)
    except InvalidFunctionDefinition:
        connection.execute(
            "select schema_admin.drop_functions(array("
            "select unnest(functions) from schema_admin.applied_files where path = %s union "
            "select f.name from schema_admin.functions() f where not exists ("
            "select from schema_admin.applied_files a where f.name = any (a.functions))))",
            [_name(path)],
        )
        before = _functions(connection)
        run_file(connection, path)
    return [name for name, place in _functions(connection).items() if before.get(name) != place]


def _functions(connection: Connection) -> dict[str, str]:
    return dict(connection.execute("select name, place::text from schema_admin.functions()").fetchall())


def _apply_table_file(connection: Connection, applied: AppliedFiles, path: Path) -> None:
    with connection.transaction():
        run_file(connection, path)
        applied.record(path)


def _drop_undefined(connection: Connection) -> None:
    """Drops functions that no file defines, once no trigger and no policy needs them. Forgets files that exist no more."""
    paths = [_name(path) for path in [*function_files(), *table_files()]]
    with connection.transaction():
        connection.execute(
            "delete from schema_admin.applied_files where path like 'sql/%%/%%.sql' and path not like 'sql/deploy/%%' "
            "and path <> all (%s)",
            [paths],
        )
        connection.execute("select schema_admin.drop_functions()")
