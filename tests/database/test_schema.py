"""The schema step: up, down, up; a second run changes nothing; a database that differs is refused."""

import subprocess
import sys
from dataclasses import dataclass

import msgspec
import psycopg
import pytest

from app.config import read_settings
from app.database import schema_files
from app.database.schema_files import SQL
from app.operations import migrate
from app.operations.catalog_diff import APPLIED_AND_NOW, MAX_LINES, name_changes
from tests.support.databases import settings_for

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
    yield settings_for(settings.database_url, name)
    as_root.execute(f'drop database "{name}" with (force)')


def test_up_down_up(empty):
    migrate.apply(empty)
    with psycopg.connect(empty.database_url, autocommit=True) as admin:
        first = admin.execute(DUMP).fetchone()
        admin.execute("drop schema app cascade; drop schema auth cascade; drop schema context cascade")
        admin.execute((SQL / "deploy" / "roles.sql").read_bytes())
        admin.execute("delete from schema_admin._yoyo_migration")
        migrate.migrate(empty)
        up = admin.execute(DUMP).fetchone()
        migrate.migrate(empty, down=True)
        tables = "select count(*) from pg_class where relkind = 'r' and relnamespace in ('app'::regnamespace, 'auth'::regnamespace)"
        assert admin.execute(tables).fetchone() == (0,)
        migrate.migrate(empty)
        assert admin.execute(DUMP).fetchone() == up == first


def test_a_second_run_changes_nothing(settings, as_root):
    before = as_root.execute("select applied_at, schema_admin.fingerprint() from schema_admin.state").fetchone()
    migrate.apply(settings)
    assert as_root.execute("select applied_at, schema_admin.fingerprint() from schema_admin.state").fetchone() == before


@pytest.mark.parametrize("fault", [
    "alter table claims no force row level security",
    "drop policy claims_tenant on claims",
    "grant delete on claims to claims_admin",
    "grant update (organization_id) on claims to claims_admin",
    "create or replace function app.icd10(code text) returns text language sql immutable return code",
    "alter function context.begin_request reset search_path",
    "drop trigger claims_10_transition on claims",
    "alter table claims drop constraint claims_amount_check",
])  # fmt: skip
def test_a_change_by_hand_is_found_and_repaired(settings, as_root, fault):
    assert migrate.check(settings) == []
    as_root.execute(fault)
    assert migrate.check(settings)[0].startswith("changed by hand: ")


