"""Bodies on disk: how much of it unfinished requests may hold, and that it is free when they end, however they do."""

import asyncio
import errno
import logging
import tempfile
from contextlib import suppress
from uuid import UUID

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import RateLimited, Unavailable

log = logging.getLogger("claims.api")

SHARES = 4
"""One user may hold a share of the disk, and no more."""
IN_MEMORY = 2**20
"""Bytes of a body before it goes to disk; they count all the same."""
LATER = {"Retry-After": "30"}
"""Seconds: what is held is free when a request ends, and most take less."""
STALLED_AFTER = 300.0
"""Seconds that a client may take to read one part of the answer."""


class Disk:
    """The bytes that unfinished bodies of one process hold, and may hold."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_user: dict[UUID, int] = {}

    @property
    def used(self) -> int:
        """By all users together."""
        return sum(self._by_user.values())

    def reserve(self, user_id: UUID, size: int) -> None:
        """RateLimited past the user's share, Unavailable past the whole."""
        own = self._by_user.get(user_id, 0) + size
        if own > self._limit // SHARES:
            raise RateLimited(headers=LATER)
        if self.used + size > self._limit:
            raise Unavailable(headers=LATER)
        self._by_user[user_id] = own

    def release(self, user_id: UUID, size: int) -> None:
        """Undoes take."""
        left = self._by_user.pop(user_id, 0) - size
        if left:
            self._by_user[user_id] = left


class Spool:
    """One body: in memory while it is short, then in a file without a name. Its bytes are the user's until it is closed."""

    def __init__(self, disk: Disk, user_id: UUID) -> None:
        self._disk, self._user_id = disk, user_id
        self._taken = 0
        self.file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115  (close() closes it)

    def write(self, part: bytes) -> None:
        """Raises what Disk.take does, and Unavailable where this machine's disk is full."""
        self._disk.reserve(self._user_id, len(part))
        self._taken += len(part)
        try:
            self.file.write(part)
        except OSError as error:
            log.error("a body can't be kept on disk (%s)", errno.errorcode.get(error.errno or 0, "OSError"))
            raise Unavailable(headers=LATER) from None

    def close(self) -> None:
        """The file is gone and its bytes are given back; a second time changes nothing."""
        with suppress(OSError):  # what was still to be written
            self.file.close()
        taken, self._taken = self._taken, 0
        self._disk.release(self._user_id, taken)


class Spooling(ASGIMiddleware):
    """Gives a request its spool and closes it at the end, whatever ends it; so does a client that stops reading the answer."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        loop = asyncio.get_running_loop()
        spool = scope["state"]["spool"] = Spool(scope["litestar_app"].state.disk, scope["auth"].user_id)
        try:
            async with asyncio.timeout(None) as limit:

                async def watched(message: Message) -> None:
                    limit.reschedule(loop.time() + STALLED_AFTER)
                    await send(message)
                    limit.reschedule(None)

                await next_app(scope, receive, watched)
        except TimeoutError:
            if not limit.expired():
                raise
            log.warning("request %s: its client reads no more", scope["state"]["answer_headers"]["X-Request-Id"])
        finally:
            spool.close()
