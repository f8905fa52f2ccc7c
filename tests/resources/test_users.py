"""Users and invitations: their roles, their activation, and their accounts."""

import asyncio
import time
from uuid import uuid4

import msgspec
import pytest

from app.http.envelope import Envelope
from app.resources.users import User
from tests.resources.test_patients import problem
from tests.support.cast import PASSWORD


async def change(user, who, **body):
    return await user.patch(f"/api/users/{who}", body)


async def test_an_admin_sees_every_user_of_the_organization_once(as_user, cast):
    alma = as_user("alma")
    whole = await alma.get("/api/users")
    users = msgspec.json.decode(whole.content, type=Envelope[list[User]], strict=True).data
    assert {user.id for user in users} == set(cast.emails)
    assert {user.email for user in users} == set(cast.emails.values())
    ana = next(user for user in users if user.id == cast.ana)
    assert (ana.role, ana.active, ana.provider_id, ana.patient_id) == ("provider", True, cast.ana_provider, None)
    paged, cursor = [], ""
    while cursor is not None:
        page = (await alma.get(f"/api/users?limit=3{cursor and '&cursor=' + cursor}")).json()
        paged, cursor = paged + page["data"], page["meta"]["pagination"]["nextCursor"]
    assert paged == whole.json()["data"]
    second = (await alma.get("/api/users?limit=3&offset=3")).json()
    assert (second["data"], second["meta"]["pagination"]["total"]) == (paged[3:6], 7)


async def test_a_role_is_set_with_its_provider_or_patient(as_user, cast):
    alma = as_user("alma")
    ana, ben, tom = str(cast.ana_provider), str(cast.ben_provider), str(cast.tom_patient)
    for body, provider, patient in [
        ({"role": "provider", "providerId": ana}, ana, None), ({"providerId": ben}, ben, None), ({"active": True}, ben, None),
        ({"role": "provider"}, ben, None), ({"role": "patient", "patientId": tom}, None, tom),
        ({"role": "patient", "patientId": tom, "providerId": None}, None, tom), ({"role": "claims_processor"}, None, None),
        ({"providerId": None, "patientId": None}, None, None), ({"role": "admin", "active": False}, None, None), ({}, None, None),
    ]:  # fmt: skip
        data = (await change(alma, cast.paul, **body)).json()["data"]
        assert (data["providerId"], data["patientId"]) == (provider, patient), body
    assert (data["role"], data["active"], data["email"]) == ("admin", False, "paul@north.test")


async def test_a_role_without_its_provider_or_patient_is_refused(as_user, cast, other):
    alma = as_user("alma")
    provider, patient = {"providerId": str(cast.ana_provider)}, {"patientId": str(cast.tom_patient)}
    before = (await alma.get("/api/users")).json()["data"]
    for who, body, field in [
        ("paul", {"role": "provider"}, "providerId"), ("paul", {"role": "patient"}, "patientId"), ("paul", provider, "providerId"),
        ("paul", patient, "patientId"), ("paul", {"role": "provider"} | provider | patient, "patientId"),
        ("paul", {"role": "patient"} | provider | patient, "providerId"), ("paul", {"role": "admin"} | provider, "providerId"),
        ("ana", {"role": "patient"}, "patientId"), ("ana", {"providerId": None}, "providerId"), ("tom", {"patientId": None}, "patientId"),
        ("ana", patient, "patientId"), ("ana", {"providerId": str(other.ana_provider)}, "providerId"),
        ("ana", {"providerId": str(uuid4())}, "providerId"), ("ana", {"providerId": str(cast.tom_patient)}, "providerId"),
        ("tom", {"patientId": str(other.tom_patient)}, "patientId"), ("tom", {"patientId": "x"}, "patientId"),
        ("paul", {"role": "owner"}, "role"), ("paul", {"role": None}, "role"), ("paul", {"active": "no"}, "active"),
        ("paul", {"active": None}, "active"), ("paul", {"email": "p@north.test"}, "email"), ("paul", {"name": "P"}, "name"),
    ]:  # fmt: skip
        answer = await change(alma, cast.ids[who], **body)
        assert problem(answer) == (400, [field]), (who, body, answer.text)
    assert (await alma.get("/api/users")).json()["data"] == before
    for theirs in (other.paul, uuid4()):
        assert (await change(alma, theirs, active=False)).status_code == 404
    assert (await as_user("paul", "south").get("/api/auth/me")).status_code == 200


