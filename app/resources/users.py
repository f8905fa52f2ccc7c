"""Users: who works in the organization, and as what."""

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
    """Holds from the user's next request on. A provider has a providerId, a patient a patientId, nobody else either."""

    role: Role | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    provider_id: UUID | UnsetType | None = UNSET
    patient_id: UUID | UnsetType | None = UNSET


class Reassignment(RequestBody):
    """Whose the claims shall be: a processor's, or nobody's."""

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


class Reassigned(ResponseBody):
    """How many claims changed hands."""

    reassigned: int


@get("/api/users", options=RouteOptions(paged=True))
async def list_users(db: Db) -> Envelope[list[User]]:
    """Everybody in the organization, newest first."""
    return await db.page(queries.list_newest, queries.count)


@patch("/api/users/{id:str}")
async def change_user(user_id: Id, data: JSONBody[UserChange], db: Db) -> Envelope[User]:
    """Another role, or in and out; the last active admin stays both."""
    return await db.updated(queries.exists, queries.change, user_id=user_id, **data.update_params())


@post("/api/users/{id:str}/reassign-claims", status_code=200)
async def reassign_claims(user_id: Id, data: JSONBody[Reassignment], db: Db) -> Envelope[Reassigned]:
    """Hands all of a user's claims that can still move to a processor, or to nobody."""
    return await db.one(queries.reassign, user_id=user_id, to_user_id=data.to_user_id)


handlers = [list_users, change_user, reassign_claims]
