"""`make bench NAME=totals`: the cost of claim totals for writers of claims, and the duration of statistics with and without them.

Writers: WRITERS of one organization, each creating claims as the API does, alternately with the triggers and a batch of changes
applied every two seconds, and without both. Readers: statistics over CLAIMS claims of two years, through the API. CPU is
PostgreSQL's.
"""

import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import httpx
import psutil
import psycopg

from app.database import statements
from app.database.context import BEGIN_CONTEXT, ContextSigner
from app.dev.postgres import binaries
from app.security.tokens import Caller
from tests.load.audit import database_cpu
from tests.load.harness import RunningApi, running_api
from tests.resources.test_claim_totals import ALL_DAYS, COUNTED

WRITERS, ROUNDS, SECONDS = 16, 7, 3
CLAIMS, DAYS, PROVIDERS, CHANGES, REQUESTS = 300_000, 730, 100, 30_000, 200
TENANTS = 1000
APPLY = "select app.apply_all_total_changes()"

LOAD = f"""
set session_replication_role = replica;
insert into providers (organization_id, npi, name)
select organization_id, npi, 'Provider' from organizations, generate_series(1000000000, 1000000999) n, cast(n as text) npi
where is_npi(npi) limit {PROVIDERS};
insert into claims (organization_id, patient_id, provider_id, diagnosis_code, amount_cents, service_date, status, decision,
    submitted_at, first_decided_at)
select organization_id, patient_id, provider_id, 'I10', 100 + n % 9000, current_date - n % {DAYS},
    (array(select claim_statuses()))[1 + hashint4(n) % 5 + 5], 'approved', now() - interval '2 hours', now()
from patients, generate_series(1, {CLAIMS}) n
join (select provider_id, row_number() over () - 1 as k from providers) p on p.k = abs(hashint4(n + 1)) % {PROVIDERS};
reset session_replication_role;
vacuum analyze
"""


def create_claim(here: RunningApi, admin: psycopg.Connection[Any]) -> str:
    """pgbench's script: a claim in one round trip, signed as by the API; the signature is valid for a minute."""
    signer = ContextSigner(*next(iter(here.settings.context_keys().items())))
    who = admin.execute(
        "select u.organization_id, u.user_id, s.session_id from app.users u join auth.sessions s using (user_id)"
    )
    caller = Caller(*who.fetchone(), "admin")  # type: ignore[misc]
    new = {"patient_id": here.patient, "provider_id": here.provider, "diagnosis_code": "E11.9",
           "amount_cents": 12550, "service_date": "2026-01-05", "status": "submitted", "notes": None}  # fmt: skip
    create = statements.load("claims").create.text({"columns": tuple(new)})
    mogrify = psycopg.ClientCursor(admin).mogrify
    context = signer.sign_context(caller, request_id="load", address="", source="api", read_only=False)
    context |= {"proof": context["proof"](0)}
    texts = (
        mogrify(BEGIN_CONTEXT, context),
        mogrify(create.rstrip().rstrip(";"), new),
    )
    return "\\startpipeline\n" + "".join(" ".join(one.split()) + ";\n" for one in texts) + "\\endpipeline\n"


def backends() -> int:
    """The number of backends of the API's login. pgbench does not wait for the end of its own, and their CPU is to count."""
    found = 0
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            found += "postgres: claims_api" in " ".join(one.cmdline())
    return found


def written(here: RunningApi, admin: psycopg.Connection[Any]) -> tuple[float, float]:
    """Claims a second, and milliseconds of CPU a claim."""
    with tempfile.NamedTemporaryFile("w") as script:
        script.write(create_claim(here, admin))
        script.flush()
        command = [
            str(binaries() / "pgbench"),
            "-n",
            "-M",
            "prepared",
            "-c",
            str(WRITERS),
            "-j",
            "2",
            "-T",
            str(SECONDS),
        ]
        others = backends()
        before = database_cpu(), admin.execute("select count(*) from app.claims").fetchone()[0]  # type: ignore[index]
        url = here.settings.api_database_url
        subprocess.run([*command, "-f", script.name, str(url)], check=True, capture_output=True)
        while backends() > others:
            time.sleep(0.02)
        spent = database_cpu() - before[0]
        made = admin.execute("select count(*) from app.claims").fetchone()[0] - before[1]  # type: ignore[index]
    return made / SECONDS, spent / made * 1000


