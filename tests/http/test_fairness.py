"""Fairness: the load of one user delays that user. Limits of one user, the order of waiting calls, and the effect on others."""

import asyncio
import json
import time
from concurrent.futures import ProcessPoolExecutor
from math import isinf
from multiprocessing import get_context
from statistics import median
from uuid import uuid4

import pytest

from app.database.fair_queue import FairQueue
from app.database.pool import EXPENSIVE_COST_S
from app.database.session import DatabaseSession
from app.errors import RateLimited, Unavailable
from app.http import concurrency
from app.http.concurrency import FairSemaphore
from app.http.responses import Responder
from app.resources.claims import routes as claims
from app.security.tokens import make_token
from tests.database.test_pool import ME, SLEEP, backends, is_, pool_of  # noqa: F401  (fixtures among them)
from tests.http.test_rate_limits import bearer
from tests.load.fairness import Load, raw, run_load
from tests.load.logins import Request, steadily
from tests.load.logins import until as until_at
from tests.operations.test_processes import environ_for
from tests.resources.test_auth import instance
from tests.security.test_logins import served
from tests.support.cast import KEYS, caller
from tests.support.clients import As, until


def until_later(seconds):
    """A function that tells whether these seconds have passed."""
    return until_at(time.perf_counter() + seconds)


A, A2, B = ("a", 1), ("a", 2), ("b", 1)


def test_organizations_are_served_round_robin_and_users_within_them():
    queue = FairQueue()
    for number in range(4):
        queue.push(A, f"a1 {number}")
    for number in range(2):
        queue.push(A2, f"a2 {number}")
        queue.push(B, f"b {number}")
    assert len(queue) == 8
    order = [queue.pop()[1] for _ in range(8)]
    assert order == ["a1 0", "b 0", "a2 0", "b 1", "a1 1", "a2 1", "a1 2", "a1 3"]
    assert queue.pop() is None


def test_a_call_that_may_not_run_delays_no_other():
    queue = FairQueue()
    for key in (A, A2, B, A):
        queue.push(key, key)
    assert queue.pop(lambda key: key[0] != "a") == (B, B)
    assert queue.pop(lambda key: key == A2) == (A2, A2)
    assert queue.pop(lambda key: key == B) is None
    queue.drop(A, A)
    assert (len(queue), queue.count(A), queue.count(A2)) == (1, 1, 0)
    queue.drop(A, A)
    queue.drop(A, A)
    assert (len(queue), queue.pop()) == (0, None)


def semaphore(**changed):
    return FairSemaphore(
        **{"total": 100, "per_group": 3, "per_member": 2, "max_waiting": 2, "timeout_s": 5.0} | changed
    )


async def test_a_semaphore_counts_users_and_organizations():
    one = semaphore()
    assert [one.try_acquire(A) for _ in range(3)] == [True, True, False]
    assert [one.try_acquire(A2) for _ in range(2)] == [True, False]  # the organization's third
    assert [one.try_acquire(B) for _ in range(3)] == [True, True, False]  # control: another organization's
    one.release(A)
    assert one.try_acquire(A2)
    assert not one.try_acquire(A)


async def test_a_semaphore_is_round_robin_and_bounds_the_waiting_calls():
    one, passed = semaphore(per_group=2), []

    async def enter(key):
        await one.acquire(key)
        passed.append(key)

    await enter(A)
    await enter(A)
    waiting = [asyncio.create_task(enter(key)) for key in (A, A, A2)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited) as refused:
        await one.acquire(A)
    assert refused.value.headers["Retry-After"] == "1"
    passed.clear()
    for _ in range(2):
        one.release(A)
        await until(is_(lambda: len(passed)))
    await asyncio.sleep(0)
    assert passed == [A, A2]
    one.release(A)
    await until(is_(lambda: len(passed) == 3))
    await asyncio.gather(*waiting)


async def test_a_cancelled_or_timed_out_call_keeps_no_place():
    one = semaphore(per_member=1, timeout_s=0.05)
    assert one.try_acquire(A)
    with pytest.raises(RateLimited):
        await one.acquire(A)
    given_up = [asyncio.create_task(one.acquire(A)) for _ in range(2)]
    await asyncio.sleep(0)
    for task in given_up:
        task.cancel()
    await asyncio.wait(given_up)
    one.release(A)
    assert one.try_acquire(A)
    full = semaphore(total=1, timeout_s=0.05)
    assert full.try_acquire(A)
    with pytest.raises(Unavailable):  # because it waits for calls of others
        await full.acquire(B)
    full.release(A)
    assert full.try_acquire(B)


