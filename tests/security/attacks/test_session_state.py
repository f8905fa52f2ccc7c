"""Session state left by SQL injected into one request: none of it reaches the next request on that connection."""

import asyncio
from collections.abc import AsyncIterator, Callable

import psycopg
import pytest

from app.database import pool as pool_module
from app.database.connection import Rows
from app.database.context import BEGIN_CONTEXT
from app.database.pool import Pool
from app.errors import Unavailable
from tests.support.cast import SIGNER, caller
from tests.support.clients import until

LEFT = {
    "settings": "select name || ' = ' || setting from pg_settings where source = 'session'",
    "role": "select current_user::text",
    "variables": "select concat(current_setting('app.organization_id', true), current_setting('app.mac', true), "
    "current_setting('app.role', true))",
    "locks": "select count(*)::text from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
    "cursors": "select coalesce(string_agg(name, ','), '') from pg_cursors where is_holdable",
    "channels": "select coalesce(string_agg(c, ','), '') from pg_listening_channels() c",
    "read only": "select current_setting('transaction_read_only')",
    "isolation": "select current_setting('transaction_isolation')",
}
"""The state of the session for a request, each as a text."""
ATTACKS = [
    "set statement_timeout = 0",
    "set statement_timeout = 1",
    "set lock_timeout = 0",
    "set idle_in_transaction_session_timeout = 0",
    "set search_path = pg_temp, public",
    "set role claims_admin",
    "set session authorization claims_api",
    "set default_transaction_read_only = on",
    "set session characteristics as transaction isolation level serializable, read only",
    "set row_security = off",
    "set plan_cache_mode = force_generic_plan",
    "set enable_indexscan = off",
    "set client_min_messages = debug5",
    "set datestyle = 'SQL, DMY'",
    "set timezone = 'Asia/Tokyo'",
    "set bytea_output = escape",
    "set standard_conforming_strings = off",
    "set app.organization_id = 'x'",
    "set app.mac = 'x'",
    "set app.role = 'admin'",
    "update pg_settings set setting = 'off' where name = 'enable_seqscan'",
    "select pg_advisory_lock(4711)",
    "select pg_advisory_lock_shared(4711), pg_advisory_lock(47, 11)",
    "declare kept cursor with hold for select 1",
    "listen procrastinate_any_queue",
]
ALONE = ("set session authorization",)
"""Attacks that leave no state by themselves."""


@pytest.fixture
async def open_pool(settings, as_root) -> AsyncIterator[Callable[..., Pool]]:
    """A pool of one connection as claims_api.

    The login has the rights that sql/deploy/roles.sql revokes, because the reset is the second guard.
    """
    as_root.execute(
        "grant execute on function pg_advisory_lock(bigint), pg_advisory_lock(integer, integer), pg_advisory_lock_shared(bigint), "
        "pg_lock_status() to public"
    )
    opened: list[Pool] = []

    async def make(**options) -> Pool:
        pool = Pool(settings.api_database_url, size=1, name="test-session", **options)
        opened.append(pool)
        await pool.open()
        return pool

    yield make
    for pool in opened:
        await pool.close()


async def ask(pool: Pool, *statements: str) -> list[Rows]:
    return await pool.fetch([(statement, {}) for statement in statements])


async def left(pool: Pool) -> dict[str, list[str]]:
    """The state that the next request on the connection finds."""
    rows = await ask(pool, *LEFT.values())
    return {name: [one for (one,) in found] for name, found in zip(LEFT, rows, strict=True)}


async def backend(pool: Pool) -> int:
    return (await ask(pool, "select pg_backend_pid()"))[0][0][0]


@pytest.fixture(params=["direct", "pooler"])
def reached(request, monkeypatch) -> str:
    """Whether the API reaches the server's own process, or cannot know which one it reaches."""
    if request.param == "pooler":

        async def hidden(_own):
            return 0

        monkeypatch.setattr(pool_module, "_backend", hidden)
    return request.param


@pytest.mark.parametrize("attack", ATTACKS)
async def test_no_state_of_a_session_reaches_the_next_request(open_pool, reached, attack):
    pool, careless = await open_pool(), await open_pool(resets=False)
    clean, pid = await left(pool), await backend(pool)
    await ask(pool, attack)
    after = await left(pool)
    if reached == "pooler":  # these end with the running transaction, as sql/README.md documents
        after |= {name: clean[name] for name in ("read only", "isolation", "channels")}
        assert (await left(pool))["channels"] == clean["channels"]
    assert after == clean
    assert await backend(pool) == pid  # it is the same session
    if not attack.startswith(ALONE):
        await ask(careless, attack)
        try:
            assert await left(careless) != clean  # control
        except psycopg.errors.QueryCanceled:
            assert attack == "set statement_timeout = 1"


async def test_a_failed_request_leaves_no_state_either(open_pool, reached):
    pool = await open_pool()
    clean = await left(pool)
    with pytest.raises(psycopg.errors.DivisionByZero):
        await ask(pool, "select pg_advisory_lock(4711)", "set statement_timeout = 0", "select 1 / 0")
    assert await left(pool) == clean


