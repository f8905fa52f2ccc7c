"""Texts of requests: white space alone is none, numbers lose it at their ends, and "" means "not given" for optional fields."""

import re
import sys
import unicodedata
from typing import Any
from uuid import uuid4

import msgspec
import psycopg
import pytest

from app.errors import Invalid
from app.http.schemas import NOT_BLANK, WHITE_SPACE, Name, Number, RequestBody, Text, parts
from app.http.validation import decode_json
from app.main import create_app
from tests.http.test_import_export import bring, line
from tests.support.databases import settings_for
from tests.support.responses import problem

UNSEEN = [
    chr(code) for code in range(1, sys.maxunicode + 1) if unicodedata.category(chr(code)) in ("Cc", "Cf", "Zl", "Zp")
]
SPACES = " \t\n\x0b\x0c\r\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000"
BLANKS = [" ", "   ", "\t\n", "\xa0", "\u3000\u2003", "\u2028", "\u200b", " \u200b\u2060 ", "\ufeff", "\x1f"]
BAD_NUMBERS = [
    "A\u200b1",
    "A\x001",
    "A\n1",
    "A\t1",
    "\u200bA1",
    "A1\ufeff",
    "A\u202e1",
    "A\u20281",
    "A\x7f1",
    "A\xad1",
    "A\x1f",
    "A\U000e0041",
]
"""Of the last one SQL decides, because patterns of JSON schemas contain no character outside the Basic Multilingual Plane."""


def test_sql_and_the_character_database_agree(as_root):
    """A later version of Unicode may have more characters of these categories than Python's."""
    rows = as_root.execute(
        "select code, not is_clean_number('a' || chr(code) || 'a'), is_blank(chr(code)), trim_number(chr(code)) = '' "
        "from generate_series(1, 1114111) code where code not between 55296 and 57343"
    ).fetchall()
    invisible = {chr(code) for code, unclean, _, _ in rows if unclean}
    assert set(UNSEEN) <= invisible
    assert {unicodedata.category(one) for one in invisible - set(UNSEEN)} <= {"Cn"}
    spaces = {chr(code) for code, _, _, trimmed in rows if trimmed}
    assert (
        spaces
        == set(WHITE_SPACE)
        == {one for one in map(chr, range(0x3001)) if one.isspace()} - set("\x1c\x1d\x1e\x1f")
    )
    assert {chr(code) for code, _, blank, _ in rows if blank} == invisible | spaces


def test_the_patterns_and_the_character_database_agree():
    (number,) = [part.pattern for part in parts(Number) if isinstance(part, msgspec.Meta)]
    for code in (*range(1, 0xD800), *range(0xE000, 0x10000)):
        one, unseen, blank = chr(code), chr(code) in UNSEEN, chr(code) in UNSEEN or chr(code) in WHITE_SPACE
        assert bool(re.search(number, f"a{one}a")) != unseen, hex(code)
        assert bool(re.search(number, f"{one}a{one}")) == (one in WHITE_SPACE or not unseen), hex(code)
        assert bool(re.search(NOT_BLANK, f"{one} {one}")) != blank, hex(code)
        assert bool(re.search(number, one)) != blank, hex(code)


def bodies() -> list[type[RequestBody]]:
    """The struct of every request body, nested ones included."""
    create_app(settings_for("postgresql:///", "none"))
    found, rest = [], [RequestBody]
    while rest:
        found += (subclasses := rest.pop().__subclasses__())
        rest += subclasses
    return [one for one in found if one.__module__.startswith("app.")]


SAMPLE = {
    "patientId": str(uuid4()), "providerId": str(uuid4()), "diagnosisCode": "I10", "amount": 1, "serviceDate": "2026-01-05",
    "claimIds": [str(uuid4())], "status": "submitted", "userId": None, "toUserId": None, "memberNumber": "M", "firstName": "F",
    "lastName": "L", "dateOfBirth": "2000-01-01", "npi": "1234567893", "name": "N", "eventType": "admission",
    "occurredAt": "2026-01-05T10:00:00Z", "email": "a@b.test", "role": "admin", "password": "correct horse battery",
    "refreshToken": "x", "currentPassword": "x", "newPassword": "correct horse battery",
}  # fmt: skip
WITH = {"Registration": {"organizationName": "O", "email": "a@b.test"}}
"""Optional fields of which a body needs some."""


