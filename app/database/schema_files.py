"""The files that define the schema, in the order in which they are applied, their digests and the version of the schema."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SQL = ROOT / "sql"
MIGRATIONS = ROOT / "migrations"

VERSION = 1
"""The version of the schema. Each release that changes a file of the schema increments it."""
COMPATIBLE_VERSION = 1
"""The oldest version of the code that works with this schema. CONTRIBUTING.md, "Change the schema without downtime", has the rules."""

RENAME, ROLES, SCHEMA_ADMIN = (SQL / "deploy" / f"{name}.sql" for name in ("rename", "roles", "schema_admin"))


def function_files() -> list[Path]:
    """Files of functions and their grants. They lock no table, so all that differ are applied in one transaction."""
    return [path for folder in ("platform", "functions") for path in sorted((SQL / folder).glob("*.sql"))]


def table_files() -> list[Path]:
    """Files that lock the tables that they concern. Each is applied in a transaction of its own, after the functions."""
    triggers, policies = (sorted((SQL / folder).glob("*.sql")) for folder in ("triggers", "policies"))
    return [*triggers, SQL / "deploy" / "queue.sql", *policies]


def data_files() -> list[Path]:
    """Files of reference data."""
    return sorted((SQL / "data").iterdir())


def all_files() -> Iterator[Path]:
    """All files of the schema, in order."""
    yield from sorted(MIGRATIONS.glob("*.sql"))
    yield from (RENAME, ROLES, SCHEMA_ADMIN, *function_files(), *table_files(), *data_files())


def file_digest(path: Path) -> str:
    """The digest of one file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest() -> str:
    """The digest of all files."""
    whole = hashlib.sha256()
    for path in all_files():
        whole.update(path.name.encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()
