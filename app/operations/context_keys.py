"""The keys that contexts are signed with, in the database."""

import os
from typing import Any

import psycopg

from app.config import Settings
from app.database.server_version import UnsafeDatabase


def hmac_pads(key: bytes) -> tuple[bytes, bytes]:
    """The inner and the outer padded key of HMAC-SHA256 (RFC 2104), 64 bytes each; the key has up to 64 bytes."""
    block = key.ljust(64, b"\0")
    return bytes(byte ^ 0x36 for byte in block), bytes(byte ^ 0x5C for byte in block)


def unknown_keys(connection: psycopg.Connection[Any], settings: Settings) -> list[str]:
    """Names of keys in context.keys that TOKEN_KEYS lack or have with another secret; empty where no TOKEN_KEYS are given."""
    given = {kid: hmac_pads(key) for kid, key in settings.context_keys().items()}
    if not given:
        return []
    # ctx is the schema's name before sql/deploy/rename.sql.
    found = connection.execute("select coalesce(to_regclass('context.keys'), to_regclass('ctx.keys'))::text").fetchone()
    if found is None or found[0] is None:
        return []
    select = psycopg.sql.SQL("select kid, inner_pad, outer_pad from {} where kid <> 'self' order by kid")
    rows = connection.execute(select.format(psycopg.sql.SQL(found[0])))
    return [kid for kid, *halves in rows if given.get(kid) != tuple(halves)]


KEYS_IN_USE = """
select distinct substr(a.application_name, 12) from pg_stat_activity a
where a.datname = current_database() and a.usename = 'claims_api' and a.application_name ~ '^claims-api [A-Za-z0-9_-]+$'"""
"""The keys that running processes sign with, by their names' first characters."""
MAX_KID_LENGTH_IN_NAME = 63 - len("claims-api ")
"""Characters: PostgreSQL cuts application_name at 63 bytes."""


def refuse_key_lockout(connection: psycopg.Connection[Any], settings: Settings) -> None:
    """Raises Unsafe where TOKEN_KEYS lack a key that an API process signs with, or have another secret under its name."""
    in_use = {name for (name,) in connection.execute(KEYS_IN_USE)}
    lost = [kid for kid in unknown_keys(connection, settings) if kid[:MAX_KID_LENGTH_IN_NAME] in in_use]
    if lost:
        raise UnsafeDatabase(
            f"keys: running API processes sign with {', '.join(lost)}, which TOKEN_KEYS lack or have with another secret: every request "
            "would be refused. List it, restart them with another key first, then take it out; or FORCE=1."
        )


def store_keys(connection: psycopg.Connection[Any], settings: Settings) -> None:
    """What contexts are signed with: the database's own key, made once, and those of the API, where this step is told them."""
    given = settings.context_keys()
    insert = "insert into context.keys values (%s, %s, %s) on conflict (kid) do "
    connection.execute(insert + "nothing", ("self", *hmac_pads(os.urandom(32))))
    if given:
        connection.execute("delete from context.keys where kid <> 'self' and kid <> all (%s)", [list(given)])
    for kid, key in given.items():
        connection.execute(
            insert + "update set inner_pad = excluded.inner_pad, outer_pad = excluded.outer_pad", (kid, *hmac_pads(key))
        )
