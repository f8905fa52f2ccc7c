"""Isolation: no statement of one tenant reaches another tenant's row, on any table, by any command; with a control for each."""

from itertools import product
from typing import Any

import psycopg
import pytest

from app.database.context import BEGIN_CONTEXT
from tests.support.cast import Cast, sign_context

TABLES = [
    "organizations", "users", "providers", "patients", "care_relationships", "claims", "claim_status_history",
    "claim_totals", "claim_total_changes", "patient_status_events",
    "job_processing_logs", "audit_logs", "audit_seals", "invitations", "idempotency_keys",
]  # fmt: skip

NOT_EVEN_OWN = {
    ("pia", "care_relationships"), ("pia", "audit_logs"), ("ana", "audit_logs"),
    *product(("pia", "tom"), ("claim_totals", "claim_total_changes")),
    *product(("pia", "ana", "tom"), ("invitations",)),
    *product(("alma", "pia", "ana", "tom"), ("idempotency_keys", "audit_seals")),
}  # fmt: skip
"""Tables that a role cannot read at all."""


def test_the_list_of_tenant_tables_is_complete(as_root):
    found = as_root.execute(
        "select table_name from information_schema.columns where table_schema = 'app' and column_name = 'organization_id' "
        "and table_name in (select relname from pg_class where relkind = 'r')"
    ).fetchall()
    assert sorted(TABLES) == sorted(name for (name,) in found)


def test_every_table_has_row_level_security_forced(as_root):
    found = as_root.execute(
        "select oid::regclass::text from pg_class where relkind = 'r' and relnamespace in ('app'::regnamespace, 'auth'::regnamespace) "
        "and not (relrowsecurity and relforcerowsecurity)"
    ).fetchall()
    assert found == []


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("who", ["alma", "pia", "ana", "tom"])
def test_no_role_selects_another_tenants_rows(as_root, as_role, other, table, who):
    held = as_root.execute(f"select count(*) from {table} where organization_id = %s", [other.organization]).fetchone()
    assert held[0] > 0  # control: the rows exist
    try:
        seen = _count(as_role(who), f"select count(*) from {table} where organization_id = %s", other.organization)
    except psycopg.errors.InsufficientPrivilege:
        assert (who, table) in NOT_EVEN_OWN
    else:
        assert seen == 0


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("command", ["update {} set organization_id = organization_id", "delete from {}"])
def test_no_role_changes_another_tenants_rows(as_root, as_role, other, table, command):
    before = as_root.execute(f"select md5(string_agg(t::text, '' order by t::text)) from {table} t").fetchone()
    for who in ("alma", "pia", "ana", "tom"):
        connection = as_role(who)
        try:
            connection.execute(f"{command.format(table)} where organization_id = '{other.organization}'")
            connection.commit()
        except psycopg.errors.InsufficientPrivilege:
            connection.rollback()
    assert before[0] is not None  # control: there was something to change
    assert as_root.execute(f"select md5(string_agg(t::text, '' order by t::text)) from {table} t").fetchone() == before


@pytest.mark.parametrize("table", TABLES)
def test_no_role_sets_the_tenant_in_an_insert(as_role, other, table):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role("alma").execute(f"insert into {table} (organization_id) values ('{other.organization}')")


def test_a_claim_cannot_attach_to_another_tenants_patient(as_root, as_role, cast, other):
    insert = (
        "insert into claims (patient_id, provider_id, diagnosis_code, amount_cents, service_date) "
        "values (%s, %s, 'E11.9', 100, current_date)"
    )
    alma = as_role("alma")
    alma.execute(insert, [cast.tom_patient, cast.ana_provider])  # control: the same with an own patient is accepted
    with pytest.raises(psycopg.Error) as caught:
        alma.execute(insert, [other.tom_patient, cast.ana_provider])
    alma.rollback()
    assert caught.value.sqlstate == "INVAL"
    as_root.execute("alter table claims disable trigger user")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):  # not even a superuser past all checks can
        as_root.execute(
            "insert into claims (organization_id, patient_id, provider_id, "
            f"diagnosis_code, amount_cents, service_date) values ('{cast.organization}', '{other.tom_patient}', "
            f"'{cast.ana_provider}', 'E11.9', 100, current_date)"
        )


@pytest.mark.parametrize("table", TABLES)
def test_without_a_context_a_query_fails(settings, table):
    with psycopg.connect(settings.api_database_url) as connection:
        connection.execute("set role claims_admin")
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(f"select count(*) from {table}")
        kept = table in ("idempotency_keys", "audit_seals")
        assert caught.value.sqlstate == ("42501" if kept else "28000")


def test_the_context_ends_with_the_transaction(settings, cast):
    with psycopg.connect(settings.api_database_url) as connection:
        connection.execute(BEGIN_CONTEXT, sign_context(cast, "alma"))
        assert _count(connection, "select count(*) from claims") > 0  # control
        connection.commit()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select count(*) from claims")


def test_a_user_of_another_tenant_cannot_be_entered(settings, cast, other):
    mixed = Cast(cast.ids | {"organization": other.organization}, {})
    with (
        psycopg.connect(settings.api_database_url) as connection,
        pytest.raises(psycopg.DatabaseError) as caught,
    ):
        connection.execute(BEGIN_CONTEXT, sign_context(mixed, "alma"))
    assert caught.value.sqlstate == "ENDED"


@pytest.mark.parametrize("statement", [
    "select * from auth.credentials", "select * from procrastinate.procrastinate_jobs", "truncate claims",
    "select auth.add_user('x@x', 'x', 'admin', null, null, '')", "set role claims_owner", "set role claims_system",
    "select procrastinate.procrastinate_defer_jobs_v1(null)", "create table app.mine (a int)",
])  # fmt: skip
def test_an_admin_has_no_right_beyond_the_product(as_role, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role("alma").execute(statement)


@pytest.mark.parametrize("table", ["claim_status_history", "audit_logs", "audit_seals"])
@pytest.mark.parametrize(
    "command", ["update {} set organization_id = organization_id", "delete from {}", "truncate {}"]
)
def test_not_even_the_owner_changes_recorded_rows(as_root, table, command):
    assert _count(as_root, f"select count(*) from {table}") > 0  # control
    as_root.execute("set role claims_owner")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_root.execute(command.format(table))


def _count(connection: psycopg.Connection[Any], statement: str, *given: Any) -> int:
    return connection.execute(statement, given).fetchone()[0]
