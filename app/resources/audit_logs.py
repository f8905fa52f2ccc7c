"""The audit log: user, action and row of every recorded access and change."""

from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import get

from app.database import statements
from app.http.dependencies import Db
from app.http.envelope import Envelope
from app.http.route_options import RouteOptions
from app.http.schemas import Instant, QueryParams, ResponseBody, SentInstant, regex_string

queries = statements.load("audit_logs")

Action = Literal["create", "read", "update", "delete", "login", "login_failed", "export", "denied", "execute"]
Entity = Annotated[
    str, regex_string("^[a-z_]+$", min_length=1, max_length=63, description="The name of a table.", examples=["claims"])
]


class AuditFilter(QueryParams, frozen=True):
    """Filters of audit entries: user, action, row and time."""

    actor_user_id: UUID | None = None
    action: Action | None = None
    entity: Entity | None = None
    entity_id: UUID | None = None
    at_from: SentInstant | None = None
    at_to: SentInstant | None = None

    def params(self) -> dict[str, Any]:
        """The filters as parameters of the statement."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name != "organization_id"}


class AuditEntry(ResponseBody):
    """An entry of the audit log. before and after contain the changed columns, by their names in the table."""

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
    """List audit log entries, newest first. Contains the entries that the caller may see. Each request is itself recorded.

    Roles: admin, patient (about self).
    """
    filters: AuditFilter = db.query
    return await db.page(queries.list_newest, queries.count, parent=queries.record_reading, **filters.params())


handlers = [list_audit_logs]
