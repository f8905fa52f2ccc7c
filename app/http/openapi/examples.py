"""Examples of the OpenAPI document: one small organization, from its registration to the decision about a claim.

Every example is possible, and they agree with each other. tests/http/test_openapi_examples.py sends the requests to a real API.
"""

import hashlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.http.openapi.text import PUBLISHED_NAMES, Json
from app.vocabulary import CLAIM_STATUSES


def _id(name: str, created_at: str) -> str:
    """The id of a record: a UUID of version 7, which begins with the time of the record's creation."""
    millisecond = int(datetime.fromisoformat(created_at).timestamp() * 1000)
    rest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:10], "big")
    number = millisecond << 80 | rest
    return str(UUID(int=number & ~(0xF << 76) & ~(3 << 62) | 7 << 76 | 2 << 62))


def _at(day: str, time: str) -> str:
    """An instant as the API writes it."""
    return datetime.fromisoformat(f"{day}T{time}").replace(tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


FOUNDED = _at("2025-11-03", "08:00:00")
INVITED, JOINED = _at("2025-11-03", "08:20:00"), _at("2025-11-03", "09:05:00")
INVITATION_EXPIRES = _at("2025-11-10", "08:20:00")
PROVIDER_ADDED, PATIENT_ADDED = _at("2025-11-04", "10:15:00"), _at("2025-11-04", "10:40:00")
CREATED, ASSIGNED, DECIDED = (_at("2026-01-15", time) for time in ("09:30:00", "09:45:00", "10:05:00"))
ADMITTED, REPORTED, APPLIED = (_at("2026-01-15", time) for time in ("08:00:00", "11:00:00", "11:00:01"))
RESPONDED = "2026-01-15T11:00:02.500Z"
"""The time of every response. It is after that of all records."""

ORGANIZATION_ID, ADMIN_ID = _id("organization", FOUNDED), _id("admin", FOUNDED)
INVITATION_ID, PROCESSOR_ID = _id("invitation", INVITED), _id("processor", JOINED)
PROVIDER_ID, PATIENT_ID = _id("provider", PROVIDER_ADDED), _id("patient", PATIENT_ADDED)
CLAIM_ID, OTHER_CLAIM_ID = _id("claim", CREATED), _id("other claim", CREATED)
EVENT_ID, JOB_ID, AUDIT_ID = _id("event", REPORTED), _id("job", REPORTED), _id("audit", DECIDED)
REQUEST_ID = "6f1c9a52-3d0e-4b7f-8a61-2e5d9c40b713"
PATH_IDS = {
    "claims": CLAIM_ID,
    "patients": PATIENT_ID,
    "providers": PROVIDER_ID,
    "users": PROCESSOR_ID,
    "invitations": INVITATION_ID,
    "job processing logs": JOB_ID,
}
"""The example of `{id}`, by tag."""
PARAMETERS: dict[str, Any] = {
    "patientId": PATIENT_ID,
    "providerId": PROVIDER_ID,
    "status": "submitted,under_review",
    "assignedTo": "none",
    "serviceDateFrom": "2026-01-01",
    "serviceDateTo": "2026-01-31",
    "amountMin": 100,
    "amountMax": 5000,
    "diagnosisCode": "E11.9",
    "createdFrom": "2026-01-01T00:00:00Z",
    "createdTo": "2026-01-31T23:59:59Z",
    "atFrom": "2026-01-15T00:00:00Z",
    "atTo": "2026-01-15T23:59:59Z",
    "claimNumber": "A-10",
    "search": "diabetes",
    "actorUserId": PROCESSOR_ID,
    "entity": "claims",
    "entityId": CLAIM_ID,
}
"""Examples of other parameters, by name."""

PASSWORD, OTHER_PASSWORD = "a bicycle under the old bridge", "seven herons at the weir"
"""No password of the demo data or of the tests: a program that sends the examples must not change that of an account."""
REFRESH_TOKEN = "q3J5X0mC2Yk7c1aPq8r0v5n4uJw9sT6bL2eZ1xGdHfE"  # noqa: S105
NEW_CLAIM: Json = {
    "patientId": PATIENT_ID,
    "providerId": PROVIDER_ID,
    "diagnosisCode": "E11.9",
    "amount": 1250.5,
    "serviceDate": "2026-01-14",
    "notes": "Follow-up visit",
    "claimNumber": "A-1042",
}
CLAIM: Json = {
    "id": CLAIM_ID,
    "claimNumber": "A-1042",
    **{name: NEW_CLAIM[name] for name in ("patientId", "providerId", "diagnosisCode", "amount")},
    "approvedAmount": None,
    "serviceDate": "2026-01-14",
    "status": "submitted",
    "notes": "Follow-up visit",
    "denialReason": None,
    "denialCode": None,
    "assignedTo": None,
    "submittedAt": CREATED,
    "processedAt": None,
    "paidAt": None,
    "createdAt": CREATED,
    "updatedAt": CREATED,
    "version": 1,
}
ASSIGNED_CLAIM = CLAIM | {"assignedTo": PROCESSOR_ID, "updatedAt": ASSIGNED, "version": 2}
DENIAL: Json = {"denialReason": "Not covered by the plan", "denialCode": "CO-50"}
REJECTED_CLAIM = (
    ASSIGNED_CLAIM | DENIAL | {"status": "rejected", "processedAt": DECIDED, "updatedAt": DECIDED, "version": 3}
)
HISTORY: list[Json] = [
    {
        "from": None,
        "to": "submitted",
        "at": CREATED,
        "byUserId": ADMIN_ID,
        "byRole": "admin",
        "reason": None,
        "source": "api",
        "eventId": None,
    },
    {
        "from": "submitted",
        "to": "rejected",
        "at": DECIDED,
        "byUserId": PROCESSOR_ID,
        "byRole": "claims_processor",
        "reason": "Not covered by the plan",
        "source": "api",
        "eventId": None,
    },
]
COUNTS = {"submitted": (3, 3751.5), "under_review": (2, 1800), "approved": (3, 2400), "rejected": (1, 640)}
"""Number and amount of the claims of a status."""
BY_STATUS: Json = {
    status: dict(zip(("count", "amount"), COUNTS.get(status, (0, 0)), strict=True)) for status in CLAIM_STATUSES
}
NEW_PATIENT: Json = {
    "memberNumber": "M-204881",
    "firstName": "Ada",
    "lastName": "Moreau",
    "dateOfBirth": "1984-03-12",
    "email": "ada.moreau@example.org",
    "phone": "+1 617 555 0100",
}
NEW_PROVIDER: Json = {
    "npi": "1234567893",
    "name": "Riverside Medical Center",
    "specialty": "Internal medicine",
    "email": "claims@riverside.example.org",
}
MEMBERSHIP: Json = {"id": ORGANIZATION_ID, "slug": "healthfirst-insurance", "name": "HealthFirst Insurance"}
SETTINGS: Json = {
    "claimAmountLimit": 1000000,
    "autoApproveLimit": 500,
    "timezone": "America/New_York",
    "decisionDays": 30,
    "appealWindowDays": 180,
}
ADMIN: Json = {
    "id": ADMIN_ID,
    "email": "pat.keller@example.org",
    "name": "Pat Keller",
    "role": "admin",
    "providerId": None,
    "patientId": None,
}
PROCESSOR = ADMIN | {
    "id": PROCESSOR_ID,
    "email": "noa.lindqvist@example.org",
    "name": "Noa Lindqvist",
    "role": "claims_processor",
}
ME = ADMIN | {"organization": MEMBERSHIP}
INVITATION: Json = {
    "id": INVITATION_ID,
    "email": PROCESSOR["email"],
    "role": "claims_processor",
    "providerId": None,
    "patientId": None,
    "createdAt": INVITED,
    "expiresAt": INVITATION_EXPIRES,
    "acceptedAt": None,
}
NEW_EVENT: Json = {
    "patientId": PATIENT_ID,
    "eventType": "admission",
    "occurredAt": ADMITTED,
    "providerId": PROVIDER_ID,
    "visitNumber": "V-7731",
    "facility": "Riverside Medical Center",
    "notes": "Admitted for observation",
    "idempotencyKey": "adt-7731-a01",
}
JOB_RESULT: Json = {
    "updated": [OTHER_CLAIM_ID],
    "skipped": [],
    "failed": [],
    "updatedCount": 1,
    "skippedCount": 0,
    "failedCount": 0,
}
EVENT: Json = {
    "id": EVENT_ID,
    **NEW_EVENT,
    "createdAt": REPORTED,
    "jobStatus": "pending",
    "jobResult": None,
}
JOB: Json = {
    "id": JOB_ID,
    "jobType": "patient_admission",
    "status": "completed",
    "attempts": 1,
    "eventId": EVENT_ID,
    "error": None,
    "result": JOB_RESULT,
    "createdAt": REPORTED,
    "startedAt": REPORTED,
    "finishedAt": APPLIED,
}
FIELD_ERRORS = {"amount": ["Must have at most two decimals"]}
FIELDS = {"fields": FIELD_ERRORS}
LINE_ERROR: Json = {"code": "VALIDATION_ERROR", "message": "The request is invalid. See details.fields.", **FIELDS}
META = {"timestamp": RESPONDED, "requestId": REQUEST_ID}
PAGINATION: Json = {"limit": 20, "nextCursor": None, "hasMore": False}

EXAMPLES: dict[str, Json] = {
    "NewClaim": NEW_CLAIM,
    "Claim": CLAIM,
    "ClaimWithHistory": REJECTED_CLAIM | {"statusHistory": HISTORY},
    "StatusChange": HISTORY[1],
    "ClaimChange": {"status": "rejected", **DENIAL},
    "BulkMove": {"claimIds": [CLAIM_ID, OTHER_CLAIM_ID], "status": "under_review"},
    "BulkResult": {
        "updated": [OTHER_CLAIM_ID],
        "failed": [
            {"id": CLAIM_ID, "code": "CONFLICT", "message": "A claim that is rejected can't become under_review."}
        ],
    },
    "NotMoved": {
        "id": CLAIM_ID,
        "code": "CONFLICT",
        "message": "A claim that is rejected can't become under_review.",
    },
    "Assignment": {"userId": PROCESSOR_ID},
    PUBLISHED_NAMES["ClaimTotal"]: BY_STATUS["submitted"],
    "ByStatus": BY_STATUS,
    "Stats": {
        "byStatus": BY_STATUS,
        "total": {"count": 9, "amount": 8591.5},
        "approvalRate": 0.75,
        "averageProcessingHours": 26.5,
    },
    "LineResult": {"line": 1, "result": "created", "id": CLAIM_ID, "error": None},
    "LineError": LINE_ERROR,
    "NewPatient": NEW_PATIENT,
    "Patient": {"id": PATIENT_ID, **NEW_PATIENT, "createdAt": PATIENT_ADDED},
    "PatientChange": {"lastName": "Moreau-Klein", "phone": None},
    "NewProvider": NEW_PROVIDER,
    "Provider": {"id": PROVIDER_ID, **NEW_PROVIDER, "createdAt": PROVIDER_ADDED},
    "ProviderChange": {"specialty": "Endocrinology"},
    "ResponseWarning": {
        "code": "POSSIBLE_DUPLICATE",
        "message": "There is already a claim with this patient, provider, diagnosis code, service date and amount.",
        "claimIds": [OTHER_CLAIM_ID],
    },
    "User": PROCESSOR | {"active": True, "createdAt": JOINED},
    "ChangedUser": PROCESSOR | {"active": True, "createdAt": JOINED, "releasedClaims": 0},
    "UserChange": {"active": False},
    "Reassignment": {"toUserId": None},
    "Reassigned": {"reassigned": 1},
    "NewInvitation": {"email": PROCESSOR["email"], "role": "claims_processor"},
    "Invitation": INVITATION,
    "InvitationWithToken": INVITATION | {"invitationToken": "Zk3vT8yQm1Lw6sXb0cRj5pHn9dAfGe2uVt4iKoYl7sE"},
    "Organization": MEMBERSHIP | {"settings": SETTINGS},
    "OrganizationSettings": SETTINGS,
    "OrganizationChange": {"name": "HealthFirst Insurance", "settings": {"autoApproveLimit": 750}},
    "SettingsChange": {"autoApproveLimit": 750},
    "DiagnosisCode": {
        "code": "E11.9",
        "description": "Type 2 diabetes mellitus without complications",
        "billable": True,
        "validFrom": None,
        "validUntil": None,
    },
    "NewEvent": NEW_EVENT,
    "Event": EVENT,
    "JobResult": JOB_RESULT,
    "Skipped": {"id": CLAIM_ID, "reason": "the admission was cancelled"},
    "NotDone": {"id": CLAIM_ID, "code": "CONFLICT"},
    "Job": JOB,
    "AuditEntry": {
        "id": AUDIT_ID,
        "at": DECIDED,
        "actorUserId": PROCESSOR_ID,
        "actorRole": "claims_processor",
        "action": "update",
        "entity": "claims",
        "entityId": CLAIM_ID,
        "patientId": PATIENT_ID,
        "before": {"status": "submitted"},
        "after": {"status": "rejected"},
        "requestId": REQUEST_ID,
        "address": "203.0.113.7",
        "outcome": "success",
    },
    "Login": {"email": ADMIN["email"], "password": PASSWORD},
    "Registration": {
        "organizationName": MEMBERSHIP["name"],
        "email": ADMIN["email"],
        "name": ADMIN["name"],
        "password": PASSWORD,
    },
    "Refresh": {"refreshToken": REFRESH_TOKEN},
    "Logout": {"refreshToken": REFRESH_TOKEN},
    "PasswordChange": {"currentPassword": PASSWORD, "newPassword": OTHER_PASSWORD},
    "Membership": MEMBERSHIP,
    "Me": ME,
    "Tokens": {
        "accessToken": "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIiwidHlwIjoiYXQrand0In0.e30.c2lnbmF0dXJl",
        "tokenType": "Bearer",
        "expiresIn": 900,
        "refreshToken": REFRESH_TOKEN,
        "user": ME,
    },
    "Alive": {"status": "ok"},
    "Ready": dict.fromkeys(("database", "schema", "keys", "clock", "queue", "workers"), "ok"),
    "Pagination": PAGINATION,
    "AnswerMeta": META,
    "PageMeta": META | {"pagination": PAGINATION},
    "FieldErrors": FIELD_ERRORS,
    "ErrorDetails": FIELDS,
    "Problem": {"code": LINE_ERROR["code"], "message": LINE_ERROR["message"], "details": FIELDS},
}
"""The example of each component, by its published name."""
CSV = ",".join(CLAIM) + "\r\n" + ",".join("" if value is None else str(value) for value in CLAIM.values()) + "\r\n"
"""The example of an export as CSV."""
OF_OPERATIONS: dict[str, Any] = {
    "changeClaim": REJECTED_CLAIM,
    "assignClaim": ASSIGNED_CLAIM,
    "takeNextClaim": ASSIGNED_CLAIM,
    "listEvents": EVENT | {"jobStatus": "completed", "jobResult": JOB_RESULT},
    "retryJob": JOB | {"status": "pending", "result": None, "startedAt": None, "finishedAt": None, "attempts": 0},
    "changePatient": EXAMPLES["Patient"] | EXAMPLES["PatientChange"],
    "changeProvider": EXAMPLES["Provider"] | EXAMPLES["ProviderChange"],
    "changeUser": EXAMPLES["ChangedUser"] | EXAMPLES["UserChange"],
    "changeOrganization": MEMBERSHIP | {"settings": SETTINGS | {"autoApproveLimit": 750}},
}
"""The data of a response if it differs from the component's example, because the request has changed the record."""
