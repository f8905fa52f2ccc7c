"""Attacks on logins: guessing, flooding, probing, joining twice, and races with a deactivation."""

import asyncio
import contextlib

import httpx
import msgspec
import psycopg
import pytest

from app.database.anonymous import AnonymousSession
from app.http import concurrency
from app.main import create_app
from app.resources import auth
from app.security import passwords
from app.security.tokens import make_token
from tests.security.attacks.cases import patient
from tests.support.cast import KEYS, PASSWORD, PASSWORD_HASH, caller

GUESS = "a wrong horse battery staple"
EVIL = {
    "organizationName": "Evil",
    "email": "ana@north.test",
    "password": "an evil horse battery staple",
    "name": "Eve",
}


async def login(client, **given):
    return await client.post("/api/auth/login", json={"email": "ana@north.test", "password": PASSWORD} | given)


async def renewed(client, token):
    return await client.post("/api/auth/refresh", json={"refreshToken": token})


async def until(condition, seconds=5):
    """Waits for an effect after a response."""
    for _ in range(seconds * 50):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never happened")


async def test_an_own_organization_allows_no_more_guesses(client):
    """The founder of one under a victim's email has a right password for that email. It must not reset the failed attempts."""
    assert (await client.post("/api/auth/register", json=EVIL)).status_code == 201
    answers = []
    for _ in range(12):
        answers.append((await login(client, password=GUESS, organizationSlug="north")).status_code)
        await login(client, password=EVIL["password"], organizationSlug="evil")
    assert answers.index(429) <= 10
    assert answers[:3] == [401] * 3  # control


async def test_a_right_password_uses_no_attempt(client):
    assert [(await login(client)).status_code for _ in range(15)] == [200] * 15


async def test_concurrent_attempts_are_counted_one_by_one(client):
    """A flood does not pass before it is counted, and two counters do not deadlock."""
    answers = await asyncio.gather(*(login(client, password=GUESS if n % 2 else PASSWORD) for n in range(40)))
    statuses = [one.status_code for one in answers]
    assert set(statuses) <= {200, 401, 429}
    assert statuses.count(401) <= 10
    assert statuses.count(429) > 0


async def test_another_spelling_of_an_account_allows_no_more_guesses(client):
    regex_string = ["ana@north.test", "ANA@north.test", "Ana@North.Test", "aNa@NORTH.TEST"]
    answers = [await login(client, email=regex_string[n % 4], password=GUESS) for n in range(11)]
    assert [one.status_code for one in answers] == [401] * 10 + [429]
    assert int(answers[-1].headers["Retry-After"]) > 0


@pytest.mark.parametrize("slug", ["evil", "south"])
async def test_an_own_membership_reveals_nothing_about_anothers_password(client, as_user, as_root, cast, slug):
    """An organization registered, or an invitation accepted, under a victim's email with the guess as its password.

    The login without a slug returned 401 where the guess was the victim's password as well, else 200, and the attempt was
    refunded.
    """
    if slug == "evil":
        joined = EVIL
    else:
        given = {"email": "ana@north.test", "role": "claims_processor"}
        token = (await as_user("alma", "south").post("/api/invitations", given)).json()["data"]["invitationToken"]
        joined = {"invitationToken": token, "password": GUESS, "name": "Eve"}
    assert (await client.post("/api/auth/register", json=joined)).status_code == 201
    set_own = "update auth.credentials set password_hash = %s where email = 'ana@north.test' and organization_id <> %s"
    guesses, answers = [f"{GUESS} {n}" for n in range(12)], []
    for guess in guesses:
        as_root.execute(set_own, [passwords.hash_password(guess, PASSWORD_HASH), cast.organization])
        answers.append((await login(client, password=guess)).status_code)
    assert answers == [401] * 10 + [429] * 2
    as_root.execute("delete from auth.rate_limits")
    # Control: the oldest membership counts.
    assert (await login(client)).json()["data"]["user"]["organization"]["slug"] == "north"
    own = await login(client, password=guesses[-1], organizationSlug=slug)
    assert own.json()["data"]["user"]["organization"]["slug"] == slug  # control: the slug selects any


async def test_the_oldest_membership_counts_and_not_the_oldest_organization(client, as_user, as_root):
    """An organization that is older than the victim's gains nothing from a younger membership."""
    email = "late@new.test"
    for tenant, password in (("south", PASSWORD), ("north", GUESS)):  # north was created first
        given = {"email": email, "role": "admin"}
        token = (await as_user("alma", tenant).post("/api/invitations", given)).json()["data"]["invitationToken"]
        await client.post("/api/auth/register", json={"invitationToken": token, "password": password, "name": "L"})
    assert (await login(client, email=email)).json()["data"]["user"]["organization"]["slug"] == "south"
    assert (await login(client, email=email, password=GUESS)).status_code == 401
    assert (await login(client, email=email, password=GUESS, organizationSlug="north")).status_code == 200  # control


