"""SQL injected into the API runs as its login, inside a request. It reaches no other tenant's row and no other role's right."""

from contextlib import suppress
from itertools import product
from time import time as time_time
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.pq import DiagnosticField

from app.database import statements
from app.database.context import (
    BEGIN_CONTEXT,
    BOUND_PROOF_LIFETIME_S,
    UNBOUND_PROOF_LIFETIME_S,
    ContextSigner,
    length_prefixed,
)
from tests.security.policies.scenarios import SETS
from tests.security.test_isolation import TABLES
from tests.support.cast import CONTEXT_KEY, KEYS, SIGNER, caller, sign_call, sign_context

PRODUCT = ["claims_admin", "claims_processor", "claims_provider", "claims_patient"]
OTHERS = [
    "claims_owner",
    "claims_auth_definer",
    "claims_context_definer",
    "claims_trigger_definer",
    "claims_audit_sealer",
    "claims_system",
    "claims_worker",
    "claims_auditor",
    "postgres",
]
VARIABLES = ["organization_id", "user_id", "session_id", "role", "provider_id", "patient_id"]
FORGED = (
    psycopg.errors.InvalidAuthorizationSpecification,
    psycopg.errors.InsufficientPrivilege,
)


def forge(connection, who, name, role):
    """Everything that `set` can do: the variables as they would be for another user, and the database's role."""
    ids = {"organization_id": who.organization, "user_id": who.ids[name], "session_id": who.ids[name], "role": role,
           "provider_id": who.ana_provider, "patient_id": who.tom_patient}  # fmt: skip
    for variable, value in ids.items():
        connection.execute(f"set local app.{variable} = '{value}'")


def attempt(connection, statement, given=()):
    """The rows that a statement reaches, or its error. The transaction continues as before."""
    try:
        with connection.transaction():
            cursor = connection.execute(statement, given)
            return cursor.fetchall() if cursor.description else []
    except FORGED as error:
        return type(error)


@pytest.mark.parametrize("table", TABLES)
def test_forged_variables_give_access_to_no_table(as_root, as_role, other, table):
    held = as_root.execute(f"select count(*) from {table} where organization_id = %s", [other.organization]).fetchone()
    assert held[0] > 0  # control
    commands = [
        f"select * from {table}",
        f"update {table} set organization_id = organization_id returning 1",
        f"delete from {table} returning 1",
    ]
    for who, role, command in product(("alma", "pia", "ana", "tom"), PRODUCT, commands):
        connection = as_role(who)
        forge(connection, other, "alma", role.removeprefix("claims_") if role != "claims_processor" else role)
        connection.execute(psycopg.sql.SQL("set local role {}").format(psycopg.sql.Identifier(role)))
        assert attempt(connection, command) in FORGED, (who, role, command)
        connection.close()


def test_a_role_that_was_not_entered_sees_nothing(as_role, cast):
    """A provider that becomes an admin inside its own organization, with its own valid context."""
    for who, role in product(("alma", "pia", "ana", "tom"), PRODUCT):
        connection = as_role(who)
        own = connection.execute("select current_user").fetchone()[0]
        assert attempt(connection, "select 1 from claims") not in FORGED  # control
        connection.execute(psycopg.sql.SQL("set local role {}").format(psycopg.sql.Identifier(role)))
        assert (attempt(connection, "select * from claims") in FORGED) == (role != own), (who, role)
        connection.close()


@pytest.mark.parametrize("role", OTHERS)
def test_no_other_role_can_be_set(as_role, role):
    set_role = psycopg.sql.SQL("set role {}").format(psycopg.sql.Identifier(role))
    assert attempt(as_role("alma"), set_role) is psycopg.errors.InsufficientPrivilege


@pytest.mark.parametrize("variable", VARIABLES)
def test_one_changed_variable_invalidates_the_context(as_role, cast, other, variable):
    connection = as_role("alma")
    assert connection.execute("select count(*) from claims").fetchone()[0] == 2  # control
    value = "claims_processor" if variable == "role" else str(other.organization)
    connection.execute(f"set local app.{variable} = '{value}'")
    assert attempt(connection, "select * from claims") in FORGED