def required(shape: type[RequestBody]) -> dict[str, Any]:
    names = [field.encode_name for field in msgspec.structs.fields(shape) if field.required]
    return {name: SAMPLE[name] for name in names} | WITH.get(shape.__name__, {})


def test_an_empty_string_means_not_given_in_every_optional_field():
    tried = 0
    for shape in bodies():
        body = required(shape)
        for field in msgspec.structs.fields(shape):
            name, nullable = field.encode_name, type(None) in parts(field.type)
            if field.name == "organization_id" or name in body:
                continue
            if not nullable and field.default is msgspec.UNSET:  # of a change: such a field can't be emptied
                with pytest.raises(Invalid) as caught:
                    decode_json(shape, msgspec.json.encode(body | {name: ""}))
                assert list(caught.value.details["fields"]) == [name]
                continue
            empty = decode_json(shape, msgspec.json.encode(body | {name: ""}))
            assert getattr(empty, field.name) == (None if nullable else field.default), (shape, name)
            assert empty == decode_json(shape, msgspec.json.encode(body | {name: None})), (shape, name)
            tried += 1
    assert tried > 25  # control


def test_white_space_is_no_text_in_any_field():
    tried = set()
    for shape in bodies():
        for field in msgspec.structs.fields(shape):
            if {Text, Name, Number}.isdisjoint(parts(field.type)) and field.name not in ("denial_code", "phone"):
                continue
            for blank in BLANKS:
                with pytest.raises(Invalid) as caught:
                    decode_json(shape, msgspec.json.encode(required(shape) | {field.encode_name: blank}))
                assert field.encode_name in caught.value.details["fields"], (shape, blank)
            tried.add(f"{shape.__name__}.{field.name}")
    assert {
        "NewClaim.claim_number", "ClaimChange.reason", "BulkMove.denial_reason", "NewPatient.first_name", "PatientChange.phone",
        "NewProvider.specialty", "OrganizationChange.name", "NewEvent.facility", "NewEvent.visit_number", "Registration.organization_name",
        "Registration.name", "ClaimChange.denial_code",
    } <= tried  # fmt: skip


async def test_numbers_lose_white_space_on_every_way_in(as_user, cast):
    alma = as_user("alma")
    claim = {"patientId": str(cast.tom_patient), "providerId": str(cast.ana_provider), "diagnosisCode": "I10", "amount": 1,
             "serviceDate": "2026-01-05"}  # fmt: skip
    made = await alma.post("/api/claims", claim | {"claimNumber": f"{SPACES}C 1{SPACES}"})
    assert (made.status_code, made.json()["data"]["claimNumber"]) == (201, "C 1")
    assert problem(await alma.post("/api/claims", claim | {"claimNumber": "\u3000C 1"})) == (409, ["claimNumber"])
    assert len((await alma.get("/api/claims?claimNumber=%20C%201")).json()["data"]) == 1
    (imported,) = await bring(alma, line(cast, claimNumber="\u2003C 2\n"))
    assert (await alma.get(f"/api/claims/{imported['id']}")).json()["data"]["claimNumber"] == "C 2"
    patient = {"memberNumber": " \xa0M 9\u3000", "firstName": " F ", "lastName": "L", "dateOfBirth": "2000-01-01"}
    made = await as_user("ana").post("/api/patients", patient)
    assert (made.status_code, made.json()["data"]["memberNumber"], made.json()["data"]["firstName"]) == (
        201,
        "M 9",
        " F ",
    )
    path = f"/api/patients/{made.json()['data']['id']}"
    assert (await alma.patch(path, {"memberNumber": "\u2028M 10 "})).json()["data"]["memberNumber"] == "M 10"
    event = {"patientId": str(cast.tom_patient), "eventType": "admission", "occurredAt": "2026-01-05T10:00:00Z",
             "visitNumber": "\tV 1\u3000", "idempotencyKey": "k"}  # fmt: skip
    made = await alma.post("/api/patient-status", event)
    assert (made.status_code, made.json()["data"]["visitNumber"]) == (202, "V 1")
    assert (await alma.post("/api/patient-status", event | {"visitNumber": "V 1"})).status_code == 200


