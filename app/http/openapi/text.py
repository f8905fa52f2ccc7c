"""What the OpenAPI document says that no route and no Struct knows: its introduction, the headers, samples."""

from typing import Any

Json = dict[str, Any]

PUBLISHED_NAMES = {
    "ResponseMeta": "AnswerMeta",
    "ErrorEnvelope": "Failure",
    "Error": "Problem",
    "SkippedClaim": "Skipped",
    "FailedClaim": "NotDone",
    "TokenPair": "Tokens",
}
"""Struct names and the names of their schemas, where the document had another one first: generated clients use them."""
REF = "#/components/schemas/{name}"
ABOUT = """Claims of insured patients, from submission to payment, for many insurance companies at once.

Every answer is an envelope: `{"success": true, "data": ..., "meta": {...}}` or `{"success": false, "error": {"code", "message",
"details"}, "meta": {...}}`. Branch on `error.code`; `error.details.fields` names each field that does not fit. What you may not
see is 404, as if it were not there. Lists come by cursor (`meta.pagination.nextCursor`) or, for jumping, by `offset` with a total
that is exact up to 10,000. A POST with an `Idempotency-Key` can be sent again within 24 hours: it gives the first answer. Send an
`X-Request-Id` of up to 128 visible ASCII characters, or find the one that was made in every answer. A head of more than 64 KiB or
100 fields is 431, a request that comes too slowly is 408 (10 s for its head, 500 bytes a second for its body); a request without
exactly one `Host` is 400. `organizationId` is accepted and ignored wherever a body or a query may hold fields: the tenant comes
from the token. Begin with `POST /api/auth/login`."""

HEADERS: Json = {
    "X-Request-Id": {
        "description": "The request's own, if it was well-formed; else made here.",
        "schema": {"type": "string"},
    },
    "RateLimit-Limit": {"description": "Requests a window.", "schema": {"type": "integer"}},
    "RateLimit-Remaining": {"description": "What this window has left.", "schema": {"type": "integer"}},
    "RateLimit-Reset": {"description": "Seconds until the next window.", "schema": {"type": "integer"}},
    "RateLimit-Policy": {"description": "The limit and its window in seconds.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}},
    "Location": {"description": "Where the new record is.", "schema": {"type": "string"}},
    "ETag": {"description": "The record's version, for If-Match.", "schema": {"type": "string"}},
    "Idempotent-Replayed": {
        "description": "true where this is the first answer once more.",
        "schema": {"type": "string"},
    },
    "WWW-Authenticate": {"description": "Bearer.", "schema": {"type": "string"}},
}
PARAMETERS: Json = {
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Sent again with the same body within 24 hours: the first answer, and no second effect.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$", "examples": ["3f2b8c1e-import-7"]},
    },
    "KeyOfLines": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Sent again, every line meets what it made the first time, also one without a claimNumber: it is a duplicate.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$", "examples": ["3f2b8c1e-import-7"]},
    },
    "IfMatch": {
        "name": "If-Match",
        "in": "header",
        "description": "The ETag the change is based on; 412 where the record has changed since. * and lists of tags are taken, too.",
        "schema": {"type": "string", "pattern": '^"[0-9]{1,9}"$', "examples": ['"3"']},
    },
}
SAMPLE = {"uuid": "01990a5c-7c1e-7d2a-9c6f-1b2a3c4d5e6f", "date": "2026-01-15", "date-time": "2026-01-15T09:30:00Z"}
LIMITED = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit-Policy")
DESCRIPTIONS = {
    200: "Done; here it is.",
    201: "Made.",
    202: "Taken; a job does the rest.",
    204: "Done; there is nothing to show.",
}
