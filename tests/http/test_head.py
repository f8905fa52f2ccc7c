"""HEAD works where GET does: the same status and headers, no body, and the same audit entry."""

import asyncio
import json

import pytest

from app.http import ndjson
from app.security.tokens import make_token
from tests.http.test_import_export import NDJSON, line
from tests.load.harness import served
from tests.support.cast import KEYS, caller

VARYING = {"x-request-id", "date", "ratelimit-remaining", "ratelimit-reset", "content-length"}


def gets(client):
    """The path of every GET route of the application."""
    return [route for route in client._transport.app.routes if "GET" in getattr(route, "methods", ())]


@pytest.fixture
def path_of(cast):
    ids = {"/api/claims": cast.anas_claim, "/api/patients": cast.tom_patient, "/api/providers": cast.ana_provider}

    def fill(template):
        path = template.replace("{patientId:str}", str(cast.tom_patient)).replace("{file_path:path}", "swagger-ui.css")
        return path.replace("{id:str}", str(ids.get(template.rsplit("/", 1)[0], cast.tom_patient)))

    return fill


async def test_every_get_has_a_head_with_the_same_headers(client, as_user, path_of):
    templates = [route.path for route in gets(client)]
    assert len(templates) > 20
    for template in templates:
        path = path_of(template)
        (head, get) = [await as_user("alma")(method, path, follow_redirects=False) for method in ("HEAD", "GET")]
        assert head.status_code == get.status_code < 400, (path, head.status_code, get.status_code)
        assert head.content == b"", path
        assert {*head.headers} == {*get.headers}, path
        for name in {*get.headers} - VARYING:
            assert head.headers[name] == get.headers[name], (path, name)
        if "content-length" in get.headers:  # the audit log has one more entry, that of the HEAD
            assert int(head.headers["content-length"]) == len(get.content) or path == "/api/audit-logs"


@pytest.mark.parametrize(("path", "status"), [
    ("/api/claims/{nothing}", 404), ("/api/claims/x", 400), ("/api/claims?nope=1", 400), ("/nowhere", 404), ("/api/auth/login", 405),
])  # fmt: skip
async def test_an_error_has_the_status_and_length_of_the_get(as_user, cast, path, status):
    path = path.format(nothing=cast.organization)
    head, get = [await as_user("alma")(method, path) for method in ("HEAD", "GET")]
    assert (head.status_code, get.status_code, head.content) == (status, status, b"")
    assert head.headers["Content-Length"] == get.headers["Content-Length"]


async def test_a_head_needs_a_login_like_a_get(client, cast):
    assert (await client.head(f"/api/claims/{cast.anas_claim}")).status_code == 401


@pytest.mark.parametrize(
    "path", ["/api/claims", "/api/auth/login", "/docs", "/docs/static/swagger-ui.css", "/health", "/"]
)
async def test_allow_lists_head_wherever_it_lists_get(client, as_user, path):
    options = await as_user("alma")("OPTIONS", path)
    refused = await as_user("alma")("TRACE", path)
    assert (options.status_code, refused.status_code) == (204, 405)
    for answer in (options, refused):
        allowed = answer.headers["Allow"].split(", ")
        assert allowed == sorted(allowed)
        assert ("HEAD" in allowed) == ("GET" in allowed) == (path != "/api/auth/login")
    assert refused.json()["error"]["details"]["allowed"] == options.headers["Allow"].split(", ")


async def test_a_head_of_what_is_recorded_is_recorded(as_user, as_root, cast):
    path = f"/api/claims/{cast.anas_claim}"
    for number, method in enumerate(("GET", "HEAD"), 1):
        assert (await as_user("alma")(method, path)).status_code == 200
        count = as_root.execute(
            "select count(*) from audit_logs where action = 'read' and entity_id = %s", [cast.anas_claim]
        )
        assert count.fetchone() == (number,)
    assert (await as_user("alma")("HEAD", "/api/claims/export")).status_code == 200
    assert as_root.execute("select count(*) from audit_logs where action = 'export'").fetchone() == (1,)
    assert (await as_user("alma")("HEAD", f"/api/claims/{cast.organization}")).status_code == 404
    (denied,) = as_root.execute("select after from audit_logs where action = 'denied'").fetchall()
    assert denied[0]["method"] == "HEAD"


