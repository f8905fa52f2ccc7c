"""SQL injected into the API reaches no row of another caller, no other session, no queue, no large object, no schema."""

import asyncio
import json

import psycopg
import pytest

from app.database import statements
from app.database.schema_files import SQL
from app.operations import migrate
from tests.security.policies.scenarios import SETS
from tests.security.test_forgery import attempt
from tests.support.cast import sign_call
from tests.support.clients import until
from tests.support.workers import FAULTS, Workers, World, blocked, ended, jobs_of, listening

DENIED = psycopg.errors.InsufficientPrivilege
CALLERS = ("alma", "pia", "ana", "tom", "login")
"""The product roles, and the API's login after `set role none`."""
CHANNEL = "procrastinate_any_queue_v1"

SESSION = {
    "prepared statements": "select name, statement from pg_prepared_statements",
    "a block of code": "do $$ begin perform 1; end $$",
    "ending a backend": "select pg_terminate_backend(%(pid)s)",
    "cancelling a backend": "select pg_cancel_backend(%(pid)s)",
    "statements of other sessions": "select query from pg_stat_activity where pid = %(pid)s",
    "a statement of another session": "select pg_stat_get_backend_activity(1)",
    "clients of other sessions": "select pg_stat_get_backend_client_addr(1)",
    "locks of other sessions": "select * from pg_locks",
    "pg_notify": f"select pg_notify('{CHANNEL}', '')",
    "a large object": "select lo_create(0)",
    "a large object with content": "select lo_from_bytea(0, 'x')",
    "a large object, as old clients make it": "select lo_creat(-1)",
    "a message in the WAL": "select pg_logical_emit_message(false, 'x', 'y')",
    "a binary message in the WAL": "select pg_logical_emit_message(true, 'x', 'y'::bytea)",
    "a lock that outlives the transaction": "select pg_advisory_lock(1)",
    "a shared lock that outlives the transaction": "select pg_try_advisory_lock_shared(1, 2)",
    "the lock of claim totals": "select pg_try_advisory_xact_lock('claim_totals'::regclass::oid::bigint)",
    "the lock of another tenant's last admin": "select pg_advisory_xact_lock(1)",
    "a shared lock within the transaction": "select pg_advisory_xact_lock_shared(1)",
}  # fmt: skip
"""Rights of every login in PostgreSQL, by their object."""


@pytest.fixture
def injected(as_role):
    """A connection of the API during a request of this caller; "login": after `set role none`."""

    def make(who):
        connection = as_role("alma" if who == "login" else who)
        if who == "login":
            connection.execute("set local role none")
        return connection

    return make


@pytest.fixture
def bystander(settings):
    """The backend of another session of the API's login."""
    connection = psycopg.connect(settings.api_database_url)
    connection.execute("select 'a statement of another request'")
    yield connection.info.backend_pid
    connection.close()


@pytest.mark.parametrize("what", SESSION)
def test_no_caller_reaches_beyond_its_session(settings, injected, bystander, what):
    given = {"pid": bystander}
    for who in CALLERS:
        assert attempt(injected(who), SESSION[what], given) is DENIED, who
    with psycopg.connect(settings.database_url, options="-c search_path=app") as root:  # control
        cursor = root.execute(SESSION[what], given)
        if cursor.description:
            cursor.fetchall()
        root.rollback()


def test_every_function_of_large_objects_is_revoked(as_root, injected):
    """By the catalog, so that functions of a newer PostgreSQL are included."""
    asked = """
        select p.oid::regprocedure::text from pg_proc p, unnest(%s::text[]) as role
        where p.pronamespace = 'pg_catalog'::regnamespace and p.proname ~ '^(lo_.*|loread|lowrite)$'
          and has_function_privilege(role, p.oid, 'execute')"""
    roles = ["claims_api", "claims_admin", "claims_processor", "claims_provider", "claims_patient", "claims_worker"]
    assert as_root.execute(asked, [["postgres"]]).fetchall()  # control
    assert as_root.execute(asked, [roles]).fetchall() == []


