"""Registering, logging in and out, and who is logged in."""

from contextlib import suppress
from typing import Annotated, Any, ClassVar, Literal, cast
from uuid import UUID, uuid4

from litestar import Request, get, post
from litestar.background_tasks import BackgroundTask
from litestar.params import JSONBody
from msgspec import Meta

from app.database import statements
from app.database.statements import Statement
from app.errors import Forbidden, Invalid, Unauthorized
from app.http.dependencies import Anonymous, AnonymousRequest, Db
from app.http.envelope import Envelope
from app.http.prepared_response import PreparedResponse
from app.http.route_options import RouteOptions
from app.http.schemas import NO_NUL, Email, Name, QueryParams, RequestBody, ResponseBody, Slug
from app.security import passwords
from app.security.tokens import LIFETIME, REFRESH_LIFETIME, Caller, make_token, new_secret, secret_hash, successors
from app.vocabulary import Role

queries = statements.load("auth")

Password = Annotated[
    str, Meta(min_length=12, max_length=128, pattern=NO_NUL, examples=["correct horse battery staple"])
]
ExistingPassword = Annotated[str, Meta(min_length=1, max_length=128, pattern=NO_NUL)]
Secret = Annotated[str, Meta(min_length=1, max_length=200, pattern=NO_NUL)]


class Login(RequestBody):
    """The slug chooses where the same email stands in several organizations. Without it only the oldest membership counts, and those
    whose email was proven by a mailed link."""

    email: Email
    password: ExistingPassword
    organization_slug: Slug | None = None


TEXT, NULL = {"type": "string"}, {"type": "null"}


class Registration(RequestBody):
    """Either a new organization and its first admin, or joining one by invitation."""

    json_schema: ClassVar[dict[str, Any]] = {
        "examples": [
            {
                "organizationName": "HealthFirst Insurance",
                "email": "pat@example.org",
                "name": "Pat Admin",
                "password": "correct horse battery staple",
            }
        ],
        "oneOf": [
            {
                "required": ["organizationName", "email"],
                "properties": {"organizationName": TEXT, "email": TEXT, "invitationToken": NULL},
            },
            {
                "required": ["invitationToken"],
                "properties": {"organizationName": NULL, "email": NULL, "invitationToken": TEXT},
            },
        ],
    }

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


class Refresh(RequestBody):
    """The refresh token of the answer before."""

    refresh_token: Secret


class Logout(RequestBody):
    """Which session ends; without a token the caller's own."""

    refresh_token: Secret | None = None


class PasswordChange(RequestBody):
    """The caller's other sessions end, and the refresh tokens of this one."""

    current_password: ExistingPassword
    new_password: Password


class PasswordChangeOptions(QueryParams, frozen=True):
    """tokens: whether the answer is a new pair of tokens for the caller's session, instead of nothing."""

    tokens: bool = False


class Membership(ResponseBody):
    """A tenant, as its members see it."""

    id: UUID
    slug: Slug
    name: Name


class Me(ResponseBody):
    """Who is logged in."""

    id: UUID
    email: Email
    name: Name
    role: Role
    provider_id: UUID | None
    patient_id: UUID | None
    organization: Membership


class TokenPair(ResponseBody):
    """What a login gives. expiresIn is in seconds."""

    access_token: Annotated[
        str, Meta(examples=["eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIiwidHlwIjoiYXQrand0In0.e30.c2lnbmF0dXJl"])
    ]
    token_type: Literal["Bearer"]
    expires_in: Annotated[int, Meta(examples=[900])]
    refresh_token: Annotated[str, Meta(examples=["q3J5X0mC2Yk7c1aPq8r0v5n4uJw9sT6bL2eZ1xGdHfE"])]
    user: Me