@pytest.mark.parametrize("statement", ["reset all", "reset app.mac", "set local app.mac = ''"])
def test_a_context_after_a_reset_is_invalid(as_role, statement):
    connection = as_role("alma")
    assert connection.execute("select count(*) from claims").fetchone()[0] == 2  # control
    connection.execute(statement)
    assert attempt(connection, "select * from claims") in FORGED


def test_discarding_everything_leaves_no_context(settings, cast):
    with psycopg.connect(settings.api_database_url, autocommit=True) as connection:
        with connection.transaction():
            connection.execute(BEGIN_CONTEXT, sign_context(cast, "alma"))
            assert connection.execute("select count(*) from claims").fetchone()[0] == 2  # control
        connection.execute("discard all")
        connection.execute("set role claims_admin")
        with pytest.raises(FORGED):
            connection.execute("select * from claims")


PLANS = {
    "every row": "set local enable_indexscan = off; set local enable_bitmapscan = off; set local enable_indexonlyscan = off",
    "an index": "set local enable_seqscan = off",
}
"""Two kinds of scan: a policy's rule is evaluated at every row, or once, before the first."""


def seen_while_it_changes(connection, table, key, variable, value):
    """Rows of a statement that changes a variable.

    It changes after the first row, between two fetched rows, and back to its value between two keys of an index.
    """
    bend = f"set_config('app.{variable}', '{value}', true)"
    (own,) = connection.execute(f"select current_setting('app.{variable}')").fetchone()
    ways = [
        [f"select {key}, {bend} from {table}"],
        [f"declare seen cursor for select {key} from {table}", "fetch 1 from seen", f"select {bend}", "fetch all from seen"],
        *(
            [f"select {bend}", f"select {key} from {table} where {column} >= (select {least} where {unbend} <> '')"]
            for unbend in [f"set_config('app.{variable}', '{own}', true)"]
            for column, least in ((key, f"'{UUID(int=0)}'::uuid"), ("service_date", "'-infinity'::date"))
            if column == key or table == "claims"
        ),
    ]  # fmt: skip
    for way in ways:
        with suppress(*FORGED), connection.transaction(force_rollback=True):
            for statement in way:
                cursor = connection.execute(statement)
                if cursor.description and cursor.description[0].name == key:
                    yield from (row[0] for row in cursor.fetchall())


def shown(connection, plan, *what):
    connection.execute(PLANS[plan])
    return set(seen_while_it_changes(connection, *what))


@pytest.mark.parametrize("plan", PLANS)
def test_a_tenant_changed_during_a_statement_shows_no_row(as_root, as_role, cast, other, plan):
    as_root.execute(SETS)
    bent = {}
    for table, who in product(TABLES, ("alma", "pia", "ana", "tom")):
        connection = as_role(who)
        bent[table, who] = shown(connection, plan, table, "organization_id", "organization_id", str(other.organization))
        connection.close()
    assert set().union(*bent.values()) == {cast.organization}
    assert sum(map(bool, bent.values())) > 20  # control: their own rows
    # Control: a policy that checks whether the context is valid, and takes the tenant from the variable.
    as_root.execute(
        "drop policy claims_requires_context on claims; "
        "alter policy claims_context on claims using ((select context.verified_id(current_user)) is not null)"
    )
    assert other.anas_claim in shown(
        as_role("alma"), plan, "claims", "claim_id", "organization_id", str(other.organization)
    )


SCOPES = {
    "pia": ("user_id", "paul", "alter policy claims_processor_select on claims using (assigned_to = context.variable('user_id'))"),
    "ana": ("provider_id", "ben_provider",
            "alter policy claims_provider_select on claims using (provider_id = context.variable('provider_id'))"),
    "tom": ("patient_id", "tina_patient",
            "alter policy claims_patient_select on claims using (patient_id = context.variable('patient_id'))"),
}  # fmt: skip
"""Roles that see a part of the organization.

For each: its variable, the owner of another part, and a policy that trusts the variable.
"""


