"""Jobs of many claims and of many events: parts that each commit, and events of one patient that run in one transaction."""

import asyncio
from typing import Any

import pytest

from tests.support.clients import until
from tests.support.workers import World, as_worker, ended, jobs_of, run

PART = 3
CLAIMS = 8
SMALL_PARTS = f"""
create or replace function app.claims_of_a_part() returns integer language sql immutable return {PART};
update schema_admin.state set catalog = schema_admin.fingerprint()"""
STARTS = """
select count(*) from procrastinate.procrastinate_events e join procrastinate.procrastinate_jobs j on j.id = e.job_id
where j.args ->> 'event_id' = %s and e.type = 'started'"""


@pytest.fixture(autouse=True)
def search_path(as_root):
    """Triggers of the queue find its types by the search_path."""
    as_root.execute("set search_path = app, procrastinate")


@pytest.fixture
async def discharged(as_root, world):
    """A patient with more small claims than a part has, and a discharge that approves them: (patient, claims, event)."""
    as_root.execute(SMALL_PARTS)
    patient = await world.patient()
    claims = [await world.claim(patient) for _ in range(CLAIMS)]
    return patient, claims, await world.event(patient, "discharge", "2026-11-12T10:00:00Z")


def part(settings, cast, event: str) -> str:
    """Runs one part of the job and commits it; returns the job's status."""
    with as_worker(settings) as worker:
        status, _ = run(worker, cast, event)
        worker.commit()
    return status


def result_of(as_root, event: str) -> Any:
    ((result,),) = as_root.execute("select result from job_processing_logs where event_id = %s", [event]).fetchall()
    return result


async def statuses(world: World, claims: list[str]) -> list[str]:
    return [(await world.moves(claim))[-1][0] for claim in claims]


async def test_a_discharge_of_many_claims_commits_in_parts(settings, as_root, cast, world, discharged, as_user):
    patient, claims, event = discharged
    assert part(settings, cast, event) == "processing"
    assert (await statuses(world, claims)).count("approved") == PART
    job = (await as_user("alma").get("/api/jobs?status=processing")).json()["data"]
    assert [(one["eventId"], one["result"], one["finishedAt"], one["attempts"]) for one in job] == [
        (event, None, None, 0)
    ]
    # A part that is rolled back is repeated; what was committed is not.
    with as_worker(settings) as worker:
        run(worker, cast, event)
        worker.rollback()
    later = await world.claim(patient)  # created after the discharge began, and of its visit
    assert [part(settings, cast, event) for _ in range(2)] == ["processing", "processing"]
    assert part(settings, cast, event) == "completed"
    assert await statuses(world, [*claims, later]) == ["approved"] * (CLAIMS + 1)
    result = result_of(as_root, event)
    assert sorted(result["updated"]) == sorted([*claims, later])
    assert (result["updatedCount"], result["skippedCount"], result["failedCount"]) == (CLAIMS + 1, 0, 0)
    assert [len(await world.moves(claim)) for claim in claims] == [2] * CLAIMS
    assert part(settings, cast, event) == "completed"  # a second delivery
    assert jobs_of(as_root, event)[0][2] == 1


async def test_each_part_has_three_attempts(settings, as_root, cast, world, discharged):
    """A job of a hundred parts must not end because three of them failed once."""
    _, claims, event = discharged
    fail = "select status, attempts from app.record_job_failure(%s, '40001', false)"
    for _ in range(2):
        for attempt in (1, 2):
            with as_worker(settings) as worker:
                worker.execute("select set_config('role', context.begin_job(%s, %s), true)", [cast.organization, event])
                assert worker.execute(fail, [event]).fetchone() == ("pending", attempt)
                worker.commit()
        assert part(settings, cast, event) == "processing"
    assert part(settings, cast, event) == "completed"
    assert await statuses(world, claims) == ["approved"] * CLAIMS


async def test_a_cancellation_between_parts_undoes_all_of_them(settings, as_root, cast, world, discharged):
    patient, claims, event = discharged
    assert part(settings, cast, event) == "processing"
    assert (await statuses(world, claims)).count("approved") == PART  # control
    cancelled = await world.event(patient, "discharge_cancelled", "2026-11-12T11:00:00Z")
    while part(settings, cast, event) == "processing":
        pass
    assert (await statuses(world, claims)).count("approved") == PART  # the other parts skip their claims
    assert {one["reason"] for one in result_of(as_root, event)["skipped"]} == {"the discharge was cancelled"}
    while part(settings, cast, cancelled) == "processing":
        pass
    assert "approved" not in await statuses(world, claims)
    assert result_of(as_root, cancelled)["updatedCount"] == PART


