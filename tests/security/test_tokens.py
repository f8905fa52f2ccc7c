"""Access tokens that are forged, of another user, early or expired: each is refused in the same words."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest

from app.errors import Unauthorized
from app.security.tokens import LIFETIME_S, Caller, TokenCache, make_token, read_token
from tests.support.cast import KEYS, PASSWORD, caller

KEY = KEYS["test"]
HEADER = {"alg": "HS256", "kid": "test", "typ": "at+jwt"}
REFUSED = {
    "code": "UNAUTHORIZED",
    "message": "The credentials are missing, wrong or expired. Log in, and send the access token.",
}


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def written(part: Any) -> bytes:
    return part if isinstance(part, bytes) else json.dumps(part).encode()


def forge(
    claims: Any, header: Any = HEADER, key: bytes = KEY, sign: Callable[[str, bytes], bytes] | None = None
) -> str:
    """A compact JWS of the given parts; bytes are used unchanged."""
    signed = f"{b64(written(header))}.{b64(written(claims))}"
    return f"{signed}.{b64(sign(signed, key) if sign else hmac.digest(key, signed.encode(), hashlib.sha256))}"


def digest(name: str) -> Callable[[str, bytes], bytes]:
    return lambda signed, key: hmac.digest(key, signed.encode(), name)


def unsigned(good: dict[str, Any], token: str) -> Iterator[tuple[str, str]]:
    """No signature, another's, or one by a key that is not ours."""
    head, body, signature = token.split(".")
    for alg in (
        "none",
        "None",
        "nOnE",
        "NONE",
        "",
        None,
        0,
        ["HS256"],
        {},
        "HS256 ",
        "hs256",
        "RS256",
        "ES256",
        "EdDSA",
        "PS512",
    ):
        yield f"alg {alg}, signed", forge(good, HEADER | {"alg": alg})
        yield f"alg {alg}, empty signature", forge(good, HEADER | {"alg": alg}, sign=lambda *_: b"")
    yield "alg missing", forge(good, {"kid": "test", "typ": "at+jwt"})
    yield "empty signature", f"{head}.{body}."
    yield "stripped signature", f"{head}.{body}"
    yield "nothing but a signature", f"..{signature}"
    yield "signature of another token", f"{head}.{body}." + forge(good | {"role": "admin"}).split(".")[2]
    yield "short signature", f"{head}.{body}.{signature[:-4]}"
    yield "long signature", f"{token}AAAA"
    yield "padded signature", f"{token}="
    yield "four parts", f"{token}.{signature}"
    yield "JWE", f"{head}.{body}.{signature}.{body}.{signature}"
    for name in ("sha384", "sha512", "sha1", "md5"):
        alg = {"sha384": "HS384", "sha512": "HS512"}.get(name, "HS256")
        yield f"{alg} with the right key, {name}", forge(good, HEADER | {"alg": alg}, sign=digest(name))
    for key in (
        b"",
        b"secret",
        b"test",
        b"changeme",
        b"\0" * 32,
        KEY[:-1],
        KEY + b"\n",
        hashlib.sha256(KEY).digest(),
        b"x" * 32,
    ):
        yield f"signed with {key[:9]!r}", forge(good, key=key)
    for n, claim in enumerate(
        ({"org": good["sub"]}, {"role": "admin"}, {"sid": good["org"]}, {"sub": good["org"]}, {"exp": good["exp"] + 9})
    ):
        yield f"changed claim {n} with a wrong key", forge(good | claim, key=b"x" * 32)
        yield f"changed claim {n} with the old signature", f"{head}.{b64(written(good | claim))}.{signature}"


