"""who_can_see evaluates the real policies: its result for a row equals what each user sees, and by which policy."""

import os
import subprocess
import sys

import psycopg
import pytest
from psycopg import sql

from app.database.schema_files import MIGRATIONS, SQL
from tests.security.test_isolation import TABLES
from tests.support.cast import ROLE

PEOPLE = [(name, tenant) for tenant in ("north", "south") for name in ROLE]
VARIABLES = [f"app.{name}" for name in ("organization_id", "user_id", "session_id", "role", "provider_id", "patient_id",
                                        "request_id", "address", "source", "mac")]  # fmt: skip
OURS = [
    "who_can_see",
    "tenant_key",
    "row_policies",
    "row_policies_as_admin",
    "row_policies_as_processor",
    "row_policies_as_provider",
    "row_policies_as_patient",
]
UNSEEN = {"idempotency_keys", "audit_seals"}
"""Tables that no product role reads."""


PERMISSIVE = "select polname from pg_policy where polrelid = %s::regclass and polpermissive and polcmd in ('r', '*')"


@pytest.fixture
def as_auditor(settings):
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute("set session authorization claims_auditor")
        yield connection


def call(connection, columns, table, *key):
    """These columns of the rows that who_can_see returns."""
    statement = sql.SQL("select {} from app.who_can_see({}, {})").format(
        sql.SQL(columns), sql.Literal(table), sql.SQL(", ").join(sql.Literal(str(value)) for value in key)
    )
    return connection.execute(statement).fetchall()


def who_can_see(connection, table, *key):
    """(organization, user, role) of every user who can read the row."""
    return call(connection, "organization_id, user_id, role", table, *key)


def policies_by_email(connection, table, *key):
    """The policies that let each user read the row, by the user's email."""
    return dict(call(connection, "email, policies", table, *key))


def key_of(as_root, table):
    """The columns of the primary key, without the organization if there are more; found without tenant_key."""
    found = as_root.execute(
        "select column_name from information_schema.key_column_usage where table_schema = 'app' and table_name = %s "
        "and constraint_name = %s order by ordinal_position",
        [table, f"{table}_pkey"],
    ).fetchall()
    columns = [name for (name,) in found]
    return columns[1:] or columns


def rows_of(as_root, table, columns):
    """The keys of all rows, of both tenants, as text."""
    key = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(one)) for one in columns)
    return as_root.execute(sql.SQL("select {} from {}").format(key, sql.Identifier(table))).fetchall()


def really_sees(connection, table, columns, key):
    """Whether this user's own statement finds the row; a missing grant is False."""
    where = sql.SQL(" and ").join(
        sql.SQL("{}::text = {}").format(sql.Identifier(c), v) for c, v in zip(columns, key, strict=True)
    )
    try:
        with connection.transaction():
            found = connection.execute(sql.SQL("select 1 from {} where {}").format(sql.Identifier(table), where))
            return found.fetchone() is not None
    except psycopg.errors.InsufficientPrivilege:
        return False


@pytest.mark.parametrize("table", TABLES)
def test_it_returns_what_each_user_really_sees(as_root, as_auditor, as_role, casts, table):
    ana = as_role("ana")
    ana.execute(
        "insert into claims (patient_id, provider_id, diagnosis_code, amount_cents, service_date, status) "
        "values (%s, %s, 'E11.9', 100, current_date, 'draft')",
        [casts["north"].tom_patient, casts["north"].ana_provider],
    )
    ana.commit()
    emails = {(casts[t].organization, casts[t].ids[n]): casts[t].emails[casts[t].ids[n]] for n, t in PEOPLE}
    permissive = {name for (name,) in as_root.execute(PERMISSIVE, [f"app.{table}"]).fetchall()}
    columns = key_of(as_root, table)
    keys = rows_of(as_root, table, columns)
    assert len(keys) >= 2  # control: of both tenants
    asking = {(name, tenant): as_role(name, tenant) for name, tenant in PEOPLE}
    outcomes = set()
    for key in keys:
        expected = {
            (casts[tenant].organization, casts[tenant].ids[name], ROLE[name])
            for name, tenant in PEOPLE
            if really_sees(asking[name, tenant], table, columns, key)
        }
        rows = call(as_auditor, "organization_id, user_id, role, email, policies", table, *key)
        assert {row[:3] for row in rows} == expected, key
        assert len(rows) == len(expected)
        for organization, user, _, email, policies in rows:
            assert email == emails[organization, user]
            assert policies, (key, email)
            assert set(policies) <= permissive, (key, email)  # none is "(not evaluated)"
        outcomes |= {who in expected for who in {(casts[t].organization, casts[t].ids[n], ROLE[n]) for n, t in PEOPLE}}
    assert outcomes == ({False} if table in UNSEEN else {True, False})