async def test_a_worker_runs_all_parts_under_one_lock(as_root, cast, world, discharged, workers):
    patient, claims, event = discharged
    cancelled = await world.event(patient, "discharge_cancelled", "2026-11-13T11:00:00Z")
    workers.start()
    await until(ended(as_root, [event, cancelled]))
    # It was cancelled before it began: nothing was approved, and the parts of both events ran in order.
    assert set(await statuses(world, claims)) == {"submitted"}
    assert result_of(as_root, event)["skippedCount"] == CLAIMS
    assert as_root.execute(STARTS, [event]).fetchone() == (CLAIMS // PART + 1,)  # each part begins its time anew
    assert [row[2] for row in jobs_of(as_root, event, cancelled)] == [1, 1]


async def test_a_job_that_was_killed_between_parts_continues_after_the_last(
    settings, as_root, cast, world, discharged, workers
):
    _, claims, event = discharged
    assert part(settings, cast, event) == "processing"
    before = await world.moves(claims[0])
    as_root.execute(
        "update procrastinate.procrastinate_jobs set status = 'doing', worker_id = null where status = 'todo'"
    )
    workers.start()  # rescues the job and runs the rest
    await until(ended(as_root, [event]))
    assert await statuses(world, claims) == ["approved"] * CLAIMS
    assert await world.moves(claims[0]) == before
    assert result_of(as_root, event)["updatedCount"] == CLAIMS


async def test_a_late_admission_takes_back_the_parts_of_a_discharge_that_failed(
    settings, as_root, cast, world, as_user
):
    as_root.execute(SMALL_PARTS)
    patient = await world.patient()
    outside = [await world.claim(patient, serviceDate="2026-10-25") for _ in range(PART)]
    inside = [await world.claim(patient) for _ in range(PART)]
    event = await world.event(patient, "discharge", "2026-11-12T10:00:00Z")
    assert part(settings, cast, event) == "processing"
    assert await statuses(world, outside) == ["approved"] * PART  # control: no visit is known
    as_root.execute("update job_processing_logs set status = 'failed' where event_id = %s", [event])
    admission = await world.event(patient, "admission", "2026-11-09T10:00:00Z")
    while part(settings, cast, admission) == "processing":
        pass
    assert await statuses(world, outside) == ["under_review"] * PART
    ((job,),) = as_root.execute("select job_id from job_processing_logs where event_id = %s", [event]).fetchall()
    assert (await as_user("alma").post(f"/api/jobs/{job}/retry", {})).is_success
    while part(settings, cast, event) == "processing":
        pass
    assert await statuses(world, outside) == ["under_review"] * PART
    assert await statuses(world, inside) == ["approved"] * PART


MANY_EVENTS = """
with events as (
    insert into patient_status_events (organization_id, patient_id, event_type, occurred_at, visit_number)
    select %(organization)s, %(patient)s, kind, timestamptz '2020-01-01' + day * interval '8 hours' + late, number || day
    from unnest(%(kinds)s::text[], %(numbers)s::text[]) as k (kind, number)
    cross join lateral (select case kind when 'admission' then interval '0' else interval '4 hours' end as late) l
    cross join generate_series(1, 5000) as day
    returning *)
insert into job_processing_logs (organization_id, job_type, event_id, patient_id, status, finished_at)
select organization_id, event_job_type(event_type), event_id, patient_id, 'completed', now() from events
"""


@pytest.mark.parametrize(
    ("kinds", "numbers", "event"),
    [
        (["admission", "discharge"], ["V", "V"], ("discharge", "2026-11-10T10:00:00Z")),
        (["discharge"], [None], ("admission", "2019-12-31T10:00:00Z")),
        (["discharge"], ["V"], ("admission", "2019-12-31T10:00:00Z")),
        (["discharge"], ["V"], ("discharge", "2026-11-10T10:00:00Z")),
    ],
    ids=["numbered visits", "discharges before their admission", "numbered discharges", "no admission"],
)
async def test_an_event_of_a_patient_with_thousands_of_events_ends_in_time(
    settings, as_root, cast, world, kinds, numbers, event
):
    """A statement of a worker ends after three seconds."""
    patient = await world.patient()
    as_root.execute("set session_replication_role = replica")  # without their jobs
    params = {"organization": cast.organization, "patient": patient, "kinds": kinds, "numbers": numbers}
    as_root.execute(MANY_EVENTS, params)
    as_root.execute("set session_replication_role = origin; analyze patient_status_events; analyze job_processing_logs")
    assert part(settings, cast, await world.event(patient, *event)) == "completed"


def test_a_result_lists_a_thousand_entries_and_counts_all(as_root):
    many = "jsonb_build_object('updated', (select jsonb_agg(n) from generate_series(1, 700) n), 'failed', '[]'::jsonb)"
    ((result,),) = as_root.execute(f"select app.add_effect(app.add_effect(null, {many}), {many})").fetchall()
    assert (len(result["updated"]), result["updatedCount"]) == (1000, 1400)
    assert (result["failed"], result["failedCount"], result["skipped"], result["skippedCount"]) == ([], 0, [], 0)


def test_a_result_of_before_has_its_counts(as_root):
    before = '{"updated": ["a"], "skipped": [], "failed": []}'
    ((result,),) = as_root.execute(
        "select app.job_result(jsonb_populate_record(null::app.job_processing_logs, "
        "jsonb_build_object('status', 'completed', 'result', %s::jsonb)))",
        [before],
    ).fetchall()
    assert result == {
        "updated": ["a"],
        "skipped": [],
        "failed": [],
        "updatedCount": 1,
        "skippedCount": 0,
        "failedCount": 0,
    }


async def test_the_events_of_one_patient_run_without_a_pause(as_root, cast, world, workers):
    """More events than one transaction takes, by a worker that never polls: it fetches the next one when the last has ended."""
    patient = await world.patient()
    claim = await world.claim(patient)
    kinds = ["admission", "admission_cancelled"] * 60
    events = [
        await world.event(patient, kind, f"2026-11-05T{10 + n // 60:02}:{n % 60:02}:00Z")
        for n, kind in enumerate(kinds)
    ]
    workers.start(PROCRASTINATE_WORKER_FETCH_JOB_POLLING_INTERVAL="600")
    await until(ended(as_root, events, "completed", queue=("succeeded",)))
    assert [event for _, event in await world.moves(claim)] == [None]  # all were cancelled before
    recorded = as_root.execute(
        "select array_agg(e.type::text order by e.id) from procrastinate.procrastinate_events e "
        "where e.type <> 'scheduled' group by e.job_id"
    ).fetchall()
    assert {tuple(types) for (types,) in recorded if len(types) > 1} >= {("deferred", "started", "succeeded")}
    locks = as_root.execute(
        "select count(*) from procrastinate.procrastinate_jobs where lock like %s", [f"%:{patient}"]
    )
    assert locks.fetchone() == (len(events),)
    # Several events ran in one transaction, so they began at the same time.
    starts = as_root.execute(
        "select count(distinct started_at) from job_processing_logs where patient_id = %s", [patient]
    )
    assert starts.fetchone()[0] < len(events) / 20


async def test_events_after_a_failed_one_wait_for_it(settings, as_root, cast, world):
    """A successor must not be processed before the event that precedes it."""
    patient = await world.patient()
    first, second, third = [await world.event(patient, "admission", f"2026-11-0{n}T10:00:00Z") for n in (1, 2, 3)]
    as_root.execute(
        "update procrastinate.procrastinate_jobs set status = 'doing' where args ->> 'event_id' = %s", [first]
    )
    as_root.execute("update procrastinate.procrastinate_jobs set attempts = 1 where args ->> 'event_id' = %s", [second])
    with as_worker(settings) as worker:
        assert run(worker, cast, first, more=50) == ("completed", 0)
        worker.commit()
    assert [row[1] for row in sorted(jobs_of(as_root, second, third))] == ["pending", "pending"]
    as_root.execute("update procrastinate.procrastinate_jobs set attempts = 0")
    with as_worker(settings) as worker:  # control
        assert run(worker, cast, first, more=50) == ("completed", 2)
        worker.commit()
    assert {row[1] for row in jobs_of(as_root, second, third)} == {"completed"}


async def test_a_job_behind_its_predecessor_is_no_stuck_queue(as_root, world):
    patient = await world.patient()
    for n in (1, 2):
        await world.event(patient, "admission", f"2026-11-0{n}T10:00:00Z")
    as_root.execute("update procrastinate.procrastinate_events set at = now() - interval '5 minutes'")
    state = "select oldest from app.queue_state()"
    assert as_root.execute(state).fetchone()[0] > 290  # control: the first one could run
    as_root.execute(
        "update procrastinate.procrastinate_jobs set status = 'doing' where id = (select min(id) from procrastinate.procrastinate_jobs)"
    )
    assert as_root.execute(state).fetchone() == (0,)


async def test_a_long_wait_of_a_successor_begins_anew_when_it_can_run(settings, as_root, cast, world):
    patient = await world.patient()
    first, _ = [await world.event(patient, "admission", f"2026-11-0{n}T10:00:00Z") for n in (1, 2)]
    as_root.execute(
        "update procrastinate.procrastinate_jobs set status = 'doing' where args ->> 'event_id' = %s", [first]
    )
    as_root.execute("update procrastinate.procrastinate_events set at = now() - interval '5 minutes'")
    with as_worker(settings) as worker:
        run(worker, cast, first)
        worker.commit()
    as_root.execute(
        "update procrastinate.procrastinate_jobs set status = 'succeeded' where args ->> 'event_id' = %s", [first]
    )
    assert as_root.execute("select oldest from app.queue_state()").fetchone()[0] < 60


async def test_another_patients_job_waits_for_no_burst(as_root, cast, world, workers):
    patient = await world.patient()
    burst = [await world.event(patient, "admission", f"2026-11-05T10:{n % 60:02}:{n // 60:02}Z") for n in range(120)]
    ((_, claim, other),) = await world.admitted(1)
    workers.start("procrastinate", PROCRASTINATE_WORKER_CONCURRENCY="1")
    await asyncio.gather(until(ended(as_root, burst)), until(ended(as_root, [other])))
    assert await world.moves(claim) == [("submitted", None), ("under_review", other)]
    before = (
        "select count(*) from job_processing_logs b, job_processing_logs o "
        "where o.event_id = %s and b.patient_id = %s and b.finished_at < o.finished_at"
    )
    # It runs beside the first events of the burst, although it came after all of them.
    assert as_root.execute(before, [other, patient]).fetchone()[0] < len(burst) / 2
