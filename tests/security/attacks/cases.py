"""Cases of the attacks: every operation of the OpenAPI document, a valid body for each, and the ids that fit each position."""

import json
from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple
from uuid import UUID

import httpx

from tests.support.cast import PASSWORD, Cast
from tests.support.clients import As

Json = dict[str, Any]

NDJSON = {"Content-Type": "application/x-ndjson"}
_numbers = count(1)


def npi() -> str:
    """A new NPI, with its check digit."""
    nine = f"1{next(_numbers):08d}"
    digits = [int(one) * 2 if place % 2 == 0 else int(one) for place, one in enumerate(nine)]
    return nine + str(-(24 + sum(one // 10 + one % 10 for one in digits)) % 10)


def claim(who: Cast) -> Json:
    return {"patientId": str(who.tom_patient), "providerId": str(who.ana_provider), "diagnosisCode": "E11.9",
            "amount": 10, "serviceDate": "2026-01-05", "notes": "n", "claimNumber": f"N-{next(_numbers)}"}  # fmt: skip


def event(who: Cast) -> Json:
    return {"patientId": str(who.tom_patient), "providerId": str(who.ana_provider), "eventType": "admission",
            "occurredAt": "2026-01-05T08:00:00Z", "visitNumber": "V-1", "facility": "f", "notes": "n",
            "idempotencyKey": f"E-{next(_numbers)}"}  # fmt: skip


def patient() -> Json:
    return {"memberNumber": f"P-{next(_numbers)}", "firstName": "Nils", "lastName": "New", "dateOfBirth": "2000-01-01",
            "email": "nils@new.test", "phone": "1"}  # fmt: skip


def invitation() -> Json:
    return {"email": f"i{next(_numbers)}@new.test"}


PENDING = {"status": "pending_info", "reason": "because"}
SETTINGS = {
    "claimAmountLimit": 1000,
    "autoApproveLimit": 1,
    "timezone": "UTC",
    "decisionDays": 3,
    "appealWindowDays": 9,
}


def good_bodies(who: Cast) -> dict[str, list[Json]]:
    """A body that is accepted, or several if one cannot contain every field.

    Tokens are left out, because they cannot be written by hand.
    """
    return {
        "POST /api/claims": [claim(who)],
        "PATCH /api/claims/{id}": [{"notes": "n"}],
        "POST /api/claims/bulk-status-update": [{"claimIds": [str(who.anas_claim)]} | PENDING],
        "PUT /api/claims/{id}/assignment": [{"userId": str(who.pia)}],
        "POST /api/claims/import": [claim(who)],
        "POST /api/patients": [patient()],
        "PATCH /api/patients/{id}": [patient()],
        "POST /api/providers": [{"npi": npi(), "name": "New", "specialty": "s", "email": "new@new.test"}],
        "PATCH /api/providers/{id}": [{"npi": npi(), "name": "New", "specialty": "s", "email": "new@new.test"}],
        "PATCH /api/users/{id}": [
            {"role": "provider", "providerId": str(who.ana_provider)}, {"role": "patient", "patientId": str(who.tom_patient)},
            {"role": "claims_processor", "active": True}],
        "POST /api/users/{id}/reassign-claims": [{"toUserId": str(who.pia)}],
        "POST /api/invitations": [
            invitation() | {"role": "admin"}, invitation() | {"role": "provider", "providerId": str(who.ana_provider)},
            invitation() | {"role": "patient", "patientId": str(who.tom_patient)}],
        "PATCH /api/organization": [{"name": "New", "settings": SETTINGS}],
        "POST /api/patient-status": [event(who)],
        "POST /api/auth/register": [
            {"organizationName": f"New {next(_numbers)}", "email": "new@new.test", "password": PASSWORD, "name": "New"}],
        "POST /api/auth/login": [{"email": who.emails[who.tina], "password": PASSWORD}],
        "POST /api/auth/refresh": [{"refreshToken": "x"}],
        "POST /api/auth/logout": [{"refreshToken": "x"}],
        "POST /api/auth/password": [{"currentPassword": PASSWORD, "newPassword": PASSWORD}],
    }  # fmt: skip


IDS = {
    "patientId": "tom_patient", "providerId": "ana_provider", "userId": "pia", "toUserId": "pia", "claimIds": "anas_claim",
    "assignedTo": "pia", "actorUserId": "alma", "entityId": "anas_claim",
    "/api/claims": "anas_claim", "/api/patients": "tom_patient", "/api/providers": "ana_provider", "/api/users": "paul",
    "/api/invitations": "invitation", "/api/jobs": "toms_job",
}  # fmt: skip
"""The ids by the name of their position; those of a path's `{id}` by the beginning of the path."""


class Operation(NamedTuple):
    """An operation. query, path: its parameters' schemas by name; fields: its body's, inner ones as `outer.inner`."""

    name: str
    method: str
    path: str
    about: Json
    query: Json
    ids_in_path: list[str]
    fields: Json

    @property
    def public(self) -> bool:
        return not self.about["security"]

    @property
    def lines(self) -> bool:
        return "application/x-ndjson" in self.about.get("requestBody", {}).get("content", {})

    @property
    def keyed(self) -> bool:
        return {"$ref": "#/components/parameters/IdempotencyKey"} in self.about["parameters"]

    def bodies(self, who: Cast) -> list[Json | None]:
        """At least one; [None] if the operation has no body."""
        return list(good_bodies(who)[self.name]) if self.fields else [None]

    def filled(self, who: Cast, **instead: UUID) -> str:
        """The path with ids of this user's rows, or others."""
        ids = {name: instead.get(name, who.ids[self.whose(name)]) for name in self.ids_in_path}
        return self.path.format(**ids)

    def whose(self, position: str) -> str:
        """The name of the cast's row that fits the position."""
        return IDS["/".join(self.path.split("/")[:3]) if position == "id" else position]


def is_id(schema: Json) -> bool:
    """Whether a position accepts an id, or a list of them."""
    kinds = [schema, schema.get("items", {})]
    return any(one.get("format") == "uuid" or "fA-F" in one.get("pattern", "") for one in kinds)


def is_text(schema: Json) -> bool:
    """Whether a position accepts any text."""
    return "string" in types(schema) and not {"format", "enum", "const"} & schema.keys()


def types(schema: Json) -> list[str]:
    """The types of JSON that a schema allows."""
    named = schema.get("type", [])
    return [named] if isinstance(named, str) else named


def operations(document: Json) -> Iterator[Operation]:
    """Every operation of the API itself, except /health, which has no parameters."""

    def fields(schema: Json, before: str = "") -> Iterator[tuple[str, Json]]:
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        for name, inner in schema.get("properties", {}).items():
            if name != "organizationId":
                yield before + name, inner
                yield from fields(inner, f"{before}{name}.")

    # By path, so that the audit log is read before other attacks have written entries about the same ids.
    for path, methods in sorted(document["paths"].items()):
        for method, about in sorted(methods.items()):
            if path.startswith("/api/"):
                content = next(iter(about.get("requestBody", {}).get("content", {"": {}}).values()))
                schema = content.get("schema", {})
                schema = schema.get("contentSchema", {}).get("items", schema)
                named = [one for one in about["parameters"] if "name" in one]
                yield Operation(
                    f"{method.upper()} {path}", method.upper(), path, about,
                    {one["name"]: one["schema"] for one in named if one["in"] == "query"},
                    [one["name"] for one in named if one["in"] == "path"],
                    dict(fields(schema)),
                )  # fmt: skip


async def described(client: httpx.AsyncClient) -> list[Operation]:
    return list(operations((await client.get("/openapi.json")).json()))


def with_field(body: Json, name: str, value: Any) -> Json:
    """The body with one field set; `outer.inner` is a field inside another."""
    outer, _, inner = name.partition(".")
    return body | {outer: with_field(body.get(outer, {}), inner, value) if inner else value}


async def send(caller: As, operation: Operation, path: str, body: Any = None, **options: Any) -> httpx.Response:
    """Sends the body as JSON, or as a line where lines are accepted."""
    if body is None:
        return await caller(operation.method, path, **options)
    kind = NDJSON if operation.lines else {"Content-Type": "application/json"}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await caller(operation.method, path, content=content, headers=kind | options.pop("headers", {}), **options)


def failed_fields(answer: httpx.Response) -> list[str]:
    """The field names in an error, or in the first line of one."""
    if answer.status_code >= 400:
        return list(answer.json()["error"].get("details", {}).get("fields", {}))
    line = json.loads(answer.text.partition("\n")[0]) if answer.content.startswith(b'{"line"') else {}
    return list((line.get("error") or {"fields": []})["fields"])


STATE = """
select c.relnamespace::regnamespace::text || '.' || c.relname from pg_class c
where c.relkind = 'r' and c.relnamespace::regnamespace::text in ('app', 'auth')
  and c.relname not in ('rate_limits', 'idempotency_usage', 'denial_counters', 'unsealed_entries', 'audit_logs')
order by 1"""


def stored(as_root: Any, organization: UUID | None = None) -> dict[str, Any]:
    """A digest of every table's rows, without counters and the audit log; of one organization, or of all."""
    found = {}
    for (table,) in as_root.execute(STATE).fetchall():
        mine = "where to_jsonb(t) ->> 'organization_id' = %(id)s" if organization else ""
        text = f"select count(*), md5(string_agg(t::text, '|' order by t::text)) from {table} t {mine}"
        if table != "app.diagnosis_codes":  # large, and no product role may write it
            found[table] = as_root.execute(text, {"id": str(organization)}).fetchone()
    return found
