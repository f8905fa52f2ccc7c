"""Signing who calls: the statement that enters a context, and the calls that are made before there is one.

sql/platform/context.sql verifies each signature with the same key, so that SQL injected into a statement can make none.
"""

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from app.database.statements import Query
from app.security.mac import mac
from app.security.tokens import Caller

ENTER = """select set_config('role', ctx.enter(
    %(organization_id)s, %(user_id)s, %(session_id)s, %(request_id)s, %(address)s, %(source)s, %(read_only)s, %(proof)s), true)"""

BOUND_FOR, UNBOUND_FOR = 60, 5
"""Seconds that a signature may be used for: on its own backend alone, and on any."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _text(value: Any) -> str | None:
    """An argument as ctx.verify_call compares it."""
    match value:
        case None | str():
            return value
        case bytes():
            return value.hex()
        case datetime():
            return str((value - _EPOCH) // timedelta(microseconds=1))
        case int() | UUID():
            return str(value)
    raise TypeError(f"{type(value).__name__} is not signed")


def listed(words: Iterable[str | None]) -> str:
    """A list as one text that no other list reads like: each word after its length in bytes, `~` for None."""
    return "".join("~" if word is None else f"{len(word.encode())}:{word}" for word in words)


class Signer(msgspec.Struct, frozen=True):
    """The key that the API signs with, by the name the database knows it under."""

    kid: str
    key: bytes

    def entering(
        self, caller: Caller, *, request_id: str, address: str, source: str, read_only: bool
    ) -> dict[str, Any]:
        """ENTER's parameters."""
        said = f"{caller.ids}\n{request_id}\n{address}\n{source}\n{'t' if read_only else 'f'}"
        return {
            "organization_id": caller.organization_id,
            "user_id": caller.user_id,
            "session_id": caller.session_id,
            "request_id": request_id,
            "address": address,
            "source": source,
            "read_only": read_only,
            "proof": partial(self._proof, said),
        }

    def statement(self, query: Query, given: Mapping[str, Any], tag: str = "") -> tuple[str, Mapping[str, Any]]:
        """The query's text, behind the tag, and its parameters: with a proof where it calls a function that asks for one."""
        return query.text(given, tag), self.calling(query, given)

    def calling(self, query: Query, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The query's parameters with the proof for the function that it calls; as given where it needs none."""
        if not query.signed:
            return given
        function, arguments = query.signed
        said = listed([function, *(_text(given[name]) for name in arguments)])
        return {**given, "proof": partial(self._proof, said)}

    def _proof(self, said: str, backend: int) -> str:
        """The signature for that backend, as Connection asks for it."""
        expires = int(time.time()) + (BOUND_FOR if backend else UNBOUND_FOR)
        signature = mac(self.key, f"{said}\n{expires}\n{backend}".encode())
        return f"{self.kid}:{expires}:{backend}:{signature.hex()}"
