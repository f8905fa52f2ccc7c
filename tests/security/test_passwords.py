"""Passwords: changes, cost, limits of attempts, and no secret stored in the clear."""

import asyncio
import time
import zlib
from statistics import median
from threading import Event, Lock

import httpx
import pytest
from argon2 import PasswordHasher, extract_parameters

from app.http import concurrency
from app.http.login_throttle import ATTEMPT_WINDOW_S, MAX_ATTEMPTS_PER_ACCOUNT, MAX_ATTEMPTS_PER_ADDRESS
from app.security import passwords
from app.security.tokens import secret_hash
from tests.resources.test_auth import (
    NEW,
    SET_HASH,
    call,
    fields,
    instance,
    is_dead,
    is_in,
    log_in,
    refresh,
    seed_login,
)
from tests.support.cast import PASSWORD

CHEAP = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1)
REMEMBERED_COST_S = PasswordHasher(time_cost=3, memory_cost=19 * 1024, parallelism=1)
ADDRESS = b"login from:127.0.0.1"


async def try_login(client, email: str = "ana@north.test", password: str = "wrong") -> int:
    return (await call(client, "login", email=email, password=password)).status_code


def kept_hash(as_root, who: str = "ana") -> str:
    query = "select password_hash from auth.credentials where email = %s"
    return as_root.execute(query, [f"{who}@north.test"]).fetchone()[0]


async def test_a_new_password_ends_every_sessions_refresh_tokens(client, as_root, cast):
    """The caller's own included. Its access token is valid until it expires."""
    own, other, bens = await log_in(client, "ana"), await log_in(client, "ana"), seed_login(as_root, cast, "ben")
    for current, new, named in [
        ("wrong", NEW, "currentPassword"), (PASSWORD.upper(), NEW, "currentPassword"), ("", NEW, "currentPassword"),
        (PASSWORD, "x" * 11, "newPassword"), (PASSWORD, "x" * 129, "newPassword"), (PASSWORD, None, "newPassword"),
    ]:  # fmt: skip
        answer = await call(client, "password", own["accessToken"], currentPassword=current, newPassword=new)
        assert fields(answer) == [named]
    assert await is_in(client, other)
    for current, new in [(PASSWORD, "x" * 12), ("x" * 12, "y" * 128), ("y" * 128, NEW)]:
        answer = await call(client, "password", own["accessToken"], currentPassword=current, newPassword=new)
        assert (answer.status_code, answer.content) == (204, b"")
    assert await is_dead(client, other)
    assert await is_in(client, own)
    assert (await refresh(client, own)).status_code == 401
    assert await is_in(client, bens)
    assert (await refresh(client, bens)).status_code == 200
    assert await try_login(client, password=PASSWORD) == 401
    assert await try_login(client, password=NEW) == 200
    assert await try_login(client, "ana@south.test", PASSWORD) == 200  # another tenant's ana has another password


async def test_a_new_password_may_return_new_tokens(client, as_root, cast):
    """A thief of the caller's refresh token is logged out, and the caller continues in the same session."""
    own, other = await log_in(client, "ana"), seed_login(as_root, cast, "ana")
    stolen = [own, (await refresh(client, own)).json()["data"]]
    path, headers = "/api/auth/password?tokens=true", {"Authorization": f"Bearer {own['accessToken']}"}
    body = {"currentPassword": PASSWORD, "newPassword": NEW}
    wrong = await client.post(path, json=body | {"currentPassword": "wrong"}, headers=headers)
    assert fields(wrong) == ["currentPassword"]
    answer = await client.post(path, json=body, headers=headers)
    new = answer.json()["data"]
    assert (answer.status_code, new["user"]) == (200, own["user"])
    assert await is_in(client, new)
    assert [(await refresh(client, one)).status_code for one in stolen] == [401, 401]
    assert await is_dead(client, other)
    assert (await refresh(client, new)).status_code == 200
    for odd in ("tokens=maybe", "token=true", "tokens=true&tokens=true"):
        answer = await client.post(f"/api/auth/password?{odd}", json=body, headers=headers)
        assert answer.status_code == 400, odd


