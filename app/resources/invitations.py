"""Invitations, by which an admin lets a new user join the organization in a given role."""

from uuid import UUID

from litestar import Response, delete, get, post
from litestar.params import JSONBody

from app.database import statements
from app.http.dependencies import Db
from app.http.envelope import Envelope
from app.http.route_options import RouteOptions
from app.http.schemas import Email, Id, Instant, RequestBody, ResponseBody
from app.security.tokens import new_secret, secret_hash
from app.vocabulary import Role

queries = statements.load("invitations")


class NewInvitation(RequestBody):
    """Email and role of the invited user. The role provider requires a providerId, and the role patient a patientId.

    Other roles have neither.
    """

    email: Email
    role: Role
    provider_id: UUID | None = None
    patient_id: UUID | None = None


class Invitation(ResponseBody):
    """An invitation. It is open until it is accepted, is withdrawn or expires."""

    id: UUID
    email: Email
    role: Role
    provider_id: UUID | None
    patient_id: UUID | None
    created_at: Instant
    expires_at: Instant
    accepted_at: Instant | None


class InvitationWithToken(Invitation):
    """A new invitation with its token. No other response contains the token, because only its hash is stored."""

    invitation_token: str


@post("/api/invitations", options=RouteOptions(idempotency="refused"))
async def invite(data: JSONBody[NewInvitation], db: Db) -> Response[Envelope[InvitationWithToken]]:
    """Create an invitation. It expires after seven days. Only this response contains its token.

    Roles: admin.
    """
    secret = new_secret()
    return await db.created(queries.create, **data.sent_fields(), secret=secret, token_hash=secret_hash(secret))


@get("/api/invitations", options=RouteOptions(paged=True))
async def list_invitations(db: Db) -> Envelope[list[Invitation]]:
    """List the organization's invitations, newest first.

    Roles: admin.
    """
    return await db.page(queries.list_newest, queries.count)


@delete("/api/invitations/{id:str}")
async def withdraw_invitation(invitation_id: Id, db: Db) -> None:
    """Withdraw an invitation. Its token becomes invalid. Returns 404 if the invitation was already accepted.

    Roles: admin.
    """
    return await db.no_content(queries.withdraw, invitation_id=invitation_id)


handlers = [invite, list_invitations, withdraw_invitation]