def test_one_tenant_reads_no_large_object_of_another(as_root, as_role):
    """An existing large object, even after an administrator granted it to every login."""
    ((made,),) = as_root.execute("select lo_from_bytea(0, 'of south')").fetchall()
    as_root.execute(f"grant select, update on large object {made} to public")
    for tenant in ("north", "south"):
        alma = as_role("alma", tenant)
        assert attempt(alma, "select lo_get(%s)", [made]) is DENIED
        assert attempt(alma, "select lo_put(%s, 0, 'x')", [made]) is DENIED
        assert attempt(alma, "select loread(lo_open(%s, 262144), 10)", [made]) is DENIED
    assert as_root.execute("select lo_get(%s)", [made]).fetchone() == (b"of south",)  # control


ACTS = {
    "an entry of another size": "select app.write_audit_entry('execute', 'claims', null, null, 'success', to_jsonb(repeat('x', 50000000)))",
    "a denial": "select app.write_audit_entry('denied', 'claims')",
    "a change that never was": "select app.record_access('update', 'claims', %(own)s, %(patient)s)",
    "a failed login": "select app.record_access('login_failed', 'users', %(me)s)",
    "another user's login": "select app.record_access('login', 'users', %(pia)s)",
    "a claim that is none": "select app.record_access('read', 'claims', gen_random_uuid(), %(patient)s)",
    "a claim of another tenant": "select app.record_access('read', 'claims', %(others)s, %(others_patient)s)",
    "a claim with another patient": "select app.record_access('read', 'claims', %(own)s, %(tina)s)",
    "a claim without its patient": "select app.record_access('read', 'claims', %(own)s)",
    "no claim at all": "select app.record_access('read', 'claims')",
    "a patient of another tenant": "select app.record_access('read', 'patients', %(others_patient)s, %(others_patient)s)",
    "a patient that is another": "select app.record_access('read', 'patients', %(patient)s, %(tina)s)",
    "an export with an id": "select app.record_access('export', 'claims', %(own)s)",
    "an export of something else": "select app.record_access('export', 'patients')",
    "a table that is none": "select app.record_access('read', 'rate_limits')",
    "a name of another size": "select app.record_access('read', repeat('x', 100000))",
}
"""Entries that a caller may not write: about acts of others, and without a bound."""
OWN_ACTS = [
    "select app.record_access('read', 'claims', %(own)s, %(patient)s)",
    "select app.record_access('read', 'patients', %(patient)s, %(patient)s)",
    "select app.record_access('login', 'users', %(me)s)",
    "select app.record_access('read', 'audit_logs')",
    "select app.record_access('export', 'claims')",
]


@pytest.fixture
def named(cast, other):
    """The values for the statements of ACTS, for alma."""
    return {"me": cast.alma, "pia": cast.pia, "own": cast.anas_claim, "patient": cast.tom_patient, "tina": cast.tina_patient,
            "others": other.anas_claim, "others_patient": other.tom_patient}  # fmt: skip


@pytest.mark.parametrize("what", ACTS)
def test_a_caller_records_only_its_own_acts(as_root, as_role, named, what):
    count = "select count(*) from audit_logs"
    before = as_root.execute(count).fetchone()[0]
    alma = as_role("alma")
    assert attempt(alma, ACTS[what], named) is DENIED
    for act in OWN_ACTS:  # control
        assert attempt(alma, act, named) == [("",)]
    alma.commit()
    assert as_root.execute(count).fetchone()[0] == before + len(OWN_ACTS)


def test_an_act_of_another_organization_is_refused_before_it_is_looked_up(as_root, as_role, other):
    """With the tenant's variable changed: the same error, whether the claim exists or not."""
    asked = "select app.record_access('read', 'claims', %s, %s)"
    alma = as_role("alma")
    alma.execute(f"set local app.organization_id = '{other.organization}'")
    for claim in (other.anas_claim, other.alma):
        refusal = attempt(alma, asked, [claim, other.tom_patient])
        assert refusal is psycopg.errors.InvalidAuthorizationSpecification


