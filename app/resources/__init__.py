"""One module or package for each resource: its request and response structs, and its handlers.

Named after the resource's table; files in sql/queries, sql/functions, sql/policies, jobs and tests/resources have the same name.
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
"""Each has `handlers`."""
