"""Patients: the insured, known by member number."""

from datetime import date, datetime
from typing import Annotated
from uuid import UUID

from litestar import Response, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from app import sql
from app.db import Db
from app.wire import Answer, Body, CursorText, Email, Limit, Name, Offset, Page, Shape

queries = sql.load("patients")


class NewPatient(Body):
    """memberNumber is unique in the organization."""

    member_number: Annotated[str, Meta(min_length=1, max_length=64)]
    first_name: Name
    last_name: Name
    date_of_birth: date
    email: Email | None = None
    phone: Annotated[str, Meta(min_length=1, max_length=40)] | None = None


class Patient(Shape):
    """A patient of the caller's organization."""

    id: UUID
    member_number: str
    first_name: str
    last_name: str
    date_of_birth: date
    email: str | None
    phone: str | None
    created_at: datetime


@post("/api/patients")
async def create_patient(data: JSONBody[NewPatient], db: Db) -> Response[Answer[Patient]]:
    """A new patient; one that a provider enters is in its care."""
    given = {
        "member_number": data.member_number,
        "first_name": data.first_name,
        "last_name": data.last_name,
        "date_of_birth": data.date_of_birth,
        "email": data.email,
        "phone": data.phone,
    }
    return await db.created(queries.create, queries.get_by_member_number, **given)


@get("/api/patients")
async def list_patients(
    db: Db, limit: Limit = 20, cursor: CursorText = None, offset: Offset = None
) -> Answer[list[Patient]]:
    """What the caller may see, newest first."""
    return await db.page(queries.list_newest, queries.count, Page(limit, cursor, offset))


@get("/api/patients/{patient_id:str}")
async def get_patient(patient_id: FromPath[UUID], db: Db) -> Answer[Patient]:
    """One patient; 404 when missing or hidden from the caller."""
    return await db.one(queries.get, patient_id=patient_id)


handlers = [create_patient, list_patients, get_patient]
