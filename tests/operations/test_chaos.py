"""Chaos: no acknowledged request is lost and none has two effects, whatever is killed meanwhile.

`verify` itself is tested with changes by hand.
"""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg
import pytest

from tests.load import chaos, verify
from tests.load.chaos_deployment import deployed
from tests.load.clients import History, Response
from tests.load.faults import KINDS, schedule

MOVED = "(select event_id from app.claim_status_history where event_id is not null order by claim_id limit 1)"
"""An event that moved at least one claim."""


class Quiet(NamedTuple):
    """The state after a small run without faults."""

    history: History
    connection: psycopg.Connection[Any]

    def tampered(self, statements: str) -> list[verify.Found]:
        """The findings after a change by hand, past every trigger and key. The change is rolled back."""
        with self.connection.transaction(force_rollback=True):
            self.connection.execute(f"set local session_replication_role = replica; {statements}")
            return verify.compare(self.connection, self.history)


@pytest.fixture(scope="module")
def quiet() -> Iterator[Quiet]:
    with deployed(durable=False) as deployment:
        history = chaos.run(deployment, seed=1, seconds=4, faults=[])
        deployment.stop()
        chaos.seal(deployment)
        with deployment.admin() as connection:
            yield Quiet(history, connection)


TAMPERED = {
    "a move is deleted": (
        f"delete from app.claim_status_history where event_id = {MOVED}",
        {("lost", "did not move"), ("lost", "has no move"), ("doubled", "the audit log has")},
    ),
    "a move is written twice": (
        "insert into app.claim_status_history (organization_id, claim_id, version, from_status, to_status, by_role, source, "
        "event_id) select organization_id, claim_id, version + 100, from_status, to_status, by_role, source, event_id "
        f"from app.claim_status_history where event_id = {MOVED} limit 1",
        {("doubled", "moved claim"), ("wrong", "went from"), ("lost", "the audit log lacks")},
    ),
    "a status is reset": (
        f"update app.claims set status = 'submitted' where claim_id in (select claim_id from app.claim_status_history "
        f"where event_id = {MOVED})",
        {("lost", "is submitted, and was moved to")},
    ),
    "an effect is removed with all of its records": (
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
    "an event and its job are deleted": (
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
    "an event is stored that no client posted": (
        f"update app.patient_status_events set idempotency_key = 'other' where event_id = {MOVED}",
        {("lost", "was acknowledged"), ("wrong", "was not posted by any client")},
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
        {("wrong", "of another patient")},
    ),
    "an entry of the audit log is deleted": (
        "delete from app.audit_logs where audit_id = (select audit_id from app.audit_logs where entity = 'claims' limit 1)",
        {("lost", "the audit log lacks"), ("wrong", "was deleted after it was sealed")},
    ),
    "a patient's first event has its effect last": (
        "update app.job_processing_logs set finished_at = now() "
        "where event_id = (select event_id from app.patient_status_events order by created_at limit 1)",
        {("wrong", "had its effect before")},
    ),
}
"""Changes by hand, and the findings that each must cause, at least."""


def test_every_removal_or_duplicate_by_hand_is_found(quiet: Quiet):
    assert len(quiet.history.acknowledged()) > 50
    assert sum(one.version > 1 for one in verify.read(quiet.connection).moves) > 10
    for what, (statements, expected) in TAMPERED.items():
        assert quiet.tampered("") == [], f"before: {what}"  # control
        found = quiet.tampered(statements)
        missing = {(kind, words) for kind, words in expected if not any(kind == k and words in w for k, w in found)}
        assert not missing, (what, missing, found[:10])


def test_two_names_for_one_request_are_found(quiet: Quiet):
    one = quiet.history.acknowledged()[0]
    one.answers.append(Response(0, 0, 200, "another name"))
    try:
        assert [found.kind for found in quiet.tampered("")] == ["doubled"]
    finally:
        one.answers.pop()


def test_a_changed_result_of_a_job_is_found(quiet: Quiet):
    event = next(iter(quiet.history.results))
    result = '{"updated": [], "skipped": [{"id": "x", "reason": "y"}], "failed": []}'
    update = f"update app.job_processing_logs set result = '{result}' where event_id = '{event}'"
    assert any("had another result" in found.what for found in quiet.tampered(update))


def test_workers_reconnect_soon_after_a_long_outage():
    with deployed(durable=False) as deployment:
        deployment.server.stop("immediate")
        deployment.keep_until(time.monotonic() + 8.5)
        deployment.server.start()
        up = time.monotonic()
        with deployment.admin() as connection:
            alive = "select max(last_heartbeat) > pg_postmaster_start_time() from procrastinate.procrastinate_workers"
            while connection.execute(alive).fetchone() != (True,):
                assert time.monotonic() < up + 4, "their backoff has no bound"
                deployment.ensure_running()


def test_the_same_seed_is_the_same_schedule():
    assert schedule(7, 300) == schedule(7, 300) != schedule(8, 300)
    for seed in range(20):
        assert {fault.kind for fault in schedule(seed, 40)} == set(KINDS)


def test_nothing_is_lost_and_nothing_has_two_effects():
    with deployed() as deployment:
        history = chaos.run(deployment, seed=1, seconds=40, faults=schedule(1, 40))
        deployment.stop()
        chaos.seal(deployment)
        with deployment.admin() as connection:
            found, ended = verify.compare(connection, history), chaos.deliveries(connection)
    figures = chaos.table(deployment, history, found, ended)
    assert (found, dict(history.unexpected)) == ([], {}), figures
    assert set(deployment.hits) == set(KINDS), figures
    assert ended.again > 0, figures  # control: faults interrupted jobs
