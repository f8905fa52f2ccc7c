"""Signatures of the API: for the statement that begins a context, and for function calls outside a context.

sql/platform/context.sql verifies each signature with the same key. Injected SQL cannot create one, because it does not have the key.
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
"""Lifetime of a signature that is valid on one backend, and of one that is valid on any (behind a pooler)."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _text(value: Any) -> str | None:
    """An argument in the text form that context.verify_call compares."""
    match value:
        case None | str():
            return value
        case bytes():
            return value.hex()
        case datetime():
            return str((value - _EPOCH) // timedelta(microseconds=1))
        case int() | UUID():
            return str(value)
    raise TypeError(f"{type(value).__name__} can't be signed")


def length_prefixed(words: Iterable[str | None]) -> str:
    """Encodes a list as an unambiguous text: each word after its length in bytes and a colon; `~` for None."""
    return "".join("~" if word is None else f"{len(word.encode())}:{word}" for word in words)


class ContextSigner:
    """Signs contexts and calls with one key. kid: the key's name in the database."""

    def __init__(self, kid: str, key: bytes) -> None:
        self.kid = kid
        # Copying a keyed HMAC takes 60% of the time of hmac.digest, which is 5% of a short request.
        self._hmac = hmac.new(key, digestmod="sha256")

    def sign_context(
        self, caller: Caller, *, request_id: str, address: str, source: str, read_only: bool
    ) -> dict[str, Any]:
        """The parameters of BEGIN_CONTEXT."""
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

    def statement(
        self, statement: Statement, params: Mapping[str, Any], tag: str = ""
    ) -> tuple[str, Mapping[str, Any]]:
        """The statement's text after the tag, and its parameters, with a proof if it calls a function that requires one."""
        return statement.text(params, tag), self.sign_call(statement, params)

    def sign_call(self, statement: Statement, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """The parameters with the proof for the function that the statement calls; unchanged if it requires none."""
        if not statement.signed:
            return params
        function, arguments = statement.signed
        signed_text = length_prefixed([function, *(_text(params[name]) for name in arguments)])
        return {**params, "proof": partial(self._proof, signed_text)}

    def _proof(self, signed_text: str, backend: int) -> str:
        """The signature for one backend. Connection calls this when it sends the statement."""
        expires_at = int(time.time()) + (BOUND_PROOF_LIFETIME_S if backend else UNBOUND_PROOF_LIFETIME_S)
        signature = self._hmac.copy()
        signature.update(f"{signed_text}\n{expires_at}\n{backend}".encode())
        return f"{self.kid}:{expires_at}:{backend}:{signature.hexdigest()}"
