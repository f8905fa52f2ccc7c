"""Users of the organization and their roles."""

from uuid import UUID

from litestar import get, patch, post
from litestar.params import JSONBody
from msgspec import UNSET, UnsetType

from app.database import statements
from app.http.dependencies import Db
from app.http.envelope import Envelope
from app.http.route_options import RouteOptions
from app.http.schemas import Email, Id, Instant, Name, RequestBody, ResponseBody
from app.vocabulary import Role

queries = statements.load("users")


class UserChange(RequestBody):
    """Changes of a user, effective from the user's next request.

    The role provider requires a providerId, and the role patient a patientId. Other roles have neither.
    """

    role: Role | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    provider_id: UUID | UnsetType | None = UNSET
    patient_id: UUID | UnsetType | None = UNSET


class Reassignment(RequestBody):
    """The claims processor to whom the claims are assigned; null unassigns them."""

    to_user_id: UUID | None


class User(ResponseBody):
    """A user of the caller's organization."""

    id: UUID
    email: Email
    name: Name
    role: Role
    active: bool
    provider_id: UUID | None
    patient_id: UUID | None
    created_at: Instant


class ChangedUser(User):
    """A user after a change, and the number of claims that returned to the queue because the user is no longer an active processor."""

    released_claims: int


class Reassigned(ResponseBody):
    """The number of reassigned claims."""

    reassigned: int


@get("/api/users", options=RouteOptions(paged=True))
async def list_users(db: Db) -> Envelope[list[User]]:
    """List the organization's users, newest first.

    Roles: admin.
    """
    return await db.page(queries.list_newest, queries.count)


@patch("/api/users/{id:str}")
async def change_user(user_id: Id, data: JSONBody[UserChange], db: Db) -> Envelope[ChangedUser]:
    """Change a user's role, or deactivate or reactivate the user. The last active admin can be neither demoted nor deactivated.

    The claims of a processor who is deactivated or gets another role return to the queue. releasedClaims is their number.

    Roles: admin.
    """
    return await db.updated(queries.lock, queries.change, user_id=user_id, **data.update_params())


@post("/api/users/{id:str}/reassign-claims", status_code=200)
async def reassign_claims(user_id: Id, data: JSONBody[Reassignment], db: Db) -> Envelope[Reassigned]:
    """Reassign a user's claims to a claims processor, or unassign them. Voided and reversed claims are left unchanged.

    Roles: admin.
    """
    return await db.one(queries.reassign, user_id=user_id, to_user_id=data.to_user_id)


handlers = [list_users, change_user, reassign_claims]
