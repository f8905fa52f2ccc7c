"""uvicorn, which takes in who has come before it shuts the door: alone it resets whoever has just connected or just asked."""

import asyncio
import os
import select
import socket
import time
from collections.abc import Iterable

import uvicorn

BACKLOG_TIMEOUT_S = 1.0
"""Seconds that this may take at most; then the rest is reset, as uvicorn alone would."""


class GracefulServer(uvicorn.Server):
    """Stops listening when nobody waits to be let in, and closes connections that lie idle when nothing unread lies in them."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        limit = time.monotonic() + BACKLOG_TIMEOUT_S
        listening = [one.fileno() for server in self.servers for one in server.sockets]
        if not sockets:  # its own; those it was given have other listeners, and who gave them does this when all end
            for one in listening:
                stop_accepting(one)
        while _on_readable(listening) and time.monotonic() < limit:  # noqa: ASYNC110 (what it waits for is the loop)
            await asyncio.sleep(0)  # a turn of the loop lets in one who waits
        for server in self.servers:
            server.close()
        for given in sockets or []:
            given.close()
        await asyncio.sleep(0.01)  # of who was let in last the loop tells a turn later
        while self.has_unread_requests() and time.monotonic() < limit:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await super().shutdown(sockets)

    def has_unread_requests(self) -> bool:
        """Whether somebody has connected and not asked yet, or has asked on a connection that lay idle and is not read yet."""
        idle = []
        for connection in self.server_state.connections:
            cycle, transport = getattr(connection, "cycle", None), getattr(connection, "transport", None)
            if cycle is None:
                return True
            if cycle.response_complete and transport:
                idle.append(transport.get_extra_info("socket").fileno())
        return _on_readable(idle)


def stop_accepting(listening: int) -> None:
    """Whoever connects from now on is told nothing, and tries again, while those before are let in."""
    with socket.socket(fileno=os.dup(listening)) as same:
        same.listen(0)


def _on_readable(files: Iterable[int]) -> bool:
    poll = select.poll()
    for one in files:
        poll.register(one, select.POLLIN)
    return bool(poll.poll(0))
