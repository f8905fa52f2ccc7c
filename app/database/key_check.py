"""Checks that the database accepts this process's signatures and that both clocks agree, at start and for readiness."""

import time

import msgspec

from app.database import statements
from app.database.context import ContextSigner
from app.database.schema_check import Fetch
from app.database.server_version import UnsafeDatabase

queries = statements.load("health")

MAX_CLOCK_DIFFERENCE_S = 3.0
"""The largest accepted difference of the clocks. Behind a pooler, signatures fail from 5 s on."""


class KeyCheck(msgspec.Struct, frozen=True):
    """The results for keys and clock: `ok` or the problem."""

    keys: str
    clock: str


async def check_key(fetch: Fetch, signer: ContextSigner) -> KeyCheck:
    """Runs one round trip. Half of its duration is the error of the clocks' comparison. Raises what fetch raises."""
    before = time.time()
    (((key_state, database_time),),) = await fetch([signer.statement(queries.probe, {"kid": signer.kid})])
    after = time.time()
    ahead_s = (before + after) / 2 - database_time
    difference = f"{abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} the database's"
    keys = {
        "unknown": f"the database has no key {signer.kid}",
        "another secret": f"the database has another secret under {signer.kid}",
    }.get(key_state, "ok")
    return KeyCheck(keys, "ok" if abs(ahead_s) <= MAX_CLOCK_DIFFERENCE_S + (after - before) / 2 else difference)


async def check_context_key(fetch: Fetch, signer: ContextSigner) -> None:
    """Raises UnsafeDatabase unless the database has the key that this process signs with."""
    result = await check_key(fetch, signer)
    if result.keys != "ok":
        raise UnsafeDatabase(f"keys: {result.keys}. Run `make schema` with the same TOKEN_KEYS.")
