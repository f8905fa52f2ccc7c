"""Fields that only the server sets, sent in every body and query: refused by name, and never stored."""

import re
from typing import Any

from tests.security.attacks.cases import claim, described, failed_fields, send, stored, with_field

SERVER_OWNED = {
    "id": "01890000-0000-7000-8000-000000000000", "claimId": "01890000-0000-7000-8000-000000000000", "status": "paid",
    "role": "admin", "actorRole": "admin", "version": 99, "createdAt": "2020-01-01T00:00:00Z", "updatedAt": "2020-01-01T00:00:00Z",
    "submittedAt": "2020-01-01T00:00:00Z", "processedAt": "2020-01-01T00:00:00Z", "firstDecidedAt": "2020-01-01T00:00:00Z",
    "paidAt": "2020-01-01T00:00:00Z", "acceptedAt": "2020-01-01T00:00:00Z", "expiresAt": "2099-01-01T00:00:00Z",
    "suspendedAt": "2020-01-01T00:00:00Z", "assignedTo": "01890000-0000-7000-8000-000000000000", "approvedAmount": 9,
    "approvedCents": 900, "amountCents": 1, "decidedBy": None, "decision": "approved", "statusBy": None, "statusReason": "x",
    "statusEventId": None, "source": "job", "active": True, "tokenHash": "aa", "passwordHash": "x", "invitationToken": "x",
    "userId": None, "jobStatus": "completed", "jobResult": {}, "attempts": 0, "tenantId": "x", "slug": "mine", "isAdmin": True,
    "permissions": ["*"], "requestId": "x", "address": "10.0.0.1", "__proto__": {"role": "admin"}, "constructor": {},
}  # fmt: skip
"""camelCase names; each is also sent in snake_case, as in the tables."""


def spellings(name: str) -> set[str]:
    return {name, re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name)}


async def test_a_field_of_the_server_is_refused_by_name(client, as_user, as_root, cast):
    before, tried = stored(as_root), 0
    for operation in await described(client):
        for body in filter(None, operation.bodies(cast)):
            for name, value in SERVER_OWNED.items():
                for spelling in spellings(name) - operation.fields.keys():
                    answer = await send(as_user("alma"), operation, operation.filled(cast), body | {spelling: value})
                    expected = 200 if operation.lines else 400
                    assert (answer.status_code, failed_fields(answer)) == (expected, [spelling]), operation.name
                    tried += 1
    assert tried > 1000
    assert stored(as_root) == before
    # Control: without it every body is accepted (except that of an unknown token).
    for operation in await described(client):
        if operation.path not in ("/api/auth/refresh", "/api/auth/logout"):
            for body in filter(None, operation.bodies(cast)):
                answer = await send(as_user("alma"), operation, operation.filled(cast), body)
                assert (answer.is_success, failed_fields(answer)) == (True, []), (operation.name, answer.text)
    assert stored(as_root) != before


async def test_a_field_of_the_server_inside_another_is_refused_by_its_path(client, as_user, as_root, cast):
    before = stored(as_root)
    outer = "settings"
    for name in ("suspendedAt", "slug", "claimAmountLimitCents", "organization_id"):
        answer = await as_user("alma").patch("/api/organization", {outer: {"decisionDays": 3, name: 1}})
        assert (answer.status_code, failed_fields(answer)) == (400, [f"{outer}.{name}"])
    assert stored(as_root) == before
    # Control.
    assert (await as_user("alma").patch("/api/organization", {outer: {"decisionDays": 3}})).status_code == 200


async def test_an_organization_in_any_body_is_ignored(client, as_user, as_root, cast, other):
    """The row is the caller's tenant's for every organizationId, and the other tenant's rows do not change."""
    before = stored(as_root, other.organization)
    for operation in await described(client):
        if operation.public or operation.path in ("/api/auth/logout", "/api/auth/password"):
            continue
        for body in filter(None, operation.bodies(cast)):
            for given in (str(other.organization), 7, None, {"id": [str(other.organization)]}):
                new = {name: value for name, value in operation.bodies(cast)[0].items() if name in UNIQUE}
                answer = await send(
                    as_user("alma"), operation, operation.filled(cast), body | new | {"organizationId": given}
                )
                assert (answer.is_success, failed_fields(answer)) == (True, []), (operation.name, given, answer.text)
    settings = {"settings": {"decisionDays": 4, "organizationId": str(other.organization)}}
    assert (await as_user("alma").patch("/api/organization", settings)).status_code == 200
    assert stored(as_root, other.organization) == before
    newest = as_root.execute("select organization_id from claims order by created_at desc limit 1").fetchone()
    assert newest == (cast.organization,)


