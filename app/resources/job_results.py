"""The outcome of a job, as jobs and patient events show it."""

from uuid import UUID

from app.http.schemas import ResponseBody


class SkippedClaim(ResponseBody):
    """A claim that a job left alone, and why."""

    id: UUID
    reason: str


class FailedClaim(ResponseBody):
    """A claim that a job could not move, and the code of what kept it."""

    id: UUID
    code: str


class JobResult(ResponseBody):
    """What a job did to the patient's claims."""

    updated: list[UUID]
    skipped: list[SkippedClaim]
    failed: list[FailedClaim]