async def test_a_call_cancelled_as_it_is_admitted_loses_no_place():
    one = semaphore(per_member=1)
    assert one.try_acquire(A)
    waiting = asyncio.create_task(one.acquire(A))
    await asyncio.sleep(0)
    one.release(A)  # admits the waiting call
    waiting.cancel()  # before its task runs
    await asyncio.wait([waiting])
    assert one.try_acquire(A)


@pytest.fixture
def held(monkeypatch):
    """Statistics block until the event is set; the list contains those that are running."""
    go, under_way, one = asyncio.Event(), [], Responder.one

    async def waiting(self, query, *more, **given):
        if query is claims.queries.stats:
            under_way.append(self.session.context.caller.user_id)
            await go.wait()
        return await one(self, query, *more, **given)

    monkeypatch.setattr(Responder, "one", waiting)
    return go, under_way


async def test_sixteen_requests_of_a_user_are_under_way(as_user, cast, held):
    """The others wait. Another user of the same organization passes, and one of another organization."""
    go, under_way = held
    running = [
        asyncio.create_task(as_user("alma").get("/api/claims/stats")) for _ in range(concurrency.MAX_PER_USER + 4)
    ]
    await until(is_(lambda: len(under_way) == concurrency.MAX_PER_USER))
    for other in (as_user("pia"), as_user("alma", "south")):
        assert (await other.get("/api/auth/me")).status_code == 200
    assert under_way == [cast.alma] * concurrency.MAX_PER_USER
    waits = asyncio.create_task(as_user("alma").get("/api/auth/me"))
    await asyncio.wait([waits], timeout=0.2)
    assert not waits.done()
    go.set()
    assert {answer.status_code for answer in await asyncio.gather(*running, waits)} == {200}
    assert len(under_way) == concurrency.MAX_PER_USER + 4


async def test_waiting_too_long_or_in_too_large_a_number_is_429(settings, as_root, cast, held, monkeypatch):
    go, under_way = held
    monkeypatch.setattr(concurrency, "MAX_WAIT_S", 0.3)
    monkeypatch.setattr(concurrency, "MAX_WAITING", 5)
    async with instance(settings) as client:
        alma = As(client, make_token(caller(cast, "alma"), KEYS))
        running = [asyncio.create_task(alma.get("/api/claims/stats")) for _ in range(concurrency.MAX_PER_USER)]
        await until(is_(lambda: len(under_way) == concurrency.MAX_PER_USER))
        refused = await asyncio.gather(*(alma.get("/api/auth/me") for _ in range(8)))
        assert [one.status_code for one in refused] == [429] * 8
        assert all(one.json()["error"]["code"] == "RATE_LIMITED" for one in refused)
        assert all({"retry-after", "ratelimit-limit"} <= {*one.headers} for one in refused)
        go.set()
        assert {answer.status_code for answer in await asyncio.gather(*running)} == {200}
        assert (await alma.get("/api/auth/me")).status_code == 200  # control


async def test_streams_of_a_user_do_not_use_up_its_other_requests(as_user, cast, monkeypatch):
    """Imports and exports have limits of their own."""
    go, under_way, rows = asyncio.Event(), [], DatabaseSession.rows

    async def waiting(self, *queries, **given):
        if queries[0] is claims.queries.record_export:
            under_way.append(1)
            await go.wait()
        return await rows(self, *queries, **given)

    monkeypatch.setattr(DatabaseSession, "rows", waiting)
    alma = as_user("alma")
    exports = [asyncio.create_task(alma.get("/api/claims/export")) for _ in range(20)]
    await until(is_(lambda: len(under_way) == concurrency.MAX_STREAMS_PER_USER))
    assert (await alma.get("/api/auth/me")).status_code == 200
    assert len(under_way) == concurrency.MAX_STREAMS_PER_USER
    go.set()
    assert {answer.status_code for answer in await asyncio.gather(*exports)} == {200}


async def test_heavy_calls_leave_connections_for_quick_ones_and_are_round_robin(pool_of, backends):  # noqa: F811
    pool = await pool_of(8)
    one, two = (uuid4(), uuid4()), (uuid4(), uuid4())
    heavy = [asyncio.create_task(pool.fetch(SLEEP, service_class="heavy", key=one)) for _ in range(6)]
    await until(is_(lambda: backends("active") == 1))
    ended = asyncio.create_task(pool.fetch(ME, service_class="heavy", key=two))
    for _ in range(20):
        assert await pool.fetch(ME, key=two)
    assert backends("active") == 1
    assert not ended.done()
    heavy[0].cancel()  # then the other user's call runs, and not the second of six
    assert await ended
    for task in heavy:
        task.cancel()
    await asyncio.wait(heavy)


