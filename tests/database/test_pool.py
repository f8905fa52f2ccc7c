"""The pool and its connections under faults: no call gets the result, the context or the connection of another."""

import asyncio
import random
from collections import Counter
from functools import partial

import psycopg
import pytest

from app.database import statements
from app.database.admission import MAX_WAITING_CALLS
from app.database.connection import MAX_PREPARED
from app.database.context import BEGIN_CONTEXT
from app.database.pool import Pool
from app.errors import Unavailable
from tests.support.cast import SIGNER, caller
from tests.support.clients import until

ME = [("select pg_backend_pid()", {})]
SLEEP = [("select pg_sleep(%(seconds)s)", {"seconds": 30})]
CONTEXT = [
    ("select current_user::text, current_setting('app.organization_id', true), current_setting('app.mac', true)", {})
]


def consume_call(subject: str):
    """A call that leaves a row, signed as by the API: for the backend that will run it."""
    statement = statements.load("rate_limits").consume
    given = SIGNER.sign_call(statement, {"subject": subject, "want": 1, "limit": 5, "seconds": 60})
    return statement.text(given), given


def sign_context(who, name):
    """The first statement of a call in this user's context, signed as by the API."""
    given = SIGNER.sign_context(caller(who, name), request_id="test", address="", source="api", read_only=False)
    return BEGIN_CONTEXT, given


@pytest.fixture
async def pool_of(settings):
    """A function that opens a pool of this size, as the API does."""
    pools: list[Pool] = []

    async def make(size: int) -> Pool:
        pools.append(Pool(settings.api_database_url, size=size, name="test-pool"))
        await pools[-1].open()
        return pools[-1]

    yield make
    for pool in pools:
        await pool.close()


@pytest.fixture
def backends(as_root):
    """The number of the pool's backends in that state, or of all."""

    def count(state: str = "%") -> int:
        asked = "select count(*) from pg_stat_activity where application_name = 'test-pool' and state like %s"
        return as_root.execute(f"{asked} and datname = current_database()", [state]).fetchone()[0]

    return count


async def pid(pool: Pool) -> int:
    return (await pool.fetch(ME))[0][0][0]


async def pids(pool: Pool, count: int) -> list[int]:
    """The backends of all of the pool's connections; none while one of them is still connecting."""
    calls = (pool.fetch([("select pg_backend_pid() from pg_sleep(0.05)", {})]) for _ in range(count))
    found = {rows[0][0][0] for rows in await asyncio.gather(*calls)}
    return list(found) if len(found) == count else []


def is_(value):
    """A condition from a function that is not a coroutine."""

    async def ask():
        return value()

    return ask


async def test_a_call_is_one_transaction(pool_of, as_root):
    pool = await pool_of(1)
    rows = await pool.fetch(
        [("select 1, %(a)s::text, '{\"b\": 1}'::json", {"a": "ä"}), ("select from generate_series(1, 0)", {})]
    )
    assert rows == [[(1, "ä", b'{"b": 1}')], []]
    consume = consume_call("one")
    before = as_root.execute("select count(*) from auth.rate_limits").fetchone()
    with pytest.raises(psycopg.errors.DivisionByZero):
        await pool.fetch([consume, ("select 1 / %(n)s", {"n": 0}), ("select 1", {})])
    assert as_root.execute("select count(*) from auth.rate_limits").fetchone() == before
    (((granted, *_),),) = await pool.fetch([consume])
    assert granted == 1  # control: alone it leaves a row
    assert as_root.execute("select count(*) from auth.rate_limits").fetchone() == (before[0] + 1,)


async def test_a_value_that_cannot_be_sent_affects_no_other_call(pool_of):
    pool = await pool_of(1)
    mine = await pid(pool)
    for value in ("nul \0", "half a pair \ud800"):
        with pytest.raises((psycopg.DataError, UnicodeError)):
            await pool.fetch([("select 1", {}), ("select %(text)s::text", {"text": value})])
    assert await pid(pool) == mine


