"""The words of app/vocabulary.py are those of a live database: of its constraints, its functions and its reference data."""

import re
from typing import get_args

import psycopg
import pytest

from app.vocabulary import ACTING_ROLES, CLAIM_STATUSES, JOB_TYPES, ROLES, EventType, JobStatus, JobType

CONSTRAINTS = {
    "claims_status_check": CLAIM_STATUSES,
    "users_role_check": ROLES,
    "invitations_role_check": ROLES,
    "claim_transitions_role_check": ACTING_ROLES,
    "patient_status_events_event_type_check": get_args(EventType),
    "job_processing_logs_status_check": get_args(JobStatus),
}
DEFINITION = (
    "select pg_get_constraintdef(oid) from pg_constraint where connamespace = 'app'::regnamespace and conname = %s"
)
APPLY = """
select (apply_event(jsonb_populate_record(e, jsonb_build_object('event_type', %s::text)), null, null)).effect
from patient_status_events e where e.event_id = %s"""


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_a_constraint_has_the_words_of_its_list(as_root, name):
    ((definition,),) = as_root.execute(DEFINITION, [name]).fetchall()
    assert sorted(re.findall(r"'(\w+)'::text", definition)) == sorted(CONSTRAINTS[name])


def test_claim_statuses_is_the_list_in_order(as_root):
    assert [status for (status,) in as_root.execute("select claim_statuses()")] == list(CLAIM_STATUSES)


def test_transitions_have_every_status_and_every_role_that_moves_claims(as_root):
    statuses = "select from_status from claim_transitions union select to_status from claim_transitions"
    assert {status for (status,) in as_root.execute(statuses)} == {"", *CLAIM_STATUSES}
    roles = "select distinct role from claim_transitions"
    assert {role for (role,) in as_root.execute(roles)} == set(ACTING_ROLES) - {"patient"}


def test_each_role_has_a_role_of_the_database_and_back(as_root):
    for role in ACTING_ROLES:
        (database_role,) = as_root.execute("select context.database_role(%s)", [role]).fetchone()
        with as_root.transaction():
            as_root.execute(f"set local role {database_role}")
            assert as_root.execute("select caller_role()").fetchone() == (role,)
    assert as_root.execute("select caller_role()").fetchone() == (
        None,
    )  # control: an administrator has no role of the product


def test_each_event_starts_the_job_of_its_type(as_root):
    assert get_args(EventType) == tuple(JOB_TYPES)
    assert get_args(JobType) == tuple(JOB_TYPES.values())
    for event_type, job_type in JOB_TYPES.items():
        assert as_root.execute("select event_job_type(%s)", [event_type]).fetchone() == (job_type,)
    assert as_root.execute("select event_job_type('other')").fetchone() == (None,)  # control


def test_a_job_has_an_effect_for_each_type_of_event(settings, cast):
    with psycopg.connect(settings.worker_database_url, options="-c search_path=app") as job:
        begin = "select set_config('role', context.begin_job(%s, %s), true)"
        job.execute(begin, [cast.organization, cast.toms_event])
        for event_type in JOB_TYPES:
            ((result,),) = job.execute(APPLY, [event_type, cast.toms_event]).fetchall()
            assert sorted(result) == ["failed", "skipped", "updated"], event_type
        with pytest.raises(psycopg.errors.CaseNotFound):
            job.execute(APPLY, ["other", cast.toms_event])  # control
