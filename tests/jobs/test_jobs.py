"""Jobs: an effect happens once, in order for each patient, in batches under load, and invisible to other tenants."""

import asyncio

import psycopg
import pytest

from tests.support.clients import until
from tests.support.workers import FAULTS, World, as_worker, blocked, ended, jobs_of, listening, run

QUEUED = "select status::text from procrastinate.procrastinate_jobs where queue_name = 'patient_status'"
INSERT = """
insert into patient_status_events (patient_id, event_type, occurred_at) values (%s, 'admission', now()) returning event_id
"""
CHANGES = """
select entity_id::text, request_id from audit_logs where entity = 'claims' and action = 'update' and actor_role = 'system'
order by entity_id, at
"""


async def test_an_event_posted_a_hundred_times_at_once_has_one_effect(as_user, as_root, cast, workers):
    alma = as_user("alma")
    body = {"patientId": str(cast.tina_patient), "eventType": "admission", "occurredAt": "2026-11-10T10:00:00Z"}
    workers.start()
    await until(listening(as_root))
    answers = await asyncio.gather(
        *(alma.post("/api/patient-status", body | {"idempotencyKey": "once"}) for _ in range(100))
    )
    assert sorted(one.status_code for one in answers) == [200] * 99 + [202]
    (event,) = {one.json()["data"]["id"] for one in answers}
    await until(ended(as_root, [event]))
    assert as_root.execute(QUEUED).fetchall() == [("succeeded",)]
    assert await World(alma, cast).moves(cast.bens_claim) == [("submitted", None), ("under_review", event)]
    assert as_root.execute(CHANGES).fetchall() == [(str(cast.bens_claim), event)]


async def test_two_workers_with_one_job_have_one_effect(settings, as_root, cast, world):
    ((_, claim, event),) = await world.admitted(1)
    with as_worker(settings) as first, as_worker(settings) as second:
        assert run(first, cast, event) == ("completed", 0)
        waiting = asyncio.create_task(asyncio.to_thread(run, second, cast, event))
        await until(blocked(as_root, 1))
        first.commit()
        assert await waiting == ("completed", 0)
        second.commit()
    assert await world.moves(claim) == [("submitted", None), ("under_review", event)]
    assert jobs_of(as_root, event)[0][2] == 1  # one attempt
    with as_worker(settings) as third:  # control: after a rollback the next attempt has the effect
        ((_, claim, event),) = await world.admitted(1)
        run(third, cast, event)
        third.rollback()
        assert len(await world.moves(claim)) == 1
        run(third, cast, event)
        third.commit()
    assert len(await world.moves(claim)) == 2


async def test_a_job_that_is_rescued_too_early_has_one_effect_and_its_first_worker_survives(
    settings, as_root, world, workers
):
    as_root.execute(FAULTS)
    ((patient, claim, event),) = await world.admitted(1)
    as_root.execute("insert into public.faults values (%s, 'lock')", [patient])
    with psycopg.connect(settings.database_url, autocommit=True) as holder:
        holder.execute("select pg_advisory_lock(hashtext(%s))", [patient])
        worker = workers.start()
        await until(blocked(as_root, 1))
        as_root.execute("update procrastinate_jobs set status = 'todo' where status = 'doing'")
        await until(blocked(as_root, 2))  # the same job again, while the first attempt still runs
        holder.execute("select pg_advisory_unlock_all()")
    await until(ended(as_root, [event]))
    assert await world.moves(claim) == [("submitted", None), ("under_review", event)]
    ((_, claim, event),) = await world.admitted(1)
    await until(ended(as_root, [event]))
    assert worker.poll() is None
    assert jobs_of(as_root, event)[0][2] == 1


async def test_a_patients_events_are_applied_in_order_and_delay_no_other_patients(as_root, cast, world, workers):
    as_root.execute(FAULTS)
    (patient, claim, first), (_, _, others) = await world.admitted(2)
    as_root.execute("insert into public.faults values (%s, '40001')", [patient])
    kinds = ["admission_cancelled", "admission"] * 4
    events = [first, *[await world.event(patient, kind, f"2026-11-10T1{n}:30:00Z") for n, kind in enumerate(kinds)]]
    workers.start()
    workers.start()
    await until(ended(as_root, [others]))
    rows = dict(as_root.execute("select event_id::text, attempts from job_processing_logs").fetchall())
    assert rows[first] > 0  # it failed and is in backoff
    assert [rows[event] for event in events[1:]] == [0] * 8
    as_root.execute("delete from public.faults")
    await until(ended(as_root, events))
    order = "select event_id::text from job_processing_logs where patient_id = %s order by finished_at"
    assert [event for (event,) in as_root.execute(order, [patient])] == events
    # An admission that is cancelled later, in an event known when its job runs, moves nothing.
    assert [event for _, event in await world.moves(claim)] == [None, events[-1]]


