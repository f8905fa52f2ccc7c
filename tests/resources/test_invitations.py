"""Invitations: created, accepted once, withdrawn, and visible in their own tenant alone."""

import asyncio
from uuid import uuid4

import pytest

from tests.support.cast import PASSWORD
from tests.support.responses import problem


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
