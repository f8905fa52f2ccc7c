"""The schema step: up, down, up; twice is once; a database that differs is refused."""

import subprocess
import sys
from dataclasses import dataclass

import msgspec
import psycopg
import pytest

from app import schema
from app.config import read_settings

DUMP = """
select string_agg(fact, e'\n' order by fact) from (
    select format('%s %s %s %s %s', table_name, column_name, data_type, is_nullable, column_default) as fact
    from information_schema.columns where table_schema in ('app', 'auth')
    union all select pg_get_constraintdef(oid) from pg_constraint where connamespace in ('app'::regnamespace, 'auth'::regnamespace)
    union all select indexdef from pg_indexes where schemaname in ('app', 'auth')
) as facts"""


@pytest.fixture
def empty(settings, as_root):
    """A database with nothing in it."""
    name = f"empty_{settings.database_url[-60:].split('?')[0][-8:]}"
    as_root.execute(f'create database "{name}" template template0')
    from tests.conftest import settings_for

    yield settings_for(settings.database_url, name)
    as_root.execute(f'drop database "{name}" with (force)')


def test_up_down_up(empty):
    schema.apply(empty)
    with psycopg.connect(empty.database_url, autocommit=True) as admin:
        first = admin.execute(DUMP).fetchone()
        admin.execute("drop schema app cascade; drop schema auth cascade; drop schema ctx cascade")
        admin.execute((schema.SQL / "roles.sql").read_bytes())
        admin.execute("delete from schema_admin._yoyo_migration")
        schema.migrate(empty)
        up = admin.execute(DUMP).fetchone()
        schema.migrate(empty, down=True)
        tables = "select count(*) from pg_class where relkind = 'r' and relnamespace in ('app'::regnamespace, 'auth'::regnamespace)"
        assert admin.execute(tables).fetchone() == (0,)
        schema.migrate(empty)
        assert admin.execute(DUMP).fetchone() == up == first


def test_twice_is_once(settings, as_root):
    before = as_root.execute("select applied_at, schema_admin.fingerprint() from schema_admin.state").fetchone()
    schema.apply(settings)
    assert as_root.execute("select applied_at, schema_admin.fingerprint() from schema_admin.state").fetchone() == before


@pytest.mark.parametrize("fault", [
    "alter table claims no force row level security",
    "drop policy claims_tenant on claims",
    "grant delete on claims to claims_admin",
    "grant update (organization_id) on claims to claims_admin",
    "create or replace function app.icd10(code text) returns text language sql immutable return code",
    "alter function ctx.enter reset search_path",
    "drop trigger claims_10_move on claims",
    "alter table claims drop constraint claims_amount_check",
])  # fmt: skip
def test_a_change_by_hand_is_found_and_mended(settings, as_root, fault):
    assert schema.check(settings) == []
    as_root.execute(fault)
    assert schema.check(settings) == ["tables, policies, grants or functions were changed by hand"]


def test_a_function_that_no_file_makes_any_more_goes(settings, as_root):
    count = "select count(*) from pg_proc where pronamespace in ('app'::regnamespace, 'auth'::regnamespace, 'ctx'::regnamespace)"
    before = as_root.execute(count).fetchone()
    as_root.execute("create function ctx.enter(uuid, uuid) returns text language sql return 'claims_admin'")
    as_root.execute("update schema_admin.state set files = 'of yesterday'")
    schema.apply(settings)
    assert as_root.execute("select to_regprocedure('ctx.enter(uuid, uuid)')").fetchone() == (None,)
    assert as_root.execute(count).fetchone() == before  # control: all others stand, those of migrations too
    assert schema.check(settings) == []


@dataclass
class Process:
    status: int
    output: str


def start(module: list[str], **environ: str) -> Process:
    done = subprocess.run([sys.executable, "-m", *module], env=environ, capture_output=True, text=True, timeout=30)
    return Process(done.returncode, done.stdout + done.stderr)


KEYS = "k:" + "x" * 32


def test_the_api_refuses_a_login_that_could_bypass(settings):
    done = start(["app"], API_DATABASE_URL=settings.database_url, TOKEN_KEYS=KEYS, PORT="8377")
    assert done.status != 0
    assert "is a superuser" in done.output


def test_the_worker_refuses_a_login_that_could_bypass(settings):
    done = start(["procrastinate", "worker"], WORKER_DATABASE_URL=settings.database_url, PROCRASTINATE_APP="jobs.app")
    assert done.status != 0
    assert "is a superuser" in done.output


def test_api_and_worker_refuse_another_schema(settings, as_root):
    as_root.execute("drop policy claims_tenant on claims")
    api = start(["app"], API_DATABASE_URL=settings.api_database_url, TOKEN_KEYS=KEYS, PORT="8377")
    worker = start(
        ["procrastinate", "worker"], WORKER_DATABASE_URL=settings.worker_database_url, PROCRASTINATE_APP="jobs.app"
    )
    for done in (api, worker):
        assert done.status != 0
        assert "changed by hand" in done.output


def test_every_wrong_setting_is_named_at_once(capsys):
    with pytest.raises(SystemExit) as caught:
        read_settings(
            {"PORT": "http", "TOKEN_KEYS": "k:short", "API_DATABASE_URL": "mysql://x"}, need=("worker_database_url",)
        )
    message = capsys.readouterr().err
    assert caught.value.code == 2
    assert all(name in message for name in ("PORT", "TOKEN_KEYS", "API_DATABASE_URL", "WORKER_DATABASE_URL"))
    assert "short" not in message


def test_the_example_secret_is_refused_in_production():
    example = {"TOKEN_KEYS": "k:change-me-change-me-change-me-change-me"}
    assert msgspec.structs.asdict(read_settings(example))["token_keys"]  # control: fine for development
    with pytest.raises(SystemExit):
        read_settings(example | {"ENVIRONMENT": "production"})