DATABASE = "do $$ begin execute format('alter database %I {}', current_database()); end $$"
ON_DATABASE = "do $$ begin execute format('grant {}', current_database()); end $$"
BY_HAND = [
    ("grant delete on claims to claims_admin", "grant on table app.claims to claims_admin",
     "select", "delete, select"),
    ("grant update (organization_id) on claims to claims_admin", "grant on column app.claims.organization_id to claims_admin",
     "missing", "update"),
    ("grant create on schema app to claims_api", "grant on schema app to claims_api", "usage", "create, usage"),
    ("grant execute on function app.uuid7 to public", "grant on function app.uuid7() to PUBLIC", "missing", "execute"),
    ("grant execute on function pg_ls_dir(text) to claims_api", "grant on function pg_ls_dir(text) to claims_api",
     "missing", "execute"),
    ("grant usage on language sql to claims_api with grant option", "grant on language sql to claims_api",
     "missing", "usage with grant option"),
    (ON_DATABASE.format("temporary on database %I to claims_api"), "grant on database to claims_api", "missing", "temporary"),
    (ON_DATABASE.format("connect on database %I to public"), "grant on database to PUBLIC", "missing", "connect"),
    ("alter default privileges for role claims_owner in schema app grant select on tables to claims_api",
     "grant on default privileges of claims_owner on tables in app to claims_api", "missing", "select"),
    ("alter policy claims_tenant on claims using (true)", "policy app.claims.claims_tenant",
     "restrictive for all to {PUBLIC} using (organization_id", "restrictive for all to {PUBLIC} using true"),
    ("drop policy claims_tenant on claims", "policy app.claims.claims_tenant", "restrictive for all", "missing"),
    ("create or replace function app.icd10(code text) returns text language sql immutable return code",
     "function app.icd10(text)", "owner claims_owner, sql", "owner claims_owner, sql"),
    ("alter function app.uuid7 leakproof", "function app.uuid7()", "owner claims_owner", "owner claims_owner"),
    ("alter table claims add extra text", "column app.claims.extra", "missing", "text"),
    ("alter table claims alter notes set default 'none'", "column app.claims.notes", "text", "text default 'none'"),
    ("alter table claims alter amount_cents drop not null", "column app.claims.amount_cents", "bigint not null", "bigint"),
    ("alter table claims no force row level security", "table app.claims", "kind r", "kind r"),
    ("alter table claims disable trigger claims_10_transition", "trigger app.claims.claims_10_transition", "O CREATE", "D CREATE"),
    ("create rule extra as on delete to claims do instead nothing", "rule app.claims.extra", "missing", "O CREATE RULE extra"),
    ("drop index app.claims_newest", "index app.claims_newest", "CREATE INDEX", "missing"),
    ("alter table claims drop constraint claims_amount_check", "constraint app.claims.claims_amount_check", "CHECK", "missing"),
    ("create publication extra for all tables", "publication extra", "missing", "all tables"),
    ("create publication extra for table claims", "publication extra of table app.claims", "missing", "rows"),
    ("create publication extra for tables in schema app", "publication extra of schema app", "missing", "all tables"),
    (DATABASE.format("set row_security = off"), "setting row_security of this database", "missing", "off"),
    (DATABASE.format("set app.role = admin"), "setting app.role of this database", "missing", "admin"),
    (DATABASE.format("set row_security = off").replace("alter database", "alter role claims_api in database"),
     "setting row_security of role claims_api in this database", "missing", "off"),
    ("alter role claims_auth_definer bypassrls createdb", "role claims_auth_definer", "inherit", "inherit bypassrls createdb"),
    ("alter role claims_auditor replication createrole inherit", "role claims_auditor", "login",
     "login inherit replication createrole"),
    ("alter role claims_owner login superuser", "role claims_owner", "inherit", "login inherit superuser"),
    ("grant claims_auth_definer to claims_admin", "membership of claims_admin in claims_auth_definer",
     "missing", "inherits, may become it"),
    ("grant pg_read_all_data to claims_api with admin option", "membership of claims_api in pg_read_all_data",
     "missing", "may become it, may grant it"),
    ("revoke claims_system from claims_worker", "membership of claims_worker in claims_system", "may become it", "missing"),
    ("alter role claims_api set statement_timeout = 0", "setting statement_timeout of role claims_api", "5s", "0"),
    ("alter role claims_admin set app.role = 'admin'", "setting app.role of role claims_admin", "missing", "admin"),
    ("alter function context.verify_proof(text, text) strict", "function context.verify_proof(text,text)",
     "owner claims_owner", "owner claims_owner"),
    ("alter function context.equal(uuid, uuid) cost 1", "function context.equal(uuid,uuid)", "owner claims_owner", "owner claims_owner"),
    ("create or replace function pg_catalog.pg_has_role(name, name, text) returns boolean language sql as 'select true'",
     "functions of pg_catalog", "3", "3"),
    ("alter function pg_catalog.textlike leakproof", "functions of pg_catalog", "3", "3"),
    ("grant select on pg_authid to public", "grant on table pg_authid to PUBLIC", "missing", "select"),
    ("create schema test_other; create table test_other.parent (organization_id uuid); alter table claims inherit test_other.parent",
     "inheritance of app.claims", "missing", "from test_other.parent"),
    ("drop event trigger claims_refuse_ddl; create event trigger claims_refuse_ddl on ddl_command_start when tag in ('GRANT') "
     "execute function schema_admin.refuse_ddl(); alter event trigger claims_refuse_ddl enable always",
     "event trigger claims_refuse_ddl", "on ddl_command_start, enabled", "on ddl_command_start for GRANT, enabled"),
    ("alter table claim_totals set unlogged", "table app.claim_totals", "kind r", "kind r"),
    ("create cast (text as uuid) with inout as implicit", "cast of text to uuid", "missing", ", context i"),
    ("create operator app.=== (leftarg = text, rightarg = text, function = pg_catalog.texteq)", "operator app.===(text,text)", "missing",
     "runs texteq"),
    ("create domain app.amount as bigint", "type app.amount", "missing", "kind d"),
    ("create subscription test_extra connection 'dbname=x' publication x with (connect = false)", "subscription test_extra", "missing",
     "enabled f"),
    ("grant set on parameter session_replication_role to claims_patient",
     "grant on parameter session_replication_role to claims_patient", "missing", "set"),
]  # fmt: skip


NOT_OURS = [
    "create role test_login login in role claims_patient; grant connect on database postgres to test_login",
    "create role test_login login in role pg_read_all_data; alter role test_login set row_security = off",
    "create role test_backup login bypassrls in role claims_admin",
    "grant set on parameter session_replication_role to public",
    DATABASE.format("set session_preload_libraries = auto_explain"),
    DATABASE.format("set auto_explain.log_min_duration = 0"),
    ON_DATABASE.format("create on database %I to claims_owner"),
    "create schema test_other; create table test_other.one (); grant all on test_other.one to public; "
    "create publication test_other for table test_other.one; create rule one as on delete to test_other.one do instead nothing",
]


