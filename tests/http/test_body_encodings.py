"""Request bodies: content codings that are not understood are 415, and one byte order mark is dropped."""

import gzip
import json
import zlib

import pytest

from tests.http.test_import_export import NDJSON, line
from tests.security.attacks.cases import claim, event, patient
from tests.support.cast import PASSWORD
from tests.support.responses import problem

BOM = b"\xef\xbb\xbf"
JSON = {"Content-Type": "application/json"}


def bodies(cast):
    """A request with a body for each kind of route: method, path, content type, body, user, and status if it is well-formed."""
    login = {"email": "alma@north.test", "password": PASSWORD, "organizationSlug": "north"}
    return {
        "create": ("POST", "/api/claims", JSON, claim(cast), "alma", 201),
        "change": ("PATCH", f"/api/claims/{cast.anas_claim}", JSON, {"notes": "seen"}, "alma", 200),
        "assign": ("PUT", f"/api/claims/{cast.anas_claim}/assignment", JSON, {"userId": str(cast.pia)}, "alma", 200),
        "import": ("POST", "/api/claims/import", NDJSON, line(cast), "alma", 200),
        "patient": ("POST", "/api/patients", JSON, patient(), "alma", 201),
        "event": ("POST", "/api/patient-status", JSON, event(cast), "alma", 202),
        "login": ("POST", "/api/auth/login", JSON, login, None, 200),
        "refresh": ("POST", "/api/auth/refresh", JSON, {"refreshToken": "x"}, None, 401),
        "register": ("POST", "/api/auth/register", JSON, {"name": "x"}, None, 400),
        "logout": ("POST", "/api/auth/logout", JSON, {}, "alma", 204),
    }


async def send(client, as_user, case, transform=lambda body: body, headers=()):
    method, path, type_, body, who, _ = case
    body = body if isinstance(body, str) else json.dumps(body)
    user = as_user(who) if who else client.request
    return await user(method, path, content=transform(body.encode()), headers=type_ | dict(headers))


@pytest.mark.parametrize("name", ["create", "change", "assign", "import", "patient", "event", "login",
                                                                "refresh", "register", "logout"])  # fmt: skip
async def test_a_coding_that_is_not_understood_is_415_on_every_route_with_a_body(client, as_user, cast, name):
    case = bodies(cast)[name]
    for coding, transform in (("gzip", gzip.compress), ("deflate", zlib.compress), ("br", bytes)):
        answer = await send(client, as_user, case, transform, [("Content-Encoding", coding)])
        assert (problem(answer), answer.headers["Accept-Encoding"]) == ((415, ["Content-Encoding"]), "identity"), coding
        assert answer.json()["error"]["code"] == "UNSUPPORTED_MEDIA_TYPE"
    control = await send(client, as_user, case, headers=[("Content-Encoding", "identity")])
    assert control.status_code == case[5], control.text


@pytest.mark.parametrize(("coding", "accepted"), [
    ("identity", True), ("IDENTITY", True), ("", True), (" ", True), (",", True), ("identity, identity", True), (" identity ,", True),
    ("gzip", False), ("GZIP", False), ("x-gzip", False), ("zstd", False), ("compress", False), ("gzip, identity", False),
    ("identity, gzip", False), ("gzip;q=1", False), ("identity;q=1", False), ("*", False), ("utf-8", False), ("aws-chunked", False),
])  # fmt: skip
async def test_which_codings_are_understood(as_user, cast, coding, accepted):
    answer = await as_user("alma")(
        "POST", "/api/patients", content=json.dumps(patient()), headers=JSON | {"Content-Encoding": coding}
    )
    assert answer.status_code == (201 if accepted else 415)


@pytest.mark.parametrize(
    ("lines", "status"), [(["identity", "gzip"], 415), (["gzip", "gzip"], 415), (["identity", "identity"], 201)]
)
async def test_several_header_lines_are_one_list(client, as_user, cast, lines, status):
    request = client.build_request(
        "POST", "/api/patients", content=json.dumps(patient()), headers=JSON | dict(as_user("alma")._headers)
    )
    request.headers = type(request.headers)(
        [*request.headers.raw, *((b"Content-Encoding", one.encode()) for one in lines)]
    )
    assert (await client.send(request)).status_code == status


async def test_a_request_without_a_body_may_name_a_coding(as_user, cast):
    gzipped = {"Content-Encoding": "gzip"}
    assert (await as_user("alma")("GET", f"/api/claims/{cast.anas_claim}", headers=gzipped)).status_code == 200
    assert (await as_user("alma")("OPTIONS", "/api/claims", headers=gzipped)).status_code == 204


async def test_a_wrong_content_type_names_the_right_one(as_user, cast):
    for path, type_, accepted in (
        ("/api/claims", "text/plain", "application/json"),
        ("/api/claims/import", "application/json", "application/x-ndjson"),
    ):
        answer = await as_user("alma")("POST", path, content=b"{}", headers={"Content-Type": type_})
        assert problem(answer) == (415, ["Content-Type"])
        assert answer.headers["Accept"].startswith(accepted)
        assert accepted in answer.json()["error"]["details"]["fields"]["Content-Type"][0]
        assert "Accept-Encoding" not in answer.headers


@pytest.mark.parametrize("name", ["create", "change", "assign", "patient", "event", "login", "logout"])
async def test_one_mark_before_a_body_is_dropped(client, as_user, cast, name):
    case = bodies(cast)[name]
    answer = await send(client, as_user, case, lambda body: BOM + body)
    assert answer.status_code == case[5], answer.text


@pytest.mark.parametrize("body", [BOM + BOM + b"{}", b"{}" + BOM, b"{" + BOM + b"}", b" " + BOM + b"{}", BOM])
async def test_a_mark_elsewhere_is_an_error(as_user, cast, body):
    answer = await as_user("alma")("POST", "/api/claims", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["error"]["details"]["fields"]) == (
        400,
        {"body": ["Is not well-formed JSON"]},
    )


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "latin-1"]
)
async def test_another_encoding_is_named(as_user, cast, encoding):
    body = json.dumps(claim(cast) | {"notes": "caf\xe9"}, ensure_ascii=False).encode(encoding)
    answer = await as_user("alma")("POST", "/api/claims", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["error"]["details"]["fields"]) == (400, {"body": ["Must be UTF-8"]})


async def test_a_mark_does_not_change_what_an_idempotency_key_stands_for(as_user, cast):
    body, headers = json.dumps(patient()).encode(), JSON | {"Idempotency-Key": "k"}
    first = await as_user("alma")("POST", "/api/patients", content=body, headers=headers)
    again = await as_user("alma")("POST", "/api/patients", content=BOM + body, headers=headers)
    assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
