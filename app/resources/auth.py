"""Registration, login, logout, password change, and the current user."""

from contextlib import suppress
from typing import Annotated, Any, Literal, cast
from uuid import UUID, uuid4

from litestar import Request, get, post
from litestar.background_tasks import BackgroundTask
from litestar.params import JSONBody
from msgspec import Meta

from app.database import statements
from app.database.statements import Statement
from app.errors import Invalid, RegistrationClosed, Unauthorized
from app.http.dependencies import Anonymous, AnonymousRequest, Db
from app.http.envelope import Envelope
from app.http.prepared_response import PreparedResponse
from app.http.route_options import RouteOptions
from app.http.schemas import NO_NUL, Email, Name, QueryParams, RequestBody, ResponseBody, Slug
from app.security import passwords
from app.security.tokens import LIFETIME_S, REFRESH_LIFETIME_S, Caller, make_token, new_secret, secret_hash, successors
from app.vocabulary import Role

queries = statements.load("auth")

Password = Annotated[
    str, Meta(min_length=12, max_length=128, pattern=NO_NUL, examples=["a bicycle under the old bridge"])
]
ExistingPassword = Annotated[str, Meta(min_length=1, max_length=128, pattern=NO_NUL)]
Secret = Annotated[str, Meta(min_length=1, max_length=200, pattern=NO_NUL)]


class Login(RequestBody):
    """Email and password. organizationSlug selects the organization if the email belongs to several.

    Without it, only the oldest membership counts, and those whose email was verified by a mailed link.
    """

    email: Email
    password: ExistingPassword
    organization_slug: Slug | None = None


class Registration(RequestBody):
    """Either a new organization (organizationName and email, both required), or an invitation to an existing one (invitationToken).

    An invitation has the organization and the email, so neither is allowed with invitationToken.
    """

    name: Name
    password: Password
    organization_name: Name | None = None
    email: Email | None = None
    invitation_token: Secret | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        new_organization = (self.organization_name, self.email)
        if self.invitation_token is None and None in new_organization:
            raise Invalid.fields(**dict.fromkeys(self._missing(), "Is required without an invitationToken"))
        if self.invitation_token is not None and new_organization != (None, None):
            raise Invalid.fields(invitationToken="Can't be combined with organizationName or email")

    def _missing(self) -> list[str]:
        names = {"organizationName": self.organization_name, "email": self.email}
        return [name for name, value in names.items() if value is None]


class Refresh(RequestBody):
    """The refresh token of the previous response."""

    refresh_token: Secret


class Logout(RequestBody):
    """The refresh token of the session to end. Without it, the caller's own session ends."""

    refresh_token: Secret | None = None


class PasswordChange(RequestBody):
    """The caller's current and new password."""

    current_password: ExistingPassword
    new_password: Password


class PasswordChangeOptions(QueryParams, frozen=True):
    """tokens: whether the response is a new pair of tokens for the caller's session, instead of 204."""

    tokens: bool = False


class Membership(ResponseBody):
    """The organization of a user."""

    id: UUID
    slug: Slug
    name: Name


class Me(ResponseBody):
    """The logged-in user."""

    id: UUID
    email: Email
    name: Name
    role: Role
    provider_id: UUID | None
    patient_id: UUID | None
    organization: Membership


class TokenPair(ResponseBody):
    """An access token, which expires after expiresIn seconds, a refresh token, and their user."""

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
    """A response with a pair of tokens, and with the user as read in the caller's own session."""
    tokens: dict[str, object] = {
        "accessToken": make_token(caller, anonymous.settings.token_keys),
        "tokenType": "Bearer",
        "expiresIn": LIFETIME_S,
        "refreshToken": refresh_token,
    }
    return await anonymous.authenticate(caller).with_extra_fields(tokens, "user", *before, queries.me, status=status)