async def test_a_statement_that_is_expensive_for_its_user_is_limited(pool_of, backends):  # noqa: F811
    """It is quick again once it takes less. The same statement of another user stays quick."""
    pool = await pool_of(8)
    one, two = (uuid4(), uuid4()), (uuid4(), uuid4())
    often = [("select pg_sleep(%(seconds)s)", {"seconds": 4 * EXPENSIVE_COST_S + 0.02})]
    once = [("select pg_sleep(%(seconds)s)", {"seconds": 0})]
    await pool.fetch(often, key=one)
    sleeping = [("select pg_sleep(%(seconds)s)", {"seconds": 60})]
    expensive = [asyncio.create_task(pool.fetch(sleeping, key=one)) for _ in range(4)]
    await until(is_(lambda: backends("active") == 1))
    quick = [asyncio.create_task(pool.fetch(sleeping, key=two)) for _ in range(2)]
    await until(is_(lambda: backends("active") == 3))
    for task in (*expensive, *quick):
        task.cancel()
    await asyncio.wait([*expensive, *quick])
    for _ in range(12):
        await pool.fetch(once, key=one)
    assert not pool._costs._costs.get((one, once[0][0]))


async def test_pages_at_large_offsets_are_heavy(as_user, monkeypatch):
    classes, rows = [], DatabaseSession.rows

    async def noted(self, *queries, **given):
        classes.append(self.context.service_class)
        return await rows(self, *queries, **given)

    monkeypatch.setattr(DatabaseSession, "rows", noted)
    for path in ("/api/claims?offset=1000", "/api/audit-logs?offset=10000", "/api/claims/export"):
        assert (await as_user("alma").get(path)).status_code == 200
    assert set(classes) == {"heavy"}
    classes.clear()
    for path in ("/api/claims?offset=20", "/api/claims"):
        assert (await as_user("alma").get(path)).status_code == 200
    assert set(classes) == {"quick"}  # control


async def test_one_users_load_is_not_anothers(settings, as_root, casts):
    """A short form of `make bench NAME=fairness`: 64 connections of deep pages, then of bulk updates, and a user of another tenant.

    The bounds of the medians are wide, because the machine does other work, too. In the order of arrival, every request of the other
    user waited for seconds or was refused.
    """
    north, south = casts["north"], casts["south"]
    as_root.execute("set session_replication_role = replica")
    as_root.execute(
        "insert into claims (organization_id, claim_number, patient_id, provider_id, diagnosis_code, amount_cents, service_date, status) "
        "select %s, 'F-' || n, %s, %s, 'E11.9', n, current_date - 3, 'submitted' from generate_series(1, 20000) n",
        [north.organization, north.tom_patient, north.ana_provider],
    )
    as_root.execute("reset session_replication_role; analyze claims")
    ids = [
        str(one) for (one,) in as_root.execute("select claim_id from claims where claim_number like 'F-%' limit 1000")
    ]
    environ = environ_for(settings, PROCESSES="1", RATE_LIMIT_USER="0", RATE_LIMIT_ADDRESS="0")
    headers = {name: bearer(who, "alma") for name, who in (("north", north), ("south", south))}
    body = json.dumps({"claimIds": ids, "status": "under_review"}).encode()
    loads = [
        [
            raw("GET", f"/api/claims?offset=10000&limit=100&sort={sort}", headers["north"])
            for sort in ("amount", "-serviceDate")
        ],
        [raw("POST", "/api/claims/bulk-status-update", headers["north"], body)],
    ]
    with served(environ, "-m", "app") as (address, _), ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
        asked = Request.to(f"{address}/api/claims?limit=20", headers["south"])
        await steadily(asked, until_later(1))
        alone = median(await steadily(asked, until_later(2)))
        for requests in loads:
            load = Load("short", requests, host="127.0.0.1", port=int(environ["PORT"]))
            running = asyncio.get_running_loop().run_in_executor(apart, run_load, load, 4.0)
            await steadily(asked, until_later(1))
            took = await steadily(asked, until_later(2))
            told = await running
            assert told[200] > 0, told  # control: the load ran
            assert not [one for one in took if isinf(one)], told
            assert median(took) < 5 * alone + 0.02, (median(took), alone, told)
