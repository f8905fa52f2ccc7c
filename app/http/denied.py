"""What a known caller asked for and did not get goes into the trail before the answer goes out."""

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
"""By status. A 401 of a known caller: its session has ended, it was deactivated or its organization suspended."""


async def record(scope: Scope, caller: Caller, status: int, request_id: str, address: str) -> None:
    """One entry. Where it can't be written the log says so, and the caller still does not get what it asked for."""
    state = scope["litestar_app"].state
    handler = scope["route_handler"]
    given = {
        "tenant": caller.organization_id,
        "user_id": caller.user_id,
        "request_id": request_id,
        "address": address,
        "entity": resource_of(handler),
        "entity_id": _uuid(scope["path_params"].get("id")),
        "outcome": OUTCOMES[status],
        "asked": msgspec.json.encode({"method": scope.get("method"), "path": scope["path_template"]}).decode(),
    }
    try:
        await state.pool.fetch([state.signer.statement(queries.record_denial, given)], key=caller.key)
    except (psycopg.Error, ApiError) as error:
        log.error("request %s: a denial is not in the trail (%s)", request_id, type(error).__name__)


def _uuid(text: Any) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None