async def _tokens(
    anonymous: AnonymousRequest, caller: Caller, refresh_token: str, *before: Statement, status: int = 200
) -> Any:
    """A pair of tokens around what the caller's own session says of it."""
    tokens: dict[str, object] = {
        "accessToken": make_token(caller, anonymous.settings.token_keys),
        "tokenType": "Bearer",
        "expiresIn": LIFETIME,
        "refreshToken": refresh_token,
    }
    return await anonymous.authenticate(caller).with_extra_fields(tokens, "user", *before, queries.me, status=status)


async def start_session(
    anonymous: AnonymousRequest, who: tuple[Any, ...], status: int = 200, **credentials: Any
) -> Any:
    """Opens a session for who: (organization, user, role).

    proven: changed_at of the password that somebody logs in with, and its new_hash where the one before is outdated.
    Unauthorized where that password has been changed while its hash was made.
    """
    organization_id, user_id, role = who
    caller, secret = Caller(organization_id, user_id, uuid4(), role), new_secret()
    given = {"user_id": user_id, "session_id": caller.session_id, "refresh_hash": secret_hash(secret)}
    given |= {"tenant": organization_id, "seconds": REFRESH_LIFETIME, "changed_at": None, "new_hash": None}
    if not (await anonymous.rows(queries.open_session, **given | credentials))[0][0]:
        raise Unauthorized
    return await _tokens(anonymous, caller, secret, queries.record_login, status=status)


@post(
    "/api/auth/register",
    options=RouteOptions(public=True, idempotency="refused", limit_concurrency=True, registers=True, location=False),
)
async def register(data: JSONBody[Registration], anonymous: Anonymous) -> Envelope[TokenPair]:
    """A new organization and its first admin, or a new member by invitation; with tokens either way."""
    await anonymous.throttle.count_login_attempt()
    token = data.invitation_token
    who = await (register_organization(data, anonymous) if token is None else accept_invitation(data, token, anonymous))
    return await start_session(anonymous, who, status=201)


async def register_organization(data: Registration, anonymous: AnonymousRequest) -> tuple[Any, ...]:
    """(organization, user, role) of a new tenant's first admin; Forbidden where an operator closed registration."""
    if anonymous.settings.registration != "open":
        raise Forbidden
    given = {"organization": data.organization_name, "email": data.email, "name": data.name}
    password_hash = await _hash(data.password, data.email, anonymous)
    return (await anonymous.rows(queries.register, **given, password_hash=password_hash))[0]


async def _hash(password: str, email: str | None, anonymous: AnonymousRequest) -> str:
    """A new member's hash, with the salt that the email's hashes have where it stands already."""
    ((reuse_salt_of,),) = await anonymous.rows(queries.find_password_hash, email=email)
    return await passwords.make_hash(password, reuse_salt_of)


async def accept_invitation(data: Registration, token: str, anonymous: AnonymousRequest) -> tuple[Any, ...]:
    """(organization, user, role) of whom the invitation was for. Its token names the organization, then the secret."""
    tenant, _, secret = token.partition(".")
    with suppress(ValueError):
        given = {"tenant": UUID(tenant), "token_hash": secret_hash(secret), "name": data.name}
        # Looked for before a hash is spent on it, and once more when it is spent.
        for (email,) in await anonymous.rows(queries.find_invitation, **given):
            password_hash = await _hash(data.password, email, anonymous)
            for joined in await anonymous.rows(queries.accept_invitation, **given, password_hash=password_hash):
                return joined
    raise Invalid.fields(invitationToken="Is spent, expired or unknown")