def test_each_role_is_let_in_by_its_own_policy(as_auditor, cast, other):
    seen = policies_by_email(as_auditor, "claims", cast.anas_claim)
    assert seen == {
        "alma@north.test": ["claims_admin_select"],
        "pia@north.test": ["claims_processor_select"],
        "ana@north.test": ["claims_provider_select"],
        "tom@north.test": ["claims_patient_select"],
    }
    # Control: the other organization's users of the same names and roles read the other organization's claim.
    theirs = policies_by_email(as_auditor, "claims", other.anas_claim)
    assert theirs == {email.replace("north", "south"): policies for email, policies in seen.items()}
    # Control: ben and tina, who do not read that claim, read the one of their own, which is assigned to no processor.
    assert policies_by_email(as_auditor, "claims", cast.bens_claim) == {
        "alma@north.test": ["claims_admin_select"],
        "ben@north.test": ["claims_provider_select"],
        "tina@north.test": ["claims_patient_select"],
    }


def test_a_policy_over_another_table_is_evaluated(as_root, as_auditor, cast):
    def seen():
        return policies_by_email(as_auditor, "patients", cast.tom_patient)

    assert seen() == {
        "alma@north.test": ["patients_admin_select"],
        "pia@north.test": ["patients_processor_select"],  # by a claim that is assigned to her
        "ana@north.test": ["patients_provider_select"],  # by care_relationships
        "tom@north.test": ["patients_patient_select"],
    }
    as_root.execute("update claims set assigned_to = %s where claim_id = %s", [cast.paul, cast.anas_claim])
    as_root.execute("delete from care_relationships where patient_id = %s", [cast.tom_patient])
    assert {email for email, _ in seen().items()} == {"alma@north.test", "paul@north.test", "tom@north.test"}
    assert seen()["paul@north.test"] == ["patients_processor_select"]


def test_every_policy_that_lets_a_user_in_is_named(as_root, cast):
    """All permissive policies of the role, of PUBLIC, and for all commands, in the order of their names; not those that exclude the row."""
    as_root.execute("create policy claims_b on claims to public using (amount_cents = 12550)")
    as_root.execute(
        "create policy claims_a on claims for select to claims_provider, claims_admin using (status <> 'paid')"
    )
    as_root.execute("create policy claims_c on claims for select to claims_patient using (true)")
    as_root.execute("create policy claims_d on claims for select to claims_provider using (status = 'paid')")
    as_root.execute("create policy claims_e on claims for update to claims_provider using (true)")
    as_root.execute("create policy claims_f on claims for select to claims_provider")
    seen = policies_by_email(as_root, "claims", cast.anas_claim)
    assert seen["ana@north.test"] == ["claims_a", "claims_b", "claims_provider_select"]
    assert seen["ben@north.test"] == ["claims_a", "claims_b"]
    assert seen["tom@north.test"] == ["claims_b", "claims_c", "claims_patient_select"]
    as_root.execute("alter policy claims_a on claims using (status = 'paid')")
    as_root.execute("alter policy claims_d on claims using (status <> 'paid')")
    assert policies_by_email(as_root, "claims", cast.anas_claim)["ben@north.test"] == ["claims_b", "claims_d"]


def test_restrictive_policies_remain_in_force_while_a_policy_is_tried(as_root, cast):
    as_root.execute("create policy claims_open on claims for select to claims_provider using (true)")
    seen = policies_by_email(as_root, "claims", cast.anas_claim)
    assert seen["ana@north.test"] == ["claims_open", "claims_provider_select"]
    assert seen["ben@north.test"] == ["claims_open"]
    assert not any(email.endswith("@south.test") for email in seen)
    as_root.execute(
        "create policy claims_less on claims as restrictive for select to claims_provider using (status = 'paid')"
    )
    less = policies_by_email(as_root, "claims", cast.anas_claim)
    assert {"ana@north.test", "ben@north.test"}.isdisjoint(less)
    assert less.keys() == seen.keys() - {"ana@north.test", "ben@north.test"}


