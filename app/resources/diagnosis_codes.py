"""Diagnosis codes: ICD-10-CM, looked up by code or by words."""

from datetime import date
from typing import Annotated

from litestar import get
from msgspec import Meta

from app.database import statements as sql
from app.database.session import Db
from app.http.pagination import Page
from app.http.schemas import NO_NUL, Answer, Shape

queries = sql.load("diagnosis_codes")

Search = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        pattern=NO_NUL,
        description="A code's beginning, or words of its description.",
    ),
]


class DiagnosisCodePage(Page, frozen=True):
    """A page of the codes that fit the search; all where there is none."""

    search: Search | None = None


class DiagnosisCode(Shape):
    """A code of one release. Only a billable one may stand on a claim; without dates it is always valid."""

    code: str
    description: str
    billable: bool
    valid_from: date | None
    valid_until: Annotated[date, Meta(description="The first day on which it is no longer valid.")] | None


@get("/api/diagnosis-codes", query=DiagnosisCodePage)
async def list_diagnosis_codes(db: Db) -> Answer[list[DiagnosisCode]]:
    """Codes that begin with the search, or whose description holds all of its words; in the order of the codes."""
    page: DiagnosisCodePage = db.query
    return await db.page(queries.list, queries.count, search=page.search)


handlers = [list_diagnosis_codes]