@pytest.mark.parametrize("who", SCOPES)
@pytest.mark.parametrize("plan", PLANS)
def test_a_scope_changed_during_a_statement_shows_no_row(as_root, as_role, cast, plan, who):
    variable, whose, believing = SCOPES[who]
    as_root.execute(SETS)
    as_root.execute("update claims set assigned_to = %s where claim_id = %s", [cast.paul, cast.bens_claim])
    keys = {"claims": "claim_id", "patients": "patient_id", "providers": "provider_id", "care_relationships": "patient_id",
            "users": "user_id", "claim_status_history": "claim_id", "patient_status_events": "event_id",
            "job_processing_logs": "job_id", "audit_logs": "audit_id"}  # fmt: skip
    read = 0
    for table, key in keys.items():
        connection = as_role(who)
        own = attempt(connection, f"select {key} from {table}")
        own = {row[0] for row in own} if isinstance(own, list) else set()
        assert shown(connection, plan, table, key, variable, str(cast.ids[whose])) <= own, table
        read += bool(own)
        connection.close()
    assert read >= 5  # control
    as_root.execute(believing)  # control
    assert cast.bens_claim in shown(as_role(who), "every row", "claims", "claim_id", variable, str(cast.ids[whose]))


def test_no_other_user_is_recorded_as_the_actor(as_root, as_role, cast):
    """The user is changed before a trigger writes it into the row, and back before the audit entry is written."""
    as_root.execute(SETS)
    bend = "set_config('app.user_id', %(paul)s, true) || ''"
    unbend = "set_config('app.user_id', %(pia)s, true)"
    given = {"paul": str(cast.paul), "pia": str(cast.pia)}
    pia = as_role("pia")
    move = f"update claims set status = 'under_review', notes = {{}} returning status_by, {unbend}"
    assert attempt(pia, move.format(bend), given) in FORGED
    assert attempt(pia, move.format("'x'"), given) == [(cast.pia, str(cast.pia))]  # control


def test_no_name_of_the_caller_changes_a_context(as_role, as_root, cast, other):
    """The caller's search_path, temporary objects, and its own calls of the functions."""
    alma = as_role("alma")
    for statement in ("create temp table keys (kid text)", "create function pg_temp.sha256(bytea) returns bytea return $1",
                      "create schema mine", "create table app.keys (kid text)"):  # fmt: skip
        assert attempt(alma, statement) is psycopg.errors.InsufficientPrivilege, statement
    alma.execute("set local search_path = pg_temp, app, pg_catalog")
    assert alma.execute("select count(*) from app.claims").fetchone()[0] == 2  # control
    # Control.
    assert alma.execute("select context.required_id('claims_auth_definer')").fetchone() == (cast.organization,)
    assert attempt(alma, "select context.required_id('claims_context_definer')") in FORGED
    forge(alma, other, "alma", "admin")
    for role in ("claims_context_definer", "claims_auth_definer"):
        assert attempt(alma, f"select context.required_id('{role}')") in FORGED
    assert attempt(alma, "select context.required_id(null)") in FORGED
    assert attempt(alma, "select * from app.claims") in FORGED


def test_a_prepared_statement_is_checked_again_in_a_second_context(settings, cast, other):
    with psycopg.connect(settings.api_database_url, autocommit=True) as connection:
        connection.prepare_threshold = None  # otherwise psycopg forgets prepared statements at every rollback
        with connection.transaction():
            connection.execute(BEGIN_CONTEXT, sign_context(cast, "alma"))
            connection.execute("prepare mine as select organization_id from claims")
            for _ in range(7):  # a generic plan from the sixth on
                assert {one for (one,) in connection.execute("execute mine")} == {cast.organization}  # control
            for who in ("postgres", "claims_worker", "claims_auth_definer"):
                become = psycopg.sql.SQL("set session authorization {}").format(psycopg.sql.Identifier(who))
                assert attempt(connection, become) is psycopg.errors.InsufficientPrivilege
            forge(connection, other, "alma", "admin")
            assert attempt(connection, "execute mine") in FORGED
        with connection.transaction():
            connection.execute(BEGIN_CONTEXT, sign_context(cast, "tom"))
            assert len(connection.execute("execute mine").fetchall()) == 1  # the patient's policies
            connection.execute("set local role claims_admin")
            assert attempt(connection, "execute mine") in FORGED
        connection.execute("set role claims_admin")
        with pytest.raises(FORGED):
            connection.execute("execute mine")


