"""`make chaos`: one API and two workers under load over a durable server, while they and it are killed, frozen and cut off.

Afterwards the clients' own histories are compared with the database: nothing that was acknowledged may be lost, nothing may have
happened twice. The faults follow from the seed; one that finds nothing to hit for a while, as a worker that is down, is in vain.
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

from tests.load import verify as reconcile
from tests.load.chaos_stage import Stage, staged
from tests.load.clients import History, Times, load, log_in
from tests.load.faults import KINDS, Fault, schedule
from tests.load.harness import PASSWORD

GIVE_UP, SETTLED = 25.0, 35.0
"""Seconds after the load ends: until clients give up, and until every job must have ended."""


def run(stage: Stage, seed: int, seconds: float, faults: list[Fault]) -> History:
    """Load for so many seconds, and the faults meanwhile; returns when everything has ended, or its time is over."""
    history = History()
    tokens = log_in(stage.address, PASSWORD, stage.tenants)
    began = time.monotonic()
    times = Times(began + seconds, began + seconds + GIVE_UP)
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(asyncio.run, load(stage.address, tokens, stage.tenants, seed, history, times))
        try:
            for fault in faults:
                stage.keep_until(began + fault.at)
                stage.act(fault)
            stage.keep_until(times.until)
            stage.mend()
            while not (loading.done() and stage.drained()) and time.monotonic() < times.until + SETTLED:
                stage.ensure_running()
        except BaseException:
            times.until = times.give_up = 0.0
            raise
        loading.result()
    return history


@dataclass
class Deliveries:
    """How often the queue handed jobs out. again: more than once; late: those among them whose effect only a later delivery had.

    rescues: seconds from the first delivery to the effect, of each of the late ones. effects: seconds from the event to the effect.
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
    """From the queue's own events: a worker that asks for another attempt says when, app.rescue_jobs says at once."""
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


def seal(stage: Stage) -> None:
    """So that the trail can be verified to its end; workers, who do it every minute, must be gone."""
    with stage.admin() as connection:
        connection.execute("select app.seal_audit_logs()")


def table(stage: Stage, history: History, found: list[reconcile.Found], ended: Deliveries) -> str:
    """What a run comes to, a line a figure."""
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
        ("effect stood already", f"{ended.again - len(ended.rescues)} of these"),
        ("rescue time", f"{len(ended.rescues)} of these, first delivery to effect {_spread(ended.rescues)}"),
        ("faults", f"{sum(stage.hits.values())}, {stage.missed} in vain"),
        *((f"  {kind}", f"{stage.hits[kind]}") for kind in KINDS),
        ("started again", f"workers {sum(one.starts - 1 for one in stage.workers)}, API {stage.api.starts - 1}"),
        ("answers", ", ".join(f"{what} {count}" for what, count in sorted(history.answers.items()))),
        ("request to acknowledged", _spread(waits)),
        ("longest outage", f"{history.longest_outage():.1f} s without any success"),
        ("maintenance jobs failed", f"{ended.maintenance_failed}, which the clock brings again"),
    ]
    return "\n".join(f"{name:<26}{value}" for name, value in lines)


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "-"
    p50, p99 = (seconds[min(len(seconds) - 1, int(len(seconds) * part))] for part in (0.5, 0.99))
    return f"p50 {p50:.2f} s, p99 {p99:.2f} s, longest {seconds[-1]:.2f} s"


def main() -> int:
    """The exit code: 1 where anything is lost, doubled or wrong."""
    seconds, seed = float(os.environ.get("CHAOS_SECONDS") or 300), int(os.environ.get("CHAOS_SEED") or 1)
    folder = os.environ.get("CHAOS_DIR")
    print(f"CHAOS_SEED={seed} CHAOS_SECONDS={seconds:g}", flush=True)
    with staged(folder=Path(folder) if folder else None) as stage:
        history = run(stage, seed, seconds, schedule(seed, seconds))
        stage.stop()
        seal(stage)
        with stage.admin() as connection:
            found, ended = reconcile.reconcile(connection, history), deliveries(connection)
        print(table(stage, history, found, ended))
    for one in [*(f"{kind}: {what}" for kind, what in found[:50]), *(f"answer: {one}" for one in history.unexpected)]:
        print(one)
    return 1 if found or history.unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