@pytest.mark.parametrize("number", [*BLANKS, *BAD_NUMBERS])
async def test_a_number_with_invisible_characters_is_refused(as_user, cast, number):
    alma = as_user("alma")
    claim = {"patientId": str(cast.tom_patient), "providerId": str(cast.ana_provider), "diagnosisCode": "I10", "amount": 1,
             "serviceDate": "2026-01-05"}  # fmt: skip
    event = {"patientId": str(cast.tom_patient), "eventType": "admission", "occurredAt": "2026-01-05T10:00:00Z"}
    patient = {"firstName": "F", "lastName": "L", "dateOfBirth": "2000-01-01"}
    assert problem(await alma.post("/api/claims", claim | {"claimNumber": number})) == (400, ["claimNumber"])
    assert problem(await alma.post("/api/patient-status", event | {"visitNumber": number})) == (400, ["visitNumber"])
    assert problem(await alma.post("/api/patients", patient | {"memberNumber": number})) == (400, ["memberNumber"])
    changed = await alma.patch(f"/api/patients/{cast.tom_patient}", {"memberNumber": number})
    assert problem(changed) == (400, ["memberNumber"])
    (failed,) = await bring(alma, line(cast, claimNumber=number))
    assert (failed["result"], list(failed["error"]["fields"])) == ("failed", ["claimNumber"])


CLAIM = "insert into claims (claim_number, patient_id, provider_id, diagnosis_code, amount_cents, service_date) values (%(text)s, " \
    "%(tom_patient)s, %(ana_provider)s, 'I10', 100, '2026-01-05')"  # fmt: skip
PATIENT = "insert into patients (member_number, first_name, last_name, date_of_birth) values ({}, '2000-01-01')"
EVENT = "insert into patient_status_events (patient_id, event_type, occurred_at, {}) values (%(tom_patient)s, 'admission', now(), %(text)s)"
IN_SQL = {
    "claimNumber": CLAIM,
    "memberNumber": PATIENT.format("%(text)s, 'F', 'L'"),
    "firstName": PATIENT.format("'M-9', %(text)s, 'L'"),
    "lastName": PATIENT.format("'M-9', 'F', %(text)s"),
    "visitNumber": EVENT.format("visit_number"),
    "facility": EVENT.format("facility"),
    "name": "update providers set name = %(text)s where provider_id = %(ana_provider)s",
    "specialty": "update providers set specialty = %(text)s where provider_id = %(ana_provider)s",
    "name ": "update organizations set name = %(text)s",
    "reason": "update claims set status = 'pending_info', status_reason = %(text)s where claim_id = %(anas_claim)s",
    "denialReason": "update claims set status = 'rejected', denial_reason = %(text)s where claim_id = %(anas_claim)s",
    "denialCode": "update claims set status = 'rejected', denial_reason = 'no', denial_code = %(text)s where claim_id = %(anas_claim)s",
}
"""Statements that store a text, by its field in the API."""


@pytest.mark.parametrize("field", IN_SQL)
def test_sql_refuses_a_blank_text(as_role, cast, field):
    for text in (" ", "\u3000", "\u200b"):
        with pytest.raises(psycopg.Error) as caught:
            as_role("alma").execute(IN_SQL[field], cast.ids | {"text": text})
        assert caught.value.sqlstate == "INVAL", caught.value
        assert list(msgspec.json.decode(caught.value.diag.message_detail)) == [field.strip()]
    assert as_role("alma").execute(IN_SQL[field], cast.ids | {"text": " x "}).rowcount == 1  # control


@pytest.mark.parametrize(("field", "table", "column"), [
    ("claimNumber", "claims", "claim_number"), ("memberNumber", "patients", "member_number"),
    ("visitNumber", "patient_status_events", "visit_number"),
])  # fmt: skip
def test_sql_trims_numbers_and_refuses_invisible_characters(as_role, cast, field, table, column):
    connection = as_role("alma")
    connection.execute(IN_SQL[field], cast.ids | {"text": "\u3000X 1\n"})
    assert connection.execute(f"select from {table} where {column} = 'X 1'").rowcount == 1
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(IN_SQL[field], cast.ids | {"text": "X\u200b1"})
    assert caught.value.sqlstate == "INVAL"


def test_a_users_name_is_not_blank(as_root, cast):
    add = "select auth.add_user('b@north.test', %s, 'admin', null, null, 'x')"
    with as_root.transaction(force_rollback=True):
        as_root.execute("select set_config('app.organization_id', %s, true)", [str(cast.organization)])
        as_root.execute("select context.establish(%s)", [cast.organization])
        assert as_root.execute(add, ["B"]).rowcount == 1  # control
        with pytest.raises(psycopg.Error) as caught:
            as_root.execute(add.replace("b@", "c@"), ["\u3000"])
    assert caught.value.sqlstate == "INVAL"
