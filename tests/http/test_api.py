"""The API: login, envelope, pages, bad input, OpenAPI."""

import time
from typing import Any
from uuid import UUID

import httpx
import jwt
import msgspec
import pytest

from app.http.envelope import Envelope
from app.resources import auth, patient_status_events, patients, providers
from app.resources.claims import routes as claims
from app.security.tokens import make_token
from tests.support.cast import KEYS, PASSWORD, caller


@pytest.fixture
def body(cast):
    return {"patientId": str(cast.tom_patient), "providerId": str(cast.ana_provider), "diagnosisCode": "e119",
            "amount": 1250.50, "serviceDate": "2026-01-05"}  # fmt: skip


async def login(client, **given: Any):
    return await client.post("/api/auth/login", json=given)


async def test_login_gives_a_token_that_works(client):
    answer = await login(client, email="Ana@North.test", password=PASSWORD)
    data = answer.json()["data"]
    assert (answer.status_code, data["expiresIn"], data["user"]["role"]) == (200, 900, "provider")
    me = await client.get("/api/auth/me", headers={"Authorization": f"Bearer {data['accessToken']}"})
    assert me.json()["data"] == data["user"]


@pytest.mark.parametrize(
    ("email", "password"), [("ana@north.test", "wrong password"), ("unknown@north.test", PASSWORD)]
)
async def test_a_wrong_login_has_one_answer(client, email, password):
    assert (await login(client, email="ana@north.test", password=PASSWORD)).status_code == 200  # control
    answer = await login(client, email=email, password=password)
    assert (answer.status_code, answer.json()["error"]) == (
        401,
        {
            "code": "UNAUTHORIZED",
            "message": "The credentials are missing, wrong or expired. Log in, and send the access token.",
        },
    )


async def test_the_slug_chooses_among_organizations(client, as_root):
    as_root.execute("update users set email = 'both@both.test' where name = 'Alma'")
    for given, slug in (
        ({}, "north"),
        ({"organizationSlug": "south"}, "south"),
        ({"organizationSlug": "north"}, "north"),
    ):
        answer = await login(client, email="both@both.test", password=PASSWORD, **given)
        # Without a slug the oldest membership's organization.
        assert answer.json()["data"]["user"]["organization"]["slug"] == slug


async def test_a_deactivated_user_is_out_at_the_next_request(client, as_user, as_root, cast):
    assert (await as_user("ana").get("/api/auth/me")).status_code == 200  # control
    as_root.execute("update users set active = false where user_id = %s", [cast.ana])
    assert (await as_user("ana").get("/api/auth/me")).status_code == 401
    assert (await login(client, email="ana@north.test", password=PASSWORD)).status_code == 401


async def test_a_changed_role_holds_from_the_next_request(as_user, as_root, cast):
    assert len((await as_user("alma").get("/api/claims")).json()["data"]) == 2  # control
    as_root.execute("update users set role = 'claims_processor' where user_id = %s", [cast.alma])
    assert (await as_user("alma").get("/api/claims")).json()["data"] == []


async def test_a_suspended_organization_is_out(as_user, as_root, cast):
    as_root.execute("update organizations set suspended_at = now() where organization_id = %s", [cast.organization])
    assert (await as_user("alma").get("/api/auth/me")).status_code == 401
    assert (await as_user("alma", "south").get("/api/auth/me")).status_code == 200  # control


@pytest.mark.parametrize(
    "spoil", ["none", "expired", "unsigned", "other key", "other audience", "no kid", "basic", "garbage"]
)
async def test_a_bad_token_is_no_token(client, cast, spoil):
    ana = caller(cast, "ana")
    good = make_token(ana, KEYS)
    claims_ = jwt.decode(good, options={"verify_signature": False})
    kid = {"kid": "test", "typ": "at+jwt"}
    header = {
        "none": None,
        "expired": "Bearer " + make_token(ana, KEYS, now=time.time() - 1000),
        "unsigned": "Bearer " + jwt.encode(claims_, None, algorithm="none", headers=kid),
        "other key": "Bearer " + make_token(ana, {"test": b"x" * 32}),
        "other audience": "Bearer " + jwt.encode(claims_ | {"aud": "x"}, KEYS["test"], headers=kid),
        "no kid": "Bearer " + jwt.encode(claims_, KEYS["test"], headers={"typ": "at+jwt"}),
        "basic": "Basic " + good,
        "garbage": "Bearer \xff.a.b",
    }[spoil]
    control = await client.get("/api/auth/me", headers={"Authorization": f"Bearer {good}"})
    headers = {"Authorization": header.encode("latin-1")} if header else {}
    answer = await client.get("/api/auth/me", headers=headers)
    assert (control.status_code, answer.status_code, answer.json()["error"]["code"]) == (200, 401, "UNAUTHORIZED")