async def test_the_last_active_admin_cannot_be_removed(as_user, cast):
    alma = as_user("alma")
    for body, field in (({"role": "claims_processor"}, "role"), ({"active": False}, "active")):
        assert problem(await change(alma, cast.alma, **body)) == (409, [field])
    assert (await change(alma, cast.paul, role="admin", active=False)).status_code == 200
    assert problem(await change(alma, cast.alma, active=False)) == (409, ["active"])  # an inactive one does not count
    assert (await change(alma, cast.paul, active=True)).status_code == 200
    assert (await change(alma, cast.alma, role="claims_processor")).status_code == 200  # control
    assert (await alma.get("/api/users")).status_code == 403  # from the next request on


async def until_two_wait_for_a_lock(as_root):
    """Waits until both requests wait for the lock, so that they run at the same moment."""
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    deadline = time.monotonic() + 5
    while as_root.execute(waiting).fetchone() != (2,):
        assert time.monotonic() < deadline, "they never met"
        await asyncio.sleep(0.01)
        as_root.execute("select pg_stat_clear_snapshot()")  # a transaction sees no backend that started later


async def test_of_two_admins_who_demote_each_other_one_remains(as_user, as_root, cast):
    alma, pia = as_user("alma"), as_user("pia")
    assert (await change(alma, cast.pia, role="admin")).status_code == 200
    last = f"hashtextextended('last admin of {cast.organization}', 0)"
    as_root.execute(f"select pg_advisory_lock({last})")
    both = asyncio.gather(change(alma, cast.pia, role="claims_processor"), change(pia, cast.alma, active=False))
    await until_two_wait_for_a_lock(as_root)
    as_root.execute(f"select pg_advisory_unlock({last})")
    answers = await both
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    left = as_root.execute(
        "select count(*) from users where organization_id = %s and role = 'admin' and active", [cast.organization]
    )
    assert left.fetchone() == (1,)


async def test_a_deactivated_user_has_to_log_in_again(client, as_user, cast):
    alma, paul = as_user("alma"), as_user("paul")
    login = {"email": "paul@north.test", "password": PASSWORD}
    tokens = (await client.post("/api/auth/login", json=login)).json()["data"]
    header = {"Authorization": f"Bearer {tokens['accessToken']}"}

    async def has_access():
        asked = [await paul.get("/api/auth/me"), await client.get("/api/auth/me", headers=header)]
        asked.append(await client.post("/api/auth/refresh", json={"refreshToken": tokens["refreshToken"]}))
        tokens.update(asked[2].json().get("data") or {})
        return [answer.status_code for answer in asked]

    assert await has_access() == [200, 200, 200]  # control
    assert (await change(alma, cast.paul, active=False)).json()["data"]["active"] is False
    assert await has_access() == [401, 401, 401]
    assert (await client.post("/api/auth/login", json=login)).status_code == 401
    assert (await change(alma, cast.paul, active=True)).status_code == 200
    assert await has_access() == [401, 401, 401]
    assert (await client.post("/api/auth/login", json=login)).status_code == 200


