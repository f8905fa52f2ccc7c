"""Every check of sql/audit: no finding on a fresh database, the injected fault is found, and no finding after its remedy."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from app.database.schema_files import ROOT, SQL
from tests.support.clients import until

CHECKS = sorted((SQL / "audit").glob("[0-9]*.sql"))


class Fault(NamedTuple):
    """A fault: its statement, the beginning of the findings' names, and the remedy. Without one the check's own is used."""

    change: str
    named: str
    mend: str = ""


TENANT = "(organization_id = context.variable('organization_id'))"
EXTRA = (
    "create table extra (organization_id uuid, at date); create policy extra_open on extra to claims_admin using (true); "
    "create policy extra_tenant on extra as "
)
SIGNED = (
    "drop policy users_context on users; create policy users_context on users as {} "
    "using (context.matches(organization_id, (select context.verified_id(current_user))))"
)
ENTERED = (
    "drop policy users_requires_context on users; create policy users_requires_context on users as {} "
    "using (organization_id = (select context.required_id(current_user))) with check (true)"
)
OWN = (
    "provider_id = context.variable('provider_id') "
    "and (context.matches(provider_id, (select context.verified_id(current_user, 'provider_id'))) {} status = 'paid')"
)
MEND_EXTRA = f"drop policy extra_tenant on extra; create policy extra_tenant on extra as restrictive using {TENANT}"
NEW = "create function auth.new(uuid) returns int language sql security definer "
DATABASE = "do $$ begin execute format('alter database %I set app.role = admin', current_database()); end $$"
ON_DATABASE = "do $$ begin execute format('grant {} on database %I to {}', current_database()); end $$"
SET_DATABASE = "do $$ begin execute format('alter {} %I set {}', current_database()); end $$"
# These two roles are created only if they do not exist yet.
REPORTING, OPERATOR = (
    f"do $$ begin if to_regrole('{name}') is null then create role {name} nologin; end if; end $$; "
    for name in ("claims_reporting", "claims_operator")
)
REPORTER = REPORTING + "create role test_reporter login in role claims_reporting; "
DEFINER = "(uuid) returns int language sql security definer return 1"
IN_DATABASE = DATABASE.replace("alter database", "alter role claims_admin in database")
PARTITION = (
    "create table parted (organization_id uuid, at date) partition by range (at); "
    "create table part partition of parted default; grant select on parted to claims_admin; "
)

FAULTS = {
    "010": [
        Fault("alter table claims disable row level security", "app.claims"),
        Fault("create table auth.extra (id uuid)", "auth.extra"),
        Fault(PARTITION + "alter table parted enable row level security", "app.part"),
    ],
    "011": [Fault("alter table auth.sessions no force row level security", "auth.sessions")],
    "020": [
        Fault(
            "create policy claims_open on claims for select using (status = 'paid')",
            "app.claims: claims_open",
            "alter policy claims_open on claims to claims_admin",
        )
    ],
    "021": [
        Fault("drop policy idempotency_keys_tenant on idempotency_keys", "app.idempotency_keys: idempotency_keys_auth_definer"),
        Fault(f"{EXTRA} permissive using {TENANT}", "app.extra: extra_open", MEND_EXTRA),
        Fault(f"{EXTRA} restrictive for select using {TENANT}", "app.extra: extra_open", MEND_EXTRA),
        Fault(f"{EXTRA} restrictive to claims_admin using {TENANT}", "app.extra: extra_open", MEND_EXTRA),
        Fault(f"{EXTRA} restrictive using {TENANT} with check (true)", "app.extra: extra_open", MEND_EXTRA),
        Fault(f"{EXTRA} restrictive using ({TENANT} or at is null)", "app.extra: extra_open", MEND_EXTRA),
        Fault(
            f"{EXTRA} restrictive using ({TENANT} and at is null or at is not null)",
            "app.extra: extra_open",
            # Narrower than the organization is no fault.
            f"alter policy extra_tenant on extra using ({TENANT} and (at is null or at is not null))",
        ),
    ],
    "022": [
        Fault("drop policy claims_tenant on claims", "app.claims"),
        Fault("alter policy claims_tenant on claims using (organization_id = current_setting('app.organization_id')::uuid)", "app.claims",
              f"alter policy claims_tenant on claims using {TENANT}"),
        Fault("drop policy users_requires_context on users", "app.users"),
        Fault(ENTERED.format("restrictive for select").removesuffix(" with check (true)"), "app.users", ENTERED.format("restrictive")),
        Fault(ENTERED.format("restrictive to claims_admin"), "app.users", ENTERED.format("restrictive")),
        Fault(ENTERED.format("permissive"), "app.users", ENTERED.format("restrictive")),
        Fault("alter policy users_requires_context on users using (true)", "app.users"),
        Fault("alter policy users_requires_context on users "
              "using (organization_id = (select context.required_id(current_user)) or active)", "app.users"),
        Fault("alter policy users_requires_context on users to claims_admin", "app.users"),
        Fault(f"create table extra (organization_id uuid); create policy extra_tenant on extra as restrictive using {TENANT}", "app.extra"),
        # Without a plain equality the planner has nothing to check above the scan.
        Fault("alter policy users_requires_context on users "
              "using (context.matches(organization_id, (select context.required_id(current_user))))", "app.users"),
        Fault("alter policy users_requires_context on users rename to users_z", "app.users",
              "alter policy users_z on users rename to users_requires_context"),
        Fault("alter policy users_tenant on users rename to users_a", "app.users", "alter policy users_a on users rename to users_tenant"),
        Fault("drop policy users_context on users", "app.users"),
        Fault(SIGNED.format("restrictive for select"), "app.users", SIGNED.format("restrictive")),
        Fault("alter policy users_context on users using ((select context.required_id(current_user)) is not null)", "app.users",
              SIGNED.format("restrictive")),
        Fault("alter policy claims_context on claims to claims_admin", "app.claims"),
        Fault("create policy extra on claims for select to claims_trigger_definer using (true)", "app.claims"),
        Fault(f"alter policy claims_provider_select on claims using ({OWN.format('or')})", "app.claims"),
        Fault(f"alter policy claims_provider_select on claims using ({OWN.format('and')})", "app.claims"),
        Fault("alter policy claims_provider_insert on claims with check (true)", "app.claims"),
        Fault("alter table claims drop constraint claims_organization_id_provider_id_fkey", "app.claims"),
    ],
    "023": [
        *(Fault(f"alter policy claims_processor_select on claims using (assigned_to = {variable}{beside})",
                "app.claims: claims_processor_select")
          for variable, beside in (
            ("current_setting('app.user_id')::uuid", ""),
            ("context.variable('user_id')", ""),
            ("context.variable('user_id')", " or context.matches(assigned_to, (select context.verified_id(current_user, 'user_id')))"),
            ("context.variable('user_id')", " and context.matches(assigned_to, (select context.verified_id(current_user, 'provider_id')))"),
            ("context.variable('user_id')", " and context.matches(provider_id, (select context.verified_id(current_user, 'user_id')))"),
            ("context.variable('user_' || 'id')",
             " and context.matches(assigned_to, (select context.verified_id(current_user, 'user_id')))"),
            ("(select context.verified_id(current_user, 'user_id'))", ""),
            ("any (array(select context.verified_id(current_user, 'user_id')))", ""))),
        Fault("alter policy claims_admin_insert on claims with check (organization_id = organization_id())",
              "app.claims: claims_admin_insert"),
        Fault("alter policy claims_admin_insert on claims with check (organization_id = context.variable('organization_id'))",
              "app.claims: claims_admin_insert"),
        Fault("alter policy claims_admin_insert on claims with check (status = current_setting('app.' || 'role'))",
              "app.claims: claims_admin_insert"),
        Fault("alter policy claims_context on claims using (organization_id = (select context.verified_id(current_user)))",
              "app.claims: claims_context"),
        Fault("alter policy claims_admin_select on claims using (organization_id in (select context.verified_id(current_user)))",
              "app.claims: claims_admin_select"),
        Fault("alter policy claims_context on claims using (context.matches(organization_id, context.verified_id(current_user)))",
              "app.claims: claims_context"),
        Fault("alter policy claims_requires_context on claims using (organization_id = context.required_id(current_user))",
              "app.claims: claims_requires_context"),
        Fault("alter policy claims_context on claims using (case when organization_id = (select context.verified_id(claims.status::name)) "
              "then true end)", "app.claims: claims_context"),
        Fault("alter policy claims_context on claims using (context.matches(organization_id, (select context.required_id(current_user))))",
              "app.claims: claims_context"),
        Fault("alter policy claims_provider_select on claims using (provider_id = context.variable('provider_id') "
              "and context.matches(provider_id, (select context.required_id(current_user, 'provider_id'))))",
              "app.claims: claims_provider_select"),
    ],
    "030": [
        Fault(
            "alter table patients add constraint one_member unique (member_number, organization_id)",
            "app.patients: one_member",
            "alter table patients drop constraint one_member, add constraint one_member unique (organization_id, member_number)",
        ),
        Fault(
            "create unique index one_email on users (lower(email))", "app.users: one_email", "drop index one_email"
        ),
    ],
    "031": [
        Fault(
            "alter table patients add unique (patient_id); alter table invitations "
            "add constraint unscoped foreign key (patient_id) references patients (patient_id)",
            "app.invitations: unscoped",
            "alter table invitations drop constraint unscoped",
        ),
        Fault(
            "create table notes (tenant uuid, claim_id uuid, constraint unscoped foreign key (tenant, claim_id) references claims)",
            "app.notes: unscoped",
            "alter table notes rename tenant to organization_id",
        ),
    ],
    "032": [
        Fault(
            "create index claims_status on claims (status, organization_id)",
            "app.claims: claims_status",
            "drop index claims_status",
        )
    ],
    "040": [
        Fault(f"create index slow on claims {columns}", "app.claims: slow", "drop index slow")
        for columns in (
            "(organization_id, (amount_cents / 100.0))",
            "(organization_id, (lower(notes)))",
            "using gin (to_tsvector('english', notes))",
        )
    ]
    + [
        Fault(
            f"create type color as enum ('red'); alter table claims add extra {kind}; "
            "create index slow on claims (organization_id, created_at, extra)",
            "app.claims: slow",
            "drop index slow; create index quick on claims (organization_id, created_at) include (extra)",
        )
        for kind in ("color", "numeric", "uuid[]", "jsonb")
    ],
    "050": [
        Fault(NEW + "return 1", "auth.new(uuid)"),
        Fault(NEW + "set search_path = app return 1", "auth.new(uuid)"),
        Fault(NEW + "set search_path = pg_temp, app return 1", "auth.new(uuid)"),
    ],
    "051": [
        Fault(NEW + "return 1", "auth.new(uuid)"),
        Fault("create function auth.new(uuid) returns int language sql return 1", "auth.new(uuid)"),
        Fault("grant execute on function organization_id to public", "app.organization_id()"),
        Fault(
            NEW + "return 1; revoke all on function auth.new from public; grant execute on function auth.new to public",
            "auth.new(uuid)",
        ),
    ],
    "052": [
        Fault(NEW + "return 1", "auth.new(uuid)"),
        Fault(NEW + "return 1; alter function auth.new owner to claims_owner", "auth.new(uuid)"),
    ],
    "053": [
        Fault("create function public.new" + DEFINER, "public.new(uuid)"),
        Fault("create function pg_catalog.new" + DEFINER, "pg_catalog.new(uuid)"),
        Fault(
            f"create schema other; create function other.new{DEFINER}; revoke all on function other.new from public; "
            "create role test_login login in role claims_patient; grant execute on function other.new to claims_auth_definer, test_login",
            "other.new(uuid)",
        ),
        Fault(
            f"create function public.new{DEFINER}; alter extension plpgsql add function public.new; "
            "grant usage on schema public to claims_provider",
            "public.new(uuid)",
        ),
    ],
    "054": [
        Fault("grant execute on function pg_ls_dir(text) to claims_api", "pg_catalog.pg_ls_dir(text)"),
        Fault("grant execute on function pg_notify to claims_worker with grant option", "pg_catalog.pg_notify(text, text)"),
        Fault("grant execute on function lo_import(text) to claims_owner", "pg_catalog.lo_import(text)"),
        Fault(
            "create role test_login login in role claims_patient; grant execute on function pg_terminate_backend to test_login",
            "pg_catalog.pg_terminate_backend(",
        ),
    ],
    "055": [
        *(
            Fault(f"grant execute on function {name} to {whom}", f"pg_catalog.{name}(")
            for name, whom in (
                ("pg_prepared_statement", "public"),
                ("pg_terminate_backend", "claims_api"),
                ("pg_cancel_backend", "claims_admin"),
                ("pg_notify", "claims_patient"),
                ("lo_from_bytea", "public"),
                ("set_config", "public"),
                ("set_config", "claims_processor"),
                ("pg_stat_get_xact_tuples_returned", "claims_admin"),
                ("pg_stat_get_tuples_fetched", "public"),
                ("pg_current_xact_id_if_assigned", "public"),
                ("currtid2", "claims_patient"),
                ("pg_blocking_pids", "claims_api"),
                ("loread", "claims_processor"),
                ("lowrite", "claims_provider"),
            )
        ),
        Fault("grant execute on function lo_unlink(oid) to claims_api", "pg_catalog.lo_unlink(oid)"),
        Fault("grant execute on all functions in schema pg_catalog to public", "pg_catalog."),
        Fault(
            "create role between; grant execute on function pg_notify to between; grant between to claims_api",
            "pg_catalog.pg_notify(text, text)",
            "revoke between from claims_api",
        ),
        Fault("grant usage on language plpgsql to public", "plpgsql"),
        Fault("grant usage on language plpgsql to claims_api", "plpgsql"),
    ],
    "060": [
        Fault("grant truncate on claims to claims_auth_definer", "app.claims"),
        Fault("grant references (claim_id) on claims to claims_admin", "app.claims"),
        Fault("grant trigger on auth.credentials to public", "auth.credentials"),
    ],
    "061": [
        Fault(
            "grant insert on claims to claims_provider",
            "app.claims",
            "revoke insert on claims from claims_provider; grant insert (notes) on claims to claims_provider",
        ),
        Fault("grant update on users to claims_admin", "app.users", "revoke update on users from claims_admin"),
    ],
    "062": [
        Fault("grant select on claims to public", "app.claims"),
        Fault("grant update (notes) on claims to public", "app.claims"),
        Fault("create sequence numbers; grant usage on sequence numbers to public", "app.numbers"),
    ],
    "063": [
        Fault("create role test_login login; " + change, named)
        for change, named in (
            ("grant select on claims to test_login", "app.claims"),
            ("grant update (notes) on claims to test_login", "app.claims"),
            ("grant usage on schema auth to test_login", "auth"),
            ("grant execute on function context.establish to test_login", "context.establish("),
            ("grant usage on sequence procrastinate.procrastinate_jobs_id_seq to test_login", "procrastinate.procrastinate_jobs_id_seq"),
        )
    ]
    + [
        Fault(REPORTER + "grant select on claims to test_reporter", "app.claims"),
        Fault("create role test_group; grant select on schema_admin.facts_applied to test_group", "schema_admin.facts_applied"),
        Fault(
            "create role test_login login; alter function app.uuid7 owner to test_login",
            "app.uuid7()",
            "alter function app.uuid7 owner to claims_owner",
        ),
    ],
    "064": [
        Fault(ON_DATABASE.format("temporary", "public"), "database claims_"),
        Fault(ON_DATABASE.format("create, temporary", "claims_api"), "database claims_"),
        Fault(ON_DATABASE.format("temporary", "claims_owner"), "database claims_"),
        Fault("create role test_login login in role claims_system; " + ON_DATABASE.format("create", "test_login"), "database claims_"),
        Fault("grant create on schema context to claims_auth_definer", "schema context"),
        Fault("grant create on schema procrastinate to public", "schema procrastinate"),
        Fault("grant create on schema public to public", "schema public"),
        Fault("grant create on schema public to claims_owner", "schema public"),
    ],
    "065": [
        Fault("grant set on parameter session_replication_role to claims_admin", "session_replication_role"),
        Fault("grant alter system on parameter work_mem to public", "work_mem"),
        Fault(REPORTER + "grant set, alter system on parameter log_statement to test_reporter", "log_statement"),
    ],
    "066": [
        Fault(f"alter default privileges {whose} {grant}", named)
        for whose, grant, named in (
            ("for role claims_owner", "grant execute on functions to public", "functions of claims_owner"),
            ("for role claims_owner", "grant execute on functions to claims_api", "functions of claims_owner"),
            ("for role claims_owner in schema app", "grant select on tables to claims_admin", "tables of claims_owner in app"),
            ("in schema procrastinate", "grant usage on sequences to public", "sequences of postgres in procrastinate"),
            ("", "grant usage on types to claims_system", "types of postgres"),
            ("", "grant create on schemas to claims_auth_definer", "schemas of postgres"),
        )
    ],
    "070": [
        Fault("alter role claims_api superuser", "claims_api"),
        Fault("alter role claims_worker bypassrls", "claims_worker"),
        Fault("alter role claims_auditor createrole", "claims_auditor"),
        Fault("grant claims_operator to claims_auditor", "claims_auditor", "revoke claims_operator from claims_auditor"),
        Fault("grant claims_operator to claims_provider", "claims_api", "revoke claims_operator from claims_provider"),
        Fault("grant claims_trigger_definer to claims_worker", "claims_worker", "revoke claims_trigger_definer from claims_worker"),
        Fault("grant claims_check_admin to claims_auditor", "claims_auditor", "revoke claims_check_admin from claims_auditor"),
        Fault(
            "create role audit_between noinherit in role claims_auth_definer; grant audit_between to claims_auditor",
            "claims_auditor",
            "revoke audit_between from claims_auditor",
        ),
        Fault("create role audit_login login in role claims_owner", "audit_login", "drop role audit_login"),
        Fault(
            "create role audit_strong bypassrls; create role audit_login login in role claims_patient, audit_strong",
            "audit_login",
            "alter role audit_strong nobypassrls",
        ),
        Fault("alter table auth.rate_limits owner to claims_api", "claims_api"),
    ],
    "071": [
        Fault("grant claims_admin to claims_worker", "claims_worker"),
        Fault("grant claims_patient to claims_admin", "claims_admin"),
        Fault("grant claims_check_admin to claims_auth_definer", "claims_auth_definer"),
        Fault("create role test_login login in role claims_auditor", "test_login"),
        Fault("create role test_backup login bypassrls in role claims_system", "test_backup"),
        Fault("create role between; grant claims_owner to between", "between"),
        Fault("create role between; grant between to claims_auditor", "claims_auditor"),
        Fault(OPERATOR + "create role test_operator login in role claims_operator", "test_operator"),
        Fault(REPORTING + "grant claims_reporting to claims_api", "claims_api"),
        Fault(REPORTER + "grant claims_reporting to test_reporter with admin option", "test_reporter"),
        Fault(REPORTER + "grant claims_patient to test_reporter", "test_reporter"),
        Fault("grant claims_admin to claims_api with admin option", "claims_api"),
        Fault(
            # Of a membership since PostgreSQL 16, of the member before.
            "do $$ begin if current_setting('server_version_num')::integer < 160000 then alter role claims_worker inherit; "
            "else execute 'grant claims_system to claims_worker with inherit true'; end if; end $$",
            "claims_worker",
        ),
        Fault(
            "do $$ begin if current_setting('server_version_num')::integer < 160000 then alter role claims_check_patient noinherit; "
            "else execute 'grant claims_patient to claims_check_patient with inherit false'; end if; end $$",
            "claims_check_patient",
        ),
    ],
    "072": [
        Fault("grant pg_read_all_data to claims_api", "claims_api"),
        Fault("grant pg_signal_backend to claims_owner", "claims_owner"),
        Fault("create role test_login login in role claims_auditor, pg_monitor", "test_login"),
        Fault(REPORTER + "grant pg_write_all_data to test_reporter", "test_reporter"),
        Fault("create role between in role pg_execute_server_program; grant between to claims_worker", "between"),
        Fault(
            "create role test_login login in role pg_read_all_data; " + ON_DATABASE.format("connect", "test_login"), "test_login"
        ),
    ],
    "073": [
        Fault("alter role claims_auditor replication", "claims_auditor"),
        Fault("alter role claims_worker createdb", "claims_worker"),
        Fault("alter role claims_auth_definer superuser", "claims_auth_definer"),
        Fault("alter role claims_trigger_definer bypassrls", "claims_trigger_definer"),
        Fault("alter role claims_admin createrole", "claims_admin"),
        Fault("alter role claims_owner login", "claims_owner"),
        Fault("alter role claims_api inherit", "claims_api"),
        Fault(REPORTER + "alter role test_reporter replication createdb", "test_reporter"),
    ],
    "080": [
        Fault("create view all_claims as select * from claims", "app.all_claims"),
        Fault("create view all_claims with (security_invoker = off) as select * from claims", "app.all_claims"),
    ],
    "081": [
        Fault(
            f"create materialized view all_claims as select * from claims; grant select {on} to claims_admin",
            "app.all_claims",
        )
        for on in ("on all_claims", "(claim_id) on all_claims")
    ],
    "083": [
        Fault("create schema test_other; create view test_other.all_claims as select * from app.claims", "test_other.all_claims"),
        Fault("create schema test_other; create materialized view test_other.all_claims as select * from app.claims",
              "test_other.all_claims"),
        Fault("create schema test_other; create table test_other.one (); "
              "create rule seen as on insert to test_other.one do also select * from app.claims", "test_other.one"),
        Fault("create schema test_other; create table test_other.parent (organization_id uuid); "
              "alter table app.claims inherit test_other.parent", "test_other.parent"),
    ],
    "082": [
        Fault("create publication extra for all tables", "publication extra"),
        Fault("create publication extra for tables in schema app", "publication extra"),
        Fault("create publication extra for table claims, auth.sessions", "publication extra"),
    ],
    "090": [
        Fault(REPORTER + "alter role test_reporter set app.role = 'admin'", "role test_reporter"),
        Fault(REPORTING + "create role test_login login; alter role test_login set app.organization_id = '0'", "role test_login"),
        Fault("alter role claims_api set app.organization_id = '0'", "role claims_api"),
        Fault(DATABASE, "database claims_"),
        Fault(IN_DATABASE, "role claims_admin in database claims_"),
    ],
    "091": [
        Fault("alter role claims_api set row_security = off", "role claims_api"),
        Fault("alter role claims_api set statement_timeout = 0", "role claims_api"),
        Fault("alter role claims_worker set search_path = app, procrastinate", "role claims_worker"),
        Fault("alter role claims_auditor reset search_path", "role claims_auditor"),
        Fault("alter role claims_worker reset all", "role claims_worker"),
        Fault("alter role claims_admin set session_replication_role = replica", "role claims_admin"),
        Fault("alter role all set local_preload_libraries = 'x'", "all roles"),
        Fault(SET_DATABASE.format("database", "session_preload_libraries = x"), "database claims_"),
        Fault(SET_DATABASE.format("database", "auto_explain.log_min_duration = 0"), "database claims_"),
        Fault(SET_DATABASE.format("role claims_api in database", "statement_timeout = 60000"), "role claims_api in database claims_"),
        Fault(SET_DATABASE.format("role all in database", "row_security = off"), "database claims_"),
        Fault("create role test_login login in role claims_patient; alter role test_login set jit = off", "role test_login"),
        *(
            Fault(REPORTER + f"alter role test_reporter set {setting}", "role test_reporter")
            for setting in ("row_security = off", "statement_timeout = 0", "lock_timeout = '0ms'", "default_transaction_read_only = off")
        ),
    ],
    "092": [
        Fault(
            "set local local_preload_libraries = 'auto_explain, \"$libdir/plugins/x\"'",
            "local_preload_libraries",
            "set local local_preload_libraries = 'auto_explain'",
        )
    ],
    "100": [
        Fault(PARTITION + "grant select on part to claims_admin", "app.part"),
        Fault(PARTITION + "grant select (at) on part to public", "app.part"),
    ],
    "110": [
        Fault(f"grant {what} to {whom}", f"procrastinate.{named}")
        for what, whom, named in (
            ("select on procrastinate.procrastinate_jobs", "claims_api", "procrastinate_jobs"),
            ("update (status) on procrastinate.procrastinate_jobs", "claims_system", "procrastinate_jobs"),
            ("usage on sequence procrastinate.procrastinate_jobs_id_seq", "public", "procrastinate_jobs_id_seq"),
            ("execute on function procrastinate.procrastinate_defer_jobs_v1", "claims_admin", "procrastinate_defer_jobs_v1("),
        )
    ],
    "120": [
        Fault("alter table claims disable trigger claims_90_audit", "app.claims: claims_90_audit"),
        Fault("alter table claims enable replica trigger claims_10_transition", "app.claims: claims_10_transition"),
        Fault(
            "create table child (organization_id uuid, claim_id uuid, foreign key (organization_id, claim_id) references claims); "
            "alter table child disable trigger all",
            'app.child: "RI_',
        ),
    ],
    "121": [
        Fault("drop trigger claims_90_audit on claims", "app.claims"),
        Fault(
            "create or replace trigger users_90_audit after insert or update on users "
            "for each row execute function audit_row('user_id')",
            "app.users",
            "drop trigger users_90_audit on users; create trigger users_90_audit after insert or update or delete on users "
            "for each row execute function audit_row('user_id')",
        ),
        Fault("create table notes (organization_id uuid, note_id uuid, primary key (organization_id, note_id))", "app.notes"),
    ],
    "122": [
        Fault("create rule extra as on delete to claims do instead nothing", "app.claims: extra"),
        Fault("create rule extra as on insert to auth.sessions do also notify x", "auth.sessions: extra"),
        Fault(
            "create view all_claims with (security_invoker = true) as select * from claims; "
            "create rule extra as on update to all_claims do instead update users set name = ''",
            "app.all_claims: extra",
        ),
    ],
}  # fmt: skip


HARMLESS = [
    REPORTER
    + "alter role test_reporter set app.organization_id = '0'; alter role test_reporter set default_transaction_read_only = on; "
    "alter role test_reporter set statement_timeout = '60s'; alter role test_reporter set idle_in_transaction_session_timeout = 5000; "
    + SET_DATABASE.format("role test_reporter in database", "app.organization_id = zero"),
    REPORTING + "create role test_group in role claims_reporting; create role test_login login in role test_group; "
    "alter role test_login set app.organization_id = '0'",
    OPERATOR
    + "create role test_root superuser login in role claims_operator, claims_owner, pg_read_all_data replication createdb",
    "create role test_backup login bypassrls in role pg_read_all_data; grant select on claims to test_backup; "
    + ON_DATABASE.format("connect", "test_backup"),
    "create role test_login login createdb replication in role pg_monitor; alter role test_login set row_security = off; "
    "grant set on parameter log_statement to test_login; grant execute on function pg_ls_dir(text) to test_login; "
    "create schema other authorization test_login; " + ON_DATABASE.format("connect, create", "test_login"),
    "create role test_login login in role pg_read_all_data",  # may not connect here
    "create schema other; create table other.claims (); create rule extra as on delete to other.claims do instead nothing; "
    "create publication extra for table other.claims; grant all on other.claims to public; "
    "alter default privileges in schema other grant select on tables to public; create role test_login login; "
    "alter default privileges grant usage on types to test_login; alter default privileges grant select on tables to test_login",
    f"create function public.new{DEFINER}; alter extension plpgsql add function public.new",
    f"create function public.new{DEFINER}; revoke all on function public.new from public; create role test_login login; "
    "grant execute on function public.new to test_login",
    "create view all_claims with (security_invoker = true) as select * from claims",
    "set local local_preload_libraries = 'auto_explain'",
]
"""Changes that no check may report: the exceptions named in the files, and objects of another application on the same server."""


def find(connection: psycopg.Connection[Any], path: Path, login: str = "claims_auditor") -> list[tuple[str, ...]]:
    """Findings of the check, run as the login. It is prepared, so that more than one statement is an error."""
    connection.execute(f"set session authorization {login}")
    cursor = connection.execute(path.read_bytes(), prepare=True)
    found = cursor.fetchall()
    connection.execute("reset session authorization")
    assert cursor.description
    columns = [(column.name, column.type_display) for column in cursor.description]
    assert columns == [("check", "text"), ("object", "text"), ("problem", "text"), ("remedy", "text")], path.name
    for row in found:
        assert all(row), (path.name, row)
        assert row[0] == path.stem.replace("_", " ")
    return found


def test_every_check_has_a_fault_that_it_finds():
    assert [path.name[:4] for path in CHECKS] == [f"{number}_" for number in sorted(FAULTS)]


def test_a_fresh_database_is_healthy(as_root):
    assert {path.name: found for path in CHECKS if (found := find(as_root, path))} == {}


@pytest.mark.parametrize("path", CHECKS, ids=lambda path: path.stem)
def test_a_check_finds_its_fault_until_the_remedy(as_root, path):
    for fault in FAULTS[path.name[:3]]:
        # Roles belong to the whole server: the injected fault is never committed.
        with as_root.transaction(force_rollback=True):
            assert find(as_root, path) == [], fault
            as_root.execute(fault.change)
            found = find(as_root, path)
            assert found, fault
            for _, named, _, _ in found:
                assert named.startswith(fault.named), fault
            for mend in {fault.mend or remedy for _, _, _, remedy in found}:
                as_root.execute(mend)
            assert find(as_root, path) == [], fault


@pytest.mark.parametrize("harmless", HARMLESS, ids=range(len(HARMLESS)))
def test_an_allowed_change_is_not_reported(as_root, harmless):
    with as_root.transaction(force_rollback=True):
        as_root.execute(harmless)
        assert {path.name: found for path in CHECKS if (found := find(as_root, path))} == {}


def test_an_administrator_gets_findings_about_session_preload_libraries(as_root):
    """PostgreSQL does not show the setting to claims_auditor."""
    (path,) = (path for path in CHECKS if path.name.startswith("092"))
    with as_root.transaction(force_rollback=True):
        as_root.execute("set local session_preload_libraries = 'auto_explain'")
        assert find(as_root, path, "postgres") == []
        as_root.execute("set local session_preload_libraries = auto_explain, spy")
        ((_, named, problem, _),) = find(as_root, path, "postgres")
        assert (named, problem) == ("session_preload_libraries", "loads spy into each session")


def test_make_audit_prints_the_findings_and_fails(settings, as_root):
    def audit():
        call = ["make", "audit", f"BIN={Path(sys.executable).parent}", "-o", ".venv/.installed"]
        # Not as a part of the `make test` that may be running this.
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        environ["DATABASE_URL"] = settings.database_url
        run = subprocess.run(call, cwd=ROOT, env=environ, capture_output=True, text=True)
        return run.returncode, run.stdout + run.stderr

    assert audit() == (0, f"healthy: {len(CHECKS)} checks, no finding\n")
    as_root.execute("alter table claims no force row level security")
    status, said = audit()
    assert status != 0
    assert "011 force missing\n    app.claims\n" in said
    # Without objects of the project there is no finding, and no success.
    as_root.execute("alter schema app rename to elsewhere")
    status, said = audit()
    assert status != 0
    assert "app.claims" in said
    assert "healthy" not in said


async def test_a_setting_of_the_server_that_disables_a_guard_is_found(settings, as_root):
    (check,) = (path for path in CHECKS if path.name.startswith("091_"))

    async def shown() -> list[str]:
        with psycopg.connect(settings.database_url, autocommit=True) as connection:
            return [problem for _, found, problem, _ in find(connection, check) if found == "server"]

    async def named() -> bool:
        return await shown() == ["sets allow_system_table_mods to on"]

    async def gone() -> bool:
        return await shown() == []

    assert await gone()
    try:
        as_root.execute("alter system set allow_system_table_mods = on")
        as_root.execute("select pg_reload_conf()")
        await until(named)
    finally:
        as_root.execute("alter system reset allow_system_table_mods")
        as_root.execute("select pg_reload_conf()")
    await until(gone)
