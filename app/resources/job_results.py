"""The result of a job, part of the responses for jobs and patient events."""

from uuid import UUID

from app.http.schemas import ResponseBody


class SkippedClaim(ResponseBody):
    """A claim that a job left unchanged, and the reason."""

    id: UUID
    reason: str


class FailedClaim(ResponseBody):
    """A claim whose status a job could not change, and the error code."""

    id: UUID
    code: str


class JobResult(ResponseBody):
    """The effect of a job on the patient's claims."""

    updated: list[UUID]
    skipped: list[SkippedClaim]
    failed: list[FailedClaim]
