"""Resources that one client can use up: places in queues, connections, the disk for bodies. Each attack worked once."""

import asyncio
import resource
import signal
import time
from collections import Counter
from contextlib import suppress
from uuid import uuid4

import pytest

from app.database.admission import MAX_WAITING_CALLS
from app.errors import RateLimited
from app.http.rate_limits import RateLimit
from tests.database.test_pool import ME, is_, pool_of  # noqa: F401  (a fixture among them)
from tests.http.test_connection_limits import GET, POST, changed, serving
from tests.http.test_spool import Import, app, on_disk  # noqa: F401
from tests.security.attacks.cases import patient
from tests.support.cast import SIGNER
from tests.support.clients import until

A, B = ("a", 1), ("b", 1)
UPGRADE = b"Connection: Upgrade\r\nUpgrade: a\r\n"


async def test_writes_of_one_user_leave_connections_for_heavy_calls(pool_of):  # noqa: F811
    pool, stop = await pool_of(8), asyncio.Event()

    async def write():
        while not stop.is_set():
            await pool.fetch([("select pg_sleep(0.01)", {})], service_class="slow", key=A)

    busy = [asyncio.create_task(write()) for _ in range(16)]
    try:
        await until(is_(lambda: pool._slow.running))
        began = time.monotonic()
        for _ in range(5):
            await pool.fetch(ME, service_class="heavy", key=B)
        assert time.monotonic() - began < 2
    finally:
        stop.set()
        await asyncio.gather(*busy)


async def test_quick_calls_that_are_slow_in_fact_leave_connections(pool_of):  # noqa: F811
    """Sixteen of one user, each another statement, so that none is known to be expensive."""
    pool = await pool_of(16)
    slow = [asyncio.create_task(pool.fetch([(f"select pg_sleep(4.5) /* {n} */", {})], key=A)) for n in range(16)]
    worst = 0.0
    try:
        for _ in range(30):
            began = time.monotonic()
            await pool.fetch(ME, key=B)
            worst = max(worst, time.monotonic() - began)
            await asyncio.sleep(0.1)
    finally:
        for one in slow:
            one.cancel()
        await asyncio.wait(slow)
    assert worst < 0.8
    await until(is_(lambda: not pool._demoted and not pool._expensive.running))


async def test_calls_blocked_by_one_users_locks_leave_others_their_writes(as_user, as_root, cast):
    """A user's changes that wait for the user's own lock: another organization's write was 503."""
    south, seen = as_user("alma", "south"), Counter()
    with as_root.transaction():
        as_root.execute("select from claims where claim_id = %s for update", [cast.anas_claim])
        change = {"notes": "n"}
        changes = [
            asyncio.create_task(as_user("alma").patch(f"/api/claims/{cast.anas_claim}", change)) for _ in range(16)
        ]
        waits = "select count(*) from pg_stat_activity where usename = 'claims_api' and wait_event_type = 'Lock' "
        waits += "and datname = current_database()"
        await until(is_(lambda: as_root.execute(waits).fetchone()[0] > 1))
        for _ in range(10):
            seen[(await south.post("/api/patients", patient())).status_code] += 1
            await asyncio.sleep(0.1)
    assert set(seen) == {201}
    assert 200 in {answer.status_code for answer in await asyncio.gather(*changes)}  # control: they waited for the lock


async def test_anonymous_calls_cause_no_refusal_of_a_user(client, as_user):
    me, seen = as_user("alma", "south"), Counter()

    async def count(name, call):
        seen[name, (await call).status_code] += 1

    for _ in range(3):
        body = {"refreshToken": "nothing"}
        flood = [count("anonymous", client.post("/api/auth/refresh", json=body)) for _ in range(500)]
        await asyncio.gather(*flood, *(count("user", me.get("/api/auth/me")) for _ in range(8)))
    assert [status for name, status in seen if name == "user"] == [200], seen
    assert seen["anonymous", 401] > 0  # control


async def test_the_limits_of_an_address_do_not_wait_for_its_logins(pool_of):  # noqa: F811
    pool, key = await pool_of(8), ("", "192.0.2.1")
    waiting = [
        asyncio.create_task(pool.fetch([("select pg_sleep(0.05)", {})], key=key)) for _ in range(MAX_WAITING_CALLS + 8)
    ]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited):
        await pool.fetch(ME, key=key)  # control: as a login of that address would
    assert (await RateLimit(pool, SIGNER, "address", 100).consume(key[1]))["RateLimit-Limit"] == "100"
    for one in waiting:
        one.cancel()
    await asyncio.wait(waiting)


