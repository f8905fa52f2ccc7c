"""Providers: who gives care, known by NPI."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from app import sql
from app.db import Db
from app.wire import Answer, Body, CursorText, Email, Limit, Name, Offset, Page, Shape

queries = sql.load("providers")


class NewProvider(Body):
    """npi: ten digits, the last a check digit."""

    npi: Annotated[str, Meta(pattern="^[0-9]{10}$", examples=["1234567893"])]
    name: Name
    specialty: Name | None = None
    email: Email | None = None


class Provider(Shape):
    """A provider of the caller's organization."""

    id: UUID
    npi: str
    name: str
    specialty: str | None
    email: str | None
    created_at: datetime


@post("/api/providers")
async def create_provider(data: JSONBody[NewProvider], db: Db) -> Response[Answer[Provider]]:
    """A new provider; its NPI is unique in the organization."""
    return await db.created(queries.create, npi=data.npi, name=data.name, specialty=data.specialty, email=data.email)


@get("/api/providers")
async def list_providers(
    db: Db, limit: Limit = 20, cursor: CursorText = None, offset: Offset = None
) -> Answer[list[Provider]]:
    """What the caller may see, newest first."""
    return await db.page(queries.list_newest, queries.count, Page(limit, cursor, offset))


@get("/api/providers/{provider_id:str}")
async def get_provider(provider_id: FromPath[UUID], db: Db) -> Answer[Provider]:
    """One provider; 404 when missing or hidden from the caller."""
    return await db.one(queries.get, provider_id=provider_id)


handlers = [create_provider, list_providers, get_provider]
