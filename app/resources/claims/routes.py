"""Claims: create, list, read, decide, hand out, bring in and take out in bulk."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Request, Response, get, patch, post, put
from litestar.params import JSONBody
from litestar.response import Stream

from app.database import statements as sql
from app.database.session import Db, Session
from app.errors import Invalid, Unavailable
from app.http import ndjson as streams
from app.http.pagination import paged
from app.http.schemas import Answer, Id, cents
from app.http.spool import Spooling
from app.resources.claims.schemas import (
    Assignment,
    BulkMove,
    BulkResult,
    Claim,
    ClaimChange,
    ClaimFilter,
    ClaimWithHistory,
    LineResult,
    NewClaim,
    Stats,
    StatsFilter,
)

queries = sql.load("claims")


@post("/api/claims", versioned=True)
async def create_claim(data: JSONBody[NewClaim], db: Db) -> Response[Answer[Claim]]:
    """A new claim, submitted at once unless it is a draft."""
    return await db.created(queries.create, **data.columns())


@get("/api/claims", query=paged(ClaimFilter))
async def list_claims(db: Db) -> Answer[list[Claim]]:
    """What the caller may see, newest first unless sorted otherwise."""
    page: ClaimFilter = db.query
    return await db.page(page.order(queries.list), queries.count, **page.filters())


@get("/api/claims/{id:str}", versioned=True, recorded=True)
async def get_claim(claim_id: Id, db: Db) -> Answer[ClaimWithHistory]:
    """One claim with its history; 404 when missing or hidden from the caller (the same on purpose). Recorded in the trail."""
    return await db.one(queries.get, claim_id=claim_id)


@patch("/api/claims/{id:str}", conditional=True, versioned=True)
async def change_claim(claim_id: Id, data: JSONBody[ClaimChange], db: Db) -> Answer[Claim]:
    """Moves a claim along the transition table, or changes its notes while it is not decided."""
    given = data.changes()
    given["approved_cents"] = cents(given["approved_amount"], "approvedAmount")
    if given["status"] is None and (data.reason or data.denial_reason or data.denial_code or data.approved_amount):
        raise Invalid.fields(status="Is required for what goes with it")
    query = queries.move if given["status"] else queries.note if "set_notes" in given else queries.keep
    return await db.changed(queries.find, query, claim_id=claim_id, **given)


@post("/api/claims/bulk-status-update", status_code=200, source="bulk", heavy=True)
async def move_claims(data: JSONBody[BulkMove], db: Db) -> Answer[BulkResult]:
    """Moves up to 1,000 claims, each for itself: one that can't be moved stops no other."""
    return await db.one(queries.move_all, **data.given())


@get("/api/claims/stats", query=StatsFilter, heavy=True)
async def get_stats(db: Db) -> Answer[Stats]:
    """Counts and sums over what the caller may see."""
    query: StatsFilter = db.query
    days = {"service_date_from": query.service_date_from, "service_date_to": query.service_date_to}
    return await db.one(queries.stats, **days)


@put("/api/claims/{id:str}/assignment", conditional=True, versioned=True)
async def assign_claim(claim_id: Id, data: JSONBody[Assignment], db: Db) -> Answer[Claim]:
    """Hands the claim to a processor of the organization, or takes it back."""
    return await db.changed(queries.find, queries.assign, claim_id=claim_id, user_id=data.user_id)


@post("/api/claims/next", status_code=200, or_nothing=True, versioned=True)
async def take_next_claim(db: Db) -> Answer[Claim] | None:
    """The oldest open claim that nobody works on, now the caller's; 204 when there is none. Two callers never get the same."""
    return await db.one_or_nothing(queries.take_next)


@post(
    "/api/claims/import",
    status_code=200,
    source="import",
    heavy=True,
    key_of_lines=True,
    takes=dict.fromkeys(streams.NDJSON, NewClaim),
    gives={streams.NDJSON[0]: LineResult},
    request_max_body_size=streams.MOST_BYTES,
    middleware=[Spooling()],
)
async def import_claims(request: Request[Any, Any, Any], db: Db) -> Stream:
    """A claim a line, up to 100,000; a result a line, in order. With an Idempotency-Key, sending it again doubles nothing."""
    lines = await streams.receive(request.stream(), request.scope["state"]["spool"])
    return await streams.answer(_imported(lines, db), "application/x-ndjson")


async def _imported(lines: streams.Lines, db: Session) -> AsyncIterator[bytes]:
    """A result a line; each batch is committed before its results are given."""
    for batch in lines.batches():
        fitting, results = streams.decode(batch, NewClaim, NewClaim.columns)
        try:
            results |= dict(await db.lines(queries.import_lines, fitting))
        except Unavailable as error:
            # Said line by line, so that a client knows which to send again.
            results |= {one["line"]: streams.failure(one["line"], error) for one in fitting}
        yield b"".join(results[number] + b"\n" for number, _ in batch)


@get(
    "/api/claims/export",
    query=ClaimFilter,
    recorded=True,
    heavy=True,
    gives={streams.NDJSON[0]: Claim, "text/csv": None},
)
async def export_claims(request: Request[Any, Any, Any], db: Db) -> Stream:
    """The list's claims, all of them, as NDJSON or as CSV by Accept."""
    as_csv = streams.prefers_csv(request.headers.get("Accept", ""))
    pages = _exported(db)
    if as_csv:
        columns = [field.encode_name for field in msgspec.structs.fields(Claim)]
        return await streams.answer(streams.csv(pages, columns), "text/csv; charset=utf-8; header=present")
    return await streams.answer(streams.ndjson(pages), "application/x-ndjson")


async def _exported(db: Session) -> AsyncIterator[list[bytes]]:
    """Page after page along the order, each in a transaction of its own: no slow reader holds one open."""
    filter_: ClaimFilter = db.query
    query, after = filter_.order(queries.list), None
    await db.rows(queries.record_export)
    while True:
        (rows,) = await db.rows(query, after=after, offset=None, limit=streams.PAGE - 1, **filter_.filters())
        yield [item for _, item in rows]
        if len(rows) < streams.PAGE:
            return
        after = rows[-1][0].decode()


handlers = [
    create_claim, list_claims, get_claim, change_claim, move_claims, get_stats, assign_claim, take_next_claim,
    import_claims, export_claims,
]  # fmt: skip
