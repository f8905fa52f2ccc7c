"""Writes an audit entry for each 401, 403 and 404 of an authenticated caller, before the response is sent."""

import logging
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from litestar.types import Scope

from app.database import statements
from app.errors import ApiError
from app.http.route_options import resource_of
from app.security.tokens import Caller

log = logging.getLogger("claims.api")
queries = statements.load("audit_logs")

OUTCOMES = {401: "unauthorized", 403: "forbidden", 404: "not found"}
"""The outcome in the audit entry, by status.

A 401 of an authenticated caller means an ended session, a deactivated user or a suspended organization.
"""


async def record(scope: Scope, caller: Caller, status: int, request_id: str, address: str) -> None:
    """Writes one entry. If that fails, logs an error; the request is still denied."""
    state = scope["litestar_app"].state
    handler = scope["route_handler"]
    method = "HEAD" if scope["state"]["is_head"] else scope.get("method")
    params = {
        "tenant": caller.organization_id,
        "user_id": caller.user_id,
        "request_id": request_id,
        "address": address,
        "entity": resource_of(handler),
        "entity_id": _uuid(scope["path_params"].get("id")),
        "outcome": OUTCOMES[status],
        "asked": msgspec.json.encode({"method": method, "path": scope["path_template"]}).decode(),
    }
    try:
        await state.pool.fetch([state.signer.statement(queries.record_denial, params)], key=caller.key)
    except (psycopg.Error, ApiError) as error:
        log.error("request %s: its denial is not in the audit log (%s)", request_id, type(error).__name__)


def _uuid(text: Any) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None
