"""Reporting logins: each reads one organization, changes nothing, and sees no personal data without the right to it."""

import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from app.database.schema_files import ROOT
from tests.support.databases import url_for

READS = [
    "organizations",
    "providers",
    "patients",
    "care_relationships",
    "claims",
    "claim_status_history",
    "patient_status_events",
]
CLOSED = [
    "users",
    "invitations",
    "audit_logs",
    "audit_seals",
    "idempotency_keys",
    "job_processing_logs",
    "claim_totals",
]
CHANGES = [
    "update claims set notes = 'x'", "delete from claims", "insert into providers (npi, name) values ('1003000126', 'x')",
    "select app.assign_next_claim()", "set role claims_admin", "create table mine ()",
]  # fmt: skip
PERSONAL = [
    "select first_name, last_name, date_of_birth, member_number, email, phone from patients", "select notes, denial_reason from claims",
    "select email from providers", "select notes, facility from patient_status_events", "select reason from claim_status_history",
]  # fmt: skip


@pytest.fixture
def make(settings) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`make grant-reporting LOGIN=... ORG=...`, over the test's own database."""

    def run(target: str, **words: str) -> subprocess.CompletedProcess[str]:
        environ = os.environ | {"DATABASE_URL": settings.database_url or ""}
        command = [
            "make",
            "-s",
            "-o",
            ".venv/.installed",
            target,
            *(f"{name.upper()}={value}" for name, value in words.items()),
        ]
        return subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True)

    return run


@pytest.fixture
def login(make, as_root) -> Iterator[str]:
    """The name of a login of the whole server, which is dropped afterwards."""
    as_root.execute(
        "do $$ begin execute format('grant connect on database %I to claims_reporting', current_database()); end $$"
    )
    name = f"report_{uuid4().hex[:8]}"
    yield name
    make("revoke-reporting", login=name)


@pytest.fixture
def reports(settings, server_url) -> Callable[[str], psycopg.Connection[Any]]:
    def connect(name: str) -> psycopg.Connection[Any]:
        url = url_for(
            settings.database_url, psycopg.conninfo.conninfo_to_dict(settings.database_url)["dbname"], name, "x"
        )
        return psycopg.connect(url, autocommit=True, options="-c search_path=app")

    return connect


def test_it_reads_its_organization_and_no_other(make, as_root, reports, login, cast, other):
    assert make("grant-reporting", login=login, org="north").returncode == 0
    with reports(login) as connection:
        for table in READS:
            held = as_root.execute(f"select count(distinct organization_id) from {table}").fetchone()
            assert held == (2,)  # control: the other's rows exist
            assert connection.execute(f"select distinct organization_id from {table}").fetchall() == [
                (cast.organization,)
            ], table
        for table in CLOSED:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"select organization_id from {table}")
        for named in (str(other.organization), "x", ""):
            connection.execute(f"set app.organization_id = '{named}'")
            for table in READS:
                with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification):
                    connection.execute(f"select count(*) from {table}")
        connection.execute("reset app.organization_id")
        assert connection.execute("select count(*) from claims").fetchone() == (2,)


def test_it_changes_nothing(make, reports, login):
    make("grant-reporting", login=login, org="north", personal="1")
    with reports(login) as connection:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("update claims set notes = 'x'")
        connection.execute("set default_transaction_read_only = off")
        for statement in CHANGES:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_personal_data_needs_its_own_right(make, reports, login):
    make("grant-reporting", login=login, org="north")
    with reports(login) as connection:
        for statement in PERSONAL:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
    assert make("grant-reporting", login=login, org="south", personal="1").returncode == 0
    with reports(login) as connection:
        for statement in PERSONAL:
            assert connection.execute(statement).fetchall(), statement
        assert connection.execute("select slug from organizations").fetchall() == [("south",)]
    make("grant-reporting", login=login, org="south")
    with reports(login) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(PERSONAL[0])


def test_it_needs_its_record_and_its_membership(make, as_root, reports, login):
    make("grant-reporting", login=login, org="north")
    with reports(login) as connection:
        assert connection.execute("select count(*) from claims").fetchone() == (2,)  # control
        as_root.execute("delete from context.reporting_logins")
        with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification):
            connection.execute("select count(*) from claims")
    make("grant-reporting", login=login, org="north")
    as_root.execute(f"revoke claims_reporting from {login}")
    with pytest.raises(psycopg.errors.Error):
        reports(login).execute("select count(*) from claims")


@pytest.mark.parametrize(
    "words", [{"org": "nowhere"}, {"org": "north", "login": "claims_api"}, {"org": "north", "login": "postgres"}]
)
def test_an_unknown_organization_or_a_used_login_is_refused(make, as_root, login, words):
    members = "select roleid::regrole::text, member::regrole::text from pg_auth_members where roleid::regrole::text ~ 'reporting'"
    before = as_root.execute("select count(*) from context.reporting_logins").fetchone()
    ran = make("grant-reporting", **{"login": login} | words)
    assert ran.returncode != 0
    assert as_root.execute("select count(*) from context.reporting_logins").fetchone() == before
    assert words.get("login", login) not in {member for _, member in as_root.execute(members).fetchall()}


def test_a_revoked_login_is_dropped(make, as_root, reports, login):
    make("grant-reporting", login=login, org="north")
    with reports(login) as connection:
        assert make("revoke-reporting", login=login).returncode == 0
        with pytest.raises(psycopg.errors.Error):
            connection.execute("select count(*) from claims")
    assert as_root.execute("select count(*) from pg_roles where rolname = %s", [login]).fetchone() == (0,)
    assert make("revoke-reporting", login=login).returncode != 0


def test_a_reporting_login_with_another_role_of_the_product_is_refused(as_root, make, reports, login, cast):
    """Without a signature it would change rows, or read data without PERSONAL=1."""
    assert make("grant-reporting", login=login, org="north").returncode == 0
    for role in ("claims_admin", "claims_patient", "claims_system"):
        as_root.execute(f"grant {role} to {login}")
        with reports(login) as connection, pytest.raises(psycopg.errors.InvalidAuthorizationSpecification):
            connection.execute("select count(*) from claims")
        as_root.execute(f"revoke {role} from {login}")
    with reports(login) as connection:
        assert connection.execute("select count(*) from claims").fetchone() == (2,)  # control


def test_a_record_for_the_api_in_reporting_logins_has_no_effect(as_root, settings, cast):
    as_root.execute(
        "insert into context.reporting_logins (login, organization_id) values ('claims_api', %s), ('claims_worker', %s)",
        [cast.organization, cast.organization],
    )
    with psycopg.connect(settings.api_database_url) as connection:
        connection.execute(f"set app.organization_id = '{cast.organization}'")
        connection.execute("set role claims_admin")
        with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification):
            connection.execute("select count(*) from claims")
    assert as_root.execute("select count(*) from claims").fetchone()[0] > 0  # control
