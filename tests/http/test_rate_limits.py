"""Rate limits: one window for all processes, never exceeded, and of little cost."""

import asyncio
from typing import Any

import httpx
import pytest

from app.http.rate_limits import PARTS, WINDOW_S
from app.security.tokens import make_token
from tests.resources.test_auth import instance
from tests.support.cast import KEYS, caller

LIMIT = 60
SPENT = "select used, xmin from auth.rate_limits where subject = sha256(%s)"


def bearer(cast, who: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {make_token(caller(cast, who), KEYS)}"}


async def ask(client: httpx.AsyncClient, headers: dict[str, str], times: int) -> list[httpx.Response]:
    return await asyncio.gather(*(client.get("/api/auth/me", headers=headers) for _ in range(times)))


def passed(answers: list[httpx.Response]) -> int:
    """The number of accepted requests. Every other was refused as documented."""
    for answer in answers:
        if answer.status_code == 429:
            assert answer.json()["error"]["code"] == "RATE_LIMITED"
            assert answer.headers["RateLimit-Remaining"] == "0"
            assert answer.headers["Retry-After"] == answer.headers["RateLimit-Reset"]
            assert 1 <= int(answer.headers["Retry-After"]) <= WINDOW_S
    return sum(answer.status_code != 429 for answer in answers)


def spent(as_root, subject: Any) -> tuple[int, Any] | None:
    return as_root.execute(SPENT, [subject.encode()]).fetchone()


@pytest.mark.parametrize("kind", ["user", "address"])
async def test_two_processes_accept_no_more_than_the_limit(settings, as_root, cast, kind):
    changed = {f"rate_limit_{kind}": LIMIT}
    async with instance(settings, **changed) as one, instance(settings, **changed) as two:
        headers = bearer(cast, "alma") if kind == "user" else {}  # without a token it is 401, and counts all the same
        first = await asyncio.gather(*(ask(client, headers, LIMIT // 3) for client in (one, two)))
        assert [passed(answers) for answers in first] == [LIMIT // 3] * 2  # control: the limit was not reached before
        both = await asyncio.gather(*(ask(client, headers, LIMIT) for client in (one, two)))
        answers = [answer for answers in both for answer in answers]
        assert passed(answers) == LIMIT - 2 * (LIMIT // 3)
        assert {answer.headers["RateLimit-Limit"] for answer in answers} == {str(LIMIT)}
        assert {answer.headers["RateLimit-Policy"] for answer in answers} == {f"{LIMIT};w={WINDOW_S}"}
        assert spent(as_root, f"user:{cast.alma}" if kind == "user" else "address:127.0.0.1")[0] == LIMIT
        for client in (one, two):
            assert [(await client.get(path)).status_code for path in ("/health", "/health/ready")] == [200, 200]


async def test_a_process_alone_has_the_whole_limit_and_counts_it_down(settings, cast):
    for limit in (1, PARTS - 1, LIMIT):
        async with instance(settings, rate_limit_user=limit) as client:
            headers = bearer(cast, {1: "tom", LIMIT: "ana"}.get(limit, "ben"))
            answers = [(await ask(client, headers, 1))[0] for _ in range(limit + 2)]
            assert [answer.status_code for answer in answers] == [200] * limit + [429] * 2
            left = [int(answer.headers["RateLimit-Remaining"]) for answer in answers]
            assert left == [*range(limit - 1, -1, -1), 0, 0]
            resets = [int(answer.headers["RateLimit-Reset"]) for answer in answers]
            assert WINDOW_S >= resets[0] >= resets[-1] >= 1
            assert resets == sorted(resets, reverse=True)


async def test_a_second_process_gets_the_rest_of_the_limit(settings, cast):
    headers, limits = bearer(cast, "alma"), {"rate_limit_user": LIMIT}
    async with instance(settings, **limits) as early, instance(settings, **limits) as late:
        assert passed([(await ask(early, headers, 1))[0] for _ in range(LIMIT - 2)]) == LIMIT - 2
        assert LIMIT // PARTS > 2  # control: alone it would take more
        assert passed(await ask(late, headers, 5)) == 2
        assert passed(await ask(early, headers, 5)) == 0


async def test_a_users_limit_counts_every_token_and_address(settings, casts):
    north, south = casts["north"], casts["south"]
    limits = {"rate_limit_user": 5}
    async with instance(settings, **limits) as here, instance(settings, "192.0.2.1", **limits) as there:
        answers = await ask(here, bearer(north, "alma"), 3) + await ask(there, bearer(north, "alma"), 3)
        assert passed(answers) == 5
        assert passed(await ask(here, bearer(north, "alma"), 1)) == 0
        new = {"npi": "1679576722", "name": "Cara"}
        refused = await here.post("/api/providers", json=new, headers=bearer(north, "alma"))
        assert (refused.status_code, refused.headers["RateLimit-Limit"]) == (429, "5")
        # Controls: another user is not affected.
        listed = await there.get("/api/providers", headers=bearer(north, "ana"))
        assert {one["npi"] for one in listed.json()["data"]}.isdisjoint({"1679576722"})
        assert passed(await ask(there, bearer(south, "alma"), 5)) == 5
        forged = {"Authorization": f"Bearer {make_token(caller(north, 'pia'), {'test': b'x' * 32})}"}
        assert {answer.status_code for answer in await ask(here, forged, 6)} == {401}
        assert passed(await ask(here, bearer(north, "pia"), 5)) == 5  # no user consumes another's


async def test_an_addresss_limit_counts_all_its_requests(settings, cast):
    async with (
        instance(settings, rate_limit_address=4) as here,
        instance(settings, "192.0.2.1", rate_limit_address=4) as there,
    ):
        login = {"email": "unknown@north.test", "password": "wrong"}
        answers = [
            await here.get("/api/auth/me", headers=bearer(cast, "alma")),
            await here.post("/api/auth/login", json=login),
            await here.get("/openapi.json"),
            await here.get("/api/claims"),
        ]
        assert [answer.status_code for answer in answers] == [200, 401, 200, 401]
        for path in ("/api/auth/me", "/openapi.json", "/docs"):
            refused = await here.get(path, headers=bearer(cast, "alma"))
            assert (refused.status_code, refused.headers["RateLimit-Limit"]) == (429, "4"), path
        assert passed(await ask(there, bearer(cast, "alma"), 1)) == 1  # control: another address
        assert (await here.get("/health")).status_code == 200
        assert "RateLimit-Limit" not in (await here.get("/health")).headers


async def test_the_next_window_starts_at_zero(settings, as_root, cast):
    headers, limits = bearer(cast, "alma"), {"rate_limit_user": 5}
    back = "update auth.rate_limits set started_at = started_at - make_interval(secs => %s)"
    async with instance(settings, **limits) as old, instance(settings, **limits) as fresh:
        assert passed(await ask(old, headers, 6)) == 5
        as_root.execute(back, [WINDOW_S - 1])
        assert passed(await ask(fresh, headers, 1)) == 0  # control: not yet
    async with instance(settings, **limits) as old, instance(settings, **limits) as fresh:
        # The window's last second began during the two starts, and may be over.
        as_root.execute("update auth.rate_limits set started_at = now() - make_interval(secs => %s)", [WINDOW_S - 1])
        refused = (await ask(old, headers, 1))[0]
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        as_root.execute(back, [1])
        assert passed(await ask(fresh, headers, 6)) == 5
        for lease in old._transport.app.state.user_limits._leases.values():
            lease.ends_at = 0.0  # as its second passes
        assert passed(await ask(old, headers, 1)) == 0  # the new window is shared by both, too
        as_root.execute(back, [WINDOW_S])
        for lease in old._transport.app.state.user_limits._leases.values():
            lease.ends_at = 0.0
        assert passed(await ask(old, headers, 1)) == 1


async def test_most_requests_need_no_query(settings, as_root, cast):
    limit, subject = 200, f"user:{cast.alma}"
    async with instance(settings, rate_limit_user=limit) as client:
        assert spent(as_root, subject) is None
        seen = []
        for done in range(1, limit + 1):
            assert passed(await ask(client, bearer(cast, "alma"), 1)) == 1
            seen.append(spent(as_root, subject))
            # Consumed before it is used, and a twentieth at most in advance.
            assert done <= seen[-1][0] <= done + limit // PARTS
        assert len(set(seen[:100])) <= 100 // 5  # one statement for five requests and more, far from the limit
        assert passed(await ask(client, bearer(cast, "alma"), 20)) == 0
        assert spent(as_root, subject) == seen[-1]  # a refused request needs no statement


async def test_a_limit_of_zero_is_no_limit(settings, as_root, cast):
    async with instance(settings, rate_limit_user=0, rate_limit_address=0) as client:
        answers = await ask(client, bearer(cast, "alma"), 20)
        assert passed(answers) == 20
        assert not any(name.startswith("ratelimit") for answer in answers for name in answer.headers)
        assert as_root.execute("select count(*) from auth.rate_limits").fetchone() == (0,)
