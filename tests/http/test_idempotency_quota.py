"""Responses stored for idempotency keys: compressed, and within an organization's quota."""

import zlib

import psycopg
import pytest

from tests.http.test_idempotency import counted, is_replay, provide
from tests.security.attacks.cases import npi

KEPT = "idempotency_keys where key <> 'cast'"


def allow(as_root, size: int) -> None:
    as_root.execute(
        f"create or replace function idempotency_quota() returns bigint language sql immutable return {size}"
    )


def pass_time(as_root, time: str) -> None:
    as_root.execute("update idempotency_keys set created_at = created_at - %s::interval", [time])
    as_root.execute(
        "update auth.idempotency_usage set full_until = full_until - %(time)s::interval, "
        "measured_again = measured_again - %(time)s::interval",
        {"time": time},
    )


async def keep(user, *keys: str) -> list[int]:
    """Creates a provider with each key, and returns the statuses."""
    return [(await provide(user, key, npi=npi())).status_code for key in keys]


async def test_a_response_is_stored_compressed_and_returned_byte_for_byte(as_user, as_root):
    first = await provide(as_user("alma"), "k")
    (kept,) = as_root.execute("select body from idempotency_keys where key = 'k'").fetchone()
    assert zlib.decompress(kept) == first.content
    assert len(kept) < 0.75 * len(first.content)
    assert as_root.execute("select pg_column_size(body) <= %s + 4 from idempotency_keys where key = 'k'", [len(kept)])
    again = await provide(as_user("alma"), "k")
    assert (again.content, is_replay(again)) == (first.content, True)


async def test_a_response_stored_by_an_earlier_version_is_returned_as_it_is(as_user, as_root):
    first = await provide(as_user("alma"), "k")
    as_root.execute("update idempotency_keys set body = %s where key = 'k'", [first.content])
    again = await provide(as_user("alma"), "k")
    assert (again.content, is_replay(again)) == (first.content, True)


async def test_beyond_the_quota_the_oldest_are_deleted_and_none_of_the_last_hour(as_user, as_root):
    alma = as_user("alma")
    assert await keep(alma, "1", "2", "3") == [201] * 3
    pass_time(as_root, "59 minutes")
    allow(as_root, 1300)  # two responses, not three
    assert await keep(alma, "4") == [201]  # measured, and found full: the first three are younger than an hour
    assert counted(as_root, KEPT) == 4
    assert await keep(alma, "5") == [429]
    pass_time(as_root, "2 minutes")
    assert await keep(alma, "6") == [201]
    assert as_root.execute(f"select array_agg(key order by key) from {KEPT}").fetchone() == (["4", "6"],)


async def test_a_new_key_beyond_the_quota_is_refused_until_there_is_space(as_user, as_root):
    alma = as_user("alma")
    allow(as_root, 1300)
    assert await keep(alma, "1", "2") == [201] * 2
    pass_time(as_root, "20 minutes")
    assert await keep(alma, "3") == [201]
    refused = await provide(alma, "4", npi=npi())
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], list(error["details"]["fields"])) == (
        429, "RATE_LIMITED", ["Idempotency-Key"],
    )  # fmt: skip
    assert 2395 <= int(refused.headers["Retry-After"]) <= 2400
    assert counted(as_root, KEPT) == 3
    first = await provide(alma, "1")  # a stored response is returned all the same, or its body is found to differ
    assert first.status_code == 422
    assert (await alma.post("/api/providers", {"npi": npi(), "name": "Cara"})).status_code == 201  # without a key
    assert await keep(as_user("alma", "south"), "4") == [201]  # another organization has its own quota
    allow(as_root, 64 << 20)
    pass_time(as_root, "41 minutes")
    assert await keep(alma, "4") == [201]


async def test_a_stored_response_is_returned_where_no_new_one_fits(as_user, as_root):
    alma = as_user("alma")
    allow(as_root, 1)
    first = await provide(alma, "k")
    assert await keep(alma, "other") == [429]
    again = await provide(alma, "k")
    assert (again.status_code, again.content, is_replay(again)) == (201, first.content, True)


async def test_the_size_of_stored_responses_is_measured_now_and_then(as_user, as_root):
    measured = (
        "select measured_again, measured_again - clock_timestamp() between '4 s' and '6 s' from auth.idempotency_usage"
    )
    alma = as_user("alma")
    await keep(alma, "1")
    first = as_root.execute(measured).fetchone()
    assert first[1]
    await keep(alma, "2")
    assert as_root.execute(measured).fetchone()[0] == first[0]
    pass_time(as_root, "5 seconds")
    assert (await provide(alma, "3", npi="1")).status_code == 400  # a request that fails in the end measures nothing
    assert as_root.execute(measured).fetchone()[0] < first[0]
    await keep(alma, "3")
    assert as_root.execute(measured).fetchone()[0] > first[0]


async def test_no_request_waits_for_another_that_measures_or_deletes(as_user, as_role, as_root, settings):
    alma = as_user("alma")
    assert await keep(alma, "1", "2", "3") == [201] * 3
    pass_time(as_root, "2 hours")
    allow(as_root, 1300)
    holder = as_role("pia")
    holder.execute("select reserve_idempotency_key('/x', 'held', ''), store_response('/x', 'held', 200, '{}', '')")
    # Control: it measures, and has not committed yet.
    assert as_root.execute(
        "select count(*) from pg_locks where locktype = 'advisory' and pid = %s", [holder.info.backend_pid]
    ).fetchone() == (1,)
    assert await keep(alma, "4") == [201]
    assert counted(as_root, KEPT) == 4  # it deleted nothing itself
    holder.rollback()
    with psycopg.connect(settings.database_url) as reader:
        reader.execute("select from app.idempotency_keys where key = '1' for update")
        assert await keep(alma, "5") == [201]
        assert as_root.execute(f"select array_agg(key order by key) from {KEPT}").fetchone() == (["1", "4", "5"],)


async def test_no_product_role_raises_the_quota(as_role, as_root):
    for who in ("alma", "pia", "ana", "tom"):
        for statement in (
            "create or replace function app.idempotency_quota() returns bigint language sql immutable return 9e9::bigint",
            "update auth.idempotency_usage set full_until = null",
            "select app.limit_stored_responses()",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                as_role(who).execute(statement)
    with as_root.transaction(force_rollback=True):  # control
        as_root.execute("update auth.idempotency_usage set full_until = null")
        as_root.execute("select app.idempotency_quota()")
