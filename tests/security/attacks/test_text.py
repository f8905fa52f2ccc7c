"""SQL, templates, control characters and long texts in every field, parameter and path: stored as text, or 400."""

import json
import unicodedata
from typing import Any
from urllib.parse import quote

import pytest

from tests.security.attacks.cases import (
    Json,
    Operation,
    described,
    failed_fields,
    is_id,
    is_text,
    send,
    stored,
    with_field,
)

TEXTS = [
    "'", '"', "'; drop table claims; --", "' or '1'='1", "*/ drop table claims; /*", "-- if :status", "%", "%s %(x)s", "%(tenant)s",
    "%%", "_", "\\", "\\'", ":after", ":name::text", "$1", "$$;select 1;$$", "@sort", "E'\\x41'", "${jndi:ldap://x}", "{{7*7}}", "{0}",
    "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "\r\nX-Evil: 1", "\u202e\u2066", "\U0001f469\u200d\U0001f467", "e\u0301 \u00e9",
    "\u2028\u2029\x85", "\x01\x1b[31m\x7f", "\ufeff", "\uffff\ufffe", "\u0130\u0131\u00df", "null", "NULL", "true", "-1", "0x41",
    " around ", "\t\n", "[]", "{}",
]  # fmt: skip
FEW = [TEXTS[2], TEXTS[7], "$1", "null", "\u202e", "\n", ""]
TAKEN_WITH: dict[str, Json] = {
    "PATCH /api/claims/{id} reason": {"status": "pending_info"},
    "PATCH /api/claims/{id} denialReason": {"status": "rejected"},
    "PATCH /api/claims/{id} denialCode": {"status": "rejected", "denialReason": "x"},
    "POST /api/claims/bulk-status-update denialReason": {"status": "rejected"},
}
"""The other values that a field needs to reach the database."""


@pytest.fixture
def reset(as_root) -> Any:
    """Resets the claims' statuses, past all rules."""
    as_root.execute("set session_replication_role = replica")

    def back() -> None:
        as_root.execute("update claims set status = 'submitted', notes = null where status <> 'submitted'")

    return back


def found(data: Any, field: str) -> Any:
    """The field in a response's data; None if responses do not contain it."""
    for name in field.split("."):
        data = data.get(name) if isinstance(data, dict) else None
    return data


def body_with(operation: Operation, who: Any, field: str, value: Any) -> Json:
    """The first valid body whose response contains the field, or else that accepts it, with the value in it."""
    bodies = operation.bodies(who)
    body = next((one for one in bodies if field in one), bodies[0])
    return with_field(body | TAKEN_WITH.get(f"{operation.name} {field}", {}), field, value)


async def test_text_in_a_body_is_stored_as_text(client, as_user, as_root, cast, reset):
    before, unchanged = stored(as_root), 0
    for operation in await described(client):
        for nth, (field, schema) in enumerate(operation.fields.items()):
            for text in TEXTS[nth % 2 :: 2] if is_text(schema) and not is_id(schema) and not operation.public else FEW:
                sent = f"{text}@x.test".replace(" ", "") if field.endswith("email") else text
                if "claims/" in operation.path:
                    reset()
                body = body_with(operation, cast, field, sent)
                answer = await send(as_user("alma"), operation, operation.filled(cast), body)
                assert answer.status_code < 500, (operation.name, field, sent, answer.text)
                if answer.status_code == 400:
                    assert failed_fields(answer), (operation.name, field, sent, answer.text)
                elif answer.is_success and not operation.lines and answer.content:
                    shown = found(answer.json()["data"], field)
                    if "invitations" in operation.path:  # emails are stored in lower case
                        shown, sent = shown.lower(), sent.lower()
                    is_number = field in ("claimNumber", "memberNumber", "visitNumber")  # they lose outer white space
                    assert shown in (None, sent.strip() if is_number else sent), (operation.name, field)
                    unchanged += shown == sent
    assert unchanged > 300
    assert stored(as_root).keys() == before.keys()


def claim_number(number: int, text: str) -> str:
    """A number with the visible characters of the text. Control and invisible characters are refused in numbers."""
    return f"T-{number:02}{''.join(filter(str.isprintable, text))}"[:64].rstrip()


