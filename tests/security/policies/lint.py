"""`python -m tests.security.policies.lint`: pgrls over a fresh database. Fails if it finds something.

First the rules (pgrls.toml), then the proof that no tenant reads or writes another's rows. TEST_DATABASE_URL names a server to
use instead of an embedded one, as an administrator.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

import psycopg
from click.testing import CliRunner
from pgrls.cli import main as pgrls
from pgrls.config import load_config
from pgrls.introspect import introspect
from pgrls.model import Schema
from pgrls.verify import build_verification, render_text
from psycopg.conninfo import make_conninfo

from app.config import Settings
from app.database.schema_files import ROOT
from app.dev.postgres import Embedded
from app.operations import migrate
from tests.security.policies.rules import tenant_policy, written_out

CONFIG_FILE = ROOT / "pgrls.toml"
CONFIG = load_config(CONFIG_FILE)
IDENTITY = frozenset(CONFIG.rule_options["SEC021"]["identity_columns"])
SHARED = frozenset(CONFIG.rule_options["OUR_SEC007"]["allowlist"])
"""The tables of the schema app that need no tenant policy."""


def read_written_out(connection: psycopg.Connection[Any], schemas: list[str]) -> Schema:
    return written_out(introspect(connection, schemas))


def read_schema(url: str) -> Schema:
    """The schema as pgrls reads it."""
    with psycopg.connect(url) as connection:
        return read_written_out(connection, CONFIG.schemas)


def lint(url: str) -> tuple[bool, str]:
    """Whether pgrls has no finding, and its output."""
    with mock.patch("pgrls.cli.introspect", read_written_out):
        run = CliRunner().invoke(pgrls, ["lint", "--config", str(CONFIG_FILE), "--database-url", url])
    return run.exit_code == 0, run.output


def verify(url: str) -> tuple[bool, str]:
    """Whether every tenant table is proven to be isolated, and pgrls's verdicts if one is not.

    pgrls searches the tenant in each permissive policy, and considers the tenant policy only if it found one there. Ours do not
    name the tenant, on purpose. So the proof covers the tenant policy alone, as if it were permissive: no permissive policy,
    present or future, allows more. A table without a tenant policy is proven with its own policies.
    """
    found = read_schema(url)
    tables = tuple(
        replace(
            table,
            policies=(replace(tenant_policy(table), permissive=True),) if tenant_policy(table) else table.policies,
        )
        for table in found.tables
        if table.schema == "app" and table.qualified_name not in SHARED
    )
    output, whole = [], bool(tables)
    for mode in ("cross-tenant", "write", "anon"):
        verdicts = build_verification(replace(found, tables=tables), mode=mode, identity_columns=IDENTITY)
        # pgrls leaves out a table without row-level security.
        proven = [one for one in verdicts.tables if one.verdict == "isolated"]
        if len(proven) < len(tables):
            whole = False
            output.append(render_text(verdicts))
        output.append(f"pgrls verify, {mode}: {len(proven)} of {len(tables)} tenant tables PROVEN")
    return whole, "\n".join(output)


@contextmanager
def fresh_database() -> Iterator[str]:
    """An administrator's URL of a database after the schema step."""
    with tempfile.TemporaryDirectory(prefix="claims-lint-") as folder:
        Path(folder).chmod(0o711)
        given = os.environ.get("TEST_DATABASE_URL")
        server = None if given else Embedded(Path(folder) / "postgres", durable=False).start()
        name = f"claims_lint_{uuid4().hex[:8]}"
        try:
            with psycopg.connect(given or server.url(), autocommit=True) as admin:
                admin.execute(f"create database {name}")
                try:
                    # Roles belong to the whole server, and another process may be creating them.
                    admin.execute("select pg_advisory_lock(%s)", [migrate.LOCK])
                    url = make_conninfo(given, dbname=name) if given else server.url(name)
                    migrate.apply(Settings(database_url=url))
                    admin.execute("select pg_advisory_unlock(%s)", [migrate.LOCK])
                    yield url
                finally:
                    admin.execute(f"drop database {name} with (force)")
        finally:
            if server:
                server.stop("immediate")


def main() -> int:
    """The exit code: 0 if pgrls finds nothing and proves every tenant table."""
    with fresh_database() as url:
        results = [lint(url), verify(url)]
    print("\n".join(output.rstrip() for _, output in results))
    return 0 if all(good for good, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
