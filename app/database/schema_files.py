"""The files that the schema is made from, and their digest."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SQL = ROOT / "sql"
MIGRATIONS = ROOT / "migrations"


def state_files() -> Iterator[Path]:
    """Files that are applied as a whole after the migrations, in this order. What a file refers to while it runs comes before it."""
    yield SQL / "deploy" / "drop_functions.sql"
    for folder in ("platform", "functions", "triggers"):
        yield from sorted((SQL / folder).glob("*.sql"))
    yield SQL / "deploy" / "set_function_owners.sql"
    yield SQL / "deploy" / "queue.sql"
    yield from sorted((SQL / "policies").glob("*.sql"))


def digest() -> str:
    """One digest of every file that the schema is made from."""
    whole = hashlib.sha256()
    made_from = [
        SQL / "deploy" / "rename.sql",
        SQL / "deploy" / "roles.sql",
        SQL / "deploy" / "schema_admin.sql",
        *state_files(),
    ]
    for path in [*sorted(MIGRATIONS.glob("*.sql")), *made_from, *sorted((SQL / "data").iterdir())]:
        whole.update(path.name.encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()