@pytest.mark.parametrize(("change", "field"), [
    ({"amount": 12.345}, "amount"), ({"amount": 0}, "amount"), ({"amount": -1}, "amount"), ({"amount": 1e12}, "amount"),
    ({"amount": 250_000.01}, "amount"), ({"amount": "x"}, "amount"), ({"amount": None}, "amount"),
    ({"diagnosisCode": "E88.81"}, "diagnosisCode"), ({"diagnosisCode": "A00"}, "diagnosisCode"),
    ({"diagnosisCode": "NOPE"}, "diagnosisCode"), ({"serviceDate": "2999-01-01"}, "serviceDate"),
    ({"serviceDate": "05.01.2026"}, "serviceDate"), ({"patientId": "x"}, "patientId"),
    ({"notes": "a\0b"}, "notes"), ({"notes": "x" * 1001}, "notes"), ({"claimNumber": " "}, "claimNumber"),
    ({"surprise": 1}, "surprise"), ({"status": "paid"}, "status"), ({"draft": "yes"}, "draft"),
])  # fmt: skip
async def test_a_bad_field_is_named_and_nothing_stored(as_user, as_root, body, change, field):
    before = as_root.execute("select count(*) from claims").fetchone()
    answer = await as_user("alma").post("/api/claims", body | change)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "VALIDATION_ERROR")
    assert list(answer.json()["error"]["details"]["fields"]) == [field]
    assert as_root.execute("select count(*) from claims").fetchone() == before
    assert (await as_user("alma").post("/api/claims", body)).status_code == 201  # control


async def test_every_bad_field_is_named_at_once(as_user, body):
    answer = await as_user("alma").post(
        "/api/claims", body | {"amount": "x", "serviceDate": 3, "what": 1, "patientId": "y"}
    )
    assert set(answer.json()["error"]["details"]["fields"]) == {"amount", "serviceDate", "what", "patientId"}
    answer = await as_user("alma").post("/api/claims", body | {"amount": 900_000, "serviceDate": "2999-01-01"})
    assert set(answer.json()["error"]["details"]["fields"]) == {"amount", "serviceDate"}


async def test_another_tenants_patient_is_a_patient_that_does_not_exist(as_user, body, cast, other):
    control = await as_user("alma").post("/api/claims", body)
    theirs = await as_user("alma").post("/api/claims", body | {"patientId": str(other.tom_patient)})
    unknown = await as_user("alma").post("/api/claims", body | {"patientId": str(cast.organization)})
    assert (control.status_code, theirs.status_code) == (201, 400)
    assert theirs.json()["error"] == unknown.json()["error"]


async def test_an_organization_in_a_body_is_ignored(as_user, as_root, body, other, cast):
    answer = await as_user("alma").post("/api/claims", body | {"organizationId": str(other.organization)})
    stored = as_root.execute(
        "select organization_id from claims where claim_id = %s", [answer.json()["data"]["id"]]
    ).fetchone()
    assert stored == (cast.organization,)


