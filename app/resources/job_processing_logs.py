"""Jobs: their status and results, and the retry of failed ones."""

from typing import Annotated
from uuid import UUID

from litestar import get, post
from msgspec import Meta

from app.database import statements
from app.http.dependencies import Db
from app.http.envelope import Envelope
from app.http.route_options import RouteOptions
from app.http.schemas import Id, Instant, QueryParams, ResponseBody
from app.resources.job_results import JobResult
from app.vocabulary import JobStatus, JobType

queries = statements.load("job_processing_logs")


class JobFilter(QueryParams, frozen=True):
    """Filters of jobs: status and type."""

    status: JobStatus | None = None
    job_type: JobType | None = None


class Job(ResponseBody):
    """A job. error is the class of the last failure; it never contains a value of a row."""

    id: UUID
    job_type: JobType
    status: JobStatus
    attempts: Annotated[int, Meta(ge=0)]
    event_id: UUID
    error: str | None
    result: JobResult | None
    created_at: Instant
    started_at: Instant | None
    finished_at: Instant | None


@get("/api/jobs", options=RouteOptions(query=JobFilter, paged=True))
async def list_jobs(db: Db) -> Envelope[list[Job]]:
    """List the organization's jobs, newest first.

    Roles: admin.
    """
    filters: JobFilter = db.query
    return await db.page(queries.list_newest, queries.count, status=filters.status, job_type=filters.job_type)


@post("/api/jobs/{id:str}/retry", status_code=202)
async def retry_job(job_id: Id, db: Db) -> Envelope[Job]:
    """Retry a failed job. It runs again, with up to three attempts. Returns 409 if the job has not failed.

    Roles: admin.
    """
    return await db.accepted(queries.retry, job_id=job_id)


handlers = [list_jobs, retry_job]
