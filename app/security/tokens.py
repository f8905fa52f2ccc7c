"""Access tokens: compact JWS, HS256, 15 minutes. They say who is calling; what a caller may do, the database says."""

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
LEEWAY = 5
"""Seconds that the clock of the process that made a token may be ahead of ours; its end is exact."""
TYPE = "at+jwt"
"""RFC 9068: no other JWT that these keys may ever sign can be taken for an access token."""
MAX_CACHED = 10_000
"""Tokens that a process remembers to have read."""
LIFETIME, REFRESH_LIFETIME = 900, 30 * 86_400
"""Seconds: of an access token, and of a refresh token that is not used."""
_COMPACT = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){2}")


class Caller(msgspec.Struct, frozen=True):
    """Who calls. The role only picks the text of a statement (one per role plans best); a stale one changes nothing."""

    organization_id: UUID
    user_id: UUID
    session_id: UUID
    role: str
    ids: str = ""
    """The three as text, as every signature names them."""

    @property
    def key(self) -> tuple[UUID, UUID]:
        """By which its requests take turns (app/database/fair_queue.py)."""
        return self.organization_id, self.user_id

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "ids", f"{self.organization_id}\n{self.user_id}\n{self.session_id}")


def make_token(caller: Caller, keys: dict[str, bytes], now: float | None = None) -> str:
    """A token signed with the first key."""
    kid, key = next(iter(keys.items()))
    issued = int(now if now is not None else time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(caller.user_id),
        "sid": str(caller.session_id),
        "org": str(caller.organization_id),
        "role": caller.role,
        "iat": issued,
        "nbf": issued,
        "exp": issued + LIFETIME,
    }
    return jwt.encode(claims, key, algorithm="HS256", headers={"kid": kid, "typ": TYPE})


def read_token(token: str, keys: dict[str, bytes]) -> tuple[Caller, int]:
    """The caller a bearer token names, and when it expires (seconds since 1970).

    Raises Unauthorized when expired, unsigned or signed any other way (RFC 8725, 3.1), whatever else is wrong with it.
    """
    try:
        if not _COMPACT.fullmatch(token):  # jwt would overlook padding
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
            leeway=LEEWAY,
            options={"require": ["exp", "iat", "nbf", "sub", "aud", "iss"], "strict_aud": True},
        )
        caller = Caller(UUID(claims["org"]), UUID(claims["sub"]), UUID(claims["sid"]), claims["role"])
        if caller.role not in ROLES or not _is_short_lived(claims) or claims["exp"] <= time.time():
            raise Unauthorized
    except (jwt.PyJWTError, LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        raise Unauthorized from None
    return caller, claims["exp"]


def _is_short_lived(claims: dict[str, Any]) -> bool:
    """Whether the times are what make_token writes; jwt would take text and fractions, and any lifetime."""
    times = (claims["iat"], claims["nbf"], claims["exp"])
    return all(type(one) is int for one in times) and claims["exp"] - claims["iat"] <= LIFETIME


class TokenCache:
    """The tokens that were read lately: a client sends the same one for minutes, and reading it is a tenth of a short request.

    A token is known by its whole text, which is its signature's, too; only its time can run out.
    """

    def __init__(self, keys: dict[str, bytes]) -> None:
        self._keys = keys
        self._read: dict[str, tuple[Caller, int]] = {}

    def read(self, token: str) -> Caller:
        """read_token, or what it said before."""
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
    """A refresh or invitation token: 32 random bytes as text. The database keeps only its hash."""
    return secrets.token_urlsafe(32)


def successors(secret: str, keys: Sequence[bytes]) -> list[str]:
    """The refresh token that comes after this one, by each of the keys (Settings.refresh_keys); the first key's is the one given out.

    Derived and not random, so that a request that is sent again within the grace can be answered with the same.
    """
    return [base64.urlsafe_b64encode(hmac.digest(key, secret.encode(), "sha256")).decode().rstrip("=") for key in keys]


def secret_hash(secret: str) -> bytes:
    """What the database keeps of a secret; it is random, so one round of sha256 is enough."""
    return hashlib.sha256(secret.encode()).digest()
