"""The database session of a request without a caller: signed calls of functions in the schema auth, outside any organization."""

from collections.abc import Iterable, Mapping
from typing import Any

from app.database.connection import Rows
from app.database.context import ContextSigner
from app.database.fair_queue import Key
from app.database.pool import Pool
from app.database.statements import Statement


class AnonymousSession:
    """Runs statements without a context. key: the client's key in the pool's queues."""

    def __init__(self, pool: Pool, signer: ContextSigner, key: Key) -> None:
        self._pool = pool
        self._signer = signer
        self._key = key

    async def rows(self, statement: Statement, **params: Any) -> Rows:
        """Runs one statement; returns its rows."""
        return (await self.repeated(statement, [params]))[0]

    async def repeated(self, statement: Statement, params_list: Iterable[Mapping[str, Any]]) -> list[Rows]:
        """Runs the statement for each set of parameters, in one transaction and one round trip; returns the rows of each."""
        calls = [self._signer.statement(statement, params) for params in params_list]
        return await self._pool.fetch(calls, key=self._key)
