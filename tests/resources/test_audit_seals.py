"""Seals of the audit log: every change of a sealed entry is found, and the first bad one is named."""

import os
import subprocess
import time
from contextlib import ExitStack
from datetime import timedelta
from random import Random

import psycopg
import pytest

from app.database.context import BEGIN_CONTEXT
from app.database.schema_files import MIGRATIONS, SQL
from app.dev.postgres import binaries
from app.operations import migrate
from tests.http.test_end_to_end import worker  # noqa: F401
from tests.support.cast import sign_context
from tests.support.clients import until
from tests.support.workers import Workers

UNSEALED = """
select count(*) from audit_logs a
where not exists (select from audit_seals s where s.organization_id = a.organization_id and a.audit_id = any (s.audit_ids))"""
NAMES = "organization_id, actor_user_id, actor_role, action, entity, entity_id, patient_id, before, after, request_id, outcome"


MARKERS = "select count(*) from auth.unsealed_entries"
A_DAY_LATER = "update auth.organization_lookup set daily_seal_at = daily_seal_at - interval '20 hours'"


def visited(as_root):
    """The number of organizations that a round of the sealer visits."""
    calls = (
        "select coalesce(sum(calls), 0)::integer from pg_stat_xact_user_functions where funcname = 'seal_organization'"
    )
    with as_root.transaction():
        as_root.execute("set local track_functions = 'pl'")
        (before,) = as_root.execute(calls).fetchone()
        as_root.execute("select app.seal_audit_logs()")
        return as_root.execute(calls).fetchone()[0] - before


def seal(settings, as_root):
    """Seals until every entry is sealed. Any running transaction of the whole server may delay that of one."""
    deadline = time.monotonic() + 20
    with psycopg.connect(settings.worker_database_url, autocommit=True) as connection:
        connection.execute("select app.seal_audit_logs()")
        while as_root.execute(UNSEALED).fetchone()[0]:
            assert time.monotonic() < deadline, "never sealed"
            connection.execute("select app.seal_audit_logs()")


def verify(as_root, heads=""):
    """(object, problem) for each organization with a fault."""
    with as_root.transaction(force_rollback=True):
        as_root.execute("set local session authorization claims_auditor")
        found = as_root.execute("select * from app.verify_audit_logs(%s)", [heads]).fetchall()
    assert all(check == "verify chain" and remedy for check, _, _, remedy in found)
    return [(object_, problem) for _, object_, problem, _ in found]


@pytest.fixture
def entries(settings, as_root, cast):
    """north's entries in the order in which they were sealed, in three seals at least. The other organization has its own."""
    for name in ("first", "second"):
        as_root.execute("update patients set first_name = %s", [name])
        seal(settings, as_root)
    assert verify(as_root) == []  # control
    found = as_root.execute(
        "select e.audit_id, s.number from audit_seals s, unnest(s.audit_ids) with ordinality as e (audit_id, place) "
        "where s.organization_id = %s order by s.number, e.place",
        [cast.organization],
    ).fetchall()
    assert found[-1][1] >= 3
    return [audit_id for audit_id, _ in found]


def test_every_entry_is_sealed_once(settings, as_root, entries):
    count = as_root.execute("select count(*) from audit_logs").fetchone()
    sealed = "select count(*), count(distinct e) from audit_seals, unnest(audit_ids) as e"
    assert as_root.execute(sealed).fetchone() == count * 2
    seals = as_root.execute("select count(*) from audit_seals").fetchone()
    seal(settings, as_root)
    assert as_root.execute("select count(*) from audit_seals").fetchone() == seals  # no new entry, no seal


COLUMNS = {
    "organization_id": None, "audit_id": "gen_random_uuid()", "at": "at - interval '1 microsecond'",
    "actor_user_id": "gen_random_uuid()", "actor_role": "'nothing'", "action": "'export'", "entity": "'nothing'",
    "entity_id": "gen_random_uuid()", "patient_id": "gen_random_uuid()", "before": """'{"a": 1}'""", "after": "null",
    "request_id": "'x'", "address": "'10.0.0.1'", "outcome": "'failure'", "cluster_epoch": "7", "written_by": "'5'",
}  # fmt: skip