@contextmanager
def maintained(here: RunningApi, way: str, admin: psycopg.Connection[Any]) -> Iterator[None]:
    """Enables the triggers and applies changes periodically, or disables the triggers."""
    for trigger in ("claims_40_totals", "claims_40_totals_update"):
        admin.execute(f"alter table app.claims {way} trigger {trigger}")
    stop = threading.Event()

    def apply_changes() -> None:
        with psycopg.connect(str(here.settings.worker_database_url), autocommit=True) as worker:
            while not stop.wait(2):
                worker.execute(APPLY)

    thread = threading.Thread(target=apply_changes)
    if way == "enable":
        thread.start()
    yield
    stop.set()
    if way == "enable":
        thread.join()


def writers(here: RunningApi, admin: psycopg.Connection[Any]) -> None:
    """Prints the cost of the totals for writers."""
    rounds: dict[str, list[tuple[float, float]]] = {"enable": [], "disable": []}
    for number in range(ROUNDS + 1):
        for way in rounds:
            with maintained(here, way, admin):
                one = written(here, admin)
            if number:  # the first round is warm-up
                rounds[way].append(one)
    (rate, cpu), (rate_without, cpu_without) = (
        [statistics.median(part) for part in zip(*one, strict=True)] for one in rounds.values()
    )
    print(f"{WRITERS} writers of one organization: {rate:.0f} claims a second with totals, {rate_without:.0f} without "
          f"(x{rate / rate_without:.3f}); CPU {cpu:.3f} and {cpu_without:.3f} ms a claim (x{cpu / cpu_without:.3f})")  # fmt: skip


def asked(name: str, ask: Callable[[], Any], requests: int = REQUESTS) -> None:
    """Prints p50 and p99 of a client's time, and the CPU."""
    for _ in range(10):
        ask()
    times, before = [], database_cpu()
    for _ in range(requests):
        began = time.perf_counter()
        ask()
        times.append((time.perf_counter() - began) * 1000)
    spent = (database_cpu() - before) / requests * 1000
    print(
        f"{name}: p50 {statistics.median(times):.2f} ms, p99 {statistics.quantiles(times, n=100)[98]:.2f} ms, CPU {spent:.2f} ms"
    )


def readers(here: RunningApi, admin: psycopg.Connection[Any]) -> None:
    """Prints the duration of statistics."""
    admin.execute("set search_path = app")
    for statement in LOAD.split(";"):
        admin.execute(statement)
    began = time.perf_counter()
    admin.execute("select rebuild_claim_totals()")
    took = time.perf_counter() - began
    admin.execute("vacuum analyze claim_totals")
    claims, whole, rows, size = admin.execute(
        "select (select count(*) from claims), count(*) filter (where scope_id = organization_id), count(*), "
        "pg_total_relation_size('claim_totals') / 1e6 from claim_totals"
    ).fetchone() or (0, 0, 0, 0)
    print(
        f"counting {claims:,} claims again: {took:.1f} s, {rows:,} totals ({size:.0f} MB), {whole:,} of them the organization's"
    )
    with httpx.Client(headers=here.headers, base_url=here.address) as client:

        def request() -> None:
            assert client.get("/api/claims/stats").is_success

        asked("statistics, all changes applied", request)
        admin.execute(
            "insert into claim_total_changes (organization_id, provider_id, service_date, status, count, cents, decided, approved, timed, "
            "microseconds) select t.* from (select * from claims limit %s) c, unnest('{1,-1}'::int[]) s, claim_contribution(c, s) t",
            [CHANGES // 2],
        )
        asked(f"statistics, {CHANGES:,} changes not applied", request)
        (plan,) = admin.execute(
            "explain (analyze, format json) select app.apply_all_total_changes(100000)"
        ).fetchone() or ([],)
        print(f"applying {CHANGES:,} changes: {plan[0]['Execution Time']:.0f} ms")
    asked("every claim counted, without totals", lambda: admin.execute(COUNTED, ALL_DAYS).fetchall(), 10)


def idle(here: RunningApi, admin: psycopg.Connection[Any]) -> None:
    """Prints the cost of applying changes where there are none."""
    numbers = count()
    for _ in range(TENANTS):
        admin.execute("select auth.add_organization(%s, 'Idle')", [f"idle-{next(numbers)}"])
    with psycopg.connect(str(here.settings.worker_database_url), autocommit=True) as worker:
        worker.execute(APPLY)
        before = database_cpu()
        for _ in range(10):
            worker.execute(APPLY)
        spent = (database_cpu() - before) / 10
    print(f"applying no changes of {TENANTS:,} organizations: {spent * 1000:.0f} ms of CPU")


def main() -> None:
    """Prints the figures."""
    with running_api() as here, psycopg.connect(str(here.settings.database_url), autocommit=True) as admin:
        writers(here, admin)
        readers(here, admin)
        idle(here, admin)


if __name__ == "__main__":
    main()
