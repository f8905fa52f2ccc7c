"""Ids of another tenant in every position of an id: they behave like unknown ids, and values used there are free here."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import httpx

from tests.security.attacks.cases import (
    IDS,
    Operation,
    claim,
    described,
    event,
    failed_fields,
    good_bodies,
    is_id,
    npi,
    patient,
    send,
    with_field,
)

ROLES = ("alma", "pia", "ana", "tom")


def aimed(operation: Operation, who: Any, target: Callable[[str], UUID]) -> Iterator[tuple[str, UUID, str, Any]]:
    """(position, id, path, body) for every position of an id: the target's in that position, the caller's in all others."""
    for name in operation.ids_in_path:
        id_ = target(operation.whose(name))
        yield f"path {name}", id_, operation.filled(who, **{name: id_}), operation.bodies(who)[0]
    for name in filter(lambda name: is_id(operation.query[name]), operation.query):
        id_ = target(IDS[name])
        yield f"query {name}", id_, f"{operation.filled(who)}?{name}={id_}", None
    for nth, shape in enumerate(operation.bodies(who)):
        for name in filter(lambda name: is_id(operation.fields[name]) and name in (shape or {}), operation.fields):
            id_ = target(IDS[name])
            value = [str(id_)] if operation.fields[name].get("type") == "array" else str(id_)
            yield f"body {name}", id_, operation.filled(who), with_field(operation.bodies(who)[nth], name, value)


def outcome(answer: httpx.Response, id_: UUID) -> tuple[Any, ...]:
    """The facts about an id in a response."""
    text = answer.text.replace(str(id_), "it")
    told = json.loads(text) if answer.headers.get("Content-Type") == "application/json" else text
    if isinstance(told, dict):
        told.pop("meta")
    headers = {name: value for name, value in answer.headers.items() if not name.startswith(("ratelimit", "x-request"))}
    return answer.status_code, told, headers


def shows_nothing(answer: httpx.Response) -> bool:
    """Whether a list, or a stream, is empty."""
    return not answer.content or answer.content.startswith(b'{"success":true,"data":[],')


def is_refused(answer: httpx.Response, position: str, operation: Operation) -> bool:
    """Whether the response to an admin is the documented one for an unknown id."""
    kind, name = position.split()
    if kind == "query":
        return answer.status_code == 200 and shows_nothing(answer)
    if kind == "path":
        return answer.status_code == 404
    if name == "claimIds":
        told = answer.json()["data"]
        return told["updated"] == [] and [one["code"] for one in told["failed"]] == ["NOT_FOUND"]
    wanted = 200 if operation.lines else 400
    return (answer.status_code, failed_fields(answer)) == (wanted, [name])


async def test_every_position_of_an_id_is_attacked(client, cast):
    """A new route, parameter or field with an id fails here until tests/security/attacks/cases.py has an id for it."""
    positions = 0
    for operation in await described(client):
        attacked = {position.split()[1] for position, *_ in aimed(operation, cast, lambda name: cast.ids[name])}
        fields = {name for name, schema in operation.fields.items() if is_id(schema)}
        assert attacked >= fields | set(operation.ids_in_path), operation.name
        positions += len(attacked)
    assert positions > 35
    assert good_bodies(cast).keys() == {one.name for one in await described(client) if one.fields}


async def test_an_id_of_another_tenant_is_an_unknown_id(client, as_user, as_root, cast, other):
    as_root.execute("update job_processing_logs set status = 'failed'")
    unknown, all_operations = uuid4(), await described(client)
    for operation in all_operations:
        theirs = aimed(operation, cast, lambda name: other.ids[name])
        unknown_ids = aimed(operation, cast, lambda name: unknown)
        for (position, id_, path, body), (_, _, unknown_path, unknown_body) in zip(theirs, unknown_ids, strict=True):
            for role in ROLES:
                answer = await send(as_user(role), operation, path, body)
                told = outcome(answer, id_)
                same = outcome(await send(as_user(role), operation, unknown_path, unknown_body), unknown)
                assert told == same, (operation.name, position, role)
                assert answer.status_code < 500, (operation.name, position, role)
                leaks = [one for one in other.ids.values() if one != id_ and str(one) in answer.text]
                assert not leaks, (operation.name, position, role)
                assert role != "alma" or is_refused(answer, position, operation), (operation.name, position, told)
    for operation in all_operations:  # control: the same ids exist for their owner
        real = {(path, position.split()[0] == "path" or position): (position, body)
                for position, _, path, body in aimed(operation, other, lambda name: other.ids[name])}  # fmt: skip
        for (path, _), (position, body) in real.items():  # once where a path has two ids
            answer = await send(as_user("alma", "south"), operation, path, body)
            assert answer.is_success, (operation.name, position, answer.text)
            assert not (position.startswith("query") and shows_nothing(answer)), (operation.name, position)
            assert failed_fields(answer) == [], (operation.name, position)


async def test_a_version_of_another_tenants_claim_is_no_version(as_user, other):
    for role in ROLES:
        for tag in ('"1"', '"2"', "*"):
            path, options = f"/api/claims/{other.anas_claim}", {"json": {"notes": "n"}, "headers": {"If-Match": tag}}
            answer = await as_user(role)("PATCH", path, **options)
            unknown_ids = await as_user(role)("PATCH", f"/api/claims/{uuid4()}", **options)
            assert (answer.status_code, answer.json()["error"]) == (
                unknown_ids.status_code,
                unknown_ids.json()["error"],
            )
            assert answer.status_code == (403 if role == "tom" else 404)
    assert (await as_user("alma", "south")("PATCH", path, **options)).status_code == 200  # control


async def test_secrets_of_another_tenant_are_not_accepted(client, as_user, as_root, cast, other):
    """A tenant is named without a session by a slug, an invitation, or a refresh token."""
    sent = [("login", {"email": "ana@north.test", "password": "wrong horse battery staple", "organizationSlug": slug})
            for slug in ("south", "nowhere")]  # fmt: skip
    sent += [("register", {"invitationToken": f"{tenant}.invitation to north", "password": "a long password", "name": "N"})
             for tenant in (other.organization, uuid4())]  # fmt: skip
    answers = [await client.post(f"/api/auth/{path}", json=body) for path, body in sent]
    assert [one.status_code for one in answers] == [401, 401, 400, 400]
    assert answers[0].json()["error"] == answers[1].json()["error"]
    assert answers[2].json()["error"] == answers[3].json()["error"]
    good = sent[2][1] | {"invitationToken": f"{cast.organization}.invitation to north"}
    assert (await client.post("/api/auth/register", json=good)).status_code == 201  # control

    login = {"email": "ana@south.test", "password": sent[0][1]["password"].replace("wrong", "correct")}
    token = (await client.post("/api/auth/login", json=login)).json()["data"]["refreshToken"]
    for who, tenant, expected in [("ana", "north", 400), ("ben", "south", 400), ("ana", "south", 204)]:
        answer = await as_user(who, tenant).post("/api/auth/logout", {"refreshToken": token})
        unknown_ids = await as_user(who, tenant).post("/api/auth/logout", {"refreshToken": "x" * len(token)})
        assert (answer.status_code, unknown_ids.status_code) == (expected, 400)
        assert expected == 204 or answer.json()["error"] == unknown_ids.json()["error"]


async def test_rows_of_another_tenant_change_no_count(client, as_user, cast, other):
    async def counts() -> list[Any]:
        found = []
        for operation in await described(client):
            if operation.method == "GET" and operation.name != "GET /api/auth/me":
                query = {"offset": 0, "limit": 100} if "offset" in operation.query else {}
                query |= {"action": "create"} if operation.path == "/api/audit-logs" else {}
                for role in ROLES:
                    answer = await as_user(role).get(operation.filled(cast), params=query)
                    told = answer.json() if answer.headers["Content-Type"] == "application/json" else answer.text
                    found.append((operation.name, role, told.get("data"), told.get("meta", {}).get("pagination"))
                                 if isinstance(told, dict) else told)  # fmt: skip
        return found

    before = await counts()
    south = as_user("alma", "south")
    for _ in range(3):
        for operation in await described(client):
            if operation.method == "POST" and operation.path.count("/") == 2 and not operation.public:
                for body in operation.bodies(other):
                    assert (await send(south, operation, operation.path, body)).is_success, operation.name
    assert (await south.get("/api/claims?offset=0")).json()["meta"]["pagination"]["total"] == 5  # control
    assert await counts() == before


async def test_a_value_used_in_one_tenant_is_free_in_another(as_user, casts):
    number, email = npi(), {"email": "same@same.test", "role": "admin"}
    for tenant in ("south", "north"):
        alma, who = as_user("alma", tenant), casts[tenant]
        taken = [
            ("/api/claims", claim(who) | {"claimNumber": "SAME"}),
            ("/api/patients", patient() | {"memberNumber": "SAME"}),
            ("/api/providers", {"npi": number, "name": "Same"}),
            ("/api/patient-status", event(who) | {"idempotencyKey": "SAME"}),
            ("/api/invitations", email),
        ]
        first = [(await alma.post(path, body)).status_code for path, body in taken]
        assert first == [201, 201, 201, 202, 201], tenant
        again = [(await alma.post(path, body)).status_code for path, body in taken[:4]]
        assert again == [409, 409, 409, 200], tenant  # control: in its own tenant it is not free


async def test_an_email_used_in_another_tenant_is_free(client, as_user):
    """Neither an invitation nor a registration reveals that the email is used elsewhere."""
    for email in ("ana@south.test", "unknown@nowhere.test"):
        invited = await as_user("alma").post("/api/invitations", {"email": email, "role": "claims_processor"})
        token = invited.json()["data"]["invitationToken"]
        joined = await client.post(
            "/api/auth/register", json={"invitationToken": token, "password": "a long password", "name": "N"}
        )
        assert (invited.status_code, joined.status_code) == (201, 201), email
        founded = {"organizationName": "New", "email": email, "password": "a long password", "name": "N"}
        assert (await client.post("/api/auth/register", json=founded)).status_code == 201, email
    taken = await as_user("alma").post("/api/invitations", {"email": "ana@north.test", "role": "claims_processor"})
    assert taken.status_code == 409  # control


async def test_an_idempotency_key_belongs_to_its_user(client, as_user, as_root, casts):
    """Another tenant or a colleague with the same key on the same path does not get the first response."""
    as_root.execute("update job_processing_logs set status = 'failed'")
    as_root.execute("update claims set assigned_to = null where claim_number = 'C-ANA'")
    operations = [one for one in await described(client) if one.keyed]
    assert len(operations) > 7
    for operation in operations:
        who = "pia" if operation.path == "/api/claims/next" else "alma"
        replayed = []
        for tenant in ("south", "north"):
            path, body = operation.filled(casts[tenant]), operation.bodies(casts[tenant])[0]
            for _ in range(2):
                answer = await send(as_user(who, tenant), operation, path, body, headers={"Idempotency-Key": "same"})
                assert answer.is_success, (operation.name, tenant, answer.text)
                replayed.append(answer.headers.get("Idempotent-Replayed") or '"duplicate"' in answer.text)
        assert [bool(one) for one in replayed] == [False, True, False, True], operation.name
    mine = claim(casts["north"])
    answers = [await as_user(who)("POST", "/api/claims", json=mine, headers={"Idempotency-Key": "k"}) for who in ROLES]
    # Ana: the number is used already, so it is no replay.
    assert [one.status_code for one in answers] == [
        201,
        403,
        409,
        403,
    ]


async def test_a_tenant_in_a_query_is_refused(as_user, other):
    plain = await as_user("alma").get("/api/claims")
    answer = await as_user("alma").get(f"/api/claims?organizationId={other.organization}")
    assert plain.json()["data"]  # control
    assert answer.json()["data"] == plain.json()["data"]
    answer = await as_user("alma").get(f"/api/claims?organization_id={other.organization}")
    assert (answer.status_code, failed_fields(answer)) == (400, ["organization_id"])