def test_a_change_of_any_column_is_found(as_root, entries):
    columns = as_root.execute(
        "select attname from pg_attribute where attrelid = 'audit_logs'::regclass and attnum > 0 and not attisdropped"
    ).fetchall()
    assert {name for (name,) in columns} == set(COLUMNS)
    bad = entries[4]
    for column, value in COLUMNS.items():
        with as_root.transaction(force_rollback=True):
            value = value or "(select o.organization_id from organizations o where o.slug = 'south')"
            changed = as_root.execute(f"update audit_logs set {column} = {value} where audit_id = %s", [bad])
            assert changed.rowcount == 1
            found = verify(as_root)
            assert found[0][0].endswith(f"audit_logs {bad}"), (column, found)
            word = "deleted" if column in ("organization_id", "audit_id") else "changed"
            assert f"was {word} after it was sealed" in found[0][1], (column, found)
            # It does not fit the organization that it was moved to, either.
            assert len(found) == (2 if column == "organization_id" else 1)


INSERT = f"insert into audit_logs (at, audit_id, written_by, {NAMES}) select {{}}, {NAMES} from audit_logs where audit_id = %(bad)s"
FAULTS = {
    "edited": ("update audit_logs set outcome = 'failure' where audit_id = %(bad)s", "was changed"),
    "deleted": ("delete from audit_logs where audit_id = %(bad)s", "was deleted"),
    "two swapped": (
        "update audit_logs a set actor_user_id = b.actor_user_id, entity_id = b.entity_id, after = b.after, before = b.before "
        "from audit_logs b where (a.audit_id, b.audit_id) in ((%(bad)s, %(last)s), (%(last)s, %(bad)s))",
        "was changed",
    ),
    "two swapped whole": (
        "update audit_logs a set audit_id = case a.audit_id when %(bad)s then %(new)s else %(bad)s end "
        "where a.audit_id in (%(bad)s, %(last)s)",
        "was changed",
    ),
    "tail cut off": ("delete from audit_logs where audit_id = any (%(tail)s)", "was deleted"),
    "inserted, dated back": (INSERT.format("at - interval '1 hour', %(new)s, pg_current_xact_id()"), "is dated"),
    "inserted, dated back a little": (
        INSERT.format("now() - interval '1 hour', %(new)s, pg_current_xact_id()"),
        "is dated",
    ),
    "inserted among the sealed": (INSERT.format("at, %(new)s, written_by"), "was inserted among"),
    "dated forward": (INSERT.format("now() + interval '1 hour', %(new)s, pg_current_xact_id()"), "from the future"),
    "of a transaction to come": (INSERT.format("now(), %(new)s, '999999999999'"), "from the future"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_its_first_entry_named(as_root, entries, cast, fault):
    statement, problem = FAULTS[fault]
    bad = entries[-4] if fault == "tail cut off" else entries[3]
    new = as_root.execute("select gen_random_uuid()").fetchone()[0]
    given = {"bad": bad, "last": entries[-1], "tail": entries[-4:], "new": new}
    with as_root.transaction(force_rollback=True):
        assert as_root.execute(statement, given).rowcount
        ((named, said),) = verify(as_root)
    assert named == f"{cast.organization}: audit_logs {new if 'insert' in statement else bad}"
    assert problem in said
    assert verify(as_root) == []


def test_a_backdated_entry_is_still_found_later(settings, as_root, entries, cast):
    """The worker does not seal it like an entry of today."""
    new = as_root.execute("select gen_random_uuid()").fetchone()[0]
    given = {"bad": entries[3], "new": new}
    as_root.execute(INSERT.format("at - interval '1 hour', %(new)s, pg_current_xact_id()"), given)
    as_root.execute("update patients set first_name = 'third'")
    with psycopg.connect(settings.worker_database_url, autocommit=True) as connection:
        deadline = time.monotonic() + 20
        while as_root.execute(UNSEALED).fetchone()[0] > 1 and time.monotonic() < deadline:
            connection.execute("select app.seal_audit_logs()")
    ((named, said),) = verify(as_root)
    assert named == f"{cast.organization}: audit_logs {new}"
    assert "was inserted among entries that were sealed without it" in said


def test_the_first_of_several_is_named_for_each_organization(as_root, entries, cast, other):
    with as_root.transaction(force_rollback=True):
        as_root.execute("delete from audit_logs where audit_id = any (%s)", [[entries[5], entries[2], entries[-1]]])
        as_root.execute("update audit_logs set action = 'read' where organization_id = %s", [other.organization])
        found = dict(verify(as_root))
    assert found[f"{cast.organization}: audit_logs {entries[2]}"].endswith("; the first of 3")
    assert [name.partition(":")[0] for name in found] == sorted([str(cast.organization), str(other.organization)])


def test_a_changed_or_removed_seal_is_found(as_root, entries, cast):
    for statement, named, problem in (
        ("update audit_seals set hashes[1] = sha256('x') where number = 1", "seal 1", "was changed"),
        ("update audit_seals set audit_ids[1] = gen_random_uuid() where number = 1", "seal 1", "was changed"),
        ("update audit_seals set sealed_at = sealed_at - interval '1 hour' where number = 2", "seal 2", "was changed"),
        ("delete from audit_seals where number = 2", "seal 3", "a seal before it is gone"),
        ("delete from audit_seals where number = 1", "seal 2", "a seal before it is gone"),
    ):
        with as_root.transaction(force_rollback=True):
            statement += f" and organization_id = '{cast.organization}'"
            assert as_root.execute(statement).rowcount == 1
            ((object_, said),) = verify(as_root)
            assert object_ == f"{cast.organization}: {named}", statement
            assert problem in said, statement


def test_a_rewritten_chain_differs_from_the_stored_heads(settings, as_root, entries, cast):
    """An account that may write every table can delete entries with their seals. Only heads stored elsewhere show that."""
    as_root.execute("set session authorization claims_auditor")
    heads = as_root.execute("select * from app.audit_heads()").fetchall()
    as_root.execute("reset session authorization")
    noted = "".join(f"INFO audit seal {organization} {number} {digest}\n" for organization, number, digest in heads)
    (number,) = (number for organization, number, _ in heads if organization == cast.organization)
    assert verify(as_root, noted) == []  # control
    as_root.execute(
        "delete from audit_logs a using audit_seals s where a.organization_id = s.organization_id and a.audit_id = any (s.audit_ids) "
        "and s.number = %s and s.organization_id = %s",
        [number, cast.organization],
    )
    as_root.execute("delete from audit_seals where number = %s and organization_id = %s", [number, cast.organization])
    assert verify(as_root) == []
    assert verify(as_root, noted) == [(f"{cast.organization}: seal {number}", "it is not the one that was noted")]
    as_root.execute("update patients set first_name = 'anew'")
    seal(settings, as_root)
    assert verify(as_root) == []
    assert verify(as_root, noted) == [(f"{cast.organization}: seal {number}", "it is not the one that was noted")]


def test_an_entry_committed_late_is_sealed_later(settings, as_root, entries, cast):
    """Its transaction began before those that are sealed meanwhile. It is not taken for backdated."""
    with psycopg.connect(settings.api_database_url) as late:
        late.execute(BEGIN_CONTEXT, sign_context(cast, "alma"))
        late.execute("update app.patients set first_name = 'late' where member_number = 'M-1'")
        as_root.execute("update patients set first_name = 'early' where member_number = 'M-2'")
        before = as_root.execute("select count(*) from audit_seals").fetchone()[0]
        with psycopg.connect(settings.worker_database_url, autocommit=True) as connection:
            connection.execute("select app.seal_audit_logs()")
        # Of both organizations: they are later than a transaction that still runs.
        assert as_root.execute(UNSEALED).fetchone()[0] == 2
        assert as_root.execute("select count(*) from audit_seals").fetchone()[0] == before
        late.commit()
    seal(settings, as_root)
    assert verify(as_root) == []
    with as_root.transaction(force_rollback=True):  # control: that entry is sealed as well
        as_root.execute("""delete from audit_logs where after = '{"first_name": "late"}'""")
        assert "was deleted" in verify(as_root)[0][1]


def test_many_entries_are_sealed_in_batches(settings, as_root, cast):
    as_root.execute(
        "insert into audit_logs (organization_id, actor_role, action, entity) select %s, 'admin', 'read', 'claims' "
        "from generate_series(1, 12000)",
        [cast.organization],
    )
    as_root.execute("update patients set first_name = 'after'")
    seal(settings, as_root)
    sizes = as_root.execute(
        "select cardinality(audit_ids) from audit_seals where organization_id = %s order by number",
        [cast.organization],
    ).fetchall()
    assert [size >= 12000 for (size,) in sizes[1:]] == [True, False]  # a transaction is never split
    assert verify(as_root) == []


def test_an_audit_log_without_new_entries_is_sealed_once_a_day(settings, as_root, entries, cast):
    count = "select count(*) from audit_seals where organization_id = %s"
    before = as_root.execute(count, [cast.organization]).fetchone()[0]
    assert visited(as_root) == 0  # control: not yet
    as_root.execute(A_DAY_LATER)
    assert visited(as_root) == 2
    assert as_root.execute(count, [cast.organization]).fetchone()[0] == before + 1
    assert visited(as_root) == 0


def test_a_round_visits_no_organization_without_new_entries(settings, as_root, entries, cast):
    as_root.execute("select auth.add_organization('idle-' || n, 'Idle') from generate_series(1, 250) n")
    seal(settings, as_root)
    assert as_root.execute(MARKERS).fetchone() == (0,)
    assert visited(as_root) == 0
    as_root.execute("update patients set first_name = 'busy' where organization_id = %s", [cast.organization])
    assert visited(as_root) == 1
    as_root.execute(A_DAY_LATER)
    # Of the daily seals no more than this in one round.
    assert [visited(as_root) for _ in range(14)] == [20] * 12 + [
        12,
        0,
    ]
    late = "select count(*) from auth.organization_lookup where daily_seal_at < now() - interval '20 hours'"
    assert as_root.execute(late).fetchone() == (0,)
    assert verify(as_root) == []


def test_entries_are_sealed_in_any_order_of_commits(settings, as_root):
    """Eight connections write, roll back to savepoints, commit and roll back at random, and the sealer runs at any moment."""
    pick = Random(14)
    as_root.execute("select auth.add_organization('one-' || n, 'One') from generate_series(1, 100) n")
    seal(settings, as_root)
    slugs = [f"one-{number}" for number in range(1, 101)]  # each once, so that no later entry replaces a missing marker
    with ExitStack() as stack:
        opened = [stack.enter_context(psycopg.connect(settings.database_url)) for _ in range(8)]

        def write(connection):
            if slugs:  # the last one may be used already
                connection.execute("update app.organizations set name = 'Two' where slug = %s", [slugs.pop()])

        while slugs:
            connection = pick.choice(opened)
            match pick.randrange(6):
                case 0:
                    as_root.execute("select seal_audit_logs()")
                case 1:
                    connection.commit()
                case 2 if pick.randrange(3) == 0:
                    connection.rollback()
                case 3:
                    with connection.transaction(force_rollback=True):
                        write(connection)
                case _:
                    write(connection)
    assert as_root.execute(UNSEALED).fetchone()[0]  # control: the last transactions were still open
    seal(settings, as_root)
    assert as_root.execute(MARKERS).fetchone() == (0,)
    assert as_root.execute("select count(*) from organizations where name = 'Two'").fetchone()[0] > 20  # control
    assert verify(as_root) == []


async def test_every_function_that_writes_an_entry_marks_it_for_the_sealer(settings, as_root, as_user, entries, cast):
    for who, method, path, body in [
        ("alma", "GET", f"/api/claims/{cast.anas_claim}", None),  # app.record_access
        ("pia", "GET", f"/api/claims/{cast.bens_claim}", None),  # app.write_audit_entry
        ("alma", "PATCH", f"/api/patients/{cast.tom_patient}", {"firstName": "Tim"}),  # app.audit_row
    ]:
        await as_user(who)(method, path, json=body)
        assert as_root.execute(UNSEALED).fetchone() == (1,)
        seal(settings, as_root)
        assert as_root.execute(MARKERS).fetchone() == (0,)
    assert verify(as_root) == []


def test_an_entry_inserted_without_the_functions_is_sealed_daily(settings, as_root, entries, cast):
    """An administrator's own insert has no marker. Without new entries it is reported after an hour, because it has no seal."""
    insert = (
        "insert into audit_logs (organization_id, actor_role, action, entity) values (%s, 'admin', 'read', 'claims')"
    )
    as_root.execute(insert, [cast.organization])
    assert visited(as_root) == 0
    assert as_root.execute(UNSEALED).fetchone() == (1,)
    assert verify(as_root) == []
    with as_root.transaction(force_rollback=True):  # two hours later: the chain that would have been written then
        as_root.execute(
            """do $$
            declare
                one audit_seals;
                before bytea;
            begin
                update audit_logs a set at = now() - interval '90 minutes' where a.at > (select max(s.sealed_at) from audit_seals s);
                for one in select * from audit_seals s order by s.organization_id, s.number loop
                    before := case when one.number > 1 then before end;
                    update audit_seals s set sealed_at = s.sealed_at - interval '2 hours'
                    where s.organization_id = one.organization_id and s.number = one.number returning s.* into one;
                    update audit_seals s set digest = seal_digest(one, before)
                    where s.organization_id = one.organization_id and s.number = one.number returning s.digest into before;
                end loop;
            end $$"""
        )
        ((named, said),) = verify(as_root)
        assert (named.partition(":")[0], said) == (str(cast.organization), "has had no seal for an hour")
    as_root.execute(A_DAY_LATER)
    assert visited(as_root) == 2
    assert as_root.execute(UNSEALED).fetchone() == (0,)
    assert verify(as_root) == []


def test_two_sealers_at_once_do_not_wait_for_each_other(settings, as_root, entries):
    as_root.execute("update patients set first_name = 'third'")
    with psycopg.connect(settings.worker_database_url) as first:
        assert first.execute("select app.seal_audit_logs()").fetchone() == (4,)
        with psycopg.connect(settings.worker_database_url, autocommit=True) as second:
            second.execute("set lock_timeout = '1ms'")
            assert second.execute("select app.seal_audit_logs()").fetchone() == (0,)
        first.rollback()
    seal(settings, as_root)  # entries of the rolled back sealer are still there
    assert verify(as_root) == []


def test_entries_older_than_the_markers_are_sealed(settings, as_root, entries, cast):
    as_root.execute("update patients set first_name = 'before'")
    for file in ("0031-unsealed-entries.rollback.sql", "0031-unsealed-entries.sql"):
        with as_root.transaction():
            as_root.execute("set local role claims_owner")
            as_root.execute((MIGRATIONS / file).read_bytes())
    as_root.execute("update schema_admin.state set files = 'of yesterday'")
    migrate.apply(settings)
    assert migrate.check(settings) == []
    assert as_root.execute(MARKERS).fetchone() == (2,)
    seal(settings, as_root)
    assert verify(as_root) == []
    as_root.execute("update auth.organization_lookup set daily_seal_at = daily_seal_at - interval '31 minutes'")
    assert visited(as_root) == 2


def test_the_audit_log_continues_in_another_cluster_with_a_new_epoch(settings, as_root, entries, cast):
    """After a restore into a cluster whose transaction ids start anew; some of the entries had no seal yet."""
    as_root.execute("update patients set first_name = 'unsealed'")
    far = "(written_by::text::numeric + 1000000000)::text::xid8"
    with as_root.transaction():
        as_root.execute(f"update audit_logs set written_by = {far}")
        as_root.execute(f"update auth.unsealed_entries set written_by = {far}")
        as_root.execute("delete from audit_seals")
        as_root.execute("update schema_admin.state set cluster = 'another'")
    assert migrate.check(settings) == ["it was copied from another server"]
    migrate.apply(settings)
    assert migrate.check(settings) == []
    assert as_root.execute("select app.cluster_epoch()").fetchone() == (2,)
    as_root.execute("update patients set first_name = 'of the new epoch'")
    seal(settings, as_root)
    assert verify(as_root) == []
    epochs = as_root.execute(
        "select cluster_epoch, cardinality(audit_ids) > 0 from audit_seals where organization_id = %s order by number",
        [cast.organization],
    ).fetchall()
    assert epochs == [(1, True), (2, True)]
    migrate.apply(settings)  # the same cluster: no epoch begins
    assert as_root.execute("select app.cluster_epoch()").fetchone() == (2,)


def test_no_other_role_seals_or_reads_the_seals(as_role, as_root):
    for who in ("alma", "pia", "ana", "tom"):
        for statement in (
            "select app.seal_audit_logs()",
            "select * from app.verify_audit_logs()",
            "select * from app.verify_organization('')",
            "select app.seal_organization(now(), '9', true)",
            "select app.add_seal(1, '9', now(), '{}', '{}')",
            "select * from app.audit_heads()",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                as_role(who).execute(statement)
    with as_root.transaction(force_rollback=True):
        as_root.execute("set local session authorization claims_auditor")
        assert as_root.execute("select count(*) from app.audit_heads()").fetchone() == (2,)  # control
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            as_root.execute("select * from audit_logs")


def test_the_script_for_psql_names_its_findings(settings, as_root, entries, cast, tmp_path):
    def run(**environ):
        command = [binaries() / "psql", settings.database_url, "-qXAt", "-F", " | ", "-v", "ON_ERROR_STOP=1"]
        environ = os.environ | {"PGOPTIONS": "-c role=claims_auditor"} | environ
        file = SQL / "operations" / "verify_audit.sql"
        done = subprocess.run([*command, "-f", file], env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run() == ""
    noted = tmp_path / "worker.log"
    noted.write_text(f"12:00:00 INFO audit seal {cast.organization} 2 {'0' * 64}\n")
    assert run(HEADS=str(noted)).startswith(f"verify chain | {cast.organization}: seal 2 | it is not the one")
    as_root.execute("delete from audit_logs where audit_id = %s", [entries[6]])
    said = run()
    assert said.startswith(
        f"verify chain | {cast.organization}: audit_logs {entries[6]} | was deleted after it was sealed"
    )
    assert said.rstrip().count("\n") == 0


async def test_the_worker_seals_periodically(as_root, cast, worker):  # noqa: F811
    as_root.execute("update patients set first_name = 'of today'")
    assert as_root.execute(UNSEALED).fetchone()[0]  # control

    async def sealed():
        return not as_root.execute(UNSEALED).fetchone()[0]

    # The first round covers the last minutes, and a round is due every minute.
    await until(sealed, timedelta(seconds=75).total_seconds())
    assert verify(as_root) == []


async def test_the_workers_log_contains_the_heads_in_the_form_that_verification_reads(settings, as_root, entries, cast):
    as_root.execute("set search_path = app, procrastinate")
    job = "row('maintenance', 'note_audit_heads', 0, null, null, %s, null)::procrastinate_job_to_defer_v1"
    as_root.execute(f"select procrastinate_defer_jobs_v1(array[{job}])", ['{"timestamp": 0}'])
    with Workers(settings) as workers:
        process = workers.start()

        async def noted():
            return workers.output(process).count("audit seal ") >= 2

        await until(noted)
        log = workers.output(process)
    assert verify(as_root, log) == []
    as_root.execute("delete from audit_seals where organization_id = %s", [cast.organization])
    as_root.execute("delete from audit_logs where organization_id = %s", [cast.organization])
    assert verify(as_root) == []  # control: without the log the deletion is not found
    said = "it is not the one that was noted"
    # The worker logs them again once an hour.
    assert verify(as_root, log)[0][1] in (said, f"{said}; the first of 2")
