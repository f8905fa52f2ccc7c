"""Security headers of every response, the content security policy of the API reference, and the Host header of a request."""

import re

import httpx
import pytest

from tests.resources.test_auth import instance
from tests.security.attacks.cases import claim, failed_fields

NOTHING = "default-src 'none'; frame-ancestors 'none'"
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": NOTHING,
    "Referrer-Policy": "no-referrer",
}


def told(answer: httpx.Response) -> dict[str, list[str]]:
    return {name: answer.headers.get_list(name) for name in SECURITY_HEADERS}


async def test_every_response_has_them_once(client, as_user, cast):
    alma = as_user("alma")
    answers = {
        200: await alma.get("/api/claims"),
        201: await alma.post("/api/claims", claim(cast)),
        204: await alma("OPTIONS", "/api/claims"),
        400: await alma.get("/api/claims?nope=1"),
        401: await client.get("/api/claims"),
        403: await as_user("tom").post("/api/claims", claim(cast)),
        404: await alma.get(f"/api/claims/{cast.organization}"),
        405: await alma("DELETE", "/api/claims"),
        412: await alma("PATCH", f"/api/claims/{cast.anas_claim}", json={"notes": "n"}, headers={"If-Match": '"99"'}),
        415: await alma("POST", "/api/claims", content=b"x", headers={"Content-Type": "text/plain"}),
    }
    for status, answer in answers.items():
        assert (answer.status_code, told(answer)) == (
            status,
            {name: [value] for name, value in SECURITY_HEADERS.items()},
        )
    for path in ("/health", "/health/ready", "/openapi.json", "/nowhere", "/api/nowhere", "/docs/static/swagger-ui.css",
                 "/docs/static/nothing.js", "/docs/start.js", "/docs/static/%00", "/"):  # fmt: skip
        assert told(await client.get(path)) == {name: [value] for name, value in SECURITY_HEADERS.items()}, path
    for kind in ("text/csv", "application/x-ndjson"):
        out = await alma("GET", "/api/claims/export", headers={"Accept": kind})
        assert (out.status_code, told(out)) == (200, {name: [value] for name, value in SECURITY_HEADERS.items()})
    assert not any("Strict-Transport-Security" in answer.headers for answer in answers.values())


async def test_a_response_beyond_the_rate_limit_has_them_too(settings):
    async with instance(settings, rate_limit_address=1) as client:
        answers = [await client.get("/docs") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 429]
        assert told(answers[1]) == {name: [value] for name, value in SECURITY_HEADERS.items()}


async def test_the_reference_page_loads_its_own_files_and_nothing_else(client):
    page = await client.get("/docs")
    policy = dict(one.split(" ", 1) for one in page.headers["Content-Security-Policy"].split("; "))
    assert policy.pop("img-src") == "'self' data:"
    assert {policy.pop(one) for one in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert policy == dict.fromkeys(("default-src", "base-uri", "form-action", "frame-ancestors"), "'none'")
    assert [len(values) for values in told(page).values()] == [1] * len(SECURITY_HEADERS)
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", page.text)  # what the policy would block
    parts = re.findall(r'(?:src|href)="(/[^"]*)"', page.text)
    assert len(parts) == 4  # control
    for part in parts:
        answer = await client.get(part)
        kind = "text/css" if part.endswith(".css") else "text/javascript"
        # Otherwise nosniff blocks it.
        assert (answer.status_code, answer.headers["Content-Type"].split(";")[0]) == (200, kind), part


async def test_the_reference_stores_no_token(client):
    page, start = (await client.get("/docs")).text, (await client.get("/docs/start.js")).text
    assert "SwaggerUIBundle(" in start  # control: this configures it
    assert "persistAuthorization" not in page + start
    bundle = (await client.get("/docs/static/swagger-ui-bundle.js")).text
    assert re.search(r"persistAuthorization: !1", bundle)  # off unless configured
    assert re.search(r"localStorage\.setItem\('authorized'", bundle)  # control: the effect of the option


@pytest.mark.parametrize(
    "path", ["/health", "/health/ready", "/api/claims", "/nowhere", "/docs", "/docs/static/swagger-ui.css"]
)
@pytest.mark.parametrize("hosts", [[], ["a", "b"], ["a", "a"], ["", ""]])
async def test_a_request_has_exactly_one_host(client, path, hosts):
    request = client.build_request("GET", path)
    assert (await client.send(request)).status_code in (200, 401, 404)  # control: one
    others = [(name, value) for name, value in request.headers.raw if name.lower() != b"host"]
    request.headers = httpx.Headers([*others, *((b"host", one.encode()) for one in hosts)])
    answer = await client.send(request)
    assert (answer.status_code, failed_fields(answer), answer.json()["error"]["code"]) == (
        400,
        ["Host"],
        "VALIDATION_ERROR",
    )
    assert answer.json()["meta"]["requestId"] == answer.headers["X-Request-Id"]
    assert told(answer) == {name: [value] for name, value in SECURITY_HEADERS.items()}
