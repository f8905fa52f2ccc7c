"""Nothing that was acknowledged is lost and nothing happens twice, whatever is killed meanwhile; and whoever says so would notice."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg
import pytest

from tests.load import chaos
from tests.load import verify as reconcile
from tests.load.chaos_stage import staged
from tests.load.clients import Envelope, History
from tests.load.faults import KINDS, schedule

MOVED = "(select event_id from app.claim_status_history where event_id is not null order by claim_id limit 1)"
"""An event that moved at least one claim."""


class Quiet(NamedTuple):
    """What a small run without faults left."""

    history: History
    connection: psycopg.Connection[Any]

    def tampered(self, statements: str) -> list[reconcile.Found]:
        """What the reconciler says after somebody wrote to the tables by hand, around every trigger and key; then it is undone."""
        with self.connection.transaction(force_rollback=True):
            self.connection.execute(f"set local session_replication_role = replica; {statements}")
            return reconcile.reconcile(self.connection, self.history)


@pytest.fixture(scope="module")
def quiet() -> Iterator[Quiet]:
    with staged(durable=False) as stage:
        history = chaos.run(stage, seed=1, seconds=4, faults=[])
        stage.stop()
        chaos.seal(stage)
        with stage.admin() as connection:
            yield Quiet(history, connection)


TAMPERED = {
    "a move is deleted": (
        f"delete from app.claim_status_history where event_id = {MOVED}",
        {("lost", "did not move"), ("lost", "has no move"), ("doubled", "the trail has")},
    ),
    "a move is written twice": (
        "insert into app.claim_status_history (organization_id, claim_id, version, from_status, to_status, by_role, source, "
        "event_id) select organization_id, claim_id, version + 100, from_status, to_status, by_role, source, event_id "
        f"from app.claim_status_history where event_id = {MOVED} limit 1",
        {("doubled", "moved claim"), ("wrong", "went from"), ("lost", "the trail lacks")},
    ),
    "a claim is put back": (
        f"update app.claims set status = 'submitted' where claim_id in (select claim_id from app.claim_status_history "
        f"where event_id = {MOVED})",
        {("lost", "is submitted, and was moved to")},
    ),
    "an effect never was, and nothing says so": (
        "create temp table gone on commit drop as select claim_id from app.claim_status_history where event_id is not null "
        "and claim_id in (select claim_id from app.claims where status = 'under_review');"
        "delete from app.claim_status_history where version > 1 and claim_id in (select * from gone);"
        "update app.claims set status = 'submitted', version = 1 where claim_id in (select * from gone);"
        "delete from app.audit_logs where action = 'update' and entity = 'claims' and entity_id in (select * from gone);"
        """update app.job_processing_logs set result = '{"updated": [], "skipped": [], "failed": []}'""",
        {("lost", "is submitted after admission")},
    ),
    "an acknowledged event is deleted": (
        f"delete from app.patient_status_events where event_id = {MOVED}",
        {("lost", "was acknowledged and is not stored"), ("lost", "has no event"), ("lost", "moved claims and is not")},
    ),
    "an event and all that it left is deleted": (
        "create temp table gone on commit drop as select event_id from app.patient_status_events limit 1;"
        "delete from app.patient_status_events where event_id in (select * from gone);"
        "delete from app.job_processing_logs where event_id in (select * from gone);",
        {("lost", "was acknowledged and is not stored")},
    ),
    "a claim is deleted": (
        "delete from app.claims where claim_id = (select claim_id from app.claims limit 1)",
        {("lost", "was acknowledged and is not stored")},
    ),
    "a claim is stored twice": (
        "insert into app.claims (organization_id, patient_id, provider_id, diagnosis_code, amount_cents, service_date, notes) "
        "select organization_id, patient_id, provider_id, diagnosis_code, amount_cents, service_date, notes "
        "from app.claims limit 1",
        {("doubled", "claim")},
    ),
    "an event is stored that nobody posted": (
        f"update app.patient_status_events set idempotency_key = 'other' where event_id = {MOVED}",
        {("lost", "was acknowledged"), ("wrong", "is not what anybody posted")},
    ),
    "a job is lost": (
        f"delete from app.job_processing_logs where event_id = {MOVED}",
        {("lost", "has 0 jobs in the log")},
    ),
    "a job hangs": (
        "update procrastinate.procrastinate_jobs set status = 'doing' "
        "where id = (select min(id) from procrastinate.procrastinate_jobs where queue_name = 'patient_status')",
        {("lost", "1 jobs in the queue are doing")},
    ),
    "a job is dead": (
        f"update app.job_processing_logs set status = 'failed', error = 'Why', result = null where event_id = {MOVED}",
        {("lost", "is failed (Why)")},
    ),
    "an event moved the claim of another patient": (
        "update app.claims set patient_id = (select patient_id from app.patients p where p.patient_id <> claims.patient_id "
        f"limit 1) where claim_id in (select claim_id from app.claim_status_history where event_id = {MOVED})",
        {("wrong", "of somebody else")},
    ),
    "an entry of the trail is deleted": (
        "delete from app.audit_logs where audit_id = (select audit_id from app.audit_logs where entity = 'claims' limit 1)",
        {("lost", "the trail lacks"), ("wrong", "was deleted after it was sealed")},
    ),
    "a patient's first event has its effect last": (
        "update app.job_processing_logs set finished_at = now() "
        "where event_id = (select event_id from app.patient_status_events order by created_at limit 1)",
        {("wrong", "had its effect before")},
    ),
}
"""What somebody writes by hand, and what the reconciler must say, at least."""


def test_whatever_is_removed_or_doubled_by_hand_is_found(quiet: Quiet):
    assert len(quiet.history.acknowledged()) > 50
    assert sum(one.version > 1 for one in reconcile.read(quiet.connection).moves) > 10
    for what, (statements, expected) in TAMPERED.items():
        assert quiet.tampered("") == [], f"before: {what}"  # control
        found = quiet.tampered(statements)
        unsaid = {(kind, words) for kind, words in expected if not any(kind == k and words in w for k, w in found)}
        assert not unsaid, (what, unsaid, found[:10])


def test_a_client_that_is_told_two_names_finds_out(quiet: Quiet):
    one = quiet.history.acknowledged()[0]
    one.answers.append(Envelope(0, 0, 200, "another name"))
    try:
        assert [found.kind for found in quiet.tampered("")] == ["doubled"]
    finally:
        one.answers.pop()


def test_a_result_that_a_client_has_read_stands(quiet: Quiet):
    event = next(iter(quiet.history.results))
    result = '{"updated": [], "skipped": [{"id": "x", "reason": "y"}], "failed": []}'
    update = f"update app.job_processing_logs set result = '{result}' where event_id = '{event}'"
    assert any("had another result" in found.what for found in quiet.tampered(update))


def test_workers_are_back_soon_after_a_long_outage():
    with staged(durable=False) as stage:
        stage.server.stop("immediate")
        stage.keep_until(time.monotonic() + 8.5)
        stage.server.start()
        up = time.monotonic()
        with stage.admin() as connection:
            alive = "select max(last_heartbeat) > pg_postmaster_start_time() from procrastinate.procrastinate_workers"
            while connection.execute(alive).fetchone() != (True,):
                assert time.monotonic() < up + 4, "they wait longer, the longer the database was away"
                stage.ensure_running()


def test_the_same_seed_is_the_same_schedule():
    assert schedule(7, 300) == schedule(7, 300) != schedule(8, 300)
    for seed in range(20):
        assert {fault.kind for fault in schedule(seed, 40)} == set(KINDS)


def test_nothing_is_lost_and_nothing_happens_twice():
    with staged() as stage:
        history = chaos.run(stage, seed=1, seconds=40, faults=schedule(1, 40))
        stage.stop()
        chaos.seal(stage)
        with stage.admin() as connection:
            found, ended = reconcile.reconcile(connection, history), chaos.deliveries(connection)
    figures = chaos.table(stage, history, found, ended)
    assert (found, dict(history.unexpected)) == ([], {}), figures
    assert set(stage.hits) == set(KINDS), figures
    assert ended.again > 0, figures  # control: jobs were hit
