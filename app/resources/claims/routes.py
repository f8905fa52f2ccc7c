"""Handlers to create, list, read, decide and assign claims."""

from litestar import Response, get, patch, post, put
from litestar.params import JSONBody

from app.database import statements
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
    """Create a claim. It is submitted at once, unless draft is true.

    If there is already a claim with the same patient, provider, code, day and amount, and no claimNumber is sent, meta.warnings of the
    response names up to ten such claims.

    Roles: admin, provider (own).
    """
    return await db.created(queries.create, **data.insert_params(), unnumbered=data.claim_number is None or None)


@get("/api/claims", options=RouteOptions(query=ClaimFilter, paged=True))
async def list_claims(db: Db) -> Envelope[list[Claim]]:
    """List claims, newest first unless `sort` is sent. Contains the claims that the caller may see.

    Roles: admin, claims_processor (assigned), provider (own), patient (own).
    """
    filters: ClaimFilter = db.query
    return await db.page(filters.order(queries.list), queries.count, **filters.params())


@get("/api/claims/{id:str}", options=RouteOptions(etag=True, audit_read=True))
async def get_claim(claim_id: Id, db: Db) -> Envelope[ClaimWithHistory]:
    """Get a claim with its status history. The access is recorded in the audit log.

    Returns 404 if the claim does not exist or the caller may not see it. The response is the same in both cases.

    Roles: admin, claims_processor (assigned), provider (own), patient (own).
    """
    return await db.one(queries.get, claim_id=claim_id)


@patch("/api/claims/{id:str}", options=RouteOptions(conditional=True, etag=True))
async def change_claim(claim_id: Id, data: JSONBody[ClaimChange], db: Db) -> Envelope[Claim]:
    """Change a claim's status or notes. Notes can change until the claim is decided.

    An admin may make every change of status. A claims processor reviews and decides assigned claims. A provider submits, voids and
    appeals its own claims, and returns them from pending_info to under_review. Returns 403 if only other roles may make the change, and
    409 if the status can't follow the current one; details.allowed then lists the statuses that the caller may choose.

    {transitions}

    Roles: admin, claims_processor (assigned), provider (own).
    """
    params = data.update_params()
    params["approved_cents"] = to_cents(params["approved_amount"], "approvedAmount")
    update = queries.update_notes if "set_notes" in params else queries.lock_unchanged
    if params["status"]:
        update = queries.update_status
    return await db.updated(queries.exists, update, claim_id=claim_id, **params)


@post("/api/claims/bulk-status-update", status_code=200, options=RouteOptions(source="bulk", heavy=True))
async def move_claims(data: JSONBody[BulkMove], db: Db) -> Envelope[BulkResult]:
    """Change the status of up to 1,000 claims. A claim that can't be changed is listed in failed and does not affect the others.

    Roles: admin, claims_processor (assigned).
    """
    return await db.one(queries.update_status_bulk, **data.sent_fields())


@get("/api/claims/stats", options=RouteOptions(query=StatsFilter, heavy=True))
async def get_stats(db: Db) -> Envelope[Stats]:
    """Get statistics of claims. Counts and sums include the claims that the caller may see.

    Roles: admin, claims_processor (assigned), provider (own), patient (own).
    """
    query: StatsFilter = db.query
    days = {"service_date_from": query.service_date_from, "service_date_to": query.service_date_to}
    return await db.one(queries.stats, **days)


@put("/api/claims/{id:str}/assignment", options=RouteOptions(conditional=True, etag=True))
async def assign_claim(claim_id: Id, data: JSONBody[Assignment], db: Db) -> Envelope[Claim]:
    """Assign a claim to a claims processor of the organization, or unassign it. The processor must be active, else 409.

    Roles: admin.
    """
    return await db.updated(queries.exists, queries.assign, claim_id=claim_id, user_id=data.user_id)


@post("/api/claims/next", status_code=200, options=RouteOptions(allow_empty=True, etag=True))
async def take_next_claim(db: Db) -> Envelope[Claim] | None:
    """Assign the oldest open unassigned claim to the caller. Returns 204 if there is none.

    Concurrent callers get different claims. An appeal against the caller's own decision is not assigned to the caller.

    Roles: claims_processor (unassigned).
    """
    return await db.one_or_no_content(queries.assign_next)


handlers = [
    create_claim,
    list_claims,
    get_claim,
    change_claim,
    move_claims,
    get_stats,
    assign_claim,
    take_next_claim,
]
