"""`make bench NAME=bursts`: many events of one patient, and one event with many claims, with the latency of others meanwhile.

The server is durable (fsync on), and there is one worker. A latency is between two commits: that of an event of another patient and
that of its effect. CLAIMS is the number of claims of the patient who is discharged.
"""

import os
import statistics
import threading
import time
from uuid import UUID

from tests.load.jobs import UNDONE, Bench, bench, said

EVENTS, CLAIMS = int(os.environ.get("EVENTS", "400")), int(os.environ.get("CLAIMS", "50000"))
RATE, IDLE_S = 10.0, 15

BURST = """
insert into app.patient_status_events (patient_id, event_type, occurred_at)
select %s, case when n %% 2 = 1 then 'admission' else 'discharge' end, now() - make_interval(mins => 600 - n)
from generate_series(1, %s) n"""
MANY = """
insert into app.claims (claim_number, patient_id, provider_id, diagnosis_code, amount_cents, service_date)
select 'M-' || n, %(patient)s, c.provider_id, 'E11.9', 1000, current_date - 5
from generate_series(%(first)s::integer, %(last)s::integer) n, (select provider_id from app.claims limit 1) c"""
LIMITS = "update app.organizations set auto_approve_limit_cents = 100000"
DISCHARGE = """
insert into app.patient_status_events (patient_id, event_type, occurred_at) values (%s, 'discharge', now()) returning event_id"""
LATENCIES = """
select extract(epoch from pg_xact_commit_timestamp(j.xmin) - pg_xact_commit_timestamp(e.xmin)) * 1000
from app.job_processing_logs j join app.patient_status_events e on e.event_id = j.event_id
where j.status = 'completed' and e.patient_id <> %s"""
RESULT = """
select extract(epoch from j.finished_at - j.started_at), (j.result ->> 'updatedCount')::integer
from app.job_processing_logs j where j.event_id = %s"""


def burst(here: Bench, patient: UUID) -> float:
    """Events of one patient a second; admissions and discharges alternate."""
    here.reset()
    with here.workers(1):
        here.act(here.admin, lambda c: c.execute(BURST, [patient, EVENTS]))
        began = time.perf_counter()
        here.await_(UNDONE, 0, 300)
        return EVENTS / (time.perf_counter() - began)


def discharged(here: Bench, patient: UUID) -> tuple[float, int, list[float]]:
    """Seconds for the discharge, the number of updated claims, and the latencies of others' events meanwhile in ms."""
    here.reset()
    with here.workers(1):
        ((event,),) = here.act(here.admin, lambda c: c.execute(DISCHARGE, [patient]).fetchall())
        rest, here.tenant.patients = here.tenant.patients, here.tenant.patients[10:]
        ended = threading.Event()
        source = threading.Thread(target=lambda: (here.latencies(RATE, CLAIMS / 1000), ended.set()))
        source.start()
        here.await_(UNDONE, 0, 600)
        source.join()
        here.tenant.patients = rest
        ((seconds, updated),) = here.admin.execute(RESULT, [event]).fetchall()
        return float(seconds), updated, sorted(float(one) for (one,) in here.admin.execute(LATENCIES, [patient]))


def main() -> None:
    """Prints the figures."""
    with bench() as here:
        burst_of, many_of = here.tenant.patients[0], here.tenant.patients[1]
        rates = [burst(here, burst_of) for _ in range(3)]
        print(f"{EVENTS} events of one patient, one worker: {statistics.median(rates):.0f} events/s (median of 3)")
        here.reset()
        with here.workers(1):
            idle = here.latencies(RATE, IDLE_S)
        print(f"others, {RATE:.0f} events/s, idle: {said(idle)}")
        here.act(here.admin, lambda c: c.execute(LIMITS))
        for first in range(1, CLAIMS + 1, 5000):
            given = {"patient": many_of, "first": first, "last": min(first + 4999, CLAIMS)}
            here.act(here.admin, lambda c: c.execute(MANY, given))  # noqa: B023
        seconds, updated, meanwhile = discharged(here, many_of)
        print(f"a discharge of {CLAIMS} claims: {seconds:.1f} s, {updated} updated, {updated / seconds:.0f} claims/s")
        print(f"others meanwhile: {said(meanwhile)}, p99 x{p99(meanwhile) / p99(idle):.1f} of idle")


def p99(latencies: list[float]) -> float:
    """The 99th percentile."""
    return statistics.quantiles(latencies, n=100)[98]


if __name__ == "__main__":
    main()
