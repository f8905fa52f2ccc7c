"""Upgrade of a database of version 0033 by one schema step: names change, and no row is lost."""

from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from app.config import Settings
from app.main import create_app
from app.operations import migrate
from app.security.tokens import Caller, make_token
from tests.operations.catalog import contents, facts, old_names
from tests.operations.restored import Upgrade, connected, create
from tests.resources.test_audit_seals import seal, verify
from tests.support.cast import KEYS, PASSWORD
from tests.support.clients import As, until
from tests.support.databases import embedded_server, url_for
from tests.support.workers import Workers, ended, jobs_of

REFRESH_TOKEN = "a-refresh-token-of-version-0033"
"""Of provider@birch.example.org, until 2100."""
WAITING = """
select (args ->> 'event_id')::uuid from procrastinate.procrastinate_jobs
where status = 'todo' and queue_name = 'patient_status' order by id"""
FAILED = "select event_id, attempts, error, finished_at from job_processing_logs where status = 'failed'"
WRONG_TOTALS = """
(table app.claim_totals except select * from app.expected_totals())
union all (select * from app.expected_totals() except table app.claim_totals)"""
LOADED = ("context.keys", "app.diagnosis_codes")
"""Tables that the schema step fills."""
STATE = "select applied_at, files, catalog, schema_admin.fingerprint() from schema_admin.state"


@pytest.fixture(scope="module")
def upgrade() -> Iterator[Upgrade]:
    with embedded_server() as server:
        yield Upgrade(server)


@pytest.fixture
def own(upgrade: Upgrade) -> Iterator[Settings]:
    """A copy of the upgraded database."""
    with upgrade.copy(upgrade.after) as copy:
        yield copy


@pytest.fixture
def as_root(own: Settings) -> Iterator[psycopg.Connection[Any]]:
    with connected(own) as connection:
        yield connection


def test_an_upgraded_database_matches_the_code_and_a_second_step_changes_nothing(upgrade):
    assert migrate.check(upgrade.after) == []
    assert migrate.check(upgrade.before) != []  # control
    with connected(upgrade.after) as connection:
        state, held = connection.execute(STATE).fetchall(), contents(connection)
        migrate.apply(upgrade.after)
        assert (connection.execute(STATE).fetchall(), contents(connection)) == (state, held)


def test_it_is_refused_while_another_database_is_in_use(upgrade):
    """Its API needs the roles by their old names. Control: without that connection the step has succeeded."""
    assert upgrade.refusal.startswith(
        "roles: this step renames roles of the whole server. API or worker processes run on before "
    )
    assert migrate.check(upgrade.after) == []


def test_no_object_has_an_old_name(upgrade):
    with connected(upgrade.after) as connection:
        assert old_names(connection) == []
    kinds = {kind for kind, _ in upgrade.names_before}  # control: each kind had some
    assert kinds == {
        "column", "comment", "constraint", "function", "index", "policy", "role", "schema", "sequence", "table", "trigger", "type",
    }  # fmt: skip


def test_the_catalog_is_that_of_a_new_database(upgrade):
    fresh = create(upgrade.server, "fresh")
    migrate.apply(fresh)
    with connected(fresh) as new, connected(upgrade.after) as upgraded:
        assert sorted(facts(new) ^ facts(upgraded)) == []
        assert len(facts(new)) > 1000  # control
        assert old_names(new) == []


def test_every_row_is_kept(upgrade):
    with connected(upgrade.after) as connection:
        found = contents(connection)
    assert len(found["context.keys"]) == 1 + len(KEYS)  # none was in the dump
    assert found == upgrade.contents | {name: found[name] for name in LOADED}
    assert {name for name, rows in found.items() if not rows} == {"procrastinate.procrastinate_workers"}  # control


def test_the_missing_diagnosis_codes_are_added(upgrade):
    assert not any('"B20"' in row for row in upgrade.contents["app.diagnosis_codes"])  # control
    with connected(upgrade.after) as connection:
        codes = "select count(*), count(*) filter (where billable), bool_or(code = 'B20' and billable) from app.diagnosis_codes"
        assert connection.execute(codes).fetchone() == (98_186, 74_719, True)


def test_audit_logs_verify_and_a_changed_entry_is_found(own, as_root):
    seal(own, as_root)
    assert verify(as_root) == []
    as_root.execute("set session_replication_role = replica")
    changed = as_root.execute(
        "update audit_logs set outcome = 'changed' where audit_id = (select audit_ids[1] from audit_seals where number = 2 limit 1) "
        "returning organization_id, audit_id"
    ).fetchone()
    ((object_, problem),) = verify(as_root)
    assert changed
    assert object_ == f"{changed[0]}: audit_logs {changed[1]}"
    assert problem == "was changed after it was sealed (seal 2)"


