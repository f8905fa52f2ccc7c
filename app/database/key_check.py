"""Whether the database accepts what this process signs, and how far their clocks are apart: asked at start and by readiness."""

import time

import msgspec

from app.database import statements
from app.database.context import ContextSigner
from app.database.schema_check import Fetch
from app.database.server_version import UnsafeDatabase

queries = statements.load("health")

MAX_CLOCK_DIFFERENCE_S = 3.0
"""Seconds that the clocks may differ by. Behind a pooler signatures are refused from five on."""


class KeyCheck(msgspec.Struct, frozen=True):
    """Each `ok`, or what is wrong."""

    keys: str
    clock: str


async def check_key(fetch: Fetch, signer: ContextSigner) -> KeyCheck:
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
    return KeyCheck(keys, "ok" if abs(ahead) <= MAX_CLOCK_DIFFERENCE_S + (after - before) / 2 else words)


async def check_context_key(fetch: Fetch, signer: ContextSigner) -> None:
    """Raises Unsafe unless the database knows the key that this process signs with."""
    found = await check_key(fetch, signer)
    if found.keys != "ok":
        raise UnsafeDatabase(f"keys: {found.keys}. Run `make schema` with the same TOKEN_KEYS.")
