"""Headers and methods: none causes an error of the server, none is trusted too much, none smuggles another request."""

import json
from typing import Any

import httpx

from app.main import create_app
from app.security.tokens import make_token
from tests.security.attacks.cases import claim, described, failed_fields, npi, stored
from tests.support.cast import KEYS, caller

VALUES: list[bytes] = [
    b"", b" ", b"'", b"'; drop table claims; --", b"%s %(x)s", b"$1", b"*", b'"', b'"1', b'"1"', b'W/"1"', b'"1", "2"', b'"\xb2"',
    b'"999999999999999999999"', b",", b'"' + b",".join([b'"'] * 2000), b"\xff\xfe", b"\xc3\xa9", b"text/csv;q=\xb2", b"text/csv;q=",
    b"text/csv;q=1e9,*/*;q=nan", b"text/csv;q=-1", b";;;,,,", b"application/json; charset=\xff", b"Bearer", b"Bearer ", b"Bearer a.b.c",
    b"Basic YTpi", b"a" * 300, b"a" * 60_000, b"\x01\x02", b"{}", b"null", b"../../etc/passwd", b"\t",
]  # fmt: skip
READ = ["X-Request-Id", "Idempotency-Key", "If-Match", "Accept", "Authorization", "Content-Type", "Host"]
NAMES = [
    *READ,
    "Accept-Encoding",
    "Cookie",
    "X-Forwarded-For",
    "Origin",
    "Range",
    "Content-Encoding",
    "Expect",
    "If-None-Match",
]


def bearer(who: Any, name: str = "alma") -> bytes:
    return b"Bearer " + make_token(caller(who, name), KEYS).encode()


async def test_no_header_causes_a_server_error(client, as_root, cast):
    tables, bad = stored(as_root).keys(), (400, 401, 406, 409, 412, 413, 415, 422)
    requests = [
        ("GET", "/api/claims/export", None), ("PATCH", f"/api/claims/{cast.anas_claim}", {"notes": "n"}),
        ("POST", "/api/claims", claim(cast)),
    ]  # fmt: skip
    for name in NAMES:
        for value in VALUES:
            for method, path, body in requests if name in READ else requests[1:2]:
                headers = {"Authorization": bearer(cast), "Content-Type": b"application/json"} | {name: value}
                answer = await client.request(method, path, content=body and json.dumps(body), headers=headers)
                assert answer.is_success or answer.status_code in bad, (name, value, path, answer.text)
                echoed = answer.headers["X-Request-Id"]
                assert echoed.isascii(), (name, value)
                assert len(echoed) <= 128, (name, value)
    assert stored(as_root).keys() == tables


async def test_a_duplicate_header_is_refused(client, cast, other):
    """A proxy and the API might choose different ones of the two."""
    kind = ("Content-Type", b"application/json")
    for pair in (
        [bearer(cast), bearer(other)],
        [bearer(cast), bearer(cast)],
        [bearer(cast), b"Bearer x"],
        [b"Basic x", bearer(cast)],
    ):
        answer = await client.get("/api/auth/me", headers=[("Authorization", one) for one in pair])
        assert answer.status_code == 401, pair
    assert (await client.get("/api/auth/me", headers={"Authorization": bearer(cast)})).status_code == 200  # control
    for keys in (["a", "b"], ["a", "a"]):
        headers = [("Authorization", bearer(cast)), kind, *(("Idempotency-Key", one) for one in keys)]
        answer = await client.post("/api/claims", content=json.dumps(claim(cast)), headers=headers)
        assert (answer.status_code, failed_fields(answer)) == (400, ["Idempotency-Key"])
    ids = [("X-Request-Id", "first"), ("X-Request-Id", "second")]
    assert len((await client.get("/health", headers=ids)).headers["X-Request-Id"]) == 36
    path, two = f"/api/claims/{cast.anas_claim}", [("If-Match", '"7"'), ("If-Match", '"8"')]
    headers = [("Authorization", bearer(cast)), kind, *two]
    assert (await client.patch(path, content=b'{"notes": "n"}', headers=headers)).status_code in (400, 412)