async def start_session(
    anonymous: AnonymousRequest, membership: tuple[Any, ...], status: int = 200, **credentials: Any
) -> Any:
    """Starts a session for the membership (organization, user, role).

    credentials: changed_at of the verified password, and a new_hash if its stored hash is outdated. Raises Unauthorized if the
    password was changed while it was verified.
    """
    organization_id, user_id, role = membership
    caller, secret = Caller(organization_id, user_id, uuid4(), role), new_secret()
    params = {"user_id": user_id, "session_id": caller.session_id, "refresh_hash": secret_hash(secret)}
    params |= {"tenant": organization_id, "seconds": REFRESH_LIFETIME_S, "changed_at": None, "new_hash": None}
    if not (await anonymous.rows(queries.open_session, **params | credentials))[0][0]:
        raise Unauthorized
    return await _tokens(anonymous, caller, secret, queries.record_login, status=status)


@post(
    "/api/auth/register",
    options=RouteOptions(public=True, idempotency="refused", limit_concurrency=True, registers=True, location=False),
)
async def register(data: JSONBody[Registration], anonymous: Anonymous) -> Envelope[TokenPair]:
    """Register an organization with its first admin, or accept an invitation. The response contains tokens.

    Returns 403 for a new organization if the operator has closed registration.
    """
    await anonymous.throttle.count_login_attempt()
    if data.invitation_token is None:
        membership = await register_organization(data, anonymous)
    else:
        membership = await accept_invitation(data, data.invitation_token, anonymous)
    return await start_session(anonymous, membership, status=201)


async def register_organization(data: Registration, anonymous: AnonymousRequest) -> tuple[Any, ...]:
    """Creates an organization and its first admin; returns (organization, user, role). Raises RegistrationClosed."""
    if anonymous.settings.registration != "open":
        raise RegistrationClosed
    params = {"organization": data.organization_name, "email": data.email, "name": data.name}
    password_hash = await _hash(data.password, data.email, anonymous)
    return (await anonymous.rows(queries.register, **params, password_hash=password_hash))[0]


async def _hash(password: str, email: str | None, anonymous: AnonymousRequest) -> str:
    """A new member's password hash. It reuses the salt if the email already has a hash in some organization."""
    ((reuse_salt_of,),) = await anonymous.rows(queries.find_password_hash, email=email)
    return await passwords.make_hash(password, reuse_salt_of)


async def accept_invitation(data: Registration, token: str, anonymous: AnonymousRequest) -> tuple[Any, ...]:
    """Creates the invited user; returns (organization, user, role). The token is `<organization id>.<secret>`."""
    organization_id, _, secret = token.partition(".")
    with suppress(ValueError):
        params = {"tenant": UUID(organization_id), "token_hash": secret_hash(secret), "name": data.name}
        # Checked before the expensive hash, and again when the invitation is accepted.
        for (email,) in await anonymous.rows(queries.find_invitation, **params):
            password_hash = await _hash(data.password, email, anonymous)
            for membership in await anonymous.rows(queries.accept_invitation, **params, password_hash=password_hash):
                return membership
    raise Invalid.fields(invitationToken="Is already used, expired or unknown")


@post(
    "/api/auth/login", status_code=200, options=RouteOptions(public=True, idempotency="refused", limit_concurrency=True)
)
async def login(data: JSONBody[Login], anonymous: Anonymous) -> Envelope[TokenPair]:
    """Log in with email and password. Returns 401 with the same message for every cause, 429 after too many wrong passwords."""
    await anonymous.throttle.count_login_attempt(data.email)
    candidates = await anonymous.rows(queries.find_logins, email=data.email, slug=data.organization_slug)
    matches = await passwords.verify([row[3] for row in candidates], data.password)
    verified = [row for row, is_match in zip(candidates, matches, strict=False) if is_match]
    if len(verified) != 1:
        attempt = {"email": data.email, "slug": data.organization_slug, **anonymous.origin}
        raise Unauthorized(afterwards=BackgroundTask(anonymous.rows, queries.record_failed_login, **attempt))
    if len(candidates) == 1:  # with several candidates, it was also a guess at the others' passwords
        await anonymous.throttle.refund_login_attempt(data.email)
    *membership, old_hash, changed_at = verified[0]
    new_hash = await passwords.make_hash(data.password, old_hash) if passwords.is_outdated(old_hash) else None
    return await start_session(anonymous, tuple(membership), changed_at=changed_at, new_hash=new_hash)


