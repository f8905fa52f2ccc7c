"""Entering a context, or knocking at the door before there is one: the statement that goes before every other, and its signature.

sql/functions/context.sql verifies it with the same key, so that SQL injected into a statement can do neither.
"""

import time
from typing import Any

import msgspec

from app.mac import mac
from app.tokens import Caller

ENTER = """select set_config('role', ctx.enter(
    %(organization_id)s, %(user_id)s, %(session_id)s, %(request_id)s, %(address)s, %(source)s, %(read_only)s,
    %(kid)s, %(expires)s, %(signature)s), true)"""

KNOCK = "select ctx.knock(%(kid)s, %(expires)s, %(signature)s)"

SIGNED_FOR = 60
"""Seconds that a signature may be used for; the clocks of API and database may differ by five."""


class Signer(msgspec.Struct, frozen=True):
    """The key that contexts are signed with, by the name the database knows it under."""

    kid: str
    key: bytes

    def entering(
        self, caller: Caller, *, request_id: str, address: str, source: str, read_only: bool
    ) -> dict[str, Any]:
        """ENTER's parameters, signed."""
        return {
            "organization_id": caller.organization_id,
            "user_id": caller.user_id,
            "session_id": caller.session_id,
            "request_id": request_id,
            "address": address,
            "source": source,
            "read_only": read_only,
            **self._signed(caller.ids, request_id, address, source),
        }

    def knocking(self) -> dict[str, Any]:
        """KNOCK's parameters, signed."""
        return self._signed("door")

    def _signed(self, *said: str) -> dict[str, Any]:
        expires = int(time.time()) + SIGNED_FOR
        message = "\n".join((*said, str(expires))).encode()
        return {"kid": self.kid, "expires": expires, "signature": mac(self.key, message)}