@pytest.mark.parametrize(("content", "status", "code"), [
    (b"{", 400, "VALIDATION_ERROR"), (b"[]", 400, "VALIDATION_ERROR"), (b"", 400, "VALIDATION_ERROR"),
    (b'{"notes": "\\ud800"}', 400, "VALIDATION_ERROR"), (b"\xff\xfe", 400, "VALIDATION_ERROR"),
    (b'"' + b"a" * 2_000_000 + b'"', 413, "PAYLOAD_TOO_LARGE"),
])  # fmt: skip
async def test_a_body_that_is_no_claim(as_user, content, status, code):
    answer = await as_user("alma")("POST", "/api/claims", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_a_claim_number_is_unique_in_its_organization_only(as_user, body, casts):
    assert (await as_user("alma").post("/api/claims", body | {"claimNumber": "C-1"})).status_code == 201
    taken = await as_user("alma").post("/api/claims", body | {"claimNumber": "C-1"})
    assert (taken.status_code, taken.json()["error"]["details"]) == (409, {"fields": {"claimNumber": ["Is taken"]}})
    south = casts["south"]
    theirs = body | {"claimNumber": "C-1", "patientId": str(south.tom_patient), "providerId": str(south.ana_provider)}
    assert (await as_user("alma", "south").post("/api/claims", theirs)).status_code == 201


@pytest.mark.parametrize(("path", "field"), [
    ("/api/claims?limit=0", "limit"), ("/api/claims?limit=101", "limit"), ("/api/claims?limit=x", "limit"),
    ("/api/claims?cursor=AAAA", "cursor"), ("/api/claims?offset=10001", "offset"), ("/api/claims?offset=0&cursor=a", "offset"),
    ("/api/claims?status=nope", "status"), ("/api/claims/nope", "id"), ("/api/patient-status/history/7", "patientId"),
])  # fmt: skip
async def test_a_bad_parameter_is_named(as_user, path, field):
    answer = await as_user("alma").get(path)
    assert (answer.status_code, list(answer.json()["error"]["details"]["fields"])) == (400, [field])


async def test_pages_by_cursor_contain_every_claim_once(as_user, body):
    alma = as_user("alma")
    for _ in range(5):
        assert (await alma.post("/api/claims", body)).status_code == 201
    seen, cursor = [], ""
    while cursor is not None:
        page = (await alma.get(f"/api/claims?limit=2{cursor and '&cursor=' + cursor}")).json()
        seen += [one["id"] for one in page["data"]]
        cursor = page["meta"]["pagination"]["nextCursor"]
    assert len(seen) == len(set(seen)) == 7
    pages = (await alma.get("/api/claims?limit=3&offset=6")).json()
    assert pages["meta"]["pagination"] == {"total": 7, "limit": 3, "offset": 6}
    assert [one["id"] for one in pages["data"]] == seen[6:]


async def test_a_cursor_is_valid_for_its_caller_and_its_list_alone(as_user):
    cursor = (await as_user("alma").get("/api/claims?limit=1")).json()["meta"]["pagination"]["nextCursor"]
    assert (await as_user("alma").get(f"/api/claims?limit=1&cursor={cursor}")).status_code == 200  # control
    for who, path in [("pia", "/api/claims?"), ("alma", "/api/claims?status=paid&"), ("alma", "/api/patients?")]:
        assert (await as_user(who).get(f"{path}cursor={cursor}")).status_code == 400
    edited = cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BB")
    assert (await as_user("alma").get(f"/api/claims?cursor={edited}")).status_code == 400


@pytest.mark.parametrize(("path", "shape"), [
    ("/api/claims", list[claims.Claim]), ("/api/claims?offset=0", list[claims.Claim]),
    ("/api/claims/{anas_claim}", claims.ClaimWithHistory), ("/api/patients", list[patients.Patient]),
    ("/api/patients/{tom_patient}", patients.Patient), ("/api/providers", list[providers.Provider]),
    ("/api/providers/{ana_provider}", providers.Provider), ("/api/auth/me", auth.Me),
    ("/api/patient-status/history/{tom_patient}", list[patient_status_events.Event]),
])  # fmt: skip
async def test_every_response_matches_its_struct(as_user, cast, path, shape):
    for who in ("alma", "pia", "ana", "tom"):
        answer = await as_user(who).get(path.format(**cast.ids))
        assert answer.status_code == 200
        msgspec.json.decode(answer.content, type=Envelope[shape], strict=True)


async def test_providers_have_a_check_digit(as_user):
    alma = as_user("alma")
    assert (await alma.post("/api/providers", {"npi": "1679576722", "name": "Cara"})).status_code == 201
    for npi in ("1679576723", "167957672", "abcdefghij"):
        assert (await alma.post("/api/providers", {"npi": npi, "name": "Cara"})).json()["error"]["details"][
            "fields"
        ].keys() == {"npi"}
    assert (await as_user("ana").post("/api/providers", {"npi": "1679576722", "name": "Cara"})).status_code == 403


async def test_a_patient_created_by_a_provider_is_in_its_care(as_user):
    new = {"memberNumber": "M-9", "firstName": "Nils", "lastName": "New", "dateOfBirth": "2000-01-01"}
    made = await as_user("ana").post("/api/patients", new)
    path = made.headers["Location"]
    assert made.status_code == 201
    assert [(await as_user(who).get(path)).status_code for who in ("ana", "alma", "ben", "tom")] == [200, 200, 404, 404]


@pytest.mark.parametrize("born", ["1800-01-01", "2999-01-01"])
async def test_a_date_of_birth_is_in_the_last_150_years(as_user, born):
    new = {"memberNumber": "M-9", "firstName": "Nils", "lastName": "New", "dateOfBirth": born}
    answer = await as_user("alma").post("/api/patients", new)
    assert (answer.status_code, list(answer.json()["error"]["details"]["fields"])) == (400, ["dateOfBirth"])
    # Control.
    assert (await as_user("alma").post("/api/patients", new | {"dateOfBirth": "2001-02-03"})).status_code == 201


async def test_every_response_has_a_request_id(client, as_user):
    answer = await as_user("alma").get("/api/claims", headers={"X-Request-Id": "mine-1"})
    assert (answer.headers["X-Request-Id"], answer.json()["meta"]["requestId"]) == ("mine-1", "mine-1")
    made = [
        (await client.get(path, headers={"X-Request-Id": "not well formed"})).headers["X-Request-Id"]
        for path in ("/api/claims", "/nowhere", "/health")
    ]
    assert [len(one) for one in made] == [36] * 3
    assert [UUID(one).version for one in made] == [4] * 3
    assert len(set(made)) == 3


@pytest.mark.parametrize(
    "path", ["/api/claims", "//api/claims", "/api//claims", "/api/claims/", "/schema/openapi.json"]
)
async def test_an_odd_path_bypasses_no_check(client, path):
    assert (await client.request("GET", httpx.URL(f"http://test{path}"))).status_code in (401, 404)


async def test_unknown_paths_and_methods(client, as_user):
    assert (await client.get("/nowhere")).json()["error"]["code"] == "NOT_FOUND"
    assert (await as_user("alma")("DELETE", "/api/claims")).json()["error"]["code"] == "METHOD_NOT_ALLOWED"


async def test_readiness_names_a_schema_that_was_changed_by_hand(client, as_root):
    parts = ("database", "schema", "keys", "clock", "queue", "workers")
    assert (await client.get("/health/ready")).json() == dict.fromkeys(parts, "ok")
    as_root.execute("alter table claims no force row level security")
    client._transport.app.state.health = (0.0, ("", "", ""))
    answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()["schema"] == "ok") == (503, False)
    assert (await client.get("/health")).status_code == 200


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("sort=x", "Must be one of createdAt, -createdAt, serviceDate, -serviceDate, amount, -amount"),
        ("status=x", "Is not a well-formed status: One or several of draft, submitted, under_review, "),
        ("assignedTo=x", "Is not a well-formed assignedTo: me, none (unassigned), or a user's id"),
        ("diagnosisCode=x", "Is not a well-formed diagnosisCode: An ICD-10-CM code, with or without the dot"),
    ],
)
async def test_the_error_of_a_field_names_what_is_allowed(as_user, query, problem):
    answer = await as_user("alma").get(f"/api/claims?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["fields"][query.partition("=")[0]][0].startswith(problem)


async def test_the_error_of_a_field_in_a_body_names_the_allowed_values(as_user):
    answer = await as_user("alma").post("/api/invitations", {"email": "x@north.test", "role": "x"})
    problem = "Must be one of admin, claims_processor, provider, patient"
    assert (answer.status_code, answer.json()["error"]["details"]["fields"]) == (400, {"role": [problem]})
