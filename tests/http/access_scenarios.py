"""Scenarios of the access matrix: for each row the callers, their rows and the expected outcome."""

import json
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

import httpx

from tests.support.cast import PASSWORD, ROLE

USER_OF_ROLE = {"admin": "alma", "claims_processor": "pia", "provider": "ana", "patient": "tom", "anonymous": ""}
"""The user who tries a cell that is the same for the whole role."""


class Access:
    """The cast and its rows by name. Those of the other tenant begin with `south.`."""

    def __init__(self, client: httpx.AsyncClient, as_user: Any, casts: Any) -> None:
        self.client, self.as_user = client, as_user
        self.ids = casts["north"].ids | {f"south.{name}": id_ for name, id_ in casts["south"].ids.items()}
        self.names = {str(id_): name for name, id_ in self.ids.items()}

    def filled(self, text: str) -> str:
        return re.sub(r"{([a-z_.]+)}", lambda name: str(self.ids[name[1]]), text)

    def read(self, ids: Iterable[Any]) -> set[str]:
        return {self.names.get(str(one), "none" if one is None else "new") for one in ids}

    async def call(self, who: str, method: str, path: str, body: Any = None) -> httpx.Response:
        """The response to a user of the cast, or to an anonymous caller. A list is sent as lines."""
        tenant, _, name = who.rpartition(".")
        caller = self.as_user(name, tenant or "north") if who else self.client.request
        if isinstance(body, list):
            text = "".join(self.filled(json.dumps(line)) + "\n" for line in body)
            return await caller(
                method, self.filled(path), content=text, headers={"Content-Type": "application/x-ndjson"}
            )
        return await caller(
            method, self.filled(path), **({} if body is None else {"json": json.loads(self.filled(json.dumps(body)))})
        )


Seen = Callable[[httpx.Response, Access], Awaitable[set[str]]]


class Try(NamedTuple):
    """A call: its caller, the expected status or exactly these rows, and the rows whose ids are in the path."""

    who: str
    expect: int | set[str]
    ids: tuple[str, ...] = ()
    body: Any = None


class Scenario(NamedTuple):
    """The tries of a row of the matrix, in order. The first try's request is refused to every role that may not make it."""

    tries: list[Try]
    seen: Seen | None = None
    """The rows that a response shows, by name. Without it only the status is checked."""
    south: int | set[str] | None = None
    """The outcome of the first try with another tenant's rows, where it is neither 404 (path) nor 400 (body)."""
    query: str = ""


async def listed(answer: httpx.Response, access: Access) -> set[str]:
    return access.read(one["id"] for one in answer.json()["data"])


async def exported(answer: httpx.Response, access: Access) -> set[str]:
    return access.read(json.loads(line)["id"] for line in answer.text.splitlines())


async def imported(answer: httpx.Response, access: Access) -> set[str]:
    found = [json.loads(line) for line in answer.text.splitlines()]
    return {f"{one['line']} {one['result'] if one['error'] is None else one['error']['code']}" for one in found}


async def moved(answer: httpx.Response, access: Access) -> set[str]:
    return access.read(answer.json()["data"]["updated"])


async def counted(answer: httpx.Response, access: Access) -> set[str]:
    return {f"claim {number}" for number in range(answer.json()["data"]["total"]["count"])}


async def taken(answer: httpx.Response, access: Access) -> set[str]:
    return access.read([answer.json()["data"]["id"]] if answer.content else [])


async def concerning(answer: httpx.Response, access: Access) -> set[str]:
    return access.read(one["patientId"] for one in answer.json()["data"])


async def known_fields(answer: httpx.Response, access: Access) -> set[str]:
    return {name for name, value in answer.json()["data"].items() if value is not None}


async def caller(answer: httpx.Response, access: Access) -> set[str]:
    return access.read([answer.json()["data"]["id"]])