async def test_a_backend_that_ends_during_a_call_fails_that_call_alone(pool_of, as_root, backends):
    pool = await pool_of(2)
    doomed = asyncio.create_task(pool.fetch([*ME, *SLEEP, ("select 'after'", {})]))
    await until(is_(lambda: backends("active")))
    others = asyncio.gather(*(pool.fetch([("select %(n)s::integer", {"n": n})]) for n in range(30)))
    as_root.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'test-pool' and query like '%pg_sleep%'"
    )
    with pytest.raises(psycopg.errors.AdminShutdown):
        await doomed
    assert [rows[0][0][0] for rows in await others] == list(range(30))


async def test_backends_that_end_while_idle_are_discarded_before_a_call_gets_them(pool_of, as_root):
    pool = await pool_of(4)
    there = "select count(*) from pg_stat_activity where pid = any (%s)"
    for _ in range(5):
        ended = await until(partial(pids, pool, 4))
        as_root.execute("select pg_terminate_backend(one) from unnest(%s::integer[]) one", [ended])
        await until(is_(lambda: as_root.execute(there, [ended]).fetchone() == (0,)))  # noqa: B023
        # The response to the reset arrives first, then the end: the event loop needs several iterations for both.
        for _iteration in range(4):
            await asyncio.sleep(0)
        assert await pid(pool) not in ended


async def test_a_disconnected_client_ends_its_statement_and_the_connection_stays(pool_of, backends):
    pool = await pool_of(1)
    mine, gone = await pid(pool), asyncio.Event()
    left = asyncio.create_task(pool.fetch(SLEEP, gone.wait))
    await until(is_(lambda: backends("active")))
    gone.set()
    with pytest.raises(Unavailable):
        await left
    await until(is_(lambda: not backends("active")), seconds=3)
    assert await pid(pool) == mine
    cancelled = asyncio.create_task(pool.fetch(SLEEP))
    await until(is_(lambda: backends("active")))
    cancelled.cancel()
    next_one = asyncio.create_task(pid(pool))  # waits for the same connection, and is not affected by the cancellation
    assert await next_one == mine


async def test_a_client_that_hangs_up_ends_its_statement(settings, as_root, casts, client, as_user):
    """Through the whole API: a statement that waits for a lock is cancelled when its client has disconnected."""
    await as_user("alma").get("/api/claims")
    with psycopg.connect(settings.database_url) as holder:
        holder.execute("lock table app.claims in access exclusive mode")
        request = asyncio.create_task(as_user("alma").get("/api/claims"))
        waiting = "select count(*) from pg_locks join pg_stat_activity using (pid) where not granted and datname = current_database()"
        await until(is_(lambda: as_root.execute(waiting).fetchone()[0] == 1))
        request.cancel()
        # lock_timeout is two seconds.
        await until(is_(lambda: as_root.execute(waiting).fetchone()[0] == 0), seconds=1.5)
        holder.rollback()
    assert (await as_user("alma").get("/api/claims")).status_code == 200


async def test_waiting_is_bounded_in_time_and_number(pool_of, backends):
    pool = await pool_of(2)
    loop = asyncio.get_running_loop()
    busy = [asyncio.create_task(pool.fetch(SLEEP)) for _ in range(2)]
    await until(is_(lambda: backends("active") == 2))
    began = loop.time()
    with pytest.raises(Unavailable):
        await pid(pool)
    assert 0.5 < loop.time() - began < 1.5
    crowd = [asyncio.create_task(pid(pool)) for _ in range(MAX_WAITING_CALLS)]
    await asyncio.sleep(0)
    began = loop.time()
    with pytest.raises(Unavailable):
        await pid(pool)
    assert loop.time() - began < 0.1  # at once: the maximum of calls waits already
    for one in busy:
        one.cancel()
    assert {await one for one in crowd} <= set(await until(partial(pids, pool, 2)))