def test_totals_equal_the_sums_of_the_claims(as_root):
    assert as_root.execute("table claim_total_changes").fetchall() != []  # some are not added yet
    assert as_root.execute(WRONG_TOTALS).fetchall() == []
    as_root.execute("update claim_totals set cents = cents + 1 where ctid = (select min(ctid) from claim_totals)")
    assert len(as_root.execute(WRONG_TOTALS).fetchall()) == 2  # control


async def test_waiting_jobs_run_once(own, as_root):
    events = [event for (event,) in as_root.execute(WAITING)]
    before = jobs_of(as_root, *events)
    assert [row[1:3] for row in before] == [("pending", 0)] * 4
    failed = as_root.execute(FAILED).fetchall()
    assert len(failed) == 1
    with Workers(own) as workers:
        workers.start()
        rows = await until(ended(as_root, events))
    assert [(row[1], row[2], row[5]) for row in rows] == [("completed", 1, "succeeded")] * 4
    moved = as_root.execute(
        "select event_id, count(*) from claim_status_history where event_id = any (%s) group by claim_id, event_id",
        [events],
    ).fetchall()
    assert moved
    assert {count for _, count in moved} == {1}
    assert as_root.execute(FAILED).fetchall() == failed


async def test_users_log_in_and_stay_logged_in(own, as_root):
    organization, user, session = as_root.execute(
        "select u.organization_id, u.user_id, s.session_id from users u join auth.sessions s using (organization_id, user_id) "
        "where u.email = 'processor@alder.example.org' order by s.created_at limit 1"
    ).fetchone()
    held = as_root.execute("select count(*) from claims where organization_id = %s", [organization]).fetchone()
    app = create_app(own)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        by_password = {"email": "admin@alder.example.org", "password": PASSWORD}
        answer = await client.post("/api/auth/login", json=by_password)
        assert answer.status_code == 200, answer.text
        admin = As(client, answer.json()["data"]["accessToken"])
        listed = await admin.get("/api/claims", params={"limit": 100})
        assert (len(listed.json()["data"]),) == held
        answer = await client.post("/api/auth/login", json=by_password | {"password": PASSWORD + "!"})
        assert answer.status_code == 401  # control

        answer = await client.post("/api/auth/refresh", json={"refreshToken": REFRESH_TOKEN})
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"]["user"]["email"] == "provider@birch.example.org"
        assert (await As(client, answer.json()["data"]["accessToken"]).get("/api/claims")).is_success

        earlier = As(client, make_token(Caller(organization, user, session, "claims_processor"), KEYS))
        assert (await earlier.get("/api/auth/me")).json()["data"]["email"] == "processor@alder.example.org"


def test_a_reporting_login_reads_its_organization(upgrade):
    count = "select count(*), count(distinct organization_id) from app.claims"
    with psycopg.connect(url_for(upgrade.server, "after", "bi_alder")) as reporting, connected(upgrade.after) as root:
        read, organizations = reporting.execute(count).fetchone() or (0, 0)
        every, _ = root.execute(count).fetchone() or (0, 0)
        assert (organizations, 0 < read < every) == (1, True)


def test_a_second_database_is_upgraded_after_the_roles_were_renamed(upgrade):
    with upgrade.copy(upgrade.before) as second, connected(second) as connection:
        assert {kind for kind, _ in old_names(connection)} >= {"schema", "table", "policy"}  # control
        assert "role" not in {kind for kind, _ in old_names(connection)}
        migrate.apply(second)
        assert migrate.check(second) == migrate.check(upgrade.after) == []
        assert old_names(connection) == []
        found = contents(connection)
        assert found == upgrade.contents | {name: found[name] for name in LOADED}
        with connected(upgrade.after) as first:
            assert facts(connection) == facts(first)


def test_a_dump_restored_on_another_server_is_upgraded(upgrade):
    with upgrade.copy(upgrade.before) as moved, connected(moved) as connection:
        connection.execute("update schema_admin.state set cluster = '1'")
        migrate.apply(moved)
        assert migrate.check(moved) == []
        connection.execute("update patients set first_name = 'Moved'")
        epochs = connection.execute("select distinct cluster_epoch from audit_logs order by 1").fetchall()
        assert epochs == [(1,), (2,)]
        seal(moved, connection)
        assert verify(connection) == []
