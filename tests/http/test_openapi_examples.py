"""The examples of the OpenAPI document: values that can occur, which fit their schemas and agree with each other."""

import json
import re
from datetime import UTC, date, datetime
from uuid import UUID

import jsonschema_rs
import pytest

from app.http.openapi.document import document
from app.main import create_app
from app.vocabulary import CLAIM_STATUSES
from tests.http.test_openapi import inlined, operations
from tests.support.databases import settings_for


@pytest.fixture(scope="module")
def described():
    return document(create_app(settings_for("postgresql:///", "none")))


def media_examples(described):
    """The example of each body, with its operation and its schema."""
    for name, operation in operations(described):
        for part in [operation.get("requestBody", {}), *operation["responses"].values()]:
            for content in inlined(described, part).get("content", {}).values():
                yield name, content["schema"], content["example"]


def values(part, name=""):
    """Every value in an example, with its field's name."""
    if isinstance(part, dict):
        yield name, part
        for key, one in part.items():
            yield from values(one, key)
    elif isinstance(part, list):
        for one in part:
            yield from values(one, name)
    else:
        yield name, part


def examples(described):
    """Every example of bodies, components, their properties and parameters, with the name of its field."""
    for _, _, example in media_examples(described):
        yield "body", example
    for name, schema in described["components"]["schemas"].items():
        for one in schema.get("examples", []):
            yield name, one
        for field, property_ in schema.get("properties", {}).items():
            for one in property_.get("examples", []):
                yield field, one
    for _, operation in operations(described):
        for parameter in inlined(described, operation["parameters"]):
            if "example" in parameter:
                yield parameter["name"], parameter["example"]


def all_values(described):
    for name, example in examples(described):
        yield from values(example, name)


def instant(text):
    return datetime.fromisoformat(text)


def response(described, method, path, status="200"):
    return described["paths"][path][method]["responses"][status]["content"]["application/json"]["example"]


def test_every_body_and_every_struct_has_an_example_of_its_schema(described):
    bodies = [*media_examples(described)]
    assert len(bodies) > 100
    for name, schema, example in bodies:
        assert jsonschema_rs.is_valid(schema, example), (name, example)
    for name, schema in described["components"]["schemas"].items():
        has_envelope = "success" in schema.get("properties", {})
        assert "examples" in schema or "enum" in schema or has_envelope, name
        for part in [schema, *schema.get("properties", {}).values()]:
            for example in part.get("examples", []):
                assert jsonschema_rs.is_valid(inlined(described, part), example), (name, example)
    for name, operation in operations(described):
        for parameter in inlined(described, operation["parameters"]):
            for example in (
                [parameter["example"]] if "example" in parameter else parameter["schema"].get("examples", [])
            ):
                assert jsonschema_rs.is_valid(parameter["schema"], example), (name, parameter["name"])
            assert parameter["in"] != "path" or "example" in parameter, name


def test_a_new_claim_is_submitted_and_undecided(described):
    sent = described["paths"]["/api/claims"]["post"]["requestBody"]["content"]["application/json"]["example"]
    claim = response(described, "post", "/api/claims", "201")["data"]
    assert {name: claim[name] for name in sent} == sent
    assert (claim["status"], claim["version"]) == ("submitted", 1)
    undecided = ("approvedAmount", "denialReason", "denialCode", "assignedTo", "processedAt", "paidAt")
    assert {name: claim[name] for name in undecided} == dict.fromkeys(undecided)
    assert claim["createdAt"] == claim["updatedAt"] == claim["submittedAt"]
    assert response(described, "get", "/api/claims")["data"] == [claim]


def test_claims_are_consistent(described):
    objects = [value for _, value in all_values(described) if isinstance(value, dict)]
    claims = [value for value in objects if {"claimNumber", "version"} <= set(value)]
    assert {claim["status"] for claim in claims} >= {"submitted", "rejected"}
    for claim in claims:
        is_decided = claim["status"] in ("approved", "paid", "rejected")
        assert (claim["processedAt"] is not None) == is_decided
        assert (claim["approvedAmount"] is not None) == (claim["status"] in ("approved", "paid"))
        assert (claim["denialReason"] is not None) == (claim["status"] == "rejected")
        assert (claim["version"] == 1) == (claim["updatedAt"] == claim["createdAt"])
        assert date.fromisoformat(claim["serviceDate"]) <= instant(claim["createdAt"]).date()
    history = response(described, "get", "/api/claims/{id}")["data"]
    assert [change["to"] for change in history["statusHistory"]][-1] == history["status"]
    assert [change["from"] for change in history["statusHistory"]] == [None, "submitted"]


