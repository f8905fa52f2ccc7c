"""The keys in the database that verify the signatures of contexts."""

import os
from typing import Any

import psycopg

from app.config import Settings
from app.database.server_version import UnsafeDatabase


def hmac_pads(key: bytes) -> tuple[bytes, bytes]:
    """The inner and the outer padded key of HMAC-SHA256 (RFC 2104), 64 bytes each. The key may have up to 64 bytes."""
    block = key.ljust(64, b"\0")
    return bytes(byte ^ 0x36 for byte in block), bytes(byte ^ 0x5C for byte in block)


def unknown_keys(connection: psycopg.Connection[Any], settings: Settings) -> list[str]:
    """Kids of keys in context.keys that TOKEN_KEYS lack or have with another secret. Empty if TOKEN_KEYS are not set."""
    pads = {kid: hmac_pads(key) for kid, key in settings.context_keys().items()}
    if not pads:
        return []
    # ctx is the schema's name before sql/deploy/rename.sql.
    table = connection.execute("select coalesce(to_regclass('context.keys'), to_regclass('ctx.keys'))::text").fetchone()
    if table is None or table[0] is None:
        return []
    select = psycopg.sql.SQL("select kid, inner_pad, outer_pad from {} where kid <> 'self' order by kid")
    rows = connection.execute(select.format(psycopg.sql.SQL(table[0])))
    return [kid for kid, *stored in rows if pads.get(kid) != tuple(stored)]


KEYS_IN_USE = """
select distinct substr(a.application_name, 12) from pg_stat_activity a
where a.datname = current_database() and a.usename = 'claims_api' and a.application_name ~ '^claims-api [A-Za-z0-9_-]+$'"""
"""The first characters of the kids with which running API processes sign."""
MAX_KID_LENGTH_IN_NAME = 63 - len("claims-api ")
"""The characters of a kid that are visible in application_name, which PostgreSQL cuts at 63 bytes."""


def refuse_key_lockout(connection: psycopg.Connection[Any], settings: Settings) -> None:
    """Raises UnsafeDatabase if TOKEN_KEYS lack a key with which an API process signs, or have another secret under its kid."""
    in_use = {name for (name,) in connection.execute(KEYS_IN_USE)}
    lost = [kid for kid in unknown_keys(connection, settings) if kid[:MAX_KID_LENGTH_IN_NAME] in in_use]
    if lost:
        raise UnsafeDatabase(
            f"keys: running API processes sign with {', '.join(lost)}, which TOKEN_KEYS lack or have with another secret: all their "
            "requests would fail. Keep the key until they are restarted with another key first, then remove it; or set FORCE=1."
        )


def store_keys(connection: psycopg.Connection[Any], settings: Settings) -> None:
    """Stores the database's own key, which is created once, and the API's keys if TOKEN_KEYS are set."""
    api_keys = settings.context_keys()
    insert = "insert into context.keys values (%s, %s, %s) on conflict (kid) do "
    connection.execute(insert + "nothing", ("self", *hmac_pads(os.urandom(32))))
    if api_keys:
        connection.execute("delete from context.keys where kid <> 'self' and kid <> all (%s)", [list(api_keys)])
    for kid, key in api_keys.items():
        connection.execute(
            insert + "update set inner_pad = excluded.inner_pad, outer_pad = excluded.outer_pad", (kid, *hmac_pads(key))
        )