def test_a_context_is_valid_until_another_is_entered(settings, cast, other):
    """Two contexts in one transaction, and a third that is refused: no mixture of them, and no part of the refused one."""
    tenants = "select distinct organization_id from claims"
    with psycopg.connect(settings.api_database_url) as connection:
        connection.execute(BEGIN_CONTEXT, sign_context(cast, "alma"))
        refused = sign_context(other, "alma") | {"proof": "x"}
        ended = sign_context(other, "alma") | {"user_id": cast.alma}
        for given in (refused, ended):
            connection.execute("set local role none")
            assert attempt(connection, BEGIN_CONTEXT, given) is psycopg.errors.InvalidAuthorizationSpecification
            connection.execute("set local role claims_admin")
            assert attempt(connection, tenants) == [(cast.organization,)]
        (north,) = connection.execute("select current_setting('app.mac')").fetchone()
        connection.execute("set local role none")
        connection.execute(BEGIN_CONTEXT, sign_context(other, "ana"))
        assert attempt(connection, tenants) == [(other.organization,)]
        connection.execute("set local role claims_admin")  # the tenant that north was entered for
        assert attempt(connection, tenants) in FORGED
        connection.execute("set local role claims_provider")
        connection.execute(f"set local app.mac = '{north}'")
        assert attempt(connection, tenants) in FORGED


FUNCTIONS = {
    "select * from app.assign_next_claim()": "claims_processor",
    "select app.record_access('read', 'audit_logs')": "claims_admin",
    "select * from app.reserve_idempotency_key('/api/claims', 'cast', '')": "claims_admin",
    "select app.store_response('/api/claims', 'cast', 200, '{}', '')": "claims_admin",
    "select * from app.retry_job(%(job)s)": "claims_admin",
    "select * from app.claim_limits()": "claims_provider",
    "select app.appeal_until(now())": "claims_provider",
    "select * from app.organization_days()": "claims_provider",
    "select auth.my_password_hash('')": "claims_admin",
    "select auth.set_my_password('x', null, null, 60, '')": "claims_admin",
    "select auth.log_out(null, '')": "claims_admin",
    "select app.update_status_bulk(array[%(claim)s]::uuid[], 'voided', 'x', null)": "claims_admin",
    "select app.reassign_claims(%(pia)s, null)": "claims_admin",
}
"""Functions of other owners, or with many effects, that the API may call; and a role with the right."""


@pytest.mark.parametrize("call", FUNCTIONS)
def test_forged_variables_give_access_to_no_function(as_root, as_role, other, call):
    before = as_root.execute("select count(*), max(changed_at) from auth.credentials").fetchone()
    given = {"job": other.toms_job, "claim": other.anas_claim, "pia": other.pia}
    connection = as_role("alma")
    forge(connection, other, "alma", FUNCTIONS[call].removeprefix("claims_"))
    connection.execute(psycopg.sql.SQL("set local role {}").format(psycopg.sql.Identifier(FUNCTIONS[call])))
    assert attempt(connection, call, given) in FORGED
    assert as_root.execute("select count(*), max(changed_at) from auth.credentials").fetchone() == before


def test_every_definer_function_of_the_api_is_tried(as_root):
    """Definer functions that a product role may execute; those of the login itself run before there is a tenant."""
    found = as_root.execute(
        "select distinct p.proname from pg_proc p, unnest(%s::text[]) as role where p.prosecdef "
        "and p.pronamespace in ('app'::regnamespace, 'auth'::regnamespace, 'context'::regnamespace) "
        "and has_function_privilege(role, p.oid, 'execute')",
        [PRODUCT],
    ).fetchall()
    tried = "".join(FUNCTIONS)
    assert [name for (name,) in found if name != "read_id" and f".{name}(" not in tried] == []