UNIQUE = ("claimNumber", "memberNumber", "npi", "idempotencyKey")


async def test_a_field_of_the_server_is_no_filter(client, as_user, cast):
    """An unknown parameter is refused: a filter that is ignored would return everything."""
    for operation in await described(client):
        if operation.public or operation.path.startswith("/api/auth/"):
            continue
        for name in ("organization_id", "tenantId", "role", "userId", "active", "__proto__", "select", "version"):
            path, body = operation.filled(cast), operation.bodies(cast)[0]
            answer = await send(as_user("alma"), operation, f"{path}?{name}=1", body)
            assert (answer.status_code, failed_fields(answer)) == (400, [name]), (operation.name, answer.text)


async def test_a_new_claim_is_submitted_or_a_draft(as_user, as_root, cast):
    refused = [{"status": one} for one in ("approved", "paid", "under_review", "rejected", "voided")]
    refused += [{"draft": "approved"}]
    answers = [
        await as_user("alma").post("/api/claims", claim(cast) | more) for more in (*refused, {"draft": True}, {})
    ]
    assert [one.status_code for one in answers] == [400] * len(refused) + [201, 201]
    born = as_root.execute(
        "select status, version, assigned_to, approved_cents, decided_by, paid_at, submitted_at is null from claims "
        "where claim_number like 'N-%%' order by created_at"
    ).fetchall()
    assert born == [("draft", 1, None, None, None, None, True), ("submitted", 1, None, None, None, None, False)]


async def test_a_repeated_field_counts_once_and_a_wrong_type_is_refused(client, as_user, as_root, cast):
    """JSON allows a name twice, and many parsers convert text to numbers. Neither bypasses a check."""
    json_type = {"Content-Type": "application/json"}
    twice = b'{"notes": "first", "notes": "second"}'
    answer = await as_user("alma")("PATCH", f"/api/claims/{cast.anas_claim}", content=twice, headers=json_type)
    assert answer.json()["data"]["notes"] == "second"
    before = stored(as_root)
    wrong: list[tuple[str, str, str, Any]] = [
        ("POST", "/api/claims", "amount", "10"), ("POST", "/api/claims", "amount", [10]), ("POST", "/api/claims", "draft", "true"),
        ("POST", "/api/claims", "draft", 1), ("POST", "/api/claims", "patientId", "null"), ("POST", "/api/claims", "notes", 1),
        ("PUT", "/api/claims/{id}/assignment", "userId", "null"), ("PUT", "/api/claims/{id}/assignment", "userId", ""),
        ("POST", "/api/users/{id}/reassign-claims", "toUserId", "NULL"), ("PATCH", "/api/users/{id}", "active", "false"),
        ("PATCH", "/api/users/{id}", "active", 0), ("PATCH", "/api/users/{id}", "providerId", "null"),
        ("PATCH", "/api/organization", "settings.decisionDays", "3"), ("PATCH", "/api/organization", "settings.decisionDays", 3.5),
        ("POST", "/api/patient-status", "occurredAt", "1767225600"), ("POST", "/api/patient-status", "occurredAt", 1767225600),
        ("POST", "/api/claims/bulk-status-update", "claimIds", "null"), ("POST", "/api/claims/import", "amount", "10"),
    ]  # fmt: skip
    all_operations = {one.name: one for one in await described(client)}
    for method, path, field, value in wrong:
        operation = all_operations[f"{method} {path}"]
        body = with_field(operation.bodies(cast)[-1], field, value)
        answer = await send(as_user("alma"), operation, operation.filled(cast), body)
        expected = 200 if operation.lines else 400
        assert (answer.status_code, failed_fields(answer)) == (expected, [field]), (path, value, answer.text)
    assert stored(as_root) == before
