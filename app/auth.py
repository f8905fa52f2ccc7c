"""Registering, logging in and out, and who is logged in."""

from typing import Annotated, Any
from uuid import UUID, uuid4

from litestar import get, post
from litestar.background_tasks import BackgroundTask
from litestar.params import JSONBody
from msgspec import Meta

from app import passwords, sql
from app.db import Db
from app.door import Door, Knock
from app.errors import Forbidden, Invalid, Unauthorized
from app.sql import Query
from app.tokens import LIFETIME, REFRESH_LIFETIME, Caller, make_token, new_secret, secret_hash
from app.wire import Answer, Body, Email, Name, Role, Shape, Slug

queries = sql.load("auth")

Password = Annotated[str, Meta(min_length=12, max_length=128, examples=["correct horse battery staple"])]
Given = Annotated[str, Meta(min_length=1, max_length=128)]
Secret = Annotated[str, Meta(min_length=1, max_length=200)]


class Login(Body):
    """The slug chooses where the same email stands in several organizations."""

    email: Email
    password: Given
    organization_slug: Slug | None = None


class Registration(Body):
    """Either a new organization and its first admin, or joining one by invitation."""

    name: Name
    password: Password
    organization_name: Name | None = None
    email: Email | None = None
    invitation_token: Secret | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        founds, joins = (self.organization_name, self.email), self.invitation_token
        if joins is None and None in founds:
            raise Invalid.fields(**dict.fromkeys(self._missing(), "Is required without an invitationToken"))
        if joins is not None and founds != (None, None):
            raise Invalid.fields(invitationToken="Brings organization and email with it")

    def _missing(self) -> list[str]:
        names = {"organizationName": self.organization_name, "email": self.email}
        return [name for name, value in names.items() if value is None]


class Refresh(Body):
    """The refresh token of the answer before."""

    refresh_token: Secret


class Logout(Body):
    """Which session ends; without a token the caller's own."""

    refresh_token: Secret | None = None


class PasswordChange(Body):
    """The caller's other sessions end."""

    current_password: Given
    new_password: Password


class Membership(Shape):
    """A tenant, as its members see it."""

    id: UUID
    slug: str
    name: str


class Me(Shape):
    """Who is logged in."""

    id: UUID
    email: str
    name: str
    role: Role
    provider_id: UUID | None
    patient_id: UUID | None
    organization: Membership


class Tokens(Shape):
    """What a login gives. expiresIn is in seconds."""

    access_token: str
    token_type: str
    expires_in: int
    refresh_token: str
    user: Me


async def _tokens(door: Door, caller: Caller, refresh_token: str, *before: Query, status: int = 200) -> Any:
    """A pair of tokens around what the caller's own session says of it."""
    tokens: dict[str, object] = {
        "accessToken": make_token(caller, door.keys),
        "tokenType": "Bearer",
        "expiresIn": LIFETIME,
        "refreshToken": refresh_token,
    }
    return await door.session(caller).wrapped(tokens, "user", *before, queries.me, status=status)


async def _let_in(door: Door, who: tuple[Any, ...], new_hash: str | None = None, status: int = 200) -> Any:
    """Opens a session for who: (organization, user, role)."""
    organization_id, user_id, role = who
    caller, secret = Caller(organization_id, user_id, uuid4(), role), new_secret()
    given = {"user_id": user_id, "session_id": caller.session_id, "refresh_hash": secret_hash(secret)}
    given |= {"tenant": organization_id, "seconds": REFRESH_LIFETIME, "new_hash": new_hash}
    await door.rows(queries.open_session, **given)
    return await _tokens(door, caller, secret, queries.record_login, status=status)


@post("/api/auth/register", public=True, keyless=True)
async def register(data: JSONBody[Registration], door: Knock) -> Answer[Tokens]:
    """A new organization and its first admin, or a new member by invitation; with tokens either way."""
    await door.throttle()
    given: dict[str, Any] = {"name": data.name}
    if data.invitation_token is None:
        if not door.may_register:
            raise Forbidden
        query = queries.register
        given |= {"organization": data.organization_name, "email": data.email}
    else:
        query = queries.accept_invitation
        given |= _invitation(data.invitation_token)
        if not await door.rows(queries.find_invitation, **given):
            raise Invalid.fields(invitationToken="Is spent, expired or unknown")
    found = await door.rows(query, **given, password_hash=await passwords.make_hash(data.password))
    if not found:
        raise Invalid.fields(invitationToken="Is spent, expired or unknown")
    return await _let_in(door, found[0], status=201)


def _invitation(token: str) -> dict[str, Any]:
    """An invitation token names its organization, then the secret."""
    tenant, _, secret = token.partition(".")
    try:
        return {"tenant": UUID(tenant), "token_hash": secret_hash(secret)}
    except ValueError:
        raise Invalid.fields(invitationToken="Is spent, expired or unknown") from None


@post("/api/auth/login", public=True, keyless=True, status_code=200)
async def login(data: JSONBody[Login], door: Knock) -> Answer[Tokens]:
    """Tokens for an email and its password; 401 with one message for every cause."""
    await door.throttle(data.email)
    found = await door.rows(queries.find_logins, email=data.email, slug=data.organization_slug)
    fits = await passwords.verify([row[3] for row in found], data.password)
    fitting = [row for row, fit in zip(found, fits, strict=False) if fit]
    if len(fitting) != 1:
        raise Unauthorized(afterwards=BackgroundTask(door.rows, queries.login_failed, email=data.email, **door.origin))
    await door.forgive(data.email)
    outdated = passwords.is_outdated(fitting[0][3])
    return await _let_in(door, fitting[0][:3], await passwords.make_hash(data.password) if outdated else None)


@post("/api/auth/refresh", public=True, keyless=True, status_code=200)
async def refresh(data: JSONBody[Refresh], door: Knock) -> Answer[Tokens]:
    """The next pair of tokens; the old refresh token is dead, and using it again ends the session."""
    new = new_secret()
    given = {"old_hash": secret_hash(data.refresh_token), "new_hash": secret_hash(new), "seconds": REFRESH_LIFETIME}
    found = await door.rows(queries.refresh, **given)
    if not found:
        raise Unauthorized
    organization_id, user_id, role, session_id = found[0]
    return await _tokens(door, Caller(organization_id, user_id, session_id, role), new)


@post("/api/auth/logout", keyless=True, status_code=204)
async def logout(data: JSONBody[Logout | None], db: Db) -> None:
    """Ends a session: its access tokens and its refresh tokens are refused from now on."""
    token = data.refresh_token if data else None
    ((ended,),) = (await db.rows(queries.log_out, refresh_hash=secret_hash(token) if token else None))[0]
    if not ended:
        raise Invalid.fields(refreshToken="Is none of yours")


@post("/api/auth/password", keyless=True, status_code=204)
async def change_password(data: JSONBody[PasswordChange], db: Db, door: Knock) -> None:
    """A new password; every other session of the caller ends."""
    ((email, old_hash),) = (await db.rows(queries.find_password))[0]
    await door.throttle(email)
    if not (await passwords.verify([old_hash], data.current_password))[0]:
        raise Invalid.fields(currentPassword="Is wrong")
    await door.forgive(email)
    await db.rows(queries.set_password, new_hash=await passwords.make_hash(data.new_password))


@get("/api/auth/me")
async def me(db: Db) -> Answer[Me]:
    """The caller: user, role, organization, providerId, patientId."""
    return await db.one(queries.me)


handlers = [register, login, refresh, logout, change_password, me]