def calls(who, name="alma"):
    """Every statement that calls a function of the schema auth, with values of this user; by its name."""
    given = {
        "email": who.emails[who.ids[name]], "slug": None, "tenant": who.organization,
        "user_id": who.ids[name], "session_id": uuid4(), "token_hash": b"x", "refresh_hash": None, "name": "Me", "password_hash": "x",
        "organization": "Mine", "seconds": 60, "changed_at": None, "new_hash": "y", "old_hash": b"x", "request_id": "", "address": "a",
        "entity": "claims", "entity_id": None, "outcome": "forbidden", "asked": "{}", "caller": who.ids[name], "subject": "one", "want": 1,
        "limit": 5, "account": "one", "account_window": 1, "address_window": 1, "limit_": 5, "successors": b"y" * 32,
    }  # fmt: skip
    special = {"open_session": {"refresh_hash": uuid4().bytes}}
    for file in ("auth", "rate_limits", "audit_logs"):
        for query in statements.load(file).all.values():
            if query.signed:
                function, words = query.signed
                one = given | special.get(function, {})
                yield query, {word: one[word] for word in words if word != "caller"} | {"caller": one["caller"]}


OF_THE_CALLER = ("log_out", "my_password_hash", "set_my_password")
"""Functions that a product role calls, within its context; the others are the login's, before there is one."""


def test_every_function_of_the_login_requires_a_proof(as_root, cast):
    """Each is called by a statement that the API signs."""
    found = as_root.execute(
        "select p.proname, p.proargnames[p.pronargs] from pg_proc p where p.pronamespace in ('app'::regnamespace, 'auth'::regnamespace, "
        "'context'::regnamespace) and p.prosecdef and (has_function_privilege('claims_api', p.oid, 'execute') or "
        "p.pronamespace = 'auth'::regnamespace and has_function_privilege('claims_admin', p.oid, 'execute')) "
        "and p.proname <> all ('{begin_request,probe,queue_state}')"  # these have a proof, too; the others concern no tenant
    ).fetchall()
    assert {name for name, _ in found} == {query.signed[0] for query, _ in calls(cast)}
    assert {last for _, last in found} == {"p_proof"}


def ready(settings, who, query, name="alma"):
    """A connection for a call of that function: within the caller's context if it is the caller's."""
    connection = psycopg.connect(settings.api_database_url)
    if query.signed[0] in OF_THE_CALLER:
        connection.execute(BEGIN_CONTEXT, sign_context(who, name))
    return connection


def test_a_proof_is_valid_for_one_call(settings, cast, other):
    """The function with its arguments, and no other: not another user's, not another function, not later, not elsewhere."""
    tried = 0
    for (query, given), (_, others) in zip(list(calls(cast)), list(calls(other)), strict=True):
        text, signed = query.text(given), sign_call(query, **given)
        with ready(settings, cast, query) as connection:
            pid = connection.info.backend_pid
            make = SIGNER.sign_call(query, given)["proof"]
            words = query.signed[1]
            forged = {
                "none": "", "nothing like one": "test:x:y:z", "no key": signed["proof"].replace("test:", "self:"),
                "another backend": make(pid + 1),
            }  # fmt: skip
            for name, proof in forged.items():
                assert attempt(connection, text, signed | {"proof": proof}) in FORGED, (query.name, name)
            for word in words:
                if others.get(word) != given.get(word):
                    changed = signed | {word: others[word]}
                    if word == "caller":  # no argument: the context contains it
                        changed = signed | {"proof": sign_call(query, **given | {word: others[word]})["proof"]}
                    assert attempt(connection, text, changed) in FORGED, (query.name, word)
                    tried += 1
            for again, values in calls(cast):
                if again.name != query.name:
                    proof = sign_call(again, **values)["proof"]
                    assert attempt(connection, text, signed | {"proof": proof}) in FORGED, (query.name, again.name)
            for good in (signed["proof"], make(pid)):  # control
                with connection.transaction(force_rollback=True):
                    assert attempt(connection, text, signed | {"proof": good}) not in FORGED, query.name
    assert tried >= 15


def test_no_two_lists_of_arguments_have_the_same_message(as_root):
    lists = [
        [],
        [None],
        [""],
        ["", ""],
        [None, ""],
        ["~"],
        ["a", "b"],
        ["ab"],
        ["a:b"],
        ["1:a"],
        ["é"],
        ["e", None],
        ["a\n", "b"],
        ["a", "\nb"],
    ]
    assert len({length_prefixed(one) for one in lists}) == len(lists)
    regex_string = (
        "select string_agg(coalesce(octet_length(w) || ':' || w, '~'), '' order by n) "
        "from unnest(%s::text[]) with ordinality as s (w, n)"
    )
    for one in lists:
        (text,) = as_root.execute(regex_string, [one]).fetchone()
        assert (text or "") == length_prefixed(one)  # as context.verify_call writes it