@post("/api/auth/refresh", status_code=200, options=RouteOptions(public=True, idempotency="refused"))
async def refresh(data: JSONBody[Refresh], anonymous: Anonymous) -> Envelope[TokenPair]:
    """Exchange a refresh token for a new pair of tokens. The old refresh token is used up.

    A repeated request within ten seconds gets the same new refresh token. Later reuse returns 401 and ends the session.
    """
    next_tokens = successors(data.refresh_token, anonymous.settings.refresh_keys())
    params = {"old_hash": secret_hash(data.refresh_token), "successors": b"".join(map(secret_hash, next_tokens))}
    rows = await anonymous.rows(queries.refresh, **params, seconds=REFRESH_LIFETIME_S)
    if not rows:
        raise Unauthorized
    organization_id, user_id, role, session_id, place = rows[0]
    return await _tokens(anonymous, Caller(organization_id, user_id, session_id, role), next_tokens[place - 1])


@post("/api/auth/logout", status_code=204, options=RouteOptions(idempotency="refused"))
async def logout(db: Db, data: JSONBody[Logout | None] = None) -> None:
    """End a session. Its access tokens and refresh tokens are refused from then on.

    Roles: all.
    """
    token = data.refresh_token if data else None
    ((ended,),) = (await db.session.rows(queries.log_out, refresh_hash=secret_hash(token) if token else None))[0]
    if not ended:
        raise Invalid.fields(refreshToken="Is not one of your refresh tokens")


@post(
    "/api/auth/password",
    status_code=200,
    options=RouteOptions(idempotency="refused", limit_concurrency=True, query=PasswordChangeOptions, allow_empty=True),
)
async def change_password(
    data: JSONBody[PasswordChange], db: Db, anonymous: Anonymous, request: Request[Any, Caller, Any]
) -> Envelope[TokenPair] | None:
    """Change the caller's password. All other sessions of the caller end, and all refresh tokens of this one become invalid. Returns
    204, or with ?tokens=true 200 and a new pair of tokens for this session.

    Roles: all.
    """
    credentials = await _verified_change(data, db, anonymous)
    secret = new_secret() if db.query.tokens else None
    params = {"refresh_hash": secret_hash(secret) if secret else None, "seconds": REFRESH_LIFETIME_S}
    (((changed,),),) = await db.session.rows(queries.set_password, **params, **credentials)
    if not changed:  # another request has changed it in the meantime
        raise Invalid.fields(currentPassword="Is wrong")
    if secret:
        return await _tokens(anonymous, request.auth, secret)
    return cast("Any", PreparedResponse(b"", 204).to_litestar())


async def _verified_change(data: PasswordChange, db: Db, anonymous: AnonymousRequest) -> dict[str, Any]:
    """The new password's hash, and changed_at of the current one. Raises Invalid if the current password is wrong."""
    ((email, old_hash, changed_at),) = (await db.session.rows(queries.find_password))[0]
    await anonymous.throttle.count_login_attempt(email)
    if not (await passwords.verify([old_hash], data.current_password))[0]:
        raise Invalid.fields(currentPassword="Is wrong")
    await anonymous.throttle.refund_login_attempt(email)
    return {"new_hash": await passwords.make_hash(data.new_password, old_hash), "changed_at": changed_at}


@get("/api/auth/me")
async def me(db: Db) -> Envelope[Me]:
    """Get the caller's user. It includes role, organization, providerId and patientId.

    Roles: all.
    """
    return await db.one(queries.me)


handlers = [register, login, refresh, logout, change_password, me]
