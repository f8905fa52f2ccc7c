"""Rules that the OpenAPI document fulfills because generators of clients need them. `make clients` runs the generators themselves."""

import re
from decimal import Decimal

import jsonschema_rs
import pytest

from app.http.ndjson import MEDIA_TYPES
from app.http.openapi.document import document
from app.main import create_app
from app.vocabulary import CLAIM_STATUSES, ROLES, EventType, JobStatus
from tests.http.test_openapi import operations
from tests.support.databases import settings_for


@pytest.fixture(scope="module")
def described():
    return document(create_app(settings_for("postgresql:///", "none")))


def parts(part, path=()):
    """Every object of the document, with its path."""
    if isinstance(part, dict):
        yield path, part
    for key, value in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        if key not in ("example", "examples", "default"):
            yield from parts(value, (*path, key))


def schemas(described):
    """Every schema of the document, with its path: each object below a key that contains schemas."""
    single = {"schema", "items", "additionalProperties", "contentSchema", "not", "propertyNames"}
    for path, part in parts(described):
        is_schema = path[-1:] and path[-1] in single and path[-2:-1] != ("properties",)
        if is_schema or path[-2:-1] in (("properties",), ("anyOf",), ("oneOf",), ("allOf",), ("schemas",)):
            yield "/".join(map(str, path)), part


def bodies(described):
    """The components that a request body contains, and their properties."""
    names: set[str] = set()

    def collect(part):
        for _, one in parts(part):
            name = str(one.get("$ref", "")).rpartition("/")[2]
            if name and name not in names and name in described["components"]["schemas"]:
                names.add(name)
                collect(described["components"]["schemas"][name])

    for _, operation in operations(described):
        collect(operation.get("requestBody", {}))
    return {name: described["components"]["schemas"][name] for name in names}


def test_the_rules_see_every_schema(described):
    found = {path for path, _ in schemas(described)}
    assert "components/schemas/Claim/properties/approvedAmount" in found
    assert "components/schemas/JobResult/properties/updated/items" in found
    assert len(found) > 400
    assert {"NewClaim", "ClaimChange", "SettingsChange"} <= set(bodies(described))


def test_every_constant_and_every_enumeration_has_a_type(described):
    found = [(path, one) for path, one in schemas(described) if "const" in one or "enum" in one]
    assert found
    assert [path for path, one in found if "type" not in one] == []
    # openapi-generator's Python client compares a boolean with the text 'true', and so refuses every response.
    assert [path for path, one in found if one["type"] == "boolean"] == []


def test_no_schema_is_null_only(described):
    assert [path for path, one in schemas(described) if one.get("type") == "null" or one.get("enum") == [None]] == []


def test_bodies_are_plain_objects(described):
    for name, schema in bodies(described).items():
        assert not {"anyOf", "oneOf", "allOf", "not", "if"} & set(schema), name
        for field, one in schema.get("properties", {}).items():
            assert not {"anyOf", "oneOf", "allOf", "not"} & set(one), (name, field)


def test_optional_fields_have_no_empty_default(described):
    # With a default, generators of TypeScript types take the field for one that is always there.
    defaults = {path: one["default"] for path, one in schemas(described) if "default" in one}
    assert [path for path, default in defaults.items() if default is None or default is False] == []
    assert [path for path in defaults if path.startswith("components/schemas")] == []
    claim = described["components"]["schemas"]["NewClaim"]
    assert not {"notes", "claimNumber", "draft"} & set(claim["required"])
    assert claim["properties"]["notes"]["type"] == ["string", "null"]


def test_fields_that_are_always_sent_are_required(described):
    assert set(described["components"]["schemas"]["Ready"]["required"]) == {
        "database", "schema", "keys", "clock", "queue", "workers",
    }  # fmt: skip


def test_every_amount_with_two_decimals_fits_the_schema(described):
    assert [path for path, one in schemas(described) if "multipleOf" in one] == []
    amount = described["components"]["schemas"]["NewClaim"]["properties"]["amount"]
    valid = jsonschema_rs.validator_for(amount)
    assert [cents for cents in range(1, 100_000, 7) if not valid.is_valid(float(Decimal(cents) / 100))] == []
    assert not valid.is_valid(0.001)
    # Without a format, openapi-generator makes it a float32 in Go, which has seven digits.
    numbers = [(path, one) for path, one in schemas(described) if "number" in str(one.get("type"))]
    assert len(numbers) > 5
    assert [path for path, one in numbers if one.get("format") != "double"] == []


