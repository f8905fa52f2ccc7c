"""The audit trail: who did what to which row."""

from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import get

from app.database import statements as sql
from app.database.session import Db
from app.http.pagination import Page
from app.http.schemas import Answer, Instant, Shape, spelled

queries = sql.load("audit_logs")

Action = Literal["create", "read", "update", "delete", "login", "login_failed", "export", "denied", "execute"]
Entity = Annotated[str, spelled("^[a-z_]+$", min_length=1, max_length=63, description="A table.", examples=["claims"])]


class AuditPage(Page, frozen=True):
    """A page of the entries, by who, what and when."""

    actor_user_id: UUID | None = None
    action: Action | None = None
    entity: Entity | None = None
    entity_id: UUID | None = None
    at_from: Instant | None = None
    at_to: Instant | None = None

    def filters(self) -> dict[str, Any]:
        """As the statement takes them."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name not in Page.__struct_fields__}


class AuditEntry(Shape):
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


@get("/api/audit-logs", query=AuditPage, recorded=True)
async def list_audit_logs(db: Db) -> Answer[list[AuditEntry]]:
    """What the caller may see of the trail, newest first. Reading it is itself an entry."""
    page: AuditPage = db.query
    return await db.page(queries.list_newest, queries.count, of=queries.record_reading, **page.filters())


handlers = [list_audit_logs]