async def test_a_proven_membership_needs_no_slug(client, as_root, cast):
    """A mailed link proves an email (auth.credentials.proven_at).

    If several memberships count, a right password for one refunds no attempt, because that would allow guesses at the others.
    """
    assert (await client.post("/api/auth/register", json=EVIL)).status_code == 201
    assert (await login(client, password=EVIL["password"])).status_code == 401  # control: not proven
    prove = "update auth.credentials set proven_at = now() where email = 'ana@north.test' and organization_id <> %s"
    assert as_root.execute(prove, [cast.organization]).rowcount == 1
    as_root.execute("delete from auth.rate_limits")
    answers = [(await login(client, password=EVIL["password"])).status_code for _ in range(11)]
    assert answers == [200] * 10 + [429]
    as_root.execute("delete from auth.rate_limits")
    assert (await login(client)).status_code == 200


async def test_a_user_deactivated_in_the_oldest_organization_needs_no_slug(client, as_root, cast):
    assert (await client.post("/api/auth/register", json=EVIL)).status_code == 201
    as_root.execute("update users set active = false where user_id = %s", [cast.ana])
    own = await login(client, password=EVIL["password"])
    assert own.json()["data"]["user"]["organization"]["slug"] == "evil"
    assert (await login(client)).status_code == 401


async def test_more_organizations_under_an_email_do_not_slow_its_login(client, as_root):
    """A login compares one password, whatever their number: that of the oldest membership, or of the slug."""
    for number in range(25):
        with as_root.transaction():
            as_root.execute("select auth.add_organization(%s, 'Evil')", [f"evil-{number}"])
            call = "select auth.add_user('ana@north.test', 'Eve', 'admin', null, null, %s)"
            as_root.execute(call, [PASSWORD_HASH[:-4] + "AAAA"])  # matches nothing
    assert as_root.execute("select count(*) from auth.credentials where email = 'ana@north.test'").fetchone() == (26,)
    find = "select count(*) from auth.find_logins('ana@north.test', %s, null)"
    for slug in (None, "north", "evil-24"):
        assert as_root.execute(find, [slug]).fetchone() == (1,)
    assert as_root.execute(find, ["nowhere"]).fetchone() == (0,)
    as_root.execute("update auth.credentials set proven_at = now() where email = 'ana@north.test'")
    assert as_root.execute(find, [None]).fetchone() == (20,)  # a bound on the cost of a login
    assert (await login(client)).status_code == 200


async def test_every_refused_login_has_the_same_response(client, as_root, cast):
    """In status, body and headers, whatever the cause."""
    assert (await client.post("/api/auth/register", json=EVIL)).status_code == 201
    as_root.execute("update users set active = false where user_id = %s", [cast.ben])
    as_root.execute("update organizations set suspended_at = now() where slug = 'south'")
    causes = {
        "a wrong password": {"password": GUESS},
        "an unknown email": {"email": "nowhere@north.test"},
        "another organization's slug": {"organizationSlug": "evil"},
        "a slug that is none": {"organizationSlug": "nowhere"},
        "a membership that needs the slug": {"password": EVIL["password"]},
        "a deactivated user": {"email": "ben@north.test"},
        "a suspended organization": {"email": "ana@south.test"},
    }
    seen = set()
    for cause, given in causes.items():
        answer = await login(client, **given)
        assert answer.status_code == 401, cause
        seen.add((str(answer.json()["error"]), tuple(sorted(answer.headers)), len(answer.content)))
    assert len(seen) == 1, seen
    assert (await login(client)).status_code == 200  # control


async def test_a_failed_login_is_recorded_in_its_own_tenant_alone(client, as_root, cast):
    """If a slug selects the tenant, the audit log of another with the same email has no entry with time or address."""
    evil = (await client.post("/api/auth/register", json=EVIL)).json()["data"]
    failed_logins = {
        "headers": {"Authorization": f"Bearer {evil['accessToken']}"},
        "params": {"action": "login_failed"},
    }
    await login(client, password=GUESS, organizationSlug="north")
    mine = "select count(*) from audit_logs where action = 'login_failed' and organization_id = %s"
    await until(lambda: as_root.execute(mine, [cast.organization]).fetchone() == (1,))  # control
    assert (await client.get("/api/audit-logs", **failed_logins)).json()["data"] == []
    await login(client, password=GUESS, organizationSlug="evil")
    await until(lambda: as_root.execute(mine, [evil["user"]["organization"]["id"]]).fetchone() == (1,))
    assert len((await client.get("/api/audit-logs", **failed_logins)).json()["data"]) == 1  # control


