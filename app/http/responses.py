"""What is answered once the database has said its part."""

from typing import Any

import msgspec
from litestar import Response
from litestar.types import Receive, Scope, Send

JSON = (b"content-type", b"application/json")


class Reply(msgspec.Struct):
    """An answer as it goes out, and as it is kept under an idempotency key."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = {}

    def response(self) -> "_Sent":
        """The same for Litestar."""
        return _Sent(self)


class _Sent(Response[bytes]):
    """Goes out as it is: what Litestar does to any response to find out its head is 6% of a short request (tests/load/RESULTS.md)."""

    def __init__(self, reply: Reply) -> None:
        self.content, self.status_code, self.headers = reply.body, reply.status, reply.headers

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        """Itself: nothing is added to it."""
        return self

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """As an ASGI application."""
        head = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self.headers.items()]
        if self.content:
            head += JSON, (b"content-length", b"%d" % len(self.content))
        await send({"type": "http.response.start", "status": self.status_code or 200, "headers": head})
        await send({"type": "http.response.body", "body": self.content, "more_body": False})