def headed(good: dict[str, Any], listener: str) -> Iterator[tuple[str, str]]:
    """Headers that name another key, another algorithm, or too much. The right key has signed where it could."""
    own = {"kty": "oct", "k": b64(b"y" * 32), "alg": "HS256", "kid": "test"}
    for name, value in (("jwk", own), ("jku", f"{listener}/jwks"), ("x5u", f"{listener}/cert"), ("x5c", ["MIIB"]), ("x5t", "AA"),
                        ("crit", ["exp"]), ("crit", []), ("b64", False), ("zip", "DEF"), ("cty", "JWT"), ("enc", "A128GCM")):  # fmt: skip
        yield f"{name} and the right key", forge(good, HEADER | {name: value})
        yield f"{name} and its key", forge(good, HEADER | {name: value}, key=b"y" * 32)
    for kid in ("", "unknown", "retired", "../../../../dev/null", "/dev/null", "test'; select pg_sleep(9); --", "' union select 'y",
                "TEST", "test\0", " test", None, 1, True, ["test"], {"test": 1}, "x" * 10_000):  # fmt: skip
        for key in (KEY, b"", b"y" * 32):
            yield f"kid {kid!r:.20} with {key[:5]!r}", forge(good, HEADER | {"kid": kid}, key=key)
    yield "kid missing", forge(good, {"alg": "HS256", "typ": "at+jwt"})
    yield "kid with half a surrogate pair", forge(good, json.dumps(HEADER).replace("test", "\\ud800").encode())
    for typ in ("JWT", "jwt", "rt+jwt", "refresh", "AT+JWT", "application/at+jwt", "", None, 1, ["at+jwt"]):
        yield f"typ {typ}", forge(good, HEADER | {"typ": typ})
    yield "typ missing", forge(good, {"alg": "HS256", "kid": "test"})
    yield "alg twice", forge(good, b'{"alg": "HS256", "kid": "test", "typ": "at+jwt", "alg": "none"}')
    yield "kid twice", forge(good, b'{"alg": "HS256", "kid": "test", "typ": "at+jwt", "kid": "other"}', key=b"y" * 32)
    for name, header in (("100 kB", HEADER | {"pad": "x" * 100_000}), ("a list", []), ("text", "at+jwt"), ("null", None), ("1", 1),
                         ("deep", b'{"typ":' + b"[" * 50_000 + b"]" * 50_000 + b"}"), ("no JSON", b"{"), ("no UTF-8", b"\xff\xfe"),
                         ("empty", b""), ("NaN", b'{"alg": NaN}')):  # fmt: skip
        yield f"header: {name}", forge(good, header)