@pytest.mark.parametrize("end", ["logout", "password", "deactivate", "reuse"])
async def test_a_refresh_does_not_survive_a_concurrent_logout(client, as_user, as_root, cast, end):
    """After any race between the two nothing of the session is valid, and sessions that were not ended still are."""
    for _ in range(3):
        as_root.execute("update users set active = true where user_id = %s", [cast.ana])
        tokens, others = [(await login(client)).json()["data"] for _ in range(2)]
        stale = tokens["refreshToken"]
        tokens = (await renewed(client, stale)).json()["data"]
        as_root.execute(
            "update auth.refresh_tokens set replaced_at = replaced_at - interval '1 minute' where replaced_at is not null"
        )
        asking = {"headers": {"Authorization": f"Bearer {others['accessToken']}"}}
        ending = {
            "logout": lambda: client.post("/api/auth/logout", json={"refreshToken": tokens["refreshToken"]}, **asking),  # noqa: B023
            "password": lambda: client.post(
                "/api/auth/password", json={"currentPassword": PASSWORD, "newPassword": PASSWORD}, **asking),  # noqa: B023
            "deactivate": lambda: as_user("alma").patch(f"/api/users/{cast.ana}", {"active": False}),
            "reuse": lambda: renewed(client, stale),  # noqa: B023
        }[end]  # fmt: skip
        raced = [renewed(client, tokens["refreshToken"]) for _ in range(4)]
        *new, ended = await asyncio.gather(*raced[:2], ending(), *raced[2:])
        new, ended = [new[0], new[1], *new[3:], ended], new[2]
        assert ended.status_code == {"logout": 204, "password": 204, "deactivate": 200, "reuse": 401}[end]
        family = [tokens, *(one.json()["data"] for one in new if one.status_code == 200)]
        for one in family:
            me = await client.get("/api/auth/me", headers={"Authorization": f"Bearer {one['accessToken']}"})
            assert (me.status_code, (await renewed(client, one["refreshToken"])).status_code) == (401, 401), end
        alive = 401 if end == "deactivate" else 200
        assert (await client.get("/api/auth/me", **asking)).status_code == alive  # control


async def test_an_invitation_is_either_accepted_or_withdrawn(client, as_user, as_root):
    alma = as_user("alma")
    for number in range(4):
        email = f"race-{number}@new.test"
        made = (await alma.post("/api/invitations", {"email": email, "role": "admin"})).json()["data"]
        again = (await alma.post("/api/invitations", {"email": email, "role": "claims_processor"})).json()["data"]
        joins = [
            client.post(
                "/api/auth/register",
                json={"invitationToken": one["invitationToken"], "password": PASSWORD, "name": "N"},
            )
            for one in (made, again, made)
        ]
        *joined, withdrawn = await asyncio.gather(*joins, alma("DELETE", f"/api/invitations/{made['id']}"))
        assert {one.status_code for one in joined} <= {201, 400, 409}
        assert [one.status_code for one in joined].count(201) == 1, [one.text for one in joined]
        role = next(one for one in joined if one.status_code == 201).json()["data"]["user"]["role"]
        found = as_root.execute("select role from users where email = %s", [email]).fetchall()
        assert found == [(role,)]
        assert withdrawn.status_code == (404 if role == "admin" else 204)


async def test_an_invitation_gives_exactly_its_rights(client, as_user, as_root, cast):
    """The request cannot change its email, role, patient or tenant."""
    given = {"email": "p@new.test", "role": "patient", "patientId": str(cast.tom_patient)}
    token = (await as_user("alma").post("/api/invitations", given)).json()["data"]["invitationToken"]
    join = {"invitationToken": token, "password": PASSWORD, "name": "P"}
    for more in ({"role": "admin"}, {"email": "alma@north.test"}, {"organizationName": "Mine"}, {"patientId": str(cast.tina_patient)},
                 {"providerId": str(cast.ana_provider)}, {"organizationSlug": "south"}):  # fmt: skip
        assert (await client.post("/api/auth/register", json=join | more)).status_code == 400, more
    user = (await client.post("/api/auth/register", json=join)).json()["data"]["user"]
    assert (user["email"], user["role"], user["patientId"]) == ("p@new.test", "patient", str(cast.tom_patient))
    assert user["organization"]["slug"] == "north"


async def test_a_refused_request_leaves_its_connection_usable(settings, as_root, cast):
    """A statement that the server never parsed is not taken for prepared: the next caller on the connection is served."""
    app = create_app(msgspec.structs.replace(settings, pool_size=1))
    alma, ended = caller(cast, "alma"), msgspec.structs.replace(caller(cast, "alma"), session_id=cast.organization)
    taken = patient()

    def as_(who):
        return {"headers": {"Authorization": f"Bearer {make_token(who, KEYS)}"}}

    async with app.lifespan():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            for path in ("/api/claims", "/api/users", f"/api/claims/{cast.anas_claim}", "/api/organization"):
                calls = [(alma, 200), (ended, 401), (alma, 200), (ended, 401), (alma, 200)]
                got = [(await client.get(path, **as_(who))).status_code for who, _ in calls]
                assert got == [status for _, status in calls], path
            bodies = [patient(), taken, taken, patient(), taken, patient()]
            got = [(await client.post("/api/patients", json=body, **as_(alma))).status_code for body in bodies]
            assert got == [201, 201, 409, 201, 409, 201]