async def test_a_users_claims_are_reassigned_to_another_processor(as_user, cast, other):
    alma, claims = as_user("alma"), f"/api/users/{cast.pia}/reassign-claims"
    for claim, status in ((cast.bens_claim, "voided"), (cast.anas_claim, None)):
        assert (await alma("PUT", f"/api/claims/{claim}/assignment", json={"userId": str(cast.pia)})).status_code == 200
        if status:
            await alma.patch(f"/api/claims/{claim}", {"status": status, "reason": "entered twice"})
    for to, status in ((cast.ana, 409), (cast.alma, 409), (other.paul, 400), (uuid4(), 400), ("x", 400)):
        assert problem(await alma.post(claims, {"toUserId": str(to)})) == (status, ["toUserId"]), to
    assert problem(await alma.post(claims, {})) == (400, ["toUserId"])
    assert len((await as_user("pia").get("/api/claims")).json()["data"]) == 2
    assert (await alma.post(claims, {"toUserId": str(cast.paul)})).json()["data"] == {"reassigned": 1}
    whose = {"pia": [str(cast.bens_claim)], "paul": [str(cast.anas_claim)]}  # a voided claim stays assigned
    for who, ids in whose.items():
        assert [claim["id"] for claim in (await as_user(who).get("/api/claims")).json()["data"]] == ids
    assert (await alma.post(claims, {"toUserId": None})).json()["data"] == {"reassigned": 0}
    back = await alma.post(f"/api/users/{cast.paul}/reassign-claims", {"toUserId": None})
    assert (back.json()["data"], (await as_user("paul").get("/api/claims")).json()["data"]) == ({"reassigned": 1}, [])
    await change(alma, cast.paul, active=False)
    assert problem(await alma.post(claims, {"toUserId": str(cast.paul)})) == (409, ["toUserId"])
    for theirs in (other.pia, uuid4()):
        assert (await alma.post(f"/api/users/{theirs}/reassign-claims", {"toUserId": None})).status_code == 404


async def invite(user, **body):
    return await user.post("/api/invitations", {"email": "neu@north.test", "role": "claims_processor"} | body)


async def join(client, token, **more):
    body = {"invitationToken": token, "password": PASSWORD, "name": "Nina New"} | more
    return await client.post("/api/auth/register", json=body)


async def test_an_invitation_is_accepted_once(client, as_user, as_root, cast):
    alma = as_user("alma")
    made = await invite(alma, email="Neu@North.test", role="provider", providerId=str(cast.ana_provider))
    data = made.json()["data"]
    token = data.pop("invitationToken")
    assert (made.status_code, data["email"], data["acceptedAt"]) == (201, "neu@north.test", None)
    assert token not in (await alma.get("/api/invitations")).text
    listed = (await alma.get("/api/invitations")).json()["data"]
    assert (listed[0], len(listed)) == (data, 2)
    days = "select expires_at - created_at = interval '7 days' from invitations where invitation_id = %s"
    assert as_root.execute(days, [data["id"]]).fetchone() == (True,)
    joined = await join(client, token)
    user = joined.json()["data"]["user"]
    assert (joined.status_code, user["email"], user["role"]) == (201, "neu@north.test", "provider")
    assert (user["providerId"], user["organization"]["slug"]) == (str(cast.ana_provider), "north")
    header = {"Authorization": f"Bearer {joined.json()['data']['accessToken']}"}
    seen = (await client.get("/api/claims", headers=header)).json()["data"]
    assert [claim["id"] for claim in seen] == [str(cast.anas_claim)]
    assert problem(await join(client, token)) == (400, ["invitationToken"])
    assert (await alma.get("/api/invitations")).json()["data"][0]["acceptedAt"] is not None
    assert (await alma("DELETE", made.headers["Location"])).status_code == 404  # it is used


