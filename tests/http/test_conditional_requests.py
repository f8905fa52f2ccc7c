"""If-None-Match: 304 for every GET and HEAD whose response has an ETag, recorded like the whole response."""

import pytest

from tests.security.attacks.cases import claim

STYLES = "/docs/static/swagger-ui.css"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/api/claims/{claim}", STYLES])
async def test_which_tags_match(as_user, cast, method, path):
    path = path.format(claim=cast.anas_claim)
    alma = as_user("alma")
    whole = await alma("GET", path)
    tag = whole.headers["ETag"]
    assert whole.status_code == 200
    for sent, matches in (
        (tag, True), (f"W/{tag}", True), ("*", True),
         (" * ", True), (f'"x", {tag}', True), (f'W/"x",W/{tag} ,"y"', True), (f",, {tag},", True),
        (f'"a,b", {tag}', True), ('"x"', False), ('W/"x"', False), ("", False), (tag.strip('"'), False), (f'"{tag[1:-1]}x"', False),
        ('"*"', False), (f"w/{tag}x", True), (f'"x {tag[1:-1]}"', False), ('"', False), (f"{tag[:-1]}", False),
    ):  # fmt: skip
        answer = await alma(method, path, headers={"If-None-Match": sent})
        assert answer.status_code == (304 if matches else 200), sent
        assert answer.headers["ETag"] == tag


async def test_a_304_has_the_headers_of_the_response_without_those_of_a_body(as_user, cast):
    alma, path = as_user("alma"), f"/api/claims/{cast.anas_claim}"
    whole = await alma.get(path)
    answer = await alma("GET", path, headers={"If-None-Match": whole.headers["ETag"]})
    assert (answer.status_code, answer.content) == (304, b"")
    assert {*whole.headers} - {*answer.headers} == {"content-type", "content-length"}
    assert {*answer.headers} <= {*whole.headers}
    for name in ("ETag", "Cache-Control", "X-Content-Type-Options", "Content-Security-Policy", "RateLimit-Limit"):
        assert answer.headers[name] == whole.headers[name]
    styles = await alma.get(STYLES)
    answer = await alma("GET", STYLES, headers={"If-None-Match": styles.headers["ETag"]})
    assert (answer.status_code, answer.content) == (304, b"")
    assert not {"content-type", "content-length", "content-disposition", "last-modified"} & {*answer.headers}


async def test_several_header_lines_are_one_list(client, as_user, cast):
    for lines, status in ((['"x"', '"2"'], 304), (['"2"', '"x"'], 304), (['"x"', '"y"'], 200)):
        request = client.build_request("GET", f"/api/claims/{cast.anas_claim}", headers=dict(as_user("alma")._headers))
        request.headers = type(request.headers)(
            [*request.headers.raw, *((b"If-None-Match", one.encode()) for one in lines)]
        )
        assert (await client.send(request)).status_code == status, lines


async def test_a_304_is_recorded_like_a_reading(as_user, as_root, cast):
    path = f"/api/claims/{cast.anas_claim}"
    for number, method in enumerate(("GET", "HEAD"), 1):
        assert (await as_user("alma")(method, path, headers={"If-None-Match": "*"})).status_code == 304
        count = as_root.execute(
            "select count(*) from audit_logs where action = 'read' and entity_id = %s", [cast.anas_claim]
        )
        assert count.fetchone() == (number,)


async def test_a_change_ends_the_304(as_user, cast):
    alma, path = as_user("alma"), f"/api/claims/{cast.anas_claim}"
    tag = (await alma.get(path)).headers["ETag"]
    changed = await alma("PATCH", path, json={"notes": "n"}, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    answer = await alma("GET", path, headers={"If-None-Match": tag})
    assert (answer.status_code, answer.json()["data"]["notes"]) == (200, "n")
    assert (await alma("GET", path, headers={"If-None-Match": answer.headers["ETag"]})).status_code == 304


async def test_a_tag_shows_nothing_that_the_caller_may_not_see(client, as_user, cast):
    path = f"/api/claims/{cast.anas_claim}"
    tags = {"If-None-Match": "*"}
    assert (await as_user("alma")("GET", path, headers=tags)).status_code == 304  # control
    assert (await as_user("ben")("GET", path, headers=tags)).status_code == 404
    assert (await as_user("alma", "south")("GET", path, headers=tags)).status_code == 404
    assert (await client.get(path, headers=tags)).status_code == 401


async def test_what_has_no_tag_and_what_is_no_reading_are_unaffected(as_user, cast):
    alma, every = as_user("alma"), {"If-None-Match": "*"}
    assert (await alma("GET", "/api/claims", headers=every)).status_code == 200
    assert (await alma("POST", "/api/claims", json=claim(cast), headers=every)).status_code == 201
    assert (await as_user("pia")("POST", "/api/claims/next", headers=every)).status_code in (200, 204)
