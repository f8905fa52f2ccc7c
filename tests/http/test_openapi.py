"""The OpenAPI document: correct, complete, and equal to the committed file."""

import csv
import json
import re
from html import unescape
from pathlib import Path

import jsonschema_rs
import pytest

from app.errors import BY_STATUS
from app.http.openapi.document import ERRORS, document
from app.main import create_app
from app.vocabulary import ROLES
from tests.http.test_access import MATRIX
from tests.support.databases import settings_for

ROOT = Path(__file__).parents[2]
WHOLE = {"organization", "all", "self", "yes"}
"""Cells of the access matrix that need no explanation in parentheses."""


@pytest.fixture(scope="module")
def described():
    return document(create_app(settings_for("postgresql:///", "none")))


def operations(described):
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def inlined(described, part):
    """The part with every reference replaced by its target."""
    if isinstance(part, list):
        return [inlined(described, one) for one in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        found = described
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return inlined(described, found)
    return {name: inlined(described, one) for name, one in part.items()}


def test_the_committed_document_is_up_to_date(described):
    committed = json.loads((ROOT / "openapi.json").read_text())
    assert committed == json.loads(json.dumps(described)), "run make openapi"


def test_the_version_is_that_of_the_package_and_the_changelog(described):
    newest = re.search(r"^## \[(\d.*?)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert described["info"]["version"] == newest
    assert f'\nversion = "{newest}"\n' in (ROOT / "pyproject.toml").read_text()


def test_every_example_fits_its_schema(described):
    seen = 0
    for name, operation in operations(described):
        for part in [operation.get("requestBody", {}), *operation["responses"].values()]:
            for content in inlined(described, part).get("content", {}).values():
                if "example" in content:
                    assert jsonschema_rs.is_valid(content["schema"], content["example"]), (name, content["example"])
                    seen += 1
    assert seen > 100


def test_every_name_is_in_camel_case(described):
    for name, schema in described["components"]["schemas"].items():
        for field in schema.get("properties", {}):
            assert re.fullmatch(r"[a-z][a-zA-Z]*", field) or name == "ByStatus", (name, field)
    for name, operation in operations(described):
        for parameter in inlined(described, operation["parameters"]):
            assert parameter["in"] == "header" or re.fullmatch(r"[a-z][a-zA-Z]*", parameter["name"]), name


def test_every_operation_documents_its_errors(described):
    codes = {str(error.status): error.code for error in [*BY_STATUS.values(), *ERRORS]}
    for name, operation in operations(described):
        answers = inlined(described, operation["responses"])
        for status, answer in answers.items():
            if status >= "400" and "health" not in name:
                assert answer["content"]["application/json"]["example"]["error"]["code"] == codes[status]
            assert "X-Request-Id" in answer["headers"], (name, status)
        if "/api/" in name:
            assert {"400", "429", "500", "503"} <= set(answers), name
            assert ("401" in answers) == (name != "post /api/auth/register"), name
        assert operation["security"] == ([] if "/api/" not in name or _is_open(name) else [{"bearer": []}]), name
        assert operation["summary"], name
        assert operation["description"], name


def _is_open(name):
    return name in {f"post /api/auth/{one}" for one in ("register", "login", "refresh")}


def roles_of(row):
    """The roles of a row of the access matrix, as an operation describes them; None if no login is needed."""
    cells = {role: row[role] for role in ROLES if row[role] not in ("no", "-")}
    if not cells or row["anonymous"] == "yes":
        return None
    if len(cells) == len(ROLES) and {*cells.values()} <= WHOLE:
        return "Roles: all."
    named = [role if cell in WHOLE else f"{role} ({cell})" for role, cell in cells.items()]
    return f"Roles: {', '.join(named)}."


@pytest.mark.parametrize("row", MATRIX, ids=lambda row: row["operation"])
def test_an_operation_names_the_roles_of_the_access_matrix(described, row):
    described_roles = described["paths"][row["path"]][row["method"].lower()]["description"].splitlines()[-1]
    assert (described_roles if described_roles.startswith("Roles: ") else None) == roles_of(row)


def test_the_head_of_every_operation_says_who_may(described):
    # /docs shows the summary before the operation is opened.
    for name, operation in operations(described):
        last = operation["description"].splitlines()[-1]
        roles = last.removeprefix("Roles: ").removesuffix(".") if last.startswith("Roles: ") else "no login"
        assert (roles == "no login") == (operation["security"] == []), name
        assert operation["summary"].endswith(f" [{'all roles' if roles == 'all' else roles}]"), name
    assert described["paths"]["/api/claims"]["post"]["summary"] == "Create a claim [admin, provider (own)]"


TRANSITIONS = list(csv.DictReader((ROOT / "sql" / "data" / "claim-transitions.csv").read_text().splitlines()))


def cells_of(line):
    """The cells of a transition in the reference."""
    roles = ["-" if line[role] == "no" else line[role] for role in (*ROLES, "system")]
    requires = line["requires"].replace("approved_amount", "approvedAmount").replace("denial_reason", "denialReason")
    return [line["from_status"] or "(new)", line["to_status"], *roles, requires]


def test_the_change_of_a_claim_shows_every_transition(described):
    text = described["paths"]["/api/claims/{id}"]["patch"]["description"]
    head, rule, *rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in head.strip("|").split("|")] == ["from", "to", *ROLES, "system", "requires"]
    assert set(rule) <= set("|- ")
    assert len(TRANSITIONS) > 20
    assert [[cell.strip() for cell in row[1:-1].split("|")] for row in rows] == [cells_of(line) for line in TRANSITIONS]
    assert f"\n\n{head}" in text  # without the empty line it would be no table
    assert text.endswith("Roles: admin, claims_processor (assigned), provider (own).")


async def test_the_page_of_the_reference_shows_every_transition(client):
    page = await client.get("/docs")
    rows = re.findall(r"<tr>(.*?)</tr>", page.text)[1:]
    shown = [[unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", row)] for row in rows]
    assert shown == [cells_of(line) for line in TRANSITIONS]
    # Its Content-Security-Policy forbids inline styles and scripts.
    assert not re.search(r"<style|style=|<script>|onclick", page.text)
    assert (await client.get("/docs/page.css")).headers["Content-Type"].startswith("text/css")


def test_descriptions_have_no_indentation(described):
    # A line with four blanks at its beginning would be shown as code.
    texts = [one["description"] for one in described["components"]["schemas"].values() if "description" in one]
    texts += [operation["description"] for _, operation in operations(described)]
    assert [text for text in texts if re.search(r"^ ", text, re.MULTILINE)] == []
    assert any("\n" in text for text in texts)


def test_bodies_document_their_limits(described):
    claim = described["components"]["schemas"]["NewClaim"]
    assert claim["additionalProperties"] is False
    assert set(claim["required"]) == {"patientId", "providerId", "diagnosisCode", "amount", "serviceDate"}
    amount = claim["properties"]["amount"]
    assert (amount["type"], amount["minimum"], amount["maximum"]) == ("number", 0.01, 1_000_000)
    assert claim["properties"]["notes"]["maxLength"] == 1000
    assert len(described["components"]["schemas"]["ClaimStatus"]["enum"]) == 10


def test_conditional_gets_and_refused_bodies_are_documented(described):
    seen = set()
    for name, operation in operations(described):
        whole = inlined(described, operation)
        names = {parameter["name"] for parameter in whole["parameters"]}
        has_etag = name.startswith("get ") and "ETag" in whole["responses"].get("200", {}).get("headers", {})
        assert ("304" in whole["responses"]) == ("If-None-Match" in names) == has_etag, name
        assert ("415" in whole["responses"]) == ("requestBody" in whole), name
        seen |= {"304", "415"} & {*whole["responses"]}
        if has_etag:
            assert "content" not in whole["responses"]["304"]
            assert "ETag" in whole["responses"]["304"]["headers"]
        if "415" in whole["responses"]:
            assert {"Accept", "Accept-Encoding"} <= {*whole["responses"]["415"]["headers"]}
    assert seen == {"304", "415"}
    export = described["paths"]["/api/claims/export"]["get"]["responses"]["200"]
    assert "Content-Disposition" in export["headers"]


async def test_the_reference_needs_no_network(client):
    page = await client.get("/docs")
    assert page.status_code == 200
    assert "//" not in page.text
    script = (await client.get("/docs/static/swagger-ui-bundle.js")).text
    assert len(script) > 100_000
    served = (await client.get("/openapi.json")).json()
    assert {"/api/claims", "/api/auth/login", "/api/patient-status", "/health/ready"} <= set(served["paths"])
