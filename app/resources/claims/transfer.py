"""Import of claims from NDJSON, and export as NDJSON or CSV."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.response import Stream

from app.database import statements
from app.errors import ApiError, Unavailable
from app.http import csv, ndjson
from app.http.dependencies import Db
from app.http.responses import Responder
from app.http.route_options import RouteOptions
from app.http.spool import Spooling
from app.resources.claims.schemas import Claim, ClaimFilter, LineResult, NewClaim

queries = statements.load("claims")


class Occurrences:
    """Counts equal lines without a claim number, because two equal claims may be real. Stores eight bytes of each line's hash."""

    def __init__(self) -> None:
        self._once: set[int] = set()
        self._more: Counter[int] = Counter()

    def count(self, line: dict[str, Any]) -> int:
        """How many lines with this content there have been, this one included. line: the columns of the claim, and its number."""
        content = msgspec.json.encode({name: value for name, value in line.items() if name != "line"}, order="sorted")
        hash_ = int.from_bytes(hashlib.sha256(content).digest()[:8])
        if hash_ not in self._once:
            self._once.add(hash_)
            return 1
        self._more[hash_] += 1
        return 1 + self._more[hash_]


@post(
    "/api/claims/import",
    status_code=200,
    options=RouteOptions(
        source="import",
        heavy=True,
        idempotency="per_line",
        consumes=dict.fromkeys(ndjson.MEDIA_TYPES, NewClaim),
        produces={ndjson.MEDIA_TYPES[0]: LineResult},
    ),
    request_max_body_size=ndjson.MAX_IMPORT_BYTES,
    middleware=[Spooling()],
)
async def import_claims(request: Request[Any, Any, Any], db: Db) -> Stream:
    """Import claims from NDJSON. The body contains one claim a line, up to 100,000 lines. Blank lines are skipped and do not count.

    The response contains one result for each other line, with its number in the body, in the same order. Sent again with the same
    Idempotency-Key, it creates no duplicates.
    The key is that of the whole body: with another body it is 422, before any line is stored.

    Roles: admin, provider (own).
    """
    lines = await ndjson.receive(request.stream(), request.scope["state"]["spool"])
    await db.reserve_key(queries.reserve_import, lines.body_hash)
    return await ndjson.stream(_import(lines, db), ndjson.MEDIA_TYPES[0])


async def _import(lines: ndjson.Lines, db: Responder) -> AsyncIterator[bytes]:
    """Yields the results of each batch of lines. A batch is committed before its results are sent."""
    occurrences = Occurrences()
    is_first = True
    for batch in lines.batches():
        if not batch:
            await asyncio.sleep(0)
            continue
        valid, results = ndjson.decode(batch, NewClaim, NewClaim.columns)
        for line in valid:
            if "claim_number" not in line:
                line["occurrence"] = occurrences.count(line)
        try:
            results |= dict(await db.import_rows(queries.import_lines, valid))
        except ApiError as error:
            if is_first and not isinstance(error, Unavailable):
                raise
            # A result for each line, so that the client can send exactly these lines again.
            results |= {line["line"]: ndjson.failed_line(line["line"], error) for line in valid}
        is_first = False
        yield b"".join(results[number] + b"\n" for number, _ in batch)


@get(
    "/api/claims/export",
    options=RouteOptions(
        query=ClaimFilter,
        audit_read=True,
        heavy=True,
        produces={ndjson.MEDIA_TYPES[0]: Claim, csv.MEDIA_TYPE: None},
    ),
)
async def export_claims(request: Request[Any, Any, Any], db: Db) -> Stream:
    """Export claims as NDJSON or CSV. Accept selects the format; the filters are those of the list.

    Roles: admin, claims_processor (assigned), provider (own), patient (own).
    """
    ((day,),) = (await db.session.rows(queries.record_export))[0]
    if csv.is_preferred(request.headers.get("Accept", "")):
        columns = [field.encode_name for field in msgspec.structs.fields(Claim)]
        parts, extension = csv.rows(_export(db), columns), "csv"
        media_type = f"{csv.MEDIA_TYPE}; header=present"  # Litestar adds the charset to text
    else:
        parts, extension, media_type = ndjson.rows(_export(db)), "ndjson", ndjson.MEDIA_TYPES[0]
    headers = {"Content-Disposition": f'attachment; filename="claims-{day}.{extension}"'}
    return await ndjson.stream(parts, media_type, headers=headers, is_head=request.scope["state"]["is_head"])


async def _export(db: Responder) -> AsyncIterator[list[bytes]]:
    """Yields pages in the list's order. Each page has its own transaction, so that a slow client keeps none open."""
    filters: ClaimFilter = db.query
    statement, after = filters.order(queries.list), None
    while True:
        params = filters.params() | {"after": after, "offset": None, "limit": ndjson.PAGE_SIZE - 1}
        (rows,) = await db.session.rows(statement, **params)
        yield [item for _, item in rows]
        if len(rows) < ndjson.PAGE_SIZE:
            return
        after = rows[-1][0].decode()


handlers = [import_claims, export_claims]