async def test_commits_out_of_order_lose_nothing(as_role, as_root, cast, world, workers):
    early, late = as_role("alma"), as_role("alma")
    events = [one.execute(INSERT, [cast.tom_patient]).fetchone()[0] for one in (early, late)]
    late.commit()
    workers.start()
    await until(ended(as_root, events[1:]))
    early.commit()
    await until(ended(as_root, events))
    assert await world.moves(cast.anas_claim) == [("submitted", None), ("under_review", str(events[1]))]


async def test_a_worker_survives_a_race_for_one_patient(as_role, settings, as_root, cast, world, workers):
    early, late = as_role("alma"), as_role("alma")
    events = [one.execute(INSERT, [cast.tom_patient]).fetchone()[0] for one in (early, late)]
    late.commit()
    with psycopg.connect(settings.database_url, options="-c search_path=procrastinate") as rival:
        ((later,),) = rival.execute(
            "select (procrastinate_fetch_job_v2(null, (select id from procrastinate_workers))).id"
        )
        early.commit()
        worker = workers.start()
        await until(blocked(as_root, 1, "%fetch_job%"))
        rival.commit()
        await until(lambda: said(workers, worker, "lost the database (UniqueViolation)"))
        rival.execute("update procrastinate_jobs set status = 'todo' where id = %s", [later])
    await until(ended(as_root, events))
    assert worker.poll() is None
    assert await world.moves(cast.anas_claim) == [("submitted", None), ("under_review", str(events[0]))]


async def said(workers, worker, text: str) -> bool:
    return text in workers.output(worker)


async def test_a_race_for_a_batched_job_fails_neither_worker(settings, as_role, as_root, cast, world):
    as_root.execute(FAULTS)
    ((_, _, event),) = await world.admitted(1)
    early, late = as_role("alma"), as_role("alma")
    events = [one.execute(INSERT, [cast.tom_patient]).fetchone()[0] for one in (early, late)]
    late.commit()
    as_root.execute("insert into public.faults values (%s, 'pause')", [cast.tom_patient])
    with as_worker(settings) as taking, as_worker(settings) as rival:
        assert fetched(rival) == event
        running = asyncio.create_task(asyncio.to_thread(run, taking, cast, event, 50))
        await until(lambda: pauses(as_root))
        early.commit()
        assert fetched(rival) == str(events[0])
        assert await running == ("completed", 1)
        taking.commit()
    rows = {str(row[0]): (row[1], row[5]) for row in jobs_of(as_root, event, *events)}
    assert rows[str(events[1])] == ("completed", "todo")  # its own job will find it completed
    assert await world.moves(cast.anas_claim) == [("submitted", None), ("under_review", str(events[1]))]


def fetched(worker) -> str:
    """The event of the next job that this worker fetches."""
    ((event,),) = worker.execute("select (procrastinate_fetch_job_v2(null, null)).args ->> 'event_id'")
    worker.commit()
    return event


async def pauses(as_root) -> bool:
    return bool(as_root.execute("select from pg_stat_activity where wait_event = 'PgSleep'").fetchall())


async def test_waiting_jobs_are_batched_and_each_has_one_effect(
    settings, as_user, as_root, cast, casts, world, workers
):
    as_root.execute(FAULTS)
    south = World(as_user("alma", "south"), casts["south"])
    ((_, _, theirs),) = await south.admitted(1)
    first, *others, failing, locked = await world.admitted(12)
    later = await world.event(others[0][0], "discharge", "2026-11-11T10:00:00Z")
    for (patient, _, _), what in ((failing, "P0001"), (locked, "lock")):
        as_root.execute("insert into public.faults values (%s, %s)", [patient, what])
    with psycopg.connect(settings.database_url) as holder, as_worker(settings) as worker:
        holder.execute("select pg_advisory_xact_lock(hashtext(%s))", [locked[0]])
        assert fetched(worker) == theirs
        assert fetched(worker) == first[2]
        assert run(worker, cast, first[2], 50) == ("completed", len(others))
        ((took,),) = worker.execute("select extract(epoch from clock_timestamp() - now())::float")
        worker.commit()
    assert took < 1.0  # a batched job that waits for a lock is skipped
    left = jobs_of(as_root, failing[2], locked[2], theirs, later)
    assert [row[1:4] for row in left] == [("pending", 0, None)] * 4
    assert sorted(row[5] for row in left) == ["doing", "todo", "todo", "todo"]
    gone = jobs_of(as_root, *(event for _, _, event in others))
    assert {(row[1], row[2], row[5], row[6]) for row in gone} == {("completed", 1, "succeeded", 1)}
    assert {str(row[0]): row[4]["updated"] for row in gone} == {event: [claim] for _, claim, event in others}
    workers.start()
    await until(ended(as_root, [failing[2], locked[2], later]))
    for _, claim, event in [first, *others[1:], locked]:
        assert await world.moves(claim) == [("submitted", None), ("under_review", event)]
    _, claim, event = others[0]
    assert [one for _, one in await world.moves(claim)] == [None, event, later]
    recorded = [(claim, event) for _, claim, event in [first, *others, locked]] + [(claim, later)]
    # The other tenant's job was fetched and not run: on a slow machine a worker has rescued it by now.
    assert sorted(one for one in as_root.execute(CHANGES).fetchall() if one[1] != theirs) == sorted(recorded)
    (row,) = jobs_of(as_root, failing[2])
    assert row[1:4] == ("failed", 1, "RaiseException P0001")


