"""Paths: an unknown path has its own message, / leads to the reference, and no spelling of a path loses a header."""

import pytest

UNKNOWN = "There is no such path. Paths are case-sensitive; /docs lists them."
NO_RECORD = "There is no such record, or you may not see it."


@pytest.mark.parametrize("path", [
    "/nowhere", "/nowhere/", "/api", "/api/", "/api/nothing", "/API/claims", "/api/Claims", "/api/claim", "/favicon.ico", "/robots.txt",
    "/api/claims/{claim}/nothing", "/api/claims/{claim}/statusHistory", "/docs/nothing", "/docs/static/nothing.js", "/docs/static/%00",
    "/DOCS", "/openapi.yaml", "/api/v1/claims", "/health/x", "/index.html",
])  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
async def test_an_unknown_path_is_named_as_such(as_user, cast, path, method):
    if method == "POST" and "/docs/static" in path:
        pytest.skip("a folder of files, which takes no POST")
    answer = await as_user("alma")(method, path.format(claim=cast.anas_claim))
    assert answer.status_code == 404
    if method != "HEAD":
        assert (answer.json()["error"]["code"], answer.json()["error"]["message"]) == ("NOT_FOUND", UNKNOWN)


async def test_an_unknown_row_has_the_message_of_a_hidden_one(as_user, cast, other):
    hidden, missing = [
        (await as_user("alma").get(f"/api/claims/{id_}")).json()["error"]
        for id_ in (other.anas_claim, cast.organization)
    ]
    assert hidden == missing == {"code": "NOT_FOUND", "message": NO_RECORD}


async def test_an_unknown_path_needs_no_login(client):
    answer = await client.get("/api/nothing")
    assert (answer.status_code, answer.json()["error"]["message"]) == (404, UNKNOWN)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_root_leads_to_the_reference(client, method):
    answer = await client.request(method, "/")
    assert (answer.status_code, answer.headers["Location"], answer.content) == (307, "/docs", b"")
    assert (await client.request(method, "/", follow_redirects=True)).headers[
        "Content-Type"
    ] == "text/html; charset=utf-8"
    assert (await client.post("/")).status_code == 405


@pytest.mark.parametrize("path", ["/api/claims", "/api/claims/", "//api/claims", "/api//claims", "///api///claims//"])
async def test_every_spelling_of_a_path_has_the_same_headers(as_user, path):
    answer = await as_user("alma")("GET", f"http://test{path}")
    assert (answer.status_code, answer.headers.get("Cache-Control")) == (200, "no-store")