async def test_slow_calls_leave_connections_for_quick_ones(pool_of, backends):
    pool = await pool_of(8)
    slow = [asyncio.create_task(pool.fetch(SLEEP, service_class="slow")) for _ in range(4)]
    await until(is_(lambda: backends("active") == 4))
    with pytest.raises(Unavailable):
        await pool.fetch(ME, service_class="slow")
    assert await pid(pool)
    for one in slow:
        one.cancel()
    await until(is_(lambda: not backends("active")))
    assert len({(await pool.fetch(ME, service_class="slow"))[0][0][0] for _ in range(8)}) >= 1


async def test_any_failure_rolls_back_its_transaction(pool_of, as_root, backends):
    pool = await pool_of(1)
    consume = [consume_call("held")]
    held = "select count(*) from auth.rate_limits where subject = sha256('held')"

    async def raising() -> None:
        async with pool.transaction() as transaction:
            await transaction.run(consume)
            raise LookupError

    async def failing() -> None:
        async with pool.transaction() as transaction:
            await transaction.run(consume)
            await transaction.run([("select 1 / 0", {})])

    async def sleeping() -> None:
        async with pool.transaction() as transaction:
            await transaction.run(consume)
            await transaction.run(SLEEP)

    for broken, error in ((raising, LookupError), (failing, psycopg.errors.DivisionByZero)):
        with pytest.raises(error):
            await broken()
        assert await pid(pool)
        assert as_root.execute(held).fetchone() == (0,)
    task = asyncio.create_task(sleeping())
    await until(is_(lambda: backends("active")))
    task.cancel()
    assert await pid(pool)
    assert as_root.execute(held).fetchone() == (0,)
    assert backends("idle in transaction%") == 0
    async with pool.transaction() as transaction:
        await transaction.run(consume)
        await transaction.commit([("select 1", {})])
    assert as_root.execute(held).fetchone() == (1,)  # control: after its commit the row stays


async def test_no_context_outlives_its_call(pool_of, cast, backends):
    pool = await pool_of(1)
    inside = [sign_context(cast, "alma"), *CONTEXT]
    assert (await pool.fetch(inside))[1][0][:2] == ("claims_admin", str(cast.organization))  # control
    for ending in ([], [("select 1 / 0", {})], SLEEP):
        call = asyncio.create_task(pool.fetch([*inside, *ending]))
        if ending == SLEEP:
            await until(is_(lambda: backends("active")))
            call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        ((found,),) = await pool.fetch(CONTEXT)
        assert (found[0], found[1] or "", found[2] or "") == ("claims_api", "", "")


async def test_statements_are_kept_prepared_up_to_a_bound(pool_of, as_root):
    as_root.execute("grant execute on function pg_prepared_statement() to claims_api")
    pool = await pool_of(1)
    for n in range(MAX_PREPARED + 50):
        assert await pool.fetch([(f"select {n}, %(n)s::integer", {"n": n})]) == [[(n, n)]]
    kept = "select count(*) from pg_prepared_statements where statement like 'select %%, $1::integer'"
    assert MAX_PREPARED - 2 <= (await pool.fetch([(kept, {})]))[0][0][0] <= MAX_PREPARED
    assert await pool.fetch([("select 0, %(n)s::integer", {"n": 7})]) == [[(0, 7)]]


@pytest.fixture
def change(as_root):
    """Changes the type of a table's column, so that statements that were prepared before are stale. The tables are `one` and `two`."""
    as_root.execute("grant usage on schema public to claims_api")
    for table in ("one", "two"):
        as_root.execute(
            f"create table public.{table} (a integer); grant select, insert on public.{table} to claims_api"
        )
        as_root.execute(f"insert into public.{table} values (1)")
    return lambda table, type_: as_root.execute(f"alter table public.{table} alter a type {type_}")


def read(table: str):
    return [(f"select a from public.{table}", {})]


