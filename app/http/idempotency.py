"""Idempotency-Key: the first response to a key is stored in the transaction of its effect, and returned for later requests."""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

import msgspec
import psycopg
from litestar.types import Scope
from psycopg.types.json import Json

from app.database import statements
from app.database.connection import Rows
from app.database.session import DatabaseSession
from app.database.statements import Statement
from app.errors import Conflict, IdempotencyMismatch, Invalid
from app.http.prepared_response import PreparedResponse
from app.http.route_options import options_of

queries = statements.load("idempotency_keys")

KEY_LOCK_TIMEOUT_S = 2.0
"""How long a request waits for another one with the same key. Between processes, claims_api's lock_timeout is the same limit."""
WINDOW_BITS, MEMORY_LEVEL = 12, 5
"""Parameters of zlib. They cost a fifth of the defaults for a response of 700 bytes, with the same size."""
COMPRESSED_PREFIX = b"H"
"""The first byte of zlib's format with this window. No uncompressed response begins with it."""
_WELL_FORMED = re.compile(r"[!-~]{1,255}")
_key_locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()


class IdempotencyKey(msgspec.Struct, frozen=True):
    """The key of a request, with the request's path and the hash of its body."""

    path: str
    key: str
    body_hash: bytes


def read_key(scope: Scope) -> str | None:
    """The Idempotency-Key of a POST. Raises Invalid if it is malformed or sent more than once, or if the route refuses one."""
    if scope.get("method") != "POST":
        return None
    sent = [value.decode("latin-1") for name, value in scope["headers"] if name == b"idempotency-key"]
    if not sent:
        return None
    if options_of(scope["route_handler"]).idempotency == "refused":
        raise Invalid.fields(**{"Idempotency-Key": "Is not accepted here, because the response contains a secret"})
    if len(sent) > 1 or not _WELL_FORMED.fullmatch(sent[0]):
        raise Invalid.fields(**{"Idempotency-Key": "Must be 1 to 255 visible ASCII characters"})
    return sent[0]


def in_flight() -> Conflict:
    """The error of a request whose key another request uses at the moment."""
    return Conflict.of({"Idempotency-Key": ["Is used by a request that is still running"]})


@asynccontextmanager
async def exclusive(name: Hashable) -> AsyncIterator[None]:
    """A lock in this process for the name. Raises Conflict after KEY_LOCK_TIMEOUT_S."""
    lock = _key_locks.setdefault(name, asyncio.Lock())
    try:
        async with asyncio.timeout(KEY_LOCK_TIMEOUT_S):
            await lock.acquire()
    except TimeoutError:
        raise in_flight() from None
    try:
        yield
    finally:
        lock.release()


def _compress(body: bytes) -> bytes:
    """Compresses a response body for storage, to about half its size."""
    compressor = zlib.compressobj(wbits=WINDOW_BITS, memLevel=MEMORY_LEVEL)
    return compressor.compress(body) + compressor.flush()


def _decompress(stored: bytes) -> bytes:
    """The original body. Earlier versions stored it uncompressed."""
    return zlib.decompress(stored) if stored.startswith(COMPRESSED_PREFIX) else stored


async def run_idempotent(
    session: DatabaseSession,
    key: IdempotencyKey,
    build: Callable[[list[Rows]], PreparedResponse],
    effect: Sequence[Statement],
    params: Mapping[str, Any],
) -> PreparedResponse:
    """Returns the stored response to the key, or runs `effect`, builds the response and stores it.

    build: creates the response from the rows of `effect`; its exception rolls them back. Raises Conflict while another request with
    the key runs, and IdempotencyMismatch if the stored response belongs to a different body.
    """
    # Requests with the same key wait here without holding a connection. Otherwise a few retries could exhaust the pool.
    lock = exclusive((session.context.caller.user_id, key.path, key.key))
    async with lock, session.transaction() as transaction:
        fields = {"path": key.path, "key": key.key, "body_hash": key.body_hash}
        begin, reserve, *statements = session.signed([queries.reserve, *effect], {**params, **fields})
        try:
            _, stored = await transaction.run([begin, reserve])
        except psycopg.errors.LockNotAvailable:
            raise in_flight() from None
        for same_body, status, headers, body in stored:
            if not same_body:
                raise IdempotencyMismatch
            replayed = msgspec.json.decode(headers, type=dict[str, str]) | {"Idempotent-Replayed": "true"}
            return PreparedResponse(_decompress(body), status, replayed)
        response = build(await transaction.run(statements))
        store_params = fields | {
            "status": response.status,
            "headers": Json(response.headers),
            "body": _compress(response.body),
        }
        await transaction.commit([(queries.store.text(store_params), store_params)])
        return response
