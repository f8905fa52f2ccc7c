"""Texts of the OpenAPI document that are not part of a route or a struct: introduction, headers, parameters, samples."""

from typing import Any

Json = dict[str, Any]

PUBLISHED_NAMES = {
    "ResponseMeta": "AnswerMeta",
    "ErrorEnvelope": "Failure",
    "Error": "Problem",
    "SkippedClaim": "Skipped",
    "FailedClaim": "NotDone",
    "TokenPair": "Tokens",
    "ClaimTotal": "Tally",
}
"""Schema names of structs that were renamed. Generated clients use the names that the document had first."""
REF = "#/components/schemas/{name}"
ABOUT = """Claims of insured patients, from submission to payment, for many insurance companies.

Start with `POST /api/auth/login`, and send the access token as `Authorization: Bearer <token>`.

Every response is an envelope: `{"success": true, "data": ..., "meta": {...}}` or `{"success": false, "error": {"code", "message",
"details"}, "meta": {...}}`. Programs should evaluate `error.code`. `error.details.fields` names each invalid field.

The summary of an operation ends with the roles that may request it, and in parentheses the records that a role reaches. Another role
gets 403, or 404 if it may not see the record. `changeClaim` has the table of the changes of a claim's status, by role.

A record that the caller may not see returns 404, as if it did not exist. `organizationId` is accepted and ignored in bodies and
queries, because the access token determines the organization.

Lists are paged by cursor (`meta.pagination.nextCursor`), or by `offset` with a total that is exact up to 10,000.

A POST with an `Idempotency-Key` can be repeated within 24 hours and returns the first response.

A client may send an `X-Request-Id` of up to 128 visible ASCII characters. Otherwise the server creates one. Every response contains it.

Bodies are UTF-8. One byte order mark before a body is dropped. A `Content-Encoding` other than `identity` returns 415.

`HEAD` is accepted wherever `GET` is, and is recorded in the same way.

A request head of more than 64 KiB or 100 fields returns 431. A request that is sent too slowly returns 408: a head may take 10 s, and
a body must arrive with at least 500 bytes per second. A request without exactly one `Host` returns 400."""

TAGS = {
    "auth": "Registration, login, tokens and the caller's own user.",
    "organizations": "The caller's organization and its settings.",
    "users": "Users of the organization and their roles.",
    "invitations": "Invitations of new users.",
    "providers": "Providers of care, identified by NPI.",
    "patients": "Insured patients, and the providers that treat them.",
    "diagnosis codes": "ICD-10-CM codes, searched by code or description.",
    "claims": "Claims, from creation to decision and payment, with import and export.",
    "patient status events": "Events such as admission and discharge, which move a patient's claims.",
    "job processing logs": "The jobs of events, their results and the retry of failed ones.",
    "audit logs": "The recorded accesses and changes.",
    "health": "Checks for load balancers and operators.",
}
"""The tags in the order of a claim's life, with their descriptions."""

HEADERS: Json = {
    "X-Request-Id": {
        "description": "The request id that the client sent, if it is well-formed; otherwise one created by the server.",
        "schema": {"type": "string"},
    },
    "RateLimit-Limit": {"description": "Requests allowed in a window.", "schema": {"type": "integer"}},
    "RateLimit-Remaining": {"description": "Requests left in this window.", "schema": {"type": "integer"}},
    "RateLimit-Reset": {"description": "Seconds until the next window.", "schema": {"type": "integer"}},
    "RateLimit-Policy": {"description": "The limit and its window in seconds.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds until a retry is useful.", "schema": {"type": "integer"}},
    "Location": {"description": "The path of the new record.", "schema": {"type": "string"}},
    "ETag": {"description": "The record's version, for If-Match and If-None-Match.", "schema": {"type": "string"}},
    "Idempotent-Replayed": {
        "description": "true if this is the stored first response.",
        "schema": {"type": "string"},
    },
    "Content-Disposition": {
        "description": "The name of the file, with the organization's day.",
        "schema": {"type": "string", "examples": ['attachment; filename="claims-2026-01-15.csv"']},
    },
    "Accept-Encoding": {
        "description": "identity, if the body's Content-Encoding is not accepted.",
        "schema": {"type": "string"},
    },
    "Accept": {"description": "The accepted media types, if that of the body is not.", "schema": {"type": "string"}},
    "WWW-Authenticate": {"description": "The authentication scheme, Bearer.", "schema": {"type": "string"}},
}
PARAMETERS: Json = {
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "A repeated request with the same key and body within 24 hours returns the first response and has no second effect.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$", "examples": ["3f2b8c1e-import-7"]},
    },
    "KeyOfLines": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "The key of the whole body; with another body it is 422. In a repeated import, lines that created a claim are "
        "duplicates, even without a claimNumber.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$", "examples": ["3f2b8c1e-import-7"]},
    },
    "IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "description": "The ETag that the client has. Returns 304 if the record has not changed since. * and lists are accepted.",
        "schema": {"type": "string", "examples": ['"3"']},
    },
    "IfMatch": {
        "name": "If-Match",
        "in": "header",
        "description": "The ETag on which the change is based. Returns 412 if the record has changed since. * and lists are accepted.",
        "schema": {"type": "string", "pattern": '^"[0-9]{1,9}"$', "examples": ['"3"']},
    },
}
LIMITED = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit-Policy")
DESCRIPTIONS = {
    200: "The request succeeded.",
    201: "The record was created.",
    202: "The request was accepted. A job processes it.",
    204: "The request succeeded. There is no content.",
    304: "The record has not changed since the version that If-None-Match names. The access is recorded all the same.",
}