async def test_a_lock_ends_with_its_request(open_pool, as_root):
    """It is released when the request has ended, not when the next one begins."""
    pool, careless = await open_pool(), await open_pool(resets=False)
    held = "select count(*) from pg_locks where locktype = 'advisory' and objid = 4711"
    await ask(careless, "select pg_advisory_lock(4711)")
    assert as_root.execute(held).fetchone() == (1,)  # control
    await ask(careless, "select pg_advisory_unlock_all()")
    await ask(pool, "select pg_advisory_lock(4711)")

    async def released():
        return as_root.execute(held).fetchone() == (0,)

    await until(released)


async def test_an_open_transaction_ends_with_its_connection(open_pool, as_root):
    pool = await open_pool()
    pid = await backend(pool)
    await ask(pool, "begin", "set statement_timeout = 0")
    assert await backend(pool) != pid

    async def gone():
        return as_root.execute("select count(*) from pg_stat_activity where pid = %s", [pid]).fetchone() == (0,)

    await until(gone)


async def test_prepared_statements_can_be_neither_named_nor_replaced(open_pool, as_root):
    """Each has a name of 128 random bits. A statement under a name of the caller's is never used by the API."""
    pool = await open_pool()
    ours = "select 42"
    for _ in range(3):
        assert (await ask(pool, ours))[0] == [(42,)]
    names = await ask(pool, "select 1", *(f"prepare s{n} as select 13" for n in range(1, 9)))
    assert names[0] == [(1,)]
    assert (await ask(pool, ours))[0] == [(42,)]
    as_root.execute("grant execute on function pg_prepared_statement() to public")  # revoked by sql/deploy/roles.sql
    (found,) = await ask(pool, "select name from pg_prepared_statements where statement = 'select 42'")
    ((name,),) = found
    assert len(name) == 32
    pid = await backend(pool)
    await ask(pool, f'deallocate "{name}"', f'prepare "{name}" as select 13')  # control: with its name it could be
    assert (await ask(pool, ours))[0] == [(13,)]
    assert await backend(pool) == pid


async def test_a_session_without_its_prepared_statements_is_closed(open_pool):
    """The reset that follows is one of them, so the call is sent again, and the next request has another session."""
    pool = await open_pool()
    pid = await backend(pool)
    await ask(pool, "deallocate all")
    assert await backend(pool) != pid


async def test_a_signature_of_one_connection_is_invalid_on_another(open_pool, settings, cast):
    """The API signs for one backend, and the signature is invalid on any other."""
    pool = await open_pool()
    enter = SIGNER.sign_context(caller(cast, "alma"), request_id="x", address="", source="api", read_only=False)
    assert (await pool.fetch([(BEGIN_CONTEXT, enter)]))[0] == [("claims_admin",)]  # control
    pid = await backend(pool)
    with psycopg.connect(settings.api_database_url) as elsewhere:
        with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification):
            elsewhere.execute(BEGIN_CONTEXT, enter | {"proof": enter["proof"](pid)})
        elsewhere.rollback()
        own = enter["proof"](elsewhere.info.backend_pid)
        assert elsewhere.execute(BEGIN_CONTEXT, enter | {"proof": own}).fetchone() == ("claims_admin",)  # control


async def test_a_call_beyond_its_time_limit_is_cancelled_on_the_server(open_pool, as_root, monkeypatch):
    """A statement may lift its own timeout. The call is cancelled, and counts as a connection until it has ended."""
    monkeypatch.setattr(pool_module, "ANSWER_TICKS", 3)
    pool = await open_pool()
    running = "select count(*) from pg_stat_activity where query like '%%pg_sleep%%' and state = 'active' and pid <> pg_backend_pid()"
    slow = "select pg_sleep(600)"
    for _ in range(3):
        call = asyncio.create_task(ask(pool, "set statement_timeout = 0", slow))

        async def started():
            return as_root.execute(running).fetchone() == (1,)

        await until(started)
        with pytest.raises(Unavailable):
            await call

        async def ended():
            return as_root.execute(running).fetchone() == (0,)

        await until(ended)
    own = "select count(*) from pg_stat_activity where application_name = 'test-session'"
    assert as_root.execute(own).fetchone() == (1,)  # never more backends than the pool has connections
    assert (await ask(pool, "show statement_timeout"))[0] == [("5s",)]


@pytest.mark.parametrize("copy", ["copy (select 1) to stdout", "copy (select 1 where false) to stdout"])
async def test_copy_loses_its_connection_and_no_other(open_pool, as_root, copy):
    """libpq allows no COPY in a pipeline."""
    pool = await open_pool()
    with pytest.raises((Unavailable, psycopg.Error)):
        await asyncio.wait_for(ask(pool, copy), 5)
    assert await asyncio.wait_for(ask(pool, "select 1"), 5) == [[(1,)]]


async def test_the_value_of_a_sequence_reaches_no_other_request(open_pool, reached, as_root):
    as_root.execute("create sequence app.given; grant usage on sequence app.given to claims_api")
    pool, careless = await open_pool(), await open_pool(resets=False)
    for one in (pool, careless):
        assert len(await ask(one, "select nextval('app.given')")) == 1
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        await ask(pool, "select lastval()")
    assert await ask(careless, "select lastval()") == [[(2,)]]  # control