NOT_IN_RE2 = re.compile(r"\(\?(?!:|P<|[imsU-]+[:)])|\\[1-9Zukx](?!(?<=x)[0-9a-fA-F]{2})|[*+?}]\+")
"""Look-around, backreferences, escapes and possessive repetitions, which RE2 and Go refuse."""


@pytest.mark.parametrize(
    "pattern", [r"^a$(?!\n)", r"(a)\1", r"[^\u0000]", r"a\Z", r"a++", r"(?>a)", r"\k<a>", r"(?<=a)b"]
)
def test_the_rule_for_patterns_finds(pattern):
    assert NOT_IN_RE2.search(pattern)


@pytest.mark.parametrize("pattern", [r"^[^\x00-\x20]+$", r"(?:a|b)+", r"^[A-Z]\.?[0-9]{0,4}$", r"a+?"])
def test_the_rule_for_patterns_accepts(pattern):
    assert not NOT_IN_RE2.search(pattern)


def test_patterns_are_those_of_re2(described):
    patterns = {one["pattern"] for _, one in parts(described) if isinstance(one.get("pattern"), str)}
    assert len(patterns) > 5
    assert {pattern for pattern in patterns if NOT_IN_RE2.search(pattern)} == set()
    repeated = [int(count) for pattern in patterns for count in re.findall(r"\{(?:\d+,)?(\d+)\}", pattern)]
    assert max(repeated) <= 1000


def test_the_document_has_a_server_and_a_contact(described):
    assert [server["url"] for server in described["servers"]] == ["/"]
    assert described["info"]["contact"]["name"]


def test_every_body_of_json_is_a_named_component(described):
    for name, operation in operations(described):
        for status, answer in operation["responses"].items():
            for media, content in resolved(described, answer).get("content", {}).items():
                if media == "application/json":
                    assert re.fullmatch(r"#/components/schemas/\w+", content["schema"]["$ref"]), (name, status)
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        assert body is None or re.fullmatch(r"#/components/schemas/\w+", body["schema"]["$ref"]), name


def resolved(described, part):
    """The part, or the component that it refers to."""
    if "$ref" not in part:
        return part
    section, name = part["$ref"].removeprefix("#/components/").split("/")
    return described["components"][section][name]


def answer_name(described, path, method, status="200"):
    content = described["paths"][path][method]["responses"][status]["content"]
    return content["application/json"]["schema"]["$ref"].rpartition("/")[2]


def test_envelopes_are_named_after_their_data(described):
    assert answer_name(described, "/api/claims", "get") == "ClaimPage"
    assert answer_name(described, "/api/claims", "post", "201") == "ClaimResponse"
    assert answer_name(described, "/api/claims/{id}", "get") == "ClaimWithHistoryResponse"
    assert answer_name(described, "/api/auth/login", "post") == "TokensResponse"
    assert answer_name(described, "/api/patients", "get") == "PatientPage"
    every = described["components"]["schemas"]
    assert every["ClaimResponse"]["properties"]["data"] == {"$ref": "#/components/schemas/Claim"}
    assert every["ClaimPage"]["properties"]["data"]["items"] == {"$ref": "#/components/schemas/Claim"}
    meta = every["ClaimPage"]["properties"]["meta"]["$ref"].rpartition("/")[2]
    assert "pagination" in every[meta]["required"]


def test_a_component_has_its_own_name_as_title(described):
    for name, schema in described["components"]["schemas"].items():
        assert schema["title"] == name


def test_errors_are_typed(described):
    every = described["components"]["schemas"]
    assert every["Failure"]["properties"]["error"] == {"$ref": "#/components/schemas/Problem"}
    details = resolved(described, every["Problem"]["properties"]["details"])
    fields = resolved(described, details["properties"]["fields"])
    assert fields["additionalProperties"] == {"type": "array", "items": {"type": "string"}}
    assert {"from", "to", "allowed"} <= set(details["properties"])
    for name, operation in operations(described):
        for status, answer in operation["responses"].items():
            if status >= "400" and "health" not in name:
                content = resolved(described, answer)["content"]["application/json"]
                assert content["schema"] == {"$ref": "#/components/schemas/Failure"}, (name, status)