def test_without_row_level_security_no_policy_is_named(as_root, cast):
    assert policies_by_email(as_root, "claims", cast.anas_claim)["ana@north.test"] == [
        "claims_provider_select"
    ]  # control
    as_root.execute("alter table claims disable row level security")
    seen = policies_by_email(as_root, "claims", cast.anas_claim)
    assert seen["ana@north.test"] == seen["ben@south.test"] == []


def test_a_policy_over_a_column_that_the_role_cannot_read_is_marked(as_root, cast):
    as_root.execute(
        "revoke select on claims from claims_provider; grant select (claim_id) on claims to claims_provider"
    )
    seen = policies_by_email(as_root, "claims", cast.anas_claim)
    assert seen["ana@north.test"] == ["claims_provider_select (not evaluated)"]
    assert "ben@north.test" not in seen
    assert seen["pia@north.test"] == ["claims_processor_select"]  # control


def test_row_security_off_hides_no_user(as_auditor, as_role, cast):
    expected = policies_by_email(as_auditor, "claims", cast.anas_claim)
    assert len(expected) == 4
    as_auditor.execute("set row_security = off")
    assert policies_by_email(as_auditor, "claims", cast.anas_claim) == expected
    assert as_auditor.execute("show row_security").fetchone() == ("off",)
    # Control: a statement that policies restrict fails with this setting.
    ana = as_role("ana")
    assert ana.execute("select from claims").rowcount == 1
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        ana.execute("set row_security = off; select from claims")


@pytest.mark.parametrize("path", ["app", "public", "pg_catalog", "''"])
def test_the_call_needs_no_search_path(as_auditor, cast, path):
    as_auditor.execute(f"set search_path = {path}")
    for table in ("claims", "app.claims"):
        assert len(who_can_see(as_auditor, table, cast.anas_claim)) == 4


def test_an_administrator_may_call_it_as_well(as_root, cast):
    as_root.execute("reset search_path")
    assert len(who_can_see(as_root, "claims", cast.anas_claim)) == 4