async def test_a_running_refresh_does_not_survive_a_new_password(client, as_root, cast):
    for _ in range(4):
        as_root.execute(SET_HASH, [passwords.hash_password(PASSWORD), "ana@north.test"])
        own = seed_login(as_root, cast, "ana")
        change = call(client, "password", own["accessToken"], currentPassword=PASSWORD, newPassword=NEW)
        *raced, changed = await asyncio.gather(*(refresh(client, own) for _ in range(4)), change)
        assert changed.status_code == 204
        family = [own, *(one.json()["data"] for one in raced if one.status_code == 200)]
        assert [(await refresh(client, one)).status_code for one in family] == [401] * len(family)


@pytest.mark.parametrize("hasher", [None, CHEAP])
async def test_a_login_overtaken_by_a_password_change_fails(client, as_root, cast, monkeypatch, hasher):
    if hasher:  # the login then makes a new hash of the old password
        as_root.execute(SET_HASH, [hasher.hash(PASSWORD), "ana@north.test"])
    own, verify = seed_login(as_root, cast, "ana"), passwords.verify

    async def overtaken(hashes, password):
        fits = await verify(hashes, password)
        monkeypatch.undo()
        change = await call(client, "password", own["accessToken"], currentPassword=PASSWORD, newPassword=NEW)
        assert change.status_code == 204
        return fits

    monkeypatch.setattr(passwords, "verify", overtaken)
    assert await try_login(client, password=PASSWORD) == 401
    assert await try_login(client, password=PASSWORD) == 401
    assert await try_login(client, password=NEW) == 200  # control: the change is stored


async def test_a_login_renews_a_cheaper_hash_and_no_more_expensive_one(client, as_root):
    for hasher, renewed in [(CHEAP, True), (REMEMBERED_COST_S, False)]:
        as_root.execute(SET_HASH, [hasher.hash(PASSWORD), "ana@north.test"])
        before = kept_hash(as_root)
        assert await try_login(client) == 401
        assert kept_hash(as_root) == before  # a wrong password renews nothing
        assert await asyncio.gather(*(try_login(client, password=PASSWORD) for _ in range(3))) == [200] * 3
        assert (kept_hash(as_root) != before) == renewed
        assert await try_login(client, password=PASSWORD) == 200
    as_root.execute(SET_HASH, [CHEAP.hash(PASSWORD), "ana@north.test"])
    await log_in(client, "ana")
    today = extract_parameters(passwords.hash_password(PASSWORD))
    assert extract_parameters(kept_hash(as_root)) == today
    assert (today.type.name, today.memory_cost >= 19 * 1024, today.time_cost >= 2) == ("ID", True, True)


class Stopwatch:
    """An ASGI application that records when the last byte of a response is sent. A client sees nothing that runs later."""

    def __init__(self, app) -> None:
        self._app = app
        self.ended = 0.0

    async def __call__(self, scope, receive, send) -> None:
        async def noted(message):
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self.ended = time.perf_counter()

        await self._app(scope, receive, noted)