def test_words_of_the_api_are_named_types(described):
    every = described["components"]["schemas"]
    assert every["ClaimStatus"]["enum"] == list(CLAIM_STATUSES)
    assert every["Role"]["enum"] == list(ROLES)
    for name, words in {"EventType": EventType, "JobStatus": JobStatus}.items():
        assert every[name]["enum"] == list(words.__args__)
    for name in ("Claim", "ClaimChange", "BulkMove"):
        assert every[name]["properties"]["status"] == {"$ref": "#/components/schemas/ClaimStatus"}, name
    assert every["StatusChange"]["properties"]["from"]["$ref"].endswith("/NullableClaimStatus")
    assert every["NullableClaimStatus"]["enum"] == [*CLAIM_STATUSES, None]


def test_an_object_without_properties_may_have_any(described):
    # openapi-typescript makes a plain `type: object` a record that can have no field.
    plain = [one for one in schemas(described) if "object" in str(one[1].get("type")) and "properties" not in one[1]]
    assert plain
    assert [path for path, one in plain if not one.get("additionalProperties")] == []


def test_every_component_is_used(described):
    used = {one["$ref"] for _, one in parts(described) if isinstance(one.get("$ref"), str)}
    for section in ("schemas", "responses", "parameters", "headers"):
        assert {f"#/components/{section}/{name}" for name in described["components"][section]} <= used


def test_tags_are_described_in_the_order_of_a_claims_life(described):
    tags = [tag["name"] for tag in described["tags"]]
    assert all(tag["description"] for tag in described["tags"])
    in_use = [tag for _, operation in operations(described) for tag in operation["tags"]]
    assert list(dict.fromkeys(in_use)) == tags
    order = ["auth", "organizations", "users", "invitations", "providers", "patients", "diagnosis codes", "claims"]
    assert tags == [*order, "patient status events", "job processing logs", "audit logs", "health"]
    claims = [name for name, operation in operations(described) if operation["tags"] == ["claims"]]
    assert claims[:4] == ["post /api/claims", "get /api/claims", "get /api/claims/{id}", "patch /api/claims/{id}"]


def test_every_accepted_media_type_is_documented(described):
    body = described["paths"]["/api/claims/import"]["post"]["requestBody"]["content"]
    assert list(body) == list(MEDIA_TYPES)
    assert "application/json-seq" not in MEDIA_TYPES  # its records begin with a character that no JSON has


async def test_an_import_takes_no_other_media_type(described, as_user, cast):
    line = f'{{"patientId": "{cast.tom_patient}"}}\n'.encode()
    alma = as_user("alma")
    for media_type in described["paths"]["/api/claims/import"]["post"]["requestBody"]["content"]:
        answer = await alma("POST", "/api/claims/import", content=line, headers={"Content-Type": media_type})
        assert answer.status_code == 200, media_type
    for media_type in ("application/json-seq", "application/json", "text/plain"):
        answer = await alma("POST", "/api/claims/import", content=line, headers={"Content-Type": media_type})
        assert answer.status_code == 415, media_type


def test_lines_of_streams_are_described(described):
    every = described["paths"]["/api/claims/import"]["post"]
    answer = every["responses"]["200"]["content"]["application/x-ndjson"]["schema"]
    assert (answer["type"], answer["format"], answer["contentMediaType"]) == (
        "string",
        "binary",
        "application/x-ndjson",
    )
    assert answer["contentSchema"] == {"type": "array", "items": {"$ref": "#/components/schemas/LineResult"}}
    error = resolved(described, described["components"]["schemas"]["LineResult"]["properties"]["error"])
    assert {"code", "message"} <= set(error["required"])
    sent = every["requestBody"]["content"]["application/x-ndjson"]["schema"]
    assert sent["contentSchema"]["items"] == {"$ref": "#/components/schemas/NewClaim"}
