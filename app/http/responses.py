"""Responses built from rows: envelope, ETag, Location, 204 and 404."""

from collections.abc import Callable
from typing import Any

import msgspec
import psycopg

from app.database.connection import Rows
from app.database.session import DatabaseSession
from app.database.statements import Statement
from app.errors import Forbidden, IdempotencyMismatch, NotFound, PreconditionFailed, from_database
from app.http.envelope import envelope
from app.http.idempotency import IdempotencyKey, in_flight, run_idempotent
from app.http.pagination import Cursors, Page
from app.http.prepared_response import PreparedResponse

READ_ONLY = "You may read this record, but change only your own."
NO_CONTENT = PreparedResponse(b"", 204)


class Preconditions(msgspec.Struct, frozen=True, kw_only=True):
    """The headers of a request that its outcome depends on. versions: those of If-Match, None for any."""

    path: str
    idempotency_key: IdempotencyKey | None = None
    versions: list[int] | None = None


class Responder:
    """Runs statements in the caller's session and builds the response from their rows. A handler receives it as `db: Db`."""

    def __init__(
        self,
        session: DatabaseSession,
        preconditions: Preconditions,
        cursors: Cursors,
        query: Any = None,
        page_params: Page | None = None,
    ) -> None:
        """query: the parsed query string, a struct of the route's options. page_params: its paging parameters, if the route is paged."""
        self.session = session
        self.query = query
        self._preconditions = preconditions
        self._cursors = cursors
        self._page_params = page_params

    async def respond(
        self, build: Callable[[list[Rows]], PreparedResponse], *statements: Statement, **params: Any
    ) -> Any:
        """Runs the statements and builds the response from their rows.

        With an idempotency key, an exception of `build` rolls the statements back. Without one, they are committed before it runs.
        """
        key = self._preconditions.idempotency_key
        if key is None:
            return build(await self.session.rows(*statements, **params)).to_litestar()
        return (await run_idempotent(self.session, key, build, statements, params)).to_litestar()

    def data(
        self, data: bytes, status: int = 200, headers: dict[str, str] | None = None, more: dict[str, Any] | None = None
    ) -> PreparedResponse:
        """A response with JSON in the envelope. more: further fields of meta."""
        return PreparedResponse(envelope(data, self.session.context.request_id, more), status, headers or {})

    def _record(self, row: tuple[Any, ...], status: int = 200) -> PreparedResponse:
        """A response with a row (JSON), (JSON, version) or (JSON, version, warnings).

        The version becomes the ETag, and warnings (JSON or None) a field of meta. 201 gets a Location.
        """
        headers = {"ETag": f'"{row[1]}"'} if len(row) > 1 else {}
        if status == 201:
            headers["Location"] = f"{self._preconditions.path}/{msgspec.json.decode(row[0])['id']}"
        more = {"warnings": msgspec.Raw(row[2])} if len(row) > 2 and row[2] else None
        return self.data(row[0], status, headers, more)

    async def one(self, *statements: Statement, **params: Any) -> Any:
        """200 with the one row of the last statement; NotFound if there is none."""
        return await self.respond(lambda results: self._record(_only(results[-1])), *statements, **params)

    async def created(self, *statements: Statement, **params: Any) -> Any:
        """201 with the new record and its Location."""
        return await self.respond(lambda results: self._record(_only(results[-1]), 201), *statements, **params)

    async def accepted(self, *statements: Statement, **params: Any) -> Any:
        """202 with the one row of the last statement; NotFound if there is none."""
        return await self.respond(lambda results: self._record(_only(results[-1]), 202), *statements, **params)

    async def one_or_no_content(self, statement: Statement, **params: Any) -> Any:
        """200 with the one row of the statement; 204 if there is none."""

        def build(results: list[Rows]) -> PreparedResponse:
            return self._record(results[0][0]) if results[0] else NO_CONTENT

        return await self.respond(build, statement, **params)

    async def no_content(self, *statements: Statement, **params: Any) -> Any:
        """204; NotFound if a statement returns no row."""

        def build(results: list[Rows]) -> PreparedResponse:
            for rows in results:
                _only(rows)
            return NO_CONTENT

        return await self.respond(build, *statements, **params)

    async def updated(self, exists: Statement, update: Statement, **params: Any) -> Any:
        """200 with the updated row. If nothing was updated, NotFound if `exists` returns no row either.

        If `update` has the parameter `versions` (those of If-Match), another version is PreconditionFailed. A row that the caller may
        read but not update is Forbidden.
        """
        versions = self._preconditions.versions
        conditional = versions is not None and "versions" in update.options

        def build(results: list[Rows]) -> PreparedResponse:
            existing, updated = results
            if existing and not updated:
                raise PreconditionFailed if conditional else Forbidden(message=READ_ONLY)
            return self._record(_only(updated))

        return await self.respond(build, exists, update, versions=versions, **params)

    async def with_extra_fields(
        self, fields: dict[str, object], name: str, *statements: Statement, status: int = 200
    ) -> Any:
        """An object with the fields, and with the last statement's row as one more field, called `name`."""
        row = _only((await self.session.rows(*statements))[-1])
        return self.data(msgspec.json.encode(fields | {name: msgspec.Raw(row[0])}), status).to_litestar()

    async def reserve_key(self, statement: Statement, body_hash: bytes) -> None:
        """Reserves the request's idempotency key, if it has one, for this body. Raises IdempotencyMismatch if it is that of another body.

        The reservation is committed before any effect, so that it also applies if the request is not completed.
        """
        if key := self._preconditions.idempotency_key:
            try:
                (((same,),),) = await self.session.rows(statement, path=key.path, key=key.key, body_hash=body_hash)
            except psycopg.errors.LockNotAvailable:
                raise in_flight() from None
            if not same:
                raise IdempotencyMismatch

    async def import_rows(self, statement: Statement, lines: list[dict[str, Any]]) -> Rows:
        """Runs the statement for many lines. Its parameters are `lines` (JSON) and `key` (the request's idempotency key)."""
        key = self._preconditions.idempotency_key
        try:
            params = {"lines": msgspec.json.encode(lines).decode(), "key": key.key if key else None}
            return (await self.session.rows(statement, **params))[0]
        except psycopg.Error as error:
            raise from_database(error) from None

    async def page(self, statement: Statement, count: Statement, parent: Statement | None = None, **params: Any) -> Any:
        """One page of a list: by cursor, or by offset with a total if the client sent an offset.

        parent: a statement that must return a row; otherwise the list is NotFound.
        """
        page = self._page_params
        assert page is not None
        caller = self.session.context.caller
        scope = f"{caller.ids}/{statement.name}/{sorted(pair for pair in params.items() if pair[1] is not None)}"
        after = self._cursors.read(page.cursor, scope) if page.cursor else None
        by_offset = page.offset is not None
        *before, items = await self.session.rows(
            *((parent,) if parent else ()),
            *((count,) if by_offset else ()),
            statement,
            limit=page.limit,
            offset=page.offset or None,
            after=after,
            **params,
        )
        if parent and not before[0]:
            raise NotFound
        request_id = self.session.context.request_id
        if by_offset:
            body = page.by_offset([row[1] for row in items], before[-1][0][0], request_id)
        else:
            body = page.by_cursor(items, lambda key: self._cursors.write(key, scope), request_id)
        return PreparedResponse(body).to_litestar()


def _only(rows: Rows) -> tuple[Any, ...]:
    if not rows:
        raise NotFound
    return rows[0]