@pytest.mark.parametrize(("table", "key", "policy"), [
    ("claims", "{claim}", "claims_provider_select"),
    ("care_relationships", "{provider} {patient}", "care_relationships_provider_select"),
])  # fmt: skip
def test_the_command_prints_users_and_policies(settings, cast, table, key, policy):
    """The script of `make who-can-see`."""
    words = {"claim": cast.anas_claim, "provider": cast.ana_provider, "patient": cast.tom_patient}
    script = str(SQL / "operations" / "who_can_see.sql")
    arguments = ["-qXAt", "-v", f"table={table}", "-v", f"key={key.format(**words)}", "-f", script]
    printed = subprocess.run(
        [sys.executable, "-m", "app.operations.psql", *arguments],
        env=os.environ | {"DATABASE_URL": settings.database_url},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert f"{cast.organization}|{cast.ana}|ana@north.test|provider|{{{policy}}}" in printed.splitlines()
    assert "ben@north.test" not in printed


def test_a_role_that_reads_any_column_reads_the_key(as_root):
    """Otherwise it could read a row that row_policies_as_... does not find."""
    asked = 0
    for table in TABLES:
        for role in ("claims_admin", "claims_processor", "claims_provider", "claims_patient"):
            for column in key_of(as_root, table):
                some, this = as_root.execute(
                    "select has_any_column_privilege(%s, %s, 'select'), has_column_privilege(%s, %s, %s, 'select')",
                    [role, f"app.{table}", role, f"app.{table}", column],
                ).fetchone()
                assert some == this, (table, role, column)
                asked += some
    assert asked > 40  # control


def test_a_change_of_a_policy_changes_the_result(as_root, cast):
    def providers():
        return {user for _, user, role in who_can_see(as_root, "claims", cast.anas_claim) if role == "provider"}

    assert providers() == {cast.ana}
    for change, expected in (
        ("alter policy claims_provider_select on claims using (true)", {cast.ana, cast.ben}),
        ("alter policy claims_provider_select on claims using (false)", set()),
        ("drop policy claims_provider_select on claims", set()),
        ("revoke select on claims from claims_provider", set()),
        ("create policy less on claims as restrictive to claims_provider using (status = 'paid')", set()),
        ("alter table claims disable row level security", {cast.ana, cast.ben}),
    ):
        with as_root.transaction(force_rollback=True):
            as_root.execute(change)
            as_root.execute("set local session authorization claims_auditor")
            seen = {one for one in providers() if one in cast.ids.values()}
            assert seen == expected, change
    assert providers() == {cast.ana}


def test_another_tenants_users_are_named_where_they_see_the_row(as_root, cast, other):
    def tenants():
        return {tenant for tenant, _, _ in who_can_see(as_root, "claims", cast.anas_claim)}

    assert tenants() == {cast.organization}
    with as_root.transaction(force_rollback=True):
        as_root.execute(
            "drop policy claims_tenant on claims; drop policy claims_requires_context on claims; drop policy claims_context on claims"
        )
        assert tenants() == {cast.organization, other.organization}


def test_a_user_who_cannot_log_in_sees_nothing(as_root, as_auditor, cast, other):
    def names(who):
        found = {user for _, user, _ in who_can_see(as_auditor, "claims", who.anas_claim)}
        return {name for name in ROLE if who.ids[name] in found}

    assert names(cast) == names(other) == {"alma", "pia", "ana", "tom"}  # control
    as_root.execute("update users set active = false where user_id = %s", [cast.tom])
    assert names(cast) == {"alma", "pia", "ana"}
    as_root.execute("update organizations set suspended_at = now() where organization_id = %s", [cast.organization])
    assert names(cast) == set()
    assert names(other) == {"alma", "pia", "ana", "tom"}


def test_no_user_sees_an_unknown_row(as_auditor, cast):
    assert who_can_see(as_auditor, "claims", cast.anas_claim)  # control
    assert who_can_see(as_auditor, "claims", cast.alma) == []


@pytest.mark.parametrize(("table", "key", "error", "said"), [
    ("claim_transitions", ["x"], "42809", "claim_transitions is not a tenant table of the schema app"),
    ("auth.credentials", ["x"], "42809", "auth.credentials is not a tenant table"),
    ("auth.sessions", ["x"], "42809", "auth.sessions is not a tenant table"),
    ("procrastinate.procrastinate_jobs", ["1"], "42501", "permission denied for schema procrastinate"),
    ("claims_newest", ["x"], "42809", "claims_newest is not a tenant table"),
    ("nothing", ["x"], "42809", "nothing is not a tenant table"),
    ("claims where true; --", ["x"], "42", ""),  # an invalid name before PostgreSQL 16, then no table
    ("claims", ["x"], "22P02", "uuid"),
    ("claims", ["x", "y"], "22023", "the key of claims is (claim_id)"),
    ("care_relationships", ["x"], "22023", "the key of care_relationships is (provider_id, patient_id)"),
])  # fmt: skip
def test_invalid_arguments_are_refused(as_auditor, table, key, error, said):
    with pytest.raises(psycopg.Error) as caught:
        who_can_see(as_auditor, table, *key)
    assert caught.value.sqlstate.startswith(error)
    assert said in str(caught.value)


def test_only_the_auditor_may_call_it(as_root, as_role, settings, cast):
    may = as_root.execute(
        "select p.proname, r.rolname from pg_proc p, pg_roles r where p.proname = any (%s) and p.pronamespace = 'app'::regnamespace "
        "and not r.rolsuper and has_function_privilege(r.oid, p.oid, 'execute') and p.proowner <> r.oid",
        [OURS],
    ).fetchall()
    assert ("who_can_see", "claims_auditor") in may
    shadows = {f"claims_check_{name}" for name in ("admin", "processor", "provider", "patient")}
    assert set(may) == (
        {("who_can_see", "claims_auditor"), ("tenant_key", "claims_auth_definer")}
        | {(name, "claims_auth_definer") for name in OURS if name.startswith("row_policies_as")}
        | {("row_policies", role) for role in shadows}
    )
    for connection in (
        as_role("alma"),
        psycopg.connect(settings.api_database_url),
        psycopg.connect(settings.worker_database_url),
    ):
        with connection:
            for call in (
                f"select * from app.who_can_see('claims', '{cast.anas_claim}')",
                "select app.row_policies_as_admin('app.claims', '{}')",
                "select app.row_policies('app.claims', '{}')",
                "select app.tenant_key('claims')",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                    connection.execute(call)


OWNED = """
select pg_describe_object(d.classid, d.objid, d.objsubid) from pg_shdepend d join pg_roles r on r.oid = d.refobjid
join pg_database b on b.oid = d.dbid and b.datname = current_database()
where d.deptype = 'o' and d.refclassid = 'pg_authid'::regclass
  and (pg_has_role('claims_api', r.oid, 'member') or pg_has_role('claims_worker', r.oid, 'member')) and not r.rolsuper"""


def test_no_login_becomes_an_owner_of_the_functions(as_root, as_role):
    """An owner may drop a function, give it away or change its settings. The API can become no such role."""
    members = "select m.rolname from pg_auth_members x join pg_roles r on r.oid = x.roleid join pg_roles m on m.oid = x.member "
    assert as_root.execute(members + "where r.rolname like 'claims\\_as\\_%' and not m.rolsuper").fetchall() == []
    # Control: the API and the check role.
    assert len(as_root.execute(members + "where r.rolname = 'claims_admin'").fetchall()) == 2
    assert as_root.execute(OWNED).fetchall() == []
    with as_root.transaction(force_rollback=True):
        as_root.execute("alter function row_policies_as_admin owner to claims_admin")
        assert as_root.execute(OWNED).fetchall() == [("function row_policies_as_admin(regclass,jsonb)",)]
        # Control: rights of an owner.
        as_root.execute("set local role claims_admin; drop function row_policies_as_admin")
    for statement in ("drop function app.row_policies_as_admin", "alter function app.row_policies_as_admin security invoker",
                      "grant execute on function app.row_policies_as_admin to claims_provider", "set role claims_check_admin"):  # fmt: skip
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            as_role("alma").execute(statement)


def test_the_context_ends_with_the_call(as_root, as_auditor, cast):
    def left():
        return [as_auditor.execute("select current_setting(%s, true)", [one]).fetchone()[0] for one in VARIABLES]

    said = as_root.execute(
        "select pg_get_function_sqlbody('context.set_variables'::regproc) || prosrc from pg_proc where oid = 'context.establish'::regproc"
    ).fetchone()[0]
    assert {one for one in VARIABLES if one in said} == {*VARIABLES}
    assert said.count("set_config") == len(VARIABLES)  # control: there is no other variable
    assert left() == [None] * len(VARIABLES)
    assert who_can_see(as_auditor, "claims", cast.anas_claim)
    assert not any(left())
    with as_auditor.transaction():
        for one in VARIABLES:
            as_auditor.execute(f"set local {one} = 'mine'")
        assert who_can_see(as_auditor, "claims", cast.anas_claim)
        assert left() == ["mine"] * len(VARIABLES)
        with pytest.raises(psycopg.errors.InvalidTextRepresentation), as_auditor.transaction():
            who_can_see(as_auditor, "claims", "x")
        assert left() == ["mine"] * len(VARIABLES)
    assert not any(left())


def test_it_works_in_a_transaction_that_only_reads(as_auditor, cast):
    with as_auditor.transaction():
        as_auditor.execute("set transaction read only")
        assert len(who_can_see(as_auditor, "claims", cast.anas_claim)) == 4


def test_the_list_of_tenants_is_maintained(as_root, as_role, cast, other):
    listed = "select array_agg(organization_id order by organization_id) from auth.organization_lookup"
    real = "select array_agg(organization_id order by organization_id) from app.organizations"
    assert as_root.execute(listed).fetchone() == ([cast.organization, other.organization],)
    new = as_root.execute("select auth.add_organization('west', 'West')").fetchone()[0]
    assert new in as_root.execute(listed).fetchone()[0]
    with as_root.transaction(force_rollback=True):  # a database that had organizations before the list
        as_root.execute("set local role claims_owner")
        for name in ("0021-organization-lookup.rollback.sql", "0021-organization-lookup.sql"):
            as_root.execute((MIGRATIONS / name).read_bytes())
        as_root.execute("reset role")
        assert as_root.execute(listed).fetchone() == as_root.execute(real).fetchone()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role("alma").execute(listed)
