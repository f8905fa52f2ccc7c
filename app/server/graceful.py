"""uvicorn.Server with a complete graceful shutdown.

It accepts the connections in the backlog and answers requests already received, then closes the socket. Plain uvicorn resets both.
"""

import asyncio
import os
import select
import socket
import time
from collections.abc import Iterable

import uvicorn

BACKLOG_TIMEOUT_S = 1.0
"""The time limit for the backlog and for unread requests. The rest is reset, as by plain uvicorn."""


class GracefulServer(uvicorn.Server):
    """Stops listening once the backlog is empty, and closes idle connections once they have no unread data."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        deadline = time.monotonic() + BACKLOG_TIMEOUT_S
        listeners = [listener.fileno() for server in self.servers for listener in server.sockets]
        if not sockets:  # sockets that this process opened; inherited ones are shared, and the supervisor stops them
            for listener in listeners:
                stop_accepting(listener)
        while _has_readable(listeners) and time.monotonic() < deadline:  # noqa: ASYNC110 (it waits for the loop itself)
            await asyncio.sleep(0)  # an iteration of the loop accepts a connection
        for server in self.servers:
            server.close()
        for inherited in sockets or []:
            inherited.close()
        await asyncio.sleep(0.01)  # the loop reports the last accepted connection one iteration later
        while self.has_unread_requests() and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await super().shutdown(sockets)

    def has_unread_requests(self) -> bool:
        """Whether a new connection has sent no request yet, or an idle connection has an unread request."""
        idle = []
        for connection in self.server_state.connections:
            cycle, transport = getattr(connection, "cycle", None), getattr(connection, "transport", None)
            if cycle is None:
                return True
            if cycle.response_complete and transport:
                idle.append(transport.get_extra_info("socket").fileno())
        return _has_readable(idle)


def stop_accepting(listener: int) -> None:
    """Sets the backlog to 0: new connection attempts are dropped, and clients retry them. The backlog is still accepted."""
    with socket.socket(fileno=os.dup(listener)) as same:
        same.listen(0)


def _has_readable(files: Iterable[int]) -> bool:
    poll = select.poll()
    for file in files:
        poll.register(file, select.POLLIN)
    return bool(poll.poll(0))
