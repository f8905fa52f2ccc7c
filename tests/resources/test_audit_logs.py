"""The audit log: changes with their actor, its readers, and no secret in any entry."""

import json

import msgspec

from app.resources.audit_logs import AuditEntry
from tests.support.cast import PASSWORD, PASSWORD_HASH
from tests.support.responses import problem, walk


async def audit_log(user, **filters):
    answer = await user.get("/api/audit-logs", params={"limit": 100, **filters})
    assert answer.status_code == 200, (filters, answer.text)
    return [
        msgspec.json.decode(msgspec.json.encode(one), type=AuditEntry, strict=True) for one in answer.json()["data"]
    ]


async def test_a_change_is_in_the_audit_log_with_its_actor_and_address(as_user, cast):
    path = f"/api/patients/{cast.tom_patient}"
    headers = {"X-Request-Id": "change-of-name"}
    assert (await as_user("alma")("PATCH", path, json={"firstName": "Thomas"}, headers=headers)).status_code == 200
    entry = (await audit_log(as_user("alma"), entityId=str(cast.tom_patient)))[0]
    assert (entry.actor_user_id, entry.actor_role, entry.action, entry.entity) == (
        cast.alma,
        "admin",
        "update",
        "patients",
    )
    assert (entry.entity_id, entry.patient_id, entry.outcome) == (cast.tom_patient, cast.tom_patient, "success")
    assert (entry.before, entry.after) == ({"first_name": "Tom"}, {"first_name": "Thomas"})
    assert (entry.request_id, entry.address) == ("change-of-name", "127.0.0.1")


async def test_the_audit_log_is_filtered_by_actor_row_and_time(as_user, cast):
    alma, ana = as_user("alma"), as_user("ana")
    await alma.patch(f"/api/users/{cast.paul}", {"active": False})
    await ana.patch(f"/api/providers/{cast.ana_provider}", {"specialty": "Cardiology"})
    await alma("DELETE", f"/api/patients/{cast.tom_patient}/providers/{cast.ana_provider}")
    await alma("GET", "/api/claims/export")
    whole = await audit_log(alma)
    for name, value in {
        "actorUserId": cast.ana, "action": "delete", "entity": "users", "entityId": cast.paul,
    }.items():  # fmt: skip
        field = {"actorUserId": "actor_user_id", "entityId": "entity_id"}.get(name, name)
        found = await audit_log(alma, **{name: str(value)})
        assert {getattr(one, field) for one in found} == {value}, name
        assert [one for one in whole if getattr(one, field) == value] == found, name
    both = await audit_log(alma, actorUserId=str(cast.alma), action="update", entity="users")
    assert [(one.entity_id, one.after) for one in both] == [(cast.paul, {"active": False})]
    assert [one.entity for one in await audit_log(alma, action="export")] == ["claims"]
    about_tom = [str(one.id) for one in await audit_log(alma, entityId=str(cast.tom_patient))]
    paged = await walk(alma, f"/api/audit-logs?limit=1&entityId={cast.tom_patient}")
    assert [one["id"] for one in paged] == about_tom
    changed = both[0].at
    later = await audit_log(alma, atFrom=changed.isoformat())
    earlier = await audit_log(alma, atTo=changed.isoformat())
    assert (later[-1].id, earlier[0].id) == (both[0].id, both[0].id)  # both ends are included
    assert {one.id for one in later} | {one.id for one in earlier} >= {one.id for one in whole}
    assert len(await audit_log(alma, atFrom=changed.isoformat(), atTo=changed.isoformat())) == 1
    for name, value in {
        "action": "steal",
        "actorUserId": "x",
        "atFrom": "yesterday",
        "atTo": "2026-01-01",
        "who": "x",
    }.items():
        assert problem(await alma.get("/api/audit-logs", params={name: value})) == (400, [name])


async def test_reading_the_audit_log_is_in_the_audit_log(as_user, cast):
    for who in ("alma", "tom"):
        assert await audit_log(as_user(who))
    readings = await audit_log(as_user("alma"), action="read", entity="audit_logs")
    assert [(one.actor_user_id, one.actor_role) for one in readings] == [
        (cast.alma, "admin"), (cast.tom, "patient"), (cast.alma, "admin"),
    ]  # fmt: skip
    assert len({one.request_id for one in readings}) == 3


async def test_a_patient_reads_entries_about_itself_and_others_none(as_user, cast):
    tinas = await audit_log(as_user("alma"), entityId=str(cast.tina_patient))
    assert tinas  # control: other entries exist
    own = await audit_log(as_user("tom"))
    assert {one.patient_id for one in own} == {cast.tom_patient}
    assert {"patients", "claims", "care_relationships", "patient_status_events"} <= {one.entity for one in own}
    assert await audit_log(as_user("tom"), entityId=str(cast.tina_patient)) == []
    assert await audit_log(as_user("tom"), actorUserId=str(cast.ana)) == []
    for who in ("pia", "ana"):
        assert (await as_user(who).get("/api/audit-logs")).status_code == 403
    assert {
        one["entityId"] for one in await walk(as_user("alma"), f"/api/audit-logs?limit=2&entityId={cast.tom_patient}")
    } == {str(cast.tom_patient)}


async def test_no_secret_is_in_the_audit_log(client, as_user, as_root, cast):
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
    # Control.
    assert {("invitations", "create"), ("invitations", "update"), ("users", "create"), ("users", "login")} <= {
        (entity, action) for entity, action, _ in entries
    }
    text = json.dumps([held for _, _, held in entries])
    assert "neu@north.test" in text  # control: values are recorded
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