async def test_a_call_with_a_stale_plan_is_sent_again(pool_of, change, as_root):
    """Once for each connection; all of them have stale plans at the same time."""
    pool = await pool_of(4)
    await asyncio.gather(*(pool.fetch([*read("one"), ("select pg_sleep(0.1)", {})]) for _ in range(4)))
    change("one", "text")
    insert = ("insert into public.one values ('2') returning a", {})
    for rows in await asyncio.gather(*(pool.fetch([*read("one"), insert]) for _ in range(12))):
        assert rows[0][0] == ("1",)
        assert rows[1] == [("2",)]
    count = "select count(*) from public.one where a = '2'"
    assert as_root.execute(count).fetchone() == (12,)  # each had its effect once


async def test_a_call_inside_a_transaction_is_not_sent_again(pool_of, change, as_root):
    """The calls before it are undone with the transaction, so only the caller could repeat all of them."""
    pool = await pool_of(1)
    await pool.fetch(read("one"))
    change("one", "text")
    async with pool.transaction() as transaction:  # the first call begins the transaction, so it may be repeated
        assert await transaction.run(read("one")) == [[("1",)]]
        await transaction.commit([("insert into public.one values ('2')", {})])
    assert await pool.fetch(read("two")) == [[(1,)]]
    async with pool.transaction() as transaction:
        await transaction.run([("insert into public.one values ('3')", {})])
        change("two", "text")
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            await transaction.run(read("two"))
    assert await pool.fetch(read("two")) == [[("1",)]]
    assert as_root.execute("select a from public.one order by a").fetchall() == [("1",), ("2",)]


async def test_ten_thousand_concurrent_calls_each_get_their_own_result(pool_of, casts, as_root):
    """Good calls, failing, cancelled ones and backends that end, all at once: every result is its caller's, in its tenant."""
    as_root.execute("grant execute on function pg_terminate_backend(integer, bigint) to claims_api")
    pool, chance = await pool_of(5), random.Random(7)
    outcomes: Counter[str] = Counter()
    query = "select current_setting('app.organization_id'), current_setting('app.user_id'), %(n)s::integer, count(*) from claims"

    async def one(n: int) -> None:
        tenant, name = chance.choice(["north", "south"]), chance.choice(["alma", "ana", "pia", "tom"])
        who, kind = casts[tenant], chance.choices(["good", "failing", "cancelled", "lost"], [85, 9, 5, 1])[0]
        statements = [sign_context(who, name), (f"/* {name} */ {query}", {"n": n})]
        if kind == "failing":
            statements.insert(chance.choice([1, 2]), ("select 1 / %(n)s", {"n": 0}))
        if kind == "lost":
            statements.insert(0, ("select pg_terminate_backend(pg_backend_pid())", {}))
        call = asyncio.create_task(pool.fetch(statements))
        if kind == "cancelled":
            await asyncio.sleep(chance.random() / 500)
            call.cancel()
        try:
            rows = (await call)[1]
        except psycopg.errors.DivisionByZero:
            outcomes["failing"] += kind == "failing"
        except asyncio.CancelledError:
            outcomes["cancelled"] += kind == "cancelled"
        except psycopg.OperationalError:
            outcomes["lost"] += kind == "lost"
        else:
            assert kind in ("good", "cancelled")
            assert rows == [(str(who.organization), str(who.ids[name]), n, seen[tenant, name])]
            outcomes[kind if kind == "good" else "too late"] += 1

    async def client(numbers: range) -> None:
        for n in numbers:
            await one(n)

    seen = {}
    for tenant, who in casts.items():
        for name in ("alma", "ana", "pia", "tom"):
            rows = await pool.fetch([sign_context(who, name), ("select count(*) from claims", {})])
            seen[tenant, name] = rows[1][0][0]
    assert {seen["north", "alma"], seen["north", "tom"]} == {2, 1}  # control: they see different rows
    await asyncio.gather(*(client(range(start, 10_000, 20)) for start in range(20)))
    assert sum(outcomes.values()) == 10_000, outcomes
    assert outcomes["good"] > 8000
    assert min(outcomes["failing"], outcomes["cancelled"], outcomes["lost"]) > 20, outcomes
    ((found,),) = await pool.fetch(CONTEXT)
    assert (found[1] or "", found[2] or "") == ("", "")
