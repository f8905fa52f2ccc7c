"""The database session of one authenticated request. It runs statements and returns their rows.

A call of `rows` is one implicit transaction in one round trip: the context begins, the statements run, and PostgreSQL commits them
together at the end of the pipeline. The context ends with the transaction. `transaction` begins an explicit transaction.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from app.database.admission import ServiceClass
from app.database.connection import Disconnected, Rows, Statements
from app.database.context import BEGIN_CONTEXT, ContextSigner
from app.database.pool import Pool, Transaction
from app.database.statements import Statement
from app.security.tokens import Caller


class RequestContext(msgspec.Struct, frozen=True, kw_only=True):
    """The caller and what the audit log records of the request."""

    caller: Caller
    request_id: str
    address: str
    source: str = "api"
    read_only: bool = False
    service_class: ServiceClass = "quick"


class DatabaseSession:
    """Runs statements as one caller. Every call begins a new context of the caller."""

    def __init__(
        self, pool: Pool, signer: ContextSigner, context: RequestContext, disconnected: Disconnected | None = None
    ) -> None:
        """disconnected: returns when the client has disconnected; then the session's calls are cancelled."""
        self._pool = pool
        self._signer = signer
        self._disconnected = disconnected
        self.context = context

    def signed(self, statements: Sequence[Statement], params: Mapping[str, Any]) -> Statements:
        """The statement that begins the context, and the statements with their parameters."""
        context = self.context
        begin = self._signer.sign_context(
            context.caller,
            request_id=context.request_id,
            address=context.address,
            source=context.source,
            read_only=context.read_only,
        )
        # One text for each role: if two roles shared a statement on a connection, PostgreSQL would replan it at every switch.
        tag = f"/* {context.caller.role} */ "
        params = {**params, "caller": context.caller.user_id}  # part of the proof of functions that act for the caller
        return [(BEGIN_CONTEXT, begin), *(self._signer.statement(statement, params, tag) for statement in statements)]

    async def rows(self, *statements: Statement, **params: Any) -> list[Rows]:
        """Runs the statements in one transaction and one round trip; returns the rows of each."""
        signed = self.signed(statements, params)
        context = self.context
        results = await self._pool.fetch(
            signed, self._disconnected, service_class=context.service_class, key=context.caller.key
        )
        return results[1:]

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """One explicit transaction over several round trips; an exception inside rolls it back."""
        context = self.context
        return self._pool.transaction(self._disconnected, service_class=context.service_class, key=context.caller.key)