async def in_care(answer: httpx.Response, access: Access) -> set[str]:
    """The users who find the new patient."""
    asked = {who: await access.call(who, "GET", answer.headers["Location"]) for who in (*ROLE, "south.alma")}
    return {who for who, one in asked.items() if one.status_code == 200}


async def logged_out(answer: httpx.Response, access: Access) -> set[str]:
    asked = {who: await access.call(who, "GET", "/api/auth/me") for who in ROLE}
    return {who for who, one in asked.items() if one.status_code == 401}


async def new_passwords(answer: httpx.Response, access: Access) -> set[str]:
    logins = {who: {"email": f"{who}@north.test", "password": NEW_PASSWORD} for who in USER_OF_ROLE.values() if who}
    asked = {who: await access.client.post("/api/auth/login", json=login) for who, login in logins.items()}
    return {who for who, one in asked.items() if one.status_code == 200}


def claim(patient: str, provider: str) -> dict[str, Any]:
    return {"patientId": f"{{{patient}_patient}}", "providerId": f"{{{provider}_provider}}", "diagnosisCode": "E11.9",
            "amount": 10, "serviceDate": "2026-01-05"}  # fmt: skip


NEW_PASSWORD = "a brand new horse battery staple"
REFRESH_TOKEN = "ana's refresh token"
TOMS, TINAS, TOMS_WITH_BEN = claim("tom", "ana"), claim("tina", "ben"), claim("tom", "ben")
BOTH = {"claimIds": ["{anas_claim}", "{bens_claim}"], "status": "under_review"}
A_PATIENT = {"memberNumber": "M-9", "firstName": "Nils", "lastName": "New", "dateOfBirth": "2000-01-01"}
REVIEW, VOID, NAME = {"status": "under_review"}, {"status": "voided"}, {"name": "Another"}
CHANGE = {"currentPassword": PASSWORD, "newPassword": NEW_PASSWORD}
ANAS, BENS, TOM, TINA = ("anas_claim",), ("bens_claim",), ("tom_patient",), ("tina_patient",)
CLAIMS, PATIENTS, PROVIDERS = {*ANAS, *BENS}, {*TOM, *TINA}, {"ana_provider", "ben_provider"}


def admitted(patient: str) -> dict[str, Any]:
    return {"patientId": f"{{{patient}_patient}}", "eventType": "admission", "occurredAt": "2026-01-05T08:00:00Z"}


def seen_by(**whose: set[str]) -> list[Try]:
    return [Try(who, rows) for who, rows in whose.items()]


CLAIMS_SEEN = seen_by(alma=CLAIMS, pia={*ANAS}, paul=set(), ana={*ANAS}, ben={*BENS}, tom={*ANAS}, tina={*BENS})
PATIENTS_SEEN = seen_by(alma=PATIENTS, pia={*TOM}, paul=set(), ana={*TOM}, ben={*TINA}, tom={*TOM}, tina={*TINA})
PATIENTS_READ = [
    *(Try(who, 200, TOM) for who in ("alma", "pia", "ana", "tom")), *(Try(who, 200, TINA) for who in ("alma", "ben", "tina")),
    *(Try(who, 404, TINA) for who in ("pia", "ana", "tom")), *(Try(who, 404, TOM) for who in ("paul", "ben", "tina")),
]  # fmt: skip
ONCE_EACH = [Try(who, 200) for who in USER_OF_ROLE.values()]

