"""Providers: who gives care, known by NPI."""

from typing import Annotated
from uuid import UUID

from litestar import Response, get, patch, post
from litestar.params import JSONBody
from msgspec import UNSET, UnsetType

from app.database import statements as sql
from app.database.session import Db
from app.http.pagination import Page
from app.http.schemas import Answer, Body, Email, Id, Instant, Name, Shape, spelled

queries = sql.load("providers")

Npi = Annotated[str, spelled("^[0-9]{10}$", description="The last digit is a check digit.", examples=["1234567893"])]


class NewProvider(Body):
    """npi is unique in the organization."""

    npi: Npi
    name: Name
    specialty: Name | None = None
    email: Email | None = None


class ProviderChange(Body):
    """Only what is sent changes; null takes away what is optional. The NPI is an admin's to correct."""

    npi: Npi | UnsetType = UNSET
    name: Name | UnsetType = UNSET
    specialty: Name | UnsetType | None = UNSET
    email: Email | UnsetType | None = UNSET


class Provider(Shape):
    """A provider of the caller's organization."""

    id: UUID
    npi: Npi
    name: Name
    specialty: Name | None
    email: Email | None
    created_at: Instant


@post("/api/providers")
async def create_provider(data: JSONBody[NewProvider], db: Db) -> Response[Answer[Provider]]:
    """A new provider; its NPI is unique in the organization."""
    return await db.created(queries.create, **data.given())


@get("/api/providers", query=Page)
async def list_providers(db: Db) -> Answer[list[Provider]]:
    """What the caller may see, newest first."""
    return await db.page(queries.list_newest, queries.count)


@get("/api/providers/{id:str}")
async def get_provider(provider_id: Id, db: Db) -> Answer[Provider]:
    """One provider; 404 when missing or hidden from the caller."""
    return await db.one(queries.get, provider_id=provider_id)


@patch("/api/providers/{id:str}")
async def change_provider(provider_id: Id, data: JSONBody[ProviderChange], db: Db) -> Answer[Provider]:
    """Corrects what is known of a provider; a provider corrects itself."""
    return await db.changed(queries.get, queries.change, provider_id=provider_id, **data.changes())


handlers = [create_provider, list_providers, get_provider, change_provider]
