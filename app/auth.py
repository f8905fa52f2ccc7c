"""Logging in, and who is logged in."""

import asyncio
from typing import Annotated
from uuid import UUID

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from litestar import Request, get, post
from litestar.datastructures import State
from litestar.params import JSONBody
from msgspec import Meta

from app import sql
from app.db import Db, Session, fetch
from app.errors import Unauthorized
from app.tokens import LIFETIME, Caller, make_token
from app.wire import Answer, Body, Shape

queries = sql.load("auth")


_hasher = PasswordHasher(
    time_cost=2, memory_cost=19 * 1024, parallelism=1
)  # OWASP's floor for argon2id: 19 MiB, t=2, p=1
_NOBODY = _hasher.hash("a password that nobody has")
_at_once = asyncio.Semaphore(2)


class Login(Body):
    """The slug chooses where the same email stands in several organizations."""

    email: Annotated[str, Meta(min_length=3, max_length=254)]
    password: Annotated[str, Meta(min_length=1, max_length=128)]
    organization_slug: Annotated[str, Meta(pattern="^[a-z0-9-]{2,63}$")] | None = None


class Organization(Shape):
    """A tenant, as its members see it."""

    id: UUID
    slug: str
    name: str


class User(Shape):
    """Who is logged in."""

    id: UUID
    email: str
    name: str
    role: str
    provider_id: UUID | None
    patient_id: UUID | None
    organization: Organization


class Tokens(Shape):
    """What a login gives. expiresIn is in seconds."""

    access_token: str
    token_type: str
    expires_in: int
    user: User


def hash_password(password: str) -> str:
    """An argon2id PHC string; about 20 ms of one core and 19 MiB."""
    return _hasher.hash(password)


def _fits(password_hash: str, password: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except (Argon2Error, InvalidHashError):
        return False


async def _verify(hashes: list[str], password: str) -> list[bool]:
    """Off the event loop, two at once. An unknown email costs as much as a wrong password."""
    async with _at_once:
        return await asyncio.to_thread(lambda: [_fits(one, password) for one in hashes or [_NOBODY]])


@post("/api/auth/login", opt={"public": True}, status_code=200)
async def login(data: JSONBody[Login], request: Request[None, None, State]) -> Answer[Tokens]:
    """An access token for an email and its password; 401 with one message for every cause."""
    state = request.app.state
    given = {"email": data.email, "slug": data.organization_slug}
    ((*found,),) = await fetch(state.pool, [(queries.find_logins.text(given), given)])
    fits = await _verify([row[3] for row in found], data.password)
    callers = [Caller(*row[:3]) for row, fit in zip(found, fits, strict=False) if fit]
    if len(callers) != 1:
        raise Unauthorized
    token = make_token(callers[0], state.settings.token_keys)
    session: Session = state.session(callers[0], request)
    return await session.wrapped(
        queries.me, {"accessToken": token, "tokenType": "Bearer", "expiresIn": LIFETIME}, "user"
    )


@get("/api/auth/me")
async def me(db: Db) -> Answer[User]:
    """The caller: user, role, organization, providerId, patientId."""
    return await db.one(queries.me)


handlers = [login, me]