def test_every_kind_of_change_by_hand_is_named(as_root):
    for change, name, was, is_ in BY_HAND:
        with as_root.transaction(force_rollback=True):  # some of them are of roles, which belong to the whole server
            as_root.execute(change)
            lines = name_changes(*as_root.execute(APPLIED_AND_NOW).fetchone())
        assert f"changed by hand: {name}" in lines, (change, lines)
        _, before, after = lines[(at := lines.index(f"changed by hand: {name}")) : at + 3]
        assert before.startswith(f"    was: {was}"), (change, before)
        assert after.startswith(f"    is:  {is_}"), (change, after)
        assert before[9:] != after[9:], change


def test_an_object_outside_the_schema_changes_no_fact(as_root):
    for change in NOT_OURS:
        with as_root.transaction(force_rollback=True):
            as_root.execute(change)
            assert name_changes(*as_root.execute(APPLIED_AND_NOW).fetchone()) == [], change


def test_check_prints_each_object_that_was_changed_by_hand(settings, as_root, monkeypatch, capsys):
    def check():
        status = migrate.main(["--check"])
        return status, capsys.readouterr().out.splitlines()

    monkeypatch.setenv("DATABASE_URL", settings.database_url)

    assert check() == (0, ["the schema is as expected"])
    as_root.execute(
        "grant delete on claims to claims_admin; alter policy users_tenant on users using (true); "
        "create or replace function app.icd10(code text) returns text language sql immutable return code; "
        "alter table patients add extra text; alter table claims disable trigger claims_10_transition; drop index claims_newest"
    )
    status, lines = check()
    assert status == 1
    assert [line.removeprefix("changed by hand: ") for line in lines if not line.startswith(" ")] == [
        "column app.patients.extra",
        "function app.icd10(text)",
        "grant on table app.claims to claims_admin",
        "index app.claims_newest",
        "policy app.users.users_tenant",
        "trigger app.claims.claims_10_transition",
    ]
    at = lines.index("changed by hand: grant on table app.claims to claims_admin")
    assert lines[at + 1 : at + 3] == ["    was: select", "    is:  delete, select"]


def test_check_prints_a_limited_number_of_lines(settings, as_root):
    as_root.execute("drop schema procrastinate cascade")
    lines = migrate.check(settings)
    assert MAX_LINES - 3 < len(lines) <= MAX_LINES
    assert lines[-1].endswith(" more changed by hand")


def test_check_and_schema_work_where_an_earlier_version_stored_no_facts(settings, as_root):
    as_root.execute(
        "drop table schema_admin.facts_applied; drop function schema_admin.facts, schema_admin.note_facts; "
        "create or replace function schema_admin.fingerprint() returns text language sql return 'of yesterday'; "
        "update schema_admin.state set files = 'of yesterday', catalog = 'of yesterday'"
    )
    assert migrate.check(settings) == ["it was applied from other files"]
    as_root.execute("update schema_admin.state set catalog = 'of another hand'")
    assert migrate.check(settings) == ["it was applied from other files", migrate.BY_HAND]
    as_root.execute("drop function schema_admin.fingerprint")
    assert migrate.check(settings) == ["the schema was never applied"]
    migrate.apply(settings)
    assert migrate.check(settings) == []
    as_root.execute("drop policy claims_tenant on claims")
    assert "changed by hand: policy app.claims.claims_tenant" in migrate.check(settings)


def test_only_claims_owner_reads_the_facts_of_the_schema_step(settings, as_root):
    for login in ("claims_api", "claims_worker", "claims_auditor"):
        with as_root.transaction(force_rollback=True):
            as_root.execute(f"set local role {login}")
            (digest,) = as_root.execute(
                "select schema_admin.fingerprint() = catalog from schema_admin.state"
            ).fetchone()
            assert digest  # control
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                as_root.execute("select from schema_admin.facts_applied")


def test_a_function_that_no_file_creates_any_more_is_dropped(settings, as_root):
    count = "select count(*) from pg_proc where pronamespace in ('app'::regnamespace, 'auth'::regnamespace, 'context'::regnamespace)"
    before = as_root.execute(count).fetchone()
    as_root.execute("create function context.begin_request(uuid, uuid) returns text language sql return 'claims_admin'")
    as_root.execute("update schema_admin.state set files = 'of yesterday'")
    migrate.apply(settings)
    assert as_root.execute("select to_regprocedure('context.begin_request(uuid, uuid)')").fetchone() == (None,)
    assert as_root.execute(count).fetchone() == before  # control: all others exist, those of migrations included
    assert migrate.check(settings) == []


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
    assert msgspec.structs.asdict(read_settings(example))["token_keys"]  # control: accepted in development
    with pytest.raises(SystemExit):
        read_settings(example | {"ENVIRONMENT": "production"})