async def test_a_job_that_failed_before_is_not_batched(settings, as_root, cast, world):
    (_, _, first), (_, _, other), (_, _, third) = await world.admitted(3)
    as_root.execute("set search_path = app, procrastinate")
    as_root.execute("update procrastinate_jobs set attempts = 1 where args ->> 'event_id' = %s", [other])
    with as_worker(settings) as worker:
        assert fetched(worker) == first
        assert run(worker, cast, first, 50) == ("completed", 1)
        worker.commit()
    assert [row[1] for event in (other, third) for row in jobs_of(as_root, event)] == ["pending", "completed"]


async def test_a_batched_job_without_end_does_not_affect_the_first(settings, as_root, cast, world):
    as_root.execute(FAULTS)
    (_, _, first), (patient, _, endless) = await world.admitted(2)
    as_root.execute("insert into public.faults values (%s, 'sleep')", [patient])
    with as_worker(settings) as worker:
        assert fetched(worker) == first
        assert await asyncio.to_thread(run, worker, cast, first, 50) == ("completed", 0)
        worker.commit()
    assert [row[1:3] for row in jobs_of(as_root, first, endless)] == [("completed", 1), ("pending", 0)]


async def test_only_the_worker_sees_the_queue(settings, as_role, as_root, casts, world, as_user):
    ((_, _, event),) = await world.admitted(1)
    ((_, _, theirs),) = await World(as_user("alma", "south"), casts["south"]).admitted(1)
    ids = dict(as_root.execute("select args ->> 'event_id', id from procrastinate.procrastinate_jobs").fetchall())
    asked = [
        f"select from procrastinate.procrastinate_{one}" for one in ("jobs", "events", "workers", "periodic_defers")
    ]
    asked += ["delete from procrastinate.procrastinate_jobs", "select procrastinate.procrastinate_fetch_job_v2(null, null)",
              "select procrastinate.procrastinate_defer_jobs_v1(null)", "select app.rescue_jobs('0', '0')",
              "select app.delete_old_jobs(0, 0, 10)"]  # fmt: skip
    with as_worker(settings) as worker:
        for text in asked[:4]:
            worker.execute(text)  # control
        run(worker, casts["north"], event)
        worker.execute("savepoint here")
        for text in asked:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                worker.execute(text)
            worker.execute("rollback to here")
        waiting = worker.execute("select id, event_id::text from app.ready_jobs(null, 50)").fetchall()
        assert waiting == [(ids[event], event)]
        worker.execute("select app.mark_jobs_succeeded(null, %s)", [list(ids.values())])
        worker.commit()
    ended_ones = as_root.execute(
        "select id from procrastinate.procrastinate_jobs where status = 'succeeded'"
    ).fetchall()
    assert ended_ones == [(ids[event],)]
    assert ids[theirs]
    for name in ("alma", "pia", "ana", "tom"):
        for text in [
            *asked,
            "select app.ready_jobs(null, 1)",
            "select app.mark_jobs_succeeded(null, '{1}')",
            "select app.renew_job_start(null)",
            "select app.release_successor(null)",
            "select app.process_batch(null, 0)",
        ]:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                as_role(name).execute(text)


WAITING = """
insert into procrastinate.procrastinate_jobs (queue_name, task_name, lock, args)
select 'patient_status', 'none', gen_random_uuid(),
       jsonb_build_object('organization_id', %(organization)s::text, 'event_id', gen_random_uuid())
from generate_series(1, 2000)
"""
COUNTERS = """
do $$
declare
    counter regprocedure;
begin
    for counter in select oid from pg_proc where proname ~ '^pg_stat_get_xact_' loop
        execute format('grant execute on function %s to claims_worker', counter);
    end loop;
end
$$"""
READ = "select sum(seq_tup_read + idx_tup_fetch) from pg_stat_xact_user_tables where schemaname = 'procrastinate'"


