"""Workers that die, freeze, are cut off or stopped while jobs run: every job ends within 15 s, with one effect."""

import asyncio
import signal
import statistics

import psycopg

from tests.jobs.test_jobs import INSERT
from tests.operations.test_process_failures import own_server  # noqa: F401
from tests.support.clients import until
from tests.support.workers import FAULTS, Workers, World, all_until, blocked, ended, jobs_of, listening

NOW = "select extract(epoch from clock_timestamp())::float"
ENDED_AT = """
select max(extract(epoch from e.at))::float from procrastinate.procrastinate_events e
join procrastinate.procrastinate_jobs j on j.id = e.job_id
where j.args ->> 'event_id' = %s and e.type in ('succeeded', 'failed', 'cancelled')
"""
WITHIN = 15.0
"""Seconds."""
MAX_DELIVERIES = 20  # of jobs.execution, which can't be imported without a worker's settings


def now(as_root) -> float:
    return as_root.execute(NOW).fetchone()[0]


def doing(as_root, event):
    """A condition: a worker has fetched the event's job."""

    async def condition():
        return jobs_of(as_root, event)[0][5] == "doing"

    return condition


FAILURES = {
    "fetched": None, "done": None, "undone": "lock", "half": "lock",  # a worker is killed with a job at each of these steps
    "frozen": "lock", "poison": "lock",  # a worker is frozen in these effects; the second was delivered many times before
    "unacknowledged": "lock", "endless": "sleep",  # a worker that cannot report how one ended, and a job without end
}  # fmt: skip
WAITS = "update procrastinate_jobs set scheduled_at = %s, attempts = %s where args ->> 'event_id' = any (%s)"


class Scene:
    """A job for each step of FAILURES, in the queue from the start or once it is released. Locks are held until `unlock`."""

    def __init__(self, as_root, settings, workers) -> None:
        self.root, self.settings, self.workers = as_root, settings, workers
        self.failed_at: dict[str, float] = {}

    async def set(self, world) -> None:
        self.root.execute(FAULTS)
        people = await world.admitted(len(FAILURES))
        self.patient, self.claim, self.event = (
            dict(zip(FAILURES, column, strict=True)) for column in zip(*people, strict=True)
        )
        for step, what in FAILURES.items():
            self.root.execute("insert into public.faults values (%s, %s)", [self.patient[step], what])
        held = [step for step, what in FAILURES.items() if what == "lock"]
        self._locks = {step: psycopg.connect(self.settings.database_url, autocommit=True) for step in held}
        for step, lock in self._locks.items():
            lock.execute("select pg_advisory_lock(hashtext(%s))", [self.patient[step]])
        self.root.execute(WAITS, ["infinity", 1, [self.event[step] for step in list(FAILURES)[4:]]])

    def unlock(self, *steps: str) -> None:
        for step in steps:
            self._locks[step].close()

    def release(self, step: str, deliveries: int = 1) -> None:
        self.root.execute(WAITS, [None, deliveries, [self.event[step]]])

    def failed(self, *steps: str) -> None:
        self.failed_at |= dict.fromkeys(steps, now(self.root))

    async def kill(self) -> None:
        """Kills one process, at four steps of four jobs."""
        event = self.event
        dying = self.workers.start(
            "tests.support.stuck_worker", HANGS_BEFORE=event["fetched"], HANGS_AFTER=event["done"]
        )
        committed = ended(self.root, [event["done"]], "completed", queue=("doing",))
        await all_until(doing(self.root, event["fetched"]), committed, blocked(self.root, 2))
        dying.kill()
        self.failed("fetched", "done", "undone", "half")
        self.unlock("half")  # its backend continues, and commits for no worker
        await until(lambda: nothing_runs(self.root))
        self.unlock("undone")

    async def freeze(self, freezing) -> None:
        """Freezes a process that waits for jobs, during two effects."""
        self.release("frozen")
        self.release("poison", MAX_DELIVERIES - 1)
        await until(blocked(self.root, 2))
        freezing.send_signal(signal.SIGSTOP)
        self.failed("frozen", "poison")
        await until(lambda: nothing_runs(self.root))
        self.unlock("frozen", "poison")

    async def cut_off(self) -> None:
        """Ends the connection on which a worker reports that its job is done."""
        self.release("unacknowledged")
        self.release("endless")
        await until(blocked(self.root, 1))
        self.failed("unacknowledged", "endless")
        with psycopg.connect(self.settings.database_url, options="-c search_path=procrastinate") as holder:
            row = "select from procrastinate_jobs where args ->> 'event_id' = %s for update"
            holder.execute(row, [self.event["unacknowledged"]])
            self.unlock("unacknowledged")
            (backend,) = await until(blocked(self.root, 1, "%finish_job%"))
            holder.execute("select pg_terminate_backend(%s)", [backend])

    def durations(self) -> dict[str, float]:
        """Seconds from each failure to the end of the job."""
        at = {step: self.root.execute(ENDED_AT, [self.event[step]]).fetchone()[0] for step in FAILURES}
        return {step: round(at[step] - failed, 1) for step, failed in self.failed_at.items()}