def test_the_answer_to_a_change_has_what_was_sent(described):
    seen = 0
    for path, methods in described["paths"].items():
        for method in {"post", "patch", "put"} & set(methods):
            operation = methods[method]
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            for status, answer in operation["responses"].items():
                if content and status < "300" and "content" in answer:
                    data = answer["content"]["application/json"]["example"]["data"]
                    sent = {name: value for name, value in content["example"].items() if name in data}
                    for name, value in sent.items():
                        held = {key: data[name][key] for key in value} if isinstance(value, dict) else data[name]
                        assert held == value, (path, name)
                    seen += len(sent)
    assert seen > 25


def test_ids_are_of_version_7_and_as_old_as_their_records(described):
    texts = {value for name, value in all_values(described) if isinstance(value, str) and name != "requestId"}
    ids = {text for text in texts if re.fullmatch(r"[0-9a-f-]{36}", text)}
    assert len(ids) >= 10
    assert {UUID(value).version for value in ids} == {7}
    for _, value in all_values(described):
        if isinstance(value, dict) and {"id", "createdAt"} <= set(value):
            assert UUID(value["id"]).int >> 80 == instant(value["createdAt"]).timestamp() * 1000


def test_times_are_in_order(described):
    for _, value in all_values(described):
        if isinstance(value, dict) and "createdAt" in value:
            of_record = {name: one for name, one in value.items() if name != "occurredAt"}  # that is before its report
            times = [instant(one) for name, one in of_record.items() if name.endswith("At") and one]
            assert min(times) == instant(value["createdAt"]), value
            assert "updatedAt" not in value or max(times) == instant(value["updatedAt"]), value
    for name, _, example in media_examples(described):
        if isinstance(example, dict) and "meta" in example:
            sent = instant(example["meta"]["timestamp"])
            past = [one for field, one in values(example) if field.endswith("At") and field != "expiresAt" and one]
            assert all(instant(one) <= sent for one in past), name
            assert sent < datetime.now(UTC)


def test_persons_and_organizations_have_names_and_birthdays(described):
    found: dict[str, set[object]] = {}
    for name, value in all_values(described):
        if not isinstance(value, dict):
            found.setdefault(name, set()).add(value)
    for name in ("firstName", "lastName"):
        assert all(re.fullmatch(r"[A-Z][a-z]+(-[A-Z][a-z]+)?", value) for value in found[name]), name
    for name in ("facility", "specialty", "organizationName"):
        assert not {one for one in found[name] if any(first in str(one) for first in found["firstName"])}, name
    assert all(1900 <= date.fromisoformat(value).year <= 2010 for value in found["dateOfBirth"])
    assert all(date.fromisoformat(value) < datetime.now(UTC).date() for value in found["serviceDate"])
    assert "text" not in {value for values_ in found.values() for value in values_}
    assert all("@" in value and value.endswith("example.org") for value in found["email"] if value)


def test_npis_have_their_check_digit(described):
    npis = {value for name, value in all_values(described) if name == "npi"}
    assert npis
    for npi in npis:
        digits = [int(digit) for digit in reversed("80840" + npi)]
        doubled = [sum(divmod(digit * (1 + place % 2), 10)) for place, digit in enumerate(digits)]
        assert sum(doubled) % 10 == 0, npi


def test_statistics_add_up(described):
    stats = response(described, "get", "/api/claims/stats")["data"]
    assert list(stats["byStatus"]) == list(CLAIM_STATUSES)
    for field in ("count", "amount"):
        assert sum(one[field] for one in stats["byStatus"].values()) == stats["total"][field]
    decided = {status: stats["byStatus"][status]["count"] for status in ("approved", "paid", "rejected")}
    assert stats["approvalRate"] == (decided["approved"] + decided["paid"]) / sum(decided.values())


