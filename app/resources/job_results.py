"""The result of a job, part of the responses for jobs and patient events."""

from typing import Annotated
from uuid import UUID

from msgspec import Meta

from app.http.schemas import ResponseBody


class SkippedClaim(ResponseBody):
    """A claim that a job left unchanged, and the reason."""

    id: UUID
    reason: str


class FailedClaim(ResponseBody):
    """A claim whose status a job could not change, and the error code."""

    id: UUID
    code: str


Count = Annotated[int, Meta(ge=0)]


class JobResult(ResponseBody):
    """The effect of a job on the patient's claims. Each list has at most 1,000 entries; the counts include all."""

    updated: Annotated[list[UUID], Meta(max_length=1000)]
    skipped: Annotated[list[SkippedClaim], Meta(max_length=1000)]
    failed: Annotated[list[FailedClaim], Meta(max_length=1000)]
    updated_count: Count
    skipped_count: Count
    failed_count: Count
