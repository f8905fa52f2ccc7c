"""The audit trail: who did what to which row."""

from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import get

from app.database import statements
from app.http.dependencies import Db
from app.http.envelope import Envelope
from app.http.route_options import RouteOptions
from app.http.schemas import Instant, QueryParams, ResponseBody, regex_string

queries = statements.load("audit_logs")

Action = Literal["create", "read", "update", "delete", "login", "login_failed", "export", "denied", "execute"]
Entity = Annotated[
    str, regex_string("^[a-z_]+$", min_length=1, max_length=63, description="A table.", examples=["claims"])
]


class AuditFilter(QueryParams, frozen=True):
    """A page of the entries, by who, what and when."""

    actor_user_id: UUID | None = None
    action: Action | None = None
    entity: Entity | None = None
    entity_id: UUID | None = None
    at_from: Instant | None = None
    at_to: Instant | None = None

    def params(self) -> dict[str, Any]:
        """As the statement takes them."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name != "organization_id"}


class AuditEntry(ResponseBody):
    """before and after: the changed columns as the table names them."""

    id: UUID
    at: Instant
    actor_user_id: UUID | None
    actor_role: str
    action: Action
    entity: str
    entity_id: UUID | None
    patient_id: UUID | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    request_id: str | None
    address: str | None
    outcome: str


@get("/api/audit-logs", options=RouteOptions(query=AuditFilter, paged=True, audit_read=True))
async def list_audit_logs(db: Db) -> Envelope[list[AuditEntry]]:
    """What the caller may see of the trail, newest first. Reading it is itself an entry."""
    filters: AuditFilter = db.query
    return await db.page(queries.list_newest, queries.count, parent=queries.record_reading, **filters.params())


handlers = [list_audit_logs]