def claimed(good: dict[str, Any], others: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Claims that the right key has signed and that are still wrong: a signature identifies the signer, not the kind of token."""
    now = int(time.time())
    for name in good:
        yield f"{name} missing", forge({one: value for one, value in good.items() if one != name})
        for value in (None, "", [], {}, True, "x", [good[name]], "\ud800"):
            yield f"{name} {value!r}", forge(good | {name: value})
    for n, times in enumerate((
        {"exp": now - 1}, {"exp": now}, {"exp": 0}, {"exp": str(good["exp"])}, {"exp": good["exp"] + 0.5}, {"exp": float(good["exp"])},
        {"exp": 10**12}, {"exp": good["iat"] + 901}, {"exp": 10**400}, {"iat": now + 60, "exp": now + 90}, {"iat": 0},
        {"iat": str(now)}, {"iat": now - 0.5}, {"nbf": now + 60}, {"nbf": str(now)}, {"nbf": 10**400}, {"nbf": -1e300})):  # fmt: skip
        yield f"times {n}: {times!r:.40}", forge(good | times)
    for n, text in enumerate(("1e400", "-1e400", "NaN", "Infinity", "9" * 5000)):
        yield f"exp {n} as text", forge(written(good).replace(str(good["exp"]).encode(), text.encode()))
    for n, other in enumerate(({"iss": "other"}, {"iss": "claims/"}, {"aud": "other"}, {"aud": ["claims"]}, {"aud": ["claims", "other"]},
                               {"role": "admin */ drop table claims; /*"}, {"role": "system"}, {"role": "claims_auth_definer"}, others,
                               {"sub": others["sub"]}, {"sid": others["sid"]}, {"org": others["org"]},
                               {"sub": good["sid"][:-1] + "z"}, {"org": "'; select 1; --"})):  # fmt: skip
        yield f"other {n}", forge(good | other)
    yield "sub twice", forge(written(good)[:-1] + f', "sub": "{others["sub"]}"}}'.encode())
    for name, claims in (("a list", []), ("text", "x"), ("null", None), ("no UTF-8", b"\xff"), ("no JSON", b"{"), ("empty", b""),
                         ("deep", b'{"sub":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
                         ("one megabyte", b"x" * 10**6)):  # fmt: skip
        yield f"claims: {name}", forge(claims)


async def refusals(client: httpx.AsyncClient, sent: Any) -> None:
    """The response to the token on every kind of route, which is always the same."""
    seen = set()
    for name, token in sent:
        for method, path in (("GET", "/api/auth/me"), ("POST", "/api/claims/next")):
            answer = await client.request(method, path, headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 401, (name, answer.status_code)
            assert answer.json()["error"] == REFUSED, name
            seen.add((answer.headers["WWW-Authenticate"], tuple(sorted(answer.headers)), *sorted(answer.json())))
    assert len(seen) == 1


def good_claims(who: Any, name: str = "ana") -> dict[str, Any]:
    return jwt.decode(make_token(caller(who, name), KEYS), options={"verify_signature": False})


async def test_a_token_without_our_signature_is_refused(client, cast):
    good = good_claims(cast)
    # Control: a token that forge makes of good claims is accepted.
    assert (await me(client, forge(good))).status_code == 200
    await refusals(client, unsigned(good, forge(good)))


async def test_a_header_selects_neither_key_nor_algorithm(client, cast):
    asked = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await refusals(client, headed(good_claims(cast), f"http://127.0.0.1:{port}"))
        assert asked == []  # no key was requested
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"control\n")
        await writer.drain()
        while not asked:
            await asyncio.sleep(0.01)
        writer.close()


async def test_a_token_with_foreign_claims_is_refused(client, cast, other, as_root):
    good = good_claims(cast)
    others = {"sub": str(other.ana), "sid": str(cast.ben), "org": str(other.organization)}
    await refusals(client, claimed(good, others))
    as_root.execute("update auth.sessions set ended_at = now() where session_id = %s", [cast.ana])
    await refusals(client, [("the session has ended", forge(good))])
    assert (await me(client, forge(good_claims(cast, "ben")))).status_code == 200  # control
    assert as_root.execute("select count(*) from claims").fetchone() == (4,)


async def me(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.get("/api/auth/me", headers={"Authorization": f"Bearer {token}"})


async def test_a_token_is_accepted_once_in_the_authorization_header_alone(client, cast):
    token = forge(good_claims(cast))
    for scheme in ("Bearer", "bearer", "BEARER", "bEaReR"):
        assert (await client.get("/api/auth/me", headers={"Authorization": f"{scheme} {token}"})).status_code == 200, (
            scheme
        )
    head = f"Bearer {token}"
    for value in (token, f"Token {token}", f"Basic {token}", f"Bearer  {token}", f"Bearer\t{token}", f"Bearer {token}, Bearer {token}",
                  f"Bearer {token} {token}", f"Bearer {token},", f'Bearer "{token}"', f"Bearer token={token}", f"Bearer:{token}", "Bearer",
                  "Bearer null", f"Bearer {token[:-5]} {token[-5:]}", f"Bearer {token[:9]}\t{token[9:]}", f"Bearer {token}\x7f",
                  f"Bearer {token}\xe9", f"\xe9Bearer {token}", f"{head}\0", "Bearer " + ".".join(["A" * 50_000] * 3)):  # fmt: skip
        answer = await client.get("/api/auth/me", headers={"Authorization": value.encode("latin-1")})
        assert (answer.status_code, answer.json()["error"]) == (401, REFUSED), value[:60]
    for pair in ([head, head], [head, "Bearer x"], ["Bearer x", head], [head, ""]):
        answer = await client.get("/api/auth/me", headers=[("Authorization", one) for one in pair])
        assert (answer.status_code, answer.json()["error"]) == (401, REFUSED), pair
    for name in ("access_token", "token", "authorization", "Authorization", "bearer", "jwt"):
        for options in (
            {"params": {name: token}},
            {"headers": {"Cookie": f"{name}={token}"}},
            {"headers": {f"X-{name}": head}},
        ):
            answer = await client.get("/api/auth/me", **options)
            assert (answer.status_code, answer.json()["error"]) == (401, REFUSED), (name, options)
    form = await client.post("/api/claims", data={"access_token": token})
    assert (form.status_code, form.json()["error"]) == (401, REFUSED)


async def test_a_token_has_the_rights_of_its_user_and_no_more(as_user, client, cast, other):
    """A role in the token changes nothing. A token of one tenant finds nothing of the other's."""
    promoted = forge(good_claims(cast, "tom") | {"role": "admin"})
    as_tom = {"headers": {"Authorization": f"Bearer {promoted}"}}
    assert (await client.get("/api/auth/me", **as_tom)).json()["data"]["role"] == "patient"
    assert (await client.get("/api/users", **as_tom)).status_code == 403
    assert len((await client.get("/api/claims", **as_tom)).json()["data"]) == 1
    for path in (
        f"/api/claims/{other.anas_claim}",
        f"/api/patients/{other.tom_patient}",
        f"/api/providers/{other.ana_provider}",
    ):
        assert (await as_user("alma").get(path)).status_code == 404
        assert (await as_user("alma", "south").get(path)).status_code == 200  # control
    refreshing = await client.post("/api/auth/refresh", json={"refreshToken": promoted[:200]})
    assert (refreshing.status_code, refreshing.json()["error"]) == (401, REFUSED)
    login = {"email": "ana@north.test", "password": PASSWORD}
    secret = (await client.post("/api/auth/login", json=login)).json()["data"]["refreshToken"]
    assert (await me(client, secret)).status_code == 401  # neither kind of token is accepted as the other


def test_a_cached_token_expires_all_the_same():
    who, tokens = Caller(uuid4(), uuid4(), uuid4(), "admin"), TokenCache(KEYS)
    token = make_token(who, KEYS, time.time() - LIFETIME_S + 2)
    assert tokens.read(token) == tokens.read(token) == who  # control: until then it is valid, decoded and cached
    expires = read_token(token, KEYS)[1]
    while time.time() <= expires:
        time.sleep(0.05)
    with pytest.raises(Unauthorized):
        tokens.read(token)
