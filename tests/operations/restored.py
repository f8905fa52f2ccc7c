"""Databases of version 0033 on a server of their own, restored from a dump (data/README.md)."""

import lzma
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from app.config import Settings
from app.database.server_version import UnsafeDatabase
from app.dev.postgres import binaries
from app.operations import migrate
from tests.operations.catalog import contents, old_names
from tests.support.databases import settings_for, url_for

DUMP = Path(__file__).parent / "data" / "version-0033.sql.xz"
ON_THIS_SERVER = "update schema_admin.state set cluster = (select c.system_identifier::text from pg_control_system() c)"
TRANSACTIONS = "select max(written_by) < pg_current_xact_id() from app.audit_logs"


@contextmanager
def connected(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """The administrator's connection."""
    with psycopg.connect(settings.database_url, autocommit=True, options="-c search_path=app,public") as connection:
        yield connection


def create(server: str, name: str, template: str = "template0") -> Settings:
    """A database of that name."""
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"create database {name} template {template} strategy file_copy")
    return settings_for(server, name)


def restore(server: str, name: str, *, roles: bool) -> Settings:
    """Restores the dump into a database of that name. roles: those of the whole server as well."""
    options = ["-qX", "-v", "ON_ERROR_STOP=1", "-v", f"roles={roles}", "-f", "-", url_for(server, name)]
    settings = create(server, name)
    environ = os.environ | {"PGOPTIONS": ""}
    done = subprocess.run(
        [binaries() / "psql", *options], input=lzma.decompress(DUMP.read_bytes()), env=environ, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    return settings


class Upgrade:
    """A server with two databases of version 0033, one of which is upgraded."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.before = restore(server, "before", roles=True)
        self.after = restore(server, "after", roles=False)
        with connected(self.before) as old, connected(self.after) as upgraded:
            self.names_before = old_names(old)
            for one in (old, upgraded):
                one.execute(ON_THIS_SERVER)  # as if it had been written here: its transactions precede all others
                assert one.execute(TRANSACTIONS).fetchone() == (True,)
            self.contents = contents(old)
        with psycopg.connect(self.before.api_database_url or ""), pytest.raises(UnsafeDatabase) as refused:
            migrate.apply(self.after)
        self.refusal = str(refused.value)
        """The message while an API is connected to the other database of the old version."""
        migrate.apply(self.after)

    @contextmanager
    def copy(self, of: Settings) -> Iterator[Settings]:
        """A database of the test's own."""
        name = f"copy_{uuid4().hex[:12]}"
        template = psycopg.conninfo.conninfo_to_dict(of.database_url or "")["dbname"]
        settings = create(self.server, name, str(template))
        with connected(settings) as admin:
            admin.execute(f"revoke all on database {name} from public")
            admin.execute(f"grant connect on database {name} to claims_api, claims_worker, claims_auditor")
        yield settings
