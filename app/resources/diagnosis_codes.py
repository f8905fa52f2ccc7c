"""Diagnosis codes (ICD-10-CM), searched by code or description."""

from datetime import date
from typing import Annotated

from litestar import get
from msgspec import Meta

from app.database import statements
from app.http.dependencies import Db
from app.http.envelope import Envelope
from app.http.route_options import RouteOptions
from app.http.schemas import NO_NUL, QueryParams, ResponseBody

queries = statements.load("diagnosis_codes")

Search = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=300,
        pattern=NO_NUL,
        description="The beginning of a code, or words of its description, each of which may be a beginning.",
    ),
]


class DiagnosisCodeFilter(QueryParams, frozen=True):
    """The search text. Without it, all codes are listed."""

    search: Search | None = None


class DiagnosisCode(ResponseBody):
    """A diagnosis code. A claim requires a billable one. A code without dates is always valid."""

    code: str
    description: str
    billable: bool
    valid_from: date | None
    valid_until: Annotated[date, Meta(description="The first day on which it is no longer valid.")] | None


@get("/api/diagnosis-codes", options=RouteOptions(query=DiagnosisCodeFilter, paged=True))
async def list_diagnosis_codes(db: Db) -> Envelope[list[DiagnosisCode]]:
    """List diagnosis codes, sorted by code. `search` selects codes that begin with it or whose description contains all its words.

    Roles: all.
    """
    filters: DiagnosisCodeFilter = db.query
    return await db.page(queries.list, queries.count, search=filters.search)


handlers = [list_diagnosis_codes]