async def test_a_worker_that_fails_at_any_step_loses_no_job(settings, as_root, as_user, cast, workers):
    world, scene = World(as_user("alma"), cast), Scene(as_root, settings, workers)
    await scene.set(world)
    await scene.kill()
    freezing = workers.start()
    await until(listening(as_root))
    await scene.freeze(freezing)
    healthy = workers.start()
    await until(listening(as_root, 2))
    await scene.cut_off()
    await until(ended(as_root, list(scene.event.values())), seconds=WITHIN + 5)
    durations = scene.durations()
    print("rescued after", durations, "p50", statistics.median(durations.values()), "max", max(durations.values()))
    assert max(durations.values()) < WITHIN
    assert durations["unacknowledged"] < 4  # reported again, not rescued
    assert healthy.poll() is None

    # The frozen worker resumes, finds its job completed, and continues.
    freezing.send_signal(signal.SIGCONT)
    healthy.terminate()
    assert healthy.wait(10) == 0
    ((_, claim, last),) = await world.admitted(1)
    await until(ended(as_root, [last]))
    # It was declared dead, and noticed that.
    assert "lost the database (ForeignKeyViolation)" in workers.output(freezing)
    assert freezing.poll() is None
    assert await world.moves(claim) == [("submitted", None), ("under_review", last)]
    dead = {"endless": ("failed", 3, "QueryCanceled 57014"), "poison": ("failed", 1, "interrupted too often")}
    for step, event in scene.event.items():
        assert jobs_of(as_root, event)[0][1:4] == dead.get(step, ("completed", 1, None)), step
        moved = [] if step in dead else [("under_review", event)]
        assert await world.moves(scene.claim[step]) == [("submitted", None), *moved], step


async def nothing_runs(as_root) -> bool:
    """No effect is running, not even one of a dead worker."""
    text = (
        "select from pg_stat_activity where datname = current_database() and usename = 'claims_worker' "
        "and query like '%process_batch%' and state = 'active'"
    )
    return not as_root.execute(text).fetchall()


async def test_rescue_leaves_maintenance_jobs_the_time_they_need(as_root, cast, workers):
    """A job that may take ten minutes is not rescued, and one that is queued a second time stops no rescue."""
    as_root.execute("set search_path = app, procrastinate")
    alive = "(select min(id) from procrastinate_workers)"
    insert = (
        "with job as (insert into procrastinate_jobs (queue_name, task_name, status, queueing_lock, worker_id) "
        f"values (%s, 'none', 'doing', %s, {alive}) returning id) "
        "insert into procrastinate_events (job_id, type, at) select id, 'started', now() - %s::interval from job returning job_id"
    )
    one = lambda *given: as_root.execute(insert, given).fetchone()[0]  # noqa: E731
    long, lost = one("maintenance", None, "10 minutes"), one("maintenance", None, "12 minutes")
    overdue, double = one("patient_status", None, "7 seconds"), one("maintenance", "twice", "12 minutes")
    fresh = one("patient_status", None, "0 seconds")
    as_root.execute(
        "insert into procrastinate_jobs (queue_name, task_name, queueing_lock, scheduled_at) "
        "values ('maintenance', 'none', 'twice', 'infinity')"
    )
    workers.start()

    async def rescued():
        found = dict(
            as_root.execute("select id, status::text from procrastinate_jobs where task_name = 'none'").fetchall()
        )
        return [found[one] for one in (lost, overdue, double)] == ["failed"] * 3 and found

    found = await until(rescued)  # by a worker that does not know the task
    assert found[long] == "doing"
    assert found[fresh] in ("doing", "failed")


