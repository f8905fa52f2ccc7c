"""Backups as sql/README.md describes them, restored into another server: no row is lost, and every guard is in force."""

import os
import subprocess

import httpx
import psycopg
import pytest

from app.dev.postgres import binaries
from app.main import create_app
from app.operations import migrate
from tests.resources.test_audit_seals import verify
from tests.security.test_isolation import TABLES as TENANT_TABLES
from tests.support.cast import PASSWORD
from tests.support.databases import embedded_server, settings_for, url_for

TABLES = """
select c.oid::regclass::text from pg_class c
where c.relkind = 'r' and c.relnamespace in ('app'::regnamespace, 'auth'::regnamespace, 'procrastinate'::regnamespace)"""


def contents(connection):
    """The number of rows of each table."""
    tables = [name for (name,) in connection.execute(TABLES)]
    return {name: connection.execute(f"select count(*) from {name}").fetchone()[0] for name in tables}


@pytest.fixture
def elsewhere():
    """Another server, without any object of this project."""
    with embedded_server() as url:
        yield url


def run(program, *arguments):
    command = [str(binaries() / program), *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | {"PGOPTIONS": ""}, capture_output=True, text=True)
    assert done.returncode == 0, (command, done.stderr)


@pytest.fixture
def by_backup(settings, as_root):
    """The URL of a login that may read everything, created as sql/README.md describes."""
    as_root.execute("create role claims_backup login bypassrls in role pg_read_all_data")
    as_root.execute(
        "do $$ begin execute format('grant connect on database %I to claims_backup', current_database()); end $$"
    )
    yield url_for(settings.database_url, as_root.info.dbname, "claims_backup")
    as_root.execute("drop owned by claims_backup; drop role claims_backup")


async def test_a_backup_is_whole_without_the_administrator(settings, as_root, cast, elsewhere, tmp_path, by_backup):
    run("pg_dumpall", "--roles-only", "--no-role-passwords", "-d", by_backup, "-f", tmp_path / "roles.sql")
    run("pg_dump", "-Fc", "--exclude-table-data=context.keys", "-f", tmp_path / "claims.dump", by_backup)
    assert b"claims_auth_definer" in (tmp_path / "roles.sql").read_bytes()

    with psycopg.connect(elsewhere, autocommit=True) as admin:
        admin.execute("create database restored")
    there = settings_for(elsewhere, "restored")
    # Roles belong to the whole server: those that exist already are no fault.
    subprocess.run(
        [binaries() / "psql", "-qX", elsewhere, "-f", tmp_path / "roles.sql"], capture_output=True, check=True
    )
    run("pg_restore", "-d", there.database_url, "--exit-on-error", tmp_path / "claims.dump")
    with psycopg.connect(there.database_url, autocommit=True, options="-c search_path=app") as restored:
        assert contents(restored) == contents(as_root)
        assert min(contents(restored)[name] for name in TENANT_TABLES) > 0  # control
        assert restored.execute("select count(*) from context.keys").fetchone() == (0,)  # no secret was in the dump
        # Until the schema step has run, no process starts.
        assert "it was copied from another server" in migrate.check(there)
        migrate.apply(there)
        assert migrate.check(there) == []
        assert verify(restored) == []
        restored.execute("update patients set first_name = 'restored'")
        assert verify(restored) == []  # transaction ids start anew: a new cluster epoch began
        app = create_app(there)
        async with app.lifespan():
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                login = {"email": "alma@north.test", "password": PASSWORD}
                token = (await client.post("/api/auth/login", json=login)).json()["data"]["accessToken"]
                claims = await client.get("/api/claims", headers={"Authorization": f"Bearer {token}"})
                assert len(claims.json()["data"]) == 2


def test_a_login_under_row_level_security_cannot_make_a_backup(settings, tmp_path):
    command = [binaries() / "pg_dump", "-Fc", "-f", tmp_path / "part.dump", settings.api_database_url]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "permission denied" in done.stderr