def test_calls_before_a_context_leave_none(settings, cast, other):
    """The functions of the login set a tenant by themselves, and nothing of that remains when they return."""
    for query, given in calls(other):
        if query.signed[0] in OF_THE_CALLER:
            continue
        with psycopg.connect(settings.api_database_url) as connection:
            connection.execute(query.text(given), sign_call(query, **given))  # control: the API may
            for role in PRODUCT:
                forge(connection, other, "alma", "admin")
                connection.execute(psycopg.sql.SQL("set local role {}").format(psycopg.sql.Identifier(role)))
                assert attempt(connection, "select * from claims") in FORGED, (query.name, role)
                assert attempt(connection, "select * from app.assign_next_claim()") in FORGED, (query.name, role)
                connection.execute("set local role none")
            connection.rollback()


@pytest.mark.parametrize("bound", [True, False])
def test_a_proof_expires(settings, cast, monkeypatch, bound):
    """On its own backend after a minute, on any after five seconds; the database's clock may be five seconds behind."""
    query, given = next(calls(cast))
    with psycopg.connect(settings.api_database_url, autocommit=True) as connection:
        pid = connection.info.backend_pid if bound else 0
        lives = BOUND_PROOF_LIFETIME_S if bound else UNBOUND_PROOF_LIFETIME_S
        for age, holds in (
            (0, True),
            (lives - 2, True),
            (lives + 10, False),
            (-10, False),
            (3600, False),
            (-3600, False),
        ):
            monkeypatch.setattr("app.database.context.time.time", lambda: time_time() - age)  # noqa: B023
            enter = SIGNER.sign_context(caller(cast, "alma"), request_id="", address="", source="api", read_only=False)
            enter |= {"proof": enter["proof"](pid)}
            call = SIGNER.sign_call(query, given)
            call |= {"proof": call["proof"](pid)}
            monkeypatch.undo()
            for statement, values in ((BEGIN_CONTEXT, enter), (query.text(given), call)):
                try:
                    connection.execute(statement, values)
                    refused = None
                except psycopg.DatabaseError as error:
                    refused = error.sqlstate
                assert refused == (None if holds else "CLOCK"), (age, statement)


def test_read_only_is_signed_and_cannot_be_changed(settings, cast):
    change = "update claims set notes = 'x' returning 1"
    with psycopg.connect(settings.api_database_url, autocommit=True) as connection:
        reading = sign_context(cast, "alma", read_only=True)
        assert attempt(connection, BEGIN_CONTEXT, reading | {"read_only": False}) in FORGED
        for more in (
            "set transaction read write",
            "set local transaction_read_only = off",
            "set session characteristics as transaction read write",
        ):
            with connection.transaction(force_rollback=True):
                connection.execute(BEGIN_CONTEXT, reading)
                assert len(connection.execute("select 1 from claims").fetchall()) == 2  # control
                with suppress(psycopg.errors.ActiveSqlTransaction), connection.transaction():
                    connection.execute(more)
                with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                    connection.execute(change)
        with connection.transaction(force_rollback=True):
            connection.execute(BEGIN_CONTEXT, sign_context(cast, "alma"))
            assert len(connection.execute(change).fetchall()) == 2  # control


def test_a_read_only_context_is_invalid_in_a_second_transaction_of_its_message(settings, cast):
    """Both begin at the time of the message, on one backend; the second may write."""
    names = [f"app.{name}" for name in (*VARIABLES, "request_id", "address", "source", "mac")]
    keep = "; ".join(
        f"select set_config('kept.x{n}', current_setting('{name}'), false)" for n, name in enumerate(names)
    )
    again = "; ".join(
        f"select set_config('{name}', current_setting('kept.x{n}'), true)" for n, name in enumerate(names)
    )
    with psycopg.connect(settings.api_database_url, autocommit=True) as connection:
        for read_only, raises in ((True, True), (False, False)):
            enter = psycopg.ClientCursor(connection).mogrify(
                BEGIN_CONTEXT, sign_context(cast, "alma", read_only=read_only)
            )
            message = f"{enter}; set local role none; {keep}; commit; {again}; set local role claims_admin; "
            message += "update app.claims set notes = 'x'"
            result = connection.pgconn.exec_(message.encode())
            sqlstate = result.error_field(DiagnosticField.SQLSTATE)
            assert (sqlstate == b"28000") == raises, result.error_message
            connection.pgconn.exec_(b"rollback")