SIZES = {
    "a path": ("select from app.reserve_idempotency_key(repeat('x', 501), 'k', '')",
        "select from app.reserve_idempotency_key(repeat('x', 500), 'k', '')"),
    "a key": ("select from app.reserve_idempotency_key('/', repeat('x', 256), '')",
        "select from app.reserve_idempotency_key('/', repeat('x', 255), '')"),
    "a hash": ("select from app.reserve_idempotency_key('/', 'k', repeat('x', 65)::bytea)",
        "select from app.reserve_idempotency_key('/', 'k', repeat('x', 64)::bytea)"),
    "headers": ("select app.store_response('/api/claims', 'cast', 200, to_json(repeat('x', 8191)), '')",
                "select app.store_response('/api/claims', 'cast', 200, to_json(repeat('x', 8190)), '')"),
    "an answer": ("select app.store_response('/api/claims', 'cast', 200, '{}', convert_to(repeat('x', 16777217), 'UTF8'))",
                  "select app.store_response('/api/claims', 'cast', 200, '{}', convert_to(repeat('x', 16777216), 'UTF8'))"),
    "an invitation": ("insert into invitations (email, role, token_hash) values ('a@b.test', 'admin', repeat('x', 65)::bytea)",
                      "insert into invitations (email, role, token_hash) values ('a@b.test', 'admin', repeat('x', 64)::bytea)"),
}  # fmt: skip
"""Sizes of a caller's values: one beyond the limit, and the limit."""


@pytest.mark.parametrize("what", SIZES)
def test_values_stored_by_a_caller_are_bounded(as_role, what):
    alma = as_role("alma")
    with pytest.raises(psycopg.errors.CheckViolation), alma.transaction():
        alma.execute(SIZES[what][0])
    alma.execute(SIZES[what][1])  # control


def test_values_stored_in_the_audit_log_by_the_api_are_bounded(settings, cast):
    """Behind the API's signature: an address and a request id are sent by clients."""
    denial = statements.load("audit_logs").record_denial

    def deny(api, request_id, address, outcome, asked):
        given = {"tenant": cast.organization, "user_id": cast.alma, "entity": "claims", "entity_id": None}
        given |= {
            "request_id": "r" * request_id,
            "address": "a" * address,
            "outcome": "o" * outcome,
            "asked": f'"{"x" * asked}"',
        }
        api.execute(denial.text(given), sign_call(denial, **given))

    with psycopg.connect(settings.api_database_url) as api:
        for sizes in ([129, 64, 200, 8190], [128, 65, 200, 8190], [128, 64, 201, 8190], [128, 64, 200, 8191]):
            with pytest.raises(psycopg.errors.InvalidParameterValue), api.transaction():
                deny(api, *sizes)
        deny(api, 128, 64, 200, 8190)  # control


SCHEMA = {
    "the login's own grants": ("login", "drop owned by claims_api"),
    "the login's own grants, by another name": ("login", "drop owned by current_user"),
    "a product role's grants and policies": ("pia", "drop owned by claims_processor"),
    "a product role's default rights": ("alma", "alter default privileges grant select on tables to public"),
    "the login's default rights": ("login", "alter default privileges grant execute on functions to public"),
    "a grant that only warns": ("alma", "grant select on app.claims to public"),
    "a revoke that only warns": ("alma", "revoke select on app.claims from claims_patient"),
}
"""Commands that every role may run on itself; some only warn that there is nothing to do."""

RIGHTS = """
select format('policy %s.%s %s', tablename, policyname, roles) from pg_policies
union all select format('relation %s %s', oid::regclass, acl) from pg_class, unnest(relacl) as acl
union all select format('function %s %s', oid::regprocedure, acl) from pg_proc, unnest(proacl) as acl
union all select format('schema %s %s', nspname, acl) from pg_namespace, unnest(nspacl) as acl
union all select format('database %s %s', datname, acl) from pg_database, unnest(datacl) as acl where datname = current_database()
union all select format('default %s %s', defaclrole::regrole, acl) from pg_default_acl, unnest(defaclacl) as acl"""


@pytest.mark.parametrize("what", SCHEMA)
def test_no_caller_changes_the_schema(as_root, injected, what):
    who, statement = SCHEMA[what]
    before = set(as_root.execute(RIGHTS).fetchall())
    connection = injected(who)
    assert attempt(connection, statement) is DENIED
    connection.commit()
    assert set(as_root.execute(RIGHTS).fetchall()) == before