def test_check_names_a_key_that_is_not_in_token_keys(settings, as_root):
    assert migrate.check(settings) == []
    as_root.execute("insert into context.keys values ('inserted', repeat('x', 64)::bytea, repeat('y', 64)::bytea)")
    assert migrate.check(settings) == ["context.keys: inserted is not in TOKEN_KEYS"]
    as_root.execute(
        "delete from context.keys where kid = 'inserted'; update context.keys set inner_pad = outer_pad where kid <> 'self'"
    )
    assert migrate.check(settings) == ["context.keys: test is not in TOKEN_KEYS"]


def test_a_function_that_cannot_be_dropped_loses_its_owner_and_its_grants(settings, as_root):
    """Policies, triggers and defaults prevent the drop of their functions; an earlier version may have granted them to others."""
    before = [fact for (fact,) in as_root.execute("select schema_admin.facts()")]
    as_root.execute(
        "alter function context.required_id owner to claims_auth_definer; "
        "grant execute on function context.matches to claims_context_definer, claims_auditor; "
        "grant execute on function app.uuid7 to public; alter function app.audit_row owner to claims_auth_definer"
    )
    assert name_changes(before, [fact for (fact,) in as_root.execute("select schema_admin.facts()")]) != []  # control
    migrate.apply(settings)
    assert name_changes(before, [fact for (fact,) in as_root.execute("select schema_admin.facts()")]) == []


def test_each_file_may_be_the_only_one_that_changed(settings, as_root):
    """Applied alone, no file changes the catalog: what other files grant and own remains."""
    facts = "select schema_admin.facts()"
    before = [fact for (fact,) in as_root.execute(facts)]
    for path in [*schema_files.function_files(), *schema_files.table_files()]:
        name = path.relative_to(schema_files.ROOT).as_posix()
        changed = as_root.execute(
            "update schema_admin.applied_files set digest = 'of yesterday' where path = %s returning path", [name]
        ).fetchall()
        assert changed == [(name,)]  # control
        as_root.execute("update schema_admin.state set files = 'of yesterday'")
        migrate.apply(settings)
        assert name_changes(before, [fact for (fact,) in as_root.execute(facts)]) == [], name


def test_a_file_that_was_renamed_takes_away_what_it_grants_no_more(settings, as_root):
    """The functions of the old file lose their grants and owner, as those of a file that changed."""
    facts = "select schema_admin.facts()"
    before = [fact for (fact,) in as_root.execute(facts)]
    as_root.execute(
        "update schema_admin.applied_files set path = 'sql/functions/old_name.sql' where path = 'sql/functions/claims.sql'; "
        "grant execute on function app.check_transition to claims_reporting; "
        "alter function app.find_transition owner to claims_auth_definer; "
        "update schema_admin.state set files = 'of yesterday', catalog = schema_admin.fingerprint()"
    )
    migrate.apply(settings)
    assert name_changes(before, [fact for (fact,) in as_root.execute(facts)]) == []


@pytest.mark.parametrize("grant", [
    "select on procrastinate.procrastinate_jobs to claims_api",
    "delete on procrastinate.procrastinate_jobs to claims_trigger_definer",
    "update (queue_name) on procrastinate.procrastinate_jobs to claims_system",
    "usage on sequence procrastinate.procrastinate_jobs_id_seq to claims_api",
    "execute on function procrastinate.procrastinate_defer_jobs_v1 to claims_api",
    "update on schema_admin.state to claims_api",
    "update (catalog) on schema_admin.state to claims_patient",
    "select on schema_admin.applied_files to claims_worker",
    "execute on function schema_admin.note_facts() to claims_api",
    "usage on schema procrastinate to claims_patient",
    "create on schema app to claims_api",
    "usage on schema auth to public",
])  # fmt: skip
def test_the_step_removes_rights_that_no_file_grants(settings, as_root, grant):
    """Granted by hand, or by an earlier version. The step stores what remains as expected, so `make check` would not find it."""
    facts = "select schema_admin.facts()"
    before = [fact for (fact,) in as_root.execute(facts)]
    as_root.execute("grant " + grant)
    assert name_changes(before, [fact for (fact,) in as_root.execute(facts)]) != []  # control
    migrate.apply(settings)
    assert name_changes(before, [fact for (fact,) in as_root.execute(facts)]) == []