async def test_a_head_of_an_export_reads_one_page(as_user, cast, monkeypatch):
    monkeypatch.setattr(ndjson, "PAGE_SIZE", 2)
    lines = "\n".join(line(cast) for _ in range(10))
    await as_user("alma")("POST", "/api/claims/import", content=lines, headers=NDJSON)
    pages = []
    original = ndjson.rows

    async def counted(parts):
        async for part in original(parts):
            pages.append(part)
            yield part

    monkeypatch.setattr(ndjson, "rows", counted)
    assert (await as_user("alma")("HEAD", "/api/claims/export")).status_code == 200
    assert len(pages) == 1
    assert len((await as_user("alma").get("/api/claims/export")).text.splitlines()) == 12  # control
    assert len(pages) > 5


async def raw(address, *requests):
    """Sends the requests over one connection, all at once, and returns everything that the server sends."""
    host, port = address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"".join(requests))
    received = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return received


def request(method, path, token, *headers, body=b""):
    lines = [f"{method} {path} HTTP/1.1", "Host: test", f"Authorization: Bearer {token}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def responses(received, *methods):
    """The statuses and bodies of the responses to requests with these methods, parsed by the rules of HTTP/1.1."""
    found = []
    for method in methods:
        head, _, received = received.partition(b"\r\n\r\n")
        fields = dict(one.lower().split(b": ", 1) for one in head.split(b"\r\n")[1:])
        status = int(head.split(b" ")[1])
        body = b""
        if method != "HEAD" and status not in (204, 304):
            if fields.get(b"transfer-encoding") == b"chunked":
                while True:
                    size, _, received = received.partition(b"\r\n")
                    body, received = body + received[: int(size, 16)], received[int(size, 16) + 2 :]
                    if size == b"0":
                        break
            else:
                length = int(fields.get(b"content-length", b"0"))
                body, received = received[:length], received[length:]
        found.append((status, body))
    assert received == b"", received[:200]
    return found


async def test_a_connection_stays_in_step_after_a_head_a_304_and_a_415(settings, cast):
    """The raw bytes of a kept connection: the next response begins where the one before ends."""
    token = make_token(caller(cast, "alma"), KEYS)
    claim, close = f"/api/claims/{cast.anas_claim}", "Connection: close"
    gzipped = b"\x1f\x8b" + bytes(300_000)
    with served(settings) as (address, _):
        received = await raw(
            address,
            request("HEAD", claim, token),
            request("HEAD", "/api/claims/export", token),
            request("HEAD", "/docs/static/swagger-ui-bundle.js", token),
            request("HEAD", "/", token),
            request("HEAD", "/nowhere", token),
            request("GET", claim, token, 'If-None-Match: "99", W/"2"'),
            request("HEAD", claim, token, "If-None-Match: *"),
            request("GET", "/docs/static/swagger-ui.css", token, "If-None-Match: *"),
            request("POST", "/api/claims", token, "Content-Encoding: gzip", "Content-Length: 300002", body=gzipped),
            request("GET", "/", token),
            request("GET", claim, token, close),
        )
    methods = ["HEAD"] * 5 + ["GET", "HEAD", "GET", "POST", "GET", "GET"]
    found = responses(received, *methods)
    assert [status for status, _ in found] == [200, 200, 200, 307, 404, 304, 304, 304, 415, 307, 200]
    assert json.loads(found[-1][1])["data"]["id"] == str(cast.anas_claim)


@pytest.mark.parametrize("path", ["/api/claims", "/api/claims/import", "/api/auth/login"])
async def test_a_body_refused_before_it_is_sent_may_still_be_sent(settings, cast, path):
    """A client that waited for 100 Continue gets the final status instead. If the connection is kept, its body is dropped."""
    token = make_token(caller(cast, "alma"), KEYS)
    with served(settings) as (address, _):
        host, port = address.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            request("POST", path, token, "Content-Encoding: gzip", "Expect: 100-continue", "Content-Length: 50")
        )
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        assert head.startswith(b"HTTP/1.1 415"), head
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        assert (
            json.loads(await asyncio.wait_for(reader.readexactly(length), 20))["error"]["code"]
            == "UNSUPPORTED_MEDIA_TYPE"
        )
        if b"connection: close" not in head.lower():
            writer.write(b"x" * 50 + request("GET", "/health", token, "Connection: close"))
            assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 200")
        writer.close()


@pytest.mark.parametrize(("path", "headers", "status"), [
    ("/api/claims", [f"X-{n}: 1" for n in range(101)], 431), ("/" + "a" * 2000, [], 404), ("/api/claims", ["X: " + "a" * 70_000], 431),
])  # fmt: skip
async def test_a_head_refused_by_the_protocol_has_no_body(settings, path, headers, status):
    with served(settings) as (address, _):
        for method in ("HEAD", "GET"):
            head, _, body = (await raw(address, request(method, path, "x", *headers))).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d" % status), head
            assert f"content-length: {len(body)}".encode() in head or method == "HEAD"
            assert bool(body) == (method == "GET")
