"""The address of a request: the word of a trusted proxy, never of a client, and only a valid address."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest

from app.config import read_settings
from app.main import create_app
from app.security.client_address import Proxies, read
from tests.database.test_pool import is_
from tests.http.test_rate_limits import bearer, spent
from tests.operations.test_processes import environ_for
from tests.security.attacks.cases import npi
from tests.security.test_logins import served
from tests.support.clients import until

PEER = "10.0.0.9"


@pytest.mark.parametrize(("text", "address"), [
    ("192.0.2.1", "192.0.2.1"), ("192.0.2.1:80", "192.0.2.1"), ("[2001:db8::1]:80", "2001:db8::1"), ("[2001:db8::1]", "2001:db8::1"),
    ("2001:DB8:0::1", "2001:db8::1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("[::ffff:192.0.2.1]:7", "192.0.2.1"),
    ("fe80::1%eth0", "fe80::1"), ("[fe80::1%25eth0]:80", "fe80::1"),
    *((one, None) for one in ("", "unknown", "_hidden", "localhost", "192.0.2", "192.0.2.1.5", "192.0.2.256", "192.0.2.01", "0x7f.1",
      "192.0.2.1%eth0", "192.0.2.1:", "192.0.2.1:x", "192.0.2.1:123456", "[2001:db8::1", "2001:db8::1]", "[2001:db8::1]x", "[192.0.2.1]x",
      "\u0661.1.1.1", "192.0.2.1 ", "'; drop table claims; --", "1" * 60_000, ":" * 60_000, "[" * 60_000)),
])  # fmt: skip
def test_an_address_is_parsed_or_none(text, address):
    found = read(text)
    assert (found and str(found)) == address


@pytest.mark.parametrize(("trusted", "sent", "client"), [
    (PEER, [], PEER), (PEER, ["192.0.2.1"], "192.0.2.1"), (PEER, ["203.0.113.9, 192.0.2.1"], "192.0.2.1"),
    (PEER, ["203.0.113.9", "192.0.2.1"], "192.0.2.1"), (PEER, ["203.0.113.9", " 192.0.2.1:4711 "], "192.0.2.1"),
    ("10.0.0.0/8", ["192.0.2.1, 10.1.2.3,\t10.0.0.1"], "192.0.2.1"), ("10.0.0.0/8", ["192.0.2.1, nonsense, 10.0.0.1"], "10.0.0.1"),
    (PEER, ["192.0.2.1, nonsense"], PEER), (PEER, ["192.0.2.1,"], PEER), (PEER, [""], PEER), (PEER, ["unknown"], PEER),
    ("10.0.0.0/8", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"), ("10.0.0.0/8", [", ".join(["192.0.2.1", *["10.0.0.2"] * 40])], "10.0.0.2"),
    (f"{PEER}, 2001:db8::/32", ["192.0.2.1, [2001:db8::7]:1"], "192.0.2.1"), (PEER, ["::ffff:192.0.2.1"], "192.0.2.1"),
    ("::ffff:10.0.0.0/104", ["192.0.2.1"], "192.0.2.1"), ("*", ["203.0.113.9, 192.0.2.1"], "192.0.2.1"),
    ("10.0.0.8", ["192.0.2.1"], PEER), ("", ["192.0.2.1"], PEER),
])  # fmt: skip
@pytest.mark.parametrize("peer", [PEER, f"::ffff:{PEER}"])
def test_the_client_is_the_first_address_from_the_right_that_is_no_proxy(trusted, sent, client, peer):
    proxies = Proxies(trusted)
    address, is_proxy = proxies.peer(peer)
    assert address == PEER
    found = proxies.client(address, [(b"x-forwarded-for", one.encode()) for one in sent]) if is_proxy else address
    assert found == client


@pytest.mark.parametrize(
    "wrong",
    ["localhost", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.1 10.0.0.2", "*, 10.0.0.1", "10.0.0.1;", "unix:", "::1/129"],
)
def test_a_malformed_proxy_is_refused_at_the_start(wrong, capsys):
    good = {"TRUSTED_PROXIES": "10.0.0.1, 10.1.0.0/16,2001:db8::/32", "PORT": "80"}
    assert read_settings(good).trusted_proxies == good["TRUSTED_PROXIES"]  # control
    assert read_settings({"TRUSTED_PROXIES": "*"}).trusted_proxies == "*"
    with pytest.raises(SystemExit) as ended:
        read_settings({"TRUSTED_PROXIES": wrong, "PORT": "x"})
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n"), "TRUSTED_PROXIES must" in said, "PORT" in said) == (2, 1, True, True)


@asynccontextmanager
async def reached(settings: Any, peer: str, **changed: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(msgspec.structs.replace(settings, **changed))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, client=(peer, 1))
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


ATTACKS = [
    "'; drop table audit_logs; --",
    "unknown",
    "a" * 5000,
    "192.0.2.7 OR 1=1",
    "999.1.1.1",
    "\xff\xfe",
    "",
    "203.0.113.9, x",
]


async def test_an_invalid_address_is_neither_stored_nor_counted(settings, as_root, cast):
    limits = {"trusted_proxies": PEER, "rate_limit_address": 500}
    async with reached(settings, PEER, **limits) as client:
        for forwarded in [*ATTACKS, "203.0.113.9, 192.0.2.1"]:  # the last is the control
            headers = bearer(cast, "alma") | {"X-Forwarded-For": forwarded.encode("latin-1")}
            made = await client.post("/api/providers", json={"npi": npi(), "name": "P"}, headers=headers)
            assert made.status_code == 201
            wrong = {"email": "ana@north.test", "password": "wrong"}
            assert (await client.post("/api/auth/login", json=wrong, headers=headers)).status_code == 401
    stored = as_root.execute(
        "select address, count(*) from audit_logs where address <> '' group by 1 order by 1"
    ).fetchall()
    assert stored == [(PEER, 2 * len(ATTACKS)), ("192.0.2.1", 2)]
    for address in (PEER, "192.0.2.1"):
        assert spent(as_root, f"address:{address}") is not None
        assert spent(as_root, f"login from:{address}") is not None
    # One account, one user, and for both addresses their requests and logins: nothing else was counted.
    assert as_root.execute("select count(*) from auth.rate_limits").fetchone() == (6,)


async def test_only_a_proxys_headers_are_read(settings, as_root, cast):
    headers = bearer(cast, "alma") | {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
    for peer, kept, tls in [("198.51.100.4", "198.51.100.4", False), ("::ffff:198.51.100.5", "198.51.100.5", False),
                            ("no address", None, False), (PEER, "192.0.2.1", True), (f"::ffff:{PEER}", "192.0.2.1", True)]:  # fmt: skip
        async with reached(settings, peer, trusted_proxies="10.0.0.0/8") as client:
            body = {"npi": npi(), "name": "P"}
            answer = await client.post("/api/providers", json=body, headers=headers)
            assert (answer.status_code, "Strict-Transport-Security" in answer.headers) == (201, tls), peer
        found = as_root.execute(
            "select address from audit_logs where action = 'create' order by at desc limit 1"
        ).fetchone()
        assert found == (kept,), peer


@pytest.mark.parametrize(("sent", "tls"), [
    (["https"], True), (["http"], False), ([], False), (["http", "https"], True), (["https, http"], False), (["HTTPS "], True),
    (["wss"], False), (["https,"], False),
])  # fmt: skip
async def test_the_proxys_last_protocol_decides_about_tls(settings, sent, tls):
    async with reached(settings, PEER, trusted_proxies=PEER) as client:
        for path in ("/health", "/nowhere", "/api/claims"):
            answer = await client.get(path, headers=[("X-Forwarded-Proto", one) for one in sent])
            assert ("Strict-Transport-Security" in answer.headers) == tls


@pytest.mark.parametrize(
    ("trusted", "sent", "client"),
    [
        ("127.0.0.1", "203.0.113.7, 198.51.100.4", "198.51.100.4"),
        ("127.0.0.1", "203.0.113.7, not an address", "127.0.0.1"),
        ("*", "203.0.113.7, 198.51.100.4", "198.51.100.4"),
        ("", "203.0.113.7", "127.0.0.1"),
    ],
)
async def test_a_process_parses_the_header_itself(settings, as_root, trusted, sent, client):
    """A process as its operators start it: uvicorn, which would trust other parts of the header, parses none of it."""
    environ = environ_for(settings, PROCESSES="1", TRUSTED_PROXIES=trusted)
    with served(environ, "-m", "app") as (address, _):
        login = {"email": "ana@north.test", "password": "wrong"}
        headers = {"X-Forwarded-For": sent}
        assert httpx.post(f"{address}/api/auth/login", json=login, headers=headers).status_code == 401
        failed = "select address from audit_logs where action = 'login_failed'"
        await until(is_(lambda: as_root.execute(failed).fetchone()))
    assert as_root.execute(failed).fetchall() == [(client,)]