def test_a_signature_is_valid_for_its_caller_and_its_time(settings, cast, other):
    good = sign_context(cast, "alma")
    other_key = ContextSigner("test", b"another key, not the database's!")
    kid, expires, backend, signature = good["proof"].split(":")

    def signed(by, **changed):
        entered = by.sign_context(caller(cast, "alma"), request_id="test", address="", source="api", read_only=False)
        return good | changed | {"proof": entered["proof"](0)}

    def proof(*parts):
        return good | {"proof": ":".join(parts)}

    forged = {
        "another user": good | {"user_id": cast.pia},
        "another tenant": good
        | {"organization_id": other.organization, "user_id": other.alma, "session_id": other.alma},
        "another session": good | {"session_id": cast.pia},
        "another address": good | {"address": "10.0.0.1"},
        "another request": good | {"request_id": "forged"},
        "another source": good | {"source": "job"},
        "a part moved": good | {"request_id": "", "address": "test"},
        "a line moved": good | {"request_id": "test\n", "address": ""},
        "reading only": good | {"read_only": True},
        "a longer life": proof(kid, str(int(expires) + 600), backend, signature),
        "another backend": proof(kid, expires, "1", signature),
        "more behind it": proof(kid, expires, backend, signature, "x"),
        "another key": signed(other_key),
        "an unknown key": proof("unknown", expires, backend, signature),
        "the database's own key": proof("self", expires, backend, signature),
        "no signature": proof(kid, expires, backend, ""),
        "half a proof": proof(kid, expires),
        "nothing at all": good | {"proof": None},
        "no number": proof(kid, "soon", backend, signature),
    }
    with psycopg.connect(settings.api_database_url, autocommit=True) as connection:
        assert connection.execute(BEGIN_CONTEXT, good).fetchone() == ("claims_admin",)  # control
        for name, given in forged.items():
            assert attempt(connection, BEGIN_CONTEXT, given) is psycopg.errors.InvalidAuthorizationSpecification, name


def test_a_mac_is_valid_in_one_transaction_on_one_backend(settings, cast):
    names = [f"app.{name}" for name in (*VARIABLES, "request_id", "address", "source", "mac")]
    read = "select " + ", ".join(f"current_setting('{name}', true)" for name in names)
    with psycopg.connect(settings.api_database_url) as one, psycopg.connect(settings.api_database_url) as two:
        one.execute(BEGIN_CONTEXT, sign_context(cast, "alma"))
        stolen = one.execute(read).fetchone()
        assert one.execute("select count(*) from claims").fetchone()[0] == 2  # control
        one.commit()
        for connection in (one, two):
            for name, value in zip(names, stolen, strict=True):
                connection.execute(f"set local {name} = '{value}'")
            connection.execute("set local role claims_admin")
            assert attempt(connection, "select * from claims") in FORGED


def test_a_savepoint_restores_no_more_than_there_was(as_role, cast, other):
    connection = as_role("alma")
    with connection.transaction(force_rollback=True):
        forge(connection, other, "alma", "admin")
        assert attempt(connection, "select * from claims") in FORGED
    assert connection.execute("select count(*) from claims").fetchone()[0] == 2


def test_no_product_role_reads_or_uses_the_keys(as_role, as_root, settings):
    # Control: the test's and the database's own.
    assert as_root.execute("select count(*) from context.keys").fetchone() == (2,)
    alma = as_role("alma")
    for statement in (
        "select * from context.keys",
        "select context.hmac_sha256('', '', '')",
        "select context.is_valid('', '', 'claims_admin')",
        "select context.establish(null)",
        "select context.signature_input()",
    ):
        assert attempt(alma, statement) is psycopg.errors.InsufficientPrivilege, statement
        with psycopg.connect(settings.api_database_url) as connection:
            assert attempt(connection, statement) is psycopg.errors.InsufficientPrivilege, statement
    assert CONTEXT_KEY not in KEYS.values()  # a key of the database signs no token
