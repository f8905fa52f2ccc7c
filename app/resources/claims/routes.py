"""Claims: create, list, read, decide and assign."""

from litestar import Response, get, patch, post, put
from litestar.params import JSONBody

from app.database import statements
from app.errors import Invalid
from app.http.dependencies import Db
from app.http.envelope import Envelope
from app.http.route_options import RouteOptions
from app.http.schemas import Id, to_cents
from app.resources.claims.schemas import (
    Assignment,
    BulkMove,
    BulkResult,
    Claim,
    ClaimChange,
    ClaimFilter,
    ClaimWithHistory,
    NewClaim,
    Stats,
    StatsFilter,
)

queries = statements.load("claims")


@post("/api/claims", options=RouteOptions(etag=True))
async def create_claim(data: JSONBody[NewClaim], db: Db) -> Response[Envelope[Claim]]:
    """A new claim, submitted at once unless it is a draft."""
    return await db.created(queries.create, **data.columns())


@get("/api/claims", options=RouteOptions(query=ClaimFilter, paged=True))
async def list_claims(db: Db) -> Envelope[list[Claim]]:
    """What the caller may see, newest first unless sorted otherwise."""
    filters: ClaimFilter = db.query
    return await db.page(filters.order(queries.list), queries.count, **filters.params())


@get("/api/claims/{id:str}", options=RouteOptions(etag=True, audit_read=True))
async def get_claim(claim_id: Id, db: Db) -> Envelope[ClaimWithHistory]:
    """One claim with its history; 404 when missing or hidden from the caller (the same on purpose). Recorded in the trail."""
    return await db.one(queries.get, claim_id=claim_id)


@patch("/api/claims/{id:str}", options=RouteOptions(conditional=True, etag=True))
async def change_claim(claim_id: Id, data: JSONBody[ClaimChange], db: Db) -> Envelope[Claim]:
    """Moves a claim along the transition table, or changes its notes while it is not decided."""
    params = data.update_params()
    params["approved_cents"] = to_cents(params["approved_amount"], "approvedAmount")
    if params["status"] is None and (data.reason or data.denial_reason or data.denial_code or data.approved_amount):
        raise Invalid.fields(status="Is required for what goes with it")
    update = queries.update_notes if "set_notes" in params else queries.lock_unchanged
    if params["status"]:
        update = queries.update_status
    return await db.updated(queries.exists, update, claim_id=claim_id, **params)


@post("/api/claims/bulk-status-update", status_code=200, options=RouteOptions(source="bulk", heavy=True))
async def move_claims_for_event(data: JSONBody[BulkMove], db: Db) -> Envelope[BulkResult]:
    """Moves up to 1,000 claims, each for itself: one that can't be moved stops no other."""
    return await db.one(queries.update_status_bulk, **data.sent_fields())


@get("/api/claims/stats", options=RouteOptions(query=StatsFilter, heavy=True))
async def get_stats(db: Db) -> Envelope[Stats]:
    """Counts and sums over what the caller may see."""
    query: StatsFilter = db.query
    days = {"service_date_from": query.service_date_from, "service_date_to": query.service_date_to}
    return await db.one(queries.stats, **days)


@put("/api/claims/{id:str}/assignment", options=RouteOptions(conditional=True, etag=True))
async def assign_claim(claim_id: Id, data: JSONBody[Assignment], db: Db) -> Envelope[Claim]:
    """Hands the claim to a processor of the organization, or takes it back."""
    return await db.updated(queries.exists, queries.assign, claim_id=claim_id, user_id=data.user_id)


@post("/api/claims/next", status_code=200, options=RouteOptions(allow_empty=True, etag=True))
async def assign_next_claim(db: Db) -> Envelope[Claim] | None:
    """The oldest open claim that nobody works on, now the caller's; 204 when there is none. Two callers never get the same."""
    return await db.one_or_no_content(queries.assign_next)


handlers = [
    create_claim,
    list_claims,
    get_claim,
    change_claim,
    move_claims_for_event,
    get_stats,
    assign_claim,
    assign_next_claim,
]