@post(
    "/api/auth/login", status_code=200, options=RouteOptions(public=True, idempotency="refused", limit_concurrency=True)
)
async def login(data: JSONBody[Login], anonymous: Anonymous) -> Envelope[TokenPair]:
    """Tokens for an email and its password; 401 with one message for every cause."""
    await anonymous.throttle.count_login_attempt(data.email)
    found = await anonymous.rows(queries.find_logins, email=data.email, slug=data.organization_slug)
    fits = await passwords.verify([row[3] for row in found], data.password)
    fitting = [row for row, fit in zip(found, fits, strict=False) if fit]
    if len(fitting) != 1:
        tried = {"email": data.email, "slug": data.organization_slug, **anonymous.origin}
        raise Unauthorized(afterwards=BackgroundTask(anonymous.rows, queries.record_failed_login, **tried))
    if len(found) == 1:  # else it was also a guess at the others' passwords
        await anonymous.throttle.refund_login_attempt(data.email)
    *who, old_hash, changed_at = fitting[0]
    new_hash = await passwords.make_hash(data.password, old_hash) if passwords.is_outdated(old_hash) else None
    return await start_session(anonymous, tuple(who), changed_at=changed_at, new_hash=new_hash)


@post("/api/auth/refresh", status_code=200, options=RouteOptions(public=True, idempotency="refused"))
async def refresh(data: JSONBody[Refresh], anonymous: Anonymous) -> Envelope[TokenPair]:
    """The next pair of tokens. The old refresh token is dead: sent again within ten seconds it gives the same successor, later it ends the
    session."""
    next_ones = successors(data.refresh_token, anonymous.settings.refresh_keys())
    given = {"old_hash": secret_hash(data.refresh_token), "successors": b"".join(map(secret_hash, next_ones))}
    found = await anonymous.rows(queries.refresh, **given, seconds=REFRESH_LIFETIME)
    if not found:
        raise Unauthorized
    organization_id, user_id, role, session_id, place = found[0]
    return await _tokens(anonymous, Caller(organization_id, user_id, session_id, role), next_ones[place - 1])


@post("/api/auth/logout", status_code=204, options=RouteOptions(idempotency="refused"))
async def logout(db: Db, data: JSONBody[Logout | None] = None) -> None:
    """Ends a session: its access tokens and its refresh tokens are refused from now on."""
    token = data.refresh_token if data else None
    ((ended,),) = (await db.session.rows(queries.log_out, refresh_hash=secret_hash(token) if token else None))[0]
    if not ended:
        raise Invalid.fields(refreshToken="Is none of yours")


@post(
    "/api/auth/password",
    status_code=200,
    options=RouteOptions(idempotency="refused", limit_concurrency=True, query=PasswordChangeOptions, allow_empty=True),
)
async def change_password(
    data: JSONBody[PasswordChange], db: Db, anonymous: Anonymous, request: Request[Any, Caller, Any]
) -> Envelope[TokenPair] | None:
    """A new password; every other session of the caller ends, and so do all its refresh tokens. 204; with ?tokens=true 200 with a new pair
    of tokens for this session."""
    credentials = await _proven_change(data, db, anonymous)
    secret = new_secret() if db.query.tokens else None
    given = {"refresh_hash": secret_hash(secret) if secret else None, "seconds": REFRESH_LIFETIME}
    (((done,),),) = await db.session.rows(queries.set_password, **given, **credentials)
    if not done:  # another change was faster
        raise Invalid.fields(currentPassword="Is wrong")
    if secret:
        return await _tokens(anonymous, request.auth, secret)
    return cast("Any", PreparedResponse(b"", 204).to_litestar())


async def _proven_change(data: PasswordChange, db: Db, anonymous: AnonymousRequest) -> dict[str, Any]:
    """The new password's hash, and the changed_at of the one before; Invalid where the current one is wrong."""
    ((email, old_hash, changed_at),) = (await db.session.rows(queries.find_password))[0]
    await anonymous.throttle.count_login_attempt(email)
    if not (await passwords.verify([old_hash], data.current_password))[0]:
        raise Invalid.fields(currentPassword="Is wrong")
    await anonymous.throttle.refund_login_attempt(email)
    return {"new_hash": await passwords.make_hash(data.new_password, old_hash), "changed_at": changed_at}


@get("/api/auth/me")
async def me(db: Db) -> Envelope[Me]:
    """The caller: user, role, organization, providerId, patientId."""
    return await db.one(queries.me)


handlers = [register, login, refresh, logout, change_password, me]