ADMIN_REQUESTS = [
    ("post", "/api/auth/login"),
    ("patch", "/api/organization"),
    ("post", "/api/invitations"),
    ("post", "/api/providers"),
    ("post", "/api/patients"),
    ("post", "/api/claims"),
    ("put", "/api/claims/{id}/assignment"),
    ("patch", "/api/claims/{id}"),
    ("post", "/api/claims/bulk-status-update"),
    ("post", "/api/claims/import"),
    ("post", "/api/patient-status"),
    ("post", "/api/users/{id}/reassign-claims"),
    ("patch", "/api/providers/{id}"),
    ("patch", "/api/patients/{id}"),
    ("patch", "/api/users/{id}"),
    ("post", "/api/auth/refresh"),
    ("post", "/api/auth/logout"),
    ("post", "/api/auth/login"),
    ("post", "/api/auth/password"),
]
"""The operations with a body after the registration, in an order in which each is possible."""


class Played:
    """A new organization in which the examples are played. Values of examples are replaced by those of the real responses."""

    def __init__(self, described, client):
        self.described, self.client = described, client
        self.real = {}
        self.token = None

    async def send(self, method, path, body=None):
        """Sends the operation's example. Returns the real response and the example of it."""
        operation = self.described["paths"][path][method]
        content = operation.get("requestBody", {}).get("content", {})
        media_type, body = next((media, one["example"] if body is None else body) for media, one in content.items())
        text = body if isinstance(body, str) else json.dumps(body)
        url = path
        for parameter in operation["parameters"]:
            url = url.replace(f"{{{parameter.get('name')}}}", str(parameter.get("example")))
        headers = {"Content-Type": media_type, **({"Authorization": f"Bearer {self.token}"} if self.token else {})}
        answer = await self.client.request(method, self.with_real(url), content=self.with_real(text), headers=headers)
        assert answer.status_code < 300, (method, path, answer.text)
        if answer.status_code == 204 or media_type != "application/json":
            return answer, None
        example = operation["responses"][str(answer.status_code)]["content"]["application/json"]["example"]
        self.learn(example["data"], answer.json()["data"])
        return answer.json()["data"], example["data"]

    def with_real(self, text):
        for example, real in self.real.items():
            text = text.replace(example, real)
        return text

    def learn(self, example, real):
        """Pairs the ids and tokens of an example with the real ones."""
        if isinstance(example, dict):
            for name, one in example.items():
                if name in ("id", "refreshToken", "accessToken", "invitationToken"):
                    self.real[one] = real[name]
                else:
                    self.learn(one, real[name])


async def test_the_examples_of_requests_are_possible(described, client):
    with_body = {
        (method, path)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
        if "requestBody" in operation
    }
    assert with_body == {*ADMIN_REQUESTS, ("post", "/api/auth/register")}
    played = Played(described, client)
    played.token = (await played.send("post", "/api/auth/register"))[0]["accessToken"]
    for method, path in ADMIN_REQUESTS:
        if path == "/api/claims/import":
            answer, _ = await played.send(method, path)
            assert answer.json()["result"] in ("duplicate", "failed")  # the number of the example's claim is taken
            continue
        real, example = await played.send(method, path)
        if path.startswith("/api/auth"):
            played.token = real["accessToken"] if example else played.token
        elif path == "/api/claims/bulk-status-update":
            codes = {one["id"]: one["code"] for one in real["failed"]}
            assert codes[played.real[example["failed"][0]["id"]]] == "CONFLICT"
        elif path != "/api/organization":
            times = {name for name in example if name.endswith("At")}
            assert {name: real[name] for name in real if name not in times} == json.loads(
                played.with_real(json.dumps({name: example[name] for name in example if name not in times}))
            ), path
            assert {name for name in times if real[name]} == {name for name in times if example[name]}, path
        if path == "/api/invitations":
            token = real["invitationToken"]
            body = {"invitationToken": token, "name": "Noa Lindqvist", "password": "another long enough one"}
            joined = await client.post("/api/auth/register", json=body)
            user = response(described, "get", "/api/users")["data"][0]
            played.real[user["id"]] = joined.json()["data"]["user"]["id"]