async def test_the_recorded_address_is_that_of_the_connection(settings, as_root, cast):
    """No header of a client changes the address of a request."""
    app = create_app(settings)
    told = dict.fromkeys(
        ("X-Forwarded-For", "X-Real-IP", "Client-IP", "True-Client-IP", "CF-Connecting-IP"), "203.0.113.7"
    )
    told |= {"Forwarded": "for=203.0.113.7", "Authorization": bearer(cast).decode()}
    async with app.lifespan():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, client=("198.51.100.4", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (
                await client.post("/api/providers", json={"npi": npi(), "name": "P"}, headers=told)
            ).status_code == 201
            await client.post("/api/auth/login", json={"email": "ana@north.test", "password": "wrong"}, headers=told)
    found = as_root.execute("select action, address from audit_logs where address like '%%.%%' order by at").fetchall()
    assert found == [("create", "198.51.100.4"), ("login_failed", "198.51.100.4")]


KINDS = {
    201: ("application/json", "application/json; charset=utf-8", "APPLICATION/JSON", None),
    415: ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp", "text/json",
          "application/json, text/plain", "application/x-ndjson", "application/msgpack", "image/svg+xml"),
}  # fmt: skip


async def test_a_body_must_be_declared_as_json(as_user, as_root, cast):
    """A browser sends text and forms to foreign sites without a preflight request, but not JSON."""
    for status, kinds in KINDS.items():
        for kind in kinds:
            before = stored(as_root)
            options = {"content": json.dumps(claim(cast)), "headers": {"Content-Type": kind} if kind else {}}
            assert (await as_user("alma")("POST", "/api/claims", **options)).status_code == status, kind
            assert (stored(as_root) == before) == (status == 415), kind


async def test_json_in_another_encoding_is_refused(as_user, as_root, cast):
    before, text = stored(as_root), json.dumps(claim(cast))
    for content in (
        text.encode("utf-16"),
        text.encode("utf-32"),
        text.encode("utf-7") + b"+",
        b"&a=1",
    ):
        options = {"content": content, "headers": {"Content-Type": "application/json; charset=utf-16"}}
        answer = await as_user("alma")("POST", "/api/claims", **options)
        assert (answer.status_code, failed_fields(answer)) == (400, ["body"])
    assert stored(as_root) == before


async def test_a_method_cannot_be_overridden(client, as_user, as_root, cast):
    before, path = stored(as_root), f"/api/claims/{cast.anas_claim}"
    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"):
        for method, asked, status in (("GET", "PATCH", 200), ("POST", "PATCH", 405), ("OPTIONS", "PATCH", 204)):
            options = {"json": {"notes": "overridden"}, "headers": {name: asked}}
            assert (await as_user("alma")(method, path, **options)).status_code == status, (name, method)
        answer = await as_user("alma").get(f"/api/claims?{name}=POST")
        assert answer.status_code == 400, name
    for method in ("TRACE", "CONNECT", "PROPFIND", "get", "QUERY", "DELETE", "A" * 200):
        assert (await as_user("alma")(method, path)).status_code in (200, 404, 405), method
    assert stored(as_root) == before
    assert (await as_user("alma").patch(path, {"notes": "n"})).status_code == 200  # control
    for operation in await described(client):  # OPTIONS returns methods, and nothing of the row
        answer = await client.options(operation.filled(cast))
        assert (answer.status_code, answer.content) == (204, b""), operation.name
        assert operation.method in answer.headers["Allow"], operation.name


async def test_no_spelling_of_a_path_bypasses_authentication(client, cast, as_user):
    """Every operation that is not public requires a token, however its path is spelled."""
    for operation in await described(client):
        if operation.public:
            continue
        path = operation.filled(cast)
        for spelled in (path, f"/{path}", f"{path}/", path.replace("/api/", "/api//"), path.replace("/api/", "/api/./"), f"{path}%2f",
                        path.replace("/api/", "/docs/static/../api/"), path.replace("a", "%61"), path.upper(), f"{path};a=b",
                        f"{path}%00", f"{path}?public=true", path.replace("/api/", "/health/../api/")):  # fmt: skip
            answer = await client.request(operation.method, httpx.URL(f"http://test{spelled}"))
            assert answer.status_code in (401, 404, 405), (operation.name, spelled)
            assert "data" not in answer.json(), spelled
    for escape in (
        "../app/main.py",
        "%2e%2e/%2e%2e/etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "....//",
        "/etc/passwd",
        "~root",
    ):
        answer = await client.get(httpx.URL(f"http://test/docs/static/{escape}"))
        assert answer.status_code in (400, 401, 404, 405), escape
    assert (await client.get("/docs/static/swagger-ui.css")).status_code == 200  # control


async def test_a_body_of_a_get_is_ignored(as_user, as_root, client, cast, other):
    before = stored(as_root)
    for operation in await described(client):
        if operation.method == "GET":
            path = operation.filled(cast)
            options = {"json": {"organizationId": str(other.organization), "patientId": str(other.tom_patient)}}
            plain, sent = await as_user("alma").get(path), await as_user("alma")("GET", path, **options)
            assert sent.status_code == plain.status_code == 200, path
            assert not [one for one in other.ids.values() if str(one) in sent.text], path
    assert stored(as_root) == before
