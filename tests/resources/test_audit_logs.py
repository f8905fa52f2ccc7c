"""The trail: who did what to which row, who may read it, and what never stands in it."""

import json

import msgspec

from app.resources.audit_logs import AuditEntry
from tests.conftest import PASSWORD, PASSWORD_HASH
from tests.resources.test_diagnosis_codes import walk
from tests.resources.test_patients import problem


async def trail(user, **filters):
    answer = await user.get("/api/audit-logs", params={"limit": 100, **filters})
    assert answer.status_code == 200, (filters, answer.text)
    return [
        msgspec.json.decode(msgspec.json.encode(one), type=AuditEntry, strict=True) for one in answer.json()["data"]
    ]


async def test_a_change_is_in_the_trail_with_who_and_where_from(as_user, cast):
    path = f"/api/patients/{cast.tom_patient}"
    headers = {"X-Request-Id": "change-of-name"}
    assert (await as_user("alma")("PATCH", path, json={"firstName": "Thomas"}, headers=headers)).status_code == 200
    entry = (await trail(as_user("alma"), entityId=str(cast.tom_patient)))[0]
    assert (entry.actor_user_id, entry.actor_role, entry.action, entry.entity) == (
        cast.alma,
        "admin",
        "update",
        "patients",
    )
    assert (entry.entity_id, entry.patient_id, entry.outcome) == (cast.tom_patient, cast.tom_patient, "success")
    assert (entry.before, entry.after) == ({"first_name": "Tom"}, {"first_name": "Thomas"})
    assert (entry.request_id, entry.address) == ("change-of-name", "127.0.0.1")


async def test_the_trail_is_filtered_by_who_what_and_when(as_user, cast):
    alma, ana = as_user("alma"), as_user("ana")
    await alma.patch(f"/api/users/{cast.paul}", {"active": False})
    await ana.patch(f"/api/providers/{cast.ana_provider}", {"specialty": "Cardiology"})
    await alma("DELETE", f"/api/patients/{cast.tom_patient}/providers/{cast.ana_provider}")
    await alma("GET", "/api/claims/export")
    whole = await trail(alma)
    for name, value in {
        "actorUserId": cast.ana, "action": "delete", "entity": "users", "entityId": cast.paul,
    }.items():  # fmt: skip
        field = {"actorUserId": "actor_user_id", "entityId": "entity_id"}.get(name, name)
        found = await trail(alma, **{name: str(value)})
        assert {getattr(one, field) for one in found} == {value}, name
        assert [one for one in whole if getattr(one, field) == value] == found, name
    both = await trail(alma, actorUserId=str(cast.alma), action="update", entity="users")
    assert [(one.entity_id, one.after) for one in both] == [(cast.paul, {"active": False})]
    assert [one.entity for one in await trail(alma, action="export")] == ["claims"]
    about_tom = [str(one.id) for one in await trail(alma, entityId=str(cast.tom_patient))]
    paged = await walk(alma, f"/api/audit-logs?limit=1&entityId={cast.tom_patient}")
    assert [one["id"] for one in paged] == about_tom
    changed = both[0].at
    later = await trail(alma, atFrom=changed.isoformat())
    earlier = await trail(alma, atTo=changed.isoformat())
    assert (later[-1].id, earlier[0].id) == (both[0].id, both[0].id)  # both ends count
    assert {one.id for one in later} | {one.id for one in earlier} >= {one.id for one in whole}
    assert len(await trail(alma, atFrom=changed.isoformat(), atTo=changed.isoformat())) == 1
    for name, value in {
        "action": "steal",
        "actorUserId": "x",
        "atFrom": "yesterday",
        "atTo": "2026-01-01",
        "who": "x",
    }.items():
        assert problem(await alma.get("/api/audit-logs", params={name: value})) == (400, [name])


async def test_reading_the_trail_is_in_the_trail(as_user, cast):
    for who in ("alma", "tom"):
        assert await trail(as_user(who))
    readings = await trail(as_user("alma"), action="read", entity="audit_logs")
    assert [(one.actor_user_id, one.actor_role) for one in readings] == [
        (cast.alma, "admin"), (cast.tom, "patient"), (cast.alma, "admin"),
    ]  # fmt: skip
    assert len({one.request_id for one in readings}) == 3


async def test_a_patient_reads_what_concerns_it_and_others_nothing(as_user, cast):
    tinas = await trail(as_user("alma"), entityId=str(cast.tina_patient))
    assert tinas  # control: there is more to be seen
    own = await trail(as_user("tom"))
    assert {one.patient_id for one in own} == {cast.tom_patient}
    assert {"patients", "claims", "care_relationships", "patient_status_events"} <= {one.entity for one in own}
    assert await trail(as_user("tom"), entityId=str(cast.tina_patient)) == []
    assert await trail(as_user("tom"), actorUserId=str(cast.ana)) == []
    for who in ("pia", "ana"):
        assert (await as_user(who).get("/api/audit-logs")).status_code == 403
    assert {
        one["entityId"] for one in await walk(as_user("alma"), f"/api/audit-logs?limit=2&entityId={cast.tom_patient}")
    } == {str(cast.tom_patient)}


async def test_no_secret_is_in_the_trail(client, as_user, as_root, cast):
    alma = as_user("alma")
    token = (await alma.post("/api/invitations", {"email": "neu@north.test", "role": "admin"})).json()["data"][
        "invitationToken"
    ]
    joined = {"invitationToken": token, "password": PASSWORD, "name": "Nina"}
    tokens = [(await client.post("/api/auth/register", json=joined)).json()["data"]]
    tokens.append(
        (await client.post("/api/auth/login", json={"email": "neu@north.test", "password": PASSWORD})).json()["data"]
    )
    assert (
        await client.post("/api/auth/login", json={"email": "neu@north.test", "password": "wrong one"})
    ).status_code == 401
    header = {"Authorization": f"Bearer {tokens[1]['accessToken']}"}
    changed = {"currentPassword": PASSWORD, "newPassword": "another long password"}
    assert (await client.post("/api/auth/password", json=changed, headers=header)).status_code == 204
    entries = as_root.execute(
        "select entity, action, coalesce(before, '{}') || coalesce(after, '{}') from audit_logs"
    ).fetchall()
    assert {("invitations", "create"), ("invitations", "update"), ("users", "create"), ("users", "login")} <= {
        (entity, action) for entity, action, _ in entries
    }  # control
    text = json.dumps([held for _, _, held in entries])
    assert "neu@north.test" in text  # control: values are there
    for (hash_,) in as_root.execute(
        "select token_hash from invitations union all select token_hash from auth.refresh_tokens"
    ):
        assert hash_.hex() not in text
    secrets = [
        PASSWORD,
        PASSWORD_HASH,
        "another long",
        "wrong one",
        token.partition(".")[2],
        "argon2",
        "token_hash",
        "password",
    ]
    for secret in secrets + [one[name] for one in tokens for name in ("accessToken", "refreshToken")]:
        assert secret not in text
