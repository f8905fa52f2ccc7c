"""Providers of care, identified by NPI."""

from typing import Annotated
from uuid import UUID

from litestar import Response, get, patch, post
from litestar.params import JSONBody
from msgspec import UNSET, UnsetType

from app.database import statements
from app.http.dependencies import Db
from app.http.envelope import Envelope
from app.http.route_options import RouteOptions
from app.http.schemas import Email, Id, Instant, Name, RequestBody, ResponseBody, regex_string

queries = statements.load("providers")

Npi = Annotated[
    str, regex_string("^[0-9]{10}$", description="Ten digits. The last one is a check digit.", examples=["1234567893"])
]


class NewProvider(RequestBody):
    """A new provider. npi is unique in the organization."""

    npi: Npi
    name: Name
    specialty: Name | None = None
    email: Email | None = None


class ProviderChange(RequestBody):
    """Changes of a provider. Fields that are not sent stay unchanged; null removes an optional value. Only an admin may change npi."""

    npi: Npi | UnsetType = UNSET
    name: Name | UnsetType = UNSET
    specialty: Name | UnsetType | None = UNSET
    email: Email | UnsetType | None = UNSET


class Provider(ResponseBody):
    """A provider of the caller's organization."""

    id: UUID
    npi: Npi
    name: Name
    specialty: Name | None
    email: Email | None
    created_at: Instant


@post("/api/providers")
async def create_provider(data: JSONBody[NewProvider], db: Db) -> Response[Envelope[Provider]]:
    """Create a provider. Its NPI is unique in the organization.

    Roles: admin.
    """
    return await db.created(queries.create, **data.insert_params())


@get("/api/providers", options=RouteOptions(paged=True))
async def list_providers(db: Db) -> Envelope[list[Provider]]:
    """List providers, newest first. Contains the providers that the caller may see.

    Roles: admin, claims_processor, provider, patient (of own claims and care).
    """
    return await db.page(queries.list_newest, queries.count)


@get("/api/providers/{id:str}")
async def get_provider(provider_id: Id, db: Db) -> Envelope[Provider]:
    """Get a provider. Returns 404 if it does not exist or the caller may not see it.

    Roles: admin, claims_processor, provider, patient (of own claims and care).
    """
    return await db.one(queries.get, provider_id=provider_id)


@patch("/api/providers/{id:str}")
async def change_provider(provider_id: Id, data: JSONBody[ProviderChange], db: Db) -> Envelope[Provider]:
    """Change a provider. A user with the role provider may change only its own provider.

    Roles: admin, provider.
    """
    return await db.updated(queries.get, queries.change, provider_id=provider_id, **data.update_params())


handlers = [create_provider, list_providers, get_provider, change_provider]