SCENARIOS: dict[tuple[str, str], Scenario] = {
    ("POST", "/api/claims"): Scenario([
        Try("alma", 201, (), TOMS), Try("alma", 201, (), TINAS), Try("ana", 201, (), TOMS), Try("ben", 201, (), TINAS),
        Try("ana", 403, (), TOMS_WITH_BEN), Try("ana", 400, (), TINAS), Try("ana", 400, (), claim("tina", "ana")),
    ]),
    ("GET", "/api/claims"): Scenario(CLAIMS_SEEN, listed),
    ("GET", "/api/claims/{id}"): Scenario([
        *(Try(who, 200, ANAS) for who in ("alma", "pia", "ana", "tom")), *(Try(who, 200, BENS) for who in ("alma", "ben", "tina")),
        *(Try(who, 404, BENS) for who in ("pia", "ana", "tom")), *(Try(who, 404, ANAS) for who in ("paul", "ben", "tina")),
    ]),
    ("PATCH", "/api/claims/{id}"): Scenario([
        Try("alma", 200, ANAS, REVIEW), Try("paul", 404, ANAS, VOID), Try("pia", 404, BENS, REVIEW), Try("ana", 404, BENS, VOID),
        Try("ben", 404, ANAS, VOID), Try("pia", 200, ANAS, REVIEW | {"status": "approved"}), Try("alma", 200, BENS, REVIEW),
        Try("ben", 200, BENS, VOID),
    ]),
    ("POST", "/api/claims/bulk-status-update"): Scenario([
        Try("alma", CLAIMS, (), BOTH), Try("pia", {*ANAS}, (), BOTH | {"status": "approved"}),
        Try("paul", set(), (), BOTH | {"status": "approved"}),
    ], moved, south=set()),
    ("GET", "/api/claims/stats"): Scenario(seen_by(
        alma={"claim 0", "claim 1"}, pia={"claim 0"}, paul=set(), ana={"claim 0"}, ben={"claim 0"}, tom={"claim 0"},
    ), counted),
    ("PUT", "/api/claims/{id}/assignment"): Scenario([Try("alma", 200, ANAS, {"userId": "{paul}"})]),
    ("POST", "/api/claims/next"): Scenario([Try("paul", {*BENS}), Try("pia", set())], taken),
    ("POST", "/api/claims/import"): Scenario([
        Try("alma", {"1 created", "2 created"}, (), [TOMS, TOMS_WITH_BEN]),
        Try("ana", {"1 created", "2 FORBIDDEN"}, (), [TOMS, TOMS_WITH_BEN]),
    ], imported, south={"1 VALIDATION_ERROR", "2 VALIDATION_ERROR"}),
    ("GET", "/api/claims/export"): Scenario(CLAIMS_SEEN, exported),
    ("GET", "/api/patients"): Scenario(PATIENTS_SEEN, listed),
    ("GET", "/api/patients/{id}"): Scenario(PATIENTS_READ),
    ("POST", "/api/patients"): Scenario([
        Try("alma", {"alma"}, (), A_PATIENT), Try("ana", {"alma", "ana"}, (), A_PATIENT | {"memberNumber": "M-10"}),
        Try("ben", {"alma", "ben"}, (), A_PATIENT | {"memberNumber": "M-11"}),
    ], in_care),
    ("PATCH", "/api/patients/{id}"): Scenario([Try("alma", 200, TOM, {"firstName": "Thomas"})]),
    ("PUT", "/api/patients/{id}/providers/{providerId}"): Scenario([Try("alma", 204, (*TOM, "ben_provider"))]),
    ("DELETE", "/api/patients/{id}/providers/{providerId}"): Scenario([Try("alma", 204, (*TOM, "ana_provider"))]),
    ("GET", "/api/providers"): Scenario(seen_by(
        alma=PROVIDERS, pia=PROVIDERS, paul=PROVIDERS, ana=PROVIDERS, tom={"ana_provider"}, tina={"ben_provider"},
    ), listed),
    ("GET", "/api/providers/{id}"): Scenario([
        *(Try(who, 200, ("ana_provider",)) for who in ("alma", "pia", "paul", "ana", "ben", "tom")),
        Try("tina", 404, ("ana_provider",)), Try("tina", 200, ("ben_provider",)), Try("tom", 404, ("ben_provider",)),
    ]),
    ("POST", "/api/providers"): Scenario([Try("alma", 201, (), NAME | {"npi": "1679576722"})]),
    ("PATCH", "/api/providers/{id}"): Scenario([
        Try("alma", 200, ("ana_provider",), NAME), Try("ana", 200, ("ana_provider",), NAME), Try("alma", 200, ("ben_provider",), NAME),
        Try("ana", 403, ("ben_provider",), NAME), Try("ben", 403, ("ana_provider",), NAME),
    ]),
    ("GET", "/api/users"): Scenario(seen_by(alma=set(ROLE)), listed),
    ("PATCH", "/api/users/{id}"): Scenario([Try("alma", 200, ("paul",), {"active": False})]),
    ("POST", "/api/users/{id}/reassign-claims"): Scenario([Try("alma", 200, ("pia",), {"toUserId": None})]),
    ("POST", "/api/invitations"): Scenario([Try("alma", 201, (), {"email": "neu@north.test", "role": "admin"})]),
    ("GET", "/api/invitations"): Scenario(seen_by(alma={"invitation"}), listed),
    ("DELETE", "/api/invitations/{id}"): Scenario([Try("alma", 204, ("invitation",))]),
    ("GET", "/api/organization"): Scenario(seen_by(
        alma={"id", "slug", "name", "settings"}, pia={"id", "slug", "name", "settings"}, ana={"id", "slug", "name"},
        tom={"id", "slug", "name"},
    ), known_fields),
    ("PATCH", "/api/organization"): Scenario([Try("alma", 200, (), NAME)]),
    ("GET", "/api/diagnosis-codes"): Scenario([Try(who, 200) for who in USER_OF_ROLE.values() if who], query="?search=E11"),
    ("POST", "/api/patient-status"): Scenario([
        Try("alma", 202, (), admitted("tom")), Try("alma", 202, (), admitted("tina")), Try("ana", 202, (), admitted("tom")),
        Try("ana", 400, (), admitted("tina")), Try("ben", 400, (), admitted("tom")),
    ]),
    ("GET", "/api/patient-status/history/{patientId}"): Scenario(PATIENTS_READ),
    ("GET", "/api/jobs"): Scenario(seen_by(alma={"toms_job"}), listed),
    ("POST", "/api/jobs/{id}/retry"): Scenario([Try("alma", 202, ("toms_job",))]),
    ("GET", "/api/audit-logs"): Scenario(
        seen_by(alma={*PATIENTS, "none"}, tom={*TOM}, tina={*TINA}), concerning, query="?limit=100",
    ),
    ("GET", "/api/auth/me"): Scenario(seen_by(alma={"alma"}, pia={"pia"}, ana={"ana"}, tom={"tom"}), caller),
    ("POST", "/api/auth/password"): Scenario([
        Try("alma", {"alma"}, (), CHANGE), Try("pia", {"alma", "pia"}, (), CHANGE), Try("ana", {"alma", "pia", "ana"}, (), CHANGE),
        Try("tom", {"alma", "pia", "ana", "tom"}, (), CHANGE),
    ], new_passwords),
    ("POST", "/api/auth/logout"): Scenario(seen_by(
        alma={"alma"}, pia={"alma", "pia"}, ana={"alma", "pia", "ana"}, tom={"alma", "pia", "ana", "tom"},
    ), logged_out),
    ("POST", "/api/auth/login"): Scenario([Try("", 200, (), {"email": "ana@north.test", "password": PASSWORD})]),
    ("POST", "/api/auth/register"): Scenario([Try("", 201, (), {
        "organizationName": "East", "email": "eva@east.test", "password": PASSWORD, "name": "Eva"})]),
    ("POST", "/api/auth/refresh"): Scenario([Try("", 200, (), {"refreshToken": REFRESH_TOKEN})]),
    ("GET", "/health"): Scenario(ONCE_EACH),
    ("GET", "/health/ready"): Scenario(ONCE_EACH),
}  # fmt: skip
