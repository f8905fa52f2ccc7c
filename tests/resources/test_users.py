"""Users: their roles, their activation, and the reassignment of their claims."""

import asyncio
from uuid import uuid4

import msgspec

from app.http.envelope import Envelope
from app.resources.users import User
from tests.support.cast import PASSWORD
from tests.support.databases import until_two_wait_for_a_lock
from tests.support.responses import problem


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
