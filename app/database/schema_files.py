"""The files that define the schema, and their digest."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SQL = ROOT / "sql"
MIGRATIONS = ROOT / "migrations"


def state_files() -> Iterator[Path]:
    """The files that are applied completely after the migrations, in this order: a file follows those that its execution needs."""
    yield SQL / "deploy" / "drop_functions.sql"
    for folder in ("platform", "functions", "triggers"):
        yield from sorted((SQL / folder).glob("*.sql"))
    yield SQL / "deploy" / "set_function_owners.sql"
    yield SQL / "deploy" / "queue.sql"
    yield from sorted((SQL / "policies").glob("*.sql"))


def digest() -> str:
    """The digest of all files that define the schema."""
    whole = hashlib.sha256()
    sources = [
        SQL / "deploy" / "rename.sql",
        SQL / "deploy" / "roles.sql",
        SQL / "deploy" / "schema_admin.sql",
        *state_files(),
    ]
    for path in [*sorted(MIGRATIONS.glob("*.sql")), *sources, *sorted((SQL / "data").iterdir())]:
        whole.update(path.name.encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()