async def test_a_disconnected_client_leaves_no_partial_state(client, as_user, as_root):
    """A request that is cancelled half way leaves no half claim, and no connection with a result for another caller."""
    alma = as_user("alma")
    for wait in [0.001 * n for n in range(12)] * 2:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(alma.post("/api/patients", patient()) for _ in range(8))), wait)

    async with asyncio.timeout(15):  # connections of cancelled requests are replaced
        while (await alma.get("/api/auth/me")).status_code == 503:
            await asyncio.sleep(0.02)
    for tenant, name in (("north", "ana"), ("south", "ana"), ("north", "tom")) * 8:
        me = await as_user(name, tenant).get("/api/auth/me")
        assert (me.status_code, me.json()["data"]["email"]) == (200, f"{name}@{tenant}.test")
    made = await asyncio.gather(*(alma.post("/api/patients", patient()) for _ in range(24)))
    assert [one.status_code for one in made] == [201] * 24
    audited = "select count(*) from audit_logs where entity = 'patients' and action = 'create' and actor_role = 'admin'"
    assert as_root.execute(audited).fetchone() == as_root.execute("select count(*) from patients").fetchone()


async def test_an_attempt_is_refunded_in_its_own_window_alone(client, as_root, monkeypatch):
    """If the window ended while a right password was hashed, the refund applied to the next window: one guess more."""
    assert (await client.post("/api/auth/register", json=EVIL)).status_code == 201
    as_root.execute("delete from auth.rate_limits")
    verify, statuses = passwords.verify, []

    async def guess():
        statuses.append((await login(client, password=GUESS, organizationSlug="north")).status_code)

    async def slow(hashes, password):
        monkeypatch.undo()
        as_root.execute("update auth.rate_limits set started_at = started_at - interval '301 seconds'")
        for _ in range(10):
            await guess()
        return await verify(hashes, password)

    monkeypatch.setattr(passwords, "verify", slow)
    assert (await login(client, password=EVIL["password"], organizationSlug="evil")).status_code == 200
    assert statuses == [401] * 10  # control
    await guess()
    assert statuses[-1] == 429


async def test_the_record_of_a_failed_login_delays_no_other(client, monkeypatch):
    """The audit entry is written after the response, and outside of the hashing limit.

    Otherwise the next login's time revealed whether the email exists.
    """
    under_way, go, rows = [], asyncio.Event(), AnonymousSession.rows

    async def held(self, query, **given):
        if query is auth.queries.record_failed_login:
            under_way.append(1)
            await go.wait()
        return await rows(self, query, **given)

    monkeypatch.setattr(AnonymousSession, "rows", held)
    tries = [asyncio.create_task(login(client, password=GUESS)) for _ in range(concurrency.MAX_HASHING + 3)]
    await until(lambda: len(under_way) == len(tries))
    go.set()
    assert {answer.status_code for answer in await asyncio.gather(*tries)} == {401}


async def test_of_two_concurrent_password_changes_one_succeeds(client):
    """The other was authenticated by a password that is no longer valid."""
    tokens = (await login(client)).json()["data"]
    headers = {"Authorization": f"Bearer {tokens['accessToken']}"}
    bodies = [{"currentPassword": PASSWORD, "newPassword": f"{PASSWORD} {n}"} for n in range(2)]
    changes = [client.post("/api/auth/password", json=body, headers=headers) for body in bodies]
    answers = await asyncio.gather(*changes)
    assert sorted(one.status_code for one in answers) == [204, 400]
    won = [one.status_code for one in answers].index(204)
    assert (await login(client, password=f"{PASSWORD} {won}")).status_code == 200


async def test_a_session_that_begins_during_a_deactivation_ends_with_it(settings, client, as_root, cast):
    with psycopg.connect(settings.database_url) as admin:
        admin.execute("update app.users set active = false where user_id = %s", [cast.ana])
        tokens = (await login(client)).json()["data"]  # its session did not exist when sessions were ended
        admin.commit()
    assert (await renewed(client, tokens["refreshToken"])).status_code == 401  # control: the user is deactivated
    as_root.execute("update app.users set active = true where user_id = %s", [cast.ana])
    assert (await renewed(client, tokens["refreshToken"])).status_code == 401
    assert (await login(client)).status_code == 200
