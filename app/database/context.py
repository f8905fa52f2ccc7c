"""Signing who calls: the statement that enters a context, and the calls that are made before there is one.

sql/platform/context.sql verifies each signature with the same key, so that SQL injected into a statement can make none.
"""

import hmac
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from app.database.statements import Statement
from app.security.tokens import Caller

BEGIN_CONTEXT = """select set_config('role', context.begin_request(
    %(organization_id)s, %(user_id)s, %(session_id)s, %(request_id)s, %(address)s, %(source)s, %(read_only)s, %(proof)s), true)"""

BOUND_PROOF_LIFETIME_S, UNBOUND_PROOF_LIFETIME_S = 60, 5
"""Seconds that a signature may be used for: on its own backend alone, and on any."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _text(value: Any) -> str | None:
    """An argument as context.verify_call compares it."""
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


def length_prefixed(words: Iterable[str | None]) -> str:
    """A list as one text that no other list reads like: each word after its length in bytes, `~` for None."""
    return "".join("~" if word is None else f"{len(word.encode())}:{word}" for word in words)


class ContextSigner:
    """Signs contexts and calls with one key. kid: the key's name in the database."""

    def __init__(self, kid: str, key: bytes) -> None:
        self.kid = kid
        # A copy of an HMAC with its key set up takes 60% of the time of hmac.digest, which is 5% of a short request.
        self._hmac = hmac.new(key, digestmod="sha256")

    def sign_context(
        self, caller: Caller, *, request_id: str, address: str, source: str, read_only: bool
    ) -> dict[str, Any]:
        """ENTER's parameters."""
        signed_text = f"{caller.ids}\n{request_id}\n{address}\n{source}\n{'t' if read_only else 'f'}"
        return {
            "organization_id": caller.organization_id,
            "user_id": caller.user_id,
            "session_id": caller.session_id,
            "request_id": request_id,
            "address": address,
            "source": source,
            "read_only": read_only,
            "proof": partial(self._proof, signed_text),
        }

    def statement(self, query: Statement, given: Mapping[str, Any], tag: str = "") -> tuple[str, Mapping[str, Any]]:
        """The query's text, behind the tag, and its parameters: with a proof where it calls a function that asks for one."""
        return query.text(given, tag), self.sign_call(query, given)

    def sign_call(self, query: Statement, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The query's parameters with the proof for the function that it calls; as given where it needs none."""
        if not query.signed:
            return given
        function, arguments = query.signed
        signed_text = length_prefixed([function, *(_text(given[name]) for name in arguments)])
        return {**given, "proof": partial(self._proof, signed_text)}

    def _proof(self, signed_text: str, backend: int) -> str:
        """The signature for that backend, as Connection asks for it."""
        expires = int(time.time()) + (BOUND_PROOF_LIFETIME_S if backend else UNBOUND_PROOF_LIFETIME_S)
        signature = self._hmac.copy()
        signature.update(f"{signed_text}\n{expires}\n{backend}".encode())
        return f"{self.kid}:{expires}:{backend}:{signature.hexdigest()}"
