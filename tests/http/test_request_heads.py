"""Request heads: the cost of each part is proportional to its length, so 60 KB cost a few milliseconds."""

import time
from collections.abc import Callable, Iterator

import httpx
import msgspec
import pytest

from app.main import create_app
from tests.http.test_rate_limits import bearer
from tests.security.attacks.cases import failed_fields

SIZE, MOST = 60_000, 0.050
"""Bytes, and seconds of CPU: ten times the time of a busy machine, a hundredth of that of a quadratic algorithm."""


def filled(part: str) -> str:
    return part * (SIZE // len(part))


def distinct(form: str, size: int = SIZE) -> Iterator[str]:
    """This number of characters of numbered parts."""
    number = 0
    while size > 0:
        number += 1
        yield (part := form.format(number))
        size -= len(part)


HEADERS = {
    "If-Match": [
        filled('"1", '),
        filled('W/"1",'),
        filled('"'),
        filled(","),
        filled(" "),
        filled('"a" "'),
        filled("\t,"),
    ],
    "Accept": [
        filled("text/csv;q=0.5,"),
        filled(";q=1"),
        "".join(distinct("a/b{};q=0.1,")),
        filled("q=0.0"),
        filled(" ;,"),
        filled(","),
    ],
    "Idempotency-Key": [filled("a"), filled(" "), filled("\t a")],
    "Content-Type": [filled("a"), filled(";"), "application/json" + filled("; a=b"), filled(" ")],
    "X-Request-Id": [filled("a"), filled(" ")],
    "Cookie": ["".join(distinct("a{}=b; ")), filled("="), filled(";"), filled('"')],
    "Authorization": ["Bearer " + filled("."), "Bearer " + filled("a"), filled(" "), "Bearer a." + filled("a") + ".a"],
    "Host": [filled("a"), filled("["), filled("a.")],
    "X-Forwarded-For": ["".join(distinct("10.0.{}.1,")), filled(","), filled("["), filled("10.0.0.1, ")],
    "X-Forwarded-Proto": [filled("https,"), filled(" ")],
}
QUERIES = ["".join(distinct("a{}=b&")), filled("a=b&"), filled("&"), "a=" + filled("%41"), filled("="), filled("%"), filled("+"),
           "status=" + filled("paid,"), "cursor=" + filled("A"), "sort=" + filled("-"), "claimNumber=" + filled("a")]  # fmt: skip


@pytest.fixture
async def cost(settings, cast) -> Callable[..., object]:
    """A function that sends a request. It returns the status and the least CPU of three times, that of the client included."""
    app = create_app(msgspec.structs.replace(settings, trusted_proxies="127.0.0.1, 10.0.0.0/8"))
    async with app.lifespan():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

            async def ask(method: str, path: str, query: str = "", **headers: str) -> tuple[int, float]:
                content = b'{"notes": "n"}' if method == "PATCH" else None
                request = client.build_request(method, "/", headers=bearer(cast, "alma") | headers, content=content)
                # httpx builds no URL of this length.
                request.url = request.url.copy_with(raw_path=f"{path}?{query}".encode())
                best = []
                for _ in range(3):
                    begun = time.process_time()
                    answer = await client.send(request)
                    best.append(time.process_time() - begun)
                return answer.status_code, min(best)

            yield ask


async def test_no_header_costs_more_than_its_length(cost, cast):
    too_slow = {}
    for name, values in HEADERS.items():
        for value in values:
            for method, path in (("GET", "/api/claims/export"), ("PATCH", f"/api/claims/{cast.anas_claim}")):
                status, spent = await cost(method, path, **{name: value})
                assert status in (200, 400, 401, 412, 415), (name, value[:20], status)
                if spent > MOST:
                    too_slow[name, value[:20], method] = spent
    assert not too_slow


async def test_no_query_costs_more_than_its_length(cost):
    too_slow = {}
    for query in QUERIES:
        status, spent = await cost("GET", "/api/claims", query)
        assert status == 400, query[:20]
        if spent > MOST:
            too_slow[query[:20]] = spent
    assert not too_slow


async def test_a_query_has_a_hundred_parameters_at_most(as_user):
    # The first is the control: parsed, and each one refused by its name.
    for many, named in (
        (100, "a0"),
        (101, "query"),
    ):
        answer = await as_user("alma").get("/api/claims?" + "&".join(f"a{n}=" for n in range(many)))
        assert (answer.status_code, failed_fields(answer)[0]) == (400, named)
    longest = "a=" + "b" * 8190
    for query, named in ((longest, "a"), (longest + "b", "query")):
        assert failed_fields(await as_user("alma").get(f"/api/claims?{query}")) == [named]


async def test_no_path_costs_more_than_its_length(cost):
    for path in (filled("/a"), filled("/"), "/api/claims/" + filled("a"), "/docs/static/" + filled("../")):
        status, spent = await cost("GET", path)
        assert (status in (307, 400, 404), spent < MOST) == (True, True), (path[:20], status, spent)