async def test_the_bytes_of_a_body_are_released_if_the_disk_is_full(app, cast, on_disk):  # noqa: F811
    """A limit of 64 KiB for files of this process causes a system error beyond it, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    try:
        run, line = Import(app, cast, "alma"), b'{"a": "' + b"x" * 900 + b'"}\n'
        for lines, more in ((71, True), (5, True), (5, False)):
            run.send(line * lines, more=more)
        with suppress(Exception):
            await run.task
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert run.status == 503  # control: it was full
    assert app.state.disk.used == 0


@pytest.mark.parametrize(
    "framing",
    [b"Transfer-Encoding: foo\r\n", b"Transfer-Encoding: chunked, foo\r\n", b"Transfer-Encoding: identity\r\n"],
)
@pytest.mark.parametrize("start", [GET, POST], ids=["get", "post"])
async def test_an_upgrade_with_an_invalid_transfer_encoding_gets_a_response(framing, start):
    faults = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context.get("exception")))
    async with serving() as to:
        client = await to.connect()
        await client.send(start + UPGRADE + framing + b"\r\n")
        assert (await client.answer())[0] in (200, 400)
    assert faults == []


async def test_a_body_that_continues_after_its_response_frees_its_connection():
    """At 500 bytes a second, without a token, such bodies used up every connection of the process."""
    async with serving(changed(connections=10, min_body_bytes_per_s=500.0)) as to:
        to.app.early = True  # like a 401
        clients = [await to.connect() for _ in range(10)]
        for client in clients:
            await client.send(POST + b"Content-Length: 999999999\r\n\r\n")
            assert (await client.answer())[1] == b"early"
        drips = [asyncio.create_task(client.trickle([b"b" * 40] * 200, 0.05)) for client in clients]
        newcomer = await to.connect("127.0.0.2")
        await newcomer.send(GET + b"\r\n")
        assert (await newcomer.answer())[0] == 200
        for one in drips:
            one.cancel()


async def test_readiness_recovers_once_connections_are_available(client, as_root):
    """Also if no more of them are needed."""
    pool = client._transport.app.state.pool
    await until(is_(lambda: len(pool._all) >= 4))
    as_root.execute("alter role claims_api connection limit 4")
    try:
        busy = [("select pg_sleep(0.3)", {})]
        calls = [
            asyncio.create_task(pool.fetch(busy, service_class=service_class))
            for service_class in ("slow",) * 4 + ("quick",) * 2
        ]
        await until(is_(lambda: pool.problem))  # control
        await asyncio.gather(*calls)
    finally:
        as_root.execute("alter role claims_api connection limit -1")

    async def ready():
        return (await client.get("/health/ready")).status_code == 200

    await until(ready, 5)


async def test_a_request_that_ends_in_any_way_releases_its_place(client, as_user, cast):
    """Disconnected while it waits or runs, refused, failed: the same user's requests succeed as before."""
    alma = as_user("alma")
    for wait in [0.002 * n for n in range(10)]:
        tasks = [asyncio.create_task(alma.get(f"/api/claims/{uuid4()}")) for _ in range(40)]
        await asyncio.sleep(wait)
        for one in tasks[::2]:
            one.cancel()
        await asyncio.wait(tasks)
    answers = await asyncio.gather(*(alma.get("/api/auth/me") for _ in range(40)))
    assert {answer.status_code for answer in answers} == {200}
    pool = client._transport.app.state.pool
    await until(
        is_(lambda: all(not one.running and not one.running_by and not one.queue for one in pool._classes.values()))
    )


async def test_a_flood_of_readiness_requests_loses_no_denial(client, as_user, as_root):
    """Simultaneous requests share one check. A denial is recorded with its caller."""
    ids = [uuid4() for _ in range(40)]
    ready = [client.get("/health/ready") for _ in range(600)]
    answers = await asyncio.gather(*ready, *(as_user("pia").get(f"/api/claims/{one}") for one in ids))
    assert {answer.status_code for answer in answers[:600]} == {200}
    assert {answer.status_code for answer in answers[600:]} == {404}
    denied = "select count(*) from audit_logs where action = 'denied' and entity_id = any (%s)"
    assert as_root.execute(denied, [ids]).fetchone() == (40,)
