"""`make chaos`: one API and two workers under load over a durable server, which are killed, frozen and cut off meanwhile.

The clients' own histories are then compared with the database: no acknowledged request may be lost, and none may have two
effects. The faults follow from the seed. A fault without a target for a while, like a worker that is down, is counted as missed.
"""

import asyncio
import os
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.load import verify
from tests.load.chaos_deployment import Deployment, deployed
from tests.load.clients import History, Times, load, log_in
from tests.load.faults import KINDS, Fault, schedule
from tests.load.harness import PASSWORD

GIVE_UP, SETTLED = 25.0, 35.0
"""Seconds after the load ends: until clients stop repeating requests, and until every job must have ended."""


def run(deployment: Deployment, seed: int, seconds: float, faults: list[Fault]) -> History:
    """Runs the load for these seconds with the faults. Returns when everything has ended, or at the time limit."""
    history = History()
    tokens = log_in(deployment.address, PASSWORD, deployment.tenants)
    began = time.monotonic()
    times = Times(began + seconds, began + seconds + GIVE_UP)
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(asyncio.run, load(deployment.address, tokens, deployment.tenants, seed, history, times))
        try:
            for fault in faults:
                deployment.keep_until(began + fault.at)
                deployment.act(fault)
            deployment.keep_until(times.until)
            deployment.recover()
            while not (loading.done() and deployment.drained()) and time.monotonic() < times.until + SETTLED:
                deployment.ensure_running()
        except BaseException:
            times.until = times.give_up = 0.0
            raise
        loading.result()
    return history


@dataclass
class Deliveries:
    """Deliveries of jobs by the queue. again: jobs with more than one; late: those of them with their effect in a later one.

    rescues: seconds from the first delivery to the effect, of each of the late ones. effects: seconds from the event to the
    effect.
    """

    jobs: int
    again: int
    rescued: int
    rescues: list[float]
    effects: list[float]
    maintenance_failed: int


DELIVERIES = """
select extract(epoch from l.finished_at - e.created_at)::float, starts.at,
       extract(epoch from l.finished_at)::float, starts.requeued, starts.scheduled
from procrastinate.procrastinate_jobs j
join app.job_processing_logs l on l.event_id = (j.args ->> 'event_id')::uuid
join app.patient_status_events e on e.event_id = l.event_id
cross join lateral (
    select array_agg(extract(epoch from s.at)::float order by s.id) filter (where s.type = 'started') as at,
           count(*) filter (where s.type = 'deferred_for_retry') as requeued,
           count(*) filter (where s.type = 'scheduled') as scheduled
    from procrastinate.procrastinate_events s where s.job_id = j.id) as starts
where j.queue_name = 'patient_status' and l.finished_at is not null"""


def deliveries(connection: psycopg.Connection[Any]) -> Deliveries:
    """Reads the queue's own events: a worker's retry has a time, that of app.rescue_jobs is immediate."""
    rows = connection.execute(DELIVERIES).fetchall()
    (failed,) = connection.execute(
        "select count(*) from procrastinate.procrastinate_jobs where queue_name = 'maintenance' and status = 'failed'"
    ).fetchone() or (0,)
    again = [(starts, finished) for _, starts, finished, _, _ in rows if starts and len(starts) > 1]
    return Deliveries(
        jobs=len(rows),
        again=len(again),
        rescued=sum(requeued > scheduled for _, _, _, requeued, scheduled in rows),
        rescues=sorted(finished - starts[0] for starts, finished in again if finished > starts[1]),
        effects=sorted(took for took, *_ in rows),
        maintenance_failed=failed,
    )


def seal(deployment: Deployment) -> None:
    """Seals all entries, so that the audit log can be verified to its end.

    No worker may run, because workers seal every minute.
    """
    with deployment.admin() as connection:
        connection.execute("select app.seal_audit_logs()")


def table(deployment: Deployment, history: History, found: list[verify.Found], ended: Deliveries) -> str:
    """The result of a run, one figure a line."""
    kinds = Counter(one.kind for one in history.posted)
    known = Counter(one.kind for one in history.acknowledged())
    wrong = Counter(one.kind for one in found)
    waits = sorted(one.acknowledged_at - one.sent_at for one in history.acknowledged())
    lines = [
        ("posted", f"{kinds['event']} events, {kinds['claim']} claims"),
        ("acknowledged", f"{known['event']} events, {known['claim']} claims"),
        *((kind, f"{wrong[kind]}") for kind in ("lost", "doubled", "wrong")),
        ("jobs", f"{ended.jobs}; event to effect {_spread(ended.effects)}"),
        ("delivered again", f"{ended.again}, of these {ended.rescued} by app.rescue_jobs"),
        ("effect existed already", f"{ended.again - len(ended.rescues)} of these"),
        ("rescue time", f"{len(ended.rescues)} of these, first delivery to effect {_spread(ended.rescues)}"),
        ("faults", f"{sum(deployment.hits.values())}, {deployment.missed} missed"),
        *((f"  {kind}", f"{deployment.hits[kind]}") for kind in KINDS),
        (
            "started again",
            f"workers {sum(one.starts - 1 for one in deployment.workers)}, API {deployment.api.starts - 1}",
        ),
        ("answers", ", ".join(f"{what} {count}" for what, count in sorted(history.answers.items()))),
        ("request to acknowledged", _spread(waits)),
        ("longest outage", f"{history.longest_outage():.1f} s without any success"),
        ("maintenance jobs failed", f"{ended.maintenance_failed}, which are due again"),
    ]
    return "\n".join(f"{name:<26}{value}" for name, value in lines)


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "-"
    p50, p99 = (seconds[min(len(seconds) - 1, int(len(seconds) * part))] for part in (0.5, 0.99))
    return f"p50 {p50:.2f} s, p99 {p99:.2f} s, longest {seconds[-1]:.2f} s"


def main() -> int:
    """The exit code: 1 if anything is lost, doubled or wrong."""
    seconds, seed = float(os.environ.get("CHAOS_SECONDS") or 300), int(os.environ.get("CHAOS_SEED") or 1)
    folder = os.environ.get("CHAOS_DIR")
    print(f"CHAOS_SEED={seed} CHAOS_SECONDS={seconds:g}", flush=True)
    with deployed(folder=Path(folder) if folder else None) as deployment:
        history = run(deployment, seed, seconds, schedule(seed, seconds))
        deployment.stop()
        seal(deployment)
        with deployment.admin() as connection:
            found, ended = verify.compare(connection, history), deliveries(connection)
        print(table(deployment, history, found, ended))
    for one in [*(f"{kind}: {what}" for kind, what in found[:50]), *(f"answer: {one}" for one in history.unexpected)]:
        print(one)
    return 1 if found or history.unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