@pytest.mark.parametrize(
    ("asked", "bound"),
    [
        ("select from procrastinate_fetch_job_v2(null::varchar[], null)", 10),
        ("select from ready_jobs(gen_random_uuid(), 50)", 300),
        ("select delete_old_jobs(24, 168, 1000)", 10),
        ("select rescue_jobs('8 s', '6 s')", 10),
    ],
)
async def test_a_plan_from_an_empty_queue_suits_a_full_one(settings, as_root, cast, asked, bound):
    """Rows that a worker's statements read: for one job, for fifty, and where none of 2000 is to delete or rescue."""
    as_root.execute("set search_path = procrastinate, app")
    as_root.execute("vacuum analyze procrastinate_jobs, procrastinate_events")
    as_root.execute(COUNTERS)
    # An operator needs no context of a job.
    url = settings.database_url if "ready" in asked else settings.worker_database_url
    with psycopg.connect(url, options="-c search_path=procrastinate,app", autocommit=True) as worker:
        worker.execute("select set_config('app.organization_id', %s, false)", [str(cast.organization)])
        for _ in range(10):
            worker.execute(asked)
        as_root.execute(WAITING, {"organization": cast.organization})
        if asked.startswith(("select delete_old", "select rescue")):
            as_root.execute("update procrastinate_jobs set status = 'doing'")
            as_root.execute("update procrastinate_jobs set status = 'succeeded'")
        with worker.transaction():
            before = worker.execute(READ).fetchone()[0]
            found = worker.execute(asked).rowcount
            assert found == (50 if "ready" in asked else 1)  # control
            assert worker.execute(READ).fetchone()[0] - before <= bound


AGED = """
with made as (
    insert into procrastinate_jobs (queue_name, task_name, status, args)
    select 'patient_status', %(age)s, %(status)s::procrastinate_job_status, '{}' from generate_series(1, %(many)s) returning id)
insert into procrastinate_events (job_id, type, at)
select id, type::procrastinate_job_event_type, now() - %(age)s::interval from made, (values ('deferred'), ('succeeded')) as types (type)
"""


async def test_old_jobs_are_deleted_from_the_queue_and_kept_in_the_log(as_root, cast, world, workers):
    ((_, _, event),) = await world.admitted(1)
    as_root.execute("set search_path = app, procrastinate")
    for age, status, many in [
        ("25 hours", "succeeded", 2500), ("23 hours", "succeeded", 3), ("167 hours", "failed", 3), ("169 hours", "failed", 3),
        ("169 hours", "aborted", 3), ("169 hours", "doing", 1),
    ]:  # fmt: skip
        as_root.execute(AGED, {"age": age, "status": status, "many": many})
    as_root.execute("update procrastinate_jobs set status = 'doing' where args ->> 'event_id' = %s", [event])
    as_root.execute("update procrastinate_jobs set status = 'succeeded' where args ->> 'event_id' = %s", [event])
    own = "(select id from procrastinate_jobs where args ->> 'event_id' = %s)"
    as_root.execute(f"update procrastinate_events set at = at - interval '2 days' where job_id = {own}", [event])
    for at in range(3):
        defer = "select procrastinate_defer_periodic_job_v2('q', null, null, 'old', 0, '', %s, '{}')"
        as_root.execute(defer, [at])
    as_root.execute("update procrastinate_jobs set status = 'cancelled' where task_name = 'old'")
    as_root.execute(
        "update procrastinate_events e set at = now() - interval '8 days' from procrastinate_jobs j "
        "where j.id = e.job_id and j.task_name = 'old'"
    )
    workers.start()

    async def deleted():
        left = "select task_name, count(*) from procrastinate_jobs where task_name ~ 'hours|^old$' group by task_name order by 1"
        return as_root.execute(left).fetchall() in (
            [("167 hours", 3), ("23 hours", 3)],
            [("167 hours", 3), ("169 hours", 1), ("23 hours", 3)],
        )

    await until(deleted)
    assert jobs_of(as_root, event)[0][5] is None  # deleted from the queue
    assert as_root.execute("select count(*) from job_processing_logs where event_id = %s", [event]).fetchone() == (1,)
    defers = as_root.execute("select task_name, count(*) from procrastinate_periodic_defers group by 1").fetchall()
    assert {many for _, many in defers} == {1}  # the newest of each task