@pytest.mark.parametrize("hasher", [None, CHEAP])
async def test_an_unknown_email_looks_like_a_wrong_password(client, as_root, casts, hasher):
    """Also if the hash was made with parameters of lower cost."""
    if hasher:
        as_root.execute("update auth.credentials set password_hash = %s", [hasher.hash(PASSWORD)])
    known = [email for who in casts.values() for email in who.emails.values()]
    took, seen = {True: [], False: []}, set()
    watch = Stopwatch(client._transport.app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=watch), base_url="http://test") as timed:
        for number, email in enumerate([*known, *known]):
            for exists, name in [(True, email), (False, f"unknown{number}@north.test")]:
                started = time.perf_counter()
                answer = await call(timed, "login", email=name, password="a wrong password")
                took[exists].append(watch.ended - started)
                seen.add(
                    (
                        answer.status_code,
                        str(answer.json()["error"]),
                        tuple(sorted(answer.headers)),
                        len(answer.content),
                    )
                )
    assert len(seen) == 1
    assert seen.pop()[:2] == (
        401,
        "{'code': 'UNAUTHORIZED', 'message': 'The credentials are missing, wrong or expired. Log in, and send the access token.'}",
    )
    # Of the quicker half, because other load of the machine slows some. One hash more or less would slow all of them.
    quicker = {exists: median(sorted(times)[: len(times) // 2]) for exists, times in took.items()}
    ratio = quicker[True] / quicker[False]
    assert 1 / 1.35 < ratio < 1.35, ratio


async def test_hashing_blocks_no_other_request_and_has_few_threads(client, casts, monkeypatch):
    known = [email for who in casts.values() for email in who.emails.values()][:10]
    compared, released, lock, running = passwords._matches, Event(), Lock(), []
    most = 0

    def blocked(hashes, password):
        nonlocal most
        with lock:
            running.append(1)
            most = max(most, len(running))
        assert released.wait(20)
        try:
            return compared(hashes, password)
        finally:
            with lock:
                running.pop()

    monkeypatch.setattr(passwords, "_matches", blocked)
    logins = [asyncio.create_task(try_login(client, email, PASSWORD)) for email in known]
    try:
        answered = 0
        while len(running) < passwords.MAX_THREADS or answered < 50:
            assert (await client.get("/health")).status_code == 200
            answered += 1
            await asyncio.sleep(0)  # /health never waits, so without this nothing else would run
        assert not any(login.done() for login in logins)  # control: all of that happened while they were hashing
    finally:
        released.set()
    assert await asyncio.gather(*logins) == [200] * 10
    assert most == passwords.MAX_THREADS


async def test_logins_beyond_the_queue_of_the_hashing_limit_are_refused(settings, monkeypatch):
    monkeypatch.setattr(concurrency, "MAX_WAITING", 3)
    async with instance(settings) as client:
        login = {"email": "ana@north.test", "password": PASSWORD}
        answers = await asyncio.gather(*(call(client, "login", **login) for _ in range(8)))
        counts = [sum(answer.status_code == status for answer in answers) for status in (200, 429)]
        assert (counts[0] >= 3, counts[1] >= 1, sum(counts)) == (True, True, 8), counts
        assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 429)
        assert await try_login(client, password=PASSWORD) == 200  # and accepted once there is room


async def test_no_secret_is_stored_in_the_clear(client, as_user, as_root, cast):
    alma = as_user("alma")
    first = await log_in(client, "ana")
    second = (await refresh(client, first)).json()["data"]
    invited = (await alma.post("/api/invitations", {"email": "i@north.test", "role": "admin"})).json()["data"][
        "invitationToken"
    ]
    joined = (await call(client, "register", invitationToken=invited, name="I", password=NEW)).json()["data"]
    await try_login(client, password="a secret typed by mistake")
    await call(client, "password", second["accessToken"], currentPassword=PASSWORD, newPassword=NEW + " 2")
    await alma("POST", "/api/providers", json={"npi": "1679576722", "name": "C"}, headers={"Idempotency-Key": "k"})
    secrets = [PASSWORD, NEW, "a secret typed by mistake", invited, invited.partition(".")[2]]
    secrets += [one[name] for one in (first, second, joined) for name in ("accessToken", "refreshToken")]
    tables = as_root.execute(
        "select oid::regclass::text from pg_class where relkind in ('r', 'p', 'm') and relpersistence <> 't' "
        "and relnamespace::regnamespace::text !~ '^(pg_|information_schema)'"
    ).fetchall()
    assert {("auth.sessions",), ("auth.credentials",), ("idempotency_keys",), ("audit_logs",)} <= set(tables)

    def holding(*texts: str) -> set[str]:
        """Tables with one of the texts in any column, as text, in JSON, or as bytes."""
        looked_for = [f"%{one}%" for text in texts for one in (text, text.encode().hex())]
        found = "select exists (select from {} t where t::text like any (%s))"
        return {table for (table,) in tables if as_root.execute(found.format(table), [looked_for]).fetchone()[0]}

    assert holding(*secrets) == set()
    # Controls: stored values are found, in every kind of column.
    assert holding(secret_hash(joined["refreshToken"]).hex()) == {"auth.refresh_tokens"}
    assert holding(secret_hash(invited.partition(".")[2]).hex()) == {"invitations"}
    assert {"users", "auth.credentials", "audit_logs"} <= holding("i@north.test")
    assert holding("Location") == {"idempotency_keys"}
    kept = [
        zlib.decompress(body).decode()
        for (body,) in as_root.execute("select body from idempotency_keys where body is not null")
    ]
    assert [one for one in kept if '"npi" : "1679576722"' in one]
    assert not [one for one in kept if any(secret in one for secret in secrets)]


async def test_attempts_on_an_account_are_limited_whether_it_exists_or_not(settings, as_root):
    async with instance(settings) as one, instance(settings, "192.0.2.1") as two:
        for email in ("ana@north.test", "unknown@north.test"):
            tried = [
                try_login(client, spelt) for client in (one, two) for spelt in (email, email.upper()) for _ in range(5)
            ]
            # All at once, from two addresses, in two processes: not one more is accepted.
            assert sorted(await asyncio.gather(*tried)) == [401] * MAX_ATTEMPTS_PER_ACCOUNT + [429] * 10
            refused = await call(two, "login", email=email, password=PASSWORD)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "RATE_LIMITED")
            assert 0 < int(refused.headers["Retry-After"]) <= ATTEMPT_WINDOW_S
            limits = [refused.headers[f"RateLimit-{name}"] for name in ("Limit", "Remaining", "Reset")]
            assert limits == [str(MAX_ATTEMPTS_PER_ACCOUNT), "0", refused.headers["Retry-After"]]
        assert await try_login(one, "ben@north.test", PASSWORD) == 200  # control: another user
        as_root.execute(
            "update auth.rate_limits set started_at = started_at - make_interval(secs => %s)", [ATTEMPT_WINDOW_S]
        )
        assert await try_login(two, "ana@north.test", PASSWORD) == 200


async def test_a_right_password_uses_no_attempt_and_resets_no_failed_one(client, as_root, cast):
    for _ in range(MAX_ATTEMPTS_PER_ACCOUNT - 1):
        assert await try_login(client) == 401
    for _ in range(3):
        assert await try_login(client, password=PASSWORD) == 200
    own = seed_login(as_root, cast, "ana")
    wrong = await call(client, "password", own["accessToken"], currentPassword="wrong", newPassword=NEW)
    assert wrong.status_code == 400  # the tenth: a stolen access token allows no more attempts
    right = await call(client, "password", own["accessToken"], currentPassword=PASSWORD, newPassword=NEW)
    assert (right.status_code, await try_login(client, password=PASSWORD)) == (429, 429)


async def test_attempts_from_an_address_are_limited(settings, as_root):
    spend = "update auth.rate_limits set used = %s where subject = sha256(%s)"
    founds = {"organizationName": "Org", "email": "o@o.test", "name": "O", "password": NEW}
    async with instance(settings) as one, instance(settings, "192.0.2.1") as two:
        assert await try_login(one) == 401
        assert as_root.execute(spend, [MAX_ATTEMPTS_PER_ADDRESS - 1, ADDRESS]).rowcount == 1
        assert [await try_login(one, "ben@north.test", word) for word in (PASSWORD, PASSWORD, "wrong")] == [
            200,
            200,
            401,
        ]
        assert [await try_login(one, f"{who}@north.test", PASSWORD) for who in ("ben", "tom", "unknown")] == [429] * 3
        assert (await call(one, "register", **founds)).status_code == 429
        assert await try_login(two, "ben@north.test", PASSWORD) == 200  # control: another address
        assert as_root.execute(spend, [0, ADDRESS]).rowcount == 1
        assert (await call(one, "register", **founds)).status_code == 201


async def test_a_login_makes_one_hash_for_any_number_of_organizations(client, as_root, monkeypatch):
    for n in range(4):
        body = {
            "organizationName": f"Many {n}",
            "email": "many@many.test",
            "name": "Many",
            "password": f"{PASSWORD} {n}",
        }
        assert (await client.post("/api/auth/register", json=body)).status_code == 201
    stems = as_root.execute(
        "select distinct split_part(password_hash, '$', 5) from auth.credentials where email = 'many@many.test'"
    )
    assert len(stems.fetchall()) == 1
    assert (
        len(as_root.execute("select distinct password_hash from auth.credentials where email like 'many@%'").fetchall())
        == 4
    )
    made = []
    real = passwords.PasswordHasher.hash
    monkeypatch.setattr(
        passwords.PasswordHasher, "hash", lambda self, *given, **more: made.append(1) or real(self, *given, **more)
    )
    for n in range(4):
        body = {"email": "many@many.test", "password": f"{PASSWORD} {n}", "organizationSlug": f"many-{n}"}
        answer = await client.post("/api/auth/login", json=body)
        assert answer.json()["data"]["user"]["organization"]["name"] == f"Many {n}"
    assert len(made) == 4
