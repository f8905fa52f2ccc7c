"""Whether the database accepts what this process signs, and how far their clocks are apart: asked at start and by readiness."""

import time

import msgspec

from app.database import statements as sql
from app.database.context import Signer
from app.database.server_version import Unsafe
from app.operations.migrate import Fetch

queries = sql.load("health")

APART_AT_MOST = 3.0
"""Seconds that the clocks may differ by. Behind a pooler signatures are refused from five on."""


class Signing(msgspec.Struct, frozen=True):
    """Each `ok`, or what is wrong."""

    keys: str
    clock: str


async def look(fetch: Fetch, signer: Signer) -> Signing:
    """One round trip; half of what it takes is the error of the clock's comparison. Raises what fetch raises."""
    before = time.time()
    (((answer, theirs),),) = await fetch([signer.statement(queries.probe, {"kid": signer.kid})])
    after = time.time()
    ahead = (before + after) / 2 - theirs
    words = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} the database's"
    keys = {
        "unknown": f"the database has no key {signer.kid}",
        "another secret": f"the database has another secret under {signer.kid}",
    }.get(answer, "ok")
    return Signing(keys, "ok" if abs(ahead) <= APART_AT_MOST + (after - before) / 2 else words)


async def refuse_unknown_key(fetch: Fetch, signer: Signer) -> None:
    """Raises Unsafe unless the database knows the key that this process signs with."""
    found = await look(fetch, signer)
    if found.keys != "ok":
        raise Unsafe(f"keys: {found.keys}. Run `make schema` with the same TOKEN_KEYS.")