@pytest.mark.parametrize("what", SCHEMA)
def test_control_without_the_event_trigger_they_run(as_root, injected, what):
    who, statement = SCHEMA[what]
    before = set(as_root.execute(RIGHTS).fetchall())
    as_root.execute("alter event trigger claims_refuse_ddl disable")
    connection = injected(who)
    assert attempt(connection, statement) == []
    connection.commit()
    lost = {fact for (fact,) in before - set(as_root.execute(RIGHTS).fetchall())}
    if who == "pia":
        assert "policy claims.claims_processor_select {claims_processor}" in lost


def test_no_login_of_the_project_changes_the_schema(settings, as_root):
    """Those of the worker included; claims_owner and the administrator still may."""
    with psycopg.connect(settings.worker_database_url, autocommit=True) as worker, pytest.raises(DENIED):
        worker.execute("drop owned by claims_worker")
    as_root.execute("set role claims_owner")
    with as_root.transaction(force_rollback=True):
        as_root.execute("create table app.control (id integer)")
    as_root.execute("reset role")


OWN_SETTINGS = {
    "role": "claims_patient",
    "statement_timeout": "0",
    "default_transaction_read_only": "on",
    "search_path": "pg_catalog",
}
"""Settings that a login may set for itself, and that apply to each new connection of the API."""


def test_the_schema_step_removes_a_logins_own_settings(settings, as_root):
    """PostgreSQL has no right to revoke from a login for its own settings and password.

    Only in its database, which is the test's own.
    """
    names = ["current_user", *(f"current_setting('{name}')" for name in OWN_SETTINGS)]

    def at_login():
        with psycopg.connect(settings.api_database_url) as connection:
            return connection.execute(f"select {', '.join(names)}").fetchone()

    before = at_login()
    with psycopg.connect(settings.api_database_url, autocommit=True) as injected:
        database = injected.info.dbname
        for name, value in OWN_SETTINGS.items():
            injected.execute(f"alter role claims_api in database {database} set {name} = {value}")
    assert at_login() == ("claims_patient", "claims_patient", "0", "on", "pg_catalog")  # control
    as_root.execute("select pg_advisory_lock(%s)", [migrate.LOCK])  # roles belong to the server
    as_root.execute((SQL / "deploy" / "roles.sql").read_bytes())
    as_root.execute("select pg_advisory_unlock(%s)", [migrate.LOCK])
    assert at_login() == before == ("claims_api", "none", "5s", "off", "app")


FORGED = [
    "",
    "not json",
    "7",
    "null",
    "[]",
    "{}",
    '{"type": "abort_job_requested"}',
    '{"type": "abort_job_requested", "job_id": [1]}',
    '{"type": "abort_job_requested", "job_id": {}}',
    '{"type": ["job_inserted"]}',
    '{"type": "job_inserted"}',
    "x" * 7000,
]
"""Payloads that Procrastinate does not send."""


async def test_forged_notifications_stop_no_job_and_no_worker(settings, as_root, as_user, cast):
    """`notify` needs no right, so every caller reaches the worker's channels: aborts of a running job, any payload, a flood."""
    as_root.execute(FAULTS)
    world = World(as_user("alma"), cast)
    with (
        Workers(settings) as workers,
        psycopg.connect(settings.database_url, autocommit=True) as holder,
        psycopg.connect(settings.database_url, autocommit=True) as listener,
        psycopg.connect(settings.api_database_url, autocommit=True) as attacker,
    ):
        attacker.execute("set role claims_patient")
        listener.execute(f"listen {CHANNEL}")

        def notify(*payloads):
            for payload in payloads:
                attacker.execute(psycopg.sql.SQL("notify {}, {}").format(psycopg.sql.Identifier(CHANNEL), payload))

        ((patient, claim, event),) = await world.admitted(1)
        as_root.execute("insert into public.faults values (%s, 'lock')", [patient])
        holder.execute("select pg_advisory_lock(hashtext(%s))", [patient])
        worker = workers.start()
        await until(listening(as_root))
        (backend,) = await until(blocked(as_root, 1))
        doing = "select id from procrastinate_jobs where status = 'doing' and queue_name = 'patient_status'"
        ((job,),) = as_root.execute(doing).fetchall()
        notify(json.dumps({"type": "abort_job_requested", "job_id": job}), *FORGED)
        with attacker.transaction():
            notify(*(json.dumps({"type": "job_inserted", "job_id": n}) for n in range(500)))
            notify(*(json.dumps({"type": "abort_job_requested", "job_id": job, "n": n}) for n in range(500)))
        arrived = 0  # control
        for one in listener.notifies(timeout=1):
            arrived += one.pid == attacker.info.backend_pid
            if arrived == 1 + len(FORGED) + 1000:
                break
        assert arrived == 1 + len(FORGED) + 1000
        await asyncio.sleep(0.2)
        assert await blocked(as_root, 1)() == [backend]  # the job still runs
        holder.execute("select pg_advisory_unlock_all()")
        await until(ended(as_root, [event], "completed"))
        ((_, status, attempts, _, _, queue, deliveries),) = jobs_of(as_root, event)
        assert (status, attempts, queue, deliveries) == ("completed", 1, "succeeded", 1)
        assert await world.moves(claim) == [("submitted", None), ("under_review", event)]
        ((_, _, after),) = await world.admitted(1)
        await until(ended(as_root, [after], "completed"))
        assert worker.poll() is None
        said = workers.output(worker)
        assert "restarts in" not in said
        assert "Side task" not in said