async def test_accepted_text_is_the_same_everywhere(as_user, as_root, cast):
    """In the claim, its history, its list and both exports, whatever way it was sent."""
    alma, lines = as_user("alma"), []
    for number, text in enumerate(TEXTS):
        line = {"patientId": str(cast.tom_patient), "providerId": str(cast.ana_provider), "diagnosisCode": "E11.9", "amount": 1,
                "serviceDate": "2026-01-05", "notes": text, "claimNumber": claim_number(number, text)}  # fmt: skip
        lines.append(json.dumps(line))
    answer = await alma(
        "POST", "/api/claims/import", content="\n".join(lines), headers={"Content-Type": "application/x-ndjson"}
    )
    assert answer.text.count('"created"') == len(TEXTS)
    listed = (await alma.get("/api/claims?claimNumber=T-&limit=100")).json()["data"]
    exported = (await alma.get("/api/claims/export?claimNumber=T-")).content.decode().split("\n")[:-1]
    for found_ in (listed, [json.loads(line) for line in exported]):
        assert {one["claimNumber"]: one["notes"] for one in found_} == {
            claim_number(number, text): text for number, text in enumerate(TEXTS)
        }
    for number, text in enumerate(TEXTS):
        one = (await alma.get("/api/claims", params={"claimNumber": claim_number(number, text)})).json()["data"]
        assert [claim["notes"] for claim in one] == [text]
        reason = {"status": "pending_info", "reason": text}
        is_blank = all(unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Zs") for char in text)
        assert (await alma.patch(f"/api/claims/{one[0]['id']}", reason)).status_code == (400 if is_blank else 200), text
        if is_blank:  # a reason has visible characters
            continue
        history = (await alma.get(f"/api/claims/{one[0]['id']}")).json()["data"]["statusHistory"]
        assert history[-1]["reason"] == text


async def test_text_in_a_query_finds_only_matching_rows(client, as_user, as_root, cast):
    """% and _ are not patterns."""
    before, asked = stored(as_root), 0
    for operation in filter(lambda one: one.method == "GET", await described(client)):
        for nth, name in enumerate(operation.query):
            for text in [*TEXTS[nth % 2 :: 2], "\0", "a\0b", "x" * 1001]:
                answer = await as_user("alma").get(operation.filled(cast), params={name: text})
                assert answer.status_code in (200, 400), (operation.name, name, text, answer.text)
                if answer.status_code == 400:
                    assert failed_fields(answer) == [name], (operation.name, name, text)
                elif name in ("claimNumber", "entity"):
                    assert not answer.content or answer.json()["data"] == [], (operation.name, name, text)
                asked += 1
    assert asked > 600
    assert len((await as_user("alma").get("/api/claims?claimNumber=C-")).json()["data"]) == 2  # control
    assert stored(as_root) == before


async def test_invalid_utf_8_in_a_url_causes_no_server_error(client, as_user, as_root, cast):
    before = stored(as_root)
    raw = [
        "%ff",
        "%ed%a0%80",
        "%00",
        "%c3%28",
        "%f5%80%80%80",
        "%2e%2e%2f",
        "%0d%0aX-Evil:%201",
        "%25%30%30",
        "%",
        "%zz",
    ]
    for operation in await described(client):
        for one in [*raw, quote("'; drop table claims; --"), "a" * 5000, "0" * 36, "-" * 36]:
            for name in operation.ids_in_path:
                path = operation.filled(cast).replace(str(cast.ids[operation.whose(name)]), one)
                answer = await send(as_user("alma"), operation, path, operation.bodies(cast)[0])
                assert answer.status_code in (400, 404, 405), (operation.name, one, answer.text)
            for name in operation.query if operation.method == "GET" else ():
                answer = await as_user("alma").get(f"{operation.filled(cast)}?{name}={one}")
                assert answer.status_code in (200, 400), (operation.name, name, one)
    for given in (
        "&&&",
        "=&=",
        "limit",
        "limit=1&limit=2",
        "%00=1",
        "cursor=&cursor=",
        "a" * 5000,
        "status[]=paid",
        "status[0]=paid",
    ):
        assert (await as_user("alma").get(f"/api/claims?{given}")).status_code in (200, 400), given
    assert stored(as_root) == before
