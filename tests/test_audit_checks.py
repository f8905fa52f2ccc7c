"""Every check of sql/audit: nothing found on a fresh database, the planted fault found, nothing once it is mended."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from app import schema

CHECKS = sorted((schema.SQL / "audit").glob("[0-9]*.sql"))


class Fault(NamedTuple):
    """What plants it, how the objects found must begin, and what mends it: the remedy that the check names, unless given."""

    plant: str
    named: str
    mend: str = ""


TENANT = "(organization_id = current_setting('app.organization_id')::uuid)"
EXTRA = (
    "create table extra (organization_id uuid, at date); create policy extra_open on extra to claims_admin using (true); "
    "create policy extra_tenant on extra as "
)
SIGNED = (
    "drop policy users_signed on users; create policy users_signed on users as {} "
    "using (case when organization_id = (select ctx.entered(current_user)) then true end)"
)
OWN = (
    "provider_id = current_setting('app.provider_id')::uuid "
    "and (ctx.same(provider_id, (select ctx.entered(current_user, 'provider_id'))) {} status = 'paid')"
)
MEND_EXTRA = f"drop policy extra_tenant on extra; create policy extra_tenant on extra as restrictive using {TENANT}"
NEW = "create function auth.new(uuid) returns int language sql security definer "
DATABASE = "do $$ begin execute format('alter database %I set app.role = admin', current_database()); end $$"
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
        Fault("drop policy idempotency_keys_tenant on idempotency_keys", "app.idempotency_keys: idempotency_keys_gate"),
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
        Fault("drop policy users_signed on users", "app.users"),
        Fault(SIGNED.format("restrictive for select"), "app.users", SIGNED.format("restrictive")),
        Fault("alter policy users_signed on users using ((select ctx.entered(current_user)) is not null)", "app.users",
              SIGNED.format("restrictive")),
        Fault("alter policy claims_signed on claims to claims_admin", "app.claims"),
        Fault("create policy extra on claims for select to claims_recorder using (true)", "app.claims"),
        Fault(f"alter policy claims_provider_select on claims using ({OWN.format('or')})", "app.claims"),
        Fault(f"alter policy claims_provider_select on claims using ({OWN.format('and')})", "app.claims"),
        Fault("alter policy claims_provider_insert on claims with check (true)", "app.claims"),
        Fault("alter table claims drop constraint claims_organization_id_provider_id_fkey", "app.claims"),
        Fault("alter policy claim_status_history_member_select on claim_status_history using (true)", "app.claim_status_history"),
    ],
    "023": [
        Fault("alter policy claims_processor_select on claims using (assigned_to = current_setting('app.user_id')::uuid)",
              "app.claims: claims_processor_select"),
        Fault("alter policy claims_admin_insert on claims with check (organization_id = organization_id())",
              "app.claims: claims_admin_insert"),
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
            "add constraint of_anybody foreign key (patient_id) references patients (patient_id)",
            "app.invitations: of_anybody",
            "alter table invitations drop constraint of_anybody",
        ),
        Fault(
            "create table notes (tenant uuid, claim_id uuid, constraint of_anybody foreign key (tenant, claim_id) references claims)",
            "app.notes: of_anybody",
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
    "060": [
        Fault("grant truncate on claims to claims_gate", "app.claims"),
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
    "070": [
        Fault("alter role claims_api superuser", "claims_api"),
        Fault("alter role claims_worker bypassrls", "claims_worker"),
        Fault("alter role claims_auditor createrole", "claims_auditor"),
        Fault("grant claims_recorder to claims_worker", "claims_worker", "revoke claims_recorder from claims_worker"),
        Fault(
            "create role audit_between noinherit in role claims_gate; grant audit_between to claims_auditor",
            "claims_auditor",
            "revoke audit_between from claims_auditor",
        ),
        Fault("create role audit_login login in role claims_owner", "audit_login", "drop role audit_login"),
        Fault(
            "create role audit_strong bypassrls; create role audit_login login in role claims_patient, audit_strong",
            "audit_login",
            "alter role audit_strong nobypassrls",
        ),
        Fault("alter table auth.windows owner to claims_api", "claims_api"),
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
    "090": [
        Fault("alter role claims_api set app.organization_id = '0'", "role claims_api"),
        Fault(DATABASE, "database claims_"),
        Fault(IN_DATABASE, "role claims_admin in database claims_"),
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
        Fault("alter table claims enable replica trigger claims_10_move", "app.claims: claims_10_move"),
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
}  # fmt: skip


def find(connection: psycopg.Connection[Any], path: Path) -> list[tuple[str, ...]]:
    """What the check finds as the login claims_auditor. Prepared, so that more than one statement is an error."""
    connection.execute("set session authorization claims_auditor")
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
def test_check_finds_its_fault_until_it_is_mended(as_root, path):
    for fault in FAULTS[path.name[:3]]:
        # Roles belong to the whole server: what is planted is never committed.
        with as_root.transaction(force_rollback=True):
            assert find(as_root, path) == [], fault
            as_root.execute(fault.plant)
            found = find(as_root, path)
            assert found, fault
            for _, named, _, _ in found:
                assert named.startswith(fault.named), fault
            for mend in {fault.mend or remedy for _, _, _, remedy in found}:
                as_root.execute(mend)
            assert find(as_root, path) == [], fault


def test_make_audit_says_what_is_wrong_and_fails(settings, as_root):
    def audit():
        call = ["make", "audit", f"BIN={Path(sys.executable).parent}", "-o", ".venv/.installed"]
        # Not as a part of the `make test` that may be running this.
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        environ["DATABASE_URL"] = settings.database_url
        run = subprocess.run(call, cwd=schema.ROOT, env=environ, capture_output=True, text=True)
        return run.returncode, run.stdout + run.stderr

    assert audit() == (0, f"healthy: {len(CHECKS)} checks, no finding\n")
    as_root.execute("alter table claims no force row level security")
    status, said = audit()
    assert status != 0
    assert "011 force missing\n    app.claims\n" in said
    as_root.execute(
        "alter schema app rename to elsewhere"
    )  # where nothing is ours, nothing is wrong, and nothing healthy
    status, said = audit()
    assert status != 0
    assert "app.claims" in said
    assert "healthy" not in said