async def stream(world, people, events):
    for _ in range(people):
        events += await world.admitted(1)


async def test_workers_are_replaced_under_load_and_no_job_is_lost(settings, as_root, as_user, cast, workers):
    as_root.execute(FAULTS)
    world = World(as_user("alma"), cast)
    ((patient, claim, held),) = await world.admitted(1)
    as_root.execute("insert into public.faults values (%s, 'lock')", [patient])
    events: list = []
    with psycopg.connect(settings.database_url, autocommit=True) as holder:
        holder.execute("select pg_advisory_lock(hashtext(%s))", [patient])
        first = workers.start()
        await until(blocked(as_root, 1))
        first.terminate()
        second, third = workers.start(), workers.start()
        await until(lambda: stopping(workers, first))
        assert first.poll() is None  # it waits for its running job
    assert first.wait(10) == 0
    assert jobs_of(as_root, held)[0][1:] == (
        "completed",
        1,
        None,
        {"failed": [], "skipped": [], "updated": [claim], "failedCount": 0, "skippedCount": 0, "updatedCount": 1},
        "succeeded",
        1,
    )
    streaming = asyncio.create_task(stream(world, 60, events))
    for process in (second, third):
        await until(listening(as_root, 2))
        process.terminate()
        await asyncio.to_thread(process.wait, 10)
        assert process.returncode == 0
        workers.start()
    await streaming
    await until(ended(as_root, [event for _, _, event in events]))
    rows = jobs_of(as_root, *(event for _, _, event in events))
    assert {(row[1], row[2], row[5], row[6]) for row in rows} == {("completed", 1, "succeeded", 1)}
    # All connections are cut, the listening ones among them.
    await until(listening(as_root, 2))
    for _ in range(2):
        cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'claims_worker' and datname = %s"
        assert as_root.execute(cut, [as_root.info.dbname]).fetchone()[0] >= 4
        began, ((_, _, event),) = now(as_root), await world.admitted(1)
        await until(ended(as_root, [event], "completed"))
        print("after the cut", round(now(as_root) - began, 1))
        await until(listening(as_root, 2))


async def stopping(workers, process):
    return "Stop requested" in workers.output(process)


async def test_a_worker_survives_a_restart_of_its_database(own_server):  # noqa: F811
    server, settings = own_server
    with Workers(settings) as workers:
        worker = workers.start()
        with psycopg.connect(settings.database_url, autocommit=True) as root:
            await until(listening(root))
        server.stop("immediate")
        await until(lambda: said(workers, worker, "error connecting"))
        server.start()
        with psycopg.connect(settings.database_url, options="-c search_path=app") as root:
            ((organization, alma, patient),) = root.execute(
                "select organization_id, user_id, p.patient_id from users u join patients p using (organization_id) "
                "where u.email = 'alma@north.test' and p.first_name = 'Tina'"
            ).fetchall()
            root.execute(
                "select set_config('role', context.begin_request(%s, %s, null, '', '', 'sql', false), true)",
                [organization, alma],
            )
            ((event,),) = root.execute(INSERT, [patient]).fetchall()
            root.commit()
            root.autocommit = True
            began = now(root)
            await until(ended(root, [event], "completed"))
            print("after the outage", round(now(root) - began, 1))
        assert worker.poll() is None


async def said(workers, worker, text: str) -> bool:
    return text in workers.output(worker)
