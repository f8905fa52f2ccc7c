"""One module or package for each resource, with its request and response structs and its handlers.

It is named after the resource's table. Files in sql/queries, sql/functions, sql/policies, jobs and tests/resources use the same name.
"""

RESOURCES = (
    "health",
    "auth",
    "claims",
    "patients",
    "providers",
    "users",
    "invitations",
    "organizations",
    "diagnosis_codes",
    "patient_status_events",
    "job_processing_logs",
    "audit_logs",
)
"""Modules of this package. Each defines `handlers`."""