async def test_a_flood_of_notifications_wakes_the_worker_fifty_times_a_second(settings, monkeypatch):
    """Each causes a query of the queue, so continuous notifications must not keep the worker busy."""
    monkeypatch.setenv("WORKER_DATABASE_URL", settings.worker_database_url)
    from jobs.worker import connector  # the package reads the settings when it is imported

    woken, loop = [], asyncio.get_running_loop()

    async def wake(*, channel, payload):
        woken.append((loop.time(), channel, payload))

    reached = connector(settings)
    await reached.open_async()
    listening_task = asyncio.create_task(reached.listen_notify(wake, [CHANNEL]))
    with psycopg.connect(settings.api_database_url, autocommit=True) as attacker:

        async def first():
            attacker.execute(f"notify {CHANNEL}, 'first'")
            return woken

        await until(first)  # it listens
        began = loop.time()
        for n in range(3000):
            attacker.execute(f"notify {CHANNEL}, '{n}'")
            if n % 10 == 0:
                await asyncio.sleep(0)
    await asyncio.sleep(0.5)
    took = loop.time() - began
    print(len(woken), "in", took)
    listening_task.cancel()
    await reached.close_async()
    assert 3 <= len(woken) <= took / 0.02 + 3
    assert {payload for _, _, payload in woken} == {'{"type": "job_inserted", "job_id": 0}'}


DURING = "select count(*) from claims where organization_id = {} and claim_number = '{}'"
COUNTED = (
    "sum(pg_stat_get_xact_tuples_returned(i.indexrelid)) from pg_index i where i.indrelid = 'app.claims'::regclass"
)


def test_no_statement_changes_a_variable_while_it_runs(as_root, as_role, other):
    """An index scan by the caller's own equality would count rows of another tenant, in counters and in time."""
    known = as_root.execute("select claim_number from claims where claim_id = %s", [other.bens_claim]).fetchone()[0]
    alma = as_role("alma")
    calls = ["set_config('app.x', 'y', true)", "pg_current_xact_id_if_assigned()", "txid_current_if_assigned()", COUNTED,
             "pg_stat_get_tuples_fetched('claims'::regclass)", "pg_stat_force_next_flush()", "currtid2('app.claims', '(0,1)')",
             "pg_blocking_pids(1)"]  # fmt: skip
    for call in calls:
        assert attempt(alma, f"select {call}") is DENIED, call
    # Control: with both, the other tenant's row is counted, though it is not returned.
    as_root.execute(SETS)
    as_root.execute("grant execute on function pg_stat_get_xact_tuples_returned(oid) to public")
    changed = f"(select set_config('app.organization_id', '{other.organization}', true))::uuid"
    changed += " and organization_id = current_setting('app.organization_id')::uuid"
    counts = []
    for number in (known, "NO-SUCH-CLAIM"):
        connection = as_role("alma")
        connection.execute("set local enable_seqscan = off; set local enable_bitmapscan = off")
        before = connection.execute(f"select {COUNTED}").fetchone()[0]
        assert attempt(connection, DURING.format(changed, number)) == [(0,)]
        counts.append(connection.execute(f"select {COUNTED}").fetchone()[0] - before)
    assert counts[0] == counts[1] + 1
