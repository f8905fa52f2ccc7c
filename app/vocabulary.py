"""Words that the API, tokens and jobs share with the database: statuses, roles, types of events and jobs.

SQL has its own list of each; tests/database/test_vocabulary.py compares them. This module imports nothing of the project.
"""

from typing import Literal, get_args

ClaimStatus = Literal[
    "draft", "submitted", "under_review", "pending_info", "approved", "rejected", "paid", "appealed", "voided", "reversed",
]  # fmt: skip
CLAIM_STATUSES: tuple[ClaimStatus, ...] = get_args(ClaimStatus)
"""In the order of a claim's life."""

Role = Literal["admin", "claims_processor", "provider", "patient"]
"""Roles of users."""
ActingRole = Role | Literal["system"]
"""Roles that change rows: those of users, and that of jobs."""
ROLES: tuple[Role, ...] = get_args(Role)
ACTING_ROLES: tuple[ActingRole, ...] = (*ROLES, "system")

EventType = Literal["admission", "discharge", "treatment_initiated", "admission_cancelled", "discharge_cancelled"]
JobType = Literal[
    "patient_admission", "patient_discharge", "treatment_initiated", "admission_cancelled", "discharge_cancelled"
]
JobStatus = Literal["pending", "processing", "completed", "failed"]
JOB_TYPES: dict[EventType, JobType] = {
    "admission": "patient_admission",
    "discharge": "patient_discharge",
    "treatment_initiated": "treatment_initiated",
    "admission_cancelled": "admission_cancelled",
    "discharge_cancelled": "discharge_cancelled",
}
"""The type of the job that an event of each type starts."""
