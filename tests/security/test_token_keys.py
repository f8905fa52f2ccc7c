"""The keys of tokens and cursors rotate: no user is logged out, and a removed key is invalid."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import jwt
import msgspec

from app.config import Settings
from app.main import create_app
from app.operations import migrate
from tests.security.test_tokens import HEADER, forge, good_claims, me, refusals
from tests.support.cast import KEYS, PASSWORD

NEW = {"new": b"another secret of the tests; 32 bytes and more"}


@asynccontextmanager
async def serving(settings: Settings, *keys: dict[str, bytes]) -> AsyncIterator[httpx.AsyncClient]:
    """A process with these keys, the first of which signs."""
    listed = {kid: key for one in keys for kid, key in one.items()}
    told = msgspec.structs.replace(settings, token_keys=listed)
    migrate.apply(told)  # the database gets the keys that contexts are signed with
    app = create_app(told)
    async with app.lifespan():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


async def logged_in(client: httpx.AsyncClient) -> tuple[dict[str, Any], str]:
    """A pair of tokens, and the kid of the first."""
    answer = await client.post("/api/auth/login", json={"email": "alma@north.test", "password": PASSWORD})
    tokens = answer.json()["data"]
    return tokens, jwt.get_unverified_header(tokens["accessToken"])["kid"]


async def test_keys_rotate_without_logging_any_user_out(settings, cast):
    """First the new key is listed, then it signs, then the old one is removed.

    Processes of two consecutive steps work together.
    """
    async with serving(settings, KEYS) as before, serving(settings, KEYS, NEW) as listed:
        old, kid = await logged_in(before)
        assert kid == "test"
        assert (await logged_in(listed))[1] == "test"
        as_alma = {"headers": {"Authorization": f"Bearer {old['accessToken']}"}}
        cursor = (await before.get("/api/claims?limit=1", **as_alma)).json()["meta"]["pagination"]["nextCursor"]
        page = {"params": {"limit": 1, "cursor": cursor}, **as_alma}
        async with serving(settings, NEW, KEYS) as rotated:
            new, kid = await logged_in(rotated)
            assert kid == "new"
            for client in (listed, rotated):
                for tokens in (old, new):
                    assert (await me(client, tokens["accessToken"])).status_code == 200
                assert (await client.get("/api/claims", **page)).status_code == 200
            assert (await me(before, new["accessToken"])).status_code == 401  # so it is listed first
            renewed = await rotated.post("/api/auth/refresh", json={"refreshToken": old["refreshToken"]})
            old_again = renewed.json()["data"]
            assert jwt.get_unverified_header(old_again["accessToken"])["kid"] == "new"


async def test_a_removed_key_is_invalid(settings, cast):
    """Neither under its own name nor under the new one's, whatever it signs. Signatures of the new key stay valid."""
    async with serving(settings, NEW, KEYS) as overlap:
        tokens, _ = await logged_in(overlap)
    old = forge(good_claims(cast))
    async with serving(settings, NEW) as client:
        assert (await me(client, tokens["accessToken"])).status_code == 200  # control
        await refusals(client, [
            ("the old token", old), ("the old key under the new name", forge(good_claims(cast), HEADER | {"kid": "new"})),
            ("the new key under the old name", forge(good_claims(cast), key=NEW["new"])),
        ])  # fmt: skip
        as_alma = {"headers": {"Authorization": f"Bearer {tokens['accessToken']}"}}
        async with serving(settings, KEYS, NEW) as earlier:
            cursor = (await earlier.get("/api/claims?limit=1", **as_alma)).json()["meta"]["pagination"]["nextCursor"]
            again = await earlier.get("/api/claims", params={"cursor": cursor}, **as_alma)
            assert again.status_code == 200  # control
        assert (await client.get("/api/claims", params={"cursor": cursor}, **as_alma)).status_code == 400
        renewed = await client.post("/api/auth/refresh", json={"refreshToken": tokens["refreshToken"]})
        assert renewed.status_code == 200
