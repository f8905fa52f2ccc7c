"""Access tokens: compact JWS, HS256, 15 minutes. They say who is calling; what a caller may do, the database says."""

import time
from uuid import UUID

import jwt
import msgspec

from app.errors import Unauthorized

ISSUER = AUDIENCE = "claims"
LIFETIME = 900
"""Seconds."""
ROLES = frozenset({"admin", "claims_processor", "provider", "patient"})


class Caller(msgspec.Struct, frozen=True):
    """Who calls. The role only picks the text of a statement (one per role plans best); a stale one changes nothing."""

    organization_id: UUID
    user_id: UUID
    role: str


def make_token(caller: Caller, keys: dict[str, bytes], now: float | None = None) -> str:
    """A token signed with the first key."""
    kid, key = next(iter(keys.items()))
    issued = int(now if now is not None else time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(caller.user_id),
        "org": str(caller.organization_id),
        "role": caller.role,
        "iat": issued,
        "nbf": issued,
        "exp": issued + LIFETIME,
    }
    return jwt.encode(claims, key, algorithm="HS256", headers={"kid": kid})


def read_token(token: str, keys: dict[str, bytes]) -> Caller:
    """The caller a bearer token names.

    Raises Unauthorized when expired, unsigned or signed any other way (RFC 8725, 3.1), whatever else is wrong with it.
    """
    try:
        key = keys[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(
            token,
            key,
            algorithms=["HS256"],
            audience=AUDIENCE,
            issuer=ISSUER,
            options={"require": ["exp", "iat", "nbf", "sub", "aud", "iss"], "strict_aud": True},
        )
        caller = Caller(UUID(claims["org"]), UUID(claims["sub"]), claims["role"])
    except (jwt.PyJWTError, LookupError, TypeError, ValueError, AttributeError):
        raise Unauthorized from None
    if caller.role not in ROLES:
        raise Unauthorized
    return caller
