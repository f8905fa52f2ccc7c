"""Settings of a process, read from environment variables."""

import base64
import hashlib
import hmac
import os
import re
import sys
from collections.abc import Mapping
from typing import Literal, NoReturn

import msgspec

from app.security.client_address import networks

EXAMPLE_SECRET = "change-me-change-me-change-me-change-me"  # noqa: S105
"""The secret of .env.example, refused in production."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one process. app/operations/README.md lists the variables, named as the fields in upper case."""

    environment: Literal["development", "test", "production"] = "development"
    database_url: str | None = None
    api_database_url: str | None = None
    worker_database_url: str | None = None
    token_keys: dict[str, bytes] = {}
    host: str = "127.0.0.1"
    port: int = 8000
    pool_size: int = 16
    processes: int = 1
    worker_processes: int = 1
    prepared_statements: Literal["on", "off"] = "on"
    rate_limit_user: int = 6_000
    rate_limit_address: int = 12_000
    import_disk: int = 2 * 2**30
    registration: Literal["open", "closed"] = "open"
    trusted_proxies: str = ""
    data_dir: str = ".data"
    force: bool = False

    def cursor_keys(self) -> list[bytes]:
        """The keys of page cursors. They are derived from the token keys, so that no second secret is needed."""
        return list(self._derived(b"page cursor").values())

    def refresh_keys(self) -> list[bytes]:
        """The keys from which the successor of a refresh token is derived."""
        return list(self._derived(b"refresh token").values())

    def context_keys(self) -> dict[str, bytes]:
        """The keys that sign contexts, by kid. The database stores them; a token key cannot be derived from them."""
        return self._derived(b"context")

    def _derived(self, purpose: bytes) -> dict[str, bytes]:
        """Keys for a purpose other than tokens, by kid."""
        return {kid: hmac.digest(key, purpose, hashlib.sha256) for kid, key in self.token_keys.items()}


def read_settings(environ: Mapping[str, str] = os.environ, *, need: tuple[str, ...] = ()) -> Settings:
    """Reads the settings from environ. need: the fields that this process requires.

    Lists every missing or invalid value in one message on standard error, and exits with status 2.
    """
    problems: list[str] = []
    values: dict[str, object] = {}
    for field in msgspec.structs.fields(Settings):
        name = field.name.upper()
        raw = environ.get(name, "")
        if not raw:
            if field.name in need:
                problems.append(f"{name} is missing")
            continue
        try:
            values[field.name] = _parse(field.name, raw, field.type)
        except ValueError as error:
            problems.append(f"{name} {error}")
    keys = values.get("token_keys", {})
    if (
        isinstance(keys, dict)
        and values.get("environment") == "production"
        and EXAMPLE_SECRET.encode() in keys.values()
    ):
        problems.append("TOKEN_KEYS contains the secret of .env.example")
    if problems:
        _refuse(problems)
    return msgspec.convert(values, Settings)


def _parse(name: str, raw: str, type_: object) -> object:
    if name == "token_keys":
        return _keys(raw)
    if name.endswith("database_url") and not re.match(r"postgres(ql)?://", raw):
        raise ValueError("must begin with postgresql://")
    try:
        value = msgspec.convert(raw, type_, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"is invalid: {error}") from None
    if name == "port" and not 0 < int(raw) < 65536:
        raise ValueError("must be between 1 and 65535")
    if name == "processes" and not 0 < int(raw) <= 64:
        raise ValueError("must be between 1 and 64")
    if name in ("pool_size", "worker_processes") and not 0 < int(raw) <= 200:
        raise ValueError("must be between 1 and 200")
    if name == "import_disk" and int(raw) <= 0:
        raise ValueError("must be positive")
    if name.startswith("rate_limit") and int(raw) < 0:
        raise ValueError("must not be negative; 0 is no limit")
    if name == "trusted_proxies":
        networks(raw)
    return value


def _keys(raw: str) -> dict[str, bytes]:
    """Parses `kid:secret[,kid:secret...]`. The first key signs; all of them verify."""
    keys: dict[str, bytes] = {}
    for part in raw.split(","):
        kid, colon, secret = part.strip().partition(":")
        if not colon or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", kid):
            raise ValueError("must look like kid:secret[,kid:secret]")
        if len(secret.encode()) < 32:
            raise ValueError(f"has a secret of fewer than 32 bytes ({kid})")
        if kid == "self":
            raise ValueError("must not name a key self: that name is the database's own key")
        keys[kid] = secret.encode()
    return keys


def _refuse(problems: list[str]) -> NoReturn:
    print("configuration: " + "; ".join(problems), file=sys.stderr)
    raise SystemExit(2)


def new_secret() -> str:
    """32 random bytes, encoded as base64url without padding."""
    return base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
