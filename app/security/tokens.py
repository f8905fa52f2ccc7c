"""Access tokens: compact JWS, HS256, 15 minutes. A token identifies the caller; the database decides what the caller may do."""

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import jwt
import msgspec

from app.errors import Unauthorized
from app.vocabulary import ROLES

ISSUER = AUDIENCE = "claims"
LEEWAY_S = 5
"""How far the clock of the issuing process may be ahead of this one. The expiry has no leeway."""
TYPE = "at+jwt"
"""The type of RFC 9068, so that no other JWT signed with these keys is accepted as an access token."""
MAX_CACHED = 10_000
"""Verified tokens that a process caches."""
LIFETIME_S, REFRESH_LIFETIME_S = 900, 30 * 86_400
"""Lifetime of an access token, and of an unused refresh token."""
_COMPACT = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){2}")


class Caller(msgspec.Struct, frozen=True):
    """The authenticated user.

    `role` only selects the statement text: one text for each role, so that PostgreSQL keeps one plan for each role. Authorization
    reads the role from the database, so an outdated one has no effect.
    """

    organization_id: UUID
    user_id: UUID
    session_id: UUID
    role: str
    ids: str = ""
    """The three ids as text, in the form that every signature covers."""

    key: tuple[str, str] = ("", "")
    """The key of the caller's requests in fair queues (app/database/fair_queue.py): texts, because Python hashes a UUID anew each time."""

    def __post_init__(self) -> None:
        organization, user = str(self.organization_id), str(self.user_id)
        msgspec.structs.force_setattr(self, "ids", f"{organization}\n{user}\n{self.session_id}")
        msgspec.structs.force_setattr(self, "key", (organization, user))


def make_token(caller: Caller, keys: dict[str, bytes], now: float | None = None) -> str:
    """Creates a token, signed with the first key."""
    kid, key = next(iter(keys.items()))
    issued_at = int(now if now is not None else time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(caller.user_id),
        "sid": str(caller.session_id),
        "org": str(caller.organization_id),
        "role": caller.role,
        "iat": issued_at,
        "nbf": issued_at,
        "exp": issued_at + LIFETIME_S,
    }
    return jwt.encode(claims, key, algorithm="HS256", headers={"kid": kid, "typ": TYPE})


def read_token(token: str, keys: dict[str, bytes]) -> tuple[Caller, int]:
    """The caller that a bearer token names, and its expiry in seconds since 1970.

    Raises Unauthorized if the token is expired, unsigned, signed with another algorithm (RFC 8725, 3.1), or invalid in any way.
    """
    try:
        if not _COMPACT.fullmatch(token):  # jwt would accept padding
            raise Unauthorized
        header = jwt.get_unverified_header(token)
        if header.get("typ") != TYPE or header.keys() != {"alg", "kid", "typ"}:
            raise Unauthorized
        claims = jwt.decode(
            token,
            keys[header["kid"]],
            algorithms=["HS256"],
            audience=AUDIENCE,
            issuer=ISSUER,
            leeway=LEEWAY_S,
            options={"require": ["exp", "iat", "nbf", "sub", "aud", "iss"], "strict_aud": True},
        )
        caller = Caller(UUID(claims["org"]), UUID(claims["sub"]), UUID(claims["sid"]), claims["role"])
        if caller.role not in ROLES or not _is_short_lived(claims) or claims["exp"] <= time.time():
            raise Unauthorized
    except (jwt.PyJWTError, LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        raise Unauthorized from None
    return caller, claims["exp"]


def _is_short_lived(claims: dict[str, Any]) -> bool:
    """Whether the times have the form that make_token writes. jwt would accept text, fractions and any lifetime."""
    times = (claims["iat"], claims["nbf"], claims["exp"])
    return all(type(value) is int for value in times) and claims["exp"] - claims["iat"] <= LIFETIME_S


class TokenCache:
    """Caches verified tokens, because a client sends the same one for minutes and verifying it is a tenth of a short request.

    The cache key is the token's whole text, which includes its signature. So only the expiry must be checked again.
    """

    def __init__(self, keys: dict[str, bytes]) -> None:
        self._keys = keys
        self._read: dict[str, tuple[Caller, int]] = {}

    def read(self, token: str) -> Caller:
        """The caller that the token names, from the cache or by read_token. Raises Unauthorized."""
        caller, expires = self._read.get(token, (None, 0))
        if caller and expires > time.time():
            return caller
        self._read.pop(token, None)
        caller, expires = read_token(token, self._keys)
        if len(self._read) >= MAX_CACHED:
            del self._read[next(iter(self._read))]
        self._read[token] = caller, expires
        return caller


def new_secret() -> str:
    """Creates a refresh or invitation token: 32 random bytes as text. The database stores only its hash."""
    return secrets.token_urlsafe(32)


def successors(secret: str, keys: Sequence[bytes]) -> list[str]:
    """The next refresh token after this one, by each of the keys (Settings.refresh_keys). Clients receive that of the first key.

    Tokens are derived, not random, so that a repeated request within the grace period gets the same token.
    """
    return [base64.urlsafe_b64encode(hmac.digest(key, secret.encode(), "sha256")).decode().rstrip("=") for key in keys]


def secret_hash(secret: str) -> bytes:
    """The hash of a secret that the database stores. One round of SHA-256 is enough, because the secret is random."""
    return hashlib.sha256(secret.encode()).digest()
