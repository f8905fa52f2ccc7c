"""Request bodies on disk. The space of unfinished requests is limited, and is freed when a request ends in any way."""

import asyncio
import errno
import logging
import tempfile
from contextlib import suppress
from uuid import UUID

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ImportDiskFull, ImportSpaceUsed

log = logging.getLogger("claims.api")

SHARES = 4
"""One user may use at most this fraction of the limit: one of so many shares."""
IN_MEMORY_BYTES = 2**20
"""The size up to which a body stays in memory. It counts against the limit anyway."""
RETRY_LATER = {"Retry-After": "30"}
"""Most requests end, and free their space, within these 30 s."""
SEND_TIMEOUT_S = 300.0
"""How long a client may take to read one part of the response."""


class Disk:
    """The bytes that the unfinished bodies of one process use, and their limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_user: dict[UUID, int] = {}

    @property
    def used(self) -> int:
        """The bytes of all users together."""
        return sum(self._by_user.values())

    def reserve(self, user_id: UUID, size: int) -> None:
        """Reserves bytes for the user. Raises ImportSpaceUsed beyond the user's share, ImportDiskFull beyond the whole limit."""
        used_by_user = self._by_user.get(user_id, 0) + size
        if used_by_user > self._limit // SHARES:
            raise ImportSpaceUsed(headers=RETRY_LATER)
        if self.used + size > self._limit:
            raise ImportDiskFull(headers=RETRY_LATER)
        self._by_user[user_id] = used_by_user

    def release(self, user_id: UUID, size: int) -> None:
        """Releases reserved bytes of the user."""
        left = self._by_user.pop(user_id, 0) - size
        if left:
            self._by_user[user_id] = left


class Spool:
    """One body: in memory while it is short, then in an unlinked file. Its bytes count for the user until it is closed."""

    def __init__(self, disk: Disk, user_id: UUID) -> None:
        self._disk, self._user_id = disk, user_id
        self._reserved = 0
        self.file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115  (close() closes it)

    def write(self, part: bytes) -> None:
        """Appends to the body. Raises the errors of Disk.reserve, and ImportDiskFull if this machine's disk is full."""
        self._disk.reserve(self._user_id, len(part))
        self._reserved += len(part)
        try:
            self.file.write(part)
        except OSError as error:
            log.error("a body can't be written to disk (%s)", errno.errorcode.get(error.errno or 0, "OSError"))
            raise ImportDiskFull(headers=RETRY_LATER) from None

    def close(self) -> None:
        """Deletes the file and releases its bytes. Has no effect a second time."""
        with suppress(OSError):  # of buffered data that cannot be written
            self.file.close()
        size, self._reserved = self._reserved, 0
        self._disk.release(self._user_id, size)


class Spooling(ASGIMiddleware):
    """Creates the request's spool, and closes it when the request ends in any way. Ends it if the client stops reading."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        loop = asyncio.get_running_loop()
        spool = scope["state"]["spool"] = Spool(scope["litestar_app"].state.disk, scope["auth"].user_id)
        try:
            async with asyncio.timeout(None) as timeout:

                async def send_in_time(message: Message) -> None:
                    timeout.reschedule(loop.time() + SEND_TIMEOUT_S)
                    await send(message)
                    timeout.reschedule(None)

                await next_app(scope, receive, send_in_time)
        except TimeoutError:
            if not timeout.expired():
                raise
            log.warning("request %s: its client has stopped reading", scope["state"]["answer_headers"]["X-Request-Id"])
        finally:
            spool.close()
