"""The database session of a request without a caller: signed calls of functions of the schema auth, outside any organization."""

from collections.abc import Iterable, Mapping
from typing import Any

from app.database.connection import Rows
from app.database.context import ContextSigner
from app.database.fair_queue import Key
from app.database.pool import Pool
from app.database.statements import Statement


class AnonymousSession:
    """Runs statements without a context. key: the client, for the queue of the pool."""

    def __init__(self, pool: Pool, signer: ContextSigner, key: Key) -> None:
        self._pool = pool
        self._signer = signer
        self._key = key

    async def rows(self, statement: Statement, **params: Any) -> Rows:
        """The rows of one statement."""
        return (await self.repeated(statement, [params]))[0]

    async def repeated(self, statement: Statement, params: Iterable[Mapping[str, Any]]) -> list[Rows]:
        """The rows of the statement for each set of parameters, in one transaction and one round trip."""
        return await self._pool.fetch([self._signer.statement(statement, one) for one in params], key=self._key)