async def test_an_invitation_that_is_not_open_is_refused(client, as_user, as_root, cast, other):
    alma = as_user("alma")
    tokens = [(await invite(alma, email=f"n{n}@north.test")).json()["data"] for n in range(4)]
    withdrawn, expired, elsewhere, good = (one["invitationToken"] for one in tokens)
    assert (await alma("DELETE", f"/api/invitations/{tokens[0]['id']}")).status_code == 204
    assert (await alma("DELETE", f"/api/invitations/{tokens[0]['id']}")).status_code == 404
    as_root.execute("update invitations set expires_at = now() where invitation_id = %s", [tokens[1]["id"]])
    secret = elsewhere.partition(".")[2]
    errors = []
    for bad in (withdrawn, expired, f"{other.organization}.{secret}", secret, f"{cast.organization}.", "x", good[:-1]):
        answer = await join(client, bad)
        assert problem(answer) == (400, ["invitationToken"]), bad
        errors.append(answer.json()["error"])
    assert all(error == errors[0] for error in errors)  # all of them get the same response
    for more in ({"role": "admin"}, {"email": "n3@north.test"}, {"organizationName": "Mine"}):
        assert (await join(client, good, **more)).status_code == 400, more
    assert (await join(client, good)).status_code == 201  # control
    as_root.execute("update organizations set suspended_at = now() where slug = 'north'")
    assert problem(await join(client, elsewhere)) == (400, ["invitationToken"])


async def test_two_uses_of_an_invitation_at_once_create_one_user(client, as_user):
    token = (await invite(as_user("alma"))).json()["data"]["invitationToken"]
    answers = await asyncio.gather(*(join(client, token, name=f"Nina {number}") for number in range(3)))
    assert sorted(answer.status_code for answer in answers) == [201, 400, 400]


async def test_an_active_user_of_the_organization_cannot_be_invited(client, as_user, cast):
    alma = as_user("alma")
    assert problem(await invite(alma, email="Ana@North.test")) == (409, ["email"])
    assert (await invite(alma, email="ana@south.test")).status_code == 201  # a member of another organization can
    first, second = [(await invite(alma)).json()["data"]["invitationToken"] for _ in range(2)]
    assert (await join(client, first)).status_code == 201
    assert problem(await join(client, second)) == (409, ["email"])


@pytest.mark.parametrize("who", ["north", "south"])
async def test_an_invitation_is_visible_in_its_own_tenant_alone(as_user, casts, who):
    theirs = casts["south" if who == "north" else "north"].invitation
    alma = as_user("alma", who)
    for id_ in (theirs, uuid4()):
        assert (await alma("DELETE", f"/api/invitations/{id_}")).status_code == 404
    assert problem(await alma("DELETE", "/api/invitations/7")) == (400, ["id"])
    assert (await alma("DELETE", f"/api/invitations/{casts[who].invitation}")).status_code == 204  # control


async def test_an_invitations_bad_field_is_named(as_user, cast, other):
    alma = as_user("alma")
    provider, patient = {"providerId": str(cast.ana_provider)}, {"patientId": str(cast.tom_patient)}
    for body, field in [
        ({"role": "provider"}, "providerId"), ({"role": "patient"}, "patientId"), (provider, "providerId"), (patient, "patientId"),
        ({"role": "provider"} | provider | patient, "patientId"), ({"role": "admin"} | patient, "patientId"),
        ({"role": "provider", "providerId": str(other.ana_provider)}, "providerId"), ({"role": "owner"}, "role"),
        ({"role": "patient", "patientId": str(uuid4())}, "patientId"), ({"email": "noaddress"}, "email"), ({"email": None}, "email"),
        ({"email": "x" * 250 + "@y.de"}, "email"), ({"expiresAt": "2030-01-01T00:00:00Z"}, "expiresAt"),
    ]:  # fmt: skip
        answer = await invite(alma, **body)
        assert problem(answer) == (400, [field]), (body, answer.text)
    assert len((await alma.get("/api/invitations")).json()["data"]) == 1
    key = {"Idempotency-Key": "k"}
    answer = await alma("POST", "/api/invitations", json={"email": "neu@north.test", "role": "admin"}, headers=key)
    assert problem(answer) == (400, ["Idempotency-Key"])
    assert (await invite(alma, role="patient", **patient)).status_code == 201  # control
