"""Logins and sessions: refresh tokens, roles, logouts, and the ends of a session."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from app.main import create_app
from app.operations import migrate
from app.security import passwords
from app.security.tokens import Caller, make_token, new_secret, secret_hash
from tests.support.cast import KEYS, PASSWORD, PASSWORD_HASH, ROLE
from tests.support.clients import until

NEW = "another correct horse battery"
SET_HASH = "update auth.credentials set password_hash = %s where email = %s"
BACK = "update auth.refresh_tokens set {} = {} - %s::interval where token_hash = %s"


@asynccontextmanager
async def instance(settings, address: str = "127.0.0.1", **changed: Any) -> AsyncIterator[httpx.AsyncClient]:
    """An application of its own over the test's database, like another process; its caller's address."""
    app = create_app(msgspec.structs.replace(settings, **changed))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, client=(address, 1))
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def call(client, what: str, access: str | None = None, **body: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {access}"} if access else {}
    return await client.post(f"/api/auth/{what}", json=body, headers=headers)


async def log_in(client, who: str, password: str = PASSWORD) -> dict[str, Any]:
    answer = await call(client, "login", email=f"{who}@north.test", password=password)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def seed_login(as_root, cast, who: str) -> dict[str, str]:
    """The tokens of a login without the hash of its password: for tests that need many."""
    session, secret = uuid4(), new_secret()
    as_root.execute("insert into auth.sessions values (%s, %s, %s)", [cast.organization, session, cast.ids[who]])
    as_root.execute(
        "insert into auth.refresh_tokens (token_hash, organization_id, session_id, expires_at) "
        "values (%s, %s, %s, now() + interval '1 day')",
        [secret_hash(secret), cast.organization, session],
    )
    access = make_token(Caller(cast.organization, cast.ids[who], session, ROLE[who]), KEYS)
    return {"accessToken": access, "refreshToken": secret}


async def is_in(client, tokens: dict[str, Any]) -> bool:
    """Whether the access token is accepted."""
    answer = await client.get("/api/auth/me", headers={"Authorization": f"Bearer {tokens['accessToken']}"})
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


async def refresh(client, tokens: dict[str, Any]) -> httpx.Response:
    return await call(client, "refresh", refreshToken=tokens["refreshToken"])


async def is_dead(client, tokens: dict[str, Any]) -> bool:
    """Whether neither token is accepted."""
    return not await is_in(client, tokens) and (await refresh(client, tokens)).status_code == 401


def fields(answer: httpx.Response) -> list[str]:
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "VALIDATION_ERROR"), answer.text
    return list(answer.json()["error"]["details"]["fields"])


async def test_an_email_is_case_insensitive_and_a_password_is_not(client, as_root):
    odd = " Pa\u00e4ssw\u00f6rd  "
    as_root.execute(SET_HASH, [passwords.hash_password(odd), "ana@north.test"])
    for email in ("ana@north.test", "ANA@NORTH.TEST", "Ana@North.Test"):
        assert (await call(client, "login", email=email, password=odd)).status_code == 200
    for other in (
        odd.strip(),
        odd.upper(),
        odd + " ",
        odd[:-1],
        "Paa\u0308ssw\u00f6rd",
        odd.replace("\u00e4", "a\u0308"),
    ):
        assert (await call(client, "login", email="ana@north.test", password=other)).status_code == 401, other


async def test_a_refresh_token_is_exchanged_for_the_next(client, as_root):
    first = await log_in(client, "ana")
    answer = await refresh(client, first)
    second = answer.json()["data"]
    assert answer.status_code == 200
    assert (second["user"], second["expiresIn"]) == (first["user"], 900)
    assert second["refreshToken"] != first["refreshToken"]
    assert await is_in(client, second)
    for token in ("unknown", new_secret(), second["accessToken"][:200]):
        assert (await refresh(client, {"refreshToken": token})).status_code == 401
    third = (await refresh(client, second)).json()["data"]
    hash_ = secret_hash(third["refreshToken"])
    as_root.execute(BACK.format("expires_at", "expires_at"), ["29 days 23 hours", hash_])
    fourth = (await refresh(client, third)).json()["data"]  # control: not yet
    as_root.execute(BACK.format("expires_at", "expires_at"), ["30 days 1 second", secret_hash(fourth["refreshToken"])])
    assert (await refresh(client, fourth)).status_code == 401


async def test_a_used_refresh_token_ends_its_family_alone(client, as_root):
    first, bystander = await log_in(client, "ana"), await log_in(client, "ana")
    family = [first, (await refresh(client, first)).json()["data"]]
    back = BACK.format("replaced_at", "replaced_at")
    as_root.execute(back, ["9 seconds", secret_hash(first["refreshToken"])])
    again = await refresh(client, first)  # control: a second tab's, or one of a lost response
    assert (again.status_code, again.json()["data"]["refreshToken"]) == (200, family[1]["refreshToken"])
    family.append(again.json()["data"])
    as_root.execute(back, ["1 second", secret_hash(first["refreshToken"])])  # its use did not restart the ten seconds
    assert [await is_in(client, one) for one in family] == [True, True, True]
    assert (await refresh(client, first)).status_code == 401
    assert [await is_dead(client, one) for one in family] == [True, True, True]
    assert await is_in(client, bystander)
    assert (await refresh(client, bystander)).status_code == 200


async def test_a_refresh_token_has_one_successor(settings, as_root, cast):
    """Requests at once to several processes get the same successor, and the token of a lost response gets it again."""
    async with instance(settings) as one, instance(settings) as two:
        tokens = seed_login(as_root, cast, "ana")
        for _ in range(3):
            answers = await asyncio.gather(*(refresh((one, two)[n % 2], tokens) for n in range(30)))
            assert [answer.status_code for answer in answers] == [200] * 30
            made = [answer.json()["data"] for answer in answers]
            assert len({answer["refreshToken"] for answer in made}) == 1
            assert made[0]["refreshToken"] != tokens["refreshToken"]
            assert await is_in(two, made[-1])
            tokens = made[0]
        alive = (
            "select count(*) from auth.refresh_tokens where session_id = (select session_id from auth.refresh_tokens "
        )
        alive += "where token_hash = %s) and replaced_at is null"
        assert as_root.execute(alive, [secret_hash(tokens["refreshToken"])]).fetchone() == (1,)


async def test_two_users_of_one_refresh_token_cannot_both_continue(client, as_root, cast):
    """If a thief has the same token, the second use after the grace period ends the family."""
    tokens = seed_login(as_root, cast, "ana")
    victim, thief = [(await refresh(client, tokens)).json()["data"] for _ in range(2)]
    assert victim["refreshToken"] == thief["refreshToken"]
    thief = (await refresh(client, thief)).json()["data"]
    back = BACK.format("replaced_at", "replaced_at")
    as_root.execute(back, ["11 seconds", secret_hash(victim["refreshToken"])])
    assert (await refresh(client, victim)).status_code == 401
    assert await is_dead(client, thief)


async def test_a_successor_is_the_same_while_keys_rotate(settings, as_root, cast):
    """It is derived from the old token with a key that may be the second one now."""
    rotated = {"new": b"another secret of the tests; 32 bytes and more"} | KEYS
    async with instance(settings) as before:
        tokens = seed_login(as_root, cast, "ana")
        first = (await refresh(before, tokens)).json()["data"]
        migrate.apply(msgspec.structs.replace(settings, token_keys=rotated))
        async with instance(settings, token_keys=rotated) as after:
            assert (await refresh(after, tokens)).json()["data"]["refreshToken"] == first["refreshToken"]
            second = (await refresh(after, first)).json()["data"]
            assert (await refresh(after, second)).status_code == 200


@pytest.mark.parametrize("end", ["reuse", "logout", "password", "deactivation"])
async def test_no_token_of_a_family_is_valid_after_its_end(client, as_user, as_root, cast, end):
    for _ in range(6):
        as_root.execute("update users set active = true where user_id = %s", [cast.ana])
        as_root.execute(SET_HASH, [PASSWORD_HASH, "ana@north.test"])
        first, own = seed_login(as_root, cast, "ana"), seed_login(as_root, cast, "ana")
        child = (await refresh(client, first)).json()["data"]
        as_root.execute(BACK.format("replaced_at", "replaced_at"), ["11 seconds", secret_hash(first["refreshToken"])])
        ending = {
            "reuse": lambda: refresh(client, first),  # noqa: B023
            "logout": lambda: call(client, "logout", first["accessToken"]),  # noqa: B023
            "password": lambda: call(client, "password", own["accessToken"], currentPassword=PASSWORD, newPassword=NEW),  # noqa: B023
            "deactivation": lambda: as_user("alma").patch(f"/api/users/{cast.ana}", {"active": False}),
        }[end]
        *race, ended = await asyncio.gather(*(refresh(client, child) for _ in range(3)), ending())
        assert ended.status_code == {"reuse": 401, "deactivation": 200}.get(end, 204)
        as_root.execute("update users set active = true where user_id = %s", [cast.ana])
        got_in = [answer.json()["data"] for answer in race if answer.status_code == 200]
        for tokens in [first, child, *got_in]:
            assert await is_dead(client, tokens), end
        assert await is_in(client, own) == (end != "deactivation")  # control: other families are valid
        assert (await refresh(client, own)).status_code == (200 if end in ("reuse", "logout") else 401)


async def test_an_inactive_user_cannot_refresh(client, as_root, cast):
    switches = {
        "update users set active = %s where user_id = %s": ((False, True), cast.ana),
        "update organizations set suspended_at = %s where organization_id = %s": (("now", None), cast.organization),
    }
    for switch, ((off, on), whom) in switches.items():
        tokens = seed_login(as_root, cast, "ana")
        tokens |= (await refresh(client, tokens)).json()["data"]
        assert await is_in(client, tokens)  # control
        as_root.execute(switch, [off, whom])
        assert await is_dead(client, tokens)
        assert (await call(client, "login", email="ana@north.test", password=PASSWORD)).status_code == 401
        as_root.execute(switch, [on, whom])
        assert await is_in(client, await log_in(client, "ana"))
        if "users" in switch:  # a user who is activated again has to log in
            assert await is_dead(client, tokens)


async def test_a_new_role_applies_from_the_next_request(client, as_user, cast):
    paul = await log_in(client, "paul")
    headers = {"Authorization": f"Bearer {paul['accessToken']}"}
    assert (await client.get("/api/users", headers=headers)).status_code == 403  # control
    assert (await as_user("alma").patch(f"/api/users/{cast.paul}", {"role": "admin"})).status_code == 200
    assert (await client.get("/api/users", headers=headers)).status_code == 200
    assert (await refresh(client, paul)).json()["data"]["user"]["role"] == "admin"


async def test_a_logout_ends_the_own_session_or_the_named_one(client, as_root, cast):
    for body in ({}, {"refreshToken": None}):
        own, other = seed_login(as_root, cast, "ana"), seed_login(as_root, cast, "ana")
        assert await is_in(client, own)  # control
        assert (await call(client, "logout", own["accessToken"], **body)).status_code == 204
        assert await is_dead(client, own)
        assert await is_in(client, other)
        assert (await call(client, "logout", own["accessToken"])).status_code == 401
    third = seed_login(as_root, cast, "ana")
    spent = dict(third)
    third |= (await refresh(client, third)).json()["data"]
    assert (await call(client, "logout", other["accessToken"], refreshToken=spent["refreshToken"])).status_code == 204
    assert await is_dead(client, third)  # an expired token still names its session
    assert await is_in(client, other)


async def test_no_user_logs_another_out(client, as_root, casts):
    ana, ben = seed_login(as_root, casts["north"], "ana"), seed_login(as_root, casts["north"], "ben")
    theirs = seed_login(as_root, casts["south"], "ana")
    answers = [
        await call(client, "logout", ana["accessToken"], refreshToken=token)
        for token in (ben["refreshToken"], theirs["refreshToken"], new_secret())
    ]
    assert [fields(answer) for answer in answers] == [["refreshToken"]] * 3
    assert answers[0].json()["error"] == answers[1].json()["error"] == answers[2].json()["error"]
    for tokens in (ana, ben, theirs):
        assert await is_in(client, tokens)
        assert (await refresh(client, tokens)).status_code == 200


async def test_logins_are_in_the_audit_log_failed_ones_included(client, as_root, casts):
    recorded_logins = (
        "select action, organization_id, actor_user_id, actor_role, entity_id, outcome, address, request_id from audit_logs "
        "where request_id = any (array['right', 'wrong', 'unknown'])"
    )
    for name, email, password in [
        ("right", "ana@north.test", PASSWORD),
        ("wrong", "ANA@north.test", "wrong"),
        ("unknown", "x@x.test", "wrong"),
    ]:
        await client.post(
            "/api/auth/login", json={"email": email, "password": password}, headers={"X-Request-Id": name}
        )
    north, ana = casts["north"].organization, casts["north"].ana

    async def recorded():  # after the response
        return as_root.execute(f"select count(*) from ({recorded_logins}) as t").fetchone() == (2,)

    await until(recorded)
    assert set(as_root.execute(recorded_logins).fetchall()) == {
        ("login", north, ana, "provider", ana, "success", "127.0.0.1", "right"),
        ("login_failed", north, None, "anonymous", ana, "failure", "127.0.0.1", "wrong"),
    }
